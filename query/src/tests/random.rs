//! Random histories of one znode, captured with and without loss: an answer that is certain is the truth.

use bridge_core::append::{Append, ChangeKind, RecordKind};
use bridge_core::image_txn::{ImageTxn, Progress};
use bridge_core::journal::{JournalWriter, Position};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::scratch::{Scratch, change, created, deleted, path, read, time_of, updated};
use crate::{AsOfValue, JournalQuery};

/// Histories that are played.
const SEEDS: u64 = 30;

/// Events of one history.
const EVENTS: u64 = 60;

/// Histories that are long enough for several waypoints, and their events.
const LONG_SEEDS: u64 = 4;
const LONG_EVENTS: u64 = 240;

/// The value after each zxid, from 0 on; `None` while the znode does not exist.
pub(super) type Truth = Vec<Option<String>>;

/// How the capture treats values that it could not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capture {
    /// Counts them, and mostly names their zxids.
    Honest,
    /// Says nothing of them: the control that the test must catch.
    Silent,
}

/// A life of the znode, as the capture follows it.
struct Life {
    czxid: u64,
    version: i32,
}

/// Plays a history: the truth, and the records of a capture that sees every event, and reads values only between batches.
pub(super) fn play(random: &mut StdRng, capture: Capture, length: u64) -> (Truth, Vec<Append>) {
    let mut truth: Truth = vec![None];
    let mut records = Vec::new();
    let mut life: Option<Life> = None;
    while (truth.len() as u64) < length {
        let (mut batch, mut unread) = (Vec::new(), Vec::new());
        let events = random.random_range(1..=5);
        for event in 1..=events {
            let zxid = truth.len() as u64;
            let is_read = event == events;
            let text = format!("v{zxid}");
            let record = match life.take() {
                None => {
                    truth.push(Some(text.clone()));
                    life = Some(Life {
                        czxid: zxid,
                        version: 0,
                    });
                    Some(match is_read {
                        true => change(
                            "/a",
                            zxid,
                            ChangeKind::Created {
                                read: read(zxid, zxid, 0, &text),
                            },
                        ),
                        false => change(
                            "/a",
                            zxid,
                            ChangeKind::CreatedUnread {
                                czxid: Zxid(zxid),
                                ephemeral: None,
                                ctime: None,
                            },
                        ),
                    })
                }
                Some(_) if random.random_ratio(1, 4) => {
                    truth.push(None);
                    Some(deleted("/a", zxid))
                }
                Some(lived) => {
                    truth.push(Some(text.clone()));
                    let version = lived.version + 1;
                    let read = read(lived.czxid, zxid, version, &text);
                    life = Some(Life { version, ..lived });
                    match is_read {
                        true => Some(change("/a", zxid, ChangeKind::Updated { read })),
                        false => {
                            unread.push(Zxid(zxid));
                            None
                        }
                    }
                }
            };
            if let Some(mut record) = record {
                let RecordKind::Change(change) = &mut record.kind else {
                    unreachable!("every record is a change");
                };
                if capture == Capture::Honest {
                    change.missed = Some(unread.len() as u64);
                    if random.random_ratio(3, 4) {
                        change.superseded.clone_from(&unread);
                    }
                }
                unread.clear();
                batch.push(record);
            }
        }
        // Records are captured together, after the reads of the batch.
        let captured = Timestamp(time_of(truth.len() as u64));
        records.extend(batch.into_iter().map(|record| Append { captured, ..record }));
    }
    (truth, records)
}

pub(super) fn journalled(records: Vec<Append>, last: u64) -> Scratch {
    let mut scratch = Scratch::with(records);
    let progress = Progress {
        reported: Zxid(last),
        listed: true,
        run: None,
    };
    scratch
        .journal
        .set_progress(&ZnodePath::slash(), &progress)
        .unwrap();
    scratch.journal.commit().unwrap();
    scratch
}

