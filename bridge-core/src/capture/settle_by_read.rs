//! Settles events without zxids, from servers before 3.9: the paths of a window of events are read at one moment, and
//! the state of that moment is recorded.
//!
//! One MultiRead reads the paths of the window and, of those that are created or deleted, all paths above them. Every
//! event that arrived before it was sent is reflected in it, and later ones may be. So records do not follow the events
//! one by one: the first event of a path brings the image of the path to the moment of the read. Children are deleted
//! before their parents and parents are created before their children, also if the events of these still wait. The
//! records of a window are consistent, however small it is.
//!
//! Each recorded change has an event. If the events do not show whether an incarnation was created and deleted before
//! the one that was read, the window is read again: the doubtful events then precede the read. An incarnation that was
//! never read is recorded, too.

use crate::append::{Change, ChangeKind, DeletedAt};
use crate::image_txn::Node;
use crate::path::ZnodePath;
use crate::record::{Fidelity, GapReason, Stat};

use super::EventKind;
use super::compare::{ctime, missed_between};
use super::follow::{Follow, PendingEvent, Settled};
use super::path_events::PathEvents;
use super::roots::StepContext;
use super::walk::nearest_pzxid;
use super::{Outcome, StepError, StepResult};

/// The result for one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SettlingTurn {
    Done,
    /// The events do not show yet which incarnation was read.
    ReadAgain,
    Denied,
}

impl Follow {
    pub(super) fn settle_by_position(
        &mut self,
        context: &mut StepContext<'_>,
        position: u64,
        event: &PendingEvent,
    ) -> StepResult<Settled> {
        if position >= self.window.upto || self.window.is_under_way {
            return Ok(Settled::Wait);
        }
        Ok(match self.settle_path(context, event.root, &event.path)? {
            SettlingTurn::Done => Settled::Done,
            SettlingTurn::Denied => Settled::Denied,
            SettlingTurn::ReadAgain => {
                self.window.upto = self.base;
                Settled::Wait
            }
        })
    }

    /// Brings a path, and first the paths above it, to the moment of the read.
    fn settle_path(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
    ) -> StepResult<SettlingTurn> {
        let outcome = self.window.outcomes.get(path).cloned();
        match outcome {
            None => Ok(SettlingTurn::ReadAgain),
            Some(Outcome::Denied) => {
                context.deny(root, path)?;
                self.drop_until(path, self.window.covers);
                Ok(SettlingTurn::Done)
            }
            // It was created or deleted after the window was chosen, and the paths above it were not read.
            Some(Outcome::Missing) if !self.has_read_above(path) && self.is_created_or_deleted(path) => {
                Ok(SettlingTurn::ReadAgain)
            }
            Some(Outcome::Missing) => self.settle_missing(context, root, path),
            Some(Outcome::Found { stat, data, .. }) => {
                let turn = self.settle_ancestors(context, root, path, &stat)?;
                if turn != SettlingTurn::Done {
                    return Ok(turn);
                }
                self.settle_found(context, root, path, &stat, &data, true)
            }
        }
    }

    /// Records new incarnations above an existing znode first.
    fn settle_ancestors(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        stat: &Stat,
    ) -> StepResult<SettlingTurn> {
        let node = context.image.node(path)?;
        if node.is_some_and(|node| node.czxid == stat.czxid) {
            return Ok(SettlingTurn::Done);
        }
        if !self.has_read_above(path) && self.is_created_or_deleted(path) {
            return Ok(SettlingTurn::ReadAgain);
        }
        let top = context.roots[root].path.clone();
        let mut line: Vec<ZnodePath> = path.ancestors().filter(|above| top.covers(above)).collect();
        line.reverse();
        for above in line {
            let Some(Outcome::Found { stat, data, .. }) = self.window.outcomes.get(&above).cloned() else {
                continue;
            };
            let turn = self.settle_found(context, root, &above, &stat, &data, false)?;
            if turn != SettlingTurn::Done {
                return Ok(turn);
            }
        }
        Ok(SettlingTurn::Done)
    }

    /// During a walk, creates are left to the walk, and the znode may be deleted before the walk reads it: then the gap
    /// or run has to reach the delete.
    fn extend_bracket(
        &self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        events: &PathEvents,
    ) {
        if let (Some(position), DeletedAt::Bound(bound)) = (events.first_delete, self.bound(path))
            && context.in_bracket(root)
        {
            context.roots[root].ended(position, bound);
        }
    }

