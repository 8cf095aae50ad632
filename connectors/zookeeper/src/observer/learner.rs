//! The protocol of an observer: takes the packets of a leader, and returns the answer and the event of each.
//!
//! It waits for nothing and owns no socket.
//!
//! Invariants:
//!
//! * A transaction is an event only once it is committed: a proposal alone never is.
//! * A packet is answered in its place in the stream and only there, so that an observer that does not read on does not
//!   answer pings either. No ping is answered before NEWLEADER: the leader expects an acknowledgement first.
//! * An observer that has the id of a server in the ensemble ends the connection before it acknowledges anything.

use std::collections::VecDeque;

use bridge_transactions::quorum::{LeaderPacket, LearnerPacket, ObserverId};
use bridge_transactions::transaction::epoch as epoch_of;

use super::members::{CONFIG_BYTES_MAX, Member, has_id, members};

/// The least version of the protocol, since ZooKeeper 3.4.
const PROTOCOL_MIN: i32 = 0x1_0000;

/// Proposals that wait for their commits. A leader sends both one after the other; this is room for the largest ones.
const PENDING_BYTES_MAX: usize = 512 << 20;

/// Where a transaction has its zxid, after session (8 bytes) and cxid (4), and its type.
const ZXID_AT: usize = 12;
const TYPE_AT: usize = 28;
/// The shortest transaction: a header alone.
const HEADER: usize = 32;
/// The type of a transaction that is a new configuration.
const RECONFIG: i32 = 16;

/// The reaction to a packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reaction {
    /// For the leader, at once.
    pub(super) answer: Option<LearnerPacket>,
    /// For the bridge.
    pub(super) event: Option<LearnerEvent>,
}

/// An event of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LearnerEvent {
    /// A leader of this epoch expects the position of the observer: see [`Learner::resume`].
    Led {
        /// The epoch.
        epoch: u32,
    },
    /// How the leader brings the observer up to date. After [`Synchronised::Snap`] the tree follows in the stream.
    Synchronised(Synchronised),
    /// A committed transaction.
    Committed(CommittedPayload),
    /// The servers of the ensemble.
    Members(Vec<Member>),
    /// Everything that was committed before the connection has arrived.
    UpToDate,
}

/// A committed transaction in its encoded form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommittedPayload {
    /// Its zxid.
    pub(super) zxid: i64,
    /// Header, body and digest.
    pub(super) bytes: Vec<u8>,
}

impl CommittedPayload {
    /// Whether it is a new configuration of the ensemble.
    pub(super) fn is_reconfiguration(&self) -> bool {
        int_at(&self.bytes, TYPE_AT) == Some(RECONFIG)
    }
}

/// How a leader brings an observer up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synchronised {
    /// With the history after its position, up to here.
    Diff {
        /// The last zxid.
        zxid: i64,
    },
    /// With a request to forget what is after this.
    Trunc {
        /// The zxid.
        zxid: i64,
    },
    /// With the whole tree.
    Snap {
        /// Transactions after this follow.
        zxid: i64,
    },
}

/// Why a leader cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LearnerFault {
    /// A packet that is out of place.
    #[error("the leader sent {packet} while {phase} was expected")]
    OutOfPlace { packet: String, phase: &'static str },
    /// The protocol is older than 3.4.
    #[error("the leader speaks version 0x{0:x} of the protocol, and ZooKeeper 3.4 and newer speak 0x10000")]
    TooOld(i32),
    /// A leader of an epoch that is over.
    #[error(
        "the leader is of epoch {leader}, and epoch {known} was seen already: it is no longer the leader"
    )]
    Deposed { leader: u32, known: u32 },
    /// The epoch changed within a connection.
    #[error("the leader began with epoch {began} and sends NEWLEADER of epoch {now}")]
    OtherEpoch { began: u32, now: u32 },
    /// A commit that does not belong to the first proposal.
    #[error("the leader committed 0x{committed:x}, and the first proposal that waits is {}", first_words(*.first))]
    CommitOutOfOrder { committed: i64, first: Option<i64> },
    /// A packet whose zxid is not the one of its transaction.
    #[error("a packet of zxid 0x{packet:x} has a transaction of {} bytes with another zxid", .bytes)]
    OtherZxid { packet: i64, bytes: usize },
    /// Too many proposals without commits.
    #[error("the leader sent proposals of {0} bytes without commits, and the limit is {PENDING_BYTES_MAX}")]
    TooManyProposals(usize),
    /// A configuration that no ensemble has.
    #[error(
        "the configuration of the ensemble has {0} bytes, and the limit is {CONFIG_BYTES_MAX}; see what is written to \
         /zookeeper/config"
    )]
    ConfigTooLarge(usize),
    /// A server of the ensemble has the observer's id.
    #[error("a server of the ensemble has the id {}, which is the one of this observer", .0.get())]
    IdTaken(ObserverId),
}

fn first_words(first: Option<i64>) -> String {
    first.map_or_else(|| "none".to_owned(), |zxid| format!("0x{zxid:x}"))
}

