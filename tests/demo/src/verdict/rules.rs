//! Rules about all records together.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::number::Zxid;
use bridge_core::record::{Fidelity, Op, Record, ZxidKind};

use super::{Arrival, Repeats, Tree, Verdict};
use crate::expectation::Version;

/// Without compaction and without a filter, the topic has every seq from 1 on.
pub(super) fn holes(verdict: &mut Verdict, firsts: &[&Arrival]) {
    let mut seqs: Vec<u64> = firsts.iter().map(|arrival| arrival.record.seq.0).collect();
    seqs.sort_unstable();
    let mut complaints = Vec::new();
    let mut next = 1;
    for seq in &seqs {
        match seq.cmp(&next) {
            std::cmp::Ordering::Less => complaints.push(format!("two records have seq {seq}")),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => {
                complaints.push(format!("seq {next} to {} did not arrive", seq - 1));
            }
        }
        next = seq + 1;
    }
    let last = seqs.last().copied().unwrap_or_default();
    let expected = format!("seq 1 to {last}");
    verdict.rule(
        "no record is left out",
        (&expected, seqs.len().to_string()),
        complaints,
    );
}

/// A repeated delivery equals the first one.
pub(super) fn repeats(verdict: &mut Verdict, repeats: &Repeats<'_>) {
    let complaints = repeats
        .iter()
        .filter(|(first, again)| first.record != again.record || first.key != again.key)
        .map(|(first, again)| {
            let (id, one, two) = (first.record.id, first.record.seq, again.record.seq);
            format!("two records that differ have the id {id}: seq {one} and seq {two}")
        })
        .collect();
    verdict.rule(
        "repeated deliveries are equal",
        ("the same id", repeats.len().to_string()),
        complaints,
    );
}

/// All records of a path come through one partition, in the order of seq and of the transactions.
pub(super) fn order(verdict: &mut Verdict, arrivals: &[Arrival], firsts: &[&Arrival]) {
    let mut complaints = Vec::new();
    let mut partitions: BTreeMap<&str, i32> = BTreeMap::new();
    for arrival in arrivals {
        let partition = *partitions.entry(&arrival.key).or_insert(arrival.partition);
        if partition != arrival.partition {
            let (key, other) = (&arrival.key, arrival.partition);
            complaints.push(format!(
                "the key {key} is in the partitions {partition} and {other}"
            ));
        }
    }
    let mut last: BTreeMap<&str, &Record> = BTreeMap::new();
    for arrival in firsts {
        let record = &arrival.record;
        let Some(path) = record.path.as_deref() else {
            continue;
        };
        if arrival.key != path {
            complaints.push(format!("a record of {path} has the key {}", arrival.key));
        }
        if let Some(before) = last.insert(path, record) {
            complaints.extend(disorder(path, before, record));
        }
    }
    let paths = last.len();
    verdict.rule(
        "each path's records are in order",
        (&format!("{paths} paths"), paths.to_string()),
        complaints,
    );
}

fn disorder(path: &str, before: &Record, record: &Record) -> Option<String> {
    if record.seq <= before.seq {
        let (one, two) = (before.seq, record.seq);
        return Some(format!("of {path}, seq {one} arrived before seq {two}"));
    }
    let exact = |record: &Record| {
        record
            .zxid
            .filter(|_| record.zxid_kind == ZxidKind::Exact)
            .unwrap_or(Zxid::ZERO)
    };
    let (one, two) = (exact(before), exact(record));
    (two != Zxid::ZERO && two < one).then(|| format!("of {path}, zxid {one} arrived before zxid {two}"))
}

/// Each root is listed once. Each root has a gap around its reconciled records, with their count.
pub(super) fn marks(verdict: &mut Verdict, firsts: &[&Arrival], roots: &[&str]) {
    let mut records: Vec<&Record> = firsts.iter().map(|arrival| &arrival.record).collect();
    records.sort_unstable_by_key(|record| record.seq);
    let (mut complaints, mut complete) = (Vec::new(), 0);
    for root in roots {
        let of_root: Vec<&Record> = records
            .iter()
            .copied()
            .filter(|record| record.root.as_deref() == Some(*root))
            .collect();
        let found = marks_of_root(root, &of_root);
        complete += usize::from(found.is_empty());
        complaints.extend(found);
    }
    let expected = format!("{} roots", roots.len());
    verdict.rule(
        "listing and gap are marked",
        (&expected, complete.to_string()),
        complaints,
    );
}

fn marks_of_root(root: &str, records: &[&Record]) -> Vec<String> {
    let mut complaints = Vec::new();
    for op in [Op::SnapshotBegin, Op::SnapshotEnd] {
        let count = records.iter().filter(|record| record.op == op).count();
        if count != 1 {
            complaints.push(format!("{root} has {count} {} and not 1", op.as_str()));
        }
    }
    let (mut inside, mut differences, mut gaps) = (false, 0, 0);
    for record in records {
        match record.op {
            Op::GapBegin => (inside, differences) = (true, 0),
            Op::GapEnd => {
                let counted = record.gap.as_ref().and_then(|gap| gap.differences);
                if !inside || counted != Some(differences) {
                    complaints.push(format!(
                        "the gap of {root} that ends at seq {} states {counted:?} differences and holds {differences}",
                        record.seq
                    ));
                }
                (inside, gaps) = (false, gaps + 1);
            }
            Op::Create | Op::Update | Op::Delete if record.fidelity == Fidelity::Reconciled => {
                differences += 1;
                if !inside {
                    complaints.push(format!("seq {} is reconciled and in no gap", record.seq));
                }
            }
            _ => {}
        }
    }
    if gaps == 0 {
        complaints.push(format!("{root} has no gap that ended"));
    }
    complaints
}

/// The folded topic equals the tree.
pub(super) fn tree(verdict: &mut Verdict, firsts: &[&Arrival], tree: &Tree) {
    let folded = fold(firsts);
    let paths: BTreeSet<&String> = folded.keys().chain(tree.keys()).collect();
    let complaints = paths
        .iter()
        .filter_map(|path| {
            let difference = Version::difference(folded.get(*path), tree.get(*path))?;
            Some(format!(
                "{path}, folded from the topic, is not as in ZooKeeper: {difference}"
            ))
        })
        .collect();
    verdict.rule(
        "the topic, folded, is the tree",
        (&format!("{} znodes", tree.len()), folded.len().to_string()),
        complaints,
    );
}

fn fold(firsts: &[&Arrival]) -> Tree {
    let mut tree = Tree::new();
    for arrival in firsts {
        let record = &arrival.record;
        let Some(path) = record.path.as_deref() else {
            continue;
        };
        let state = record.after.as_ref().and_then(Version::of);
        match record.op {
            Op::Create | Op::Update | Op::Snapshot => {
                if let Some(version) = state {
                    tree.insert(path.to_owned(), version);
                }
            }
            Op::Delete => {
                tree.remove(path);
            }
            _ => {}
        }
    }
    tree
}
