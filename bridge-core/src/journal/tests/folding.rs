//! A journal that compacts: what goes, what stays, and that every sink still gets the truth.

use super::scratch::*;
use crate::amount::Size;
use crate::append::{Append, ChangeKind, RecordKind};
use crate::image_txn::ImageTxn;
use crate::journal::{
    BacklogChange, Folded, Journal, JournalErrorKind, JournalWriter, ReadLimit, SinkProgress, SinkRun,
    SinkState, WhenFull,
};
use crate::number::{Epoch, Seq, Zxid};
use crate::record::{GapReason, Op, Record};

/// A journal that compacts, of the usual size.
pub fn compacting() -> Scratch {
    let mut scratch = Scratch::new();
    scratch.options.when_full = WhenFull::Compact;
    scratch
}

/// A whole round, whatever room there is.
pub fn fold_all(journal: &mut Journal) -> u64 {
    journal.folding.press();
    let mut records = 0;
    loop {
        let folded = journal.fold(7).unwrap();
        records += folded.records;
        if !folded.more {
            return records;
        }
    }
}

fn moved(sink: &str, cursor: u64) -> SinkProgress {
    SinkProgress {
        sink: sink.into(),
        to: Seq(cursor),
        ..SinkProgress::default()
    }
}

/// `/a` from version 0 at zxid 1 up to this version, each zxid one above the last.
fn writes(versions: u64) -> impl Iterator<Item = Append> {
    std::iter::once(created("/a", 1, "0")).chain((1..=versions).map(write))
}

fn write(version: u64) -> Append {
    updated(
        "/a",
        1,
        version + 1,
        i32::try_from(version).unwrap(),
        &version.to_string(),
    )
}

fn seqs(scratch: &Scratch) -> Vec<u64> {
    scratch.records().iter().map(|record| record.seq.0).collect()
}

/// The data before and after.
fn data_of(record: &Record) -> [Option<String>; 2] {
    [&record.before, &record.after].map(|state| {
        let data = state.as_ref()?.data.as_ref()?;
        Some(String::from_utf8_lossy(&data.bytes).into_owned())
    })
}

#[track_caller]
fn check_whole(scratch: &Scratch) {
    let found = scratch.reader().inspect(|_| {}).unwrap();
    assert_eq!(found.findings, [], "the journal is whole");
}

#[test]
fn of_the_undelivered_writes_of_a_znode_only_the_newest_stays_and_counts_the_others() {
    let scratch = compacting();
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    append_all(&mut journal, writes(10));
    let last = scratch.records().pop().unwrap();

    assert_eq!(fold_all(&mut journal), 9);

    let records = scratch.records();
    assert_eq!(seqs(&scratch), [1, 11]);
    let kept = &records[1];
    assert_eq!(
        (kept.id, kept.zxid, &kept.after, kept.time),
        (last.id, last.zxid, &last.after, last.time)
    );
    assert_eq!(data_of(kept), [Some("0".into()), Some("10".into())]);
    assert_eq!(kept.missed, Some(9));
    assert_eq!(kept.superseded, (2..=10).map(Zxid).collect::<Vec<_>>());
    let stats = journal.stats().unwrap();
    assert_eq!((stats.records, stats.compacted, stats.tail), (2, 9, Seq(11)));
    check_whole(&scratch);
}

#[test]
fn without_the_choice_nothing_is_compacted() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    append_all(&mut journal, writes(10));
    assert_eq!(fold_all(&mut journal), 0);
    assert_eq!(scratch.records().len(), 11);
}

#[test]
fn a_journal_that_compacts_takes_many_times_its_size_of_writes() {
    let mut scratch = compacting();
    scratch.options.max_size = Size(1 << 20);
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    let (mut rounds, mut slices) = (0, 0);
    for index in 1..=3000_u64 {
        let text = format!("{index:04000}");
        let entry = match index {
            1 => created("/busy", 1, &text),
            _ => updated("/busy", 1, index, i32::try_from(index).unwrap(), &text),
        };
        append_all(&mut journal, [entry]);
        let Folded { began, records, .. } = journal.fold(100).unwrap();
        rounds += u64::from(began);
        slices += u64::from(records > 0);
    }
    assert!(journal.stats().unwrap().used_bytes < 1 << 20);
    let records = scratch.records();
    let kept = records.last().unwrap();
    assert_eq!((kept.seq, kept.before.is_some()), (Seq(3000), true));
    let versions: u64 = records[1..].iter().map(|record| record.missed.unwrap() + 1).sum();
    assert_eq!(versions, 2999, "each write is there or counted");
    // A tenth of the limit is some 25 records, which come between a rest and the next slice.
    assert!(rounds < 100 && slices < 300, "{rounds} rounds, {slices} slices");
    check_whole(&scratch);
}

