//! Negative controls of the judge: a correct history gets no complaint, and each fault gets the complaint that names it.

mod fates;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Case, Events, form};
use crate::topic::Delivery;
use crate::tree::{Node, Tree};
use crate::truth::{Incarnation, Truth, Version};

const RUN: &str = "0c8b1a52-6f0e-5d0b-9d3f-3f6a2b1c4d5e";

fn hex(number: u64) -> String {
    format!("{number:#018x}")
}

fn stat(czxid: u64, mzxid: u64, version: u64, data: &str) -> Value {
    json!({
        "czxid": hex(czxid), "mzxid": hex(mzxid), "pzxid": hex(czxid), "ctime": czxid, "mtime": mzxid,
        "version": version, "cversion": 0, "aversion": 0, "ephemeralOwner": hex(0),
        "dataLength": data.len(), "numChildren": 0,
    })
}

fn state(czxid: u64, mzxid: u64, version: u64, data: &str) -> Value {
    json!({
        "data": {"encoding": "utf8", "size": data.len(), "value": data},
        "stat": stat(czxid, mzxid, version, data),
    })
}

/// A record with the common fields.
fn record(path: Option<&str>, op: &str, zxid: Option<u64>, more: Value) -> Value {
    let mut record = json!({
        "schema": "zkbridge.change/1", "id": "", "seq": 0, "cluster": "main", "root": "/r", "path": path, "op": op,
        "zxid": zxid.map(hex), "zxid_kind": if zxid.is_some() { "exact" } else { "unknown" }, "fidelity": "exact",
        "missed": if path.is_some() { json!(0) } else { Value::Null }, "superseded": [],
        "ephemeral": if path.is_some() { json!(false) } else { Value::Null },
        "before": null, "after": null, "txn": null,
        "time": {"changed": null, "captured": "2026-11-22T13:40:00.125Z"},
        "source": {"mode": "watch", "server": "3.9.5"},
    });
    merge(&mut record, more);
    record
}

fn merge(record: &mut Value, more: Value) {
    let (Some(fields), Value::Object(more)) = (record.as_object_mut(), more) else {
        return;
    };
    fields.extend(more);
}

/// Records, truth and tree, for a control to spoil.
struct Story {
    deliveries: Vec<Delivery>,
    truth: Truth,
    tree: Tree,
    events: Events,
}

fn incarnation(versions: &[(u64, &str)], died: Option<u64>) -> Incarnation {
    let versions = (0..).zip(versions).map(|(number, (mzxid, data))| Version {
        mzxid: *mzxid,
        number,
        time_ms: i64::try_from(*mzxid).unwrap(),
        data: data.as_bytes().to_vec(),
    });
    let versions: Vec<Version> = versions.collect();
    Incarnation {
        czxid: versions[0].mzxid,
        owner: 0,
        versions,
        died,
    }
}

/// A correct history: a run, exact changes, a gap, a transaction of two.
fn records() -> Vec<Value> {
    let (first, third, again) = (state(2, 2, 0, "1"), state(2, 4, 2, "3"), state(6, 6, 0, "again"));
    let (fourth, fifth) = (state(6, 8, 2, "gap"), state(9, 9, 0, "b"));
    let gap = |more: Value| {
        let mut gap = json!({"epoch": 2, "from_zxid": hex(6), "to_zxid": null, "reason": "disconnected"});
        merge(&mut gap, more);
        json!({"gap": gap})
    };
    let a = Some("/r/a");
    vec![
        record(
            None,
            "snapshot_begin",
            None,
            json!({"run": {"id": RUN, "index": 0}}),
        ),
        record(
            Some("/r"),
            "snapshot",
            Some(1),
            json!({"after": state(1, 1, 0, "root"), "fidelity": "reconciled", "missed": null,
                   "run": {"id": RUN, "index": 1}}),
        ),
        record(
            None,
            "snapshot_end",
            Some(1),
            json!({"zxid_kind": "upper_bound", "run": {"id": RUN, "index": 2, "nodes": 1, "unreadable": 0}}),
        ),
        record(a, "create", Some(2), json!({"after": first})),
        record(
            a,
            "update",
            Some(4),
            json!({"before": first, "after": third, "missed": 1, "superseded": [hex(3)]}),
        ),
        record(a, "delete", Some(5), json!({"before": third})),
        record(a, "create", Some(6), json!({"after": again})),
        record(None, "gap_begin", None, gap(json!({}))),
        record(
            a,
            "update",
            Some(8),
            json!({"before": again, "after": fourth, "missed": 1, "fidelity": "reconciled"}),
        ),
        record(
            Some("/r/b"),
            "create",
            Some(9),
            json!({"after": fifth, "fidelity": "reconciled"}),
        ),
        record(
            None,
            "gap_end",
            None,
            gap(json!({"to_zxid": hex(9), "differences": 2})),
        ),
        record(
            Some("/r/c"),
            "create",
            Some(10),
            json!({"after": state(10, 10, 0, "c")}),
        ),
        record(
            Some("/r/d"),
            "create",
            Some(10),
            json!({"after": state(10, 10, 0, "d")}),
        ),
        record(
            Some("/r/c"),
            "delete",
            Some(11),
            json!({"before": state(10, 10, 0, "c")}),
        ),
    ]
}

