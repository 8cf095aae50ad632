//! A sink that wants company for its records.

use std::sync::Mutex;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::*;
use crate::journal::{JournalError, RunPage, SinkRun};
use crate::record::Record;
use crate::sink::{DeliverError, Delivery, SinkError};
use crate::testing::{MemorySink, MemoryTail, some_records};

const MS: Duration = Duration::from_millis(1);

/// Batches, by how many records they had and when they came.
type Batches = Arc<Mutex<Vec<(usize, Duration)>>>;

struct Sociable {
    inner: MemorySink,
    linger: Duration,
    began: Instant,
    batches: Batches,
}

impl Sink for Sociable {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.inner.open()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        let came = (batch.records.len(), self.began.elapsed());
        self.batches.lock().unwrap().push(came);
        self.inner.deliver(batch)
    }

    fn linger(&self) -> Duration {
        self.linger
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.inner.close()
    }
}

/// A worker whose sink lingers, at a journal that holds one record, which was delivered.
async fn lingering(linger: Duration) -> (MemoryJournal, Bench, watch::Receiver<SinkStatus>, Batches) {
    let journal = MemoryJournal::with(some_records(1, 1));
    let batches = Batches::default();
    let sink = Sociable {
        inner: MemoryDestination::default().sink(),
        linger,
        began: Instant::now() + linger,
        batches: Arc::clone(&batches),
    };
    let mut bench = Bench::at(&journal);
    let mut status = bench.start("sociable", Box::new(sink), Given::default());
    until_idle_at(&mut status, 1).await;
    batches.lock().unwrap().clear();
    (journal, bench, status, batches)
}

#[tokio::test(start_paused = true)]
async fn records_that_come_while_the_first_lingers_are_delivered_with_it() {
    let (journal, bench, mut status, batches) = lingering(5 * MS).await;

    journal.append(some_records(2, 1).split_off(1));
    tokio::time::sleep(3 * MS).await;
    journal.append(some_records(4, 1).split_off(2));
    until_idle_at(&mut status, 4).await;
    bench.stop().await;

    assert_eq!(*batches.lock().unwrap(), [(3, 5 * MS)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_wait() {
    let (journal, bench, mut status, batches) = lingering(50 * MS).await;

    journal.append(some_records(8, 1).split_off(1));
    tokio::time::sleep(2 * MS).await;
    journal.append(some_records(11, 1).split_off(8));
    until_idle_at(&mut status, 11).await;
    bench.stop().await;

    assert_eq!(*batches.lock().unwrap(), [(10, 2 * MS)]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_a_few_milliseconds_is_slept_through_even_by_a_full_batch() {
    let (journal, bench, mut status, batches) = lingering(5 * MS).await;

    journal.append(some_records(8, 1).split_off(1));
    tokio::time::sleep(2 * MS).await;
    journal.append(some_records(11, 1).split_off(8));
    until_idle_at(&mut status, 11).await;
    bench.stop().await;

    assert_eq!(*batches.lock().unwrap(), [(10, 5 * MS)]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_for_company_and_what_waited_is_delivered() {
    let (journal, bench, _, batches) = lingering(3_600_000 * MS).await;

    journal.append(some_records(3, 1).split_off(1));
    tokio::time::sleep(MS).await;
    bench.stop().await;

    assert_eq!(*batches.lock().unwrap(), [(2, MS)]);
    assert_eq!(journal.cursor("sociable"), Seq(3));
}

/// A journal in memory that knows when its records were captured.
struct DatedTail(MemoryTail, Timestamp);

impl Tail for DatedTail {
    fn read(&mut self, after: Seq, limit: ReadLimit) -> Result<Vec<Arc<Record>>, JournalError> {
        self.0.read(after, limit)
    }

    fn captured(&self, _: Seq) -> Option<Timestamp> {
        Some(self.1)
    }

    fn recall(&mut self, seqs: &[Seq]) -> Result<Vec<Arc<Record>>, JournalError> {
        self.0.recall(seqs)
    }

    fn snapshot_page(&mut self, run: &SinkRun, limit: ReadLimit) -> Result<RunPage, JournalError> {
        self.0.snapshot_page(run, limit)
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_waits_from_its_capture_on_and_not_again_after_it_is_durable() {
    for (captured_ms, waits) in [
        (1_000, 5 * MS),
        (997, 2 * MS),
        (995, Duration::ZERO),
        (0, Duration::ZERO),
        (9_999, 5 * MS),
    ] {
        let journal = MemoryJournal::with(some_records(1, 1));
        let batches = Batches::default();
        let sink = Sociable {
            inner: MemoryDestination::default().sink(),
            linger: 5 * MS,
            began: Instant::now(),
            batches: Arc::clone(&batches),
        };
        let mut bench = Bench::at(&journal);
        let given = Given {
            now_ms: 1_000,
            ..Given::default()
        };
        let mut setup = bench.setup("sociable", Box::new(sink), given);
        setup.tail = Box::new(DatedTail(journal.tail(), Timestamp(captured_ms)));
        let mut status = bench.start_with(setup);
        until_idle_at(&mut status, 1).await;
        bench.stop().await;
        assert_eq!(
            *batches.lock().unwrap(),
            [(1, waits)],
            "captured at {captured_ms}"
        );
    }
}
