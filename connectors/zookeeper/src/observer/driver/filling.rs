//! A leader that would send its whole tree, because the absence was too long for its memory: the logs of servers may have
//! the transactions between.
//!
//! The connection is closed before the tree, so that the leader does not send it. The machine hears of a connection whose
//! history follows its position, and gets it from the logs; then the leader is asked again.

use std::time::{Duration, Instant};

use bridge_core::committed::{HistoryPosition, SyncAnswer, SyncKind};
use bridge_core::record::Mode;
use bridge_core::source::{Input, SourceEvent, SourceRequest};
use bridge_transactions::transaction::epoch;

use super::{Driver, Work};
use crate::observer::conversation::ConversationEnd;
use crate::observer::stop::Stop;
use crate::txnlog::LogFolder;
use crate::txnlog::applied::applied_by_servers;
use crate::txnlog::base::{BaseError, Sources};
use crate::txnlog::evidence::foreign_folders;
use crate::txnlog::fill::{FillError, HoleFill};

/// How often logs are read before a tree is taken after all: while they are read the leader goes on, and may be too far
/// ahead again.
pub(super) const FILLS_MAX: u32 = 2;

/// A tree that was refused before it was sent.
#[derive(Clone, Copy, Debug)]
pub(in crate::observer) struct RefusedTree {
    /// The epoch of the leader.
    pub epoch: u32,
    /// The position of the machine.
    pub after: HistoryPosition,
    /// The zxid of the tree: everything up to it is applied by the leader.
    pub zxid: i64,
}

/// Counts the transactions that the logs had so far.
struct Filled {
    transactions: u64,
    last: i64,
}

/// Why they have no more, or the connection ends.
enum Unfilled {
    Stop(Stop),
    Reason(String),
}

impl From<FillError> for Unfilled {
    fn from(error: FillError) -> Unfilled {
        match error {
            FillError::Base(BaseError::Stopped) => Unfilled::Stop(Stop::Asked),
            error => Unfilled::Reason(error.to_string()),
        }
    }
}

impl From<Stop> for Unfilled {
    fn from(stop: Stop) -> Unfilled {
        Unfilled::Stop(stop)
    }
}

/// Why the driver ends a connection whose conversation has ended.
pub(super) fn stop_of(end: ConversationEnd, work: &Work) -> Stop {
    match (end, work) {
        (
            ConversationEnd::TreeRefused { zxid, .. },
            Work::Resumed {
                epoch,
                after: Some(after),
            },
        ) => Stop::TreeRefused(RefusedTree {
            epoch: *epoch,
            after: *after,
            zxid,
        }),
        (end, _) => Stop::Ended(end),
    }
}

impl Driver {
    /// Whether logs are read before a tree is taken.
    pub(super) fn may_fill(&self) -> bool {
        self.source.config.txnlog.is_some() && self.fills < FILLS_MAX
    }

    /// Reports the transactions between the position and the tree, as far as logs have them. Returns why the connection
    /// ends.
    pub(super) async fn fill(&mut self, refused: RefusedTree) -> Stop {
        self.fills += 1;
        let began = Instant::now();
        let mut filled = Filled {
            transactions: 0,
            last: refused.after.zxid.0.cast_signed(),
        };
        let stop = match self.fill_from_logs(refused, &mut filled).await {
            Unfilled::Stop(stop) => stop,
            Unfilled::Reason(reason) => {
                self.filled(refused, &filled, &reason, began.elapsed());
                Stop::Filled
            }
        };
        match self.send(SourceEvent::Mode(None)).await {
            Ok(()) => stop,
            Err(stop) => stop,
        }
    }

