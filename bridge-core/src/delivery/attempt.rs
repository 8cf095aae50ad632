//! One call of `deliver`: chooses its records, and applies its outcome to cursor, dead letters and parked records.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::machine::Machine;
use super::options::RejectedPath;
use super::outcome::CheckedOutcome;
use super::retry_queue::AfterFailure;
use super::steps::{FetchedBatch, Parts, StepProgress};
use crate::journal::BacklogChange;
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::{Deferred, Delivery};

/// One call of `deliver`.
#[derive(Debug)]
pub(super) struct Attempt {
    pub delivery: Arc<Delivery>,
    /// Records left out because their path waits, ascending.
    pub held: Vec<BacklogChange>,
    /// The position reached when all of it is delivered; `None` for parked records, which move no cursor.
    pub through: Option<Seq>,
    /// The parts of merged records.
    parts: Parts,
}

/// The progress to store, and the reason to halt the sink.
type Accounted = (Option<StepProgress>, Option<String>);

impl Attempt {
    /// An attempt to deliver parked records.
    pub fn again(records: Vec<Arc<Record>>) -> Attempt {
        Attempt {
            delivery: Arc::new(Delivery { records }),
            held: Vec::new(),
            through: None,
            parts: Parts::default(),
        }
    }
}

impl Machine {
    /// Notes that everything up to a position is handled.
    pub(super) fn reach(&mut self, position: Seq) {
        assert!(
            position >= self.handled,
            "the cursor would go back from {} to {position}",
            self.handled
        );
        self.handled = position;
        if self.merged_through.is_none_or(|through| position >= through) {
            self.cursor = position;
        }
    }

    /// Holds the progress of records back until the end of a merged batch. A switch and the progress of a run are
    /// reported at once.
    pub(super) fn held_to_window_end(&mut self, progress: Option<StepProgress>) -> Option<StepProgress> {
        if self.handled == self.cursor {
            return StepProgress::joined(self.unreported.take(), progress);
        }
        let mut progress = progress?;
        let (switch, run) = (progress.switch.take(), progress.run.take());
        self.unreported = StepProgress::joined(self.unreported.take(), Some(progress));
        (switch.is_some() || run.is_some()).then(|| StepProgress {
            switch,
            run,
            ..self.standing()
        })
    }

    /// The next records of a batch. With `block`, a delivery has one record of a path, so that no record arrives after
    /// a rejected one. Not more than could be parked if the destination deferred all of them.
    pub(super) fn cut(&self, left: &FetchedBatch) -> Attempt {
        let blocks = self.rejects.rejected_path == RejectedPath::Block;
        let mut room = self.parked.room();
        let mut first_of = HashMap::new();
        let mut records = Vec::with_capacity(left.records.len());
        let mut held = Vec::new();
        let mut through = left.through;
        let mut last = self.handled;
        for record in &left.records {
            if room == 0 {
                through = last;
                break;
            }
            if let Some(path) = record.path.as_ref().filter(|_| blocks) {
                if let Some(reason) = self.letters.why_waits(path) {
                    let parts = parts_of(&left.parts, record.seq);
                    held.extend(
                        parts
                            .iter()
                            .map(|seq| rejected(*seq, record, (reason.clone(), 0))),
                    );
                    last = record.seq;
                    continue;
                }
                match first_of.get(path) {
                    None => drop(first_of.insert(path, record.seq)),
                    // A second one would keep the other paths out of every retry.
                    Some(first) if self.is_probing() => {
                        let reason = format!("waits for record {first} of the same path");
                        let parts = parts_of(&left.parts, record.seq);
                        held.extend(parts.iter().map(|seq| parked_after(*seq, record, reason.clone())));
                        room -= 1;
                        last = record.seq;
                        continue;
                    }
                    Some(_) => {
                        through = last;
                        break;
                    }
                }
            }
            room -= 1;
            last = record.seq;
            match self.parked.why_waits(&record.path) {
                Some(reason) => {
                    let parts = parts_of(&left.parts, record.seq);
                    held.extend(parts.iter().map(|seq| parked_after(*seq, record, reason.clone())));
                }
                None => records.push(Arc::clone(record)),
            }
        }
        Attempt {
            delivery: Arc::new(Delivery { records }),
            held,
            through: Some(through),
            parts: Arc::clone(&left.parts),
        }
    }

