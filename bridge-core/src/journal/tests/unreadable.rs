//! The spans of znodes that may not be read.

use super::migrations::take_back_to;
use super::scratch::*;
use crate::image_txn::ImageTxn;
use crate::journal::JournalWriter;
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::Timestamp;
use crate::unreadable_span::{HistoryPoint, SPANS_MAX, UnreadableExtent};

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

fn point(at: u64) -> HistoryPoint {
    HistoryPoint {
        seq: Seq(at),
        zxid: Zxid(at),
        time: Timestamp(at.cast_signed()),
    }
}

const ZNODE: UnreadableExtent = UnreadableExtent::Znode;

#[test]
fn a_restart_forgets_neither_when_a_znode_became_unreadable_nor_when_a_root_was_walked() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        [
            created("/a", 5, "x"),
            created("/b", 6, "x"),
            created("/c", 7, "x"),
        ],
    );
    let root = ZnodePath::slash();
    assert_eq!(journal.walked(&root).unwrap(), HistoryPoint::default());
    journal.set_walked(&root, &point(1)).unwrap();
    let now = Timestamp(70);
    journal
        .begin_unreadable(&root, (&path("/b"), ZNODE), &point(1), now)
        .unwrap();
    journal.commit().unwrap();
    journal
        .begin_unreadable(&root, (&path("/a"), ZNODE), &point(1), now)
        .unwrap();
    journal.rollback().unwrap();
    // What was rolled back was never said.
    let open = journal.open_unreadable(&root).unwrap();
    assert_eq!(open.len(), 1);
    // It was read with its record, which is later than the walk.
    assert_eq!(
        open[0].since,
        HistoryPoint {
            seq: Seq(2),
            ..point(1)
        }
    );
    assert_eq!((open[0].found, open[0].until), ((Seq(3), now), None));
    drop(journal);

    let mut journal = scratch.open();
    assert_eq!(journal.walked(&root).unwrap(), point(1));
    assert_eq!(journal.open_unreadable(&root).unwrap(), open);
    assert_eq!(journal.open_unreadable(&path("/a")).unwrap(), []);
    // It is known already.
    journal
        .begin_unreadable(&root, (&path("/b"), ZNODE), &point(3), Timestamp(90))
        .unwrap();
    assert_eq!(journal.open_unreadable(&root).unwrap(), open);
    journal.end_unreadable((&path("/b"), ZNODE), &point(3)).unwrap();
    journal.commit().unwrap();
    assert_eq!(journal.open_unreadable(&root).unwrap(), []);
    drop(journal);
    let mut reader = scratch.reader();
    let spans = reader.unreadable().unwrap();
    assert_eq!(spans[0].until, Some(point(3)));
    assert_eq!(reader.inspect(|_| {}).unwrap().findings, []);
    assert_eq!(reader.unreadable_unknown_until().unwrap(), Some(Seq::ZERO));
}

#[test]
fn more_unreadable_znodes_than_are_kept_by_name_make_their_root_uncertain_from_the_earliest_on() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(&mut journal, [created("/a", 5, "x")]);
    let (root, unnamed) = (ZnodePath::slash(), UnreadableExtent::Unnamed);
    for number in 0..SPANS_MAX {
        let znode = path(&format!("/a/{number}"));
        journal
            .begin_unreadable(&root, (&znode, ZNODE), &HistoryPoint::default(), Timestamp(1))
            .unwrap();
    }
    let mut begin = |text: &str, since| {
        journal
            .begin_unreadable(&root, (&path(text), ZNODE), &since, Timestamp(2))
            .unwrap();
        let mut spans = journal.open_unreadable(&root).unwrap();
        spans.retain(|span| span.extent == unnamed);
        assert_eq!(spans.len(), 1);
        spans.remove(0)
    };
    let first = begin("/b", point(1));
    assert_eq!((&first.path, first.since), (&root, point(1)));
    // A later one is in the same span, which begins with the earlier of both.
    assert_eq!(
        begin("/c", HistoryPoint::default()).since,
        HistoryPoint::default()
    );
    journal.end_unreadable((&root, unnamed), &point(1)).unwrap();
    // Where it goes on, it has never ended.
    let mut begin = |text: &str| {
        journal
            .begin_unreadable(&root, (&path(text), ZNODE), &point(1), Timestamp(2))
            .unwrap();
    };
    begin("/d");
    let spans = journal.open_unreadable(&root).unwrap();
    assert_eq!(spans.len(), SPANS_MAX + 1);
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(scratch.reader().unreadable().unwrap().len(), SPANS_MAX + 1);
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn a_journal_of_the_eleventh_format_says_up_to_which_record_unreadable_znodes_are_not_known() {
    let scratch = Scratch::new();
    append_all(
        &mut scratch.open(),
        [created("/a", 5, "x"), created("/b", 6, "x")],
    );
    take_back_to(&scratch, 11);
    let mut reader = scratch.reader();
    assert_eq!(reader.unreadable().unwrap(), []);
    assert_eq!(reader.unreadable_unknown_until().unwrap(), None);
    assert_eq!(reader.inspect(|_| {}).unwrap().findings, []);
    drop(reader);

    let mut journal = scratch.open();
    let root = ZnodePath::slash();
    assert_eq!(journal.walked(&root).unwrap(), HistoryPoint::default());
    journal
        .begin_unreadable(
            &root,
            (&path("/a"), ZNODE),
            &HistoryPoint::default(),
            Timestamp(1),
        )
        .unwrap();
    journal.commit().unwrap();
    drop(journal);
    let mut reader = scratch.reader();
    assert_eq!(reader.unreadable().unwrap().len(), 1);
    assert_eq!(reader.unreadable_unknown_until().unwrap(), Some(Seq(2)));
    assert_eq!(reader.inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn a_span_that_no_history_can_have_is_a_finding() {
    let check = |sql: &str, is_found: bool| {
        let scratch = Scratch::new();
        let mut journal = scratch.open();
        append_all(&mut journal, [created("/a", 5, "x"), created("/b", 6, "x")]);
        journal
            .begin_unreadable(
                &ZnodePath::slash(),
                (&path("/a"), ZNODE),
                &HistoryPoint::default(),
                Timestamp(1),
            )
            .unwrap();
        journal.commit().unwrap();
        drop(journal);
        let connection = rusqlite::Connection::open(scratch.file()).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let found = scratch.reader().inspect(|_| {}).unwrap().findings;
        let subjects: Vec<&str> = found.iter().map(|finding| finding.subject).collect();
        let expected: &[&str] = if is_found { &["unreadable"] } else { &[] };
        assert_eq!(subjects, expected, "{sql}");
    };
    check("", false);
    check("UPDATE unreadable SET since_seq = found_seq + 1", true);
    check("UPDATE unreadable SET found_seq = 3", true);
    check("UPDATE unreadable SET until_seq = 2", true);
    check(
        "UPDATE unreadable SET until_seq = 2, until_zxid = 6, until_time = 1",
        false,
    );
    check("UPDATE unreadable SET path = 'a'", true);
    check(
        "INSERT INTO unreadable(path, extent, since_seq, since_zxid, since_time, found_seq, found_time)
            SELECT path, extent, since_seq, since_zxid, since_time, found_seq, found_time FROM unreadable",
        true,
    );
}
