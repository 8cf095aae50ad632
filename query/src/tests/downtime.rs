//! Random histories with times in which no bridge ran, against a naive model of the true tree: nothing that is certain is
//! wrong, and hardly anything is uncertain while capture was live.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::append::{Append, ChangeKind, DeletedAt, RecordKind};
use bridge_core::image_txn::{ImageTxn, Progress};
use bridge_core::journal::{JournalWriter, Position};
use bridge_core::number::{Epoch, Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Fidelity, GapReason, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::scratch::{NOON, Scratch, change, created, deleted, gap, path, read, time_of};
use crate::answer::{ChildrenQuestion, RangeQuestion};
use crate::coverage::LATE_MS;
use crate::{Certainty, Doubt, JournalQuery};

/// Histories that are played.
const SEEDS: u64 = 12;

/// Times in which the bridge ran and did not, in turns, and the most changes in each.
const TURNS: u64 = 6;
const CHANGES_OF_A_TURN: u64 = 9;

/// The longest time between two changes. With this, times without a bridge are up to 15 minutes long.
const SECONDS_BETWEEN: u64 = 100;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// The moments at which the bridge says that it was live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bridge {
    /// The last of them is stored, ten seconds late at most.
    Honest,
    /// Nothing, as earlier versions.
    Earlier,
    /// It was live until it was back: the control that the test must catch.
    Claiming,
}

/// An incarnation at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) czxid: u64,
    pub(super) mzxid: u64,
    pub(super) version: i32,
}

pub(super) type Tree = BTreeMap<&'static str, Version>;

/// The tree from each zxid on, whose number is also its second.
pub(super) type Truth = BTreeMap<u64, Tree>;

pub(super) fn text_of(version: &Version) -> String {
    format!("v{}", version.mzxid)
}

/// One change of the tree.
pub(super) fn mutate(random: &mut StdRng, tree: &mut Tree, zxid: u64) -> Append {
    let name = NAMES[random.random_range(0..NAMES.len())];
    let at = format!("/{name}");
    match tree.remove(name) {
        None => {
            let version = Version {
                czxid: zxid,
                mzxid: zxid,
                version: 0,
            };
            let record = created(&at, zxid, &text_of(&version));
            tree.insert(name, version);
            record
        }
        Some(_) if random.random_ratio(2, 5) => deleted(&at, zxid),
        Some(before) => {
            let version = Version {
                mzxid: zxid,
                version: before.version + 1,
                ..before
            };
            let read = read(version.czxid, zxid, version.version, &text_of(&version));
            tree.insert(name, version);
            change(&at, zxid, ChangeKind::Updated { read })
        }
    }
}

/// The records of a comparison: what differs between the last tree that was seen and the present one.
pub(super) fn compared(seen: &Tree, now: &Tree, zxid: u64) -> Vec<Append> {
    let mut records = Vec::new();
    let names: BTreeSet<_> = seen.keys().chain(now.keys()).copied().collect();
    for name in names {
        let at = format!("/{name}");
        let found = |kind, missed: Option<i32>| {
            let mut record = change(&at, zxid, kind);
            if let RecordKind::Change(change) = &mut record.kind {
                change.fidelity = Fidelity::Reconciled;
                change.missed = missed.map(|missed| u64::from(missed.unsigned_abs()));
            }
            record
        };
        let read_of =
            |version: &Version| read(version.czxid, version.mzxid, version.version, &text_of(version));
        let create = |version: &Version| {
            let read = read_of(version);
            found(ChangeKind::Created { read }, Some(version.version))
        };
        let delete = |bound: u64| {
            let at = DeletedAt::Bound(Zxid(bound));
            found(ChangeKind::Deleted { at }, None)
        };
        match (seen.get(name), now.get(name)) {
            (Some(old), Some(new)) if old.czxid != new.czxid => {
                records.extend([delete(new.czxid), create(new)]);
            }
            (Some(old), Some(new)) if old.version != new.version => {
                let read = read_of(new);
                records.push(found(
                    ChangeKind::Updated { read },
                    Some(new.version - old.version - 1),
                ));
            }
            (Some(_), None) => records.push(delete(zxid)),
            (None, Some(new)) => records.push(create(new)),
            _ => {}
        }
    }
    records
}

