//! One event for many: where a batch has many instances that went, or many services that became unavailable, a summary
//! counts them. Each of them stays, and names its summary, so that a sink takes the one or the others.

use std::collections::BTreeMap;

use bridge_core::derive::DerivedEvent;
use bridge_core::path::ZnodePath;
use bridge_core::record::{ServiceEvent, ServiceEventType};
use uuid::Uuid;

use crate::announce::Announcer;
use crate::sentence::sentence;

/// Fewer events have no summary: each is for people.
const EVENTS_MIN: usize = 20;

/// Services that one summary names.
const SERVICES_MAX: usize = 256;

/// The events of one summary.
#[derive(Default)]
struct Counted {
    section: String,
    by_service: BTreeMap<String, u64>,
    /// Places in the batch.
    places: Vec<usize>,
}

impl Announcer<'_> {
    /// The events of the batch, with the summaries after them.
    pub(crate) fn with_summaries(mut self) -> Vec<DerivedEvent> {
        if self.events.len() < EVENTS_MIN {
            return self.events;
        }
        for counted in counted(&self.events) {
            if counted.places.len() >= EVENTS_MIN {
                self.summarise(counted);
            }
        }
        self.events
    }

    fn summarise(&mut self, counted: Counted) {
        let Some(section) = self.section(&counted.section) else {
            return;
        };
        let events = counted.places.iter().map(|at| &self.events[*at]);
        let (Some(first), Some(last)) = (events.clone().next(), events.clone().next_back()) else {
            return;
        };
        let base = self.sections[section].decoder.base_path();
        let mut event = ServiceEvent::of_type(ServiceEventType::InstancesDown);
        event.cluster.clone_from(&first.event.cluster);
        event.section.clone_from(&counted.section);
        event.format.clone_from(&first.event.format);
        event.path.clone_from(&base);
        event.time = last.event.time;
        event.missed = None;
        let zxid = first.event.zxid;
        event.zxid = zxid.filter(|_| events.clone().all(|one| one.event.zxid == zxid));
        event.fidelity = first.event.fidelity;
        let mut downs = events
            .clone()
            .filter(|one| one.event.kind == ServiceEventType::InstanceDown);
        let cause = downs.clone().next().and_then(|down| down.event.cause);
        event.cause = cause.filter(|_| downs.all(|down| down.event.cause == cause));
        let is_unavailable = |one: &&DerivedEvent| one.event.kind == ServiceEventType::ServiceUnavailable;
        event.unavailable = Some(events.clone().filter(is_unavailable).count() as u64);
        event.instances = Some(counted.by_service.values().sum());
        event.service = match counted.by_service.len() {
            1 => first.event.service.clone(),
            _ => counted.section,
        };
        event.by_service = counted.by_service;
        event.text = sentence(&event);
        let name = format!("{}\n{}", event.kind.as_str(), first.event.id);
        event.id = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes());
        let (root, id) = (first.root.clone(), event.id);
        for at in counted.places {
            self.events[at].event.summary = Some(id);
        }
        self.events.push(DerivedEvent {
            root,
            home: ZnodePath::parse(&base).unwrap_or_else(|_| ZnodePath::slash()),
            event,
        });
    }
}

/// The events that a summary may count, in groups.
fn counted(events: &[DerivedEvent]) -> Vec<Counted> {
    let mut groups: Vec<Counted> = Vec::new();
    for (at, derived) in events.iter().enumerate() {
        let event = &derived.event;
        let downs = match event.kind {
            ServiceEventType::InstanceDown => 1,
            ServiceEventType::ServiceUnavailable => 0,
            _ => continue,
        };
        let has_room = |group: &Counted| {
            group.section == event.section
                && (group.by_service.len() < SERVICES_MAX || group.by_service.contains_key(&event.service))
        };
        let group = match groups.iter().position(has_room) {
            Some(found) => &mut groups[found],
            None => {
                groups.push(Counted {
                    section: event.section.clone(),
                    ..Counted::default()
                });
                groups.last_mut().expect("it was added")
            }
        };
        *group.by_service.entry(event.service.clone()).or_default() += downs;
        group.places.push(at);
    }
    groups
}