/// The stage of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitsEpoch,
    AwaitsPosition,
    AwaitsAnswer,
    Synchronising,
    Acknowledged,
    Following,
}

impl Phase {
    fn expected(self) -> &'static str {
        match self {
            Phase::AwaitsEpoch => "LEADERINFO",
            Phase::AwaitsPosition => "nothing",
            Phase::AwaitsAnswer => "DIFF, TRUNC or SNAP",
            Phase::Synchronising => "a transaction or NEWLEADER",
            Phase::Acknowledged => "a transaction or UPTODATE",
            Phase::Following => "a transaction",
        }
    }
}

/// The observer's side of one connection.
#[derive(Debug)]
pub(super) struct Learner {
    id: ObserverId,
    phase: Phase,
    epoch: u32,
    /// Proposals that wait for their commits, in order.
    pending: VecDeque<CommittedPayload>,
    pending_bytes: usize,
}

impl Learner {
    /// A connection that has sent nothing, and its first packet.
    pub(super) fn new(id: ObserverId) -> (Learner, LearnerPacket) {
        let learner = Learner {
            id,
            phase: Phase::AwaitsEpoch,
            epoch: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
        };
        (learner, LearnerPacket::ObserverInfo { id })
    }

    /// Whether the leader has stated that the observer is up to date.
    pub(super) fn is_following(&self) -> bool {
        self.phase == Phase::Following
    }

    /// Answers [`LearnerEvent::Led`] with the last transaction that the bridge has; 0 for none.
    pub(super) fn resume(&mut self, position: i64) -> Result<LearnerPacket, LearnerFault> {
        assert_eq!(self.phase, Phase::AwaitsPosition, "a position is stated once");
        let known = epoch_of(position);
        if known > self.epoch {
            return Err(LearnerFault::Deposed {
                leader: self.epoch,
                known,
            });
        }
        self.phase = Phase::AwaitsAnswer;
        Ok(LearnerPacket::AckEpoch { position })
    }

    /// Takes the next packet of the leader.
    pub(super) fn take(&mut self, packet: LeaderPacket) -> Result<Reaction, LearnerFault> {
        match (self.phase, packet) {
            (Phase::AwaitsEpoch, LeaderPacket::LeaderInfo { epoch, protocol }) => self.led(epoch, protocol),
            (Phase::AwaitsAnswer, LeaderPacket::Diff { zxid }) => {
                Ok(self.answered(Synchronised::Diff { zxid }))
            }
            (Phase::AwaitsAnswer, LeaderPacket::Trunc { zxid }) => {
                Ok(self.answered(Synchronised::Trunc { zxid }))
            }
            (Phase::AwaitsAnswer, LeaderPacket::Snap { zxid }) => {
                Ok(self.answered(Synchronised::Snap { zxid }))
            }
            (Phase::AwaitsEpoch | Phase::AwaitsPosition | Phase::AwaitsAnswer, other) => {
                Err(self.out_of_place(&other))
            }
            (_, LeaderPacket::Proposal { zxid, payload }) => self.proposed(zxid, payload),
            (_, LeaderPacket::Commit { zxid } | LeaderPacket::CommitAndActivate { zxid }) => {
                self.committed(zxid)
            }
            (
                _,
                LeaderPacket::Inform { zxid, payload } | LeaderPacket::InformAndActivate { zxid, payload },
            ) => self.informed(zxid, payload),
            (Phase::Synchronising, LeaderPacket::NewLeader { zxid, config }) => {
                self.new_leader(zxid, config.as_deref())
            }
            (Phase::Acknowledged, LeaderPacket::UpToDate) => Ok(self.up_to_date()),
            (Phase::Synchronising, LeaderPacket::Ping { .. }) => Ok(Reaction::default()),
            (_, LeaderPacket::Ping { zxid }) => Ok(Reaction {
                answer: Some(LearnerPacket::Ping { zxid }),
                event: None,
            }),
            (_, LeaderPacket::Sync | LeaderPacket::Revalidate) => Ok(Reaction::default()),
            (_, other) => Err(self.out_of_place(&other)),
        }
    }

    /// Takes the configuration of the ensemble, which may come with any transaction.
    pub(super) fn configured(&self, config: &[u8]) -> Result<Vec<Member>, LearnerFault> {
        if config.len() > CONFIG_BYTES_MAX {
            return Err(LearnerFault::ConfigTooLarge(config.len()));
        }
        match has_id(config, self.id) {
            true => Err(LearnerFault::IdTaken(self.id)),
            false => Ok(members(config)),
        }
    }

    fn led(&mut self, epoch: u32, protocol: i32) -> Result<Reaction, LearnerFault> {
        if protocol < PROTOCOL_MIN {
            return Err(LearnerFault::TooOld(protocol));
        }
        self.epoch = epoch;
        self.phase = Phase::AwaitsPosition;
        Ok(event(LearnerEvent::Led { epoch }))
    }

    fn answered(&mut self, answer: Synchronised) -> Reaction {
        self.phase = Phase::Synchronising;
        event(LearnerEvent::Synchronised(answer))
    }

