//! The queue in which events wait for their values. They are recorded in the order in which they arrived.
//!
//! From servers ≥ 3.9 each event has its zxid, and a value belongs to the event whose zxid is its `mzxid`; a version
//! that was overwritten before it was read is listed as superseded in the next record of its path. Events without zxids
//! are settled by [`settle_by_read`](super::settle_by_read).

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::number::Zxid;
use crate::path::{Hasher, ZnodePath};
use crate::record::Stat;

use super::batch::{Length, Limits, Request, RequestBudget};
use super::pending::{Overwritten, Pending, Value};
use super::roots::StepContext;
use super::window::Window;
use super::{Event, EventKind};
use super::{Outcome, ReadRequest, StepResult};

/// The reason why the queue stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// No further event can be recorded now.
    Settled,
    /// The walk of a root ended here, and all events before it are recorded.
    Mark(usize),
    /// A read after the event of this path shows no change.
    Denied(ZnodePath),
}

/// The result for one event.
pub(super) enum Settled {
    Done,
    Wait,
    Denied,
}

/// The waiting events, and the state of their paths.
#[derive(Debug, Default)]
pub(crate) struct Follow {
    pub(super) limits: Limits,
    /// Position of the first item; positions count all events of the connection.
    pub(super) base: u64,
    pub(super) items: VecDeque<Item>,
    pub(super) paths: HashMap<ZnodePath, Pending, Hasher>,
    pub(super) to_read: VecDeque<ZnodePath>,
    pub(super) tentative: BTreeSet<ZnodePath>,
    /// All events of the transactions whose last event is before this position have arrived.
    pub(in crate::capture) complete: u64,
    /// Incarnations that are created and deleted inside one transaction are removed before this position.
    pub(super) prepared: u64,
    pub(super) open_group: Option<Zxid>,
    /// The zxid of the last event that arrived.
    last_zxid: Option<Zxid>,
    /// For each path, the oldest version that was overwritten before it was read and that no record counts yet.
    pub(super) unaccounted: BTreeSet<(Zxid, ZnodePath)>,
    pub(super) acls: Vec<(usize, ZnodePath, Stat)>,
    pub(super) held_bytes: usize,
    /// The bytes of the keys of `paths`: events of one znode share the path.
    path_bytes: usize,
    /// The expected bytes of the next value: the largest recent one, decaying slowly.
    pub(super) expected_bytes: usize,
    pub(super) window: Window,
}

#[derive(Clone, Debug)]
pub(super) enum Item {
    Event(PendingEvent),
    Mark(usize),
    Gone,
}

/// A waiting event.
#[derive(Clone, Debug)]
pub(super) struct PendingEvent {
    pub(super) path: ZnodePath,
    pub(super) root: usize,
    pub(super) kind: EventKind,
    pub(super) zxid: Option<Zxid>,
    /// A delete of an incarnation that may never have been read in this epoch.
    pub(super) uncertain: bool,
    /// A walk read the path after the event arrived, and may have recorded the change.
    pub(super) may_be_recorded: bool,
    /// Earlier writes that it replaced under load.
    pub(super) folded: Overwritten,
}

impl Follow {
    /// An empty queue.
    pub(crate) fn new(limits: Limits) -> Follow {
        Follow {
            limits,
            ..Follow::default()
        }
    }

    /// Queues an event. Returns `false` if too many wait.
    #[must_use]
    pub(crate) fn push(&mut self, event: Event, root: usize, uncertain: bool, is_tentative: bool) -> bool {
        let is_full = self.items.len() >= self.limits.events || self.path_bytes >= self.limits.event_bytes;
        if is_full {
            return false;
        }
        let path = match self.paths.get_key_value(&event.path) {
            Some((known, _)) => known.clone(),
            None => {
                self.path_bytes += event.path.len();
                event.path
            }
        };
        let folded = self.fold(&path, event.kind);
        let uncertain = uncertain && !self.has(&path, EventKind::Created, 0);
        let position = self.place_after_last_event(event.zxid);
        let pending = self.paths.entry(path.clone()).or_default();
        pending.positions.push_back(position);
        pending.kinds.add(event.kind);
        if is_tentative {
            self.tentative.insert(path.clone());
        }
        let waiting = PendingEvent {
            path: path.clone(),
            root,
            kind: event.kind,
            zxid: event.zxid,
            uncertain,
            may_be_recorded: false,
            folded,
        };
        self.items[(position - self.base) as usize] = Item::Event(waiting);
        if event.zxid.is_some() && !self.tentative.contains(&path) {
            self.want_read(&path);
        }
        true
    }

