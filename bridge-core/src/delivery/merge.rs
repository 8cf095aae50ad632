//! The option `merge`: of the writes of a znode within a window only the last one is delivered, for receivers that need
//! the state and not every step.
//!
//! [`crate::fold`] decides which records are merged: an `update` into the next `update`, or into the `delete`, of the
//! same incarnation, and no others. Changes of access control lists and snapshots stay where they are, and control
//! records bound the window.
//!
//! A window is bounded by the content of the records, never by the time when they were read: the same records make the
//! same windows in every run, as long as they begin at the same record. So the cursor moves from the end of one window
//! to the next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::feed::ReadBatch;
use super::steps::{FetchedBatch, Parts};
use crate::fold::{FoldInput, FoldedFields};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Op, Record, State, Timestamp};

/// The most records of a window, which is in memory.
pub const WINDOW_RECORDS_MAX: usize = 5_000;

/// The most bytes of data in a window. The record that exceeds it belongs to the next window.
pub const WINDOW_BYTES_MAX: usize = 8 << 20;

/// The records of one window that have been read so far.
#[derive(Debug)]
pub(super) struct MergeWindow {
    span: Duration,
    records: Vec<Arc<Record>>,
    bytes: usize,
    /// The position up to which records were read.
    through: Seq,
}

impl MergeWindow {
    pub fn new(span: Duration) -> MergeWindow {
        MergeWindow {
            span,
            records: Vec::new(),
            bytes: 0,
            through: Seq::ZERO,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The first record.
    pub fn first(&self) -> Option<Seq> {
        self.records.first().map(|record| record.seq)
    }

    /// When the first record was captured.
    pub fn first_captured(&self) -> Option<Timestamp> {
        self.records.first().map(|record| record.time.captured)
    }

    /// The time until no further record can belong to the window; `None` if it is empty.
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        let passed = now.0.saturating_sub(self.first_captured()?.0).max(0);
        let passed = Duration::from_millis(passed.unsigned_abs());
        Some(self.span.saturating_sub(passed))
    }

    /// Adds the records of a read; returns the windows that they end.
    pub fn take(&mut self, read: ReadBatch) -> VecDeque<ReadBatch> {
        let mut ended = VecDeque::new();
        for record in read.batch.records {
            let before = Seq(record.seq.0 - 1);
            if record.op.is_control() {
                ended.extend(self.close(before));
                ended.push_back(alone(record));
                continue;
            }
            let bytes = bytes_of(&record);
            if !self.has_room(&record, bytes) {
                ended.extend(self.close(before));
            }
            self.bytes += bytes;
            self.records.push(record);
        }
        self.through = read.batch.through;
        let reached = ended.back().map(|read| read.batch.through);
        if self.records.is_empty() && reached.is_none_or(|reached| reached < self.through) {
            ended.push_back(ReadBatch {
                batch: FetchedBatch {
                    records: Vec::new(),
                    through: self.through,
                    parts: Parts::default(),
                },
                first_captured: read.first_captured,
                filtered: 0,
            });
        }
        ended
    }

    /// Ends the window with the records that it has.
    pub fn end(&mut self) -> Option<ReadBatch> {
        self.close(self.through)
    }

    fn has_room(&self, record: &Record, bytes: usize) -> bool {
        let Some(first) = self.first_captured() else {
            return true;
        };
        let age = record.time.captured.0.saturating_sub(first.0).max(0);
        let is_in_time = Duration::from_millis(age.unsigned_abs()) < self.span;
        is_in_time && self.records.len() < WINDOW_RECORDS_MAX && self.bytes + bytes <= WINDOW_BYTES_MAX
    }

    fn close(&mut self, through: Seq) -> Option<ReadBatch> {
        let first_captured = self.first_captured()?;
        self.bytes = 0;
        let (records, parts) = merge(std::mem::take(&mut self.records));
        Some(ReadBatch {
            batch: FetchedBatch {
                records,
                through,
                parts: Arc::new(parts),
            },
            first_captured: Some(first_captured),
            filtered: 0,
        })
    }
}

fn alone(record: Arc<Record>) -> ReadBatch {
    ReadBatch {
        first_captured: Some(record.time.captured),
        filtered: 0,
        batch: FetchedBatch {
            through: record.seq,
            records: vec![record],
            parts: Parts::default(),
        },
    }
}

pub(super) fn bytes_of(record: &Record) -> usize {
    let data = |state: &Option<State>| {
        let data = state.as_ref().and_then(|state| state.data.as_ref());
        data.map_or(0, |data| data.bytes.len())
    };
    data(&record.before) + data(&record.after)
}

/// Merges the records of one window. Returns the remaining records, ascending by `seq`, and for each record with merged
/// ones their positions, itself last.
///
/// # Panics
///
/// Never: records are folded only from positions that hold one.
pub fn merge(records: Vec<Arc<Record>>) -> (Vec<Arc<Record>>, HashMap<Seq, Vec<Seq>>) {
    let mut kept: Vec<Option<Arc<Record>>> = Vec::with_capacity(records.len());
    let mut parts: HashMap<Seq, Vec<Seq>> = HashMap::new();
    let mut open: HashMap<ZnodePath, usize> = HashMap::new();
    for record in records {
        let Some(path) = record.path.clone() else {
            open.clear();
            kept.push(Some(record));
            continue;
        };
        let last = open
            .remove(&path)
            .and_then(|at| kept[at].as_ref().map(|last| (at, last)));
        let both = last.and_then(|(at, last)| Some((at, with(last, &record)?)));
        let record = match both {
            Some((at, both)) => {
                let last = kept[at].take().expect("it was folded from there");
                let mut all = parts.remove(&last.seq).unwrap_or_else(|| vec![last.seq]);
                all.push(record.seq);
                parts.insert(record.seq, all);
                Arc::new(both)
            }
            None => record,
        };
        if record.op == Op::Update {
            open.insert(path, kept.len());
        }
        kept.push(Some(record));
    }
    (kept.into_iter().flatten().collect(), parts)
}

/// The later record with the fields of both; `None` if it does not supersede the earlier one.
fn with(update: &Record, record: &Record) -> Option<Record> {
    let FoldedFields { missed, superseded } = FoldInput::by(update).into_next(FoldInput::by(record))?;
    Some(Record {
        before: update.before.clone(),
        missed,
        superseded,
        ..record.clone()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::number::Zxid;
    use crate::record::SUPERSEDED_MAX;
    use crate::testing::a_record;

    /// A consistent history of a few paths: incarnations, versions, and the previous values.
    fn some_history(random: &mut StdRng, count: u64) -> Vec<Arc<Record>> {
        let mut living: BTreeMap<String, (Zxid, String)> = BTreeMap::new();
        let mut captured_ms = 0;
        let mut history = Vec::new();
        for seq in 1..=count {
            captured_ms += random.random_range(0..400);
            if random.random_bool(0.03) {
                history.push(
                    a_record()
                        .seq(seq)
                        .captured_ms(captured_ms)
                        .control(Op::Heartbeat)
                        .arc(),
                );
                continue;
            }
            let path = format!("/services/{}", random.random_range(0..4));
            let before = living.get(&path).cloned();
            let op = match &before {
                None => Op::Create,
                Some(_) if random.random_bool(0.15) => Op::Delete,
                Some(_) if random.random_bool(0.1) => Op::Acl,
                Some(_) => Op::Update,
            };
            let (czxid, value) = before.unwrap_or((Zxid(seq), String::new()));
            let after = if op == Op::Acl {
                value.clone()
            } else {
                format!("value {seq}")
            };
            let record = a_record().seq(seq).path(&path).op(op).captured_ms(captured_ms);
            let missed = if op == Op::Update {
                random.random_range(0..3)
            } else {
                0
            };
            let mut record = record.before(&value).after(&after).missed(Some(missed)).build();
            record.superseded = (0..missed).map(|nth| Zxid(seq * 10 + nth)).collect();
            record.zxid = record.zxid.map(|_| Zxid(seq * 10 + 9));
            for state in [&mut record.before, &mut record.after].into_iter().flatten() {
                if let Some(stat) = &mut state.stat {
                    stat.czxid = czxid;
                }
            }
            match op {
                Op::Delete => drop(living.remove(&path)),
                _ => drop(living.insert(path, (czxid, after))),
            }
            history.push(Arc::new(record));
        }
        history
    }

    /// The state of a consumer after these records.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Reader {
        tree: BTreeMap<ZnodePath, State>,
        lives: Vec<(ZnodePath, Op, Seq)>,
        versions: u64,
        zxids: Vec<Zxid>,
    }

    impl Reader {
        fn take(&mut self, record: &Record) {
            let Some(path) = record.path.clone() else {
                return self.lives.push((ZnodePath::slash(), record.op, record.seq));
            };
            let bytes = |state: &State| state.data.clone().map(|data| data.bytes);
            if matches!(record.op, Op::Update | Op::Delete | Op::Acl) {
                let (known, said) = (self.tree.get(&path), record.before.as_ref());
                assert_eq!(
                    known.map(bytes),
                    said.map(bytes),
                    "before is what was delivered last"
                );
            }
            self.versions += record.missed.unwrap_or_default() + u64::from(record.op == Op::Update);
            self.zxids.extend(&record.superseded);
            match record.op {
                Op::Update => self.zxids.extend(record.zxid),
                op => self.lives.push((path.clone(), op, record.seq)),
            }
            match &record.after {
                Some(after) => drop(self.tree.insert(path, after.clone())),
                None => drop(self.tree.remove(&path)),
            }
        }

        fn after(records: &[Arc<Record>]) -> Reader {
            let mut reader = Reader::default();
            records.iter().for_each(|record| reader.take(record));
            reader.zxids.sort_unstable();
            reader
        }
    }

    fn windows(history: &[Arc<Record>], random: &mut StdRng, span: Duration) -> Vec<ReadBatch> {
        let mut window = MergeWindow::new(span);
        let (mut rest, mut all) = (history, Vec::new());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.random_range(1..=rest.len().min(20)));
            rest = later;
            all.extend(window.take(ReadBatch {
                first_captured: now.first().map(|record| record.time.captured),
                filtered: 0,
                batch: FetchedBatch {
                    records: now.to_vec(),
                    through: now[now.len() - 1].seq,
                    parts: Parts::default(),
                },
            }));
        }
        all.extend(window.end());
        all
    }

