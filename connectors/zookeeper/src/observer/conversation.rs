//! The thread of one connection: finds a leader, reads its packets, answers them in order, and fills the spool.
//!
//! Nothing here waits for the bridge, except for the position before the leader sends anything. A spool that is full
//! ends the connection.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bridge_core::number::Zxid;
use bridge_core::source::FeedMeasures;
use bridge_transactions::quorum::{LeaderPacket, LearnerPacket, ObserverId, PacketError, copy_snapshot};
use bridge_transactions::transaction::{Operation, Transaction};

use super::learner::{CommittedPayload, Learner, LearnerEvent, LearnerFault, Synchronised};
use super::members::{Member, QuorumAddress};
use super::spool::{Spool, SpoolError};
use super::transport::{ConnectFault, Interrupt, QuorumStream, Transport, is_timeout};

/// Bytes that are read from the socket at a time.
const READ_BYTES: usize = 256 << 10;

/// Counted for each server of a configuration and for each of its addresses, besides the texts.
const MEMBER_OVERHEAD: usize = 64;

/// How often the progress of a tree is logged.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// An entry of the spool that is no transaction.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A leader expects the position.
    Led {
        /// The server.
        leader: QuorumAddress,
        /// Its epoch.
        epoch: u32,
    },
    /// How the leader brings the observer up to date.
    Synchronised(Synchronised),
    /// The tree that followed a SNAP, in a file without a name.
    Tree(File),
    /// The servers of the ensemble.
    Members(Vec<Member>),
    /// Everything that was committed before the connection has arrived.
    UpToDate,
    /// The connection has ended, and nothing follows.
    Ended(ConversationEnd),
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum ConversationEnd {
    /// No server gave a conversation; the reason of each.
    NoLeader(Vec<(QuorumAddress, ConnectFault)>),
    /// The connection was lost, or the leader ended it.
    Lost {
        leader: QuorumAddress,
        error: io::Error,
        was_following: bool,
    },
    /// The leader was silent for too long.
    Silent { leader: QuorumAddress, after: Duration },
    /// The leader sends something that an observer does not understand or accept.
    Fault { leader: QuorumAddress, message: String },
    /// A server of the ensemble has the id of the observer.
    IdTaken(ObserverId),
    /// The spool is full, or its files cannot be written.
    Overflow(SpoolError),
    /// The tree cannot be kept.
    NoRoomForTree(PacketError),
    /// The bridge has stated no position in time.
    NoPosition { leader: QuorumAddress, after: Duration },
    /// The leader would send its tree, which the bridge has refused.
    TreeRefused { leader: QuorumAddress, zxid: i64 },
    /// The bridge stops.
    Stopped,
    /// The thread has panicked, which the driver reports.
    Panicked,
}

/// The position of the bridge, as the leader hears it.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatedPosition {
    /// The last transaction that the bridge has; 0 without one.
    pub(super) zxid: i64,
    /// Whether the connection is closed before a tree is sent.
    pub(super) refuses_tree: bool,
}

/// The options of a conversation.
#[derive(Clone)]
pub(super) struct ConversationOptions {
    pub(super) id: ObserverId,
    pub(super) transport: Transport,
    /// For a packet, once the observer is up to date.
    pub(super) sync_timeout: Duration,
    /// Where the tree is kept.
    pub(super) folder: PathBuf,
    /// The largest tree.
    pub(super) tree_bytes_max: u64,
}

/// A conversation that is about to begin.
pub(super) struct Conversation {
    pub(super) options: ConversationOptions,
    pub(super) candidates: Vec<QuorumAddress>,
    pub(super) spool: Arc<Spool<Arrival>>,
    pub(super) interrupt: Arc<Interrupt>,
    pub(super) positions: Receiver<StatedPosition>,
    pub(super) measures: FeedMeasures,
}

impl Conversation {
    /// Runs until the connection ends. The last entry of the spool says why.
    pub(super) fn run(self) {
        let mut last = LastEntry {
            spool: Arc::clone(&self.spool),
            interrupt: Arc::clone(&self.interrupt),
            end: Some(ConversationEnd::Panicked),
        };
        let end = self.find_leader().unwrap_or_else(|end| end);
        last.end = Some(match self.interrupt.is_set() {
            true => ConversationEnd::Stopped,
            false => end,
        });
    }

    /// Tries the candidates in order, and follows the first that leads.
    fn find_leader(&self) -> Result<ConversationEnd, ConversationEnd> {
        let mut refused = Vec::new();
        for candidate in &self.candidates {
            if self.interrupt.is_set() {
                return Err(ConversationEnd::Stopped);
            }
            match self.options.transport.connect(candidate, &self.interrupt) {
                Ok(stream) => {
                    let mut talk = OpenConversation {
                        conversation: self,
                        leader: candidate,
                        stream: BufReader::with_capacity(READ_BYTES, stream),
                        refuses_tree: false,
                    };
                    return talk.follow();
                }
                Err(ConnectFault::Stopped) => return Err(ConversationEnd::Stopped),
                Err(fault) => refused.push((candidate.clone(), fault)),
            }
        }
        Ok(ConversationEnd::NoLeader(refused))
    }
}