fn delivery(record: Value) -> Delivery {
    let key = match record["path"].as_str() {
        Some(path) => path.to_owned(),
        None => format!("control:{}", record["root"].as_str().unwrap_or_default()),
    };
    let fields = ["id", "op", "zxid", "cluster", "schema"];
    let headers = fields.iter().filter_map(|field| {
        let value = record[field].as_str()?.to_owned();
        Some((format!("zkbridge-{field}"), value))
    });
    Delivery {
        partition: 0,
        offset: 0,
        key,
        headers: headers.collect(),
        record,
    }
}

/// Sets `seq` and ids of the records, and delivers them.
fn deliver(mut records: Vec<Value>) -> Vec<Delivery> {
    let mut living = BTreeMap::new();
    for (seq, record) in (1..).zip(&mut records) {
        record["seq"] = json!(seq);
        record["id"] = json!(form::identity(record, &mut living).map(|id| id.to_string()));
    }
    records.into_iter().map(delivery).collect()
}

impl Story {
    fn right() -> Story {
        let node = |czxid, mzxid, data: &str| Node {
            data: data.into(),
            czxid,
            mzxid,
        };
        let tree = [
            ("/r", node(1, 1, "root")),
            ("/r/a", node(6, 8, "gap")),
            ("/r/b", node(9, 9, "b")),
            ("/r/d", node(10, 10, "d")),
        ];
        Story {
            deliveries: deliver(records()),
            truth: Truth::of_incarnations([
                ("/r", incarnation(&[(1, "root")], None)),
                ("/r/a", incarnation(&[(2, "1"), (3, "2"), (4, "3")], Some(5))),
                (
                    "/r/a",
                    incarnation(&[(6, "again"), (7, "unseen"), (8, "gap")], None),
                ),
                ("/r/b", incarnation(&[(9, "b")], None)),
                ("/r/c", incarnation(&[(10, "c")], Some(11))),
                ("/r/d", incarnation(&[(10, "d")], None)),
            ]),
            tree: tree.map(|(path, node)| (path.to_owned(), node)).into(),
            events: Events::WithZxid,
        }
    }

    /// The correct history with other records.
    fn of(spoil: impl FnOnce(&mut Vec<Value>)) -> Story {
        let mut records = records();
        spoil(&mut records);
        Story {
            deliveries: deliver(records),
            ..Story::right()
        }
    }

    /// The correct history with one field of one record changed; `at` is its `seq`.
    fn with(at: usize, pointer: &str, value: Value) -> Story {
        Story::of(|records| *records[at - 1].pointer_mut(pointer).unwrap() = value)
    }

    fn without(at: usize) -> Story {
        Story::of(|records| drop(records.remove(at - 1)))
    }

