//! A pool of readers of one journal, opened when they are needed.
//!
//! A reader is lent to one query at a time. The pool never holds more than its maximum: readers cost file descriptors
//! and caches, and more readers than processors do not answer faster.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bridge_core::journal::Reader;

use crate::error::QueryError;

/// Readers of one journal that exist at the same time.
pub const READERS_MAX: usize = 4;

/// How long a query waits for a free reader. A person waits that long; a longer queue only hides overload.
pub const READER_WAIT: Duration = Duration::from_secs(2);

/// Lends readers of one journal.
#[derive(Debug)]
pub struct ReaderPool {
    file: PathBuf,
    max: usize,
    wait: Duration,
    state: Mutex<PoolState>,
    returned: Condvar,
}

#[derive(Default)]
struct PoolState {
    idle: Vec<Reader>,
    lent: usize,
}

impl std::fmt::Debug for PoolState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PoolState { idle, lent } = self;
        f.debug_struct("PoolState")
            .field("idle", &idle.len())
            .field("lent", lent)
            .finish()
    }
}

/// A reader on loan. Returns to the pool when it is dropped.
pub struct PooledReader<'a> {
    pool: &'a ReaderPool,
    /// `Some` until it is dropped.
    reader: Option<Reader>,
}

impl ReaderPool {
    /// A pool of at most `max` readers (at least 1); a query waits at most `wait` for one.
    pub fn new(file: &Path, max: usize, wait: Duration) -> ReaderPool {
        ReaderPool {
            file: file.to_owned(),
            max: max.max(1),
            wait,
            state: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Lends a reader; opens one if none is idle and the maximum allows it. Blocks for at most the pool's wait.
    ///
    /// # Errors
    ///
    /// [`QueryError::Busy`] if no reader comes back in time, [`QueryError::Journal`] if the file cannot be opened.
    pub fn reader(&self) -> Result<PooledReader<'_>, QueryError> {
        let deadline = Instant::now() + self.wait;
        let mut state = self.lock();
        loop {
            if let Some(reader) = state.idle.pop() {
                state.lent += 1;
                return Ok(self.lend(reader));
            }
            if state.lent < self.max {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(QueryError::Busy {
                    file: self.file.clone(),
                    readers: self.max,
                    waited: self.wait,
                });
            }
            let waited = self.returned.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        // Counted before it is opened, and opened without the lock: another query may return its reader meanwhile.
        state.lent += 1;
        drop(state);
        match Reader::open(&self.file) {
            Ok(reader) => Ok(self.lend(reader)),
            Err(error) => {
                self.lock().lent -= 1;
                self.returned.notify_one();
                Err(error.into())
            }
        }
    }

    fn lend(&self, reader: Reader) -> PooledReader<'_> {
        PooledReader {
            pool: self,
            reader: Some(reader),
        }
    }

    fn take_back(&self, reader: Reader) {
        let mut state = self.lock();
        state.lent -= 1;
        state.idle.push(reader);
        drop(state);
        self.returned.notify_one();
    }

    /// A panic of a query leaves counters and idle readers as they were.
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const ON_LOAN: &str = "the reader is there until it is dropped";

impl Deref for PooledReader<'_> {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        self.reader.as_ref().expect(ON_LOAN)
    }
}

impl DerefMut for PooledReader<'_> {
    fn deref_mut(&mut self) -> &mut Reader {
        self.reader.as_mut().expect(ON_LOAN)
    }
}

impl Drop for PooledReader<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.pool.take_back(reader);
        }
    }
}
