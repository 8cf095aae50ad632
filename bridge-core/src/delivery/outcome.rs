//! The outcome of a call of `deliver`, checked against its batch. A report that cannot be true is not used.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::{Deferred, DeliverError, Extent, Rejected, SinkError, SinkErrorKind};

/// The outcome of `deliver`, checked against its batch.
pub(super) struct CheckedOutcome {
    pub done: usize,
    pub rejected: Vec<Rejected>,
    pub deferred: Vec<Deferred>,
    pub error: Option<SinkError>,
    pub extent: Extent,
    rejected_at: HashMap<Seq, usize>,
    deferred_at: HashMap<Seq, usize>,
}

impl CheckedOutcome {
    pub fn all(done: usize) -> CheckedOutcome {
        CheckedOutcome {
            done,
            rejected: Vec::new(),
            deferred: Vec::new(),
            error: None,
            extent: Extent::Destination,
            rejected_at: HashMap::new(),
            deferred_at: HashMap::new(),
        }
    }

    /// Why a record was rejected, if it was.
    pub fn rejection(&self, seq: Seq) -> Option<&Rejected> {
        let at = self.rejected_at.get(&seq)?;
        Some(&self.rejected[*at])
    }

    /// Why a record was deferred, if it was.
    pub fn deferral(&self, seq: Seq) -> Option<&Deferred> {
        let at = self.deferred_at.get(&seq)?;
        Some(&self.deferred[*at])
    }

    /// The same outcome with all records that are not done deferred.
    pub fn with_the_rest_deferred(self, rest: Vec<Deferred>, count: usize) -> CheckedOutcome {
        let mut deferred = self.deferred;
        deferred.extend(rest);
        CheckedOutcome {
            done: count,
            deferred_at: places(deferred.iter().map(|one| one.seq)),
            deferred,
            error: None,
            extent: Extent::Destination,
            ..self
        }
    }

    /// A report that cannot be true counts as a failure in which nothing was delivered: a duplicate is allowed, a
    /// lost record is not.
    pub fn checked(error: DeliverError, records: &[Arc<Record>]) -> CheckedOutcome {
        match reason_against(&error, records) {
            None => CheckedOutcome {
                done: error.done,
                rejected_at: places(error.rejected.iter().map(|one| one.seq)),
                deferred_at: places(error.deferred.iter().map(|one| one.seq)),
                rejected: error.rejected,
                deferred: error.deferred,
                error: error.error,
                extent: error.extent,
            },
            Some(reason) => CheckedOutcome {
                error: Some(SinkError::new(
                    SinkErrorKind::Broken,
                    format!("the sink's report cannot be true: {reason}"),
                )),
                ..CheckedOutcome::all(0)
            },
        }
    }
}

fn places(seqs: impl Iterator<Item = Seq>) -> HashMap<Seq, usize> {
    seqs.zip(0..).collect()
}

fn reason_against(error: &DeliverError, records: &[Arc<Record>]) -> Option<String> {
    let DeliverError {
        done,
        rejected,
        deferred,
        error: cause,
        extent: _,
    } = error;
    if *done > records.len() {
        return Some(format!("{done} of {} records done", records.len()));
    }
    if cause.is_none() && *done < records.len() {
        return Some(format!("no error, but {done} of {} records done", records.len()));
    }
    let rejected: Vec<Seq> = rejected.iter().map(|one| one.seq).collect();
    let deferred: Vec<Seq> = deferred.iter().map(|one| one.seq).collect();
    let done = &records[..*done];
    // The records of a run are in the order of their paths.
    let place = places(done.iter().map(|record| record.seq));
    for (seqs, word) in [(&rejected, "rejected"), (&deferred, "deferred")] {
        if let Some(unknown) = seqs.iter().find(|seq| !place.contains_key(*seq)) {
            return Some(format!(
                "record {unknown} {word}, which is not among the done ones"
            ));
        }
        if !seqs.is_sorted_by(|a, b| place[a] < place[b]) {
            return Some(format!("{word} records are not in their order"));
        }
    }
    overtaking(done, &rejected, &deferred)
}

