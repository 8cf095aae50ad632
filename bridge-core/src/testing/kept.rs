//! The records that the contract suite expects at a destination: every record in its order, or the state after them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::subtrees::folded;
use super::{Arrived, MemoryJournal};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Record, State};

/// Checks that a destination shows the state after all records of a journal.
///
/// # Panics
///
/// If it shows another one.
pub(super) fn assert_present_state(journal: &MemoryJournal, state: &BTreeMap<ZnodePath, Vec<u8>>) {
    let data = |state: State| state.data.map_or(Vec::new(), |data| data.bytes.to_vec());
    let expected: BTreeMap<ZnodePath, Vec<u8>> = folded(&journal.records())
        .into_iter()
        .map(|(path, state)| (path, data(state)))
        .collect();
    assert!(
        *state == expected,
        "the destination shows the znodes {:?}, and these exist: {:?}; or their data differs",
        state.keys(),
        expected.keys()
    );
}

/// Checks what arrived against what was to be delivered: every record is there and equal as JSON; duplicates are
/// equal with the same id; each path has its records in the order of `seq`, where a repetition begins earlier and
/// then skips nothing, up to the last record.
///
/// # Panics
///
/// If a promise is broken.
pub fn assert_kept_contract(expected: &[Arc<Record>], arrived: &[Arrived]) {
    let by_seq: HashMap<Seq, &Record> = expected.iter().map(|record| (record.seq, &**record)).collect();
    let mut written: HashMap<Seq, Arrived> = HashMap::new();
    for one in arrived {
        let record = by_seq
            .get(&one.seq)
            .unwrap_or_else(|| panic!("record {} arrived and was not to be delivered", one.seq));
        let written = written.entry(one.seq).or_insert_with(|| Arrived::of(record));
        assert_eq!(one.id, written.id, "record {} has another id", one.seq);
        assert!(one.json == written.json, "record {} arrived changed", one.seq);
    }
    let mut orders: HashMap<Option<&str>, Vec<Seq>> = HashMap::new();
    for record in expected {
        orders.entry(record.path.as_deref()).or_default().push(record.seq);
    }
    for (path, order) in orders {
        let seen = arrived.iter().map(|one| one.seq).filter(|seq| {
            by_seq
                .get(seq)
                .is_some_and(|record| record.path.as_deref() == path)
        });
        assert_in_order(path, &order, seen);
    }
}

fn assert_in_order(path: Option<&str>, order: &[Seq], seen: impl Iterator<Item = Seq>) {
    let mut next = 0;
    for seq in seen {
        let at = order.binary_search(&seq).expect("it is of this path");
        assert!(
            at <= next,
            "{path:?}: record {seq} arrived before {}",
            order[next]
        );
        next = at + 1;
    }
    let missing = order.get(next);
    assert_eq!(
        missing, None,
        "{path:?}: it never arrived after the records before it"
    );
}
