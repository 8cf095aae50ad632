//! Random histories: the journal and the model must agree at every commit, whatever is rolled back, reopened or
//! removed between. A failing seed is replayed with `ZKBRIDGE_TEST_SEED`.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::ended::wrong_indexes;
use super::scratch::*;
use super::stretches::first_wrong_stretch;
use super::waypoints::first_sparse_path;
use crate::amount::{Horizon, Span};
use crate::append::{Append, Change, ChangeKind, DeletedAt, Read, RecordKind};
use crate::image_txn::ImageTxn;
use crate::journal::{
    Before, Durability, Journal, JournalWriter, ReadLimit, Reader, SinkProgress, SinkState,
};
use crate::number::{Epoch, Seq, SessionId, Zxid};
use crate::path::ZnodePath;
use crate::record::{Acl, Data, DataForm, Fidelity, GapReason, Op, SUPERSEDED_MAX, Stat, Timestamp};
use crate::testing::{Model, Znode};

const SEEDS: u64 = 24;
const STEPS: usize = 250;

/// The only run of a trial.
const RUN: uuid::Uuid = uuid::Uuid::from_u128(0x5eed);

/// Names whose order as bytes differs from that of the paths they end.
const NAMES: [&str; 4] = ["a", "a-", "a.b", "ü"];

struct Trial {
    random: StdRng,
    scratch: Scratch,
    journal: Journal,
    reader: Reader,
    /// Of a worker, who gets from memory what is there, and how often it did.
    worker: Reader,
    handed: usize,
    model: Model,
    committed: Model,
    zxid: u64,
    clock: i64,
    cursor: Seq,
}

