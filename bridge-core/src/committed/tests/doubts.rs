//! A position that the image has left, and what a server sends that contradicts the image or itself.

use std::path::Path;

use super::bench::Bench;
use super::machine::filled;
use super::tree::*;
use crate::capture::Capture;
use crate::committed::*;
use crate::image_txn::ImageTxn;
use crate::journal::{JournalError, JournalErrorKind, JournalWriter};
use crate::machine::{SourceMachine, StepError};
use crate::number::Zxid;
use crate::record::LifetimeKind::{Ephemeral, Persistent};
use crate::record::{GapReason, Timestamp};
use crate::source::{Input, SessionFate, SourceRequest};

#[test]
fn a_journal_that_watch_mode_began_to_compare_is_resumed_from_no_position() {
    let mut bench = filled();
    bench.list();
    let from = bench.stored_position().zxid;
    let mut watch = Capture::new(bench.options.capture.clone());
    let session = SessionFate::New;
    for input in [Input::Connected { session }, Input::Armed] {
        watch.step(Timestamp(1), input, &mut bench.journal).unwrap();
    }
    bench.journal.commit().unwrap();
    bench.server.one(&Ask::Set("/a/1", "w"));
    bench.crash();
    bench.connect();
    assert_eq!(bench.resumed, None);
    bench.snapshot(usize::MAX).unwrap();
    let records = bench.new_records();
    let gap = records[0].gap.as_ref().unwrap();
    assert_eq!((gap.from_zxid, gap.reason), (from, GapReason::Mode));
    bench.check_image();
}

#[test]
fn a_transaction_that_the_image_is_newer_than_is_refused() {
    let mut bench = filled();
    bench.list();
    let before = bench.stored_position();
    let txns: Vec<_> = ["/a/1", "/a/2"]
        .map(|at| bench.server.one(&Ask::Set(at, "w")))
        .into();
    bench.send(txns.clone()).unwrap();
    bench.new_records();
    bench.journal.set_position(Some(&before)).unwrap();
    bench.journal.commit().unwrap();
    bench.crash();
    bench.connect();
    bench.synced(SyncKind::Diff).unwrap();
    let Err(StepError::Unproved(evidence)) = bench.send(txns) else {
        panic!("the image has them already");
    };
    assert!(evidence.contains("already"), "{evidence}");
    assert_eq!(bench.new_records(), []);
}

#[test]
fn a_stage_with_a_znode_that_is_newer_than_itself_is_refused() {
    let mut bench = filled();
    let mut options = bench.options.clone();
    options.proof = ProofMode::Sequence;
    bench.start_with(options);
    let newer = Zxid(bench.server.last().0 + 1);
    let node = bench.server.tree.nodes.get_mut(&path("/a/1")).unwrap();
    node.raw.mzxid = newer;
    bench.connect();
    let Err(StepError::Unproved(evidence)) = bench.snapshot(usize::MAX) else {
        panic!("the stage contradicts itself");
    };
    assert!(evidence.contains(&newer.to_string()), "{evidence}");
}

#[test]
fn children_of_zookeepers_own_znode_come_and_go_without_a_gap() {
    let mut bench = filled();
    bench.list();
    let asks = [
        Ask::Create("/zookeeper/mine", "", Persistent),
        Ask::Set("/zookeeper/mine", "x"),
        Ask::Create("/zookeeper/mine/deep", "", Persistent),
        Ask::Delete("/zookeeper/mine/deep"),
        Ask::Delete("/zookeeper/mine"),
        Ask::Create("/zookeeper/e", "", Ephemeral),
    ];
    let mut txns: Vec<_> = asks.iter().map(|ask| bench.server.one(ask)).collect();
    let paths = Some(vec![path("/zookeeper/e")]);
    let end = bench.server.txn(7, TxnContent::CloseSession { paths });
    txns.push(bench.server.commit(end));
    for txn in txns {
        let zxid = txn.zxid;
        bench.send(vec![txn]).unwrap();
        let digest = bench.server.tree_at(zxid).digest();
        assert_eq!(bench.stored_position().digest, Some(digest), "{zxid}");
    }
    assert_eq!(bench.new_records(), []);
}

