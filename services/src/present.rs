//! The instances and leaders of now, from the rows of the machine.

use bridge_core::derive::DerivedState;
use bridge_core::journal::JournalError;
use bridge_core::number::SessionId;
use bridge_core::record::{Endpoint, InstanceStatus, Liveness, Timestamp};
use serde::Serialize;

use crate::announce::{liveness, session};
use crate::keys;
use crate::rows::{ElectionRow, InstanceRow, for_each};
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
    /// Its registration is gone, and `grace` holds the event back.
    pub is_leaving: bool,
    /// Since when it is gone, then; null otherwise.
    pub leaving_since: Option<Timestamp>,
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
        for_each(state, &keys::all(b'i'), |_, key, row| {
            if let Ok(row) = serde_json::from_slice::<InstanceRow>(row) {
                present.instances.extend(instance(keys::section_of(key), row));
            }
            Ok(())
        })?;
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
    let announced = row.announced?;
    let facts = announced.registration;
    Some(PresentInstance {
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
        is_leaving: row.pending.is_some(),
        leaving_since: row.pending.map(|pending| pending.cause.time.captured),
    })
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
