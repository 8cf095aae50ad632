//! Checks that the watch is active: a znode that is read must equal the image, unless events of it wait.
//!
//! A watch that is lost without an error is the most frequent complaint about watches. Every event of a change reaches
//! the machine before a read that reflects it, so a znode that differs from the image while no event of it waits was
//! changed without an event.
//!
//! A sample grows with the depth of the tree, not with its size.

use std::collections::HashSet;
use std::time::Duration;

use crate::image_txn::ImageTxn;
use crate::journal::JournalError;
use crate::path::ZnodePath;
use crate::record::{GapReason, Stat};

use super::batch::{Length, Limits, RequestBudget};
use super::follow::Follow;
use super::lineage::is_witness;
use super::options::CaptureOptions;
use super::roots::{Root, StepContext};
use super::unreadable::Unreadable;
use super::{Outcome, ReadRequest, StepError, StepResult};

/// Random branches of each root that one sample reads.
const SAMPLE_SIZE: usize = 4;
/// Random branches of a root that are read to identify its ensemble.
const WITNESSES: usize = 16;
/// Unreadable znodes that one sample reads again.
const RETRIES: usize = 8;
/// A sample lists the children of a znode only if there are at most this many.
const SAMPLE_CHILDREN_MAX: i32 = 500;
/// Image rows from which the next znode of a branch is chosen.
const SAMPLE_PAGE: usize = 256;
/// The depth of a branch below its root.
const SAMPLE_DEPTH_MAX: usize = 16;

/// Timers of the checks, counted in ticks of about one second, so that a jump of the clock has no effect.
#[derive(Debug)]
pub(crate) struct AuditTimers {
    sample: Option<TickTimer>,
    reconcile: Option<TickTimer>,
    heartbeat: Option<TickTimer>,
    random: u64,
    /// The last unreadable znode that was read again.
    retried: Option<ZnodePath>,
    limits: Limits,
}

/// Fires every `every_ticks` ticks.
#[derive(Debug)]
pub(crate) struct TickTimer {
    every_ticks: u64,
    ticks: u64,
}

impl TickTimer {
    pub(crate) fn new(every: Option<Duration>) -> Option<TickTimer> {
        every.map(|every| TickTimer {
            every_ticks: every.as_secs().max(1),
            ticks: 0,
        })
    }

    /// Begins again.
    pub(crate) fn restart(&mut self) {
        self.ticks = 0;
    }

    pub(crate) fn is_due(timer: &mut Option<TickTimer>) -> bool {
        let Some(timer) = timer else {
            return false;
        };
        timer.ticks += 1;
        let due = timer.ticks >= timer.every_ticks;
        if due {
            timer.ticks = 0;
        }
        due
    }
}

impl AuditTimers {
    pub(crate) fn new(options: &CaptureOptions) -> AuditTimers {
        AuditTimers {
            sample: TickTimer::new(options.sample_every),
            reconcile: TickTimer::new(options.reconcile_every),
            heartbeat: TickTimer::new(options.heartbeat_every),
            random: options.seed,
            retried: None,
            limits: options.limits,
        }
    }

    pub(crate) fn sample_is_due(&mut self) -> bool {
        TickTimer::is_due(&mut self.sample)
    }

    pub(crate) fn reconcile_is_due(&mut self) -> bool {
        TickTimer::is_due(&mut self.reconcile)
    }

    pub(crate) fn heartbeat_is_due(&mut self) -> bool {
        TickTimer::is_due(&mut self.heartbeat)
    }

    /// Resets the timer of the heartbeat, after a record.
    pub(crate) fn journalled(&mut self) {
        if let Some(timer) = &mut self.heartbeat {
            timer.restart();
        }
    }

    /// Reads of the roots, of a few random znodes below them, and of some that were unreadable.
    pub(crate) fn sample(
        &mut self,
        roots: &[Root],
        unreadable: &Unreadable,
        image: &mut dyn ImageTxn,
    ) -> Result<Vec<ReadRequest>, JournalError> {
        let mut sample = Sample {
            reads: Vec::new(),
            budget: RequestBudget::new(usize::MAX, &self.limits),
        };
        let first = self.next_random() % roots.len().max(1) as u64;
        let (before, after) = roots.split_at(usize::try_from(first).unwrap_or_default());
        for root in after.iter().chain(before) {
            sample.push(image, root.path.clone())?;
            for _ in 0..SAMPLE_SIZE {
                self.push_random_branch(&mut sample, &root.path, image)?;
            }
        }
        for path in unreadable.some_after(self.retried.as_ref(), RETRIES) {
            sample.reads.push(ReadRequest {
                path: path.clone(),
                children: false,
            });
            self.retried = Some(path);
        }
        Ok(sample.reads)
    }

    /// Reads of known persistent znodes of all roots, which identify the ensemble: the roots first, then random ones
    /// below each in turn.
    pub(crate) fn witnesses(
        &mut self,
        roots: &[ZnodePath],
        image: &mut dyn ImageTxn,
    ) -> Result<Vec<ReadRequest>, JournalError> {
        let mut sample = Sample {
            reads: Vec::new(),
            budget: RequestBudget::new(usize::MAX, &self.limits),
        };
        for root in roots {
            sample.push(image, root.clone())?;
        }
        for root in roots.iter().cycle().take(WITNESSES.max(roots.len())) {
            self.push_random_branch(&mut sample, root, image)?;
        }
        let mut witnesses = Vec::new();
        for read in sample.reads {
            let node = image.node(&read.path)?;
            if is_witness(node.and_then(|node| node.stat).as_ref()) {
                witnesses.push(ReadRequest {
                    path: read.path,
                    children: false,
                });
            }
        }
        Ok(witnesses)
    }

