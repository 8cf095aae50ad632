//! Facts of a znode that its Stat lacks, in the `snapshot` records that are made from the image.

use uuid::Uuid;

use super::scratch::*;
use crate::append::{Append, ChangeKind, NodeFacts, RecordKind};
use crate::image_txn::ImageTxn;
use crate::journal::{Journal, JournalWriter, SinkRun};
use crate::number::{Seq, Zxid};
use crate::record::{Acl, Fidelity, Lifetime, LifetimeKind, Op};

fn list(id: &str) -> Vec<Acl> {
    vec![Acl {
        scheme: "sasl".into(),
        id: id.into(),
        perms: "cdrwa".into(),
    }]
}

fn facts(kind: LifetimeKind, acl: Option<Vec<Acl>>) -> NodeFacts {
    let lifetime = Some(Lifetime { kind, ttl: None });
    NodeFacts { lifetime, acl }
}

/// A create with facts.
fn created_with(at: &str, zxid: u64, facts: NodeFacts) -> Append {
    let mut append = created(at, zxid, "value");
    if let RecordKind::Change(change) = &mut append.kind {
        change.facts = Some(Box::new(facts));
    }
    append
}

fn acl_changed(at: &str, czxid: u64, zxid: u64, acl: Option<Vec<Acl>>) -> Append {
    let stat = crate::record::Stat {
        aversion: 1,
        ..read(stat(czxid, czxid, 0), "value").stat
    };
    let zxid = Some(Zxid(zxid));
    seen(at, ChangeKind::AclChanged { zxid, stat, acl })
}

type Shown = (String, Option<LifetimeKind>, Option<Vec<Acl>>);

/// The znodes of a snapshot that is made for one sink.
fn shown(scratch: &Scratch, tail: Seq) -> Vec<Shown> {
    let mut run = SinkRun::new(Uuid::from_u128(7), None, NOON);
    run.at = Some(tail);
    let (mut next, mut all) = (Some(run), Vec::new());
    let mut reader = scratch.reader();
    while let Some(run) = next {
        let page = reader.snapshot_page(&run, ALL).unwrap();
        all.extend(page.records);
        next = page.next;
    }
    let snapshots = all.iter().filter(|record| record.op == Op::Snapshot);
    snapshots
        .map(|record| {
            let kind = record.lifetime.map(|lifetime| lifetime.kind);
            (
                record.path.as_ref().unwrap().to_string(),
                kind,
                record.acl.clone(),
            )
        })
        .collect()
}

fn contents(journal: &Journal) -> i64 {
    let connection = rusqlite::Connection::open(journal.file()).unwrap();
    let count = connection.query_row("SELECT count(*) FROM fact", [], |row| row.get(0));
    count.unwrap()
}

#[test]
fn a_snapshot_from_the_image_has_the_lifetime_and_the_present_list_of_each_znode() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let persistent = facts(LifetimeKind::Persistent, Some(list("one")));
    let container = facts(LifetimeKind::Container, Some(list("one")));
    let tail = append_all(
        &mut journal,
        [
            created_with("/a", 1, persistent.clone()),
            created_with("/b", 2, persistent.clone()),
            created_with("/c", 3, container),
            created("/watched", 4, "value"),
            updated("/a", 1, 5, 1, "again"),
            acl_changed("/b", 2, 6, Some(list("two"))),
            acl_changed("/watched", 4, 7, Some(list("two"))),
        ],
    );
    let mut expected = [
        ("/a".to_owned(), Some(LifetimeKind::Persistent), Some(list("one"))),
        ("/b".to_owned(), Some(LifetimeKind::Persistent), Some(list("two"))),
        ("/c".to_owned(), Some(LifetimeKind::Container), Some(list("one"))),
        ("/watched".to_owned(), None, None),
    ];
    assert_eq!(shown(&scratch, tail), expected);
    // The same after the journal was opened again.
    drop(journal);
    let mut journal = scratch.open();
    let tail = append_all(&mut journal, [deleted("/c", 8), created("/c", 9, "value")]);
    expected[2] = ("/c".to_owned(), None, None);
    assert_eq!(shown(&scratch, tail), expected);
}

