//! Between the pipeline and the journal: lets the disk fail, tells the judge what is committed, and lets the wrong
//! habits of a bridge lie about the image.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bridge_core::append::{Append, ChangeKind, NodeFacts, RecordKind};
use bridge_core::committed::{HistoryPosition, ShadowKey, ShadowNode};
use bridge_core::image_txn::{Children, ImageTxn, Node, Progress};
use bridge_core::journal::{
    JournalError, JournalErrorKind, JournalWriter, Log, LogEnd, Maintained, ProgressError, SealedBatch,
    SinkProgress, SinkState, Term,
};
use bridge_core::number::{Epoch, Seq, SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{GapReason, Mode, Stat, Timestamp};
use bridge_core::unreadable_span::{HistoryPoint, UnreadableExtent, UnreadableSpan};

use super::twin::Twin;
use crate::controls::Habit;

/// The present faults of the journal's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Nothing can be written.
    pub disk_is_full: bool,
    /// Undelivered records that may be held; `None`: any number.
    pub room: Option<u64>,
    /// The cursor of the slowest sink.
    pub slowest: Seq,
}

/// Batches that were committed and not yet judged, one for each commit.
#[derive(Debug, Default)]
pub struct Trail {
    /// In the open transaction.
    pub open: Vec<Append>,
    /// Committed.
    pub batches: Vec<Vec<Append>>,
}

/// The journal as the pipeline sees it.
pub struct Tap {
    inner: Twin,
    faults: Rc<RefCell<Faults>>,
    trail: Rc<RefCell<Trail>>,
    habit: Option<Habit>,
    head: Seq,
    tail: Seq,
    has_failed: bool,
}

impl Tap {
    /// In front of a journal that was just opened and ends at `tail`.
    pub fn new(
        inner: Twin,
        tail: Seq,
        faults: Rc<RefCell<Faults>>,
        trail: Rc<RefCell<Trail>>,
        habit: Option<Habit>,
    ) -> Tap {
        trail.borrow_mut().open.clear();
        Tap {
            inner,
            faults,
            trail,
            habit,
            head: tail,
            tail,
            has_failed: false,
        }
    }

    fn fail(&mut self, kind: JournalErrorKind) -> JournalError {
        self.has_failed = true;
        simulated(kind)
    }

    /// A batch that failed takes nothing more; a full disk takes nothing at all.
    fn check_writable(&mut self) -> Result<(), JournalError> {
        if self.has_failed {
            return Err(self.fail(JournalErrorKind::Storage));
        }
        if self.faults.borrow().disk_is_full {
            return Err(self.fail(JournalErrorKind::DiskFull));
        }
        Ok(())
    }

    fn check_room(&mut self) -> Result<(), JournalError> {
        let Faults { room, slowest, .. } = *self.faults.borrow();
        if room.is_some_and(|room| self.head.0 - slowest.0.min(self.head.0) >= room) {
            return Err(self.fail(JournalErrorKind::Full));
        }
        Ok(())
    }

    fn publish(&mut self) {
        self.tail = self.head;
        let mut trail = self.trail.borrow_mut();
        if !trail.open.is_empty() {
            let batch = std::mem::take(&mut trail.open);
            trail.batches.push(batch);
        }
    }
}

impl ImageTxn for Tap {
    fn node(&mut self, path: &ZnodePath) -> Result<Option<Node>, JournalError> {
        self.inner.node(path)
    }

