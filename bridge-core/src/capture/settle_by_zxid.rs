//! Settles events with zxids: finds the value of each event, and counts the versions that were overwritten unread.

use std::collections::{HashMap, HashSet};

use crate::append::{Change, ChangeKind, DeletedAt};
use crate::image_txn::Node;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Fidelity, GapReason, SUPERSEDED_MAX, Stat};

use super::EventKind;
use super::compare::{ctime, missed_between};
use super::follow::{Follow, Item, PendingEvent, Settled};
use super::pending::{Overwritten, Value};
use super::roots::StepContext;
use super::{Outcome, StepError, StepResult};

impl Follow {
    pub(super) fn settle(
        &mut self,
        context: &mut StepContext<'_>,
        position: u64,
        event: &PendingEvent,
    ) -> StepResult<Settled> {
        let Some(zxid) = event.zxid else {
            return self.settle_by_position(context, position, event);
        };
        if position >= self.complete {
            return Ok(self.wait_for_read(event));
        }
        if position >= self.prepared {
            self.prepare_group(zxid);
            if !matches!(self.items.front(), Some(Item::Event(_))) {
                return Ok(Settled::Done);
            }
        }
        if self.open_group != Some(zxid) && !self.group_is_ready(zxid) {
            return Ok(Settled::Wait);
        }
        if self.open_group != Some(zxid) {
            self.close_group(context)?;
            self.begin_gaps_of(context, zxid)?;
            self.open_group = Some(zxid);
        }
        self.take_folded(&event.path);
        match event.kind {
            EventKind::Created => self.settle_created(context, position, event, zxid),
            EventKind::Changed => self.settle_changed(context, position, event, zxid),
            EventKind::Deleted => self.settle_deleted(context, event, zxid),
        }
    }

    /// Whether every event of the transaction at the front can be recorded: its records are appended together.
    fn group_is_ready(&mut self, zxid: Zxid) -> bool {
        let of_group = |item: &&Item| match item {
            Item::Event(event) => event.zxid == Some(zxid),
            Item::Gone => true,
            Item::Mark(_) => false,
        };
        let end = self.items.iter().take_while(of_group).count();
        let mut is_ready = true;
        for at in 0..end {
            let Item::Event(event) = &self.items[at] else {
                continue;
            };
            let (path, kind, position) = (event.path.clone(), event.kind, self.base + at as u64);
            if self.tentative.contains(&path) {
                is_ready = false;
            } else if kind != EventKind::Deleted && !self.can_be_recorded(&path, position, zxid) {
                self.read_if_none_is_under_way(&path);
                is_ready = false;
            }
        }
        is_ready
    }

    /// Appends the begins of the gaps of the transaction at the front before its first record, so that its records are
    /// adjacent.
    fn begin_gaps_of(&self, context: &mut StepContext<'_>, zxid: Zxid) -> StepResult<()> {
        for item in &self.items {
            match item {
                Item::Event(event) if event.zxid == Some(zxid) => context.begin_gap(event.root)?,
                Item::Gone => {}
                Item::Event(_) | Item::Mark(_) => break,
            }
        }
        Ok(())
    }

    /// Whether a value, or a later event, decides on a create or write.
    fn can_be_recorded(&self, path: &ZnodePath, position: u64, zxid: Zxid) -> bool {
        let is_read = self.newest(path).is_some_and(|value| value.covers > position)
            || self.values(path).any(|(stat, _)| stat.mzxid >= zxid);
        is_read || (!self.must_wait(path, position, zxid) && self.has(path, EventKind::Deleted, position))
    }

