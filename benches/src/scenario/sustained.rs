//! Writes at the maximum rate of the server: the rate, the delivered versions, the costs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bridge_servers::eventually;

use super::{OTHERS, in_turn};
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{Costs, HEAP, Stage};
use crate::subject::{Linger, Orders, Running, START_BOUND, Subject};
use crate::topic::{Rest, Topic, TopicEnd, TopicRecord, Watch, ages, percentile, versions};
use crate::tree::State;
use crate::writer::{Written, flat_out};
use crate::{machine, tree};

/// The scenario's name.
pub const NAME: &str = "sustained";
/// The rate of the writer.
pub const RATE: &str = "writes/s";
/// Versions with a value in the topic.
pub const DELIVERED: &str = "versions delivered, %";
/// Versions that records declare as overwritten.
pub const DECLARED: &str = "versions declared overwritten, %";
/// Versions without any trace in the topic.
pub const SILENT: &str = "versions lost without a trace, %";
/// Paths whose last message differs from the server's state.
pub const WRONG: &str = "paths whose last state is wrong";
/// The time from the writer's last answer to the last durable message.
pub const BEHIND: &str = "last record after the last write, ms";
/// The median age of a value when the broker appends it.
pub const AGE_P50: &str = "age of a value: p50, ms";
/// The 99th percentile of it.
pub const AGE_P99: &str = "age of a value: p99, ms";
/// Processor time of the subject.
pub const CPU: &str = "CPU of the subject, µs a change";
/// The same for each version that is delivered: subjects that lag deliver fewer of the overwritten ones.
pub const CPU_DELIVERED: &str = "CPU of the subject, µs a delivered version";
/// Records that the bridge appends to its journal, events among them.
pub const JOURNALLED: &str = "records in the journal for each write";
/// Processor time of the subject for each of these.
const CPU_JOURNALLED: &str = "CPU of the subject, µs a record in the journal";
/// Processor time of the server.
pub const ZOOKEEPER_CPU: &str = "CPU of ZooKeeper, µs a change";
/// Processor time of the broker.
const KAFKA_CPU: &str = "CPU of Kafka, µs a change";
/// Peak memory of the subject.
pub const MEMORY: &str = "peak memory, MB";

/// The subjects.
const SUBJECTS: [Subject; 6] = [
    Subject::None,
    Subject::Watcher,
    Subject::Pipeline,
    Subject::Curator,
    Subject::Bridge,
    Subject::BridgeUnsynced,
];

/// How long the last state of every path may take after the last message. Later it counts as wrong.
const LATE: Duration = Duration::from_secs(30);
/// How long a round may take.
const REST_BOUND: Duration = Duration::from_secs(300);

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let stage = Stage::start(HEAP).await?;
    beside(&stage, NAME, &SUBJECTS, settings, figures).await
}

/// Measures these subjects on a stage without a tree.
pub(super) async fn beside(
    stage: &Stage,
    name: &str,
    subjects: &[Subject],
    settings: &Settings,
    figures: &mut Figures,
) -> Result<()> {
    let paths = tree::flat(settings.sizes.written_znodes);
    tree::plant(stage.client(), paths.iter().cloned(), settings.sizes.value_bytes).await?;
    warm(stage, settings, &paths).await?;
    for repetition in 0..settings.sizes.repetitions {
        for subject in in_turn(subjects, settings, repetition) {
            let measures = Box::pin(round(stage, settings, subject, &paths)).await;
            let measures = measures.with_context(|| format!("{name}, {subject}"))?;
            figures.add(name, repetition, subject, measures);
        }
    }
    Ok(())
}

/// Warms up the JVMs of both servers.
async fn warm(stage: &Stage, settings: &Settings, paths: &[String]) -> Result<()> {
    let (writes, bytes) = (settings.sizes.warming_writes, settings.sizes.value_bytes);
    flat_out(stage.server(), paths.to_vec(), writes / 2, bytes).await?;
    let topic = stage.topic().await?;
    let running = attach(stage, settings, Subject::Pipeline, &topic).await?;
    flat_out(stage.server(), paths.to_vec(), writes / 2, bytes).await?;
    topic
        .rest(1, settings.sizes.quiet, REST_BOUND, Watch::Loosely)
        .await?;
    if let Some(running) = running {
        running.end().await?;
    }
    topic.remove().await
}

pub(super) async fn attach(
    stage: &Stage,
    settings: &Settings,
    subject: Subject,
    topic: &Topic,
) -> Result<Option<Running>> {
    let orders = Orders {
        server: stage.server(),
        bootstrap: &stage.bootstrap(),
        topic,
        linger: Linger::Millis(5),
        transactions: stage.transactions(),
    };
    let mut running = Running::start(subject, settings, &orders)?;
    if let Some(running) = &mut running {
        running.ready().await?;
    }
    Ok(running)
}

