//! The costs of a change on its way from an event to the bytes that a sink sends: allocations, and requests to
//! ZooKeeper. Counts are the same on every machine, so they show a change that makes the bridge slower even if times
//! vary.
//!
//! A count beyond its bound is not forbidden: measure what it costs with `make bench`, say it in the commit, and raise
//! the bound.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

mod ensemble;

use std::alloc::System;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bridge_core::capture::{Capture, CaptureOptions, CaptureState, EventKind};
use bridge_core::format::{Body, Format};
use bridge_core::journal::{Journal, JournalOptions, ReadLimit, Reader};
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::pipeline::Flow;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use ensemble::Ensemble;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Tests of one program run side by side, and would count each other's allocations.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocations of something, growing included.
fn allocations<T>(count: &mut usize, work: impl FnOnce() -> T) -> T {
    let region = Region::new(ALLOCATOR);
    let done = work();
    let change = region.change();
    *count += change.allocations + change.reallocations;
    done
}

/// Counts with their bounds: all are looked at before the first is held against its bound.
#[derive(Default)]
struct Account {
    over: Vec<String>,
}

impl Account {
    fn check(&mut self, what: &str, counted: f64, bound: f64) {
        println!("{what}: {counted:.2} of {bound}");
        if counted > bound {
            self.over.push(format!("{what}: {counted:.2}, more than {bound}"));
        }
        if counted * 2.0 < bound {
            self.over.push(format!(
                "{what}: only {counted:.2}, so a bound of {bound} guards little: lower it"
            ));
        }
    }

    fn close(self) {
        assert!(
            self.over.is_empty(),
            "{}\nIf it has to cost more, measure how much with `make bench`, say it in the commit, and raise the bound",
            self.over.join("\n")
        );
    }
}

fn flow(file: &Path) -> Flow<Journal> {
    let journal = Journal::open(file, &JournalOptions::new("main")).unwrap();
    let mut options = CaptureOptions::new("main", vec![ZnodePath::parse("/a").unwrap()]);
    options.sample_every = None;
    Flow::new(Box::new(Capture::new(options)), journal, 1)
}

const ZNODES: usize = 2_000;
const ROUNDS: usize = 50;
/// As the pipeline finds them waiting under load.
const EVENTS_AT_ONCE: usize = 100;
/// As a worker reads.
const AT_ONCE: ReadLimit = ReadLimit {
    records: 500,
    bytes: 4 << 20,
};

#[test]
fn a_change_takes_few_allocations_from_its_event_to_the_bytes_that_are_sent() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.journal");
    let mut flow = flow(&file);
    let mut worker = flow.journal().reader_for("one").unwrap();
    let mut ensemble = Ensemble::new(ZNODES);
    let mut warm_up = 0;
    ensemble.walk(&mut flow, &mut warm_up);
    flow.commit().unwrap();
    assert_eq!(flow.machine().state(), CaptureState::Live);

    let begin = flow.journal().tail();
    let (mut capturing, mut handing, mut handed) = (0, 0, Vec::new());
    for round in 0..ROUNDS {
        let znodes = (0..EVENTS_AT_ONCE).map(|at| (round * EVENTS_AT_ONCE + at) % ZNODES);
        ensemble.set(znodes);
        ensemble.send(&mut flow, EventKind::Changed, &mut capturing);
        let tail = flow.journal().tail();
        allocations(&mut capturing, || flow.commit()).unwrap();
        // The worker keeps them until it has delivered them.
        if let Some(records) = allocations(&mut handing, || worker.cached(tail, AT_ONCE)) {
            handed.push(records);
        }
    }
    let changes = flow.journal().tail().0 - begin.0;
    assert_eq!(
        changes as usize,
        ROUNDS * EVENTS_AT_ONCE,
        "every version was read"
    );
    let each = |count: usize| count as f64 / changes as f64;
    let mut account = Account::default();
    account.check(
        "allocations to capture and journal a change",
        each(capturing),
        14.0,
    );
    let records: Vec<_> = handed.into_iter().flatten().collect();
    assert_eq!(
        records.len(),
        changes as usize,
        "every record was handed over in memory, with the value before it"
    );
    account.check("allocations to take a record from memory", each(handing), 1.1);

    let mut reader = Reader::open(&file).unwrap();
    let (mut after, mut reading, mut encoding) = (begin, 0, 0);
    while after < flow.journal().tail() {
        let records = allocations(&mut reading, || reader.read(after, AT_ONCE)).unwrap();
        for record in &records {
            let body = allocations(&mut encoding, || Format::Record.encode(record)).body;
            assert!(matches!(body, Body::Bytes(bytes) if bytes.len() > 200));
        }
        after = records.last().map_or(Seq(u64::MAX), |record| record.seq);
    }
    account.check(
        "allocations to read a record from the journal",
        each(reading),
        6.0,
    );
    account.check("allocations to encode a record", each(encoding), 3.0);
    account.close();
}

#[test]
fn a_walk_takes_few_requests() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.journal");
    let mut ensemble = Ensemble::new(ZNODES);
    let mut first = flow(&file);
    let mut allocated = 0;
    ensemble.walk(&mut first, &mut allocated);
    first.commit().unwrap();
    let mut account = Account::default();
    account.check(
        "requests for a first walk of 2,000 znodes",
        ensemble.requests() as f64,
        45.0,
    );
    let each = allocated as f64 / ZNODES as f64;
    account.check("allocations to list a znode", each, 18.0);

    drop(first);
    let mut again = flow(&file);
    let mut allocated = 0;
    ensemble.walk(&mut again, &mut allocated);
    account.check(
        "requests for a walk of 2,000 znodes of known sizes",
        ensemble.requests() as f64,
        6.0,
    );
    let each = allocated as f64 / ZNODES as f64;
    // 0.4 of it is the sample of known znodes that a new session reads first.
    account.check("allocations to compare a znode", each, 11.0);
    account.close();
    let tail = again.commit().unwrap().unwrap();
    let records = ZNODES as u64 + 3;
    assert_eq!(
        tail.0,
        records + 2,
        "a comparison of the same writes a gap and nothing else"
    );
}