/// One connection: its thread, and what has arrived of it.
pub(super) struct ConversationHandle {
    pub(super) spool: Arc<Spool<Arrival>>,
    pub(super) interrupt: Arc<Interrupt>,
    pub(super) positions: Option<Sender<StatedPosition>>,
    pub(super) thread: JoinHandle<()>,
}

impl ConversationHandle {
    /// Ends the conversation and its thread.
    pub(super) async fn end(self) {
        self.interrupt.set();
        drop(self.positions);
        let thread = self.thread;
        // A thread that waits for a name or a connection ends within the bound of that.
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        match joined {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => tracing::debug!(%error, "the runtime ends"),
        }
    }
}

/// Closes the socket and adds the last entry whatever ends the thread, so that neither the leader nor the driver waits
/// for more.
struct LastEntry {
    spool: Arc<Spool<Arrival>>,
    interrupt: Arc<Interrupt>,
    end: Option<ConversationEnd>,
}

impl Drop for LastEntry {
    fn drop(&mut self) {
        self.interrupt.close();
        if let Some(end) = self.end.take() {
            self.spool.push_other(Arrival::Ended(end));
        }
    }
}

/// Shows how much of a tree has arrived, and logs it from time to time: a tree may take hours, and a slow one must show.
struct TreeProgress<'a, W> {
    to: W,
    measures: &'a FeedMeasures,
    bytes: u64,
    logged: Instant,
}

impl<'a, W> TreeProgress<'a, W> {
    fn new(to: W, measures: &'a FeedMeasures) -> TreeProgress<'a, W> {
        TreeProgress {
            to,
            measures,
            bytes: 0,
            logged: Instant::now(),
        }
    }
}

impl<W: Write> Write for TreeProgress<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.bytes = self.bytes.saturating_add(count.try_into().unwrap_or(u64::MAX));
        self.measures.tree_arrives(self.bytes);
        if self.logged.elapsed() >= PROGRESS_EVERY {
            self.logged = Instant::now();
            tracing::info!(bytes = self.bytes, "the tree of the leader is on its way");
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A connection under way.
struct OpenConversation<'a> {
    conversation: &'a Conversation,
    leader: &'a QuorumAddress,
    stream: BufReader<QuorumStream>,
    refuses_tree: bool,
}

impl OpenConversation<'_> {
    /// Reads packets until something ends the connection.
    fn follow(&mut self) -> Result<ConversationEnd, ConversationEnd> {
        let (mut learner, first) = Learner::new(self.conversation.options.id);
        self.send(&learner, first)?;
        loop {
            self.stream.get_mut().begin_packet();
            let packet =
                LeaderPacket::read(&mut self.stream).map_err(|error| self.unread(&learner, error))?;
            self.measure(&packet);
            let reaction = learner.take(packet).map_err(|fault| self.fault(&fault))?;
            if let Some(answer) = reaction.answer {
                self.send(&learner, answer)?;
            }
            if let Some(event) = reaction.event {
                self.handle(&mut learner, event)?;
            }
        }
    }

    /// A leader sends a ping with its last transaction every half tick, so that the measures are never old.
    fn measure(&self, packet: &LeaderPacket) {
        let (measures, spool) = (&self.conversation.measures, &self.conversation.spool);
        match packet {
            LeaderPacket::Ping { zxid }
            | LeaderPacket::Commit { zxid }
            | LeaderPacket::CommitAndActivate { zxid }
            | LeaderPacket::Inform { zxid, .. }
            | LeaderPacket::InformAndActivate { zxid, .. } => {
                measures.reached(Zxid(zxid.cast_unsigned()));
                measures.spooled(spool.held(), spool.limit());
            }
            _ => {}
        }
    }

    fn handle(&mut self, learner: &mut Learner, event: LearnerEvent) -> Result<(), ConversationEnd> {
        let spool = &self.conversation.spool;
        match event {
            LearnerEvent::Committed(transaction) => self.committed(learner, transaction),
            LearnerEvent::Led { epoch } => {
                let leader = self.leader.clone();
                spool.push_other(Arrival::Led { leader, epoch });
                let position = self.position()?;
                self.refuses_tree = position.refuses_tree;
                let answer = learner
                    .resume(position.zxid)
                    .map_err(|fault| self.fault(&fault))?;
                self.send(learner, answer)
            }
            LearnerEvent::Synchronised(Synchronised::Snap { zxid }) if self.refuses_tree => {
                let leader = self.leader.clone();
                Err(ConversationEnd::TreeRefused { leader, zxid })
            }
            LearnerEvent::Synchronised(answer) => {
                spool.push_other(Arrival::Synchronised(answer));
                match answer {
                    Synchronised::Snap { .. } => self.copy_tree(learner),
                    Synchronised::Diff { .. } | Synchronised::Trunc { .. } => Ok(()),
                }
            }
            LearnerEvent::Members(members) => push_members(spool, members),
            LearnerEvent::UpToDate => {
                spool.push_other(Arrival::UpToDate);
                let timeout = self.conversation.options.sync_timeout;
                self.stream.get_mut().set_timeout(timeout);
                Ok(())
            }
        }
    }

