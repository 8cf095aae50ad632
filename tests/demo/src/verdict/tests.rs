//! A correct delivery gets no complaint, and every way to spoil it gets one.

use bridge_core::record::{Op, Record};
use uuid::Uuid;

use super::{Arrival, Tree, Verdict, is_complete, is_gap_over, judge};
use crate::expectation::{ExpectedRecord, Step};
use crate::samples::{mark, record_of, version};

const ROOTS: [&str; 1] = ["/r"];

/// One znode changes, and one is deleted and created again while the bridge is down.
fn steps() -> Vec<Step> {
    let listed = vec![
        ExpectedRecord::snapshot("/r", version(1, 1, "")),
        ExpectedRecord::snapshot("/r/a", version(2, 2, "1")),
        ExpectedRecord::snapshot("/r/b", version(3, 3, "b")),
    ];
    let changed = vec![
        ExpectedRecord::update("/r/a", version(2, 2, "1"), version(2, 4, "2")),
        ExpectedRecord::delete("/r/a", version(2, 4, "2")),
        ExpectedRecord::create("/r/a", version(6, 6, "3")),
    ];
    let unseen = vec![
        ExpectedRecord::delete("/r/b", version(3, 3, "b")).reconciled(),
        ExpectedRecord::create("/r/b", version(8, 8, "b")).reconciled(),
    ];
    vec![
        Step::new("listed", "3 snapshot", listed),
        Step::new("changed", "3 records", changed),
        Step::new("unseen", "2 reconciled", unseen),
    ]
}

/// The records that a correct bridge delivers for these steps: seq 1 to 12.
fn records() -> Vec<Record> {
    let steps = steps();
    let mut records = vec![mark("/r", Op::SnapshotBegin, 1, None)];
    let wanted = steps.iter().flat_map(|step| &step.wanted);
    for (at, wanted) in wanted.enumerate() {
        match at {
            3 => records.push(mark("/r", Op::SnapshotEnd, 5, None)),
            6 => records.push(mark("/r", Op::GapBegin, 9, None)),
            _ => {}
        }
        records.push(record_of(wanted, records.len() as u64 + 1));
    }
    records.push(mark("/r", Op::GapEnd, records.len() as u64 + 1, Some(2)));
    records
}

fn tree() -> Tree {
    [
        ("/r", version(1, 1, "")),
        ("/r/a", version(6, 6, "3")),
        ("/r/b", version(8, 8, "b")),
    ]
    .map(|(path, version)| (path.to_owned(), version))
    .into()
}

fn arrivals(records: Vec<Record>) -> Vec<Arrival> {
    let arrival = |record: Record| Arrival {
        partition: 0,
        key: record.path.as_deref().unwrap_or("control:/r").to_owned(),
        record,
    };
    records.into_iter().map(arrival).collect()
}

fn verdict_of(records: Vec<Record>) -> Verdict {
    judge(&steps(), &arrivals(records), &ROOTS, &tree())
}

/// Spoils the records; the complaint must contain `expected`.
fn check(what: &str, spoil: impl FnOnce(&mut Vec<Record>), complaint: &str) {
    let mut spoilt = records();
    spoil(&mut spoilt);
    let verdict = verdict_of(spoilt);
    assert!(!verdict.agrees(), "{what} was not noticed");
    let complaints = verdict.complaints.join("\n");
    assert!(complaints.contains(complaint), "{what}:\n{complaints}");
}

#[test]
fn a_correct_delivery_gets_no_complaint() {
    let verdict = verdict_of(records());
    assert_eq!(verdict.complaints, Vec::<String>::new());
    assert!(verdict.agrees());
    let arrived: Vec<&str> = verdict.steps.iter().map(|row| row.arrived.as_str()).collect();
    assert_eq!(arrived, ["3", "3", "2"]);
    assert!(is_complete(&steps(), &arrivals(records())));
    assert!(is_gap_over(&ROOTS, &arrivals(records())));
}

