//! Compares the records with the true history: nothing is invented, lost or uncounted.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fields::{
    self, bytes, has_exact_zxid, hex, is_change, is_exact, name, op, path, superseded, zxid,
};
use super::form::check_exact_order;
use super::{Case, Events};
use crate::truth::{Truth, covers};

/// Maximum number of superseded zxids of a record.
pub const LISTED_MAX: usize = 64;

/// Runs all checks that need the truth.
pub fn check(records: &[&Value], case: &Case<'_>) -> Vec<String> {
    let mut complaints = case.truth.faults.clone();
    complaints.extend(check_tree(case));
    complaints.extend(check_nothing_invented(records, case.truth));
    if case.events == Events::WithZxid {
        complaints.extend(check_exact_order(records, case));
        complaints.extend(check_existence(records, case));
    }
    complaints
}

/// The log and the client that reads the tree must agree; otherwise the scenario itself is faulty.
fn check_tree(case: &Case<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, incarnations) in case.truth.below(case.roots) {
        let living = incarnations
            .last()
            .filter(|incarnation| incarnation.died.is_none());
        let logged = living.map(|incarnation| {
            (
                incarnation.czxid,
                incarnation.versions.last().map(|version| version.mzxid),
            )
        });
        let read = case.tree.get(path).map(|node| (node.czxid, Some(node.mzxid)));
        if logged != read {
            complaints.push(format!("the log has {path} as {logged:?}, a client as {read:?}"));
        }
    }
    complaints
}

fn check_nothing_invented(records: &[&Value], truth: &Truth) -> Vec<String> {
    let mut complaints = Vec::new();
    // The incarnation of each path, and its last delivered version.
    let mut living: BTreeMap<&str, (u64, Option<i64>)> = BTreeMap::new();
    for record in records.iter().filter(|record| is_change(record)) {
        let Some(path) = path(record) else { continue };
        let known = living.get(path).copied();
        let complaint = match op(record) {
            "delete" => {
                living.remove(path);
                check_delete(record, path, known, truth)
            }
            op => {
                let stat = &record["after"]["stat"];
                let czxid = hex(&stat["czxid"]).or(zxid(record)).unwrap_or_default();
                living.insert(path, (czxid, stat["version"].as_i64().or(Some(0))));
                check_value(record, path, czxid, truth)
                    .or_else(|| check_missed(record, op, known.and_then(|(_, version)| version)))
            }
        };
        complaints.extend(complaint.map(|complaint| format!("{}: {complaint}", name(record))));
    }
    complaints
}

fn check_value(record: &Value, path: &str, czxid: u64, truth: &Truth) -> Option<String> {
    let Some(incarnation) = truth.incarnation(path, czxid) else {
        return Some("of an incarnation that never existed".to_owned());
    };
    let stat = &record["after"]["stat"];
    if stat.is_null() {
        let is_create = op(record) == "create" && zxid(record) == Some(czxid);
        return (!is_create).then(|| "without a value, and no create at its czxid".to_owned());
    }
    let (mzxid, number) = (hex(&stat["mzxid"])?, stat["version"].as_i64()?);
    let Some(version) = incarnation.version(mzxid, number) else {
        return Some(format!("of a version {number} at {mzxid:#x} that never existed"));
    };
    if zxid(record) != Some(mzxid) || !has_exact_zxid(record) {
        return Some("its zxid is not that of its value".to_owned());
    }
    let after = &record["after"];
    if bytes(&after["data"]).as_ref() != Some(&version.data) {
        return Some("with other data than was written".to_owned());
    }
    let size = i64::try_from(version.data.len()).ok();
    if after["data"]["size"].as_i64() != size || stat["dataLength"].as_i64() != size {
        return Some("with another size than was written".to_owned());
    }
    if stat["mtime"].as_i64() != Some(version.time_ms)
        || stat["ctime"].as_i64() != Some(incarnation.versions[0].time_ms)
    {
        return Some("with other times than the server's".to_owned());
    }
    let is_owned = hex(&stat["ephemeralOwner"]) == Some(incarnation.owner);
    let is_reported = record["ephemeral"].as_bool() == Some(incarnation.owner != 0);
    (!is_owned || !is_reported).then(|| "with another owner than it had".to_owned())
}

/// Versions between two delivered ones count as missed, and are listed up to the limit.
fn check_missed(record: &Value, op: &str, before: Option<i64>) -> Option<String> {
    let number = record["after"]["stat"]["version"].as_i64();
    let expected = match (op, number) {
        ("create", number) => number.unwrap_or(0),
        ("update", Some(number)) => number - before? - 1,
        _ => return None,
    };
    let missed = record["missed"].as_i64();
    if missed != Some(expected) {
        return Some(format!(
            "{missed:?} versions missed, {expected} in the true history"
        ));
    }
    let listed = superseded(record);
    let is_right = listed.is_sorted() && listed.len() as i64 <= expected && listed.len() <= LISTED_MAX;
    (!is_right).then(|| format!("its superseded zxids are {listed:x?}"))
}

