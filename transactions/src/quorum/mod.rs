//! The packets between a leader and a server that learns from it, on the quorum port.
//!
//! The stream has no frames: a packet is an `int` type, a `long` zxid, a buffer and a list of identities, one after the
//! other. Only what an observer receives is decoded, and only the five packets that it may send can be encoded: a vote,
//! an acknowledgement of a transaction or a request of a client cannot be written with [`LearnerPacket`].
//!
//! Invariants:
//!
//! * A length that a server announces costs no memory before its bytes arrive.
//! * Every limit is a constant of this module; a packet beyond one is an error, never cut.

mod snapshot_body;
mod stream;
#[cfg(test)]
mod tests;

use std::io::{self, Read};

use crate::transaction::epoch;

pub use snapshot_body::{SNAPSHOT_END, copy_snapshot};
pub use stream::PacketError;
use stream::{buffer, int, long, skip_identities};

/// The largest data of a packet. Transactions with thousands of parts exceed the 1 MiB of a client's request.
pub const PACKET_DATA_MAX: usize = 256 << 20;

/// The version of the protocol of leaders and learners, since ZooKeeper 3.4.
const PROTOCOL: i32 = 0x1_0000;

/// The largest id that is left to configured servers: theirs are those of `myid` files, which are small numbers.
const SERVER_ID_MAX: i64 = 1 << 32;

const PROPOSAL: i32 = 2;
const ACK: i32 = 3;
const COMMIT: i32 = 4;
const PING: i32 = 5;
const REVALIDATE: i32 = 6;
const SYNC: i32 = 7;
const INFORM: i32 = 8;
const COMMIT_AND_ACTIVATE: i32 = 9;
const NEW_LEADER: i32 = 10;
const UP_TO_DATE: i32 = 12;
const DIFF: i32 = 13;
const TRUNC: i32 = 14;
const SNAP: i32 = 15;
const OBSERVER_INFO: i32 = 16;
const LEADER_INFO: i32 = 17;
const ACK_EPOCH: i32 = 18;
const INFORM_AND_ACTIVATE: i32 = 19;

/// The id of an observer that no configuration of the ensemble names.
///
/// A leader counts the id of a voter in its quorums, whatever role its holder states, so no small number is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObserverId(i64);

impl ObserverId {
    /// The id; `None` if it is in the range of ids of configured servers.
    #[must_use]
    pub fn new(id: i64) -> Option<ObserverId> {
        (id > SERVER_ID_MAX).then_some(ObserverId(id))
    }

    /// An id from 64 bits of a hash: the same bits give the same id.
    #[must_use]
    pub fn from_hash(bits: u64) -> ObserverId {
        // The highest bit is the sign.
        let positive = i64::from_be_bytes((bits >> 1).to_be_bytes());
        ObserverId(positive | (SERVER_ID_MAX << 1))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// A packet of an observer. There are no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnerPacket {
    /// The first packet. It states no accepted epoch and no version of a configuration: a leader takes an accepted
    /// epoch into account even from an observer, and an ensemble would keep an invented one.
    ObserverInfo {
        /// The server that asks.
        id: ObserverId,
    },
    /// The answer to the leader's epoch. It states that no epoch is acknowledged, so that it never counts in a quorum.
    AckEpoch {
        /// The zxid of the last transaction that the observer has; 0 for none.
        position: i64,
    },
    /// Acknowledges [`LeaderPacket::NewLeader`].
    AckNewLeader {
        /// The zxid of that packet.
        zxid: i64,
    },
    /// Acknowledges [`LeaderPacket::UpToDate`].
    AckUpToDate {
        /// The leader's epoch.
        epoch: u32,
    },
    /// Answers a ping.
    Ping {
        /// The zxid of the ping.
        zxid: i64,
    },
}

impl LearnerPacket {
    /// The bytes of the packet.
    ///
    /// # Panics
    /// Never: each packet is short.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            LearnerPacket::ObserverInfo { id } => {
                let mut info = Vec::with_capacity(20);
                info.extend(id.0.to_be_bytes());
                info.extend(PROTOCOL.to_be_bytes());
                info.extend(0_i64.to_be_bytes());
                packet(OBSERVER_INFO, 0, Some(&info))
            }
            LearnerPacket::AckEpoch { position } => {
                packet(ACK_EPOCH, position, Some(&(-1_i32).to_be_bytes()))
            }
            LearnerPacket::AckNewLeader { zxid } => packet(ACK, zxid, None),
            LearnerPacket::AckUpToDate { epoch } => packet(ACK, i64::from(epoch) << 32, None),
            // Leaders read the data of a ping as a list of sessions; without any data they close the connection.
            LearnerPacket::Ping { zxid } => packet(PING, zxid, Some(&[])),
        }
    }
}