    #[test]
    fn after_each_window_a_reader_has_the_same_state_as_without_merging() {
        for seed in 0..500 {
            let mut random = StdRng::seed_from_u64(seed);
            let count = random.random_range(1..150);
            let history = some_history(&mut random, count);
            let mut delivered: Vec<Arc<Record>> = Vec::new();
            for read in windows(&history, &mut random, Duration::from_secs(2)) {
                let FetchedBatch {
                    records,
                    through,
                    parts,
                } = read.batch;
                assert!(records.is_sorted_by_key(|record| record.seq), "seed {seed}");
                let merged: usize = records
                    .iter()
                    .map(|record| parts.get(&record.seq).map_or(1, Vec::len))
                    .sum();
                delivered.extend(records);
                let unmerged: Vec<_> = history
                    .iter()
                    .filter(|record| record.seq <= through)
                    .cloned()
                    .collect();
                assert_eq!(Reader::after(&delivered), Reader::after(&unmerged), "seed {seed}");
                assert!(merged <= WINDOW_RECORDS_MAX);
            }
            let last = delivered.last().map(|record| record.seq);
            assert_eq!(last, history.last().map(|record| record.seq), "seed {seed}");
        }
    }

    #[test]
    fn windows_do_not_depend_on_the_portions_that_were_read() {
        for seed in 0..200 {
            let history = some_history(&mut StdRng::seed_from_u64(seed), 100);
            let cut = |portions| {
                let mut random = StdRng::seed_from_u64(portions);
                let windows = windows(&history, &mut random, Duration::from_secs(2));
                let full = windows.into_iter().filter(|read| !read.batch.records.is_empty());
                full.map(|read| read.batch.records).collect::<Vec<_>>()
            };
            assert_eq!(cut(1), cut(2), "seed {seed}");
        }
    }

