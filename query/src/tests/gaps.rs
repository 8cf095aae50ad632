//! Gaps and activity against naive models: random histories, ranges and pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::append::{Append, ChangeKind, DeletedAt, RecordKind};
use bridge_core::journal::{Position, RootProgress};
use bridge_core::number::{Epoch, Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Fidelity, GapReason, Op, Record, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::scratch::{Scratch, change, created, deleted, path, time_of, updated_over};
use crate::{
    ActivityCounts, ActivityKey, Captured, Doubt, GapScan, GapSpan, Grouping, JournalQuery, PAGE_MAX, Range,
    Selection,
};

/// Histories that are played.
const SEEDS: u64 = 20;

/// Records of one history.
const RECORDS: u64 = 80;

const ROOTS: [&str; 3] = ["/a", "/b", "/c/d"];

const REASONS: [GapReason; 3] = [GapReason::Disconnected, GapReason::Expired, GapReason::Liveness];

/// A control record of a root.
fn control(root: &str, zxid: u64, kind: RecordKind) -> Append {
    Append {
        root: Some(path(root)),
        captured: Timestamp(time_of(zxid)),
        kind,
    }
}

/// Changes of a few znodes with control records of three roots between them.
fn play(random: &mut StdRng) -> Vec<Append> {
    let mut records = Vec::new();
    // The zxid of each create, while the znode exists.
    let mut lives: BTreeMap<String, u64> = BTreeMap::new();
    for zxid in 1..=RECORDS {
        let root = ROOTS[random.random_range(0..ROOTS.len())];
        let reason = REASONS[random.random_range(0..REASONS.len())];
        let (epoch, from_zxid) = (Epoch(2), Zxid(zxid));
        let record = match random.random_range(0..10) {
            0..2 => control(
                root,
                zxid,
                RecordKind::GapBegin {
                    epoch,
                    from_zxid,
                    reason,
                },
            ),
            2..4 => control(
                root,
                zxid,
                RecordKind::GapEnd {
                    epoch,
                    from_zxid,
                    to_zxid: Zxid(zxid + 1),
                    reason,
                    differences: random.random_range(0..9),
                },
            ),
            _ => {
                let at = format!("{root}/n{}/leaf", random.random_range(0..2));
                match lives.get(&at).copied() {
                    None => {
                        lives.insert(at.clone(), zxid);
                        created(&at, zxid, "x")
                    }
                    Some(_) if random.random_ratio(1, 4) => {
                        lives.remove(&at);
                        deleted(&at, zxid)
                    }
                    Some(czxid) => {
                        updated_over(&at, czxid, zxid, "y", &[zxid - 1][..random.random_range(0..2)])
                    }
                }
            }
        };
        records.push(record);
    }
    records
}

/// A range that may begin and end anywhere.
fn a_range(random: &mut StdRng) -> Range {
    let after = random.random_range(0..RECORDS);
    Range {
        after: Seq(after),
        until: Seq(random.random_range(after..=RECORDS)),
    }
}

/// All records of a range, in one list.
fn all(query: &JournalQuery, range: Range) -> Vec<Arc<Record>> {
    query
        .changes(range, &Selection::default(), PAGE_MAX)
        .unwrap()
        .records
}

/// The gaps of each root on its own: one ends at each `gap_end`, and begins with the first `gap_begin` after the end
/// before it.
fn gaps_of_the_model(records: &[Arc<Record>]) -> (Vec<GapSpan>, Vec<GapSpan>) {
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    for root in ROOTS.map(path) {
        let is_of_root = |record: &&Arc<Record>| record.gap.is_some() && record.root.as_ref() == Some(&root);
        let of_root: Vec<&Arc<Record>> = records.iter().filter(is_of_root).collect();
        let parts = of_root.split_inclusive(|record| record.op == Op::GapEnd);
        for part in parts {
            let captured = |record: &Arc<Record>| Captured {
                seq: record.seq,
                at: record.time.captured,
            };
            let (first, last) = (part[0], part[part.len() - 1]);
            let [first_gap, last_gap] = [first, last].map(|record| record.gap.clone().unwrap());
            let is_closed = last.op == Op::GapEnd;
            let span = GapSpan {
                root: root.clone(),
                begin: (first.op == Op::GapBegin).then(|| captured(first)),
                // The capture of the record before, whose zxid is its number.
                since: (first.op == Op::GapBegin && first.seq > Seq(1))
                    .then(|| Timestamp(time_of(first.seq.0 - 1))),
                end: is_closed.then(|| captured(last)),
                reason: first_gap.reason,
                from_zxid: first_gap.from_zxid,
                to_zxid: last_gap.to_zxid.filter(|_| is_closed),
                differences: last_gap.differences.filter(|_| is_closed),
            };
            if is_closed { &mut closed } else { &mut open }.push(span);
        }
    }
    closed.sort_by_key(|span| span.end.map(|end| end.seq));
    (closed, open)
}

/// An action of a caller between two pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// Hands over the open gaps, and adds counts of one key.
    Careful,
    /// Forgets the open gaps, and replaces counts: the control that the tests must catch.
    Careless,
}

