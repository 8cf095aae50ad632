//! The state of one watch epoch, and the choice of the events that are followed.
//!
//! It is dropped with the connection.

use std::collections::VecDeque;

use uuid::Uuid;

use super::follow::Follow;
use super::options::{CaptureOptions, SnapshotMode};
use super::roots::Root;
use super::walk::{Fate, RootWalk};
use super::{Event, EventKind};
use crate::image_txn::ImageTxn;
use crate::journal::JournalError;
use crate::number::Epoch;
use crate::record::{GapReason, NAMESPACE, Timestamp};
use crate::resnapshot::Resnapshot;

/// One watch epoch, from the armed watches to the disconnect.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) epoch: Epoch,
    pub(crate) reason: GapReason,
    pub(crate) roots: Vec<Root>,
    pub(crate) follow: Follow,
    pub(crate) walk: Option<RootWalk>,
    /// Roots whose image is appended again after their gap, in this order.
    pub(crate) resnapshots: VecDeque<Resnapshot>,
}

impl Attached {
    /// Queues a run of `snapshot` records after a gap, with `snapshot = "always"`.
    pub(crate) fn queue_resnapshot(&mut self, options: &CaptureOptions, now: Timestamp, root: usize) {
        if options.snapshot != SnapshotMode::Always {
            return;
        }
        let path = self.roots[root].path.clone();
        let name = format!("{}\n{path}\n{}\n{now}\nrestated", options.cluster, self.epoch);
        let run = Uuid::new_v5(&NAMESPACE, name.as_bytes());
        self.resnapshots.push_back(Resnapshot::new(path, run, now));
    }

    /// Appends the next records of the queued runs.
    pub(crate) fn continue_resnapshot(
        &mut self,
        options: &CaptureOptions,
        image: &mut dyn ImageTxn,
    ) -> Result<(), JournalError> {
        if let Some(resnapshot) = self.resnapshots.front_mut() {
            resnapshot.step(image, options.limits.resnapshot_batch)?;
            if resnapshot.is_done() {
                self.resnapshots.pop_front();
            }
        }
        Ok(())
    }

    /// Queues an event of the root at `index`, unless its walk still reads the path. Returns `false` if too many events
    /// wait.
    pub(crate) fn take(&mut self, event: Event, index: usize) -> bool {
        let root = &mut self.roots[index];
        if let Some(zxid) = event.zxid {
            root.saw(zxid);
        }
        let fate = match &self.walk {
            Some(walk) if walk.root == index => walk.fate(&event.path),
            _ if root.is_watched() || root.is_frozen() => Fate::Event,
            _ => return true,
        };
        if let Some(walk) = self
            .walk
            .as_mut()
            .filter(|walk| walk.root == index && !walk.is_audit)
            && event.kind == EventKind::Deleted
        {
            walk.ended(&event.path);
        }
        match fate {
            Fate::Event => self.follow.push(event, index, false, false),
            Fate::Open => self.follow.push(event, index, true, true),
            Fate::Walk if event.kind == EventKind::Deleted => self.follow.push(event, index, true, false),
            Fate::Walk => true,
        }
    }
}