    /// Drops the events of incarnations that are created and deleted inside one transaction: they were never visible.
    fn prepare_group(&mut self, zxid: Zxid) {
        let end = self.complete - self.base;
        let group: Vec<(u64, ZnodePath, EventKind)> = (0..end)
            .map_while(|at| match self.items.get(at as usize) {
                Some(Item::Event(event)) if event.zxid == Some(zxid) => {
                    Some(Some((self.base + at, event.path.clone(), event.kind)))
                }
                Some(Item::Gone) => Some(None),
                _ => None,
            })
            .flatten()
            .collect();
        self.prepared = group.last().map_or(self.base, |(position, ..)| *position) + 1;
        if group.len() < 2 {
            return;
        }
        let mut incarnations: HashMap<&ZnodePath, Vec<(u64, EventKind)>> = HashMap::new();
        let mut invisible: HashMap<&ZnodePath, HashSet<u64>> = HashMap::new();
        for (position, path, kind) in &group {
            let incarnation = incarnations.entry(path).or_default();
            incarnation.push((*position, *kind));
            if *kind == EventKind::Deleted
                && let Some(created) = incarnation
                    .iter()
                    .position(|(_, kind)| *kind == EventKind::Created)
            {
                let positions = incarnation.drain(created..).map(|(position, _)| position);
                invisible.entry(path).or_default().extend(positions);
            }
        }
        for (path, gone) in invisible {
            self.drop_events(path, |position, _| gone.contains(&position));
        }
    }

    fn settle_created(
        &mut self,
        context: &mut StepContext<'_>,
        position: u64,
        event: &PendingEvent,
        zxid: Zxid,
    ) -> StepResult<Settled> {
        if let Some(node) = context.image.node(&event.path)? {
            if node.czxid >= zxid {
                return Ok(Settled::Done);
            }
            if !context.in_bracket(event.root) {
                return Err(StepError::Doubt(GapReason::Permission));
            }
            context.purge(event.root, &event.path, Some(zxid), DeletedAt::Bound(zxid))?;
            context.write_delete(event.root, &event.path, DeletedAt::Bound(zxid))?;
        }
        let kind = match self.value_of_incarnation(&event.path, zxid) {
            Some((stat, data)) if stat.mzxid == zxid => ChangeKind::Created {
                read: context.read(stat, data),
            },
            Some((stat, _)) => ChangeKind::CreatedUnread {
                czxid: zxid,
                ephemeral: Some(stat.is_ephemeral()),
                ctime: Some(ctime(stat)),
            },
            None if self.must_wait(&event.path, position, zxid) => {
                return Ok(self.wait_for_read(event));
            }
            None if self.has(&event.path, EventKind::Deleted, position)
                && self.is_below_unrecorded(context, event.root, &event.path)? =>
            {
                return Ok(Settled::Done);
            }
            None if self.has(&event.path, EventKind::Deleted, position) => ChangeKind::CreatedUnread {
                czxid: zxid,
                ephemeral: None,
                ctime: None,
            },
            None => return self.nothing_read(context, position, event),
        };
        let versions = match &kind {
            ChangeKind::Created { read } => u64::try_from(read.stat.version).unwrap_or_default(),
            _ => 0,
        };
        let superseded =
            vec![zxid; usize::try_from(versions).map_or(SUPERSEDED_MAX, |n| n.min(SUPERSEDED_MAX))];
        let path = event.path.clone();
        let missed = Some(versions);
        let facts = context.facts(&path, &kind);
        context.write(
            event.root,
            Change {
                path,
                kind,
                fidelity: Fidelity::Exact,
                missed,
                superseded,
                txn: None,
                facts,
            },
        )?;
        Ok(Settled::Done)
    }

    /// Whether the parent was deleted before its walk could list it: neither it nor its children are recorded.
    pub(super) fn is_below_unrecorded(
        &self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
    ) -> StepResult<bool> {
        let Some(parent) = path.parent() else {
            return Ok(false);
        };
        let is_watched = context.in_bracket(root) && context.roots[root].path.covers(&parent);
        Ok(is_watched && context.image.node(&parent)?.is_none() && !context.unreadable.has(&parent))
    }

    fn settle_changed(
        &mut self,
        context: &mut StepContext<'_>,
        position: u64,
        event: &PendingEvent,
        zxid: Zxid,
    ) -> StepResult<Settled> {
        let node = match context.image.node(&event.path)? {
            Some(node) if node.stat.is_none() && node.czxid == zxid => {
                self.overwritten(&event.path, zxid);
                return Ok(Settled::Done);
            }
            Some(node) if node.mzxid() >= zxid => return Ok(Settled::Done),
            Some(node) => node,
            None => return self.changed_but_not_living(context, position, event),
        };
        if self.is_written_again_in_group(&event.path, position, zxid) {
            self.overwritten(&event.path, zxid);
            return Ok(Settled::Done);
        }
        if self.write_exact_update(context, event, zxid, &node)? {
            return Ok(Settled::Done);
        }
        if self.was_overwritten(&event.path, &node, zxid) {
            self.overwritten(&event.path, zxid);
            return Ok(Settled::Done);
        }
        if self.must_wait(&event.path, position, zxid) {
            return Ok(self.wait_for_read(event));
        }
        if self.has(&event.path, EventKind::Deleted, position) {
            self.overwritten(&event.path, zxid);
            return Ok(Settled::Done);
        }
        self.nothing_read(context, position, event)
    }

