//! The world of a source that reads transactions: seeds with every kind of fault, and its negative controls.
//! `ZKBRIDGE_SEED=n` replays one seed with a trace; `ZKBRIDGE_SEEDS=n` plays another number of them.

use bridge_simulator::coverage::Reached;
use bridge_simulator::run::check_seeds;
use bridge_simulator::transactions::{TransactionHabit, play, try_play};

/// Some seconds of a busy machine.
const SEEDS: u64 = 3_000;

/// Seeds within which a habit has to be caught.
const CONTROL_SEEDS: u64 = 600;

#[test]
fn every_committed_version_is_durable_once_and_exactly_whatever_fails() {
    check_seeds(SEEDS, |seed, is_traced| play(seed, None, is_traced));
}

/// A seed that does not play the same twice could not be replayed.
#[test]
fn a_seed_of_transactions_plays_the_same_every_time() {
    let table = |seed| play(seed, None, false).table();
    for seed in [4, 27, 115] {
        assert_eq!(table(seed), table(seed), "seed {seed}");
    }
}

/// Plays seeds until the judge says one of these words.
fn is_caught(habit: TransactionHabit, words: &[&str]) {
    let mut others = Vec::new();
    for seed in 0..CONTROL_SEEDS {
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
    panic!("{habit:?} is not caught for what it does, but for {others:#?}");
}

#[test]
fn taking_a_proposal_for_a_transaction_is_caught() {
    is_caught(
        TransactionHabit::EmitsProposals,
        &["is of a transaction that was not committed"],
    );
}

#[test]
fn holding_nothing_back_is_caught() {
    is_caught(
        TransactionHabit::HoldsNothingBack,
        &["is of a transaction that was not committed"],
    );
}

#[test]
fn going_back_where_a_leader_cuts_the_history_is_caught() {
    is_caught(
        TransactionHabit::RewindsAtCut,
        &["the whole history was sent", "comes again"],
    );
}

#[test]
fn applying_a_multi_that_failed_is_caught() {
    is_caught(
        TransactionHabit::AppliesFailedMultis,
        &[
            "a record, and then the one of the history",
            "the whole history was sent",
        ],
    );
}

#[test]
fn taking_a_snapshot_for_the_tree_at_its_beginning_is_caught() {
    is_caught(
        TransactionHabit::TakesSnapshotsForExact,
        &["the fold, and then the tree", "the whole history was sent"],
    );
}

#[test]
fn not_noticing_a_missing_transaction_is_caught() {
    is_caught(
        TransactionHabit::IgnoresHoles,
        &["has no record", "the whole history was sent"],
    );
}

#[test]
fn forgetting_the_last_position_is_caught() {
    is_caught(
        TransactionHabit::ForgetsPosition,
        &["the whole history was sent", "comes again"],
    );
}

#[test]
fn saying_that_capture_is_live_before_it_is_up_to_date_is_caught() {
    is_caught(TransactionHabit::LiveBeforeUpToDate, &["which it misses"]);
}

#[test]
fn a_record_for_each_write_of_a_multi_is_caught() {
    is_caught(
        TransactionHabit::UnfoldsMultis,
        &[
            "a record, and then the one of the history",
            "the whole history was sent",
        ],
    );
}

#[test]
fn one_flipped_bit_of_any_field_of_a_stat_is_caught() {
    for field in 0..TransactionHabit::STAT_FIELDS {
        is_caught(
            TransactionHabit::FlipsStat(field),
            &[
                "a record, and then the one of the history",
                "the fold, and then the tree",
                "the image, and then the tree",
            ],
        );
    }
}