/// Finds a record that is reported as durable after a deferred one of its path.
fn overtaking(done: &[Arc<Record>], rejected: &[Seq], deferred: &[Seq]) -> Option<String> {
    let rejected: HashSet<Seq> = rejected.iter().copied().collect();
    let deferred: HashSet<Seq> = deferred.iter().copied().collect();
    let mut waiting: HashMap<Option<&ZnodePath>, Seq> = HashMap::new();
    for record in done.iter().filter(|_| !deferred.is_empty()) {
        let (seq, path) = (record.seq, record.path.as_ref());
        let (is_deferred, is_rejected) = (deferred.contains(&seq), rejected.contains(&seq));
        if is_deferred && is_rejected {
            return Some(format!("record {seq} both rejected and deferred"));
        }
        match waiting.get(&path) {
            Some(first) if !is_deferred && !is_rejected => {
                return Some(format!("record {seq} durable before {first} of the same path"));
            }
            None if is_deferred => drop(waiting.insert(path, seq)),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::some_records;

    fn checked(done: usize, rejected: &[u64], error: Option<SinkError>) -> CheckedOutcome {
        let rejected = rejected.iter().map(|seq| Rejected::at_once(Seq(*seq), "never"));
        let error = DeliverError {
            done,
            rejected: rejected.collect(),
            error,
            ..DeliverError::default()
        };
        CheckedOutcome::checked(error, &some_records(4, 2))
    }

    /// Four records: 1 and 3 of one path, 2 and 4 of another.
    fn with_deferred(rejected: &[u64], deferred: &[u64]) -> CheckedOutcome {
        let rejected = rejected.iter().map(|seq| Rejected::at_once(Seq(*seq), "never"));
        let deferred = deferred.iter().map(|seq| Deferred {
            seq: Seq(*seq),
            error: SinkError::new(SinkErrorKind::Throttled, "later"),
        });
        let error = DeliverError {
            done: 4,
            rejected: rejected.collect(),
            deferred: deferred.collect(),
            ..DeliverError::default()
        };
        CheckedOutcome::checked(error, &some_records(4, 2))
    }

    #[test]
    fn nothing_may_be_durable_after_a_deferred_record_of_its_path() {
        let check = |rejected: &[u64], deferred: &[u64], refused: Option<&str>| {
            let error = with_deferred(rejected, deferred).error;
            let message = error.map(|error| error.message).unwrap_or_default();
            let is_refused = message.contains("cannot be true");
            assert_eq!(is_refused, refused.is_some(), "{deferred:?}: {message}");
            assert!(message.contains(refused.unwrap_or_default()), "{message}");
        };
        check(&[], &[3], None);
        check(&[], &[1, 3], None);
        check(&[3], &[1], None);
        check(&[], &[1, 2, 3, 4], None);
        check(&[], &[1], Some("record 3 durable before 1 of the same path"));
        check(&[1], &[1, 3], Some("record 1 both rejected and deferred"));
        check(&[], &[3, 1], Some("deferred records are not in their order"));
        check(&[], &[9], Some("record 9 deferred, which is not among"));
    }

    fn unavailable() -> Option<SinkError> {
        Some(SinkError::new(SinkErrorKind::Unavailable, "down"))
    }

    #[test]
    fn a_report_that_can_be_true_is_taken_as_it_is() {
        let outcome = checked(3, &[1, 3], unavailable());
        assert_eq!((outcome.done, outcome.rejected.len()), (3, 2));
        assert_eq!(outcome.error.unwrap().kind, SinkErrorKind::Unavailable);
        assert!(checked(4, &[2], None).error.is_none());
    }

    #[test]
    fn a_report_that_cannot_be_true_counts_as_nothing_delivered() {
        let refused = |done, rejected: &[u64], error, words: &str| {
            let outcome = checked(done, rejected, error);
            assert_eq!((outcome.done, outcome.rejected.len()), (0, 0));
            let error = outcome.error.unwrap();
            assert_eq!(error.kind, SinkErrorKind::Broken);
            assert!(error.message.contains(words), "{error}");
        };
        refused(5, &[], unavailable(), "5 of 4 records done");
        refused(2, &[1], None, "no error, but 2 of 4");
        refused(
            2,
            &[3],
            unavailable(),
            "record 3 rejected, which is not among the done ones",
        );
        refused(3, &[3, 1], unavailable(), "not in their order");
        refused(3, &[1, 1], unavailable(), "not in their order");
    }
}
