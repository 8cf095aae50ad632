//! A journal in memory, with the checks that a real one would make.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::MemorySubtrees;
use crate::delivery::{DeadLetters, QueuedRetry, SinkBacklog, Tail};
use crate::journal::{
    BacklogChange, Disabled, JournalError, ReadLimit, RunPage, RunStep, SinkProgress, SinkRun, Switch,
};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Fidelity, Op, Record, Run};
use crate::sink::Rejected;

/// Records, cursors and dead letters that outlive a worker, as a crash leaves them.
#[derive(Clone)]
pub struct MemoryJournal {
    shared: Arc<Mutex<Shared>>,
    durable: watch::Sender<Seq>,
}

#[derive(Default)]
struct Shared {
    records: Vec<Arc<Record>>,
    cursors: BTreeMap<Arc<str>, Seq>,
    backlogs: BTreeMap<Arc<str>, MemoryBacklog>,
    failures: Vec<JournalError>,
}

/// The dead letters and parked records of one sink.
#[derive(Default)]
struct MemoryBacklog {
    rejected: BTreeMap<Seq, Rejected>,
    parked: BTreeMap<Seq, QueuedRetry>,
    disabled: Option<Disabled>,
    run: Option<SinkRun>,
}

impl MemoryJournal {
    /// A journal that holds these records, ascending by seq, all durable.
    pub fn with(records: Vec<Arc<Record>>) -> MemoryJournal {
        let journal = MemoryJournal {
            shared: Arc::default(),
            durable: watch::Sender::new(Seq::ZERO),
        };
        journal.append(records);
        journal
    }

    /// Appends records and makes them durable.
    pub fn append(&self, records: Vec<Arc<Record>>) {
        self.write(records);
        self.sync();
    }

    /// Appends records that can be read and are not durable yet.
    ///
    /// # Panics
    ///
    /// If a lock is poisoned: another thread of the test has panicked.
    pub fn write(&self, records: Vec<Arc<Record>>) {
        let mut shared = self.lock();
        for record in records {
            let tail = shared.records.last().map_or(Seq::ZERO, |last| last.seq);
            assert!(record.seq > tail, "{} is not after the tail {tail}", record.seq);
            shared.records.push(record);
        }
    }

    /// Makes everything durable.
    pub fn sync(&self) {
        let tail = self.lock().records.last().map_or(Seq::ZERO, |last| last.seq);
        self.durable.send_replace(tail);
    }

    /// The next reads fail with these, in order.
    pub fn fail_reads(&self, failures: Vec<JournalError>) {
        self.lock().failures = failures;
    }

    /// The durable tail.
    pub fn durable(&self) -> watch::Receiver<Seq> {
        self.durable.subscribe()
    }

    /// A reader.
    pub fn tail(&self) -> MemoryTail {
        MemoryTail {
            shared: Arc::clone(&self.shared),
        }
    }

    /// A reader of the image.
    pub fn subtrees(&self) -> MemorySubtrees {
        MemorySubtrees {
            journal: self.clone(),
        }
    }

    /// The cursor that a sink's worker stored last; zero for an unknown sink.
    pub fn cursor(&self, sink: &str) -> Seq {
        self.lock().cursors.get(sink).copied().unwrap_or_default()
    }

    /// A sink's dead letters.
    pub fn rejected(&self, sink: &str) -> Vec<Rejected> {
        let shared = self.lock();
        let backlog = shared.backlogs.get(sink);
        backlog.map_or_else(Vec::new, |backlog| backlog.rejected.values().cloned().collect())
    }

    /// The seqs of a sink's parked records.
    pub fn parked(&self, sink: &str) -> Vec<u64> {
        let shared = self.lock();
        let backlog = shared.backlogs.get(sink);
        backlog.map_or_else(Vec::new, |backlog| {
            backlog.parked.keys().map(|seq| seq.0).collect()
        })
    }

    /// The dead letters and parked records of a sink, as its next worker loads them.
    ///
    /// # Panics
    ///
    /// If a lock is poisoned: another thread of the test has panicked.
    pub fn backlog(&self, sink: &str) -> SinkBacklog {
        let shared = self.lock();
        let Some(backlog) = shared.backlogs.get(sink) else {
            return SinkBacklog::default();
        };
        let path_of = |seq: &Seq| {
            let at = shared.records.binary_search_by_key(seq, |record| record.seq);
            shared.records[at.expect("it is a record of this journal")]
                .path
                .clone()
        };
        SinkBacklog {
            letters: DeadLetters::of(backlog.rejected.keys().map(|seq| (*seq, path_of(seq)))),
            parked: backlog
                .parked
                .values()
                .map(|waiting| QueuedRetry {
                    path: path_of(&waiting.seq),
                    ..waiting.clone()
                })
                .collect(),
            disabled: backlog.disabled.clone(),
            run: backlog.run.clone(),
        }
    }

