//! The bare pipeline: a persistent recursive watch, MultiReads in small batches, an idempotent producer. It stores and
//! compares nothing, so it is the lower bound for cost and time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::FutureExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use zookeeper_client::{
    AddWatchMode, Client, Error, EventType, MultiReadResult, PersistentWatcher, SessionState, WatchedEvent,
};

use super::record::Record;
use super::{READY, connect, say, walk};

/// Maximum number of events in one MultiRead: measured to keep up with a server at full load.
const BATCH: usize = 200;
/// Parallel MultiReads.
const WINDOW: usize = 8;
/// The pause after the producer's queue was full.
const FULL_WAIT: Duration = Duration::from_millis(1);
/// The pause before a new session.
const AGAIN: Duration = Duration::from_millis(100);
/// How long the last deliveries may take at the end of a walk.
const FLUSH_BOUND: Duration = Duration::from_secs(60);

/// The arguments of the pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The servers of ZooKeeper.
    pub servers: String,
    /// The watched root.
    pub root: String,
    /// The broker.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// The producer's linger, in milliseconds.
    pub linger: u32,
    /// The compression of batches.
    pub compression: String,
}

type Answer = Result<Vec<MultiReadResult>, Error>;

/// Follows changes until it is killed.
///
/// # Errors
///
/// If a message is refused.
pub async fn pipeline(options: Pipeline) -> Result<()> {
    let out = Out::new(&options)?;
    loop {
        let Err(error) = Box::pin(session(&options, &out)).await;
        out.check()?;
        say(&format!("a new session is begun: {error:#}"));
        tokio::time::sleep(AGAIN).await;
    }
}

/// Follows changes until the session ends.
async fn session(options: &Pipeline, out: &Out) -> Result<Infallible> {
    let client = connect(&options.servers).await?;
    let watch = || client.watch(&options.root, AddWatchMode::PersistentRecursive);
    let mut watcher = watch().await?;
    tell_all(&client, &options.root, out).await?;
    out.flush()?;
    say(READY);
    loop {
        Box::pin(follow(&client, &mut watcher, out)).await?;
        // The new watch comes first, then the old one ends. Changes in between are unknown, so the whole tree is delivered
        // again.
        watcher = watch().await?;
        tell_all(&client, &options.root, out).await?;
    }
}

async fn tell_all(client: &Client, root: &str, out: &Out) -> Result<()> {
    walk::each(client, root, |path, data, stat| async move {
        out.send(&path, &Record::of_read(&path, "snapshot", &data, &stat))
            .await
    })
    .await
}

/// Follows changes until the connection was lost and restored.
async fn follow(client: &Client, watcher: &mut PersistentWatcher, out: &Out) -> Result<()> {
    let mut asked: VecDeque<Vec<WatchedEvent>> = VecDeque::new();
    let mut answers: FuturesOrdered<BoxFuture<'_, Answer>> = FuturesOrdered::new();
    let mut is_lost = false;
    loop {
        tokio::select! {
            biased;
            Some(answer) = answers.next() => {
                let events = asked.pop_front().unwrap_or_default();
                match answer {
                    Ok(results) => tell(&events, results, out).await?,
                    // Events lost with the connection are replaced by a new walk.
                    Err(error) => say(&format!("{} reads are lost: {error}", events.len())),
                }
            }
            event = watcher.changed(), if answers.len() < WINDOW => {
                let mut events = Vec::new();
                let mut next = Some(event);
                while let Some(event) = next {
                    match event.event_type {
                        EventType::Session => match event.session_state {
                            SessionState::SyncConnected if is_lost => return Ok(()),
                            state => {
                                ensure!(!state.is_terminated(), "the session ended: {state}");
                                is_lost = true;
                            }
                        },
                        _ => events.push(event),
                    }
                    next = if events.len() < BATCH { pin!(watcher.changed()).now_or_never() } else { None };
                }
                if !events.is_empty() && !is_lost {
                    answers.push_back(ask(client, &events)?);
                    asked.push_back(events);
                }
            }
        }
    }
}

fn ask<'a>(client: &'a Client, events: &[WatchedEvent]) -> Result<BoxFuture<'a, Answer>> {
    let mut reads = client.new_multi_reader();
    for event in events.iter().filter(|event| needs_read(event)) {
        reads.add_get_data(&event.path)?;
    }
    Ok(Box::pin(reads.commit()))
}

fn needs_read(event: &WatchedEvent) -> bool {
    event.event_type != EventType::NodeDeleted
}

async fn tell(events: &[WatchedEvent], results: Vec<MultiReadResult>, out: &Out) -> Result<()> {
    let mut results = results.into_iter();
    for event in events {
        if !needs_read(event) {
            out.send(&event.path, &Record::of_delete(&event.path, event.zxid))
                .await?;
            continue;
        }
        let Some(result) = results.next() else {
            bail!("fewer answers than questions");
        };
        // A znode that was deleted meanwhile has an event of its own.
        let Some((data, stat)) = walk::data_of(result)? else {
            continue;
        };
        let op = match event.event_type {
            EventType::NodeCreated => "create",
            _ => "update",
        };
        out.send(&event.path, &Record::of_read(&event.path, op, &data, &stat))
            .await?;
    }
    Ok(())
}

/// The producer.
struct Out {
    producer: ThreadedProducer<Refusals>,
    has_refused: Arc<AtomicBool>,
    topic: String,
}

/// Records whether a message was refused permanently.
#[derive(Clone)]
struct Refusals(Arc<AtomicBool>);

impl ClientContext for Refusals {}

impl ProducerContext for Refusals {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Out {
    fn new(options: &Pipeline) -> Result<Out> {
        let has_refused = Arc::new(AtomicBool::new(false));
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &options.bootstrap)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", &options.compression)
            .set("partitioner", "murmur2_random")
            .set("linger.ms", options.linger.to_string())
            .create_with_context(Refusals(Arc::clone(&has_refused)))?;
        Ok(Out {
            producer,
            has_refused,
            topic: options.topic.clone(),
        })
    }

    async fn send(&self, key: &str, record: &Record<'_>) -> Result<()> {
        self.check()?;
        let payload = serde_json::to_vec(record)?;
        let mut message = BaseRecord::to(&self.topic).key(key).payload(&payload);
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    message = back;
                    tokio::time::sleep(FULL_WAIT).await;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.has_refused.load(Ordering::Relaxed), "a message was refused");
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.producer.flush(FLUSH_BOUND)?)
    }
}