#[test]
fn random_histories_read_as_the_model_says() {
    let replayed = std::env::var("ZKBRIDGE_TEST_SEED").ok();
    let seeds = match replayed.map(|seed| seed.parse::<u64>().unwrap()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let (mut played, mut handed) = (0, 0);
    for seed in seeds {
        println!("seed {seed}");
        let mut trial = Trial::new(seed);
        for _ in 0..STEPS {
            trial.step();
        }
        trial.commit();
        played += 1;
        handed += trial.handed;
    }
    assert!(handed > 20 * played, "memory was asked in vain: {handed} answers");
}

impl Trial {
    fn new(seed: u64) -> Trial {
        let mut random = StdRng::seed_from_u64(seed);
        let mut scratch = Scratch::new().with_stretches_of(8);
        scratch.options.retention = Horizon::For(Span::secs(60));
        // Synchronising proves nothing here and takes most of the time.
        scratch.options.durability = Durability::ProcessCrash;
        scratch.options.before = *[Before::Full, Before::Stat, Before::None]
            .choose(&mut random)
            .unwrap();
        let mut journal = scratch.open();
        journal.register_sink("one", Seq::ZERO).unwrap();
        journal.commit().unwrap();
        let model = Model {
            before: scratch.options.before,
            ..Model::default()
        };
        Trial {
            reader: scratch.reader(),
            worker: journal.reader_for("one").unwrap(),
            handed: 0,
            random,
            scratch,
            journal,
            committed: model.clone(),
            model,
            zxid: 1,
            clock: NOON.0,
            cursor: Seq::ZERO,
        }
    }

    fn step(&mut self) {
        self.clock += self.random.random_range(0..2000);
        match self.random.random_range(0..100) {
            0..73 => self.append(),
            73..80 => self.refresh(),
            80..86 => self.commit(),
            86..89 => self.roll_back(),
            89..91 => self.reopen(),
            91 => self.change_server(),
            92..96 => self.deliver(),
            _ => self.maintain(),
        }
    }

    fn append(&mut self) {
        let entry = self.entry();
        let expected = self.model.append(entry.clone());
        assert_eq!(self.journal.append(entry).unwrap(), expected);
    }

    fn refresh(&mut self) {
        let path = self.path();
        let Some(stat) = self
            .model
            .image
            .get_mut(&path)
            .and_then(|znode| znode.stat.as_mut())
        else {
            return;
        };
        stat.pzxid = Zxid(self.zxid);
        stat.num_children += 1;
        self.journal.refresh(&path, stat).unwrap();
    }

    fn commit(&mut self) {
        let tail = self.journal.commit().unwrap();
        assert_eq!(tail, Seq(self.model.records.len() as u64));
        self.committed = self.model.clone();
        self.check_records();
        self.check_handover();
        self.check_image();
        self.check_nothing_is_left_over();
    }

    fn roll_back(&mut self) {
        self.journal.rollback().unwrap();
        // The server is who is asked, not what was journalled.
        let server = self.model.server.take();
        self.model = self.committed.clone();
        self.model.server = server;
        self.check_image();
    }

    /// Without a commit: as after a crash.
    fn reopen(&mut self) {
        let placeholder = Scratch::new();
        drop(std::mem::replace(&mut self.journal, placeholder.open()));
        self.journal = self.scratch.open();
        self.worker = self.journal.reader_for("one").unwrap();
        self.model = self.committed.clone();
        self.model.server = None;
        self.check_image();
    }

    fn change_server(&mut self) {
        let server = ["3.6.4", "3.9.5"].choose(&mut self.random).copied();
        self.model.server = server.map(Into::into);
        self.journal.set_server(self.model.server.clone());
    }

    fn deliver(&mut self) {
        self.commit();
        let tail = self.journal.tail();
        self.cursor = Seq(self.random.random_range(self.cursor.0..=tail.0));
        let progress = SinkProgress {
            sink: "one".into(),
            to: self.cursor,
            ..SinkProgress::default()
        };
        self.journal.advance(&progress).unwrap();
        self.commit();
    }

    fn maintain(&mut self) {
        self.commit();
        let budget = self.random.random_range(1..40);
        let done = self.journal.maintain(Timestamp(self.clock), budget).unwrap();
        assert!(done.removed <= budget);
        let oldest = self.journal.oldest().unwrap();
        if let Some(oldest) = oldest {
            assert!(
                oldest.0 <= self.cursor.0 + 1,
                "{oldest} was removed before it was delivered"
            );
        }
        self.commit();
        assert_eq!(wrong_indexes(&self.scratch), []);
    }

    fn check_records(&mut self) {
        let records = self.reader.read(Seq::ZERO, ALL).unwrap();
        let first = records.first().map_or(0, |record| record.seq.0 as usize - 1);
        let expected = &self.model.records[first..];
        assert_eq!(records.len(), expected.len());
        for (record, expected) in records.iter().zip(expected) {
            assert_eq!(record, expected);
        }
    }

    /// At whatever position a worker is, memory gives it the records of the file.
    fn check_handover(&mut self) {
        for _ in 0..4 {
            let after = Seq(self.random.random_range(self.cursor.0..=self.journal.tail().0));
            let limit = ReadLimit {
                records: self.random.random_range(1..30),
                bytes: *[0, 5_000, usize::MAX].choose(&mut self.random).unwrap(),
            };
            let read = self.reader.read(after, limit).unwrap();
            if let Some(handed) = self.worker.cached(after, limit) {
                assert_eq!(handed, read, "in memory after {after}");
                self.handed += 1;
            }
            if self.random.random_bool(0.3) {
                assert_eq!(self.worker.read(after, limit).unwrap(), read, "after {after}");
            }
        }
    }

    fn check_image(&mut self) {
        for (path, znode) in &self.model.image {
            assert_eq!(self.journal.node(path).unwrap(), Some(znode.node()), "{path}");
        }
        for _ in 0..3 {
            self.check_children();
            self.check_deepest();
        }
    }

    fn check_children(&mut self) {
        let (parent, after, limit) = (self.path(), self.name(), self.random.random_range(0..5));
        let after = self.random.random_bool(0.5).then_some(after);
        let mut expected: Vec<(Box<str>, _)> = self
            .model
            .image
            .iter()
            .filter(|(path, _)| path.parent_str() == Some(&parent))
            .map(|(path, znode)| (path.name().into(), znode.node()))
            .filter(|(name, _): &(Box<str>, _)| after.is_none_or(|after| **name > *after))
            .collect();
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        expected.truncate(limit);
        assert_eq!(self.journal.children(&parent, after, limit).unwrap(), expected);
        let below = self
            .model
            .image
            .keys()
            .filter_map(|path| parent.child_towards(path));
        let names: BTreeSet<Box<str>> = below
            .map(|child| Box::<str>::from(child.name()))
            .filter(|name| after.is_none_or(|after| **name > *after))
            .collect();
        let node_of = |name: &str| self.model.image.get(&parent.child(name)).map(Znode::node);
        let occupied: Vec<_> = names
            .into_iter()
            .take(limit)
            .map(|name| (name.clone(), node_of(&name)))
            .collect();
        assert_eq!(
            self.journal.occupied_children(&parent, after, limit).unwrap(),
            occupied
        );
        let living = self.model.image.get(&parent).map(Znode::node);
        assert_eq!(self.journal.node(&parent).unwrap(), living, "{parent}");
    }

    fn check_deepest(&mut self) {
        let (top, limit) = (self.path(), self.random.random_range(0..9));
        let below = |path: &ZnodePath| top.covers(path) && *path != top;
        let found = self.journal.deepest_below(&top, 1000).unwrap();
        let mut names: Vec<_> = found.iter().map(|(path, node)| (path.clone(), *node)).collect();
        names.sort_by(|one, other| one.0.cmp(&other.0));
        let image = self.model.image.iter();
        let expected: Vec<_> = image
            .filter(|(path, _)| below(path))
            .map(|(path, znode)| (path.clone(), znode.node()))
            .collect();
        assert_eq!(names, expected);
        for (index, (path, _)) in found.iter().enumerate() {
            let late = found[index..]
                .iter()
                .skip(1)
                .find(|(other, _)| path.covers(other));
            assert_eq!(late, None, "{path} comes before its descendant");
        }
        let first = &found[..limit.min(found.len())];
        assert_eq!(self.journal.deepest_below(&top, limit).unwrap(), first);
    }

    /// Every value and every path is needed by something that is kept.
    fn check_nothing_is_left_over(&self) {
        let count = |query: &str| -> i64 {
            self.journal
                .connection
                .query_row(query, [], |row| row.get(0))
                .unwrap()
        };
        let unneeded = "SELECT count(*) FROM value WHERE id NOT IN (
            SELECT value FROM image WHERE value IS NOT NULL UNION SELECT value FROM record WHERE value IS NOT NULL
            UNION SELECT retired FROM record WHERE retired IS NOT NULL)";
        assert_eq!(count(unneeded), 0, "values that nobody needs");
        let oldest = count("SELECT ifnull(min(seq), 1) FROM record");
        let forgotten = format!(
            "SELECT count(*) FROM image i WHERE path != 1 AND life = 0 AND ifnull(last, 0) < {oldest}
             AND NOT EXISTS (SELECT 1 FROM image c WHERE c.parent = i.path)"
        );
        assert_eq!(count(&forgotten), 0, "paths that nobody needs");
        let stray =
            "SELECT count(*) FROM waypoint w LEFT JOIN record r ON r.seq = w.seq WHERE r.path IS NOT w.path";
        assert_eq!(count(stray), 0, "waypoints that are no records of their paths");
        assert_eq!(first_sparse_path(&self.journal.connection), None);
        assert_eq!(first_wrong_stretch(&self.journal.connection), None);
        assert_eq!(
            count("SELECT count(*) FROM image"),
            count("SELECT count(*) FROM path")
        );
    }

    fn name(&mut self) -> &'static str {
        NAMES.choose(&mut self.random).unwrap()
    }

    fn path(&mut self) -> ZnodePath {
        // Few, so that each is changed often.
        let depth = *[0, 1, 1, 2, 2, 2].choose(&mut self.random).unwrap();
        (0..depth).fold(ZnodePath::slash(), |path, _| path.child(self.name()))
    }

    fn entry(&mut self) -> Append {
        let kind = if self.random.random_bool(0.1) {
            self.control()
        } else {
            RecordKind::Change(self.change())
        };
        Append {
            root: (!matches!(kind, RecordKind::Heartbeat { .. })).then(ZnodePath::slash),
            captured: Timestamp(self.clock),
            kind,
        }
    }

    fn control(&mut self) -> RecordKind {
        let (epoch, from_zxid, reason) = (Epoch(3), Zxid(self.zxid), GapReason::Overflow);
        match self.random.random_range(0..5) {
            0 => RecordKind::RunBegin { run: RUN },
            1 => RecordKind::RunEnd {
                run: RUN,
                index: 7,
                nodes: 6,
                unreadable: 0,
                zxid: self.random.random_bool(0.5).then_some(from_zxid),
                is_exact: self.random.random_bool(0.5),
            },
            2 => RecordKind::GapBegin {
                epoch,
                from_zxid,
                reason,
            },
            3 => RecordKind::GapEnd {
                epoch,
                from_zxid,
                to_zxid: Zxid(self.zxid + 1),
                reason,
                differences: 4,
            },
            _ => RecordKind::Heartbeat {
                zxid: self.random.random_bool(0.5).then_some(from_zxid),
            },
        }
    }

    fn change(&mut self) -> Change {
        self.zxid += self.random.random_range(1..5);
        let path = self.path();
        let kind = match self.model.image.get(&path).cloned() {
            None => self.change_of_absent(),
            Some(znode) => self.change_of_living(&znode),
        };
        let fidelity = *[Fidelity::Exact, Fidelity::Reconciled]
            .choose(&mut self.random)
            .unwrap();
        let superseded = self.random.random_range(0..=SUPERSEDED_MAX as u64);
        Change {
            path,
            kind,
            fidelity,
            missed: self.random.random_bool(0.7).then_some(superseded),
            superseded: (0..superseded / 8)
                .map(|step| Zxid(self.zxid + 1000 * step))
                .collect(),
            txn: None,
            facts: None,
        }
    }

    fn change_of_absent(&mut self) -> ChangeKind {
        let stat = self.stat(Zxid(self.zxid), 0);
        match self.random.random_range(0..8) {
            0..4 => ChangeKind::Created {
                read: self.read(stat),
            },
            4 => ChangeKind::Listed {
                read: self.read(stat),
                run: RUN,
                index: 3,
            },
            5 => self.deleted(),
            _ => ChangeKind::CreatedUnread {
                czxid: stat.czxid,
                ephemeral: *[None, Some(false), Some(true)].choose(&mut self.random).unwrap(),
                ctime: self.random.random_bool(0.5).then_some(Timestamp(self.clock)),
            },
        }
    }

    fn change_of_living(&mut self, znode: &Znode) -> ChangeKind {
        let version = znode.stat.map_or(1, |stat| stat.version + 1);
        let stat = self.stat(znode.czxid, version);
        match (self.random.random_range(0..8), znode.stat) {
            (0..4, _) => ChangeKind::Updated {
                read: self.read(stat),
            },
            (4, Some(known)) => ChangeKind::AclChanged {
                zxid: self.random.random_bool(0.5).then_some(Zxid(self.zxid)),
                stat: Stat {
                    aversion: known.aversion + 1,
                    ..known
                },
                acl: self.random.random_bool(0.5).then(|| {
                    vec![Acl {
                        scheme: "ip".into(),
                        id: "10.0.0.0/8".into(),
                        perms: "cdrwa".into(),
                    }]
                }),
            },
            (5, Some(_)) => ChangeKind::Restated { run: RUN, index: 9 },
            _ => self.deleted(),
        }
    }

    fn deleted(&mut self) -> ChangeKind {
        let at = match self.random.random_range(0..3) {
            0 => DeletedAt::Exact(Zxid(self.zxid)),
            1 => DeletedAt::Bound(Zxid(self.zxid)),
            _ => DeletedAt::Unknown,
        };
        ChangeKind::Deleted { at }
    }

    fn stat(&mut self, czxid: Zxid, version: i32) -> Stat {
        Stat {
            version,
            ephemeral_owner: SessionId(self.random.random_range(0..2) * 0x0100_002f_037b_0000),
            ..stat(czxid.0, self.zxid, version)
        }
    }

    fn read(&mut self, stat: Stat) -> Read {
        let form = *[DataForm::Auto, DataForm::Base64, DataForm::Json]
            .choose(&mut self.random)
            .unwrap();
        let length = *[0, 3, 60, 9000].choose(&mut self.random).unwrap();
        let bytes: Vec<u8> = (0..length).map(|_| self.random.random()).collect();
        Read {
            stat,
            data: self
                .random
                .random_bool(0.9)
                .then(|| Data::limited(&bytes, form, 5000)),
        }
    }
}

/// Folding the records of a journal gives its image, as the contract promises.
#[test]
fn folding_the_records_gives_the_image() {
    let mut trial = Trial::new(4711);
    (0..400).for_each(|_| trial.append());
    trial.commit();
    let mut folded = std::collections::BTreeMap::new();
    for record in trial.reader.read(Seq::ZERO, ALL).unwrap() {
        let Some(path) = record.path.clone() else { continue };
        match record.op {
            Op::Delete => drop(folded.remove(&path)),
            _ => drop(folded.insert(path, record.after.as_ref().and_then(|after| after.stat))),
        }
    }
    let image: std::collections::BTreeMap<_, _> = trial
        .journal
        .deepest_below(&ZnodePath::slash(), usize::MAX)
        .unwrap()
        .into_iter()
        .chain(
            trial
                .journal
                .node(&ZnodePath::slash())
                .unwrap()
                .map(|node| (ZnodePath::slash(), node)),
        )
        .map(|(path, node)| (path, node.stat))
        .collect();
    assert_eq!(folded, image);
}
