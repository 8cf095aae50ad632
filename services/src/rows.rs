//! The rows of the machine, and how it reads and writes them.

use std::sync::Arc;

use bridge_core::derive::{DerivedState, ObservedChange};
use bridge_core::journal::JournalError;
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{DownCause, Endpoint, Fidelity, Op, Times, Timestamp, TxnKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::decode::{Candidate, Leader, Mode, Rule};
use crate::keys::Key;
use crate::registration::{Registration, ServiceKey};

/// Rows that one look takes.
pub(crate) const PAGE: usize = 256;

/// A znode and its meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeRow {
    pub(crate) czxid: Zxid,
    pub(crate) owner: SessionId,
    /// When it was created, as far as the bridge saw.
    pub(crate) since: Timestamp,
    /// Absent where its bytes were never read or decoded.
    pub(crate) meaning: Option<Meaning>,
    /// Its present bytes cannot be decoded.
    pub(crate) is_unreadable: bool,
    /// Nobody has read it, so that its owner is not known.
    #[serde(default)]
    pub(crate) is_unread: bool,
}

/// The meaning of a znode that has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Meaning {
    Live {
        service: ServiceKey,
        instance: String,
        home: String,
        registration: Registration,
    },
    Beside {
        service: ServiceKey,
        instance: String,
        registration: Registration,
    },
    Rule {
        service: String,
        rule: Rule,
    },
    Leader {
        election: String,
        service: String,
        leader: Leader,
    },
    Candidate {
        election: String,
        service: String,
        candidate: Candidate,
    },
}

/// An instance, as it was announced last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InstanceRow {
    pub(crate) service: ServiceKey,
    pub(crate) instance: String,
    /// The identity of its last event, if its registration has taken another one since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) renamed_from: Option<String>,
    pub(crate) home: String,
    pub(crate) announced: Option<Announced>,
    /// It is gone, and that is held back.
    pub(crate) pending: Option<Pending>,
}

/// The state of an instance in its last event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Announced {
    pub(crate) registration: Registration,
    pub(crate) path: String,
    pub(crate) czxid: Zxid,
    pub(crate) owner: SessionId,
    pub(crate) since: Timestamp,
}

/// An event that is held back until its deadline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Milliseconds since 1970.
    pub(crate) due: i64,
    pub(crate) cause: Cause,
    pub(crate) down: DownCause,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct ServiceRow {
    pub(crate) home: String,
    /// Instances that were announced as available.
    pub(crate) available: u64,
    /// Whether the last event of the service, or the first listing, left it available.
    pub(crate) is_available: bool,
}

/// An election or a lock.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ElectionRow {
    pub(crate) service: String,
    /// The znode that names the leader, where there is one.
    pub(crate) leader_path: Option<String>,
    /// Candidates that exist.
    pub(crate) queue: u64,
    pub(crate) announced: Option<AnnouncedLeader>,
    pub(crate) pending: Option<Pending>,
    /// Since when there is no leader.
    pub(crate) vacant_since: Option<Timestamp>,
    /// The leader before the vacancy.
    pub(crate) last: Option<String>,
    /// The holders that were announced, of a lock.
    pub(crate) holders: Vec<Holder>,
}

/// A leader in its last event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AnnouncedLeader {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) czxid: Zxid,
    pub(crate) owner: SessionId,
    pub(crate) sequence: Option<i64>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A holder of a lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) path: String,
    pub(crate) czxid: Zxid,
    pub(crate) owner: SessionId,
    pub(crate) name: String,
    pub(crate) mode: Mode,
}

/// A candidate in the order of its queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueuedRow {
    pub(crate) path: String,
    pub(crate) czxid: Zxid,
    pub(crate) owner: SessionId,
    pub(crate) since: Timestamp,
    pub(crate) candidate: Candidate,
}

/// The change that causes an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cause {
    pub(crate) id: Uuid,
    pub(crate) root: Option<ZnodePath>,
    pub(crate) path: Arc<str>,
    pub(crate) op: Op,
    pub(crate) zxid: Option<Zxid>,
    pub(crate) owner: SessionId,
    pub(crate) fidelity: Fidelity,
    pub(crate) missed: Option<u64>,
    pub(crate) time: Times,
    pub(crate) txn: Option<TxnKind>,
    /// The delete of a znode that nobody has read: it may have had an owner.
    #[serde(default)]
    pub(crate) is_unread: bool,
}

impl Cause {
    /// The cause that a change is.
    pub(crate) fn of(change: &ObservedChange<'_>) -> Cause {
        // A create that was written in its own transaction has missed nothing that anyone could see.
        let is_one_transaction = change.op == Op::Create && change.zxid == Some(change.czxid);
        Cause {
            id: change.id,
            root: change.root.cloned(),
            path: change.path.as_str().into(),
            op: change.op,
            zxid: change.zxid.filter(|_| change.is_exact),
            owner: change.owner,
            fidelity: change.fidelity,
            missed: change
                .missed
                .map(|missed| if is_one_transaction { 0 } else { missed }),
            time: Times {
                changed: change.changed,
                captured: change.captured,
            },
            txn: change.txn,
            is_unread: false,
        }
    }
}

/// The root whose gaps and deadlines a change belongs to; empty for none.
pub(crate) fn root_of(cause: &Cause) -> &str {
    cause.root.as_ref().map_or("", ZnodePath::as_str)
}

/// A row: its form in the journal is JSON, or a compact one ([`crate::code`]).
pub(crate) trait Row: Serialize + DeserializeOwned {
    /// The bytes of the row.
    fn to_bytes(&self) -> Vec<u8> {
        json(self)
    }

    /// The row of these bytes; `None` if they are those of none.
    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl Row for u64 {}
impl Row for ElectionRow {}
impl Row for QueuedRow {}
impl Row for Registration {}
impl Row for Rule {}

pub(crate) fn json<T: Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows have only text keys and finite numbers")
}

/// Reads a row. One of another form is as good as none: the section is filled anew when its options change.
pub(crate) fn get<T: Row>(state: &mut dyn DerivedState, key: &Key) -> Result<Option<T>, JournalError> {
    Ok(state.get(key.bytes())?.and_then(|row| T::of_bytes(&row)))
}

/// Writes a row.
pub(crate) fn put<T: Row>(state: &mut dyn DerivedState, key: &Key, row: &T) -> Result<(), JournalError> {
    state.put(key.bytes(), Some(&row.to_bytes()))
}

/// Removes a row.
pub(crate) fn remove(state: &mut dyn DerivedState, key: &Key) -> Result<(), JournalError> {
    state.put(key.bytes(), None)
}

/// Calls a function with each row below a prefix, page by page. The function may change rows.
pub(crate) fn for_each(
    state: &mut dyn DerivedState,
    prefix: &Key,
    mut each: impl FnMut(&mut dyn DerivedState, &[u8], &[u8]) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = state.scan(prefix.bytes(), after.as_deref(), PAGE)?;
        for (key, row) in &page {
            each(state, key, row)?;
        }
        match page.len() < PAGE {
            true => return Ok(()),
            false => after = page.into_iter().last().map(|(key, _)| key),
        }
    }
}
