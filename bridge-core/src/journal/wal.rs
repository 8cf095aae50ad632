//! Checkpoints the write-ahead log into the journal's file while the writer works, and bounds its length.
//!
//! Copying costs about as much as writing, so it has a thread and a connection of its own; the writer only requests a copy
//! when there is enough to copy. Under steady load the log never begins again at its start by itself. The writer therefore
//! restarts it between two batches once it is long.
//!
//! Invariants:
//!
//! * **The writer never waits for a reader of another process.** A copy or restart that a reader prevents is skipped and
//!   tried again after a later batch.
//! * **The log is bounded** as long as only this process reads: the readers of this process stay out of a long log
//!   ([`super::wal_gate`]), and each of their transactions is short. From [`PAGES_MAX`] on the writer waits after a batch
//!   for them to leave ([`READERS_WAIT`]) and for the thread that copies ([`COPY_WAIT`],
//!   [`HELD_COPY_WAIT`]).
//! * A reader in another process (a backup, a shell) keeps the log from being restarted for as long as its transaction
//!   lasts; the log then grows by what is written, and shrinks to [`WAL_BYTES_KEPT`] afterwards.
//! * A copy that fails loses nothing: the log stays as it is, and the next copy copies more.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row};

use super::error::JournalError;
use super::open::{BUSY, open_for_copying};
use super::schema::PAGE_BYTES;
use super::writer::Journal;

/// Copied in one go. Synchronising the copy makes the batches of that moment wait: more at once is more updates on the
/// whole and longer waits for a few batches. `cargo bench -p bridge-core --bench journal` shows both.
const PAGES_COPIED: i64 = 1000;

/// 32 MiB: from there on the log is to begin again.
const PAGES_LONG: i64 = 32_768;

/// The writer copies up to this many pages between two batches: a few ms.
const PAGES_LEFT: i64 = 1500;

/// 64 MiB: from there on the writer waits for the log to be restarted.
const PAGES_MAX: i64 = 65_536;

/// The longest wait after a batch for readers of this process to leave a log longer than [`PAGES_MAX`]. Their transactions
/// last 25 ms at most; on a machine that is starved of processor time they may take longer.
const READERS_WAIT: Duration = Duration::from_millis(250);

/// The longest wait after a batch for a log longer than [`PAGES_MAX`] to be copied: it is longer than a moment only on a
/// disk that cannot write as much as is captured.
const COPY_WAIT: Duration = Duration::from_secs(5);

/// The same while a reader of another process holds the log or has just let go of it: then there may be much to copy, and
/// the disk may well be fast enough.
const HELD_COPY_WAIT: Duration = Duration::from_millis(50);

/// The space that the log keeps.
pub(super) const WAL_BYTES_KEPT: i64 = PAGES_LONG * PAGE_BYTES as i64;

/// What the log has before its pages, and before each (the SQLite file format, "the write-ahead log").
const LOG_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

/// Copies the log on a thread of its own. Ends with its value.
pub(super) struct WalCopier {
    shared: Arc<CopierState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct CopierState {
    state: Mutex<CopierFlags>,
    changed: Condvar,
}

#[derive(Default)]
struct CopierFlags {
    is_requested: bool,
    is_copying: bool,
    is_closed: bool,
}

impl CopierState {
    fn lock(&self) -> MutexGuard<'_, CopierFlags> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut CopierFlags)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits for a request. False: there will be none.
    fn next_request(&self) -> bool {
        let mut flags = self.lock();
        while !flags.is_requested && !flags.is_closed {
            flags = self.changed.wait(flags).unwrap_or_else(PoisonError::into_inner);
        }
        flags.is_requested = false;
        flags.is_copying = !flags.is_closed;
        flags.is_copying
    }
}

impl WalCopier {
    /// Starts the thread.
    pub(super) fn start(file: &Path) -> Result<WalCopier, JournalError> {
        let connection = open_for_copying(file)?;
        let shared = Arc::new(CopierState::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("journal-log".into())
            .spawn(move || copy_on_request(&connection, &of_thread))
            .map_err(|error| JournalError::of_io(file, "starting the thread for its log", error))?;
        Ok(WalCopier {
            shared,
            thread: Some(thread),
        })
    }

    /// Requests a copy. A second request before the first has begun is the same request.
    fn request(&self) {
        self.shared.change(|flags| flags.is_requested = true);
    }

    /// Waits until nothing is requested or copied, at most until `deadline`. The guard keeps a copy from beginning.
    fn wait_until_idle(&self, deadline: Instant) -> Option<MutexGuard<'_, CopierFlags>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let busy = |flags: &mut CopierFlags| flags.is_requested || flags.is_copying;
        let (mut flags, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), left, busy)
            .unwrap_or_else(PoisonError::into_inner);
        (!busy(&mut flags)).then_some(flags)
    }

    /// The guard keeps a copy from beginning; `None` while one is under way: SQLite refuses a second one.
    fn hold_if_idle(&self) -> Option<MutexGuard<'_, CopierFlags>> {
        let flags = self.shared.lock();
        (!flags.is_copying).then_some(flags)
    }
}

impl Drop for WalCopier {
    fn drop(&mut self) {
        self.shared.change(|flags| flags.is_closed = true);
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(_)) = ended {
            tracing::error!("the thread that copies the log of a journal has panicked");
        }
    }
}

