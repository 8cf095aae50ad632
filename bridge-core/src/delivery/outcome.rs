//! What a call of `deliver` came to, checked against the batch that it was given. A report is never believed where it
//! cannot be true.

use std::sync::Arc;

use crate::record::Record;
use crate::sink::{DeliverError, Rejected, SinkError, SinkErrorKind};

/// What `deliver` came to, checked against the batch.
pub(super) struct Outcome {
    pub done: usize,
    pub rejected: Vec<Rejected>,
    pub error: Option<SinkError>,
}

impl Outcome {
    pub fn all(done: usize) -> Outcome {
        Outcome {
            done,
            rejected: Vec::new(),
            error: None,
        }
    }

    /// A report that cannot be true counts as a failure in which nothing was delivered: a duplicate is allowed, a
    /// lost record is not.
    pub fn checked(error: DeliverError, records: &[Arc<Record>]) -> Outcome {
        match reason_against(&error, records) {
            None => Outcome {
                done: error.done,
                rejected: error.rejected,
                error: error.error,
            },
            Some(reason) => Outcome {
                done: 0,
                rejected: Vec::new(),
                error: Some(SinkError::new(
                    SinkErrorKind::Broken,
                    format!("the sink's report cannot be true: {reason}"),
                )),
            },
        }
    }
}

fn reason_against(error: &DeliverError, records: &[Arc<Record>]) -> Option<String> {
    let DeliverError {
        done,
        rejected,
        error: cause,
    } = error;
    if *done > records.len() {
        return Some(format!("{done} of {} records done", records.len()));
    }
    if cause.is_none() && *done < records.len() {
        return Some(format!("no error, but {done} of {} records done", records.len()));
    }
    let among_done = |rejected: &Rejected| {
        records[..*done]
            .binary_search_by_key(&rejected.seq, |record| record.seq)
            .is_ok()
    };
    if let Some(stranger) = rejected.iter().find(|rejected| !among_done(rejected)) {
        return Some(format!(
            "record {} rejected, which is not among the done ones",
            stranger.seq
        ));
    }
    (!rejected.is_sorted_by(|a, b| a.seq < b.seq)).then(|| "rejected records are not ascending".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Seq;
    use crate::testing::some_records;

    fn checked(done: usize, rejected: &[u64], error: Option<SinkError>) -> Outcome {
        let rejected = rejected.iter().map(|seq| Rejected {
            seq: Seq(*seq),
            reason: "never".into(),
        });
        let error = DeliverError {
            done,
            rejected: rejected.collect(),
            error,
        };
        Outcome::checked(error, &some_records(4, 2))
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
        refused(3, &[3, 1], unavailable(), "not ascending");
        refused(3, &[1, 1], unavailable(), "not ascending");
    }
}
