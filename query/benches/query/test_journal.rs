//! A journal with a history of seven days: many services, many siblings, a path that is written all the time, and a queue
//! whose names never come back. Its size is the number of its records.

use std::collections::VecDeque;
use std::path::Path;

use bridge_core::append::{Append, Change, ChangeKind, DeletedAt, Read, RecordKind};
use bridge_core::image_txn::{ImageTxn, Progress};
use bridge_core::journal::{Durability, Journal, JournalOptions, JournalWriter};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, Mode, Stat, Timestamp, Txn, TxnKind};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::Outcome;

/// As the capture commits under load.
const BATCH: usize = 500;

/// As most znodes that people watch.
const DATA_BYTES: usize = 60;

/// Services of a group.
pub const SIBLINGS: usize = 1_000;

/// Messages of the queue that wait at the same time.
const WAITING: usize = 50;

/// The first record.
pub const BEGIN_MS: i64 = 1_795_355_000_000;

/// The days of the history.
const SPAN_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

/// How many znodes of each kind there are.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub records: usize,
    /// `/services/group-…/service-…`, [`SIBLINGS`] in a group.
    pub services: usize,
    /// `/siblings/sibling-…`.
    pub siblings: usize,
    /// `/config/…/key-…`, 100 in an application.
    pub keys: usize,
    /// Whether all records are transactions that were read at the end, as `zkbridge backfill` does it.
    pub is_past: bool,
}

impl Sizes {
    pub fn of(records: usize, is_past: bool) -> Sizes {
        let services = (records * 85 / 1_000).next_multiple_of(SIBLINGS);
        Sizes {
            records,
            services,
            siblings: (records / 100).max(300),
            keys: (records / 200).max(100),
            is_past,
        }
    }

    pub fn groups(&self) -> usize {
        self.services / SIBLINGS
    }

    /// When the last record is captured.
    pub fn end(&self) -> Timestamp {
        Timestamp(self.time_of(self.records as u64))
    }

    fn captured(&self, transaction: u64) -> Timestamp {
        match self.is_past {
            true => self.end(),
            false => Timestamp(self.time_of(transaction)),
        }
    }

    fn time_of(&self, transaction: u64) -> i64 {
        let share = transaction as f64 / self.records as f64;
        BEGIN_MS + (SPAN_MS as f64 * share) as i64
    }
}

/// The kinds of znodes that have versions.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Service,
    Sibling,
    Key,
    Hot,
    Warm,
}

pub fn group_path(group: usize) -> Outcome<ZnodePath> {
    Ok(ZnodePath::parse(&format!("/services/group-{group:04}"))?)
}

pub fn service_path(service: usize) -> Outcome<ZnodePath> {
    let group = service / SIBLINGS;
    let text = format!("/services/group-{group:04}/service-{service:07}");
    Ok(ZnodePath::parse(&text)?)
}

fn path_of(kind: Kind, number: usize) -> Outcome<ZnodePath> {
    Ok(match kind {
        Kind::Service => service_path(number)?,
        Kind::Sibling => ZnodePath::parse(&format!("/siblings/sibling-{number:07}"))?,
        Kind::Key => ZnodePath::parse(&format!("/config/app-{:05}/key-{number:07}", number / 100))?,
        Kind::Hot => ZnodePath::parse("/hot")?,
        Kind::Warm => ZnodePath::parse("/warm")?,
    })
}

/// The znodes after the last transaction.
pub struct TestHistory {
    pub sizes: Sizes,
    /// The last transaction.
    zxid: u64,
    /// The create and the version of each znode, by its place: hot, warm, keys, siblings, services.
    znodes: Vec<(u64, i32)>,
    queue: VecDeque<ZnodePath>,
}

/// Writes the journal, one record for each transaction.
pub struct TestWriter {
    journal: Journal,
    history: TestHistory,
}

impl TestWriter {
    fn place(&self, kind: Kind, number: usize) -> usize {
        match kind {
            Kind::Hot => 0,
            Kind::Warm => 1,
            Kind::Key => 2 + number,
            Kind::Sibling => 2 + self.history.sizes.keys + number,
            Kind::Service => 2 + self.history.sizes.keys + self.history.sizes.siblings + number,
        }
    }

    fn append(&mut self, path: ZnodePath, kind: ChangeKind) -> Outcome<()> {
        let sizes = self.history.sizes;
        let txn = Txn {
            session: SessionId(1),
            cxid: 1,
            index: 0,
            count: 1,
            kind: TxnKind::SetData,
            time: sizes.time_of(self.history.zxid),
            ended_by: None,
            client: None,
            user: None,
            rest: 0,
        };
        self.journal.append(Append {
            root: Some(ZnodePath::slash()),
            captured: sizes.captured(self.history.zxid),
            kind: RecordKind::Change(Change {
                path,
                kind,
                fidelity: Fidelity::Exact,
                missed: Some(0),
                superseded: Vec::new(),
                txn: sizes.is_past.then(|| Box::new(txn)),
                facts: None,
            }),
        })?;
        if self.history.zxid.is_multiple_of(BATCH as u64) {
            self.journal.commit()?;
        }
        Ok(())
    }

