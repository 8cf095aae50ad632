//! Readers beside the writer: neither waits for the other, and the log stays bounded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::scratch::*;
use crate::image_txn::ImageTxn;
use crate::journal::log::LOG_BYTES_KEPT;
use crate::journal::{Durability, Journal, ReadLimit};
use crate::number::Seq;

/// Longer than any read of a test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn write_batches(journal: &mut Journal, batches: u64, text: &str) {
    for _ in 0..batches {
        for _ in 0..50 {
            let zxid = journal.head.0 + 1;
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
        for _ in 0..10 * LOG_BYTES_KEPT / (50 * 100_000) {
            write_batches(&mut journal, 1, &text);
            longest = longest.max(journal.log_bytes());
        }
        done.store(true, Ordering::Relaxed);
        longest
    });
    let bound = 3 * LOG_BYTES_KEPT.cast_unsigned();
    assert!(
        longest < bound,
        "the log grew to {longest} bytes, more than {bound}"
    );
}
