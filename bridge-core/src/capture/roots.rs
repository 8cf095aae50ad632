//! The state of each configured root in the present watch epoch: its phase, its open gap or run, its progress.

use uuid::Uuid;

use crate::append::{Append, Change, NodeFacts, Read, RecordKind};
use crate::image_txn::{ImageTxn, OpenRun, Progress};
use crate::journal::JournalError;
use crate::machine::Counters;
use crate::number::{Epoch, Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{Data, DataForm, Fidelity, GapReason, Op, Stat, Timestamp};
use crate::unreadable_span::{HistoryPoint, UnreadableExtent};

use super::lists::Lists;
use super::options::{CaptureOptions, DataMode};
use super::unreadable::Unreadable;

/// A root in the present epoch.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) path: ZnodePath,
    pub(crate) phase: RootPhase,
    progress: Progress,
    changed: bool,
    /// Where its present walk or audit began, or its last one.
    began: HistoryPoint,
    /// The greatest zxid in any Stat or event since the walk began.
    seen: Zxid,
    /// Whether the walk read any Stat.
    has_listed: bool,
    /// Whether it could not be read when it was last walked by this process.
    was_unreadable: bool,
    /// The walk is done, and events before this position arrived during it; its bracket closes once they are recorded.
    frozen: Option<u64>,
    /// Incarnations that were created and deleted during the walk without a record were deleted at or before this zxid:
    /// the bracket has to reach it.
    unread: Zxid,
}

/// The phase of a root in the present epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootPhase {
    /// Its walk has not begun; its events are dropped, because the walk reads a later state.
    Waiting,
    /// It is being walked, inside a run or a gap.
    Walking(Bracket),
    /// Compared: every change is recorded from its event.
    Watched,
}

/// The run or gap that encloses the reconciled records of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bracket {
    /// The run of the first listing.
    Run(Uuid),
    /// The gap of a later listing.
    Gap {
        epoch: Epoch,
        from_zxid: Zxid,
        reason: GapReason,
        /// `None` until its begin is appended.
        differences: Option<u64>,
    },
}

/// The state that every part of the machine needs to handle one input and to append its records.
pub(crate) struct StepContext<'a> {
    pub(crate) now: Timestamp,
    pub(crate) image: &'a mut dyn ImageTxn,
    pub(crate) options: &'a CaptureOptions,
    pub(crate) counters: &'a mut Counters,
    pub(crate) roots: &'a mut [Root],
    pub(crate) unreadable: &'a mut Unreadable,
    pub(crate) lists: &'a Lists,
    /// Whether another server may be tried on a suspicion only.
    pub(crate) may_lag: bool,
    /// Where the tree is read from a stage.
    pub(crate) stage: Option<AtStage>,
}

/// Facts of a stage that reads of a live tree do not give.
pub(crate) struct AtStage {
    /// The listing is the tree at exactly this zxid.
    pub(crate) zxid: Zxid,
    /// Of the znode at hand.
    pub(crate) facts: Option<Box<NodeFacts>>,
}

impl Root {
    pub(crate) fn load(path: &ZnodePath, image: &mut dyn ImageTxn) -> Result<Root, JournalError> {
        let progress = image.progress(path)?;
        Ok(Root {
            path: path.clone(),
            phase: RootPhase::Waiting,
            progress,
            changed: false,
            began: HistoryPoint::default(),
            seen: Zxid::ZERO,
            has_listed: false,
            was_unreadable: false,
            frozen: None,
            unread: Zxid::ZERO,
        })
    }

    /// Whether a root that the image does not have cannot exist as it was read: everything up to its newest zxid was
    /// reported, including its delete. `false` for a root that became readable meanwhile, or whose watch was lost,
    /// which look the same.
    pub(crate) fn is_past(&self, stat: &Stat) -> bool {
        let RootPhase::Walking(Bracket::Gap { reason, .. }) = self.phase else {
            return false;
        };
        let was_seen = !self.was_unreadable && !matches!(reason, GapReason::Liveness | GapReason::Permission);
        was_seen && stat.newest_zxid() <= self.progress.reported
    }

    /// Notes the zxid of an event or Stat.
    pub(crate) fn saw(&mut self, zxid: Zxid) {
        if self.frozen.is_none() {
            self.seen = self.seen.max(zxid);
        }
    }

