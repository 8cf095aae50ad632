//! Comparisons with a stage that are cut, and heartbeats between transactions.

use std::time::Duration;

use super::bench::{Bench, options};
use super::machine::{filled, ops};
use super::tree::*;
use crate::capture::SnapshotMode;
use crate::committed::*;
use crate::image_txn::ImageTxn;
use crate::journal::JournalWriter;
use crate::machine::{CaptureState, SourceMachine, StepError};
use crate::number::Zxid;
use crate::record::{GapReason, LifetimeKind::Persistent, Op};
use crate::source::{Input, SourceRequest};

/// Takes a snapshot until a root is compared, so that the next page is of the second one.
fn cut_after_the_first_root(bench: &mut Bench) {
    let pages = bench.digest_pages();
    let root = path("/a");
    let nodes = bench.server.tree.nodes.keys().filter(|at| at.starts_with(&*root));
    let of_first = nodes.count().div_ceil(bench.options.stage_nodes).max(1);
    bench.connect();
    bench.snapshot(pages + of_first).unwrap();
    assert_eq!(bench.machine.state(), CaptureState::Walking);
}

#[test]
fn a_first_listing_that_is_cut_between_its_roots_ends_at_one_zxid_for_all() {
    let mut bench = filled();
    cut_after_the_first_root(&mut bench);
    let part = bench.new_records();
    let begins = part.iter().filter(|record| record.op == Op::SnapshotBegin);
    assert_eq!(begins.count(), 2, "both roots were begun: {part:?}");
    assert!(part.iter().all(|record| record.op != Op::SnapshotEnd), "{part:?}");

    bench.crash();
    bench.server.one(&Ask::Set("/a/1", "w"));
    bench.server.one(&Ask::Create("/b", "", Persistent));
    bench.connect();
    assert_eq!(bench.resumed, None, "the image is at no position");
    bench.snapshot(usize::MAX).unwrap();
    let records = bench.new_records();
    let ends: Vec<_> = records
        .iter()
        .filter(|record| record.op == Op::SnapshotEnd)
        .collect();
    assert_eq!(ends.len(), 2);
    let last = Some(bench.server.last());
    assert!(ends.iter().all(|end| end.zxid == last), "{ends:?}");
    assert!(records.iter().all(|record| record.gap.is_none()), "{records:?}");
    assert_eq!(ends[0].run.as_ref().unwrap().id, part[0].run.as_ref().unwrap().id);
    bench.check_image();
}

#[test]
fn a_gap_that_is_cut_between_its_roots_begins_again_with_the_same_bound_for_all() {
    let mut bench = filled();
    bench.list();
    let from = bench.stored_position().zxid;
    bench.server.one(&Ask::Set("/a/1", "w"));
    bench.crash();
    cut_after_the_first_root(&mut bench);
    let update = (Op::Update, Some("/a/1"));
    assert_eq!(ops(&bench.new_records()), [(Op::GapBegin, None), update]);

    bench.crash();
    bench.server.one(&Ask::Create("/b", "", Persistent));
    bench.connect();
    bench.snapshot(usize::MAX).unwrap();
    let to = bench.server.last();
    let records = bench.new_records();
    let gaps: Vec<_> = records.iter().filter_map(|record| record.gap.as_ref()).collect();
    assert_eq!(gaps.len(), 4);
    for gap in gaps {
        assert_eq!(
            (gap.from_zxid, gap.reason),
            (from, GapReason::Started),
            "{records:?}"
        );
        assert!(gap.to_zxid.is_none_or(|end| end == to), "{records:?}");
    }
    assert_eq!(bench.stored_position().zxid, to);
    bench.check_image();
}

#[test]
fn roots_that_watch_mode_left_at_different_zxids_have_a_gap_after_the_smallest() {
    let mut bench = filled();
    bench.list();
    let smallest = bench.stored_position().zxid;
    bench.server.one(&Ask::Set("/a/1", "w"));
    bench.server.one(&Ask::Create("/b", "", Persistent));
    // As watch mode stores it: one root was reported further, and there is no position.
    bench.journal.set_position(None).unwrap();
    let mut progress = bench.journal.progress(&path("/b")).unwrap();
    progress.reported = Zxid(smallest.0 + 1);
    bench.journal.set_progress(&path("/b"), &progress).unwrap();
    bench.journal.commit().unwrap();
    bench.crash();
    bench.connect();
    bench.snapshot(usize::MAX).unwrap();
    let records = bench.new_records();
    let mut gaps = records.iter().filter_map(|record| record.gap.as_ref());
    assert!(gaps.all(|gap| gap.from_zxid == smallest), "{records:?}");
    bench.check_image();
}

