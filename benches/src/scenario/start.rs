//! A start with an existing tree: the time from the start of the process until all znodes are durable in the topic.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context, Result};

use super::sustained::megabytes;
use super::{OTHERS, in_turn};
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{HEAP, HEAP_OF_A_MILLION, Stage};
use crate::subject::{Linger, Orders, Running, START_BOUND, Subject};
use crate::topic::{Topic, Watch};
use crate::{machine, tree};

/// With 100,000 znodes.
pub const HUNDRED_THOUSAND: &str = "start, 100,000 znodes";
/// With 1,000,000.
pub const MILLION: &str = "start, 1,000,000 znodes";
/// The time from the start of the process until all is durable.
pub const SECONDS: &str = "all in the topic, s";
/// Peak memory of the subject.
pub const MEMORY: &str = "peak memory, MB";
/// Znodes without a message. Not counted in the largest trees, because the count takes longer than the start.
pub const MISSING: &str = "paths missing in the topic";
/// Processor time of the subject.
const CPU: &str = "CPU of the subject, s";
/// Processor time of the server.
const ZOOKEEPER_CPU: &str = "CPU of ZooKeeper, s";

const SUBJECTS: [Subject; 4] = [
    Subject::Pipeline,
    Subject::Curator,
    Subject::Bridge,
    Subject::BridgeUnsynced,
];

/// Trees with more znodes than this have fewer rounds: a round takes long, and the range is small.
const LARGE: usize = 500_000;
const ROUNDS_OF_LARGE: usize = 3;

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    for leaves in &settings.sizes.start_trees {
        let stage = Stage::start(heap(*leaves)).await?;
        Box::pin(beside(
            &stage,
            *leaves,
            &name(*leaves),
            &SUBJECTS,
            settings,
            figures,
        ))
        .await?;
    }
    Ok(())
}

fn name(leaves: usize) -> String {
    match leaves {
        100_000 => HUNDRED_THOUSAND.to_owned(),
        1_000_000 => MILLION.to_owned(),
        _ => format!("start, {leaves} znodes"),
    }
}

/// The most rounds with a tree.
pub(super) fn most_rounds(leaves: usize) -> usize {
    if leaves > LARGE {
        ROUNDS_OF_LARGE
    } else {
        usize::MAX
    }
}

/// The heap of the server for a tree.
pub(super) fn heap(leaves: usize) -> &'static str {
    if leaves > LARGE { HEAP_OF_A_MILLION } else { HEAP }
}

/// Measures these subjects on a stage without a tree.
pub(super) async fn beside(
    stage: &Stage,
    leaves: usize,
    name: &str,
    subjects: &[Subject],
    settings: &Settings,
    figures: &mut Figures,
) -> Result<()> {
    let znodes = tree::plant(stage.client(), tree::large(leaves), settings.sizes.value_bytes).await?;
    // The JVMs of the servers are warmed up with the requests of a subject, because servers in production run for long. A
    // JVM of a subject starts cold, as it does everywhere.
    crate::subject::walk(settings, stage.server()).await?;
    for subject in [Subject::Pipeline, Subject::Bridge] {
        Box::pin(round(stage, settings, subject, znodes)).await?;
    }
    for repetition in 0..settings.sizes.repetitions.min(most_rounds(leaves)) {
        for subject in in_turn(subjects, settings, repetition) {
            let measures = Box::pin(round(stage, settings, subject, znodes)).await;
            let measures = measures.with_context(|| format!("{name}, {subject}"))?;
            figures.add(name, repetition, subject, measures);
        }
    }
    Ok(())
}

async fn round(stage: &Stage, settings: &Settings, subject: Subject, znodes: usize) -> Result<Measures> {
    let topic = stage.topic().await?;
    let orders = Orders {
        server: stage.server(),
        bootstrap: &stage.bootstrap(),
        topic: &topic,
        linger: Linger::Millis(5),
        transactions: stage.transactions(),
    };
    let idle = stage.costs(None)?;
    let began = Instant::now();
    let running = Running::start(subject, settings, &orders)?.context("this subject has no process")?;
    let least = i64::try_from(znodes)?;
    let rest = topic
        .rest(least, settings.sizes.quiet, START_BOUND, Watch::Loosely)
        .await?;
    // The processor time since the start of the process.
    let now = stage.costs(Some(&running))?;
    let spent = now.since(&idle);
    let memory = machine::peak_memory(running.id())?;
    running.end().await?;
    let mut measures = Measures::from([
        (SECONDS, rest.at.saturating_duration_since(began).as_secs_f64()),
        (MEMORY, megabytes(memory)),
        (CPU, spent.subject.as_secs_f64()),
        (ZOOKEEPER_CPU, spent.zookeeper.as_secs_f64()),
        (OTHERS, spent.others_percent()),
    ]);
    if znodes <= LARGE {
        measures.insert(MISSING, missing(&topic, znodes).await?);
    }
    topic.remove().await?;
    Ok(measures)
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn missing(topic: &Topic, znodes: usize) -> Result<f64> {
    let records = topic.read().await?;
    let paths: HashSet<&str> = records
        .iter()
        .filter_map(|record| record.path.as_deref())
        .collect();
    Ok(znodes.abs_diff(paths.len()) as f64)
}
