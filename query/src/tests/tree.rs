//! Random histories of a small tree, with gaps, overwritten values and retention: every answer about a moment is compared
//! with the tree as it was.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::append::{Append, ChangeKind, DeletedAt, RecordKind};
use bridge_core::image_txn::{ImageTxn, Progress};
use bridge_core::journal::{JournalWriter, Position};
use bridge_core::number::{Epoch, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Fidelity, GapReason, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::scratch::{Scratch, change, path, read, time_of};
use crate::JournalQuery;
use crate::answer::{AnswerList, ChildrenQuestion, DiffItem, DiffKind, DiffQuestion};

/// Histories that are played.
const SEEDS: u64 = 4;

/// Transactions of one history.
const TRANSACTIONS: u64 = 110;

/// Transactions before the bridge starts.
const BEFORE: u64 = 12;

const PATHS: [&str; 7] = ["/a", "/a/x", "/a/x/deep", "/a/y", "/b", "/b/x", "/c"];

/// A znode as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Znode {
    czxid: u64,
    mzxid: u64,
    version: i32,
}

impl Znode {
    /// Some writes leave it as it was.
    fn text(&self) -> String {
        format!("v{}", self.mzxid / 2)
    }
}

type Tree = BTreeMap<&'static str, Znode>;

/// The way in which a capture describes the time in which its watch was down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GapMarks {
    /// As gaps, with what it found by comparing.
    Written,
    /// Not at all: the control that the test must catch.
    Hidden,
}

/// A history under way.
struct Play {
    random: StdRng,
    /// The tree after each zxid.
    truth: Vec<Tree>,
    records: Vec<Append>,
    marks: GapMarks,
}

impl Play {
    fn zxid(&self) -> u64 {
        self.truth.len() as u64 - 1
    }

    fn tree(&self) -> &Tree {
        self.truth
            .last()
            .expect("there is a tree before the first transaction")
    }