    /// Moves the cursor to the last record that is done, and no further.
    pub(super) fn account(
        &mut self,
        attempt: &Attempt,
        outcome: &CheckedOutcome,
        now: Duration,
    ) -> Accounted {
        let records = &attempt.delivery.records;
        let (mut done, mut halt) = (outcome.done, None);
        if let Some(first) = outcome.rejected.first().filter(|_| self.halts_on_reject()) {
            done = records.partition_point(|record| record.seq < first.seq);
            halt = Some(format!("record {} was rejected: {}", first.seq, first.reason));
        }
        let is_whole = done == records.len() && outcome.error.is_none();
        let cursor = match (done, attempt.through) {
            (0, _) => return (None, halt),
            (_, Some(through)) if is_whole => through,
            _ => records[done - 1].seq,
        };
        let mut progress = self.standing();
        for record in &records[..done] {
            let parts = parts_of(&attempt.parts, record.seq);
            if let Some(rejection) = outcome.rejection(record.seq) {
                progress
                    .changes
                    .extend(self.reject(&parts, record, (&rejection.reason, rejection.attempts)));
            } else if let Some(deferred) = outcome.deferral(record.seq) {
                progress.changes.extend(self.defer(&parts, record, deferred, now));
            } else {
                progress.count_first(record);
                progress.merged += parts.len() as u64 - 1;
            }
        }
        progress
            .changes
            .extend(self.set_held_aside(attempt.held.clone(), cursor));
        self.reach(cursor);
        progress.cursor = self.cursor;
        (Some(progress), halt)
    }

    /// Makes a new record a dead letter, together with the records that were merged into it.
    fn reject(
        &mut self,
        parts: &[Seq],
        record: &Record,
        (reason, attempts): (&str, u32),
    ) -> Vec<BacklogChange> {
        let letter = |seq: &Seq| {
            self.letters.add(*seq, record.path.clone());
            rejected(*seq, record, (reason.to_owned(), attempts))
        };
        parts.iter().map(letter).collect()
    }

    /// Parks a fresh record, as the first of its path or after another one that was deferred with it. Records that were
    /// merged into it are parked instead of it, as the journal has them.
    fn defer(
        &mut self,
        parts: &[Seq],
        record: &Record,
        deferred: &Deferred,
        now: Duration,
    ) -> Vec<BacklogChange> {
        let path = &record.path;
        let first = match self.parked.why_waits(path) {
            Some(_) => None,
            None => parts.first(),
        };
        let mut changes = Vec::with_capacity(parts.len());
        if let Some(first) = first {
            self.parked.insert(path.clone(), *first);
            match self.parked.failed(path, &deferred.error, now, &mut self.random) {
                AfterFailure::Wait(change) => {
                    self.failed_paths.push(deferred.error.kind);
                    changes.push(change);
                }
                AfterFailure::GiveUp(reason) => {
                    self.parked.remove(path, *first);
                    return self.reject(parts, record, (&reason, 1));
                }
            }
        }
        let reason = self.parked.why_waits(path).unwrap_or_default();
        for seq in &parts[usize::from(first.is_some())..] {
            self.parked.insert(path.clone(), *seq);
            changes.push(parked_after(*seq, record, reason.clone()));
        }
        changes
    }

    /// Stores the records that were left out of a delivery, up to a position, as parked records or dead letters.
    pub(super) fn set_held_aside(&mut self, held: Vec<BacklogChange>, cursor: Seq) -> Vec<BacklogChange> {
        let mut passed = held;
        passed.retain(|change| change.seq() <= cursor);
        for change in &mut passed {
            // The record of its path that was under way was rejected.
            if let BacklogChange::Parked {
                seq,
                path: Some(path),
                ..
            } = change
                && self.rejects.rejected_path == RejectedPath::Block
                && let Some(reason) = self.letters.why_waits(path)
            {
                *change = BacklogChange::Rejected {
                    seq: *seq,
                    path: Some(path.clone()),
                    reason,
                    attempts: 0,
                };
            }
        }
        for change in &passed {
            match change {
                BacklogChange::Rejected { seq, path, .. } => self.letters.add(*seq, path.clone()),
                BacklogChange::Parked { seq, path, .. } => self.parked.insert(path.clone(), *seq),
                BacklogChange::Released(_)
                | BacklogChange::Retried(_)
                | BacklogChange::Dropped(_)
                | BacklogChange::Replayed { .. } => {}
            }
        }
        passed
    }

    /// Applies the outcome for parked records: they are released, become dead letters, or stay parked.
    pub(super) fn account_again(
        &mut self,
        attempt: &Attempt,
        outcome: &CheckedOutcome,
        now: Duration,
    ) -> Accounted {
        let mut progress = self.standing();
        let mut halt = None;
        let mut stuck: HashSet<&Option<ZnodePath>> = HashSet::new();
        for record in &attempt.delivery.records[..outcome.done] {
            if stuck.contains(&record.path) {
                continue;
            }
            let refused = match (outcome.rejection(record.seq), outcome.deferral(record.seq)) {
                (Some(rejection), _) => (rejection.reason.clone(), rejection.attempts),
                (None, Some(deferred)) => {
                    stuck.insert(&record.path);
                    match self
                        .parked
                        .failed(&record.path, &deferred.error, now, &mut self.random)
                    {
                        AfterFailure::Wait(change) => {
                            self.failed_paths.push(deferred.error.kind);
                            progress.changes.push(change);
                            continue;
                        }
                        AfterFailure::GiveUp(reason) => (reason, 1),
                    }
                }
                (None, None) => {
                    match self.parked.is_again(record.seq) {
                        true => progress.count(record),
                        false => progress.count_first(record),
                    }
                    self.parked.remove(&record.path, record.seq);
                    progress.changes.push(BacklogChange::Released(record.seq));
                    continue;
                }
            };
            if self.halts_on_reject() {
                stuck.insert(&record.path);
                halt.get_or_insert(format!("record {} was rejected: {}", record.seq, refused.0));
                continue;
            }
            progress
                .changes
                .extend(self.reject_parked(record, (&refused.0, refused.1)));
        }
        let has_changes = !progress.changes.is_empty();
        (has_changes.then_some(progress), halt)
    }