pub(super) fn control(zxid: u64, kind: RecordKind) -> Append {
    Append {
        root: Some(ZnodePath::slash()),
        captured: Timestamp(time_of(zxid)),
        kind,
    }
}

pub(super) fn listing() -> [Append; 2] {
    let run = Uuid::from_u128(7);
    [
        control(1, RecordKind::RunBegin { run }),
        control(
            1,
            RecordKind::RunEnd {
                run,
                index: 1,
                nodes: 0,
                unreadable: 0,
                zxid: Some(Zxid(1)),
                is_exact: false,
            },
        ),
    ]
}

/// A history that was played: its journal, the truth, and the seconds in which no bridge ran, after the first up to the
/// second.
pub(super) struct Played {
    pub(super) scratch: Scratch,
    pub(super) truth: Truth,
    pub(super) away: Vec<(u64, u64)>,
    pub(super) end: u64,
}

fn play(seed: u64, bridge: Bridge) -> Played {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut scratch = Scratch::with(listing());
    let mut truth = Truth::from([(1, Tree::new())]);
    let (mut tree, mut seen) = (Tree::new(), Tree::new());
    let (mut zxid, mut away) = (1, Vec::new());
    for turn in 0..TURNS {
        let is_captured = turn % 2 == 0;
        let begin = zxid;
        for _ in 0..random.random_range(2..CHANGES_OF_A_TURN) {
            zxid += random.random_range(1..SECONDS_BETWEEN);
            let record = mutate(random, &mut tree, zxid);
            truth.insert(zxid, tree.clone());
            if is_captured {
                scratch.append([record]);
            }
        }
        // The turn ends some time after its last change.
        let last = zxid;
        zxid += random.random_range(1..SECONDS_BETWEEN);
        if is_captured {
            seen.clone_from(&tree);
            if bridge == Bridge::Honest {
                let late = random.random_range(0..10);
                scratch
                    .journal
                    .set_live(Timestamp(time_of(zxid.saturating_sub(late))));
                scratch.journal.store_live().unwrap();
            }
            continue;
        }
        away.push((begin, zxid));
        scratch = scratch.reopened();
        if bridge == Bridge::Claiming {
            scratch.journal.set_live(Timestamp(time_of(zxid)));
        }
        let from = seen.values().map(|version| version.mzxid).max().unwrap_or(1);
        let (epoch, reason) = (Epoch(turn), GapReason::Started);
        let differences = compared(&seen, &tree, zxid);
        scratch.append([control(
            zxid,
            RecordKind::GapBegin {
                epoch,
                from_zxid: Zxid(from),
                reason,
            },
        )]);
        let count = differences.len() as u64;
        scratch.append(differences);
        scratch.append([control(
            zxid,
            RecordKind::GapEnd {
                epoch,
                from_zxid: Zxid(from),
                to_zxid: Zxid(last),
                reason,
                differences: count,
            },
        )]);
        seen.clone_from(&tree);
        zxid += 1;
    }
    let progress = Progress {
        reported: Zxid(zxid),
        listed: true,
        run: None,
    };
    scratch
        .journal
        .set_progress(&ZnodePath::slash(), &progress)
        .unwrap();
    scratch.journal.commit().unwrap();
    Played {
        scratch,
        truth,
        away,
        end: zxid,
    }
}

impl Played {
    fn tree_at(&self, second: u64) -> &Tree {
        self.truth.range(..=second).next_back().unwrap().1
    }

    /// Seconds to ask about: around every change, and some between.
    fn seconds(&self) -> BTreeSet<u64> {
        let changes = self.truth.keys().flat_map(|zxid| [*zxid, zxid + 1]);
        let around = self
            .away
            .iter()
            .flat_map(|(begin, end)| [begin - 1, *begin, (begin + end) / 2, end - 1, *end]);
        let all = changes.chain(around).chain((1..self.end).step_by(307));
        all.filter(|second| (1..self.end).contains(second)).collect()
    }

