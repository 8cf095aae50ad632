//! The status document of `/status` and `zkbridge status --json`. Programs read it: a field may be added, never removed
//! or given another meaning.

use std::collections::BTreeMap;

use bridge_core::delivery::{ParkedStatus, RunStatus, SinkFailure, SinkStatus};
use bridge_core::number::{Epoch, Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::pipeline::{HistoryStatus, SourceStatus};
use bridge_core::record::{Mode, Timestamp};
use serde::{Deserialize, Serialize};

/// The state of a bridge: its sources and sinks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BridgeStatus {
    /// The version of the program.
    pub version: String,
    /// Whether a bridge runs. If not, the rest comes from the journals.
    pub running: bool,
    /// When the document was made.
    pub time: Timestamp,
    /// Whether every source is live.
    pub ready: bool,
    /// Why it is not ready, in sentences.
    pub not_ready: Vec<String>,
    /// Each source and sink that a person has to do something about, in sentences.
    #[serde(default)]
    pub attention: Vec<String>,
    /// The sources.
    pub sources: Vec<SourceSummary>,
    /// The sinks, one entry for each source of a sink.
    pub sinks: Vec<SinkSummary>,
}

/// The state of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceSummary {
    /// Its name.
    pub source: String,
    /// How it captures; null where no bridge runs.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// `detached`, `arming`, `walking`, `live` or `halted`; `stopped` where no bridge runs.
    pub state: String,
    /// When it came into this state.
    pub since: Option<Timestamp>,
    /// The server's version, if known.
    pub server: Option<String>,
    /// The server that it is connected to, as it is configured and with its address; null without a connection, where no
    /// bridge runs, and for a source that reads transactions, which has it in `history.follows`.
    #[serde(default)]
    pub connected_to: Option<String>,
    /// When the watches were armed, or since when a leader is followed.
    pub armed_since: Option<Timestamp>,
    /// The watch epoch in use, or the last one.
    pub epoch: Option<Epoch>,
    /// The zxid up to which all roots are journalled.
    pub reported: Option<Zxid>,
    /// When the last watch event or transaction arrived.
    pub last_event: Option<Timestamp>,
    /// Events whose values are still being read.
    pub waiting: Option<u64>,
    /// Full scans of a root since the start.
    pub walks: Option<u64>,
    /// Gaps since the start, by reason.
    pub gaps: Option<BTreeMap<String, u64>>,
    /// Znodes without read permission.
    pub unreadable: Option<u64>,
    /// Some of them.
    pub unreadable_paths: Vec<ZnodePath>,
    /// Why there is no connection, or why the journal accepts no records; with the remedy.
    pub trouble: Option<String>,
    /// Why the source has halted; with the choices.
    pub halted: Option<String>,
    /// Of a source that reads transactions: how far it is, and what proves it; null for others, and where no bridge runs.
    #[serde(default)]
    pub history: Option<HistorySummary>,
    /// Its journal.
    pub journal: JournalSummary,
}

/// The state of a source that reads transactions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistorySummary {
    /// The server or the folders that its transactions come from; null without a connection.
    pub follows: Option<String>,
    /// The newest transaction that the ensemble is known to have.
    pub newest: Option<Zxid>,
    /// Transactions of the newest leader that are not journalled; null while it is not known.
    pub lag_transactions: Option<u64>,
    /// For how many seconds the oldest of them has been known.
    pub lag_seconds: Option<f64>,
    /// How the history is proved.
    pub proof: ProofSummary,
    /// The queue between the connection and the journal; null where there is none.
    pub spool: Option<SpoolSummary>,
    /// The tree that is taken at present; null while none is.
    pub tree: Option<TreeSummary>,
}

/// How a history is proved. The counts are since the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProofSummary {
    /// `tree`, `roots` or `sequence`.
    pub mode: String,
    /// The last transaction that a digest has proved.
    pub zxid: Option<Zxid>,
    /// Transactions whose digest was compared and equal.
    pub checked: u64,
    /// Transactions that change something and were taken without a comparison.
    pub unproven: u64,
    /// Digests that were others than the server's; each is a gap.
    pub mismatched: u64,
    /// Why no digest is compared at present, although the mode asks for it; null if they are.
    pub suspended: Option<String>,
}

/// How full the queue between a connection and the journal is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpoolSummary {
    /// Bytes that wait.
    pub used_bytes: u64,
    /// The most that may wait.
    pub limit_bytes: u64,
}

