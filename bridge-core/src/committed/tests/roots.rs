//! `ProofMode::Roots`: only znodes below the roots and their ancestors are held, and the differences of the digest prove
//! the transactions that touch no others.

use super::bench::Bench;
use super::machine::{filled, ops};
use super::tree::*;
use crate::committed::*;
use crate::image_txn::ImageTxn;
use crate::machine::{ProofReport, SourceMachine, StepError};
use crate::record::{LifetimeKind::Ephemeral, LifetimeKind::Persistent, Op, ZxidKind};
use crate::source::Input;

/// A bench whose machine holds `/`, `/a` with everything below it, and `/b`.
fn of_roots() -> Bench {
    let mut bench = filled();
    let mut options = bench.options.clone();
    options.proof = ProofMode::Roots;
    bench.start_with(options);
    bench.list();
    bench
}

fn report(bench: &Bench) -> ProofReport {
    bench.machine.history().unwrap().proof
}

fn send(bench: &mut Bench, ask: &Ask) -> Result<(), StepError> {
    let txn = bench.server.one(ask);
    bench.send(vec![txn]).map(drop)
}

#[test]
fn only_the_znodes_below_the_roots_and_their_ancestors_are_held() {
    let mut bench = of_roots();
    for (at, is_held) in [
        ("/", true),
        ("/a", true),
        ("/a/2/x", true),
        ("/c", false),
        ("/zookeeper", false),
    ] {
        let held = bench.journal.shadow(&ShadowKey::of(at)).unwrap();
        assert_eq!(held.is_some(), is_held, "{at}");
    }
}

#[test]
fn a_transaction_is_proved_if_it_touches_only_what_is_held_and_counted_if_not() {
    let mut bench = of_roots();
    let listed = bench.server.last();
    assert_eq!(
        report(&bench),
        ProofReport {
            mode: "roots",
            zxid: Some(listed),
            checked: 0,
            unproven: 0,
            mismatched: 0,
            suspended: None,
        }
    );
    for (ask, is_proved) in [
        (Ask::Set("/a/1", "w"), true),
        (Ask::Create("/b", "", Persistent), true),
        (Ask::Set("/c", "w"), false),
        (Ask::Create("/d", "", Persistent), false),
        (Ask::Delete("/d"), false),
        // The children of the root znode were followed meanwhile.
        (Ask::Delete("/b"), true),
        (Ask::SetAcl("/a/2", "r"), true),
    ] {
        let before = report(&bench);
        send(&mut bench, &ask).unwrap();
        let now = report(&bench);
        let grown = (now.checked - before.checked, now.unproven - before.unproven);
        assert_eq!(grown, (u64::from(is_proved), u64::from(!is_proved)), "{ask:?}");
        let proved = if is_proved {
            Some(bench.server.last())
        } else {
            before.zxid
        };
        assert_eq!(now.zxid, proved, "{ask:?}");
        assert_eq!(bench.stored_position().digest, Some(bench.server.tree.digest()));
    }
    bench.check_image();
}

#[test]
fn a_multi_that_touches_both_is_not_proved_and_the_next_one_is() {
    let mut bench = of_roots();
    let both = bench.server.multi(&[Ask::Set("/a/1", "w"), Ask::Set("/c", "w")]);
    bench.send(vec![both]).unwrap();
    assert_eq!((report(&bench).checked, report(&bench).unproven), (0, 1));
    send(&mut bench, &Ask::Set("/a/1", "x")).unwrap();
    assert_eq!((report(&bench).checked, report(&bench).unproven), (1, 1));
}

#[test]
fn the_lost_end_of_an_epoch_is_found_if_it_touched_the_same_znodes() {
    let mut bench = of_roots();
    bench.server.one(&Ask::Set("/a/2/x", "lost"));
    bench.server.elect();
    bench.connect();
    bench.synced(SyncKind::Diff).unwrap();
    let step = send(&mut bench, &Ask::Set("/a/1", "w"));
    assert!(matches!(step, Err(StepError::Unproved(_))), "{step:?}");
    assert_eq!(report(&bench).mismatched, 1);
    assert_eq!(bench.new_records(), []);
}

