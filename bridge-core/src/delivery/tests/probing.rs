//! Failures of unknown extent: of a path or of the whole destination.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::amount::Patience;
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::{Extent, SinkErrorKind};
use crate::testing::{Fault, a_record};

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

fn record(seq: u64, path: &str) -> Arc<Record> {
    a_record().seq(seq).path(path).arc()
}

/// With the waits of a configuration that says nothing.
fn by_default() -> Given {
    Given {
        retry: Retry::default(),
        ..Given::default()
    }
}

async fn until_passed(status: &mut watch::Receiver<SinkStatus>, seq: u64) -> SinkStatus {
    until(status, "at the record", |status| status.cursor >= Seq(seq)).await
}

#[tokio::test(start_paused = true)]
async fn an_idle_sink_whose_only_record_fails_delivers_other_paths_within_seconds() {
    for failing in [1, 2, 100] {
        let bad = (1..=failing).map(|seq| record(seq, &format!("/bad{seq}")));
        let journal = MemoryJournal::with(bad.collect());
        let destination = MemoryDestination::default();
        let script = FaultScript::new();
        script.fail_paths((1..=failing).map(|seq| path(&format!("/bad{seq}"))));
        let mut bench = Bench::at(&journal);
        let mut status = bench.start_scripted("one", &destination, &script, by_default());
        until(&mut status, "backing off", |status| status.retries > 3).await;

        for seq in failing + 1..=failing + 60 {
            let began = Instant::now();
            journal.append(vec![record(seq, "/good")]);
            until_passed(&mut status, seq).await;
            let took = began.elapsed();
            assert!(took < Duration::from_secs(3), "{failing} failing: {took:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let waiting = status.borrow().parked.clone();
        assert_eq!((waiting.records, waiting.paths), (failing, failing));
        script.accept_all();
        until(&mut status, "without parked records", |status| {
            status.parked.records == 0
        })
        .await;
        bench.stop().await;
        assert_eq!(destination.seqs().len() as u64, failing + 60);
    }
}

#[tokio::test(start_paused = true)]
async fn new_records_of_the_path_that_fails_do_not_hurry_its_retries() {
    let journal = MemoryJournal::with(vec![record(1, "/bad")]);
    let script = FaultScript::new();
    script.fail_paths([path("/bad")]);
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &MemoryDestination::default(), &script, by_default());
    for seq in 2..=600 {
        journal.append(vec![record(seq, "/bad")]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // Ten minutes at 15 s on average.
    assert!(script.failed_alone() < 90, "{} calls", script.failed_alone());
    assert_eq!(status.borrow_and_update().cursor, Seq(0));
    bench.crash();
}

#[tokio::test(start_paused = true)]
async fn a_busy_path_that_fails_cannot_fill_every_retry() {
    let value = vec![b'x'; 100_000];
    let hot = |seq| a_record().seq(seq).path("/hot").after(&value).arc();
    let journal = MemoryJournal::with((1..=400).map(hot).collect());
    journal.append(vec![record(401, "/good")]);
    let destination = MemoryDestination::default();
    let script = FaultScript::new();
    script.fail_paths([path("/hot")]);
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &destination, &script, by_default());

    until_passed(&mut status, 401).await;
    assert_eq!(destination.seqs(), [401]);
    assert_eq!(status.borrow().parked.records, 400);
    script.accept_all();
    until(&mut status, "without parked records", |status| {
        status.parked.records == 0
    })
    .await;
    bench.stop().await;
    assert_eq!(destination.seqs()[1..], (1..=400).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_path_that_blocks_cannot_fill_every_retry_and_keeps_its_order() {
    let mut records: Vec<_> = (1..=30).map(|seq| record(seq, "/bad")).collect();
    records.extend((31..=35).map(|seq| record(seq, &format!("/good{}", seq % 2))));
    let journal = MemoryJournal::with(records);
    let destination = MemoryDestination::default();
    let script = FaultScript::new();
    script.fail_paths([path("/bad")]);
    let mut bench = Bench::at(&journal);
    let given = Given {
        rejects: RejectPolicy {
            rejected_path: RejectedPath::Block,
            ..RejectPolicy::default()
        },
        ..by_default()
    };
    let mut status = bench.start_scripted("one", &destination, &script, given);

    until_passed(&mut status, 35).await;
    // A retry may park a record of another path with them, until it is delivered.
    until(
        &mut status,
        "with parked records of the bad path alone",
        |status| status.parked.records == 30,
    )
    .await;
    assert_eq!(destination.seqs().len(), 5);
    script.accept_all();
    until(&mut status, "without parked records", |status| {
        status.parked.records == 0
    })
    .await;
    bench.stop().await;
    let seqs = destination.seqs();
    let bad: Vec<u64> = seqs.into_iter().filter(|seq| *seq <= 30).collect();
    assert_eq!(bad, (1..=30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn records_that_waited_after_a_rejected_blocking_record_become_dead_letters_with_it() {
    let journal = MemoryJournal::with((1..=6).map(|seq| record(seq, "/bad")).collect());
    let destination = MemoryDestination::default();
    let script = FaultScript::new();
    script.fail_paths([path("/bad")]);
    let mut bench = Bench::at(&journal);
    let given = Given {
        rejects: RejectPolicy {
            rejected_path: RejectedPath::Block,
            ..RejectPolicy::default()
        },
        ..Given::default()
    };
    let mut status = bench.start_scripted("one", &destination, &script, given);
    until(&mut status, "backing off", |status| status.retries > 2).await;

    script.accept_all();
    let script = script.rejects([1]);
    until_passed(&mut status, 6).await;
    bench.stop().await;
    drop(script);
    let letters: Vec<u64> = journal.rejected("one").iter().map(|one| one.seq.0).collect();
    assert_eq!(letters, [1, 2, 3, 4, 5, 6]);
    assert_eq!(destination.seqs(), [0_u64; 0]);
    assert_eq!(journal.parked("one"), [0_u64; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_fails_for_every_path_is_asked_once_a_second_at_most_and_nothing_is_parked() {
    let journal = MemoryJournal::with(vec![record(1, "/p1")]);
    let destination = MemoryDestination::default();
    let script = FaultScript::new();
    script.fail_paths((1..=1200).map(|seq| path(&format!("/p{seq}"))));
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &destination, &script, by_default());
    for seq in 2..=1200 {
        journal.append(vec![record(seq, &format!("/p{seq}"))]);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(
        script.failed_alone() <= 310,
        "{} calls in 300 s",
        script.failed_alone()
    );
    assert_eq!(status.borrow().parked.records, 0);
    script.accept_all();
    until_idle_at(&mut status, 1200).await;
    bench.stop().await;
    assert_eq!(destination.seqs(), (1..=1200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_for_minutes_gets_everything_once_and_in_order() {
    let journal = MemoryJournal::with(vec![record(1, "/a")]);
    let destination = MemoryDestination::default();
    let down = Fault::FailBeforeWrite(SinkErrorKind::Unavailable);
    let script = FaultScript::new().deliveries([down; 30]);
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &destination, &script, by_default());
    let began = Instant::now();
    let mut seq = 1;
    while !script.is_played() {
        seq += 1;
        journal.append(vec![record(seq, ["/a", "/b", "/c"][seq as usize % 3])]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(
        began.elapsed() > Duration::from_secs(120),
        "{:?}",
        began.elapsed()
    );
    let end = until_idle_at(&mut status, seq).await;
    bench.stop().await;
    assert_eq!(destination.seqs(), (1..=seq).collect::<Vec<_>>());
    assert_eq!((end.parked.records, end.dead_letters, end.retries), (0, 0, 30));
}

#[tokio::test(start_paused = true)]
async fn merged_records_that_fail_are_extended_by_the_next_window() {
    let journal = MemoryJournal::with(vec![record(1, "/bad"), record(2, "/bad")]);
    let destination = MemoryDestination::default();
    let script = FaultScript::new();
    script.fail_paths([path("/bad")]);
    let mut bench = Bench::at(&journal);
    let given = Given {
        merge: Some(Duration::from_secs(1)),
        ..by_default()
    };
    let mut status = bench.start_scripted("one", &destination, &script, given);
    until(&mut status, "backing off", |status| status.retries > 3).await;

    let began = Instant::now();
    journal.append(vec![record(3, "/good"), record(4, "/good")]);
    until_passed(&mut status, 4).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(destination.seqs().last(), Some(&4));
    script.accept_all();
    until(&mut status, "without parked records", |status| {
        status.parked.records == 0
    })
    .await;
    bench.stop().await;
    assert_eq!(journal.parked("one"), [0_u64; 0]);
}

/// Starts a sink that took one path of two and parked the other, which fails on, whatever the sink then knows.
async fn beside_a_taken_path(
    bench: &mut Bench,
    (destination, script): (&MemoryDestination, &FaultScript),
    given: Given,
) -> watch::Receiver<SinkStatus> {
    script.fail_paths([path("/bad")]);
    let mut status = bench.start_scripted("one", destination, script, given);
    until(&mut status, "parked", |status| {
        status.cursor == Seq(2) && status.parked.records == 1
    })
    .await;
    status
}

#[tokio::test(start_paused = true)]
async fn a_path_that_fails_beside_a_taken_one_is_tried_less_and_less_often_while_nothing_else_comes() {
    for extent in [Extent::Unknown, Extent::Destination] {
        let journal = MemoryJournal::with(vec![record(1, "/bad"), record(2, "/good")]);
        let destination = MemoryDestination::default();
        let script = FaultScript::new().fails_alone_with(SinkErrorKind::Unavailable, extent);
        let mut bench = Bench::at(&journal);
        let mut status = beside_a_taken_path(&mut bench, (&destination, &script), by_default()).await;

        tokio::time::sleep(Duration::from_secs(600)).await;
        // Some within the first seconds, then at 15 s on average.
        let calls = script.failed_alone();
        assert!(
            (20..90).contains(&calls),
            "{extent:?}: {calls} calls in ten minutes"
        );
        if extent == Extent::Unknown {
            let shown = status.borrow_and_update().clone();
            assert_eq!(
                (shown.state, shown.error),
                (Phase::Idle, None),
                "the sink itself is well"
            );
        }
        script.accept_all();
        until(&mut status, "without parked records", |status| {
            status.parked.records == 0 && status.error.is_none()
        })
        .await;
        bench.stop().await;
        assert_eq!(destination.seqs(), [2, 1], "{extent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_that_fails_beside_a_taken_one_is_given_up_after_its_patience() {
    let journal = MemoryJournal::with(vec![record(1, "/bad"), record(2, "/good")]);
    let destination = MemoryDestination::default();
    let script = FaultScript::new().fails_alone_with(SinkErrorKind::Unavailable, Extent::Unknown);
    let given = Given {
        retry: Retry {
            first: Span::secs(1),
            max: Span::secs(10),
            give_up_after: Patience::After(Span::secs(6)),
        },
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);
    let began = Instant::now();
    let mut status = beside_a_taken_path(&mut bench, (&destination, &script), given).await;

    until(&mut status, "given up", |status| status.dead_letters == 1).await;
    assert!(began.elapsed() < Duration::from_secs(17), "{:?}", began.elapsed());
    bench.stop().await;
    let letters = journal.rejected("one");
    assert!(
        letters[0].reason.starts_with("gave up after retry.give_up_after"),
        "{letters:?}"
    );
    assert_eq!(letters[0].seq, Seq(1));
}

#[tokio::test(start_paused = true)]
async fn a_parked_record_that_fails_with_the_whole_destination_does_not_hurry_the_retries_of_fresh_ones() {
    let journal = MemoryJournal::with(vec![record(1, "/bad"), record(2, "/good")]);
    let destination = MemoryDestination::default();
    let script = FaultScript::new().fails_alone_with(SinkErrorKind::Unavailable, Extent::Unknown);
    let mut bench = Bench::at(&journal);
    let mut status = beside_a_taken_path(&mut bench, (&destination, &script), by_default()).await;

    script.fail_paths([path("/good")]);
    journal.append(vec![record(3, "/good")]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    // Both at 15 s on average.
    assert!(script.failed_alone() < 150, "{} calls", script.failed_alone());
    let shown = status.borrow_and_update().clone();
    assert_eq!(
        (shown.cursor, shown.parked.records),
        (Seq(2), 1),
        "nothing else was parked"
    );
    assert!(
        shown.error.is_some_and(|failure| failure.failures > 10),
        "it is shown"
    );
    script.accept_all();
    until_idle_at(&mut status, 3).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_record_that_the_sink_defers_again_does_not_hurry_the_retries_of_fresh_ones() {
    let journal = MemoryJournal::with(vec![record(1, "/bad"), record(2, "/good")]);
    let destination = MemoryDestination::default();
    let script = FaultScript::new()
        .fails_alone_with(SinkErrorKind::Unavailable, Extent::Unknown)
        .defers([1], u32::MAX);
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &destination, &script, by_default());
    until(&mut status, "parked", |status| {
        status.cursor == Seq(2) && status.parked.records == 1
    })
    .await;

    script.fail_paths([path("/good")]);
    journal.append(vec![record(3, "/good")]);
    until(&mut status, "failing", |status| {
        let failures = status.error.as_ref().map(|failure| failure.failures);
        assert!(status.retries < 100, "{} retries", status.retries);
        failures.is_some_and(|failures| failures > 8)
    })
    .await;
    script.accept_all();
    until_idle_at(&mut status, 3).await;
    bench.stop().await;
}