    /// The first certain answer that is wrong, and the certain and all answers about moments that are certain by what the
    /// bridge did.
    pub(super) fn first_lie(&self) -> (Option<String>, (u64, u64)) {
        let query = self.scratch.query();
        let now = Timestamp(time_of(self.end + 1));
        let (mut certain, mut all) = (0, 0);
        for second in self.seconds() {
            let truth = self.tree_at(second);
            let positions = [
                Position::Time(Timestamp(time_of(second))),
                Position::Zxid(Zxid(second)),
            ];
            for position in positions {
                for name in NAMES {
                    let Some(value) = query.as_of(&path(&format!("/{name}")), position, now).unwrap() else {
                        continue;
                    };
                    let data = value
                        .data
                        .as_ref()
                        .and_then(|data| data.text())
                        .map(str::to_owned);
                    let expected = truth.get(name).map(text_of);
                    if value.certain && (value.exists, &data) != (Some(expected.is_some()), &expected) {
                        return (Some(format!("{name} at {position:?}: {value:?}")), (certain, all));
                    }
                    if !self.is_near_away(second) {
                        (certain, all) = (certain + u64::from(value.certain), all + 1);
                    }
                }
                if let Some(lie) = wrong_list(&query, position, truth, now) {
                    return (Some(lie), (certain, all));
                }
            }
        }
        (None, (certain, all))
    }

    /// Whether no bridge ran, or perhaps none, as far as a journal can show it.
    fn is_near_away(&self, second: u64) -> bool {
        let late = LATE_MS.unsigned_abs() / 1000 + 10;
        let mut away = self.away.iter();
        away.any(|(begin, end)| (begin.saturating_sub(late)..=*end).contains(&second))
    }
}

/// A list of children that is certain and not the truth.
fn wrong_list(query: &JournalQuery, position: Position, truth: &Tree, now: Timestamp) -> Option<String> {
    let question = ChildrenQuestion {
        path: &ZnodePath::slash(),
        at: Some(position),
        prefix: "",
        after: None,
        cursor: None,
        limit: 100,
    };
    let list = query.children_at(&question, now).unwrap();
    let is_certain = list.to.certain && list.unknown == 0 && list.items.iter().all(|item| item.certain);
    let names: Vec<&str> = list.items.iter().map(|item| item.name.as_str()).collect();
    let expected: Vec<&str> = truth.keys().copied().collect();
    (is_certain && names != expected).then(|| format!("{position:?}: {names:?} and not {expected:?}"))
}

#[test]
fn a_certain_answer_about_a_time_without_a_bridge_is_the_truth() {
    let (mut certain, mut all) = (0, 0);
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let (lie, known) = play(seed, Bridge::Honest).first_lie();
        assert_eq!(lie, None, "seed {seed}");
        (certain, all) = (certain + known.0, all + known.1);
    }
    // Not by never being certain: a delete that a watch has seen has no time, and little else is open.
    assert!(certain * 3 > all * 2, "{certain} of {all}");
}

#[test]
fn a_journal_that_does_not_say_until_when_its_bridge_was_live_is_never_certain_after_its_last_record() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        assert_eq!(play(seed, Bridge::Earlier).first_lie().0, None, "seed {seed}");
    }
}

#[test]
fn a_bridge_that_claims_to_have_been_live_while_it_was_away_is_caught() {
    let is_caught = |seed: &u64| play(*seed, Bridge::Claiming).first_lie().0.is_some();
    let caught = (0..SEEDS).filter(is_caught).count() as u64;
    assert!(caught > SEEDS / 2, "{caught}");
}

#[test]
fn a_gap_begins_where_capture_was_last_live_and_not_where_the_bridge_was_back() {
    let mut scratch = Scratch::with(listing());
    scratch.append([created("/a", 2, "x"), deleted("/a", 10)]);
    scratch.journal.set_live(Timestamp(time_of(1_000)));
    scratch.journal.store_live().unwrap();
    let mut scratch = scratch.reopened();
    let begin = Append {
        captured: Timestamp(time_of(2_000)),
        ..gap(10)
    };
    let end = RecordKind::GapEnd {
        epoch: Epoch(2),
        from_zxid: Zxid(10),
        to_zxid: Zxid(1_990),
        reason: GapReason::Disconnected,
        differences: 0,
    };
    scratch.append([begin, control(2_000, end)]);
    scratch.journal.set_live(Timestamp(time_of(2_000)));
    scratch.journal.store_live().unwrap();
    let query = scratch.query();
    let certainty = |second: u64| {
        let position = Position::Time(Timestamp(time_of(second)));
        let now = Timestamp(time_of(2_001));
        let alone = query.as_of(&path("/a"), position, now).unwrap().unwrap();
        assert_eq!(
            alone.exists.is_none(),
            alone.certainty == Certainty::Gap,
            "{alone:?}"
        );
        (
            alone.certainty,
            query.moment(Some(position), now).unwrap().certainty,
        )
    };
    let late = LATE_MS.unsigned_abs() / 1000;
    for second in [500, 1_000 - late - 1] {
        assert_eq!(
            certainty(second),
            (Certainty::Exact, Certainty::Exact),
            "{second}"
        );
    }
    assert_eq!(certainty(2_000), (Certainty::Exact, Certainty::Exact));
    for second in [1_000 - late, 1_001, 1_500, 1_999] {
        assert_eq!(certainty(second), (Certainty::Gap, Certainty::Gap), "{second}");
    }
    let spans = query.gaps_between(&everything(), Timestamp(time_of(2_001)));
    let spans = spans.unwrap().items;
    let times: Vec<_> = spans
        .iter()
        .map(|span| (span.since, span.begin.map(|begin| begin.at)))
        .collect();
    let [since, begin] = [1_000, 2_000].map(|second| Some(Timestamp(NOON + second * 1000)));
    assert_eq!(times, [(since, begin)]);
}

