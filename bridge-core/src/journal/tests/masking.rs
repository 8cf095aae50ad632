//! Masked values in the journal: new ones, and those that it had before.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::scratch::*;
use crate::committed::{HistoryPosition, RawStat, ShadowKey, ShadowNode};
use crate::image_txn::ImageTxn;
use crate::journal::masking::stored_masks;
use crate::journal::{BacklogChange, Journal, JournalWriter, SinkProgress, SinkState};
use crate::number::{Seq, Zxid};
use crate::path_glob::path_glob;
use crate::record::{MaskKey, Masking, Timestamp};

const SECRET: &str = "hunter2-hunter2";

fn masks(globs: &[&str]) -> Option<Arc<Masking>> {
    let globs: Vec<_> = globs.iter().map(|glob| path_glob(glob).unwrap()).collect();
    Some(Arc::new(Masking::new(&globs, MaskKey::new([7; 32])).unwrap()))
}

/// Whether any file of the journal has the text.
fn files_hold(scratch: &Scratch, text: &str) -> bool {
    let folder = scratch.file().parent().unwrap().to_owned();
    let mut files = fs::read_dir(folder).unwrap();
    files.any(|file| {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

fn values(scratch: &Scratch, path: &str) -> Vec<(bool, bool)> {
    let records = scratch.records();
    let of_path = records
        .iter()
        .filter(|record| record.path.as_deref() == Some(path));
    let is_masked = |state: &Option<crate::record::State>| {
        let data = state.as_ref().and_then(|state| state.data.as_ref());
        data.is_some_and(|data| data.is_masked())
    };
    of_path
        .map(|record| (is_masked(&record.before), is_masked(&record.after)))
        .collect()
}

#[test]
fn the_value_of_a_masked_path_is_in_no_file_and_its_changes_show() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    journal.set_masking(masks(&["/secret"])).unwrap();
    append_all(
        &mut journal,
        [
            created("/secret", 1, SECRET),
            updated("/secret", 1, 2, 1, SECRET),
            updated("/secret", 1, 3, 2, "other"),
            created("/open", 4, "seen"),
        ],
    );
    assert_eq!(
        values(&scratch, "/secret"),
        [(false, true), (true, true), (true, true)]
    );
    assert_eq!(values(&scratch, "/open"), [(false, false)]);
    let records = scratch.records();
    let data = |at: usize| records[at].after.as_ref().unwrap().data.clone().unwrap();
    assert_eq!(data(0), data(1));
    assert_ne!(data(1), data(2));
    assert_eq!(records[2].before.as_ref().unwrap().data.as_ref(), Some(&data(1)));
    assert_eq!(data(0).size as usize, SECRET.len());
    drop(journal);
    assert!(!files_hold(&scratch, SECRET) && files_hold(&scratch, "seen"));
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

/// A journal of open values: in records, as a value that only the image has, and as a dead letter without its record.
fn filled() -> Scratch {
    let mut scratch = Scratch::new();
    scratch.options.retention = crate::amount::Horizon::For(crate::amount::Span::millis(0));
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        [
            created("/secret", 1, SECRET),
            created("/secret/kept", 2, SECRET),
            created("/open", 3, "seen"),
            updated("/secret", 1, 4, 1, &format!("{SECRET} again")),
        ],
    );
    journal.register_sink("one", Seq::ZERO).unwrap();
    let letter = BacklogChange::Rejected {
        seq: Seq(1),
        path: Some(path("/secret")),
        reason: format!("400 Bad Request: {SECRET}"),
        attempts: 1,
    };
    let progress = SinkProgress {
        sink: "one".into(),
        to: Seq(3),
        changes: vec![letter],
        ..SinkProgress::default()
    };
    journal.store_progress(&progress).unwrap();
    journal.commit().unwrap();
    while journal.maintain(Timestamp(i64::MAX), 9).unwrap().more {}
    drop(journal);
    scratch
}

#[test]
fn a_new_mask_replaces_every_copy_that_the_journal_has() {
    let scratch = filled();
    assert!(files_hold(&scratch, SECRET));
    let before = scratch.records();

    let mut journal = scratch.open();
    let replaced = journal.set_masking(masks(&["/secret"])).unwrap();
    assert!(replaced >= 3, "{replaced}");
    drop(journal);

    assert!(!files_hold(&scratch, SECRET));
    assert!(files_hold(&scratch, "seen"));
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
    let after = scratch.records();
    let ids = |records: &[Arc<crate::record::Record>]| records.iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids(&after), ids(&before), "a record keeps its id");
    let letters = scratch.reader().rejected("one", Seq::ZERO, 9).unwrap();
    let letter = letters[0].record.after.as_ref().unwrap();
    assert!(letter.data.as_ref().unwrap().is_masked());
    let reason = &letters[0].letter.reason;
    assert!(reason.contains("masked later"), "{reason}");

    // The next write has the masked value before it.
    let mut journal = scratch.open();
    journal.set_masking(masks(&["/secret"])).unwrap();
    append_all(&mut journal, [updated("/secret/kept", 2, 5, 1, "newer")]);
    assert_eq!(values(&scratch, "/secret/kept").last(), Some(&(true, true)));
}

#[test]
fn the_same_masks_go_over_the_file_once_and_without_masks_nothing_is_opened() {
    let scratch = filled();
    let mut journal = scratch.open();
    assert_eq!(journal.set_masking(None).unwrap(), 0);
    assert!(!journal.has_masks().unwrap());
    assert!(journal.set_masking(masks(&["/secret"])).unwrap() > 0);
    assert!(journal.has_masks().unwrap());
    assert_eq!(journal.set_masking(masks(&["/secret"])).unwrap(), 0);
    let masked = scratch.records();
    assert_eq!(journal.set_masking(None).unwrap(), 0);
    append_all(&mut journal, [updated("/secret/kept", 2, 5, 1, "newer")]);
    let records = scratch.records();
    assert_eq!(records[..masked.len()], masked[..], "a digest stays one");
    assert_eq!(values(&scratch, "/secret/kept").last(), Some(&(true, false)));
    drop(journal);
    let mut journal: Journal = scratch.open();
    assert_eq!(journal.set_masking(masks(&["/secret/kept"])).unwrap(), 1);
}

/// The position and a znode's checksum of a source that reads transactions.
fn prove(journal: &mut Journal) {
    let shadow = ShadowNode {
        crc: 7,
        stat: RawStat::default(),
    };
    journal
        .set_shadow(&ShadowKey::of("/secret"), Some(&shadow))
        .unwrap();
    journal.set_position(Some(&PROVED)).unwrap();
    journal.commit().unwrap();
}

const PROVED: HistoryPosition = HistoryPosition {
    zxid: Zxid(9),
    payload_crc: Some(1),
    digest: Some(2),
    epoch: 3,
    scope: 5,
    is_of_other_charset: false,
};

#[test]
fn with_masks_no_checksum_of_a_value_is_in_the_file() {
    let scratch = filled();
    let mut journal = scratch.open();
    prove(&mut journal);
    assert_eq!(journal.position().unwrap(), Some(PROVED));

    journal.set_masking(masks(&["/secret"])).unwrap();

    let expected = Some(PROVED.without_checksums());
    assert_eq!(journal.position().unwrap(), expected);
    let key = ShadowKey::of("/secret");
    assert_eq!(journal.shadow(&key).unwrap(), None);
    journal.set_position(Some(&PROVED)).unwrap();
    assert_eq!(journal.position().unwrap(), expected);
    let shadow = ShadowNode {
        crc: 7,
        stat: RawStat::default(),
    };
    let refused = journal.set_shadow(&key, Some(&shadow)).unwrap_err();
    assert!(refused.to_string().contains("keeps no checksums"), "{refused}");
}

#[test]
fn a_new_mask_leaves_no_value_in_pages_that_retention_freed() {
    let mut scratch = Scratch::new();
    scratch.options.retention = crate::amount::Horizon::For(crate::amount::Span::millis(0));
    let mut journal = scratch.open();
    let pages = SECRET.repeat(4_000);
    append_all(
        &mut journal,
        [
            created("/secret", 1, &pages),
            updated("/secret", 1, 2, 1, "short"),
            created("/open", 3, "seen"),
        ],
    );
    while journal.maintain(Timestamp(i64::MAX), 9).unwrap().more {}
    drop(journal);
    assert!(files_hold(&scratch, SECRET), "a freed page has it");

    let mut journal = scratch.open();
    journal.set_masking(masks(&["/secret"])).unwrap();
    drop(journal);

    assert!(!files_hold(&scratch, SECRET));
    assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []);
}

#[test]
fn a_mask_is_done_only_when_the_log_is_empty_and_until_then_each_start_tries_again() {
    let scratch = filled();
    let mut journal = scratch.open();
    journal
        .connection
        .busy_timeout(Duration::from_millis(10))
        .unwrap();
    let reader = rusqlite::Connection::open(scratch.file()).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = |reader: &rusqlite::Connection| {
        reader.query_row("SELECT count(*) FROM value", [], |row| row.get::<_, i64>(0))
    };
    assert!(count(&reader).unwrap() > 0);

    assert!(journal.set_masking(masks(&["/secret"])).unwrap() > 0);
    let stored = |journal: &Journal| stored_masks(&journal.connection).unwrap();
    assert_eq!(stored(&journal), 0, "a reader keeps the log");
    assert!(files_hold(&scratch, SECRET));
    drop(reader);
    assert_eq!(journal.set_masking(masks(&["/secret"])).unwrap(), 0);
    assert_ne!(stored(&journal), 0);
    assert!(!files_hold(&scratch, SECRET));
}