    /// Notes the bound of a delete event without a zxid. Only one that arrived during the walk may belong to an
    /// incarnation without a record, because its create was left to the walk.
    pub(crate) fn ended(&mut self, position: u64, bound: Zxid) {
        if self.frozen.is_none_or(|end| position < end) {
            self.unread = self.unread.max(bound);
        }
    }

    /// Extends the bracket to the noted deletes. Returns `true` if that moved it: the events up to there have to be
    /// recorded first.
    #[must_use]
    pub(crate) fn reaches_further(&mut self) -> bool {
        let is_further = self.unread > self.seen;
        self.seen = self.seen.max(self.unread);
        is_further
    }

    /// The greatest zxid of any event or Stat until the walk ended.
    pub(crate) fn seen_zxid(&self) -> Zxid {
        self.seen
    }

    /// Notes the end of the walk: later events belong to the time after it.
    pub(crate) fn freeze(&mut self, end: u64) {
        self.frozen = Some(end);
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Notes a Stat that the walk read.
    pub(crate) fn listed(&mut self, stat: &Stat) {
        self.saw(stat.newest_zxid());
        self.has_listed = true;
    }

    /// Notes that the root does not exist, with the zxid of the last change above it. A gap reaches that far, because
    /// the root may have been created and deleted while there was no connection; a first listing does not cover earlier
    /// changes.
    pub(crate) fn is_missing(&mut self, above: Zxid) {
        if matches!(self.phase, RootPhase::Walking(Bracket::Gap { .. })) {
            self.saw(above);
        }
    }

    /// Notes that everything up to a zxid is appended for this root.
    pub(crate) fn reported(&mut self, zxid: Zxid) {
        if zxid > self.progress.reported {
            self.progress.reported = zxid;
            self.changed = true;
        }
    }

    /// Resets the reported zxid to the greatest of this epoch, and returns it.
    fn reset_reported(&mut self) -> Zxid {
        self.progress.reported = self.seen;
        self.changed = true;
        self.seen
    }

    /// Whether its first listing was completed.
    pub(crate) fn is_listed(&self) -> bool {
        self.progress.listed
    }

    /// The zxid up to which everything is appended for this root.
    pub(crate) fn reported_zxid(&self) -> Zxid {
        self.progress.reported
    }

    /// Notes where a walk or an audit begins, before its first read.
    pub(crate) fn begin_walk(
        &mut self,
        now: Timestamp,
        image: &mut dyn ImageTxn,
    ) -> Result<(), JournalError> {
        self.began = HistoryPoint {
            seq: image.last_seq()?,
            zxid: self.progress.reported,
            time: now,
        };
        Ok(())
    }

    /// Stores that the walk or audit has ended: each znode of the root is known up to its begin, but for those that may
    /// not be read.
    pub(crate) fn end_walk(&self, image: &mut dyn ImageTxn) -> Result<(), JournalError> {
        image.set_walked(&self.path, &self.began)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.phase == RootPhase::Watched
    }
}

impl StepContext<'_> {
    /// Opens the bracket of a root's walk: a run the first time (or the interrupted one), else a gap, which begins
    /// after `from` or else after what was reported for this root.
    pub(crate) fn open_bracket(
        &mut self,
        index: usize,
        epoch: Epoch,
        reason: GapReason,
        from: Option<Zxid>,
    ) -> Result<(), JournalError> {
        let root = &mut self.roots[index];
        root.begin_walk(self.now, self.image)?;
        if matches!(reason, GapReason::Rebaselined) {
            // The zxids of the replaced history do not apply to this one.
            root.began.zxid = Zxid::ZERO;
        }
        root.seen = Zxid::ZERO;
        root.has_listed = false;
        root.was_unreadable = self.unreadable.has(&root.path);
        self.unreadable.forget(&root.path);
        if root.progress.listed {
            let from_zxid = from.unwrap_or(root.progress.reported);
            root.phase = RootPhase::Walking(Bracket::Gap {
                epoch,
                from_zxid,
                reason,
                differences: None,
            });
            return Ok(());
        }
        if let Some(run) = &root.progress.run {
            root.phase = RootPhase::Walking(Bracket::Run(run.id));
            return Ok(());
        }
        let run = self.new_run(index, epoch);
        let root = &mut self.roots[index];
        root.progress.run = Some(OpenRun { id: run, index: 0 });
        root.changed = true;
        root.phase = RootPhase::Walking(Bracket::Run(run));
        self.control(index, RecordKind::RunBegin { run })?;
        Ok(())
    }

