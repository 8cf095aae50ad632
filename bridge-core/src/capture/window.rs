//! The window of events without zxids that are read together, for [`settle_by_read`](super::settle_by_read).

use std::collections::HashMap;

use crate::number::Zxid;
use crate::path::ZnodePath;

use super::batch::{Length, Request, RequestBudget};
use super::follow::{Follow, Item, PendingEvent};
use super::roots::StepContext;
use super::{EventKind, Outcome, ReadRequest};

/// The events that are read together.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Events before this position belong to the window.
    pub(super) upto: u64,
    /// Every event before this position had arrived when the read was sent.
    pub(super) covers: u64,
    pub(super) is_under_way: bool,
    pub(super) outcomes: HashMap<ZnodePath, Outcome>,
    /// The greatest zxid in any answer.
    pub(super) newest: Zxid,
    /// Bounds of the recorded deletes of incarnations that were never read: a later read with the same bound shows no
    /// later delete. With the position before which all such events wait.
    pub(super) deletes: HashMap<ZnodePath, (Zxid, u64)>,
}

impl Follow {
    /// The reads of the next window; `None` while one is under way or no event waits.
    pub(crate) fn next_window(&mut self) -> Option<Vec<ReadRequest>> {
        if self.window.is_under_way || self.window.upto > self.base {
            return None;
        }
        let mut budget = RequestBudget::new(self.limits.follow_batch, &self.limits);
        let mut reads: Vec<ReadRequest> = Vec::new();
        let mut upto = self.base;
        for item in &self.items {
            if let Item::Event(event) = item {
                let stops = event.zxid.is_some() || self.tentative.contains(&event.path);
                if stops || !self.add_reads(event, &mut reads, &mut budget) {
                    break;
                }
            }
            upto += 1;
        }
        if reads.is_empty() {
            return None;
        }
        self.window.upto = upto;
        self.window.is_under_way = true;
        self.window.outcomes.clear();
        let base = self.base;
        self.window.deletes.retain(|_, (_, upto)| *upto > base);
        Some(reads)
    }

    /// `false`: no room for the reads of this event; the first event of a window always fits.
    fn add_reads(
        &self,
        event: &PendingEvent,
        reads: &mut Vec<ReadRequest>,
        budget: &mut RequestBudget,
    ) -> bool {
        let above = self
            .is_created_or_deleted(&event.path)
            .then(|| event.path.ancestors())
            .into_iter()
            .flatten();
        let wanted: Vec<ZnodePath> = std::iter::once(event.path.clone())
            .chain(above)
            .filter(|path| !reads.iter().any(|read| read.path == *path))
            .collect();
        let has_room = wanted
            .iter()
            .all(|path| budget.take(path, Length::Written(self.expected_bytes)));
        if !has_room && !reads.is_empty() {
            return false;
        }
        reads.extend(wanted.into_iter().map(|path| ReadRequest {
            path,
            children: false,
        }));
        true
    }

    /// Whether waiting events create or delete a path.
    pub(super) fn is_created_or_deleted(&self, path: &ZnodePath) -> bool {
        self.has(path, EventKind::Created, 0) || self.has(path, EventKind::Deleted, 0)
    }

    /// Stores the answer for the window.
    pub(crate) fn window_answered(&mut self, request: Request, outcomes: Vec<Outcome>) {
        self.window.is_under_way = false;
        self.window.covers = request.covers;
        self.expect(&outcomes);
        for (read, outcome) in request.reads.into_iter().zip(outcomes) {
            if let Outcome::Found { stat, .. } = &outcome {
                self.window.newest = self.window.newest.max(stat.newest_zxid());
            }
            self.window.outcomes.insert(read.path, outcome);
        }
    }

    /// Drops the answer for a path that a walk read later: it does not apply to the remaining events.
    pub(super) fn window_is_older(&mut self, path: &ZnodePath) {
        self.window.outcomes.remove(path);
    }

    /// Advances the reported zxid of the watched roots, once no event waits: all that the answers reflect is recorded.
    pub(super) fn report_window(&mut self, context: &mut StepContext<'_>) {
        let newest = self.window.newest;
        for root in context.roots.iter_mut().filter(|root| root.is_watched()) {
            root.reported(newest);
        }
    }
}