    fn write_exact_update(
        &mut self,
        context: &mut StepContext<'_>,
        event: &PendingEvent,
        zxid: Zxid,
        node: &Node,
    ) -> StepResult<bool> {
        let Some((stat, data)) = self.value_of_version(&event.path, node.czxid, zxid) else {
            return Ok(false);
        };
        let stat = *stat;
        let kind = ChangeKind::Updated {
            read: context.read(&stat, data),
        };
        let overwritten = self.take_overwritten(&event.path);
        let missed = missed_between(node.version(), stat.version).unwrap_or(overwritten.count);
        let change = Change {
            path: event.path.clone(),
            kind,
            fidelity: Fidelity::Exact,
            missed: Some(missed.max(overwritten.zxids.len() as u64)),
            superseded: overwritten.zxids,
            txn: None,
            facts: None,
        };
        if context.acl_moved(node, &stat) {
            self.acls.push((event.root, event.path.clone(), stat));
        }
        context.write(event.root, change)?;
        Ok(true)
    }

    fn settle_deleted(
        &mut self,
        context: &mut StepContext<'_>,
        event: &PendingEvent,
        zxid: Zxid,
    ) -> StepResult<Settled> {
        let overwritten = self.take_overwritten(&event.path);
        let Some(node) = context.image.node(&event.path)? else {
            return Ok(Settled::Done);
        };
        if node.czxid >= zxid {
            return Ok(Settled::Done);
        }
        let bound = DeletedAt::Bound(zxid);
        if context.in_bracket(event.root) {
            context.purge(event.root, &event.path, Some(zxid), bound)?;
        } else if !context.image.deepest_below(&event.path, 1)?.is_empty() {
            return Err(StepError::Doubt(GapReason::Permission));
        }
        if event.uncertain && context.in_bracket(event.root) {
            context.write_delete(event.root, &event.path, bound)?;
            return Ok(Settled::Done);
        }
        // At or below an unreadable znode, the walk cannot determine whether this is still the recorded incarnation.
        let unreadable = &context.unreadable;
        let is_sure = !unreadable.is_named(&event.path) && !unreadable.covers(&event.path);
        let at = if is_sure { DeletedAt::Exact(zxid) } else { bound };
        let change = Change {
            path: event.path.clone(),
            kind: ChangeKind::Deleted { at },
            fidelity: Fidelity::Exact,
            missed: is_sure.then_some(overwritten.count),
            superseded: overwritten.zxids,
            txn: None,
            facts: None,
        };
        context.write(event.root, change)?;
        Ok(Settled::Done)
    }

    /// Handles a write of a znode that was never recorded: it was unreadable when it was created.
    fn changed_but_not_living(
        &mut self,
        context: &mut StepContext<'_>,
        position: u64,
        event: &PendingEvent,
    ) -> StepResult<Settled> {
        if self.has(&event.path, EventKind::Deleted, position) {
            return Ok(Settled::Done);
        }
        Ok(
            match self
                .newest(&event.path)
                .filter(|value| value.covers > position)
                .map(|value| &value.outcome)
            {
                None => self.wait_for_read(event),
                Some(Outcome::Found { .. }) => return Err(StepError::Doubt(GapReason::Permission)),
                Some(Outcome::Missing) => Settled::Done,
                Some(Outcome::Denied) => {
                    context.deny(event.root, &event.path)?;
                    Settled::Done
                }
            },
        )
    }

