//! The service event, `zkbridge.service/1`: an instance, a service, a leader or a lock has changed.
//!
//! `docs/service-events.md` describes the fields for consumers; the JSON Schema in `schema/service.json` is generated
//! from these types and compared by a test.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::{IntoStaticStr, VariantArray};
use uuid::Uuid;

use super::{Fidelity, Times, Timestamp};
use crate::number::{Seq, SessionId, Zxid};

/// The name of this version of the contract.
pub const SERVICE_SCHEMA: &str = "zkbridge.service/1";

/// In the place of the sentence of an event whose facts were removed.
const FACTS_REMOVED: &str = "the facts were removed: values of this source were masked later";

/// The constant `zkbridge.service/1`; any other name fails to parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ServiceSchemaName {
    /// This version.
    #[default]
    #[serde(rename = "zkbridge.service/1")]
    V1,
}

/// The type of a service event. Later versions may add types.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
pub enum ServiceEventType {
    /// An instance registered.
    #[serde(rename = "instance.up")]
    #[strum(serialize = "instance.up")]
    InstanceUp,
    /// The last registration of an instance is gone.
    #[serde(rename = "instance.down")]
    #[strum(serialize = "instance.down")]
    InstanceDown,
    /// A registered instance has other facts than before.
    #[serde(rename = "instance.changed")]
    #[strum(serialize = "instance.changed")]
    InstanceChanged,
    /// A new process has taken the place of an instance, with the same facts. With a `reason` it is open whether the process
    /// is a new one.
    #[serde(rename = "instance.restarted")]
    #[strum(serialize = "instance.restarted")]
    InstanceRestarted,
    /// An instance was registered when the tree was first listed.
    #[serde(rename = "instance.listed")]
    #[strum(serialize = "instance.listed")]
    InstanceListed,
    /// An instance went several times within some minutes. Its next `instance.up` waits until it stays.
    #[serde(rename = "instance.flapping")]
    #[strum(serialize = "instance.flapping")]
    InstanceFlapping,
    /// Many instances went in one moment, or many services became unavailable: the sum of the events that name it as
    /// their `summary`. Only for sinks with `summaries`.
    #[serde(rename = "instances.down")]
    #[strum(serialize = "instances.down")]
    InstancesDown,
    /// The first instance of a service became available.
    #[serde(rename = "service.available")]
    #[strum(serialize = "service.available")]
    ServiceAvailable,
    /// No instance of a service is available any more.
    #[serde(rename = "service.unavailable")]
    #[strum(serialize = "service.unavailable")]
    ServiceUnavailable,
    /// An election without a leader has one.
    #[serde(rename = "leader.elected")]
    #[strum(serialize = "leader.elected")]
    LeaderElected,
    /// An election has another leader.
    #[serde(rename = "leader.changed")]
    #[strum(serialize = "leader.changed")]
    LeaderChanged,
    /// An election has no leader.
    #[serde(rename = "leader.lost")]
    #[strum(serialize = "leader.lost")]
    LeaderLost,
    /// A registration cannot be decoded. The last facts that could be read remain.
    #[serde(rename = "registration.unreadable")]
    #[strum(serialize = "registration.unreadable")]
    RegistrationUnreadable,
    /// A registration that could not be decoded can be read again. Other facts than the last ones have events of their own.
    #[serde(rename = "registration.readable")]
    #[strum(serialize = "registration.readable")]
    RegistrationReadable,
    /// A rule for the instances of a service was made, changed or removed. Only if asked for.
    #[serde(rename = "rule.changed")]
    #[strum(serialize = "rule.changed")]
    RuleChanged,
    /// A candidate joined or left the queue of an election. Only if asked for.
    #[serde(rename = "queue.changed")]
    #[strum(serialize = "queue.changed")]
    QueueChanged,
    /// A lock is held. Only if asked for.
    #[serde(rename = "lock.acquired")]
    #[strum(serialize = "lock.acquired")]
    LockAcquired,
    /// A lock was released. Only if asked for.
    #[serde(rename = "lock.released")]
    #[strum(serialize = "lock.released")]
    LockReleased,
}

impl ServiceEventType {
    /// Every type, in the order of the documentation.
    pub const ALL: &[ServiceEventType] = ServiceEventType::VARIANTS;

    /// The word in the event.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Whether an instance takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum InstanceStatus {
    /// It does.
    #[default]
    Up,
    /// Not yet.
    Starting,
    /// It finishes its work and takes no more.
    Draining,
    /// It is registered, and someone has switched it off.
    Disabled,
    /// It takes reads alone.
    ReadOnly,
    /// The registration has a status that its format does not define.
    Unknown,
}

impl InstanceStatus {
    /// The word in the event.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether its service counts it as available.
    pub fn is_available(self) -> bool {
        matches!(self, InstanceStatus::Up | InstanceStatus::ReadOnly)
    }
}

/// Why an instance or a leader is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DownCause {
    /// Its registration was deleted.
    Deregistered,
    /// The session of its registration ended.
    SessionEnded,
    /// ZooKeeper does not say.
    Unknown,
}

/// Whether a registration ends with the process that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// With its session.
    Session,
    /// It does not: present means registered and not alive.
    #[default]
    None,
}

/// An address of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// The name that the registration gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The host name or address.
    pub host: String,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A field of an instance that changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// `instance`, `status`, `endpoints`, `role`, `version`, `weight`, `zone`, or `metadata.` and a name.
    pub field: String,
    /// Before; null if it was absent.
    pub from: Value,
    /// After; null if it is absent.
    pub to: Value,
}

