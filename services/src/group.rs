//! The changes of one transaction of the ensemble, until it is known to be over.
//!
//! A watch reports a transaction change by change, and a batch of the journal may end between two of them. What a delete
//! means shows at the end of its transaction: the session may go with its other znodes, and another znode may take the
//! place of this one. So what a transaction with a delete has touched waits for a change of another one, or [`REST_MS`].
//! A source that reads transactions has each as a whole.
//!
//! *Invariants.* What waits is in rows, so that a crash loses no event. What only memory has may be forgotten: the cause of
//! a delete is unknown then. Memory holds at most [`TOUCHES_MAX`] touches over batches, and one path of each owner.

use bridge_core::derive::{DerivedState, ObservedChange, RestOfTransaction};
use bridge_core::journal::JournalError;
use bridge_core::number::Zxid;
use bridge_core::record::{Fidelity, Op, Timestamp};
use serde::{Deserialize, Serialize};

use crate::causes::Deletes;
use crate::keys;
use crate::machine::{Note, Subject};
use crate::rows::{Cause, Row, for_each, put, remove};

/// Milliseconds after the last change of a transaction in which its rest comes, if there is any. A server sends the events
/// of a transaction one after the other, and a create waits for the answer with its value: both take a few milliseconds,
/// and on a machine without time to spare some hundred.
const REST_MS: i64 = 500;

/// Touches that wait. ZooKeeper bounds a transaction by `jute.maxbuffer`, so that there are hardly ever more: then the
/// transaction is taken for one whose rest is lost.
const TOUCHES_MAX: usize = 16_384;

/// The changes of one transaction of the ensemble.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) zxid: Option<Zxid>,
    pub(crate) touches: Vec<Touch>,
    pub(crate) deletes: Deletes,
    /// One of the touches is a delete that the rest of the transaction could give another meaning.
    is_open: bool,
    /// When the last of its changes was captured, in milliseconds since 1970.
    captured: i64,
    /// The first touches, which have rows.
    stored: usize,
}

/// A subject that a change has touched.
#[derive(Serialize, Deserialize)]
pub(crate) struct Touch {
    pub(crate) subject: Subject,
    pub(crate) cause: Cause,
    pub(crate) note: Option<Note>,
}

impl Row for Touch {}

impl Group {
    /// Takes the touches that wait from the rows. The rest of their transaction came to another process, or not at all.
    pub(crate) fn load(state: &mut dyn DerivedState) -> Result<Group, JournalError> {
        let mut group = Group::default();
        for_each(state, &keys::all(keys::TOUCHES), |_, _, row| {
            group.touches.extend(Touch::of_bytes(row));
            group.stored += 1;
            Ok(())
        })?;
        if let Some(last) = group.touches.last() {
            group.zxid = last.cause.zxid;
            group.captured = last.cause.time.captured.0;
            group.is_open = true;
            group.deletes.is_partial = true;
        }
        Ok(group)
    }

    /// Whether touches wait that do not belong to the transaction of this change.
    pub(crate) fn is_ended_by(&self, zxid: Option<Zxid>) -> bool {
        !self.touches.is_empty() && (zxid.is_none() || self.zxid != zxid)
    }

    /// A change comes. The deletes of a transaction are counted until its zxid is another one, over batches.
    pub(crate) fn begin_change(&mut self, change: &ObservedChange<'_>) {
        let zxid = change.zxid.filter(|_| change.is_exact);
        if zxid.is_none() || self.zxid != zxid {
            self.deletes = Deletes::default();
        }
        self.zxid = zxid;
        self.captured = change.captured.0;
    }

    /// The change has led to the touches after the first `before`. Who holds a lock does not depend on the rest.
    pub(crate) fn end_change(&mut self, change: &ObservedChange<'_>, before: usize) {
        let is_partly_seen = change.op == Op::Delete
            && change.is_exact
            && change.txn.is_none()
            && change.fidelity == Fidelity::Exact;
        let touches = self.touches.get(before..).unwrap_or_default();
        let is_lock = |touch: &Touch| matches!(touch.subject, Subject::Lock { .. });
        self.is_open |= is_partly_seen && !touches.iter().all(is_lock);
    }

    /// Whether the touches wait for the rest of their transaction.
    pub(crate) fn waits(&self) -> bool {
        self.is_open
    }

    /// Whether they have waited long enough.
    pub(crate) fn has_waited(&self, now: Timestamp) -> bool {
        self.is_open && self.captured.saturating_add(REST_MS) <= now.0
    }

    /// The touches whose meaning is known, with the deletes of the transaction so far. The others get rows.
    pub(crate) fn take(
        &mut self,
        rest: RestOfTransaction,
        state: &mut dyn DerivedState,
    ) -> Result<(Vec<Touch>, Deletes), JournalError> {
        let may_come = rest == RestOfTransaction::MayCome && self.is_open;
        if may_come && self.touches.len() <= TOUCHES_MAX {
            for touch in self.touches.iter().skip(self.stored) {
                put(state, &keys::touch(self.stored), touch)?;
                self.stored += 1;
            }
            return Ok((Vec::new(), Deletes::default()));
        }
        self.deletes.is_partial |= may_come || rest == RestOfTransaction::Lost;
        for at in 0..std::mem::take(&mut self.stored) {
            remove(state, &keys::touch(at))?;
        }
        self.is_open = false;
        Ok((std::mem::take(&mut self.touches), self.deletes.clone()))
    }
}
