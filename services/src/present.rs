//! The instances and leaders of now, from the rows of the machine.

use std::collections::BTreeMap;

use bridge_core::derive::DerivedState;
use bridge_core::journal::JournalError;
use bridge_core::number::SessionId;
use bridge_core::record::{Endpoint, InstanceStatus, Liveness, Times, Timestamp};
use serde::{Serialize, Serializer};

use crate::announce::{liveness, session};
use crate::flaps::FlapRow;
use crate::keys;
use crate::rows::{Announced, ElectionRow, InstanceRow, Row, for_each};
use crate::speaking::{Newest, Speaking};
use crate::url::masked;

/// Instances and leaders, as their last events left them.
#[derive(Clone, Debug, PartialEq, Default, Serialize)]
pub struct Present {
    /// By section, service and identity.
    pub instances: Vec<PresentInstance>,
    /// By section and election.
    pub leaders: Vec<PresentLeader>,
}

/// A registered instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PresentInstance {
    /// The section.
    pub section: String,
    /// The service.
    pub service: String,
    /// The group of the service, where it is part of its identity.
    pub group: Option<String>,
    /// The version of the instance or of the service.
    pub version: Option<String>,
    /// The identity.
    pub instance: String,
    /// Whether it takes work.
    pub status: InstanceStatus,
    /// Its addresses.
    pub endpoints: Vec<Endpoint>,
    /// Its zone.
    pub zone: Option<String>,
    /// Whether its registration ends with a session.
    pub liveness: Liveness,
    /// The session that owns it.
    pub session: Option<SessionId>,
    /// The znode.
    pub path: String,
    /// When this process was captured first.
    pub since: Timestamp,
    /// It has come back while it flaps, and its `instance.up` waits until it has stayed: it does not count as available.
    /// Only of now, and not of an earlier moment.
    pub is_flapping: bool,
    /// Its registration is gone, and `grace` holds the event back.
    pub is_leaving: bool,
    /// Since when it is gone, then, in JSON when that was captured; null otherwise.
    #[serde(serialize_with = "captured")]
    pub leaving_since: Option<Times>,
}

fn captured<S: Serializer>(times: &Option<Times>, serializer: S) -> Result<S::Ok, S::Error> {
    times.map(|times| times.captured).serialize(serializer)
}

/// The leader of an election.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PresentLeader {
    /// The section.
    pub section: String,
    /// The path that names the election.
    pub election: String,
    /// The leader; null while there is none.
    pub leader: Option<String>,
    /// The session that owns its znode.
    pub session: Option<SessionId>,
    /// Candidates in the queue.
    pub queue: u64,
}

impl Present {
    /// Reads the rows.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn of(state: &mut dyn DerivedState) -> Result<Present, JournalError> {
        let mut present = Present::default();
        // By the rest of the key, which rows of instances and of flaps have in common.
        let mut instances: BTreeMap<Vec<u8>, PresentInstance> = BTreeMap::new();
        for_each(state, &keys::all(b'f'), |state, key, row| {
            if serde_json::from_slice::<FlapRow>(row).is_ok_and(|row| row.is_held) {
                let found = flapping(key, state)?;
                instances.extend(found.map(|found| (key[1..].to_vec(), found)));
            }
            Ok(())
        })?;
        for_each(state, &keys::all(b'i'), |_, key, row| {
            if let Some(row) = InstanceRow::of_bytes(row) {
                let found = instance(keys::section_of(key), row);
                instances.extend(found.map(|found| (key[1..].to_vec(), found)));
            }
            Ok(())
        })?;
        present.instances.extend(instances.into_values());
        for_each(state, &keys::all(b'e'), |_, key, row| {
            if let Ok(row) = serde_json::from_slice::<ElectionRow>(row) {
                let election = keys::second_of(key);
                present
                    .leaders
                    .extend(leader(keys::section_of(key), election, row));
            }
            Ok(())
        })?;
        Ok(present)
    }
}

fn instance(section: String, row: InstanceRow) -> Option<PresentInstance> {
    let announced = row.announced.clone()?;
    Some(of_state(section, row, announced))
}

fn of_state(section: String, row: InstanceRow, announced: Announced) -> PresentInstance {
    let facts = announced.registration;
    PresentInstance {
        section,
        version: facts.version.or(row.service.version),
        service: row.service.name,
        group: row.service.group,
        instance: row.instance,
        status: facts.status,
        endpoints: facts.endpoints,
        zone: facts.zone,
        liveness: liveness(announced.owner),
        session: session(announced.owner),
        path: masked(&announced.path),
        since: announced.since,
        is_flapping: false,
        is_leaving: row.pending.is_some(),
        leaving_since: row.pending.map(|pending| pending.cause.time),
    }
}

/// An instance whose `up` waits, if it has a registration.
fn flapping(key: &[u8], state: &mut dyn DerivedState) -> Result<Option<PresentInstance>, JournalError> {
    let section = keys::section_of(key);
    let (service, instance) = keys::flapping_of(key);
    let speaking = Speaking::of(&section, &service, &instance, true, &mut Newest::default(), state)?;
    Ok(speaking.map(|speaking| {
        let row = InstanceRow {
            service,
            instance,
            renamed_from: None,
            home: speaking.home,
            announced: None,
            pending: None,
        };
        let announced = Announced {
            registration: speaking.registration,
            path: speaking.path,
            czxid: speaking.czxid,
            owner: speaking.owner,
            since: speaking.since,
        };
        PresentInstance {
            is_flapping: true,
            ..of_state(section, row, announced)
        }
    }))
}

/// Locks have no leader.
fn leader(section: String, election: String, row: ElectionRow) -> Option<PresentLeader> {
    let is_election = row.announced.is_some() || row.last.is_some();
    let owner = row
        .announced
        .as_ref()
        .map_or(SessionId::NONE, |leader| leader.owner);
    is_election.then(|| PresentLeader {
        section,
        election,
        leader: row.announced.map(|leader| leader.name),
        session: session(owner),
        queue: row.queue,
    })
}