    /// Adds all znodes of one random branch: leaves alone would not prove the watch for the znodes above them.
    fn push_random_branch(
        &mut self,
        sample: &mut Sample,
        root: &ZnodePath,
        image: &mut dyn ImageTxn,
    ) -> Result<(), JournalError> {
        let mut path = root.clone();
        for _ in 0..SAMPLE_DEPTH_MAX {
            let mut below = image.children(&path, None, SAMPLE_PAGE)?;
            if below.len() == SAMPLE_PAGE {
                let after = self.random_name();
                below.extend(image.children(&path, Some(&after), SAMPLE_PAGE)?);
            }
            if below.is_empty() {
                break;
            }
            let chosen = self.next_random() % below.len() as u64;
            let (name, _) = below.swap_remove(usize::try_from(chosen).unwrap_or_default());
            path = path.child(&name);
            sample.push(image, path.clone())?;
        }
        Ok(())
    }

    /// Two characters that split the names of a listing at a random place.
    fn random_name(&mut self) -> String {
        let first = char::from(b' ' + (self.next_random() % 95) as u8);
        let second = char::from(b' ' + (self.next_random() % 95) as u8);
        format!("{first}{second}")
    }

    /// SplitMix64: a sample needs no better randomness, and a seed must repeat it.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The reads of one sample. Reads that do not fit into one answer are dropped; the next sample takes other branches.
struct Sample {
    reads: Vec<ReadRequest>,
    budget: RequestBudget,
}

impl Sample {
    fn push(&mut self, image: &mut dyn ImageTxn, path: ZnodePath) -> Result<(), JournalError> {
        if self.reads.iter().any(|read| read.path == path) {
            return Ok(());
        }
        let known = image.node(&path)?.and_then(|node| node.stat);
        let bytes = known.map_or(0, |stat| usize::try_from(stat.data_length).unwrap_or_default());
        if self.budget.take(&path, Length::Known(bytes)) {
            let children = known.is_some_and(|stat| stat.num_children <= SAMPLE_CHILDREN_MAX);
            self.reads.push(ReadRequest { path, children });
        }
        Ok(())
    }
}

/// The events that wait, or arrived while the read was under way.
pub(crate) struct Seen<'a> {
    pub(crate) follow: &'a Follow,
    pub(crate) touched: Option<&'a HashSet<ZnodePath>>,
}

impl Seen<'_> {
    /// Whether the image and the answer may differ for a path although the watch works.
    fn has_moved(&self, path: &ZnodePath) -> bool {
        self.follow.has_events(path) || self.touched.is_some_and(|touched| touched.contains(path))
    }
}

/// Compares one znode with the image.
pub(crate) fn check(
    context: &mut StepContext<'_>,
    seen: &Seen<'_>,
    root: usize,
    path: &ZnodePath,
    outcome: &Outcome,
) -> StepResult<()> {
    if seen.has_moved(path) {
        return Ok(());
    }
    let was_unreadable = context.unreadable.is_named(path);
    match (outcome, context.image.node(path)?) {
        (Outcome::Denied, _) => {
            context.deny(root, path)?;
            Ok(())
        }
        (Outcome::Found { .. }, _) if was_unreadable => Err(StepError::Doubt(GapReason::Permission)),
        // An unreadable znode is deleted, and deletes of the znodes below it were never observed.
        (Outcome::Missing, None)
            if was_unreadable
                && context.roots[root].path == *path
                && !context.image.deepest_below(path, 1)?.is_empty() =>
        {
            Err(StepError::Doubt(GapReason::Permission))
        }
        // A walk cannot list these znodes either: a doubt would repeat without end.
        _ if context.unreadable.covers(path) => Ok(()),
        (Outcome::Missing, None) => Ok(()),
        (Outcome::Missing, Some(_)) | (Outcome::Found { .. }, None) => {
            Err(StepError::Doubt(GapReason::Liveness))
        }
        (Outcome::Found { stat, children, .. }, Some(node)) => {
            if stat.czxid != node.czxid || stat.mzxid != node.mzxid() {
                return Err(StepError::Doubt(GapReason::Liveness));
            }
            if context.acl_moved(&node, stat) {
                context.write_acl(root, path, stat)?;
            }
            match children {
                Some(names) => check_children(context, seen, path, stat, names),
                None => Ok(()),
            }
        }
    }
}

/// Compares the names below a znode with the image.
fn check_children(
    context: &mut StepContext<'_>,
    seen: &Seen<'_>,
    path: &ZnodePath,
    stat: &Stat,
    names: &[Box<str>],
) -> StepResult<()> {
    let limit = names.len() + 1_000;
    let known = context.image.children(path, None, limit)?;
    let is_silent = |name: &str| {
        let child = path.child(name);
        !seen.has_moved(&child) && !context.options.is_left_out(&child)
    };
    let is_gone = known
        .iter()
        .any(|(name, _)| names.binary_search(name).is_err() && is_silent(name));
    let is_new = names.iter().any(|name| {
        known.binary_search_by(|(known, _)| known.cmp(name)).is_err()
            && is_silent(name)
            && !context.unreadable.is_named(&path.child(name))
    });
    if is_gone || is_new {
        return Err(StepError::Doubt(GapReason::Liveness));
    }
    if seen.has_moved(path) {
        return Ok(());
    }
    let node = context.image.node(path)?;
    if node.is_some_and(|node| node.stat.is_some_and(|known| known.pzxid > stat.pzxid)) {
        return Err(StepError::Doubt(GapReason::Liveness));
    }
    Ok(())
}
