//! Chooses the next records of a batch: one request of a path at a time, several paths in parallel. Pure.
//!
//! ```text
//! batch   a1 b1 a2 c1 b2 │gap_end│ a3 c2
//! queue a  a1 ──▶ a2 ──▶  │       │ a3
//! queue b  b1 ──▶ b2 ──▶  │gap_end│            a control record waits for all before it and holds all after it
//! queue c  c1 ──▶         │       │ c2
//! ```
//!
//! The records of a path make a queue. The first one is sent, and the next only when that one is settled. A record that
//! fails holds its own queue and no other. Of the free queues the one with the oldest record is served first, so that
//! with one request at a time everything is sent in the order of the batch.
//!
//! This module must never send a record before an older one of its path is settled.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use bridge_core::record::Record;

/// A body of several records is not made larger than this, so that it fits what servers take by default (1 MB).
const BODY_BYTES_MAX: usize = 900_000;

/// The size of a record without its data, rounded up: two Stats, the path, the other fields.
const RECORD_BYTES: usize = 2_048;

/// The result of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver has it.
    Accepted,
    /// The receiver will never take it.
    Rejected { reason: String, attempts: u32 },
    /// It failed for now, or one of its path before it did.
    Held,
}

/// The records of a batch that are not settled, in queues.
pub(crate) struct PathQueues<'a> {
    records: &'a [Arc<Record>],
    outcomes: Vec<Option<Outcome>>,
    queues: Vec<PathQueue>,
    queue_of: Vec<usize>,
    /// The oldest record of each queue that is free, and some that are out of date: those whose queue is not free, or
    /// whose record is not its queue's oldest any more.
    free: BinaryHeap<Reverse<Turn>>,
    /// For each record.
    turns: Vec<Turn>,
    in_flight: usize,
    /// A control record is in flight.
    is_closed: bool,
    /// A body of several records is not made larger.
    body_bytes: usize,
}

/// When a record goes, among those that may: (control records before it, its rank, its position).
type Turn = (usize, Rank, usize);

/// A path that failed before goes after the others, so that its failures keep no other path from being tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Untried,
    Failed,
    Control,
}

#[derive(Default)]
struct PathQueue {
    waiting: VecDeque<usize>,
    is_busy: bool,
}

/// Positions in the batch that go in one request, ascending.
pub(crate) type Members = Vec<usize>;

