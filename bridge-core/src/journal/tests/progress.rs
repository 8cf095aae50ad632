//! Which progress follows a cursor, and which is refused.

use super::scratch::*;
use super::sinks::progress;
use crate::journal::{
    BacklogChange::Released, Journal, JournalWriter, ProgressError, RangeMismatch, RefusedProgress, SeqRange,
    SinkProgress, SinkState, Switch,
};
use crate::number::Seq;

fn covers(from: u64, to: u64) -> SinkProgress {
    SinkProgress {
        from: Seq(from),
        ..progress("one", to, &[])
    }
}

/// Nine records, and sink `one` at cursor 5.
fn at_five(scratch: &Scratch) -> Journal {
    let mut journal = scratch.open();
    append_all(
        &mut journal,
        (1..=9).map(|zxid| created(&format!("/a{zxid}"), zxid, "x")),
    );
    journal.register_sink("one", Seq(5)).unwrap();
    journal.commit().unwrap();
    journal
}

/// Stores the range at cursor 5, and joins it with a progress that waits and ends at 5: both must say the same.
fn refused_at_five(from: u64, to: u64) -> RangeMismatch {
    let scratch = Scratch::new();
    let mut journal = at_five(&scratch);
    let later = SinkProgress {
        changes: vec![Released(Seq(1))],
        switch: Some(Switch::Enabled),
        ..covers(from, to)
    };
    let Err(ProgressError::Refused(refused)) = journal.store_progress(&later) else {
        panic!("({from}, {to}] is stored at cursor 5");
    };
    journal.store_progress(&covers(5, 6)).expect("the batch goes on");
    journal.commit().unwrap();
    assert_eq!(journal.cursor("one").unwrap(), Some(Seq(6)));

    let mut waiting = covers(3, 5);
    assert_eq!(waiting.absorb(later, Seq(9)).unwrap_err(), refused);
    assert_eq!(waiting, covers(3, 5), "what waits stays as it is");
    refused.misfit
}

#[test]
fn an_adjacent_progress_moves_the_cursor_and_joins_the_one_that_waits() {
    let scratch = Scratch::new();
    let mut journal = at_five(&scratch);
    journal.store_progress(&covers(5, 7)).unwrap();
    journal.store_progress(&covers(7, 9)).unwrap();
    assert_eq!(journal.cursor("one").unwrap(), Some(Seq(9)));
    let mut waiting = covers(3, 5);
    waiting.absorb(covers(5, 7), Seq(9)).unwrap();
    waiting.absorb(covers(7, 9), Seq(9)).unwrap();
    assert_eq!(waiting, covers(3, 9));
}

#[test]
fn an_empty_progress_at_or_before_the_cursor_moves_nothing() {
    let scratch = Scratch::new();
    let mut journal = at_five(&scratch);
    let mut waiting = covers(3, 5);
    for at in [5, 3] {
        journal.store_progress(&covers(at, at)).unwrap();
        waiting.absorb(covers(at, at), Seq(9)).unwrap();
    }
    assert_eq!(journal.cursor("one").unwrap(), Some(Seq(5)));
    assert_eq!(waiting, covers(3, 5));
}

#[test]
fn a_duplicate_progress_is_refused() {
    assert_eq!(refused_at_five(3, 5), RangeMismatch::Duplicate);
}

#[test]
fn a_progress_after_a_hole_is_refused() {
    assert_eq!(refused_at_five(7, 9), RangeMismatch::Hole);
    assert_eq!(refused_at_five(7, 7), RangeMismatch::Hole);
}

#[test]
fn a_progress_that_overlaps_is_refused() {
    assert_eq!(refused_at_five(3, 9), RangeMismatch::Overlap);
}

#[test]
fn a_progress_that_goes_back_is_refused() {
    assert_eq!(refused_at_five(2, 4), RangeMismatch::GoesBack);
    assert_eq!(refused_at_five(9, 7), RangeMismatch::GoesBack);
}

#[test]
fn a_progress_that_ends_after_the_last_record_is_refused() {
    assert_eq!(refused_at_five(5, 10), RangeMismatch::PastTail);
}

#[test]
fn a_progress_that_sets_a_record_aside_which_it_does_not_cover_is_refused() {
    let scratch = Scratch::new();
    let mut journal = at_five(&scratch);
    let mut ahead = covers(5, 6);
    ahead.changes = progress("one", 0, &[7]).changes;
    let Err(ProgressError::Refused(refused)) = journal.store_progress(&ahead) else {
        panic!("record 7 is a dead letter before the cursor has reached it");
    };
    assert_eq!(refused.misfit, RangeMismatch::AsideAhead);
    journal.commit().unwrap();
    assert_eq!(scratch.reader().letters("one", Seq::ZERO, 9).unwrap(), []);
    assert_eq!(journal.cursor("one").unwrap(), Some(Seq(5)));
}

#[test]
fn a_progress_of_a_sink_that_is_not_registered_is_refused() {
    let scratch = Scratch::new();
    let mut journal = at_five(&scratch);
    let Err(ProgressError::Refused(refused)) = journal.store_progress(&progress("two", 1, &[])) else {
        panic!("sink 'two' has no cursor");
    };
    assert_eq!(refused.misfit, RangeMismatch::UnknownSink);
    assert_eq!(journal.cursor("two").unwrap(), None);
}

#[test]
fn a_refused_progress_names_its_sink_the_cursor_and_the_range_and_says_what_to_do() {
    let refused = RefusedProgress {
        sink: "one".into(),
        cursor: Seq(5),
        range: SeqRange {
            from: Seq(7),
            to: Seq(9),
        },
        misfit: RangeMismatch::Hole,
    };
    let message = refused.to_string();
    let expected = "the progress of sink 'one' does not follow its cursor 5: (7, 9]: records between them are in no \
                    progress\nhelp: restart the bridge";
    assert!(message.starts_with(expected), "{message}");
}
