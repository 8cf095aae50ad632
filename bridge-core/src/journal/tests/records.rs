//! Which record an entry becomes.

use uuid::Uuid;

use super::scratch::*;
use crate::append::{Append, ChangeKind, DeletedAt, RecordKind};
use crate::image_txn::{ImageTxn, Node};
use crate::journal::{Before, Journal, JournalWriter};
use crate::number::{Epoch, Seq, Zxid};
use crate::record::{Acl, Fidelity, GapReason, Identity, Op, Origin, Record, State, Timestamp, ZxidKind};

/// The last record after these appends.
fn last_of(entries: Vec<Append>) -> Record {
    last_with(Before::Full, entries)
}

fn last_with(before: Before, entries: Vec<Append>) -> Record {
    let mut scratch = Scratch::new();
    scratch.options.before = before;
    let mut journal = scratch.open();
    let mut worker = journal.reader_for("worker").unwrap();
    append_all(&mut journal, entries);
    let records = scratch.records();
    let handed = worker.cached(Seq::ZERO, ALL);
    assert_eq!(
        handed.as_deref(),
        Some(&*records),
        "memory has the records of the file"
    );
    (**records.last().unwrap()).clone()
}

fn state(stat: crate::record::Stat, text: &str) -> Option<State> {
    let read = read(stat, text);
    Some(State {
        data: read.data,
        stat: Some(read.stat),
    })
}

const EMPTY: Option<State> = Some(State {
    data: None,
    stat: None,
});

#[test]
fn an_update_has_the_state_before_and_the_state_after() {
    let mut scratch = Scratch::new();
    scratch.options.before = Before::Full;
    let mut journal = scratch.open();
    journal.set_server(Some("3.9.5".into()));
    append_all(
        &mut journal,
        [created("/a/b", 5, "one"), updated("/a/b", 5, 7, 1, "two")],
    );
    let records = scratch.records();
    let update = &records[1];
    assert_eq!(update.seq, Seq(2));
    assert_eq!(&*update.cluster, "main");
    assert_eq!(update.path, Some(path("/a/b")));
    assert_eq!(update.root, Some(path("/")));
    assert_eq!(update.op, Op::Update);
    assert_eq!((update.zxid, update.zxid_kind), (Some(Zxid(7)), ZxidKind::Exact));
    assert_eq!(update.before, state(stat(5, 5, 0), "one"));
    assert_eq!(update.after, state(stat(5, 7, 1), "two"));
    assert_eq!(update.ephemeral, Some(false));
    assert_eq!(update.time.changed, Some(Timestamp(1007)));
    assert_eq!(update.time.captured, NOON);
    let server = Some("3.9.5".into());
    assert_eq!(
        update.source,
        Origin {
            mode: crate::record::Mode::Watch,
            server
        }
    );
    let identity = Identity::Update {
        czxid: Zxid(5),
        version: 1,
    };
    assert_eq!(update.id, identity.id("main", "/a/b"));
    assert_eq!(records[0].before, None);
}

#[test]
fn the_previous_state_in_a_record_follows_the_option_of_the_source() {
    let stat_only = Some(State {
        data: None,
        stat: state(stat(5, 5, 0), "one").unwrap().stat,
    });
    let rows = [
        (Before::Full, created("/a", 5, "one"), state(stat(5, 5, 0), "one")),
        (Before::Stat, created("/a", 5, "one"), stat_only),
        (Before::None, created("/a", 5, "one"), None),
        (Before::Full, unread("/a", 5), EMPTY),
        (Before::Stat, unread("/a", 5), EMPTY),
        (Before::None, unread("/a", 5), None),
    ];
    for (choice, first, expected) in rows {
        let record = last_with(choice, vec![first.clone(), updated("/a", 5, 6, 1, "two")]);
        assert_eq!(record.before, expected, "{choice:?} after {first:?}");
    }
}

