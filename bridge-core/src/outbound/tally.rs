//! Counts the settled records of a batch, and makes the report of `deliver` from them.

use std::collections::HashMap;

use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::{Deferred, DeliverError, Extent, Rejected, SinkError, SinkErrorKind};

/// The progress of a batch: records are settled from its front, one after another.
///
/// *Invariants.* A record is deferred only beside one that the destination took in the same call. Without such a proof the
/// call fails before the first record that was held, with [`Extent::Unknown`]: the destination may fail as a whole.
#[derive(Debug, Default)]
pub struct Tally {
    done: usize,
    rejected: Vec<Rejected>,
    held: Vec<Deferred>,
    /// The numbers of settled and of rejected records before the first record that was held.
    before_held: Option<(usize, usize)>,
    /// The first record held of each path.
    paths: HashMap<Option<ZnodePath>, (Seq, SinkErrorKind)>,
    took_one: bool,
    /// Durable records with less data than they have.
    pub(super) shrunk: u64,
}

impl Tally {
    /// A batch whose first records became durable in an earlier call.
    pub fn after(done: usize) -> Tally {
        Tally {
            done,
            took_one: done > 0,
            ..Tally::default()
        }
    }

    /// A batch of a destination that showed in another way that it works: records may be deferred.
    pub fn proven() -> Tally {
        Tally {
            took_one: true,
            ..Tally::default()
        }
    }

    /// How many records from the front are settled.
    pub fn done(&self) -> usize {
        self.done
    }

    /// How many records became durable with less data than they have.
    pub fn shrunk(&self) -> u64 {
        self.shrunk
    }

    /// The record at this position is durable.
    pub fn took(&mut self, at: usize) {
        self.took_one = true;
        self.done = at + 1;
    }

    /// The record at this position needs no message.
    pub fn passed(&mut self, at: usize) {
        self.done = at + 1;
    }

    /// The destination will never accept the record at this position.
    pub fn rejected(&mut self, at: usize, seq: Seq, reason: String) {
        self.rejected_after(at, Rejected::at_once(seq, reason));
    }

    /// The same after several attempts.
    pub fn rejected_after(&mut self, at: usize, rejected: Rejected) {
        self.done = at + 1;
        self.rejected.push(rejected);
    }

    /// The destination refused the record at this position for now; those of other paths may be delivered.
    pub fn held(&mut self, at: usize, record: &Record, error: SinkError) {
        self.before_held.get_or_insert((self.done, self.rejected.len()));
        self.done = at + 1;
        let first = (record.seq, error.kind);
        self.paths.entry(record.path.clone()).or_insert(first);
        self.held.push(Deferred {
            seq: record.seq,
            error,
        });
    }

    /// The record at this position waits, as one of its path that is held was before it.
    ///
    /// # Panics
    ///
    /// If no record of its path is held.
    pub fn waits(&mut self, at: usize, record: &Record) {
        let (first, kind) = self.paths[&record.path];
        let error = SinkError::new(kind, format!("it waits for record {first}, which failed"));
        self.held(at, record, error);
    }

    /// The record of this path that is held, after which no other may be sent.
    pub fn holds(&self, path: &Option<ZnodePath>) -> Option<Seq> {
        Some(self.paths.get(path)?.0)
    }

    /// Nothing after the settled records is delivered.
    ///
    /// # Errors
    ///
    /// Always: the report of the call.
    pub fn failed(self, error: SinkError, extent: Extent) -> Result<(), DeliverError> {
        Err(self.report(Some((error, extent))))
    }

    /// Every record is settled.
    ///
    /// # Errors
    ///
    /// The report of the call, where a record was rejected or held.
    pub fn ended(self) -> Result<(), DeliverError> {
        if self.rejected.is_empty() && self.held.is_empty() {
            return Ok(());
        }
        Err(self.report(None))
    }

