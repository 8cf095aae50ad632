//! Opens a journal after checking the file, or creates a new one.
//!
//! A file that is of another program, newer, visibly damaged, of another source or open in another process is left
//! unchanged, byte for byte.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::companions::{beside, log_beside, remove_companions};
use super::error::{JournalError, JournalErrorKind, start_anew};
use super::lock::{Lock, OWNER_ONLY, lock_file, says_it_existed};
use super::options::{Durability, JournalOptions};
use super::schema::{self, APPLICATION_ID, FORMAT, MIGRATIONS};
use super::wal::WAL_BYTES_KEPT;
use super::wal_gate::WalGate;
use crate::folder::{folder_of, remove_if_there, sync_folder};

/// How long a statement waits for another process that writes the file or changes its form, such as a shell. Copying the
/// log never waits: see [`super::wal`].
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// More than there are different statements.
const STATEMENTS: usize = 64;

/// A folder made for journals, for its owner only.
const FOLDER_MODE: u32 = 0o700;

/// Instructions of SQLite between two looks at [`JournalOptions::stop`]: far less than a millisecond of work.
const INTERRUPT_EVERY: i32 = 1_000;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The header of an SQLite file: all that is looked at before it is opened.
const HEADER_BYTES: usize = 100;

/// A connection that may write, and the guards that must outlive it.
pub(super) struct OpenedWriter {
    pub(super) connection: Connection,
    pub(super) gate: Arc<WalGate>,
    pub(super) lock: Lock,
}

/// Opens or creates the journal of a source for its one writer.
pub(super) fn open_writer(file: &Path, options: &JournalOptions) -> Result<OpenedWriter, JournalError> {
    create_folder(file)?;
    look_at(file)?;
    let lock = Lock::take(file)?;
    // With the lock no other process creates it.
    let gate = match look_at(file)? {
        Some(gate) => gate,
        None if lock.journal_existed() => return Err(missing(file)),
        None => {
            lock.note(false);
            create(file, &options.cluster)?;
            tracing::info!(file = %file.display(), "journal created");
            look_at(file)?.ok_or_else(|| missing(file))?
        }
    };
    lock.note(true);
    let mut connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let checked = |error| JournalError::of_sqlite(file, "opening it", error);
    // Until it is known to be ours, closing must not write to it either.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(checked)?;
    let format = check_format(file, &connection)?;
    check_cluster(file, &connection, &options.cluster)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map_err(checked)?;
    prepare_writer(&mut connection, options).map_err(checked)?;
    schema::migrate(&mut connection, format, MIGRATIONS)
        .map_err(|error| JournalError::of_sqlite(file, "bringing it to the present format", error))?;
    Ok(OpenedWriter {
        connection,
        gate,
        lock,
    })
}

/// Opens a journal that exists, only to read.
pub(super) fn open_reader(file: &Path) -> Result<(Connection, Arc<WalGate>), JournalError> {
    let gate = look_at(file)?.ok_or_else(|| {
        JournalError::new(
            JournalErrorKind::Unwritable,
            file,
            "there is no such file: check data_dir and the name of the source, or run the bridge first",
        )
    })?;
    let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let format = check_format(file, &connection)?;
    connection
        .pragma_update(None, "cache_size", READER_CACHE_KIB)
        .and_then(|()| match format < schema::COMPACTED_SINCE {
            true => connection.execute_batch(schema::COMPACTED_ABSENT),
            false => Ok(()),
        })
        .and_then(|()| match format {
            ..schema::TXN_SINCE => connection.execute_batch(schema::TXN_ABSENT),
            schema::TXN_SINCE..schema::FACTS_SINCE => connection.execute_batch(schema::FACTS_ABSENT),
            _ => Ok(()),
        })
        .and_then(|()| match format < schema::FACTS_SINCE {
            true => connection.execute_batch(schema::POSITION_ABSENT),
            false => Ok(()),
        })
        .and_then(|()| match format {
            ..schema::FACTS_SINCE => connection.execute_batch(schema::WAYPOINTS_ABSENT),
            schema::FACTS_SINCE..schema::WAYPOINTS_SINCE => connection
                .execute_batch(schema::WAYPOINTS_ABSENT)
                .and_then(|()| connection.execute_batch(schema::STEPS_ABSENT)),
            schema::WAYPOINTS_SINCE..schema::ENDED_SINCE => connection.execute_batch(schema::BORN_ABSENT),
            _ => Ok(()),
        })
        .and_then(|()| match format < schema::ENDED_SINCE {
            true => connection.execute_batch(schema::ENDED_ABSENT),
            false => Ok(()),
        })
        .and_then(|()| match format < schema::STRETCHES_SINCE {
            true => connection.execute_batch(schema::STRETCHES_ABSENT),
            false => Ok(()),
        })
        .and_then(|()| match format < schema::UNREADABLE_SINCE {
            true => connection.execute_batch(schema::UNREADABLE_ABSENT),
            false => Ok(()),
        })
        .and_then(|()| match format < schema::DIGEST_SINCE {
            true => connection.execute_batch(schema::DIGEST_ABSENT),
            false => Ok(()),
        })
        .map_err(|error| JournalError::of_sqlite(file, "opening it", error))?;
    Ok((connection, gate))
}