impl<'a> PathQueues<'a> {
    /// The queues of a batch. `outcomes` has what is known of each of its records from an earlier attempt, and `has_failed`
    /// says which of them failed then.
    pub(crate) fn new(
        records: &'a [Arc<Record>],
        outcomes: Vec<Option<Outcome>>,
        has_failed: impl Fn(&Record) -> bool,
    ) -> PathQueues<'a> {
        assert_eq!(records.len(), outcomes.len(), "an outcome for each record");
        let mut ids: HashMap<Option<&str>, usize> = HashMap::new();
        let mut queues: Vec<PathQueue> = Vec::new();
        let mut queue_of = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            let queue = *ids.entry(record.path.as_deref()).or_insert_with(|| {
                queues.push(PathQueue::default());
                queues.len() - 1
            });
            queue_of.push(queue);
            if outcomes[at].is_none() {
                queues[queue].waiting.push_back(at);
            }
        }
        let oldest = |queue: &PathQueue| queue.waiting.front().copied();
        let failed: Vec<bool> = queues
            .iter()
            .map(|queue| oldest(queue).is_some_and(|at| has_failed(&records[at])))
            .collect();
        let mut controls = 0;
        let turns: Vec<Turn> = (0..records.len())
            .map(|at| {
                let rank = match failed[queue_of[at]] {
                    _ if records[at].path.is_none() => Rank::Control,
                    true => Rank::Failed,
                    false => Rank::Untried,
                };
                let turn = (controls, rank, at);
                controls += usize::from(rank == Rank::Control);
                turn
            })
            .collect();
        let free = queues
            .iter()
            .filter_map(oldest)
            .map(|at| Reverse(turns[at]))
            .collect();
        PathQueues {
            records,
            outcomes,
            queues,
            queue_of,
            free,
            turns,
            in_flight: 0,
            is_closed: false,
            body_bytes: BODY_BYTES_MAX,
        }
    }

    /// The same where no body may be larger than this.
    pub(crate) fn within(mut self, body_bytes: usize) -> PathQueues<'a> {
        self.body_bytes = self.body_bytes.min(body_bytes);
        self
    }

    /// The records of the next request, at most `most`; `None` if none can be sent before another is settled. A record
    /// for which `alone` holds gets a request of its own.
    pub(crate) fn next(&mut self, most: usize, alone: impl Fn(&Record) -> bool) -> Option<Members> {
        let mut members = Members::new();
        let mut bytes = 0;
        while members.len() < most && !self.is_closed {
            let Some(at) = self.oldest_free() else { break };
            let record = &self.records[at];
            let is_control = record.path.is_none();
            if is_control && (self.in_flight > 0 || !members.is_empty()) {
                break;
            }
            bytes += size(record);
            let goes_alone = is_control || alone(record);
            if !members.is_empty() && (goes_alone || bytes > self.body_bytes) {
                break;
            }
            self.is_closed = is_control;
            self.take(at);
            members.push(at);
            if goes_alone {
                break;
            }
        }
        if members.is_empty() {
            return None;
        }
        members.sort_unstable();
        for at in &members {
            self.queues[self.queue_of[*at]].is_busy = true;
        }
        self.in_flight += 1;
        Some(members)
    }

    /// A request ended, and each of its records has this outcome; `None` for one that has to be sent again, before
    /// all others of its queue.
    pub(crate) fn settle(&mut self, members: &[usize], mut outcome_of: impl FnMut(usize) -> Option<Outcome>) {
        self.in_flight -= 1;
        self.is_closed = false;
        let mut again = Vec::new();
        for at in members {
            self.queues[self.queue_of[*at]].is_busy = false;
            match outcome_of(*at) {
                Some(Outcome::Held) => self.hold(*at),
                // One of its path before it failed in the meantime.
                _ if self.outcomes[*at].is_some() => {}
                Some(outcome) => self.outcomes[*at] = Some(outcome),
                None => again.push(*at),
            }
        }
        for at in again.into_iter().rev() {
            self.queues[self.queue_of[at]].waiting.push_front(at);
        }
        for at in members {
            if let Some(oldest) = self.queues[self.queue_of[*at]].waiting.front() {
                self.free.push(Reverse(self.turns[*oldest]));
            }
        }
    }

    /// The state of each record.
    pub(crate) fn into_outcomes(self) -> Vec<Option<Outcome>> {
        self.outcomes
    }

    /// Holds a record with all after it in its queue.
    fn hold(&mut self, at: usize) {
        self.outcomes[at] = Some(Outcome::Held);
        let waiting = std::mem::take(&mut self.queues[self.queue_of[at]].waiting);
        for later in waiting {
            self.outcomes[later] = Some(Outcome::Held);
        }
    }

    /// The oldest record that may go; stays where it is.
    fn oldest_free(&mut self) -> Option<usize> {
        loop {
            let Reverse((_, _, at)) = *self.free.peek()?;
            let queue = &self.queues[self.queue_of[at]];
            if !queue.is_busy && queue.waiting.front() == Some(&at) {
                return Some(at);
            }
            self.free.pop();
        }
    }

    fn take(&mut self, at: usize) {
        self.free.pop();
        let queue = &mut self.queues[self.queue_of[at]];
        queue.waiting.pop_front();
        if let Some(next) = queue.waiting.front() {
            self.free.push(Reverse(self.turns[*next]));
        }
    }
}

/// About how many bytes the record takes in a body.
fn size(record: &Record) -> usize {
    let of = |state: &Option<bridge_core::record::State>| {
        let data = state.as_ref().and_then(|state| state.data.as_ref());
        // Base64 adds a third, and so do escapes in most texts.
        data.map_or(0, |data| data.bytes.len() / 3 * 4)
    };
    RECORD_BYTES + of(&record.before) + of(&record.after)
}

