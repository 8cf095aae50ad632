//! Random histories that are compacted while sinks read, hold, deliver, set aside, store their progress and begin anew: what each of them
//! got must tell the same as the records that were appended. A failing seed is replayed with `ZKBRIDGE_TEST_SEED`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::folding::compacting;
use super::scratch::*;
use super::waypoints::first_sparse_path;
use crate::amount::{Horizon, Span};
use crate::append::{Append, ChangeKind, RecordKind};
use crate::image_txn::ImageTxn;
use crate::journal::{
    BacklogChange, Durability, Journal, JournalWriter, ReadLimit, Reader, SinkProgress, SinkState,
};
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{Op, Record, State, Timestamp};

const SEEDS: u64 = 24;
const STEPS: usize = 300;
const SINKS: [&str; 3] = ["slow", "fast", "new"];

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("ZKBRIDGE_TEST_SEED").ok() {
        Some(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        None => 0..SEEDS,
    }
}

/// The state that a reader of some records knows.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    tree: BTreeMap<ZnodePath, Option<String>>,
    /// Everything that no fold may take.
    lives: Vec<(Option<ZnodePath>, Op, Seq)>,
    /// Versions delivered or counted, by incarnation.
    versions: BTreeMap<(ZnodePath, Zxid), u64>,
    zxids: Vec<Zxid>,
}

fn text(state: &State) -> Option<String> {
    let data = state.data.as_ref()?;
    Some(String::from_utf8_lossy(&data.bytes).into_owned())
}

impl Known {
    fn of(records: &[Arc<Record>]) -> Known {
        let mut known = Known::default();
        for record in records {
            known.take(record);
        }
        known.zxids.sort_unstable();
        known
    }

    fn take(&mut self, record: &Record) {
        let Some(path) = record.path.clone() else {
            return self.lives.push((None, record.op, record.seq));
        };
        if record.op != Op::Update {
            self.lives.push((Some(path.clone()), record.op, record.seq));
        } else {
            self.zxids.extend(record.zxid);
        }
        self.zxids.extend(&record.superseded);
        let state = record.after.as_ref().or(record.before.as_ref()).unwrap();
        let versions = record.missed.unwrap_or(0) + u64::from(record.op == Op::Update);
        *self
            .versions
            .entry((path.clone(), state.stat.unwrap().czxid))
            .or_default() += versions;
        match &record.after {
            Some(after) => drop(self.tree.insert(path, text(after))),
            None => drop(self.tree.remove(&path)),
        }
    }
}

/// A sink and its worker: what was read, what was delivered, what is to be noted.
struct Sink {
    name: &'static str,
    reader: Reader,
    held: VecDeque<Arc<Record>>,
    read: Seq,
    start: Seq,
    delivered: Vec<Arc<Record>>,
    /// As it was when it was set aside.
    parked: BTreeMap<Seq, Arc<Record>>,
    done: Seq,
    progress: SinkProgress,
}

/// How the workers read: the second is the mistake that must be caught.
#[derive(Clone, Copy, PartialEq)]
enum Reads {
    Marked,
    Unmarked,
}

struct Trial {
    random: StdRng,
    scratch: Scratch,
    journal: Journal,
    reads: Reads,
    sinks: Vec<Sink>,
    /// The records as they were appended.
    truth: Vec<Arc<Record>>,
    zxid: u64,
    folded: u64,
}

impl Trial {
    fn new(seed: u64, reads: Reads) -> Trial {
        let mut scratch = compacting().with_stretches_of(8);
        scratch.options.durability = Durability::ProcessCrash;
        scratch.options.retention = Horizon::For(Span::secs(60));
        let mut journal = scratch.open();
        journal.register_sink("slow", Seq::ZERO).unwrap();
        journal.commit().unwrap();
        let mut trial = Trial {
            random: StdRng::seed_from_u64(seed),
            scratch,
            journal,
            reads,
            sinks: Vec::new(),
            truth: Vec::new(),
            zxid: 0,
            folded: 0,
        };
        trial.enter("slow");
        trial.enter("fast");
        trial
    }

