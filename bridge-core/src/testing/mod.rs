//! Shared by the tests of this crate and of every sink: records, a journal in memory, faults, and the contract suite
//! that each sink passes at its real destination.
//!
//! Compiled only in tests and with the cargo feature `testing`; never part of the program.

mod beside_a_taken_path;
mod faults;
mod journal;
mod kept;
mod memory;
mod model;
mod model_backlog;
mod model_journal;
mod model_unreadable;
mod ratio;
mod records;
mod subtrees;
mod suite;
#[cfg(test)]
mod tests;
pub mod transactions;

pub use beside_a_taken_path::a_path_that_fails_beside_a_taken_one_waits_longer_and_is_given_up;
pub use faults::{Fault, FaultScript, FaultySink};
#[cfg(test)]
pub(crate) use journal::restated;
pub use journal::{MemoryJournal, MemoryTail};
pub use kept::assert_kept_contract;
pub use memory::{MemoryDestination, MemorySink};
pub use model::{Model, Znode};
pub use model_backlog::ModelBacklog;
pub use model_journal::{ModelDisk, ModelJournal, ModelState, records_after};
pub use model_unreadable::ModelUnreadable;
pub use ratio::Ratio;
pub use records::{RecordBuilder, a_record, limit_records, some_changes, some_records};
pub use subtrees::MemorySubtrees;
pub use suite::{
    Arrived, Rig, a_cancelled_delivery_loses_nothing, a_crash_before_the_answer_loses_nothing,
    a_destination_that_fails_for_long_gets_everything_when_it_is_back, close_leaves_everything_durable,
    deferred_records_hold_only_their_path, delivery_goes_on_after_every_fault, every_promise,
    everything_arrives_in_order, other_paths_go_on_while_some_fail, records_at_the_limits_arrive_as_they_are,
    rejected_records_let_the_others_pass, the_same_sink_goes_on_after_it_is_opened_again,
};
