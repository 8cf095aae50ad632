//! What became of every committed change below the roots: told exactly, overwritten and listed, counted, inside a gap,
//! or unreadable. What is none of these was lost, and is a complaint.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::accounts::LISTED_MAX;
use super::brackets::{Span, spans};
use super::fields::{has_exact_zxid, hex, is_change, is_exact, name, op, path, superseded, zxid};
use super::{Case, Events};
use crate::truth::Life;

/// How many changes came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Told with its own zxid, and with its value if it has one.
    pub exact: u64,
    /// A delete that was seen and told with a bound of its zxid, as servers before 3.9 do not tell it.
    pub bounded: u64,
    /// Listed by its zxid as overwritten before anybody could read it; or inside a transaction that wrote again.
    pub superseded: u64,
    /// Only counted, or inside a life that only its end tells of.
    pub missed: u64,
    /// Inside a declared gap or a first listing, and found there by comparing.
    pub found: u64,
    /// Inside a declared gap or before a first listing, and gone before the comparison.
    pub gap: u64,
    /// Of a znode that could not be read at some time.
    pub unreadable: u64,
    /// Gaps that ended.
    pub gaps: u64,
    /// Deliveries of what had been delivered before.
    pub duplicates: u64,
}

impl Census {
    /// All changes.
    pub fn total(&self) -> u64 {
        self.exact + self.bounded + self.superseded + self.missed + self.found + self.gap + self.unreadable
    }

    /// Those of another.
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

/// What could be seen of a path.
struct Light<'a> {
    /// What gaps and runs of its root cover.
    spans: &'a [Span],
    is_hidden: bool,
    events: Events,
}

/// What the records tell of one life.
#[derive(Debug, Default)]
struct Telling {
    /// Values by their zxid, and how they are told.
    values: BTreeMap<u64, Fate>,
    /// Versions that are only counted, from the first to the last.
    counted: Vec<(i64, i64)>,
    listed: BTreeSet<u64>,
    deleted: Option<Fate>,
    /// The version told last.
    last: Option<i64>,
}

/// What the records tell of one path.
#[derive(Debug, Default)]
struct Told {
    lives: BTreeMap<u64, Telling>,
    living: Option<u64>,
    /// Bounds of deletes that end lives which nobody read.
    blind: Vec<u64>,
}