fn packet(kind: i32, zxid: i64, data: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + data.map_or(0, <[u8]>::len));
    bytes.extend(kind.to_be_bytes());
    bytes.extend(zxid.to_be_bytes());
    match data {
        None => bytes.extend((-1_i32).to_be_bytes()),
        Some(data) => {
            let length = i32::try_from(data.len()).expect("the packets of an observer are short");
            bytes.extend(length.to_be_bytes());
            bytes.extend(data);
        }
    }
    // No identities.
    bytes.extend((-1_i32).to_be_bytes());
    bytes
}

/// A packet of a leader, or of a follower that serves observers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderPacket {
    /// The epoch of the leader.
    LeaderInfo {
        /// The epoch.
        epoch: u32,
        /// The version of the protocol.
        protocol: i32,
    },
    /// The history after the observer's position follows.
    Diff {
        /// The last zxid of the history.
        zxid: i64,
    },
    /// The observer has more than the leader's history.
    Trunc {
        /// Up to which both agree, in the leader's opinion.
        zxid: i64,
    },
    /// The whole tree follows, as [`copy_snapshot`] reads it.
    Snap {
        /// The zxid from which on transactions follow.
        zxid: i64,
    },
    /// A transaction that may still fail. It counts only once it is committed.
    Proposal {
        /// Its zxid.
        zxid: i64,
        /// Header, body and digest.
        payload: Vec<u8>,
    },
    /// The first proposal that waits is committed.
    Commit {
        /// Its zxid.
        zxid: i64,
    },
    /// The first proposal that waits is committed, and is a new configuration.
    CommitAndActivate {
        /// Its zxid.
        zxid: i64,
    },
    /// A committed transaction.
    Inform {
        /// Its zxid.
        zxid: i64,
        /// Header, body and digest.
        payload: Vec<u8>,
    },
    /// A committed transaction that is a new configuration.
    InformAndActivate {
        /// Its zxid.
        zxid: i64,
        /// Header, body and digest.
        payload: Vec<u8>,
    },
    /// The end of the history up to now. It must be acknowledged.
    NewLeader {
        /// The first zxid of the leader's epoch.
        zxid: i64,
        /// The configuration of the ensemble as text; none before 3.5.
        config: Option<Vec<u8>>,
    },
    /// The observer is up to date.
    UpToDate,
    /// It must be answered.
    Ping {
        /// The last zxid that the leader proposed.
        zxid: i64,
    },
    /// The answer to a `sync`, which an observer of this kind never sends.
    Sync,
    /// The answer about a session, for which an observer of this kind never asks.
    Revalidate,
}

impl LeaderPacket {
    /// Reads one packet.
    ///
    /// # Errors
    /// If the stream ends or fails, or if the bytes are no packet that a leader sends to an observer.
    pub fn read(from: &mut impl Read) -> Result<LeaderPacket, PacketError> {
        let kind = int(from)?;
        if !is_known(kind) {
            return Err(unknown(kind));
        }
        let zxid = long(from)?;
        let data = buffer(from, PACKET_DATA_MAX, "the data of a packet")?;
        skip_identities(from)?;
        let payload = |data: Option<Vec<u8>>| {
            data.filter(|data| !data.is_empty()).ok_or_else(|| {
                PacketError::Malformed(format!(
                    "a packet of type {kind} and zxid 0x{zxid:x} without a transaction"
                ))
            })
        };
        Ok(match kind {
            PROPOSAL => LeaderPacket::Proposal {
                zxid,
                payload: payload(data)?,
            },
            COMMIT => LeaderPacket::Commit { zxid },
            PING => LeaderPacket::Ping { zxid },
            REVALIDATE => LeaderPacket::Revalidate,
            SYNC => LeaderPacket::Sync,
            INFORM => LeaderPacket::Inform {
                zxid,
                payload: payload(data)?,
            },
            COMMIT_AND_ACTIVATE => LeaderPacket::CommitAndActivate { zxid },
            NEW_LEADER => LeaderPacket::NewLeader { zxid, config: data },
            UP_TO_DATE => LeaderPacket::UpToDate,
            DIFF => LeaderPacket::Diff { zxid },
            TRUNC => LeaderPacket::Trunc { zxid },
            SNAP => LeaderPacket::Snap { zxid },
            LEADER_INFO => LeaderPacket::LeaderInfo {
                epoch: epoch(zxid),
                protocol: protocol_of(data.as_deref())?,
            },
            INFORM_AND_ACTIVATE => LeaderPacket::InformAndActivate {
                zxid,
                payload: without_leader(zxid, payload(data)?)?,
            },
            other => return Err(unknown(other)),
        })
    }
}

