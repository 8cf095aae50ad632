//! Counts the faults and states of this world.

use crate::coverage::states;

states! {
    Encountered, Encounters:
    Committed "transaction committed"
    Multi "multi committed"
    FailedMulti "multi that failed"
    SessionEnded "session ended"
    Elected "leader changed"
    TailDied "proposals that died with their leader"
    Connected "connection made"
    Cut "connection cut"
    Diff "history after the position sent"
    DeadTail "end of an epoch that was never committed sent as history"
    Hole "history with a hole sent"
    Truncated "history cut by the leader"
    Snapshot "whole tree sent instead of the history"
    StageCut "comparison with a tree cut"
    Held "transactions of an earlier epoch held back"
    HeldTooMuch "more held back than may be"
    Unproved "history that could not be proved"
    Overflowed "spool full"
    Killed "bridge killed"
    KilledWithOpenBatch "bridge killed with an open transaction of the journal"
    PowerLost "power lost"
    CommitsLost "power loss that lost commits"
    DiskFull "disk full"
    JournalHeld "journal that takes nothing"
    Exact "record judged exact"
    Folded "record of several writes"
    Gap "gap begun"
    GapAgain "gap begun again"
    Listed "znode listed"
    Reconciled "change found by comparing"
    RealJournal "seed on the real journal beside the model"
}
