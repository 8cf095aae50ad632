//! The queue between the thread that reads the socket and the driver: first in memory, then in files.
//!
//! A leader keeps the packets for an observer in its own memory, without a bound. So the socket is always drained at
//! once, and this queue has the bound.
//!
//! Invariants:
//!
//! * Entries leave in the order in which they came, wherever they were kept.
//! * Memory and files together hold no more bytes than the limit. What does not fit is refused, never dropped.
//! * A file is removed from its folder as soon as it is made, so that nothing is left over after a crash.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use super::learner::CommittedPayload;

/// The part that is kept in memory. It fills while the journal does not keep up, as after an absence, and files cost a
/// transaction little.
pub(super) const MEMORY_BYTES: u64 = 8 << 20;

/// The size of one file, which is given back as a whole.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Counted for each transaction besides its bytes.
const OVERHEAD: u64 = 64;

/// Before each transaction in a file: its zxid and its length.
const FRAME: usize = 12;

/// Read from a file at once, because most transactions have some hundred bytes.
const READ_AHEAD: usize = 64 << 10;

/// An entry of the queue: a transaction, which may be kept in a file, or anything else.
#[derive(Debug)]
pub(super) enum Spooled<T> {
    /// A committed transaction.
    Transaction(CommittedPayload),
    /// Anything else.
    Other {
        /// The entry.
        entry: T,
        /// The bytes that it counts for.
        bytes: u64,
    },
}

/// Why the queue takes nothing more.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    /// It has as much as it may have.
    #[error("the spool holds {held} bytes, and its limit is {limit}")]
    Full { held: u64, limit: u64 },
    /// A file could not be made, written or read.
    #[error("a file of the spool in {}: {error}", .folder.display())]
    File { folder: PathBuf, error: io::Error },
}

/// The bounds of a queue.
#[derive(Clone, Debug)]
pub(super) struct SpoolLimits {
    /// The folder of its files.
    pub(super) folder: PathBuf,
    /// The most bytes in memory.
    pub(super) memory: u64,
    /// The most bytes in memory and files together.
    pub(super) total: u64,
}

/// A queue with one thread that fills it and one task that empties it.
#[derive(Debug)]
pub(super) struct Spool<T> {
    limits: SpoolLimits,
    state: Mutex<State<T>>,
    filled: Notify,
}

#[derive(Debug)]
struct State<T> {
    parts: VecDeque<Part<T>>,
    in_memory: u64,
    held: u64,
}

#[derive(Debug)]
enum Part<T> {
    Entry(Spooled<T>),
    Segment(Segment),
}

/// Transactions in a file.
#[derive(Debug)]
struct Segment {
    file: File,
    written: u64,
    /// What the entries that have left take.
    read: u64,
    /// The bytes of the file from there on that were read ahead.
    ahead: VecDeque<u8>,
}

impl<T> Spool<T> {
    pub(super) fn new(limits: SpoolLimits) -> Spool<T> {
        let state = State {
            parts: VecDeque::new(),
            in_memory: 0,
            held: 0,
        };
        Spool {
            limits,
            state: Mutex::new(state),
            filled: Notify::new(),
        }
    }

    /// Adds an entry that is no transaction: a small one, of which a connection has a few. It always fits.
    pub(super) fn push_other(&self, entry: T) {
        let entry = Spooled::Other { entry, bytes: 0 };
        self.lock().parts.push_back(Part::Entry(entry));
        self.filled.notify_one();
    }

