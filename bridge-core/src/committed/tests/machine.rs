//! The states of the machine: listings, restarts, gaps, other histories.

use super::bench::{Bench, options};
use super::tree::*;
use crate::capture::SnapshotMode;
use crate::committed::*;
use crate::image_txn::ImageTxn;
use crate::journal::JournalWriter;
use crate::machine::{CaptureState, SourceMachine, StepError};
use crate::number::{SessionId, Zxid};
use crate::record::{Fidelity, GapReason, LifetimeKind::Persistent, Op, Record, ZxidKind};
use crate::source::{Input, SourceRequest};

pub(super) fn filled() -> Bench {
    let mut bench = Bench::new(options(&["/a", "/b"]));
    for at in ["/a", "/a/1", "/a/2", "/a/2/x", "/c"] {
        bench.server.one(&Ask::Create(at, "v", Persistent));
    }
    bench
}

pub(super) fn ops(records: &[std::sync::Arc<Record>]) -> Vec<(Op, Option<&str>)> {
    records
        .iter()
        .map(|record| (record.op, record.path.as_deref()))
        .collect()
}

#[test]
fn a_first_listing_is_the_tree_at_one_zxid_for_every_root() {
    let mut bench = filled();
    bench.connect();
    assert_eq!(bench.resumed, None);
    bench.snapshot(usize::MAX).unwrap();
    let records = bench.new_records();
    let expected = [
        (Op::SnapshotBegin, None),
        (Op::Snapshot, Some("/a")),
        (Op::Snapshot, Some("/a/1")),
        (Op::Snapshot, Some("/a/2")),
        (Op::Snapshot, Some("/a/2/x")),
        (Op::SnapshotBegin, None),
        (Op::SnapshotEnd, None),
        (Op::SnapshotEnd, None),
    ];
    assert_eq!(ops(&records), expected);
    for record in records.iter().filter(|record| record.op == Op::SnapshotEnd) {
        let expected = (Some(bench.server.last()), ZxidKind::Exact);
        assert_eq!((record.zxid, record.zxid_kind), expected);
        assert_eq!(record.run.as_ref().unwrap().unreadable, Some(0));
    }
    assert!(records[1].lifetime.is_some() && records[1].acl.is_some());
    assert_eq!(bench.machine.state(), CaptureState::Live);
    assert_eq!(bench.machine.reported(), Some(bench.server.last()));
    bench.check_image();
}

#[test]
fn a_restart_within_the_history_writes_nothing_but_what_it_missed() {
    let mut bench = filled();
    bench.list();
    for crash in [false, true] {
        bench.server.one(&Ask::Set("/a/1", "w"));
        if crash {
            bench.crash();
        }
        bench.server.elect();
        bench.server.one(&Ask::Set("/a/1", "w"));
        bench.resume().unwrap();
        let update = (Op::Update, Some("/a/1"));
        assert_eq!(ops(&bench.new_records()), [update, update]);
        bench.check_image();
    }
}

#[test]
fn a_snapshot_after_an_absence_is_a_gap_of_all_roots_with_the_same_bounds() {
    let mut bench = filled();
    bench.list();
    let from = bench.stored_position().zxid;
    bench.server.one(&Ask::Set("/a/1", "w"));
    bench.server.one(&Ask::Delete("/a/2/x"));
    bench.server.one(&Ask::Delete("/a/2"));
    bench.server.one(&Ask::Create("/b", "", Persistent));
    bench.crash();
    bench.connect();
    assert_eq!(bench.resumed.map(|position| position.zxid), Some(from));
    bench.snapshot(usize::MAX).unwrap();
    let to = bench.server.last();
    let records = bench.new_records();
    let expected = [
        (Op::GapBegin, None),
        (Op::Delete, Some("/a/2/x")),
        (Op::Delete, Some("/a/2")),
        (Op::Update, Some("/a/1")),
        (Op::GapBegin, None),
        (Op::Create, Some("/b")),
        (Op::GapEnd, None),
        (Op::GapEnd, None),
    ];
    assert_eq!(ops(&records), expected);
    for record in &records {
        match &record.gap {
            Some(gap) => {
                assert_eq!((gap.from_zxid, gap.reason), (from, GapReason::Started));
                assert_eq!(gap.to_zxid, (record.op == Op::GapEnd).then_some(to));
            }
            None => assert_eq!((record.fidelity, &record.txn), (Fidelity::Reconciled, &None)),
        }
    }
    bench.check_image();
}