    /// The report of a call that has ended so; an error is one of the whole destination.
    ///
    /// # Errors
    ///
    /// As of [`Tally::failed`] and [`Tally::ended`].
    pub fn finish(self, delivered: Result<(), SinkError>) -> Result<(), DeliverError> {
        match delivered {
            Ok(()) => self.ended(),
            Err(error) => self.failed(error, Extent::Destination),
        }
    }

    fn report(mut self, failure: Option<(SinkError, Extent)>) -> DeliverError {
        let (done, failure) = match self.before_held.filter(|_| !self.took_one) {
            Some((done, rejected)) => {
                self.rejected.truncate(rejected);
                let first = self
                    .held
                    .drain(..)
                    .next()
                    .map(|first| (first.error, Extent::Unknown));
                (done, failure.or(first))
            }
            None => (self.done, failure),
        };
        let (error, extent) = failure.map_or((None, Extent::Destination), |(error, extent)| {
            (Some(error), extent)
        });
        DeliverError {
            done,
            rejected: self.rejected,
            deferred: self.held,
            error,
            extent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::SinkErrorKind;
    use crate::testing::a_record;

    fn no_topic() -> SinkError {
        SinkError::new(SinkErrorKind::Missing, "no such topic")
    }

    fn down() -> SinkError {
        SinkError::new(SinkErrorKind::Unavailable, "down")
    }

    /// `+` is durable, `x` rejected, `~` held, `-` needs no message.
    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        for (at, letter) in text.chars().enumerate() {
            let record = a_record().seq(at as u64 + 1).path(&format!("/{at}")).build();
            match letter {
                '+' => tally.took(at),
                'x' => tally.rejected(at, record.seq, "never".into()),
                '~' => tally.held(at, &record, no_topic()),
                _ => tally.passed(at),
            }
        }
        tally
    }

    fn said(report: Result<(), DeliverError>) -> (usize, Vec<u64>, Vec<u64>, Option<SinkErrorKind>, Extent) {
        let error = report.unwrap_err();
        (
            error.done,
            error.rejected.iter().map(|one| one.seq.0).collect(),
            error.deferred.iter().map(|one| one.seq.0).collect(),
            error.error.map(|error| error.kind),
            error.extent,
        )
    }

    #[test]
    fn records_are_deferred_beside_one_that_was_taken_and_never_without() {
        let unknown = |done, rejected: &[u64]| {
            let kind = Some(SinkErrorKind::Missing);
            (done, rejected.to_vec(), vec![], kind, Extent::Unknown)
        };
        let settled = |done, rejected: &[u64], deferred: &[u64]| {
            (
                done,
                rejected.to_vec(),
                deferred.to_vec(),
                None,
                Extent::Destination,
            )
        };
        assert!(tally("++-").ended().is_ok());
        assert_eq!(said(tally("+x").ended()), settled(2, &[2], &[]));
        assert_eq!(said(tally("~+x~").ended()), settled(4, &[3], &[1, 4]));
        assert_eq!(said(tally("x~x-~").ended()), unknown(1, &[1]));
        assert_eq!(said(tally("~").ended()), unknown(0, &[]));
    }

    #[test]
    fn a_destination_that_fails_keeps_what_was_settled_before() {
        let report = said(tally("+~x").failed(down(), Extent::Destination));
        let unavailable = Some(SinkErrorKind::Unavailable);
        assert_eq!(report, (3, vec![3], vec![2], unavailable, Extent::Destination));
        let report = said(tally("x~x").failed(down(), Extent::Destination));
        assert_eq!(report, (1, vec![1], vec![], unavailable, Extent::Destination));
    }

    #[test]
    fn a_path_is_held_from_its_first_record_on() {
        let tally = tally("+~");
        assert_eq!(tally.holds(&a_record().path("/1").build().path), Some(Seq(2)));
        assert_eq!(tally.holds(&a_record().path("/0").build().path), None);
    }
}