/// The first answer that claims more than the truth; and how many answers were certain.
fn first_lie(query: &JournalQuery, truth: &Truth) -> (Option<String>, u64) {
    let now = Timestamp(time_of(truth.len() as u64 + 10));
    let mut certain = 0;
    for (zxid, value) in truth.iter().enumerate() {
        let zxid = zxid as u64;
        for position in [
            Position::Zxid(Zxid(zxid)),
            Position::Time(Timestamp(time_of(zxid))),
        ] {
            let Some(answer) = query.as_of(&path("/a"), position, now).unwrap() else {
                return (Some(format!("{position:?}: nothing is known")), certain);
            };
            let data = answer
                .data
                .as_ref()
                .map(|data| String::from_utf8_lossy(&data.bytes).into_owned());
            if answer.certain && (answer.exists != Some(value.is_some()) || data != *value) {
                return (
                    Some(format!("{position:?}: {answer:?} and not {value:?}")),
                    certain,
                );
            }
            certain += u64::from(answer.certain);
        }
    }
    (None, certain)
}

#[test]
fn a_certain_answer_is_the_truth_whatever_the_capture_could_not_read() {
    let mut certain = 0;
    for seed in 0..SEEDS {
        let (truth, records) = play(&mut StdRng::seed_from_u64(seed), Capture::Honest, EVENTS);
        let scratch = journalled(records, truth.len() as u64);
        let (lie, known) = first_lie(&scratch.query(), &truth);
        assert_eq!(lie, None, "seed {seed}");
        certain += known;
    }
    // Not by never being certain.
    assert!(certain > SEEDS * EVENTS / 4, "{certain}");
}

#[test]
fn a_capture_that_keeps_silent_about_unread_values_is_caught() {
    let is_caught = |seed| {
        let (truth, records) = play(&mut StdRng::seed_from_u64(seed), Capture::Silent, EVENTS);
        let scratch = journalled(records, truth.len() as u64);
        first_lie(&scratch.query(), &truth).0.is_some()
    };
    let caught = (0..SEEDS).filter(|seed| is_caught(*seed)).count();
    assert!(caught as u64 > SEEDS / 2, "{caught}");
}

/// The answers after each zxid, and at its time.
fn answers(query: &JournalQuery, truth: &Truth) -> Vec<Option<AsOfValue>> {
    let now = Timestamp(time_of(truth.len() as u64 + 10));
    let positions = (0..truth.len() as u64).flat_map(|zxid| {
        [
            Position::Zxid(Zxid(zxid)),
            Position::Time(Timestamp(time_of(zxid))),
        ]
    });
    let ask = |position| query.as_of(&path("/a"), position, now).unwrap();
    positions.map(ask).collect()
}

#[test]
fn a_long_history_has_the_same_answers_and_no_lie_with_waypoints_and_without() {
    for seed in 0..LONG_SEEDS {
        println!("seed {seed}");
        let (truth, records) = play(&mut StdRng::seed_from_u64(seed), Capture::Honest, LONG_EVENTS);
        let scratch = journalled(records, truth.len() as u64);
        let query = scratch.query();
        let waypoints = query
            .reader()
            .unwrap()
            .waypoints(&path("/a"), Seq::ZERO, 100)
            .unwrap();
        assert!(waypoints.len() > 2, "seed {seed}: {waypoints:?}");
        assert_eq!(first_lie(&query, &truth).0, None, "seed {seed}");
        let with = answers(&query, &truth);
        scratch.execute("DELETE FROM waypoint");
        assert!(with == answers(&scratch.query(), &truth), "seed {seed}");
    }
}

#[test]
fn a_waypoint_that_is_no_record_of_the_path_changes_no_answer() {
    let (truth, records) = play(&mut StdRng::seed_from_u64(1), Capture::Honest, LONG_EVENTS);
    let other = (1..).map(|zxid| updated("/b", 1, zxid, "x")).skip(1);
    let first = std::iter::once(created("/b", 1, "x"));
    // The records of `/b` are as old as those of `/a` that they are put between.
    let mixed = records.into_iter().zip(first.chain(other));
    let mixed = mixed.flat_map(|(of_a, mut of_b)| {
        of_b.captured = of_a.captured;
        [of_a, of_b]
    });
    let scratch = journalled(mixed.collect(), truth.len() as u64);
    let right = answers(&scratch.query(), &truth);
    scratch.execute("INSERT OR REPLACE INTO waypoint(seq, path) SELECT seq, (SELECT id FROM path WHERE name = 'a') FROM record");
    assert!(right == answers(&scratch.query(), &truth));
}