#[test]
fn any_record_that_is_missing_is_noticed() {
    for at in 0..records().len() {
        let seq = at + 1;
        let mut spoilt = records();
        spoilt.remove(at);
        let verdict = verdict_of(spoilt);
        assert!(!verdict.agrees(), "seq {seq} was not missed");
    }
    check(
        "a missing update",
        |records| drop(records.remove(5)),
        "changed: the update of /r/a did not arrive",
    );
    check(
        "a hole",
        |records| drop(records.remove(5)),
        "seq 6 to 6 did not arrive",
    );
    let mut waiting = records();
    waiting.truncate(6);
    assert!(!is_complete(&steps(), &arrivals(waiting.clone())));
    assert!(!is_gap_over(&ROOTS, &arrivals(waiting)));
}

#[test]
fn any_two_records_of_a_path_that_change_places_are_noticed() {
    let sound = records();
    for one in 0..sound.len() {
        for two in one + 1..sound.len() {
            if sound[one].path.is_none() || sound[one].path != sound[two].path {
                continue;
            }
            let mut spoilt = sound.clone();
            spoilt.swap(one, two);
            let verdict = verdict_of(spoilt);
            assert!(!verdict.agrees(), "{one} and {two} changed places unnoticed");
        }
    }
    check(
        "an update after its delete",
        |records| records.swap(5, 6),
        "of /r/a, seq 7 arrived before seq 6",
    );
}

#[test]
fn records_of_other_partitions_may_come_earlier_or_later() {
    let mut spread = records();
    spread.swap(1, 4);
    assert!(verdict_of(spread).agrees());
}

#[test]
fn a_record_too_much_is_noticed() {
    let extra = |records: &mut Vec<Record>| {
        let wanted = ExpectedRecord::create("/r/c", version(9, 9, "c"));
        records.push(record_of(&wanted, 13));
    };
    check("a create that nobody did", extra, "seq 13, a create of /r/c");
    check("a znode that is not there", extra, "/r/c, folded from the topic");
}

#[test]
fn a_repeated_delivery_must_equal_the_first() {
    let mut again = records();
    again.push(again[5].clone());
    let verdict = verdict_of(again);
    assert!(verdict.agrees(), "{:?}", verdict.complaints);
    let row = verdict.rules.iter().find(|row| row.done.contains("repeated"));
    assert_eq!(row.unwrap().arrived, "1");

    let differing = |records: &mut Vec<Record>| {
        let mut again = records[5].clone();
        again.missed = Some(7);
        records.push(again);
    };
    check(
        "a repetition that differs",
        differing,
        "two records that differ have the id",
    );
    let renamed = |records: &mut Vec<Record>| {
        let mut again = records[5].clone();
        again.id = Uuid::from_u128(99);
        records.push(again);
    };
    check("a duplicate under another id", renamed, "two records have seq 6");
}

#[test]
fn a_gap_must_hold_what_it_counts() {
    check(
        "a reconciled record outside",
        |records| {
            let end = records.remove(11);
            records.insert(9, end);
            for (at, record) in records.iter_mut().enumerate() {
                record.seq.0 = at as u64 + 1;
            }
        },
        "is reconciled and in no gap",
    );
    check(
        "a wrong count",
        |records| records[11].gap.as_mut().unwrap().differences = Some(3),
        "states Some(3) differences and holds 2",
    );
    check(
        "a second listing",
        |records| records[8].op = Op::SnapshotBegin,
        "/r has 2 snapshot_begin",
    );
}

#[test]
fn a_path_in_two_partitions_is_noticed() {
    let mut spread = arrivals(records());
    spread[6].partition = 1;
    let verdict = judge(&steps(), &spread, &ROOTS, &tree());
    assert!(
        verdict.complaints[0].contains("the key /r/a is in the partitions 0 and 1"),
        "{:?}",
        verdict.complaints
    );
}

#[test]
fn a_tree_that_differs_is_noticed() {
    let mut other = tree();
    other.insert("/r/b".to_owned(), version(3, 3, "b"));
    let verdict = judge(&steps(), &arrivals(records()), &ROOTS, &other);
    assert!(
        verdict.complaints[0].contains("czxid"),
        "{:?}",
        verdict.complaints
    );
}