    /// Makes a place for an event: after all items, but before marks if it belongs to the transaction before them.
    fn place_after_last_event(&mut self, zxid: Option<Zxid>) -> u64 {
        let end = self.base + self.items.len() as u64;
        let marks = self
            .items
            .iter()
            .rev()
            .take_while(|item| matches!(item, Item::Mark(_)))
            .count();
        // The last event that arrived counts also if a walk recorded it meanwhile or it was replaced.
        let is_same_group = zxid.is_some() && self.last_zxid == zxid;
        self.last_zxid = zxid;
        if is_same_group && marks > 0 {
            let at = self.items.len() - marks;
            self.items.insert(at, Item::Gone);
            return self.base + at as u64;
        }
        if !is_same_group {
            self.complete = self.complete.max(end);
        }
        self.items.push_back(Item::Gone);
        end
    }

    /// Under load, replaces the previous waiting write of the same znode. Returns the versions that were replaced.
    fn fold(&mut self, path: &ZnodePath, kind: EventKind) -> Overwritten {
        if self.items.len() < self.limits.fold_above || kind != EventKind::Changed {
            return Overwritten::default();
        }
        let Some(last) = self
            .paths
            .get(path)
            .and_then(|pending| pending.positions.back().copied())
        else {
            return Overwritten::default();
        };
        // One record describes all changes of a znode in one transaction, so these are replaced together or not at all.
        if self.is_second_of_transaction(path, last) {
            return Overwritten::default();
        }
        let at = (last - self.base) as usize;
        let Item::Event(earlier) = &mut self.items[at] else {
            return Overwritten::default();
        };
        if earlier.kind != EventKind::Changed || earlier.zxid.is_none() {
            return Overwritten::default();
        }
        let mut folded = std::mem::take(&mut earlier.folded);
        folded.add(earlier.zxid.unwrap_or_default());
        if let Some(oldest) = folded.oldest {
            self.unaccounted.insert((oldest, path.clone()));
        }
        self.items[at] = Item::Gone;
        if let Some(pending) = self.paths.get_mut(path) {
            pending.positions.pop_back();
            pending.kinds.remove(EventKind::Changed);
        }
        folded
    }

    /// Whether another event of the same path and transaction waits before one.
    fn is_second_of_transaction(&self, path: &ZnodePath, position: u64) -> bool {
        let positions = self.paths.get(path).map(|pending| &pending.positions);
        let before = positions.and_then(|positions| positions.iter().rev().nth(1).copied());
        let zxid_at = |position| match self.item(position) {
            Some(Item::Event(event)) => event.zxid,
            _ => None,
        };
        before.is_some_and(|before| zxid_at(before) == zxid_at(position))
    }

    /// Marks the end of the walk of a root: everything before the mark has to be recorded first.
    pub(crate) fn push_mark(&mut self, root: usize) {
        self.items.push_back(Item::Mark(root));
    }

