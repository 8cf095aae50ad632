//! A correct history and its records, written by hand, for the controls to spoil.

use serde_json::{Value, json};

use super::Lossless;
use super::state::text_of;
use crate::truth::Truth;
use crate::truth::log::{Access, Change, Kind, Readable, Transaction};

/// The position after which the server of the story sent its tree.
pub const FORCED: u64 = 14;

/// A znode of the story as a client reads it.
#[derive(Clone, Copy)]
struct Seen {
    data: &'static str,
    czxid: u64,
    mzxid: u64,
    pzxid: u64,
    version: i32,
    cversion: i32,
    aversion: i32,
    owner: u64,
    children: i32,
}

/// A znode that was just created.
fn new(data: &'static str, zxid: u64) -> Seen {
    Seen {
        data,
        czxid: zxid,
        mzxid: zxid,
        pzxid: zxid,
        version: 0,
        cversion: 0,
        aversion: 0,
        owner: 0,
        children: 0,
    }
}

impl Seen {
    fn written(self, data: &'static str, zxid: u64, version: i32) -> Seen {
        Seen {
            data,
            mzxid: zxid,
            version,
            ..self
        }
    }

    fn json(self) -> Value {
        json!({
            "data": {"encoding": "utf8", "size": self.data.len(), "value": self.data},
            "stat": {
                "czxid": text_of(self.czxid), "mzxid": text_of(self.mzxid), "pzxid": text_of(self.pzxid),
                "ctime": time(self.czxid), "mtime": time(self.mzxid), "version": self.version, "cversion": self.cversion,
                "aversion": self.aversion, "ephemeralOwner": text_of(self.owner), "dataLength": self.data.len(),
                "numChildren": self.children,
            },
        })
    }
}

fn time(zxid: u64) -> i64 {
    1_795_355_000_000 + i64::try_from(zxid).unwrap()
}

fn open_list() -> Vec<Access> {
    vec![Access {
        permissions: 31,
        scheme: "world".to_owned(),
        id: "anyone".to_owned(),
    }]
}

fn create(path: &str, data: &str, owner: u64) -> Change {
    Change::Create {
        path: path.to_owned(),
        data: data.as_bytes().to_vec(),
        readable: Readable(true),
        acl: open_list(),
        owner,
        parent_cversion: -1,
    }
}

fn set(path: &str, data: &str, version: i32) -> Change {
    Change::Set {
        path: path.to_owned(),
        data: data.as_bytes().to_vec(),
        version,
    }
}

fn delete(path: &str) -> Change {
    Change::Delete {
        path: path.to_owned(),
    }
}

fn transactions() -> Vec<Transaction> {
    let list = vec![Access {
        permissions: 1,
        scheme: "digest".to_owned(),
        id: "ann:hash".to_owned(),
    }];
    let listed = Change::SetAcl {
        path: "/r/a".to_owned(),
        readable: Readable(false),
        acl: list,
        version: 1,
    };
    let multi = vec![
        Change::Check,
        set("/r/a", "3", 2),
        create("/r/b", "b", 0),
        set("/r/a", "4", 3),
        create("/out", "", 0),
    ];
    let closed = Change::Close {
        listed: Some(vec!["/r/e".to_owned()]),
    };
    let all = [
        (Kind::Create, 5, 1, vec![create("/r", "root", 0)]),
        (Kind::Create, 5, 2, vec![create("/s", "", 0)]),
        (Kind::Other, 7, 0, vec![]),
        (Kind::Create, 5, 3, vec![create("/r/a", "1", 0)]),
        (Kind::SetData, 5, 4, vec![set("/r/a", "2", 1)]),
        (Kind::Multi, 5, 5, multi),
        (Kind::Create, 7, 1, vec![create("/r/e", "e", 7)]),
        (Kind::SetAcl, 5, 6, vec![listed]),
        (Kind::CloseSession, 7, 0, vec![closed]),
        (Kind::Delete, 5, -7, vec![delete("/r/b")]),
        (Kind::Multi, 5, 8, vec![]),
        (
            Kind::CreateTtl,
            5,
            9,
            vec![create("/s/t", "t", 0xff << 56 | 5_000)],
        ),
        (Kind::CreateContainer, 5, 10, vec![create("/s/c", "c", 1 << 63)]),
        (Kind::DeleteContainer, 0, 0, vec![delete("/s/c")]),
        (Kind::SetData, 5, 11, vec![set("/r/a", "5", 4)]),
        (Kind::Create, 5, 12, vec![create("/r/g", "g", 0)]),
        (Kind::DeleteContainer, 0, 0, vec![delete("/s/t")]),
        (Kind::Create, 5, 13, vec![create("/r/z", "z", 0)]),
        (
            Kind::Multi,
            5,
            14,
            vec![delete("/r/z"), create("/r/z", "again", 0)],
        ),
    ];
    let transaction =
        |(zxid, (kind, session, cxid, changes)): (u64, (Kind, u64, i32, Vec<Change>))| Transaction {
            session,
            cxid,
            zxid,
            time_ms: time(zxid),
            kind,
            changes,
            digest: None,
        };
    (1..).zip(all).map(transaction).collect()
}

