//! A journal in memory, with the checks that a real one would make.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::delivery::Tail;
use crate::journal::{JournalError, Note, ReadLimit};
use crate::number::Seq;
use crate::record::Record;
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
    rejected: BTreeMap<Arc<str>, BTreeMap<Seq, Rejected>>,
    failures: Vec<JournalError>,
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
    pub fn write(&self, records: Vec<Arc<Record>>) {
        let mut shared = self.lock();
        for record in records {
            let tail = shared.records.last().map_or(Seq::ZERO, |last| last.seq);
            assert!(record.seq > tail, "{} is not behind the tail {tail}", record.seq);
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

    /// What a sink's worker stored last; zero for a sink never seen.
    pub fn cursor(&self, sink: &str) -> Seq {
        self.lock().cursors.get(sink).copied().unwrap_or_default()
    }

    /// A sink's dead letters.
    pub fn rejected(&self, sink: &str) -> Vec<Rejected> {
        let shared = self.lock();
        let letters = shared.rejected.get(sink);
        letters.map_or_else(Vec::new, |letters| letters.values().cloned().collect())
    }

    /// All records.
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.lock().records.clone()
    }

    /// Stores notes until all workers have ended.
    ///
    /// # Panics
    ///
    /// When a cursor goes back, passes the durable tail, or lies before a rejected record of its note.
    pub async fn store(&self, mut notes: mpsc::Receiver<Note>) {
        while let Some(note) = notes.recv().await {
            self.store_one(note);
        }
    }

    fn store_one(&self, note: Note) {
        let durable = *self.durable.borrow();
        let mut shared = self.lock();
        let before = shared.cursors.get(&note.sink).copied().unwrap_or_default();
        assert!(note.cursor >= before, "the cursor of {} goes back", note.sink);
        assert!(
            note.cursor <= durable,
            "the cursor of {} is past the tail",
            note.sink
        );
        for rejected in &note.rejected {
            assert!(
                rejected.seq <= note.cursor,
                "record {} is rejected ahead of the cursor",
                rejected.seq
            );
        }
        shared.cursors.insert(Arc::clone(&note.sink), note.cursor);
        let letters = shared.rejected.entry(note.sink).or_default();
        letters.extend(note.rejected.into_iter().map(|letter| (letter.seq, letter)));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
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
        let behind = shared.records[first..].iter().take(limit.records);
        Ok(behind.map(Arc::clone).collect())
    }
}