fn gaps_of_pages(
    query: &JournalQuery,
    range: Range,
    limit: usize,
    caller: Caller,
) -> (Vec<GapSpan>, Vec<GapSpan>) {
    let (mut closed, mut left) = (Vec::new(), GapScan::from(range));
    loop {
        let page = query.gaps(left, limit).unwrap();
        assert!(page.closed.len() <= limit, "{page:?}");
        closed.extend(page.closed);
        left = page.left;
        if left.range.is_empty() {
            left.open.sort_by(|one, other| one.root.cmp(&other.root));
            return (closed, left.open);
        }
        if caller == Caller::Careless {
            left = GapScan::from(left.range);
        }
    }
}

/// Whether a caller gets what the model says, for every seed.
fn gaps_agree(seed: u64, caller: Caller) -> bool {
    let mut random = StdRng::seed_from_u64(seed);
    let scratch = Scratch::with(play(&mut random));
    let query = scratch.query();
    (1..5).all(|limit| {
        let range = a_range(&mut random);
        gaps_of_pages(&query, range, limit, caller) == gaps_of_the_model(&all(&query, range))
    })
}

#[test]
fn the_gaps_of_any_range_are_those_of_the_model_whatever_the_pages() {
    for seed in 0..SEEDS {
        assert!(gaps_agree(seed, Caller::Careful), "seed {seed}");
    }
}

#[test]
fn a_caller_that_forgets_the_open_gaps_between_two_pages_is_caught() {
    assert!((0..SEEDS).any(|seed| !gaps_agree(seed, Caller::Careless)));
}

type Activity = BTreeMap<ActivityKey, ActivityCounts>;

/// Counts each record on its own.
fn activity_of_the_model(records: &[Arc<Record>], seconds: i64, depth: usize) -> Activity {
    let mut counts = Activity::new();
    for record in records {
        let interval = Timestamp(record.time.captured.0 / (seconds * 1000) * seconds * 1000);
        let subtree = record.path.as_ref().map(|at| {
            let names: Vec<&str> = at.split('/').skip(1).take(depth).collect();
            path(&format!("/{}", names.join("/")))
        });
        let of_key = counts.entry((interval, subtree)).or_default();
        of_key.ops[Op::ALL.iter().position(|op| *op == record.op).unwrap()] += 1;
        of_key.missed += record.missed.unwrap_or_default();
    }
    counts
}

fn activity_of_pages(
    query: &JournalQuery,
    range: Range,
    grouping: Grouping,
    limit: usize,
    caller: Caller,
) -> Activity {
    let (mut counts, mut next) = (Activity::new(), Some(range));
    while let Some(range) = next {
        let page = query
            .activity(range, &Selection::default(), grouping, limit)
            .unwrap();
        assert!(page.counts.len() <= limit, "{page:?}");
        for (key, more) in page.counts {
            let known = counts.entry(key).or_default();
            if caller == Caller::Careless {
                *known = ActivityCounts::default();
            }
            for (known, more) in known.ops.iter_mut().zip(more.ops) {
                *known += more;
            }
            known.missed += more.missed;
        }
        next = page.next;
    }
    counts
}

/// The summaries of stretches that a journal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Summaries {
    Written,
    /// None, as in a file of an older format.
    Removed,
    /// Those of other records: the control that the tests must catch.
    Shifted,
}

