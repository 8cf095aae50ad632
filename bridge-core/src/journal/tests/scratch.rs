//! A journal in a folder of its own, and short ways to write entries.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use crate::append::{Append, Change, ChangeKind, DeletedAt, Read, RecordKind};
use crate::image_txn::ImageTxn;
use crate::journal::{
    Journal, JournalOptions, JournalWriter, ProgressError, ReadLimit, Reader, SinkProgress, SinkState,
    cursors,
};
use crate::number::{Seq, SessionId, Zxid};
use crate::path::ZnodePath;
use crate::record::{Data, DataForm, Fidelity, Record, Stat, Timestamp};

/// Enough for every test.
pub const ALL: ReadLimit = ReadLimit {
    records: 1_000_000,
    bytes: usize::MAX,
};

/// When entries are captured, unless a test says otherwise.
pub const NOON: Timestamp = Timestamp(1_795_348_800_000);

/// A folder that goes with the test, and the file of a journal in it.
pub struct Scratch {
    folder: TempDir,
    pub options: JournalOptions,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch {
            folder: tempfile::tempdir().unwrap(),
            options: JournalOptions::new("main"),
        }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("main.journal")
    }

    pub fn open(&self) -> Journal {
        Journal::open(&self.file(), &self.options).unwrap()
    }

    pub fn reader(&self) -> Reader {
        Reader::open(&self.file()).unwrap()
    }

    /// The same with shorter stretches, so that short histories have some. Before the first record.
    pub fn with_stretches_of(self, records: u64) -> Scratch {
        drop(self.open());
        let connection = rusqlite::Connection::open(self.file()).unwrap();
        connection
            .execute(
                "UPDATE meta SET value = ?1 WHERE key = 'stretch'",
                [records.cast_signed()],
            )
            .unwrap();
        self
    }

    /// All records that are durable.
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.reader().read(Seq::ZERO, ALL).unwrap()
    }
}

/// Appends and commits.
pub fn append_all(journal: &mut Journal, entries: impl IntoIterator<Item = Append>) -> Seq {
    for entry in entries {
        journal.append(entry).unwrap();
    }
    journal.commit().unwrap()
}

pub fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

/// The Stat of a persistent znode.
pub fn stat(czxid: u64, mzxid: u64, version: i32) -> Stat {
    Stat {
        czxid: Zxid(czxid),
        mzxid: Zxid(mzxid),
        pzxid: Zxid(czxid),
        ctime: 1000 + czxid.cast_signed(),
        mtime: 1000 + mzxid.cast_signed(),
        version,
        ..Stat::default()
    }
}

/// The Stat of an ephemeral znode.
pub fn ephemeral_stat(czxid: u64, mzxid: u64, version: i32) -> Stat {
    Stat {
        ephemeral_owner: SessionId(0x0100_002f_037b_0000),
        ..stat(czxid, mzxid, version)
    }
}

pub fn read(stat: Stat, text: &str) -> Read {
    Read {
        stat: Stat {
            data_length: i32::try_from(text.len()).unwrap(),
            ..stat
        },
        data: Some(data(text)),
    }
}

pub fn data(text: &str) -> Data {
    Data::limited(text.as_bytes(), DataForm::Auto, 1 << 20)
}

/// A change seen as it happened.
pub fn seen(at: &str, kind: ChangeKind) -> Append {
    Append {
        root: Some(ZnodePath::slash()),
        captured: NOON,
        kind: RecordKind::Change(Change {
            path: path(at),
            kind,
            fidelity: Fidelity::Exact,
            missed: Some(0),
            superseded: Vec::new(),
            txn: None,
            facts: None,
        }),
    }
}

/// A change found by comparing.
pub fn found(at: &str, kind: ChangeKind) -> Append {
    let mut entry = seen(at, kind);
    if let RecordKind::Change(change) = &mut entry.kind {
        change.fidelity = Fidelity::Reconciled;
    }
    entry
}

pub fn created(at: &str, zxid: u64, text: &str) -> Append {
    seen(
        at,
        ChangeKind::Created {
            read: read(stat(zxid, zxid, 0), text),
        },
    )
}

pub fn updated(at: &str, czxid: u64, mzxid: u64, version: i32, text: &str) -> Append {
    seen(
        at,
        ChangeKind::Updated {
            read: read(stat(czxid, mzxid, version), text),
        },
    )
}

pub fn deleted(at: &str, zxid: u64) -> Append {
    seen(
        at,
        ChangeKind::Deleted {
            at: DeletedAt::Exact(Zxid(zxid)),
        },
    )
}

pub fn unread(at: &str, czxid: u64) -> Append {
    seen(
        at,
        ChangeKind::CreatedUnread {
            czxid: Zxid(czxid),
            ephemeral: None,
            ctime: None,
        },
    )
}

/// A word about the stream.
pub fn control_record(root: Option<&str>, kind: RecordKind) -> Append {
    Append {
        root: root.map(path),
        captured: NOON,
        kind,
    }
}

/// The progress of a worker that goes on where its sink's cursor is.
pub trait Advance {
    /// Stores a progress from the cursor of its sink; an empty one if that is at its end already.
    fn advance(&mut self, progress: &SinkProgress) -> Result<(), ProgressError>;
}

impl Advance for Journal {
    fn advance(&mut self, progress: &SinkProgress) -> Result<(), ProgressError> {
        let cursor = cursors::cursor(&self.connection, &progress.sink).unwrap();
        self.store_progress(&SinkProgress {
            from: cursor.unwrap_or_default().min(progress.to),
            ..progress.clone()
        })
    }
}
