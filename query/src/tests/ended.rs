//! Children at a moment, of a parent with many names that exist no more: the answers are those of a look at every name.

use bridge_core::append::{Append, ChangeKind, DeletedAt, RecordKind};
use bridge_core::image_txn::{ImageTxn, Progress};
use bridge_core::journal::{JournalWriter, Position};
use bridge_core::number::{Epoch, Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Fidelity, GapReason, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::scratch::{Scratch, change, created, deleted, path, read, time_of};
use crate::JournalQuery;
use crate::answer::{ChildItem, ChildrenQuestion};

/// Histories that are played.
const SEEDS: u64 = 4;

/// Records of one history.
const RECORDS: usize = 260;

/// Names of children that come and go.
const NAMES: u64 = 40;

/// Each incarnation is shorter than its records say.
const DAMAGE: &str = "UPDATE ended SET born = died - 1, rank = 0";

const RUN: Uuid = Uuid::from_u128(7);

/// A znode that exists.
#[derive(Clone, Copy)]
struct Alive {
    czxid: u64,
    ctime: i64,
    version: i32,
}

struct Play {
    random: StdRng,
    zxid: u64,
    alive: Vec<Option<Alive>>,
}

impl Play {
    /// A record that was captured late or early, now and then.
    fn record(&mut self, at: &str, kind: ChangeKind, fidelity: Fidelity, missed: Option<u64>) -> Append {
        let mut append = change(at, self.zxid, kind);
        if self.random.random_ratio(1, 40) {
            append.captured.0 += self.random.random_range(-100_000..100_000);
        }
        if let RecordKind::Change(change) = &mut append.kind {
            change.fidelity = fidelity;
            change.missed = missed;
        }
        append
    }

    fn read_of(&mut self, alive: Alive) -> bridge_core::append::Read {
        let text = format!("v{}", self.zxid);
        let mut read = read(alive.czxid, self.zxid, alive.version, &text);
        read.stat.ctime = alive.ctime;
        // The clocks of servers differ.
        if self.random.random_ratio(1, 20) {
            read.stat.mtime += self.random.random_range(-40_000..40_000);
        }
        read
    }

    /// A znode that exists from now on.
    fn begun(&mut self, czxid: u64, version: i32) -> Alive {
        let mut ctime = time_of(czxid);
        if self.random.random_ratio(1, 20) {
            ctime += self.random.random_range(-40_000..40_000);
        }
        Alive {
            czxid,
            ctime,
            version,
        }
    }

    fn next(&mut self) -> Append {
        self.zxid += self.random.random_range(1..4);
        match self.random.random_range(0..60) {
            0 => return self.mark(false),
            1 => return self.mark(true),
            // A name above a znode, which has no record of its own.
            2 => return created(&format!("/q/above-{}/x", self.zxid), self.zxid, "x"),
            _ => {}
        }
        // The later ones of many names come late.
        let few = 3 + self.zxid / 14;
        let name = self.random.random_range(0..few.min(NAMES));
        let (at, place) = (format!("/q/n{name}"), usize::try_from(name).unwrap());
        let zxid = Zxid(self.zxid);
        match self.alive[place] {
            None => self.begin(&at, place),
            Some(alive) if self.random.random_ratio(1, 2) => {
                let version = alive.version + 1;
                let alive = Alive { version, ..alive };
                self.alive[place] = Some(alive);
                let read = self.read_of(alive);
                self.record(&at, ChangeKind::Updated { read }, Fidelity::Exact, Some(0))
            }
            Some(_) => {
                self.alive[place] = None;
                let (at_zxid, fidelity) = match self.random.random_range(0..8) {
                    0 => (DeletedAt::Bound(zxid), Fidelity::Reconciled),
                    1 => (DeletedAt::Bound(Zxid(self.zxid + 6)), Fidelity::Reconciled),
                    2 if name < 3 => (DeletedAt::Unknown, Fidelity::Reconciled),
                    _ => (DeletedAt::Exact(zxid), Fidelity::Exact),
                };
                self.record(&at, ChangeKind::Deleted { at: at_zxid }, fidelity, Some(0))
            }
        }
    }

    /// A znode is there, as the capture found it.
    fn begin(&mut self, at: &str, place: usize) -> Append {
        let kind = self.random.random_range(0..12);
        // A znode that came and went unseen.
        if kind == 3 {
            return deleted(at, self.zxid);
        }
        let alive = match kind {
            1 => self.begun(self.zxid.saturating_sub(9), 3),
            _ => self.begun(self.zxid, 0),
        };
        self.alive[place] = Some(alive);
        match kind {
            0 => {
                let ctime = self.random.random_bool(0.5).then_some(Timestamp(alive.ctime));
                let kind = ChangeKind::CreatedUnread {
                    czxid: Zxid(self.zxid),
                    ephemeral: None,
                    ctime,
                };
                self.record(at, kind, Fidelity::Exact, Some(0))
            }
            1 => {
                let read = self.read_of(alive);
                let missed = self.random.random_bool(0.5).then_some(3);
                self.record(at, ChangeKind::Created { read }, Fidelity::Reconciled, missed)
            }
            2 => {
                let read = self.read_of(alive);
                let kind = ChangeKind::Listed {
                    read,
                    run: RUN,
                    index: 1,
                };
                self.record(at, kind, Fidelity::Reconciled, None)
            }
            _ => {
                let read = self.read_of(alive);
                self.record(at, ChangeKind::Created { read }, Fidelity::Exact, Some(0))
            }
        }
    }

    fn mark(&mut self, is_end: bool) -> Append {
        let (epoch, from_zxid, reason) = (Epoch(2), Zxid(self.zxid), GapReason::Disconnected);
        let kind = match is_end {
            false => RecordKind::GapBegin {
                epoch,
                from_zxid,
                reason,
            },
            true => RecordKind::GapEnd {
                epoch,
                from_zxid,
                to_zxid: from_zxid,
                reason,
                differences: 0,
            },
        };
        control(self.zxid, kind)
    }
}

fn control(zxid: u64, kind: RecordKind) -> Append {
    Append {
        root: Some(ZnodePath::slash()),
        captured: Timestamp(time_of(zxid)),
        kind,
    }
}

/// A listed parent whose children come and go, over restarts, and with retention in every second history.
pub(super) fn play(seed: u64) -> (Scratch, u64) {
    let mut play = Play {
        random: StdRng::seed_from_u64(seed),
        zxid: 3,
        alive: vec![None; usize::try_from(NAMES).unwrap()],
    };
    let mut scratch = Scratch::new().with_stretches_of(8);
    let end = RecordKind::RunEnd {
        run: RUN,
        index: 1,
        nodes: 0,
        unreadable: 0,
        zxid: Some(Zxid(2)),
        is_exact: true,
    };
    scratch.append([
        created("/q", 1, "q"),
        control(1, RecordKind::RunBegin { run: RUN }),
        control(2, end),
    ]);
    for at in 0..RECORDS {
        scratch.append([play.next()]);
        if at % 90 == 89 {
            scratch = scratch.reopened();
        }
        if at == RECORDS * 2 / 3 && seed.is_multiple_of(2) {
            scratch.retain_at(play.zxid.saturating_sub(100));
        }
    }
    // No gap is open at the end.
    let last = play.mark(true);
    scratch.append([last]);
    let progress = Progress {
        reported: Zxid(play.zxid),
        listed: true,
        run: None,
    };
    let slash = ZnodePath::slash();
    scratch.journal.set_progress(&slash, &progress).unwrap();
    scratch.journal.commit().unwrap();
    (scratch, play.zxid)
}

/// The children at a moment, those that may have existed unseen, and the number of names that were looked at.
type Children = (Vec<ChildItem>, u64);

fn children(query: &JournalQuery, position: Position, limit: usize, now: Timestamp) -> (Children, u64) {
    let (mut items, mut unknown, mut looked, mut cursor) = (Vec::new(), 0, 0, None::<String>);
    loop {
        let question = ChildrenQuestion {
            path: &path("/q"),
            at: Some(position),
            prefix: "",
            after: None,
            cursor: cursor.as_deref(),
            limit,
        };
        let page = query.children_at(&question, now).unwrap();
        items.extend(page.items);
        unknown += page.unknown;
        looked += page.scanned;
        cursor = page.next;
        if cursor.is_none() {
            return ((items, unknown), looked);
        }
    }
}

/// The answers about all moments, and the number of names that were looked at.
fn answers(scratch: &Scratch, zxid: u64) -> (Vec<Children>, u64) {
    let query = scratch.query();
    let now = Timestamp(time_of(zxid + 1_000));
    let mut looked = 0;
    // Each one is asked after all names, too, which takes long.
    let positions = (0..=zxid).step_by(13).flat_map(|zxid| {
        [
            Position::Zxid(Zxid(zxid)),
            Position::Time(Timestamp(time_of(zxid))),
            Position::Seq(Seq(zxid)),
        ]
    });
    let ask = |position| {
        let limit = if zxid.is_multiple_of(2) { 7 } else { 100 };
        let (found, names) = children(&query, position, limit, now);
        looked += names;
        found
    };
    (positions.map(ask).collect(), looked)
}

/// Rows that a reader takes for those of an older format.
const OLDER: &str = "UPDATE meta SET value = 1000000 WHERE key = 'ended_since'";

#[test]
fn the_children_of_any_moment_are_those_of_a_look_at_every_name() {
    let (mut with, mut without) = (0, 0);
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let (scratch, zxid) = play(seed);
        let findings = scratch
            .query()
            .reader()
            .unwrap()
            .inspect(|_| {})
            .unwrap()
            .findings;
        let of_rows = findings
            .iter()
            .filter(|found| ["ended", "stretches"].contains(&found.subject));
        assert_eq!(of_rows.count(), 0, "seed {seed}: {findings:?}");
        let (found, looked) = answers(&scratch, zxid);
        scratch.execute(OLDER);
        let (expected, all) = answers(&scratch, zxid);
        let differ = found.iter().zip(&expected).position(|(one, other)| one != other);
        if let Some(at) = differ {
            panic!(
                "seed {seed}, position {at}: {:#?} and not {:#?}",
                found[at], expected[at]
            );
        }
        (with, without) = (with + looked, without + all);
    }
    assert!(with < without, "{with} names of {without} were looked at");
}

