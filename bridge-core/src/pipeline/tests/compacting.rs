//! A journal that compacts between a source that never rests and a sink that hangs.

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::capture::{Event, EventKind};
use crate::delivery::{CompiledFilter, Filter, RejectPolicy, Retry, Setup, SinkBacklog, SinkStatus, Worker};
use crate::journal::WhenFull;
use crate::record::{Record, State};
use crate::sink::{DeliverError, Delivery, Sink, SinkError};
use crate::testing::{MemoryDestination, MemorySink};

const LIMIT: Size = Size(512 << 10);

/// Some MiB of values of 8 KiB.
const WRITES: u64 = 400;

/// Hangs until it is let go.
struct Hanging {
    sink: MemorySink,
    is_free: watch::Receiver<bool>,
}

impl Sink for Hanging {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.sink.open()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        async move {
            self.is_free.wait_for(|is_free| *is_free).await.unwrap();
            self.sink.deliver(batch).await
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.sink.close()
    }
}

/// The worker of the sink `slow`.
struct ReadingSink {
    destination: MemoryDestination,
    is_free: watch::Sender<bool>,
    status: watch::Receiver<SinkStatus>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl ReadingSink {
    fn begin(bench: &Bench, mut reader: Reader) -> ReadingSink {
        let destination = MemoryDestination::default();
        let (is_free, freed) = watch::channel(false);
        let stop = CancellationToken::new();
        let (_, orders) = mpsc::channel(1);
        let (worker, status) = Worker::new(Setup {
            sink: "slow".into(),
            source: "main".into(),
            destination: Box::new(Hanging {
                sink: destination.sink(),
                is_free: freed,
            }),
            backlog: SinkBacklog::load(&mut reader, "slow", Timestamp(1_000)).unwrap(),
            tail: Box::new(reader),
            durable: bench.watches.durable.clone(),
            progress: bench.progress.clone(),
            refusals: bench.watches.refusals.clone(),
            cursor: Seq::ZERO,
            orders,
            merge: None,
            filter: CompiledFilter::new(&Filter::default()).unwrap(),
            retry: Retry::default(),
            rejects: RejectPolicy::default(),
            // The records that it holds are kept, so they must be few beside the limit of the journal.
            limit: ReadLimit {
                records: 5,
                bytes: 64 << 10,
            },
            clock: Arc::new(|| Timestamp(1_000)),
            seed: 1,
            stop: stop.clone(),
            drain: BOUND,
        });
        ReadingSink {
            destination,
            is_free,
            status,
            stop,
            task: tokio::spawn(worker.run()),
        }
    }

    async fn until(&mut self, is_so: impl FnMut(&SinkStatus) -> bool) {
        let status = timeout(BOUND, self.status.wait_for(is_so)).await;
        status.expect("the sink within the bound").unwrap();
    }
}

fn written(version: u64) -> Outcome {
    let mut outcome = znode(1, 8 << 10, None);
    if let Outcome::Found { stat, .. } = &mut outcome {
        stat.mzxid = Zxid(1 + version);
        stat.version = i32::try_from(version).unwrap();
    }
    outcome
}

fn version(state: &Option<State>) -> Option<u64> {
    let version = state.as_ref()?.stat?.version;
    u64::try_from(version).ok()
}

/// The write of each version is there or counted, once.
fn check_versions(arrived: &[Arc<Record>]) {
    let mut last = 0;
    for update in arrived.iter().filter(|record| record.op == Op::Update) {
        let version_after = version(&update.after).unwrap();
        assert_eq!(version(&update.before), Some(last), "{}", update.seq);
        assert_eq!(update.missed, Some(version_after - last - 1), "{}", update.seq);
        last = version_after;
    }
    assert_eq!(last, WRITES, "the last value arrived");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_holds_no_capture_and_gets_every_write_once() {
    let options = JournalOptions {
        max_size: LIMIT,
        when_full: WhenFull::Compact,
        ..JournalOptions::new("main")
    };
    let mut reader = None;
    let mut bench = Bench::begin(&options, |journal| {
        reader = Some(journal.reader_for("slow").unwrap());
    });
    let mut sink = ReadingSink::begin(&bench, reader.unwrap());
    let root = bench.connect().await;
    bench.answer(root, vec![znode(1, 3, Some(&[]))]).await;
    bench.status(SourceStatus::is_live).await;

    for write in 1..=WRITES {
        let event = Event {
            path: ZnodePath::parse("/a").unwrap(),
            kind: EventKind::Changed,
            zxid: Some(Zxid(1 + write)),
        };
        bench.input(Input::Events(vec![event])).await;
        // A command to reconnect would be capture on hold.
        let read = bench.read().await;
        bench.answer(read, vec![written(write)]).await;
    }
    bench.durable(3 + WRITES).await;
    let status = bench.status(|status| status.journal.compacted > 300).await;
    assert_eq!((status.trouble, status.state), (None, "live"));
    assert!(status.journal.used_bytes <= LIMIT.0, "{:?}", status.journal);

    sink.is_free.send_replace(true);
    sink.until(|status| status.cursor == Seq(3 + WRITES)).await;
    check_versions(&sink.destination.arrived());
    assert!(sink.destination.arrived().len() < WRITES as usize);
    sink.stop.cancel();
    sink.task.await.unwrap();
    bench.end().await;
}
