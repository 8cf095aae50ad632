//! The journal as a model of its transactions: what is committed is on the disk, what is open is lost with the process,
//! and what a disk has not synchronised yet is lost with the power, the newest commits first and nothing else.
//!
//! Records and image come from [`Model`]. The simulator (`tests/faithful.rs`) compares it with the real journal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::append::{Append, Change, NodeFacts, RecordKind};
use crate::committed::{HistoryPosition, ShadowKey, ShadowNode};
use crate::image_txn::{Children, ImageTxn, Node, Progress};
use crate::journal::{
    JournalError, JournalWriter, Log, LogEnd, Maintained, ProgressError, RangeMismatch, SealedBatch,
    SinkProgress, SinkState, Term,
};
use crate::number::{Epoch, Seq, SessionId};
use crate::path::ZnodePath;
use crate::record::{GapReason, Mode, Record, Stat, Timestamp};
use crate::unreadable_span::{HistoryPoint, UnreadableExtent, UnreadableSpan};

use super::model::{Model, Znode};
use super::model_backlog::ModelBacklog;
use super::model_unreadable::ModelUnreadable;

/// The state that survives the process.
#[derive(Clone, Default)]
pub struct ModelState {
    /// Records and image.
    pub model: Model,
    /// Of the sinks, by name.
    pub cursors: BTreeMap<Arc<str>, Seq>,
    /// Their dead letters and parked records, by name of the sink.
    pub backlogs: BTreeMap<Arc<str>, ModelBacklog>,
    epoch: Epoch,
    progress: BTreeMap<ZnodePath, Progress>,
    position: Option<HistoryPosition>,
    shadow: BTreeMap<ShadowKey, ShadowNode>,
    uncaptured: Option<BTreeMap<ZnodePath, SessionId>>,
    /// When znodes could not be read.
    pub unreadable: ModelUnreadable,
    /// Why the next comparison is a gap of an unknown begin.
    pub due_gap: Option<GapReason>,
    /// Until when capture was live.
    live: Option<Timestamp>,
    term: Term,
    /// The first record that is kept.
    oldest: u64,
}

/// A disk: what is committed, and what of it is synchronised.
pub struct ModelDisk {
    /// As the process sees it.
    pub state: ModelState,
    synced: Option<ModelState>,
    /// How long delivered records stay readable.
    pub retention_ms: i64,
}

impl ModelState {
    /// As of a journal that an earlier version has written, which did not keep ephemeral znodes that are not captured.
    pub fn forget_uncaptured(&mut self) {
        self.uncaptured = None;
    }
}

impl ModelDisk {
    /// An empty one. `syncs_commits`: each commit survives a loss of power.
    pub fn new(syncs_commits: bool, retention_ms: i64) -> ModelDisk {
        ModelDisk {
            state: ModelState::default(),
            synced: (!syncs_commits).then(ModelState::default),
            retention_ms,
        }
    }

    /// The first record that is kept.
    pub fn kept_from(&self) -> u64 {
        self.state.oldest.max(1)
    }

    /// The operating system writes what was committed.
    pub fn sync(&mut self) {
        if let Some(synced) = &mut self.synced {
            *synced = self.state.clone();
        }
    }

    /// The power is lost, and with it this number of records of the newest commits.
    pub fn lose_power(&mut self) -> usize {
        let Some(synced) = &self.synced else {
            return 0;
        };
        let lost = self.state.model.records.len() - synced.model.records.len();
        self.state = synced.clone();
        lost
    }
}

/// The state that undoes an open transaction.
struct Undo {
    appended: usize,
    image: Vec<(ZnodePath, Option<Znode>)>,
    records: usize,
    cursors: BTreeMap<Arc<str>, Seq>,
    backlogs: BTreeMap<Arc<str>, ModelBacklog>,
    epoch: Epoch,
    progress: BTreeMap<ZnodePath, Progress>,
    position: Option<HistoryPosition>,
    shadow: BTreeMap<ShadowKey, ShadowNode>,
    uncaptured: Option<BTreeMap<ZnodePath, SessionId>>,
    due_gap: Option<GapReason>,
    unreadable: ModelUnreadable,
}

