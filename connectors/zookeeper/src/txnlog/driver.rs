//! The source: reads the history of an ensemble from the logs of its servers, and reports it to the machine as a
//! connection does.
//!
//! A *connection* here is a stretch of one leader: the machine is given the epoch of the leader at its beginning, and a
//! new leader ends it. Nothing is requested of the servers but `srvr`, and only while a log has something new.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bridge_core::committed::{HistoryPosition, SyncAnswer, SyncKind};
use bridge_core::number::Zxid;
use bridge_core::source::{
    AddressedRequest, Connection, FeedMeasures, Input, Link, SessionFate, Source, SourceError,
    SourceErrorKind, SourceEvent, SourceRequest, TreePhase,
};
use bridge_transactions::transaction::{Transaction, epoch};
use futures::future::BoxFuture;

use super::applied::applied_by_servers;
use super::base::{Base, BaseError, Resumed, Sources};
use super::evidence::foreign_folders;
use super::folder::LogFolder;
use super::history::LogHistory;
use super::idle::{Idle, has_reached};
use super::options::TxnlogOptions;
use crate::config::ZookeeperConfig;
use crate::connect::version;
use crate::observer::stage::StageError;
use crate::observer::to_core::committed;
use crate::reconnects::Reconnects;
use crate::source::{apart, pause};
use crate::who::Who;

mod stop;
mod work;

use stop::LogStop;
use work::{LogWork, stuck};

/// Poll interval of the logs. A poll that finds nothing reads a few bytes of each log and lists its folder.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// How long a hole may last, which a server that lags fills, or a tree may differ from the server's, which the next
/// transaction can mend. Then the source begins again with a snapshot.
const STUCK_PATIENCE: Duration = Duration::from_secs(20);

/// How long a folder may have an epoch that no server has reached: a server says so once it has applied the first
/// transaction of a new leader.
const AHEAD_PATIENCE: Duration = Duration::from_secs(5);

/// A ZooKeeper ensemble as a source of committed transactions, read from files.
pub struct TxnlogSource {
    config: ZookeeperConfig,
    options: TxnlogOptions,
    folder: PathBuf,
}

impl TxnlogSource {
    /// Nothing is read before [`Source::run`]. `folder` is for the file of a tree, which is removed as it is made.
    pub fn new(config: ZookeeperConfig, options: TxnlogOptions, folder: PathBuf) -> TxnlogSource {
        TxnlogSource {
            config,
            options,
            folder,
        }
    }

    async fn run(self, link: Link) {
        let mut driver = LogDriver {
            folders: Vec::new(),
            left_out: Vec::new(),
            ahead_since: None,
            missing_since: None,
            refused: Vec::new(),
            source: self,
            link,
            number: Connection::default(),
            reconnects: Reconnects::default(),
            needs_stage: false,
            measures: FeedMeasures::default(),
            who: None,
        };
        driver.who = driver.source.config.who.as_ref().map(Who::start);
        let measures = driver.measures.clone();
        if driver.send(SourceEvent::Feed(measures)).await.is_err() {
            return;
        }
        while let Some(wait) = driver.connect_once().await {
            if !pause(wait, &mut driver.link).await {
                break;
            }
        }
        if let Some(who) = driver.who {
            who.end().await;
        }
    }
}

impl Source for TxnlogSource {
    fn run(self: Box<Self>, link: Link) -> BoxFuture<'static, ()> {
        let source = *self;
        Box::pin(apart(|link| source.run(link), link))
    }
}

/// The state that outlives a connection.
struct LogDriver {
    source: TxnlogSource,
    /// The folders that are read by the present connection.
    folders: Vec<LogFolder>,
    /// Why others are not.
    left_out: Vec<String>,
    /// Since when a folder has had an epoch that no server has reached.
    ahead_since: Option<Instant>,
    /// Since when the logs have not led to the position.
    missing_since: Option<Instant>,
    /// The zxids of snapshots that have turned out to be wrong.
    refused: Vec<i64>,
    link: Link,
    number: Connection,
    reconnects: Reconnects,
    /// The history after the position cannot be had: the next connection begins with a snapshot.
    needs_stage: bool,
    /// For the status of the source.
    measures: FeedMeasures,
    who: Option<Who>,
}

