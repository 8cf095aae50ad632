//! The source: makes one connection after another, decodes what has arrived, stages trees, and reports to the machine.

mod filling;
mod forwarding;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use bridge_core::committed::{HistoryPosition, SyncAnswer, SyncKind};
use bridge_core::number::Zxid;
use bridge_core::source::{
    AddressedRequest, Connection, FeedMeasures, Input, Link, SessionFate, Source, SourceError,
    SourceErrorKind, SourceEvent, SourceRequest, TreePhase,
};
use bridge_transactions::quorum::ObserverId;
use futures::future::BoxFuture;
use tokio::time::timeout;

pub(super) use self::filling::RefusedTree;
use super::attempts::{AttemptWaits, ServerOrder};
use super::conversation::{
    Arrival, Conversation, ConversationEnd, ConversationHandle, ConversationOptions, StatedPosition,
};
use super::discover::candidates;
use super::learner::{CommittedPayload, Synchronised};
use super::members::QuorumAddress;
use super::options::ObserverOptions;
use super::spool::{Batch, MEMORY_BYTES, Spool, SpoolLimits};
use super::stage::Stage;
use super::stop::{Stop, trouble, unsupported};
use super::to_core::decoded;
use super::transport::{Interrupt, QuorumLogin, Transport};
use crate::config::ZookeeperConfig;
use crate::connect::version;
use crate::handshake::client_config;
use crate::source::{apart, pause};
use crate::who::Who;

/// How long a connection to one server may take: longer than a lost packet, and short enough to try them all.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of transactions in one input. The pipeline takes an input in one step, and the queue to it has room for 64: after
/// an absence it holds so many times this, decoded, outside of the bound of the spool. A step reads the rows of the proof
/// and then writes them: with a million znodes, steps of 4,000 transactions read 5.8 pages of that table for each, because
/// the first ones are no more in the cache when they are written, and steps of 1,000 read 2.1.
const BATCH_BYTES: u64 = 128 << 10;

/// A tree that the last transaction contradicts waits so long for another transaction. On an ensemble at rest a new
/// connection brings an exact tree sooner.
const PROOF_WAIT: Duration = Duration::from_secs(10);

/// The warning about a leader with digests of another charset.
const OTHER_CHARSET: &str = "the leader's JVM encodes paths in another charset than UTF-8: changes of paths with other letters \
                             than those of ASCII are not compared with its digests, and a leader with UTF-8 costs a gap; \
                             start all servers with -Dfile.encoding=UTF-8";

/// A ZooKeeper ensemble as a source of committed transactions.
pub struct ObserverSource {
    config: ZookeeperConfig,
    options: ObserverOptions,
    id: ObserverId,
    folder: PathBuf,
}

impl ObserverSource {
    /// Nothing is connected before [`Source::run`]. `folder` is for files of a spool and of a tree, which are removed as
    /// they are made.
    pub fn new(
        name: &str,
        config: ZookeeperConfig,
        options: ObserverOptions,
        folder: PathBuf,
    ) -> ObserverSource {
        ObserverSource {
            id: options.observer_id(name),
            config,
            options,
            folder,
        }
    }

    async fn run(self, link: Link) {
        let transport = match self.transport() {
            Ok(transport) => transport,
            Err(message) => {
                let kind = SourceErrorKind::Configuration;
                // The pipeline may have ended.
                let _gone = link.reports.send(trouble(kind, message)).await;
                return;
            }
        };
        let mut driver = Driver {
            source: self,
            transport,
            link,
            number: Connection::default(),
            waits: AttemptWaits::new(),
            servers: ServerOrder::default(),
            leader: None,
            up_to_date: None,
            took_tree: false,
            last: 0,
            fills: 0,
            measures: FeedMeasures::default(),
            who: None,
        };
        driver.who = driver.source.config.who.as_ref().map(Who::start);
        while let Some(wait) = driver.connect_once().await {
            if !pause(wait, &mut driver.link).await {
                break;
            }
        }
        if let Some(who) = driver.who {
            who.end().await;
        }
    }

    pub(super) fn transport(&self) -> Result<Transport, String> {
        let tls = self.options.tls.as_ref().map(client_config).transpose()?;
        Ok(Transport {
            tls: tls.map(Arc::new),
            sasl: self.options.sasl.as_ref().map(|sasl| QuorumLogin {
                user: sasl.user.clone(),
                password: sasl.password.clone(),
            }),
            connect_timeout: CONNECT_TIMEOUT,
            init_timeout: self.options.init_timeout.0,
        })
    }
}

impl Source for ObserverSource {
    fn run(self: Box<Self>, link: Link) -> BoxFuture<'static, ()> {
        let source = *self;
        Box::pin(apart(|link| source.run(link), link))
    }
}

