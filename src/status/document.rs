//! The document. Programs read it: a field is added, never removed or given another meaning.

use std::collections::BTreeMap;

use bridge_core::delivery::{ParkedPath, Phase, SinkStatus};
use bridge_core::number::{Epoch, Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::pipeline::SourceStatus;
use bridge_core::record::Timestamp;
use serde::{Deserialize, Serialize};

/// Everything as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the program that says so.
    pub version: String,
    /// Whether a bridge runs. If not, the rest is what the journals tell.
    pub running: bool,
    /// When this was so.
    pub time: Timestamp,
    /// Whether every source is live.
    pub ready: bool,
    /// Why not, in sentences.
    pub not_ready: Vec<String>,
    /// The sources.
    pub sources: Vec<SourceSeen>,
    /// The sinks, one for each source that they take from.
    pub sinks: Vec<SinkSeen>,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceSeen {
    /// Its name.
    pub source: String,
    /// `detached`, `arming`, `walking`, `live` or `halted`; `stopped` where no bridge runs.
    pub state: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// The server's version, where it tells.
    pub server: Option<String>,
    /// Since when the watches are armed.
    pub armed_since: Option<Timestamp>,
    /// The watch epoch in use, or the last one.
    pub epoch: Option<Epoch>,
    /// Everything up to it was reported, for all roots.
    pub reported: Option<Zxid>,
    /// When the last watch event came.
    pub last_event: Option<Timestamp>,
    /// Events that wait for their values.
    pub waiting: Option<u64>,
    /// Walks of a root that came to their end, since the start.
    pub walks: Option<u64>,
    /// Gaps begun since the start, by reason.
    pub gaps: Option<BTreeMap<String, u64>>,
    /// Znodes that may not be read.
    pub unreadable: Option<u64>,
    /// Some of them.
    pub unreadable_paths: Vec<ZnodePath>,
    /// Why there is no connection, or the journal takes no records; with the remedy.
    pub trouble: Option<String>,
    /// Why the source has stopped for good; with the choices.
    pub halted: Option<String>,
    /// Its journal.
    pub journal: JournalSeen,
}

/// A journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalSeen {
    /// The last durable record.
    pub tail: Seq,
    /// Records kept.
    pub records: u64,
    /// When the oldest of them was captured.
    pub oldest: Option<Timestamp>,
    /// Records that went into later ones because the journal was full, since it began.
    #[serde(default)]
    pub compacted: u64,
    /// Bytes that count against the size limit.
    pub used_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkSeen {
    /// Its name.
    pub sink: String,
    /// The source's name.
    pub source: String,
    /// `opening`, `idle`, `delivering`, `backing_off`, `halted` or `closed`; where no bridge runs `stopped`, or `new`
    /// before the first start.
    pub state: String,
    /// Everything up to it is durable at the destination, filtered out, or set aside.
    pub cursor: Seq,
    /// The journal's durable tail.
    pub tail: Seq,
    /// From the cursor to the tail.
    pub lag_records: u64,
    /// Age of the oldest record that is not delivered; 0 where there is none.
    pub lag_seconds: f64,
    /// Records delivered since the start.
    pub delivered: Option<u64>,
    /// Of them, records whose data was cut to what the destination takes.
    pub shrunk: Option<u64>,
    /// Records rejected since the start.
    pub rejected: Option<u64>,
    /// Records that orders to replay have named since the start.
    pub replayed: Option<u64>,
    /// Dead letters kept in the journal.
    pub dead_letters: u64,
    /// Records that wait for their destination while others go on.
    pub parked: Parked,
    /// How far `zkbridge snapshot` is; null when none is under way or no bridge runs.
    pub snapshot: Option<SnapshotSeen>,
    /// Attempts that failed and were or will be made again, since the start.
    pub retries: Option<u64>,
    /// What stands in the way; null when nothing does.
    pub error: Option<Trouble>,
}

/// The present state on its way to one sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotSeen {
    /// Of this path and all below it; null: of everything.
    pub path: Option<ZnodePath>,
    /// Znodes told of the root that it has come to.
    pub told: u64,
}

/// Records that wait for their destination while those of other paths go on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parked {
    /// How many.
    pub records: u64,
    /// Of how many paths.
    pub paths: u64,
    /// Those among the records that an operator wants once more.
    pub replaying: u64,
    /// Those that are tried next.
    pub next: Vec<ParkedNext>,
}