/// The one writer. Dropping it is the end of the process: what is not committed is gone.
pub struct ModelJournal {
    disk: Rc<RefCell<ModelDisk>>,
    term: Term,
    undo: Option<Undo>,
    /// Until when capture was live at the last commit.
    live: Option<Timestamp>,
    /// Everything that this process has appended and not rolled back, in order.
    pub appended: Vec<Append>,
}

impl Default for ModelJournal {
    /// An empty journal whose commits survive a loss of power.
    fn default() -> ModelJournal {
        ModelJournal::open(Rc::new(RefCell::new(ModelDisk::new(true, i64::MAX))))
    }
}

impl ModelJournal {
    /// Opens what is on the disk.
    pub fn open(disk: Rc<RefCell<ModelDisk>>) -> ModelJournal {
        // The connected server is not stored, and until when capture was live is only now and then.
        {
            let state = &mut disk.borrow_mut().state;
            (state.model.server, state.model.mode) = (None, None);
            state.model.live = state.live;
        }
        let term = disk.borrow().state.term.next();
        let live = disk.borrow().state.live;
        ModelJournal {
            disk,
            term,
            undo: None,
            live,
            appended: Vec::new(),
        }
    }

    /// The changes of znodes among what was appended.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.appended.iter().filter_map(|entry| match &entry.kind {
            RecordKind::Change(change) => Some(change),
            _ => None,
        })
    }

    /// The image.
    pub fn image(&self) -> BTreeMap<ZnodePath, Znode> {
        self.disk.borrow().state.model.image.clone()
    }

    fn begin(&mut self) {
        if self.undo.is_some() {
            return;
        }
        let disk = self.disk.borrow();
        let state = &disk.state;
        self.undo = Some(Undo {
            appended: self.appended.len(),
            image: Vec::new(),
            records: state.model.records.len(),
            cursors: state.cursors.clone(),
            backlogs: state.backlogs.clone(),
            epoch: state.epoch,
            progress: state.progress.clone(),
            position: state.position,
            shadow: state.shadow.clone(),
            uncaptured: state.uncaptured.clone(),
            due_gap: state.due_gap,
            unreadable: state.unreadable.clone(),
        });
    }

    fn keep(&mut self, path: &ZnodePath) {
        self.begin();
        let was = self.disk.borrow().state.model.image.get(path).cloned();
        if let Some(undo) = &mut self.undo {
            undo.image.push((path.clone(), was));
        }
    }

    fn undo(&mut self) {
        self.disk.borrow_mut().state.model.live = self.live;
        let Some(undo) = self.undo.take() else {
            return;
        };
        self.appended.truncate(undo.appended);
        let mut disk = self.disk.borrow_mut();
        let state = &mut disk.state;
        for (path, was) in undo.image.into_iter().rev() {
            match was {
                Some(znode) => drop(state.model.image.insert(path, znode)),
                None => drop(state.model.image.remove(&path)),
            }
        }
        state.model.records.truncate(undo.records);
        state.cursors = undo.cursors;
        state.backlogs = undo.backlogs;
        state.epoch = undo.epoch;
        state.progress = undo.progress;
        state.position = undo.position;
        state.shadow = undo.shadow;
        state.uncaptured = undo.uncaptured;
        state.due_gap = undo.due_gap;
        state.unreadable = undo.unreadable;
    }
}

impl Drop for ModelJournal {
    fn drop(&mut self) {
        self.undo();
    }
}

/// The committed records after a position that are still kept.
pub fn records_after(disk: &ModelDisk, after: Seq, limit: usize) -> Vec<Arc<Record>> {
    let first = usize::try_from(after.0.max(disk.state.oldest.saturating_sub(1))).unwrap_or(usize::MAX);
    let records = &disk.state.model.records;
    records.iter().skip(first).take(limit).cloned().collect()
}

impl ImageTxn for ModelJournal {
    fn node(&mut self, path: &ZnodePath) -> Result<Option<Node>, JournalError> {
        Ok(self.disk.borrow().state.model.image.get(path).map(Znode::node))
    }