#[test]
fn a_comparison_that_is_cut_begins_again_with_the_same_bound() {
    let mut bench = filled();
    bench.list();
    let from = bench.stored_position().zxid;
    bench.server.one(&Ask::Set("/a", "w"));
    bench.server.one(&Ask::Set("/a/2/x", "w"));
    bench.crash();
    bench.connect();
    bench.snapshot(bench.digest_pages() + 1).unwrap();
    assert_eq!(
        ops(&bench.new_records()),
        [(Op::GapBegin, None), (Op::Update, Some("/a"))]
    );

    bench.server.one(&Ask::Set("/a/2/x", "w"));
    bench.crash();
    bench.connect();
    assert_eq!(bench.resumed, None, "the image is at no position");
    bench.snapshot(usize::MAX).unwrap();
    let records = bench.new_records();
    let bounds = records.iter().filter_map(|record| record.gap.as_ref());
    assert!(bounds.clone().all(|gap| gap.from_zxid == from), "{records:?}");
    assert_eq!(
        ops(&records)[..2],
        [(Op::GapBegin, None), (Op::Update, Some("/a/2/x"))]
    );
    bench.check_image();
}

#[test]
fn a_hole_is_compared_with_a_snapshot_in_a_gap_that_says_so() {
    let mut bench = filled();
    bench.list();
    bench.server.one(&Ask::Set("/a/1", "lost"));
    let after = bench.server.one(&Ask::Set("/a/1", "w"));
    let step = bench.send(vec![after]);
    assert!(matches!(step, Err(StepError::Unproved(_))), "{step:?}");
    assert_eq!(bench.new_records(), []);
    bench.connect();
    assert_eq!(bench.resumed, None, "a snapshot is requested");
    bench.snapshot(usize::MAX).unwrap();
    let records = bench.new_records();
    assert_eq!(records[0].gap.as_ref().unwrap().reason, GapReason::Unproved);
    assert_eq!(records[1].missed, Some(1));
    bench.check_image();
    bench.server.one(&Ask::Set("/a/1", "x"));
    bench.resume().unwrap();
    assert_eq!(ops(&bench.new_records()), [(Op::Update, Some("/a/1"))]);
}

#[test]
fn transactions_of_an_earlier_epoch_are_recorded_only_once_they_are_known_to_be_committed() {
    let mut bench = filled();
    bench.list();
    let mut dead = bench.server.clone();
    let dead = dead.one(&Ask::Set("/a/1", "never committed"));
    bench.server.elect();
    let first = bench.server.one(&Ask::Create("/a/3", "", Persistent));

    // From a log that has the proposal, and after it a hole.
    bench.connect();
    bench.synced(SyncKind::Diff).unwrap();
    bench.send(vec![dead.clone()]).unwrap();
    assert_eq!(bench.machine.waiting(), 1);
    let second = bench.server.one(&Ask::Set("/a/3", "w"));
    let step = bench.send(vec![second]);
    assert!(matches!(step, Err(StepError::Unproved(_))), "{step:?}");
    assert_eq!(bench.new_records(), []);

    bench.connect();
    bench.snapshot(usize::MAX).unwrap();
    let records = bench.new_records();
    assert!(
        records
            .iter()
            .all(|record| record.path.as_deref() != Some("/a/1")),
        "{records:?}"
    );
    assert!(first.zxid < bench.stored_position().zxid);
    bench.check_image();
}

#[test]
fn a_source_that_takes_the_history_of_its_absence_is_not_current_before_it_is_up_to_date() {
    let mut bench = filled();
    bench.list();
    let txn = bench.server.one(&Ask::Set("/a/1", "w"));
    bench.connect();
    bench.synced(SyncKind::Diff).unwrap();
    bench.send(vec![txn]).unwrap();
    assert_eq!(bench.machine.state(), CaptureState::Live);
    assert!(!bench.machine.is_current());
    bench.step(Input::UpToDate).unwrap();
    assert!(bench.machine.is_current());
    bench.step(Input::Disconnected).unwrap();
    assert!(!bench.machine.is_current());
}

