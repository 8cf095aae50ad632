//! Failing destinations and journals.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::amount::Patience;
use crate::journal::{JournalError, JournalErrorKind};
use crate::record::Record;
use crate::sink::{DeliverError, Delivery, SinkError, SinkErrorKind};
use crate::testing::{Fault, a_record, some_records};

#[tokio::test(start_paused = true)]
async fn an_unreachable_destination_is_tried_again_until_it_answers() {
    let journal = MemoryJournal::with(some_records(30, 3));
    let destination = MemoryDestination::default();
    let script = FaultScript::new()
        .deliveries([Fault::FailBeforeWrite(SinkErrorKind::Unavailable); 12])
        .opens([Some(SinkErrorKind::Unavailable); 5]);
    let mut bench = Bench::at(&journal);

    let mut status = bench.start_scripted("one", &destination, &script, Given::default());
    let failing = until(&mut status, "failing", |status| {
        status.error.as_ref().is_some_and(|failure| failure.failures == 4)
    })
    .await;
    let end = until_idle_at(&mut status, 30).await;
    bench.stop().await;

    assert_eq!(failing.state, Phase::BackingOff);
    let failure = failing.error.unwrap();
    assert_eq!(failure.kind, SinkFailureKind::Sink(SinkErrorKind::Unavailable));
    assert!(failure.remedy.contains("check that the destination runs"));
    assert_eq!((end.retries, end.error), (17, None));
    assert_eq!(destination.seqs(), (1..=30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_says_when_to_come_back_is_left_alone_until_then_and_an_hour_at_most() {
    let rows = [(90, 90), (3, 3), (86_400, RETRY_AFTER_MAX.as_secs())];
    for (asked, followed) in rows {
        let journal = MemoryJournal::with(some_records(5, 3));
        let destination = MemoryDestination::default();
        let script = FaultScript::new().deliveries([Fault::AskToWait(Duration::from_secs(asked))]);
        let mut bench = Bench::at(&journal);
        let began = tokio::time::Instant::now();

        let mut status = bench.start_scripted("one", &destination, &script, Given::default());
        let waiting = until(&mut status, "waiting", |status| status.error.is_some()).await;
        until_idle_at(&mut status, 5).await;
        bench.stop().await;

        assert_eq!(
            waiting.error.unwrap().retry_after_seconds,
            Some(followed),
            "{asked}"
        );
        let waited = began.elapsed();
        let bound = Duration::from_secs(followed);
        assert!(
            waited >= bound && waited < bound + Duration::from_secs(1),
            "{waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_cannot_shorten_the_wait_of_failures_in_a_row() {
    let journal = MemoryJournal::with(some_records(5, 3));
    let script = FaultScript::new().deliveries([Fault::AskToWait(Duration::ZERO); 30]);
    let given = Given {
        retry: Retry {
            first: Span(Duration::from_secs(10)),
            ..Retry::default()
        },
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);
    let began = tokio::time::Instant::now();

    let mut status = bench.start_scripted("one", &MemoryDestination::default(), &script, given);
    until_idle_at(&mut status, 5).await;
    bench.stop().await;

    // Thirty waits at random below 10, 20, 30, 30 … seconds.
    assert!(
        began.elapsed() > Duration::from_secs(120),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn after_part_of_a_batch_delivery_continues_after_the_cursor() {
    let journal = MemoryJournal::with(some_records(10, 3));
    let destination = MemoryDestination::default();
    let script = FaultScript::new().deliveries([Fault::DropMidwayReported]);
    let mut bench = Bench::at(&journal);

    let mut status = bench.start_scripted("one", &destination, &script, Given::default());
    let half = until(&mut status, "backing off", |status| {
        status.state == Phase::BackingOff
    })
    .await;
    until_idle_at(&mut status, 10).await;
    bench.stop().await;

    assert_eq!(half.cursor, Seq(5));
    assert_eq!(
        destination.seqs(),
        (1..=10).collect::<Vec<_>>(),
        "no record came twice"
    );
}

#[tokio::test(start_paused = true)]
async fn a_halted_sink_stays_visible_and_the_others_go_on() {
    let journal = MemoryJournal::with(some_records(50, 3));
    let (halting, healthy) = (MemoryDestination::default(), MemoryDestination::default());
    let script =
        FaultScript::new().deliveries([Fault::None, Fault::FailBeforeWrite(SinkErrorKind::Configuration)]);
    let mut bench = Bench::at(&journal);

    let mut halted = bench.start_scripted("halting", &halting, &script, Given::default());
    let mut other = bench.start("healthy", Box::new(healthy.sink()), Given::default());
    until_idle_at(&mut other, 50).await;
    let status = until_halted(&mut halted).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(halted.borrow().state, Phase::Halted);
    assert_eq!(halted.borrow().lag_records, 40);
    bench.stop().await;

    assert_eq!(status.cursor, Seq(10));
    let failure = status.error.unwrap();
    assert!(failure.calls_operator && failure.remedy.contains("restart"));
    assert_eq!(journal.cursor("halting"), Seq(10), "the cursor is kept");
}

#[tokio::test(start_paused = true)]
async fn patience_with_a_bound_ends_in_a_halt() {
    let journal = MemoryJournal::with(some_records(3, 1));
    let script = FaultScript::new().opens([Some(SinkErrorKind::Unavailable); 10_000]);
    let given = Given {
        retry: Retry {
            give_up_after: Patience::After(Span(Duration::from_secs(600))),
            ..Retry::default()
        },
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);
    let began = tokio::time::Instant::now();

    let mut status = bench.start_scripted("one", &MemoryDestination::default(), &script, given);
    let halted = until_halted(&mut status).await;

    assert!(began.elapsed() >= Duration::from_secs(600));
    assert!(
        began.elapsed() < Duration::from_secs(640),
        "{:?}",
        began.elapsed()
    );
    let error = halted.error.unwrap();
    assert!(error.message.contains("gave up"), "{error:?}");
    assert!(error.remedy.contains("'zkbridge sink enable NAME'"), "{error:?}");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_halts_alone_and_says_so() {
    let journal = MemoryJournal::with(some_records(20, 3));
    let healthy = MemoryDestination::default();
    let script = FaultScript::new().deliveries([Fault::Panic]);
    let mut bench = Bench::at(&journal);

    let mut broken = bench.start_scripted("broken", &MemoryDestination::default(), &script, Given::default());
    let mut other = bench.start("healthy", Box::new(healthy.sink()), Given::default());
    until_idle_at(&mut other, 20).await;
    let halted = until_halted(&mut broken).await;
    bench.stop().await;

    let failure = halted.error.unwrap();
    assert_eq!(failure.kind, SinkFailureKind::Worker);
    assert!(
        failure.message.contains("a scripted panic"),
        "{}",
        failure.message
    );
}

pub(super) fn journal_error(kind: JournalErrorKind) -> JournalError {
    JournalError::new(kind, std::path::Path::new("main.journal"), "scripted")
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_tried_again() {
    let journal = MemoryJournal::with(some_records(20, 3));
    journal.fail_reads(vec![
        journal_error(JournalErrorKind::Storage),
        journal_error(JournalErrorKind::InUse),
    ]);
    let destination = MemoryDestination::default();
    let mut bench = Bench::at(&journal);

    let mut status = bench.start("one", Box::new(destination.sink()), Given::default());
    let failing = until(&mut status, "failing", |status| status.error.is_some()).await;
    let end = until_idle_at(&mut status, 20).await;
    bench.stop().await;

    assert_eq!(failing.error.unwrap().kind, SinkFailureKind::Journal);
    assert_eq!((end.retries, end.error), (2, None));
    assert_eq!(destination.seqs(), (1..=20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_journal_halts_its_sinks() {
    let journal = MemoryJournal::with(some_records(20, 3));
    journal.fail_reads(vec![journal_error(JournalErrorKind::Damaged)]);
    let mut bench = Bench::at(&journal);

    let mut status = bench.start(
        "one",
        Box::new(MemoryDestination::default().sink()),
        Given::default(),
    );
    let halted = until_halted(&mut status).await;
    bench.stop().await;

    assert_eq!(halted.error.unwrap().message, "journal main.journal: scripted");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_fails_for_hours_gets_everything_soon_after_its_return_and_nothing_is_parked() {
    let records = some_records(400, 7);
    let journal = MemoryJournal::with(records[..40].to_vec());
    let destination = MemoryDestination::default();
    let refuses = Fault::FailBeforeWrite(SinkErrorKind::Unavailable);
    let script = FaultScript::new().deliveries(std::iter::repeat_n(refuses, 400));
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &destination, &script, Given::default());
    let began = tokio::time::Instant::now();

    for (at, more) in records[40..].chunks(40).enumerate() {
        let failures = 40 * (at as u64 + 1);
        until(&mut status, "failed", |status| status.retries >= failures).await;
        assert_eq!(destination.seqs(), [0_u64; 0]);
        journal.append(more.to_vec());
    }
    until(&mut status, "failed for long", |status| status.retries >= 400).await;
    let failed_for = began.elapsed();
    let returned = tokio::time::Instant::now();
    let end = until_idle_at(&mut status, 400).await;
    bench.stop().await;

    assert!(failed_for > Duration::from_secs(3600), "{failed_for:?}");
    let longest = Retry::default().max.0 * 2;
    assert!(returned.elapsed() <= longest, "{:?}", returned.elapsed());
    assert_eq!((end.parked.records, end.rejected, end.dead_letters), (0, 0, 0));
    assert_eq!(destination.seqs(), (1..=400).collect::<Vec<_>>());
}

/// A destination for all records at once, which the one of `/tree/bad` spoils until one of `/tree/good` follows.
#[derive(Clone, Default)]
struct Spoiled {
    attempts: Arc<AtomicU32>,
    taken: Arc<AtomicU64>,
}

impl Sink for Spoiled {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let last = batch
            .records
            .iter()
            .rev()
            .filter_map(|record| record.path.as_deref());
        let is_spoiled = last.clone().find(|path| path.starts_with("/tree/")) == Some("/tree/bad");
        async move {
            if is_spoiled {
                let error = SinkError::new(SinkErrorKind::Content, "a znode spoils it");
                return Err(DeliverError::after(0, error));
            }
            self.taken
                .fetch_add(batch.records.len() as u64, Ordering::Relaxed);
            Ok(())
        }
        .boxed()
    }

    fn may_correct(&self, record: &Record) -> bool {
        record
            .path
            .as_deref()
            .is_some_and(|path| path.starts_with("/tree/"))
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_may_correct_the_content_is_tried_within_a_second_and_others_hurry_nothing() {
    let record = |seq, path| a_record().seq(seq).path(path).arc();
    let journal = MemoryJournal::with(vec![record(1, "/tree/bad")]);
    let sink = Spoiled::default();
    let slow = Span::secs(3600);
    let given = Given {
        retry: Retry {
            first: slow,
            max: slow,
            ..Retry::default()
        },
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);
    let mut status = bench.start("one", Box::new(sink.clone()), given);
    until(&mut status, "failed", |status| status.retries == 1).await;

    for seq in 2..=40 {
        journal.append(vec![record(seq, "/other")]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        sink.attempts.load(Ordering::Relaxed),
        1,
        "nothing of the tree changed"
    );
    for seq in 41..=80 {
        journal.append(vec![record(seq, "/tree/bad")]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let attempts = sink.attempts.load(Ordering::Relaxed);
    assert!((4..=6).contains(&attempts), "{attempts} attempts in four seconds");
    let began = tokio::time::Instant::now();
    journal.append(vec![record(81, "/tree/good")]);
    until_idle_at(&mut status, 81).await;
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    bench.stop().await;
    assert_eq!(sink.taken.load(Ordering::Relaxed), 81);
}