async fn round(stage: &Stage, settings: &Settings, subject: Subject, paths: &[String]) -> Result<Measures> {
    let topic = stage.topic().await?;
    let mut running = attach(stage, settings, subject, &topic).await?;
    let warmed = match &running {
        Some(running) if subject != Subject::Watcher => {
            warm_up(stage, settings, &topic, running, paths).await?
        }
        _ => TopicEnd::default(),
    };
    let journalled = journalled(running.as_mut()).await?;
    let before = stage.costs(running.as_ref())?;
    let (writes, bytes) = (settings.sizes.sustained_writes, settings.sizes.value_bytes);
    let written = flat_out(stage.server(), paths.to_vec(), writes, bytes).await?;
    let mut measures = Measures::from([(RATE, written.rate())]);
    let after = match &running {
        None => stage.costs(None)?,
        Some(watcher) if watcher.subject() == Subject::Watcher => {
            eventually("all events", START_BOUND, || async { watcher.events() >= writes }).await?;
            measures.insert(DELIVERED, 100.0);
            stage.costs(Some(watcher))?
        }
        Some(running) => {
            let (rest, costs) = came_through(stage, &topic, running, settings.sizes.quiet).await?;
            measures.insert(BEHIND, behind(rest, written));
            costs
        }
    };
    let spent = after.since(&before);
    measures.insert(ZOOKEEPER_CPU, for_each(spent.zookeeper, writes));
    measures.insert(OTHERS, spent.others_percent());
    if let Some(mut running) = running {
        if let (Some(before), Some(after)) = (journalled, running.journalled().await?) {
            let records = usize::try_from(after - before)?;
            measures.insert(JOURNALLED, percent(records, writes) / 100.0);
            measures.insert(CPU_JOURNALLED, for_each(spent.subject, records.max(1)));
        }
        measures.insert(CPU, for_each(spent.subject, writes));
        measures.insert(MEMORY, megabytes(machine::peak_memory(running.id())?));
        if running.subject() != Subject::Watcher {
            measures.insert(KAFKA_CPU, for_each(spent.kafka, writes));
            let delivered = judge(stage, &topic, &warmed, writes, &mut measures).await?;
            if delivered > 0 {
                measures.insert(CPU_DELIVERED, for_each(spent.subject, delivered));
            }
        }
        running.end().await?;
    }
    topic.remove().await?;
    Ok(measures)
}

/// Unmeasured writes in the same process: a JVM compiles what it runs often, and a subject in production has run for
/// long. Returns the position in the topic after all of them.
async fn warm_up(
    stage: &Stage,
    settings: &Settings,
    topic: &Topic,
    running: &Running,
    paths: &[String],
) -> Result<TopicEnd> {
    let (writes, bytes) = (settings.sizes.warming_writes, settings.sizes.value_bytes);
    flat_out(stage.server(), paths.to_vec(), writes, bytes).await?;
    came_through(stage, topic, running, settings.sizes.quiet).await?;
    topic.end().await
}

/// Waits until the last state of every path is in the topic and no more messages arrive, or until the bound.
async fn came_through(
    stage: &Stage,
    topic: &Topic,
    running: &Running,
    quiet: Duration,
) -> Result<(Rest, Costs)> {
    let began = Instant::now();
    loop {
        let rest = topic.rest(1, quiet, REST_BOUND, Watch::Closely).await?;
        // Measured before the topic is read, because that costs the servers processor time.
        let costs = stage.costs(Some(running))?;
        if began.elapsed() > LATE || wrong(stage, &topic.read().await?).await? == 0 {
            return Ok((rest, costs));
        }
    }
}

/// The number of paths whose last message differs from the server's state.
async fn wrong(stage: &Stage, records: &[TopicRecord]) -> Result<usize> {
    let tree = tree::read(stage.client()).await?;
    let last = last_states(records);
    let wrong = tree
        .iter()
        .filter(|(path, state)| last.get(path.as_str()) != Some(&Some(**state)));
    Ok(wrong.count())
}

/// The time from the last write to the last durable message, in ms.
pub(super) fn behind(rest: Rest, written: Written) -> f64 {
    rest.at.saturating_duration_since(written.ended).as_secs_f64() * 1_000.0
}

/// The number of records in the journal of a subject, if it has one.
async fn journalled(running: Option<&mut Running>) -> Result<Option<u64>> {
    match running {
        Some(running) => running.journalled().await,
        None => Ok(None),
    }
}

/// Reads the topic and counts the writes in it, and their ages. Returns the number of delivered versions.
async fn judge(
    stage: &Stage,
    topic: &Topic,
    warmed: &TopicEnd,
    writes: usize,
    measures: &mut Measures,
) -> Result<usize> {
    let records = topic.read().await?;
    let (delivered, declared) = versions(&records, warmed);
    let ages = ages(&records, warmed);
    for (name, percent) in [(AGE_P50, 50), (AGE_P99, 99)] {
        measures.extend(percentile(&ages, percent).map(|age| (name, age)));
    }
    measures.insert(DELIVERED, percent(delivered, writes));
    measures.insert(DECLARED, percent(usize::try_from(declared)?, writes));
    let accounted = delivered + usize::try_from(declared)?;
    measures.insert(SILENT, percent(writes.saturating_sub(accounted), writes));
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    measures.insert(WRONG, wrong(stage, &records).await? as f64);
    Ok(delivered)
}

/// The state in the last message of each path; `None` for a delete.
pub(super) fn last_states(records: &[TopicRecord]) -> HashMap<&str, Option<State>> {
    let mut last = HashMap::new();
    for record in records {
        let Some(path) = record.path.as_deref() else {
            continue;
        };
        let state = record.after.as_ref().and_then(|after| after.stat.as_ref());
        let state = state.and_then(|stat| {
            Some(State {
                czxid: zxid(&stat.czxid)?,
                mzxid: zxid(&stat.mzxid)?,
            })
        });
        last.insert(path, state);
    }
    last
}

fn zxid(text: &str) -> Option<i64> {
    i64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole as f64
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn for_each(spent: Duration, writes: usize) -> f64 {
    spent.as_secs_f64() * 1e6 / writes as f64
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
