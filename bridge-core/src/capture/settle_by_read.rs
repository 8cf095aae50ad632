//! Events without zxids, from servers before 3.9: a window of them is read at one moment, and what that moment shows is
//! told.
//!
//! One MultiRead reads the paths of the window and, of those that begin or end, all paths above them. Every event before
//! it was sent is reflected in it, and later ones may be. So nothing is told at the place of an event: the first event of
//! a path brings the image of the path to that moment, children ended before their parents, parents begun before their
//! children, also where the events that say so still wait. Whatever is told is true together, however small the window.
//!
//! Each change that is told has its event in hand. Where the events leave open whether a life began and ended before the
//! one that was read, the window is read again: what was in doubt then lies before the read. A life that nobody reads
//! is never passed over.

use crate::append::{Change, ChangeKind, DeletedAt};
use crate::image_txn::Node;
use crate::path::ZnodePath;
use crate::record::{Fidelity, GapReason, Stat};

use super::EventKind;
use super::compare::{ctime, missed_between};
use super::follow::{Follow, PendingEvent, Settled};
use super::path_events::Story;
use super::roots::StepContext;
use super::walk::nearest_pzxid;
use super::{Outcome, StepError, StepResult};

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SettlingTurn {
    Told,
    /// The events do not say yet which life it is.
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
        Ok(match self.tell_line(context, event.root, &event.path)? {
            SettlingTurn::Told => Settled::Done,
            SettlingTurn::Denied => Settled::Denied,
            SettlingTurn::ReadAgain => {
                self.window.upto = self.base;
                Settled::Wait
            }
        })
    }

    /// Brings a path to the moment of the read, and before it what is above it.
    fn tell_line(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
    ) -> StepResult<SettlingTurn> {
        let outcome = self.window.outcomes.get(path).cloned();
        match outcome {
            None => Ok(SettlingTurn::ReadAgain),
            Some(Outcome::Denied) => {
                context.unreadable.add(&context.roots[root].path, path);
                self.drop_until(path, self.window.covers);
                Ok(SettlingTurn::Told)
            }
            // It began or ended behind the window, and nobody asked for what is above it.
            Some(Outcome::Missing) if !self.has_read_above(path) && self.begins_or_ends(path) => {
                Ok(SettlingTurn::ReadAgain)
            }
            Some(Outcome::Missing) => self.tell_missing(context, root, path),
            Some(Outcome::Found { stat, data, .. }) => {
                let turn = self.tell_above(context, root, path, &stat)?;
                if turn != SettlingTurn::Told {
                    return Ok(turn);
                }
                self.tell_found(context, root, path, &stat, &data, true)
            }
        }
    }

    /// A znode that is there has all above it there: what of that began anew is told first.
    fn tell_above(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        stat: &Stat,
    ) -> StepResult<SettlingTurn> {
        let node = context.image.node(path)?;
        if node.is_some_and(|node| node.czxid == stat.czxid) {
            return Ok(SettlingTurn::Told);
        }
        if !self.has_read_above(path) && self.begins_or_ends(path) {
            return Ok(SettlingTurn::ReadAgain);
        }
        let top = context.roots[root].path.clone();
        let mut line: Vec<ZnodePath> = path.ancestors().filter(|above| top.covers(above)).collect();
        line.reverse();
        for above in line {
            let Some(Outcome::Found { stat, data, .. }) = self.window.outcomes.get(&above).cloned() else {
                continue;
            };
            let turn = self.tell_found(context, root, &above, &stat, &data, false)?;
            if turn != SettlingTurn::Told {
                return Ok(turn);
            }
        }
        Ok(SettlingTurn::Told)
    }

    /// While a walk goes on, what begins is left to it, and may end before it gets there: then the gap or run says so.
    fn reach(&self, context: &mut StepContext<'_>, root: usize, path: &ZnodePath, story: &Story) {
        if let (Some(position), DeletedAt::Bound(bound)) = (story.first_end, self.bound(path))
            && context.in_bracket(root)
        {
            context.roots[root].ended(position, bound);
        }
    }

    /// Whether the window shows all that is above a path. One that is not known may be where its line broke or began anew:
    /// then what is above that one says nothing of the path.
    fn has_read_above(&self, path: &ZnodePath) -> bool {
        path.ancestors()
            .all(|above| self.window.outcomes.contains_key(&above))
    }

    fn tell_found(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        stat: &Stat,
        data: &[u8],
        is_own: bool,
    ) -> StepResult<SettlingTurn> {
        let node = context.image.node(path)?;
        let story = self.story(path, node.is_some(), true);
        self.reach(context, root, path, &story);
        let in_bracket = context.in_bracket(root);
        match node {
            Some(node) if node.czxid == stat.czxid => {
                if !is_own {
                    return Ok(SettlingTurn::Told);
                }
                let is_denied = story.begins > 0 && story.ends == 0 && stat.mzxid == node.mzxid();
                if is_denied && !in_bracket {
                    return Ok(SettlingTurn::Denied);
                }
                write_update(context, root, path, stat, data)?;
                self.drop_until(path, story.upto);
                return Ok(SettlingTurn::Told);
            }
            // The walk has read it since.
            Some(node) if node.czxid > stat.czxid && in_bracket => {
                self.drop_until(path, self.window.covers);
                return Ok(SettlingTurn::Told);
            }
            Some(node) if node.czxid > stat.czxid => return Err(StepError::Doubt(GapReason::Liveness)),
            _ => {}
        }
        if story.may_be_later {
            return self.tell_sure_ends(context, root, path, node);
        }
        let is_told = if node.is_some() {
            story.ends > 0
        } else {
            story.begins > 0
        };
        if !is_told && !in_bracket {
            return Err(StepError::Doubt(GapReason::Permission));
        }
        if is_told {
            // Of what began up to there everything was told: an ensemble that was set back begins it again.
            if stat.czxid <= context.roots[root].reported_zxid() {
                return Err(StepError::Doubt(GapReason::Liveness));
            }
            self.end_lives(context, root, path, node, &story)?;
            write_create(context, root, path, stat, data)?;
        }
        if is_told || is_own {
            self.drop_until(path, story.upto);
        }
        Ok(SettlingTurn::Told)
    }

    /// Events that came since the read was sent leave open which incarnation was read. What ended before that is sure, and
    /// is told, so that a path that is created and deleted without a pause goes on; the rest is read again.
    fn tell_sure_ends(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        node: Option<Node>,
    ) -> StepResult<SettlingTurn> {
        let sure = self.sure_ends(path, node.is_some());
        if sure.ends > 0 {
            self.end_lives(context, root, path, node, &sure)?;
            self.drop_until(path, sure.upto);
        }
        Ok(SettlingTurn::ReadAgain)
    }

    fn tell_missing(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
    ) -> StepResult<SettlingTurn> {
        let node = context.image.node(path)?;
        let story = self.story(path, node.is_some(), false);
        self.reach(context, root, path, &story);
        if node.is_some() && story.ends == 0 && !context.in_bracket(root) {
            return Err(StepError::Doubt(GapReason::Permission));
        }
        if node.is_none() || story.ends > 0 {
            self.end_lives(context, root, path, node, &story)?;
        }
        self.drop_until(path, story.upto);
        Ok(SettlingTurn::Told)
    }

    /// The known life ends with all below it; one delete more stands for all that nobody read.
    fn end_lives(
        &mut self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        node: Option<Node>,
        story: &Story,
    ) -> StepResult<()> {
        let at = self.bound(path);
        if let Some(node) = node {
            self.end_below(context, root, path, at)?;
            context.check_proof(path, &node, at)?;
            let is_reconciled = story.is_uncertain && context.in_bracket(root);
            let fidelity = if is_reconciled {
                Fidelity::Reconciled
            } else {
                Fidelity::Exact
            };
            write(context, root, path, ChangeKind::Deleted { at }, fidelity, None)?;
        }
        if story.has_unread && self.is_new_end(path, at) {
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

    /// What the image holds below a life that ended has ended, too, and its events wait. While a walk goes on there may be
    /// znodes of the next life.
    fn end_below(
        &self,
        context: &mut StepContext<'_>,
        root: usize,
        path: &ZnodePath,
        at: DeletedAt,
    ) -> StepResult<()> {
        if context.in_bracket(root) {
            let older_than = match at {
                DeletedAt::Bound(bound) | DeletedAt::Exact(bound) => Some(bound),
                DeletedAt::Unknown => None,
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

    /// Whether the end of a life that nobody read lies beyond the last one that was told of its path.
    fn is_new_end(&mut self, path: &ZnodePath, at: DeletedAt) -> bool {
        let DeletedAt::Bound(bound) = at else {
            return true;
        };
        let upto = self.base + self.items.len() as u64;
        let before = self.window.ends.insert(path.clone(), (bound, upto));
        before.is_none_or(|(before, _)| before != bound)
    }

    /// The smallest of: `pzxid` of the nearest ancestor that is there, if it can be read; czxid of the next incarnation.
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
    what: ChangeKind,
    fidelity: Fidelity,
    missed: Option<u64>,
) -> StepResult<()> {
    let change = Change {
        path: path.clone(),
        what,
        fidelity,
        missed,
        superseded: vec![],
        txn: None,
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
        let what = ChangeKind::Created {
            read: context.read(stat, data),
        };
        return write(context, root, path, what, Fidelity::Exact, missed);
    }
    let (ephemeral, ctime) = (Some(stat.is_ephemeral()), Some(ctime(stat)));
    let what = ChangeKind::CreatedUnread {
        czxid: stat.czxid,
        ephemeral,
        ctime,
    };
    write(context, root, path, what, Fidelity::Exact, Some(0))?;
    let what = ChangeKind::Updated {
        read: context.read(stat, data),
    };
    write(
        context,
        root,
        path,
        what,
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
    // A walk may have read it since.
    if stat.mzxid < node.mzxid() || node.stat.is_some_and(|known| stat.aversion < known.aversion) {
        return Ok(());
    }
    if stat.mzxid > node.mzxid() {
        let what = ChangeKind::Updated {
            read: context.read(stat, data),
        };
        let missed = missed_between(node.version(), stat.version);
        write(context, root, path, what, Fidelity::Exact, missed)?;
    }
    if context.acl_moved(&node, stat) {
        context.write_acl(root, path, stat)?;
    }
    Ok(())
}