#[test]
fn a_value_that_was_changed_on_its_way_is_found() {
    let mut bench = of_roots();
    let mut txn = bench.server.one(&Ask::Set("/a/1", "w"));
    let TxnContent::Single(NodeOperation::SetData { data, .. }) = &mut txn.content else {
        panic!("{txn:?}");
    };
    *data = b"other".as_slice().into();
    let step = bench.send(vec![txn]);
    assert!(matches!(step, Err(StepError::Unproved(_))), "{step:?}");
}

#[test]
fn the_end_of_a_session_is_proved_if_all_its_znodes_are_held() {
    let mut bench = of_roots();
    for (at, is_proved) in [("/a/e", true), ("/c/e", false)] {
        send(&mut bench, &Ask::Create(at, "", Ephemeral)).unwrap();
        let before = report(&bench);
        let paths = Some(vec![path(at)]);
        let end = bench.server.txn(7, TxnContent::CloseSession { paths });
        let end = bench.server.commit(end);
        bench.send(vec![end]).unwrap();
        let checked = report(&bench).checked - before.checked;
        assert_eq!(checked, u64::from(is_proved), "{at}");
    }
}

#[test]
fn a_restart_goes_on_from_the_digest_that_is_stored() {
    let mut bench = of_roots();
    send(&mut bench, &Ask::Set("/c", "w")).unwrap();
    bench.crash();
    bench.server.one(&Ask::Set("/a/1", "w"));
    bench.resume().unwrap();
    assert_eq!(report(&bench).checked, 1);
    assert_eq!(ops(&bench.new_records()), [(Op::Update, Some("/a/1"))]);
}

#[test]
fn another_way_to_prove_takes_a_snapshot_because_other_znodes_are_held() {
    let mut bench = of_roots();
    for proof in [ProofMode::Tree, ProofMode::Roots] {
        let mut options = bench.options.clone();
        options.proof = proof;
        bench.start_with(options);
        bench.connect();
        assert_eq!(bench.resumed, None, "{proof:?}");
        bench.snapshot(usize::MAX).unwrap();
    }
    assert_eq!(bench.journal.shadow(&ShadowKey::of("/c")).unwrap(), None);
}

#[test]
fn servers_without_digests_suspend_the_proof_with_the_reason() {
    let mut bench = of_roots();
    let mut txn = bench.server.one(&Ask::Set("/a/1", "w"));
    txn.digest = None;
    bench.send(vec![txn]).unwrap();
    let now = report(&bench);
    assert_eq!((now.checked, now.unproven), (0, 1));
    assert!(now.suspended.is_some_and(|reason| reason.contains("no digests")));
    send(&mut bench, &Ask::Set("/a/1", "x")).unwrap();
    assert_eq!(report(&bench).suspended, None);
    // A request that failed has no digest either.
    let error = bench.server.txn(7, TxnContent::Nothing);
    let mut error = bench.server.commit(error);
    error.digest = None;
    bench.send(vec![error]).unwrap();
    assert_eq!((report(&bench).suspended, report(&bench).unproven), (None, 1));
    assert_eq!(
        report(&bench).checked,
        1,
        "the transaction without a digest was followed"
    );
}

#[test]
fn a_heartbeat_has_the_zxid_of_the_last_transaction_that_was_taken() {
    let mut bench = filled();
    let mut options = bench.options.clone();
    options.capture.heartbeat_every = Some(std::time::Duration::from_secs(2));
    bench.start_with(options);
    bench.list();
    // Nothing of it is captured.
    send(&mut bench, &Ask::Set("/c", "w")).unwrap();
    for _ in 0..3 {
        bench.step(Input::Tick).unwrap();
    }
    let records = bench.new_records();
    assert_eq!(ops(&records)[..1], [(Op::Heartbeat, None)]);
    let expected = (Some(bench.server.last()), ZxidKind::Exact);
    assert_eq!((records[0].zxid, records[0].zxid_kind), expected);
}
