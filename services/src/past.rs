//! The instances and leaders of an earlier moment, from the events before and after it and the rows of now.
//!
//! ```text
//! events before: the last one of a subject is its state
//! events after:  without one before, the first one says what was there
//! rows of now:   without any kept event nothing has changed
//! ```
//!
//! *Invariants.* The state is that of the events: an instance whose `down` was held back is there until the event, and
//! leaving since its registration is gone. A subject about which the two sides of the moment disagree is not guessed: it
//! is counted as unknown. Memory holds one entry for each subject.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use bridge_core::record::{
    Endpoint, InstanceStatus, Liveness, ServiceEvent, ServiceEventType, Times, Timestamp,
};
use serde_json::Value;

use crate::present::{Present, PresentInstance, PresentLeader};

/// Formats in which the version is a part of the identity of a service.
const VERSIONED: [&str; 2] = ["dubbo", "sofarpc"];

/// Names an instance over its events: section, service, group, version, instance.
type InstanceKey = (String, String, Option<String>, Option<String>, String);

/// Names an election: section, election.
type ElectionKey = (String, String);

/// A moment, and how events compare with it.
#[derive(Clone, Copy, Debug)]
pub struct PastMoment {
    /// Its time, as `counted` gives them.
    pub time: Timestamp,
    /// When the last record before it was captured: of a history that was read late, long after `time`.
    pub captured: Timestamp,
    /// The time at which a change counts.
    pub counted: fn(&Times) -> Timestamp,
}

impl PastMoment {
    fn has_passed(&self, times: &Times) -> bool {
        (self.counted)(times) <= self.time
    }
}

/// Takes the events of a journal in their order, those up to the moment first.
#[derive(Debug, Default)]
pub struct PastServices {
    instances: BTreeMap<InstanceKey, PastState<PresentInstance>>,
    elections: BTreeMap<ElectionKey, PastState<PresentLeader>>,
    /// The sections whose services have versions.
    versioned: BTreeSet<String>,
}

/// The state of a subject at the moment.
#[derive(Debug)]
struct PastState<T> {
    /// `None`: it was not there, or its state is not known.
    state: Option<T>,
    is_known: bool,
    /// An event after the moment, or the end of the journal, has spoken of it.
    has_later: bool,
}

impl<T> PastState<T> {
    fn known(state: Option<T>) -> PastState<T> {
        PastState {
            state,
            is_known: true,
            has_later: false,
        }
    }

    /// The first event that is kept comes after the moment.
    fn later(state: Option<T>, is_known: bool) -> PastState<T> {
        PastState {
            state,
            is_known,
            has_later: true,
        }
    }
}

impl PastServices {
    /// Takes the next event at or before the moment.
    pub fn take_before(&mut self, event: &ServiceEvent) {
        if let Some(key) = self.instance_key(event) {
            let renamed = renamed(event, &key);
            let before = self.instances.get(renamed.as_ref().unwrap_or(&key));
            let before = before.and_then(|past| past.state.as_ref());
            let state = match event.kind {
                ServiceEventType::InstanceDown => None,
                _ => Some(instance_after(event, before)),
            };
            if let Some(renamed) = renamed {
                self.instances.insert(renamed, PastState::known(None));
            }
            self.instances.insert(key, PastState::known(state));
        }
        if let Some(key) = election_key(event) {
            let before = self.elections.get(&key).and_then(|past| past.state.as_ref());
            let state = leader_after(event, before);
            self.elections.insert(key, PastState::known(Some(state)));
        }
    }

