//! When records count, against a naive model: histories with parts that were read later, parts that a watch saw, and
//! leaders whose clocks are early or late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::append::{Append, RecordKind};
use bridge_core::journal::Position;
use bridge_core::number::{Epoch, Seq, Zxid};
use bridge_core::record::{Fidelity, GapReason, Mode, Op, Record, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::downtime::control;
use super::scratch::{NOON, Scratch, committed, created, updated};
use crate::coverage::LATE_MS;
use crate::{ActivityCounts, Grouping, JournalQuery, Range, Selection};

const SEEDS: u64 = 8;

/// Parts of a history, and the most records in each.
const PARTS: u64 = 6;
const RECORDS_OF_A_PART: u64 = 14;

/// When records count by a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    Right,
    /// All at their capture: a control.
    ByCapture,
    /// Each for itself, so that times go back: a control.
    WithoutOrder,
    /// Records that were found at their capture: a control.
    WithoutNext,
}

/// A history under way.
struct Story {
    random: StdRng,
    scratch: Scratch,
    /// The true time in milliseconds, and how far the clock of the leader is ahead.
    now: i64,
    ahead: i64,
    zxid: u64,
    /// Whether a watch saw the last change.
    is_watched: bool,
}

impl Story {
    fn new(seed: u64) -> Story {
        let mut scratch = Scratch::of(Mode::Observer).with_stretches_of(4);
        scratch.append([created("/a", 1, "x"), created("/b", 2, "x")]);
        Story {
            random: StdRng::seed_from_u64(seed),
            scratch,
            now: NOON + 10_000,
            ahead: 0,
            zxid: 2,
            is_watched: true,
        }
    }

    /// The marks of a gap and what was found in it, captured at the present time.
    fn gap(&mut self, differences: u64) -> Vec<Append> {
        let (epoch, from_zxid, reason) = (Epoch(2), Zxid(self.zxid), GapReason::Started);
        let begin = RecordKind::GapBegin {
            epoch,
            from_zxid,
            reason,
        };
        let mut entries = vec![control(1, begin)];
        for _ in 0..differences {
            let mut entry = self.change();
            if let RecordKind::Change(change) = &mut entry.kind {
                change.fidelity = Fidelity::Reconciled;
            }
            entries.push(entry);
        }
        let end = RecordKind::GapEnd {
            epoch,
            from_zxid,
            to_zxid: Zxid(self.zxid),
            reason,
            differences,
        };
        entries.push(control(1, end));
        for entry in &mut entries {
            entry.captured = Timestamp(self.now);
        }
        entries
    }

    /// A gap where the source begins to capture in another way.
    fn capture_by(&mut self, watch: bool) {
        if self.is_watched != watch {
            let gap = self.gap(0);
            self.scratch.append(gap);
        }
        self.is_watched = watch;
    }

    fn change(&mut self) -> Append {
        self.zxid += 1;
        self.now += self.random.random_range(0..90_000);
        let (at, czxid) = [("/a", 1), ("/b", 2)][self.random.random_range(0..2)];
        let mut entry = updated(at, czxid, self.zxid, "y");
        entry.captured = Timestamp(self.now);
        entry
    }

    fn elect(&mut self) {
        self.ahead = match self.random.random_range(0..5) {
            0 => 0,
            1 => self.random.random_range(0..4_000_000),
            2 => -self.random.random_range(0..4_000_000),
            _ => self.random.random_range(-90_000..90_000),
        };
    }

    /// Records of one kind.
    fn part(&mut self) {
        let length = self.random.random_range(1..RECORDS_OF_A_PART);
        match self.random.random_range(0..4) {
            0 => {
                self.capture_by(true);
                for _ in 0..length {
                    let entry = self.change();
                    self.scratch.append([entry]);
                }
            }
            1 => {
                self.capture_by(false);
                for _ in 0..length {
                    let entry = self.change();
                    let latency = self.random.random_range(0..2_000);
                    let time = entry.captured.0 + self.ahead;
                    self.scratch.append([committed(entry, time, self.now + latency)]);
                }
            }
            _ => self.late_part(length),
        }
    }

    /// Transactions that are captured together, mostly after a gap.
    fn late_part(&mut self, length: u64) {
        let mut entries = Vec::new();
        if self.is_watched || self.random.random_ratio(3, 4) {
            let differences = self.random.random_range(0..12);
            entries = self.gap(differences);
        }
        self.is_watched = false;
        for _ in 0..length {
            if self.random.random_ratio(1, 6) {
                self.elect();
            }
            let entry = self.change();
            let time = entry.captured.0 + self.ahead;
            entries.push(committed(entry, time, 0));
        }
        self.now += self.random.random_range(0..20_000_000);
        for entry in &mut entries {
            entry.captured = Timestamp(self.now);
        }
        self.scratch.append(entries);
    }
}

/// All records.
fn records(query: &JournalQuery) -> Vec<Arc<Record>> {
    let range = Range {
        after: Seq::ZERO,
        until: query.tail().unwrap(),
    };
    query
        .changes(range, &Selection::default(), 1_000)
        .unwrap()
        .records
}

