//! The newest durable records in memory, so that workers at the tail need not read them back from the file.
//!
//! ```text
//!   append ──▶ rows of the open batch ──commit──▶ the newest ──▶ Reader::cached, Reader::read ──▶ workers
//!                        │                            │
//!                    rollback: gone        forgotten: by a fold, by retention, the oldest beyond the bound
//! ```
//!
//! Invariants:
//!
//! * **Only durable records are returned.** The commit of a batch moves the mark up to which rows are visible; a batch
//!   that is rolled back leaves nothing.
//! * **They equal those from the file.** The cache holds the rows as they were written, and the same code turns them
//!   into records ([`super::hydrate`]), in the worker. A value that is not in the row itself, such as the one before a
//!   write, is taken from an earlier cached row; if that is not cached, the record *lacks* it, and the reader reads
//!   this value alone from the file.
//! * **No holes**: the cache holds one range of `seq`. A worker takes from it only the records that follow its position
//!   directly, and otherwise reads the file.
//! * **Evicting is always safe**, because the file has everything. A fold, which alone changes records, evicts all rows
//!   while no sink reads ([`super::read_marks`]); retention evicts the rows that it removes.
//! * **Bounded** by [`RECORDS`] and [`BYTES`]. A worker that lags holds none of it.
//! * **Nothing is cached without a reader**: the writer caches rows only while a worker has a reader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::drafts::Draft;
use super::hydrate::Named;
use super::read::{Filling, ReadLimit};
use super::row::Values;
use crate::number::Seq;
use crate::record::{Data, Record, Timestamp};

/// The most rows: a fifth of a second under the heaviest load, within which a worker that keeps up has taken them, and
/// more than the 1,000 znodes that are often written in turn.
const RECORDS: usize = 4_096;

/// The most bytes, counted in memory.
const BYTES: usize = 4 << 20;

/// The approximate memory of a row besides its data and its path, in bytes.
const ROW_BYTES: usize = 600;

/// Records made while the writer may have to wait for it: a few 10 µs.
const AT_ONCE: usize = 64;

/// The values that a record lacks, by number.
pub(super) type MissingValues = Values<Option<i64>>;

/// The writer's side.
#[derive(Default)]
pub(super) struct TailCache(Newest);

/// The state that readers share with the writer. The lock is held briefly, never while a file is read.
#[derive(Clone, Default)]
pub(super) struct Newest(Arc<Mutex<Stretch>>);

/// Rows whose `seq` follow each other.
#[derive(Default)]
struct Stretch {
    rows: VecDeque<Row>,
    bytes: usize,
    /// The rows after it belong to the open batch.
    durable: Seq,
}

struct Row {
    draft: Draft,
    named: Named,
}

/// The rows that a reader took.
pub(super) struct Taken {
    /// The rows after its position.
    pub(super) records: Vec<Arc<Record>>,
    /// Places of those that lack values.
    pub(super) lacking: Vec<(usize, MissingValues)>,
}

impl TailCache {
    /// For a reader of a worker.
    pub(super) fn newest(&self) -> Newest {
        self.0.clone()
    }

    /// Whether there is a worker for whom something is to be held.
    pub(super) fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.0.0) > 1
    }

    /// Rows were written to the open batch; those that were wanted have their names.
    pub(super) fn take(&mut self, rows: impl Iterator<Item = (Draft, Option<Named>)>) {
        let mut newest = self.0.lock();
        for (draft, named) in rows {
            if let Some(named) = named {
                newest.push(Row { draft, named });
            }
        }
    }

    /// Everything up to it is durable.
    pub(super) fn committed(&mut self, tail: Seq) {
        let is_wanted = self.is_wanted();
        let mut newest = self.0.lock();
        newest.durable = tail;
        if !is_wanted && !newest.rows.is_empty() {
            newest.forget();
        }
    }

    /// The open batch is undone.
    pub(super) fn rolled_back(&mut self) {
        let mut newest = self.0.lock();
        let durable = newest.durable;
        while newest.rows.back().is_some_and(|row| row.seq() > durable) {
            let gone = newest.rows.pop_back();
            newest.bytes -= gone.map_or(0, |row| row.bytes());
        }
    }

    /// Evicts all rows: they may no longer equal the file.
    pub(super) fn forget(&mut self) {
        self.0.lock().forget();
    }

    /// The records up to it are removed.
    pub(super) fn forget_until(&mut self, last: Seq) {
        let mut newest = self.0.lock();
        while newest.rows.front().is_some_and(|row| row.seq() <= last) {
            newest.pop();
        }
    }
}

