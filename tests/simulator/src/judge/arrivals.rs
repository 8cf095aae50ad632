//! Judges the deliveries to a sink: every record that passes its filter, or a dead letter for it, in order, with
//! repetitions that begin anywhere after the last acknowledged record and skip nothing. If paths may wait on their own,
//! this holds for each path.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Record;
use bridge_core::testing::ModelState;

use crate::sinks::Sink;

/// The records that a sink should have got.
struct Expected<'a> {
    sink: &'a Sink,
    passing: BTreeMap<Seq, &'a Arc<Record>>,
    letters: BTreeSet<Seq>,
}

/// Checks one sink, to which everything journalled must have come.
///
/// # Panics
///
/// When the contract is broken.
pub fn check_arrivals(sink: &Sink, state: &ModelState) {
    let records = &state.model.records;
    let passing = records.iter().filter(|record| sink.filter.passes(record));
    let backlog = state.backlogs.get(&sink.name);
    let letters = backlog.into_iter().flat_map(|backlog| backlog.letters.keys());
    let expected = Expected {
        sink,
        passing: passing.map(|record| (record.seq, record)).collect(),
        letters: letters.copied().collect(),
    };
    expected.check_order();
    expected.check_all_arrived();
    expected.check_last();
}

impl Expected<'_> {
    /// Beside the stream come records that an operator ordered.
    fn is_extra(&self, seq: Seq) -> bool {
        self.sink.orders.extra.contains(&seq)
    }

    /// Whether the stream may skip a record: the destination refused it.
    fn may_be_skipped(&self, seq: Seq) -> bool {
        let has_refused = self.sink.destination.refused.contains(&seq);
        has_refused || self.is_set_aside(seq) || self.is_extra(seq)
    }

    fn is_set_aside(&self, seq: Seq) -> bool {
        self.letters.contains(&seq) || self.sink.orders.dropped.contains(&seq)
    }

    fn check_order(&self) {
        let name = &self.sink.name;
        let orders = &self.sink.orders;
        let has_orders = !orders.extra.is_empty() || !orders.dropped.is_empty();
        let is_by_path = self.sink.destination.defers() || has_orders;
        let mut last: BTreeMap<Option<&ZnodePath>, Seq> = BTreeMap::new();
        for record in &self.sink.destination.arrived {
            let journalled = self.passing.get(&record.seq);
            let journalled =
                journalled.unwrap_or_else(|| panic!("'{name}' got {record:?}, which passes no filter"));
            assert_eq!(
                record, *journalled,
                "'{name}' got another record at {} than the journal has",
                record.seq
            );
            if self.is_extra(record.seq) {
                continue;
            }
            let lane = record.path.as_ref().filter(|_| is_by_path);
            let before = last.insert(lane, record.seq).unwrap_or_default();
            if record.seq <= before {
                continue;
            }
            let mut between = self.passing.range(before.next()..record.seq);
            let skipped = between.find(|(seq, other)| {
                (!is_by_path || other.path == record.path) && !self.may_be_skipped(**seq)
            });
            assert!(
                skipped.is_none(),
                "'{name}' got {} right after {before}: {skipped:?}",
                record.seq
            );
        }
    }

    fn check_all_arrived(&self) {
        let arrived = self.sink.destination.arrived.iter().map(|record| record.seq);
        let arrived: BTreeSet<Seq> = arrived.collect();
        for (seq, record) in &self.passing {
            assert!(
                arrived.contains(seq) || self.is_set_aside(*seq),
                "'{}' never got {record:?}, and it is no dead letter",
                self.sink.name
            );
            assert!(
                !self.sink.destination.refuses(record) || self.is_set_aside(*seq),
                "{record:?} was refused in silence"
            );
        }
    }

    /// After any repetition, the last record of each path is the newest.
    fn check_last(&self) {
        let of_path = |record: &Arc<Record>| (record.path.clone(), record.seq);
        let is_of_stream =
            |record: &&Arc<Record>| !self.is_extra(record.seq) && !self.is_set_aside(record.seq);
        let arrived = self.sink.destination.arrived.iter();
        let last: BTreeMap<_, _> = arrived.filter(is_of_stream).map(of_path).collect();
        let newest: BTreeMap<_, _> = self
            .passing
            .values()
            .copied()
            .filter(is_of_stream)
            .map(of_path)
            .collect();
        assert_eq!(
            last, newest,
            "'{}': the last arrival of each path, and then its newest record",
            self.sink.name
        );
    }
}
