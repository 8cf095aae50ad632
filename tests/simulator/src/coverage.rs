//! Counts every fault and every interesting state; one that is never reached is a failure of the simulator.

/// The faults and states that seeds reached together.
pub trait Reached: Default + Send {
    /// Takes in what other seeds reached.
    fn take_in(&mut self, other: &Self);

    /// Faults and states that were never reached.
    fn missing(&self) -> Vec<&'static str>;

    /// For people, as Markdown.
    fn table(&self) -> String;
}

macro_rules! states {
    ($states:ident, $coverage:ident: $($name:ident $words:literal)*) => {
        /// A fault or an interesting state.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $states {
            $(#[doc = $words] $name,)*
        }

        impl $states {
            /// All, in the order of the table.
            pub const ALL: &'static [$states] = &[$($states::$name),*];

            /// The description.
            pub fn words(self) -> &'static str {
                match self {
                    $($states::$name => $words,)*
                }
            }
        }

        /// How often each was reached.
        #[derive(Clone, Debug)]
        pub struct $coverage {
            counts: Vec<u64>,
            seeds: Vec<u64>,
        }

        impl Default for $coverage {
            fn default() -> $coverage {
                $coverage {
                    counts: vec![0; $states::ALL.len()],
                    seeds: vec![0; $states::ALL.len()],
                }
            }
        }

        impl $coverage {
            /// Reached once more.
            pub fn see(&mut self, seen: $states) {
                self.add(seen, 1);
            }

            /// Reached so often more.
            pub fn add(&mut self, seen: $states, times: u64) {
                self.counts[seen as usize] += times;
                self.seeds[seen as usize] = 1;
            }

            /// How often.
            pub fn count(&self, seen: $states) -> u64 {
                self.counts[seen as usize]
            }
        }

        impl $crate::coverage::Reached for $coverage {
            fn take_in(&mut self, other: &Self) {
                for (mine, others) in self.counts.iter_mut().zip(&other.counts) {
                    *mine += others;
                }
                for (mine, others) in self.seeds.iter_mut().zip(&other.seeds) {
                    *mine += others;
                }
            }

            fn missing(&self) -> Vec<&'static str> {
                let never = $states::ALL.iter().filter(|seen| self.count(**seen) == 0);
                never.map(|seen| seen.words()).collect()
            }

            fn table(&self) -> String {
                use std::fmt::Write as _;
                let mut text = String::from("| fault or state | times | in seeds |\n| --- | --: | --: |\n");
                for seen in $states::ALL {
                    let (times, seeds) = (self.counts[*seen as usize], self.seeds[*seen as usize]);
                    let _ = writeln!(text, "| {} | {times} | {seeds} |", seen.words());
                }
                text
            }
        }
    };
}

pub(crate) use states;

states! {
    Seen, Coverage:
    Committed "transaction committed"
    Hole "zxid used up by a failed request"
    Multi "multi committed"
    MultiVisible "multi that changed several watched znodes"
    Recreated "znode deleted and created again in one transaction"
    Replaced "whole subtree replaced"
    Withered "subtree ended after writes to it"
    RootDeleted "root deleted"
    RootRecreated "root created again"
    Flood "flood of writes on one znode"
    EphemeralsDied "session ended with ephemerals"
    Withdrawn "permission withdrawn"
    Granted "permission granted again"
    Elected "leader changed"
    Isolated "server cut off from its leader"
    Crashed "server killed"
    Restored "ensemble set back to an old copy"
    RestoredSameEpoch "set back with its old epoch, so that zxids come again"
    RestoredInPlace "set back under a living connection"
    Cut "connection cut with messages on their way"
    HalfOpen "connection half open"
    LongLoss "connection lost for longer than the session timeout"
    Expired "session of the bridge over"
    Refused "server refused a client that knows more"
    ReconnectedToLag "new connection to a server that lags"
    SyncWaited "sync had to wait for a server"
    DeposedSync "sync answered by a server that is cut off"
    WatchLost "watch gone in silence"
    Overflowed "connection gave up as its events were not taken"
    Killed "bridge killed"
    KilledWithOpenBatch "bridge killed with an open transaction"
    KilledBeforeDelivery "bridge killed between commit and delivery"
    KilledBeforeNote "bridge killed between the sink's write and its note"
    PowerLost "power lost"
    CommitsLost "power loss that lost commits"
    DiskFull "disk full"
    Held "capture on hold at the size limit"
    CommitFailed "batch failed at its commit"
    ClockJumped "clock jumped"
    Suspended "bridge stopped for longer than a lost connection takes to show"
    Retained "records removed by retention"
    Restarted "bridge started again"
    WalkCut "walk cut"
    WalkInBatches "walk that took several requests"
    RunResumed "run resumed after a cut"
    GapCutAgain "gap begun again after a cut"
    Lagging "lagging server found out by a proof"
    Doubt "watch found out to be dead"
    EventsFull "more events than may wait"
    Permission "permission found to have changed"
    WentBack "rewind halted the source"
    OtherEnsemble "roots that were created again halted the source"
    BaselineAccepted "older state accepted as the new baseline"
    GapSince "gap that says since when"
    GapSinceStored "gap after a start that says since when"
    DifferencesFound "gap that found differences"
    EmptyGap "gap that found none"
    DeleteByParent "delete found by comparing, bound by an ancestor"
    DeleteUnknown "delete without any bound"
    DeleteUnseen "delete of a life that nobody saw"
    CreateUnread "create whose first value nobody read"
    CreateDeletedUnread "life that began and ended unread"
    Superseded "versions listed as superseded"
    SupersededMany "more than 64 versions superseded"
    Missed "missed versions found by arithmetic"
    AclRecord "acl record"
    AclList "acl record with the list"
    UnreadableFound "unreadable znode named"
    UnreadableRegained "unreadable znode captured again"
    Restated "root delivered again after a gap"
    SinkFailed "sink failed before it wrote"
    SinkFailedAfter "sink failed after it wrote"
    SinkHalf "sink wrote half and failed"
    SinkUnsure "sink could not tell whose failure it was"
    SinkSlow "sink acknowledged late"
    SinkOpenFailed "sink did not open"
    HandedOver "records handed over in memory, as the real journal has them"
    Rejected "record rejected"
    BlockedPath "record waits for a rejected one"
    Deferred "record deferred by its path"
    ParkedBehind "record parked after one of its path"
    Recalled "parked record tried again"
    RestartedParked "bridge started with parked records"
    HaltedOnReject "sink halted by a rejected record"
    Enabled "halted sink enabled"
    Retried "dead letter tried again"
    LetterDropped "dead letter let go"
    Replayed "record ordered once more"
    Duplicate "record delivered twice"
    Filtered "record filtered out"
    RealJournal "seed on the real journal beside the model"
}