fn merge(record: &mut Value, more: Value) {
    let (Some(fields), Value::Object(more)) = (record.as_object_mut(), more) else {
        return;
    };
    fields.extend(more);
}

fn record(op: &str, root: &str, path: Option<&str>, more: Value) -> Value {
    let mut record = json!({
        "seq": 0, "cluster": "main", "root": root, "path": path, "op": op, "zxid": null, "zxid_kind": "unknown",
        "fidelity": "exact", "missed": null, "superseded": [], "ephemeral": null, "before": null, "after": null,
        "txn": null, "time": {"changed": null, "captured": "2026-11-22T13:40:00.125Z"},
        "source": {"mode": "observer", "server": "3.9.5"},
    });
    merge(&mut record, more);
    record
}

/// The lifetime and the list of most znodes.
fn open_facts() -> Value {
    json!({
        "lifetime": {"kind": "persistent", "ttl": null},
        "acl": [{"scheme": "world", "id": "anyone", "perms": "cdrwa"}],
    })
}

/// The session, cxid, place, count, type and following records of an exact record.
type About = (u64, i32, u64, u64, &'static str, u64);

/// An exact record.
fn exact(
    op: &str,
    path: &str,
    zxid: u64,
    about: About,
    (before, after): (Option<Seen>, Option<Seen>),
) -> Value {
    let (session, cxid, index, count, kind, rest) = about;
    let owner = after.or(before).unwrap().owner;
    let mut record = record(
        op,
        &path[..2],
        Some(path),
        json!({
            "zxid": text_of(zxid), "zxid_kind": "exact", "missed": 0, "ephemeral": owner != 0,
            "before": before.map(Seen::json), "after": after.map(Seen::json),
            "txn": {"session": text_of(session), "cxid": cxid, "index": index, "count": count, "type": kind,
                    "time": time(zxid), "ended_by": null, "client": null, "user": null, "rest": rest},
            "time": {"changed": format!("2026-11-22T13:43:20.{zxid:03}Z"), "captured": "2026-11-22T13:43:21.125Z"},
        }),
    );
    if op == "create" {
        merge(&mut record, open_facts());
    }
    record
}

/// A record that a comparison found.
fn compared(op: &str, path: &str, zxid: u64, (before, after): (Option<Seen>, Option<Seen>)) -> Value {
    let kind = if op == "delete" { "upper_bound" } else { "exact" };
    let mut record = record(
        op,
        &path[..2],
        Some(path),
        json!({
            "zxid": text_of(zxid), "zxid_kind": kind, "fidelity": "reconciled", "ephemeral": false,
            "before": before.map(Seen::json), "after": after.map(Seen::json),
        }),
    );
    if matches!(op, "create" | "snapshot") {
        merge(&mut record, open_facts());
    }
    record
}

/// A heartbeat after everything up to this zxid.
pub fn heartbeat(zxid: u64) -> Value {
    let mut record = record(
        "heartbeat",
        "",
        None,
        json!({"zxid": text_of(zxid), "zxid_kind": "exact"}),
    );
    record["root"] = Value::Null;
    record
}

fn listing(root: &str, znodes: &[(&str, Seen)]) -> (Vec<Value>, Value) {
    let mut records = vec![record(
        "snapshot_begin",
        root,
        None,
        json!({"run": {"id": "x", "index": 0}}),
    )];
    for (path, seen) in znodes {
        records.push(compared("snapshot", path, seen.mzxid, (None, Some(*seen))));
    }
    let end = json!({
        "zxid": text_of(4), "zxid_kind": "exact",
        "run": {"id": "x", "index": znodes.len() + 1, "nodes": znodes.len(), "unreadable": 0},
    });
    (records, record("snapshot_end", root, None, end))
}

fn gap(op: &str, root: &str, to: Option<u64>) -> Value {
    let gap = json!({"epoch": 2, "from_zxid": text_of(FORCED), "to_zxid": to.map(text_of), "reason": "disconnected"});
    record(op, root, None, json!({"gap": gap}))
}

/// The records of the story, by the contract.
pub fn records() -> Vec<Value> {
    let a1 = new("1", 4);
    let a2 = a1.written("2", 5, 1);
    let a4 = a1.written("4", 6, 3);
    let listed = Seen { aversion: 1, ..a4 };
    let a5 = listed.written("5", 15, 4);
    let r = Seen {
        pzxid: 4,
        cversion: 1,
        children: 1,
        ..new("root", 1)
    };
    let (b, t, c) = (new("b", 6), new("t", 12), new("c", 13));
    let e = Seen {
        owner: 7,
        ..new("e", 7)
    };
    let (g, z, again) = (new("g", 16), new("z", 18), new("again", 19));
    let (listing_r, end_r) = listing("/r", &[("/r", r), ("/r/a", a1)]);
    let (listing_s, end_s) = listing("/s", &[("/s", new("", 2))]);
    let mut folded = exact(
        "update",
        "/r/a",
        6,
        (5, 5, 3, 5, "multi", 0),
        (Some(a2), Some(a4)),
    );
    merge(&mut folded, json!({"missed": 1, "superseded": [text_of(6)]}));
    let mut acl = exact(
        "acl",
        "/r/a",
        8,
        (5, 6, 0, 1, "setACL", 0),
        (Some(a4), Some(listed)),
    );
    merge(
        &mut acl,
        json!({"acl": [{"scheme": "digest", "id": "ann:x", "perms": "r"}]}),
    );
    let mut ephemeral = exact("create", "/r/e", 7, (7, 1, 0, 1, "create", 0), (None, Some(e)));
    ephemeral["lifetime"]["kind"] = json!("ephemeral");
    let mut closed = exact(
        "delete",
        "/r/e",
        9,
        (7, 0, 0, 1, "closeSession", 0),
        (Some(e), None),
    );
    closed["txn"]["ended_by"] = json!("server");
    let mut mortal = exact(
        "create",
        "/s/t",
        12,
        (5, 9, 0, 1, "createTTL", 0),
        (None, Some(t)),
    );
    mortal["lifetime"] = json!({"kind": "ttl", "ttl": 5_000});
    let mut container = exact(
        "create",
        "/s/c",
        13,
        (5, 10, 0, 1, "createContainer", 0),
        (None, Some(c)),
    );
    container["lifetime"]["kind"] = json!("container");
    let mut all = listing_r;
    all.extend(listing_s);
    all.extend([
        end_r,
        end_s,
        exact(
            "update",
            "/r/a",
            5,
            (5, 4, 0, 1, "setData", 0),
            (Some(a1), Some(a2)),
        ),
        exact("create", "/r/b", 6, (5, 5, 2, 5, "multi", 1), (None, Some(b))),
        folded,
        ephemeral,
        acl,
        closed,
        exact("delete", "/r/b", 10, (5, -7, 0, 1, "delete", 0), (Some(b), None)),
        mortal,
        container,
        exact(
            "delete",
            "/s/c",
            14,
            (0, 0, 0, 1, "deleteContainer", 0),
            (Some(c), None),
        ),
        gap("gap_begin", "/r", None),
        compared("update", "/r/a", 15, (Some(listed), Some(a5))),
        compared("create", "/r/g", 16, (None, Some(g))),
        gap("gap_begin", "/s", None),
        compared("delete", "/s/t", 17, (Some(t), None)),
        gap("gap_end", "/r", Some(17)),
        gap("gap_end", "/s", Some(17)),
        exact("create", "/r/z", 18, (5, 13, 0, 1, "create", 0), (None, Some(z))),
        exact("delete", "/r/z", 19, (5, 14, 0, 2, "multi", 1), (Some(z), None)),
        exact(
            "create",
            "/r/z",
            19,
            (5, 14, 1, 2, "multi", 0),
            (None, Some(again)),
        ),
    ]);
    all
}

/// The complaints about these records of the story.
pub fn complaints(records: &[Value]) -> Vec<String> {
    judged(records, &[FORCED]).1
}

/// The verdict on these records of the story, where servers sent their trees after these positions.
pub fn judged(records: &[Value], forced: &[u64]) -> (super::Account, Vec<String>) {
    let numbered: Vec<Value> = (1..)
        .zip(records)
        .map(|(seq, record)| {
            let mut record = record.clone();
            record["seq"] = json!(seq);
            record
        })
        .collect();
    let records: Vec<&Value> = numbered.iter().collect();
    let truth = Truth::of_transactions(transactions());
    Lossless {
        records: &records,
        truth: &truth,
        roots: &["/r".to_owned(), "/s".to_owned()],
        modes: &["observer"],
        has_lists: true,
        forced,
    }
    .judge()
}