    /// One transaction of a path that allows one. Returns the path.
    fn transact(&mut self) -> &'static str {
        let zxid = self.zxid() + 1;
        let mut tree = self.tree().clone();
        loop {
            let at = PATHS[self.random.random_range(0..PATHS.len())];
            let parent = path(at).parent().unwrap();
            let has_parent = parent.is_slash() || tree.contains_key(parent.as_str());
            let is_leaf = !tree.keys().any(|other| other.starts_with(&format!("{at}/")));
            match tree.get_mut(at) {
                None if has_parent => {
                    let znode = Znode {
                        czxid: zxid,
                        mzxid: zxid,
                        version: 0,
                    };
                    tree.insert(at, znode);
                }
                None => continue,
                Some(_) if is_leaf && self.random.random_ratio(1, 3) => {
                    tree.remove(at);
                }
                Some(znode) => {
                    znode.mzxid = zxid;
                    znode.version += 1;
                }
            }
            self.truth.push(tree);
            return at;
        }
    }

    /// A record captured now.
    fn push(&mut self, word: RecordKind) {
        self.records.push(Append {
            root: Some(ZnodePath::slash()),
            captured: Timestamp(time_of(self.zxid())),
            word,
        });
    }

    fn push_change(
        &mut self,
        at: &str,
        what: ChangeKind,
        fidelity: Fidelity,
        missed: Option<u64>,
        superseded: &[u64],
    ) {
        let RecordKind::Change(mut record) = change(at, 0, what).word else {
            unreachable!("it is a change");
        };
        record.fidelity = fidelity;
        record.missed = missed;
        record.superseded = superseded.iter().map(|zxid| Zxid(*zxid)).collect();
        self.push(RecordKind::Change(record));
    }

    /// The change of the last transaction, as a watch sees it.
    fn see(&mut self, at: &str, superseded: &[u64]) {
        let zxid = self.zxid();
        let then = &self.truth[self.truth.len() - 2 - superseded.len()];
        let what = match (then.get(at), self.tree().get(at)) {
            (_, None) => ChangeKind::Deleted {
                at: DeletedAt::Exact(Zxid(zxid)),
            },
            (None, Some(znode)) => ChangeKind::Created { read: read_of(znode) },
            (Some(_), Some(znode)) => ChangeKind::Updated { read: read_of(znode) },
        };
        self.push_change(
            at,
            what,
            Fidelity::Exact,
            Some(superseded.len() as u64),
            superseded,
        );
    }

    /// Two writes of an existing znode, of which only the second is read.
    fn overwrite(&mut self) {
        let Some(at) = self.tree().keys().next().copied() else {
            return;
        };
        for _ in 0..2 {
            let mut tree = self.tree().clone();
            let zxid = self.zxid() + 1;
            let znode = tree.get_mut(at).expect("it exists");
            (znode.mzxid, znode.version) = (zxid, znode.version + 1);
            self.truth.push(tree);
        }
        self.see(at, &[self.zxid() - 1]);
    }

    /// Some transactions while the watch is down, and the differences that a walk finds then.
    fn gap(&mut self) {
        let (from, known) = (Zxid(self.zxid()), self.tree().clone());
        let (epoch, reason) = (Epoch(2), GapReason::Disconnected);
        if self.marks == GapMarks::Written {
            self.push(RecordKind::GapBegin {
                epoch,
                from_zxid: from,
                reason,
            });
        }
        for _ in 0..self.random.random_range(1..8) {
            self.transact();
        }
        let (found, end) = (self.tree().clone(), Zxid(self.zxid()));
        let (fidelity, is_hidden) = match self.marks {
            GapMarks::Written => (Fidelity::Reconciled, false),
            GapMarks::Hidden => (Fidelity::Exact, true),
        };
        let missed = |count: i32| {
            Some(if is_hidden {
                0
            } else {
                u64::try_from(count).unwrap()
            })
        };
        for (at, znode) in known.iter().rev() {
            let now = found.get(at);
            if now.is_none_or(|now| now.czxid != znode.czxid) {
                let bound = now.map_or(end, |now| Zxid(now.czxid));
                let at_zxid = match is_hidden {
                    true => DeletedAt::Exact(bound),
                    false => DeletedAt::Bound(bound),
                };
                let missed = is_hidden.then_some(0);
                self.push_change(at, ChangeKind::Deleted { at: at_zxid }, fidelity, missed, &[]);
            }
        }
        for (at, znode) in &found {
            let read = read_of(znode);
            match known.get(at).filter(|known| known.czxid == znode.czxid) {
                None => {
                    let what = ChangeKind::Created { read };
                    self.push_change(at, what, fidelity, missed(znode.version), &[]);
                }
                Some(known) if known.mzxid != znode.mzxid => {
                    let what = ChangeKind::Updated { read };
                    let count = missed(znode.version - known.version - 1);
                    self.push_change(at, what, fidelity, count, &[]);
                }
                Some(_) => {}
            }
        }
        if self.marks == GapMarks::Written {
            self.push(RecordKind::GapEnd {
                epoch,
                from_zxid: from,
                to_zxid: end,
                reason,
                differences: 0,
            });
        }
    }

    /// The first listing.
    fn list(&mut self) {
        let run = Uuid::from_u128(7);
        self.push(RecordKind::RunBegin { run });
        let tree = self.tree().clone();
        for (index, (at, znode)) in (1..).zip(&tree) {
            let read = read_of(znode);
            self.push_change(
                at,
                ChangeKind::Listed { read, run, index },
                Fidelity::Reconciled,
                None,
                &[],
            );
        }
        self.push(RecordKind::RunEnd {
            run,
            index: tree.len() as u64 + 1,
            nodes: tree.len() as u64,
            unreadable: 0,
            zxid: Some(Zxid(self.zxid())),
            is_exact: true,
        });
    }
}

fn read_of(znode: &Znode) -> bridge_core::append::Read {
    read(znode.czxid, znode.mzxid, znode.version, &znode.text())
}

