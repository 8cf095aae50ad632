//! Records that a destination refuses for now, while those of other paths go on.

use std::time::Duration;

use super::*;
use crate::amount::Patience;
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::{Extent, SinkErrorKind};
use crate::testing::{Fault, a_record};

/// Seq 1 to `count` over `/a`, `/b`, `/c` in turn.
fn three_paths(count: u64) -> Vec<Arc<Record>> {
    (1..=count)
        .map(|seq| {
            let path = ["/c", "/a", "/b"][(seq % 3) as usize];
            a_record().seq(seq).path(path).arc()
        })
        .collect()
}

async fn until_all_delivered(status: &mut watch::Receiver<SinkStatus>, tail: u64) -> SinkStatus {
    until(status, "delivered", |status| {
        status.cursor == Seq(tail) && status.parked.records == 0
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_refused_waits_alone_and_in_order() {
    let journal = MemoryJournal::with(three_paths(30));
    let destination = MemoryDestination::default();
    let script = FaultScript::new().defers([4], 8);
    let mut bench = Bench::at(&journal);

    let mut status = bench.start_scripted("one", &destination, &script, Given::default());
    let waiting = until(&mut status, "at the tail", |status| status.cursor == Seq(30)).await;
    assert_eq!(waiting.error, None, "the sink itself is well");
    assert_eq!((waiting.parked.records, waiting.parked.paths), (9, 1));
    let next = &waiting.parked.next[0];
    assert_eq!(
        (next.path.as_deref(), next.seq, next.records),
        (Some("/a"), Seq(4), 9)
    );
    assert!(next.error.contains("scripted"), "{next:?}");
    let end = until_all_delivered(&mut status, 30).await;
    bench.stop().await;

    let of_a: Vec<u64> = (1..=30).filter(|seq| seq % 3 == 1).collect();
    let (seen, others): (Vec<u64>, Vec<u64>) = destination.seqs().iter().partition(|seq| **seq % 3 == 1);
    assert_eq!(seen, of_a);
    assert_eq!(others.len(), 20);
    let last_of_others = destination.seqs().iter().position(|seq| *seq == 30);
    assert!(last_of_others < destination.seqs().iter().position(|seq| *seq == 4));
    assert_eq!((end.delivered, end.rejected), (30, 0));
    assert_eq!(journal.parked("one"), [0_u64; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_path_is_tried_again_although_nothing_new_comes() {
    let journal = MemoryJournal::with(three_paths(3));
    let destination = MemoryDestination::default();
    let script = FaultScript::new().defers([1], 4);
    let mut bench = Bench::at(&journal);

    let mut status = bench.start_scripted("one", &destination, &script, Given::default());
    until_all_delivered(&mut status, 3).await;
    bench.stop().await;
    assert_eq!(destination.seqs(), [2, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_path_that_never_answers_starves_neither_the_others_nor_a_shutdown() {
    let journal = MemoryJournal::with(three_paths(6));
    let destination = MemoryDestination::default();
    let script = FaultScript::new().defers([1], u32::MAX);
    let given = Given {
        retry: Retry {
            first: Span::millis(1),
            max: Span::millis(1),
            ..Retry::default()
        },
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &destination, &script, given);
    for tail in 7..200 {
        journal.append(three_paths(tail).split_off(tail as usize - 1));
        until(&mut status, "at the tail", |status| status.cursor == Seq(tail)).await;
    }
    let began = tokio::time::Instant::now();
    bench.stop().await;

    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(journal.parked("one").len(), 67);
    assert_eq!(destination.seqs().len(), 132);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_as_a_whole_keeps_what_is_parked() {
    let journal = MemoryJournal::with(three_paths(12));
    let destination = MemoryDestination::default();
    let down = Fault::FailBeforeWrite(SinkErrorKind::Unavailable);
    let script = FaultScript::new()
        .deliveries([Fault::None, down, down, Fault::DropMidway, down])
        .defers([2, 6], 2);
    let mut bench = Bench::at(&journal);

    let mut status = bench.start_scripted("one", &destination, &script, Given::default());
    until_all_delivered(&mut status, 12).await;
    bench.stop().await;
    for path in 0..3 {
        let seen: Vec<u64> = destination
            .seqs()
            .into_iter()
            .filter(|seq| seq % 3 == path)
            .collect();
        let mut in_order = seen.clone();
        in_order.sort_unstable();
        assert_eq!(seen, in_order, "nothing was written twice by these faults");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_patience_ends_becomes_a_dead_letter_and_its_path_goes_on() {
    let journal = MemoryJournal::with(three_paths(9));
    let destination = MemoryDestination::default();
    let script = FaultScript::new().defers([1], u32::MAX);
    let given = || Given {
        retry: Retry {
            give_up_after: Patience::After(Span::secs(60)),
            ..Retry::default()
        },
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &destination, &script, given());
    let end = until_all_delivered(&mut status, 9).await;
    bench.stop().await;

    assert_eq!(destination.seqs(), [2, 3, 5, 6, 8, 9, 4, 7]);
    let letters = journal.rejected("one");
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0]
            .reason
            .starts_with("gave up after retry.give_up_after: scripted"),
        "{}",
        letters[0].reason
    );
    assert_eq!((end.dead_letters, end.rejected), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_sink_learns_which_deferred_records_it_may_forget_and_no_others() {
    let journal = MemoryJournal::with(three_paths(9));
    let destination = MemoryDestination::default();
    // 1 is given up, which frees 4 and 7; 2 is delivered later, and 5 and 8 after it.
    let script = FaultScript::new().defers([1], u32::MAX).defers([2], 1);
    let given = Given {
        retry: Retry {
            give_up_after: Patience::After(Span::secs(60)),
            ..Retry::default()
        },
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &destination, &script, given);
    until(&mut status, "2 delivered", |status| status.delivered >= 6).await;
    assert_eq!(script.forgotten(), [2, 5, 8]);
    until_all_delivered(&mut status, 9).await;
    bench.stop().await;
    assert_eq!(script.forgotten(), [1, 2, 4, 5, 7, 8]);
}

#[tokio::test(start_paused = true)]
async fn with_block_all_records_after_a_parked_one_that_is_rejected_keep_waiting() {
    let journal = MemoryJournal::with(three_paths(12));
    let destination = MemoryDestination::default();
    let script = FaultScript::new().defers([1], 2);
    let given = Given {
        rejects: RejectPolicy {
            rejected_path: RejectedPath::Block,
            ..RejectPolicy::default()
        },
        ..Given::default()
    };
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &destination, &script.clone().rejects([]), given);
    until(&mut status, "parked", |status| status.parked.records == 4).await;
    let _chosen = script.rejects([1]);
    until_all_delivered(&mut status, 12).await;
    bench.stop().await;

    let letters: Vec<u64> = journal
        .rejected("one")
        .iter()
        .map(|letter| letter.seq.0)
        .collect();
    assert_eq!(letters, [1, 4, 7, 10]);
    assert_eq!(destination.seqs().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_refuses_everything_is_waited_for_before_memory_grows() {
    let count = PARKED_MAX as u64 + 500;
    let journal = MemoryJournal::with(
        (1..=count)
            .map(|seq| a_record().seq(seq).path(&format!("/n/{seq}")).arc())
            .collect(),
    );
    let destination = MemoryDestination::default();
    let script = FaultScript::new().defers(1..=count, u32::MAX);
    let mut bench = Bench::at(&journal);

    let given = Given {
        records_at_once: 1000,
        retry: Retry::default(),
        ..Given::default()
    };
    let mut status = bench.start_scripted("one", &destination, &script, given);
    let full = until(&mut status, "full", |status| status.error.is_some()).await;
    let failure = full.error.unwrap();
    assert_eq!(failure.kind, SinkFailureKind::ParkedFull);
    assert!(
        failure.message.contains("10000 records of 10000 paths"),
        "{}",
        failure.message
    );
    assert_eq!(
        (full.cursor, full.parked.records),
        (Seq(PARKED_MAX as u64), PARKED_MAX as u64)
    );

    script.accept_all();
    until_all_delivered(&mut status, count).await;
    bench.stop().await;
    assert_eq!(destination.seqs().len() as u64, count, "each once");
}

#[tokio::test(start_paused = true)]
async fn a_disabled_sink_stays_so_over_restarts_until_an_operator_enables_it() {
    let journal = MemoryJournal::with(three_paths(12));
    let destination = MemoryDestination::default();
    let script = FaultScript::new().deliveries([Fault::FailBeforeWrite(SinkErrorKind::Disabled)]);
    let mut bench = Bench::at(&journal);
    let mut status = bench.start_scripted("one", &destination, &script, Given::default());
    until_halted(&mut status).await;
    bench.stop().await;

    let mut bench = Bench::at(&journal);
    let (orders, words) = mpsc::channel(1);
    let mut setup = bench.setup("one", Box::new(destination.sink()), Given::default());
    setup.orders = words;
    let mut status = bench.start_with(setup);
    let halted = until_halted(&mut status).await;
    let failure = halted.error.unwrap();
    assert_eq!(failure.kind, SinkFailureKind::Sink(SinkErrorKind::Disabled));
    assert!(
        failure.message.starts_with("disabled since 1970-01-01T00:00:00"),
        "{}",
        failure.message
    );
    assert!(
        failure.remedy.contains("zkbridge sink enable"),
        "{}",
        failure.remedy
    );
    assert_eq!(destination.seqs(), [0_u64; 0]);

    orders.send(OperatorRequest::Enable).await.unwrap();
    until_idle_at(&mut status, 12).await;
    bench.stop().await;
    assert!(journal.backlog("one").disabled.is_none());
    assert_eq!(destination.seqs().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn an_operator_lets_a_halted_sink_go_on_where_it_stood() {
    let journal = MemoryJournal::with(three_paths(40));
    let destination = MemoryDestination::default();
    let wrong = Fault::FailBeforeWrite(SinkErrorKind::Configuration);
    let script = FaultScript::new().deliveries([Fault::None, Fault::None, wrong]);
    let mut bench = Bench::at(&journal);
    let (orders, words) = mpsc::channel(1);
    let sink = Box::new(script.in_front_of(Box::new(destination.sink())));
    let mut setup = bench.setup("one", sink, Given::default());
    setup.orders = words;
    let mut status = bench.start_with(setup);
    until_halted(&mut status).await;

    orders.send(OperatorRequest::Enable).await.unwrap();
    until_idle_at(&mut status, 40).await;
    bench.stop().await;
    assert_eq!(destination.seqs(), (1..=40).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn each_failed_attempt_of_a_parked_path_is_counted_whoever_found_that_it_is_of_the_path() {
    let unsure = FaultScript::new().fails_alone_with(SinkErrorKind::Unavailable, Extent::Unknown);
    unsure.fail_paths([ZnodePath::parse("/a").unwrap()]);
    for script in [FaultScript::new().defers([1], u32::MAX), unsure] {
        let journal = MemoryJournal::with(three_paths(3));
        let destination = MemoryDestination::default();
        let mut bench = Bench::at(&journal);
        let mut status = bench.start_scripted("one", &destination, &script, Given::default());
        let failed = until(&mut status, "tried again", |status| {
            status.parked.next.first().is_some_and(|next| next.attempts == 8)
        })
        .await;
        bench.crash();
        assert_eq!((failed.retries, failed.error), (8, None));
    }
}