#[test]
fn a_list_that_could_not_be_read_replaces_the_one_before() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let known = facts(LifetimeKind::Persistent, Some(list("one")));
    let tail = append_all(
        &mut journal,
        [created_with("/a", 1, known), acl_changed("/a", 1, 2, None)],
    );
    let expected = [("/a".to_owned(), Some(LifetimeKind::Persistent), None)];
    assert_eq!(shown(&scratch, tail), expected);
}

#[test]
fn a_znode_that_is_restated_has_its_facts_in_its_record() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let known = facts(LifetimeKind::Ttl, Some(list("one")));
    let run = Uuid::from_u128(7);
    let mut again = seen("/a", ChangeKind::Restated { run, index: 1 });
    if let RecordKind::Change(change) = &mut again.kind {
        (change.fidelity, change.missed) = (Fidelity::Reconciled, None);
    }
    append_all(&mut journal, [created_with("/a", 1, known), again]);
    let records = scratch.records();
    let snapshot = records.last().unwrap();
    assert_eq!(
        snapshot.lifetime.map(|lifetime| lifetime.kind),
        Some(LifetimeKind::Ttl)
    );
    assert_eq!(snapshot.acl, Some(list("one")));
}

#[test]
fn facts_that_a_comparison_finds_are_stored_without_a_record() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let before = append_all(&mut journal, [created("/a", 1, "value")]);
    let found = facts(LifetimeKind::Persistent, Some(list("one")));
    journal.set_facts(&path("/a"), &found).unwrap();
    journal.set_facts(&path("/missing"), &found).unwrap();
    let tail = journal.commit().unwrap();
    assert_eq!(tail, before);
    let expected = [("/a".to_owned(), Some(LifetimeKind::Persistent), Some(list("one")))];
    assert_eq!(shown(&scratch, tail), expected);
}

#[test]
fn equal_facts_are_one_row_and_those_that_no_znode_has_are_removed_in_time() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    for number in 0..500 {
        let same = facts(LifetimeKind::Persistent, Some(list("one")));
        journal
            .append(created_with(&format!("/n{number}"), 1 + number, same))
            .unwrap();
    }
    journal.commit().unwrap();
    assert_eq!(contents(&journal), 1);
    let mut zxid = 1_000;
    for round in 0..11_000 {
        zxid += 1;
        let own = facts(LifetimeKind::Persistent, Some(list(&format!("user{round}"))));
        journal.set_facts(&path("/n1"), &own).unwrap();
        if round % 1_000 == 0 {
            journal.commit().unwrap();
        }
    }
    let tail = append_all(&mut journal, [created("/last", zxid, "value")]);
    let left = contents(&journal);
    assert!(left < 2_000, "{left} contents are left");
    let shown = shown(&scratch, tail);
    assert_eq!(shown.len(), 501);
    let of = |path: &str| shown.iter().find(|(at, ..)| at == path).unwrap().2.clone();
    assert_eq!(
        (of("/n0"), of("/n1")),
        (Some(list("one")), Some(list("user10999")))
    );
}

#[test]
fn facts_of_a_batch_that_is_rolled_back_are_not_used_again() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    let known = facts(LifetimeKind::Container, Some(list("one")));
    journal.append(created_with("/a", 1, known.clone())).unwrap();
    journal.rollback().unwrap();
    assert_eq!(contents(&journal), 0);
    let tail = append_all(&mut journal, [created_with("/a", 1, known)]);
    let expected = [("/a".to_owned(), Some(LifetimeKind::Container), Some(list("one")))];
    assert_eq!(shown(&scratch, tail), expected);
}