    fn children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, Node)>, JournalError> {
        let disk = self.disk.borrow();
        let is_child = |child: &ZnodePath| child.parent_str() == Some(path.as_str());
        let image = disk.state.model.image.range(path.clone()..);
        let mut found: Vec<(Box<str>, Node)> = image
            .filter(|(child, _)| is_child(child) && after.is_none_or(|after| child.name() > after))
            .map(|(child, znode)| (child.name().into(), znode.node()))
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found.truncate(limit);
        Ok(found)
    }

    fn occupied_children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Children<Option<Node>>, JournalError> {
        Ok(self
            .disk
            .borrow()
            .state
            .model
            .occupied_children(path, after, limit))
    }

    fn deepest_below(
        &mut self,
        path: &ZnodePath,
        limit: usize,
    ) -> Result<Vec<(ZnodePath, Node)>, JournalError> {
        Ok(self.disk.borrow().state.model.deepest_below(path, limit))
    }

    fn append(&mut self, entry: Append) -> Result<Seq, JournalError> {
        if let RecordKind::Change(change) = &entry.kind {
            let path = change.path.clone();
            self.keep(&path);
        }
        self.begin();
        self.appended.push(entry.clone());
        Ok(self.disk.borrow_mut().state.model.append(entry))
    }

    fn refresh(&mut self, path: &ZnodePath, stat: &Stat) -> Result<(), JournalError> {
        self.keep(path);
        let mut disk = self.disk.borrow_mut();
        let znode = disk.state.model.image.get_mut(path);
        let known = znode.and_then(|znode| znode.stat.as_mut());
        let known = known.unwrap_or_else(|| panic!("{path} is refreshed and has no Stat"));
        assert_eq!(
            (known.czxid, known.mzxid),
            (stat.czxid, stat.mzxid),
            "{path} is refreshed to another version"
        );
        *known = *stat;
        Ok(())
    }

    fn set_facts(&mut self, path: &ZnodePath, facts: &NodeFacts) -> Result<(), JournalError> {
        self.keep(path);
        let mut disk = self.disk.borrow_mut();
        if let Some(znode) = disk.state.model.image.get_mut(path) {
            znode.facts = Some(facts.clone());
        }
        Ok(())
    }

    fn epoch(&mut self) -> Result<Epoch, JournalError> {
        Ok(self.disk.borrow().state.epoch)
    }

    fn set_epoch(&mut self, epoch: Epoch) -> Result<(), JournalError> {
        self.begin();
        let state = &mut self.disk.borrow_mut().state;
        assert!(epoch > state.epoch, "the watch epoch goes back to {epoch}");
        state.epoch = epoch;
        Ok(())
    }

    fn progress(&mut self, root: &ZnodePath) -> Result<Progress, JournalError> {
        Ok(self
            .disk
            .borrow()
            .state
            .progress
            .get(root)
            .cloned()
            .unwrap_or_default())
    }

    fn set_progress(&mut self, root: &ZnodePath, progress: &Progress) -> Result<(), JournalError> {
        self.begin();
        let state = &mut self.disk.borrow_mut().state;
        state.progress.insert(root.clone(), progress.clone());
        Ok(())
    }

    fn due_gap(&mut self) -> Result<Option<GapReason>, JournalError> {
        Ok(self.disk.borrow().state.due_gap)
    }

    fn set_due_gap(&mut self, reason: Option<GapReason>) -> Result<(), JournalError> {
        self.begin();
        self.disk.borrow_mut().state.due_gap = reason;
        Ok(())
    }

    fn last_seq(&mut self) -> Result<Seq, JournalError> {
        Ok(Seq(self.disk.borrow().state.model.records.len() as u64))
    }

    fn walked(&mut self, root: &ZnodePath) -> Result<HistoryPoint, JournalError> {
        Ok(self.disk.borrow().state.unreadable.walked(root))
    }

    fn set_walked(&mut self, root: &ZnodePath, began: &HistoryPoint) -> Result<(), JournalError> {
        self.begin();
        self.disk.borrow_mut().state.unreadable.set_walked(root, *began);
        Ok(())
    }

    fn begin_unreadable(
        &mut self,
        root: &ZnodePath,
        znode: (&ZnodePath, UnreadableExtent),
        since: &HistoryPoint,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.begin();
        let state = &mut self.disk.borrow_mut().state;
        let oldest = usize::try_from(state.oldest.saturating_sub(1)).unwrap_or(usize::MAX);
        let kept = (&*state.model.records, oldest);
        state.unreadable.begin(root, znode, *since, kept, now);
        Ok(())
    }

    fn open_unreadable(&mut self, root: &ZnodePath) -> Result<Vec<UnreadableSpan>, JournalError> {
        Ok(self.disk.borrow().state.unreadable.open(root))
    }

    fn unreadable_since(&mut self, path: &ZnodePath) -> Result<Option<HistoryPoint>, JournalError> {
        Ok(self.disk.borrow().state.unreadable.earliest_over(path))
    }

    fn end_unreadable(
        &mut self,
        znode: (&ZnodePath, UnreadableExtent),
        until: &HistoryPoint,
    ) -> Result<(), JournalError> {
        self.begin();
        self.disk.borrow_mut().state.unreadable.end(znode, *until);
        Ok(())
    }

    fn position(&mut self) -> Result<Option<HistoryPosition>, JournalError> {
        Ok(self.disk.borrow().state.position)
    }

    fn set_position(&mut self, position: Option<&HistoryPosition>) -> Result<(), JournalError> {
        self.begin();
        let state = &mut self.disk.borrow_mut().state;
        state.position = position.copied();
        if position.is_none() {
            state.shadow.clear();
            state.uncaptured = None;
        }
        Ok(())
    }

    fn shadow(&mut self, key: &ShadowKey) -> Result<Option<ShadowNode>, JournalError> {
        Ok(self.disk.borrow().state.shadow.get(key).copied())
    }

    fn set_shadow(&mut self, key: &ShadowKey, node: Option<&ShadowNode>) -> Result<(), JournalError> {
        self.begin();
        let shadow = &mut self.disk.borrow_mut().state.shadow;
        match node {
            Some(node) => drop(shadow.insert(*key, *node)),
            None => drop(shadow.remove(key)),
        }
        Ok(())
    }

    fn clear_shadow(&mut self) -> Result<(), JournalError> {
        self.begin();
        self.disk.borrow_mut().state.shadow.clear();
        Ok(())
    }

    fn uncaptured_of(&mut self, session: SessionId) -> Result<Option<Vec<ZnodePath>>, JournalError> {
        let disk = self.disk.borrow();
        let all = disk.state.uncaptured.as_ref();
        Ok(all.map(|all| {
            let of_session = all.iter().filter(|(_, owner)| **owner == session);
            of_session.map(|(path, _)| path.clone()).collect()
        }))
    }

    fn set_uncaptured(&mut self, path: &ZnodePath, session: Option<SessionId>) -> Result<(), JournalError> {
        self.begin();
        // Without all of them the others are never asked for.
        if let Some(all) = &mut self.disk.borrow_mut().state.uncaptured {
            match session {
                Some(session) => drop(all.insert(path.clone(), session)),
                None => drop(all.remove(path)),
            }
        }
        Ok(())
    }

    fn clear_uncaptured(&mut self) -> Result<(), JournalError> {
        self.begin();
        self.disk.borrow_mut().state.uncaptured = Some(BTreeMap::new());
        Ok(())
    }
}