#[test]
fn a_delete_names_the_incarnation_that_it_ended() {
    let eph = |zxid| ChangeKind::Created {
        read: read(ephemeral_stat(zxid, zxid, 0), "x"),
    };
    let known = |ephemeral| ChangeKind::CreatedUnread {
        czxid: Zxid(5),
        ephemeral,
        ctime: None,
    };
    let rows = [
        (
            vec![created("/a", 5, "x")],
            state(stat(5, 5, 0), "x"),
            Some(false),
        ),
        (
            vec![seen("/a", eph(5))],
            state(ephemeral_stat(5, 5, 0), "x"),
            Some(true),
        ),
        (vec![unread("/a", 5)], None, None),
        (vec![seen("/a", known(Some(true)))], None, Some(true)),
        (vec![seen("/a", known(Some(false)))], None, Some(false)),
    ];
    for (life, before, ephemeral) in rows {
        let mut entries = life.clone();
        entries.push(deleted("/a", 9));
        let record = last_of(entries);
        assert_eq!(
            (&record.before, record.ephemeral),
            (&before, ephemeral),
            "{life:?}"
        );
        assert_eq!(record.after, None);
        assert_eq!(record.time.changed, None);
        let identity = Identity::Delete { czxid: Zxid(5) };
        assert_eq!(record.id, identity.id("main", "/a"), "{life:?}");
    }
}

#[test]
fn the_delete_of_a_life_that_nobody_saw_is_named_by_its_bound_or_its_position() {
    let rows = [
        (DeletedAt::Exact(Zxid(9)), Some(Zxid(9)), ZxidKind::Exact),
        (DeletedAt::Bound(Zxid(9)), Some(Zxid(9)), ZxidKind::UpperBound),
        (DeletedAt::Unknown, None, ZxidKind::Unknown),
    ];
    for (at, bound, kind) in rows {
        let record = last_of(vec![seen("/a", ChangeKind::Deleted { at })]);
        assert_eq!((record.zxid, record.zxid_kind), (bound, kind));
        assert_eq!((&record.before, record.ephemeral), (&None, None));
        let identity = Identity::DeleteUnseen { bound, seq: Seq(1) };
        assert_eq!(record.id, identity.id("main", "/a"));
    }
}

#[test]
fn a_create_that_nobody_read_gets_the_data_of_a_later_read() {
    let kind = ChangeKind::CreatedUnread {
        czxid: Zxid(5),
        ephemeral: Some(true),
        ctime: Some(Timestamp(77)),
    };
    let record = last_of(vec![seen("/a", kind)]);
    assert_eq!((record.zxid, record.zxid_kind), (Some(Zxid(5)), ZxidKind::Exact));
    assert_eq!(record.after, EMPTY);
    assert_eq!(record.ephemeral, Some(true));
    assert_eq!(record.time.changed, Some(Timestamp(77)));
}

#[test]
fn a_create_found_by_comparing_is_named_by_the_version_that_it_holds() {
    let kind = || ChangeKind::Created {
        read: read(stat(5, 8, 3), "x"),
    };
    for (entry, version) in [(seen("/a", kind()), 0), (found("/a", kind()), 3)] {
        let record = last_of(vec![entry]);
        let identity = Identity::Create {
            czxid: Zxid(5),
            version,
        };
        assert_eq!(record.id, identity.id("main", "/a"));
        assert_eq!(record.zxid, Some(Zxid(8)));
    }
}

#[test]
fn an_acl_record_repeats_the_data_and_moves_the_stat() {
    let moved = crate::record::Stat {
        aversion: 4,
        ..read(stat(5, 5, 0), "x").stat
    };
    let acl = vec![Acl {
        scheme: "world".into(),
        id: "anyone".into(),
        perms: "r".into(),
    }];
    let kind = ChangeKind::AclChanged {
        zxid: None,
        stat: moved,
        acl: Some(acl.clone()),
    };
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 5, "x"), found("/a", kind)]);
    let record = scratch.records().pop().unwrap();
    assert_eq!((record.zxid, record.zxid_kind), (None, ZxidKind::Unknown));
    assert_eq!(record.before, state(stat(5, 5, 0), "x"));
    assert_eq!(record.after, state(moved, "x"));
    assert_eq!(record.acl, Some(acl));
    assert_eq!(record.fidelity, Fidelity::Reconciled);
    assert_eq!(record.time.changed, None);
    let node = journal.node(&path("/a")).unwrap();
    assert_eq!(node.unwrap().stat.unwrap().aversion, 4);
}