#[cfg(test)]
mod tests {
    use bridge_core::record::Op;
    use bridge_core::testing::a_record;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// `a`, `b`, … are records of so named paths, `!` is a control record.
    fn batch(text: &str) -> Vec<Arc<Record>> {
        let record = |(at, letter): (usize, char)| {
            let record = a_record().seq(at as u64 + 1);
            match letter {
                '!' => record.control(Op::GapEnd).arc(),
                letter => record.path(&format!("/{letter}")).arc(),
            }
        };
        text.chars().enumerate().map(record).collect()
    }

    fn queues(records: &[Arc<Record>]) -> PathQueues<'_> {
        PathQueues::new(records, vec![None; records.len()], |_| false)
    }

    fn together(_: &Record) -> bool {
        false
    }

    /// All that can go now, request by request.
    fn all_next(queues: &mut PathQueues<'_>, most: usize) -> Vec<Members> {
        std::iter::from_fn(|| queues.next(most, together)).collect()
    }

    fn accept(queues: &mut PathQueues<'_>, members: &[usize]) {
        queues.settle(members, |_| Some(Outcome::Accepted));
    }

    #[test]
    fn a_path_has_one_request_at_a_time_and_the_others_go_beside_it() {
        let records = batch("abacb");
        let mut queues = queues(&records);
        assert_eq!(all_next(&mut queues, 1), [[0], [1], [3]]);
        accept(&mut queues, &[1]);
        assert_eq!(all_next(&mut queues, 1), [[4]]);
        accept(&mut queues, &[0]);
        assert_eq!(all_next(&mut queues, 1), [[2]]);
    }

    #[test]
    fn one_request_at_a_time_keeps_the_order_of_the_batch() {
        let records = batch("abcabc!cba");
        let mut queues = queues(&records);
        for at in 0..records.len() {
            assert_eq!(queues.next(1, together), Some(vec![at]));
            accept(&mut queues, &[at]);
        }
        assert_eq!(queues.next(1, together), None);
    }

    #[test]
    fn a_control_record_waits_for_all_before_it_and_holds_all_after_it() {
        let records = batch("ab!!ab");
        let mut queues = queues(&records);
        assert_eq!(all_next(&mut queues, 1), [[0], [1]]);
        accept(&mut queues, &[1]);
        assert_eq!(queues.next(1, together), None);
        accept(&mut queues, &[0]);
        for control in [2, 3] {
            assert_eq!(all_next(&mut queues, 9), [[control]]);
            accept(&mut queues, &[control]);
        }
        assert_eq!(all_next(&mut queues, 1), [[4], [5]]);
    }

    #[test]
    fn a_failure_holds_its_path_and_no_other() {
        let records = batch("aba!a");
        let mut queues = queues(&records);
        assert_eq!(all_next(&mut queues, 1), [[0], [1]]);
        queues.settle(&[0], |_| Some(Outcome::Held));
        accept(&mut queues, &[1]);
        assert_eq!(all_next(&mut queues, 1), [[3]]);
        accept(&mut queues, &[3]);
        assert_eq!(queues.next(1, together), None);
        let (held, accepted) = (Some(Outcome::Held), Some(Outcome::Accepted));
        let expected = [
            held.clone(),
            accepted.clone(),
            held.clone(),
            accepted.clone(),
            held.clone(),
        ];
        assert_eq!(queues.into_outcomes(), expected);
    }

    #[test]
    fn a_request_of_several_takes_free_paths_in_the_order_of_the_batch() {
        let records = batch("abacabc");
        let mut queues = queues(&records);
        assert_eq!(queues.next(3, together), Some(vec![0, 1, 2]));
        assert_eq!(
            all_next(&mut queues, 9),
            [[3, 6]],
            "the paths of the first are not free"
        );
        accept(&mut queues, &[0, 1, 2]);
        assert_eq!(all_next(&mut queues, 9), [[4, 5]]);
    }

    #[test]
    fn a_suspected_record_is_sent_alone() {
        let records = batch("abcd");
        let mut queues = queues(&records);
        let alone = |record: &Record| matches!(record.path.as_deref(), Some("/b" | "/c"));
        let next = |queues: &mut PathQueues<'_>| queues.next(9, alone);
        assert_eq!(next(&mut queues), Some(vec![0]));
        assert_eq!(next(&mut queues), Some(vec![1]));
        assert_eq!(next(&mut queues), Some(vec![2]));
        assert_eq!(next(&mut queues), Some(vec![3]));
    }

    #[test]
    fn a_record_sent_again_goes_before_the_rest_of_its_path() {
        let records = batch("abab");
        let mut queues = queues(&records);
        assert_eq!(queues.next(3, together), Some(vec![0, 1, 2]));
        queues.settle(&[0, 1, 2], |_| None);
        let mut sent = Vec::new();
        while let Some(members) = queues.next(1, together) {
            accept(&mut queues, &members);
            sent.extend(members);
        }
        assert_eq!(sent, [0, 1, 2, 3]);
    }

    #[test]
    fn a_failure_within_a_request_of_several_holds_the_later_ones_of_its_path() {
        let records = batch("aab");
        let mut queues = queues(&records);
        assert_eq!(queues.next(9, together), Some(vec![0, 1, 2]));
        queues.settle(&[0, 1, 2], |_| Some(Outcome::Held));
        assert_eq!(queues.into_outcomes(), vec![Some(Outcome::Held); 3]);
    }

    #[test]
    fn large_records_share_no_request() {
        let large = |seq, path| a_record().seq(seq).path(path).after(vec![b'x'; 400_000]).arc();
        let records = [large(1, "/a"), large(2, "/b"), large(3, "/c")];
        let mut queues = queues(&records);
        assert_eq!(all_next(&mut queues, 9), [[0], [1], [2]]);
    }

    #[test]
    fn a_path_that_failed_before_goes_after_the_others_and_before_the_next_control_record() {
        let records = batch("abca!ad");
        let has_failed = |record: &Record| record.seq.0 == 1;
        let mut queues = PathQueues::new(&records, vec![None; records.len()], has_failed);
        let mut sent = Vec::new();
        while let Some(members) = queues.next(1, together) {
            accept(&mut queues, &members);
            sent.extend(members);
        }
        assert_eq!(sent, [1, 2, 0, 3, 4, 6, 5]);
    }

    #[test]
    fn settled_records_are_not_sent_again() {
        let records = batch("abc");
        let known = vec![None, Some(Outcome::Accepted), None];
        let mut queues = PathQueues::new(&records, known, |_| false);
        assert_eq!(all_next(&mut queues, 1), [[0], [2]]);
    }

    #[test]
    fn any_order_of_answers_keeps_the_order_of_each_path_and_sends_everything() {
        let letters = "abcda!bcaadb!abcd";
        for seed in 0..2_000u64 {
            let mut random = StdRng::seed_from_u64(seed);
            let records = batch(letters);
            let mut queues = queues(&records);
            let mut in_flight: Vec<Members> = Vec::new();
            let mut settled: Vec<usize> = Vec::new();
            loop {
                let most = random.random_range(1..=4);
                while in_flight.len() < 3 {
                    let Some(members) = queues.next(most, together) else {
                        break;
                    };
                    in_flight.push(members);
                }
                if in_flight.is_empty() {
                    break;
                }
                let members = in_flight.remove(random.random_range(0..in_flight.len()));
                let again = random.random_bool(0.2);
                queues.settle(&members, |_| (!again).then_some(Outcome::Accepted));
                if !again {
                    settled.extend(members);
                }
            }
            assert_eq!(settled.len(), records.len(), "seed {seed}: {settled:?}");
            for queue in "abcd!".chars() {
                let of_queue: Vec<usize> = settled
                    .iter()
                    .copied()
                    .filter(|at| letters.as_bytes()[*at] == queue as u8)
                    .collect();
                assert!(of_queue.is_sorted(), "seed {seed}: {queue} {of_queue:?}");
            }
            for (at, _) in letters.match_indices('!') {
                let place = settled.iter().position(|settled| *settled == at).unwrap();
                assert!(
                    settled[..place].iter().all(|before| *before < at),
                    "seed {seed}: a control record overtook, or was overtaken: {settled:?}"
                );
            }
        }
    }
}
