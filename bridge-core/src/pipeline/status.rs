//! The status of a source, for `/status`, readiness and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::{counter, gauge};

use super::history_status::HistoryStatus;
use crate::derive::InstanceCount;
use crate::machine::{CaptureState, SourceMachine};
use crate::metrics as names;
use crate::number::{Epoch, Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{Mode, Timestamp};

/// Unreadable znodes named in the status; the count includes the others.
const NAMED_MAX: usize = 20;

/// The state of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceStatus {
    /// Its name.
    pub source: Arc<str>,
    /// How it captures.
    pub mode: Mode,
    /// `detached`, `arming`, `walking`, `live` or `halted`.
    pub state: &'static str,
    /// Since when.
    pub since: Timestamp,
    /// The server's version, if it is known.
    pub server: Option<Arc<str>>,
    /// The server that it is connected to, as it is configured and with its address; `None` without a connection, and for
    /// sources that read transactions, whose [`HistoryStatus`] has it.
    pub connected_to: Option<Arc<str>>,
    /// Since when this connection has its watches armed, or follows a leader; null while it does not.
    pub armed_since: Option<Timestamp>,
    /// The watch epoch in use.
    pub epoch: Option<Epoch>,
    /// Everything up to it was reported, for all roots.
    pub reported: Option<Zxid>,
    /// When the last watch event or transaction came.
    pub last_event: Option<Timestamp>,
    /// Events that wait for their values.
    pub waiting: usize,
    /// Walks of a root that came to their end since this process started.
    pub walks: u64,
    /// Gaps begun since this process started, by reason.
    pub gaps: BTreeMap<&'static str, u64>,
    /// Znodes that may not be read.
    pub unreadable: u64,
    /// Some of them.
    pub unreadable_paths: Vec<ZnodePath>,
    /// Why there is no connection, or the journal takes no records; with the remedy.
    pub trouble: Option<String>,
    /// Why the source has stopped for good; with the choices.
    pub halted: Option<String>,
    /// Of a source that reads transactions: how far it is, and what proves it.
    pub history: Option<HistoryStatus>,
    /// It has stopped because its journal failed or could not be opened, which may work at the next start.
    pub journal_failed: bool,
    /// Its journal.
    pub journal: JournalStatus,
}

/// The state of a journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JournalStatus {
    /// The last durable record.
    pub tail: Seq,
    /// Records kept.
    pub records: u64,
    /// When the oldest of them was captured.
    pub oldest: Option<Timestamp>,
    /// Records that went into later ones, because the journal was full, since it began.
    pub compacted: u64,
    /// Bytes that count against the size limit.
    pub used_bytes: u64,
    /// The size limit.
    pub limit_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of SQLite's write-ahead log beside it.
    pub log_bytes: u64,
}

impl SourceStatus {
    pub(super) fn new(source: Arc<str>, mode: Mode, now: Timestamp) -> SourceStatus {
        SourceStatus {
            source,
            mode,
            state: CaptureState::Detached.as_str(),
            since: now,
            server: None,
            connected_to: None,
            armed_since: None,
            epoch: None,
            reported: None,
            last_event: None,
            waiting: 0,
            walks: 0,
            gaps: BTreeMap::new(),
            unreadable: 0,
            unreadable_paths: Vec::new(),
            trouble: None,
            halted: None,
            history: None,
            journal_failed: false,
            journal: JournalStatus::default(),
        }
    }

    /// Shows how many instances of services are registered.
    pub(super) fn show_instances(&self, instances: &[InstanceCount]) {
        let source = self.source.to_string();
        for InstanceCount {
            service,
            status,
            count,
        } in instances
        {
            let labels = [
                ("source", source.clone()),
                ("service", service.clone()),
                ("status", (*status).to_owned()),
            ];
            gauge!(names::SERVICE_INSTANCES, &labels).set(*count as f64);
        }
    }

    /// The status of a source that cannot be started, with the cause and what to do. Sets the metrics that show it.
    pub fn halted(source: Arc<str>, mode: Mode, now: Timestamp, cause: String) -> SourceStatus {
        let label = source.to_string();
        gauge!(names::SOURCE_LIVE, "source" => label.clone()).set(0.0);
        gauge!(names::SOURCE_HALTED, "source" => label).set(1.0);
        SourceStatus {
            state: CaptureState::Halted.as_str(),
            halted: Some(cause),
            ..SourceStatus::new(source, mode, now)
        }
    }