    fn children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, Node)>, JournalError> {
        let mut rows = self.inner.children(path, after, limit)?;
        if self.habit == Some(Habit::DeleteWithoutProof) {
            rows.iter_mut().for_each(|(_, node)| *node = forged(Zxid::ZERO));
        }
        Ok(rows)
    }

    fn occupied_children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Children<Option<Node>>, JournalError> {
        let mut rows = self.inner.occupied_children(path, after, limit)?;
        if self.habit == Some(Habit::DeleteWithoutProof) {
            let living = rows.iter_mut().filter_map(|(_, node)| node.as_mut());
            living.for_each(|node| *node = forged(Zxid::ZERO));
        }
        Ok(rows)
    }

    fn deepest_below(
        &mut self,
        path: &ZnodePath,
        limit: usize,
    ) -> Result<Vec<(ZnodePath, Node)>, JournalError> {
        let mut rows = self.inner.deepest_below(path, limit)?;
        for (_, node) in &mut rows {
            match self.habit {
                Some(Habit::DeleteWithoutProof) => *node = forged(node.czxid),
                Some(Habit::ChildrenDroppedWithParent) => *node = forged(Zxid::ZERO),
                _ => {}
            }
        }
        Ok(rows)
    }

    fn append(&mut self, mut entry: Append) -> Result<Seq, JournalError> {
        self.check_writable()?;
        self.check_room()?;
        match self.habit {
            Some(Habit::StatFlipped(field)) => flip(&mut entry, field),
            Some(Habit::Unfolded) => {
                if let Some(first) = unfolded(&entry) {
                    self.head = self.inner.append(first)?;
                }
            }
            _ => {}
        }
        self.head = self.inner.append(entry.clone())?;
        let is_change = matches!(entry.kind, RecordKind::Change(_));
        self.trail.borrow_mut().open.push(entry);
        if is_change && self.habit == Some(Habit::TornMulti) {
            self.inner.commit()?;
            self.publish();
        }
        Ok(self.head)
    }

    fn refresh(&mut self, path: &ZnodePath, stat: &Stat) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.refresh(path, stat)
    }

    fn set_facts(&mut self, path: &ZnodePath, facts: &NodeFacts) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.set_facts(path, facts)
    }

    fn epoch(&mut self) -> Result<Epoch, JournalError> {
        self.inner.epoch()
    }

    fn set_epoch(&mut self, epoch: Epoch) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.set_epoch(epoch)
    }

    fn progress(&mut self, root: &ZnodePath) -> Result<Progress, JournalError> {
        self.inner.progress(root)
    }

    fn set_progress(&mut self, root: &ZnodePath, progress: &Progress) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.set_progress(root, progress)
    }

    fn due_gap(&mut self) -> Result<Option<GapReason>, JournalError> {
        self.inner.due_gap()
    }

    fn set_due_gap(&mut self, reason: Option<GapReason>) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.set_due_gap(reason)
    }

    fn last_seq(&mut self) -> Result<Seq, JournalError> {
        self.inner.last_seq()
    }

    fn walked(&mut self, root: &ZnodePath) -> Result<HistoryPoint, JournalError> {
        self.inner.walked(root)
    }

    fn set_walked(&mut self, root: &ZnodePath, began: &HistoryPoint) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.set_walked(root, began)
    }

    fn begin_unreadable(
        &mut self,
        root: &ZnodePath,
        znode: (&ZnodePath, UnreadableExtent),
        since: &HistoryPoint,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.check_writable()?;
        let since = match self.habit {
            Some(Habit::UnreadableUnsaid) => return Ok(()),
            Some(Habit::UnreadableLate) => HistoryPoint {
                zxid: Zxid(u64::MAX >> 1),
                ..*since
            },
            _ => *since,
        };
        self.inner.begin_unreadable(root, znode, &since, now)
    }

    fn open_unreadable(&mut self, root: &ZnodePath) -> Result<Vec<UnreadableSpan>, JournalError> {
        self.inner.open_unreadable(root)
    }

    fn unreadable_since(&mut self, path: &ZnodePath) -> Result<Option<HistoryPoint>, JournalError> {
        self.inner.unreadable_since(path)
    }

    fn end_unreadable(
        &mut self,
        znode: (&ZnodePath, UnreadableExtent),
        until: &HistoryPoint,
    ) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.end_unreadable(znode, until)
    }

    fn position(&mut self) -> Result<Option<HistoryPosition>, JournalError> {
        self.inner.position()
    }

    fn set_position(&mut self, position: Option<&HistoryPosition>) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.set_position(position)
    }

    fn shadow(&mut self, key: &ShadowKey) -> Result<Option<ShadowNode>, JournalError> {
        self.inner.shadow(key)
    }

    fn set_shadow(&mut self, key: &ShadowKey, node: Option<&ShadowNode>) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.set_shadow(key, node)
    }

    fn clear_shadow(&mut self) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.clear_shadow()
    }

    fn stage_shadow(&mut self, key: &ShadowKey, node: &ShadowNode) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.stage_shadow(key, node)
    }

    fn load_shadow(&mut self) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.load_shadow()
    }

    fn uncaptured_of(&mut self, session: SessionId) -> Result<Option<Vec<ZnodePath>>, JournalError> {
        self.inner.uncaptured_of(session)
    }

    fn set_uncaptured(&mut self, path: &ZnodePath, session: Option<SessionId>) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.set_uncaptured(path, session)
    }

    fn clear_uncaptured(&mut self) -> Result<(), JournalError> {
        self.check_writable()?;
        self.inner.clear_uncaptured()
    }
}

impl Log for Tap {
    fn end(&self) -> LogEnd {
        self.inner.end()
    }

    fn term(&self) -> Term {
        self.inner.term()
    }

    fn append_batch(&mut self, after: Seq, batch: SealedBatch, term: Term) -> Result<Seq, JournalError> {
        let tail = self.inner.append_batch(after, batch, term)?;
        self.publish();
        Ok(tail)
    }
}

