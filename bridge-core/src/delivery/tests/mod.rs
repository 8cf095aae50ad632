//! The engine against a sink in memory, with a paused clock and seeds.

mod crashes;
mod deferrals;
mod engine;
mod failures;
mod journalled;
mod lingering;
mod merging;
mod probing;
mod rejects;
mod replaying;
mod restating;
mod shutdown;
mod stage;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::amount::Span;
use crate::journal::ReadLimit;
use crate::number::Seq;
use crate::record::Timestamp;
use crate::sink::Sink;
use crate::testing::{FaultScript, MemoryDestination, MemoryJournal};

/// Longer than anything in a test with a paused clock.
const BOUND: Duration = Duration::from_secs(24 * 3600);

/// So many seeds, or the one that `ZKBRIDGE_SEED` names.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("ZKBRIDGE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("ZKBRIDGE_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..count,
    }
}

/// The options of a sink that a test can change.
struct Given {
    filter: Filter,
    retry: Retry,
    rejects: RejectPolicy,
    merge: Option<Duration>,
    records_at_once: usize,
    drain: Duration,
    now_ms: i64,
    seed: u64,
}

impl Default for Given {
    fn default() -> Given {
        Given {
            filter: Filter::default(),
            retry: Retry {
                first: Span(Duration::from_millis(10)),
                ..Retry::default()
            },
            rejects: RejectPolicy::default(),
            merge: None,
            records_at_once: 10,
            drain: Duration::from_secs(5),
            now_ms: 0,
            seed: 7,
        }
    }
}

/// Sinks at one journal, from a start to a stop or a crash.
struct Bench {
    journal: MemoryJournal,
    tasks: JoinSet<()>,
    progress: mpsc::Sender<crate::journal::SinkProgress>,
    stop: CancellationToken,
}

impl Bench {
    fn at(journal: &MemoryJournal) -> Bench {
        let (progress, stored) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        let writer = journal.clone();
        tasks.spawn(async move { writer.store(stored).await });
        Bench {
            journal: journal.clone(),
            tasks,
            progress,
            stop: CancellationToken::new(),
        }
    }

    fn setup(&self, name: &str, sink: Box<dyn Sink>, given: Given) -> Setup {
        Setup {
            sink: name.into(),
            source: "main".into(),
            destination: sink,
            tail: Box::new(self.journal.tail()),
            durable: self.journal.durable(),
            progress: self.progress.clone(),
            refusals: Refusals::default(),
            cursor: self.journal.cursor(name),
            backlog: self.journal.backlog(name),
            orders: mpsc::channel(1).1,
            merge: given.merge,
            filter: CompiledFilter::new(&given.filter).unwrap(),
            retry: given.retry,
            rejects: given.rejects,
            limit: ReadLimit {
                records: given.records_at_once,
                bytes: usize::MAX,
            },
            clock: Arc::new(move || Timestamp(given.now_ms)),
            seed: given.seed,
            stop: self.stop.clone(),
            drain: given.drain,
        }
    }

    fn start(&mut self, name: &str, sink: Box<dyn Sink>, given: Given) -> watch::Receiver<SinkStatus> {
        self.start_with(self.setup(name, sink, given))
    }

    fn start_with(&mut self, setup: Setup) -> watch::Receiver<SinkStatus> {
        let (worker, status) = Worker::new(setup);
        self.tasks.spawn(worker.run());
        status
    }

    /// A sink with a script in front of a destination.
    fn start_scripted(
        &mut self,
        name: &str,
        destination: &MemoryDestination,
        script: &FaultScript,
        given: Given,
    ) -> watch::Receiver<SinkStatus> {
        let sink = Box::new(script.in_front_of(Box::new(destination.sink())));
        self.start(name, sink, given)
    }

    /// A shutdown as the program does it.
    async fn stop(self) {
        let Bench {
            tasks,
            stop,
            progress,
            ..
        } = self;
        stop.cancel();
        drop(progress);
        tasks.join_all().await;
    }

    /// The process dies here.
    fn crash(self) {
        drop(self.tasks);
    }
}

/// Waits for a status with a bound.
async fn until(
    status: &mut watch::Receiver<SinkStatus>,
    what: &str,
    is_so: impl FnMut(&SinkStatus) -> bool,
) -> SinkStatus {
    let reached = tokio::time::timeout(BOUND, status.wait_for(is_so)).await;
    if let Some(reached) = reached.ok().and_then(Result::ok) {
        return reached.clone();
    }
    panic!("never {what}: {:?}", status.borrow());
}

async fn until_idle_at(status: &mut watch::Receiver<SinkStatus>, cursor: u64) -> SinkStatus {
    until(status, "idle at the tail", |status| {
        status.state == Phase::Idle && status.cursor == Seq(cursor)
    })
    .await
}

async fn until_halted(status: &mut watch::Receiver<SinkStatus>) -> SinkStatus {
    until(status, "halted", |status| status.state == Phase::Halted).await
}