/// Whether a leader sends packets of this type to observers.
fn is_known(kind: i32) -> bool {
    matches!(kind, PROPOSAL | COMMIT..=NEW_LEADER | UP_TO_DATE..=SNAP | LEADER_INFO | INFORM_AND_ACTIVATE)
}

fn unknown(kind: i32) -> PacketError {
    PacketError::Malformed(format!(
        "a packet of type {kind}, which no leader sends to an observer"
    ))
}

/// The version in a LEADERINFO.
fn protocol_of(data: Option<&[u8]>) -> Result<i32, PacketError> {
    let bytes: Option<[u8; 4]> = data.and_then(|data| data.try_into().ok());
    bytes
        .map(i32::from_be_bytes)
        .ok_or_else(|| PacketError::Malformed("a LEADERINFO without a version of 4 bytes".to_owned()))
}

/// The data of INFORMANDACTIVATE begins with the id of the leader that the new configuration designates.
fn without_leader(zxid: i64, mut data: Vec<u8>) -> Result<Vec<u8>, PacketError> {
    const LEADER_ID: usize = 8;
    if data.len() <= LEADER_ID {
        return Err(PacketError::Malformed(format!(
            "INFORMANDACTIVATE 0x{zxid:x} without a transaction"
        )));
    }
    data.drain(..LEADER_ID);
    Ok(data)
}

/// Reads the next packet of quorum authentication: whether it is done, and the token.
///
/// # Errors
/// If the stream ends or fails, if the bytes are no such packet, or if it reports that the authentication failed.
pub fn read_auth_packet(from: &mut impl Read) -> Result<AuthPacket, PacketError> {
    let magic = long(from)?;
    if magic != AUTH_MAGIC {
        return Err(PacketError::Malformed(format!(
            "0x{magic:x} in place of the mark of an authentication packet"
        )));
    }
    let status = int(from)?;
    let token = buffer(from, AUTH_TOKEN_MAX, "the authentication")?.unwrap_or_default();
    match status {
        0 => Ok(AuthPacket::InProgress(token)),
        1 => Ok(AuthPacket::Success(token)),
        -1 => Ok(AuthPacket::Refused),
        other => Err(PacketError::Malformed(format!(
            "an authentication of status {other}"
        ))),
    }
}

/// The bytes of a packet that carries a token to the leader.
///
/// # Panics
/// If the token is 2 GiB or longer.
#[must_use]
pub fn auth_packet(token: &[u8]) -> Vec<u8> {
    let length = i32::try_from(token.len()).expect("a token is short");
    let mut bytes = Vec::with_capacity(16 + token.len());
    bytes.extend(AUTH_MAGIC.to_be_bytes());
    bytes.extend(0_i32.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(token);
    bytes
}

/// Marks a packet of quorum authentication.
const AUTH_MAGIC: i64 = 0x5f24_3501_3501_edcc;

/// No token of a mechanism is longer.
const AUTH_TOKEN_MAX: usize = 64 << 10;

/// An answer of a leader during authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthPacket {
    /// A challenge that must be answered.
    InProgress(Vec<u8>),
    /// The authentication is complete; the token proves the leader.
    Success(Vec<u8>),
    /// The credentials are refused.
    Refused,
}

/// The error of a stream that ended.
fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")
}