    /// Whether the window has an answer for all paths above a path. One without an answer may be deleted or newly
    /// created: then the answers above it do not apply to the path.
    fn has_read_above(&self, path: &ZnodePath) -> bool {
        path.ancestors()
            .all(|above| self.window.outcomes.contains_key(&above))
    }

    fn settle_found(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        stat: &Stat,
        data: &[u8],
        is_own: bool,
    ) -> StepResult<SettlingTurn> {
        let node = context.image.node(path)?;
        let events = self.path_events(path, node.is_some(), true);
        self.extend_bracket(context, root, path, &events);
        let in_bracket = context.in_bracket(root);
        match node {
            Some(node) if node.czxid == stat.czxid => {
                if !is_own {
                    return Ok(SettlingTurn::Done);
                }
                let is_denied = events.creates > 0 && events.deletes == 0 && stat.mzxid == node.mzxid();
                if is_denied && !in_bracket {
                    return Ok(SettlingTurn::Denied);
                }
                write_update(context, root, path, stat, data)?;
                self.drop_until(path, events.upto);
                return Ok(SettlingTurn::Done);
            }
            // The walk has read it since.
            Some(node) if node.czxid > stat.czxid && in_bracket => {
                self.drop_until(path, self.window.covers);
                return Ok(SettlingTurn::Done);
            }
            Some(node) if node.czxid > stat.czxid => return Err(StepError::Doubt(GapReason::Liveness)),
            _ => {}
        }
        if events.may_be_later {
            return self.settle_sure_deletes(context, root, path, node);
        }
        let is_recorded = if node.is_some() {
            events.deletes > 0
        } else {
            events.creates > 0
        };
        if !is_recorded && !in_bracket {
            return Err(StepError::Doubt(GapReason::Permission));
        }
        if is_recorded {
            // All creates up to there were recorded: an ensemble that was restored to an older state repeats them.
            if stat.czxid <= context.roots[root].reported_zxid() {
                return Err(StepError::Doubt(GapReason::Liveness));
            }
            self.write_deletes(context, root, path, node, &events)?;
            let is_deleted_later = self.has(path, EventKind::Deleted, events.upto);
            if !is_deleted_later || !self.is_below_unrecorded(context, root, path)? {
                write_create(context, root, path, stat, data)?;
                // Where creates are left to a walk, a later delete may be of an incarnation before this one.
                self.each_event(path, |event| event.may_be_recorded |= event.uncertain);
            }
        }
        if is_recorded || is_own {
            self.drop_until(path, events.upto);
        }
        Ok(SettlingTurn::Done)
    }

    /// Handles events that arrived since the read was sent and do not show which incarnation was read. The deletes
    /// before that are certain and are recorded, so that a path that is created and deleted without a pause makes
    /// progress; the rest is read again.
    fn settle_sure_deletes(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        node: Option<Node>,
    ) -> StepResult<SettlingTurn> {
        let sure = self.sure_deletes(path, node.is_some());
        if sure.deletes > 0 {
            self.write_deletes(context, root, path, node, &sure)?;
            self.drop_until(path, sure.upto);
        }
        Ok(SettlingTurn::ReadAgain)
    }

    fn settle_missing(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
    ) -> StepResult<SettlingTurn> {
        let node = context.image.node(path)?;
        let events = self.path_events(path, node.is_some(), false);
        self.extend_bracket(context, root, path, &events);
        if node.is_some() && events.deletes == 0 && !context.in_bracket(root) {
            return Err(StepError::Doubt(GapReason::Permission));
        }
        if node.is_none() || events.deletes > 0 {
            self.write_deletes(context, root, path, node, &events)?;
        }
        self.drop_until(path, events.upto);
        Ok(SettlingTurn::Done)
    }

    /// Records the delete of the known incarnation with all below it, and one more delete for all incarnations that
    /// were never read.
    fn write_deletes(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        node: Option<Node>,
        events: &PathEvents,
    ) -> StepResult<()> {
        let at = self.bound(path);
        if let Some(node) = node {
            self.write_deletes_below(context, root, path, at)?;
            context.check_proof(path, &node, at)?;
            let is_reconciled = events.is_uncertain && context.in_bracket(root);
            let fidelity = if is_reconciled {
                Fidelity::Reconciled
            } else {
                Fidelity::Exact
            };
            write(context, root, path, ChangeKind::Deleted { at }, fidelity, None)?;
        }
        if events.has_unread && self.is_new_delete(path, at) {
            write(
                context,
                root,
                path,
                ChangeKind::Deleted { at },
                Fidelity::Exact,
                None,
            )?;
        }
        Ok(())
    }