#[test]
fn rows_that_are_wrong_change_answers_and_are_caught() {
    let is_caught = |seed| {
        let (scratch, zxid) = play(seed);
        let (right, _) = answers(&scratch, zxid);
        scratch.execute(DAMAGE);
        answers(&scratch, zxid).0 != right
    };
    assert!((0..SEEDS).any(is_caught));
}

#[test]
fn dead_names_of_a_queue_are_not_looked_at() {
    let mut scratch = Scratch::new();
    let run_end = RecordKind::RunEnd {
        run: RUN,
        index: 1,
        nodes: 0,
        unreadable: 0,
        zxid: Some(Zxid(2)),
        is_exact: true,
    };
    scratch.append([
        created("/q", 1, "q"),
        control(1, RecordKind::RunBegin { run: RUN }),
        control(2, run_end),
    ]);
    // Five messages wait at the same time.
    let messages = 3_000;
    scratch.append((0..messages).flat_map(|number| {
        let zxid = 10 + 2 * number;
        let begin = created(&format!("/q/m{number:06}"), zxid, "x");
        let end = number
            .checked_sub(5)
            .map(|oldest| deleted(&format!("/q/m{oldest:06}"), zxid + 1));
        std::iter::once(begin).chain(end)
    }));
    let last = 10 + 2 * messages;
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
    let query = scratch.query();
    let now = Timestamp(time_of(last));
    for number in [100, 1_500, 2_900] {
        let zxid = 10 + 2 * number + 1;
        let expected: Vec<String> = (number - 4..=number).map(|at| format!("m{at:06}")).collect();
        for position in [
            Position::Zxid(Zxid(zxid)),
            Position::Time(Timestamp(time_of(zxid))),
        ] {
            let ((items, unknown), looked) = children(&query, position, 100, now);
            let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
            assert_eq!(
                (names, unknown),
                (expected.iter().map(String::as_str).collect(), 0)
            );
            // The creates around a delete show when it was.
            assert!(items.iter().all(|item| item.certain), "{items:?}");
            // Those of two stretches, at most.
            assert!(looked < 600, "{looked} names at {position:?}");
        }
    }
}
