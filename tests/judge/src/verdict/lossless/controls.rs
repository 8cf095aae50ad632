//! Negative controls: the correct story gets no complaint, and every way to spoil it gets one.

use serde_json::{Value, json};

use super::Account;
use super::story::{FORCED, complaints, heartbeat, judged, records};

/// Fields of an exact record, all of which are judged.
const FIELDS: [&str; 23] = [
    "/op",
    "/path",
    "/root",
    "/zxid",
    "/zxid_kind",
    "/fidelity",
    "/missed",
    "/superseded",
    "/ephemeral",
    "/txn",
    "/txn/session",
    "/txn/cxid",
    "/txn/index",
    "/txn/count",
    "/txn/type",
    "/txn/time",
    "/txn/ended_by",
    "/txn/client",
    "/txn/user",
    "/txn/rest",
    "/time/changed",
    "/source/mode",
    "/lifetime",
];

/// Fields of a Stat that are numbers, and those that are zxids or sessions, with their bits.
const NUMBERS: [(&str, u32); 7] = [
    ("ctime", 48),
    ("mtime", 48),
    ("version", 31),
    ("cversion", 31),
    ("aversion", 31),
    ("dataLength", 31),
    ("numChildren", 31),
];
const TEXTS: [&str; 4] = ["czxid", "mzxid", "pzxid", "ephemeralOwner"];

fn is_exact(record: &Value) -> bool {
    !record["txn"].is_null()
}

/// Another value of the same type.
fn other(value: &Value) -> Value {
    match value {
        Value::Null => json!("something"),
        Value::Bool(value) => json!(!value),
        Value::Number(number) => json!(number.as_i64().unwrap() + 1),
        Value::String(text) => json!(format!("{text}0")),
        Value::Array(list) => json!([list.as_slice(), &[json!("more")]].concat()),
        Value::Object(_) => Value::Null,
    }
}

/// The complaints once a record is spoiled.
fn spoiled(at: usize, spoil: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut all = records();
    spoil(&mut all[at]);
    complaints(&all)
}

#[track_caller]
fn objects(records: &[Value], words: &str) {
    let complaints = complaints(records);
    assert!(
        complaints.iter().any(|complaint| complaint.contains(words)),
        "{words:?} is not among {complaints:#?}"
    );
}

#[test]
fn the_correct_story_gets_no_complaint() {
    let expected = Account {
        exact: 13,
        transactions: 11,
        listed: 3,
        gaps: 1,
        inside: 3,
    };
    assert_eq!(judged(&records(), &[FORCED]), (expected, Vec::new()));
}

#[test]
fn every_field_of_every_exact_record_is_judged() {
    let all = records();
    let mut spoilt = 0;
    for (at, record) in all.iter().enumerate().filter(|(_, record)| is_exact(record)) {
        for field in FIELDS {
            let found = spoiled(at, |record| {
                if field == "/lifetime" {
                    record["lifetime"] = other(&record["lifetime"]);
                } else {
                    let value = record.pointer_mut(field).unwrap();
                    *value = other(value);
                }
            });
            assert!(!found.is_empty(), "{field} of {record:#}");
            spoilt += 1;
        }
        let found = spoiled(at, |record| record["acl"] = other(&record["acl"]));
        assert!(!found.is_empty(), "acl of {record:#}");
        for state in ["before", "after"] {
            let found = spoiled(at, |record| record[state] = other(&record[state]));
            assert!(!found.is_empty(), "{state} of {record:#}");
        }
    }
    assert_eq!(spoilt, 13 * FIELDS.len());
}

#[test]
fn every_flipped_bit_of_a_stat_and_every_other_byte_of_data_is_found() {
    let all = records();
    // Of one record every bit, of the others the lowest: a judgement of the whole story takes a millisecond.
    let step = |record: &Value| if record["op"] == "acl" { 1 } else { 64 };
    for (at, record) in all.iter().enumerate().filter(|(_, record)| is_exact(record)) {
        for state in ["before", "after"]
            .into_iter()
            .filter(|state| !record[*state].is_null())
        {
            for (field, bits) in NUMBERS {
                for bit in (0..bits).step_by(step(record)) {
                    let found = spoiled(at, |record| {
                        let value = &mut record[state]["stat"][field];
                        *value = json!(value.as_i64().unwrap() ^ 1 << bit);
                    });
                    assert!(!found.is_empty(), "bit {bit} of {state}.{field} of {record:#}");
                }
            }
            for field in TEXTS {
                for bit in (0..64).step_by(step(record)) {
                    let found = spoiled(at, |record| {
                        let value = &mut record[state]["stat"][field];
                        let number = u64::from_str_radix(&value.as_str().unwrap()[2..], 16).unwrap();
                        *value = json!(super::state::text_of(number ^ 1 << bit));
                    });
                    assert!(!found.is_empty(), "bit {bit} of {state}.{field} of {record:#}");
                }
            }
            for field in ["value", "size", "encoding"] {
                let found = spoiled(at, |record| {
                    let value = &mut record[state]["data"][field];
                    *value = other(value);
                });
                assert!(!found.is_empty(), "{state}.data.{field} of {record:#}");
            }
        }
    }
}

