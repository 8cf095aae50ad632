//! Announces instances and services: the difference between the last event and the rows leads to the next events.

use std::sync::LazyLock;

use bridge_core::derive::{DerivedEvent, DerivedState};
use bridge_core::journal::JournalError;
use bridge_core::number::SessionId;
use bridge_core::path::ZnodePath;
use bridge_core::record::{
    DownCause, Fidelity, FieldChange, InstanceStatus, Liveness, Op, ServiceEvent, ServiceEventType,
};
use uuid::Uuid;

use crate::causes::Deletes;
use crate::deadlines::Deadlines;
use crate::decode::Rule;
use crate::keys;
use crate::levels::Levels;
use crate::machine::{Section, Subject};
use crate::registration::ServiceKey;
use crate::rows::{Announced, Cause, InstanceRow, Pending, get, put, remove};
use crate::sentence::sentence;
use crate::speaking::{Newest, Speaking};
use crate::url::masked;

/// Rules of one service that are looked at.
const RULES_MAX: usize = 256;

/// Why it is open whether a process has restarted: it may only have lost its session.
const NO_PROCESS: &str = "its registration does not show whether it restarted";

/// The namespace of the ids of events.
static NAMESPACE: LazyLock<Uuid> = LazyLock::new(|| Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"zkbridge.service"));

/// The events of one group, one gap or one tick.
pub(crate) struct Announcer<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) sections: &'a [Section],
    pub(crate) deletes: &'a Deletes,
    pub(crate) deadlines: &'a mut Deadlines,
    pub(crate) levels: &'a mut Levels,
    pub(crate) newest: &'a mut Newest,
    pub(crate) state: &'a mut dyn DerivedState,
    pub(crate) events: Vec<DerivedEvent>,
    /// The end of a gap or a listing.
    pub(crate) is_gap: bool,
}