/// How far a tree is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeSummary {
    /// `arriving`, `staging`, `proving` or `comparing`.
    pub phase: String,
    /// Bytes that have arrived; 0 where it is read from a file.
    pub bytes: u64,
    /// Znodes that are staged.
    pub znodes: u64,
    /// Captured znodes that were compared with the journal.
    pub compared: u64,
}

/// Measures of a journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalSummary {
    /// The last durable record.
    pub tail: Seq,
    /// Records kept.
    pub records: u64,
    /// When the oldest of them was captured.
    pub oldest: Option<Timestamp>,
    /// Records merged into later ones because the journal was full, since the journal began.
    #[serde(default)]
    pub compacted: u64,
    /// Bytes that count against the size limit.
    pub used_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// The state of a sink for one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkSummary {
    /// Its name.
    pub sink: String,
    /// The source's name.
    pub source: String,
    /// `opening`, `idle`, `delivering`, `backing_off`, `halted` or `closed`; where no bridge runs `stopped`, or `new`
    /// before the first start; `unconfigured` for a cursor whose sink is not configured.
    pub state: String,
    /// The last record that is done: delivered, filtered out, or kept as a dead letter or for a retry.
    pub cursor: Seq,
    /// The journal's durable tail.
    pub tail: Seq,
    /// Records between the cursor and the tail.
    pub lag_records: u64,
    /// Age of the oldest record that is not delivered; 0 if there is none.
    pub lag_seconds: f64,
    /// Records delivered since the start.
    pub delivered: Option<u64>,
    /// Of them, records whose data was cut to the limit of the destination.
    pub shrunk: Option<u64>,
    /// Records rejected since the start.
    pub rejected: Option<u64>,
    /// Records that the filters of the sink left out since the start.
    pub filtered: Option<u64>,
    /// Records that orders to replay have named since the start.
    pub replayed: Option<u64>,
    /// Of them, records that were left out: a newer one of their path was handled since the order was made, or they are
    /// dead letters or not handled yet.
    pub replay_left_out: Option<u64>,
    /// Of them, records that could not be queued.
    #[serde(default)]
    pub replay_not_queued: Option<u64>,
    /// Why the last of these could not be queued.
    #[serde(default)]
    pub replay_problem: Option<String>,
    /// Dead letters kept in the journal.
    pub dead_letters: u64,
    /// Records that wait for a retry.
    pub parked: ParkedStatus,
    /// Progress of `zkbridge snapshot`; null if none is under way or no bridge runs.
    pub snapshot: Option<RunStatus>,
    /// Failed attempts since the start that were or will be repeated.
    pub retries: Option<u64>,
    /// Why the sink does not deliver; null if it does.
    pub error: Option<SinkFault>,
}

/// Why a sink does not deliver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkFault {
    /// The kind of error, in one word.
    pub kind: String,
    /// The error with its causes.
    pub message: String,
    /// The remedy for an operator.
    pub remedy: String,
    /// Whether an operator has to act.
    pub calls_operator: bool,
    /// Failures in a row.
    pub failures: u32,
    /// Seconds until the destination wants the next attempt, if it said so.
    pub retry_after_seconds: Option<u64>,
}

impl BridgeStatus {
    /// The status of a running bridge.
    pub fn of_running(sources: &[SourceStatus], sinks: &[SinkStatus], time: Timestamp) -> BridgeStatus {
        let not_ready: Vec<String> = sources.iter().filter_map(why_not_ready).collect();
        let mut sinks: Vec<SinkSummary> = sinks.iter().map(SinkSummary::from).collect();
        for sink in &mut sinks {
            // A sink that waits for its destination reports the tail of the time when it began to wait.
            let source = sources.iter().find(|source| *source.source == *sink.source);
            let tail = source.map_or(Seq::ZERO, |source| source.journal.tail);
            sink.tail = sink.tail.max(tail);
            sink.lag_records = sink.tail.0.saturating_sub(sink.cursor.0);
        }
        let mut status = BridgeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running: true,
            time,
            ready: not_ready.is_empty(),
            not_ready,
            attention: Vec::new(),
            sources: sources.iter().map(SourceSummary::from).collect(),
            sinks,
        };
        status.find_attention();
        status
    }
}

