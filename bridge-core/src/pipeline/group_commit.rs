//! Delays a commit under load: a batch that stays open longer takes more changes, which share its sync to disk, its
//! pages and one message to the sinks.
//!
//! It must never delay the delivery of a single change: below [`LOADED`] a batch is committed as soon as nothing waits,
//! or, where no sink would send its records before, so that they are durable when the sinks have waited long enough.

use std::time::{Duration, Instant};

/// The interval of batches under load, and so the wait of a change. The sync takes 0.4 to 5 ms, and more if other
/// programs write. No value is read during a sync, so fewer syncs leave fewer versions overwritten unread.
const APART: Duration = Duration::from_millis(24);

/// Records in a second from which on batches are kept apart: 72 in each.
const LOADED: u64 = 3_000;

/// The most that a batch waits because the sinks let its records wait anyway: whoever looks at the journal itself, as
/// the viewers of the API do, sees a change so much later.
const COMPANY: Duration = Duration::from_millis(4);

/// The part of the sinks' wait that is left for the commit: on most disks it takes no longer.
const FOR_COMMIT: Duration = Duration::from_millis(1);

/// Measured over stretches of at least this length, so that one transaction of many changes is no load.
const STRETCH: Duration = Duration::from_millis(50);

/// The rate of late, and the last batch.
#[derive(Debug)]
pub(super) struct GroupCommit {
    committed: Instant,
    stretch_began: Instant,
    records: u64,
    is_loaded: bool,
}

impl GroupCommit {
    pub(super) fn new(now: Instant) -> GroupCommit {
        GroupCommit {
            committed: now,
            stretch_began: now,
            records: 0,
            is_loaded: false,
        }
    }

    /// A batch of this number of records became durable.
    pub(super) fn committed(&mut self, records: u64, now: Instant) {
        self.committed = now;
        self.records += records;
        let stretch = now.saturating_duration_since(self.stretch_began);
        if stretch >= STRETCH {
            let micros = u64::try_from(stretch.as_micros()).unwrap_or(u64::MAX);
            self.is_loaded = self.records.saturating_mul(1_000_000) >= LOADED.saturating_mul(micros);
            self.stretch_began = now;
            self.records = 0;
        }
    }

    /// Until when a batch that is open since `began` waits for more; `None`: not any more. `linger` is how long every sink
    /// lets a record wait for further ones.
    pub(super) fn wait(&self, began: Instant, linger: Duration, now: Instant) -> Option<Instant> {
        let company = began + linger.saturating_sub(FOR_COMMIT).min(COMPANY);
        let until = match self.is_loaded {
            true => company.max(self.committed + APART),
            false => company,
        };
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Commits `records` every `every`, for a second.
    fn after_a_second(records: u64, every: Duration) -> (GroupCommit, Instant) {
        let began = Instant::now();
        let mut group_commit = GroupCommit::new(began);
        let mut now = began;
        while now < began + Duration::from_secs(1) {
            now += every;
            group_commit.committed(records, now);
        }
        (group_commit, now)
    }

    #[test]
    fn a_batch_waits_for_company_only_while_records_come_fast() {
        let check = |records, every, waits: bool| {
            let (group_commit, now) = after_a_second(records, every);
            let until = group_commit.wait(now, Duration::ZERO, now + MS);
            assert_eq!(until.is_some(), waits, "{records} records every {every:?}");
            assert!(until.is_none_or(|until| until == now + APART));
        };
        check(1, 2 * MS, false);
        check(10, 5 * MS, false);
        check(20, 5 * MS, true);
        check(200, 10 * MS, true);
    }

    #[test]
    fn a_batch_that_is_open_long_enough_and_one_after_a_pause_wait_no_more() {
        let (mut group_commit, now) = after_a_second(200, 5 * MS);
        assert_eq!(group_commit.wait(now, Duration::ZERO, now + APART), None);
        group_commit.committed(1, now + 200 * MS);
        let (began, now) = (now + 200 * MS, now + 201 * MS);
        assert_eq!(
            group_commit.wait(began, Duration::ZERO, now),
            None,
            "nothing came for 200 ms"
        );
    }

    #[test]
    fn a_batch_waits_while_every_sink_would_let_its_records_wait_and_is_durable_before_they_send() {
        let (group_commit, began) = after_a_second(1, 2 * MS);
        let check = |linger, waits: u32| {
            let until = (waits > 0).then(|| began + waits * MS);
            assert_eq!(group_commit.wait(began, linger, began), until, "{linger:?}");
            assert_eq!(
                group_commit.wait(began, linger, began + waits * MS),
                None,
                "{linger:?}"
            );
        };
        check(Duration::ZERO, 0);
        check(MS, 0);
        check(3 * MS, 2);
        check(5 * MS, 4);
        check(Duration::from_secs(3_600), 4);
        // Under load the longer wait counts.
        let (group_commit, began) = after_a_second(200, 5 * MS);
        assert_eq!(group_commit.wait(began, 5 * MS, began), Some(began + APART));
        assert_eq!(
            group_commit.wait(began + APART, 5 * MS, began + APART),
            Some(began + APART + 4 * MS)
        );
    }
}