    /// The status of a source whose journal is being opened. Sets the metrics that show it.
    pub fn opening(source: Arc<str>, mode: Mode, now: Timestamp, reason: String) -> SourceStatus {
        let label = source.to_string();
        gauge!(names::SOURCE_LIVE, "source" => label.clone()).set(0.0);
        gauge!(names::SOURCE_HALTED, "source" => label).set(0.0);
        SourceStatus {
            trouble: Some(reason),
            ..SourceStatus::new(source, mode, now)
        }
    }

    /// Whether it has stopped for good, until an operator decides.
    pub fn needs_operator(&self) -> bool {
        self.halted.is_some() && !self.journal_failed
    }

    /// Whether every change is seen as it happens.
    pub fn is_live(&self) -> bool {
        self.state == CaptureState::Live.as_str()
    }

    /// Takes over what the machine shows. `true` if its state changed.
    pub(super) fn follow(&mut self, machine: &dyn SourceMachine, now: Timestamp) -> bool {
        self.epoch = machine.epoch();
        self.reported = machine.reported().or(self.reported);
        self.waiting = machine.waiting();
        self.walks = machine.counters().walks;
        if self.gaps != machine.counters().gaps {
            self.gaps.clone_from(&machine.counters().gaps);
        }
        self.unreadable = machine.unreadable_total();
        self.unreadable_paths = machine.unreadable(NAMED_MAX);
        let state = machine.state().as_str();
        let has_changed = state != self.state;
        if has_changed {
            self.state = state;
            self.since = now;
            self.armed_since = machine
                .state()
                .is_armed()
                .then(|| self.armed_since.unwrap_or(now));
        }
        has_changed
    }

    /// Shows the status and the machine's counters as metrics.
    pub(super) fn show(&self, machine: &dyn SourceMachine) {
        let source = self.source.to_string();
        let count = |name, value| counter!(name, "source" => source.clone()).absolute(value);
        let level = |name, value: f64| gauge!(name, "source" => source.clone()).set(value);
        let counters = machine.counters();
        count(names::SOURCE_EVENTS, counters.events);
        count(names::SOURCE_READS, counters.reads);
        count(names::SOURCE_REQUESTS, counters.requests);
        count(names::SOURCE_MISSED, counters.missed);
        count(names::SOURCE_SUPERSEDED, counters.superseded);
        match &self.history {
            // Nothing watches: the alert on a watch that nothing proves needs no series.
            Some(history) => history.show(&source),
            None => count(names::SOURCE_LIVENESS_CHECKS, counters.liveness_checks),
        }
        count(names::SOURCE_UNREAD_ACLS, counters.unread_acls);
        count(names::SOURCE_NOT_JSON, counters.not_json);
        count(names::SOURCE_WALKS, counters.walks);
        count(names::JOURNAL_COMPACTED, self.journal.compacted);
        for (op, fidelity, value) in counters.records.each() {
            let labels = [
                ("source", source.clone()),
                ("op", op.into()),
                ("fidelity", fidelity.into()),
            ];
            counter!(names::SOURCE_RECORDS, &labels).absolute(value);
        }
        for (reason, value) in &counters.gaps {
            let labels = [("source", source.clone()), ("reason", (*reason).into())];
            counter!(names::SOURCE_GAPS, &labels).absolute(*value);
        }
        level(names::SOURCE_LIVE, f64::from(u8::from(self.is_live())));
        level(names::SOURCE_HALTED, f64::from(u8::from(self.halted.is_some())));
        level(names::SOURCE_UNREADABLE, self.unreadable as f64);
        level(names::SOURCE_WAITING, self.waiting as f64);
        level(
            names::SOURCE_LAST_ZXID,
            self.reported.map_or(0.0, |zxid| zxid.0 as f64),
        );
        level(names::JOURNAL_TAIL, self.journal.tail.0 as f64);
        level(names::JOURNAL_RECORDS, self.journal.records as f64);
        level(names::JOURNAL_BYTES, self.journal.used_bytes as f64);
        level(names::JOURNAL_LIMIT, self.journal.limit_bytes as f64);
        level(names::JOURNAL_LOG, self.journal.log_bytes as f64);
    }
}