/// Opens what the writer has opened, to copy its log.
pub(super) fn open_for_copying(file: &Path) -> Result<Connection, JournalError> {
    connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

/// Negative: KiB, not pages. A reader follows the end of the file, where few pages are hot.
const READER_CACHE_KIB: i64 = -1024;

fn connect(file: &Path, access: OpenFlags) -> Result<Connection, JournalError> {
    let opened = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    opened
        .and_then(|connection| {
            connection.busy_timeout(BUSY)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            // Without it SQLite prepares a statement anew at each execution whose values could make another plan
            // better, which costs more than the statement.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            Ok(connection)
        })
        .map_err(|error| JournalError::of_sqlite(file, "opening it", error))
}

fn prepare_writer(connection: &mut Connection, options: &JournalOptions) -> rusqlite::Result<()> {
    let synchronous = match options.durability {
        Durability::PowerLoss => "FULL",
        // Not OFF: the file stays whole at a loss of power, as the log is synchronised before it is copied.
        Durability::ProcessCrash => "NORMAL",
    };
    let cache_kib = i64::try_from(options.page_cache.0 / 1024).unwrap_or(i64::MAX);
    let stop = options.stop.clone();
    connection.progress_handler(INTERRUPT_EVERY, Some(move || stop.is_cancelled()))?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)
}

fn create_folder(file: &Path) -> Result<(), JournalError> {
    let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    if folder.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
    made.map_err(|error| {
        JournalError::of_io(file, &format!("creating its folder {}", folder.display()), error)
    })
}

/// The journal at this path, after a look at its first bytes; `None` if there is no file.
fn look_at(file: &Path) -> Result<Option<Arc<WalGate>>, JournalError> {
    let metadata = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            check_no_log_is_left(file)?;
            return Ok(None);
        }
        other => other.map_err(|error| JournalError::of_io(file, "looking at it", error))?,
    };
    if !metadata.is_file() {
        return Err(JournalError::new(
            JournalErrorKind::Unwritable,
            file,
            "this is no file: move it away, or choose another data_dir",
        ));
    }
    WalGate::of(file, |opened| look_into(file, opened)).map(Some)
}

fn look_into(file: &Path, opened: &File) -> Result<(), JournalError> {
    let looking = |error| JournalError::of_io(file, "looking at it", error);
    let length = opened.metadata().map_err(looking)?.len();
    if length == 0 {
        check_no_log_is_left(file)?;
        return Err(JournalError::new(
            JournalErrorKind::Damaged,
            file,
            format!(
                "it is empty, and no journal ever is: restore it from a copy, or {}",
                start_anew(file)
            ),
        ));
    }
    let mut header = Vec::with_capacity(HEADER_BYTES);
    opened
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)
        .map_err(looking)?;
    check_header(file, &header, length)
}

/// Checks that no journal was lost at this path, so that another file may get its name: the log of a lost one would be used
/// as that of the other file. Creates nothing.
///
/// # Errors
///
/// If the log of a journal is there without it, or its lock file says that there was one.
pub fn check_not_lost(file: &Path) -> Result<(), JournalError> {
    match look_at(file)? {
        None if says_it_existed(file) => Err(missing(file)),
        _ => Ok(()),
    }
}

/// SQLite would use a log whose file is missing as the log of the new file.
fn check_no_log_is_left(file: &Path) -> Result<(), JournalError> {
    match log_beside(file) {
        Some(log) => Err(JournalError::new(
            JournalErrorKind::Damaged,
            file,
            format!(
                "its log {} is there without it: put the journal back beside its log, or move the log and {} away to \
                 start with a new journal",
                log.display(),
                lock_file(file).display()
            ),
        )),
        None => Ok(()),
    }
}

