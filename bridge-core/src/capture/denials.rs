//! Recognizes a server that names the watched root in the events of the znodes below it.

use std::time::Duration;

use super::Halt;
use super::machine::{Capture, EpochState};
use crate::machine::StepOutcome;
use crate::path::ZnodePath;
use crate::record::GapReason;
use crate::source::SourceRequest;

/// Connections on which this must happen in a row.
pub(super) const DENIALS_MAX: u32 = 3;

/// How often in a row a read contradicted an event of a watched root.
#[derive(Debug, Default)]
pub(super) struct Denials {
    times: u32,
    /// Exact updates recorded until the last time: a further one proves that the server names the znode that changed.
    updates: u64,
}

impl Denials {
    /// Counts one more, and returns whether the limit is reached.
    pub(super) fn add(&mut self, updates: u64) -> bool {
        if updates != self.updates {
            *self = Denials { times: 0, updates };
        }
        self.times += 1;
        self.times >= DENIALS_MAX
    }
}

impl Capture {
    /// Handles an event that a read contradicts. An ensemble that is restored to an older state under an open
    /// connection causes this, too, once.
    pub(super) fn denied(&mut self, path: ZnodePath, outcome: &mut StepOutcome) {
        if self.options.roots.contains(&path) && self.denials.add(self.counters.exact_updates()) {
            self.state = EpochState::Halted;
            let cluster = self.options.cluster.clone();
            outcome.halt = Some(Halt::WrongPaths { cluster, root: path });
            return;
        }
        self.detach(Some(GapReason::Liveness));
        outcome.requests.push(SourceRequest::Reconnect {
            after: Duration::ZERO,
        });
    }
}