    /// Says what was filled, and why there may be a gap. After some progress the leader may still have the rest.
    fn filled(&mut self, refused: RefusedTree, filled: &Filled, reason: &str, took: Duration) {
        let from = format!("0x{:016x}", refused.after.zxid.0);
        let to = format!("0x{:016x}", filled.last);
        let transactions = filled.transactions;
        if transactions > 0 {
            tracing::info!(
                transactions,
                from,
                to,
                ?took,
                "transaction logs have filled what the leader no longer has in memory"
            );
        } else {
            self.fills = FILLS_MAX;
        }
        if filled.last < refused.zxid {
            tracing::warn!(
                position = to,
                leader = format!("0x{:016x}", refused.zxid),
                reason,
                "transaction logs do not have everything that the leader no longer has in memory; if it has not got the \
                 rest, its tree is compared, in a gap"
            );
        }
    }

    /// Reports what logs have, until they have no more.
    async fn fill_from_logs(&mut self, refused: RefusedTree, filled: &mut Filled) -> Unfilled {
        match self.report_from_logs(refused, filled).await {
            Ok(reason) => Unfilled::Reason(reason),
            Err(unfilled) => unfilled,
        }
    }

    async fn report_from_logs(
        &mut self,
        refused: RefusedTree,
        filled: &mut Filled,
    ) -> Result<String, Unfilled> {
        let config = self.source.config.clone();
        let directories = config.txnlog.iter().flat_map(|options| &options.directories);
        let mut folders: Vec<LogFolder> = directories.map(|path| LogFolder::new(path)).collect();
        // The leader's epoch is the newest that there is.
        let reached = i64::from(refused.epoch) << 32;
        let foreign = foreign_folders(&folders, &[reached]).map_err(FillError::from)?;
        for one in &foreign {
            tracing::warn!("a folder of [source.txnlog] directories is left out: {one}");
        }
        folders.retain(|folder| foreign.iter().all(|one| one.path != folder.named()));
        let stage_folder = self.source.folder.clone();
        let stop = self.link.stop.clone();
        let is_stopped = || stop.is_cancelled();
        let sources = Sources {
            folders: &folders,
            stage_folder: &stage_folder,
            is_stopped: &is_stopped,
        };
        // The leader says what it has applied. Of an earlier epoch that shows nothing: a leader that is not established
        // has applied its whole log.
        let of_leader = (epoch(refused.zxid) == refused.epoch).then_some(refused.zxid);
        let applied: Vec<i64> = applied_now(&config).await.into_iter().chain(of_leader).collect();
        let mut fill = HoleFill::begin(sources, &refused.after, refused.epoch, &applied)?;
        let (epoch, kind) = (refused.epoch, SyncKind::Diff);
        self.input(Input::Synced(SyncAnswer { epoch, kind })).await?;
        self.send(SourceEvent::Mode(Some(Mode::Txnlog))).await?;
        self.measures
            .follow(config.txnlog.as_ref().map(|options| options.named().into()));
        loop {
            self.check_wanted()?;
            let mut taken = fill.next()?;
            if taken.is_empty() {
                // The ensemble has gone on meanwhile.
                let applied: Vec<i64> = applied_now(&config).await.into_iter().chain(of_leader).collect();
                fill.applied(&applied);
                taken = fill.next()?;
            }
            let Some(last) = taken.last().map(|last| last.zxid) else {
                return Ok(fill.reason());
            };
            let is_first = filled.transactions == 0;
            filled.transactions += taken.len() as u64;
            filled.last = last;
            self.forward_logged(taken).await?;
            if is_first {
                // The logs return only what is committed: the machine needs to hold nothing.
                self.input(Input::UpToDate).await?;
            }
        }
    }

    /// The machine asks for another connection where a transaction contradicts its image.
    fn check_wanted(&mut self) -> Result<(), Stop> {
        while let Ok(request) = self.link.requests.try_recv() {
            if let SourceRequest::Reconnect { after } = request.request
                && request.connection == self.number
            {
                self.fills = FILLS_MAX;
                return Err(Stop::Replace(after));
            }
        }
        Ok(())
    }
}

/// The last transactions that serving servers have applied; none if no server says it.
async fn applied_now(config: &crate::config::ZookeeperConfig) -> Vec<i64> {
    match applied_by_servers(config).await {
        Ok(applied) => applied,
        Err(reason) => {
            tracing::debug!(reason, "only the leader says what is committed");
            Vec::new()
        }
    }
}