impl Announcer<'_> {
    pub(crate) fn section(&self, name: &str) -> Option<usize> {
        self.sections.iter().position(|section| section.name == name)
    }

    /// The time of an event that was held back has come.
    pub(crate) fn fire(&mut self, subject: &Subject, due: i64) -> Result<(), JournalError> {
        match subject {
            Subject::Instance {
                section,
                service,
                instance,
            } => {
                let Some(at) = self.section(section) else {
                    return Ok(());
                };
                let key = keys::instance(section, service, instance);
                let Some(row) = get::<InstanceRow>(self.state, &key)? else {
                    return Ok(());
                };
                if let (Some(pending), Some(announced)) = (&row.pending, &row.announced)
                    && pending.due == due
                {
                    let cause = pending.cause.clone();
                    self.down(at, &row, announced, &cause, pending.down)?;
                    remove(self.state, &key)?;
                    self.service(at, service, &cause)?;
                }
                Ok(())
            }
            Subject::Election { section, election } => match self.section(section) {
                Some(at) => self.lost(at, election, due),
                None => Ok(()),
            },
            Subject::Flaps {
                section,
                service,
                instance,
            } => match self.section(section) {
                Some(at) => self.end_flaps(at, service, instance, due),
                None => Ok(()),
            },
            Subject::Instances { .. }
            | Subject::Lock { .. }
            | Subject::Rule { .. }
            | Subject::Unreadable { .. }
            | Subject::Readable { .. } => Ok(()),
        }
    }

    pub(crate) fn instance(
        &mut self,
        at: usize,
        service: &ServiceKey,
        instance: &str,
        cause: &Cause,
    ) -> Result<(), JournalError> {
        let name = &self.sections[at].name;
        let key = keys::instance(name, service, instance);
        let row: Option<InstanceRow> = get(self.state, &key)?;
        let speaking = self.speaking(at, service, instance)?;
        match (row, speaking) {
            (None, None) => self.is_held(at, service, instance, cause).map(drop),
            (None, Some(speaking)) => {
                if self.is_held(at, service, instance, cause)? {
                    return Ok(());
                }
                let row = InstanceRow {
                    service: service.clone(),
                    instance: instance.to_owned(),
                    renamed_from: None,
                    home: speaking.home.clone(),
                    announced: None,
                    pending: None,
                };
                self.up(at, row, speaking, cause)
            }
            (Some(mut row), None) => {
                if row.pending.is_some() {
                    return Ok(());
                }
                let Some(announced) = row.announced.clone() else {
                    return remove(self.state, &key);
                };
                if let Some(change) = renaming(&mut row) {
                    let kind = ServiceEventType::InstanceChanged;
                    let mut event = self.instance_event(kind, at, &row, &announced, cause);
                    event.changes = vec![change];
                    self.push(event, &row.home, cause, &row.instance);
                }
                let down = self.deletes.cause(cause, self.state)?;
                let grace = self.sections[at].grace_ms;
                if grace == 0 {
                    self.down(at, &row, &announced, cause, down)?;
                    return remove(self.state, &key);
                }
                let due = cause.time.captured.0.saturating_add(grace);
                let subject = Subject::Instance {
                    section: name.clone(),
                    service: service.clone(),
                    instance: instance.to_owned(),
                };
                self.hold_back(&subject, due, cause)?;
                let pending = Some(Pending {
                    due,
                    cause: cause.clone(),
                    down,
                });
                put(self.state, &key, &InstanceRow { pending, ..row })
            }
            (Some(mut row), Some(speaking)) => match row.announced.take() {
                None => self.up(at, row, speaking, cause),
                Some(announced) => self.compare(at, row, announced, speaking, cause),
            },
        }
    }

    /// Notes the deadline of an event that is held back.
    pub(crate) fn hold_back(
        &mut self,
        subject: &Subject,
        due: i64,
        cause: &Cause,
    ) -> Result<(), JournalError> {
        self.deadlines.hold_back(subject, due, cause, self.state)
    }

    /// Removes the deadline.
    pub(crate) fn release(&mut self, subject: &Subject, pending: &Pending) -> Result<(), JournalError> {
        Deadlines::release(subject, pending, self.state)
    }

    fn up(
        &mut self,
        at: usize,
        row: InstanceRow,
        speaking: Speaking,
        cause: &Cause,
    ) -> Result<(), JournalError> {
        let is_listed = cause.op == Op::Snapshot;
        let kind = match is_listed {
            true => ServiceEventType::InstanceListed,
            false => ServiceEventType::InstanceUp,
        };
        let announced = announced(speaking, cause);
        let event = self.instance_event(kind, at, &row, &announced, cause);
        self.push(event, &row.home, cause, &row.instance);
        let status = announced.registration.status;
        self.levels.moved(&row.service.name, None, Some(status));
        let is_available = status.is_available();
        self.count(at, &row.service, &row.home, 0, u64::from(is_available), is_listed)?;
        self.store_instance(at, row, announced)
    }

    fn compare(
        &mut self,
        at: usize,
        mut row: InstanceRow,
        before: Announced,
        speaking: Speaking,
        cause: &Cause,
    ) -> Result<(), JournalError> {
        if let Some(pending) = row.pending.take() {
            let subject = Subject::Instance {
                section: self.sections[at].name.clone(),
                service: row.service.clone(),
                instance: row.instance.clone(),
            };
            self.release(&subject, &pending)?;
        }
        let mut after = announced(speaking, cause);
        let mut changes = before.registration.changes_to(&after.registration);
        changes.splice(0..0, renaming(&mut row));
        let is_same_process = process(&before) == process(&after);
        let kind = match (changes.is_empty(), is_same_process) {
            (false, _) => ServiceEventType::InstanceChanged,
            // The process before may still be alive: its end is the restart.
            (true, false) if self.exists(at, &before, &row)? => {
                return self.store_instance(at, row, before);
            }
            (true, false) => ServiceEventType::InstanceRestarted,
            (true, true) => {
                after.since = before.since;
                return self.store_instance(at, row, after);
            }
        };
        if kind == ServiceEventType::InstanceChanged && is_same_process {
            after.since = before.since;
        }
        let mut event = self.instance_event(kind, at, &row, &after, cause);
        // A rule or a znode beside the registration has changed it.
        if *cause.path != *after.path && *cause.path != *before.path {
            event.path = masked(&cause.path);
        }
        event.changes = changes;
        if kind == ServiceEventType::InstanceRestarted && after.registration.process.is_none() {
            event.reason = Some(NO_PROCESS.to_owned());
        }
        self.push(event, &row.home, cause, &row.instance);
        let (was, is) = (before.registration.status, after.registration.status);
        self.levels.moved(&row.service.name, Some(was), Some(is));
        let available = |state: &Announced| u64::from(state.registration.status.is_available());
        self.count(
            at,
            &row.service,
            &row.home,
            available(&before),
            available(&after),
            false,
        )?;
        self.store_instance(at, row, after)
    }

    /// Whether the registration of an announced state still is one of the instance.
    fn exists(&mut self, at: usize, announced: &Announced, row: &InstanceRow) -> Result<bool, JournalError> {
        let section = &self.sections[at].name;
        let (czxid, path) = (announced.czxid, &announced.path);
        let life = keys::life(section, &row.service, &row.instance, czxid, path);
        Ok(self.state.get(life.bytes())?.is_some())
    }

    fn store_instance(
        &mut self,
        at: usize,
        row: InstanceRow,
        announced: Announced,
    ) -> Result<(), JournalError> {
        let key = keys::instance(&self.sections[at].name, &row.service, &row.instance);
        let row = InstanceRow {
            announced: Some(announced),
            pending: None,
            ..row
        };
        put(self.state, &key, &row)
    }

    fn down(
        &mut self,
        at: usize,
        row: &InstanceRow,
        announced: &Announced,
        cause: &Cause,
        down: DownCause,
    ) -> Result<(), JournalError> {
        let mut event = self.instance_event(ServiceEventType::InstanceDown, at, row, announced, cause);
        event.cause = Some(down);
        self.push(event, &row.home, cause, &row.instance);
        let status = announced.registration.status;
        self.levels.moved(&row.service.name, Some(status), None);
        let was = u64::from(status.is_available());
        self.count(at, &row.service, &row.home, was, 0, false)?;
        self.count_flap(at, row, cause)
    }

    fn speaking(
        &mut self,
        at: usize,
        service: &ServiceKey,
        instance: &str,
    ) -> Result<Option<Speaking>, JournalError> {
        let section = &self.sections[at];
        let has_beside = section.decoder.has_beside();
        let found = Speaking::of(
            &section.name,
            service,
            instance,
            has_beside,
            self.newest,
            self.state,
        )?;
        let Some(mut speaking) = found else {
            return Ok(None);
        };
        let registration = &mut speaking.registration;
        if section.decoder.has_rules() {
            let rules = keys::rules(&section.name, &service.name);
            for (_, row) in self.state.scan(rules.bytes(), None, RULES_MAX)? {
                let rule = serde_json::from_slice::<Rule>(&row).unwrap_or_default();
                if rule.disables(service, registration.endpoints.first()) {
                    registration.status = InstanceStatus::Disabled;
                }
            }
        }
        Ok(Some(speaking))
    }

    fn instance_event(
        &self,
        kind: ServiceEventType,
        at: usize,
        row: &InstanceRow,
        state: &Announced,
        cause: &Cause,
    ) -> ServiceEvent {
        let facts = &state.registration;
        let mut event = self.event(kind, at, cause);
        event.service.clone_from(&row.service.name);
        event.group.clone_from(&row.service.group);
        event.version = facts.version.clone().or_else(|| row.service.version.clone());
        event.instance = Some(row.instance.clone());
        event.status = Some(facts.status);
        event.native_status.clone_from(&facts.native_status);
        event.role.clone_from(&facts.role);
        event.application.clone_from(&facts.application);
        event.endpoints.clone_from(&facts.endpoints);
        event.zone.clone_from(&facts.zone);
        event.weight.clone_from(&facts.weight);
        event.metadata.clone_from(&facts.metadata);
        event.liveness = Some(liveness(state.owner));
        event.session = session(state.owner);
        let is_down = kind == ServiceEventType::InstanceDown && cause.op == Op::Delete;
        event.path = match is_down {
            true => masked(&cause.path),
            false => masked(&state.path),
        };
        if is_down && cause.owner != SessionId::NONE {
            event.session = session(cause.owner);
        }
        event
    }

    /// An event with the fields that all have.
    pub(crate) fn event(&self, kind: ServiceEventType, at: usize, cause: &Cause) -> ServiceEvent {
        let section = &self.sections[at];
        let mut event = ServiceEvent::of_type(kind);
        event.cluster = self.cluster.to_owned();
        event.section.clone_from(&section.name);
        event.format = section.decoder.config.format.as_str().to_owned();
        event.zxid = cause.zxid;
        event.path = masked(&cause.path);
        event.fidelity = match self.is_gap {
            true => Fidelity::Reconciled,
            false => cause.fidelity,
        };
        event.missed = cause.missed;
        event.time = cause.time;
        event
    }

    /// Names an event and adds it.
    pub(crate) fn push(&mut self, mut event: ServiceEvent, home: &str, cause: &Cause, extra: &str) {
        event.text = sentence(&event);
        event.id = id(&event, cause.id, extra);
        let home = ZnodePath::parse(home).or_else(|_| ZnodePath::parse(&cause.path));
        self.events.push(DerivedEvent {
            root: cause.root.clone(),
            home: home.unwrap_or_else(|_| ZnodePath::slash()),
            event,
        });
    }
}