/// The fate of every change, and complaints about those that have none and about claims without a change.
pub fn check(records: &[&Value], case: &Case<'_>) -> (Census, Vec<String>) {
    let mut complaints = Vec::new();
    let mut told: BTreeMap<&str, Told> = BTreeMap::new();
    for record in records.iter().filter(|record| is_change(record)) {
        let Some(path) = path(record) else { continue };
        let complaint = told.entry(path).or_default().take(record, path, case);
        complaints.extend(complaint.map(|complaint| format!("{}: {complaint}", name(record))));
    }
    let gaps = records.iter().filter(|record| op(record) == "gap_end").count() as u64;
    let mut census = Census {
        gaps,
        duplicates: (case.deliveries.len() - records.len()) as u64,
        ..Census::default()
    };
    let spans = spans(records);
    let nothing = Told::default();
    for root in case.roots {
        let spans = spans.get(root).map(Vec::as_slice).unwrap_or_default();
        for (path, lives) in case.truth.below(std::slice::from_ref(root)) {
            let told = told.get(path.as_str()).unwrap_or(&nothing);
            let is_hidden = case.is_hidden(path);
            for life in lives {
                complaints.extend(told.account(
                    path,
                    life,
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

impl Told {
    fn take(&mut self, record: &Value, path: &str, case: &Case<'_>) -> Option<String> {
        let stat = &record["after"]["stat"];
        match op(record) {
            "delete" => self.end(record, path, case),
            op => {
                let czxid = hex(&stat["czxid"]).or(zxid(record))?;
                let telling = self.lives.entry(czxid).or_default();
                if op != "update" {
                    self.living = Some(czxid);
                    telling.last = None;
                }
                let Some(number) = stat["version"].as_i64() else {
                    // Its value was overwritten before anybody could read it.
                    telling.values.insert(czxid, Fate::Superseded);
                    telling.last = Some(0);
                    return None;
                };
                let fate = if is_exact(record) {
                    Fate::Exact
                } else {
                    Fate::Found
                };
                telling.values.entry(hex(&stat["mzxid"])?).or_insert(fate);
                let from = telling.last.map_or(0, |last| last + 1);
                telling.last = Some(number);
                telling.list(
                    record,
                    (from, number - 1),
                    case.truth.life(path, czxid),
                    case.events,
                )
            }
        }
    }

    fn end(&mut self, record: &Value, path: &str, case: &Case<'_>) -> Option<String> {
        let Some(czxid) = self.living.take() else {
            // From servers without zxids one delete may stand for lives that nobody read.
            if is_exact(record) && !has_exact_zxid(record) {
                self.blind.push(zxid(record).unwrap_or(u64::MAX));
            }
            return None;
        };
        let telling = self.lives.entry(czxid).or_default();
        telling.deleted = Some(match (is_exact(record), has_exact_zxid(record)) {
            (true, true) => Fate::Exact,
            (true, false) => Fate::Bounded,
            (false, _) => Fate::Found,
        });
        let life = case.truth.life(path, czxid);
        let from = telling.last.map_or(0, |last| last + 1);
        telling.list(record, (from, life?.last_number()), life, case.events)
    }

    /// The fate of each change of a life.
    fn account(&self, path: &str, life: &Life, light: &Light<'_>, census: &mut Census) -> Vec<String> {
        let Light {
            spans,
            is_hidden,
            events,
        } = *light;
        let is_covered = |zxid: u64| spans.iter().any(|(from, to)| *from < zxid && zxid <= *to);
        let telling = self.lives.get(&life.czxid);
        // What nobody told by itself.
        let otherwise = |zxid: u64| match life.died {
            // A life that began inside a gap and ended before anybody read it needs no end.
            Some(_) if telling.is_none() && is_covered(life.czxid) => Some(Fate::Gap),
            _ if is_covered(zxid) => Some(Fate::Gap),
            _ if is_hidden => Some(Fate::Unreadable),
            Some(died) if telling.is_none() => {
                let is_ended = self.blind.iter().any(|bound| died <= *bound);
                is_ended.then_some(Fate::Missed)
            }
            _ => None,
        };
        // What was found by comparing must have happened where the records admit that they did not see. Servers without
        // zxids do not tell how far behind the walk an end is that its comparison found.
        let admitted = |fate: Fate, zxid: u64| match fate {
            Fate::Found if Some(zxid) == life.died && events == Events::WithoutZxid => Some(fate),
            Fate::Found if !is_covered(zxid) => is_hidden.then_some(Fate::Unreadable),
            fate => Some(fate),
        };
        let mut complaints = Vec::new();
        for (at, version) in life.versions.iter().enumerate() {
            let (zxid, number) = (version.mzxid, version.number);
            let next = life.versions.get(at + 1).map(|next| next.mzxid);
            // A transaction that writes and deletes shows nobody what it wrote.
            if number > 0 && Some(zxid) == life.died {
                continue;
            }
            let fate = telling.and_then(|telling| telling.fate(zxid, number));
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
                    complaints.push(format!("the create of {path} at {zxid:#018x} was not told"));
                }
                None => complaints.push(format!(
                    "version {number} of {path} at {zxid:#018x} was not told, outside {spans:#x?}"
                )),
            }
        }
        if let Some(died) = life.died {
            let fate = match telling {
                Some(telling) => telling.deleted.and_then(|fate| admitted(fate, died)),
                None => otherwise(died),
            };
            match fate {
                Some(fate) => census.count(fate),
                None => complaints.push(format!("the delete of {path} at {died:#018x} was not told")),
            }
        }
        complaints
    }
}

impl Telling {
    /// Takes the overwritten versions that a record lists and counts: from the first to the last.
    fn list(
        &mut self,
        record: &Value,
        (from, to): (i64, i64),
        life: Option<&Life>,
        events: Events,
    ) -> Option<String> {
        let listed = superseded(record);
        let is_write = |zxid: &u64| {
            life.is_some_and(|life| {
                life.versions
                    .binary_search_by_key(zxid, |version| version.mzxid)
                    .is_ok()
            })
        };
        let wrong = listed.iter().find(|zxid| !is_write(zxid)).copied();
        // Servers without zxids tell none, and a list has an end; whatever else is missing must be inside a gap.
        let is_counted = events == Events::WithoutZxid || listed.len() == LISTED_MAX;
        self.listed.extend(listed);
        if is_counted && is_exact(record) && from <= to {
            self.counted.push((from, to));
        }
        wrong.map(|zxid| format!("its superseded {zxid:#018x} was no write of this life"))
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
