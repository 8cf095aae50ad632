//! Checks that the watch is active with a write of the bridge's own, also in a tree without changes.
//!
//! The canary is written in a session of its own, and the zxid of the write is reported to the machine. Then the canary
//! is read over the watched connection. Every event of a transaction arrives before an answer that reflects it, so an
//! answer that shows the write without its event proves that the watch is lost, however slow the servers are. An answer
//! that does not show the write yet comes from a server that lags: the read is repeated for a bounded time.
//!
//! The canary checks the watch that covers it: that of a root, or else one of its own. It never becomes a record.

use super::audit::TickTimer;
use super::options::CanaryOptions;
use super::{CanaryMark, Outcome, ReadRequest, StepError, StepResult};
use super::{Event, EventKind};
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::GapReason;
use crate::source::SourceRequest;

/// Ticks, of about a second, within which a write has to be answered, and then to appear in the answer of a read. A
/// server that lags by more than `syncLimit`, by default 10 s, is cut off by its leader and ends its connections.
const BOUND_TICKS: u64 = 20;

/// The canary of a source; without options it does nothing.
#[derive(Debug)]
pub(crate) struct Canary {
    path: Option<ZnodePath>,
    timer: Option<TickTimer>,
    mark: CanaryMark,
    /// Whether a write ever succeeded. Before that, it is unknown whether the writes are permitted.
    has_written: bool,
    state: CanaryState,
}

/// The progress of the current check.
#[derive(Debug, PartialEq, Eq)]
enum CanaryState {
    /// No check is under way.
    Idle,
    /// The write was requested.
    Asked { ticks: u64, event_zxid: Option<Zxid> },
    /// The write is done, and has to appear in an answer.
    Written {
        zxid: Zxid,
        ticks: u64,
        event_zxid: Option<Zxid>,
        /// Whether the canary is being read.
        is_read: bool,
        /// Whether it existed when it was last read.
        is_there: bool,
    },
}

impl Canary {
    pub(crate) fn new(options: Option<&CanaryOptions>) -> Canary {
        Canary {
            path: options.map(|options| options.path.clone()),
            timer: TickTimer::new(options.map(|options| options.every)),
            mark: CanaryMark::default(),
            has_written: false,
            state: CanaryState::Idle,
        }
    }

    /// Handles a new connection. The first write of all only proves that writes are permitted.
    pub(crate) fn connected(&mut self, requests: &mut Vec<SourceRequest>) {
        self.state = CanaryState::Idle;
        if !self.has_written {
            self.write(requests);
        }
    }

    fn write(&mut self, requests: &mut Vec<SourceRequest>) {
        let Some(path) = self.path.clone() else {
            return;
        };
        self.mark = CanaryMark(self.mark.0 + 1);
        let mark = self.mark;
        requests.push(SourceRequest::WriteCanary { mark, path });
    }

    /// Takes an event of the canary, which never becomes a record; `false` for other events. On servers before 3.9 the
    /// event may belong to any write, but a write is only made after the check of the previous one has ended.
    pub(crate) fn takes_event(&mut self, event: &Event) -> bool {
        if self.path.as_ref() != Some(&event.path) {
            return false;
        }
        if event.kind != EventKind::Deleted
            && let CanaryState::Asked { event_zxid, .. } | CanaryState::Written { event_zxid, .. } =
                &mut self.state
        {
            *event_zxid = (*event_zxid).max(Some(event.zxid.unwrap_or(Zxid(u64::MAX))));
        }
        true
    }

    /// Handles a tick while all roots are watched. Returns the read to send now.
    pub(crate) fn tick(&mut self, requests: &mut Vec<SourceRequest>) -> StepResult<Option<ReadRequest>> {
        let is_due = TickTimer::is_due(&mut self.timer);
        match &mut self.state {
            CanaryState::Idle if is_due => {
                self.state = CanaryState::Asked {
                    ticks: 0,
                    event_zxid: None,
                };
                self.write(requests);
                Ok(None)
            }
            CanaryState::Idle => Ok(None),
            CanaryState::Asked { ticks, .. } => {
                *ticks += 1;
                if *ticks > BOUND_TICKS {
                    self.state = CanaryState::Idle;
                }
                Ok(None)
            }
            // The answer to the read is still outstanding.
            CanaryState::Written { is_read: true, .. } => Ok(None),
            CanaryState::Written { ticks, is_there, .. } => {
                *ticks += 1;
                if *ticks <= BOUND_TICKS {
                    return Ok(self.read());
                }
                // A canary that another client deleted never appears again, and proves nothing.
                if *is_there {
                    return Err(StepError::Doubt(GapReason::Liveness));
                }
                self.state = CanaryState::Idle;
                Ok(None)
            }
        }
    }

    /// Handles the end of a write; `at` is `None` if it failed. Returns the read to send now.
    pub(crate) fn written(&mut self, of: CanaryMark, at: Option<Zxid>) -> Option<ReadRequest> {
        self.has_written |= at.is_some();
        let CanaryState::Asked { event_zxid, .. } = self.state else {
            return None;
        };
        if of != self.mark {
            return None;
        }
        let Some(zxid) = at else {
            self.state = CanaryState::Idle;
            return None;
        };
        self.state = CanaryState::Written {
            zxid,
            ticks: 0,
            event_zxid,
            is_read: false,
            is_there: true,
        };
        self.read()
    }

    fn read(&mut self) -> Option<ReadRequest> {
        let CanaryState::Written { is_read, .. } = &mut self.state else {
            return None;
        };
        if std::mem::replace(is_read, true) {
            return None;
        }
        let path = self.path.clone()?;
        Some(ReadRequest {
            path,
            children: false,
        })
    }

    /// Handles an answer of the watched connection. Returns `true` if it proves that the watch is active.
    pub(crate) fn was_read(&mut self, outcome: Option<&Outcome>) -> StepResult<bool> {
        let CanaryState::Written {
            zxid,
            event_zxid,
            is_read,
            is_there,
            ..
        } = &mut self.state
        else {
            return Ok(false);
        };
        *is_read = false;
        let shown = outcome.and_then(Outcome::stat).map(|stat| stat.mzxid);
        *is_there = shown.is_some();
        let (zxid, event_zxid) = (*zxid, *event_zxid);
        if event_zxid.is_some_and(|event_zxid| event_zxid >= zxid) {
            self.state = CanaryState::Idle;
            return Ok(true);
        }
        match shown {
            Some(shown) if shown >= zxid => Err(StepError::Doubt(GapReason::Liveness)),
            _ => Ok(false),
        }
    }
}
