//! The end of a gap or of a listing claims that everything up to its zxid comes before it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Case;
use super::fields::{self, hex, is_change, name, op, path, zxid};
use crate::truth::{Incarnation, covers};

/// A znode in the fold of the records: its czxid, and its mzxid once its value was delivered.
type State = (u64, Option<u64>);

/// Complaints about ends that come too early.
pub fn check(records: &[&Value], case: &Case<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut fold: BTreeMap<&str, State> = BTreeMap::new();
    for record in records {
        let to = match op(record) {
            "gap_end" => hex(&record["gap"]["to_zxid"]),
            "snapshot_end" => zxid(record),
            _ => None,
        };
        if let (Some(to), Some(root)) = (to, fields::root(record)) {
            complaints.extend(check_end(record, root, to, &fold, case));
        } else if is_change(record) {
            step(&mut fold, record);
        }
    }
    complaints
}

fn step<'a>(fold: &mut BTreeMap<&'a str, State>, record: &'a Value) {
    let Some(path) = path(record) else { return };
    if op(record) == "delete" {
        fold.remove(path);
        return;
    }
    let stat = &record["after"]["stat"];
    let czxid = hex(&stat["czxid"]).or(zxid(record)).unwrap_or_default();
    fold.insert(path, (czxid, hex(&stat["mzxid"])));
}

fn check_end(
    record: &Value,
    root: &str,
    to: u64,
    fold: &BTreeMap<&str, State>,
    case: &Case<'_>,
) -> Option<String> {
    if to > case.truth.last {
        return Some(format!("{}: claims {to:#x}, which never existed", name(record)));
    }
    let incarnations = case
        .truth
        .incarnations
        .iter()
        .filter(|(path, _)| covers(root, path));
    let mut incarnations = incarnations.filter(|(path, _)| !case.is_hidden(path));
    incarnations.find_map(|(path, incarnations)| {
        let complaint = check_path(incarnations, to, fold.get(path.as_str()).copied())?;
        Some(format!(
            "{}: claims {to:#x}, and {path} {complaint}",
            name(record)
        ))
    })
}

fn check_path(incarnations: &[Incarnation], to: u64, reported: Option<State>) -> Option<String> {
    let born = incarnations.partition_point(|incarnation| incarnation.czxid <= to);
    let living = incarnations[..born]
        .last()
        .filter(|incarnation| incarnation.exists_at(to));
    match (living, reported) {
        (None, Some((czxid, _))) if czxid <= to => Some(format!("exists with {czxid:#x}")),
        (None, _) => None,
        (Some(incarnation), None) => incarnation.died.is_none().then(|| "is not reported".to_owned()),
        (Some(incarnation), Some((czxid, _))) if czxid != incarnation.czxid => {
            (czxid < incarnation.czxid).then(|| format!("is reported as {czxid:#x}"))
        }
        (Some(incarnation), Some((_, mzxid))) => {
            let version = incarnation.version_at(to)?;
            let is_old = mzxid.is_some_and(|mzxid| mzxid < version.mzxid);
            is_old.then(|| format!("is reported with mzxid {mzxid:x?}, it has {:#x}", version.mzxid))
        }
    }
}