    /// Handles an event without its value in a read that was sent after it.
    fn nothing_read(
        &mut self,
        context: &mut StepContext<'_>,
        position: u64,
        event: &PendingEvent,
    ) -> StepResult<Settled> {
        Ok(
            match self
                .newest(&event.path)
                .filter(|value| value.covers > position)
                .map(|value| &value.outcome)
            {
                None => self.wait_for_read(event),
                Some(Outcome::Denied) => {
                    context.deny(event.root, &event.path)?;
                    Settled::Done
                }
                Some(Outcome::Missing) => return Err(StepError::Doubt(GapReason::Permission)),
                Some(Outcome::Found { stat, .. }) if Some(stat.mzxid) < event.zxid => Settled::Denied,
                Some(Outcome::Found { .. }) => return Err(StepError::Doubt(GapReason::Permission)),
            },
        )
    }

    fn wait_for_read(&mut self, event: &PendingEvent) -> Settled {
        self.read_if_none_is_under_way(&event.path);
        Settled::Wait
    }

    fn read_if_none_is_under_way(&mut self, path: &ZnodePath) {
        let pending = self.paths.get(path);
        if pending.is_none_or(|pending| pending.reads_under_way == 0) {
            self.want_read(path);
        }
    }

    /// Whether a read under way may still bring the value of an event.
    fn must_wait(&self, path: &str, position: u64, zxid: Zxid) -> bool {
        let Some(pending) = self.paths.get(path) else {
            return false;
        };
        let is_covered = pending.values.last().is_some_and(|value| value.covers > position);
        let is_past = self.values(path).any(|(stat, _)| stat.mzxid >= zxid);
        !is_covered && !is_past && pending.reads_under_way > 0
    }

    pub(super) fn newest(&self, path: &str) -> Option<&Value> {
        self.paths.get(path).and_then(|pending| pending.values.last())
    }

    /// The oldest value read of an incarnation.
    fn value_of_incarnation(&self, path: &str, czxid: Zxid) -> Option<(&Stat, &[u8])> {
        self.values(path).find(|(stat, _)| stat.czxid == czxid)
    }

    fn value_of_version(&self, path: &str, czxid: Zxid, mzxid: Zxid) -> Option<(&Stat, &[u8])> {
        self.values(path)
            .find(|(stat, _)| stat.czxid == czxid && stat.mzxid == mzxid)
    }

    fn values(&self, path: &str) -> impl Iterator<Item = (&Stat, &[u8])> {
        let values = self.paths.get(path).map_or(&[][..], |pending| &pending.values);
        values.iter().filter_map(|value| match &value.outcome {
            Outcome::Found { stat, data, .. } => Some((stat, &**data)),
            Outcome::Missing | Outcome::Denied => None,
        })
    }

    fn was_overwritten(&self, path: &str, node: &Node, zxid: Zxid) -> bool {
        self.values(path)
            .any(|(stat, _)| stat.czxid > node.czxid || stat.mzxid > zxid)
    }

    fn is_written_again_in_group(&self, path: &str, position: u64, zxid: Zxid) -> bool {
        let Some(pending) = self.paths.get(path) else {
            return false;
        };
        pending.positions.iter().skip_while(|at| **at <= position).any(
            |at| matches!(&self.items[(at - self.base) as usize], Item::Event(event) if event.zxid == Some(zxid) && event.kind == EventKind::Changed),
        )
    }

    /// Adds the versions that the event at the front replaced under load to the overwritten ones.
    fn take_folded(&mut self, path: &ZnodePath) {
        let Some(Item::Event(front)) = self.items.front_mut() else {
            return;
        };
        let folded = std::mem::take(&mut front.folded);
        let Some(oldest) = folded.oldest else {
            return;
        };
        let Some(pending) = self.paths.get_mut(path) else {
            return;
        };
        if pending.overwritten.oldest.is_some() {
            self.unaccounted.remove(&(oldest, path.clone()));
        }
        pending.overwritten.append(folded);
    }

    fn overwritten(&mut self, path: &ZnodePath, zxid: Zxid) {
        let Some(pending) = self.paths.get_mut(path) else {
            return;
        };
        if pending.overwritten.oldest.is_none() {
            self.unaccounted.insert((zxid, path.clone()));
        }
        pending.overwritten.add(zxid);
    }

    fn take_overwritten(&mut self, path: &ZnodePath) -> Overwritten {
        let Some(pending) = self.paths.get_mut(path) else {
            return Overwritten::default();
        };
        let taken = std::mem::take(&mut pending.overwritten);
        if let Some(oldest) = taken.oldest {
            self.unaccounted.remove(&(oldest, path.clone()));
        }
        taken
    }
}