    #[test]
    fn only_the_last_of_many_writes_stays_and_counts_the_others() {
        let write = |seq| {
            a_record()
                .seq(seq)
                .before(format!("{}", seq - 1))
                .after(format!("{seq}"))
                .arc()
        };
        let (kept, parts) = merge((1..=100).map(write).collect());
        let [record] = &kept[..] else { panic!("{kept:?}") };
        assert_eq!(
            (record.seq, record.missed, record.superseded.len()),
            (Seq(100), Some(99), SUPERSEDED_MAX)
        );
        assert_eq!(record.superseded.last(), write(99).zxid.as_ref());
        assert_eq!(record.before, write(1).before);
        assert_eq!((record.id, &record.after), (write(100).id, &write(100).after));
        assert_eq!(parts[&Seq(100)], (1..=100).map(Seq).collect::<Vec<_>>());
    }

    #[test]
    fn a_value_that_cannot_be_known_stays_unknown() {
        let (kept, _) = merge(vec![
            a_record().seq(1).arc(),
            a_record().seq(2).missed(None).arc(),
        ]);
        assert_eq!((kept.len(), kept[0].missed), (1, None));
    }

    #[test]
    fn a_window_ends_at_its_limits() {
        let mut window = MergeWindow::new(Duration::from_secs(3600));
        let large = |seq| a_record().seq(seq).before("").after(vec![b'x'; 1 << 20]).arc();
        let read = |records: Vec<Arc<Record>>| ReadBatch {
            first_captured: None,
            filtered: 0,
            batch: FetchedBatch {
                through: records[records.len() - 1].seq,
                records,
                parts: Parts::default(),
            },
        };
        let ended = window.take(read((1..=9).map(large).collect()));
        assert_eq!(
            ended.iter().map(|read| read.batch.through).collect::<Vec<_>>(),
            [Seq(8)]
        );
        let small = |seq| a_record().seq(seq).arc();
        let ended = window.take(read((10..10 + WINDOW_RECORDS_MAX as u64).map(small).collect()));
        assert_eq!(ended.len(), 1);
        assert_eq!(window.end().unwrap().batch.records.len(), 1);
    }
}
