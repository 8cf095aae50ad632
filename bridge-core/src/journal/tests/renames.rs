//! Cursors that get the name of another sink.

use super::scratch::*;
use crate::journal::{BacklogChange, JournalWriter, SinkProgress, SinkState};
use crate::number::Seq;

#[test]
fn a_renamed_sink_keeps_its_cursor_and_its_dead_letters_and_takes_no_other_one_s() {
    let scratch = Scratch::new();
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        (1..=3).map(|zxid| created(&format!("/n{zxid}"), zxid, "x")),
    );
    journal.register_sink("old", Seq::ZERO).unwrap();
    journal.register_sink("other", Seq(1)).unwrap();
    let letter = BacklogChange::Rejected {
        seq: Seq(2),
        path: None,
        reason: "too large".into(),
        attempts: 1,
    };
    let progress = SinkProgress {
        sink: "old".into(),
        to: Seq(2),
        changes: vec![letter],
        ..SinkProgress::default()
    };
    journal.advance(&progress).unwrap();
    journal.commit().unwrap();

    assert!(
        !journal.rename_sink("old", "other").unwrap(),
        "it has a cursor of its own"
    );
    assert!(!journal.rename_sink("nobody", "new").unwrap());
    assert!(journal.rename_sink("old", "new").unwrap());
    journal.commit().unwrap();
    assert_eq!(
        (journal.cursor("old").unwrap(), journal.cursor("new").unwrap()),
        (None, Some(Seq(2)))
    );
    let letters = scratch.reader().letters("new", Seq::ZERO, 9).unwrap();
    assert_eq!(letters[0].seq, Seq(2));
    assert!(scratch.reader().letters("old", Seq::ZERO, 9).unwrap().is_empty());
}
