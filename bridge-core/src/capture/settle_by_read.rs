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

use std::collections::HashMap;

use crate::append::{Change, ChangeKind, DeletedAt};
use crate::image_txn::Node;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Fidelity, GapReason, Stat};

use super::EventKind;
use super::batch::{Length, Request, Room};
use super::compare::{ctime, missed_between};
use super::follow::{Follow, Item, Settled, Waiting};
use super::roots::Desk;
use super::walk::nearest_pzxid;
use super::{Outcome, ReadRequest, Step, StepError};

/// The events that were read together.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Events before this position belong to it.
    upto: u64,
    /// Every event before this position had been seen when the read was sent.
    covers: u64,
    is_under_way: bool,
    outcomes: HashMap<ZnodePath, Outcome>,
    /// The greatest zxid that any answer showed.
    newest: Zxid,
    /// Bounds by which ends of lives that nobody read were told: a later read that finds the same bound saw no later
    /// end. With the position before which all such events wait.
    ends: HashMap<ZnodePath, (Zxid, u64)>,
}

/// What the events of one path say of its lives, up to where the read stands.
#[derive(Debug, Default)]
struct Story {
    /// Events before this position are reflected in the read.
    upto: u64,
    begins: usize,
    ends: usize,
    /// Where the first end stands.
    first_end: Option<u64>,
    /// Whether the first end may be that of a life that was never told.
    is_uncertain: bool,
    /// A life that nobody read began and ended.
    has_unread: bool,
    /// The life that was read may be a later one than the first that the events tell of.
    may_be_later: bool,
}

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SettlingTurn {
    Told,
    /// The events do not say yet which life it is.
    ReadAgain,
    Denied,
}