/// A path whose records wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParkedNext {
    /// The path; null for control records.
    pub path: Option<ZnodePath>,
    /// The first record that waits.
    pub seq: Seq,
    /// How many wait.
    pub records: u64,
    /// Attempts in a row that failed.
    pub attempts: u32,
    /// Until the next one.
    pub retry_in_seconds: f64,
    /// Why the last one failed.
    pub error: String,
}

/// What stands in the way of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// What failed, in one word.
    pub kind: String,
    /// What happened, with its causes.
    pub message: String,
    /// What an operator can do.
    pub remedy: String,
    /// Whether a person probably has to act.
    pub calls_operator: bool,
    /// Failures in a row.
    pub failures: u32,
    /// The destination's own word on when to come back.
    pub retry_after_seconds: Option<u64>,
}

impl Status {
    /// Of a running bridge.
    pub fn of_running(sources: &[SourceStatus], sinks: &[SinkStatus], time: Timestamp) -> Status {
        let not_ready: Vec<String> = sources.iter().filter_map(why_not_ready).collect();
        let mut sinks: Vec<SinkSeen> = sinks.iter().map(SinkSeen::from).collect();
        for sink in &mut sinks {
            // A sink that waits for its destination says where the journal ended when it began to wait.
            let source = sources.iter().find(|source| *source.source == *sink.source);
            let tail = source.map_or(Seq::ZERO, |source| source.journal.tail);
            sink.tail = sink.tail.max(tail);
            sink.lag_records = sink.tail.0.saturating_sub(sink.cursor.0);
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running: true,
            time,
            ready: not_ready.is_empty(),
            not_ready,
            sources: sources.iter().map(SourceSeen::from).collect(),
            sinks,
        }
    }
}

/// A source is ready when its watches are armed, its roots compared and its journal takes records.
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

impl From<&SourceStatus> for SourceSeen {
    fn from(status: &SourceStatus) -> SourceSeen {
        let gaps = status.gaps.iter();
        SourceSeen {
            source: status.source.to_string(),
            state: status.state.to_owned(),
            since: Some(status.since),
            server: status.server.as_deref().map(str::to_owned),
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
            journal: JournalSeen {
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

impl From<&SinkStatus> for SinkSeen {
    fn from(status: &SinkStatus) -> SinkSeen {
        SinkSeen {
            sink: status.sink.to_string(),
            source: status.source.to_string(),
            state: word(status.state),
            cursor: status.cursor,
            tail: status.tail,
            lag_records: status.lag_records,
            lag_seconds: status.lag_seconds,
            delivered: Some(status.delivered),
            shrunk: Some(status.shrunk),
            rejected: Some(status.rejected),
            replayed: Some(status.replayed),
            dead_letters: status.dead_letters,
            parked: Parked {
                records: status.parked.records,
                paths: status.parked.paths,
                replaying: status.parked.replaying,
                next: status.parked.next.iter().map(ParkedNext::from).collect(),
            },
            snapshot: status.run.as_ref().map(|run| SnapshotSeen {
                path: run.path.clone(),
                told: run.told,
            }),
            retries: Some(status.retries),
            error: status.error.as_ref().map(Trouble::from),
        }
    }
}

/// The word of a phase, as it is written everywhere.
fn word(phase: Phase) -> String {
    let word = serde_json::to_value(phase).ok();
    word.and_then(|word| word.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl From<&ParkedPath> for ParkedNext {
    fn from(parked: &ParkedPath) -> ParkedNext {
        ParkedNext {
            path: parked.path.clone(),
            seq: parked.seq,
            records: parked.records,
            attempts: parked.attempts,
            retry_in_seconds: parked.retry_in_seconds,
            error: parked.error.clone(),
        }
    }
}

impl From<&bridge_core::delivery::Trouble> for Trouble {
    fn from(trouble: &bridge_core::delivery::Trouble) -> Trouble {
        Trouble {
            kind: trouble.kind.as_str().to_owned(),
            message: trouble.message.clone(),
            remedy: trouble.remedy.to_owned(),
            calls_operator: trouble.calls_operator,
            failures: trouble.failures,
            retry_after_seconds: trouble.retry_after_seconds,
        }
    }
}