#[test]
fn a_history_that_is_cut_by_a_lagging_server_changes_nothing() {
    let mut bench = filled();
    bench.list();
    let txns: Vec<_> = (0..3).map(|_| bench.server.one(&Ask::Set("/a/1", "w"))).collect();
    bench.send(txns.clone()).unwrap();
    bench.new_records();
    bench.connect();
    bench.synced(SyncKind::Truncate(txns[0].zxid)).unwrap();
    bench.step(Input::UpToDate).unwrap();
    let next = bench.server.one(&Ask::Set("/a/1", "x"));
    bench.send(txns[1..].to_vec()).unwrap();
    bench.send(vec![next]).unwrap();
    assert_eq!(ops(&bench.new_records()), [(Op::Update, Some("/a/1"))]);
    bench.check_image();
}

#[test]
fn another_history_stops_the_source_after_some_attempts_and_deletes_nothing() {
    let mut bench = filled();
    bench.list();
    let txn = bench.server.one(&Ask::Set("/a/1", "w"));
    bench.send(vec![txn.clone()]).unwrap();
    bench.new_records();
    let mut other = txn.clone();
    other.payload_crc += 1;
    for _ in 0..10 {
        assert_ne!(bench.machine.state(), CaptureState::Halted);
        bench.connect();
        bench.synced(SyncKind::Truncate(Zxid(txn.zxid.0 - 1))).unwrap();
        let step = bench.send(vec![other.clone()]);
        assert!(matches!(step, Err(StepError::Lagging(_))), "{step:?}");
    }
    assert_eq!(bench.machine.state(), CaptureState::Halted);
    assert_eq!(bench.new_records(), []);

    // An operator accepts it.
    let mut options = bench.options.clone();
    options.capture.accept_baseline = true;
    bench.start_with(options);
    bench.server.history.pop();
    bench.server.tree = bench.server.tree_at(Zxid(u64::MAX));
    bench.connect();
    assert_eq!(bench.resumed, None);
    bench.snapshot(usize::MAX).unwrap();
    let records = bench.new_records();
    assert_eq!(records[0].gap.as_ref().unwrap().reason, GapReason::Rebaselined);
    assert_eq!(records[1].path.as_deref(), Some("/a/1"));
    bench.check_image();
}

#[test]
fn a_leader_of_an_earlier_epoch_and_an_older_snapshot_are_left_for_another_server() {
    let mut bench = filled();
    bench.server.elect();
    bench.server.one(&Ask::Set("/a/1", "w"));
    bench.list();
    bench.connect();
    let answer = SyncAnswer {
        epoch: bench.server.epoch - 1,
        kind: SyncKind::Diff,
    };
    let step = bench.step(Input::Synced(answer));
    assert!(matches!(step, Err(StepError::Lagging(_))), "{step:?}");

    bench.connect();
    bench.synced(SyncKind::Snapshot).unwrap();
    let older = bench.position(Zxid(bench.server.last().0 - 1));
    let step = bench.step(Input::Staged(older));
    assert!(matches!(step, Err(StepError::Lagging(_))), "{step:?}");
    assert_eq!(bench.new_records(), []);
}

#[test]
fn other_captured_paths_are_compared_with_a_snapshot() {
    let mut bench = filled();
    bench.list();
    let mut options = bench.options.clone();
    options.scope = "another choice".into();
    bench.start_with(options);
    bench.connect();
    assert_eq!(bench.resumed, None);
    bench.snapshot(usize::MAX).unwrap();
    bench.check_image();

    let mut wider = super::bench::options(&["/a", "/b", "/c"]);
    wider.scope = "another choice".into();
    bench.start_with(wider);
    bench.new_records();
    bench.list();
    bench.check_image();
}

