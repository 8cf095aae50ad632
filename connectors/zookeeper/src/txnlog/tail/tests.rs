//! Logs that are written, cut, replaced and removed while they are read.

use std::io::Write;

use bridge_transactions::testing;

use super::*;

const NONE: [i64; 0] = [];

/// A folder that a test writes as a server does.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        Home { folder }
    }

    fn path(&self, first: i64) -> PathBuf {
        self.folder.path().join(format!("log.{first:x}"))
    }

    fn append(&self, first: i64, bytes: &[u8]) {
        let file = File::options().create(true).append(true).open(self.path(first));
        file.unwrap().write_all(bytes).unwrap();
    }

    fn tail(&self, after: i64) -> LogTail {
        LogTail::new(LogFolder::new(self.folder.path()), after)
    }
}

fn log(zxids: std::ops::RangeInclusive<i64>) -> Vec<u8> {
    let transactions: Vec<Transaction> = zxids.map(|zxid| testing::a_create(zxid, "/a")).collect();
    testing::log_file(&transactions)
}

fn record(zxid: i64) -> Vec<u8> {
    testing::record(&testing::payload(&testing::a_create(zxid, "/a")))
}

fn zxids(tail: &mut LogTail) -> Vec<i64> {
    let transactions = tail.poll().unwrap();
    transactions.iter().map(|transaction| transaction.zxid).collect()
}

#[test]
fn a_record_is_returned_once_all_its_bytes_are_there_and_the_file_before_the_next() {
    let home = Home::new();
    let mut tail = home.tail(0);
    assert_eq!(zxids(&mut tail), NONE);
    home.append(1, b"ZKLG\0\0");
    assert_eq!(zxids(&mut tail), NONE);
    home.append(1, &testing::log_header()[6..]);
    for zxid in 1..=3 {
        let record = record(zxid);
        for byte in &record[..record.len() - 1] {
            home.append(1, &[*byte]);
            assert_eq!(zxids(&mut tail), NONE);
        }
        assert_eq!(tail.obstacle().map(|obstacle| obstacle.fault), Some(None));
        home.append(1, &record[record.len() - 1..]);
        assert_eq!(zxids(&mut tail), [zxid]);
    }
    assert_eq!((tail.obstacle(), tail.position()), (None, 3));
    home.append(1, &record(4));
    home.append(5, &log(5..=6));
    assert_eq!(zxids(&mut tail), [4]);
    assert_eq!(zxids(&mut tail), [5, 6]);
    assert_eq!(zxids(&mut tail), NONE);
}

#[test]
fn a_tail_begins_after_any_zxid_and_finds_the_file_by_its_name() {
    let home = Home::new();
    for first in [1, 11, 21] {
        home.append(first, &log(first..=first + 9));
    }
    for after in 0..30 {
        let mut tail = home.tail(after);
        let mut all = Vec::new();
        loop {
            match zxids(&mut tail) {
                none if none.is_empty() => break,
                some => all.extend(some),
            }
        }
        assert_eq!(all, (after + 1..=30).collect::<Vec<i64>>(), "after {after}");
    }
}

#[test]
fn zeros_after_the_records_are_overwritten_by_the_next_ones() {
    let home = Home::new();
    let mut bytes = log(1..=2);
    let end = bytes.len();
    bytes.resize(end + 300_000, 0);
    home.append(1, &bytes);
    let mut tail = home.tail(0);
    assert_eq!(zxids(&mut tail), [1, 2]);
    let file = File::options().write(true).open(home.path(1)).unwrap();
    let next = [record(3), record(4)].concat();
    let flushed = next.len() - 20;
    file.write_all_at(&next[..flushed], end as u64).unwrap();
    assert_eq!(zxids(&mut tail), [3]);
    assert!(matches!(
        tail.obstacle(),
        Some(Obstacle {
            fault: Some(BadFrame::End { .. }),
            ..
        })
    ));
    file.write_all_at(&next[flushed..], (end + flushed) as u64)
        .unwrap();
    assert_eq!(zxids(&mut tail), [4]);
}

#[test]
fn a_part_of_a_record_at_the_end_of_a_log_is_passed_once_there_is_a_later_log() {
    let home = Home::new();
    home.append(1, &log(1..=2));
    home.append(1, &record(3)[..30]);
    let mut tail = home.tail(0);
    assert_eq!(zxids(&mut tail), [1, 2]);
    assert_eq!(zxids(&mut tail), NONE);
    home.append(3, &log(3..=4));
    assert_eq!(zxids(&mut tail), [3, 4]);
    assert_eq!(tail.obstacle(), None);
}

