//! Access control lists: read when an answer shows that one was changed, before the answer is handled.
//!
//! A MultiRead returns no lists. So an answer that shows another `aversion` than the image waits until the lists of its
//! znodes have arrived, and all later inputs wait, too, in their order: the machine gets the same inputs, a little
//! later. A record gets a list only if the Stat that arrived with it has the incarnation and the `aversion` of the
//! answer; a list that was changed again meanwhile is left out, and its znode is read once more.

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

/// Lists that wait for their records: those of a few answers. With more, they are dropped, and the records have no
/// list.
const KEPT_MAX: usize = 10_000;
/// Znodes that are read once more in one request.
const AGAIN_AT_ONCE: usize = 64;

/// The path, the `czxid` and the `aversion` of a list.
type Key = (ZnodePath, Zxid, i32);

fn bytes_of(events: &[Event]) -> usize {
    events.iter().map(|event| event.path.len()).sum()
}

/// The requested lists, and the inputs that wait for them.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// The request under way, and its lists.
    asked: Option<(Ticket, Vec<Key>)>,
    /// The answer that waits, and all later inputs.
    held: VecDeque<Input>,
    held_events: usize,
    /// The bytes of the paths of these events.
    held_bytes: usize,
    /// `None`: it could not be read.
    known: BTreeMap<Key, Option<Vec<Acl>>>,
    /// Znodes whose lists were changed again.
    again: BTreeSet<ZnodePath>,
}

impl Lists {
    /// Drops everything, at the end of a connection.
    pub(crate) fn forget(&mut self) {
        *self = Lists::default();
    }

    /// Returns the input to handle now; `None` if it waits or has nothing to handle.
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

    /// The next waiting input, unless a list is requested again.
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

    /// The lists that an answer needs and that are not known yet.
    pub(crate) fn missing(
        &self,
        mode: AclMode,
        reads: &[ReadRequest],
        outcomes: &[Outcome],
        is_follow: bool,
        image: &mut dyn ImageTxn,
    ) -> Result<Vec<Key>, JournalError> {
        let mut missing = Vec::new();
        if !mode.has_lists() {
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
                None if mode == AclMode::All && known.is_none() => true,
                // A waiting value may be recorded before this one, with the list of its own `aversion`.
                None => is_follow && stat.aversion > 0,
            };
            if has_moved {
                missing.push(key);
            }
        }
        Ok(missing)
    }

    /// Makes an answer wait for these lists. Returns their paths.
    pub(crate) fn hold(&mut self, request: Ticket, keys: Vec<Key>, answer: Input) -> Vec<ZnodePath> {
        if self.known.len() + keys.len() > KEPT_MAX {
            self.known.clear();
        }
        let paths = keys.iter().map(|(path, ..)| path.clone()).collect();
        self.asked = Some((request, keys));
        self.held.push_front(answer);
        paths
    }

    /// The list for the record of a change, if it could be read.
    pub(crate) fn of(&self, path: &ZnodePath, stat: &Stat) -> Option<Vec<Acl>> {
        let key = (path.clone(), stat.czxid, stat.aversion);
        self.known.get(&key).cloned().flatten()
    }

    /// Drops the known lists: no event waits for its record.
    pub(crate) fn settled(&mut self) {
        if self.asked.is_none() {
            self.known.clear();
        }
    }

    /// Takes the next znodes to read once more.
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
