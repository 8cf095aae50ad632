//! The two states that a plan is made of: the subtree as it was, and as it is now.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, Stat};
use bridge_query::{AsOfValue, Doubt};
use sha2::{Digest, Sha256};

/// SHA-256 of the whole data of a znode.
pub type ValueDigest = [u8; 32];

/// A znode as it was at the moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ZnodeAsOf {
    /// Whether it existed, and its content.
    pub existence: Existence,
    /// Everything that is open about it.
    pub doubts: Vec<Doubt>,
}

/// Whether a znode existed then, and its content.
#[derive(Clone, Debug, PartialEq)]
pub enum Existence {
    /// It did not exist.
    Absent,
    /// Perhaps it existed, and nothing is known of its content.
    Unknown,
    /// It ended with its session: nobody can put it back.
    Ephemeral,
    /// It existed until it was deleted.
    Persistent {
        /// Its version, if that is known.
        version: Option<DataVersion>,
        /// Its data.
        data: DataAsOf,
    },
}

/// Names one version of the data of one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataVersion {
    /// The transaction of the create.
    pub czxid: Zxid,
    /// The transaction of the last write.
    pub mzxid: Zxid,
}

/// The data of a znode then, as far as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataAsOf {
    /// All of it.
    Whole(Arc<[u8]>),
    /// Its beginning; the digest is of all of it.
    Cut(Option<ValueDigest>),
    /// A digest in its place.
    Masked,
    /// Nothing.
    Unread,
}

impl ZnodeAsOf {
    /// A path that the journal does not know.
    pub fn unknown() -> ZnodeAsOf {
        ZnodeAsOf {
            existence: Existence::Absent,
            doubts: Vec::new(),
        }
    }
}

impl From<AsOfValue> for ZnodeAsOf {
    fn from(value: AsOfValue) -> ZnodeAsOf {
        let is_known = value.data.is_some() || value.stat.is_some();
        let existence = match value.stat {
            _ if value.is_presumed_absent() => Existence::Absent,
            _ if value.exists.is_none() && !is_known => Existence::Unknown,
            Some(stat) if stat.is_ephemeral() => Existence::Ephemeral,
            stat => Existence::Persistent {
                version: stat.map(|stat| DataVersion {
                    czxid: stat.czxid,
                    mzxid: stat.mzxid,
                }),
                data: DataAsOf::of(value.data.as_ref()),
            },
        };
        ZnodeAsOf {
            existence,
            doubts: value.doubts,
        }
    }
}

impl DataAsOf {
    fn of(data: Option<&Data>) -> DataAsOf {
        match data {
            None => DataAsOf::Unread,
            Some(data) if data.is_masked() => DataAsOf::Masked,
            Some(data) if data.truncated => DataAsOf::Cut(data.digest),
            Some(data) => DataAsOf::Whole(Arc::clone(&data.bytes)),
        }
    }

    /// Whether it is certainly the data with this digest.
    pub fn is_data_of(&self, digest: &ValueDigest) -> bool {
        match self {
            DataAsOf::Whole(bytes) => digest_of(bytes) == *digest,
            DataAsOf::Cut(whole) => whole.as_ref() == Some(digest),
            DataAsOf::Masked | DataAsOf::Unread => false,
        }
    }
}

impl LiveState {
    /// The state that a Stat and the data show. `is_created_later`: its incarnation was certainly created after the
    /// moment.
    pub fn new(stat: &Stat, data: &[u8], is_created_later: bool) -> LiveState {
        LiveState {
            data_version: DataVersion {
                czxid: stat.czxid,
                mzxid: stat.mzxid,
            },
            version: stat.version,
            // Servers count creates, and show twice that number less the children that exist.
            children_created: (i64::from(stat.cversion) + i64::from(stat.num_children)) / 2,
            is_ephemeral: stat.is_ephemeral(),
            is_created_later,
            digest: digest_of(data),
        }
    }
}

/// SHA-256 of data.
pub fn digest_of(data: &[u8]) -> ValueDigest {
    Sha256::digest(data).into()
}

/// A znode as it is now, or a path that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveZnode {
    /// It exists.
    Found(LiveState),
    /// It may not be read.
    Denied,
    /// The source does not capture it: nothing is known of it and of everything below it.
    NotCaptured,
}

/// The state of a znode that exists now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveState {
    /// Its version.
    pub data_version: DataVersion,
    /// The number of writes of its data, which a write or a delete has to name.
    pub version: i32,
    /// Children that were created so far: the number in the name of the next sequential one.
    pub children_created: i64,
    /// Whether it ends with its session.
    pub is_ephemeral: bool,
    /// Whether its incarnation was certainly created after the moment.
    pub is_created_later: bool,
    /// Of its data.
    pub digest: ValueDigest,
}

/// A subtree as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveTree(pub BTreeMap<ZnodePath, LiveZnode>);

impl LiveTree {
    /// A znode that exists and can be read.
    pub fn found(&self, path: &ZnodePath) -> Option<&LiveState> {
        match self.0.get(path) {
            Some(LiveZnode::Found(state)) => Some(state),
            _ => None,
        }
    }
}