impl LogDriver {
    /// Serves one connection. Returns how long to wait before the next one; `None` to end.
    async fn connect_once(&mut self) -> Option<Duration> {
        let applied = match self.ask_servers().await {
            Ok(applied) => applied,
            Err(message) => {
                let error = SourceError {
                    kind: SourceErrorKind::Unavailable,
                    message,
                };
                self.send(SourceEvent::Trouble(error)).await.ok()?;
                return Some(self.reconnects.failed());
            }
        };
        match self.choose_folders(&applied) {
            Ok(None) => {}
            Ok(Some(wait)) => return Some(wait),
            Err(message) => {
                let kind = SourceErrorKind::Unavailable;
                let error = SourceError { kind, message };
                self.send(SourceEvent::Trouble(error)).await.ok()?;
                return Some(self.reconnects.failed());
            }
        }
        let began = Instant::now();
        self.number = self.number.next();
        let connected = SourceEvent::Connected {
            connection: self.number,
            session: SessionFate::New,
            server: None,
        };
        self.send(connected).await.ok()?;
        let server = version(&self.source.config).await;
        self.send(SourceEvent::Server(server)).await.ok()?;
        self.measures.follow(Some(self.source.options.named().into()));
        let stop = self.serve(&applied).await;
        self.measures.follow(None);
        self.reconnects.lasted(began.elapsed());
        self.ended(stop).await
    }

    /// Leaves out the folders that are ahead of all servers, if that lasts. Returns how long to wait before the servers are
    /// asked again.
    fn choose_folders(&mut self, applied: &[i64]) -> Result<Option<Duration>, String> {
        let directories = &self.source.options.directories;
        let mut folders: Vec<LogFolder> = directories.iter().map(|path| LogFolder::new(path)).collect();
        let foreign = foreign_folders(&folders, applied).map_err(|error| error.to_string())?;
        if foreign.is_empty() {
            self.ahead_since = None;
        } else if self.ahead_since.get_or_insert_with(Instant::now).elapsed() < AHEAD_PATIENCE {
            return Ok(Some(AHEAD_PATIENCE / 10));
        }
        folders.retain(|folder| foreign.iter().all(|one| one.path != folder.named()));
        let left_out: Vec<String> = foreign.iter().map(ToString::to_string).collect();
        if folders.is_empty() {
            return Err(format!("transaction logs: {}", left_out.join("; ")));
        }
        for reason in left_out.iter().filter(|reason| !self.left_out.contains(reason)) {
            tracing::warn!("a folder of [source.txnlog] directories is left out: {reason}");
        }
        (self.folders, self.left_out) = (folders, left_out);
        Ok(None)
    }

    /// The last transactions that serving servers have applied, at least one.
    async fn ask_servers(&self) -> Result<Vec<i64>, String> {
        let applied = applied_by_servers(&self.source.config).await?;
        for zxid in &applied {
            self.measures.reached(Zxid(zxid.cast_unsigned()));
        }
        Ok(applied)
    }

