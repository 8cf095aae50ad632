//! Reads the logs of a folder while the server writes them.
//!
//! Invariants:
//!
//! 1. A record is taken only whole, with its checksum, and each file is read with `pread` at the position after the last
//!    one: a buffer would keep zeros from before a record was written.
//! 2. The next file is opened only when a later one exists and the current one, read once more, has no further record: the
//!    server has flushed a log before it creates the next.
//! 3. A file that was cut, replaced or removed, which a server does when its leader takes transactions back, is an error
//!    and never read on. A purge removes files, too, but only those with a later one beside them: where that was not seen,
//!    only a log that begins with the next transaction of the same epoch shows that it was a purge.
//! 4. Only ascending zxids are returned. Whether they follow each other without a hole, and whether they were committed,
//!    is up to the caller.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use bridge_transactions::log_file::{
    BadFrame, FRAME_BYTES, Frame, HEADER_BYTES, LogError, check_header, frame,
};
use bridge_transactions::transaction::{Transaction, can_follow, epoch};

use super::folder::{FolderError, LogFile, LogFolder};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Payload bytes that one call returns at most, but always one transaction.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// The beginning of the last record, by which a file that was rewritten is recognized: its checksum and length.
const MARK_BYTES: usize = 12;

/// Logs that cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The folder cannot be listed.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file cannot be read.
    #[error("transaction log: {}: {cause}\nhelp: let this user read the files that the server writes", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// A file is no log, or a record in it no transaction.
    #[error("transaction log: {}: {cause}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: LogError,
    },
    /// Transactions that were read are no longer in the file.
    #[error(
        "transaction log: {}: was cut, replaced or removed, and byte {at} had been reached: the server took transactions back",
        path.display()
    )]
    Rewound {
        /// The file.
        path: PathBuf,
        /// The position that had been reached.
        at: u64,
    },
    /// A file that was not read to its end is gone.
    #[error(
        "transaction log: {}: was removed before it was read to its end\nhelp: let the server keep its logs longer \
         (autopurge.snapRetainCount)",
        path.display()
    )]
    Removed {
        /// The file.
        path: PathBuf,
    },
}

/// Bytes after the last record that are not one, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The file.
    pub path: PathBuf,
    /// The position.
    pub at: u64,
    /// The reason; `None` for a record of which the end is missing.
    pub fault: Option<BadFrame>,
}

/// A position in the logs of a folder.
#[derive(Debug)]
pub struct LogTail {
    folder: LogFolder,
    /// Transactions up to this zxid are passed over.
    after: i64,
    open: Option<OpenLog>,
    obstacle: Option<Obstacle>,
}

#[derive(Debug)]
struct OpenLog {
    first: i64,
    /// The beginning of the log after it, if that was there beside it.
    next: Option<i64>,
    path: PathBuf,
    file: File,
    has_header: bool,
    /// The position after the last whole record.
    at: u64,
    /// The position and the first bytes of the last record.
    mark: Option<(u64, [u8; MARK_BYTES])>,
}

/// The transactions of one look at a file.
#[derive(Debug, Default)]
struct FileRead {
    transactions: Vec<Transaction>,
    bytes: usize,
    obstacle: Option<Obstacle>,
    is_full: bool,
}

impl LogTail {
    /// Begins with the first transaction after a zxid.
    pub fn new(folder: LogFolder, after: i64) -> LogTail {
        LogTail {
            folder,
            after,
            open: None,
            obstacle: None,
        }
    }

    /// The last zxid that was returned, or the one to begin after.
    pub fn position(&self) -> i64 {
        self.after
    }

