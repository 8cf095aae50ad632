//! Negative controls: each wrong habit of a bridge must be caught, within the seeds that every test run plays.

use bridge_simulator::controls::Habit;
use bridge_simulator::run::{sends_zxids, try_play};

/// As many as `tests/seeds.rs` plays.
const SEEDS: u64 = 3_000;

/// Plays seeds until the habit is caught. `words`: what the judge says when it is caught for what it does; the habit may
/// have other consequences in other seeds.
fn is_caught(habit: Habit, words: &[&str]) {
    // The words of those that are caught are expected.
    std::panic::set_hook(Box::new(|_| {}));
    let mut others = Vec::new();
    for seed in (0..SEEDS).filter(|seed| sends_zxids(*seed) || habit != Habit::TornMulti) {
        let Err(failure) = try_play(seed, Some(habit)) else {
            continue;
        };
        if words.iter().any(|words| failure.message.contains(words)) {
            return;
        }
        others.push(format!(
            "{seed}: {}",
            failure.message.chars().take(200).collect::<String>()
        ));
    }
    drop(std::panic::take_hook());
    panic!("{habit:?} is not caught for what it does, but for {others:#?}");
}

#[test]
fn walking_before_the_watch_is_armed_is_caught() {
    is_caught(
        Habit::WalkBeforeArmed,
        &["the fold of", "at rest:", "and is not known", "is known"],
    );
}

#[test]
fn trusting_a_watch_across_a_reconnect_is_caught() {
    is_caught(
        Habit::WatchTrusted,
        &["the fold of", "at rest:", "a doubt without a reason"],
    );
}

#[test]
fn comparing_by_version_only_is_caught() {
    is_caught(
        Habit::VersionOnly,
        &[
            "at rest:",
            "and is not known",
            "is known",
            "a doubt without a reason",
        ],
    );
}

#[test]
fn accepting_a_delete_without_the_proof_by_pzxid_is_caught() {
    is_caught(Habit::DeleteWithoutProof, &["the znode lives", "was at"]);
}

#[test]
fn reading_without_a_sync_after_a_reconnect_is_caught() {
    is_caught(Habit::NoSync, &["lag without a reason"]);
}

#[test]
fn a_checkpoint_after_the_acknowledgement_instead_of_a_journal_before_it_is_caught() {
    is_caught(
        Habit::CheckpointAfterAck,
        &["got another record at", "which passes no filter"],
    );
}

#[test]
fn a_value_at_the_zxid_of_another_write_is_caught() {
    is_caught(Habit::WrongZxid, &["holds a value that the znode never had then"]);
}

#[test]
fn an_access_control_list_of_another_change_is_caught() {
    is_caught(Habit::ListUnchecked, &["with the list of another change"]);
}

#[test]
fn dropping_the_children_of_a_recreated_parent_is_caught() {
    is_caught(Habit::ChildrenDroppedWithParent, &["the znode lives", "was at"]);
}

#[test]
fn a_cursor_that_is_stored_before_the_answer_is_caught() {
    is_caught(Habit::CursorBeforeAck, &["never got", "right after"]);
}

#[test]
fn a_progress_that_skips_records_is_refused() {
    is_caught(
        Habit::ProgressSkipped,
        &["records between them are in no progress"],
    );
}

#[test]
fn keeping_from_the_journal_which_znodes_may_not_be_read_is_caught() {
    is_caught(Habit::UnreadableUnsaid, &["and the journal does not say so"]);
}

#[test]
fn taking_the_finding_of_an_unreadable_znode_for_its_begin_is_caught() {
    is_caught(Habit::UnreadableLate, &["is said to be known up to"]);
}

#[test]
fn saying_ahead_of_time_until_when_capture_is_live_is_caught() {
    is_caught(Habit::LiveAhead, &["when capture was not live"]);
}

#[test]
fn saying_without_a_watch_that_capture_is_live_is_caught() {
    is_caught(Habit::LiveWithoutWatch, &["when capture was not live"]);
}

#[test]
fn saying_right_after_a_stop_that_capture_is_live_is_caught() {
    is_caught(
        Habit::LiveAfterStop,
        &["after the last moment at which a change would have been heard of"],
    );
}

#[test]
fn a_multi_that_is_torn_apart_is_caught() {
    is_caught(Habit::TornMulti, &["are torn apart"]);
}
