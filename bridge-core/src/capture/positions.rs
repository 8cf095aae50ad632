//! Events without zxids, from servers before 3.9: settled by their position in the stream.
//!
//! All events seen so far form a window; one MultiRead reads all their paths (and for a delete all paths above it) at
//! one moment. Every event of the window had been seen before that read was sent, so the read reflects them all. What
//! the read shows is told at the place of the event that explains it: the end of the known life at the first delete,
//! the present life at the last create, a new version at the last write. So a child's delete stays before its
//! parent's and a parent's create before its child's, which answers taken one by one would not keep.
//!
//! A read can reflect events behind the window too. What no event of the window explains is left to the next one.

use std::collections::HashMap;

use crate::book::Node;
use crate::entry::{Change, DeletedAt, What};
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Fidelity, GapReason, Stat};

use super::batch::{Length, Request, Room};
use super::compare::{ctime, missed_between};
use super::event::EventKind;
use super::follow::{Follow, Item, Settled, Waiting};
use super::roots::Desk;
use super::walk::nearest_pzxid;
use super::{Outcome, ReadRequest, Step, StepError};

/// The events that were read together.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Events before this position belong to it.
    upto: u64,
    is_under_way: bool,
    outcomes: HashMap<ZnodePath, Outcome>,
    plans: HashMap<ZnodePath, Plan>,
    /// The greatest zxid that any answer showed.
    newest: Zxid,
    /// Bounds by which ends of lives that nobody read were told: a read that reflects events behind its window tells
    /// of their lives, too, and the next window finds the same bound. One delete stands for all. With the position
    /// before which all such events wait: what lies behind it was reflected by no read so far.
    ends: HashMap<ZnodePath, (Zxid, u64)>,
}

/// What is told of one path, and at the position of which event.
#[derive(Clone, Debug, Default)]
struct Plan {
    end_of_known_life: Option<(u64, DeletedAt)>,
    unseen_life: Option<(u64, DeletedAt)>,
    create: Option<u64>,
    update: Option<u64>,
    doubt: Option<GapReason>,
    is_denied: bool,
    is_unreadable: bool,
}