fn check_delete(
    record: &Value,
    path: &str,
    known: Option<(u64, Option<i64>)>,
    truth: &Truth,
) -> Option<String> {
    let Some((czxid, version)) = known else {
        // An unread incarnation, with a server without zxids: one must have ended by then.
        let incarnations = truth.incarnations.get(path).into_iter().flatten();
        let has_ended = incarnations
            .filter_map(|incarnation| incarnation.died)
            .any(|died| zxid(record).is_none_or(|bound| died <= bound));
        return (!has_ended).then(|| "ends a incarnation that never ended".to_owned());
    };
    let incarnation = truth.incarnation(path, czxid)?;
    let Some(died) = incarnation.died else {
        return Some("of a incarnation that goes on".to_owned());
    };
    match record["zxid_kind"].as_str() {
        Some("exact") if zxid(record) != Some(died) => return Some(format!("it was at {died:#x}")),
        Some("upper_bound") if zxid(record) < Some(died) => {
            return Some(format!("it was later, at {died:#x}"));
        }
        _ => {}
    }
    let is_counted = is_exact(record) && has_exact_zxid(record);
    let inside = |version: &crate::truth::Version| version.mzxid == died;
    if !is_counted || incarnation.versions.iter().any(inside) {
        return None;
    }
    let expected = incarnation.last_number() - version?;
    let missed = record["missed"].as_i64();
    (missed != Some(expected)).then(|| format!("{missed:?} versions missed, {expected} in the true history"))
}

/// Outside gaps and runs the fold has, at each record, exactly the znodes that existed.
fn check_existence(records: &[&Value], case: &Case<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for root in case.roots {
        let of_root: Vec<&Value> = records
            .iter()
            .copied()
            .filter(|record| fields::root(record) == Some(root))
            .collect();
        complaints.extend(Existence::of(root, case).follow(&of_root));
    }
    complaints
}

/// The difference of two sets of paths: the fold of the records, and the true history.
struct Existence<'a> {
    /// Begins and ends of the root's incarnations, in order.
    happened: Vec<(u64, &'a str)>,
    done: usize,
    differing: BTreeSet<&'a str>,
    case: &'a Case<'a>,
}

impl<'a> Existence<'a> {
    fn of(root: &str, case: &'a Case<'a>) -> Existence<'a> {
        let mut happened = Vec::new();
        for (path, incarnations) in case
            .truth
            .incarnations
            .iter()
            .filter(|(path, _)| covers(root, path))
        {
            let begins = incarnations.iter().map(|incarnation| incarnation.czxid);
            let ends = incarnations.iter().filter_map(|incarnation| incarnation.died);
            happened.extend(begins.chain(ends).map(|zxid| (zxid, path.as_str())));
        }
        happened.sort_unstable();
        Existence {
            happened,
            done: 0,
            differing: BTreeSet::new(),
            case,
        }
    }

    fn toggle(&mut self, path: &'a str) {
        if self.case.is_hidden(path) {
            return;
        }
        if !self.differing.remove(path) {
            self.differing.insert(path);
        }
    }

    fn advance(&mut self, to: u64) {
        while let Some((_, path)) = self.happened.get(self.done).filter(|(zxid, _)| *zxid <= to) {
            self.toggle(path);
            self.done += 1;
        }
    }

    fn follow(mut self, records: &[&'a Value]) -> Vec<String> {
        let mut is_open = true;
        let mut covered = 0;
        for (at, record) in records.iter().enumerate() {
            match op(record) {
                "gap_begin" | "snapshot_begin" => is_open = true,
                "gap_end" => {
                    is_open = false;
                    covered = hex(&record["gap"]["to_zxid"]).unwrap_or_default();
                }
                "snapshot_end" => {
                    is_open = false;
                    covered = zxid(record).unwrap_or_default();
                }
                "create" | "snapshot" | "delete" => {
                    if let Some(path) = path(record) {
                        self.toggle(path);
                    }
                }
                _ => {}
            }
            let (Some(zxid), false) = (zxid(record), is_open) else {
                continue;
            };
            let is_whole = records.get(at + 1).and_then(|next| fields::zxid(next)) != Some(zxid);
            if is_change(record) && is_whole && zxid > covered {
                self.advance(zxid);
                if let Some(path) = self.differing.first() {
                    return vec![format!(
                        "{}: at it {} paths, {path} first, differ from those that existed",
                        name(record),
                        self.differing.len()
                    )];
                }
            }
        }
        Vec::new()
    }
}