#[test]
fn a_listing_is_bracketed_and_its_znodes_are_numbered() {
    let run = Uuid::from_u128(7);
    let scratch = Scratch::new();
    let listed = ChangeKind::Listed {
        read: read(stat(5, 6, 1), "x"),
        run,
        index: 1,
    };
    let restated = ChangeKind::Restated { run, index: 2 };
    let end = RecordKind::RunEnd {
        run,
        index: 3,
        nodes: 2,
        unreadable: 1,
        zxid: Some(Zxid(6)),
        is_exact: false,
    };
    append_all(
        &mut scratch.open(),
        [
            control_record(Some("/"), RecordKind::RunBegin { run }),
            found("/a", listed),
            found("/a", restated),
            control_record(Some("/"), end),
        ],
    );
    let records = scratch.records();
    let places: Vec<_> = records.iter().map(|record| record.run.clone().unwrap()).collect();
    assert_eq!(
        places.iter().map(|place| place.index).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert!(places.iter().all(|place| place.id == run));
    assert_eq!((places[3].nodes, places[3].unreadable), (Some(2), Some(1)));
    assert_eq!(records[3].zxid_kind, ZxidKind::UpperBound);
    assert_eq!(records[1].after, records[2].after);
    assert_eq!(records[1].time.changed, Some(Timestamp(1006)));
    let identity = Identity::Snapshot {
        czxid: Zxid(5),
        version: 1,
        aversion: 0,
        run: &run,
    };
    assert_eq!(records[1].id, identity.id("main", "/a"));
    let begin = Identity::RunMark {
        op: Op::SnapshotBegin,
        run: &run,
    };
    assert_eq!(records[0].id, begin.id("main", "/"));
}

#[test]
fn gaps_and_heartbeats_are_kept_as_they_were_said() {
    let scratch = Scratch::new();
    let (epoch, from_zxid, reason) = (Epoch(3), Zxid(40), GapReason::Expired);
    append_all(
        &mut scratch.open(),
        [
            control_record(
                Some("/a"),
                RecordKind::GapBegin {
                    epoch,
                    from_zxid,
                    reason,
                },
            ),
            control_record(
                Some("/a"),
                RecordKind::GapEnd {
                    epoch,
                    from_zxid,
                    to_zxid: Zxid(50),
                    reason,
                    differences: 2,
                },
            ),
            control_record(None, RecordKind::Heartbeat { zxid: None }),
        ],
    );
    let records = scratch.records();
    let gap = records[1].gap.clone().unwrap();
    assert_eq!((gap.to_zxid, gap.differences), (Some(Zxid(50)), Some(2)));
    assert_eq!((gap.epoch, gap.from_zxid, gap.reason), (epoch, from_zxid, reason));
    assert_eq!(records[0].gap.as_ref().unwrap().to_zxid, None);
    assert_eq!(
        (&records[2].root, &records[2].path, records[2].zxid),
        (&None, &None, None)
    );
    assert_eq!(records[2].id, Identity::Heartbeat { seq: Seq(3) }.id("main", ""));
}

#[test]
fn a_source_without_data_has_null_data_everywhere() {
    let bare = |czxid, mzxid, version| {
        let mut read = read(stat(czxid, mzxid, version), "x");
        read.data = None;
        read
    };
    let record = last_of(vec![
        seen("/a", ChangeKind::Created { read: bare(5, 5, 0) }),
        seen("/a", ChangeKind::Updated { read: bare(5, 6, 1) }),
    ]);
    assert_eq!(record.before.unwrap().data, None);
    let after = record.after.unwrap();
    assert_eq!(after.data, None);
    assert_eq!(after.stat.unwrap().version, 1);
}

#[test]
fn a_refresh_moves_the_image_and_writes_no_record() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 5, "x")]);
    let newer = crate::record::Stat {
        pzxid: Zxid(9),
        num_children: 1,
        ..read(stat(5, 5, 0), "x").stat
    };
    journal.refresh(&path("/a"), &newer).unwrap();
    assert_eq!(journal.commit().unwrap(), Seq(1));
    let expected = Node {
        czxid: Zxid(5),
        stat: Some(newer),
    };
    assert_eq!(journal.node(&path("/a")).unwrap(), Some(expected));
    assert_eq!(expected.newest_zxid(), Zxid(9));
}

