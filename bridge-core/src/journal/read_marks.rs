//! The workers of this process that read the journal: the positions up to which they have read, and how long each lets a
//! record wait for further ones.
//!
//! A record that a worker holds must not be merged into one that it has not read yet: the worker would deliver the
//! change twice, once as a record and once in `missed`.
//!
//! A cursor covers the records that are handled. Between the cursor and the read position are the records that a worker
//! holds: read ahead, under way, in a merge window, or delivered and not reported yet. No sink reads while records are
//! folded; reads do not exclude each other. The marks of a process that has ended are lost: the records that it held
//! are delivered again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::Duration;

use crate::number::Seq;
use crate::record::Record;

type Marks = BTreeMap<Arc<str>, Arc<WorkerMark>>;

/// For a worker that has ended: it hurries nobody.
const ENDED: u64 = u64::MAX;

/// What one worker says of itself.
#[derive(Debug, Default)]
struct WorkerMark {
    /// The last record that it has read.
    read: AtomicU64,
    /// How long it lets a record wait for further ones, in microseconds.
    linger: AtomicU64,
}

/// The read marks of one journal.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadMarks(Arc<RwLock<Marks>>);

/// The place of one worker in it.
pub(super) struct Mark {
    marks: ReadMarks,
    own: Arc<WorkerMark>,
}

/// A read of a worker under way. No record is folded until it is dropped.
pub(super) struct MarkedRead<'a> {
    mark: &'a Mark,
    _marks: RwLockReadGuard<'a, Marks>,
}

/// No sink reads until it is dropped.
pub(super) struct Closed<'a>(RwLockWriteGuard<'a, Marks>);

impl ReadMarks {
    /// Enters a worker that has read nothing yet, in the place of one that has ended.
    pub(super) fn enter(&self, sink: &str) -> Mark {
        let own = Arc::new(WorkerMark::default());
        let mut marks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        marks.insert(sink.into(), Arc::clone(&own));
        Mark {
            marks: self.clone(),
            own,
        }
    }

    /// How long every worker lets a record wait for further ones; zero without a worker.
    pub(super) fn linger(&self) -> Duration {
        let marks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let lingers = marks.values().map(|mark| mark.linger.load(Ordering::Relaxed));
        let least = lingers.min().filter(|micros| *micros != ENDED);
        Duration::from_micros(least.unwrap_or_default())
    }

    /// Waits for the reads that are under way, and keeps others from beginning.
    pub(super) fn close(&self) -> Closed<'_> {
        Closed(self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Closed<'_> {
    /// The position up to which the worker of a sink has read.
    pub(super) fn read_by(&self, sink: &str) -> Seq {
        self.0
            .get(sink)
            .map_or(Seq::ZERO, |mark| Seq(mark.read.load(Ordering::Acquire)))
    }
}

impl Mark {
    /// Its worker lets a record wait so long for further ones.
    pub(super) fn lingers(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(ENDED);
        self.own.linger.store(micros.min(ENDED - 1), Ordering::Relaxed);
    }

    /// Begins a read. Waits while records are folded; no fold begins before the read has ended.
    pub(super) fn begin(&self) -> MarkedRead<'_> {
        MarkedRead {
            mark: self,
            _marks: self.marks.0.read().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The same for a read that must not wait: `None` while records are folded.
    pub(super) fn begin_at_once(&self) -> Option<MarkedRead<'_>> {
        let marks = match self.marks.0.try_read() {
            Ok(marks) => marks,
            Err(TryLockError::Poisoned(marks)) => marks.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MarkedRead {
            mark: self,
            _marks: marks,
        })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.own.linger.store(ENDED, Ordering::Relaxed);
    }
}

impl MarkedRead<'_> {
    /// Ends the read, and stores how far it came before anything may be folded again.
    pub(super) fn came_to(self, records: &[Arc<Record>]) {
        if let Some(last) = records.last() {
            self.mark.own.read.fetch_max(last.seq.0, Ordering::AcqRel);
        }
    }
}