#[test]
fn a_journal_of_lives_that_begin_and_end_is_full_and_says_that_compacting_did_not_help() {
    let mut scratch = compacting();
    scratch.options.max_size = Size(1 << 20);
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    let mut zxid = 0;
    let error = loop {
        zxid += 1;
        let entry = match zxid % 2 {
            1 => created("/flag", zxid, &"x".repeat(3000)),
            _ => deleted("/flag", zxid),
        };
        if let Err(error) = journal.append(entry) {
            journal.rollback().unwrap();
            break error;
        }
        journal.commit().unwrap();
        journal.fold(1000).unwrap();
    };
    assert_eq!(error.kind, JournalErrorKind::Full);
    let message = error.to_string();
    assert!(message.contains("'slow'"), "{message}");
    assert!(message.contains("only the newest write"), "{message}");
    assert_eq!(fold_all(&mut journal), 0);
    assert_eq!(scratch.records().len() as u64, zxid - 1);
    // Nothing has changed since: it is not gone over again for each batch that is refused.
    journal.folding.press();
    assert_eq!(journal.fold(1).unwrap().ended, Some(0));
}

#[test]
fn no_fold_crosses_a_cursor_nor_touches_what_a_worker_holds() {
    let scratch = compacting();
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    journal.register_sink("fast", Seq::ZERO).unwrap();
    append_all(&mut journal, writes(29));
    journal.advance(&moved("slow", 2)).unwrap();
    journal.advance(&moved("fast", 20)).unwrap();
    journal.commit().unwrap();
    let mut slow = journal.reader_for("slow").unwrap();
    let limit = ReadLimit {
        records: 5,
        bytes: usize::MAX,
    };
    assert_eq!(slow.read(Seq(2), limit).unwrap().len(), 5);

    fold_all(&mut journal);

    // 1, 2: delivered to both, and gone. 3 to 7: with the worker. 20: the last that the fast sink has.
    let kept = scratch.records();
    let kept_seqs: Vec<(u64, u64)> = kept
        .iter()
        .map(|record| (record.seq.0, record.missed.unwrap()))
        .collect();
    assert_eq!(kept_seqs[..5], [3, 4, 5, 6, 7].map(|seq| (seq, 0)));
    assert_eq!(kept_seqs[5..], [(20, 12), (30, 9)]);
    check_whole(&scratch);

    // A worker that begins anew has nothing yet.
    drop(journal.reader_for("slow").unwrap());
    fold_all(&mut journal);
    assert_eq!(seqs(&scratch), [20, 30]);
    check_whole(&scratch);
}

#[test]
fn dead_letters_and_parked_records_stay_as_they_are() {
    let scratch = compacting();
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    journal.register_sink("fast", Seq::ZERO).unwrap();
    append_all(&mut journal, writes(9));
    let before = scratch.records();
    let changes = vec![
        BacklogChange::Rejected {
            seq: Seq(4),
            path: None,
            reason: "too large".into(),
            attempts: 1,
        },
        BacklogChange::Replayed {
            seq: Seq(7),
            path: None,
        },
    ];
    journal
        .advance(&SinkProgress {
            changes,
            ..moved("fast", 10)
        })
        .unwrap();
    journal.commit().unwrap();

    fold_all(&mut journal);

    assert_eq!(seqs(&scratch), [1, 3, 4, 6, 7, 10]);
    let mut reader = scratch.reader();
    let kept = reader.recall(&[Seq(4), Seq(7)]).unwrap();
    assert_eq!(kept, [before[3].clone(), before[6].clone()]);
    check_whole(&scratch);
}

