//! Reads the logs of a folder while the server writes them.
//!
//! Invariants:
//!
//! 1. A record is taken only whole, with its checksum, and each file is read with `pread` at the position after the last
//!    one: a buffer would keep zeros from before a record was written.
//! 2. The next file is opened only when a later one exists and the current one, read once more, has no further record: the
//!    server has flushed a log before it creates the next.
//! 3. A file that was cut or replaced, which a server does when its leader takes transactions back, is an error and never
//!    read on.
//! 4. Only ascending zxids are returned. Whether they follow each other without a hole, and whether they were committed,
//!    is up to the caller.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use bridge_transactions::log_file::{
    BadFrame, FRAME_BYTES, Frame, HEADER_BYTES, LogError, check_header, frame,
};
use bridge_transactions::transaction::Transaction;

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
    /// What was read is no longer in the file.
    #[error(
        "transaction log: {}: was cut or replaced before byte {at}, which had been read: the server took transactions back",
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
struct Look {
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

    /// What the end of the current file is, if it is neither the end nor zeros. A record that is being written is one for
    /// a moment; one that stays is damage.
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
            let Some(next) = self.next_log()? else {
                self.check_newest()?;
                return Ok(self.took(look));
            };
            // The current file was complete before the next one was there.
            let again = self.look()?;
            if !again.transactions.is_empty() || again.is_full {
                return Ok(self.took(again));
            }
            self.open = Some(OpenLog::new(next)?);
        }
    }

    fn took(&mut self, look: Look) -> Vec<Transaction> {
        self.obstacle = look.obstacle;
        if let Some(last) = look.transactions.last() {
            self.after = last.zxid;
        }
        look.transactions
    }

    fn look(&mut self) -> Result<Look, TailError> {
        match &mut self.open {
            Some(open) => open.look(self.after),
            None => Ok(Look::default()),
        }
    }

    /// Opens the last file that begins at or before the next transaction, or the first one; `false` if there is none.
    fn open_first(&mut self) -> Result<bool, TailError> {
        let logs = self.folder.logs()?;
        let wanted = self.after.saturating_add(1);
        let before = logs.iter().rposition(|log| log.first <= wanted);
        let Some(log) = logs.into_iter().nth(before.unwrap_or(0)) else {
            return Ok(false);
        };
        self.open = Some(OpenLog::new(log)?);
        Ok(true)
    }

    /// A purge never removes the newest log; a server that takes transactions back does.
    fn check_newest(&self) -> Result<(), TailError> {
        match &self.open {
            Some(open) if !open.path.exists() => Err(TailError::Rewound {
                path: open.path.clone(),
                at: open.at,
            }),
            _ => Ok(()),
        }
    }

    /// The file after the current one.
    fn next_log(&self) -> Result<Option<LogFile>, TailError> {
        let Some(open) = &self.open else { return Ok(None) };
        let logs = self.folder.logs()?;
        Ok(logs.into_iter().find(|log| log.first > open.first))
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
            path: log.path,
            file,
            has_header: false,
            at: HEADER_BYTES as u64,
            mark: None,
        })
    }

    /// Reads records until the end of the file, a limit, or something that is none.
    fn look(&mut self, after: i64) -> Result<Look, TailError> {
        self.check_kept()?;
        let mut look = Look::default();
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
        look: &mut Look,
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
        let rewound = || TailError::Rewound {
            path: self.path.clone(),
            at: self.at,
        };
        let Some((at, mark)) = self.mark else {
            return Ok(());
        };
        if self.read(at, MARK_BYTES)? != mark {
            return Err(rewound());
        }
        match std::fs::metadata(&self.path) {
            Ok(named) => {
                let open = self.file.metadata().map_err(|cause| self.io_error(cause))?;
                let is_same = (named.dev(), named.ino()) == (open.dev(), open.ino());
                if is_same { Ok(()) } else { Err(rewound()) }
            }
            // A purge removes logs that a snapshot covers; the open file is read to its end.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(self.io_error(cause)),
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
mod tests {
    use std::io::Write;

    use bridge_transactions::testing;

    use super::*;

    const NONE: [i64; 0] = [];

    /// A folder that a test writes as a server does.
    struct Home {
        folder: tempfile::TempDir,
    }

    impl Home {
        fn new() -> Home {
            let folder = tempfile::tempdir().unwrap();
            Home { folder }
        }

        fn path(&self, first: i64) -> PathBuf {
            self.folder.path().join(format!("log.{first:x}"))
        }

        fn append(&self, first: i64, bytes: &[u8]) {
            let file = File::options().create(true).append(true).open(self.path(first));
            file.unwrap().write_all(bytes).unwrap();
        }

        fn tail(&self, after: i64) -> LogTail {
            LogTail::new(LogFolder::new(self.folder.path()), after)
        }
    }

    fn log(zxids: std::ops::RangeInclusive<i64>) -> Vec<u8> {
        let transactions: Vec<Transaction> = zxids.map(|zxid| testing::a_create(zxid, "/a")).collect();
        testing::log_file(&transactions)
    }

    fn record(zxid: i64) -> Vec<u8> {
        testing::record(&testing::payload(&testing::a_create(zxid, "/a")))
    }

    fn zxids(tail: &mut LogTail) -> Vec<i64> {
        let transactions = tail.poll().unwrap();
        transactions.iter().map(|transaction| transaction.zxid).collect()
    }

    #[test]
    fn a_record_is_returned_once_all_its_bytes_are_there_and_the_file_before_the_next() {
        let home = Home::new();
        let mut tail = home.tail(0);
        assert_eq!(zxids(&mut tail), NONE);
        home.append(1, b"ZKLG\0\0");
        assert_eq!(zxids(&mut tail), NONE);
        home.append(1, &testing::log_header()[6..]);
        for zxid in 1..=3 {
            let record = record(zxid);
            for byte in &record[..record.len() - 1] {
                home.append(1, &[*byte]);
                assert_eq!(zxids(&mut tail), NONE);
            }
            assert_eq!(tail.obstacle().map(|obstacle| obstacle.fault), Some(None));
            home.append(1, &record[record.len() - 1..]);
            assert_eq!(zxids(&mut tail), [zxid]);
        }
        assert_eq!((tail.obstacle(), tail.position()), (None, 3));
        home.append(1, &record(4));
        home.append(5, &log(5..=6));
        assert_eq!(zxids(&mut tail), [4]);
        assert_eq!(zxids(&mut tail), [5, 6]);
        assert_eq!(zxids(&mut tail), NONE);
    }

    #[test]
    fn a_tail_begins_after_any_zxid_and_finds_the_file_by_its_name() {
        let home = Home::new();
        for first in [1, 11, 21] {
            home.append(first, &log(first..=first + 9));
        }
        for after in 0..30 {
            let mut tail = home.tail(after);
            let mut all = Vec::new();
            loop {
                match zxids(&mut tail) {
                    none if none.is_empty() => break,
                    some => all.extend(some),
                }
            }
            assert_eq!(all, (after + 1..=30).collect::<Vec<i64>>(), "after {after}");
        }
    }

    #[test]
    fn zeros_after_the_records_are_overwritten_by_the_next_ones() {
        let home = Home::new();
        let mut bytes = log(1..=2);
        let end = bytes.len();
        bytes.resize(end + 300_000, 0);
        home.append(1, &bytes);
        let mut tail = home.tail(0);
        assert_eq!(zxids(&mut tail), [1, 2]);
        let file = File::options().write(true).open(home.path(1)).unwrap();
        let next = [record(3), record(4)].concat();
        let flushed = next.len() - 20;
        file.write_all_at(&next[..flushed], end as u64).unwrap();
        assert_eq!(zxids(&mut tail), [3]);
        assert!(matches!(
            tail.obstacle(),
            Some(Obstacle {
                fault: Some(BadFrame::End { .. }),
                ..
            })
        ));
        file.write_all_at(&next[flushed..], (end + flushed) as u64)
            .unwrap();
        assert_eq!(zxids(&mut tail), [4]);
    }

    #[test]
    fn a_part_of_a_record_at_the_end_of_a_log_is_passed_once_there_is_a_later_log() {
        let home = Home::new();
        home.append(1, &log(1..=2));
        home.append(1, &record(3)[..30]);
        let mut tail = home.tail(0);
        assert_eq!(zxids(&mut tail), [1, 2]);
        assert_eq!(zxids(&mut tail), NONE);
        home.append(3, &log(3..=4));
        assert_eq!(zxids(&mut tail), [3, 4]);
        assert_eq!(tail.obstacle(), None);
    }

    #[test]
    fn a_log_that_was_cut_replaced_or_removed_at_its_end_is_an_error_and_never_read_on() {
        let check = |change: &dyn Fn(&Home)| {
            let home = Home::new();
            home.append(1, &log(1..=3));
            let mut tail = home.tail(0);
            assert_eq!(zxids(&mut tail), [1, 2, 3]);
            change(&home);
            for _ in 0..2 {
                let error = tail.poll().expect_err("the file has changed").to_string();
                assert!(error.contains("was cut or replaced before byte"), "{error}");
            }
            assert_eq!(tail.position(), 3);
        };
        check(&|home| {
            let file = File::options().write(true).open(home.path(1)).unwrap();
            file.set_len(log(1..=2).len() as u64).unwrap();
        });
        check(&|home| {
            // Another history of the same length.
            let mut bytes = log(1..=2);
            bytes.extend(testing::record(&testing::payload(&testing::a_create(3, "/b"))));
            std::fs::write(home.path(1), bytes).unwrap();
        });
        check(&|home| {
            let other = home.folder.path().join("new");
            std::fs::write(&other, log(1..=3)).unwrap();
            std::fs::rename(other, home.path(1)).unwrap();
        });
        check(&|home| std::fs::remove_file(home.path(1)).unwrap());
    }

    #[test]
    fn a_log_that_a_purge_removed_while_it_was_read_is_read_to_its_end() {
        let home = Home::new();
        home.append(1, &log(1..=2));
        let mut tail = home.tail(0);
        assert_eq!(zxids(&mut tail), [1, 2]);
        home.append(1, &record(3));
        home.append(4, &log(4..=4));
        std::fs::remove_file(home.path(1)).unwrap();
        assert_eq!(zxids(&mut tail), [3]);
        assert_eq!(zxids(&mut tail), [4]);
    }

    #[test]
    fn transactions_before_a_record_that_is_none_are_returned_before_the_error() {
        let home = Home::new();
        home.append(1, &log(1..=2));
        home.append(1, &testing::record(b"nothing that is known"));
        let mut tail = home.tail(0);
        assert_eq!(zxids(&mut tail), [1, 2]);
        for _ in 0..2 {
            let error = tail.poll().expect_err("the record is none").to_string();
            assert!(error.contains("log.1: the record at byte"), "{error}");
        }
        home.append(5, b"#!/bin/sh");
        let foreign = home.tail(4).poll().expect_err("the file is foreign").to_string();
        assert!(foreign.contains("log.5: is not a transaction log"), "{foreign}");
    }

    #[test]
    fn many_large_transactions_come_in_several_batches() {
        let home = Home::new();
        let large = |zxid| {
            let operation = bridge_transactions::transaction::Operation::SetData {
                path: "/a".to_owned(),
                data: Some(vec![7; 1 << 20]),
                version: 1,
            };
            testing::transaction(zxid, operation, None)
        };
        let all: Vec<Transaction> = (1..=20).map(large).collect();
        home.append(1, &testing::log_file(&all));
        let mut tail = home.tail(0);
        let batches = [zxids(&mut tail), zxids(&mut tail), zxids(&mut tail)];
        assert_eq!(batches.map(|batch| batch.len()), [8, 8, 4]);
    }
}