fn copy_on_request(connection: &Connection, shared: &CopierState) {
    while shared.next_request() {
        if let Err(error) = WalLength::of(connection, "PRAGMA wal_checkpoint(PASSIVE)") {
            tracing::warn!(%error, "the log of a journal cannot be copied into it now");
        }
        shared.change(|flags| flags.is_copying = false);
    }
}

/// The result of an attempt to restart the log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Restart {
    /// The next batch restarts the log.
    Done,
    /// The log is still being copied.
    Copying,
    /// Much of it is not copied.
    Uncopied,
    /// A reader uses it.
    Held,
}

/// How long the log is, and how much of it is copied.
#[derive(Clone, Copy)]
struct WalLength {
    /// Something was in the way.
    is_busy: bool,
    pages: i64,
    copied: i64,
}

impl WalLength {
    fn of(connection: &Connection, pragma: &str) -> rusqlite::Result<WalLength> {
        connection
            .prepare_cached(pragma)?
            .query_row([], WalLength::of_row)
    }

    fn of_row(row: &Row<'_>) -> rusqlite::Result<WalLength> {
        Ok(WalLength {
            is_busy: row.get(0)?,
            pages: row.get(1)?,
            copied: row.get(2)?,
        })
    }

    fn left(self) -> i64 {
        self.pages - self.copied
    }
}

impl Journal {
    /// Copies the log into the file, as far as readers let it. Does not wait for readers.
    ///
    /// # Errors
    ///
    /// Where the file or its log cannot be read or written.
    pub fn checkpoint(&mut self) -> Result<(), JournalError> {
        self.copy_log("PRAGMA wal_checkpoint(PASSIVE)").map(drop)
    }

    /// After each batch, which is durable whatever becomes of the log: a failure is logged once and tried again.
    pub(super) fn keep_wal_short(&mut self) {
        match (self.try_to_keep_log_short(), self.wal_is_stuck) {
            (Ok(()), _) => self.wal_is_stuck = false,
            (Err(_), true) => {}
            (Err(error), false) => {
                tracing::warn!(%error, "the log of a journal grows");
                self.wal_is_stuck = true;
            }
        }
    }

    fn try_to_keep_log_short(&mut self) -> Result<(), JournalError> {
        let log = self.wal_length()?;
        if log.left() >= PAGES_COPIED {
            self.copier.request();
        }
        if log.pages < PAGES_LONG {
            self.gate.open();
            return Ok(());
        }
        let now = Instant::now();
        let is_closed = self.gate.close(now);
        let restart = if log.pages < PAGES_MAX {
            self.restart_log_if_idle(self.copier.hold_if_idle())?
        } else {
            if is_closed {
                self.gate.wait_for_readers(now + READERS_WAIT);
                // Readers may have stopped the copy before.
                self.copier.request();
            }
            let copy_wait = if self.wal_is_held {
                HELD_COPY_WAIT
            } else {
                COPY_WAIT
            };
            let idle = self.copier.wait_until_idle(Instant::now() + copy_wait);
            match self.restart_log_if_idle(idle)? {
                Restart::Uncopied if is_closed => Restart::Held,
                other => other,
            }
        };
        match restart {
            Restart::Done => {
                self.wal_is_held = false;
                self.gate.open();
            }
            // By a reader of another process, so that keeping those of this process out does not help.
            Restart::Held if self.gate.is_empty() => {
                self.wal_is_held = true;
                self.gate.open_for_a_while(now);
            }
            Restart::Held | Restart::Uncopied | Restart::Copying => {}
        }
        Ok(())
    }

    /// The bytes that the file of the log has at least; 0 where that is unknown. To be asked after the file: another
    /// connection may begin it anew meanwhile.
    pub(super) fn bytes_of_log(&self) -> u64 {
        let pages = self.wal_length().map_or(0, |log| log.pages);
        match u64::try_from(pages) {
            Ok(pages @ 1..) => LOG_HEADER_BYTES + pages * (FRAME_HEADER_BYTES + u64::from(PAGE_BYTES)),
            _ => 0,
        }
    }

    fn wal_length(&self) -> Result<WalLength, JournalError> {
        let log = WalLength::of(&self.connection, "PRAGMA wal_checkpoint(NOOP)");
        log.map_err(|error| self.fault("looking at its log", error))
    }

    /// Copies the rest of the log and lets the next batch begin it anew, if little is left, nothing is being copied and no
    /// reader uses the log.
    fn restart_log_if_idle(
        &self,
        idle: Option<MutexGuard<'_, CopierFlags>>,
    ) -> Result<Restart, JournalError> {
        if idle.is_none() {
            return Ok(Restart::Copying);
        }
        if self.wal_length()?.left() > PAGES_LEFT {
            return Ok(Restart::Uncopied);
        }
        let waits = |wait| {
            let set = self.connection.busy_timeout(wait);
            set.map_err(|error| self.fault("copying its log", error))
        };
        // SQLite would wait for readers inside this call, and capture with it.
        waits(Duration::ZERO)?;
        let copied = self.copy_log("PRAGMA wal_checkpoint(RESTART)");
        waits(BUSY)?;
        if copied?.is_busy {
            return Ok(Restart::Held);
        }
        Ok(Restart::Done)
    }

    /// Readers in the way are reported in the row, not as an error.
    fn copy_log(&self, pragma: &str) -> Result<WalLength, JournalError> {
        let copied = WalLength::of(&self.connection, pragma);
        copied.map_err(|error| self.fault("copying its log", error))
    }
}