    /// Notes that a server denies the read of a znode, and since when its state is not known: since the last complete
    /// walk that could read what is above it, or since what its last Stat shows.
    pub(crate) fn deny(&mut self, index: usize, path: &ZnodePath) -> Result<(), JournalError> {
        let root = &self.roots[index].path;
        let Some(extent) = self.unreadable.add(root, path) else {
            return Ok(());
        };
        let mut since = self.image.walked(root)?;
        // That walk has not read what was below a znode that it could not read.
        if let Some(above) = self.image.unreadable_since(path)? {
            since = since.min(above);
        }
        if let (UnreadableExtent::Znode, Some(node)) = (extent, self.image.node(path)?) {
            since = since.max(HistoryPoint {
                seq: since.seq,
                zxid: node.newest_zxid(),
                time: node
                    .stat
                    .and_then(|stat| Timestamp::of_stat(stat.mtime))
                    .unwrap_or(since.time),
            });
        }
        self.image
            .begin_unreadable(root, (path, extent), &since, self.now)
    }

    /// Ends the spans of the znodes that the walk of a root has read again, or has found to be gone.
    fn end_unreadable(&mut self, index: usize, until: &HistoryPoint) -> Result<(), JournalError> {
        for span in self.image.open_unreadable(&self.roots[index].path)? {
            let unreadable = &*self.unreadable;
            let is_denied = unreadable.has(&span.path) || unreadable.covers(&span.path);
            // The walk has not read it.
            let is_left_out = self.options.is_left_out(&span.path);
            if !is_denied && !is_left_out {
                self.image.end_unreadable((&span.path, span.extent), until)?;
            }
        }
        Ok(())
    }

    /// The id of a run, from the source, the root, the epoch and the time, so that it is unique.
    fn new_run(&self, index: usize, epoch: Epoch) -> Uuid {
        let root = &self.roots[index].path;
        let name = format!("{}\n{root}\n{epoch}\n{}", self.options.cluster, self.now);
        Uuid::new_v5(&crate::record::NAMESPACE, name.as_bytes())
    }

    /// Closes the bracket. All events of the walk are recorded before.
    pub(crate) fn close_bracket(&mut self, index: usize) -> Result<(), JournalError> {
        let root = &mut self.roots[index];
        let RootPhase::Walking(bracket) = root.phase else {
            return Ok(());
        };
        self.begin_gap(index)?;
        let root = &mut self.roots[index];
        if let Some(stage) = &self.stage {
            root.seen = stage.zxid;
        }
        root.phase = RootPhase::Watched;
        self.counters.walks += 1;
        let (seq, zxid) = match bracket {
            Bracket::Run(run) => (self.close_run(index, run)?, self.roots[index].seen),
            Bracket::Gap {
                epoch,
                from_zxid,
                reason,
                differences,
            } => {
                let root = &mut self.roots[index];
                let to_zxid = match reason {
                    // The reported zxid of the replaced history does not apply to this one.
                    GapReason::Rebaselined => root.reset_reported(),
                    _ => root.seen.max(from_zxid),
                };
                root.reported(to_zxid);
                let end = RecordKind::GapEnd {
                    epoch,
                    from_zxid,
                    to_zxid,
                    reason,
                    differences: differences.unwrap_or_default(),
                };
                (self.control(index, end)?, to_zxid.max(from_zxid))
            }
        };
        let time = self.now;
        self.end_unreadable(index, &HistoryPoint { seq, zxid, time })?;
        self.roots[index].end_walk(self.image)
    }

    /// Appends the begin of a gap before the first record inside it, at the latest before its end: an attempt that ends
    /// before any difference, as with a server that lags, leaves no record.
    pub(crate) fn begin_gap(&mut self, index: usize) -> Result<(), JournalError> {
        let RootPhase::Walking(Bracket::Gap {
            epoch,
            from_zxid,
            reason,
            differences,
        }) = &mut self.roots[index].phase
        else {
            return Ok(());
        };
        if differences.is_some() {
            return Ok(());
        }
        *differences = Some(0);
        let (epoch, from_zxid, reason) = (*epoch, *from_zxid, *reason);
        self.counters.gap(reason);
        self.control(
            index,
            RecordKind::GapBegin {
                epoch,
                from_zxid,
                reason,
            },
        )?;
        Ok(())
    }