    fn enter(&mut self, name: &'static str) {
        let start = self.journal.register_sink(name, self.journal.tail()).unwrap();
        self.journal.commit().unwrap();
        let reader = match self.reads {
            Reads::Marked => self.journal.reader_for(name).unwrap(),
            Reads::Unmarked => self.scratch.reader(),
        };
        self.sinks.push(Sink {
            name,
            reader,
            held: VecDeque::new(),
            read: start,
            start,
            delivered: Vec::new(),
            parked: BTreeMap::new(),
            done: start,
            progress: progress(name, start),
        });
    }

    fn step(&mut self, at: usize) {
        if at == STEPS / 2 {
            self.enter(SINKS[2]);
        }
        match self.random.random_range(0..100) {
            0..45 => self.append(),
            45..75 => {
                let sink = self.random.random_range(0..self.sinks.len() * 3) % self.sinks.len();
                // The first one is slow.
                let is_its_turn = sink > 0 || self.random.random_bool(0.3);
                if is_its_turn {
                    let share = self.random.random_range(1..12);
                    // Of a record that is gone nothing can be parked.
                    let parks = self.reads == Reads::Marked && self.random.random_bool(0.05);
                    self.sinks[sink].work(share, parks);
                }
            }
            75..85 => self.store_progress(),
            85..97 => self.fold(),
            _ => drop(self.journal.maintain(Timestamp(NOON.0 + 60_001), 9).unwrap()),
        }
    }

    fn append(&mut self) {
        for _ in 0..self.random.random_range(1..10) {
            let entry = self.an_entry();
            self.journal.append(entry).unwrap();
        }
        let before = self.journal.tail();
        self.journal.commit().unwrap();
        self.truth
            .extend(self.scratch.reader().read(before, ALL).unwrap());
    }

    fn an_entry(&mut self) -> Append {
        if self.random.random_bool(0.02) {
            return control_record(None, RecordKind::Heartbeat { zxid: None });
        }
        let missed = self.random.random_range(0..3_u64) / 2;
        let at = format!("/{}", self.random.random_range(0..4));
        self.zxid += missed + 1;
        let (zxid, value) = (self.zxid, format!("value {}", self.zxid));
        let Some(node) = self.journal.node(&path(&at)).unwrap() else {
            return created(&at, zxid, &value);
        };
        let (czxid, version) = (node.czxid.0, node.version());
        let mut entry = match self.random.random_range(0..20) {
            0 => return deleted(&at, zxid),
            1 => {
                let mzxid = node.stat.unwrap().mzxid.0;
                let stat = stat(czxid, mzxid, version);
                return seen(
                    &at,
                    ChangeKind::AclChanged {
                        zxid: None,
                        stat,
                        acl: None,
                    },
                );
            }
            _ => updated(&at, czxid, zxid, version + 1 + missed as i32, &value),
        };
        if let RecordKind::Change(change) = &mut entry.kind {
            change.missed = Some(missed);
            change.superseded = (0..missed).map(|nth| Zxid(zxid - missed + nth)).collect();
        }
        entry
    }

    fn store_progress(&mut self) {
        for sink in &mut self.sinks {
            let next = progress(sink.name, sink.done);
            self.journal
                .advance(&std::mem::replace(&mut sink.progress, next))
                .unwrap();
        }
        self.journal.commit().unwrap();
    }

    fn fold(&mut self) {
        if self.random.random_bool(0.3) {
            self.journal.folding.press();
        }
        let budget = self.random.random_range(1..60);
        self.folded += self.journal.fold(budget).unwrap().records;
    }

