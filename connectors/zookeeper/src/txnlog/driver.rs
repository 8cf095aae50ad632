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
use bridge_transactions::log_file::LogError;
use bridge_transactions::transaction::{Transaction, epoch};
use futures::future::BoxFuture;

use super::applied::applied_by_servers;
use super::base::{BaseError, Sources};
use super::folder::LogFolder;
use super::history::{HistoryError, LogHistory};
use super::idle::{Idle, has_reached};
use super::options::TxnlogOptions;
use super::tail::TailError;
use crate::config::ZookeeperConfig;
use crate::connect::version;
use crate::observer::stage::{Stage, StageError};
use crate::observer::to_core::committed;
use crate::reconnects::Reconnects;
use crate::source::{apart, pause};
use crate::who::Who;

/// Poll interval of the logs. A poll that finds nothing reads a few bytes of each log and lists its folder.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// How long a hole may last, which a server that lags fills, or a tree may differ from the server's, which the next
/// transaction can mend. Then the source begins again with a snapshot.
const STUCK_PATIENCE: Duration = Duration::from_secs(20);

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
        let folders = self.options.directories.iter().map(|path| LogFolder::new(path));
        let mut driver = LogDriver {
            folders: folders.collect(),
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
    folders: Vec<LogFolder>,
    link: Link,
    number: Connection,
    reconnects: Reconnects,
    /// The history after the position cannot be had: the next connection begins with a snapshot.
    needs_stage: bool,
    /// For the status of the source.
    measures: FeedMeasures,
    who: Option<Who>,
}

/// The work of the present connection.
enum LogWork {
    /// The machine has not stated its position.
    Connected,
    /// A snapshot and the transactions after it become an exact tree.
    Staging {
        stage: Box<Stage>,
        history: LogHistory,
        /// The last transaction that the ensemble had applied when the snapshot had been read: it has none after it.
        newest: i64,
    },
    /// The tree is exact, and the machine reads it.
    Staged(Box<Stage>, LogHistory),
    /// Transactions go to the machine.
    Following {
        history: LogHistory,
        is_up_to_date: bool,
    },
}

impl LogWork {
    /// The history, if transactions are taken from it.
    fn read(&self) -> Option<&LogHistory> {
        match self {
            LogWork::Connected | LogWork::Staged(..) => None,
            LogWork::Staging { history, .. } | LogWork::Following { history, .. } => Some(history),
        }
    }

    fn history(&mut self) -> Option<&mut LogHistory> {
        match self {
            LogWork::Connected => None,
            LogWork::Staging { history, .. }
            | LogWork::Staged(_, history)
            | LogWork::Following { history, .. } => Some(history),
        }
    }
}

/// Why a connection ends.
enum LogStop {
    /// The bridge stops, or the pipeline has ended.
    Asked,
    /// The machine asked for another one.
    Replace(Duration),
    /// A new leader has begun.
    NewLeader,
    /// The logs cannot be read on from the position; a snapshot is needed.
    Lost(String),
    /// Tried again.
    Failed(String),
    /// Not tried again.
    Final(SourceErrorKind, String),
}

impl From<HistoryError> for LogStop {
    fn from(error: HistoryError) -> LogStop {
        match &error {
            HistoryError::Tail(TailError::Log {
                path,
                cause: LogError::Foreign { .. },
            }) => LogStop::Failed(format!("{error}; move this file away: {}", path.display())),
            HistoryError::Tail(TailError::Log { .. }) => {
                let help = "nothing from it on is recorded: use capture = \"watch\" or a newer zkbridge";
                LogStop::Final(SourceErrorKind::Unsupported, format!("{error}; {help}"))
            }
            // The server took transactions back that were not committed: they are read again from the position on.
            HistoryError::Tail(_) => LogStop::Failed(error.to_string()),
            HistoryError::OtherHistory { .. } | HistoryError::Digest { .. } => {
                LogStop::Lost(error.to_string())
            }
        }
    }
}

impl From<BaseError> for LogStop {
    fn from(error: BaseError) -> LogStop {
        match error {
            BaseError::Stopped | BaseError::Stage(StageError::Stopped) => LogStop::Asked,
            BaseError::History(error) => error.into(),
            other => LogStop::Failed(other.to_string()),
        }
    }
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
                return stop;
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
                    return LogStop::Lost(reason);
                }
                Some(_) => {}
            }
        }
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
        &self,
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
            Some(position) => sources.resume(&position, applied)?,
            None => None,
        };
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
        let (stage, history) = sources.stage(leader)?;
        let znodes = stage.znodes().map_err(BaseError::Stage)?;
        self.measures.tree_goes_on(TreePhase::Proving, znodes);
        tracing::info!(took = ?began.elapsed(), "staged the tree of a snapshot");
        let applied = self.ask_servers().await.map_err(LogStop::Failed)?;
        let work = LogWork::Staging {
            stage: Box::new(stage),
            history: prepared(history),
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
            newest,
        } = work
        else {
            return Ok(());
        };
        for transaction in &taken {
            let taken = stage.take(transaction);
            taken.map_err(|error| LogStop::Failed(error.to_string()))?;
        }
        if has_reached(history, *newest, !taken.is_empty()) {
            stage.up_to_date();
        }
        let Some(at) = stage.exact_at() else { return Ok(()) };
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

/// Why nothing goes on, although the ensemble does.
fn stuck(work: &mut LogWork) -> Option<String> {
    if let LogWork::Staging { stage, .. } = work
        && stage.is_contradicted()
    {
        let reason = "the tree of the newest snapshot, with the logs after it, has another digest than the server wrote: \
                      the logs lack a transaction, or have one that was never committed";
        return Some(reason.to_owned());
    }
    let hole = work.history()?.hole()?;
    Some(format!(
        "the logs have no transaction between 0x{:016x} and 0x{:016x}, or nothing shows that there is none: name the \
         folders of more servers in [source.txnlog] directories",
        hole.last, hole.next
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_log_is_named_to_be_moved_away_and_the_logs_are_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let failed = |begin: &[u8]| {
            let path = folder.path().join("log.1");
            std::fs::write(&path, begin).unwrap();
            let begin = super::super::history::LogPosition {
                zxid: 0,
                payload_crc: None,
                digest: None,
            };
            let mut history = LogHistory::new(vec![LogFolder::new(folder.path())], begin, None);
            let stop = LogStop::from(history.poll().unwrap_err());
            (stop, format!("move this file away: {}", path.display()))
        };
        for begin in [b"2026-01-01 INFO started".as_slice(), &[0; 64]] {
            let (stop, remedy) = failed(begin);
            let LogStop::Failed(message) = stop else {
                panic!("it is tried again")
            };
            assert!(message.ends_with(&remedy), "{message}");
        }
        let (stop, _) = failed(b"ZKLG\0\0\0\x09 ... of another format");
        assert!(matches!(stop, LogStop::Final(SourceErrorKind::Unsupported, _)));
    }
}
