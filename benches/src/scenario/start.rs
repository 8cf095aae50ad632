//! The start beside a tree that is there: from the start of the process until all of it is durable in the topic.

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
/// From the start of the process until all is durable.
pub const SECONDS: &str = "all in the topic, s";
/// At its peak.
pub const MEMORY: &str = "peak memory, MB";
/// Znodes of which no message tells. Not looked for in the largest trees, as it takes longer than the start.
pub const MISSING: &str = "paths missing in the topic";
/// What the subject costs.
const CPU: &str = "CPU of the subject, s";
/// What the server costs.
const ZOOKEEPER_CPU: &str = "CPU of ZooKeeper, s";

const SUBJECTS: [Subject; 4] = [
    Subject::Pipeline,
    Subject::Curator,
    Subject::Bridge,
    Subject::BridgeUnsynced,
];

/// More znodes than this have fewer rounds: each takes its time, and the range is small.
const LARGE: usize = 500_000;
const ROUNDS_OF_LARGE: usize = 3;

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    for leaves in &settings.sizes.start_trees {
        Box::pin(beside(*leaves, settings, figures)).await?;
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

async fn beside(leaves: usize, settings: &Settings, figures: &mut Figures) -> Result<()> {
    let is_large = leaves > LARGE;
    let stage = Stage::start(if is_large { HEAP_OF_A_MILLION } else { HEAP }).await?;
    let znodes = tree::plant(stage.client(), tree::large(leaves), settings.sizes.value_bytes).await?;
    // The servers compile what they run, and servers that people have ran before: what a subject asks of them is asked
    // once before it counts. A JVM of a subject itself starts cold, as it does wherever it is started.
    crate::subject::walk(settings, stage.server()).await?;
    for subject in [Subject::Pipeline, Subject::Bridge] {
        Box::pin(round(&stage, settings, subject, znodes)).await?;
    }
    let most = if is_large { ROUNDS_OF_LARGE } else { usize::MAX };
    for repetition in 0..settings.sizes.repetitions.min(most) {
        for subject in in_turn(&SUBJECTS, settings, repetition) {
            let measures = Box::pin(round(&stage, settings, subject, znodes)).await;
            let measures = measures.with_context(|| format!("{}, {subject}", name(leaves)))?;
            figures.add(&name(leaves), repetition, subject, measures);
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
    };
    let idle = stage.costs(None)?;
    let began = Instant::now();
    let running = Running::start(subject, settings, &orders)?.context("nobody starts nothing")?;
    let least = i64::try_from(znodes)?;
    let rest = topic
        .rest(least, settings.sizes.quiet, START_BOUND, Watch::Loosely)
        .await?;
    // All that the process has used since it began.
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
    let told = topic.read().await?;
    let paths: HashSet<&str> = told.iter().filter_map(|told| told.path.as_deref()).collect();
    Ok(znodes.abs_diff(paths.len()) as f64)
}
