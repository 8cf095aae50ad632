//! Readers beside the writer: the writer waits for none of them, and the log stays bounded.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::scratch::*;
use crate::image_txn::ImageTxn;
use crate::journal::open::BUSY;
use crate::journal::wal::WAL_BYTES_KEPT;
use crate::journal::wal_gate::WalGate;
use crate::journal::{Durability, Journal, JournalWriter, Position, ReadLimit};
use crate::number::Seq;

/// Longer than any read of a test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn write_batches(journal: &mut Journal, batches: u64, text: &str) {
    for _ in 0..batches {
        for _ in 0..50 {
            let zxid = journal.log.head.0 + 1;
            let at = format!("/n{}", zxid % 1000);
            let entry = match journal.node(&path(&at)).unwrap() {
                None => created(&at, zxid, text),
                Some(node) => updated(&at, node.czxid.0, zxid, node.version() + 1, text),
            };
            journal.append(entry).unwrap();
        }
        journal.commit().unwrap();
    }
}

#[test]
fn a_reader_follows_the_writer_without_holes_while_it_writes() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let mut reader = scratch.reader();
    let limit = ReadLimit {
        records: 70,
        bytes: usize::MAX,
    };
    let followed = std::thread::scope(|scope| {
        let follower = scope.spawn(move || {
            let (mut after, begun) = (Seq::ZERO, Instant::now());
            while after < Seq(5000) && begun.elapsed() < PATIENCE {
                for record in reader.read(after, limit).unwrap() {
                    assert_eq!(record.seq, after.next());
                    after = record.seq;
                }
            }
            after
        });
        write_batches(&mut journal, 100, "x");
        follower.join().unwrap()
    });
    assert_eq!(followed, Seq(5000));
}

#[test]
fn an_open_read_does_not_hold_up_the_writer_and_sees_one_state() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    write_batches(&mut journal, 1, "x");
    let mut other = rusqlite::Connection::open(scratch.file()).unwrap();
    let snapshot = other.transaction().unwrap();
    let count = || -> i64 {
        snapshot
            .query_row("SELECT count(*) FROM record", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(count(), 50);
    write_batches(&mut journal, 1, "x");
    assert_eq!((count(), journal.tail()), (50, Seq(100)));
}

#[test]
fn readers_that_overlap_without_end_do_not_let_the_log_grow_without_end() {
    let mut scratch = Scratch::new();
    scratch.options.durability = Durability::ProcessCrash;
    let mut journal = scratch.open();
    write_batches(&mut journal, 1, "x");
    let done = AtomicBool::new(false);
    let limit = ReadLimit {
        records: 500,
        bytes: usize::MAX,
    };
    let longest = std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut reader = scratch.reader();
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert!(!reader.read(Seq::ZERO, limit).unwrap().is_empty());
                }
            });
        }
        // Ten times what the log keeps.
        let text = "x".repeat(100_000);
        let mut longest = 0;
        for _ in 0..10 * WAL_BYTES_KEPT / (50 * 100_000) {
            write_batches(&mut journal, 1, &text);
            longest = longest.max(journal.log_bytes());
        }
        done.store(true, Ordering::Relaxed);
        longest
    });
    let bound = 3 * WAL_BYTES_KEPT.cast_unsigned();
    assert!(
        longest < bound,
        "the log grew to {longest} bytes, more than {bound}"
    );
}

/// More than twice the length at which a log is restarted at the latest, in batches of 50 such values.
const LONG_TEXT: usize = 100_000;
const BATCHES_FOR_TWO_LOGS: u64 = 30;

/// Writes beyond the length at which the log is to be restarted, and returns the longest time that one batch took.
fn slowest_batch(journal: &mut Journal) -> Duration {
    let text = "x".repeat(LONG_TEXT);
    let batches = (0..BATCHES_FOR_TWO_LOGS).map(|_| {
        let begun = Instant::now();
        write_batches(journal, 1, &text);
        begun.elapsed()
    });
    batches.max().unwrap()
}

/// Before a batch waited for readers it took all of [`BUSY`], each time.
#[track_caller]
fn assert_no_wait(slowest: Duration) {
    assert!(slowest < BUSY / 2, "a batch took {slowest:?}");
}

fn log_of_two_limits() -> u64 {
    2 * WAL_BYTES_KEPT.cast_unsigned()
}