/// The state that outlives a connection.
struct Driver {
    source: ObserverSource,
    transport: Transport,
    link: Link,
    number: Connection,
    waits: AttemptWaits,
    servers: ServerOrder,
    /// The leader of the present connection.
    leader: Option<QuorumAddress>,
    /// Since when the present connection is up to date.
    up_to_date: Option<Instant>,
    /// Whether the leader of the present connection sent a tree.
    took_tree: bool,
    /// The last transaction before the next one that goes to the machine.
    last: i64,
    /// How often logs were read in place of a tree, since the machine was up to date.
    fills: u32,
    /// For the status of the source.
    measures: FeedMeasures,
    who: Option<Who>,
}

/// The work of the present connection.
enum Work {
    /// No leader has been found.
    Searching,
    /// A leader waits for the position.
    Led { epoch: u32 },
    /// The leader has the position.
    Resumed {
        epoch: u32,
        after: Option<HistoryPosition>,
    },
    /// The tree of a SNAP is on its way.
    AwaitsTree { epoch: u32, zxid: i64 },
    /// The tree is not exact yet.
    Staging(Box<Stage>),
    /// The tree is exact, and the machine reads it. These transactions follow it.
    Staged(Box<Stage>, Vec<CommittedPayload>),
    /// Transactions go to the machine.
    Following,
}

impl Driver {
    /// Serves one connection. Returns how long to wait before the next one; `None` to end.
    async fn connect_once(&mut self) -> Option<Duration> {
        self.report(SourceEvent::Feed(self.measures.clone())).await?;
        let candidates = match self.candidates().await? {
            Ok(candidates) => candidates,
            Err(error) => {
                let is_final = error.kind.is_final();
                self.report(SourceEvent::Trouble(error)).await?;
                return (!is_final).then(|| self.waits.failed());
            }
        };
        let mut attempt = match self.begin(candidates) {
            Ok(attempt) => attempt,
            Err(error) => {
                let message = format!("there is no thread for the connection: {error}");
                self.report(trouble(SourceErrorKind::Unavailable, message))
                    .await?;
                return Some(self.waits.failed());
            }
        };
        let before = self.number;
        (self.leader, self.up_to_date, self.took_tree) = (None, None, false);
        let stop = self.serve(&mut attempt).await;
        attempt.end().await;
        let stop = match stop {
            Stop::TreeRefused(refused) => self.fill(refused).await,
            other => other,
        };
        self.measures.follow(None);
        // The time before it was up to date was of no use: it ends each attempt to stage a tree that cannot be staged.
        let lasted = self.up_to_date.map_or(Duration::ZERO, |since| since.elapsed());
        self.waits.followed(lasted);
        self.rank(&stop);
        let was_connected = self.number != before;
        self.ended(stop, was_connected, lasted).await
    }

    fn begin(&self, candidates: Vec<QuorumAddress>) -> io::Result<ConversationHandle> {
        let options = &self.source.options;
        let spool = Arc::new(Spool::new(SpoolLimits {
            folder: self.source.folder.clone(),
            memory: MEMORY_BYTES,
            total: options.spool.0,
        }));
        let interrupt = Arc::new(Interrupt::default());
        let (sender, positions) = std_mpsc::channel();
        let conversation = Conversation {
            options: ConversationOptions {
                id: self.source.id,
                transport: self.transport.clone(),
                sync_timeout: options.sync_timeout.0,
                folder: self.source.folder.clone(),
                tree_bytes_max: options.max_tree.0,
            },
            candidates,
            spool: Arc::clone(&spool),
            interrupt: Arc::clone(&interrupt),
            positions,
            measures: self.measures.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("observer".into())
            .spawn(move || conversation.run())?;
        Ok(ConversationHandle {
            spool,
            interrupt,
            positions: Some(sender),
            thread,
        })
    }

    /// Takes what arrives until the connection ends.
    async fn serve(&mut self, attempt: &mut ConversationHandle) -> Stop {
        let mut work = Work::Searching;
        let stop = self.link.stop.clone();
        let mut asked = pin!(ask_version(self.source.config.clone()));
        let mut is_asked = false;
        loop {
            let takes_more = !matches!(work, Work::Staged(..));
            let is_contradicted = matches!(&work, Work::Staging(stage) if stage.is_contradicted());
            let wait = if is_contradicted {
                PROOF_WAIT
            } else {
                Duration::MAX
            };
            let next = async {
                match takes_more {
                    true => timeout(wait, attempt.spool.next(BATCH_BYTES)).await,
                    false => std::future::pending().await,
                }
            };
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return Stop::Asked,
                request = self.link.requests.recv() => match request {
                    None => return Stop::Asked,
                    Some(request) => self.request(request, &mut work, attempt).await,
                },
                batch = next => match batch {
                    Err(_) => return Stop::Contradicted,
                    Ok(Err(error)) => return Stop::Spool(error),
                    Ok(Ok(Batch::Transactions(transactions))) => self.transactions(transactions, &mut work).await,
                    Ok(Ok(Batch::Other(arrival))) => self.arrival(arrival, &mut work).await,
                },
                version = &mut asked, if !is_asked => {
                    is_asked = true;
                    self.send(SourceEvent::Server(version)).await
                }
            };
            if let Err(stop) = step {
                return stop;
            }
        }
    }

