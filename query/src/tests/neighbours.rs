//! The records around a moment: an answer from them is the one of the whole history.

use std::collections::HashSet;

use bridge_core::journal::{NeighbourSearch, PathEnd, PathNumber, Position, ValuePart};
use bridge_core::number::{Seq, Zxid};
use bridge_core::record::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::ended;
use super::random::{Capture, journalled, play};
use super::scratch::{Scratch, created, path, time_of, updated};
use crate::as_of::{AsOfQuery, AsOfValue};
use crate::at_position::AtPosition;
use crate::entry::EntrySearch;
use crate::known_paths::{KnownPath, KnownPaths};
use crate::{Certainty, JournalQuery};

/// Histories that are played, of each kind.
const SEEDS: u64 = 4;

/// Events of a history with several waypoints.
const LONG_EVENTS: u64 = 240;

fn all_paths(query: &JournalQuery) -> Vec<KnownPath> {
    let slash = path("/");
    let mut paths = KnownPaths::below(query, &slash, None);
    std::iter::from_fn(|| paths.next().unwrap()).collect()
}

/// Moments that the journal covers.
fn positions(zxid: u64) -> impl Iterator<Item = Position> {
    (0..=zxid).step_by(19).flat_map(|zxid| {
        [
            Position::Zxid(Zxid(zxid)),
            Position::Time(Timestamp(time_of(zxid))),
            Position::Seq(Seq(zxid / 3)),
        ]
    })
}

/// The values of paths, in as many steps as they take.
fn values_of(at: &AtPosition<'_>, paths: &[KnownPath], part: ValuePart) -> Vec<Option<AsOfValue>> {
    let mut values = Vec::new();
    while values.len() < paths.len() {
        let step = at.values_of(&paths[values.len()..], part).unwrap();
        assert!(!step.is_empty());
        values.extend(step);
    }
    values
}

/// The value without its bytes.
fn sized(mut value: AsOfValue) -> AsOfValue {
    if let Some(data) = &mut value.data {
        data.bytes = [].into();
        data.digest = None;
    }
    value
}

/// Compares all answers about a journal. Returns the number of those that were found without the history.
fn compare(scratch: &Scratch, zxid: u64, context: &str) -> usize {
    let query = scratch.query();
    let paths = all_paths(&query);
    let now = Timestamp(time_of(zxid + 1_000));
    let mut found = 0;
    for position in positions(zxid) {
        let at = AtPosition::new(&query, position, now).unwrap();
        let values = values_of(&at, &paths, ValuePart::Whole);
        let sizes = values_of(&at, &paths, ValuePart::Size);
        for ((known, value), size) in paths.iter().zip(values).zip(sizes) {
            let expected = at.value_walked(&known.path, EntrySearch::over()).unwrap();
            assert_eq!(value, expected, "{context}, {} at {position:?}", known.path);
            assert_eq!(size.map(sized), value.map(sized), "{context}, {}", known.path);
        }
        found += searches(&query, position, &paths)
            .iter()
            .filter(|search| matches!(search, NeighbourSearch::Found(_)))
            .count();
    }
    found
}

/// The searches of all paths that have records.
fn searches(query: &JournalQuery, position: Position, paths: &[KnownPath]) -> Vec<NeighbourSearch> {
    let newest: Vec<(PathNumber, Seq)> = paths
        .iter()
        .filter_map(|known| known.number.zip(known.last))
        .collect();
    let of = AsOfQuery::new(position);
    let mut reader = query.reader().unwrap();
    reader
        .neighbours(&newest, None, ValuePart::Size, |_, record| of.side_at(record))
        .unwrap()
}

#[test]
fn the_value_between_two_records_is_that_of_the_history() {
    let mut found = 0;
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let (scratch, zxid) = ended::play(seed);
        found += compare(&scratch, zxid, &format!("seed {seed}"));
    }
    assert!(found > 5_000, "{found}");
}

#[test]
fn a_long_history_is_entered_at_a_waypoint_and_has_the_same_values() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let (truth, records) = play(&mut random, Capture::Honest, LONG_EVENTS);
        let scratch = journalled(records, truth.len() as u64);
        compare(&scratch, truth.len() as u64, &format!("seed {seed}"));
        let query = scratch.query();
        let paths = all_paths(&query);
        let early = searches(&query, Position::Zxid(Zxid(3)), &paths);
        assert_eq!(early, [NeighbourSearch::Far], "seed {seed}");
    }
}

#[test]
fn a_chain_that_is_broken_ends_the_walk_without_an_answer() {
    let updates = (2..6).map(|zxid| updated("/a", 1, zxid, "x"));
    let scratch = Scratch::with(std::iter::once(created("/a", 1, "x")).chain(updates));
    let query = scratch.query();
    let paths = all_paths(&query);
    let search = || searches(&query, Position::Zxid(Zxid(1)), &paths).remove(0);
    // The control.
    assert!(matches!(search(), NeighbourSearch::Found(_)));
    // A record is one of another path, or is gone.
    scratch.execute("UPDATE record SET path = 1 WHERE seq = 3");
    assert_eq!(search(), NeighbourSearch::Open);
    scratch.execute("DELETE FROM record WHERE seq = 4");
    assert_eq!(search(), NeighbourSearch::Open);
}

#[test]
fn large_values_end_a_step_before_all_paths_are_read() {
    // The journal of these tests keeps a MiB of each.
    let large = "x".repeat(2 << 20);
    let names = ["/a", "/b", "/c", "/d", "/e", "/f"];
    let entries = names.iter().zip(1..).map(|(at, zxid)| created(at, zxid, &large));
    let scratch = Scratch::with(entries);
    let query = scratch.query();
    let paths: Vec<KnownPath> = all_paths(&query)
        .into_iter()
        .filter(|known| known.last.is_some())
        .collect();
    let at = AtPosition::new(&query, Position::Seq(Seq(6)), Timestamp(time_of(9))).unwrap();
    assert_eq!(at.values_of(&paths, ValuePart::Whole).unwrap().len(), 4);
    // Sizes are small.
    let sizes = at.values_of(&paths, ValuePart::Size).unwrap();
    assert_eq!(sizes.len(), 6);
    for value in sizes.into_iter().flatten() {
        let size = value.data.map(|data| (data.size, data.bytes.len()));
        assert_eq!((size, value.certainty), (Some((2 << 20, 0)), Certainty::Cut));
    }
}

#[test]
fn the_paths_below_a_path_are_those_that_a_visit_finds() {
    let (scratch, _) = ended::play(1);
    let query = scratch.query();
    for top in ["/", "/q", "/q/n1", "/none"] {
        let top = path(top);
        let mut visit = KnownPaths::below(&query, &top, None);
        let visited = std::iter::from_fn(|| visit.next().unwrap());
        let expected: HashSet<PathEnd> = visited
            .filter_map(|known| {
                Some(PathEnd {
                    number: known.number?,
                    last: known.last,
                })
            })
            .collect();
        let below = |max| query.reader().unwrap().paths_below(&top, max).unwrap();
        let found = below(expected.len()).unwrap();
        assert_eq!(found.len(), expected.len(), "{top}");
        assert_eq!(HashSet::from_iter(found), expected, "{top}");
        if expected.len() > 1 {
            assert_eq!(below(expected.len() - 1), None, "{top}");
        }
    }
}