#[test]
fn lives_brackets_and_access_control_lists_stay_and_nothing_is_folded_across_them() {
    let scratch = compacting();
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    let gap = |end| match end {
        false => RecordKind::GapBegin {
            epoch: Epoch(1),
            from_zxid: Zxid(9),
            reason: GapReason::Disconnected,
        },
        true => RecordKind::GapEnd {
            epoch: Epoch(1),
            from_zxid: Zxid(9),
            to_zxid: Zxid(20),
            reason: GapReason::Disconnected,
            differences: 1,
        },
    };
    append_all(
        &mut journal,
        [
            created("/a", 1, "0"),
            updated("/a", 1, 2, 1, "1"),
            updated("/a", 1, 3, 2, "2"),
            deleted("/a", 4),
            created("/a", 5, "new"),
            updated("/a", 5, 6, 1, "newer"),
            seen(
                "/a",
                ChangeKind::AclChanged {
                    zxid: None,
                    stat: stat(5, 6, 1),
                    acl: None,
                },
            ),
            updated("/a", 5, 7, 2, "newest"),
            control_record(Some("/"), gap(false)),
            updated("/a", 5, 8, 3, "found"),
            control_record(Some("/"), gap(true)),
            updated("/a", 5, 9, 4, "seen"),
        ],
    );
    let truth = scratch.records();

    assert_eq!(fold_all(&mut journal), 2);

    let kept = scratch.records();
    assert_eq!(seqs(&scratch), [1, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(kept[1].op, Op::Delete);
    assert_eq!(data_of(&kept[1]), [Some("0".into()), None]);
    assert_eq!((kept[1].missed, kept[1].superseded.len()), (Some(2), 2));
    assert_eq!(kept[2..], truth[4..], "all others are as they were");
    check_whole(&scratch);
}

#[test]
fn retention_takes_holes_along_and_the_history_says_how_many_records_went_into_one() {
    let scratch = compacting();
    let mut journal = scratch.open();
    journal.register_sink("slow", Seq::ZERO).unwrap();
    append_all(&mut journal, writes(9));
    fold_all(&mut journal);
    append_all(&mut journal, (10..=19).map(write));
    fold_all(&mut journal);

    let history = scratch.reader().history(&path("/a"), None, 99).unwrap().unwrap();
    let seqs: Vec<u64> = history.records.iter().map(|record| record.seq.0).collect();
    assert_eq!(seqs, [20, 1]);
    assert_eq!(history.compacted.into_iter().collect::<Vec<_>>(), [(Seq(20), 18)]);
    assert!(!history.is_cut);
    let mut reader = scratch.reader();
    assert_eq!(
        reader.captured_from(Seq(5)).unwrap(),
        Some(NOON),
        "what waits in a hole waits in the record that it went into"
    );
    assert_eq!(reader.captured_from(Seq(21)).unwrap(), None);

    append_all(&mut journal, [write(20), write(21)]);
    journal.advance(&moved("slow", 20)).unwrap();
    journal.commit().unwrap();
    let far = crate::record::Timestamp(i64::MAX);
    while journal.maintain(far, 6).unwrap().more {}
    let stats = journal.stats().unwrap();
    assert_eq!(
        (stats.records, stats.oldest.map(|(seq, _)| seq)),
        (2, Some(Seq(21)))
    );
    assert_eq!(stats.compacted, 18);
    check_whole(&scratch);
    drop(journal);
    let mut journal = scratch.open();
    let again = journal.stats().unwrap();
    assert_eq!((again.records, again.compacted), (2, 18));
    assert_eq!(scratch.reader().overview().unwrap().records, 2);
}

#[test]
fn a_loss_beside_holes_is_still_found() {
    for (lost, next) in [(10, 11), (11, 12)] {
        let scratch = compacting();
        let mut journal = scratch.open();
        journal.register_sink("slow", Seq::ZERO).unwrap();
        append_all(&mut journal, writes(9));
        append_all(&mut journal, [created("/b", 100, "x"), created("/c", 101, "x")]);
        fold_all(&mut journal);
        assert_eq!(seqs(&scratch), [1, 10, 11, 12]);
        let sql = "DELETE FROM record WHERE seq = ?1";
        journal.connection.execute(sql, [lost]).unwrap();
        let found = scratch.reader().inspect(|_| {}).unwrap().findings;
        let is_named = found.iter().any(|finding| {
            finding.seq == Some(Seq(next)) && finding.message == "the record before it is missing"
        });
        assert!(is_named, "{lost}: {found:?}");
    }
}

#[test]
fn a_run_from_the_image_is_the_same_after_compaction() {
    let run_records = |is_folded: bool| {
        let scratch = compacting();
        let mut journal = scratch.open();
        journal.register_sink("slow", Seq::ZERO).unwrap();
        append_all(&mut journal, [created("/b", 100, "x")]);
        append_all(&mut journal, writes(9));
        if is_folded {
            assert_eq!(fold_all(&mut journal), 8);
        }
        let mut run = SinkRun::new(uuid::Uuid::nil(), None, NOON);
        run.at = Some(journal.tail());
        let mut delivered = Vec::new();
        let mut reader = scratch.reader();
        let mut next = Some(run);
        while let Some(run) = next {
            let page = reader.snapshot_page(&run, ALL).unwrap();
            delivered.extend(page.records);
            next = page.next;
        }
        delivered
    };
    let delivered = run_records(true);
    assert_eq!(delivered, run_records(false));
    assert!(delivered.len() >= 2, "{delivered:?}");
}