    fn judged<T>(&self, judge: impl FnOnce(&Case<'_>) -> T) -> T {
        judge(&Case {
            deliveries: &self.deliveries,
            truth: &self.truth,
            tree: &self.tree,
            roots: &["/r".to_owned()],
            events: self.events,
            hidden: &[],
        })
    }

    fn complaints(&self) -> Vec<String> {
        self.judged(|case| case.complaints())
    }
}

#[track_caller]
fn objects(story: Story, words: &str) {
    let complaints = story.complaints();
    let is_found = complaints.iter().any(|complaint| complaint.contains(words));
    assert!(is_found, "no complaint has {words:?}: {complaints:#?}");
}

#[test]
fn a_correct_history_gets_no_complaint() {
    assert_eq!(Story::right().complaints(), [""; 0]);
    let mut again = Story::right();
    again.deliveries.extend_from_within(3..9);
    assert_eq!(again.complaints(), [""; 0], "repeated deliveries are no fault");
}

#[test]
fn the_identity_is_that_of_the_contracts_example() {
    let stat = json!({"czxid": "0x0000000300001a01", "version": 2});
    let record = json!({"cluster": "main", "path": "/services/payments/10.0.0.7:8080", "op": "update",
                        "after": {"stat": stat}});
    let id = form::identity(&record, &mut BTreeMap::new()).unwrap();
    assert_eq!(id.to_string(), "590f094f-2a01-52a9-9179-91366077bdc2");
}

#[test]
fn faults_of_form_are_found() {
    objects(Story::with(4, "/op", json!("born")), "not by the schema");
    objects(Story::with(4, "/missed", json!("none")), "not by the schema");
    let mut story = Story::right();
    story.deliveries[3].key = "/r/b".to_owned();
    objects(story, "its key is");
    let mut story = Story::right();
    story.deliveries[3].headers.remove("zkbridge-zxid");
    objects(story, "its header zxid is None");
    let mut story = Story::right();
    let mut other = story.deliveries[4].clone();
    other.record["time"]["captured"] = json!("2026-11-22T13:40:00.126Z");
    story.deliveries.push(other);
    objects(story, "delivered again, and not equal");
    let mut story = Story::right();
    story.deliveries.swap(3, 4);
    objects(story, "delivered after seq 5");
    let mut story = Story::right();
    story.deliveries.remove(4);
    objects(story, "seq 5 is missing");
    let mut story = Story::right();
    story.deliveries[4].record["id"] = story.deliveries[3].record["id"].clone();
    objects(story, "another record has its id too");
    let mut story = Story::right();
    story.deliveries[4].record["id"] = json!(RUN);
    objects(story, "by the contract");
}

#[test]
fn faults_of_order_are_found() {
    objects(Story::of(|records| records.swap(11, 13)), "exact, after an exact");
    let heartbeat = || record(None, "heartbeat", None, json!({"root": null}));
    objects(
        Story::of(|records| records.insert(12, heartbeat())),
        "not beside the others",
    );
    objects(
        Story::with(6, "/zxid_kind", json!("upper_bound")),
        "its zxid is not",
    );
    objects(
        Story::with(9, "/zxid", json!(hex(5))),
        "after 0x0000000000000006 of the same path",
    );
}

#[test]
fn a_delete_without_a_known_incarnation_may_be_among_the_records_of_its_transaction() {
    let is_torn = |zxid| {
        let more = json!({"fidelity": "reconciled", "zxid_kind": "upper_bound", "missed": null});
        let end = record(Some("/r/a"), "delete", Some(zxid), more);
        let complaints = Story::of(|records| records.insert(12, end)).complaints();
        complaints
            .iter()
            .any(|complaint| complaint.contains("not beside the others"))
    };
    assert!(!is_torn(10), "it is one of them");
    assert!(is_torn(9), "it is of another one");
}

#[test]
fn faults_of_gaps_and_runs_are_found() {
    objects(Story::without(11), "never ends");
    objects(Story::without(8), "ends a gap that did not begin");
    objects(Story::without(8), "reconciled, outside");
    objects(
        Story::with(4, "/fidelity", json!("reconciled")),
        "reconciled, outside",
    );
    objects(Story::with(11, "/gap/differences", json!(3)), "differences is");
    objects(Story::with(11, "/gap/reason", json!("expired")), "reason is");
    objects(
        Story::with(11, "/gap/to_zxid", json!(hex(5))),
        "ends before it begins",
    );
    objects(Story::with(8, "/gap/to_zxid", json!(hex(9))), "knows the end");
    objects(Story::with(8, "/gap/epoch", json!(0)), "epoch 0 after 0");
    objects(Story::without(3), "before the end of the first run");
    objects(Story::without(1), "outside a run");
    objects(Story::with(3, "/run/nodes", json!(2)), "nodes is");
    objects(Story::with(3, "/run/index", json!(1)), "index is");
    objects(Story::with(2, "/run/index", json!(2)), "index is");
    objects(Story::with(3, "/zxid_kind", json!("exact")), "zxid_kind is");
    let cut = |from: u64| {
        let gap = json!({"epoch": 3, "from_zxid": hex(from), "to_zxid": null, "reason": "disconnected"});
        record(None, "gap_begin", None, json!({"gap": gap}))
    };
    objects(
        Story::of(|records| records.insert(8, cut(5))),
        "not from where the gap that was cut began",
    );
}

#[test]
fn faults_of_the_fold_are_found() {
    objects(Story::without(6), "begins while an earlier incarnation exists");
    objects(Story::without(4), "of a path that does not live");
    objects(Story::without(12), "ends what does not live");
    objects(
        Story::with(9, "/after/stat/czxid", json!(hex(2))),
        "of another incarnation",
    );
    objects(
        Story::with(5, "/before/data/value", json!("2")),
        "before.data is not",
    );
    objects(
        Story::with(5, "/before/stat/version", json!(1)),
        "before.stat.version is not",
    );
    objects(
        Story::with(4, "/before", state(1, 1, 0, "x")),
        "a state before the beginning",
    );
    objects(
        Story::with(6, "/after", state(2, 4, 2, "3")),
        "a state after the end",
    );
    objects(
        Story::with(12, "/path", json!("/r/no/c")),
        "begins before its parent",
    );
    objects(Story::with(14, "/path", json!("/r")), "ends before its children");
    let mut story = Story::right();
    let node = story.tree["/r/b"].clone();
    story.tree.insert("/r/e".to_owned(), node);
    objects(story, "/r/e exists, and no record reports it");
    let mut story = Story::right();
    story.tree.remove("/r/b");
    objects(story, "/r/b is gone, and no record reports it");
    let mut story = Story::right();
    story.tree.get_mut("/r/b").unwrap().data = b"c".to_vec();
    objects(story, "the data of /r/b are not those of its last record");
    let mut story = Story::right();
    story.tree.get_mut("/r/b").unwrap().mzxid = 10;
    objects(story, "/r/b is reported as");
}

#[test]
fn a_record_of_a_change_that_never_happened_is_found() {
    objects(
        Story::with(5, "/after/data/value", json!("4")),
        "other data than was written",
    );
    objects(Story::with(5, "/after/data/size", json!(4)), "another size");
    objects(Story::with(5, "/after/stat/mtime", json!(3)), "other times");
    objects(Story::with(5, "/ephemeral", json!(true)), "another owner");
    objects(
        Story::with(5, "/after/stat/version", json!(3)),
        "that never existed",
    );
    objects(Story::with(5, "/zxid", json!(hex(3))), "not that of its value");
    objects(
        Story::with(12, "/after/stat/czxid", json!(hex(9))),
        "of an incarnation that never existed",
    );
    objects(
        Story::with(5, "/missed", json!(0)),
        "Some(0) versions missed, 1 in the true history",
    );
    objects(
        Story::with(5, "/superseded", json!([hex(3), hex(3)])),
        "its superseded zxids are",
    );
    objects(Story::with(6, "/zxid", json!(hex(4))), "it was at 0x5");
    objects(
        Story::with(6, "/missed", json!(1)),
        "Some(1) versions missed, 0 in the true history",
    );
    let early = Story::of(|records| {
        merge(
            &mut records[5],
            json!({"zxid": hex(4), "zxid_kind": "upper_bound"}),
        );
    });
    objects(early, "it was later, at 0x5");
    let mut story = Story::right();
    story.truth.incarnations.get_mut("/r/c").unwrap()[0].died = None;
    objects(story, "of a incarnation that goes on");
    let unread = record(
        Some("/r/e"),
        "delete",
        None,
        json!({"missed": null, "ephemeral": null}),
    );
    let mut story = Story::of(|records| records.push(unread));
    story.events = Events::WithoutZxid;
    objects(story, "ends a incarnation that never ended");
}

#[test]
fn a_change_without_a_record_is_found() {
    objects(
        Story::without(12),
        "the create of /r/c at 0x000000000000000a was not reported",
    );
    objects(
        Story::without(14),
        "the delete of /r/c at 0x000000000000000b was not reported",
    );
    objects(Story::with(5, "/superseded", json!([])), "version 1 of /r/a");
    objects(Story::without(13), "differ from those that existed");
    let mut story = Story::right();
    story.tree.remove("/r/d");
    objects(story, "the log has /r/d");
    // A gap covers the changes inside it, and no others.
    let mut story = Story::right();
    let incarnations = story.truth.incarnations.get_mut("/r/b").unwrap();
    incarnations.insert(0, incarnation(&[(7, "brief")], Some(8)));
    assert_eq!(story.complaints(), [""; 0]);
    let late = Story::of(|records| {
        for at in [7, 10] {
            records[at]["gap"]["from_zxid"] = json!(hex(9));
        }
    });
    objects(late, "the create of /r/b at 0x0000000000000009 was not reported");
}