impl SinkState for Tap {
    fn register_sink(&mut self, name: &str, start: Seq) -> Result<Seq, JournalError> {
        self.check_writable()?;
        self.inner.register_sink(name, start)
    }

    fn cursor(&mut self, sink: &str) -> Result<Option<Seq>, JournalError> {
        self.inner.cursor(sink)
    }

    fn store_progress(&mut self, progress: &SinkProgress) -> Result<(), ProgressError> {
        self.check_writable()?;
        self.inner.store_progress(progress)
    }
}

impl JournalWriter for Tap {
    fn set_server(&mut self, server: Option<Arc<str>>) {
        self.inner.set_server(server);
    }

    fn set_mode(&mut self, mode: Option<Mode>) {
        self.inner.set_mode(mode);
    }

    fn set_live(&mut self, now: Timestamp) {
        self.inner.set_live(now);
    }

    fn store_live(&mut self) -> Result<(), JournalError> {
        if self.faults.borrow().disk_is_full {
            return Err(simulated(JournalErrorKind::DiskFull));
        }
        self.inner.store_live()
    }

    fn seal(&mut self) -> Result<SealedBatch, JournalError> {
        if let Err(error) = self.check_writable() {
            self.rollback()?;
            return Err(error);
        }
        self.inner.seal()
    }

    fn rollback(&mut self) -> Result<(), JournalError> {
        self.inner.rollback()?;
        self.trail.borrow_mut().open.clear();
        self.head = self.tail;
        self.has_failed = false;
        Ok(())
    }

    fn maintain(&mut self, now: Timestamp, budget: usize) -> Result<Maintained, JournalError> {
        if self.faults.borrow().disk_is_full {
            // Undone already, as the real journal does it.
            return Err(simulated(JournalErrorKind::DiskFull));
        }
        self.inner.maintain(now, budget)
    }
}

fn simulated(kind: JournalErrorKind) -> JournalError {
    JournalError::new(kind, Path::new("simulated"), "the simulated disk says so")
}

/// Flips a bit of a field of the Stat that a record leads to.
fn flip(entry: &mut Append, field: u8) {
    let RecordKind::Change(change) = &mut entry.kind else {
        return;
    };
    let stat = match &mut change.kind {
        ChangeKind::Created { read } | ChangeKind::Updated { read } | ChangeKind::Listed { read, .. } => {
            &mut read.stat
        }
        ChangeKind::AclChanged { stat, .. } => stat,
        ChangeKind::CreatedUnread { .. } | ChangeKind::Deleted { .. } | ChangeKind::Restated { .. } => return,
    };
    match field {
        0 => stat.czxid.0 ^= 1,
        1 => stat.mzxid.0 ^= 1,
        2 => stat.pzxid.0 ^= 1,
        3 => stat.ctime ^= 1,
        4 => stat.mtime ^= 1,
        5 => stat.version ^= 1,
        6 => stat.cversion ^= 1,
        7 => stat.aversion ^= 1,
        8 => stat.ephemeral_owner.0 ^= 1,
        9 => stat.data_length ^= 1,
        _ => stat.num_children ^= 1,
    }
}

/// The record of a write that a later one of the same transaction has overwritten, if there is one.
fn unfolded(entry: &Append) -> Option<Append> {
    let mut first = entry.clone();
    let RecordKind::Change(change) = &mut first.kind else {
        return None;
    };
    let is_folded = change.txn.is_some() && change.missed > Some(0);
    if !is_folded || !matches!(change.kind, ChangeKind::Updated { .. }) {
        return None;
    }
    change.missed = Some(0);
    change.superseded.clear();
    Some(first)
}

/// A row that proves nothing.
fn forged(czxid: Zxid) -> Node {
    Node { czxid, stat: None }
}

#[cfg(test)]
mod tests {
    use bridge_core::capture::{Capture, CaptureOptions};
    use bridge_core::pipeline::Flow;
    use bridge_core::testing::ModelDisk;

    use super::super::twin::Store;
    use super::*;

    #[test]
    fn a_full_disk_ends_the_round_of_retention_and_not_the_source() {
        let store = Store::new(ModelDisk::new(true, 0), false);
        let faults = Rc::<RefCell<Faults>>::default();
        let tap = Tap::new(store.open(), Seq::ZERO, Rc::clone(&faults), Rc::default(), None);
        let options = CaptureOptions::new("main", vec![ZnodePath::parse("/a").unwrap()]);
        let mut flow = Flow::new(Box::new(Capture::new(options)), tap, 1);

        faults.borrow_mut().disk_is_full = true;
        flow.retain(Timestamp(1_000)).unwrap();
        faults.borrow_mut().disk_is_full = false;
        flow.retain(Timestamp(2_000)).unwrap();
        flow.commit().unwrap().expect("no transaction was left");
    }
}