    /// The bytes at which reading stopped, if they are neither the end of the file nor zeros. A record that is being
    /// written is one for a moment; one that stays is damage.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        self.obstacle.as_ref()
    }

    /// The next transactions, ascending; none if there is none at the moment.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is no log, or has changed where it had been read. The position stays where it was.
    pub fn poll(&mut self) -> Result<Vec<Transaction>, TailError> {
        if self.open.is_none() && !self.open_first()? {
            return Ok(Vec::new());
        }
        loop {
            let look = self.look()?;
            if !look.transactions.is_empty() || look.is_full {
                return Ok(self.took(look));
            }
            let later = self.later_logs()?;
            let Some(next) = later.first() else {
                self.check_removed(None)?;
                return Ok(self.took(look));
            };
            // The current file was complete before the next one was there.
            let again = self.look()?;
            if !again.transactions.is_empty() || again.is_full {
                return Ok(self.took(again));
            }
            self.check_removed(Some(next))?;
            self.open_front(later)?;
        }
    }

    fn took(&mut self, look: FileRead) -> Vec<Transaction> {
        self.obstacle = look.obstacle;
        if let Some(last) = look.transactions.last() {
            self.after = last.zxid;
        }
        look.transactions
    }

    fn look(&mut self) -> Result<FileRead, TailError> {
        match &mut self.open {
            Some(open) => open.look(self.after),
            None => Ok(FileRead::default()),
        }
    }

    /// Opens the last file that begins at or before the next transaction, or the first one; `false` if there is none.
    fn open_first(&mut self) -> Result<bool, TailError> {
        let logs = self.folder.logs()?;
        let wanted = self.after.saturating_add(1);
        let before = logs.iter().rposition(|log| log.first <= wanted);
        self.open_front(logs.into_iter().skip(before.unwrap_or(0)))
    }

    /// Opens the first of some logs; `false` if there is none.
    fn open_front(&mut self, logs: impl IntoIterator<Item = LogFile>) -> Result<bool, TailError> {
        let mut logs = logs.into_iter();
        let Some(log) = logs.next() else { return Ok(false) };
        let mut open = OpenLog::new(log)?;
        open.next = logs.next().map(|next| next.first);
        self.open = Some(open);
        Ok(true)
    }

    /// Checks that the current file, which was read to its end, was not taken back: a leader lets a server delete all logs
    /// after the cut, and the first log of the new epoch can be there before the next look. A purge never removes the newest
    /// log. To be called after the next log was listed: a file that has its name then was beside it.
    fn check_removed(&self, next: Option<&LogFile>) -> Result<(), TailError> {
        let Some(open) = &self.open else { return Ok(()) };
        let is_purge = |next: &LogFile| {
            let follows = epoch(next.first) == epoch(self.after) && can_follow(next.first, self.after);
            follows || open.next == Some(next.first)
        };
        match open.is_named()? || next.is_some_and(is_purge) {
            true => Ok(()),
            false => Err(open.rewound()),
        }
    }

    /// The files after the current one.
    fn later_logs(&self) -> Result<Vec<LogFile>, TailError> {
        let Some(open) = &self.open else {
            return Ok(Vec::new());
        };
        let mut logs = self.folder.logs()?;
        logs.retain(|log| log.first > open.first);
        Ok(logs)
    }
}