#[test]
fn with_snapshots_after_each_gap_a_run_of_each_root_follows() {
    let mut options = options(&["/a"]);
    options.capture.snapshot = SnapshotMode::Always;
    options.capture.limits.resnapshot_batch = 1;
    let mut bench = Bench::new(options);
    bench.server.one(&Ask::Create("/a", "", Persistent));
    bench.server.one(&Ask::Create("/a/1", "", Persistent));
    bench.list();
    bench.crash();
    bench.connect();
    bench.snapshot(usize::MAX).unwrap();
    let expected = [
        (Op::GapBegin, None),
        (Op::GapEnd, None),
        (Op::SnapshotBegin, None),
        (Op::Snapshot, Some("/a")),
        (Op::Snapshot, Some("/a/1")),
        (Op::SnapshotEnd, None),
    ];
    assert_eq!(ops(&bench.new_records()), expected);
}

#[test]
fn a_root_that_is_deleted_and_missing_in_the_snapshot_is_deleted_with_a_bound() {
    let mut bench = filled();
    bench.list();
    for at in ["/a/2/x", "/a/2", "/a/1", "/a"] {
        bench.server.one(&Ask::Delete(at));
    }
    let deleted = bench.server.last();
    bench.server.one(&Ask::Set("/c", "w"));
    bench.connect();
    bench.snapshot(usize::MAX).unwrap();
    let records = bench.new_records();
    let deletes: Vec<_> = records.iter().filter(|record| record.op == Op::Delete).collect();
    assert_eq!(deletes.len(), 4);
    assert!(
        deletes.iter().all(|record| record.zxid == Some(deleted)),
        "{deletes:?}"
    );
    bench.check_image();
}

#[test]
fn a_journal_of_watch_mode_is_compared_in_a_gap_that_says_so() {
    let mut bench = filled();
    bench.list();
    // Watch mode keeps no position.
    bench.journal.set_position(None).unwrap();
    bench.journal.commit().unwrap();
    bench.server.one(&Ask::Set("/a/1", "w"));
    bench.crash();
    bench.connect();
    assert_eq!(bench.resumed, None);
    bench.snapshot(usize::MAX).unwrap();
    let records = bench.new_records();
    assert_eq!(records[0].gap.as_ref().unwrap().reason, GapReason::Mode);
    bench.check_image();
}

#[test]
fn inputs_of_a_closed_connection_are_ignored() {
    let mut bench = filled();
    let txn = bench.server.one(&Ask::Set("/a", "w"));
    let page = StagePage::default();
    let ticket = crate::capture::Ticket(1);
    for input in [
        Input::Transactions(vec![txn]),
        Input::StagePage { ticket, page },
        Input::UpToDate,
        Input::Continue,
        Input::Overflow,
        Input::Disconnected,
        Input::Tick,
    ] {
        let outcome = bench.step(input).unwrap();
        assert_eq!(outcome.requests, Vec::<SourceRequest>::new());
    }
    assert_eq!(bench.new_records(), []);
}

#[test]
fn a_digest_that_does_not_match_is_compared_with_a_snapshot() {
    let mut bench = filled();
    bench.list();
    assert_eq!(bench.stored_position().digest, Some(bench.server.tree.digest()));
    let good = bench.server.one(&Ask::Set("/c", "outside of the roots"));
    let mut bad = bench.server.one(&Ask::Set("/a/1", "w"));
    let TxnContent::Single(NodeOperation::SetData { data, .. }) = &mut bad.content else {
        panic!("{bad:?}");
    };
    *data = b"another".as_slice().into();
    let step = bench.send(vec![good.clone(), bad.clone()]);
    let Err(StepError::Unproved(evidence)) = step else {
        panic!("{step:?}");
    };
    assert!(evidence.contains(&bad.zxid.to_string()), "{evidence}");
    assert_eq!(bench.new_records(), []);
    bench.connect();
    assert_eq!(bench.resumed, None);
    bench.snapshot(usize::MAX).unwrap();
    assert_eq!(
        bench.new_records()[0].gap.as_ref().unwrap().reason,
        GapReason::Unproved
    );
}

#[test]
fn the_lost_end_of_an_epoch_is_found_by_the_digest() {
    let mut bench = filled();
    bench.list();
    bench.server.one(&Ask::Set("/a/2/x", "lost"));
    bench.server.elect();
    let next = bench.server.one(&Ask::Set("/a/1", "w"));
    bench.connect();
    bench.synced(SyncKind::Diff).unwrap();
    let step = bench.send(vec![next]);
    assert!(matches!(step, Err(StepError::Unproved(_))), "{step:?}");
    assert_eq!(bench.new_records(), []);
}