#[test]
fn a_stage_older_than_one_of_which_a_part_is_recorded_is_left_for_another_server() {
    let mut bench = filled();
    bench.list();
    let older = bench.server.last();
    bench.server.one(&Ask::Delete("/a/1"));
    cut_after_the_first_root(&mut bench);
    bench.new_records();
    bench.connect();
    bench.synced(SyncKind::Snapshot).unwrap();
    let step = bench.step(Input::Staged(bench.position(older)));
    assert!(matches!(step, Err(StepError::Lagging(_))), "{step:?}");
    assert_eq!(bench.new_records(), []);
    bench.connect();
    bench.snapshot(usize::MAX).unwrap();
    bench.check_image();
}

#[test]
fn a_stage_with_another_digest_appends_nothing_whichever_root_differs() {
    for changed in ["/a/1", "/c"] {
        let mut bench = filled();
        bench.list();
        bench.server.one(&Ask::Set("/a/2", "w"));
        bench.crash();
        let good = bench.server.tree.clone();
        let node = bench.server.tree.nodes.get_mut(&path(changed)).unwrap();
        node.data = b"another".as_slice().into();
        bench.connect();
        let step = bench.snapshot(usize::MAX);
        assert!(matches!(step, Err(StepError::Unproved(_))), "{changed}: {step:?}");
        assert_eq!(bench.new_records(), [], "{changed}");

        bench.server.tree = good;
        bench.connect();
        assert_eq!(bench.resumed, None);
        bench.snapshot(usize::MAX).unwrap();
        bench.check_image();
    }
}

#[test]
fn a_run_after_a_gap_that_is_cut_keeps_the_position() {
    let mut options = options(&["/a"]);
    options.capture.snapshot = SnapshotMode::Always;
    options.capture.limits.resnapshot_batch = 1;
    let mut bench = Bench::new(options);
    for at in ["/a", "/a/1", "/a/2"] {
        bench.server.one(&Ask::Create(at, "", Persistent));
    }
    bench.list();
    bench.server.one(&Ask::Set("/a/1", "w"));
    bench.crash();
    let pages = bench.digest_pages();
    bench.connect();
    // All pages, and the first step of the run.
    bench.snapshot(pages + 2 + 1).unwrap();
    let records = bench.new_records();
    let last = records.last().unwrap().op;
    assert!(matches!(last, Op::SnapshotBegin | Op::Snapshot), "{records:?}");
    let at = bench.server.last();
    bench.crash();
    bench.server.one(&Ask::Set("/a/2", "w"));
    bench.resume().unwrap();
    assert_eq!(bench.resumed.map(|position| position.zxid), Some(at));
    assert_eq!(ops(&bench.new_records()), [(Op::Update, Some("/a/2"))]);
    bench.check_image();
}

#[test]
fn transactions_without_a_record_do_not_put_a_heartbeat_off() {
    let mut options = options(&["/a"]);
    options.capture.heartbeat_every = Some(Duration::from_secs(3));
    let mut bench = Bench::new(options);
    for at in ["/a", "/c"] {
        bench.server.one(&Ask::Create(at, "", Persistent));
    }
    bench.list();
    for _ in 0..3 {
        let txn = bench.server.one(&Ask::Set("/c", "outside of the root"));
        bench.send(vec![txn]).unwrap();
        bench.step(Input::Tick).unwrap();
    }
    assert_eq!(ops(&bench.new_records()), [(Op::Heartbeat, None)]);
    // A record does.
    for _ in 0..3 {
        let txn = bench.server.one(&Ask::Set("/a", "w"));
        let outcome = bench.send(vec![txn]).unwrap();
        assert_eq!(outcome.requests, Vec::<SourceRequest>::new());
        bench.step(Input::Tick).unwrap();
    }
    assert_eq!(ops(&bench.new_records()), [(Op::Update, Some("/a")); 3]);
}
