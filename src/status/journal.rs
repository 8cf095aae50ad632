//! The document where no bridge runs: what the journals tell.

use bridge_config::{Config, SourceConfig};
use bridge_core::delivery::policy;
use bridge_core::journal::{JournalError, Overview, Reader};
use bridge_core::number::Seq;
use bridge_core::record::Timestamp;
use bridge_core::sink::SinkErrorKind;

use super::document::{JournalSeen, Parked, SinkSeen, SourceSeen, Status, Trouble};
use crate::exit::Failure;
use crate::operator::{Journals, letters_of, parked_of};

/// The word for what no bridge runs.
const STOPPED: &str = "stopped";
/// The word for a sink that the journal has not seen.
const NEW: &str = "new";

/// Reads the journals that there are.
pub fn of_journals(journals: &Journals, time: Timestamp) -> Result<Status, Failure> {
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        running: false,
        time,
        ready: false,
        not_ready: vec!["no bridge runs on this data_dir".to_owned()],
        sources: Vec::new(),
        sinks: Vec::new(),
    };
    for (source, mut reader) in journals.readers()? {
        let seen = look(journals.config(), source, &mut reader, time);
        let (source, sinks) = seen.map_err(crate::operator::unusable)?;
        status.sources.push(source);
        status.sinks.extend(sinks);
    }
    Ok(status)
}

fn look(
    config: &Config,
    source: &SourceConfig,
    reader: &mut Reader,
    time: Timestamp,
) -> Result<(SourceSeen, Vec<SinkSeen>), JournalError> {
    let overview = reader.overview()?;
    let mut sinks = Vec::new();
    for cursor in reader.cursors()? {
        sinks.push(sink(
            source,
            reader,
            &overview,
            (&cursor.sink, cursor.cursor),
            time,
        )?);
    }
    let unseen = config.sinks.iter().filter(|sink| {
        sink.sources.contains(&source.name) && !sinks.iter().any(|seen| seen.sink == *sink.name)
    });
    let unseen: Vec<SinkSeen> = unseen
        .map(|sink| standing(source, &sink.name, NEW, Seq::ZERO, tail_of(&overview)))
        .collect();
    sinks.extend(unseen);
    Ok((source_seen(source, &overview), sinks))
}

fn tail_of(overview: &Overview) -> Seq {
    overview.newest.map_or(Seq::ZERO, |(seq, _)| seq)
}

fn source_seen(source: &SourceConfig, overview: &Overview) -> SourceSeen {
    SourceSeen {
        source: source.name.to_string(),
        state: STOPPED.to_owned(),
        since: None,
        server: overview.server.as_deref().map(str::to_owned),
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
        journal: JournalSeen {
            tail: tail_of(overview),
            records: overview.records,
            oldest: overview.oldest.map(|(_, captured)| captured),
            compacted: overview.compacted,
            used_bytes: overview.used_bytes,
            file_bytes: overview.file_bytes,
        },
    }
}

/// A sink of which nothing is known but where it stands.
fn standing(source: &SourceConfig, name: &str, state: &str, cursor: Seq, tail: Seq) -> SinkSeen {
    SinkSeen {
        sink: name.to_owned(),
        source: source.name.to_string(),
        state: state.to_owned(),
        cursor,
        tail,
        lag_records: 0,
        lag_seconds: 0.0,
        delivered: None,
        shrunk: None,
        snapshot: None,
        rejected: None,
        replayed: None,
        dead_letters: 0,
        parked: Parked::default(),
        retries: None,
        error: None,
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "an age in seconds, shown with one digit"
)]
fn sink(
    source: &SourceConfig,
    reader: &mut Reader,
    overview: &Overview,
    (name, cursor): (&str, Seq),
    time: Timestamp,
) -> Result<SinkSeen, JournalError> {
    let tail = tail_of(overview);
    let behind = reader.captured_from(cursor.next())?;
    let age_ms = behind.map_or(0, |captured| (time.0 - captured.0).max(0));
    let parked = parked_of(reader, name)?;
    let mut paths: Vec<_> = parked.iter().map(|record| &record.path).collect();
    paths.sort_unstable();
    paths.dedup();
    let disabled = reader.disabled(name)?;
    Ok(SinkSeen {
        lag_records: tail.0.saturating_sub(cursor.0),
        lag_seconds: age_ms as f64 / 1000.0,
        dead_letters: letters_of(reader, name)?.len() as u64,
        parked: Parked {
            records: parked.len() as u64,
            paths: paths.len() as u64,
            replaying: 0,
            next: Vec::new(),
        },
        error: disabled.map(|disabled| Trouble {
            kind: SinkErrorKind::Disabled.as_str().to_owned(),
            message: format!("disabled since {}: {}", disabled.at, disabled.reason),
            remedy: policy::of_sink(SinkErrorKind::Disabled).remedy.to_owned(),
            calls_operator: true,
            failures: 1,
            retry_after_seconds: None,
        }),
        ..standing(source, name, STOPPED, cursor, tail)
    })
}
