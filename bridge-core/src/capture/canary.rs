//! Proving that the watch lives by a write of the bridge's own, also where nobody else changes anything.
//!
//! The connection writes the canary, over a session apart, and tells the zxid of the write. Then the canary is read over
//! the connection that is watched. Every event of a transaction comes before an answer that reflects it, so an answer
//! that shows the write while its event has not come proves the watch dead, however slow everything is. An answer that
//! does not show it yet comes from a server that lags: it is asked again, for a while.
//!
//! The canary proves the watch that covers it: that of a root, or else one of its own. It never becomes a record.

use std::time::Duration;

use super::audit::TickTimer;
use super::{CanaryMark, Outcome, ReadRequest, StepError, StepResult};
use super::{Event, EventKind};
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::GapReason;
use crate::source::SourceRequest;

/// Ticks, of about a second, within which a write has to be answered, and then to be seen by what is read. A server that
/// falls further behind than `syncLimit`, by default 10 s, is cut off by its leader, and ends its connections then.
const BOUND_TICKS: u64 = 20;

/// The znode that a source writes for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryOptions {
    /// Of this source and this process alone: the write of another would prove nothing.
    pub path: ZnodePath,
    /// How often it is written.
    pub every: Duration,
}

/// The canary of a source; without one it does nothing.
#[derive(Debug)]
pub(crate) struct Canary {
    path: Option<ZnodePath>,
    round: Option<TickTimer>,
    mark: CanaryMark,
    /// Before the first write nobody knows whether it is allowed.
    has_written: bool,
    stand: Stand,
}

/// How far the present proof has come.
#[derive(Debug, PartialEq, Eq)]
enum Stand {
    /// None is under way.
    Idle,
    /// The write was asked for.
    Asked { ticks: u64, heard: Option<Zxid> },
    /// It is done, and has to be seen.
    Written {
        zxid: Zxid,
        ticks: u64,
        heard: Option<Zxid>,
        /// Whether the canary is being read.
        is_read: bool,
        /// Whether it was there when it was last read.
        is_there: bool,
    },
}

impl Canary {
    pub(crate) fn new(options: Option<&CanaryOptions>) -> Canary {
        Canary {
            path: options.map(|options| options.path.clone()),
            round: TickTimer::new(options.map(|options| options.every)),
            mark: CanaryMark::default(),
            has_written: false,
            stand: Stand::Idle,
        }
    }

    /// There is a connection. The first write of all proves nothing but that it is allowed.
    pub(crate) fn connected(&mut self, requests: &mut Vec<SourceRequest>) {
        self.stand = Stand::Idle;
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

    /// Takes an event of the canary, which is nobody's business but ours. On servers before 3.9 it may be of any write, but
    /// none is made before the one before it is dealt with.
    pub(crate) fn hears(&mut self, event: &Event) -> bool {
        if self.path.as_ref() != Some(&event.path) {
            return false;
        }
        if event.kind != EventKind::Deleted
            && let Stand::Asked { heard, .. } | Stand::Written { heard, .. } = &mut self.stand
        {
            *heard = (*heard).max(Some(event.zxid.unwrap_or(Zxid(u64::MAX))));
        }
        true
    }

    /// Time passes while all roots are watched. Returns what is to be read now.
    pub(crate) fn tick(&mut self, requests: &mut Vec<SourceRequest>) -> StepResult<Option<ReadRequest>> {
        let is_due = TickTimer::is_due(&mut self.round);
        match &mut self.stand {
            Stand::Idle if is_due => {
                self.stand = Stand::Asked {
                    ticks: 0,
                    heard: None,
                };
                self.write(requests);
                Ok(None)
            }
            Stand::Idle => Ok(None),
            Stand::Asked { ticks, .. } => {
                *ticks += 1;
                if *ticks > BOUND_TICKS {
                    self.stand = Stand::Idle;
                }
                Ok(None)
            }
            // The answer waits behind what came before it: nobody can know yet.
            Stand::Written { is_read: true, .. } => Ok(None),
            Stand::Written { ticks, is_there, .. } => {
                *ticks += 1;
                if *ticks <= BOUND_TICKS {
                    return Ok(self.read());
                }
                // Removed by somebody, it cannot be seen again, and proves nothing.
                if *is_there {
                    return Err(StepError::Doubt(GapReason::Liveness));
                }
                self.stand = Stand::Idle;
                Ok(None)
            }
        }
    }

    /// A write was done, or failed. Returns what is to be read now.
    pub(crate) fn written(&mut self, of: CanaryMark, at: Option<Zxid>) -> Option<ReadRequest> {
        self.has_written |= at.is_some();
        let Stand::Asked { heard, .. } = self.stand else {
            return None;
        };
        if of != self.mark {
            return None;
        }
        let Some(zxid) = at else {
            self.stand = Stand::Idle;
            return None;
        };
        self.stand = Stand::Written {
            zxid,
            ticks: 0,
            heard,
            is_read: false,
            is_there: true,
        };
        self.read()
    }

    fn read(&mut self) -> Option<ReadRequest> {
        let Stand::Written { is_read, .. } = &mut self.stand else {
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

    /// The canary was read over the watched connection. `true`: the watch was proved alive.
    pub(crate) fn was_read(&mut self, outcome: Option<&Outcome>) -> StepResult<bool> {
        let Stand::Written {
            zxid,
            heard,
            is_read,
            is_there,
            ..
        } = &mut self.stand
        else {
            return Ok(false);
        };
        *is_read = false;
        let shown = outcome.and_then(Outcome::stat).map(|stat| stat.mzxid);
        *is_there = shown.is_some();
        let (zxid, heard) = (*zxid, *heard);
        if heard.is_some_and(|heard| heard >= zxid) {
            self.stand = Stand::Idle;
            return Ok(true);
        }
        match shown {
            Some(shown) if shown >= zxid => Err(StepError::Doubt(GapReason::Liveness)),
            _ => Ok(false),
        }
    }
}
