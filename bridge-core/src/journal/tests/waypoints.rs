//! Waypoints: where a walk enters a long history.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::folding::{compacting, fold_all};
use super::migrations::take_back_to;
use super::scratch::{Scratch, append_all, created, deleted, path, updated};
use crate::amount::{Horizon, Span};
use crate::journal::waypoints::EVERY;
use crate::journal::{JournalWriter, SinkState};
use crate::number::Seq;
use crate::record::Timestamp;

/// The first path with more records in a row that are no waypoints than there may be.
pub fn first_sparse_path(connection: &Connection) -> Option<i64> {
    let sql = "SELECT r.path, w.seq IS NOT NULL FROM record r LEFT JOIN waypoint w ON w.seq = r.seq
        WHERE r.path IS NOT NULL ORDER BY r.seq";
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut walked: BTreeMap<i64, u8> = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let path: i64 = row.get(0).unwrap();
        let steps = walked.entry(path).or_default();
        *steps = if row.get(1).unwrap() { 0 } else { *steps + 1 };
        if *steps >= EVERY {
            return Some(path);
        }
    }
    None
}

/// `/a` with this many records, and `/b` between each two of them.
fn interleaved(scratch: &Scratch, records: u64) {
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 1, "0"), created("/b", 2, "0")]);
    for number in 1..records {
        let (zxid, version) = (10 * number, i32::try_from(number).unwrap());
        append_all(
            &mut journal,
            [
                updated("/a", 1, zxid, version, "x"),
                updated("/b", 2, zxid + 1, version, "y"),
            ],
        );
    }
}

fn waypoints(scratch: &Scratch, at: &str, after: u64) -> Vec<u64> {
    let found = scratch.reader().waypoints(&path(at), Seq(after), 100).unwrap();
    found.into_iter().map(|seq| seq.0).collect()
}

#[test]
fn every_so_many_records_of_a_path_one_is_a_waypoint_and_a_restart_goes_on_counting() {
    let scratch = Scratch::new();
    let every = u64::from(EVERY);
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 1, "0"), created("/b", 2, "0")]);
    for number in 1..3 * every {
        drop(journal);
        journal = scratch.open();
        let version = i32::try_from(number).unwrap();
        append_all(&mut journal, [updated("/a", 1, 10 * number, version, "x")]);
    }
    // `/b` is the record 2, so that the records of `/a` are 1 and those from 3 on.
    let expected = [every + 1, 2 * every + 1, 3 * every + 1];
    assert_eq!(waypoints(&scratch, "/a", 0), expected);
    assert_eq!(waypoints(&scratch, "/a", every + 1), expected[1..]);
    assert_eq!(waypoints(&scratch, "/b", 0), [0; 0], "a short history needs none");
    assert_eq!(waypoints(&scratch, "/unknown", 0), [0; 0]);
}

#[test]
fn a_batch_that_is_rolled_back_leaves_no_waypoint() {
    let scratch = Scratch::new();
    interleaved(&scratch, u64::from(EVERY) - 1);
    let mut journal = scratch.open();
    let last = u64::from(EVERY) * 100;
    let write = || updated("/a", 1, last, 99, "x");
    crate::image_txn::ImageTxn::append(&mut journal, write()).unwrap();
    journal.rollback().unwrap();
    assert_eq!(waypoints(&scratch, "/a", 0), [0; 0]);
    let seq = append_all(&mut journal, [write()]);
    assert_eq!(waypoints(&scratch, "/a", 0), [seq.0]);
}

#[test]
fn a_record_that_goes_into_a_later_one_passes_its_waypoint_on() {
    let scratch = compacting();
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    let versions = 1..=2 * i32::from(EVERY) + 1;
    append_all(&mut journal, [created("/a", 1, "0")]);
    append_all(
        &mut journal,
        versions.map(|version| updated("/a", 1, 1 + version as u64, version, "x")),
    );
    let newest = journal.tail();
    assert!(fold_all(&mut journal) > 0);
    assert_eq!(waypoints(&scratch, "/a", 0), [newest.0]);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn retention_removes_the_waypoints_with_their_records() {
    let mut scratch = Scratch::new();
    scratch.options.retention = Horizon::For(Span::secs(60));
    interleaved(&scratch, 3 * u64::from(EVERY));
    let mut journal = scratch.open();
    assert_eq!(waypoints(&scratch, "/a", 0).len(), 3);
    while journal.maintain(Timestamp(i64::MAX / 2), 3).unwrap().more {}
    let oldest = scratch.records()[0].seq.0;
    assert!(waypoints(&scratch, "/a", 0).iter().all(|seq| *seq >= oldest));
    append_all(&mut journal, [deleted("/a", 10_000), deleted("/b", 10_001)]);
    while journal.maintain(Timestamp(i64::MAX / 2), 3).unwrap().more {}
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
    let left: i64 = journal
        .connection
        .query_row(
            "SELECT count(*) FROM waypoint WHERE seq < ?1",
            [oldest.cast_signed()],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_journal_of_the_format_before_is_read_without_waypoints_and_gets_them_for_new_records() {
    let scratch = Scratch::new();
    interleaved(&scratch, 2 * u64::from(EVERY));
    take_back_to(&scratch, 7);

    let history = scratch
        .reader()
        .history(&path("/a"), None, 1_000)
        .unwrap()
        .unwrap();
    assert_eq!(history.records.len(), 2 * usize::from(EVERY));
    assert_eq!(waypoints(&scratch, "/a", 0), [0; 0]);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);

    let mut journal = scratch.open();
    let from = 2 * i32::from(EVERY);
    let writes = (from..from + i32::from(EVERY))
        .map(|version| updated("/a", 1, 10_000 + version as u64, version, "x"));
    let last = append_all(&mut journal, writes);
    assert_eq!(waypoints(&scratch, "/a", 0), [last.0]);
}

#[test]
fn a_path_without_waypoints_is_found_by_the_check_of_the_random_tests() {
    let scratch = Scratch::new();
    interleaved(&scratch, 2 * u64::from(EVERY));
    let journal = scratch.open();
    assert_eq!(first_sparse_path(&journal.connection), None);
    journal
        .connection
        .execute(
            "DELETE FROM waypoint WHERE seq = (SELECT min(seq) FROM waypoint)",
            [],
        )
        .unwrap();
    assert!(first_sparse_path(&journal.connection).is_some());
}