/// The UUIDv5 of the type, the subject and the change that caused the event, so that every replay agrees.
fn id(event: &ServiceEvent, cause: Uuid, extra: &str) -> Uuid {
    fn of(text: &Option<String>) -> &str {
        text.as_deref().unwrap_or_default()
    }
    let mut buffer = Uuid::encode_buffer();
    let subject = [
        &event.cluster,
        &event.section,
        event.kind.as_str(),
        &event.format,
        &event.service,
        of(&event.group),
        of(&event.version),
        of(&event.instance),
        of(&event.election),
        of(&event.lock),
        cause.hyphenated().encode_lower(&mut buffer),
        extra,
    ];
    Uuid::new_v5(&NAMESPACE, subject.join("\n").as_bytes())
}

/// The change of an identity that no event has said yet.
fn renaming(row: &mut InstanceRow) -> Option<FieldChange> {
    let from = row.renamed_from.take()?;
    Some(FieldChange {
        field: "instance".to_owned(),
        from: from.into(),
        to: row.instance.clone().into(),
    })
}

fn announced(speaking: Speaking, cause: &Cause) -> Announced {
    Announced {
        registration: speaking.registration,
        path: speaking.path,
        czxid: speaking.czxid,
        owner: speaking.owner,
        since: cause.time.captured,
    }
}

/// The same for one process: as its registration says, else its session, else its incarnation.
fn process(announced: &Announced) -> String {
    match &announced.registration.process {
        Some(process) => process.clone(),
        None if announced.owner == SessionId::NONE => format!("{}", announced.czxid),
        None => format!("{}", announced.owner),
    }
}

pub(crate) fn liveness(owner: SessionId) -> Liveness {
    match owner {
        SessionId::NONE => Liveness::None,
        _ => Liveness::Session,
    }
}

pub(crate) fn session(owner: SessionId) -> Option<SessionId> {
    (owner != SessionId::NONE).then_some(owner)
}
