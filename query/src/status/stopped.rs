//! The status document where no bridge runs: what the journals know.

use bridge_core::delivery::{ParkedStatus, policy};
use bridge_core::journal::Overview;
use bridge_core::number::Seq;
use bridge_core::record::Timestamp;
use bridge_core::sink::SinkErrorKind;

use super::document::{BridgeStatus, JournalSummary, SinkFault, SinkSummary, SourceSummary};
use crate::error::QueryError;
use crate::journal::JournalQuery;

/// The state of everything where no bridge runs.
const STOPPED: &str = "stopped";
/// The state of a sink that the journal does not know yet.
const NEW: &str = "new";
/// The state of a cursor whose sink is not configured.
pub(super) const UNCONFIGURED: &str = "unconfigured";

impl BridgeStatus {
    /// The status of the journals of a bridge that does not run. Each journal comes with the names of the sinks that the
    /// configuration connects to its source.
    ///
    /// # Errors
    ///
    /// If a journal cannot be read or all of its readers are busy.
    pub fn of_journals<'a, S: AsRef<str> + 'a>(
        journals: impl IntoIterator<Item = (&'a JournalQuery, Vec<S>)>,
        time: Timestamp,
    ) -> Result<BridgeStatus, QueryError> {
        let mut status = BridgeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running: false,
            time,
            ready: false,
            not_ready: vec!["no bridge runs on this data_dir".to_owned()],
            attention: Vec::new(),
            sources: Vec::new(),
            sinks: Vec::new(),
        };
        for (journal, configured) in journals {
            let overview = journal.overview()?;
            status.sources.push(source_summary(journal.source(), &overview));
            status
                .sinks
                .extend(sink_summaries(journal, &overview, &configured, time)?);
        }
        status.find_attention();
        Ok(status)
    }

    /// Adds cursors of a journal whose sinks are not configured. A running bridge has no other status of them.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all of its readers are busy.
    pub fn add_unconfigured<S: AsRef<str>>(
        &mut self,
        journal: &JournalQuery,
        sinks: &[S],
    ) -> Result<(), QueryError> {
        let overview = journal.overview()?;
        for sink in sinks.iter().map(AsRef::as_ref) {
            if let Some(cursor) = journal.cursor(sink)? {
                let mut summary = sink_summary(journal, &overview, sink, cursor, self.time)?;
                UNCONFIGURED.clone_into(&mut summary.state);
                self.sinks.push(summary);
            }
        }
        self.find_attention();
        Ok(())
    }
}

fn sink_summaries<S: AsRef<str>>(
    journal: &JournalQuery,
    overview: &Overview,
    configured: &[S],
    time: Timestamp,
) -> Result<Vec<SinkSummary>, QueryError> {
    let mut sinks = Vec::new();
    for known in journal.cursors()? {
        let mut summary = sink_summary(journal, overview, &known.sink, known.cursor, time)?;
        if !configured.iter().any(|name| name.as_ref() == &*known.sink) {
            UNCONFIGURED.clone_into(&mut summary.state);
        }
        sinks.push(summary);
    }
    for name in configured.iter().map(AsRef::as_ref) {
        if !sinks.iter().any(|sink| sink.sink == name) {
            sinks.push(idle(journal.source(), name, NEW, Seq::ZERO, tail_of(overview)));
        }
    }
    Ok(sinks)
}

fn tail_of(overview: &Overview) -> Seq {
    overview.newest.map_or(Seq::ZERO, |(seq, _)| seq)
}

fn source_summary(source: &str, overview: &Overview) -> SourceSummary {
    SourceSummary {
        source: source.to_owned(),
        mode: None,
        state: STOPPED.to_owned(),
        since: None,
        server: overview.server.as_deref().map(str::to_owned),
        connected_to: None,
        armed_since: None,
        epoch: Some(overview.epoch),
        reported: overview.roots.iter().map(|root| root.reported).min(),
        last_event: None,
        waiting: None,
        walks: None,
        gaps: None,
        unreadable: None,
        unreadable_paths: Vec::new(),
        trouble: None,
        halted: None,
        history: None,
        journal: JournalSummary {
            tail: tail_of(overview),
            records: overview.records,
            oldest: overview.oldest.map(|(_, captured)| captured),
            compacted: overview.compacted,
            used_bytes: overview.used_bytes,
            file_bytes: overview.file_bytes,
        },
    }
}

/// A sink of which only the cursor is known.
fn idle(source: &str, name: &str, state: &str, cursor: Seq, tail: Seq) -> SinkSummary {
    SinkSummary {
        sink: name.to_owned(),
        source: source.to_owned(),
        state: state.to_owned(),
        cursor,
        tail,
        lag_records: 0,
        lag_seconds: 0.0,
        delivered: None,
        shrunk: None,
        snapshot: None,
        rejected: None,
        filtered: None,
        replayed: None,
        replay_left_out: None,
        replay_not_queued: None,
        replay_problem: None,
        dead_letters: 0,
        parked: ParkedStatus::default(),
        retries: None,
        error: None,
    }
}

fn sink_summary(
    journal: &JournalQuery,
    overview: &Overview,
    name: &str,
    cursor: Seq,
    time: Timestamp,
) -> Result<SinkSummary, QueryError> {
    let tail = tail_of(overview);
    let undelivered_since = journal.reader()?.captured_from(cursor.next())?;
    let waiting = journal.retry_queue(name)?;
    let mut paths: Vec<_> = waiting.iter().map(|record| &record.path).collect();
    paths.sort_unstable();
    paths.dedup();
    let disabled = journal.disabled(name)?;
    Ok(SinkSummary {
        lag_records: tail.0.saturating_sub(cursor.0),
        lag_seconds: undelivered_since.map_or(0.0, |captured| captured.age_seconds(time)),
        dead_letters: journal.dead_letters(name)?.len() as u64,
        parked: ParkedStatus {
            records: waiting.len() as u64,
            paths: paths.len() as u64,
            replaying: 0,
            next: Vec::new(),
        },
        error: disabled.map(|disabled| SinkFault {
            kind: SinkErrorKind::Disabled.as_str().to_owned(),
            message: format!("disabled since {}: {}", disabled.at, disabled.reason),
            remedy: policy::of_sink(SinkErrorKind::Disabled).remedy.to_owned(),
            calls_operator: true,
            failures: 1,
            retry_after_seconds: None,
        }),
        ..idle(journal.source(), name, STOPPED, cursor, tail)
    })
}