impl Follow {
    /// The reads of the next window; `None` while one is under way or nothing waits.
    pub(crate) fn next_window(&mut self) -> Option<Vec<ReadRequest>> {
        if self.window.is_under_way || self.window.upto > self.base {
            return None;
        }
        let mut room = Room::new(self.limits.follow_batch, &self.limits);
        let mut reads: Vec<ReadRequest> = Vec::new();
        let mut upto = self.base;
        for item in &self.items {
            if let Item::Event(event) = item {
                let stops = event.zxid.is_some() || self.tentative.contains(&event.path);
                if stops || !self.add_reads(event, &mut reads, &mut room) {
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
        self.window.ends.retain(|_, (_, upto)| *upto > base);
        Some(reads)
    }

    /// `false`: no room for the reads of this event; the first event of a window always finds room.
    fn add_reads(&self, event: &Waiting, reads: &mut Vec<ReadRequest>, room: &mut Room) -> bool {
        let above = self
            .begins_or_ends(&event.path)
            .then(|| ancestors(&event.path))
            .into_iter()
            .flatten();
        let wanted: Vec<ZnodePath> = std::iter::once(event.path.clone())
            .chain(above)
            .filter(|path| !reads.iter().any(|read| read.path == *path))
            .collect();
        let has_room = wanted
            .iter()
            .all(|path| room.take(path, Length::Written(self.expected_bytes)));
        if !has_room && !reads.is_empty() {
            return false;
        }
        reads.extend(wanted.into_iter().map(|path| ReadRequest {
            path,
            children: false,
        }));
        true
    }

    /// Whether events that wait say so of a path.
    fn begins_or_ends(&self, path: &ZnodePath) -> bool {
        self.has(path, EventKind::Created, 0) || self.has(path, EventKind::Deleted, 0)
    }

    /// Takes the answer for the window in.
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

    /// A walk read a path after the window did: what the window shows of it says nothing about the events that are left.
    pub(super) fn window_is_older(&mut self, path: &ZnodePath) {
        self.window.outcomes.remove(path);
    }

    /// With nothing left to tell, all that the answers reflect has been reported.
    pub(super) fn report_window(&mut self, desk: &mut Desk<'_>) {
        let newest = self.window.newest;
        for root in desk.roots.iter_mut().filter(|root| root.is_watched()) {
            root.reported(newest);
        }
    }

    pub(super) fn settle_by_position(
        &mut self,
        desk: &mut Desk<'_>,
        position: u64,
        event: &Waiting,
    ) -> Step<Settled> {
        if position >= self.window.upto || self.window.is_under_way {
            return Ok(Settled::Wait);
        }
        Ok(match self.tell_line(desk, event.root, &event.path)? {
            SettlingTurn::Told => Settled::Done,
            SettlingTurn::Denied => Settled::Denied,
            SettlingTurn::ReadAgain => {
                self.window.upto = self.base;
                Settled::Wait
            }
        })
    }

    /// Brings a path to the moment of the read, and before it what is above it.
    fn tell_line(&mut self, desk: &mut Desk<'_>, root: usize, path: &ZnodePath) -> Step<SettlingTurn> {
        let outcome = self.window.outcomes.get(path).cloned();
        match outcome {
            None => Ok(SettlingTurn::ReadAgain),
            Some(Outcome::Denied) => {
                desk.unreadable.add(&desk.roots[root].path, path);
                self.drop_until(path, self.window.covers);
                Ok(SettlingTurn::Told)
            }
            // It began or ended behind the window, and nobody asked for what is above it.
            Some(Outcome::Missing) if !self.has_read_above(path) && self.begins_or_ends(path) => {
                Ok(SettlingTurn::ReadAgain)
            }
            Some(Outcome::Missing) => self.tell_missing(desk, root, path),
            Some(Outcome::Found { stat, data, .. }) => {
                let turn = self.tell_above(desk, root, path, &stat)?;
                if turn != SettlingTurn::Told {
                    return Ok(turn);
                }
                self.tell_found(desk, root, path, &stat, &data, true)
            }
        }
    }

    /// A znode that is there has all above it there: what of that began anew is told first.
    fn tell_above(
        &mut self,
        desk: &mut Desk<'_>,
        root: usize,
        path: &ZnodePath,
        stat: &Stat,
    ) -> Step<SettlingTurn> {
        let node = desk.image.node(path)?;
        if node.is_some_and(|node| node.czxid == stat.czxid) {
            return Ok(SettlingTurn::Told);
        }
        if !self.has_read_above(path) && self.begins_or_ends(path) {
            return Ok(SettlingTurn::ReadAgain);
        }
        let top = desk.roots[root].path.clone();
        let mut line: Vec<ZnodePath> = ancestors(path).filter(|above| top.covers(above)).collect();
        line.reverse();
        for above in line {
            let Some(Outcome::Found { stat, data, .. }) = self.window.outcomes.get(&above).cloned() else {
                continue;
            };
            let turn = self.tell_found(desk, root, &above, &stat, &data, false)?;
            if turn != SettlingTurn::Told {
                return Ok(turn);
            }
        }
        Ok(SettlingTurn::Told)
    }

    /// While a walk goes on, what begins is left to it, and may end before it gets there: then the gap or run says so.
    fn reach(&self, desk: &mut Desk<'_>, root: usize, path: &ZnodePath, story: &Story) {
        if let (Some(position), DeletedAt::Bound(bound)) = (story.first_end, self.bound(path))
            && desk.in_bracket(root)
        {
            desk.roots[root].ended(position, bound);
        }
    }

    /// Whether the window shows all that is above a path. One that is not known may be where its line broke or began anew:
    /// then what is above that one says nothing of the path.
    fn has_read_above(&self, path: &ZnodePath) -> bool {
        ancestors(path).all(|above| self.window.outcomes.contains_key(&above))
    }

    fn tell_found(
        &mut self,
        desk: &mut Desk<'_>,
        root: usize,
        path: &ZnodePath,
        stat: &Stat,
        data: &[u8],
        is_own: bool,
    ) -> Step<SettlingTurn> {
        let node = desk.image.node(path)?;
        let story = self.story(path, node.is_some(), true);
        self.reach(desk, root, path, &story);
        let in_bracket = desk.in_bracket(root);
        match node {
            Some(node) if node.czxid == stat.czxid => {
                if !is_own {
                    return Ok(SettlingTurn::Told);
                }
                let is_denied = story.begins > 0 && story.ends == 0 && stat.mzxid == node.mzxid();
                if is_denied && !in_bracket {
                    return Ok(SettlingTurn::Denied);
                }
                write_update(desk, root, path, stat, data)?;
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
            return self.tell_sure_ends(desk, root, path, node);
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
            if stat.czxid <= desk.roots[root].reported_zxid() {
                return Err(StepError::Doubt(GapReason::Liveness));
            }
            self.end_lives(desk, root, path, node, &story)?;
            write_create(desk, root, path, stat, data)?;
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
        desk: &mut Desk<'_>,
        root: usize,
        path: &ZnodePath,
        node: Option<Node>,
    ) -> Step<SettlingTurn> {
        let sure = self.sure_ends(path, node.is_some());
        if sure.ends > 0 {
            self.end_lives(desk, root, path, node, &sure)?;
            self.drop_until(path, sure.upto);
        }
        Ok(SettlingTurn::ReadAgain)
    }

    fn tell_missing(&mut self, desk: &mut Desk<'_>, root: usize, path: &ZnodePath) -> Step<SettlingTurn> {
        let node = desk.image.node(path)?;
        let story = self.story(path, node.is_some(), false);
        self.reach(desk, root, path, &story);
        if node.is_some() && story.ends == 0 && !desk.in_bracket(root) {
            return Err(StepError::Doubt(GapReason::Permission));
        }
        if node.is_none() || story.ends > 0 {
            self.end_lives(desk, root, path, node, &story)?;
        }
        self.drop_until(path, story.upto);
        Ok(SettlingTurn::Told)
    }

    /// The known life ends with all below it; one delete more stands for all that nobody read.
    fn end_lives(
        &mut self,
        desk: &mut Desk<'_>,
        root: usize,
        path: &ZnodePath,
        node: Option<Node>,
        story: &Story,
    ) -> Step<()> {
        let at = self.bound(path);
        if let Some(node) = node {
            self.end_below(desk, root, path, at)?;
            desk.check_proof(path, &node, at)?;
            let is_reconciled = story.is_uncertain && desk.in_bracket(root);
            let fidelity = if is_reconciled {
                Fidelity::Reconciled
            } else {
                Fidelity::Exact
            };
            write(desk, root, path, ChangeKind::Deleted { at }, fidelity, None)?;
        }
        if story.has_unread && self.is_new_end(path, at) {
            write(
                desk,
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
    fn end_below(&self, desk: &mut Desk<'_>, root: usize, path: &ZnodePath, at: DeletedAt) -> Step<()> {
        if desk.in_bracket(root) {
            let older_than = match at {
                DeletedAt::Bound(bound) | DeletedAt::Exact(bound) => Some(bound),
                DeletedAt::Unknown => None,
            };
            return desk.purge(root, path, older_than, at);
        }
        loop {
            let page = desk.image.deepest_below(path, desk.options.limits.page)?;
            for (gone, node) in &page {
                if !self.has(gone, EventKind::Deleted, 0) {
                    return Err(StepError::Doubt(GapReason::Permission));
                }
                desk.check_proof(gone, node, at)?;
                write(
                    desk,
                    root,
                    gone,
                    ChangeKind::Deleted { at },
                    Fidelity::Exact,
                    None,
                )?;
            }
            if page.len() < desk.options.limits.page {
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

    /// What the events of a path say, from whether it is known to live to whether it was found.
    fn story(&self, path: &ZnodePath, is_known: bool, is_found: bool) -> Story {
        let covers = self.window.covers;
        let mut story = Story {
            upto: covers,
            ..Story::default()
        };
        let Some(pending) = self.paths.get(path) else {
            return story;
        };
        let mut lives = is_known;
        // Ends that are surely of lives behind the last that was told.
        let mut unread_ends = 0;
        let mut has_begun = is_known;
        for position in &pending.positions {
            let Some(Item::Event(event)) = self.item(*position) else {
                continue;
            };
            // What ends has lived, also where its create was left to the walk: what was found may be that life.
            lives |= is_found && *position >= covers && event.kind == EventKind::Deleted;
            let is_reflected = *position < covers || (lives != is_found && !story.may_be_later);
            match event.kind {
                EventKind::Changed => continue,
                EventKind::Created if !is_reflected => {
                    story.may_be_later |= is_found;
                    continue;
                }
                EventKind::Deleted if !is_reflected => continue,
                EventKind::Created => {
                    story.begins += 1;
                    has_begun = true;
                    lives = true;
                }
                EventKind::Deleted => {
                    story.ends += 1;
                    story.first_end.get_or_insert(*position);
                    if story.ends == 1 {
                        story.is_uncertain = event.uncertain;
                    }
                    unread_ends += usize::from(has_begun && !event.may_be_told);
                    lives = false;
                }
            }
            story.upto = story.upto.max(*position + 1);
        }
        story.has_unread = unread_ends > usize::from(is_known);
        story
    }

    /// What ended of a path before the read was sent, up to the last such end.
    fn sure_ends(&self, path: &ZnodePath, is_known: bool) -> Story {
        let mut sure = Story::default();
        let (mut unread_ends, mut has_begun) = (0, is_known);
        let positions = self
            .paths
            .get(path)
            .into_iter()
            .flat_map(|pending| &pending.positions);
        for position in positions.take_while(|position| **position < self.window.covers) {
            let Some(Item::Event(event)) = self.item(*position) else {
                continue;
            };
            match event.kind {
                EventKind::Changed => {}
                // It may be of an incarnation before the one that a walk has read.
                EventKind::Deleted if event.may_be_told => {}
                EventKind::Created => has_begun = true,
                EventKind::Deleted => {
                    sure.ends += 1;
                    sure.first_end.get_or_insert(*position);
                    if sure.ends == 1 {
                        sure.is_uncertain = event.uncertain;
                    }
                    unread_ends += usize::from(has_begun);
                    sure.upto = *position + 1;
                }
            }
        }
        sure.has_unread = unread_ends > usize::from(is_known);
        sure
    }

    /// The smallest of: `pzxid` of the nearest ancestor that is there, if it can be read; czxid of the next incarnation.
    fn bound(&self, path: &ZnodePath) -> DeletedAt {
        let outcomes = &self.window.outcomes;
        let next = outcomes.get(path).and_then(Outcome::stat);
        let next = next.map(|stat| stat.czxid);
        let line: Vec<ZnodePath> = ancestors(path).collect();
        let above = nearest_pzxid(line.iter().map_while(|above| outcomes.get(above)));
        let bound = [next, above].into_iter().flatten().min();
        bound.map_or(DeletedAt::Unknown, DeletedAt::Bound)
    }
}

/// All paths above a path, nearest first.
pub(super) fn ancestors(path: &ZnodePath) -> impl Iterator<Item = ZnodePath> {
    std::iter::successors(path.parent(), ZnodePath::parent)
}

fn write(
    desk: &mut Desk<'_>,
    root: usize,
    path: &ZnodePath,
    what: ChangeKind,
    fidelity: Fidelity,
    missed: Option<u64>,
) -> Step<()> {
    let change = Change {
        path: path.clone(),
        what,
        fidelity,
        missed,
        superseded: vec![],
        txn: None,
    };
    desk.write(root, change)?;
    Ok(())
}

fn write_create(desk: &mut Desk<'_>, root: usize, path: &ZnodePath, stat: &Stat, data: &[u8]) -> Step<()> {
    if stat.mzxid == stat.czxid {
        let missed = Some(u64::try_from(stat.version).unwrap_or_default());
        let what = ChangeKind::Created {
            read: desk.read(stat, data),
        };
        return write(desk, root, path, what, Fidelity::Exact, missed);
    }
    let (ephemeral, ctime) = (Some(stat.is_ephemeral()), Some(ctime(stat)));
    let what = ChangeKind::CreatedUnread {
        czxid: stat.czxid,
        ephemeral,
        ctime,
    };
    write(desk, root, path, what, Fidelity::Exact, Some(0))?;
    let what = ChangeKind::Updated {
        read: desk.read(stat, data),
    };
    write(
        desk,
        root,
        path,
        what,
        Fidelity::Exact,
        missed_between(0, stat.version),
    )
}

fn write_update(desk: &mut Desk<'_>, root: usize, path: &ZnodePath, stat: &Stat, data: &[u8]) -> Step<()> {
    let Some(node) = desk.image.node(path)? else {
        return Ok(());
    };
    // A walk may have read it since.
    if stat.mzxid < node.mzxid() || node.stat.is_some_and(|known| stat.aversion < known.aversion) {
        return Ok(());
    }
    if stat.mzxid > node.mzxid() {
        let what = ChangeKind::Updated {
            read: desk.read(stat, data),
        };
        let missed = missed_between(node.version(), stat.version);
        write(desk, root, path, what, Fidelity::Exact, missed)?;
    }
    if desk.acl_moved(&node, stat) {
        desk.write_acl(root, path, stat)?;
    }
    Ok(())
}