    async fn serve(&mut self, applied: &[i64]) -> LogStop {
        let leader = applied.iter().map(|zxid| epoch(*zxid)).max().unwrap_or_default();
        let newest = applied.iter().copied().max().unwrap_or_default();
        let mut work = LogWork::Connected;
        let mut ticks = tokio::time::interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stop = self.link.stop.clone();
        let mut stuck_since: Option<Instant> = None;
        let mut idle = Idle::new();
        loop {
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return LogStop::Asked,
                request = self.link.requests.recv() => match request {
                    None => return LogStop::Asked,
                    Some(request) => self.request(request, &mut work, leader, applied).await,
                },
                _ = ticks.tick() => match self.look(&mut work, newest).await {
                    Ok(has_more) => {
                        if has_more {
                            ticks.reset_immediately();
                        }
                        Ok(())
                    }
                    Err(stop) => Err(stop),
                },
            };
            if let Err(stop) = step {
                return self.refuse_base(stop, &work);
            }
            if idle.is_due(work.read(), Instant::now()) {
                let answers = self.ask_servers().await;
                let history = work.history();
                let reason = history.and_then(|history| idle.answered(history, answers, Instant::now()));
                if let Some(reason) = reason {
                    return LogStop::Failed(reason);
                }
            }
            match stuck(&mut work) {
                None => stuck_since = None,
                Some(reason) if stuck_since.get_or_insert_with(Instant::now).elapsed() >= STUCK_PATIENCE => {
                    return self.refuse_base(LogStop::Lost(reason), &work);
                }
                Some(_) => {}
            }
        }
    }

    /// If the logs contradict the snapshot that is staged, the next older one is tried.
    fn refuse_base(&mut self, stop: LogStop, work: &LogWork) -> LogStop {
        if let (LogStop::Lost(_), LogWork::Staging { base: (zxid, _), .. }) = (&stop, work) {
            self.refused.push(*zxid);
        }
        stop
    }

    async fn request(
        &mut self,
        request: AddressedRequest,
        work: &mut LogWork,
        leader: u32,
        applied: &[i64],
    ) -> Result<(), LogStop> {
        if request.connection != self.number {
            return Ok(());
        }
        match request.request {
            SourceRequest::Resume { after } => {
                let (next, kind) = self.resume(after, leader, applied).await?;
                *work = next;
                let answer = SyncAnswer { epoch: leader, kind };
                self.input(Input::Synced(answer)).await
            }
            SourceRequest::ReadStage { ticket, read } => {
                let LogWork::Staged(stage, _) = work else {
                    return Ok(());
                };
                let page = stage.page(&read, self.source.config.acl_digests);
                let page = page.map_err(|error| LogStop::Failed(error.to_string()))?;
                self.input(Input::StagePage { ticket, page }).await
            }
            SourceRequest::Follow => {
                *work = match std::mem::replace(work, LogWork::Connected) {
                    LogWork::Staged(_, history) => LogWork::Following {
                        history,
                        is_up_to_date: false,
                    },
                    other => other,
                };
                self.needs_stage = false;
                self.refused.clear();
                self.measures.end_tree();
                Ok(())
            }
            SourceRequest::Reconnect { after } => Err(LogStop::Replace(after)),
            // Of a machine that watches a tree.
            SourceRequest::Arm(_)
            | SourceRequest::Read { .. }
            | SourceRequest::ReadAcls { .. }
            | SourceRequest::WriteCanary { .. } => Ok(()),
        }
    }

    /// Finds the position of the machine in the logs, or begins with a snapshot.
    async fn resume(
        &mut self,
        after: Option<HistoryPosition>,
        leader: u32,
        applied: &[i64],
    ) -> Result<(LogWork, SyncKind), LogStop> {
        let stop = self.link.stop.clone();
        let sources = Sources {
            folders: &self.folders,
            stage_folder: &self.source.folder,
            is_stopped: &|| stop.is_cancelled(),
        };
        let known = match after.filter(|_| !self.needs_stage) {
            Some(position) => match sources.resume(&position, applied)? {
                Resumed::From(history) => Some(*history),
                // A file may come back, or another server have the rest.
                Resumed::Missing
                    if self.missing_since.get_or_insert_with(Instant::now).elapsed() < STUCK_PATIENCE =>
                {
                    let reason = format!(
                        "no snapshot and the logs after it lead to {}, the last transaction in the journal: if they do not \
                         within {} s, the tree is compared with a snapshot",
                        position.zxid,
                        STUCK_PATIENCE.as_secs()
                    );
                    return Err(LogStop::Failed(reason));
                }
                Resumed::Missing | Resumed::Other => None,
            },
            None => None,
        };
        self.missing_since = None;
        let prepared = |mut history: LogHistory| {
            applied.iter().for_each(|zxid| history.applied(*zxid));
            history.end_with_epoch(leader);
            history
        };
        if let Some(history) = known {
            let work = LogWork::Following {
                history: prepared(history),
                is_up_to_date: false,
            };
            return Ok((work, SyncKind::Diff));
        }
        let began = Instant::now();
        self.measures.tree_goes_on(TreePhase::Staging, 0);
        let mut based = sources.stage(leader, applied, &self.refused);
        if let Err(BaseError::NoSnapshot { .. }) = &based {
            // All have been tried; the logs may have become more.
            self.refused.clear();
            based = sources.stage(leader, applied, &[]);
        }
        let Base {
            zxid,
            name,
            stage,
            history,
        } = based?;
        let znodes = stage.znodes().map_err(BaseError::Stage)?;
        self.measures.tree_goes_on(TreePhase::Proving, znodes);
        tracing::info!(took = ?began.elapsed(), snapshot = name, "staged the tree of a snapshot");
        let applied = self.ask_servers().await.map_err(LogStop::Failed)?;
        let work = LogWork::Staging {
            stage: Box::new(stage),
            history: prepared(history),
            base: (zxid, name),
            newest: applied.into_iter().max().unwrap_or_default(),
        };
        Ok((work, SyncKind::Snapshot))
    }

    /// Takes what is new in the logs; `true` if there may be more at once.
    async fn look(&mut self, work: &mut LogWork, newest: i64) -> Result<bool, LogStop> {
        if matches!(work, LogWork::Staged(..)) {
            return Ok(false);
        }
        let Some(history) = work.history() else {
            return Ok(false);
        };
        let mut taken = history.poll()?;
        if taken.is_empty() && history.is_waiting() {
            // While no server serves, nothing is committed.
            if let Ok(applied) = self.ask_servers().await {
                applied.iter().for_each(|zxid| history.applied(*zxid));
            }
            taken = history.poll()?;
        }
        if taken.is_empty() && history.is_at_end_of_epoch() {
            return Err(LogStop::NewLeader);
        }
        let is_new = !taken.is_empty();
        match work {
            LogWork::Staging { .. } => self.stage(taken, work).await?,
            LogWork::Following {
                history,
                is_up_to_date,
            } => {
                let is_all = !*is_up_to_date && has_reached(history, newest, is_new);
                *is_up_to_date |= is_all;
                if is_new {
                    self.forward(taken).await?;
                }
                if is_all {
                    self.input(Input::UpToDate).await?;
                }
            }
            LogWork::Connected | LogWork::Staged(..) => {}
        }
        Ok(is_new)
    }

    /// Applies transactions to the staged tree, and reports it once it is exact.
    async fn stage(&mut self, taken: Vec<Transaction>, work: &mut LogWork) -> Result<(), LogStop> {
        let LogWork::Staging {
            stage,
            history,
            base,
            newest,
        } = work
        else {
            return Ok(());
        };
        for transaction in &taken {
            let taken = stage.take(transaction);
            taken.map_err(|error| match error {
                StageError::Unproved(_) | StageError::Hole { .. } => {
                    LogStop::Lost(format!("{}: {error}", base.1))
                }
                error => LogStop::Failed(error.to_string()),
            })?;
        }
        if has_reached(history, *newest, !taken.is_empty()) {
            stage.up_to_date();
        }
        let is_believed = stage.is_proved() || history.is_committed(base.0);
        let Some(at) = stage.exact_at().filter(|_| is_believed) else {
            return Ok(());
        };
        self.measures.compare_tree();
        self.input(Input::Staged(at)).await?;
        *work = match std::mem::replace(work, LogWork::Connected) {
            LogWork::Staging { stage, history, .. } => LogWork::Staged(stage, history),
            other => other,
        };
        Ok(())
    }

    /// Sends transactions to the machine.
    async fn forward(&mut self, transactions: Vec<Transaction>) -> Result<(), LogStop> {
        let digests = self.source.config.acl_digests;
        let converted: Result<Vec<_>, String> = transactions
            .into_iter()
            .map(|transaction| committed(transaction, digests))
            .collect();
        let converted = converted.map_err(|message| LogStop::Final(SourceErrorKind::Unsupported, message))?;
        let who = self.who.as_ref();
        let news = who.map(|who| who.news(converted.iter().map(|txn| txn.session)));
        if let Some(news) = news.filter(|news| !news.is_empty()) {
            self.input(Input::Sessions(news)).await?;
        }
        self.input(Input::Transactions(converted)).await
    }

    async fn input(&mut self, input: Input) -> Result<(), LogStop> {
        self.send(SourceEvent::Input(input)).await
    }

    /// Sends a report. The pipeline may take long to make room for it; the logs wait.
    async fn send(&mut self, event: SourceEvent) -> Result<(), LogStop> {
        tokio::select! {
            biased;
            () = self.link.stop.cancelled() => Err(LogStop::Asked),
            sent = self.link.reports.send(event) => sent.map_err(|_| LogStop::Asked),
        }
    }

    /// Reports the end of a connection.
    async fn ended(&mut self, stop: LogStop) -> Option<Duration> {
        let (error, wait) = match stop {
            LogStop::Asked => return None,
            LogStop::Replace(after) => (None, Some(after)),
            LogStop::NewLeader => {
                tracing::info!("a new leader has begun; its transactions follow");
                (None, Some(Duration::ZERO))
            }
            LogStop::Lost(message) => {
                self.needs_stage = true;
                (Some((SourceErrorKind::Unavailable, message)), None)
            }
            LogStop::Failed(message) => (Some((SourceErrorKind::Unavailable, message)), None),
            LogStop::Final(kind, message) => (Some((kind, message)), None),
        };
        self.input(Input::Disconnected).await.ok()?;
        let Some((kind, message)) = error else {
            return Some(wait.unwrap_or_default());
        };
        let is_final = kind.is_final();
        let error = SourceError { kind, message };
        self.send(SourceEvent::Trouble(error)).await.ok()?;
        (!is_final).then(|| self.reconnects.failed())
    }
}