/// The lock file says that there was one: a new journal would begin without its cursors and its history.
fn missing(file: &Path) -> JournalError {
    JournalError::new(
        JournalErrorKind::Damaged,
        file,
        format!(
            "the file is missing, and its lock file says that there was one: put it back, or remove {} to start with a \
             new journal, which begins with a snapshot",
            lock_file(file).display()
        ),
    )
}

fn check_header(file: &Path, header: &[u8], length: u64) -> Result<(), JournalError> {
    if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
        return Err(foreign(file, "this is no database"));
    }
    let number = |at: usize| {
        let bytes = header[at..at + 4].try_into().expect("four bytes of a header");
        u32::from_be_bytes(bytes)
    };
    // The offsets of https://www.sqlite.org/fileformat.html, section 1.3.
    let (pages, format, application) = (number(28), number(60), number(68));
    if application != APPLICATION_ID {
        return Err(foreign(file, "this is a database of something else"));
    }
    check_not_newer(file, format)?;
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        other => u64::from(other),
    };
    let log_is_empty = fs::metadata(beside(file, "-wal")).map_or(true, |log| log.len() == 0);
    if log_is_empty && length < u64::from(pages) * page_bytes {
        return Err(JournalError::new(
            JournalErrorKind::Damaged,
            file,
            format!(
                "it has {length} bytes of {}, so it was cut: restore it from a copy, or {}",
                u64::from(pages) * page_bytes,
                start_anew(file)
            ),
        ));
    }
    Ok(())
}

fn foreign(file: &Path, what: &str) -> JournalError {
    JournalError::new(
        JournalErrorKind::Foreign,
        file,
        format!("{what}, not a journal of zkbridge: move it away, or choose another data_dir"),
    )
}

fn check_not_newer(file: &Path, format: u32) -> Result<(), JournalError> {
    if format <= FORMAT {
        return Ok(());
    }
    Err(JournalError::new(
        JournalErrorKind::Newer,
        file,
        format!(
            "it has format {format}, and this zkbridge knows formats up to {FORMAT}: use the zkbridge that wrote \
             it, or a newer one"
        ),
    ))
}

fn check_format(file: &Path, connection: &Connection) -> Result<u32, JournalError> {
    let format = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| JournalError::of_sqlite(file, "reading its format", error))?;
    check_not_newer(file, format)?;
    Ok(format)
}

pub(super) fn check_cluster(file: &Path, connection: &Connection, wanted: &str) -> Result<(), JournalError> {
    let cluster: String = connection
        .query_row("SELECT value FROM meta WHERE key = 'cluster'", [], |row| {
            row.get(0)
        })
        .map_err(|error| JournalError::of_sqlite(file, "reading the name of its source", error))?;
    if cluster == wanted {
        return Ok(());
    }
    Err(JournalError::new(
        JournalErrorKind::OtherSource,
        file,
        format!(
            "it belongs to the source '{cluster}', not to '{wanted}': a source keeps its name, which is in the \
             id of each record; use that name, or move the file away"
        ),
    ))
}

/// A new journal appears at once and whole: a crash leaves nothing, or a `.new` file that the next start removes.
fn create(file: &Path, cluster: &str) -> Result<(), JournalError> {
    let fresh = beside(file, ".new");
    let creating = |error| JournalError::of_io(file, "creating it", error);
    // The rest of an earlier attempt that crashed, with the log that SQLite would replay into the new file.
    remove_if_there(&fresh)
        .and_then(|()| remove_companions(&fresh))
        .map_err(creating)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(&fresh)
        .map_err(creating)?;
    fill(&fresh, cluster).map_err(|error| JournalError::of_sqlite(file, "creating it", error))?;
    File::open(&fresh)
        .and_then(|written| written.sync_all())
        .and_then(|()| fs::rename(&fresh, file))
        .and_then(|()| sync_folder(folder_of(file)))
        .map_err(creating)
}

fn fill(fresh: &Path, cluster: &str) -> rusqlite::Result<()> {
    let mut connection = Connection::open_with_flags(fresh, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    schema::create(&mut connection, cluster)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.close().map_err(|(_, error)| error)
}
