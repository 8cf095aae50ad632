//! The end of a worker.

use std::time::Duration;

use super::*;
use crate::sink::SinkErrorKind;
use crate::testing::{Fault, some_records};

#[tokio::test(start_paused = true)]
async fn a_stop_delivers_what_the_journal_holds_and_then_closes() {
    let journal = MemoryJournal::with(some_records(100, 3));
    let destination = MemoryDestination::default();
    let slowly = Fault::RespondSlowly(Duration::from_millis(100));
    let script = FaultScript::new().deliveries([slowly; 10]);
    let mut bench = Bench::at(&journal);

    let mut status = bench.start_scripted("one", &destination, &script, Given::default());
    until(&mut status, "delivering", |status| {
        status.state == Phase::Delivering
    })
    .await;
    bench.stop().await;

    assert_eq!(destination.seqs().len(), 100);
    assert_eq!(journal.cursor("one"), Seq(100));
    assert_eq!(status.borrow().state, Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_does_not_answer_is_left_at_the_drain_bound() {
    let journal = MemoryJournal::with(some_records(100, 3));
    let script = FaultScript::new().deliveries([Fault::None, Fault::HoldResponse]);
    let mut bench = Bench::at(&journal);

    let mut status = bench.start_scripted("one", &MemoryDestination::default(), &script, Given::default());
    until(&mut status, "delivering", |status| status.cursor == Seq(10)).await;
    let began = tokio::time::Instant::now();
    bench.stop().await;

    assert_eq!(began.elapsed(), Given::default().drain);
    assert_eq!(journal.cursor("one"), Seq(10));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_ends_at_once() {
    let journal = MemoryJournal::with(some_records(100, 3));
    let script = FaultScript::new().opens([Some(SinkErrorKind::Full); 100]);
    let mut bench = Bench::at(&journal);

    let mut status = bench.start_scripted("one", &MemoryDestination::default(), &script, Given::default());
    until(&mut status, "backing off", |status| {
        status.state == Phase::BackingOff
    })
    .await;
    let began = tokio::time::Instant::now();
    bench.stop().await;

    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(status.borrow().state, Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn all_workers_of_a_process_are_seen_and_ended_together() {
    let journal = MemoryJournal::with(some_records(30, 3));
    let bench = Bench::at(&journal);
    let mut workers = Workers::new(bench.stop.clone());
    let destinations = [MemoryDestination::default(), MemoryDestination::default()];
    for (name, destination) in ["a", "b"].into_iter().zip(&destinations) {
        let setup = bench.setup(name, Box::new(destination.sink()), Given::default());
        workers.start(Worker::new(setup));
    }

    let ended = workers.stop().await;
    bench.stop().await;

    let seen: Vec<_> = ended.iter().map(|status| (&*status.sink, status.state)).collect();
    assert_eq!(seen, [("a", Phase::Closed), ("b", Phase::Closed)]);
}