impl Log for ModelJournal {
    fn end(&self) -> LogEnd {
        let state = &self.disk.borrow().state;
        let records = self
            .undo
            .as_ref()
            .map_or(state.model.records.len(), |undo| undo.records);
        LogEnd {
            tail: Seq(records as u64),
            term: self.term,
        }
    }

    fn term(&self) -> Term {
        self.term
    }

    fn append_batch(&mut self, after: Seq, batch: SealedBatch, term: Term) -> Result<Seq, JournalError> {
        if let Err(refused) = self.end().accepts(after, term) {
            self.undo();
            return Err(JournalError::of_refused_batch(Path::new("model"), refused));
        }
        if self.undo.take().is_some() {
            self.term = term;
            self.disk.borrow_mut().state.term = term;
        }
        self.live = self.disk.borrow().state.model.live;
        Ok(batch.last)
    }
}

impl SinkState for ModelJournal {
    fn register_sink(&mut self, name: &str, start: Seq) -> Result<Seq, JournalError> {
        if let Some(known) = SinkState::cursor(self, name)? {
            return Ok(known);
        }
        self.begin();
        let mut disk = self.disk.borrow_mut();
        let start = start.max(Seq(disk.kept_from() - 1));
        Ok(*disk.state.cursors.entry(name.into()).or_insert(start))
    }