#[test]
fn a_reader_of_another_process_that_holds_its_transaction_stalls_no_batch_and_the_log_recovers() {
    let mut scratch = Scratch::new();
    scratch.options.durability = Durability::ProcessCrash;
    let mut journal = scratch.open();
    write_batches(&mut journal, 1, "x");
    let mut other = rusqlite::Connection::open(scratch.file()).unwrap();
    let held = other.transaction().unwrap();
    let count = |table: &rusqlite::Connection| -> i64 {
        table
            .query_row("SELECT count(*) FROM record", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(count(&held), 50);
    assert_no_wait(slowest_batch(&mut journal));
    assert!(journal.log_bytes() > log_of_two_limits(), "the log was not held");
    assert_eq!(count(&held), 50, "it sees the state of its beginning");
    // Readers of this process still come through.
    assert_eq!(scratch.reader().tail().unwrap(), journal.tail());

    held.commit().unwrap();
    let begun = Instant::now();
    while journal.log_bytes() > log_of_two_limits() && begun.elapsed() < PATIENCE {
        write_batches(&mut journal, 1, "x");
    }
    assert!(journal.log_bytes() <= log_of_two_limits(), "the log stays long");
}

#[test]
fn a_reader_that_never_pauses_stalls_no_batch() {
    let mut scratch = Scratch::new();
    scratch.options.durability = Durability::ProcessCrash;
    let mut journal = scratch.open();
    write_batches(&mut journal, 1, "x");
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut reader = scratch.reader();
    let slowest = std::thread::scope(|scope| {
        scope.spawn(|| {
            let limit = ReadLimit {
                records: 1000,
                bytes: 4 << 20,
            };
            let mut after = Seq::ZERO;
            while !done.load(Ordering::Relaxed) {
                let records = reader.read(after, limit).unwrap();
                after = records.last().map_or(Seq::ZERO, |record| record.seq);
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        let slowest = slowest_batch(&mut journal);
        // The reader is let in again and again while the log is long.
        let (before, begun) = (reads.load(Ordering::Relaxed), Instant::now());
        while reads.load(Ordering::Relaxed) == before && begun.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        assert!(reads.load(Ordering::Relaxed) > before, "the reader starves");
        done.store(true, Ordering::Relaxed);
        slowest
    });
    assert_no_wait(slowest);
    assert!(journal.log_bytes() < 3 * WAL_BYTES_KEPT.cast_unsigned());
}

#[test]
fn a_backup_from_another_connection_stalls_no_batch_and_is_whole() {
    let mut scratch = Scratch::new();
    scratch.options.durability = Durability::ProcessCrash;
    let mut journal = scratch.open();
    write_batches(&mut journal, 20, &"x".repeat(LONG_TEXT));
    let before = journal.tail();
    let copy = scratch.file().with_file_name("copy.journal");
    let slowest = std::thread::scope(|scope| {
        let backup = scope.spawn(|| {
            let source = rusqlite::Connection::open(scratch.file()).unwrap();
            let to = copy.to_str().unwrap();
            source.execute("VACUUM INTO ?1", [to]).unwrap();
        });
        let slowest = slowest_batch(&mut journal);
        backup.join().unwrap();
        slowest
    });
    assert_no_wait(slowest);
    let mut copied = crate::journal::Reader::open(&copy).unwrap();
    assert!(copied.tail().unwrap() >= before);
    assert_eq!(copied.inspect(|_| {}).unwrap().total, 0);
}

#[test]
fn a_long_log_keeps_readers_out_until_it_is_restarted() {
    let mut scratch = Scratch::new();
    scratch.options.durability = Durability::ProcessCrash;
    let mut journal = scratch.open();
    write_batches(&mut journal, 1, "x");
    let gate = WalGate::of(&scratch.file(), |_| Ok(())).unwrap();
    let mut reader = rusqlite::Connection::open(scratch.file()).unwrap();
    let inside = gate.admit();
    let transaction = reader.transaction().unwrap();
    transaction
        .query_row("SELECT count(*) FROM record", [], |_| Ok(()))
        .unwrap();
    let text = "x".repeat(LONG_TEXT);
    let long = WAL_BYTES_KEPT.cast_unsigned();
    let mut was_closed = false;
    while journal.log_bytes() < long * 3 / 2 {
        write_batches(&mut journal, 1, &text);
        // A log that SQLite itself makes longer, begins anew or cuts is not one that was cut off.
        journal.verify_place().unwrap();
        let is_closed = gate.is_closed(Instant::now());
        assert!(journal.log_bytes() > long || !is_closed, "closed for a short log");
        was_closed |= is_closed;
    }
    assert!(was_closed, "open for a long log");
    transaction.commit().unwrap();
    drop(inside);
    let begun = Instant::now();
    while journal.log_bytes() > long && begun.elapsed() < PATIENCE {
        write_batches(&mut journal, 1, "x");
        journal.verify_place().unwrap();
    }
    assert!(
        !gate.is_closed(Instant::now()),
        "closed for a log that was restarted"
    );
}

#[test]
fn a_read_that_is_split_into_many_transactions_gives_the_same() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    write_batches(&mut journal, 60, "some text");
    let (mut whole, mut split) = (scratch.reader(), scratch.reader());
    split.slice_finely();
    for limit in [
        ALL,
        ReadLimit {
            records: 70,
            bytes: usize::MAX,
        },
        ReadLimit {
            records: 9999,
            bytes: 50_000,
        },
    ] {
        for after in [Seq::ZERO, Seq(1), Seq(2950), Seq(3000)] {
            assert_eq!(
                split.read(after, limit).unwrap(),
                whole.read(after, limit).unwrap()
            );
        }
    }
    let at = path("/n7");
    let history = whole.history(&at, None, 999).unwrap();
    assert!(history.as_ref().is_some_and(|history| history.records.len() == 3));
    assert_eq!(split.history(&at, None, 999).unwrap(), history);
    assert_eq!(
        split.history(&at, None, 2).unwrap(),
        whole.history(&at, None, 2).unwrap()
    );
    assert_eq!(split.history(&path("/none"), None, 2).unwrap(), None);
    for zxid in [0, 1, 2999, 3000, 3001] {
        let position = Position::Zxid(crate::number::Zxid(zxid));
        assert_eq!(
            split.first_at(position).unwrap(),
            whole.first_at(position).unwrap()
        );
    }
}