#[test]
fn a_comparison_whose_end_is_rolled_back_is_asked_for_again() {
    for begins_in_the_journal in [true, false] {
        let mut bench = filled();
        bench.list();
        let mut options = bench.options.clone();
        options.capture.accept_baseline = true;
        bench.start_with(options);
        bench.server.one(&Ask::Set("/a/1", "w"));
        bench.connect();
        bench.synced(SyncKind::Snapshot).unwrap();
        let mut input = Input::Staged(bench.position(bench.server.last()));
        loop {
            let step = bench.machine.step(Timestamp(1), input, &mut bench.journal);
            let outcome = step.unwrap();
            if begins_in_the_journal && outcome.requests != [SourceRequest::Follow] {
                bench.commit();
            }
            input = match &outcome.requests[..] {
                [SourceRequest::Follow] => break,
                [SourceRequest::ReadStage { ticket, read }] => Input::StagePage {
                    ticket: *ticket,
                    page: bench.server.tree.page(read),
                },
                _ => Input::Continue,
            };
        }
        let error = JournalError::new(JournalErrorKind::DiskFull, Path::new("main.journal"), "no room");
        bench.roll_back(&StepError::Journal(error));
        bench.connect();
        assert_eq!(bench.resumed, None);
        bench.new_records();
        bench.snapshot(usize::MAX).unwrap();
        assert_eq!(bench.stored_position().zxid, bench.server.last());
        let records = bench.new_records();
        let mut gaps = records.iter().filter_map(|record| record.gap.as_ref());
        assert!(
            gaps.clone().count() > 0 && gaps.all(|gap| gap.reason == GapReason::Rebaselined),
            "{records:?}"
        );
        bench.check_image();
    }
}

/// A connection to a leader with digests of another charset than UTF-8, and a znode whose path shows it.
fn in_other_charset(proof: ProofMode) -> Bench {
    let mut bench = filled();
    let mut options = bench.options.clone();
    options.proof = proof;
    bench.start_with(options);
    bench.is_of_other_charset = true;
    bench.server.one(&Ask::Create("/a/ä", "", Persistent));
    bench.list();
    bench
}

#[test]
fn digests_of_another_charset_prove_what_touches_paths_of_ascii_also_after_a_restart() {
    for proof in [ProofMode::Tree, ProofMode::Roots] {
        let mut bench = in_other_charset(proof);
        let counts = |bench: &Bench| {
            let proof = bench.machine.history().unwrap().proof;
            (proof.checked, proof.unproven, proof.suspended.is_some())
        };
        let asks = [
            Ask::Set("/a/1", "w"),
            Ask::Set("/a/ä", "w"),
            Ask::Create("/a/ö", "", Persistent),
            Ask::Delete("/a/ä"),
            Ask::Set("/a/1", "x"),
        ];
        let expected = [
            (1, 0, false),
            (1, 1, true),
            (1, 2, true),
            (1, 3, true),
            (2, 3, false),
        ];
        for (ask, expected) in asks.iter().zip(expected) {
            let txn = bench.one_in_charset(ask);
            bench.send(vec![txn]).unwrap();
            assert_eq!(counts(&bench), expected, "{proof:?} {ask:?}");
        }
        bench.crash();
        bench.resume().unwrap();
        let txn = bench.one_in_charset(&Ask::Set("/a/1", "y"));
        bench.send(vec![txn]).unwrap();
        assert_eq!(counts(&bench), (1, 0, false));
        bench.check_image();
        let records = bench.new_records();
        assert!(records.iter().all(|record| record.gap.is_none()), "{records:?}");
    }
}

#[test]
fn a_digest_of_another_charset_that_is_wrong_is_a_mismatch_and_so_is_one_of_a_leader_with_utf_8() {
    for proof in [ProofMode::Tree, ProofMode::Roots] {
        let mut bench = in_other_charset(proof);
        let mut txn = bench.one_in_charset(&Ask::Set("/a/1", "w"));
        txn.digest = txn.digest.map(|digest| TreeDigestValue {
            value: digest.value ^ 1,
            ..digest
        });
        let step = bench.send(vec![txn]);
        assert!(matches!(step, Err(StepError::Unproved(_))), "{step:?}");

        let mut bench = in_other_charset(proof);
        bench.server.elect();
        bench.is_of_other_charset = false;
        bench.resume().unwrap();
        let txn = bench.one_in_charset(&Ask::Set("/a/1", "w"));
        let step = bench.send(vec![txn]);
        assert!(matches!(step, Err(StepError::Unproved(_))), "{step:?}");
        // The comparison shows the charset.
        bench.list();
        assert!(!bench.stored_position().is_of_other_charset);
        let txn = bench.one_in_charset(&Ask::Set("/a/ä", "w"));
        bench.send(vec![txn]).unwrap();
        bench.check_image();
    }
}