fn refused(entries: Vec<Append>, why: &str) {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        append_all(&mut journal, entries);
    }));
    let panic = caught.expect_err(why);
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains(why), "{message}");
    drop(journal);
    let mut journal: Journal = scratch.open();
    assert_eq!(journal.tail(), Seq::ZERO, "nothing of it may be durable");
    assert_eq!(journal.node(&path("/a")).unwrap(), None);
}

#[test]
fn a_history_that_contradicts_itself_is_never_written() {
    refused(
        vec![created("/a", 5, "x"), created("/a", 6, "x")],
        "while the image has it",
    );
    refused(
        vec![created("/a", 5, "x"), unread("/a", 6)],
        "while the image has it",
    );
    refused(vec![updated("/a", 5, 6, 1, "x")], "while the image has");
    refused(
        vec![created("/a", 5, "x"), updated("/a", 4, 6, 1, "x")],
        "in its life 0x0000000000000004",
    );
    refused(
        vec![created("/a", 5, "x"), updated("/a", 5, 5, 1, "x")],
        "its last record is as new",
    );
    refused(
        vec![created("/a", 5, "x"), deleted("/a", 5)],
        "its last record is as new",
    );
    refused(
        vec![created("/a", 5, "x"), deleted("/a", 9), created("/a", 8, "x")],
        "before the end",
    );
    let restated = ChangeKind::Restated {
        run: Uuid::nil(),
        index: 1,
    };
    refused(vec![found("/a", restated)], "is listed again");
}

#[test]
fn a_multi_may_delete_and_create_a_path_at_one_zxid() {
    let record = last_of(vec![
        created("/a", 5, "x"),
        deleted("/a", 9),
        created("/a", 9, "y"),
    ]);
    assert_eq!((record.op, record.zxid), (Op::Create, Some(Zxid(9))));
}

#[test]
fn after_a_new_baseline_older_zxids_are_accepted_again() {
    let rebaselined = RecordKind::GapBegin {
        epoch: Epoch(2),
        from_zxid: Zxid(9),
        reason: GapReason::Rebaselined,
    };
    let record = last_of(vec![
        created("/a", 8, "x"),
        deleted("/a", 9),
        control_record(Some("/"), rebaselined),
        created("/a", 3, "y"),
    ]);
    assert_eq!((record.op, record.zxid), (Op::Create, Some(Zxid(3))));
}

#[test]
fn the_transaction_of_a_change_is_kept_with_its_record() {
    use crate::record::{SessionEnd, Txn, TxnKind};

    let whole = Txn {
        session: crate::number::SessionId(u64::MAX),
        cxid: -7,
        index: 2,
        count: 3,
        kind: TxnKind::CloseSession,
        time: 1_795_348_800_000,
        ended_by: Some(SessionEnd::Server),
        client: Some("10.0.0.7:41234".into()),
        user: Some("ü".into()),
        rest: 1,
    };
    let bare = Txn {
        kind: TxnKind::CreateTtl,
        ended_by: None,
        client: None,
        user: None,
        ..whole.clone()
    };
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let mut worker = journal.reader_for("one").unwrap();
    let txns = [Some(whole), Some(bare), None];
    let entries = txns.iter().zip(5..).map(|(txn, zxid)| {
        let mut entry = created(&format!("/n{zxid}"), zxid, "x");
        let RecordKind::Change(change) = &mut entry.kind else {
            unreachable!("it is a change");
        };
        change.txn = txn.clone().map(Box::new);
        entry
    });
    append_all(&mut journal, entries.collect::<Vec<_>>());
    let held = worker.cached(Seq::ZERO, ALL).unwrap();
    let stored = scratch.records();
    assert_eq!(held, stored);
    let kept: Vec<Option<Txn>> = stored
        .iter()
        .map(|record| record.txn.as_deref().cloned())
        .collect();
    assert_eq!(kept, txns);
    let json = serde_json::to_value(&*stored[0]).unwrap();
    assert_eq!(json["txn"]["type"], "closeSession");
    assert_eq!(json["txn"]["ended_by"], "server");
    let json = serde_json::to_value(&*stored[1]).unwrap();
    assert_eq!(json["txn"]["type"], "createTTL");
    assert!(json["txn"]["client"].is_null());
}
