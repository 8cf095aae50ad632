//! The retry queue in memory: records that wait for their destination while the sink's cursor moves on, with a queue
//! and a backoff for each path.
//!
//! The records are in the journal only, and their number has a bound.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use rand::Rng;

use super::options::Retry;
use super::policy;
use super::retry_backoff::{Pace, RETRY_AFTER_MAX, RetryBackoff};
use super::sink_failure::with_causes;
use crate::journal::{BacklogChange, ParkedRecord};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Timestamp;
use crate::sink::SinkError;

/// More parked records than this mean that most of the destination does not answer: the sink then waits for it, as it
/// would for any failure, instead of turning the whole stream into parked records. A few MB of memory.
pub const PARKED_MAX: usize = 10_000;

/// Parked records are read whole: at 1 MB before and after each, this is 64 MB at most.
pub const PARKED_AT_ONCE: usize = 32;

/// The most bytes of a reason in memory and journal.
const REASON_BYTES_MAX: usize = 1000;

/// A parked record from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedRetry {
    /// The record.
    pub seq: Seq,
    /// Its path; `None` for a control record.
    pub path: Option<ZnodePath>,
    /// Why it waits.
    pub reason: String,
    /// Attempts in a row that failed.
    pub attempts: u32,
    /// The time since the first of them failed.
    pub failing_for: Duration,
    /// The time until the next one.
    pub wait: Duration,
}

impl QueuedRetry {
    /// A row at this time of day.
    pub fn of(row: ParkedRecord, now: Timestamp) -> QueuedRetry {
        let from_to = |from: Timestamp, to: Timestamp| {
            let ms = to.0.saturating_sub(from.0).max(0);
            Duration::from_millis(ms.unsigned_abs())
        };
        QueuedRetry {
            seq: row.seq,
            path: row.path,
            reason: row.reason,
            attempts: row.attempts,
            failing_for: row.since.map_or(Duration::ZERO, |since| from_to(since, now)),
            wait: from_to(now, row.due),
        }
    }
}

/// A waiting path, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WaitingQueue {
    pub path: Option<ZnodePath>,
    pub seq: Seq,
    pub records: usize,
    pub attempts: u32,
    pub due: Duration,
    pub reason: String,
}

type PathKey = Option<ZnodePath>;

/// The parked records of one sink.
#[derive(Debug)]
pub(super) struct RetryQueue {
    retry: Retry,
    queues: HashMap<PathKey, PathQueue>,
    /// The time of the next attempt of each queue, with its first record, which makes the key unique.
    due: BTreeMap<(Duration, Seq), PathKey>,
    count: usize,
    /// The records that an operator replays.
    again: HashSet<Seq>,
}

#[derive(Debug)]
struct PathQueue {
    seqs: BTreeSet<Seq>,
    backoff: RetryBackoff,
    due: Duration,
    /// Why the first one waits.
    reason: String,
}

/// The result of a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// Another one later.
    Wait(BacklogChange),
    /// Attempts failed for `retry.give_up_after`: the reason for giving up.
    GiveUp(String),
}

impl RetryQueue {
    pub fn new(retry: Retry, waiting: Vec<QueuedRetry>) -> RetryQueue {
        let mut parked = RetryQueue {
            retry,
            queues: HashMap::new(),
            due: BTreeMap::new(),
            count: 0,
            again: HashSet::new(),
        };
        for one in waiting {
            parked.resume(one);
        }
        parked
    }

    /// Loads a record. The first one of a path has the backoff; the others wait after it.
    fn resume(&mut self, one: QueuedRetry) {
        let is_first = !self.queues.contains_key(&one.path);
        let (wait, backoff) = (
            one.wait.min(RETRY_AFTER_MAX),
            RetryBackoff::resumed(self.retry, one.attempts, one.failing_for),
        );
        self.insert(one.path.clone(), one.seq);
        if is_first {
            self.change(&one.path, |queue| {
                queue.backoff = backoff;
                queue.due = wait;
                queue.reason = one.reason;
            });
        }
    }

    /// Records parked.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Paths that wait.
    pub fn paths(&self) -> usize {
        self.queues.len()
    }

    /// How many more may be parked.
    pub fn room(&self) -> usize {
        PARKED_MAX.saturating_sub(self.count)
    }

    /// Why a record of this path has to wait; `None` if it does not.
    pub fn why_waits(&self, path: &PathKey) -> Option<String> {
        let first = self.queues.get(path)?.seqs.first()?;
        Some(format!("waits for record {first} of the same path"))
    }