/// When each record counts.
fn times(records: &[Arc<Record>], model: Model) -> Vec<i64> {
    let is_dated = |record: &&Arc<Record>| {
        let is_change = matches!(record.op, Op::Create | Op::Update | Op::Delete | Op::Acl);
        is_change && record.fidelity == Fidelity::Exact
    };
    let own = |record: &Record| {
        let captured = record.time.captured.0;
        let txn = record.txn.as_ref();
        txn.map_or(captured, |txn| txn.time.min(captured + LATE_MS))
    };
    let mut times: Vec<i64> = Vec::new();
    for (at, record) in records.iter().enumerate() {
        let next = records[at..].iter().find(is_dated);
        let next = next.filter(|next| next.txn.is_some() && model != Model::WithoutNext);
        let time = match model {
            Model::ByCapture => record.time.captured.0,
            _ if is_dated(&record) => own(record),
            _ => own(record).min(next.map_or(i64::MAX, |next| own(next))),
        };
        let last = times.last().copied().filter(|_| model != Model::WithoutOrder);
        times.push(last.map_or(time, |last| last.max(time)));
    }
    times
}

type Activity = BTreeMap<(i64, bool), u64>;

/// The records of a range by interval, of all paths or of one.
fn activity(
    query: &JournalQuery,
    range: Range,
    every: Duration,
    selection: &Selection,
    depth: usize,
) -> Activity {
    let mut found = Activity::new();
    let mut next = Some(range);
    let grouping = Grouping { every, depth };
    while let Some(range) = next {
        let page = query.activity(range, selection, grouping, 5).unwrap();
        for ((interval, subtree), counts) in page.counts {
            let counts: &ActivityCounts = &counts;
            *found.entry((interval.0, subtree.is_some())).or_default() += counts.ops.iter().sum::<u64>();
        }
        next = page.next;
    }
    found
}

fn activity_of_model(
    records: &[Arc<Record>],
    times: &[i64],
    range: Range,
    every: Duration,
    selection: &Selection,
) -> Activity {
    let every = i64::try_from(every.as_millis()).unwrap();
    let mut found = Activity::new();
    for (record, time) in records.iter().zip(times) {
        if record.seq > range.after && record.seq <= range.until && selection.selects(record) {
            let key = (time - time.rem_euclid(every), record.path.is_some());
            *found.entry(key).or_default() += 1;
        }
    }
    found
}

/// The first answer that is not that of a model.
fn first_difference(query: &JournalQuery, random: &mut StdRng, model: Model) -> Option<String> {
    let records = records(query);
    let times = times(&records, model);
    let tail = records.last().unwrap().seq;
    for _ in 0..40 {
        let near = times[random.random_range(0..times.len())];
        let time = near + [-1, 0, 1, 40_000][random.random_range(0..4)];
        let cut = query.cut(Position::Time(Timestamp(time))).unwrap();
        let first = times
            .iter()
            .position(|own| *own >= time)
            .map(|at| records[at].seq);
        let last = times.iter().position(|own| *own > time);
        let last = last.map_or(tail, |at| Seq(records[at].seq.0 - 1));
        if (cut.first, cut.seq) != (first, last) {
            return Some(format!("{time}: {cut:?} and not {first:?}, {last:?}"));
        }
    }
    for record in &records {
        let counted = query.counted_at(record.seq, record.time.captured).unwrap().0;
        let at = records.iter().position(|other| other.seq == record.seq).unwrap();
        if counted != times[at] {
            return Some(format!("{record:?}: {counted} and not {}", times[at]));
        }
    }
    let of_path = Selection {
        paths: vec!["/a".parse().unwrap()],
        ..Selection::default()
    };
    for _ in 0..6 {
        let (one, two) = (random.random_range(0..=tail.0), random.random_range(0..=tail.0));
        let range = Range {
            after: Seq(one.min(two)),
            until: Seq(one.max(two)),
        };
        let every = Duration::from_millis(random.random_range(1_000..10_000_000));
        for (selection, depth) in [
            (&Selection::default(), 0),
            (&Selection::default(), 1),
            (&of_path, 0),
        ] {
            let found = activity(query, range, every, selection, depth);
            let expected = activity_of_model(&records, &times, range, every, selection);
            if found != expected {
                return Some(format!("{range:?} by {every:?}: {found:?} and not {expected:?}"));
            }
        }
    }
    None
}

/// Plays a history, and compares after each part, with a query that is kept and with a new one.
fn play(seed: u64, model: Model, summaries: bool) -> Option<String> {
    let mut story = Story::new(seed);
    let kept = story.scratch.query();
    let mut random = StdRng::seed_from_u64(seed);
    for part in 0..PARTS {
        story.part();
        if !summaries {
            story.scratch.execute("DELETE FROM stretch");
        }
        for (name, query) in [("kept", &kept), ("new", &story.scratch.query())] {
            let difference = first_difference(query, &mut random, model);
            if let Some(difference) = difference {
                return Some(format!("part {part}, {name}: {difference}"));
            }
        }
    }
    None
}

#[test]
fn a_record_counts_at_its_transaction_or_where_the_changes_beside_it_count() {
    for seed in 0..SEEDS {
        for summaries in [true, false] {
            let difference = play(seed, Model::Right, summaries);
            assert_eq!(difference, None, "seed {seed}, {summaries}");
        }
    }
}

#[test]
fn a_model_that_takes_other_times_is_caught() {
    for model in [Model::ByCapture, Model::WithoutOrder, Model::WithoutNext] {
        let is_caught = |seed: &u64| play(*seed, model, true).is_some();
        let caught = (0..SEEDS).filter(is_caught).count() as u64;
        assert!(caught > SEEDS / 2, "{model:?}: {caught}");
    }
}
