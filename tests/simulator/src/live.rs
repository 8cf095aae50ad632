//! Reports to the judge of liveness when the pipeline worked with a watch, and since when gaps count.

use bridge_core::capture::CaptureState;
use bridge_core::journal::JournalWriter;
use bridge_core::record::{Op, Timestamp};

use crate::controls::Habit;
use crate::world::World;

/// How far ahead a bridge with that habit says that it is live.
const AHEAD_MS: i64 = 5_000;

impl World {
    /// Whether the source captures what happens now.
    pub(crate) fn is_live(&self) -> bool {
        let state = self.bridge.as_ref().map(|bridge| bridge.flow.machine().state());
        state == Some(CaptureState::Live)
    }

    /// The pipeline has worked: whether capture is live, and what a wrong habit makes of that.
    pub(crate) fn note_live(&mut self, now: Timestamp) {
        let Some(bridge) = &mut self.bridge else { return };
        let is_live = bridge.flow.machine().state() == CaptureState::Live;
        if is_live {
            let wire = bridge.client.wire.as_ref();
            let is_watched = wire.is_some_and(|wire| !wire.is_half_open);
            self.liveness.worked(now, self.now_ms, is_watched);
        }
        let forged = match self.habit {
            Some(Habit::LiveAhead) if is_live => Timestamp(now.0 + AHEAD_MS),
            Some(Habit::LiveAfterStop) if is_live => now,
            Some(Habit::LiveWithoutWatch) => now,
            _ => return,
        };
        bridge.flow.journal().set_live(forged);
    }

    /// Judges since when the gaps of new records count.
    pub(crate) fn judge_times(&mut self) {
        let disk = self.store.disk.borrow();
        let records = &disk.state.model.records;
        for record in &records[self.timed..] {
            if let (Op::GapBegin, Some(gap)) = (record.op, &record.gap) {
                let is_heard_of = self.excuses.is_none();
                self.liveness.check(gap, is_heard_of, &mut self.seen);
            }
        }
        self.timed = records.len();
    }
}