#[test]
fn every_record_that_is_dropped_doubled_or_moved_is_missed() {
    let all = records();
    for at in 0..all.len() {
        let mut dropped = all.clone();
        let record = dropped.remove(at);
        assert!(!complaints(&dropped).is_empty(), "without {record:#}");
        // A comparison that is repeated says the same again.
        if is_exact(&record) || record["op"] == "snapshot_end" || record["op"] == "gap_end" {
            let mut doubled = all.clone();
            doubled.insert(at, record.clone());
            assert!(!complaints(&doubled).is_empty(), "twice {record:#}");
        }
    }
    for at in 1..all.len() {
        let (one, two) = (&all[at - 1], &all[at]);
        let mut swapped = all.clone();
        swapped.swap(at - 1, at);
        if is_exact(one) || is_exact(two) {
            assert!(!complaints(&swapped).is_empty(), "{two:#} before {one:#}");
        }
    }
}

#[test]
fn a_change_that_never_happened_is_found() {
    let all = records();
    let exact = |at: &usize| is_exact(&all[*at]);
    let last = (0..all.len()).rfind(exact).unwrap();
    let invent = |zxid: &str| {
        let mut invented = all.clone();
        let mut record = all[last].clone();
        record["zxid"] = json!(zxid);
        record["path"] = json!("/r/never");
        invented.push(record);
        invented
    };
    objects(
        &invent("0x0000000000000014"),
        "of a transaction that was not committed",
    );
    objects(
        &invent("0x0000000000000013"),
        "its transaction has no such change",
    );
    // The multi at 11 failed, and 3 is the begin of a session.
    let mut failed = all.clone();
    let mut record = all[last].clone();
    record["zxid"] = json!("0x000000000000000b");
    let at = all
        .iter()
        .position(|record| record["zxid"] == json!("0x000000000000000c"))
        .unwrap();
    failed.insert(at, record);
    objects(&failed, "its transaction has no such change");
    let mut compared = all.clone();
    let mut record = all[last].clone();
    record["txn"] = Value::Null;
    record["fidelity"] = json!("reconciled");
    compared.push(record);
    objects(&compared, "outside of a gap or listing");
}

#[test]
fn a_gap_that_no_server_forced_is_found() {
    let all = records();
    let (_, complaints) = judged(&all, &[]);
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    assert!(complaints[0].contains("no server sent its tree instead of the history after it"));
    let at = |op: &str| all.iter().position(|record| record["op"] == op).unwrap();
    // An empty gap in the middle of the history.
    let mut false_gap = all.clone();
    let (mut begin, mut end) = (all[at("gap_begin")].clone(), all[at("gap_end")].clone());
    for record in [&mut begin, &mut end] {
        record["gap"]["from_zxid"] = json!("0x000000000000000a");
    }
    end["gap"]["to_zxid"] = json!("0x000000000000000a");
    let place = all
        .iter()
        .position(|record| record["zxid"] == json!("0x000000000000000c"))
        .unwrap();
    false_gap.splice(place..place, [begin, end]);
    objects(
        &false_gap,
        "no server sent its tree instead of the history after it",
    );
}

#[test]
fn the_bounds_of_a_gap_are_judged() {
    let bounded = |op: &str, field: &str, zxid: u64, every: bool| {
        let mut all = records();
        let mut of_op = all.iter_mut().filter(|record| record["op"] == op);
        for record in of_op.by_ref().take(if every { 2 } else { 1 }) {
            record["gap"][field] = json!(super::state::text_of(zxid));
        }
        all
    };
    objects(
        &bounded("gap_begin", "from_zxid", 13, true),
        "after records at 0x000000000000000e",
    );
    objects(
        &bounded("gap_begin", "from_zxid", 15, true),
        "transaction 0x000000000000000f has no record of its 1 changes: update /r/a first",
    );
    objects(
        &bounded("gap_begin", "from_zxid", 13, false),
        "the gap of another root is from",
    );
    objects(
        &bounded("gap_end", "to_zxid", 16, false),
        "that of another root ends at",
    );
    objects(
        &bounded("gap_end", "to_zxid", 16, true),
        "at its end /s/t: exists, and no record has it",
    );
    objects(
        &bounded("gap_end", "to_zxid", 18, true),
        "at its end /r/z: exists, and no record has it",
    );
    objects(&bounded("gap_end", "to_zxid", 99, true), "and nothing at its end");
}

