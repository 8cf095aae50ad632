//! Judges from when on a gap counts, in time: not from a later moment than the last at which capture was live.
//!
//! A reader is certain of every moment until a minute before the `since` of a gap, so no moment without a watch may be
//! among them.

use std::collections::BTreeMap;

use bridge_core::record::{Gap, GapReason, Timestamp};

use crate::coverage::{Coverage, Seen};

/// A lost connection looks live for so long, as readers know.
const LATE_MS: u64 = 60_000;

/// When capture was live, by what happened.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// The moments at which the pipeline worked with a watched tree, by the bridge's clock, each with the virtual time
    /// of the first: the clock jumps.
    believed: BTreeMap<Timestamp, u64>,
    /// The last moment, in virtual time, at which a change would have been heard of.
    watched_ms: u64,
    /// Of the present process.
    started_ms: u64,
}

impl Liveness {
    /// A process starts.
    pub(crate) fn started(&mut self, now_ms: u64) {
        self.started_ms = now_ms;
    }

    /// The pipeline has worked, and no root waits to be compared. `is_watched`: the connection is a living one.
    pub(crate) fn worked(&mut self, clock: Timestamp, now_ms: u64, is_watched: bool) {
        self.believed.entry(clock).or_insert(now_ms);
        if is_watched {
            self.watched_ms = now_ms;
        }
    }

    /// Checks the begin of a gap. `is_heard_of`: every loss of a watch is noticed.
    ///
    /// # Panics
    ///
    /// If a promise is broken.
    pub(crate) fn check(&self, gap: &Gap, is_heard_of: bool, seen: &mut Coverage) {
        let Some(since) = gap.since else { return };
        seen.see(Seen::GapSince);
        let Some(at_ms) = self.believed.get(&since).copied() else {
            panic!("a gap begins at {since}, when capture was not live: {gap:?}");
        };
        if gap.reason == GapReason::Started && at_ms < self.started_ms {
            seen.see(Seen::GapSinceStored);
        }
        assert!(
            !is_heard_of || at_ms <= self.watched_ms + LATE_MS,
            "a gap begins {} ms after the last moment at which a change would have been heard of: {gap:?}",
            at_ms - self.watched_ms
        );
    }
}