    /// Adds an entry that is no transaction, of which a server may send any number. It is kept in memory, and counts for
    /// these bytes.
    pub(super) fn push_counted(&self, entry: T, bytes: usize) -> Result<(), SpoolError> {
        let bytes = size_of(bytes);
        let mut state = self.lock();
        let limit = self.limits.memory.min(self.limits.total);
        if state.held + bytes > self.limits.total || state.in_memory + bytes > self.limits.memory {
            return Err(SpoolError::Full {
                held: state.held,
                limit,
            });
        }
        state.in_memory += bytes;
        state.held += bytes;
        state
            .parts
            .push_back(Part::Entry(Spooled::Other { entry, bytes }));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Adds a transaction.
    pub(super) fn push(&self, transaction: CommittedPayload) -> Result<(), SpoolError> {
        let size = size_of(transaction.bytes.len());
        let mut state = self.lock();
        if state.held + size > self.limits.total {
            return Err(SpoolError::Full {
                held: state.held,
                limit: self.limits.total,
            });
        }
        if state.belongs_into_memory(size, &self.limits) {
            state.in_memory += size;
            state
                .parts
                .push_back(Part::Entry(Spooled::Transaction(transaction)));
        } else {
            state
                .write(&transaction, &self.limits)
                .map_err(|error| self.file_error(error))?;
        }
        state.held += size;
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for entries, and returns the transactions at the front, up to these bytes but at least one, or another
    /// entry. Cancel safe.
    pub(super) async fn next(&self, bytes_max: u64) -> Result<Batch<T>, SpoolError> {
        loop {
            let filled = self.filled.notified();
            if let Some(batch) = self.take(bytes_max)? {
                return Ok(batch);
            }
            filled.await;
        }
    }

    /// The bytes that are held.
    pub(super) fn held(&self) -> u64 {
        self.lock().held
    }

    /// The most bytes that may be held.
    pub(super) fn limit(&self) -> u64 {
        self.limits.total
    }

    fn take(&self, bytes_max: u64) -> Result<Option<Batch<T>>, SpoolError> {
        let mut state = self.lock();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max {
            match state.pop().map_err(|error| self.file_error(error))? {
                None => break,
                Some(Spooled::Transaction(transaction)) => {
                    bytes += size_of(transaction.bytes.len());
                    batch.push(transaction);
                }
                Some(Spooled::Other { entry, .. }) if batch.is_empty() => {
                    return Ok(Some(Batch::Other(entry)));
                }
                Some(other) => {
                    let bytes = other.counted();
                    state.in_memory += bytes;
                    state.held += bytes;
                    state.parts.push_front(Part::Entry(other));
                    break;
                }
            }
        }
        Ok((!batch.is_empty()).then_some(Batch::Transactions(batch)))
    }

    fn file_error(&self, error: io::Error) -> SpoolError {
        SpoolError::File {
            folder: self.limits.folder.clone(),
            error,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no holder of the spool panics")
    }
}

/// Entries that were taken from a queue.
#[derive(Debug)]
pub(super) enum Batch<T> {
    /// At least one transaction.
    Transactions(Vec<CommittedPayload>),
    /// Another entry.
    Other(T),
}

impl<T> State<T> {
    /// A file with room takes everything that follows, so that the order is kept and files are few.
    fn belongs_into_memory(&self, size: u64, limits: &SpoolLimits) -> bool {
        match self.parts.back() {
            Some(Part::Segment(segment)) if segment.written < SEGMENT_BYTES => false,
            Some(Part::Segment(_)) => self.in_memory + size <= limits.memory / 2,
            _ => self.in_memory + size <= limits.memory,
        }
    }

    fn write(&mut self, transaction: &CommittedPayload, limits: &SpoolLimits) -> io::Result<()> {
        let has_room =
            matches!(self.parts.back(), Some(Part::Segment(segment)) if segment.written < SEGMENT_BYTES);
        if !has_room {
            self.parts.push_back(Part::Segment(Segment {
                file: tempfile::tempfile_in(&limits.folder)?,
                written: 0,
                read: 0,
                ahead: VecDeque::new(),
            }));
        }
        let Some(Part::Segment(segment)) = self.parts.back_mut() else {
            unreachable!("the last part was just looked at")
        };
        segment.write(transaction)
    }

    fn pop(&mut self) -> io::Result<Option<Spooled<T>>> {
        loop {
            match self.parts.front_mut() {
                None => return Ok(None),
                Some(Part::Entry(_)) => {
                    let Some(Part::Entry(entry)) = self.parts.pop_front() else {
                        unreachable!("the first part was just looked at")
                    };
                    let bytes = entry.counted();
                    self.in_memory -= bytes;
                    self.held -= bytes;
                    return Ok(Some(entry));
                }
                Some(Part::Segment(segment)) if segment.read < segment.written => {
                    let transaction = segment.read()?;
                    self.held -= size_of(transaction.bytes.len());
                    return Ok(Some(Spooled::Transaction(transaction)));
                }
                Some(Part::Segment(_)) => {
                    self.parts.pop_front();
                }
            }
        }
    }
}

impl<T> Spooled<T> {
    /// The bytes that it counts for.
    fn counted(&self) -> u64 {
        match self {
            Spooled::Transaction(transaction) => size_of(transaction.bytes.len()),
            Spooled::Other { bytes, .. } => *bytes,
        }
    }
}

impl Segment {
    fn write(&mut self, transaction: &CommittedPayload) -> io::Result<()> {
        let length = u32::try_from(transaction.bytes.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(FRAME + transaction.bytes.len());
        frame.extend(transaction.zxid.to_le_bytes());
        frame.extend(length.to_le_bytes());
        frame.extend(&transaction.bytes);
        self.file.write_all(&frame)?;
        self.written += frame.len() as u64;
        Ok(())
    }

    fn read(&mut self) -> io::Result<CommittedPayload> {
        let mut frame = [0; FRAME];
        self.fill(&mut frame)?;
        let (zxid, length) = frame.split_at(8);
        let zxid = i64::from_le_bytes(zxid.try_into().expect("8 bytes"));
        let length = u32::from_le_bytes(length.try_into().expect("4 bytes"));
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        Ok(CommittedPayload { zxid, bytes })
    }

    /// Takes the next bytes, which were written.
    fn fill(&mut self, to: &mut [u8]) -> io::Result<()> {
        let held = self.ahead.read(to)?;
        self.read += held as u64;
        let rest = &mut to[held..];
        if rest.len() >= READ_AHEAD {
            self.file.read_exact_at(rest, self.read)?;
            self.read += rest.len() as u64;
        } else if !rest.is_empty() {
            let size = READ_AHEAD.min(usize::try_from(self.written - self.read).map_err(io::Error::other)?);
            let mut ahead = vec![0; size];
            self.file.read_exact_at(&mut ahead, self.read)?;
            self.ahead = ahead.into();
            self.ahead.read_exact(rest)?;
            self.read += rest.len() as u64;
        }
        Ok(())
    }
}

fn size_of(bytes: usize) -> u64 {
    bytes as u64 + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::env::temp_dir;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn spool(memory: u64, total: u64) -> Spool<&'static str> {
        Spool::new(SpoolLimits {
            folder: temp_dir(),
            memory,
            total,
        })
    }

    fn transaction(zxid: i64, length: usize) -> CommittedPayload {
        CommittedPayload {
            zxid,
            bytes: vec![zxid.to_le_bytes()[0]; length],
        }
    }

    async fn drain(spool: &Spool<&'static str>, zxids: &mut Vec<i64>) -> Option<&'static str> {
        match spool.next(1).await.unwrap() {
            Batch::Transactions(batch) => {
                for one in batch {
                    assert!(one.bytes.iter().all(|byte| *byte == one.zxid.to_le_bytes()[0]));
                    zxids.push(one.zxid);
                }
                None
            }
            Batch::Other(other) => Some(other),
        }
    }

    #[tokio::test]
    async fn entries_keep_their_order_through_memory_and_files() {
        let spool = spool(2_000, 1 << 30);
        let (mut pushed, mut taken, mut others) = (0, Vec::new(), 0);
        // Lengths and turns without a pattern that fits the limits.
        for round in 0..2_000_usize {
            for _ in 0..round % 7 {
                pushed += 1;
                let length = if round % 97 == 0 {
                    2 * READ_AHEAD + 1
                } else {
                    round * 37 % 500
                };
                spool.push(transaction(pushed, length)).unwrap();
            }
            if round % 50 == 0 {
                spool.push_other("mark");
            }
            for _ in 0..round % 5 {
                if spool.held() > 0 {
                    others += usize::from(drain(&spool, &mut taken).await.is_some());
                }
            }
        }
        spool.push_other("end");
        loop {
            match drain(&spool, &mut taken).await {
                Some("end") => break,
                Some(_) => others += 1,
                None => {}
            }
        }
        assert_eq!(taken, (1..=pushed).collect::<Vec<_>>());
        assert_eq!((others, spool.held()), (40, 0));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_takes_again_once_there_is_room() {
        let spool = spool(1_000, 10_000);
        let mut zxid = 0;
        let refused = loop {
            zxid += 1;
            if let Err(error) = spool.push(transaction(zxid, 936)) {
                break error;
            }
        };
        assert!(
            matches!(
                refused,
                SpoolError::Full {
                    held: 10_000,
                    limit: 10_000
                }
            ),
            "{refused}"
        );
        let mut taken = Vec::new();
        drain(&spool, &mut taken).await;
        spool.push(transaction(zxid, 936)).unwrap();
        while spool.held() > 0 {
            drain(&spool, &mut taken).await;
        }
        assert_eq!(taken, (1..=zxid).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_entry_wakes_the_task_that_waits_and_a_cancelled_wait_loses_nothing() {
        let spool = spool(1_000, 10_000);
        assert!(timeout(Duration::from_millis(1), spool.next(1)).await.is_err());
        let (batch, ()) = tokio::join!(spool.next(u64::MAX), async { spool.push_other("mark") });
        assert!(matches!(batch.unwrap(), Batch::Other("mark")));
    }

    #[tokio::test]
    async fn a_batch_ends_before_another_entry_and_at_its_limit() {
        let spool = spool(10_000, 10_000);
        for zxid in 1..=4 {
            spool.push(transaction(zxid, 36)).unwrap();
        }
        spool.push_other("mark");
        spool.push(transaction(5, 36)).unwrap();
        let mut lengths = Vec::new();
        while spool.held() > 0 {
            match spool.next(250).await.unwrap() {
                Batch::Transactions(batch) => lengths.push(batch.len()),
                Batch::Other(_) => lengths.push(0),
            }
        }
        assert_eq!(lengths, [3, 1, 0, 1]);
    }

    #[tokio::test]
    async fn a_folder_that_does_not_exist_is_named() {
        let spool: Spool<()> = Spool::new(SpoolLimits {
            folder: "/does/not/exist".into(),
            memory: 0,
            total: 1_000,
        });
        let refused = spool.push(transaction(1, 1)).unwrap_err();
        assert!(refused.to_string().contains("/does/not/exist"), "{refused}");
    }

    #[tokio::test]
    async fn entries_of_which_a_server_sends_many_count_and_give_their_room_back() {
        let spool = spool(1_000, 10_000);
        let mut pushed = 0;
        let full = loop {
            match spool.push_counted("members", 236) {
                Ok(()) => pushed += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((pushed, spool.held()), (3, 900));
        assert!(full.to_string().contains("the spool holds 900 bytes"), "{full}");
        spool.push(transaction(1, 36)).unwrap();
        let mut taken = Vec::new();
        for _ in 0..3 {
            assert_eq!(drain(&spool, &mut taken).await, Some("members"));
        }
        // An entry after a transaction stays where it is.
        spool.push_counted("members", 236).unwrap();
        assert_eq!((drain(&spool, &mut taken).await, spool.held()), (None, 300));
        assert_eq!(drain(&spool, &mut taken).await, Some("members"));
        assert_eq!((spool.held(), taken), (0, vec![1]));
    }
}
