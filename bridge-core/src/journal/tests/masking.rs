//! Masked values in the journal: new ones, and those that it had before.

use std::fs;
use std::sync::Arc;

use super::scratch::*;
use crate::journal::{BacklogChange, Journal, JournalWriter, SinkProgress, SinkState};
use crate::number::Seq;
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
        reason: "no".into(),
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
    assert!(journal.set_masking(masks(&["/secret"])).unwrap() > 0);
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