    /// When the next queue is to be tried.
    pub fn due(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    /// The records to try now, ascending: the first of each queue that is due, and further ones of queues whose last
    /// attempt succeeded. With `one_of_a_path` never more than that.
    pub fn take_due(&self, now: Duration, one_of_a_path: bool) -> Vec<Seq> {
        let mut seqs = Vec::new();
        for key in self.due.range(..=(now, Seq(u64::MAX))).map(|(_, key)| key) {
            let queue = &self.queues[key];
            let many = queue.backoff.failures() == 0 && !one_of_a_path;
            let room = PARKED_AT_ONCE - seqs.len();
            seqs.extend(queue.seqs.iter().take(if many { room } else { room.min(1) }));
            if seqs.len() == PARKED_AT_ONCE {
                break;
            }
        }
        seqs.sort_unstable();
        seqs
    }

    /// Parks a record after others of its path, or as the first one, to be tried at once.
    pub fn insert(&mut self, path: PathKey, seq: Seq) {
        let retry = self.retry;
        let queue = self.queues.entry(path.clone()).or_insert_with(|| PathQueue {
            seqs: BTreeSet::new(),
            backoff: RetryBackoff::new(retry),
            due: Duration::ZERO,
            reason: String::new(),
        });
        let before = queue.seqs.first().map(|first| (queue.due, *first));
        if queue.seqs.insert(seq) {
            self.count += 1;
        }
        let after = queue.seqs.first().map(|first| (queue.due, *first));
        self.place(before, after, &path);
    }

    /// Parks a record that was handled before, to be delivered once more.
    pub fn insert_again(&mut self, path: PathKey, seq: Seq) {
        self.insert(path, seq);
        self.again.insert(seq);
    }

    /// Whether this record of this path is parked.
    pub fn holds(&self, path: &PathKey, seq: Seq) -> bool {
        let queue = self.queues.get(path);
        queue.is_some_and(|queue| queue.seqs.contains(&seq))
    }

    /// Whether a record is one of those.
    pub fn is_again(&self, seq: Seq) -> bool {
        self.again.contains(&seq)
    }

    /// The number of those.
    pub fn again(&self) -> usize {
        self.again.len()
    }

    /// Removes a record that is durable or a dead letter: the next one of its path may be tried at once.
    pub fn remove(&mut self, path: &PathKey, seq: Seq) {
        let Some(queue) = self.queues.get_mut(path) else {
            return;
        };
        let before = queue.seqs.first().map(|first| (queue.due, *first));
        if !queue.seqs.remove(&seq) {
            return;
        }
        self.count -= 1;
        self.again.remove(&seq);
        queue.backoff.succeeded();
        queue.due = Duration::ZERO;
        queue.reason.clear();
        let after = queue.seqs.first().map(|first| (queue.due, *first));
        if after.is_none() {
            self.queues.remove(path);
        }
        self.place(before, after, path);
    }

    /// The paths of these records.
    pub fn paths_of(&self, seqs: &[Seq]) -> HashSet<ZnodePath> {
        let queues = self.queues.iter();
        let holding = queues.filter(|(_, queue)| seqs.iter().any(|seq| queue.seqs.contains(seq)));
        holding.filter_map(|(path, _)| path.clone()).collect()
    }

    /// Forgets a record that the journal no longer has.
    pub fn forget(&mut self, seq: Seq) {
        let holds = |(key, queue): (&PathKey, &PathQueue)| queue.seqs.contains(&seq).then(|| key.clone());
        if let Some(path) = self.queues.iter().find_map(holds) {
            self.remove(&path, seq);
        }
    }

    /// Makes a path due at once.
    pub fn retry_now(&mut self, path: &PathKey) {
        self.change(path, |queue| queue.due = Duration::ZERO);
    }

    /// Removes all records of a path.
    pub fn remove_path(&mut self, path: &PathKey) -> Vec<Seq> {
        let Some(queue) = self.queues.remove(path) else {
            return Vec::new();
        };
        let before = queue.seqs.first().map(|first| (queue.due, *first));
        self.place(before, None, path);
        self.count -= queue.seqs.len();
        self.again.retain(|seq| !queue.seqs.contains(seq));
        queue.seqs.into_iter().collect()
    }

    /// The attempt to deliver the first record of a queue failed.
    pub fn failed(
        &mut self,
        path: &PathKey,
        error: &SinkError,
        now: Duration,
        random: &mut impl Rng,
    ) -> AfterFailure {
        let reason = shortened(with_causes(error));
        let pace = policy::of_sink(error.kind).action.pace().unwrap_or(Pace::Slow);
        let queue = self.queues.get_mut(path).expect("a record that failed is parked");
        let Some(wait) = queue.backoff.failed(pace, now, random) else {
            return AfterFailure::GiveUp(format!("gave up after retry.give_up_after: {reason}"));
        };
        let asked = error.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        let wait = wait.max(asked);
        self.change(path, |queue| {
            queue.due = now + wait;
            queue.reason.clone_from(&reason);
        });
        let queue = &self.queues[path];
        AfterFailure::Wait(BacklogChange::Parked {
            seq: *queue.seqs.first().expect("a queue has records"),
            path: path.clone(),
            reason,
            attempts: queue.backoff.failures(),
            wait,
        })
    }

    /// The queues that are tried next.
    pub fn next_queues(&self, count: usize) -> Vec<WaitingQueue> {
        let next = self.due.iter().take(count);
        next.map(|((due, seq), key)| {
            let queue = &self.queues[key];
            WaitingQueue {
                path: key.clone(),
                seq: *seq,
                records: queue.seqs.len(),
                attempts: queue.backoff.failures(),
                due: *due,
                reason: queue.reason.clone(),
            }
        })
        .collect()
    }

    fn change(&mut self, path: &PathKey, change: impl FnOnce(&mut PathQueue)) {
        let queue = self.queues.get_mut(path).expect("the queue is there");
        let first = *queue.seqs.first().expect("a queue has records");
        let before = (queue.due, first);
        change(queue);
        let after = (queue.due, first);
        self.place(Some(before), Some(after), path);
    }

    fn place(&mut self, before: Option<(Duration, Seq)>, after: Option<(Duration, Seq)>, path: &PathKey) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&before);
        }
        if let Some(after) = after {
            self.due.insert(after, path.clone());
        }
    }
}