fn activity_agrees(seed: u64, caller: Caller, summaries: Summaries) -> bool {
    let mut random = StdRng::seed_from_u64(seed);
    let mut scratch = Scratch::new().with_stretches_of(4);
    scratch.append(play(&mut random));
    match summaries {
        Summaries::Written => {}
        Summaries::Removed => scratch.execute("DELETE FROM stretch"),
        Summaries::Shifted => scratch.execute(
            "UPDATE stretch SET counts = (SELECT counts FROM stretch o WHERE o.last = stretch.last + 4) WHERE last < 40",
        ),
    }
    let query = scratch.query();
    (1..5).all(|limit| {
        let range = a_range(&mut random);
        let (seconds, depth) = (
            random.random_range(1..30),
            random.random_range(0..4_usize).saturating_sub(1),
        );
        let grouping = Grouping {
            every: Duration::from_secs(seconds),
            depth,
        };
        let expected = activity_of_the_model(&all(&query, range), seconds.cast_signed(), depth);
        activity_of_pages(&query, range, grouping, limit, caller) == expected
    })
}

#[test]
fn the_activity_of_any_range_is_that_of_the_model_whatever_the_pages() {
    for seed in 0..SEEDS {
        for summaries in [Summaries::Written, Summaries::Removed] {
            let agrees = activity_agrees(seed, Caller::Careful, summaries);
            assert!(agrees, "seed {seed}: {summaries:?}");
        }
    }
}

#[test]
fn a_summary_that_counts_other_records_is_caught() {
    assert!((0..SEEDS).any(|seed| !activity_agrees(seed, Caller::Careful, Summaries::Shifted)));
}

#[test]
fn whole_stretches_are_counted_without_a_look_at_their_records_and_name_their_gaps() {
    let mut scratch = Scratch::new().with_stretches_of(8);
    scratch.append([created("/a", 1, "x")]);
    scratch.append((2..=20).map(|zxid| updated_over("/a", 1, zxid, "y", &[zxid - 1])));
    scratch.append([super::scratch::gap(20)]);
    scratch.append((22..=80).map(|zxid| updated_over("/a", 1, zxid, "y", &[])));
    let query = scratch.query();
    let grouping = Grouping {
        every: Duration::from_secs(1_000_000),
        depth: 0,
    };
    let range = Range {
        after: Seq(3),
        until: Seq(77),
    };
    let counted = |selection: &Selection| {
        let page = query.activity(range, selection, grouping, 9).unwrap();
        assert_eq!(page.next, None);
        let gaps: Vec<Seq> = page.gaps.iter().map(|mark| mark.seq).collect();
        assert_eq!(gaps, [Seq(21)]);
        let mut all = ActivityCounts::default();
        page.counts.values().for_each(|counts| all.add(counts));
        (page.scanned, all.of(Op::Update), all.of(Op::GapBegin), all.missed)
    };
    // 4 to 8 and 73 to 77 are parts of stretches.
    assert_eq!(counted(&Selection::default()), (10, 73, 1, 17));
    let of_ops = |ops: &[Op]| Selection {
        ops: ops.to_vec(),
        ..Selection::default()
    };
    assert_eq!(counted(&of_ops(&[Op::GapBegin])), (10, 0, 1, 0));
    assert_eq!(counted(&of_ops(&[Op::Delete])), (10, 0, 0, 0));
    let of_znodes = Selection {
        paths: vec![crate::PathPattern::parse("/").unwrap()],
        ..Selection::default()
    };
    assert_eq!(
        counted(&of_znodes),
        (10, 73, 0, 17),
        "control records are of no path"
    );
}

#[test]
fn a_caller_that_replaces_counts_instead_of_adding_them_is_caught() {
    assert!((0..SEEDS).any(|seed| !activity_agrees(seed, Caller::Careless, Summaries::Written)));
}