#[test]
fn a_log_that_was_cut_replaced_or_removed_at_its_end_is_an_error_and_never_read_on() {
    let check = |change: &dyn Fn(&Home)| {
        let home = Home::new();
        home.append(1, &log(1..=3));
        let mut tail = home.tail(0);
        assert_eq!(zxids(&mut tail), [1, 2, 3]);
        change(&home);
        for _ in 0..2 {
            let error = tail.poll().expect_err("the file has changed").to_string();
            assert!(
                error.contains("was cut, replaced or removed, and byte"),
                "{error}"
            );
        }
        assert_eq!(tail.position(), 3);
    };
    check(&|home| {
        let file = File::options().write(true).open(home.path(1)).unwrap();
        file.set_len(log(1..=2).len() as u64).unwrap();
    });
    check(&|home| {
        // Another history of the same length.
        let mut bytes = log(1..=2);
        bytes.extend(testing::record(&testing::payload(&testing::a_create(3, "/b"))));
        std::fs::write(home.path(1), bytes).unwrap();
    });
    check(&|home| {
        let other = home.folder.path().join("new");
        std::fs::write(&other, log(1..=3)).unwrap();
        std::fs::rename(other, home.path(1)).unwrap();
    });
    check(&|home| std::fs::remove_file(home.path(1)).unwrap());
}

#[test]
fn a_log_that_a_purge_removed_while_it_was_read_is_read_to_its_end() {
    let home = Home::new();
    home.append(1, &log(1..=2));
    let mut tail = home.tail(0);
    assert_eq!(zxids(&mut tail), [1, 2]);
    home.append(1, &record(3));
    home.append(4, &log(4..=4));
    std::fs::remove_file(home.path(1)).unwrap();
    assert_eq!(zxids(&mut tail), [3]);
    assert_eq!(zxids(&mut tail), [4]);
}

#[test]
fn transactions_before_a_record_that_is_none_are_returned_before_the_error() {
    let home = Home::new();
    home.append(1, &log(1..=2));
    home.append(1, &testing::record(b"nothing that is known"));
    let mut tail = home.tail(0);
    assert_eq!(zxids(&mut tail), [1, 2]);
    for _ in 0..2 {
        let error = tail.poll().expect_err("the record is none").to_string();
        assert!(error.contains("log.1: the record at byte"), "{error}");
    }
    home.append(5, b"#!/bin/sh");
    let foreign = home.tail(4).poll().expect_err("the file is foreign").to_string();
    assert!(foreign.contains("log.5: is not a transaction log"), "{foreign}");
}

#[test]
fn many_large_transactions_come_in_several_batches() {
    let home = Home::new();
    let large = |zxid| {
        let operation = bridge_transactions::transaction::Operation::SetData {
            path: "/a".to_owned(),
            data: Some(vec![7; 1 << 20]),
            version: 1,
        };
        testing::transaction(zxid, operation, None)
    };
    let all: Vec<Transaction> = (1..=20).map(large).collect();
    home.append(1, &testing::log_file(&all));
    let mut tail = home.tail(0);
    let batches = [zxids(&mut tail), zxids(&mut tail), zxids(&mut tail)];
    assert_eq!(batches.map(|batch| batch.len()), [8, 8, 4]);
}

#[test]
fn a_log_that_was_removed_before_a_later_epoch_or_a_hole_is_an_error_and_never_read_on() {
    const SECOND: i64 = 2 << 32;
    let check = |next: i64, is_known: bool, expected: Option<i64>| {
        let home = Home::new();
        home.append(1, &log(1..=3));
        let mut tail = home.tail(0);
        if is_known {
            home.append(next, &log(next..=next));
        }
        assert_eq!(zxids(&mut tail), [1, 2, 3]);
        std::fs::remove_file(home.path(1)).unwrap();
        if !is_known {
            home.append(next, &log(next..=next));
        }
        let Some(zxid) = expected else {
            for _ in 0..2 {
                let error = tail.poll().expect_err("the log was taken back").to_string();
                assert!(
                    error.contains("log.1: was cut, replaced or removed, and byte"),
                    "{error}"
                );
            }
            assert_eq!(tail.position(), 3);
            return;
        };
        assert_eq!(zxids(&mut tail), [zxid]);
    };
    // A new leader took back the log, and has written its own before the next look.
    check(SECOND + 1, false, None);
    check(5, false, None);
    // A purge: the log has a successor of its epoch, or one that was there beside it.
    check(4, false, Some(4));
    check(3, false, None);
    check(SECOND + 1, true, Some(SECOND + 1));
    check(5, true, Some(5));
}

#[test]
fn a_log_that_was_replaced_before_a_record_of_it_was_read_is_an_error() {
    let home = Home::new();
    home.append(1, &testing::log_header());
    let mut tail = home.tail(0);
    assert_eq!(zxids(&mut tail), NONE);
    let other = home.folder.path().join("new");
    std::fs::write(&other, log(1..=1)).unwrap();
    std::fs::rename(other, home.path(1)).unwrap();
    let error = tail.poll().expect_err("it is another file").to_string();
    assert!(
        error.contains("was cut, replaced or removed, and byte"),
        "{error}"
    );
}