impl Newest {
    /// The records after `after`, if the next one is held.
    pub(super) fn after(&self, after: Seq, limit: ReadLimit) -> Option<Taken> {
        let mut taken = Taken {
            records: Vec::with_capacity(self.lock().count_after(after).min(limit.records)),
            lacking: Vec::new(),
        };
        let mut filling = Filling::new(limit);
        let mut next = after.next();
        loop {
            let newest = self.lock();
            for _ in 0..AT_ONCE {
                let Some((record, lack)) = newest.record(next).filter(|(record, _)| filling.takes(record))
                else {
                    return (!taken.records.is_empty()).then_some(taken);
                };
                if lack != MissingValues::default() {
                    taken.lacking.push((taken.records.len(), lack));
                }
                taken.records.push(Arc::new(record));
                next = next.next();
            }
        }
    }

    /// When a durable record was captured, if it is held.
    pub(super) fn captured(&self, seq: Seq) -> Option<Timestamp> {
        let newest = self.lock();
        let place = newest.durable_place(seq)?;
        Some(newest.rows[place].draft.stored.captured)
    }

    fn lock(&self) -> MutexGuard<'_, Stretch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn seq(&self) -> Seq {
        self.draft.stored.seq
    }

    fn bytes(&self) -> usize {
        let data = self.draft.brings.as_ref().map_or(0, |data| data.bytes.len());
        ROW_BYTES + data + self.named.path.as_ref().map_or(0, |path| path.len())
    }
}

impl Stretch {
    /// Where a row is held.
    fn place(&self, seq: Seq) -> Option<usize> {
        let place = usize::try_from(seq.0.checked_sub(self.rows.front()?.seq().0)?).ok()?;
        (place < self.rows.len()).then_some(place)
    }

    /// Where a durable row is held.
    fn durable_place(&self, seq: Seq) -> Option<usize> {
        self.place(seq).filter(|_| seq <= self.durable)
    }

    fn count_after(&self, after: Seq) -> usize {
        self.place(after.next())
            .map_or(0, |place| self.rows.len() - place)
    }

    fn pop(&mut self) {
        let gone = self.rows.pop_front();
        self.bytes -= gone.map_or(0, |row| row.bytes());
    }

    fn forget(&mut self) {
        self.rows = VecDeque::new();
        self.bytes = 0;
    }

    /// Takes the next row, and lets go of those for which there is no room any more.
    fn push(&mut self, row: Row) {
        if self
            .rows
            .back()
            .is_some_and(|last| last.seq().next() != row.seq())
        {
            self.forget();
        }
        // First, as the room for one more row is room for twice as many.
        if self.rows.len() == RECORDS {
            self.pop();
        }
        self.bytes += row.bytes();
        self.rows.push_back(row);
        while self.bytes > BYTES {
            self.pop();
        }
    }

    /// A durable record, with what it lacks.
    fn record(&self, seq: Seq) -> Option<(Record, MissingValues)> {
        let place = self.durable_place(seq)?;
        let Row { draft, named } = &self.rows[place];
        let numbers = draft.stored.values();
        let data = Values {
            before: self.value(numbers.before),
            after: self.value(numbers.after),
        };
        let lack = Values {
            before: numbers.before.filter(|_| data.before.is_none()),
            after: numbers.after.filter(|_| data.after.is_none()),
        };
        Some((draft.stored.clone().into_record(named.clone(), data), lack))
    }

    /// A value has the number of the record that brought it.
    fn value(&self, number: Option<i64>) -> Option<Data> {
        let place = self.place(Seq(number?.cast_unsigned()))?;
        self.rows[place].draft.brings.clone()
    }
}

impl Taken {
    /// The records with the values that they lacked, as many as there is room for now.
    pub(super) fn complete<E>(
        &mut self,
        limit: ReadLimit,
        mut value: impl FnMut(i64) -> Result<Data, E>,
    ) -> Result<(), E> {
        let mut filling = Filling::new(limit);
        let mut lacking = self.lacking.iter().peekable();
        for place in 0..self.records.len() {
            if let Some((_, lack)) = lacking.next_if(|(lacking, _)| *lacking == place) {
                let whole = whole(&self.records[place], *lack, &mut value)?;
                self.records[place] = Arc::new(whole);
            }
            if !filling.takes(&self.records[place]) {
                self.records.truncate(place);
                self.lacking.retain(|(lacking, _)| *lacking < place);
                break;
            }
        }
        Ok(())
    }
}

fn whole<E>(
    record: &Record,
    lack: MissingValues,
    value: &mut impl FnMut(i64) -> Result<Data, E>,
) -> Result<Record, E> {
    let mut record = record.clone();
    for (number, state) in [(lack.before, &mut record.before), (lack.after, &mut record.after)] {
        if let (Some(number), Some(state)) = (number, state) {
            state.data = Some(value(number)?);
        }
    }
    Ok(record)
}
