//! Access control lists: read when an answer shows that one was changed, and before anything is made of that answer.
//!
//! A MultiRead brings no lists. So an answer that shows another `aversion` than the image waits until the lists of its
//! znodes have come, and everything that comes behind it waits, too, in its order: the machine sees the same inputs, a
//! little later. A list goes with a record only if the Stat that came with it names the incarnation and the `aversion`
//! of the answer; one that was changed again meanwhile is left out, and its znode is read once more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Event;
use super::batch::Limits;
use super::options::AclMode;
use super::{AclOutcome, Input, Outcome, ReadRequest, StepError, StepResult, Ticket};
use crate::image_txn::ImageTxn;
use crate::journal::JournalError;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Acl, GapReason, Stat};

/// Lists that wait for their records at most: those of a few answers. Beyond that they are forgotten, and the records say
/// nothing of them.
const KEPT_MAX: usize = 10_000;
/// Znodes that are read once more at a time.
const AGAIN_AT_ONCE: usize = 64;

/// Whose list, and at which of its changes.
type Key = (ZnodePath, Zxid, i32);

fn bytes_of(events: &[Event]) -> usize {
    events.iter().map(|event| event.path.len()).sum()
}

/// The lists that were asked for, and what waits for them.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// The request under way, and whose lists it wants.
    asked: Option<(Ticket, Vec<Key>)>,
    /// What came behind the answer that waits, which is the first of it.
    held: VecDeque<Input>,
    held_events: usize,
    /// Of the paths of these events.
    held_bytes: usize,
    /// `None`: it could not be had.
    known: BTreeMap<Key, Option<Vec<Acl>>>,
    /// Their lists were changed again.
    again: BTreeSet<ZnodePath>,
}

impl Lists {
    /// The connection is gone, with all that waited.
    pub(crate) fn forget(&mut self) {
        *self = Lists::default();
    }

    /// Takes an input in. `None`: it waits, or is no news.
    pub(crate) fn admit(&mut self, input: Input, limits: &Limits) -> StepResult<Option<Input>> {
        match (input, &self.asked) {
            (Input::Acls { ticket, outcomes }, Some((asked, _))) if ticket == *asked => {
                self.answered(outcomes);
                Ok(self.next_held())
            }
            (Input::Acls { .. }, _) => Ok(None),
            (input, None) => Ok(Some(input)),
            (
                input @ (Input::Connected { .. }
                | Input::Armed
                | Input::Disconnected
                | Input::Overflow
                | Input::Unanswered),
                Some(_),
            ) => Ok(Some(input)),
            (input, Some(_)) => {
                if let Input::Events(events) = &input {
                    self.held_events += events.len();
                    self.held_bytes += bytes_of(events);
                }
                self.held.push_back(input);
                if self.held_events > limits.events || self.held_bytes > limits.event_bytes {
                    return Err(StepError::Doubt(GapReason::Overflow));
                }
                Ok(None)
            }
        }
    }

    /// The next of what waited, unless it waits again.
    pub(crate) fn next_held(&mut self) -> Option<Input> {
        if self.asked.is_some() {
            return None;
        }
        let next = self.held.pop_front();
        if let Some(Input::Events(events)) = &next {
            self.held_events -= events.len();
            self.held_bytes -= bytes_of(events);
        }
        next
    }

    fn answered(&mut self, outcomes: Vec<AclOutcome>) {
        let keys = self.asked.take().map(|(_, keys)| keys).unwrap_or_default();
        for (key, outcome) in keys.into_iter().zip(outcomes) {
            let list = match outcome {
                AclOutcome::Found { stat, acl } if (stat.czxid, stat.aversion) == (key.1, key.2) => Some(acl),
                AclOutcome::Found { .. } => {
                    self.again.insert(key.0.clone());
                    None
                }
                AclOutcome::Missing | AclOutcome::Denied => None,
            };
            self.known.insert(key, list);
        }
    }

    /// Whose lists an answer needs, and nobody has asked for.
    pub(crate) fn missing(
        &self,
        mode: AclMode,
        reads: &[ReadRequest],
        outcomes: &[Outcome],
        is_follow: bool,
        image: &mut dyn ImageTxn,
    ) -> Result<Vec<Key>, JournalError> {
        let mut missing = Vec::new();
        if mode != AclMode::List {
            return Ok(missing);
        }
        for (read, outcome) in reads.iter().zip(outcomes) {
            let Some(stat) = outcome.stat() else { continue };
            let key = (read.path.clone(), stat.czxid, stat.aversion);
            if self.known.contains_key(&key) {
                continue;
            }
            let known = image.node(&read.path)?.filter(|node| node.czxid == stat.czxid);
            let has_moved = match known.and_then(|node| node.stat) {
                Some(known) => known.aversion != stat.aversion,
                // A value that waits may be told before this one, with the list as it was then.
                None => is_follow && stat.aversion > 0,
            };
            if has_moved {
                missing.push(key);
            }
        }
        Ok(missing)
    }

    /// An answer waits for these lists. Returns their paths.
    pub(crate) fn hold(&mut self, request: Ticket, keys: Vec<Key>, answer: Input) -> Vec<ZnodePath> {
        if self.known.len() + keys.len() > KEPT_MAX {
            self.known.clear();
        }
        let paths = keys.iter().map(|(path, ..)| path.clone()).collect();
        self.asked = Some((request, keys));
        self.held.push_front(answer);
        paths
    }

    /// The list for the record of a change, if it could be had.
    pub(crate) fn of(&self, path: &ZnodePath, stat: &Stat) -> Option<Vec<Acl>> {
        let key = (path.clone(), stat.czxid, stat.aversion);
        self.known.get(&key).cloned().flatten()
    }

    /// Nothing waits for its record any more.
    pub(crate) fn settled(&mut self) {
        if self.asked.is_none() {
            self.known.clear();
        }
    }

    /// Znodes to read once more, a few at a time.
    pub(crate) fn again(&mut self) -> Vec<ReadRequest> {
        let mut reads = Vec::new();
        while reads.len() < AGAIN_AT_ONCE
            && let Some(path) = self.again.pop_first()
        {
            reads.push(ReadRequest {
                path,
                children: false,
            });
        }
        reads
    }
}
