//! A whole subtree at a moment, and the lists and lifetimes of its znodes.

use bridge_core::append::{Append, ChangeKind, NodeFacts, RecordKind};
use bridge_core::image_txn::{ImageTxn, Progress};
use bridge_core::journal::{JournalWriter, Position};
use bridge_core::number::{Epoch, Seq, Zxid};
use bridge_core::record::{Acl, GapReason, Lifetime, LifetimeKind, Stat, Timestamp};

use super::scratch::{Scratch, change, created, deleted, path, read, time_of, updated};
use crate::{Certainty, Doubt, FactsAsOf};

const NOW: Timestamp = Timestamp(i64::MAX);

fn list(user: &str) -> Vec<Acl> {
    vec![Acl {
        scheme: "sasl".to_owned(),
        id: user.to_owned(),
        perms: "cdrwa".to_owned(),
    }]
}

fn created_with(at: &str, zxid: u64, user: &str, kind: LifetimeKind) -> Append {
    let mut append = created(at, zxid, "value");
    if let RecordKind::Change(change) = &mut append.kind {
        change.facts = Some(Box::new(NodeFacts {
            lifetime: Some(Lifetime { kind, ttl: None }),
            acl: Some(list(user)),
        }));
    }
    append
}

/// `zxid`: `None` of a watch, which reads the list some time later.
fn acl_changed(at: &str, czxid: u64, captured: u64, zxid: Option<u64>, user: &str) -> Append {
    let stat = Stat {
        aversion: 1,
        ..read(czxid, czxid, 0, "value").stat
    };
    let (zxid, acl) = (zxid.map(Zxid), Some(list(user)));
    let mut append = change(at, captured, ChangeKind::AclChanged { zxid, stat, acl });
    append.captured = Timestamp(time_of(captured));
    append
}

fn root_of(scratch: &mut Scratch, root: &str) {
    let progress = Progress {
        reported: Zxid(99),
        listed: true,
        run: None,
    };
    scratch.journal.set_progress(&path(root), &progress).unwrap();
    scratch.journal.commit().unwrap();
}

#[test]
fn a_znode_has_the_list_and_the_lifetime_of_its_incarnation_at_the_moment() {
    let scratch = Scratch::with([
        created_with("/a", 1, "one", LifetimeKind::Container),
        updated("/a", 1, 2, "again"),
        acl_changed("/a", 1, 3, Some(3), "two"),
        deleted("/a", 4),
        created_with("/a", 5, "three", LifetimeKind::Persistent),
        created("/b", 6, "without"),
    ]);
    let query = scratch.query();
    let check = |at: &str, zxid: u64, expected: Option<(&str, LifetimeKind)>| {
        let facts = query.facts_at(&path(at), Position::Zxid(Zxid(zxid))).unwrap();
        let expected = expected.map_or_else(FactsAsOf::default, |(user, kind)| FactsAsOf {
            acl: Some(list(user)),
            lifetime: Some(Lifetime { kind, ttl: None }),
        });
        assert_eq!(facts, expected, "{at} at {zxid}");
    };
    check("/a", 1, Some(("one", LifetimeKind::Container)));
    check("/a", 2, Some(("one", LifetimeKind::Container)));
    check("/a", 3, Some(("two", LifetimeKind::Container)));
    check("/a", 4, None);
    check("/a", 5, Some(("three", LifetimeKind::Persistent)));
    check("/b", 6, None);
    check("/never", 6, None);
}

#[test]
fn a_list_that_was_changed_at_a_time_that_nobody_knows_is_not_known_before_its_record() {
    let scratch = Scratch::with([
        created_with("/a", 1, "one", LifetimeKind::Persistent),
        created("/b", 2, ""),
        acl_changed("/a", 1, 3, None, "two"),
        created("/b/x", 4, ""),
    ]);
    let query = scratch.query();
    let list_at = |zxid| {
        query
            .facts_at(&path("/a"), Position::Zxid(Zxid(zxid)))
            .unwrap()
            .acl
    };
    // It may have been changed before or after the create of another znode.
    assert_eq!(list_at(2), None);
    assert_eq!(list_at(4), Some(list("two")));
}

#[test]
fn a_moment_has_the_doubts_of_the_root_above_the_subtree_alone() {
    let mut scratch = Scratch::with([created("/a", 1, ""), created("/b", 2, "")]);
    for root in ["/a", "/b"] {
        root_of(&mut scratch, root);
    }
    let gap = Append {
        root: Some(path("/b")),
        captured: Timestamp(time_of(3)),
        kind: RecordKind::GapBegin {
            epoch: Epoch(2),
            from_zxid: Zxid(2),
            reason: GapReason::Disconnected,
        },
    };
    let seq = scratch.append([gap]);
    let query = scratch.query();
    let certainty = |under: &str| {
        let moment = query
            .subtree_moment(&path(under), Position::Seq(seq), NOW)
            .unwrap();
        (moment.moment.certainty, moment.moment.doubts.len())
    };
    let is_in_gap = |doubt: &Doubt| matches!(doubt, Doubt::InGap { .. });
    let of_b = query
        .subtree_moment(&path("/b/x"), Position::Seq(seq), NOW)
        .unwrap();
    assert!(
        of_b.moment.doubts.iter().any(is_in_gap),
        "{:?}",
        of_b.moment.doubts
    );
    let of_a = query
        .subtree_moment(&path("/a"), Position::Seq(seq), NOW)
        .unwrap();
    assert!(
        !of_a.moment.doubts.iter().any(is_in_gap),
        "{:?}",
        of_a.moment.doubts
    );
    // No root covers it.
    assert_eq!(certainty("/c").0, Certainty::Removed);
}

#[test]
fn only_an_incarnation_that_is_certainly_later_counts_as_created_after_the_moment() {
    let mut scratch = Scratch::with([created("/a", 5, ""), created("/b", 7, "")]);
    root_of(&mut scratch, "/");
    let query = scratch.query();
    let check = |position, zxid: u64, expected: bool| {
        let moment = query.subtree_moment(&path("/a"), position, NOW).unwrap();
        assert_eq!(
            moment.is_before_create(Zxid(zxid), time_of(zxid)),
            expected,
            "{position:?} {zxid}"
        );
    };
    for position in [
        Position::Zxid(Zxid(5)),
        Position::Time(Timestamp(time_of(5))),
        Position::Seq(Seq(1)),
    ] {
        check(position, 5, false);
        check(position, 6, true);
    }
    // Before the first record nothing shows a zxid.
    check(Position::Seq(Seq::ZERO), 9, false);
}

#[test]
fn pages_of_a_subtree_have_every_known_path_once_parents_first() {
    let names = (0..4_500).map(|number| format!("/a/{number:04}"));
    let all: Vec<String> = std::iter::once("/a".to_owned()).chain(names).collect();
    let records = all.iter().zip(1..).map(|(at, zxid)| created(at, zxid, "x"));
    let scratch = Scratch::with(records.chain([deleted("/a/0007", 9_000)]));
    let query = scratch.query();
    let (mut visited, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let at = Position::Zxid(Zxid(9_000));
        let page = query.subtree_at(&path("/a"), at, visited.as_ref(), NOW).unwrap();
        found.extend(page.znodes.iter().map(|znode| znode.path.to_string()));
        let gone = page.znodes.iter().find(|znode| znode.path.as_str() == "/a/0007");
        if let Some(gone) = gone {
            assert_eq!(gone.value.as_ref().and_then(|value| value.exists), Some(false));
        }
        pages += 1;
        match page.next {
            Some(next) => visited = Some(next),
            None => break,
        }
    }
    assert_eq!((found, pages), (all, 3));
}