    /// Takes the next event after the moment.
    pub fn take_after(&mut self, event: &ServiceEvent, moment: &PastMoment) {
        if let Some(mut key) = self.instance_key(event) {
            if let Some(renamed) = renamed(event, &key) {
                // It had the other identity, and nobody this one.
                match self.instances.entry(key) {
                    Entry::Vacant(entry) => {
                        entry.insert(PastState::later(None, true));
                    }
                    Entry::Occupied(mut entry) => entry.get_mut().has_later = true,
                }
                key = renamed;
            }
            match self.instances.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(instance_before(event, moment));
                }
                Entry::Occupied(mut entry) => {
                    let past = entry.get_mut();
                    if !past.has_later
                        && event.kind == ServiceEventType::InstanceDown
                        && let Some(instance) = &mut past.state
                    {
                        leaves(instance, event, moment);
                    }
                    past.has_later = true;
                }
            }
        }
        if let Some(key) = election_key(event) {
            match self.elections.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(leader_before(event));
                }
                Entry::Occupied(mut entry) => entry.get_mut().has_later = true,
            }
        }
    }

    /// The instances and leaders of the moment, and the number of those whose state is not known. `now` has those at the
    /// end of the journal; `is_whole`: all events before the moment are kept.
    pub fn at_moment(mut self, now: Present, moment: &PastMoment, is_whole: bool) -> (Present, u64) {
        let mut unknown = 0;
        // No event says of those that flap when they came back.
        for instance in now.instances.into_iter().filter(|one| !one.is_flapping) {
            let key = self.key_of(&instance);
            match self.instances.entry(key) {
                // Nothing has happened to it since the first event that is kept.
                Entry::Vacant(entry) => {
                    let was_there = !is_whole && instance.since <= moment.captured;
                    let mut then = instance;
                    then.leaving_since = then.leaving_since.filter(|since| moment.has_passed(since));
                    then.is_leaving = then.leaving_since.is_some();
                    entry.insert(PastState::later(was_there.then_some(then), true));
                }
                Entry::Occupied(mut entry) => {
                    let past = entry.get_mut();
                    if let (Some(then), false) = (&mut past.state, past.has_later) {
                        then.leaving_since = instance.leaving_since.filter(|since| moment.has_passed(since));
                        then.is_leaving = then.leaving_since.is_some();
                        past.has_later = true;
                    }
                }
            }
        }
        for leader in now.leaders {
            let key = (leader.section.clone(), leader.election.clone());
            if let Entry::Vacant(entry) = self.elections.entry(key) {
                entry.insert(PastState::later((!is_whole).then_some(leader), true));
            }
        }
        let mut present = Present::default();
        for past in self.instances.into_values() {
            match past.state {
                // Registered then, and without a word not registered now: its section had other options.
                Some(_) if !past.has_later => unknown += 1,
                Some(instance) => present.instances.push(instance),
                None => unknown += u64::from(!past.is_known),
            }
        }
        for past in self.elections.into_values() {
            unknown += u64::from(!past.is_known);
            present.leaders.extend(past.state);
        }
        (present, unknown)
    }

    fn instance_key(&mut self, event: &ServiceEvent) -> Option<InstanceKey> {
        use ServiceEventType::{
            InstanceChanged, InstanceDown, InstanceListed, InstanceRestarted, InstanceUp,
        };
        let is_instance = matches!(
            event.kind,
            InstanceUp | InstanceDown | InstanceChanged | InstanceRestarted | InstanceListed
        );
        if !is_instance {
            return None;
        }
        let has_version = VERSIONED.contains(&event.format.as_str());
        if has_version {
            self.versioned.insert(event.section.clone());
        }
        Some((
            event.section.clone(),
            event.service.clone(),
            event.group.clone(),
            event.version.clone().filter(|_| has_version),
            event.instance.clone()?,
        ))
    }

    fn key_of(&self, instance: &PresentInstance) -> InstanceKey {
        let has_version = self.versioned.contains(&instance.section);
        (
            instance.section.clone(),
            instance.service.clone(),
            instance.group.clone(),
            instance.version.clone().filter(|_| has_version),
            instance.instance.clone(),
        )
    }
}

/// The key of an instance before an event that has given it another identity.
fn renamed(event: &ServiceEvent, key: &InstanceKey) -> Option<InstanceKey> {
    let change = event.changes.iter().find(|change| change.field == "instance")?;
    let mut renamed = key.clone();
    change.from.as_str()?.clone_into(&mut renamed.4);
    Some(renamed)
}

/// An instance as an event leaves it.
fn instance_after(event: &ServiceEvent, before: Option<&PresentInstance>) -> PresentInstance {
    let is_same = event.kind == ServiceEventType::InstanceChanged
        && before.is_some_and(|before| before.session == event.session);
    let since = before.filter(|_| is_same).map(|before| before.since);
    PresentInstance {
        section: event.section.clone(),
        service: event.service.clone(),
        group: event.group.clone(),
        version: event.version.clone(),
        instance: event.instance.clone().unwrap_or_default(),
        status: event.status.unwrap_or_default(),
        endpoints: event.endpoints.clone(),
        zone: event.zone.clone(),
        liveness: event.liveness.unwrap_or(Liveness::None),
        session: event.session,
        path: event.path.clone(),
        since: since.unwrap_or(event.time.captured),
        is_flapping: false,
        is_leaving: false,
        leaving_since: None,
    }
}