impl OpenLog {
    fn new(log: LogFile) -> Result<OpenLog, TailError> {
        let file = File::open(&log.path).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => TailError::Removed {
                path: log.path.clone(),
            },
            _ => TailError::Io {
                path: log.path.clone(),
                cause,
            },
        })?;
        Ok(OpenLog {
            first: log.first,
            next: None,
            path: log.path,
            file,
            has_header: false,
            at: HEADER_BYTES as u64,
            mark: None,
        })
    }

    /// Reads records until the end of the file, a limit, or something that is none.
    fn look(&mut self, after: i64) -> Result<FileRead, TailError> {
        self.check_kept()?;
        let mut look = FileRead::default();
        if !self.has_header {
            let header = self.read(0, HEADER_BYTES)?;
            self.has_header = check_header(&header).map_err(|cause| self.log_error(cause))?;
            if !self.has_header {
                return Ok(look);
            }
        }
        let mut last = after;
        let mut wanted = CHUNK_BYTES;
        loop {
            let bytes = match self.read(self.at, wanted) {
                Ok(bytes) => bytes,
                // Nothing that was read is lost: the error comes again with the next look.
                Err(_) if !look.transactions.is_empty() => {
                    look.is_full = true;
                    return Ok(look);
                }
                Err(error) => return Err(error),
            };
            let (passed, end) = self.take_records(&bytes, &mut last, &mut look)?;
            match end {
                _ if look.is_full => return Ok(look),
                // The rest of this read begins within a record: read on from its beginning.
                Frame::Cut { needed } if bytes.len() == wanted => wanted = needed.max(CHUNK_BYTES),
                Frame::Empty if passed > 0 && bytes.len() == wanted => wanted = CHUNK_BYTES,
                Frame::Empty => return Ok(look),
                Frame::Cut { .. } => {
                    look.obstacle = Some(self.obstacle(None));
                    return Ok(look);
                }
                Frame::Bad(fault) => {
                    look.obstacle = Some(self.obstacle(Some(fault)));
                    return Ok(look);
                }
                Frame::Record { .. } => unreachable!("records are taken until there is none"),
            }
        }
    }

    /// Takes the whole records at the front of some bytes; returns how many bytes they are, and what comes after them.
    fn take_records<'a>(
        &mut self,
        bytes: &'a [u8],
        last: &mut i64,
        look: &mut FileRead,
    ) -> Result<(usize, Frame<'a>), TailError> {
        let mut passed = 0;
        loop {
            let rest = &bytes[passed..];
            let found = frame(rest);
            let Frame::Record { payload } = found else {
                return Ok((passed, found));
            };
            let read = Transaction::decode(payload);
            let has_some = !look.transactions.is_empty();
            if has_some && (read.is_err() || look.bytes >= BATCH_BYTES_MAX) {
                look.is_full = true;
                return Ok((passed, Frame::Empty));
            }
            let at = self.at;
            let transaction = read.map_err(|cause| self.log_error(LogError::Record { at, cause }))?;
            let mark = rest.first_chunk::<MARK_BYTES>();
            self.mark = Some((at, *mark.expect("a record is longer than its mark")));
            look.bytes += payload.len();
            passed += payload.len() + FRAME_BYTES;
            self.at += (payload.len() + FRAME_BYTES) as u64;
            if transaction.zxid > *last && !transaction.is_without_number(*last) {
                *last = transaction.zxid;
                look.transactions.push(transaction);
            }
        }
    }

    /// Checks that the file still has what was read.
    fn check_kept(&self) -> Result<(), TailError> {
        if let Some((at, mark)) = self.mark
            && self.read(at, MARK_BYTES)? != mark
        {
            return Err(self.rewound());
        }
        // One without a name is read to its end.
        self.is_named().map(|_| ())
    }

    /// Whether the file still has its name.
    ///
    /// # Errors
    ///
    /// If another file has the name.
    fn is_named(&self) -> Result<bool, TailError> {
        match std::fs::metadata(&self.path) {
            Ok(named) => {
                let open = self.file.metadata().map_err(|cause| self.io_error(cause))?;
                let is_same = (named.dev(), named.ino()) == (open.dev(), open.ino());
                if is_same { Ok(true) } else { Err(self.rewound()) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(self.io_error(cause)),
        }
    }

    fn rewound(&self) -> TailError {
        TailError::Rewound {
            path: self.path.clone(),
            at: self.at,
        }
    }

    /// Up to this many bytes at a position.
    fn read(&self, at: u64, count: usize) -> Result<Vec<u8>, TailError> {
        let left = self
            .file
            .metadata()
            .map_err(|cause| self.io_error(cause))?
            .len()
            .saturating_sub(at);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(count);
        let mut bytes = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match self.file.read_at(&mut bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.io_error(cause)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn io_error(&self, cause: io::Error) -> TailError {
        TailError::Io {
            path: self.path.clone(),
            cause,
        }
    }

    fn log_error(&self, cause: LogError) -> TailError {
        TailError::Log {
            path: self.path.clone(),
            cause,
        }
    }

    fn obstacle(&self, fault: Option<BadFrame>) -> Obstacle {
        Obstacle {
            path: self.path.clone(),
            at: self.at,
            fault,
        }
    }
}

#[cfg(test)]
mod tests;
