//! Classifies every committed change below the roots: exact, overwritten and listed, counted, inside a gap, or unreadable.
//! A change without a class was lost, and is a complaint.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::accounts::LISTED_MAX;
use super::brackets::{Span, spans};
use super::fields::{has_exact_zxid, hex, is_change, is_exact, name, op, path, superseded, zxid};
use super::{Case, Events};
use crate::truth::Incarnation;

/// The number of changes in each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Reported with its own zxid, and with its value if it has one.
    pub exact: u64,
    /// A delete that was seen, with a bound of its zxid, because servers before 3.9 do not send it.
    pub bounded: u64,
    /// Listed as superseded: overwritten before it could be read, or by the same transaction.
    pub superseded: u64,
    /// Only counted, or inside an incarnation of which only the delete is reported.
    pub missed: u64,
    /// Inside a declared gap or a first listing, and found by comparing.
    pub found: u64,
    /// Inside a declared gap or before a first listing, and gone before the comparison.
    pub gap: u64,
    /// Of a znode that could not be read at some time.
    pub unreadable: u64,
    /// Gaps that ended.
    pub gaps: u64,
    /// Repeated deliveries.
    pub duplicates: u64,
}

impl Census {
    /// The number of all changes.
    pub fn total(&self) -> u64 {
        self.exact + self.bounded + self.superseded + self.missed + self.found + self.gap + self.unreadable
    }

    /// Adds the numbers of another census.
    pub fn add(&mut self, other: &Census) {
        self.exact += other.exact;
        self.bounded += other.bounded;
        self.superseded += other.superseded;
        self.missed += other.missed;
        self.found += other.found;
        self.gap += other.gap;
        self.unreadable += other.unreadable;
        self.gaps += other.gaps;
        self.duplicates += other.duplicates;
    }

    fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Exact => self.exact += 1,
            Fate::Bounded => self.bounded += 1,
            Fate::Superseded => self.superseded += 1,
            Fate::Missed => self.missed += 1,
            Fate::Found => self.found += 1,
            Fate::Gap => self.gap += 1,
            Fate::Unreadable => self.unreadable += 1,
        }
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let share = |count: u64| 100.0 * count as f64 / total.max(1) as f64;
        write!(
            f,
            "{total} changes: exact {:.2} %, bounded {:.2} %, superseded {:.2} %, missed {:.2} %, in {} gaps and \
             listings {:.2} % found and {:.2} % gone before, unreadable {:.2} %; {} duplicates",
            share(self.exact),
            share(self.bounded),
            share(self.superseded),
            share(self.missed),
            self.gaps,
            share(self.found),
            share(self.gap),
            share(self.unreadable),
            self.duplicates,
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Exact,
    Bounded,
    Superseded,
    Missed,
    Found,
    Gap,
    Unreadable,
}

/// The visibility of a path.
struct Light<'a> {
    /// The spans that gaps and runs of its root cover.
    spans: &'a [Span],
    is_hidden: bool,
    events: Events,
}

/// The records of one incarnation.
#[derive(Debug, Default)]
struct IncarnationRecords {
    /// Values by their zxid, with their fidelity.
    values: BTreeMap<u64, Fate>,
    /// Ranges of versions that are only counted.
    counted: Vec<(i64, i64)>,
    listed: BTreeSet<u64>,
    deleted: Option<Fate>,
    /// The last reported version.
    last: Option<i64>,
}

/// The records of one path.
#[derive(Debug, Default)]
struct PathRecords {
    incarnations: BTreeMap<u64, IncarnationRecords>,
    living: Option<u64>,
    /// Bounds of the deletes of unread incarnations.
    blind: Vec<u64>,
}

/// The class of every change, and complaints about changes without a class and claims without a change.
pub fn check(records: &[&Value], case: &Case<'_>) -> (Census, Vec<String>) {
    let mut complaints = Vec::new();
    let mut reported: BTreeMap<&str, PathRecords> = BTreeMap::new();
    for record in records.iter().filter(|record| is_change(record)) {
        let Some(path) = path(record) else { continue };
        let complaint = reported.entry(path).or_default().take(record, path, case);
        complaints.extend(complaint.map(|complaint| format!("{}: {complaint}", name(record))));
    }
    let gaps = records.iter().filter(|record| op(record) == "gap_end").count() as u64;
    let mut census = Census {
        gaps,
        duplicates: (case.deliveries.len() - records.len()) as u64,
        ..Census::default()
    };
    let spans = spans(records);
    let nothing = PathRecords::default();
    for root in case.roots {
        let spans = spans.get(root).map(Vec::as_slice).unwrap_or_default();
        for (path, incarnations) in case.truth.below(std::slice::from_ref(root)) {
            let reported = reported.get(path.as_str()).unwrap_or(&nothing);
            let is_hidden = case.is_hidden(path);
            for incarnation in incarnations {
                complaints.extend(reported.account(
                    path,
                    incarnation,
                    &Light {
                        spans,
                        is_hidden,
                        events: case.events,
                    },
                    &mut census,
                ));
            }
        }
    }
    (census, complaints)
}

impl PathRecords {
    fn take(&mut self, record: &Value, path: &str, case: &Case<'_>) -> Option<String> {
        let stat = &record["after"]["stat"];
        match op(record) {
            "delete" => self.end(record, path, case),
            op => {
                let czxid = hex(&stat["czxid"]).or(zxid(record))?;
                let records = self.incarnations.entry(czxid).or_default();
                if op != "update" {
                    self.living = Some(czxid);
                    records.last = None;
                }
                let Some(number) = stat["version"].as_i64() else {
                    // Its value was overwritten before it could be read.
                    records.values.insert(czxid, Fate::Superseded);
                    records.last = Some(0);
                    return None;
                };
                let fate = if is_exact(record) {
                    Fate::Exact
                } else {
                    Fate::Found
                };
                records.values.entry(hex(&stat["mzxid"])?).or_insert(fate);
                let from = records.last.map_or(0, |last| last + 1);
                records.last = Some(number);
                records.list(
                    record,
                    (from, number - 1),
                    case.truth.incarnation(path, czxid),
                    case.events,
                )
            }
        }
    }

