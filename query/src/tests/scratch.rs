//! Real journals in folders of their own, and short ways to write records.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use std::path::PathBuf;

use bridge_core::amount::{Horizon, Span};
use bridge_core::append::{Append, Change, ChangeKind, DeletedAt, Read, RecordKind};
use bridge_core::image_txn::ImageTxn;
use bridge_core::journal::{Journal, JournalOptions, JournalWriter};
use bridge_core::number::{Epoch, Seq, SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, GapReason, Mode, Stat, Timestamp, Txn, TxnKind};
use tempfile::TempDir;

use crate::JournalQuery;

/// When records are captured: this, and a second more for each zxid.
pub const NOON: i64 = 1_795_348_800_000;

/// A journal that goes with the test.
pub struct Scratch {
    folder: TempDir,
    mode: Mode,
    pub journal: Journal,
}

fn options(mode: Mode) -> JournalOptions {
    JournalOptions {
        mode,
        retention: Horizon::For(Span::secs(60)),
        ..JournalOptions::new("main")
    }
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch::of(Mode::Watch)
    }

    /// Of a source that captures in this mode.
    pub fn of(mode: Mode) -> Scratch {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("main.journal"), &options(mode)).unwrap();
        Scratch {
            folder,
            mode,
            journal,
        }
    }

    /// The same with shorter stretches, so that short histories have some. Before the first record.
    pub fn with_stretches_of(self, records: u64) -> Scratch {
        let Scratch {
            folder,
            mode,
            journal,
        } = self;
        drop(journal);
        let file = folder.path().join("main.journal");
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection
            .execute(
                "UPDATE meta SET value = ?1 WHERE key = 'stretch'",
                [records.cast_signed()],
            )
            .unwrap();
        drop(connection);
        let journal = Journal::open(&file, &options(mode)).unwrap();
        Scratch {
            folder,
            mode,
            journal,
        }
    }

    /// After a restart.
    pub fn reopened(self) -> Scratch {
        let Scratch {
            folder,
            mode,
            journal,
        } = self;
        drop(journal);
        let journal = Journal::open(&folder.path().join("main.journal"), &options(mode)).unwrap();
        Scratch {
            folder,
            mode,
            journal,
        }
    }

    /// With these records.
    pub fn with(entries: impl IntoIterator<Item = Append>) -> Scratch {
        let mut scratch = Scratch::new();
        scratch.append(entries);
        scratch
    }

    pub fn append(&mut self, entries: impl IntoIterator<Item = Append>) -> Seq {
        for entry in entries {
            self.journal.append(entry).unwrap();
        }
        self.journal.commit().unwrap()
    }

    /// Removes the records that were captured more than a minute before this zxid.
    pub fn retain_at(&mut self, zxid: u64) {
        let now = Timestamp(time_of(zxid));
        while self.journal.maintain(now, 1_000).unwrap().more {}
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("main.journal")
    }

    /// Changes the file, as nothing but damage does.
    pub fn execute(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.file()).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    pub fn query(&self) -> JournalQuery {
        JournalQuery::open(&self.file()).unwrap()
    }
}

pub fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

/// When a zxid happened, by the clock of ZooKeeper and of the capture.
pub fn time_of(zxid: u64) -> i64 {
    NOON + zxid.cast_signed() * 1000
}

pub fn read(czxid: u64, mzxid: u64, version: i32, text: &str) -> Read {
    Read {
        stat: Stat {
            czxid: Zxid(czxid),
            mzxid: Zxid(mzxid),
            pzxid: Zxid(czxid),
            ctime: time_of(czxid),
            mtime: time_of(mzxid),
            version,
            data_length: i32::try_from(text.len()).unwrap(),
            ..Stat::default()
        },
        data: Some(Data::limited(text.as_bytes(), DataForm::Auto, 1 << 20)),
    }
}

pub fn change(at: &str, zxid: u64, kind: ChangeKind) -> Append {
    Append {
        root: Some(ZnodePath::slash()),
        captured: Timestamp(time_of(zxid)),
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

pub fn created(at: &str, zxid: u64, text: &str) -> Append {
    let read = read(zxid, zxid, 0, text);
    change(at, zxid, ChangeKind::Created { read })
}

pub fn updated(at: &str, czxid: u64, zxid: u64, text: &str) -> Append {
    let read = read(czxid, zxid, 1, text);
    change(at, zxid, ChangeKind::Updated { read })
}

/// An update before which the values of these zxids could not be read.
pub fn updated_over(at: &str, czxid: u64, zxid: u64, text: &str, superseded: &[u64]) -> Append {
    let mut entry = updated(at, czxid, zxid, text);
    if let RecordKind::Change(change) = &mut entry.kind {
        change.missed = Some(superseded.len() as u64);
        change.superseded = superseded.iter().map(|zxid| Zxid(*zxid)).collect();
    }
    entry
}

pub fn deleted(at: &str, zxid: u64) -> Append {
    let at_zxid = DeletedAt::Exact(Zxid(zxid));
    change(at, zxid, ChangeKind::Deleted { at: at_zxid })
}

/// A gap from a zxid on begins.
pub fn gap(from: u64) -> Append {
    Append {
        root: Some(ZnodePath::slash()),
        captured: Timestamp(time_of(from)),
        kind: RecordKind::GapBegin {
            epoch: Epoch(2),
            from_zxid: Zxid(from),
            reason: GapReason::Disconnected,
        },
    }
}

/// The same as a transaction at a time of its leader's clock, captured at another.
pub fn committed(mut entry: Append, time: i64, captured: i64) -> Append {
    entry.captured = Timestamp(captured);
    let RecordKind::Change(change) = &mut entry.kind else {
        unreachable!("only a change is a transaction");
    };
    if let ChangeKind::Created { read } | ChangeKind::Updated { read } = &mut change.kind {
        read.stat.mtime = time;
        if read.stat.czxid == read.stat.mzxid {
            read.stat.ctime = time;
        }
    }
    change.txn = Some(Box::new(Txn {
        session: SessionId(1),
        cxid: 1,
        index: 0,
        count: 1,
        kind: TxnKind::SetData,
        time,
        ended_by: None,
        client: None,
        user: None,
        rest: 0,
    }));
    entry
}