    async fn request(
        &mut self,
        request: AddressedRequest,
        work: &mut Work,
        attempt: &mut ConversationHandle,
    ) -> Result<(), Stop> {
        if request.connection != self.number {
            return Ok(());
        }
        match request.request {
            SourceRequest::Resume { after } => {
                if let Work::Led { epoch } = *work {
                    let zxid = after.map_or(0, |after| after.zxid.0.cast_signed());
                    let position = StatedPosition {
                        zxid,
                        refuses_tree: after.is_some() && self.may_fill(),
                    };
                    *work = Work::Resumed { epoch, after };
                    self.last = zxid;
                    // A conversation that has ended reports that.
                    let _ended = attempt.positions.take().map(|positions| positions.send(position));
                }
                Ok(())
            }
            SourceRequest::ReadStage { ticket, read } => {
                let Work::Staged(stage, _) = work else {
                    return Ok(());
                };
                let digests = self.source.config.acl_digests;
                let page = stage.page(&read, digests).map_err(Stop::Stage)?;
                self.input(Input::StagePage { ticket, page }).await
            }
            SourceRequest::Follow => {
                let Work::Staged(_, rest) = std::mem::replace(work, Work::Following) else {
                    return Ok(());
                };
                self.measures.end_tree();
                self.forward(rest).await?;
                self.up_to_date().await
            }
            SourceRequest::Reconnect { after } => Err(Stop::Replace(after)),
            // Of a machine that watches a tree.
            SourceRequest::Arm(_)
            | SourceRequest::Read { .. }
            | SourceRequest::ReadAcls { .. }
            | SourceRequest::WriteCanary { .. } => Ok(()),
        }
    }

    async fn arrival(&mut self, arrival: Arrival, work: &mut Work) -> Result<(), Stop> {
        match arrival {
            Arrival::Led { leader, epoch } => {
                self.measures.follow(Some(leader.to_string().into()));
                self.leader = Some(leader);
                self.number = self.number.next();
                *work = Work::Led { epoch };
                let connection = self.number;
                let session = SessionFate::New;
                self.send(SourceEvent::Connected {
                    connection,
                    session,
                    server: None,
                })
                .await
            }
            Arrival::Synchronised(answer) => self.synchronised(answer, work).await,
            Arrival::Tree(file) => self.stage(file, work),
            Arrival::Members(members) => {
                self.servers.configured(members);
                Ok(())
            }
            Arrival::UpToDate => match work {
                Work::Staging(stage) => {
                    stage.up_to_date();
                    self.staged(work, Vec::new()).await
                }
                _ => self.up_to_date().await,
            },
            Arrival::Ended(end) => Err(filling::stop_of(end, work)),
        }
    }

    async fn synchronised(&mut self, answer: Synchronised, work: &mut Work) -> Result<(), Stop> {
        let Work::Resumed { epoch, after } = *work else {
            unreachable!("a leader answers a position that the driver has stated")
        };
        let kind = match (answer, after) {
            (Synchronised::Diff { .. }, Some(_)) => {
                *work = Work::Following;
                SyncKind::Diff
            }
            (Synchronised::Trunc { zxid }, Some(_)) => {
                *work = Work::Following;
                self.last = zxid;
                SyncKind::Truncate(Zxid(zxid.cast_unsigned()))
            }
            (Synchronised::Snap { zxid }, _) => {
                self.took_tree = true;
                *work = Work::AwaitsTree { epoch, zxid };
                SyncKind::Snapshot
            }
            (Synchronised::Diff { .. }, None) => {
                let stage = Stage::of_new_ensemble(&self.source.folder, epoch).map_err(Stop::Stage)?;
                *work = Work::Staging(Box::new(stage));
                SyncKind::Snapshot
            }
            (Synchronised::Trunc { zxid }, None) => {
                let message =
                    format!("the leader wants an observer without any history to cut it at 0x{zxid:x}");
                return Err(Stop::Unreadable(SourceErrorKind::Unavailable, message));
            }
        };
        self.input(Input::Synced(SyncAnswer { epoch, kind })).await
    }