    /// A new configuration is looked at before anything else is done: it may give the observer's id to a server.
    fn committed(&self, learner: &Learner, transaction: CommittedPayload) -> Result<(), ConversationEnd> {
        let spool = &self.conversation.spool;
        if transaction.is_reconfiguration()
            && let Ok(Transaction {
                operation:
                    Operation::Reconfigure {
                        data: Some(config), ..
                    },
                ..
            }) = Transaction::decode(&transaction.bytes)
        {
            let members = learner.configured(&config).map_err(|fault| self.fault(&fault))?;
            push_members(spool, members)?;
        }
        spool.push(transaction).map_err(ConversationEnd::Overflow)
    }

    /// Waits for the last transaction that the bridge has. The leader waits for as long.
    fn position(&self) -> Result<StatedPosition, ConversationEnd> {
        let bound = self.conversation.options.transport.init_timeout;
        self.conversation
            .positions
            .recv_timeout(bound)
            .map_err(|error| match error {
                RecvTimeoutError::Disconnected => ConversationEnd::Stopped,
                RecvTimeoutError::Timeout => ConversationEnd::NoPosition {
                    leader: self.leader.clone(),
                    after: bound,
                },
            })
    }

    /// Copies the tree at the speed of the network; it is looked at later.
    fn copy_tree(&mut self, learner: &Learner) -> Result<(), ConversationEnd> {
        let options = &self.conversation.options;
        let file = tempfile::tempfile_in(&options.folder);
        let mut file = file.map_err(|error| ConversationEnd::NoRoomForTree(PacketError::Copy(error)))?;
        let mut to = BufWriter::with_capacity(
            READ_BYTES,
            TreeProgress::new(&mut file, &self.conversation.measures),
        );
        self.stream.get_mut().begin_tree();
        let copied = copy_snapshot(&mut self.stream, &mut to, options.tree_bytes_max)
            .and_then(|_| to.flush().map_err(PacketError::Copy));
        drop(to);
        match copied {
            Ok(()) => {
                self.conversation.spool.push_other(Arrival::Tree(file));
                Ok(())
            }
            Err(error @ (PacketError::Copy(_) | PacketError::TooLarge { .. })) => {
                Err(ConversationEnd::NoRoomForTree(error))
            }
            Err(error) => Err(self.unread(learner, error)),
        }
    }

    fn send(&mut self, learner: &Learner, packet: LearnerPacket) -> Result<(), ConversationEnd> {
        let stream = self.stream.get_mut();
        stream.begin_packet();
        let sent = stream.write_all(&packet.encode()).and_then(|()| stream.flush());
        sent.map_err(|error| self.lost(learner, error))
    }

    fn unread(&self, learner: &Learner, error: PacketError) -> ConversationEnd {
        match error {
            PacketError::Stream(error) => self.lost(learner, error),
            error => ConversationEnd::Fault {
                leader: self.leader.clone(),
                message: error.to_string(),
            },
        }
    }

    fn lost(&self, learner: &Learner, error: io::Error) -> ConversationEnd {
        let options = &self.conversation.options;
        let leader = self.leader.clone();
        if !is_timeout(&error) {
            return ConversationEnd::Lost {
                leader,
                error,
                was_following: learner.is_following(),
            };
        }
        let after = match learner.is_following() {
            true => options.sync_timeout,
            false => options.transport.init_timeout,
        };
        ConversationEnd::Silent { leader, after }
    }

    fn fault(&self, fault: &LearnerFault) -> ConversationEnd {
        match fault {
            LearnerFault::IdTaken(id) => ConversationEnd::IdTaken(*id),
            other => ConversationEnd::Fault {
                leader: self.leader.clone(),
                message: other.to_string(),
            },
        }
    }
}

/// A server may send configurations without an end, so they count as transactions do.
fn push_members(spool: &Spool<Arrival>, members: Vec<Member>) -> Result<(), ConversationEnd> {
    let addresses = members.iter().flat_map(|member| &member.addresses);
    let texts: usize = addresses
        .map(|address| address.to_string().len() + MEMBER_OVERHEAD)
        .sum();
    let bytes = texts + members.len() * MEMBER_OVERHEAD;
    spool
        .push_counted(Arrival::Members(members), bytes)
        .map_err(ConversationEnd::Overflow)
}