/// A history: the tree after each zxid, and its journal.
fn play(seed: u64, marks: GapMarks) -> (Vec<Tree>, Scratch) {
    let mut play = Play {
        random: StdRng::seed_from_u64(seed),
        truth: vec![Tree::new()],
        records: Vec::new(),
        marks,
    };
    for _ in 0..BEFORE {
        play.transact();
    }
    play.list();
    while play.zxid() < TRANSACTIONS {
        match play.random.random_range(0..20) {
            0 => play.gap(),
            1 => play.overwrite(),
            _ => {
                let at = play.transact();
                play.see(at, &[]);
            }
        }
    }
    let mut scratch = Scratch::with(play.records);
    let progress = Progress {
        reported: Zxid(play.truth.len() as u64 - 1),
        listed: true,
        run: None,
    };
    scratch
        .journal
        .set_progress(&ZnodePath::slash(), &progress)
        .unwrap();
    scratch.journal.commit().unwrap();
    if seed.is_multiple_of(2) {
        scratch.retain_at(TRANSACTIONS);
    }
    (play.truth, scratch)
}

/// A comparison of the answers with the truth: the first lie, and how much was certain.
struct Judge<'a> {
    query: &'a JournalQuery,
    truth: &'a [Tree],
    now: Timestamp,
    certain: u64,
    lie: Option<String>,
}

impl Judge<'_> {
    fn expect(&mut self, is_true: bool, claim: impl FnOnce() -> String) {
        if !is_true && self.lie.is_none() {
            self.lie = Some(claim());
        }
    }

    /// The value of each znode, and the children of each.
    fn judge_moment(&mut self, position: Position, tree: &Tree) {
        for at in PATHS {
            let Some(answer) = self.query.node(&path(at), Some(position), self.now).unwrap() else {
                continue;
            };
            let then = &answer.then;
            let text = then
                .data
                .as_ref()
                .map(|data| String::from_utf8_lossy(&data.bytes).into_owned());
            let actual = tree.get(at);
            self.certain += u64::from(then.certain);
            let is_true = then.exists == Some(actual.is_some()) && text == actual.map(Znode::text);
            self.expect(!then.certain || is_true, || {
                format!("{at} {position:?}: {then:?}, and was {actual:?}")
            });
        }
        for parent in ["/", "/a", "/a/x", "/b"] {
            self.judge_children(position, parent, tree);
        }
    }

    fn judge_children(&mut self, position: Position, parent: &str, tree: &Tree) {
        let parent = path(parent);
        let (mut items, mut unknown, mut cursor) = (Vec::new(), 0, None::<String>);
        let is_certain = loop {
            let question = ChildrenQuestion {
                path: &parent,
                at: Some(position),
                prefix: "",
                after: None,
                cursor: cursor.as_deref(),
                limit: 2,
            };
            let page = self.query.children_at(&question, self.now).unwrap();
            items.extend(page.items);
            unknown += page.unknown;
            cursor = page.next;
            if cursor.is_none() {
                break page.to.certain;
            }
        };
        for item in &items {
            let at = parent.child(&item.name);
            let actual = tree.get(at.as_str());
            let is_true = item.exists == Some(true)
                && actual.map(|znode| Zxid(znode.mzxid)) == item.mzxid
                && actual.map(|znode| znode.version) == item.version;
            self.expect(!item.certain || is_true, || {
                format!("{at} {position:?}: {item:?}, and was {actual:?}")
            });
        }
        let listed: BTreeSet<&str> = items.iter().map(|item| item.name.as_str()).collect();
        for at in tree
            .keys()
            .filter(|at| path(at).parent().as_ref() == Some(&parent))
        {
            let is_listed = listed.contains(path(at).name()) || unknown > 0;
            self.expect(!is_certain || is_listed, || {
                format!("{at} is not among the children at {position:?}")
            });
        }
    }

    fn judge_diff(&mut self, a: u64, b: u64, limit: usize) {
        let (before, after) = (&self.truth[a as usize], &self.truth[b as usize]);
        let pages = self.diff(a, b, limit);
        let is_certain = pages.iter().all(|page| {
            let from = page.from.as_ref().expect("a difference has two moments");
            from.certain && page.to.certain
        });
        let items: Vec<DiffItem> = pages.into_iter().flat_map(|page| page.items).collect();
        let mut listed = BTreeSet::new();
        for item in items {
            let at = item.path.as_str();
            let kind = match (before.get(at), after.get(at)) {
                (None, None) => None,
                (None, Some(_)) => Some(DiffKind::Created),
                (Some(_), None) => Some(DiffKind::Deleted),
                (Some(one), Some(other)) if one.czxid != other.czxid => Some(DiffKind::Recreated),
                (Some(one), Some(other)) if one.mzxid == other.mzxid => None,
                (Some(one), Some(other)) if one.text() == other.text() => Some(DiffKind::Rewritten),
                (Some(_), Some(_)) => Some(DiffKind::Changed),
            };
            self.certain += u64::from(item.kind != DiffKind::Uncertain);
            self.expect(
                item.kind == DiffKind::Uncertain || Some(item.kind) == kind,
                || format!("{a} to {b}: {item:?}, and was {kind:?}"),
            );
            self.expect(listed.insert(at.to_owned()), || format!("{at} is listed twice"));
        }
        for at in PATHS {
            let is_listed = listed.contains(at) || before.get(at) == after.get(at);
            self.expect(!is_certain || is_listed, || {
                format!("{at} differs between {a} and {b} and is not listed")
            });
        }
    }

    fn diff(&self, a: u64, b: u64, limit: usize) -> Vec<AnswerList<DiffItem>> {
        let (mut pages, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let question = DiffQuestion {
                under: &ZnodePath::slash(),
                a: Position::Zxid(Zxid(a)),
                b: Some(Position::Zxid(Zxid(b))),
                kinds: &[],
                cursor: cursor.as_deref(),
                limit,
            };
            let page = self.query.diff(&question, self.now).unwrap();
            assert!(page.items.len() <= limit, "{page:?}");
            cursor.clone_from(&page.next);
            pages.push(page);
            if cursor.is_none() {
                return pages;
            }
        }
    }
}