#[test]
fn a_stage_that_differs_in_any_field_of_any_stat_appends_nothing() {
    let flips: [fn(&mut RawStat); 9] = [
        |stat| stat.czxid.0 ^= 1 << 20,
        |stat| stat.mzxid.0 ^= 1 << 20,
        |stat| stat.pzxid.0 ^= 1 << 20,
        |stat| stat.ctime ^= 1,
        |stat| stat.mtime ^= 1,
        |stat| stat.version ^= 1,
        |stat| stat.cversion ^= 1,
        |stat| stat.aversion ^= 1,
        |stat| stat.owner ^= 1,
    ];
    for (nth, flip) in flips.into_iter().enumerate() {
        let mut bench = filled();
        let digest = bench.server.tree.digest();
        flip(&mut bench.server.tree.nodes.get_mut(&path("/c")).unwrap().raw);
        assert_ne!(bench.server.tree.digest(), digest, "field {nth}");
        bench.connect();
        let step = bench.snapshot(usize::MAX);
        assert!(
            matches!(step, Err(StepError::Unproved(_))),
            "field {nth}: {step:?}"
        );
        assert_eq!(bench.new_records(), [], "field {nth}");
    }
}

#[test]
fn records_name_the_client_and_the_user_that_are_known_when_they_are_appended() {
    use crate::source::SessionOwner;
    let mut bench = filled();
    bench.list();
    let owner = |client: &str| SessionOwner {
        session: SessionId(7),
        client: Some(client.into()),
        user: Some("alice".into()),
    };
    let mut clients = Vec::new();
    for known in [None, Some("10.0.0.7:1"), Some("10.0.0.7:2")] {
        let news = known.map(owner).into_iter().collect();
        bench.step(Input::Sessions(news)).unwrap();
        let txn = bench.server.one(&Ask::Set("/a/1", "w"));
        bench.send(vec![txn]).unwrap();
        let records = bench.new_records();
        let txn = records[0].txn.clone().unwrap();
        clients.push((txn.client.as_deref().map(str::to_owned), txn.user.is_some()));
    }
    let known = |client: &str| (Some(client.to_owned()), true);
    assert_eq!(clients, [(None, false), known("10.0.0.7:1"), known("10.0.0.7:2")]);
    // The session ends, and its id comes again.
    let end = bench.server.txn(
        7,
        TxnContent::CloseSession {
            paths: Some(Vec::new()),
        },
    );
    let end = bench.server.commit(end);
    let next = bench.server.one(&Ask::Set("/a/1", "x"));
    bench.send(vec![end, next]).unwrap();
    assert_eq!(bench.new_records()[0].txn.as_ref().unwrap().client, None);
}

#[test]
fn servers_without_digests_suspend_the_proof_and_do_not_end_it() {
    let mut bench = filled();
    bench.list();
    for version in [None, Some(1)] {
        let mut txn = bench.server.one(&Ask::Set("/a/1", "w"));
        txn.digest = version.map(|version| TreeDigestValue { version, value: 7 });
        bench.send(vec![txn]).unwrap();
    }
    let txn = bench.server.one(&Ask::Set("/a/1", "w"));
    bench.send(vec![txn]).unwrap();
    assert_eq!(bench.new_records().len(), 3);
    assert_eq!(bench.stored_position().digest, Some(bench.server.tree.digest()));
}

#[test]
fn a_source_that_begins_to_prove_its_tree_takes_a_snapshot() {
    let mut bench = filled();
    let mut options = bench.options.clone();
    options.proof = ProofMode::Sequence;
    bench.start_with(options.clone());
    bench.list();
    assert_eq!(bench.stored_position().digest, None);
    options.proof = ProofMode::Tree;
    bench.start_with(options);
    bench.connect();
    assert_eq!(bench.resumed, None);
    bench.snapshot(usize::MAX).unwrap();
    assert_eq!(bench.stored_position().digest, Some(bench.server.tree.digest()));
}