/// One service event.
///
/// The fields up to `text` are in every event, null where they do not apply. Those after it are in the events of their
/// type only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "zkbridge.service/1")]
pub struct ServiceEvent {
    /// `zkbridge.service/1`.
    pub schema: ServiceSchemaName,
    /// The type.
    #[serde(rename = "type")]
    pub kind: ServiceEventType,
    /// Names the event: the same at every delivery, restart and replay.
    pub id: Uuid,
    /// Position in the journal of its source, ascending.
    pub seq: Seq,
    /// Of the transaction that caused it, if it is known exactly.
    pub zxid: Option<Zxid>,
    /// The name of the source.
    pub cluster: String,
    /// The name of the `[[source.service]]` section.
    pub section: String,
    /// Its format.
    pub format: String,
    /// The service; of an election or a lock the name that it has for people.
    pub service: String,
    /// The group of the service, where it is part of its identity.
    pub group: Option<String>,
    /// The version of the service or of the instance.
    pub version: Option<String>,
    /// The identity of the instance, the same over restarts as far as the format has one.
    pub instance: Option<String>,
    /// The status of the instance.
    pub status: Option<InstanceStatus>,
    /// The status in the words of the registration.
    pub native_status: Option<String>,
    /// The role of the instance.
    pub role: Option<String>,
    /// The application that the instance belongs to.
    pub application: Option<String>,
    /// The addresses of the instance or the leader.
    pub endpoints: Vec<Endpoint>,
    /// The zone of the instance.
    pub zone: Option<String>,
    /// The weight of the instance.
    pub weight: Option<Value>,
    /// The other fields of the registration.
    pub metadata: BTreeMap<String, Value>,
    /// Whether the registration ends with a session.
    pub liveness: Option<Liveness>,
    /// The session that owns it.
    pub session: Option<SessionId>,
    /// The znode.
    pub path: String,
    /// The fields that changed.
    pub changes: Vec<FieldChange>,
    /// Why it is gone.
    pub cause: Option<DownCause>,
    /// Whether the change was seen, or found by comparing.
    pub fidelity: Fidelity,
    /// Writes of the znode that nobody could read; null where it cannot be known.
    pub missed: Option<u64>,
    /// When it happened and when it was captured.
    pub time: Times,
    /// A sentence for people.
    pub text: String,
    /// The `instances.down` that counts this event. In `instance.down` and `service.unavailable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Uuid>,
    /// How many instances of each service went. In `instances.down`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_service: BTreeMap<String, u64>,
    /// Services that became unavailable. In `instances.down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<u64>,
    /// How often the instance went within some minutes. In `instance.flapping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downs: Option<u64>,
    /// Available instances of the service, in `service.*`; those that went, in `instances.down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u64>,
    /// The path that names the election. In `leader.*` and `queue.changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election: Option<String>,
    /// The leader before. In `leader.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The leader. In `leader.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The sequence number of the leader's znode. In `leader.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// The number of candidates, the leader included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u64>,
    /// Milliseconds without a leader. In `leader.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vacant_ms: Option<i64>,
    /// `sequence_overflow` or `out_of_order`: the clients' order is not the order of the creates, so that two may lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<String>,
    /// In `queue.changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<String>,
    /// In `queue.changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// The path of the lock. In `lock.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// `write`, `read` or `lease`. In `lock.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The holder. In `lock.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// How many wait for the lock. In `lock.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// Milliseconds that the holder waited. In `lock.acquired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<i64>,
    /// Why it cannot be decoded, in `registration.unreadable`; why it is not known whether the process is another one, in
    /// `instance.restarted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl ServiceEvent {
    /// An event without any fact but its type.
    pub fn of_type(kind: ServiceEventType) -> ServiceEvent {
        ServiceEvent {
            schema: ServiceSchemaName::V1,
            kind,
            id: Uuid::nil(),
            seq: Seq::ZERO,
            zxid: None,
            cluster: String::new(),
            section: String::new(),
            format: String::new(),
            service: String::new(),
            group: None,
            version: None,
            instance: None,
            status: None,
            native_status: None,
            role: None,
            application: None,
            endpoints: Vec::new(),
            zone: None,
            weight: None,
            metadata: BTreeMap::new(),
            liveness: None,
            session: None,
            path: String::new(),
            changes: Vec::new(),
            cause: None,
            fidelity: Fidelity::Exact,
            missed: None,
            time: Times {
                changed: None,
                captured: Timestamp(0),
            },
            text: String::new(),
            summary: None,
            by_service: BTreeMap::new(),
            unavailable: None,
            downs: None,
            instances: None,
            election: None,
            previous: None,
            leader: None,
            sequence: None,
            queue: None,
            vacant_ms: None,
            anomaly: None,
            joined: None,
            left: None,
            lock: None,
            mode: None,
            holder: None,
            waiting: None,
            waited_ms: None,
            reason: None,
        }
    }

    /// The event without anything that was in the value of a znode.
    #[must_use]
    pub fn without_facts(&self) -> ServiceEvent {
        ServiceEvent {
            schema: self.schema,
            id: self.id,
            seq: self.seq,
            zxid: self.zxid,
            cluster: self.cluster.clone(),
            section: self.section.clone(),
            format: self.format.clone(),
            service: self.service.clone(),
            liveness: self.liveness,
            session: self.session,
            path: self.path.clone(),
            cause: self.cause,
            fidelity: self.fidelity,
            missed: self.missed,
            time: self.time,
            text: FACTS_REMOVED.to_owned(),
            summary: self.summary,
            by_service: self.by_service.clone(),
            unavailable: self.unavailable,
            downs: self.downs,
            instances: self.instances,
            election: self.election.clone(),
            queue: self.queue,
            lock: self.lock.clone(),
            ..ServiceEvent::of_type(self.kind)
        }
    }

    /// The event as it is delivered: one line of JSON without a line feed.
    ///
    /// # Panics
    ///
    /// Never: every event is valid JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has only text keys and finite numbers")
    }
}