    fn cursor(&mut self, sink: &str) -> Result<Option<Seq>, JournalError> {
        Ok(self.disk.borrow().state.cursors.get(sink).copied())
    }

    fn store_progress(&mut self, progress: &SinkProgress) -> Result<(), ProgressError> {
        self.begin();
        let state = &mut self.disk.borrow_mut().state;
        let head = Seq(state.model.records.len() as u64);
        let cursor = state.cursors.get_mut(&progress.sink);
        let Some(cursor) = cursor else {
            return Err(progress.refused(Seq::ZERO, RangeMismatch::UnknownSink).into());
        };
        let after = progress.applied_at(*cursor, head)?;
        let backlog = state.backlogs.entry(Arc::clone(&progress.sink)).or_default();
        let kept_from = Seq(state.oldest);
        for one in &progress.changes {
            backlog.take(one, one.seq() > *cursor, kept_from, progress.at);
        }
        *cursor = after;
        Ok(())
    }
}

impl JournalWriter for ModelJournal {
    fn set_server(&mut self, server: Option<Arc<str>>) {
        self.disk.borrow_mut().state.model.server = server;
    }

    fn set_mode(&mut self, mode: Option<Mode>) {
        self.disk.borrow_mut().state.model.mode = mode;
    }

    fn set_live(&mut self, now: Timestamp) {
        self.disk.borrow_mut().state.model.live = Some(now);
    }

    fn store_live(&mut self) -> Result<(), JournalError> {
        assert!(self.undo.is_none(), "it has a batch of its own");
        let state = &mut self.disk.borrow_mut().state;
        if state.live != state.model.live {
            (state.live, state.term) = (state.model.live, self.term);
            self.live = state.live;
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<SealedBatch, JournalError> {
        let last = Seq(self.disk.borrow().state.model.records.len() as u64);
        Ok(SealedBatch { last })
    }

    fn rollback(&mut self) -> Result<(), JournalError> {
        self.undo();
        Ok(())
    }

    fn maintain(&mut self, now: Timestamp, budget: usize) -> Result<Maintained, JournalError> {
        assert!(self.undo.is_none(), "retention has a batch of its own");
        let mut disk = self.disk.borrow_mut();
        let removed = removable(&disk, now, budget);
        disk.state.oldest = disk.state.oldest.max(1) + removed as u64;
        if removed > 0 {
            let last = Seq(disk.state.oldest - 1);
            disk.state.unreadable.remove_until(last);
            disk.state.term = self.term;
        }
        let more = removable(&disk, now, 1) > 0;
        Ok(Maintained { removed, more })
    }
}

/// How many records from the oldest on may go now: delivered to all, old enough, never the last.
fn removable(disk: &ModelDisk, now: Timestamp, budget: usize) -> usize {
    let state = &disk.state;
    let before_last = (state.model.records.len() as u64).saturating_sub(1);
    let delivered = state.cursors.values().map(|cursor| cursor.0).min();
    let last = delivered.unwrap_or(before_last).min(before_last);
    let horizon = now.0.saturating_sub(disk.retention_ms);
    let first = state.oldest.max(1);
    let old = (first..=last).take(budget);
    let is_old = |seq: &u64| {
        let record = &state.model.records[usize::try_from(*seq - 1).unwrap_or_default()];
        record.time.captured.0 < horizon
    };
    old.take_while(is_old).count()
}
