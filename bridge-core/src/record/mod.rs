//! The change record, version 1: what the outside world sees.
//!
//! The fields and what they promise are described for consumers in `docs/record.md`; the JSON Schema in
//! `schema/record.json` is generated from the types of this module and compared by a test. A record is written once,
//! by the capture, and changed only where a full journal compacts: otherwise a repeated delivery is equal as JSON.

mod data;
mod identity;
mod mask;
mod schema;
mod service_event;
mod stat;
mod time;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};
use uuid::Uuid;

pub(crate) use data::parsed_json;
pub use data::{Data, DataForm, DataValue};
pub use identity::{Identity, NAMESPACE, czxid_text};
pub use mask::{MaskKey, Masking};
pub use schema::{record_schema, record_schema_text, service_schema, service_schema_text};
pub use service_event::{
    DownCause, Endpoint, FieldChange, InstanceStatus, Liveness, SERVICE_SCHEMA, ServiceEvent,
    ServiceEventType, ServiceSchemaName,
};
pub use stat::Stat;
pub use time::{BadTimestamp, Timestamp};

use crate::number::{Epoch, Seq, SessionId, Zxid};
use crate::path::ZnodePath;

/// The name of this version of the contract.
pub const SCHEMA: &str = "zkbridge.change/1";

/// The most zxids in `superseded`, the newest ones; the rest are only counted in `missed`.
pub const SUPERSEDED_MAX: usize = 64;

/// The initial capacity for a record as JSON, enough for a small value. It saves four reallocations; a larger record
/// only grows further.
const JSON_GUESS: usize = 1_024;

/// One change of one znode, or a control record about the stream itself.
///
/// All fields are always written, null where they do not apply, except `acl`, `lifetime`, `gap`, `run` and `event`,
/// which are in their own records only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "zkbridge.change/1")]
pub struct Record {
    /// `zkbridge.change/1`.
    pub schema: SchemaName,
    /// Names the change: the same at every delivery, restart and replay.
    pub id: Uuid,
    /// Position in the journal of its source, from 1, ascending. A journal that compacts leaves positions out.
    pub seq: Seq,
    /// The name of the source.
    pub cluster: Arc<str>,
    /// The configured root that covers the path; null in heartbeats.
    pub root: Option<ZnodePath>,
    /// The znode; null in control records.
    pub path: Option<ZnodePath>,
    /// The operation.
    pub op: Op,
    /// Of the transaction; null when unknown and in control records except `snapshot_end`.
    pub zxid: Option<Zxid>,
    /// How far `zxid` can be trusted.
    pub zxid_kind: ZxidKind,
    /// Whether the change was seen or found by comparing.
    pub fidelity: Fidelity,
    /// Versions of this path that nobody could read since its last record; null where it cannot be known.
    pub missed: Option<u64>,
    /// The zxids of those versions, ascending, where known; at most 64, the newest.
    #[schemars(length(max = 64))]
    pub superseded: Vec<Zxid>,
    /// Of the znode that is, or for a delete was; null where this life was never read.
    pub ephemeral: Option<bool>,
    /// The last known state of this incarnation before the change.
    pub before: Option<State>,
    /// The state after the change; null for a delete.
    pub after: Option<State>,
    /// The transaction, from lossless sources only.
    pub txn: Option<Box<Txn>>,
    /// When it happened and when it was captured.
    pub time: Times,
    /// Where it was captured.
    pub source: Origin,
    /// The access control list where the source reads lists: in `acl` records, and in `create` and `snapshot` records
    /// with `acls = "all"` or from sources that read transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<Vec<Acl>>,
    /// In `create` and `snapshot` records of sources that read transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// In `gap_begin` and `gap_end`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// In `snapshot`, `snapshot_begin` and `snapshot_end`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// In `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Arc<ServiceEvent>>,
}

/// The constant `zkbridge.change/1`; any other name fails to parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum SchemaName {
    /// This version.
    #[default]
    #[serde(rename = "zkbridge.change/1")]
    V1,
}