/// An instance before the first event of it that is kept.
fn instance_before(event: &ServiceEvent, moment: &PastMoment) -> PastState<PresentInstance> {
    use ServiceEventType::{InstanceChanged, InstanceDown, InstanceListed, InstanceRestarted};
    let mut then = instance_after(event, None);
    // The bridge knew it, and since when is not kept.
    then.since = moment.time;
    match event.kind {
        InstanceDown => {
            leaves(&mut then, event, moment);
            PastState::later(Some(then), true)
        }
        InstanceRestarted => PastState::later(Some(then), true),
        InstanceChanged => {
            for change in &event.changes {
                undo(&mut then, &change.field, &change.from);
            }
            PastState::later(Some(then), true)
        }
        // The section is newer than the moment.
        InstanceListed => PastState::later(None, false),
        _ => PastState::later(None, true),
    }
}

/// Its `down` comes after the moment; its registration may have gone before it.
fn leaves(instance: &mut PresentInstance, down: &ServiceEvent, moment: &PastMoment) {
    instance.leaving_since = Some(down.time).filter(|since| moment.has_passed(since));
    instance.is_leaving = instance.leaving_since.is_some();
}

fn undo(instance: &mut PresentInstance, field: &str, from: &Value) {
    let text = || from.as_str().map(str::to_owned);
    match field {
        "instance" => instance.instance = text().unwrap_or_default(),
        "status" => {
            let status = serde_json::from_value::<InstanceStatus>(from.clone());
            instance.status = status.unwrap_or(InstanceStatus::Unknown);
        }
        "endpoints" => {
            let endpoints = serde_json::from_value::<Vec<Endpoint>>(from.clone());
            instance.endpoints = endpoints.unwrap_or_default();
        }
        "version" => instance.version = text(),
        "zone" => instance.zone = text(),
        _ => {}
    }
}

fn election_key(event: &ServiceEvent) -> Option<ElectionKey> {
    use ServiceEventType::{LeaderChanged, LeaderElected, LeaderLost, QueueChanged};
    let is_election = matches!(
        event.kind,
        LeaderElected | LeaderChanged | LeaderLost | QueueChanged
    );
    Some((
        event.section.clone(),
        event.election.clone().filter(|_| is_election)?,
    ))
}

fn leader_after(event: &ServiceEvent, before: Option<&PresentLeader>) -> PresentLeader {
    let (leader, session) = match event.kind {
        ServiceEventType::LeaderLost => (None, None),
        ServiceEventType::QueueChanged => (
            before.and_then(|before| before.leader.clone()),
            before.and_then(|before| before.session),
        ),
        _ => (event.leader.clone(), event.session),
    };
    PresentLeader {
        section: event.section.clone(),
        election: event.election.clone().unwrap_or_default(),
        leader,
        session,
        queue: event.queue.unwrap_or_default(),
    }
}

/// The leader before the first event of an election that is kept.
fn leader_before(event: &ServiceEvent) -> PastState<PresentLeader> {
    let with = |leader: Option<String>| PresentLeader {
        section: event.section.clone(),
        election: event.election.clone().unwrap_or_default(),
        leader,
        session: None,
        queue: 0,
    };
    match event.kind {
        ServiceEventType::LeaderLost | ServiceEventType::LeaderChanged => {
            PastState::later(Some(with(event.previous.clone())), true)
        }
        // Vacant, with a leader before it, or new.
        ServiceEventType::LeaderElected if event.previous.is_some() && event.vacant_ms > Some(0) => {
            PastState::later(Some(with(None)), true)
        }
        ServiceEventType::LeaderElected if event.previous == event.leader => {
            PastState::later(Some(with(event.previous.clone())), true)
        }
        ServiceEventType::LeaderElected => PastState::later(None, true),
        _ => PastState::later(None, false),
    }
}
