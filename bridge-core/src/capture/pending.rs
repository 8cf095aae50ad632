//! The state of a path that has waiting events or reads under way.

use std::collections::VecDeque;

use crate::number::Zxid;
use crate::record::{SUPERSEDED_MAX, Stat};

use super::{EventKind, Outcome};

/// Versions that were overwritten before they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Overwritten {
    pub(super) count: u64,
    pub(super) zxids: Vec<Zxid>,
    /// The oldest one, also if it is no longer in `zxids`.
    pub(super) oldest: Option<Zxid>,
}

impl Overwritten {
    pub(super) fn add(&mut self, zxid: Zxid) {
        self.count += 1;
        self.oldest.get_or_insert(zxid);
        self.zxids.push(zxid);
        self.trim();
    }

    pub(super) fn append(&mut self, mut later: Overwritten) {
        self.count += later.count;
        self.oldest = self.oldest.or(later.oldest);
        self.zxids.append(&mut later.zxids);
        self.trim();
    }

    /// Drops the versions up to a zxid, which a newer value covers.
    pub(super) fn forget_until(&mut self, newest: Zxid) {
        if self.oldest.is_none_or(|oldest| oldest > newest) {
            return;
        }
        let listed = self.zxids.len();
        self.zxids.retain(|zxid| *zxid > newest);
        // Versions without a listed zxid are older than the listed ones.
        if self.zxids.len() < listed {
            self.count = self.zxids.len() as u64;
        }
        self.oldest = self.zxids.first().copied();
    }

    fn trim(&mut self) {
        let excess = self.zxids.len().saturating_sub(SUPERSEDED_MAX);
        self.zxids.drain(..excess);
    }
}

/// The state of a path that has waiting events or reads under way.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Positions of its events, ascending.
    pub(super) positions: VecDeque<u64>,
    pub(super) kinds: KindCounts,
    /// Values read, oldest first.
    pub(super) values: Vec<Value>,
    pub(super) reads_under_way: u32,
    pub(super) queued: bool,
    pub(super) overwritten: Overwritten,
}

/// How many events of each kind wait for a path.
#[derive(Debug, Default)]
pub(super) struct KindCounts {
    created: usize,
    changed: usize,
    deleted: usize,
}

impl KindCounts {
    pub(super) fn add(&mut self, kind: EventKind) {
        *self.of(kind) += 1;
    }

    pub(super) fn remove(&mut self, kind: EventKind) {
        *self.of(kind) -= 1;
    }

    pub(super) fn count(&self, kind: EventKind) -> usize {
        match kind {
            EventKind::Created => self.created,
            EventKind::Changed => self.changed,
            EventKind::Deleted => self.deleted,
        }
    }

    fn of(&mut self, kind: EventKind) -> &mut usize {
        match kind {
            EventKind::Created => &mut self.created,
            EventKind::Changed => &mut self.changed,
            EventKind::Deleted => &mut self.deleted,
        }
    }
}

#[derive(Debug)]
pub(super) struct Value {
    /// Every event before this position had arrived when the read was sent.
    pub(super) covers: u64,
    pub(super) outcome: Outcome,
}

impl Value {
    pub(super) fn stat(&self) -> Option<&Stat> {
        self.outcome.stat()
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.outcome {
            Outcome::Found { data, .. } => data.len(),
            Outcome::Missing | Outcome::Denied => 0,
        }
    }
}