    fn end(&mut self, record: &Value, path: &str, case: &Case<'_>) -> Option<String> {
        let Some(czxid) = self.living.take() else {
            // With servers without zxids one delete may represent several unread incarnations.
            if is_exact(record) && !has_exact_zxid(record) {
                self.blind.push(zxid(record).unwrap_or(u64::MAX));
            }
            return None;
        };
        let records = self.incarnations.entry(czxid).or_default();
        records.deleted = Some(match (is_exact(record), has_exact_zxid(record)) {
            (true, true) => Fate::Exact,
            (true, false) => Fate::Bounded,
            (false, _) => Fate::Found,
        });
        let incarnation = case.truth.incarnation(path, czxid);
        let from = records.last.map_or(0, |last| last + 1);
        records.list(
            record,
            (from, incarnation?.last_number()),
            incarnation,
            case.events,
        )
    }

    /// The class of each change of an incarnation.
    fn account(
        &self,
        path: &str,
        incarnation: &Incarnation,
        light: &Light<'_>,
        census: &mut Census,
    ) -> Vec<String> {
        let Light {
            spans,
            is_hidden,
            events,
        } = *light;
        let is_covered = |zxid: u64| spans.iter().any(|(from, to)| *from < zxid && zxid <= *to);
        let records = self.incarnations.get(&incarnation.czxid);
        // Changes without a record of their own.
        let otherwise = |zxid: u64| match incarnation.died {
            // An incarnation that began inside a gap and ended unread needs no delete.
            Some(_) if records.is_none() && is_covered(incarnation.czxid) => Some(Fate::Gap),
            _ if is_covered(zxid) => Some(Fate::Gap),
            _ if is_hidden => Some(Fate::Unreadable),
            Some(died) if records.is_none() => {
                let is_ended = self.blind.iter().any(|bound| died <= *bound);
                is_ended.then_some(Fate::Missed)
            }
            _ => None,
        };
        // A change found by comparing must be inside a declared gap or run. Servers without zxids do not show how long after
        // the walk a delete happened that its comparison found.
        let admitted = |fate: Fate, zxid: u64| match fate {
            Fate::Found if Some(zxid) == incarnation.died && events == Events::WithoutZxid => Some(fate),
            Fate::Found if !is_covered(zxid) => is_hidden.then_some(Fate::Unreadable),
            fate => Some(fate),
        };
        let mut complaints = Vec::new();
        for (at, version) in incarnation.versions.iter().enumerate() {
            let (zxid, number) = (version.mzxid, version.number);
            let next = incarnation.versions.get(at + 1).map(|next| next.mzxid);
            // A value that the same transaction deletes is visible to no client.
            if number > 0 && Some(zxid) == incarnation.died {
                continue;
            }
            let fate = records.and_then(|records| records.fate(zxid, number));
            let fate = fate.map(|fate| {
                if next == Some(zxid) {
                    Fate::Superseded
                } else {
                    fate
                }
            });
            match fate
                .and_then(|fate| admitted(fate, zxid))
                .or_else(|| otherwise(zxid))
            {
                Some(fate) => census.count(fate),
                None if number == 0 => {
                    complaints.push(format!("the create of {path} at {zxid:#018x} was not reported"));
                }
                None => complaints.push(format!(
                    "version {number} of {path} at {zxid:#018x} was not reported, outside {spans:#x?}"
                )),
            }
        }
        if let Some(died) = incarnation.died {
            let fate = match records {
                Some(records) => records.deleted.and_then(|fate| admitted(fate, died)),
                None => otherwise(died),
            };
            match fate {
                Some(fate) => census.count(fate),
                None => complaints.push(format!("the delete of {path} at {died:#018x} was not reported")),
            }
        }
        complaints
    }
}

impl IncarnationRecords {
    /// Records the overwritten versions that a record lists and counts.
    fn list(
        &mut self,
        record: &Value,
        (from, to): (i64, i64),
        incarnation: Option<&Incarnation>,
        events: Events,
    ) -> Option<String> {
        let listed = superseded(record);
        let is_write = |zxid: &u64| {
            incarnation.is_some_and(|incarnation| {
                incarnation
                    .versions
                    .binary_search_by_key(zxid, |version| version.mzxid)
                    .is_ok()
            })
        };
        let wrong = listed.iter().find(|zxid| !is_write(zxid)).copied();
        // Servers without zxids give none, and a list has a limit; every other missing zxid must be inside a gap.
        let is_counted = events == Events::WithoutZxid || listed.len() == LISTED_MAX;
        self.listed.extend(listed);
        if is_counted && is_exact(record) && from <= to {
            self.counted.push((from, to));
        }
        wrong.map(|zxid| format!("its superseded {zxid:#018x} was no write of this incarnation"))
    }

    fn fate(&self, zxid: u64, number: i64) -> Option<Fate> {
        let is_counted = || {
            let mut counted = self.counted.iter();
            counted.any(|(from, to)| (*from..=*to).contains(&number))
        };
        match self.values.get(&zxid) {
            Some(fate) => Some(*fate),
            None if self.listed.contains(&zxid) => Some(Fate::Superseded),
            None => is_counted().then_some(Fate::Missed),
        }
    }
}
