//! The deliveries to a sink, and their times.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::*;
use crate::journal::{JournalError, ReadLimit, RunPage, SinkRun};
use crate::record::Record;
use crate::sink::SinkErrorKind;
use crate::testing::{Fault, MemoryTail, a_record, every_promise, some_records};

#[tokio::test(start_paused = true)]
async fn a_sink_gets_every_record_in_order_and_the_cursor_follows() {
    let journal = MemoryJournal::with(some_records(95, 4));
    let destination = MemoryDestination::default();
    let mut bench = Bench::at(&journal);

    let mut status = bench.start("fast", Box::new(destination.sink()), Given::default());
    let end = until_idle_at(&mut status, 95).await;
    bench.stop().await;

    assert_eq!(destination.seqs(), (1..=95).collect::<Vec<_>>());
    assert_eq!(journal.cursor("fast"), Seq(95));
    assert_eq!((end.delivered, end.lag_records, end.error), (95, 0, None));
    assert_eq!(status.borrow().state, Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_delivered_before_it_is_durable() {
    let journal = MemoryJournal::with(some_records(5, 2));
    let destination = MemoryDestination::default();
    let mut bench = Bench::at(&journal);
    let mut status = bench.start("one", Box::new(destination.sink()), Given::default());
    until_idle_at(&mut status, 5).await;

    // A reader may see what was committed and not synced; also beside a durable record.
    journal.write(some_records(9, 2).split_off(5));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(destination.seqs(), [1, 2, 3, 4, 5]);

    journal.sync();
    until_idle_at(&mut status, 9).await;
    assert_eq!(destination.seqs(), (1..=9).collect::<Vec<_>>());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_never_holds_back_a_fast_one() {
    let journal = MemoryJournal::with(some_records(1000, 9));
    let (slow, fast) = (MemoryDestination::default(), MemoryDestination::default());
    let an_hour = Fault::RespondSlowly(Duration::from_secs(3600));
    let mut bench = Bench::at(&journal);

    let slow_status = bench.start_scripted(
        "slow",
        &slow,
        &FaultScript::new().deliveries([an_hour]),
        Given::default(),
    );
    let mut status = bench.start("fast", Box::new(fast.sink()), Given::default());
    let began = tokio::time::Instant::now();
    until_idle_at(&mut status, 1000).await;

    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(slow_status.borrow().cursor, Seq(0));
    assert_eq!(slow_status.borrow().state, Phase::Delivering);
    bench.crash();
}

/// Counts the reads of the journal.
struct CountedTail(MemoryTail, Arc<AtomicUsize>);

impl Tail for CountedTail {
    fn read(&mut self, after: Seq, limit: ReadLimit) -> Result<Vec<Arc<Record>>, JournalError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.read(after, limit)
    }

    fn recall(&mut self, seqs: &[Seq]) -> Result<Vec<Arc<Record>>, JournalError> {
        self.0.recall(seqs)
    }

    fn snapshot_page(&mut self, run: &SinkRun, limit: ReadLimit) -> Result<RunPage, JournalError> {
        self.0.snapshot_page(run, limit)
    }
}

#[tokio::test(start_paused = true)]
async fn one_batch_is_read_ahead_while_another_is_delivered_and_no_more() {
    let journal = MemoryJournal::with(some_records(1000, 9));
    let reads = Arc::new(AtomicUsize::new(0));
    let script = FaultScript::new().deliveries([Fault::HoldResponse]);
    let sink = Box::new(script.in_front_of(Box::new(MemoryDestination::default().sink())));
    let mut bench = Bench::at(&journal);

    let mut setup = bench.setup("held", sink, Given::default());
    setup.tail = Box::new(CountedTail(journal.tail(), Arc::clone(&reads)));
    let mut status = bench.start_with(setup);
    until(&mut status, "delivering", |status| {
        status.state == Phase::Delivering
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;

    assert_eq!(reads.load(Ordering::SeqCst), 2);
    bench.crash();
}

#[tokio::test(start_paused = true)]
async fn filtered_records_move_the_cursor() {
    let journal = MemoryJournal::with(
        (1..=40)
            .map(|seq| {
                let path = if seq == 25 { "/wanted/x" } else { "/other" };
                a_record().seq(seq).path(path).arc()
            })
            .collect(),
    );
    let destination = MemoryDestination::default();
    let given = Given {
        filter: Filter {
            paths: vec!["/wanted/**".into()],
            ..Filter::default()
        },
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);

    let mut status = bench.start("one", Box::new(destination.sink()), given);
    let end = until_idle_at(&mut status, 40).await;
    bench.stop().await;

    assert_eq!(destination.seqs(), [25]);
    assert_eq!((end.delivered, end.lag_records), (1, 0));
    assert_eq!(journal.cursor("one"), Seq(40));
}

#[tokio::test(start_paused = true)]
async fn a_new_sinks_cursor_is_stored_before_anything_is_delivered() {
    let journal = MemoryJournal::with(some_records(8, 2));
    let script = FaultScript::new().opens([Some(SinkErrorKind::Configuration)]);
    let destination = MemoryDestination::default();
    let mut bench = Bench::at(&journal);

    let sink = Box::new(script.in_front_of(Box::new(destination.sink())));
    let mut setup = bench.setup("new", sink, Given::default());
    setup.cursor = Start::Now.first_cursor(Some(Seq(1)), Seq(8)).cursor;
    let mut status = bench.start_with(setup);
    until_halted(&mut status).await;
    bench.stop().await;

    assert_eq!(journal.cursor("new"), Seq(8));
}

#[tokio::test(start_paused = true)]
async fn the_status_has_the_age_of_the_oldest_undelivered_record() {
    let journal = MemoryJournal::with(vec![a_record().captured_ms(10_000).arc()]);
    let script = FaultScript::new().deliveries([Fault::HoldResponse]);
    let given = Given {
        now_ms: 14_500,
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);

    let mut status = bench.start_scripted("held", &MemoryDestination::default(), &script, given);
    let held = until(&mut status, "delivering", |status| {
        status.state == Phase::Delivering
    })
    .await;

    assert_eq!((held.lag_records, held.lag_seconds), (1, 4.5));
    assert_eq!((held.state.as_str(), held.error), ("delivering", None));
    bench.crash();
}

#[tokio::test(start_paused = true)]
async fn every_metric_of_a_sink_is_reported_under_its_name() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let journal = MemoryJournal::with(some_records(20, 3));
    let script = FaultScript::new()
        .deliveries([Fault::FailBeforeWrite(SinkErrorKind::Throttled)])
        .rejects([20]);
    let mut bench = Bench::at(&journal);

    let mut status = bench.start_scripted("one", &MemoryDestination::default(), &script, Given::default());
    until_idle_at(&mut status, 20).await;
    bench.stop().await;

    let seen: HashMap<String, (Vec<String>, DebugValue)> = snapshots
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let key = key.key();
            let labels = key
                .labels()
                .map(|label| format!("{}={}", label.key(), label.value()));
            (key.name().to_owned(), (labels.collect(), value))
        })
        .collect();
    for (name, ..) in crate::metrics::ALL
        .iter()
        .filter(|(name, ..)| name.contains("_sink_"))
    {
        let (labels, _) = seen
            .get(*name)
            .unwrap_or_else(|| panic!("{name} is not reported"));
        assert!(
            labels.starts_with(&["sink=one".into(), "source=main".into()]),
            "{name}: {labels:?}"
        );
    }
    let value = |name: &str| &seen[name].1;
    assert_eq!(
        value(crate::metrics::SINK_DELIVERED_RECORDS),
        &DebugValue::Counter(19)
    );
    assert_eq!(
        value(crate::metrics::SINK_REJECTED_RECORDS),
        &DebugValue::Counter(1)
    );
    assert_eq!(value(crate::metrics::SINK_RETRIES), &DebugValue::Counter(1));
    assert_eq!(seen[crate::metrics::SINK_RETRIES].0[2], "kind=throttled");
    assert_eq!(
        value(crate::metrics::SINK_CURSOR),
        &DebugValue::Gauge(20.0.into())
    );
}

/// The values of a histogram.
fn values_of(recorder: &DebuggingRecorder, name: &str) -> Vec<f64> {
    let seen = recorder.snapshotter().snapshot().into_vec();
    let of_name = seen.into_iter().find(|(key, ..)| key.key().name() == name);
    match of_name {
        Some((_, _, _, DebugValue::Histogram(values))) => values.into_iter().map(Into::into).collect(),
        other => panic!("{name} is no histogram: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_latency_of_records_is_measured_once_for_each_moment_and_not_again_when_they_are_replayed() {
    let recorder = DebuggingRecorder::new();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let at = |seq, ms| a_record().seq(seq).captured_ms(ms).arc();
    let journal = MemoryJournal::with(vec![at(1, 1_000), at(2, 1_000), at(3, 4_500), at(4, 9_000)]);
    let destination = MemoryDestination::default();
    let given = Given {
        now_ms: 5_000,
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);
    let mut setup = bench.setup("one", Box::new(destination.sink()), given);
    let (orders, received) = mpsc::channel(1);
    setup.orders = received;

    let mut status = bench.start_with(setup);
    until_idle_at(&mut status, 4).await;
    let path = at(1, 0).path.clone();
    orders
        .send(OperatorRequest::Replay(ReplayOrder {
            records: vec![(Seq(1), path)],
            current_to: None,
        }))
        .await
        .unwrap();
    until(&mut status, "replayed", |status| status.delivered == 5).await;
    bench.stop().await;

    // The last one is of a clock that was set back since.
    let values = values_of(&recorder, crate::metrics::SINK_DELIVERY_LATENCY);
    assert_eq!(values, [4.0, 0.5, 0.0]);
    assert_eq!(destination.seqs(), [1, 2, 3, 4, 1]);
}

struct MemoryRig(MemoryDestination);

impl crate::testing::Rig for MemoryRig {
    async fn fresh(&mut self) {
        self.0 = MemoryDestination::default();
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        Box::new(self.0.sink())
    }

    async fn arrived(&mut self) -> Vec<crate::testing::Arrived> {
        let arrived = self.0.arrived();
        arrived
            .iter()
            .map(|record| crate::testing::Arrived::of(record))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_sink_in_memory_keeps_every_promise_of_the_contract() {
    every_promise(&mut MemoryRig(MemoryDestination::default())).await;
}

#[tokio::test(start_paused = true)]
async fn records_that_the_filter_leaves_out_are_counted() {
    let recorder = DebuggingRecorder::new();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let record = |seq: u64| {
        a_record()
            .seq(seq)
            .path(["/a", "/b", "/c"][seq as usize % 3])
            .arc()
    };
    let journal = MemoryJournal::with((1..=90).map(record).collect());
    let destination = MemoryDestination::default();
    let mut bench = Bench::at(&journal);
    let only_b = Given {
        filter: Filter {
            paths: vec!["/b".to_owned()],
            ..Filter::default()
        },
        ..Given::default()
    };
    let mut status = bench.start("one", Box::new(destination.sink()), only_b);
    let end = until_idle_at(&mut status, 90).await;
    bench.stop().await;

    assert_eq!((end.delivered, end.filtered), (30, 60));
    let seen = recorder.snapshotter().snapshot().into_vec();
    let counted = seen
        .into_iter()
        .find(|(key, ..)| key.key().name() == crate::metrics::SINK_FILTERED_RECORDS);
    assert!(
        matches!(counted, Some((_, _, _, DebugValue::Counter(60)))),
        "{counted:?}"
    );
}
