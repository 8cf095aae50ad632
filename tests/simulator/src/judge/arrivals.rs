//! What a sink got: every record that passes its filter or a dead letter for it, in order, with repetitions that begin
//! anywhere behind what was acknowledged and skip nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridge_core::number::Seq;
use bridge_core::record::Record;

use crate::journal::State;
use crate::sinks::Sink;

/// Checks one sink. `is_end`: everything journalled must have arrived.
///
/// # Panics
///
/// When the contract is broken.
pub fn check_arrivals(sink: &Sink, state: &State, is_end: bool) {
    let letters = state.letters.get(&sink.name);
    let is_letter = |seq: Seq| letters.is_some_and(|letters| letters.contains_key(&seq));
    let passing: BTreeMap<Seq, &Arc<Record>> = state
        .model
        .records
        .iter()
        .filter(|record| sink.sieve.passes(record))
        .map(|record| (record.seq, record))
        .collect();
    let mut last = Seq::ZERO;
    let mut arrived = std::collections::BTreeSet::new();
    for record in &sink.arrived {
        let journalled = passing.get(&record.seq);
        let journalled =
            journalled.unwrap_or_else(|| panic!("'{}' got {record:?}, which passes no filter", sink.name));
        assert_eq!(
            record, *journalled,
            "'{}' got another record at {} than the journal has",
            sink.name, record.seq
        );
        if record.seq > last {
            let between = passing.range(last.next()..record.seq);
            let skipped = between
                .map(|(seq, record)| (*seq, record))
                .find(|(seq, record)| !is_letter(*seq) && !sink.refuses(record));
            assert!(
                skipped.is_none(),
                "'{}' got {} right after {last}: {skipped:?}",
                sink.name,
                record.seq
            );
        }
        last = record.seq;
        arrived.insert(record.seq);
    }
    if !is_end {
        return;
    }
    for (seq, record) in &passing {
        let is_there = arrived.contains(seq) || is_letter(*seq);
        assert!(
            is_there,
            "'{}' never got {record:?}, and it is no dead letter",
            sink.name
        );
        assert!(
            !sink.refuses(record) || is_letter(*seq),
            "{record:?} was refused in silence"
        );
    }
}
