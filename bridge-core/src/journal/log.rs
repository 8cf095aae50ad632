//! The write-ahead log: copied into the file beside the writer, and kept from growing.
//!
//! Copying costs about as much as writing, so it has a thread and a connection of its own; the writer only says when
//! there is enough to copy. The log begins again at its start when all of it is copied and nobody reads it, which under
//! steady load is never the case by itself. So the writer copies the last bit when the thread has just come near the
//! end of a long log, and waits for it at a length of [`PAGES_MAX`], whatever is left.
//!
//! A copy that fails loses nothing: the log stays as it is, and the next one copies more.
//!
//! Where batches are synchronised, the log is longer than what is written of it: file systems synchronise a file that
//! grows together with what others have changed, and then a batch waits for their data, too. SQLite takes zeros for the
//! end of its log.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, Row};

use super::error::JournalError;
use super::lock::beside;
use super::open::open_for_copying;
use super::options::Durability;
use super::schema::PAGE_BYTES;
use super::writer::Journal;

/// Copied in one go. Synchronising the copy makes the batches of that moment wait: more at once is more updates on the
/// whole and longer waits for a few batches. `cargo bench -p bridge-core --bench journal` shows both.
const PAGES_COPIED: i64 = 1000;

/// 32 MiB: from there on the log is to begin again.
const PAGES_LONG: i64 = 32_768;

/// So many pages the writer copies between two batches: a few ms.
const PAGES_LEFT: i64 = 1500;

/// 64 MiB: reached only while somebody reads without end.
const PAGES_MAX: i64 = 65_536;

/// The space that the log keeps.
pub(super) const LOG_BYTES_KEPT: i64 = PAGES_LONG * PAGE_BYTES as i64;

/// So much longer than what is written the log becomes in one step: some ten batches under load.
const ROOM_BYTES: u64 = 1 << 20;

/// Of the log, and of each page in it: <https://www.sqlite.org/fileformat2.html#walformat>.
const LOG_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The room behind what is written of the log.
#[derive(Default)]
pub(super) struct LogRoom {
    log: Option<File>,
}

impl LogRoom {
    /// Makes room behind so many pages, where little is left. Not while a batch is written.
    fn keep(&mut self, file: &Path, pages: u64) -> io::Result<()> {
        let log = match &self.log {
            Some(log) => log,
            // Not created here: a log without a header would be no log.
            None => self
                .log
                .insert(OpenOptions::new().write(true).open(beside(file, "-wal"))?),
        };
        let end = LOG_HEADER_BYTES + pages * (FRAME_HEADER_BYTES + u64::from(PAGE_BYTES));
        let length = log.metadata()?.len();
        if pages == 0 || end + ROOM_BYTES / 2 <= length {
            return Ok(());
        }
        let whole = length.max(end) + ROOM_BYTES;
        let mut at = length;
        while at < whole {
            let step = usize::try_from(whole - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            log.write_all_at(&ZEROS[..step], at)?;
            at += step as u64;
        }
        Ok(())
    }
}

/// Copies the log on a thread of its own. Ends with its value.
pub(super) struct LogCopier {
    /// Holds one wish to copy; more of them would be one.
    wishes: Option<SyncSender<()>>,
    /// Whose turn it is to copy: SQLite refuses the second one and does not let it wait.
    turn: Arc<Mutex<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LogCopier {
    /// Starts the thread.
    pub(super) fn start(file: &Path) -> Result<LogCopier, JournalError> {
        let connection = open_for_copying(file)?;
        let (wishes, wished) = sync_channel(1);
        let turn = Arc::new(Mutex::new(()));
        let of_thread = turn.clone();
        let thread = std::thread::Builder::new()
            .name("journal-log".into())
            .spawn(move || copy_when_wished(&connection, &wished, &of_thread))
            .map_err(|error| JournalError::of_io(file, "starting the thread for its log", error))?;
        Ok(LogCopier {
            wishes: Some(wishes),
            turn,
            thread: Some(thread),
        })
    }

    fn wish(&self) {
        if let Some(wishes) = &self.wishes {
            // Full: it is wished already. Disconnected: the thread is gone, and the writer copies at the limit.
            let _full_or_gone = wishes.try_send(());
        }
    }
}

impl Drop for LogCopier {
    fn drop(&mut self) {
        drop(self.wishes.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(_)) = ended {
            tracing::error!("the thread that copies the log of a journal has panicked");
        }
    }
}

fn copy_when_wished(connection: &Connection, wished: &Receiver<()>, turn: &Mutex<()>) {
    while wished.recv().is_ok() {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = Log::of(connection, "PRAGMA wal_checkpoint(PASSIVE)") {
            tracing::warn!(%error, "the log of a journal cannot be copied into it now");
        }
    }
}

/// How long the log is, and how much of it is copied.
struct Log {
    pages: i64,
    copied: i64,
}

impl Log {
    fn of(connection: &Connection, pragma: &str) -> rusqlite::Result<Log> {
        connection.prepare_cached(pragma)?.query_row([], Log::of_row)
    }

    fn of_row(row: &Row<'_>) -> rusqlite::Result<Log> {
        Ok(Log {
            pages: row.get(1)?,
            copied: row.get(2)?,
        })
    }
}

impl Journal {
    /// Copies the log into the file, as far as readers let it.
    pub fn checkpoint(&mut self) -> Result<(), JournalError> {
        self.copy_log("PRAGMA wal_checkpoint(PASSIVE)")
    }

    /// After each batch, which is durable whatever becomes of the log: trouble is told once and tried again.
    pub(super) fn mind_log(&mut self) {
        match (self.try_to_mind_log(), self.log_is_stuck) {
            (Ok(pages), _) => {
                self.log_is_stuck = false;
                self.keep_log_room(pages);
            }
            (Err(_), true) => {}
            (Err(error), false) => {
                tracing::warn!(%error, "the log of a journal grows");
                self.log_is_stuck = true;
            }
        }
    }

    /// Room that cannot be made only lets the next batches wait longer; a full disk is told by them.
    fn keep_log_room(&mut self, pages: i64) {
        if self.options.durability == Durability::PowerLoss
            && let Err(error) = self.log_room.keep(&self.file, pages.max(0).cast_unsigned())
        {
            tracing::debug!(%error, "there is no room to be made in the log of a journal");
        }
    }

    /// Says how many pages of the log are written.
    fn try_to_mind_log(&self) -> Result<i64, JournalError> {
        let log = Log::of(&self.connection, "PRAGMA wal_checkpoint(NOOP)");
        let log = log.map_err(|error| self.fault("looking at its log", error))?;
        let left = log.pages - log.copied;
        if log.pages >= PAGES_MAX {
            let _turn = self.copier.turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.copy_log("PRAGMA wal_checkpoint(RESTART)")?;
        } else if log.pages >= PAGES_LONG && left <= PAGES_LEFT {
            self.copy_log("PRAGMA wal_checkpoint(RESTART)")?;
        } else if left >= PAGES_COPIED {
            self.copier.wish();
        }
        Ok(log.pages)
    }

    /// Others in the way are reported in the row, not as an error.
    fn copy_log(&self, pragma: &str) -> Result<(), JournalError> {
        let copied = Log::of(&self.connection, pragma);
        copied
            .map(drop)
            .map_err(|error| self.fault("copying its log", error))
    }
}
