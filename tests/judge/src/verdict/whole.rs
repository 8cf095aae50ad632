//! What the end of a gap or of a listing claims: that everything up to its zxid stands before it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Case;
use super::fields::{self, hex, is_change, name, op, path, zxid};
use crate::truth::{Life, covers};

/// A znode as the records add up: its czxid, and its mzxid once its value is told.
type State = (u64, Option<u64>);

/// Complaints about ends that come before what they claim.
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
        return Some(format!("{}: claims {to:#x}, which never was", name(record)));
    }
    let lives = case.truth.lives.iter().filter(|(path, _)| covers(root, path));
    let mut lives = lives.filter(|(path, _)| !case.is_hidden(path));
    lives.find_map(|(path, lives)| {
        let complaint = check_path(lives, to, fold.get(path.as_str()).copied())?;
        Some(format!(
            "{}: claims {to:#x}, and {path} {complaint}",
            name(record)
        ))
    })
}

fn check_path(lives: &[Life], to: u64, told: Option<State>) -> Option<String> {
    let born = lives.partition_point(|life| life.czxid <= to);
    let living = lives[..born].last().filter(|life| life.lives_at(to));
    match (living, told) {
        (None, Some((czxid, _))) if czxid <= to => Some(format!("lives on with {czxid:#x}")),
        (None, _) => None,
        (Some(life), None) => life.died.is_none().then(|| "is not told".to_owned()),
        (Some(life), Some((czxid, _))) if czxid != life.czxid => {
            (czxid < life.czxid).then(|| format!("is told as {czxid:#x}"))
        }
        (Some(life), Some((_, mzxid))) => {
            let version = life.version_at(to)?;
            let is_old = mzxid.is_some_and(|mzxid| mzxid < version.mzxid);
            is_old.then(|| format!("is told as of {mzxid:x?}, it is of {:#x}", version.mzxid))
        }
    }
}