    /// Records the deletes of the znodes below a deleted incarnation; their events wait. During a walk there may be
    /// znodes of the next incarnation, which stay.
    fn write_deletes_below(
        &self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        at: DeletedAt,
    ) -> StepResult<()> {
        if context.in_bracket(root) {
            let older_than = match at {
                DeletedAt::Bound(bound) | DeletedAt::Exact(bound) => Some(bound),
                DeletedAt::Unknown | DeletedAt::Unwatched => None,
            };
            return context.purge(root, path, older_than, at);
        }
        loop {
            let page = context.image.deepest_below(path, context.options.limits.page)?;
            for (gone, node) in &page {
                if !self.has(gone, EventKind::Deleted, 0) {
                    return Err(StepError::Doubt(GapReason::Permission));
                }
                context.check_proof(gone, node, at)?;
                write(
                    context,
                    root,
                    gone,
                    ChangeKind::Deleted { at },
                    Fidelity::Exact,
                    None,
                )?;
            }
            if page.len() < context.options.limits.page {
                return Ok(());
            }
        }
    }

    fn drop_until(&mut self, path: &ZnodePath, upto: u64) {
        self.drop_events(path, |position, _| position < upto);
    }

    /// Whether the delete of an incarnation that was never read is later than the last recorded one of its path.
    fn is_new_delete(&mut self, path: &ZnodePath, at: DeletedAt) -> bool {
        let DeletedAt::Bound(bound) = at else {
            return true;
        };
        let upto = self.base + self.items.len() as u64;
        let before = self.window.deletes.insert(path.clone(), (bound, upto));
        before.is_none_or(|(before, _)| before != bound)
    }

    /// The smaller of the `pzxid` of the nearest existing ancestor, if it can be read, and the `czxid` of the next
    /// incarnation.
    fn bound(&self, path: &ZnodePath) -> DeletedAt {
        let outcomes = &self.window.outcomes;
        let next = outcomes.get(path).and_then(Outcome::stat);
        let next = next.map(|stat| stat.czxid);
        let line: Vec<ZnodePath> = path.ancestors().collect();
        let above = nearest_pzxid(line.iter().map_while(|above| outcomes.get(above)));
        let bound = [next, above].into_iter().flatten().min();
        bound.map_or(DeletedAt::Unknown, DeletedAt::Bound)
    }
}

fn write(
    context: &mut StepContext<'_>,
    root: usize,
    path: &ZnodePath,
    kind: ChangeKind,
    fidelity: Fidelity,
    missed: Option<u64>,
) -> StepResult<()> {
    let facts = context.facts(path, &kind);
    let change = Change {
        path: path.clone(),
        kind,
        fidelity,
        missed,
        superseded: vec![],
        txn: None,
        facts,
    };
    context.write(root, change)?;
    Ok(())
}

fn write_create(
    context: &mut StepContext<'_>,
    root: usize,
    path: &ZnodePath,
    stat: &Stat,
    data: &[u8],
) -> StepResult<()> {
    if stat.mzxid == stat.czxid {
        let missed = Some(u64::try_from(stat.version).unwrap_or_default());
        let kind = ChangeKind::Created {
            read: context.read(stat, data),
        };
        return write(context, root, path, kind, Fidelity::Exact, missed);
    }
    let (ephemeral, ctime) = (Some(stat.is_ephemeral()), Some(ctime(stat)));
    let kind = ChangeKind::CreatedUnread {
        czxid: stat.czxid,
        ephemeral,
        ctime,
    };
    write(context, root, path, kind, Fidelity::Exact, Some(0))?;
    let kind = ChangeKind::Updated {
        read: context.read(stat, data),
    };
    write(
        context,
        root,
        path,
        kind,
        Fidelity::Exact,
        missed_between(0, stat.version),
    )
}

fn write_update(
    context: &mut StepContext<'_>,
    root: usize,
    path: &ZnodePath,
    stat: &Stat,
    data: &[u8],
) -> StepResult<()> {
    let Some(node) = context.image.node(path)? else {
        return Ok(());
    };
    // A walk may have read a newer state since.
    if stat.mzxid < node.mzxid() || node.stat.is_some_and(|known| stat.aversion < known.aversion) {
        return Ok(());
    }
    if stat.mzxid > node.mzxid() {
        let kind = ChangeKind::Updated {
            read: context.read(stat, data),
        };
        let missed = missed_between(node.version(), stat.version);
        write(context, root, path, kind, Fidelity::Exact, missed)?;
    }
    if context.acl_moved(&node, stat) {
        context.write_acl(root, path, stat)?;
    }
    Ok(())
}