    fn new_leader(&mut self, zxid: i64, config: Option<&[u8]>) -> Result<Reaction, LearnerFault> {
        let now = epoch_of(zxid);
        if now != self.epoch {
            return Err(LearnerFault::OtherEpoch {
                began: self.epoch,
                now,
            });
        }
        let members = config.map(|config| self.configured(config)).transpose()?;
        self.phase = Phase::Acknowledged;
        Ok(Reaction {
            answer: Some(LearnerPacket::AckNewLeader { zxid }),
            event: members.map(LearnerEvent::Members),
        })
    }

    fn up_to_date(&mut self) -> Reaction {
        self.phase = Phase::Following;
        Reaction {
            answer: Some(LearnerPacket::AckUpToDate { epoch: self.epoch }),
            event: Some(LearnerEvent::UpToDate),
        }
    }

    fn proposed(&mut self, zxid: i64, payload: Vec<u8>) -> Result<Reaction, LearnerFault> {
        check_zxid(zxid, &payload)?;
        self.pending_bytes += payload.len();
        self.pending.push_back(CommittedPayload { zxid, bytes: payload });
        if self.pending_bytes > PENDING_BYTES_MAX {
            return Err(LearnerFault::TooManyProposals(self.pending_bytes));
        }
        Ok(Reaction::default())
    }

    fn committed(&mut self, zxid: i64) -> Result<Reaction, LearnerFault> {
        let first = self.pending.front().map(|first| first.zxid);
        if first != Some(zxid) {
            return Err(LearnerFault::CommitOutOfOrder {
                committed: zxid,
                first,
            });
        }
        let transaction = self.drop_first().expect("the first proposal was just looked at");
        Ok(event(LearnerEvent::Committed(transaction)))
    }

    /// A transaction that comes with its data is committed. Proposals up to it have no commit of their own any more: if
    /// one is missing, the numbers of the transactions show it.
    fn informed(&mut self, zxid: i64, payload: Vec<u8>) -> Result<Reaction, LearnerFault> {
        check_zxid(zxid, &payload)?;
        while self.pending.front().is_some_and(|first| first.zxid <= zxid) {
            self.drop_first();
        }
        Ok(event(LearnerEvent::Committed(CommittedPayload {
            zxid,
            bytes: payload,
        })))
    }

    fn drop_first(&mut self) -> Option<CommittedPayload> {
        let first = self.pending.pop_front()?;
        self.pending_bytes -= first.bytes.len();
        Some(first)
    }

    fn out_of_place(&self, packet: &LeaderPacket) -> LearnerFault {
        LearnerFault::OutOfPlace {
            packet: name(packet),
            phase: self.phase.expected(),
        }
    }
}

fn event(event: LearnerEvent) -> Reaction {
    Reaction {
        answer: None,
        event: Some(event),
    }
}

fn check_zxid(zxid: i64, payload: &[u8]) -> Result<(), LearnerFault> {
    let within = payload
        .get(ZXID_AT..ZXID_AT + 8)
        .map(|bytes| bytes.try_into().expect("8 bytes"));
    if payload.len() < HEADER || within.map(i64::from_be_bytes) != Some(zxid) {
        return Err(LearnerFault::OtherZxid {
            packet: zxid,
            bytes: payload.len(),
        });
    }
    Ok(())
}

fn int_at(bytes: &[u8], at: usize) -> Option<i32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(i32::from_be_bytes(bytes.try_into().expect("4 bytes")))
}

/// The packet for a message, without its data.
fn name(packet: &LeaderPacket) -> String {
    match packet {
        LeaderPacket::LeaderInfo { epoch, .. } => format!("LEADERINFO of epoch {epoch}"),
        LeaderPacket::Diff { zxid } => format!("DIFF 0x{zxid:x}"),
        LeaderPacket::Trunc { zxid } => format!("TRUNC 0x{zxid:x}"),
        LeaderPacket::Snap { zxid } => format!("SNAP 0x{zxid:x}"),
        LeaderPacket::Proposal { zxid, .. } => format!("PROPOSAL 0x{zxid:x}"),
        LeaderPacket::Commit { zxid } => format!("COMMIT 0x{zxid:x}"),
        LeaderPacket::CommitAndActivate { zxid } => format!("COMMITANDACTIVATE 0x{zxid:x}"),
        LeaderPacket::Inform { zxid, .. } => format!("INFORM 0x{zxid:x}"),
        LeaderPacket::InformAndActivate { zxid, .. } => format!("INFORMANDACTIVATE 0x{zxid:x}"),
        LeaderPacket::NewLeader { zxid, .. } => format!("NEWLEADER 0x{zxid:x}"),
        LeaderPacket::UpToDate => "UPTODATE".to_owned(),
        LeaderPacket::Ping { zxid } => format!("PING 0x{zxid:x}"),
        LeaderPacket::Sync => "SYNC".to_owned(),
        LeaderPacket::Revalidate => "REVALIDATE".to_owned(),
    }
}

#[cfg(test)]
mod tests;