/// The operation.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Op {
    /// A znode was created.
    Create,
    /// Its data was written.
    Update,
    /// It was deleted.
    Delete,
    /// Its access control list was changed.
    Acl,
    /// It existed when a snapshot listed it.
    Snapshot,
    /// A listing of a root begins.
    SnapshotBegin,
    /// The listing is complete.
    SnapshotEnd,
    /// From here changes may have been missed.
    GapBegin,
    /// The changes that were missed have been found by comparing, as far as they can be known.
    GapEnd,
    /// Nothing else was journalled for a while.
    Heartbeat,
    /// A service event, derived from changes. Only in the journal and for sinks that deliver service events.
    Service,
}

impl Op {
    /// Every op, in the order of the contract.
    pub const ALL: &[Op] = Op::VARIANTS;

    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the record is about the stream and not about a znode.
    pub fn is_control(self) -> bool {
        !matches!(
            self,
            Op::Create | Op::Update | Op::Delete | Op::Acl | Op::Snapshot
        )
    }
}

/// How far a record's zxid can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZxidKind {
    /// The transaction's own.
    Exact,
    /// It happened at or before this one.
    UpperBound,
    /// There is none.
    Unknown,
}

/// Whether a change was seen or found by comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fidelity {
    /// Seen as it happened.
    Exact,
    /// Found by comparing or listing.
    Reconciled,
}

/// A znode's state: null parts were never read or are switched off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// Its data.
    pub data: Option<Data>,
    /// Its Stat.
    pub stat: Option<Stat>,
}

/// The transaction that made the change, from lossless sources only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Txn {
    /// The session that wrote.
    pub session: SessionId,
    /// Its own number of the request.
    pub cxid: i32,
    /// Position among all operations of the transaction, from 0.
    pub index: u32,
    /// All operations of the transaction, also those without a record.
    pub count: u32,
    /// The type of the transaction.
    #[serde(rename = "type")]
    pub kind: TxnKind,
    /// The leader's clock, in milliseconds since 1970.
    pub time: i64,
    /// The side that ended the session, for `closeSession`; null otherwise.
    pub ended_by: Option<SessionEnd>,
    /// `address:port` of the session, where the source knew it.
    pub client: Option<Arc<str>>,
    /// The user, from an audit log.
    pub user: Option<Arc<str>>,
    /// Records of this transaction that follow in the journal; 0 in the last.
    pub rest: u32,
}

/// The type of a transaction. Later versions may add values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TxnKind {
    /// A create.
    Create,
    /// A create of a container.
    CreateContainer,
    /// A create of a znode with a time to live.
    #[serde(rename = "createTTL")]
    CreateTtl,
    /// A write of data.
    SetData,
    /// A write of the access control list.
    #[serde(rename = "setACL")]
    SetAcl,
    /// A delete.
    Delete,
    /// The removal of an empty container.
    DeleteContainer,
    /// The end of a session, which deletes its ephemeral znodes.
    CloseSession,
    /// Several operations at once.
    Multi,
}

/// The side that ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionEnd {
    /// The client closed it.
    Client,
    /// It expired or was killed.
    Server,
}

/// When a change happened and when it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Times {
    /// ZooKeeper's time; null if it is not known.
    pub changed: Option<Timestamp>,
    /// Ours.
    pub captured: Timestamp,
}

/// Where a record was captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// How.
    pub mode: Mode,
    /// The server's version, if it is known.
    pub server: Option<Arc<str>>,
}

/// How a source captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By persistent recursive watches.
    Watch,
    /// As a non-voting member of the ensemble.
    Observer,
    /// From a server's transaction log.
    Txnlog,
}

/// One entry of an access control list; ids of scheme `digest` are masked unless asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acl {
    /// `world`, `auth`, `digest`, `ip`, `x509`, `sasl`, …
    pub scheme: String,
    /// The user or host of the entry.
    pub id: String,
    /// Letters of `cdrwa`.
    pub perms: String,
}

/// How long a znode lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lifetime {
    /// The kind of the znode.
    pub kind: LifetimeKind,
    /// The time to live in milliseconds, for `ttl`; null otherwise.
    pub ttl: Option<i64>,
}

impl Lifetime {
    /// Until it is deleted.
    pub const PERSISTENT: Lifetime = Lifetime {
        kind: LifetimeKind::Persistent,
        ttl: None,
    };