    /// The position after the last event that arrived.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.items.len() as u64
    }

    /// Whether no event and no change of an access control list waits for its record.
    pub(crate) fn is_settled(&self) -> bool {
        self.items.is_empty() && self.acls.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether events of this path wait.
    pub(crate) fn has_events(&self, path: &str) -> bool {
        self.paths
            .get(path)
            .is_some_and(|pending| !pending.positions.is_empty())
    }

    /// Paths for which it is not decided yet whether the walk or their events record the changes.
    pub(crate) fn tentative(&self) -> Vec<ZnodePath> {
        self.tentative.iter().cloned().collect()
    }

    /// Decides that the events of a tentative path are recorded.
    pub(crate) fn confirm(&mut self, path: &ZnodePath) {
        self.tentative.remove(path);
        let has_zxid = self.paths.get(path).and_then(|pending| pending.positions.front()).is_some_and(
            |first| matches!(&self.items[(first - self.base) as usize], Item::Event(event) if event.zxid.is_some()),
        );
        if has_zxid {
            self.want_read(path);
        }
    }

    /// Decides that the walk records a path, which it reads after these events: creates and writes are dropped. Deletes
    /// stay, because the image may have the deleted incarnation.
    pub(crate) fn leave_to_walk(&mut self, path: &ZnodePath) {
        self.tentative.remove(path);
        self.drop_events(path, |_, event| event.kind != EventKind::Deleted);
        self.each_event(path, |event| event.uncertain = true);
    }

    /// Drops the events that are reflected in a value that a walk read and recorded.
    pub(crate) fn absorb(&mut self, path: &ZnodePath, covers: u64, found: Option<&Stat>) {
        self.tentative.remove(path);
        self.window_is_older(path);
        match found {
            Some(stat) => {
                let newest = stat.mzxid.max(stat.czxid);
                self.drop_events(path, |position, event| {
                    position < covers || event.zxid.is_some_and(|zxid| zxid <= newest)
                });
                self.each_event(path, |event| {
                    event.uncertain = false;
                    event.may_be_recorded = true;
                });
                self.forget_overwritten(path, newest);
            }
            None => self.drop_events(path, |position, event| {
                position < covers && event.kind != EventKind::Deleted
            }),
        }
        if self.has_events(path) {
            self.confirm(path);
        }
    }

    /// Drops overwritten versions up to the one that a walk recorded, also those that later events replaced.
    fn forget_overwritten(&mut self, path: &ZnodePath, newest: Zxid) {
        let Some(pending) = self.paths.get_mut(path) else {
            return;
        };
        let (base, items) = (self.base, &mut self.items);
        let folded = pending
            .positions
            .iter()
            .map(|position| (position - base) as usize);
        let mut held = vec![std::mem::take(&mut pending.overwritten)];
        for at in folded.clone() {
            if let Item::Event(event) = &mut items[at] {
                held.push(std::mem::take(&mut event.folded));
            }
        }
        for one in &mut held {
            if let Some(oldest) = one.oldest {
                self.unaccounted.remove(&(oldest, path.clone()));
            }
            one.forget_until(newest);
            if let Some(oldest) = one.oldest {
                self.unaccounted.insert((oldest, path.clone()));
            }
        }
        let mut held = held.into_iter();
        pending.overwritten = held.next().unwrap_or_default();
        for at in folded {
            if let Item::Event(event) = &mut items[at] {
                event.folded = held.next().unwrap_or_default();
            }
        }
    }

    pub(super) fn each_event(&mut self, path: &ZnodePath, change: impl Fn(&mut PendingEvent)) {
        let Some(pending) = self.paths.get(path) else {
            return;
        };
        for position in &pending.positions {
            if let Item::Event(event) = &mut self.items[(position - self.base) as usize] {
                change(event);
            }
        }
    }

    pub(super) fn drop_events(&mut self, path: &ZnodePath, is_obsolete: impl Fn(u64, &PendingEvent) -> bool) {
        let Some(pending) = self.paths.get_mut(path) else {
            return;
        };
        let (base, items, unaccounted) = (self.base, &mut self.items, &mut self.unaccounted);
        let kinds = &mut pending.kinds;
        pending.positions.retain(|position| {
            let item = &mut items[(position - base) as usize];
            let Item::Event(event) = item else {
                return true;
            };
            if !is_obsolete(*position, event) {
                return true;
            }
            if let Some(oldest) = event.folded.oldest {
                unaccounted.remove(&(oldest, path.clone()));
            }
            kinds.remove(event.kind);
            *item = Item::Gone;
            false
        });
        self.forget_if_idle(path);
    }

    pub(super) fn want_read(&mut self, path: &ZnodePath) {
        let pending = self.paths.entry(path.clone()).or_default();
        if !pending.queued {
            pending.queued = true;
            self.to_read.push_back(path.clone());
        }
    }

    /// The next paths to read, oldest event first; empty if none waits. Servers do not limit answers, so that only a
    /// few large values are read at once.
    pub(crate) fn next_reads(&mut self) -> Vec<ReadRequest> {
        let mut budget = RequestBudget::new(self.limits.follow_batch, &self.limits);
        let mut reads = Vec::new();
        while let Some(path) = self.to_read.front() {
            if !budget.take(path, Length::Written(self.expected_bytes)) {
                break;
            }
            let Some(path) = self.to_read.pop_front() else {
                break;
            };
            let pending = self.paths.entry(path.clone()).or_default();
            pending.queued = false;
            if pending.positions.is_empty() {
                self.forget_if_idle(&path);
                continue;
            }
            pending.reads_under_way += 1;
            reads.push(ReadRequest {
                path,
                children: false,
            });
        }
        reads
    }

    /// Stores the values of a request.
    pub(crate) fn answered(&mut self, request: Request, outcomes: Vec<Outcome>) {
        self.expect(&outcomes);
        for (read, outcome) in request.reads.into_iter().zip(outcomes) {
            if let Some(pending) = self.paths.get_mut(&read.path) {
                pending.reads_under_way = pending.reads_under_way.saturating_sub(1);
            }
            self.offer(&read.path, request.covers, outcome);
        }
    }

    pub(super) fn expect(&mut self, outcomes: &[Outcome]) {
        let bytes = |outcome: &Outcome| match outcome {
            Outcome::Found { data, .. } => data.len(),
            Outcome::Missing | Outcome::Denied => 0,
        };
        let largest = outcomes.iter().map(bytes).max().unwrap_or_default();
        self.expected_bytes = largest.max(self.expected_bytes - self.expected_bytes / 8);
    }

    /// Notes that an answer arrived: all events of the transactions before `covers` have arrived, too.
    pub(crate) fn fence(&mut self, covers: u64) {
        if covers <= self.complete {
            return;
        }
        self.complete = covers;
        let event_at = |position: &u64| match self.item(*position) {
            Some(Item::Event(event)) => Some((*position, event.zxid)),
            _ => None,
        };
        // Replaced events, and those that a walk recorded, do not separate the events of one transaction.
        let before = (self.base..covers).rev().find_map(|position| event_at(&position));
        let Some((_, Some(zxid))) = before else { return };
        let after = (covers..self.end()).filter_map(|position| event_at(&position));
        let rest = after.take_while(|(_, other)| *other == Some(zxid)).last();
        if let Some((last, _)) = rest {
            self.complete = last + 1;
        }
    }

    pub(super) fn item(&self, position: u64) -> Option<&Item> {
        self.items
            .get(usize::try_from(position.checked_sub(self.base)?).ok()?)
    }

    /// Stores a value for the waiting events of its path.
    pub(crate) fn offer(&mut self, path: &ZnodePath, covers: u64, outcome: Outcome) {
        let Some(pending) = self.paths.get_mut(path) else {
            return;
        };
        if pending.positions.is_empty() {
            self.forget_if_idle(path);
            return;
        }
        let value = Value { covers, outcome };
        self.held_bytes += value.bytes();
        pending.values.push(value);
        self.drop_useless_values(path);
    }

    /// Keeps the newest value, and those that an event waits for while there is room.
    fn drop_useless_values(&mut self, path: &ZnodePath) {
        let is_full = self.held_bytes > self.limits.held_bytes;
        let (base, items) = (self.base, &self.items);
        let Some(pending) = self.paths.get_mut(path) else {
            return;
        };
        let awaited: Vec<Zxid> = pending
            .positions
            .iter()
            .filter_map(|position| match &items[(position - base) as usize] {
                Item::Event(event) => event.zxid,
                _ => None,
            })
            .collect();
        let newest = pending.values.len().saturating_sub(1);
        let mut at = 0;
        let mut freed = 0;
        pending.values.retain(|value| {
            let is_awaited = !is_full
                && value.stat().is_some_and(|stat| {
                    awaited.binary_search(&stat.mzxid).is_ok() || awaited.binary_search(&stat.czxid).is_ok()
                });
            let keep = at == newest || is_awaited;
            at += 1;
            if !keep {
                freed += value.bytes();
            }
            keep
        });
        self.held_bytes -= freed;
    }

    /// Records events from the front of the queue, as far as they are settled.
    pub(crate) fn advance(&mut self, context: &mut StepContext<'_>) -> StepResult<Advance> {
        loop {
            let position = self.base;
            match self.items.front() {
                None => {
                    self.close_group(context)?;
                    self.report_window(context);
                    return Ok(Advance::Settled);
                }
                Some(Item::Gone) => self.pop(),
                Some(Item::Mark(root)) => {
                    let root = *root;
                    self.close_group(context)?;
                    self.pop();
                    let reaches_further = context.roots[root].reaches_further();
                    if reaches_further || self.owes_a_version(context.roots[root].seen_zxid()) {
                        self.items.push_back(Item::Mark(root));
                        continue;
                    }
                    return Ok(Advance::Mark(root));
                }
                Some(Item::Event(event)) => {
                    if self.tentative.contains(&event.path) {
                        return Ok(Advance::Settled);
                    }
                    let event = event.clone();
                    match self.settle(context, position, &event)? {
                        Settled::Done => self.leave(context, &event)?,
                        Settled::Wait => return Ok(Advance::Settled),
                        Settled::Denied => return Ok(Advance::Denied(event.path)),
                    }
                }
            }
        }
    }

    /// Whether a version up to a zxid was overwritten before it was read, and the event whose record counts it still
    /// waits.
    fn owes_a_version(&self, upto: Zxid) -> bool {
        let oldest = self.unaccounted.first();
        oldest.is_some_and(|(zxid, _)| *zxid <= upto)
            && self.items.iter().any(|item| matches!(item, Item::Event(_)))
    }

    /// Removes the event at the front, which is recorded.
    fn leave(&mut self, context: &mut StepContext<'_>, event: &PendingEvent) -> StepResult<()> {
        let position = self.base;
        if let Some(pending) = self.paths.get_mut(&event.path)
            && let Ok(at) = pending.positions.binary_search(&position)
        {
            pending.positions.remove(at);
            pending.kinds.remove(event.kind);
        }
        self.pop();
        while matches!(self.items.front(), Some(Item::Gone)) {
            self.pop();
        }
        self.forget_if_idle(&event.path);
        let goes_on = matches!(self.items.front(), Some(Item::Event(next)) if next.zxid == event.zxid);
        if event.zxid.is_some() && !goes_on {
            self.close_group(context)?;
        }
        Ok(())
    }

    pub(super) fn pop(&mut self) {
        self.items.pop_front();
        self.base += 1;
    }

    /// Ends a transaction whose records are complete: appends its `acl` records, and advances the reported zxid.
    pub(super) fn close_group(&mut self, context: &mut StepContext<'_>) -> StepResult<()> {
        let Some(zxid) = self.open_group.take() else {
            return Ok(());
        };
        for (root, path, stat) in std::mem::take(&mut self.acls) {
            context.write_acl(root, &path, &stat)?;
        }
        // A version that was overwritten before it was read is only counted by the next record of its path.
        let reported = match self.unaccounted.first() {
            Some((oldest, _)) => zxid.min(Zxid(oldest.0.saturating_sub(1))),
            None => zxid,
        };
        for root in context.roots.iter_mut().filter(|root| root.is_watched()) {
            root.reported(reported);
        }
        Ok(())
    }

    pub(super) fn forget_if_idle(&mut self, path: &ZnodePath) {
        let Some(pending) = self.paths.get_mut(path) else {
            return;
        };
        if !pending.positions.is_empty() {
            return;
        }
        let freed: usize = pending.values.drain(..).map(|value| value.bytes()).sum();
        self.held_bytes -= freed;
        // Without events left, the record that replaced the events counts the overwritten versions.
        if let Some(oldest) = std::mem::take(&mut pending.overwritten).oldest {
            self.unaccounted.remove(&(oldest, path.clone()));
        }
        if pending.reads_under_way == 0 && !pending.queued {
            self.paths.remove(path);
            self.path_bytes = self.path_bytes.saturating_sub(path.len());
        }
    }
}
