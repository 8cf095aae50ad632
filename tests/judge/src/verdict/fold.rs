//! Folds the records: incarnations never overlap, `before` is the previous state, and the result is the tree.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{self, bytes, has_exact_zxid, hex, name, op, path, zxid};
use super::{Case, Events};

/// A znode in the fold.
#[derive(Clone, Debug, Default)]
struct Znode {
    czxid: u64,
    /// `after` of the last record that had one.
    after: Option<Value>,
    mzxid: Option<u64>,
}

#[derive(Default)]
struct Folding {
    living: BTreeMap<String, Znode>,
    /// The last exact zxid of each path.
    last: BTreeMap<String, u64>,
    complaints: Vec<String>,
}

/// The fields of a stat that a record's zxid fixes.
const FIXED: [&str; 7] = [
    "czxid",
    "mzxid",
    "ctime",
    "mtime",
    "version",
    "dataLength",
    "ephemeralOwner",
];

/// Checks all records against each other, and the fold against the tree.
pub fn check(records: &[&Value], case: &Case<'_>) -> Vec<String> {
    let mut folding = Folding::default();
    for record in records {
        if let Some(path) = path(record) {
            folding.take(path, record, case);
        }
    }
    folding.compare(case);
    folding.complaints
}

impl Folding {
    fn complain(&mut self, record: &Value, complaint: &str) {
        self.complaints.push(format!("{}: {complaint}", name(record)));
    }

    fn take(&mut self, path: &str, record: &Value, case: &Case<'_>) {
        self.check_ascending(path, record);
        self.check_before(path, record);
        match op(record) {
            "create" | "snapshot" => self.begin(path, record, case),
            "update" => self.update(path, record),
            "delete" => self.end(path, record, case),
            "acl" => {
                if !self.living.contains_key(path) {
                    self.complain(record, "of a path that does not live");
                }
            }
            _ => self.complain(record, "a path in a control record"),
        }
    }

    fn check_ascending(&mut self, path: &str, record: &Value) {
        let Some(zxid) = zxid(record).filter(|_| has_exact_zxid(record)) else {
            return;
        };
        let last = self.last.insert(path.to_owned(), zxid).unwrap_or_default();
        if zxid < last {
            self.complain(record, &format!("after {last:#018x} of the same path"));
        }
    }

    fn check_before(&mut self, path: &str, record: &Value) {
        let before = &record["before"];
        let reported = self.living.get(path);
        let complaint = match (op(record), reported) {
            ("create" | "snapshot", _) | (_, None) if before.is_null() => None,
            ("create" | "snapshot", _) => Some("a state before the beginning".to_owned()),
            (_, None) => Some("a state before, of a path that does not live".to_owned()),
            (_, Some(reported)) => differs(before, reported.after.as_ref()),
        };
        if let Some(complaint) = complaint {
            self.complain(record, &complaint);
        }
    }

    fn begin(&mut self, path: &str, record: &Value, case: &Case<'_>) {
        let stat = &record["after"]["stat"];
        let czxid = hex(&stat["czxid"]).or(zxid(record));
        let reported = Znode {
            czxid: czxid.unwrap_or_default(),
            after: Some(record["after"].clone()),
            mzxid: hex(&stat["mzxid"]),
        };
        if self.living.insert(path.to_owned(), reported).is_some() {
            self.complain(record, "begins while an earlier incarnation exists");
        }
        let is_root = Some(path) == fields::root(record);
        let parent = parent(path);
        // An unreadable parent has no record, but its children may have one.
        let is_reported = self.living.contains_key(parent) || case.is_hidden(parent);
        if case.events == Events::WithZxid && !is_root && !is_reported {
            self.complain(record, "begins before its parent");
        }
    }

    fn update(&mut self, path: &str, record: &Value) {
        let stat = &record["after"]["stat"];
        let Some(reported) = self.living.get_mut(path) else {
            return self.complain(record, "of a path that does not live");
        };
        let is_same = hex(&stat["czxid"]) == Some(reported.czxid);
        reported.after = Some(record["after"].clone());
        reported.mzxid = hex(&stat["mzxid"]);
        if !is_same {
            self.complain(record, "of another incarnation than the existing one");
        }
    }

    fn end(&mut self, path: &str, record: &Value, case: &Case<'_>) {
        if !record["after"].is_null() {
            self.complain(record, "a state after the end");
        }
        // Without zxids, incarnations between two reads are known only by their end.
        if self.living.remove(path).is_none() && case.events == Events::WithZxid {
            self.complain(record, "ends what does not live");
        }
        if case.events == Events::WithZxid && self.has_children(path, case) {
            self.complain(record, "ends before its children");
        }
    }

    /// Whether the fold has a znode below. The delete of an unreadable znode may be found after that of its ancestor.
    fn has_children(&self, path: &str, case: &Case<'_>) -> bool {
        let below = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        let others = self.living.range(below.clone()..);
        let mut others = others.take_while(|(other, _)| other.starts_with(&below));
        others.any(|(other, _)| other != path && !case.is_hidden(other))
    }

    fn compare(&mut self, case: &Case<'_>) {
        for (path, node) in case.tree {
            let Some(reported) = self.living.get(path) else {
                self.complaints
                    .push(format!("{path} exists, and no record reports it"));
                continue;
            };
            let data = reported.after.as_ref().and_then(|after| bytes(&after["data"]));
            if (reported.czxid, reported.mzxid) != (node.czxid, Some(node.mzxid)) {
                self.complaints.push(format!(
                    "{path} is reported as {:#x} {:?}, it is {:#x} {:#x}",
                    reported.czxid, reported.mzxid, node.czxid, node.mzxid
                ));
            } else if data.as_ref() != Some(&node.data) {
                self.complaints
                    .push(format!("the data of {path} are not those of its last record"));
            }
        }
        for path in self.living.keys().filter(|path| !case.tree.contains_key(*path)) {
            self.complaints
                .push(format!("{path} is gone, and no record reports it"));
        }
    }
}

/// The czxid and mzxid of each path in the fold.
pub fn folded(records: &[&Value]) -> BTreeMap<String, (u64, u64)> {
    let mut reported = BTreeMap::new();
    for record in records.iter().filter(|record| fields::is_change(record)) {
        let Some(path) = path(record) else { continue };
        let stat = &record["after"]["stat"];
        match (hex(&stat["czxid"]), hex(&stat["mzxid"])) {
            (Some(czxid), Some(mzxid)) => reported.insert(path.to_owned(), (czxid, mzxid)),
            _ => reported.remove(path),
        };
    }
    reported
}

/// The difference between `before` and the last delivered state.
fn differs(before: &Value, reported: Option<&Value>) -> Option<String> {
    let reported = reported?;
    if before["data"] != reported["data"] {
        return Some("before.data is not that of the last record".to_owned());
    }
    if before["stat"].is_null() != reported["stat"].is_null() {
        return Some("before.stat is not that of the last record".to_owned());
    }
    let field = FIXED
        .iter()
        .find(|field| before["stat"][**field] != reported["stat"][**field])?;
    Some(format!("before.stat.{field} is not that of the last record"))
}

/// The path of the parent.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}