fn everything() -> RangeQuestion<'static> {
    RangeQuestion {
        from: None,
        to: None,
        cursor: None,
        limit: 10,
    }
}

#[test]
fn while_a_bridge_captures_nothing_the_present_is_not_certain() {
    let mut scratch = Scratch::with(listing());
    scratch.append([created("/a", 2, "x")]);
    scratch.journal.set_live(Timestamp(time_of(100)));
    scratch.journal.store_live().unwrap();
    let query = scratch.query();
    let certainty = |second: u64| {
        let position = Position::Time(Timestamp(time_of(second)));
        let now = Timestamp(time_of(10_000));
        query
            .as_of(&path("/a"), position, now)
            .unwrap()
            .unwrap()
            .certainty
    };
    let late = LATE_MS.unsigned_abs() / 1000;
    assert_eq!(certainty(100 + late), Certainty::Exact);
    assert_eq!(certainty(101 + late), Certainty::Beyond);
}

#[test]
fn a_time_before_the_journal_is_named_as_such_and_not_as_a_listing_that_is_not_complete() {
    let mut scratch = Scratch::with(listing().map(|record| Append {
        captured: Timestamp(time_of(100)),
        ..record
    }));
    scratch.append([created("/a", 200, "x")]);
    let progress = Progress {
        reported: Zxid(200),
        listed: true,
        run: None,
    };
    scratch
        .journal
        .set_progress(&ZnodePath::slash(), &progress)
        .unwrap();
    scratch.journal.commit().unwrap();
    let query = scratch.query();
    let now = Timestamp(time_of(300));
    let time = |second| Some(Position::Time(Timestamp(time_of(second))));
    let before = query.moment(time(50), now).unwrap();
    let at = Timestamp(time_of(100));
    let listed = Doubt::BeforeListing {
        root: ZnodePath::slash(),
        seq: Seq(2),
        at,
        is_backfilled: false,
    };
    assert_eq!(before.doubts, [listed]);
    assert!(before.doubts[0].to_string().contains("zkbridge backfill"));
    assert!(query.moment(time(150), now).unwrap().certain);

    let known = Doubt::KnownSince {
        seq: Seq(1),
        at,
        is_backfilled: false,
    };
    let doubts = |from, to| {
        let question = RangeQuestion {
            from,
            to,
            ..everything()
        };
        let gaps = query.gaps_between(&question, now).unwrap();
        assert!(gaps.items.is_empty());
        let selection = crate::Selection::default();
        let changes = crate::answer::ChangesQuestion {
            from,
            to,
            selection: &selection,
            filter: "",
            order: crate::answer::ChangesOrder::Oldest,
            cursor: None,
            limit: 10,
        };
        assert_eq!(query.records_between(&changes, now).unwrap().doubts, gaps.doubts);
        gaps.doubts
    };
    for (from, to) in [(time(50), time(60)), (time(50), None), (None, time(99))] {
        assert_eq!(doubts(from, to), std::slice::from_ref(&known), "{from:?} {to:?}");
    }
    for (from, to) in [
        (None, None),
        (time(100), None),
        (time(150), time(160)),
        (None, time(150)),
    ] {
        assert_eq!(doubts(from, to), [], "{from:?} {to:?}");
    }
}