impl SourceSummary {
    /// Whether its watches are armed, its roots compared and its journal accepts records.
    pub fn is_ready(&self) -> bool {
        self.halted.is_none() && self.trouble.is_none() && self.state == "live"
    }
}

/// A source is ready when its watches are armed, its roots compared and its journal accepts records.
fn why_not_ready(source: &SourceStatus) -> Option<String> {
    let name = &source.source;
    if let Some(halted) = &source.halted {
        return Some(format!("source '{name}' has stopped: {halted}"));
    }
    if let Some(trouble) = &source.trouble {
        return Some(format!("source '{name}' is {}: {trouble}", source.state));
    }
    (!source.is_live()).then(|| format!("source '{name}' is {}", source.state))
}

impl From<&SourceStatus> for SourceSummary {
    fn from(status: &SourceStatus) -> SourceSummary {
        let gaps = status.gaps.iter();
        SourceSummary {
            source: status.source.to_string(),
            mode: Some(status.mode),
            state: status.state.to_owned(),
            since: Some(status.since),
            server: status.server.as_deref().map(str::to_owned),
            connected_to: status.connected_to.as_deref().map(str::to_owned),
            armed_since: status.armed_since,
            epoch: status.epoch,
            reported: status.reported,
            last_event: status.last_event,
            waiting: Some(status.waiting as u64),
            walks: Some(status.walks),
            gaps: Some(
                gaps.map(|(reason, count)| ((*reason).to_owned(), *count))
                    .collect(),
            ),
            unreadable: Some(status.unreadable),
            unreadable_paths: status.unreadable_paths.clone(),
            trouble: status.trouble.clone(),
            halted: status.halted.clone(),
            history: status.history.as_ref().map(HistorySummary::from),
            journal: JournalSummary {
                tail: status.journal.tail,
                records: status.journal.records,
                oldest: status.journal.oldest,
                compacted: status.journal.compacted,
                used_bytes: status.journal.used_bytes,
                file_bytes: status.journal.file_bytes,
            },
        }
    }
}

impl From<&HistoryStatus> for HistorySummary {
    fn from(status: &HistoryStatus) -> HistorySummary {
        let proof = &status.proof;
        HistorySummary {
            follows: status.follows.as_deref().map(str::to_owned),
            newest: status.newest,
            lag_transactions: status.lag.map(|lag| lag.transactions),
            lag_seconds: status.lag.map(|lag| lag.seconds),
            proof: ProofSummary {
                mode: proof.mode.to_owned(),
                zxid: proof.zxid,
                checked: proof.checked,
                unproven: proof.unproven,
                mismatched: proof.mismatched,
                suspended: proof.suspended.map(str::to_owned),
            },
            spool: status.spool.map(|spool| SpoolSummary {
                used_bytes: spool.used_bytes,
                limit_bytes: spool.limit_bytes,
            }),
            tree: status.tree.map(|tree| TreeSummary {
                phase: tree.phase.as_str().to_owned(),
                bytes: tree.bytes,
                znodes: tree.znodes,
                compared: tree.compared,
            }),
        }
    }
}

impl From<&SinkStatus> for SinkSummary {
    fn from(status: &SinkStatus) -> SinkSummary {
        SinkSummary {
            sink: status.sink.to_string(),
            source: status.source.to_string(),
            state: status.state.as_str().to_owned(),
            cursor: status.cursor,
            tail: status.tail,
            lag_records: status.lag_records,
            lag_seconds: status.lag_seconds,
            delivered: Some(status.delivered),
            shrunk: Some(status.shrunk),
            rejected: Some(status.rejected),
            filtered: Some(status.filtered),
            replayed: Some(status.replay.named),
            replay_left_out: Some(status.replay.left_out),
            replay_not_queued: Some(status.replay.not_queued),
            replay_problem: status.replay.problem.clone(),
            dead_letters: status.dead_letters,
            parked: status.parked.clone(),
            snapshot: status.run.clone(),
            retries: Some(status.retries),
            error: status.error.as_ref().map(SinkFault::from),
        }
    }
}

impl From<&SinkFailure> for SinkFault {
    fn from(failure: &SinkFailure) -> SinkFault {
        SinkFault {
            kind: failure.kind.as_str().to_owned(),
            message: failure.message.clone(),
            remedy: failure.remedy.to_owned(),
            calls_operator: failure.calls_operator,
            failures: failure.failures,
            retry_after_seconds: failure.retry_after_seconds,
        }
    }
}
