//! Wrong habits of sources that read transactions, each of which the judge must catch. They live outside of the product: in
//! the driver between the leader and the machine, or in the journal.

use crate::controls::Habit;

/// One wrong habit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionHabit {
    /// A proposal is taken for a transaction before it is committed, as a reader of a member's log without the rule of
    /// commits would do.
    EmitsProposals,
    /// The ends of earlier epochs are not held back: the machine hears at once that it is up to date.
    HoldsNothingBack,
    /// When the leader cuts the history, the position goes back.
    RewindsAtCut,
    /// A multi that failed is applied.
    AppliesFailedMultis,
    /// A snapshot is taken for the tree at the zxid at which it began.
    TakesSnapshotsForExact,
    /// Missing transactions are not noticed.
    IgnoresHoles,
    /// What comes again is taken for new: a journal without its last position.
    ForgetsPosition,
    /// Each write of a multi has a record of its own.
    UnfoldsMultis,
    /// Capture is said to be live while the history of an absence is still being taken.
    LiveBeforeUpToDate,
    /// A bit of a field of each Stat is another one.
    FlipsStat(u8),
}

impl TransactionHabit {
    /// How many fields a Stat has.
    pub const STAT_FIELDS: u8 = 11;

    /// The habit of the journal, if it is one.
    pub(super) fn of_journal(self) -> Option<Habit> {
        match self {
            TransactionHabit::UnfoldsMultis => Some(Habit::Unfolded),
            TransactionHabit::FlipsStat(field) => Some(Habit::StatFlipped(field)),
            _ => None,
        }
    }

    /// Whether the digest of the tree would find it before the judge: it is switched off, as servers can.
    pub(super) fn needs_no_digest(self) -> bool {
        self.of_journal().is_none() && self != TransactionHabit::HoldsNothingBack
    }
}