    /// Makes a parked record a dead letter; with `block` all later ones of its path, too.
    fn reject_parked(&mut self, record: &Record, reason: (&str, u32)) -> Vec<BacklogChange> {
        self.parked.remove(&record.path, record.seq);
        let mut changes = self.reject(&[record.seq], record, reason);
        let Some(path) = record
            .path
            .as_ref()
            .filter(|_| self.rejects.rejected_path == RejectedPath::Block)
        else {
            return changes;
        };
        let reason = self.letters.why_waits(path).unwrap_or_default();
        for seq in self.parked.remove_path(&record.path) {
            self.letters.add(seq, record.path.clone());
            changes.push(BacklogChange::Rejected {
                seq,
                path: record.path.clone(),
                reason: reason.clone(),
                attempts: 0,
            });
        }
        changes
    }

    /// Releases parked records that the journal no longer has: an operator dropped them.
    pub(super) fn release_lost(&mut self, seqs: &[Seq], records: &[Arc<Record>]) -> Option<StepProgress> {
        let is_there = |seq: &Seq| records.binary_search_by_key(seq, |record| record.seq).is_ok();
        let lost: Vec<Seq> = seqs.iter().filter(|seq| !is_there(seq)).copied().collect();
        if lost.is_empty() {
            return None;
        }
        let mut progress = self.standing();
        for seq in lost {
            self.parked.forget(seq);
            progress.changes.push(BacklogChange::Released(seq));
        }
        Some(progress)
    }

    /// Parks dead letters for an attempt at once, as far as there is room. With `block`, earlier ones of the same
    /// paths, too.
    pub(super) fn retry_letters(&mut self, seqs: &[Seq]) -> Option<StepProgress> {
        let blocks = self.rejects.rejected_path == RejectedPath::Block;
        let mut wanted: Vec<Seq> = match blocks {
            true => seqs.iter().flat_map(|seq| self.letters.up_to(*seq)).collect(),
            false => seqs.to_vec(),
        };
        wanted.sort_unstable();
        wanted.dedup();
        let mut progress = self.standing();
        for seq in wanted {
            if self.parked.room() == 0 {
                break;
            }
            if let Some(path) = self.letters.remove(seq) {
                self.parked.insert(path.clone(), seq);
                self.parked.retry_now(&path);
                progress.changes.push(BacklogChange::Retried(seq));
            }
        }
        (!progress.changes.is_empty()).then_some(progress)
    }

    /// Drops dead letters.
    pub(super) fn drop_letters(&mut self, seqs: &[Seq]) -> Option<StepProgress> {
        let mut progress = self.standing();
        for seq in seqs {
            if self.letters.remove(*seq).is_some() {
                progress.changes.push(BacklogChange::Dropped(*seq));
            }
        }
        (!progress.changes.is_empty()).then_some(progress)
    }
}

impl StepProgress {
    /// Counts the first delivery of a record, with its latency.
    fn count_first(&mut self, record: &Record) {
        self.count(record);
        if self.captured.last() != Some(&record.time.captured) {
            self.captured.push(record.time.captured);
        }
    }

    pub(super) fn count(&mut self, record: &Record) {
        let data = record.after.as_ref().and_then(|state| state.data.as_ref());
        self.delivered += 1;
        self.delivered_bytes += data.map_or(0, |data| data.bytes.len() as u64);
    }
}

/// The records that were merged into a record, itself last; only itself if none was.
fn parts_of(parts: &Parts, seq: Seq) -> Vec<Seq> {
    parts.get(&seq).cloned().unwrap_or_else(|| vec![seq])
}

fn rejected(seq: Seq, record: &Record, (reason, attempts): (String, u32)) -> BacklogChange {
    BacklogChange::Rejected {
        seq,
        path: record.path.clone(),
        reason,
        attempts,
    }
}

fn parked_after(seq: Seq, record: &Record, reason: String) -> BacklogChange {
    BacklogChange::Parked {
        seq,
        path: record.path.clone(),
        reason,
        attempts: 0,
        wait: Duration::ZERO,
    }
}