fn shortened(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::amount::{Patience, Span};
    use crate::sink::SinkErrorKind;

    fn key(path: &str) -> PathKey {
        Some(ZnodePath::parse(path).unwrap())
    }

    fn parked(records: &[(&str, u64)]) -> RetryQueue {
        let mut parked = RetryQueue::new(Retry::default(), Vec::new());
        for (path, seq) in records {
            parked.insert(key(path), Seq(*seq));
        }
        parked
    }

    fn seqs(seqs: &[Seq]) -> Vec<u64> {
        seqs.iter().map(|seq| seq.0).collect()
    }

    fn fail(parked: &mut RetryQueue, path: &str, now: Duration) -> AfterFailure {
        let error = SinkError::new(SinkErrorKind::Throttled, "later");
        let error = error.retry_after(Duration::from_secs(60));
        parked.failed(&key(path), &error, now, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn a_path_that_failed_is_tried_with_its_first_record_and_one_that_answers_with_many() {
        let mut parked = parked(&[("/a", 1), ("/b", 2), ("/a", 3), ("/b", 4)]);
        fail(&mut parked, "/a", Duration::ZERO);

        assert_eq!(seqs(&parked.take_due(Duration::from_secs(1), false)), [2, 4]);
        assert_eq!(seqs(&parked.take_due(Duration::from_secs(1), true)), [2]);
        assert_eq!(seqs(&parked.take_due(Duration::from_secs(60), false)), [1, 2, 4]);
        assert_eq!(parked.due(), Some(Duration::ZERO));
        parked.remove(&key("/b"), Seq(2));
        parked.remove(&key("/b"), Seq(4));
        assert_eq!(parked.due(), Some(Duration::from_secs(60)));
        assert_eq!((parked.len(), parked.paths()), (2, 1));

        parked.remove(&key("/a"), Seq(1));
        assert_eq!(seqs(&parked.take_due(Duration::ZERO, false)), [3], "at once");
    }

    #[test]
    fn an_older_record_of_a_path_goes_before_those_that_wait() {
        let mut parked = parked(&[("/a", 5)]);
        fail(&mut parked, "/a", Duration::ZERO);
        parked.insert(key("/a"), Seq(3));
        assert_eq!(seqs(&parked.take_due(Duration::from_secs(60), false)), [3]);
        assert_eq!(parked.remove_path(&key("/a")), [Seq(3), Seq(5)]);
        assert_eq!((parked.len(), parked.due()), (0, None));
    }

    #[test]
    fn parked_records_continue_after_a_restart_with_their_waits_and_their_patience() {
        let waiting = |seq, attempts, failing_for, wait| QueuedRetry {
            seq: Seq(seq),
            path: key("/a"),
            reason: "down".into(),
            attempts,
            failing_for: Duration::from_secs(failing_for),
            wait: Duration::from_secs(wait),
        };
        let retry = Retry {
            give_up_after: Patience::After(Span(Duration::from_secs(100))),
            ..Retry::default()
        };
        let mut parked = RetryQueue::new(retry, vec![waiting(1, 7, 90, 20), waiting(2, 0, 0, 0)]);

        assert_eq!(parked.due(), Some(Duration::from_secs(20)));
        assert_eq!(parked.next_queues(9)[0].attempts, 7);
        assert_eq!(parked.next_queues(9)[0].records, 2);
        let verdict = fail(&mut parked, "/a", Duration::from_secs(9));
        assert!(
            matches!(
                verdict,
                AfterFailure::Wait(BacklogChange::Parked { attempts: 8, .. })
            ),
            "{verdict:?}"
        );
        let verdict = fail(&mut parked, "/a", Duration::from_secs(10));
        assert!(
            matches!(&verdict, AfterFailure::GiveUp(reason) if reason.ends_with("later")),
            "{verdict:?}"
        );
    }
}