#[test]
fn the_fold_at_the_end_of_a_gap_or_listing_has_to_be_the_tree() {
    let all = records();
    for (at, record) in all.iter().enumerate() {
        let is_value = !is_exact(record) && !record["after"].is_null();
        for field in [
            "czxid",
            "mzxid",
            "ephemeralOwner",
            "ctime",
            "mtime",
            "version",
            "aversion",
            "dataLength",
        ] {
            if is_value {
                let found = spoiled(at, |record| {
                    let value = &mut record["after"]["stat"][field];
                    *value = other(value);
                });
                assert!(!found.is_empty(), "{field} of {record:#}");
            }
        }
        if is_value {
            let found = spoiled(at, |record| record["after"]["data"]["value"] = json!("!"));
            assert!(!found.is_empty(), "the data of {record:#}");
        }
    }
}

#[test]
fn a_listing_has_to_be_of_exactly_one_zxid_and_complete() {
    let end = |spoil: fn(&mut Value)| {
        let mut all = records();
        for record in all.iter_mut().filter(|record| record["op"] == "snapshot_end") {
            spoil(record);
        }
        all
    };
    objects(
        &end(|record| record["zxid_kind"] = json!("upper_bound")),
        "the listing is not of exactly one zxid",
    );
    objects(
        &end(|record| record["run"]["unreadable"] = json!(1)),
        "has unreadable znodes",
    );
    objects(
        &end(|record| record["zxid"] = json!("0x0000000000000005")),
        "at its end /r/a: its after.data are not the 1 bytes \"2\"",
    );
    let unlisted: Vec<Value> = records().into_iter().filter(is_exact).collect();
    objects(&unlisted, "inside of a gap or listing");
    objects(&unlisted, "no first listing ends");
}

#[test]
fn the_lifetime_and_the_list_of_every_compared_record_are_judged() {
    let all = records();
    let is_compared = |record: &Value| !is_exact(record) && !record["after"].is_null();
    let mut spoilt = 0;
    for (at, _) in all.iter().enumerate().filter(|(_, record)| is_compared(record)) {
        for field in ["lifetime", "acl"] {
            let spoil = |value: Value| {
                let mut all = all.clone();
                all[at][field] = value;
                all
            };
            let words = format!("the {field} of its");
            objects(&spoil(other(&all[at][field])), &words);
            if !all[at][field].is_null() {
                objects(&spoil(Value::Null), &words);
                spoilt += 1;
            }
        }
    }
    assert_eq!(spoilt, 8, "three listed znodes and one that was created in a gap");
}

#[test]
fn a_heartbeat_is_after_everything_up_to_its_zxid() {
    let all = records();
    let gap = all.iter().position(|record| record["op"] == "gap_begin").unwrap();
    let with = |at: usize, record: Value| {
        let mut all = all.clone();
        all.insert(at, record);
        all
    };
    assert_eq!(complaints(&with(gap, heartbeat(14))), Vec::<String>::new());
    assert_eq!(complaints(&with(all.len(), heartbeat(19))), Vec::<String>::new());
    objects(&with(gap, heartbeat(15)), "has no record of its 1 changes");
    objects(&with(gap, heartbeat(13)), "after records at 0x000000000000000e");
    objects(
        &with(all.len(), heartbeat(20)),
        "the history has 0x0000000000000013, and nothing at the heartbeat",
    );
    objects(&with(gap + 1, heartbeat(14)), "inside of a gap or listing");
    let spoiled = |field: &str, value: Value| {
        let mut record = heartbeat(14);
        record[field] = value;
        with(gap, record)
    };
    objects(&spoiled("zxid", Value::Null), "it has no exact zxid");
    objects(
        &spoiled("zxid_kind", json!("upper_bound")),
        "it has no exact zxid",
    );
    objects(&spoiled("source", json!({"mode": "watch"})), "of another mode");
}