    fn read(&self, czxid: u64, version: i32) -> Read {
        let mut bytes = [b'x'; DATA_BYTES];
        bytes[..8].copy_from_slice(&self.history.zxid.to_be_bytes());
        Read {
            stat: Stat {
                czxid: Zxid(czxid),
                mzxid: Zxid(self.history.zxid),
                pzxid: Zxid(czxid),
                ctime: self.history.sizes.time_of(czxid),
                mtime: self.history.sizes.time_of(self.history.zxid),
                version,
                data_length: DATA_BYTES as i32,
                ..Stat::default()
            },
            data: Some(Data::limited(&bytes, DataForm::Auto, 1 << 20)),
        }
    }

    fn create(&mut self, kind: Kind, number: usize) -> Outcome<()> {
        self.history.zxid += 1;
        let at = self.place(kind, number);
        self.history.znodes[at] = (self.history.zxid, 0);
        let read = self.read(self.history.zxid, 0);
        self.append(path_of(kind, number)?, ChangeKind::Created { read })
    }

    fn update(&mut self, kind: Kind, number: usize) -> Outcome<()> {
        self.history.zxid += 1;
        let at = self.place(kind, number);
        self.history.znodes[at].1 += 1;
        let (czxid, version) = self.history.znodes[at];
        let read = self.read(czxid, version);
        self.append(path_of(kind, number)?, ChangeKind::Updated { read })
    }

    /// Creates a message, or deletes the oldest one.
    fn message(&mut self) -> Outcome<()> {
        self.history.zxid += 1;
        if self.history.queue.len() > WAITING
            && let Some(oldest) = self.history.queue.pop_front()
        {
            let at = DeletedAt::Exact(Zxid(self.history.zxid));
            return self.append(oldest, ChangeKind::Deleted { at });
        }
        let path = ZnodePath::parse(&format!("/queue/message-{:010}", self.history.zxid))?;
        self.history.queue.push_back(path.clone());
        let read = self.read(self.history.zxid, 0);
        self.append(path, ChangeKind::Created { read })
    }

    /// The marks of the first listing, which found nothing: from then on the history is complete.
    fn list(&mut self) -> Outcome<()> {
        let run = uuid::Uuid::from_u128(7);
        self.history.zxid += 1;
        let end = RecordKind::RunEnd {
            run,
            index: 1,
            nodes: 0,
            unreadable: 0,
            zxid: Some(Zxid(self.history.zxid)),
            is_exact: true,
        };
        for kind in [RecordKind::RunBegin { run }, end] {
            self.journal.append(Append {
                root: Some(ZnodePath::slash()),
                captured: self.history.sizes.captured(self.history.zxid),
                kind,
            })?;
        }
        Ok(())
    }

    fn run(&mut self, random: &mut SmallRng) -> Outcome<()> {
        self.list()?;
        self.create(Kind::Hot, 0)?;
        self.create(Kind::Warm, 0)?;
        for number in 0..self.history.sizes.keys {
            self.create(Kind::Key, number)?;
        }
        for number in 0..self.history.sizes.siblings {
            self.create(Kind::Sibling, number)?;
        }
        for number in 0..self.history.sizes.services {
            self.create(Kind::Service, number)?;
        }
        while (self.history.zxid as usize) < self.history.sizes.records {
            self.next(random)?;
        }
        let progress = Progress {
            reported: Zxid(self.history.zxid),
            listed: true,
            run: None,
        };
        self.journal.set_progress(&ZnodePath::slash(), &progress)?;
        self.journal.commit()?;
        Ok(())
    }

    /// One more transaction after all creates.
    fn next(&mut self, random: &mut SmallRng) -> Outcome<()> {
        // Of 1,000 transactions.
        match random.random_range(0..1_000) {
            0..112 => self.update(Kind::Hot, 0),
            112 => self.update(Kind::Warm, 0),
            113..225 => self.message(),
            225..300 => self.update(Kind::Key, random.random_range(0..self.history.sizes.keys)),
            300..450 => self.update(Kind::Sibling, random.random_range(0..self.history.sizes.siblings)),
            _ => self.update(Kind::Service, random.random_range(0..self.history.sizes.services)),
        }
    }

    /// Begins a journal, or goes on with it. Without syncs, so that other programs that keep the disk busy decide nothing.
    pub fn open(file: &Path, history: TestHistory) -> Outcome<TestWriter> {
        let options = JournalOptions {
            durability: Durability::ProcessCrash,
            mode: match history.sizes.is_past {
                true => Mode::Txnlog,
                false => Mode::Watch,
            },
            ..JournalOptions::new("main")
        };
        Ok(TestWriter {
            journal: Journal::open(file, &options)?,
            history,
        })
    }

    /// Writes a batch. Returns the number of its records.
    pub fn batch(&mut self, random: &mut SmallRng) -> Outcome<usize> {
        let before = self.history.zxid;
        self.next(random)?;
        while !self.history.zxid.is_multiple_of(BATCH as u64) {
            self.next(random)?;
        }
        Ok((self.history.zxid - before) as usize)
    }
}

/// Writes a journal of that many records. Returns the bytes that it uses.
pub fn write(file: &Path, sizes: Sizes, random: &mut SmallRng) -> Outcome<(u64, TestHistory)> {
    let history = TestHistory {
        sizes,
        zxid: 0,
        znodes: vec![(0, 0); 2 + sizes.keys + sizes.siblings + sizes.services],
        queue: VecDeque::new(),
    };
    let mut writer = TestWriter::open(file, history)?;
    writer.run(random)?;
    let bytes = writer.journal.stats()?.used_bytes;
    Ok((bytes, writer.history))
}