    fn close_run(&mut self, index: usize, run: Uuid) -> Result<Seq, JournalError> {
        let unreadable = self.unreadable.count(&self.roots[index].path);
        let root = &mut self.roots[index];
        let nodes = root.progress.run.as_ref().map_or(0, |run| run.index);
        let unread = Some(root.unread).filter(|unread| *unread > Zxid::ZERO);
        let is_exact = self.stage.is_some();
        let zxid = if root.has_listed || is_exact {
            Some(root.seen)
        } else {
            unread
        };
        root.reported(root.seen);
        root.progress.listed = true;
        root.progress.run = None;
        root.changed = true;
        self.control(
            index,
            RecordKind::RunEnd {
                run,
                index: nodes + 1,
                nodes,
                unreadable,
                zxid,
                is_exact,
            },
        )
    }

    fn control(&mut self, index: usize, kind: RecordKind) -> Result<Seq, JournalError> {
        let op = match &kind {
            RecordKind::RunBegin { .. } => Op::SnapshotBegin,
            RecordKind::RunEnd { .. } => Op::SnapshotEnd,
            RecordKind::GapBegin { .. } => Op::GapBegin,
            RecordKind::GapEnd { .. } => Op::GapEnd,
            RecordKind::Heartbeat { .. } | RecordKind::Change(_) => Op::Heartbeat,
        };
        self.counters.record(op, Fidelity::Exact);
        let root = Some(self.roots[index].path.clone());
        self.image.append(Append {
            root,
            captured: self.now,
            kind,
        })
    }

    /// Appends a change and counts it.
    pub(crate) fn write(&mut self, index: usize, change: Change) -> Result<(), JournalError> {
        let op = change.kind.op();
        self.counters.record(op, change.fidelity);
        self.counters.missed += change.missed.unwrap_or_default();
        self.counters.superseded += change.superseded.len() as u64;
        if self.options.data == DataMode::Keep(DataForm::Json) {
            let data = change.kind.read().and_then(|read| read.data.as_ref());
            self.counters.not_json += u64::from(data.is_some_and(|data| data.why_not_json().is_some()));
        }
        self.begin_gap(index)?;
        let root = &mut self.roots[index];
        if let RootPhase::Walking(Bracket::Gap {
            differences: Some(differences),
            ..
        }) = &mut root.phase
            && change.fidelity == Fidelity::Reconciled
            && op != Op::Acl
        {
            *differences += 1;
        }
        let root = Some(root.path.clone());
        self.image.append(Append {
            root,
            captured: self.now,
            kind: RecordKind::Change(change),
        })?;
        Ok(())
    }

    /// The id of the open run of a root and the next index in it; `None` outside a run.
    pub(crate) fn next_in_run(&mut self, index: usize) -> Option<(Uuid, u64)> {
        let root = &mut self.roots[index];
        let run = root.progress.run.as_mut()?;
        run.index += 1;
        root.changed = true;
        Some((run.id, run.index))
    }

    /// Whether reconciled records are allowed: only inside a gap or a run.
    pub(crate) fn in_bracket(&self, index: usize) -> bool {
        matches!(self.roots[index].phase, RootPhase::Walking(_))
    }

    /// Whether the walk of a root is inside a gap.
    pub(crate) fn in_gap(&self, index: usize) -> bool {
        matches!(self.roots[index].phase, RootPhase::Walking(Bracket::Gap { .. }))
    }

    /// A value in the form that the options of the source name.
    pub(crate) fn read(&self, stat: &Stat, data: &[u8]) -> Read {
        let data = match self.options.data {
            DataMode::Keep(form) => Some(Data::limited(data, form, self.options.max_data_bytes)),
            DataMode::Drop => None,
        };
        Read { stat: *stat, data }
    }

    /// Stores the changed progress of the roots.
    pub(crate) fn save_progress(&mut self) -> Result<(), JournalError> {
        for root in self.roots.iter_mut().filter(|root| root.changed) {
            self.image.set_progress(&root.path, &root.progress)?;
            root.changed = false;
        }
        Ok(())
    }
}