/// The events of one path inside the window.
#[derive(Debug, Default)]
struct Told {
    first_delete: Option<u64>,
    last_delete: Option<u64>,
    deletes: usize,
    first_create: Option<u64>,
    last_create: Option<u64>,
    last: u64,
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
        let tentative = self.tentative();
        for item in &self.items {
            if let Item::Event(event) = item {
                let stops = event.zxid.is_some() || tentative.contains(&event.path);
                if stops || !add_reads(event, &mut reads, &mut room, self.expected_bytes) {
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
        self.window.plans.clear();
        let base = self.base;
        self.window.ends.retain(|_, (_, upto)| *upto > base);
        Some(reads)
    }

    /// Takes the answer for the window in.
    pub(crate) fn window_answered(&mut self, request: Request, outcomes: Vec<Outcome>) {
        self.window.is_under_way = false;
        self.expect(&outcomes);
        for (read, outcome) in request.reads.into_iter().zip(outcomes) {
            if let Outcome::Found { stat, .. } = &outcome {
                self.window.newest = self.window.newest.max(stat.newest_zxid());
            }
            self.window.outcomes.insert(read.path, outcome);
        }
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
        if !self.window.plans.contains_key(&event.path) {
            let node = desk.book.node(&event.path)?;
            let plan = self.plan(desk, event, node);
            self.window.plans.insert(event.path.clone(), plan);
        }
        let Some(plan) = self.window.plans.get(&event.path).cloned() else {
            return Ok(Settled::Done);
        };
        if let Some(reason) = plan.doubt {
            return Err(StepError::Doubt(reason));
        }
        if plan.is_denied {
            return Ok(Settled::Denied);
        }
        if plan.is_unreadable {
            desk.unreadable.add(&desk.roots[event.root].path, &event.path);
            return Ok(Settled::Done);
        }
        self.tell(desk, position, event, &plan)?;
        Ok(Settled::Done)
    }

    fn tell(&mut self, desk: &mut Desk<'_>, position: u64, event: &Waiting, plan: &Plan) -> Step<()> {
        let path = &event.path;
        let unseen_life = plan
            .unseen_life
            .filter(|(when, at)| *when == position && self.is_new_end(path, *at));
        let known_life = plan.end_of_known_life.filter(|(when, _)| *when == position);
        for (_, at) in [known_life, unseen_life].into_iter().flatten() {
            if desk.in_bracket(event.root) {
                desk.purge(event.root, path, self.czxid_of_present(path), at)?;
            }
            let is_reconciled = event.uncertain && desk.in_bracket(event.root);
            let fidelity = if is_reconciled {
                Fidelity::Reconciled
            } else {
                Fidelity::Exact
            };
            write(desk, event.root, path, What::Deleted { at }, fidelity, None)?;
        }
        let Some(Outcome::Found { stat, data, .. }) = self.window.outcomes.get(path) else {
            return Ok(());
        };
        if plan.create == Some(position) {
            return write_create(desk, event.root, path, stat, data);
        }
        if plan.update == Some(position) {
            return write_update(desk, event.root, path, stat, data);
        }
        Ok(())
    }

    /// Of the life that the read found: what is known below it and is no older belongs to it.
    fn czxid_of_present(&self, path: &ZnodePath) -> Option<Zxid> {
        let outcome = self.window.outcomes.get(path);
        outcome.and_then(Outcome::stat).map(|stat| stat.czxid)
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

    fn plan(&mut self, desk: &Desk<'_>, event: &Waiting, node: Option<Node>) -> Plan {
        let told = self.told(&event.path);
        let comes_later = self.paths.get(&event.path).is_some_and(|pending| {
            pending
                .positions
                .iter()
                .any(|position| *position >= self.window.upto)
        });
        let had_unseen_life = self
            .paths
            .get(&event.path)
            .is_some_and(|pending| pending.unseen_life);
        let was_ahead = self
            .paths
            .get(&event.path)
            .is_some_and(|pending| pending.is_ahead);
        let outcome = self.window.outcomes.get(&event.path);
        let bound = self.bound(&event.path, outcome);
        let doubt = (!comes_later && !desk.in_bracket(event.root)).then_some(GapReason::Permission);
        let plan = match (outcome, node) {
            (None | Some(Outcome::Denied), _) => Plan {
                is_unreadable: true,
                ..Plan::default()
            },
            (Some(Outcome::Missing), Some(_)) => match told.first_delete {
                Some(at) => Plan {
                    end_of_known_life: Some((at, bound)),
                    unseen_life: told.life_between(bound),
                    ..Plan::default()
                },
                None => Plan {
                    doubt,
                    ..Plan::default()
                },
            },
            (Some(Outcome::Missing), None) => {
                let began = told.last_create.is_some() || had_unseen_life;
                Plan {
                    unseen_life: told.last_delete.filter(|_| began).map(|at| (at, bound)),
                    ..Plan::default()
                }
            }
            (Some(Outcome::Found { stat, .. }), Some(node)) if stat.czxid == node.czxid => {
                let is_impossible = told.last_create.is_some()
                    && told.deletes == 0
                    && !was_ahead
                    && !desk.in_bracket(event.root);
                Plan {
                    update: Some(told.last),
                    is_denied: is_impossible && stat.mzxid == node.mzxid(),
                    ..Plan::default()
                }
            }
            (Some(Outcome::Found { .. }), Some(_)) => match told.first_delete {
                Some(at) => Plan {
                    end_of_known_life: Some((at, bound)),
                    unseen_life: told.life_between(bound),
                    create: told.create_of_present(),
                    ..Plan::default()
                },
                None => Plan {
                    doubt,
                    ..Plan::default()
                },
            },
            (Some(Outcome::Found { .. }), None) => {
                let ended = told
                    .last_delete
                    .filter(|at| had_unseen_life || told.began_before(*at));
                let create = told.create_of_present();
                let doubt = doubt.filter(|_| create.is_none() && told.last_create.is_none());
                Plan {
                    create,
                    unseen_life: ended.map(|at| (at, bound)),
                    doubt,
                    ..Plan::default()
                }
            }
        };
        self.note_what_is_open(event, &told, &plan, node, comes_later);
        plan
    }

    /// A create whose life the read did not find, and whose delete is still to come.
    fn note_what_is_open(
        &mut self,
        event: &Waiting,
        told: &Told,
        plan: &Plan,
        node: Option<Node>,
        comes_later: bool,
    ) {
        let is_missing = matches!(self.window.outcomes.get(&event.path), Some(Outcome::Missing));
        let ended = told.last_delete.max(plan.unseen_life.map(|(at, _)| at));
        let began = told
            .last_create
            .is_some_and(|create| ended.is_none_or(|end| end < create));
        let nobody_lives = node.is_none() || plan.end_of_known_life.is_some();
        if let Some(pending) = self.paths.get_mut(&event.path) {
            let goes_on = pending.unseen_life && plan.unseen_life.is_none() && told.deletes == 0;
            pending.is_ahead = comes_later;
            pending.unseen_life = is_missing && (goes_on || (began && nobody_lives));
        }
    }

    fn told(&self, path: &ZnodePath) -> Told {
        let mut told = Told::default();
        let Some(pending) = self.paths.get(path) else {
            return told;
        };
        for position in pending
            .positions
            .iter()
            .take_while(|position| **position < self.window.upto)
        {
            told.last = *position;
            match self.kind_at(*position) {
                Some(EventKind::Deleted) => {
                    told.first_delete = told.first_delete.or(Some(*position));
                    told.last_delete = Some(*position);
                    told.deletes += 1;
                }
                Some(EventKind::Created) => {
                    told.first_create = told.first_create.or(Some(*position));
                    told.last_create = Some(*position);
                }
                Some(EventKind::Changed) | None => {}
            }
        }
        told
    }

    /// The smallest of: `pzxid` of the nearest ancestor that is there, if it can be read; czxid of the next incarnation.
    fn bound(&self, path: &ZnodePath, outcome: Option<&Outcome>) -> DeletedAt {
        let next = outcome.and_then(Outcome::stat).map(|stat| stat.czxid);
        let above = ancestors(path).filter_map(|above| self.window.outcomes.get(&above));
        let above = nearest_pzxid(above);
        let bound = [next, above].into_iter().flatten().min();
        bound.map_or(DeletedAt::Unknown, DeletedAt::Bound)
    }
}

impl Told {
    /// The create of the life that the read found: one that no delete of the window ended.
    fn create_of_present(&self) -> Option<u64> {
        self.last_create
            .filter(|create| self.last_delete.is_none_or(|delete| delete < *create))
    }

    fn began_before(&self, delete: u64) -> bool {
        self.first_create.is_some_and(|create| create < delete)
    }

    /// Lives that began and ended between the end of the known life and the read: they make one delete.
    fn life_between(&self, bound: DeletedAt) -> Option<(u64, DeletedAt)> {
        let last = self.last_delete?;
        (self.deletes > 1).then_some((last, bound))
    }
}

/// All paths above a path, nearest first.
pub(super) fn ancestors(path: &ZnodePath) -> impl Iterator<Item = ZnodePath> {
    std::iter::successors(path.parent(), ZnodePath::parent)
}

/// `false`: no room for the reads of this event; the first event of a window always finds room.
fn add_reads(event: &Waiting, reads: &mut Vec<ReadRequest>, room: &mut Room, expected_bytes: usize) -> bool {
    let above = (event.kind == EventKind::Deleted)
        .then(|| ancestors(&event.path))
        .into_iter()
        .flatten();
    let wanted: Vec<ZnodePath> = std::iter::once(event.path.clone())
        .chain(above)
        .filter(|path| !reads.iter().any(|read| read.path == *path))
        .collect();
    let has_room = wanted
        .iter()
        .all(|path| room.take(path, Length::Written(expected_bytes)));
    if !has_room && !reads.is_empty() {
        return false;
    }
    reads.extend(wanted.into_iter().map(|path| ReadRequest {
        path,
        children: false,
    }));
    true
}

fn write(
    desk: &mut Desk<'_>,
    root: usize,
    path: &ZnodePath,
    what: What,
    fidelity: Fidelity,
    missed: Option<u64>,
) -> Step<()> {
    let change = Change {
        path: path.clone(),
        what,
        fidelity,
        missed,
        superseded: vec![],
    };
    desk.write(root, change)?;
    Ok(())
}

fn write_create(desk: &mut Desk<'_>, root: usize, path: &ZnodePath, stat: &Stat, data: &[u8]) -> Step<()> {
    if stat.mzxid == stat.czxid {
        let missed = Some(u64::try_from(stat.version).unwrap_or_default());
        let what = What::Created {
            read: desk.read(stat, data),
        };
        return write(desk, root, path, what, Fidelity::Exact, missed);
    }
    let (ephemeral, ctime) = (Some(stat.is_ephemeral()), Some(ctime(stat)));
    let what = What::CreatedUnread {
        czxid: stat.czxid,
        ephemeral,
        ctime,
    };
    write(desk, root, path, what, Fidelity::Exact, Some(0))?;
    let what = What::Updated {
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
    let Some(node) = desk.book.node(path)? else {
        return Ok(());
    };
    if stat.mzxid > node.mzxid() {
        let what = What::Updated {
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
