//! Progress of sinks that does not start at their cursors, and workers that follow each other.

use super::*;
use crate::delivery::{
    CompiledFilter, Filter, Phase, RejectPolicy, Retry, Setup, SinkBacklog, SinkStatus, Worker,
};
use crate::journal::{JournalWriter, RefusedProgress, SeqRange, SinkState};
use crate::testing::MemoryDestination;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

fn covers(sink: &str, from: u64, to: u64) -> SinkProgress {
    SinkProgress {
        sink: sink.into(),
        from: Seq(from),
        to: Seq(to),
        ..SinkProgress::default()
    }
}

/// Sink `slow` and sink `fast`, and four records.
async fn bench() -> Bench {
    let mut bench = Bench::begin(&JournalOptions::new("main"), |journal| {
        journal.register_sink("fast", Seq::ZERO).unwrap();
        journal.commit().unwrap();
    });
    let root = bench.connect().await;
    bench.answer(root, vec![znode(1, 3, Some(&[]))]).await;
    bench.durable(3).await;
    bench
}

/// The cursors in the journal.
async fn cursors(bench: &Bench) -> (Option<Seq>, Option<Seq>) {
    let (answer, answered) = oneshot::channel();
    let writer_task: WriterTask = Box::new(move |journal| {
        let cursors = (journal.cursor("slow").unwrap(), journal.cursor("fast").unwrap());
        let _ = answer.send(cursors);
    });
    assert!(bench.writer_tasks.send(writer_task).await.is_ok());
    timeout(BOUND, answered).await.unwrap().unwrap()
}

fn worker(bench: &Bench, stop: &CancellationToken) -> watch::Receiver<SinkStatus> {
    let mut reader = Reader::open(&bench.folder.path().join("main.journal")).unwrap();
    let (worker, status) = Worker::new(Setup {
        sink: "slow".into(),
        source: "main".into(),
        destination: Box::new(MemoryDestination::default().sink()),
        backlog: SinkBacklog::load(&mut reader, "slow", Timestamp(1_000)).unwrap(),
        cursor: reader.cursor("slow").unwrap().unwrap(),
        tail: Box::new(reader),
        durable: bench.watches.durable.clone(),
        refusals: bench.watches.refusals.clone(),
        progress: bench.progress.clone(),
        orders: mpsc::channel(1).1,
        merge: None,
        filter: CompiledFilter::new(&Filter::default()).unwrap(),
        retry: Retry::default(),
        rejects: RejectPolicy::default(),
        limit: ReadLimit {
            records: 5,
            bytes: 64 << 10,
        },
        clock: Arc::new(|| Timestamp(1_000)),
        seed: 1,
        stop: stop.clone(),
        drain: BOUND,
    });
    tokio::spawn(worker.run());
    status
}

/// The status of the worker as soon as it meets the condition.
async fn until(
    status: &mut watch::Receiver<SinkStatus>,
    condition: impl FnMut(&SinkStatus) -> bool,
) -> SinkStatus {
    let met = timeout(BOUND, status.wait_for(condition)).await;
    met.unwrap().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progress_that_skips_records_halts_its_sink_and_no_other() {
    let bench = bench().await;
    let stop = CancellationToken::new();
    let mut status = worker(&bench, &stop);
    until(&mut status, |status| status.cursor >= Seq(3)).await;
    let (slow, _) = cursors(&bench).await;
    let from = slow.unwrap().0 + 1;
    bench.progress.send(covers("slow", from, from)).await.unwrap();
    bench.progress.send(covers("fast", 0, 2)).await.unwrap();

    let halted = until(&mut status, |status| status.state == Phase::Halted).await;
    let trouble = halted.error.unwrap();
    let refused = RefusedProgress {
        sink: "slow".into(),
        cursor: Seq(from - 1),
        range: SeqRange {
            from: Seq(from),
            to: Seq(from),
        },
        misfit: crate::journal::RangeMismatch::Hole,
    };
    assert_eq!(trouble.message, refused.cause());
    assert_eq!(trouble.remedy, RefusedProgress::HELP);
    assert_eq!(
        cursors(&bench).await,
        (slow, Some(Seq(2))),
        "the other sink goes on"
    );

    // A worker that follows starts at the stored cursor, and the old refusal is not its own.
    stop.cancel();
    while status.changed().await.is_ok() {}
    let stop = CancellationToken::new();
    let mut status = worker(&bench, &stop);
    until(&mut status, |status| status.state == Phase::Idle).await;
    stop.cancel();
    while status.changed().await.is_ok() {}
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progress_past_the_last_record_halts_its_sink_alone() {
    let bench = bench().await;
    let stop = CancellationToken::new();
    let mut status = worker(&bench, &stop);
    until(&mut status, |status| status.cursor >= Seq(3)).await;
    let (slow, _) = cursors(&bench).await;
    let cursor = slow.unwrap().0;
    // Once joined with a progress that waits, and once alone.
    bench.progress.send(covers("fast", 0, 2)).await.unwrap();
    bench.progress.send(covers("fast", 2, 99)).await.unwrap();
    bench
        .progress
        .send(covers("slow", cursor, cursor + 99))
        .await
        .unwrap();

    let halted = until(&mut status, |status| status.state == Phase::Halted).await;
    let message = halted.error.unwrap().message;
    assert!(message.contains("it ends after the last record"), "{message}");
    assert_eq!(cursors(&bench).await, (slow, Some(Seq(2))));
    stop.cancel();
    while status.changed().await.is_ok() {}
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_finds_the_progress_that_was_sent_before_it() {
    let bench = bench().await;
    for seq in 0..2 {
        bench.progress.send(covers("slow", seq, seq + 1)).await.unwrap();
        bench.progress.send(covers("fast", seq, seq + 1)).await.unwrap();
        let expected = Some(Seq(seq + 1));
        assert_eq!(cursors(&bench).await, (expected, expected));
    }
    bench.end().await;
}