    fn stage(&mut self, tree: File, work: &mut Work) -> Result<(), Stop> {
        let Work::AwaitsTree { epoch, zxid } = *work else {
            unreachable!("a tree follows a SNAP")
        };
        let began = Instant::now();
        let stop = self.link.stop.clone();
        self.measures.tree_goes_on(TreePhase::Staging, 0);
        let stage = Stage::of_snapshot(&self.source.folder, epoch, zxid, tree, &|| stop.is_cancelled());
        let stage = stage.map_err(Stop::Stage)?;
        let znodes = stage.znodes().map_err(Stop::Stage)?;
        self.measures.tree_goes_on(TreePhase::Proving, znodes);
        *work = Work::Staging(Box::new(stage));
        tracing::info!(zxid = format!("0x{zxid:x}"), took = ?began.elapsed(), "staged the tree of the leader");
        Ok(())
    }

    async fn transactions(
        &mut self,
        transactions: Vec<CommittedPayload>,
        work: &mut Work,
    ) -> Result<(), Stop> {
        let Work::Staging(stage) = work else {
            return self.forward(transactions).await;
        };
        let mut transactions = VecDeque::from(transactions);
        while let Some(payload) = transactions.pop_front() {
            let transaction = decoded(&payload).map_err(unsupported)?;
            stage.take(&transaction).map_err(Stop::Stage)?;
            if stage.exact_at().is_some() {
                return self.staged(work, transactions.into()).await;
            }
        }
        Ok(())
    }

    /// Reports the tree if it is exact.
    async fn staged(&mut self, work: &mut Work, rest: Vec<CommittedPayload>) -> Result<(), Stop> {
        *work = match std::mem::replace(work, Work::Following) {
            Work::Staging(stage) => match stage.exact_at() {
                Some(at) => {
                    self.last = at.zxid.0.cast_signed();
                    self.measures.compare_tree();
                    if at.is_of_other_charset {
                        tracing::warn!("{OTHER_CHARSET}");
                    }
                    self.input(Input::Staged(at)).await?;
                    Work::Staged(stage, rest)
                }
                None => Work::Staging(stage),
            },
            other => other,
        };
        Ok(())
    }

    async fn up_to_date(&mut self) -> Result<(), Stop> {
        self.up_to_date = Some(Instant::now());
        self.fills = 0;
        if let Some(leader) = self.leader.clone() {
            self.servers.followed(leader);
        }
        self.input(Input::UpToDate).await
    }

    /// Learns from the end of a connection which servers to try later, and whether to look for others.
    fn rank(&mut self, stop: &Stop) {
        if matches!(stop, Stop::Filled) {
            return;
        }
        let leader = self.leader.as_ref().filter(|_| self.up_to_date.is_none());
        if let Some(server) = stop.failed_server().or(leader) {
            self.servers.failed(server);
        }
        if let Stop::Ended(ConversationEnd::NoLeader(_) | ConversationEnd::Silent { .. }) = stop {
            self.servers.found_none();
        }
    }

    async fn input(&mut self, input: Input) -> Result<(), Stop> {
        self.send(SourceEvent::Input(input)).await
    }

    /// Sends a report. The pipeline may take long to make room for it; the spool fills meanwhile.
    async fn send(&mut self, event: SourceEvent) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.link.stop.cancelled() => Err(Stop::Asked),
            sent = self.link.reports.send(event) => sent.map_err(|_| Stop::Asked),
        }
    }

    /// Reports the end of a connection.
    async fn ended(&mut self, stop: Stop, was_connected: bool, lasted: Duration) -> Option<Duration> {
        let ended_early = stop.failed_server().filter(|_| self.leader.is_none()).cloned();
        let (input, mut event, wait) = stop.outcome(lasted)?;
        if let (Some(SourceEvent::Trouble(error)), Some(server)) = (&mut event, ended_early) {
            let ObserverSource { config, options, .. } = &self.source;
            error.message = self
                .servers
                .explained(&server, options, &config.connect, &error.message);
        }
        if was_connected {
            self.report(SourceEvent::Input(input)).await?;
        }
        let is_final = matches!(&event, Some(SourceEvent::Trouble(error)) if error.kind.is_final());
        if let Some(event) = event {
            self.report(event).await?;
        }
        if is_final {
            return None;
        }
        Some(
            wait.unwrap_or_else(|| match self.took_tree && self.up_to_date.is_none() {
                true => self.waits.failed_tree(),
                false => self.waits.failed(),
            }),
        )
    }

    async fn report(&mut self, event: SourceEvent) -> Option<()> {
        self.send(event).await.ok()
    }

    /// The quorum ports to try, in order, each once; `None` if the bridge stops.
    async fn candidates(&mut self) -> Option<Result<Vec<QuorumAddress>, SourceError>> {
        let ObserverSource { config, options, .. } = &self.source;
        tokio::select! {
            biased;
            () = self.link.stop.cancelled() => None,
            found = candidates(&mut self.servers, options, config) => Some(found),
        }
    }
}

/// The version of the servers, from their client ports.
async fn ask_version(config: ZookeeperConfig) -> Option<Arc<str>> {
    version(&config).await
}
