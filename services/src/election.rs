//! Announces leaders and queues.

use bridge_core::journal::JournalError;
use bridge_core::number::SessionId;
use bridge_core::record::{ServiceEvent, ServiceEventType};

use crate::announce::{Announcer, liveness, session};
use crate::decode::Candidate;
use crate::keys;
use crate::machine::{Note, Subject};
use crate::rows::{AnnouncedLeader, Cause, ElectionRow, Meaning, NodeRow, Pending, QueuedRow, get, put};

/// The counter of sequential znodes has overflown, so that the newest candidate is first.
const OVERFLOW: &str = "sequence_overflow";

/// The clients put the newer candidate first for another reason.
const OUT_OF_ORDER: &str = "out_of_order";

/// The name of a candidate: its data, or its session.
pub(crate) fn candidate_name(candidate: &Candidate, owner: SessionId) -> String {
    candidate.name.clone().unwrap_or_else(|| session_name(owner))
}

fn session_name(owner: SessionId) -> String {
    format!("session {owner}")
}

impl Announcer<'_> {
    pub(crate) fn election(
        &mut self,
        at: usize,
        election: &str,
        cause: &Cause,
        notes: Vec<Note>,
    ) -> Result<(), JournalError> {
        let section = &self.sections[at];
        let wants_queue = section.decoder.config.queue_events;
        let key = keys::election(&section.name, election);
        let Some(mut row) = get::<ElectionRow>(self.state, &key)? else {
            return Ok(());
        };
        let current = self.leader_of(at, election, &row)?;
        let has_said = match (row.announced.clone(), current) {
            (None, None) => false,
            (None, Some(current)) => {
                self.elected(at, election, &mut row, current, cause);
                true
            }
            (Some(before), None) => self.vacated(at, election, &mut row, before, cause)?,
            (Some(before), Some(current)) => {
                self.succeeded(at, election, &mut row, before, current, cause)?
            }
        };
        put(self.state, &key, &row)?;
        if wants_queue && !has_said && !self.is_gap {
            for (number, note) in notes.into_iter().enumerate() {
                let mut event = self.leader_event(ServiceEventType::QueueChanged, at, election, &row, cause);
                // Several in one transaction have one cause.
                let extra = format!("{} {number}", cause.path);
                match note {
                    Note::Joined(name) => event.joined = Some(name),
                    Note::Left(name) => event.left = Some(name),
                }
                event.queue = Some(row.queue);
                event.session = session(cause.owner);
                self.push(event, election, cause, &extra);
            }
        }
        Ok(())
    }

    /// The znode that names the leader, or the first of the queue.
    fn leader_of(
        &mut self,
        at: usize,
        election: &str,
        row: &ElectionRow,
    ) -> Result<Option<AnnouncedLeader>, JournalError> {
        let section = &self.sections[at].name;
        if let Some(path) = &row.leader_path {
            let node: Option<NodeRow> = get(self.state, &keys::node(section, path))?;
            return Ok(node.and_then(|node| match node.meaning {
                Some(Meaning::Leader { leader, .. }) => Some(AnnouncedLeader {
                    name: leader.name.unwrap_or_else(|| session_name(node.owner)),
                    path: path.clone(),
                    czxid: node.czxid,
                    owner: node.owner,
                    sequence: None,
                    endpoints: leader.endpoints,
                }),
                _ => None,
            }));
        }
        let first = self.state.scan(keys::queue(section, election).bytes(), None, 1)?;
        let first = first
            .first()
            .and_then(|(_, row)| serde_json::from_slice::<QueuedRow>(row).ok());
        Ok(first
            .filter(|first| !first.candidate.only_counts)
            .map(|first| AnnouncedLeader {
                name: candidate_name(&first.candidate, first.owner),
                path: first.path,
                czxid: first.czxid,
                owner: first.owner,
                sequence: first.candidate.sequence,
                endpoints: Vec::new(),
            }))
    }

    fn elected(
        &mut self,
        at: usize,
        election: &str,
        row: &mut ElectionRow,
        current: AnnouncedLeader,
        cause: &Cause,
    ) {
        let mut event = self.leader_event(ServiceEventType::LeaderElected, at, election, row, cause);
        led_by(&mut event, &current);
        event.previous = row.last.take();
        event.vacant_ms = row
            .vacant_since
            .take()
            .map(|since| cause.time.captured.0 - since.0);
        self.push(event, election, cause, "");
        row.announced = Some(current);
    }

    /// Returns whether an event says so.
    fn vacated(
        &mut self,
        at: usize,
        election: &str,
        row: &mut ElectionRow,
        before: AnnouncedLeader,
        cause: &Cause,
    ) -> Result<bool, JournalError> {
        if row.pending.is_some() {
            return Ok(false);
        }
        row.vacant_since = Some(cause.time.captured);
        let down = self.deletes.cause(cause, self.state)?;
        let section = &self.sections[at];
        let pending = Pending {
            due: cause.time.captured.0.saturating_add(section.grace_ms),
            cause: cause.clone(),
            down,
        };
        if section.grace_ms == 0 {
            self.say_lost(at, election, row, before, &pending);
            return Ok(true);
        }
        let subject = Subject::Election {
            section: section.name.clone(),
            election: election.to_owned(),
        };
        self.hold_back(&subject, pending.due, cause)?;
        row.pending = Some(pending);
        Ok(false)
    }

    /// Returns whether an event says so.
    fn succeeded(
        &mut self,
        at: usize,
        election: &str,
        row: &mut ElectionRow,
        before: AnnouncedLeader,
        current: AnnouncedLeader,
        cause: &Cause,
    ) -> Result<bool, JournalError> {
        if let Some(pending) = row.pending.take() {
            let section = self.sections[at].name.clone();
            let election = election.to_owned();
            self.release(&Subject::Election { section, election }, &pending)?;
        }
        let vacant_ms = row
            .vacant_since
            .take()
            .map(|since| cause.time.captured.0 - since.0);
        let is_same = before.path == current.path && before.czxid == current.czxid;
        if before.name == current.name && (is_same || before.owner == current.owner) {
            row.announced = Some(current);
            return Ok(false);
        }
        let kind = match before.name == current.name {
            true => ServiceEventType::LeaderElected,
            false => ServiceEventType::LeaderChanged,
        };
        let mut event = self.leader_event(kind, at, election, row, cause);
        led_by(&mut event, &current);
        event.previous = Some(before.name.clone());
        event.vacant_ms = Some(vacant_ms.unwrap_or(0));
        if !is_same && current.czxid > before.czxid && self.is_there(at, &before)? {
            let has_overflown = current.sequence.is_some_and(|sequence| sequence < 0);
            let anomaly = if has_overflown { OVERFLOW } else { OUT_OF_ORDER };
            event.anomaly = Some(anomaly.to_owned());
        }
        self.push(event, election, cause, "");
        row.announced = Some(current);
        Ok(true)
    }

    fn is_there(&mut self, at: usize, leader: &AnnouncedLeader) -> Result<bool, JournalError> {
        let key = keys::node(&self.sections[at].name, &leader.path);
        let node: Option<NodeRow> = get(self.state, &key)?;
        Ok(node.is_some_and(|node| node.czxid == leader.czxid))
    }

    /// The loss that was held back is final.
    pub(crate) fn lost(&mut self, at: usize, election: &str, due: i64) -> Result<(), JournalError> {
        let key = keys::election(&self.sections[at].name, election);
        let Some(mut row) = get::<ElectionRow>(self.state, &key)? else {
            return Ok(());
        };
        match (row.pending.take(), row.announced.clone()) {
            (Some(pending), Some(before)) if pending.due == due => {
                self.say_lost(at, election, &mut row, before, &pending);
                put(self.state, &key, &row)
            }
            _ => Ok(()),
        }
    }

    fn say_lost(
        &mut self,
        at: usize,
        election: &str,
        row: &mut ElectionRow,
        before: AnnouncedLeader,
        pending: &Pending,
    ) {
        let cause = &pending.cause;
        let mut event = self.leader_event(ServiceEventType::LeaderLost, at, election, row, cause);
        event.previous = Some(before.name.clone());
        event.session = session(before.owner);
        event.liveness = Some(liveness(before.owner));
        event.cause = Some(pending.down);
        self.push(event, election, cause, "");
        row.last = Some(before.name);
        row.announced = None;
    }

    fn leader_event(
        &self,
        kind: ServiceEventType,
        at: usize,
        election: &str,
        row: &ElectionRow,
        cause: &Cause,
    ) -> ServiceEvent {
        let mut event = self.event(kind, at, cause);
        event.service.clone_from(&row.service);
        event.election = Some(election.to_owned());
        event.queue = (row.queue > 0).then_some(row.queue);
        event
    }
}

fn led_by(event: &mut ServiceEvent, leader: &AnnouncedLeader) {
    event.leader = Some(leader.name.clone());
    event.sequence = leader.sequence;
    event.endpoints.clone_from(&leader.endpoints);
    event.session = session(leader.owner);
    event.liveness = Some(liveness(leader.owner));
    event.path.clone_from(&leader.path);
}