    /// Until the end of its session.
    pub const EPHEMERAL: Lifetime = Lifetime {
        kind: LifetimeKind::Ephemeral,
        ttl: None,
    };
}

/// The kinds of znodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LifetimeKind {
    /// Until it is deleted.
    Persistent,
    /// Until the end of its session.
    Ephemeral,
    /// Until its last child is deleted.
    Container,
    /// Until it had no change and no child for its time to live.
    Ttl,
}

/// A stretch in which changes may have been missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The watch epoch.
    pub epoch: Epoch,
    /// Everything up to it was reported before.
    pub from_zxid: Zxid,
    /// Every change up to it is reported before `gap_end`; null in `gap_begin`.
    pub to_zxid: Option<Zxid>,
    /// Why.
    pub reason: GapReason,
    /// In `gap_begin`: the last moment, by the bridge's clock, at which capture is known to have been live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// In `gap_end`: the reconciled records since the last `gap_begin` of the root, `acl` not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differences: Option<u64>,
}

/// Why there is a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum GapReason {
    /// The bridge was not running.
    Started,
    /// The connection was lost, the session lived on.
    Disconnected,
    /// The session ended.
    Expired,
    /// More changes arrived than the bridge may hold in memory.
    Overflow,
    /// The watch had stopped without an error.
    Liveness,
    /// An operator accepted an older or other state as the new baseline.
    Rebaselined,
    /// Znodes that could not be read are readable now.
    Permission,
    /// The history that the servers sent cannot be proved: a transaction is missing, or it contradicts the journal.
    Unproved,
    /// `capture` was changed.
    Mode,
    /// The root is no longer watched. No `gap_end` follows; a listing does if it is watched again.
    Unwatched,
}

impl GapReason {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Of two reasons to compare the later one, except after one whose begin nobody knows: the gap begins there.
    pub(crate) fn last_of(earlier: Option<GapReason>, later: Option<GapReason>) -> Option<GapReason> {
        match earlier {
            Some(reason) if !reason.begins_where_live_ended() => earlier,
            _ => later.or(earlier),
        }
    }

    /// Whether the gap begins where capture was live last. A watch that is lost without an error was lost before it seemed
    /// to be live for the last time, and so were znodes that could not be read.
    pub(crate) fn begins_where_live_ended(self) -> bool {
        match self {
            GapReason::Started
            | GapReason::Disconnected
            | GapReason::Expired
            | GapReason::Overflow
            | GapReason::Mode
            | GapReason::Unwatched => true,
            GapReason::Liveness | GapReason::Rebaselined | GapReason::Permission | GapReason::Unproved => {
                false
            }
        }
    }

    /// The words for people.
    pub fn phrase(self) -> &'static str {
        match self {
            GapReason::Started => "the bridge was not running",
            GapReason::Disconnected => "the connection was lost",
            GapReason::Expired => "the session expired",
            GapReason::Overflow => "more changes came than the bridge may hold",
            GapReason::Liveness => "the watch had stopped without an error",
            GapReason::Rebaselined => "an operator accepted another state",
            GapReason::Permission => "znodes became readable",
            GapReason::Unproved => "the history could not be proved",
            GapReason::Mode => "the mode of capture was changed",
            GapReason::Unwatched => "the root is no longer watched",
        }
    }
}

/// The listing that a snapshot record belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Names the run.
    pub id: Uuid,
    /// From 1 (begin: 0, end: the last).
    pub index: u64,
    /// In `snapshot_end`: znodes listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
    /// In `snapshot_end`: znodes that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<u64>,
}

impl Record {
    /// How many bytes the znode holds after the change, where the record has only the first of them.
    pub fn size_if_truncated(&self) -> Option<u32> {
        let data = self.after.as_ref()?.data.as_ref()?;
        data.truncated.then_some(data.size)
    }

    /// The record as it is delivered: one line of JSON without a line feed.
    ///
    /// # Panics
    ///
    /// Never: every record is valid JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(JSON_GUESS);
        serde_json::to_writer(&mut json, self).expect("a record has only text keys and finite numbers");
        json
    }
}

#[cfg(test)]
mod tests;