/// The first lie about a history, and the number of certain answers.
fn judged(seed: u64, marks: GapMarks) -> (Option<String>, u64) {
    let (truth, scratch) = play(seed, marks);
    let query = scratch.query();
    let mut judge = Judge {
        query: &query,
        truth: &truth,
        now: Timestamp(time_of(truth.len() as u64 + 10)),
        certain: 0,
        lie: None,
    };
    // Every second position of some histories, and every fifth of the others.
    let step = if seed < 2 { 2 } else { 5 };
    for (zxid, tree) in (0_u64..).zip(&truth).step_by(step) {
        judge.judge_moment(Position::Zxid(Zxid(zxid)), tree);
        judge.judge_moment(Position::Time(Timestamp(time_of(zxid))), tree);
    }
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..30 {
        let a = random.random_range(0..truth.len() as u64);
        let b = random.random_range(0..truth.len() as u64);
        judge.judge_diff(a, b, random.random_range(1..6));
    }
    (judge.lie, judge.certain)
}

#[test]
fn no_answer_about_a_tree_at_a_moment_claims_more_than_the_truth() {
    let mut certain = 0;
    for seed in 0..SEEDS {
        let (lie, known) = judged(seed, GapMarks::Written);
        assert_eq!(lie, None, "seed {seed}");
        certain += known;
    }
    // Not by never being certain.
    let asked = (SEEDS - 2) * TRANSACTIONS * 2 * PATHS.len() as u64;
    assert!(certain > asked / 2, "{certain} of {asked}");
}

#[test]
fn a_capture_that_hides_its_gaps_is_caught() {
    let caught = (0..SEEDS).filter(|seed| judged(*seed, GapMarks::Hidden).0.is_some());
    let caught = caught.count() as u64;
    assert!(caught >= SEEDS / 2, "{caught}");
}