#[test]
fn a_range_whose_first_records_retention_has_removed_is_a_doubt() {
    let mut scratch = Scratch::with([created("/a", 1, "1"), created("/b", 2, "2")]);
    scratch.append([created("/c", 300, "3")]);
    scratch.retain_at(302);
    let query = scratch.query();
    let check = |after, doubts: &[Doubt]| {
        let range = Range {
            after: Seq(after),
            until: Seq(3),
        };
        let grouping = Grouping {
            every: Duration::from_secs(1),
            depth: 1,
        };
        let activity = query.activity(range, &Selection::default(), grouping, 9).unwrap();
        assert_eq!(activity.doubts, doubts);
        assert_eq!(query.gaps(range.into(), 9).unwrap().doubts, doubts);
    };
    check(0, &[Doubt::Removed]);
    check(2, &[]);
}

#[test]
fn a_gap_whose_begin_is_before_the_range_has_none() {
    let root = ZnodePath::slash();
    let reason = GapReason::Expired;
    let end = RecordKind::GapEnd {
        epoch: Epoch(2),
        from_zxid: Zxid(4),
        to_zxid: Zxid(9),
        reason,
        differences: 3,
    };
    let scratch = Scratch::with([super::scratch::gap(4), control("/", 9, end)]);
    let range = Range {
        after: Seq(1),
        until: Seq(2),
    };
    let page = scratch.query().gaps(range.into(), 9).unwrap();
    let captured = Captured {
        seq: Seq(2),
        at: Timestamp(time_of(9)),
    };
    let expected = GapSpan {
        root,
        begin: None,
        since: None,
        end: Some(captured),
        reason,
        from_zxid: Zxid(4),
        to_zxid: Some(Zxid(9)),
        differences: Some(3),
    };
    assert_eq!((page.closed, page.left.open), (vec![expected], vec![]));
}

#[test]
fn a_root_that_is_not_watched_is_in_a_gap_until_the_listing_with_which_it_is_watched_again() {
    let run = Uuid::from_u128(7);
    let begun = |zxid, reason| {
        control(
            "/a",
            zxid,
            RecordKind::GapBegin {
                epoch: Epoch(zxid),
                from_zxid: Zxid(1),
                reason,
            },
        )
    };
    let unwatched = ChangeKind::Deleted {
        at: DeletedAt::Unwatched,
    };
    let mut left = change("/a/n", 4, unwatched);
    if let RecordKind::Change(left) = &mut left.kind {
        left.fidelity = Fidelity::Reconciled;
    }
    let end = RecordKind::RunEnd {
        run,
        index: 1,
        nodes: 0,
        unreadable: 0,
        zxid: Some(Zxid(6)),
        is_exact: false,
    };
    // Its bridge was stopped while another gap was open.
    let scratch = Scratch::with([
        created("/a/n", 1, "x"),
        begun(2, GapReason::Disconnected),
        begun(3, GapReason::Unwatched),
        left,
        control("/a", 5, RecordKind::RunBegin { run }),
        control("/a", 6, end),
        created("/a/m", 7, "y"),
    ]);
    let query = scratch.query();

    let gaps = |until: u64| {
        let range = Range {
            after: Seq::ZERO,
            until: Seq(until),
        };
        let page = query.gaps(range.into(), PAGE_MAX).unwrap();
        (page.closed, page.left.open)
    };
    let (closed, open) = gaps(5);
    assert_eq!((closed.len(), open[0].reason), (0, GapReason::Unwatched));
    let (closed, open) = gaps(7);
    assert_eq!(open, []);
    let [gap] = &closed[..] else { panic!("{closed:?}") };
    let seqs = (gap.begin.map(|begin| begin.seq), gap.end.map(|end| end.seq));
    assert_eq!(seqs, (Some(Seq(2)), Some(Seq(6))));
    assert_eq!((gap.reason, gap.to_zxid), (GapReason::Unwatched, Some(Zxid(6))));

    let root = RootProgress {
        path: path("/a"),
        reported: Zxid(7),
        is_listed: true,
    };
    let is_complete = |seq: u64| {
        let at = Position::Seq(Seq(seq));
        let coverage = query.coverage(std::slice::from_ref(&root), at, true).unwrap();
        coverage.is_complete(&path("/a/n"))
    };
    let complete: Vec<u64> = (1..=7).filter(|seq| is_complete(*seq)).collect();
    assert_eq!(complete, [1, 6, 7]);
}