    /// All records.
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.lock().records.clone()
    }

    /// Stores progress until all workers have ended.
    ///
    /// # Panics
    ///
    /// When a progress does not follow the cursor of its sink.
    pub async fn store(&self, mut progress: mpsc::Receiver<SinkProgress>) {
        while let Some(progress) = progress.recv().await {
            self.store_one(progress);
        }
    }

    fn store_one(&self, progress: SinkProgress) {
        let durable = *self.durable.borrow();
        let mut shared = self.lock();
        // A sink is entered with its first progress.
        let cursor = *shared
            .cursors
            .entry(Arc::clone(&progress.sink))
            .or_insert(progress.from);
        let cursor = progress
            .applied_at(cursor, durable)
            .unwrap_or_else(|refused| panic!("{refused}"));
        shared.cursors.insert(Arc::clone(&progress.sink), cursor);
        let backlog = shared.backlogs.entry(progress.sink).or_default();
        for change in progress.changes {
            backlog.take(change);
        }
        match progress.run {
            Some(RunStep::At(run)) => backlog.run = Some(*run),
            Some(RunStep::Delivered(_)) => backlog.run = None,
            None => {}
        }
        match progress.switch {
            Some(Switch::Disabled { reason }) => {
                backlog.disabled = Some(Disabled {
                    reason,
                    at: progress.at,
                })
            }
            Some(Switch::Enabled) => backlog.disabled = None,
            None => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryBacklog {
    /// The simulated journal keeps no time: what waits is tried at once by the next worker.
    fn take(&mut self, change: BacklogChange) {
        match change {
            BacklogChange::Rejected {
                seq,
                reason,
                attempts,
                ..
            } => {
                self.parked.remove(&seq);
                let rejected = Rejected {
                    seq,
                    reason,
                    attempts,
                };
                self.rejected.insert(seq, rejected);
            }
            BacklogChange::Parked {
                seq,
                path,
                reason,
                attempts,
                ..
            } => {
                let waiting = QueuedRetry {
                    seq,
                    path,
                    reason,
                    attempts,
                    failing_for: Duration::ZERO,
                    wait: Duration::ZERO,
                };
                self.parked.insert(seq, waiting);
            }
            BacklogChange::Replayed { seq, path } => {
                let waiting = QueuedRetry {
                    seq,
                    path,
                    reason: String::new(),
                    attempts: 0,
                    failing_for: Duration::ZERO,
                    wait: Duration::ZERO,
                };
                self.parked.insert(seq, waiting);
            }
            BacklogChange::Released(seq) => drop(self.parked.remove(&seq)),
            BacklogChange::Retried(seq) => {
                if let Some(letter) = self.rejected.remove(&seq) {
                    let waiting = QueuedRetry {
                        seq,
                        path: None,
                        reason: letter.reason,
                        attempts: 0,
                        failing_for: Duration::ZERO,
                        wait: Duration::ZERO,
                    };
                    self.parked.insert(seq, waiting);
                }
            }
            BacklogChange::Dropped(seq) => drop(self.rejected.remove(&seq)),
        }
    }
}

/// Reads a [`MemoryJournal`].
pub struct MemoryTail {
    shared: Arc<Mutex<Shared>>,
}

impl Tail for MemoryTail {
    fn read(&mut self, after: Seq, limit: ReadLimit) -> Result<Vec<Arc<Record>>, JournalError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if !shared.failures.is_empty() {
            return Err(shared.failures.remove(0));
        }
        let first = shared.records.partition_point(|record| record.seq <= after);
        let later = shared.records[first..].iter().take(limit.records);
        Ok(later.map(Arc::clone).collect())
    }

    fn recall(&mut self, seqs: &[Seq]) -> Result<Vec<Arc<Record>>, JournalError> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = shared.records.iter().filter(|record| seqs.contains(&record.seq));
        Ok(wanted.map(Arc::clone).collect())
    }

    fn snapshot_page(&mut self, run: &SinkRun, limit: ReadLimit) -> Result<RunPage, JournalError> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(restated(&shared.records, run, limit.records))
    }
}

/// The next records of a run, made of records in place of an image: the last state of each path that is existing.
pub(crate) fn restated(records: &[Arc<Record>], run: &SinkRun, limit: usize) -> RunPage {
    let at = run.at.expect("a run that is read has a position");
    let mut existing: BTreeMap<&ZnodePath, &Arc<Record>> = BTreeMap::new();
    for record in records {
        match (&record.path, record.op) {
            (Some(path), Op::Delete) => drop(existing.remove(path)),
            (Some(path), Op::Create | Op::Update | Op::Snapshot) => drop(existing.insert(path, record)),
            _ => {}
        }
    }
    let is_wanted = |path: &ZnodePath| run.path.as_ref().is_none_or(|top| top.covers(path));
    let is_after = |path: &ZnodePath| run.last().is_none_or(|last| path > last);
    existing.retain(|path, record| is_wanted(path) && is_after(path) && record.seq <= at);
    let page: Vec<Arc<Record>> = existing
        .into_values()
        .take(limit)
        .map(|record| again(record, run))
        .collect();
    let next = page.last().and_then(|last| last.path.clone());
    RunPage {
        records: page,
        next: next.map(|last| run.continued_after(last)),
    }
}

fn again(record: &Record, run: &SinkRun) -> Arc<Record> {
    Arc::new(Record {
        id: uuid::Uuid::new_v5(&run.id, record.id.as_bytes()),
        op: Op::Snapshot,
        fidelity: Fidelity::Reconciled,
        missed: None,
        before: None,
        run: Some(Run {
            id: run.id,
            index: record.seq.0,
            nodes: None,
            unreadable: None,
        }),
        ..record.clone()
    })
}