    /// Every sink gets the rest; then all must know the same.
    fn check(mut self, seed: u64) -> Result<u64, String> {
        for sink in &mut self.sinks {
            while sink.work(usize::MAX, false) > 0 {}
        }
        self.store_progress();
        let found = self.scratch.reader().inspect(|_| {}).unwrap();
        assert_eq!(found.findings, [], "seed {seed}");
        assert_eq!(first_sparse_path(&self.journal.connection), None, "seed {seed}");
        for sink in &mut self.sinks {
            let seqs: Vec<Seq> = sink.parked.keys().copied().collect();
            let recalled = self.scratch.reader().recall(&seqs).unwrap();
            let parked: Vec<Arc<Record>> = sink.parked.values().cloned().collect();
            assert_eq!(recalled, parked, "seed {seed}: parked records stay as they are");
            assert!(sink.delivered.is_sorted_by(|one, next| one.seq < next.seq));
            let truth = self.truth.iter().filter(|record| record.seq > sink.start);
            let truth = Known::of(&truth.cloned().collect::<Vec<_>>());
            let known = Known::of(&sink.delivered);
            if known != truth {
                return Err(format!(
                    "seed {seed}: sink {} knows\n{known:#?}\nand not\n{truth:#?}",
                    sink.name
                ));
            }
            check_before(&sink.delivered, seed);
        }
        Ok(self.folded)
    }
}

/// The state before a change is the one that the sink got last.
fn check_before(delivered: &[Arc<Record>], seed: u64) {
    let mut tree: BTreeMap<ZnodePath, Option<String>> = BTreeMap::new();
    let mut seen: BTreeSet<ZnodePath> = BTreeSet::new();
    for record in delivered.iter().filter(|record| record.path.is_some()) {
        let path = record.path.clone().unwrap();
        if matches!(record.op, Op::Update | Op::Delete | Op::Acl) && seen.contains(&path) {
            let before = record.before.as_ref().map(text);
            assert_eq!(before, tree.get(&path).cloned(), "seed {seed}: {}", record.seq);
        }
        seen.insert(path.clone());
        match &record.after {
            Some(after) => drop(tree.insert(path, text(after))),
            None => drop(tree.remove(&path)),
        }
    }
}

fn progress(sink: &str, cursor: Seq) -> SinkProgress {
    SinkProgress {
        sink: sink.into(),
        to: cursor,
        ..SinkProgress::default()
    }
}

impl Sink {
    /// Delivers some of what it holds, reading what is next where it holds nothing. Returns how many.
    fn work(&mut self, share: usize, parks: bool) -> usize {
        if self.held.is_empty() {
            let limit = ReadLimit {
                records: share.min(40),
                bytes: usize::MAX,
            };
            let handed = self.reader.cached(self.read, limit);
            self.held
                .extend(handed.unwrap_or_else(|| self.reader.read(self.read, limit).unwrap()));
            self.read = self.held.back().map_or(self.read, |record| record.seq);
        }
        let count = share.min(self.held.len());
        for record in self.held.drain(..count) {
            self.done = record.seq;
            if parks {
                self.progress.changes.push(BacklogChange::Parked {
                    seq: record.seq,
                    path: record.path.clone(),
                    reason: "later".into(),
                    attempts: 0,
                    wait: std::time::Duration::ZERO,
                });
                self.parked.insert(record.seq, Arc::clone(&record));
            }
            self.delivered.push(record);
        }
        self.progress.to = self.done;
        count
    }
}

fn play(seed: u64, reads: Reads) -> Result<u64, String> {
    let mut trial = Trial::new(seed, reads);
    for at in 0..STEPS {
        trial.step(at);
    }
    trial.check(seed)
}

#[test]
fn every_sink_gets_each_version_once_whatever_is_compacted_while_it_reads() {
    let mut folded = 0;
    for seed in seeds() {
        println!("seed {seed}");
        folded += play(seed, Reads::Marked).unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(folded > 1000, "{folded} records were compacted in all");
}

#[test]
fn a_worker_whose_reads_are_not_kept_in_mind_is_caught() {
    let caught = (0..SEEDS).any(|seed| play(seed, Reads::Unmarked).is_err());
    assert!(caught, "no seed found it");
}
