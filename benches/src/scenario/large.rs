//! Sources that read transactions, with large trees: a start, writes all over the tree at the highest rate, and an absence
//! of the bridge for as many writes, which a leader keeps. The time in which these are in the topic gives the rate of the
//! bridge itself: the server does nothing else meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};

use super::lossless::{GAPS, SUBJECTS, absence, through_proxy};
use super::sustained::{
    BEHIND, CPU, DELIVERED, MEMORY, RATE, ZOOKEEPER_CPU, behind, for_each, megabytes, percent,
};
use super::{OTHERS, start};
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{COMMIT_LOG, Stage};
use crate::subject::Subject;
use crate::topic::{Watch, versions};
use crate::writer::flat_out;
use crate::{machine, tree};

/// A start with 1,000,000 znodes.
pub const MILLION_START: &str = "every change: start, 1000000 znodes";
/// Writes with 1,000,000 znodes.
pub const MILLION_WRITES: &str = "every change: writes, 1000000 znodes";
/// The rate at which missed transactions come into the topic.
pub const CATCH_UP: &str = "missed transactions into the topic, a second";
/// Of those missed transactions, versions in the topic.
pub const CAUGHT_UP: &str = "missed versions delivered, %";
/// Processor time of the subject for a missed one.
const CATCH_UP_CPU: &str = "CPU of the subject, µs a missed transaction";

/// How long the live writes may take until they are in the topic.
const REST_BOUND: Duration = Duration::from_secs(300);

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    for leaves in &settings.sizes.start_trees {
        let commit_log = COMMIT_LOG.max(2 * settings.sizes.large_writes);
        let stage = Stage::start_quorum(start::heap(*leaves), commit_log).await?;
        let name = format!("every change: start, {leaves} znodes");
        Box::pin(start::beside(
            &stage, *leaves, &name, &SUBJECTS, settings, figures,
        ))
        .await?;
        let name = format!("every change: writes, {leaves} znodes");
        let rounds = settings.sizes.repetitions.min(start::most_rounds(*leaves));
        for repetition in 0..rounds {
            let measures = Box::pin(writes(&stage, settings, *leaves)).await;
            let measures = measures.with_context(|| name.clone())?;
            figures.add(&name, repetition, Subject::BridgeObserver, measures);
        }
    }
    Ok(())
}

/// Writes with an observer, and then without it.
async fn writes(stage: &Stage, settings: &Settings, leaves: usize) -> Result<Measures> {
    let sizes = &settings.sizes;
    let (writes, bytes) = (sizes.large_writes, sizes.value_bytes);
    let topic = stage.topic().await?;
    let (mut running, proxy) = through_proxy(stage, settings, Subject::BridgeObserver, &topic).await?;
    let paths = tree::scattered(leaves, writes);

    let listed = topic.end().await?;
    let before = stage.costs(Some(&running))?;
    let written = flat_out(stage.server(), paths.clone(), writes, bytes).await?;
    let least = listed.messages() + i64::try_from(writes)?;
    let rest = topic.rest(least, sizes.quiet, REST_BOUND, Watch::Closely).await?;
    let live = stage.costs(Some(&running))?.since(&before);
    let memory = machine::peak_memory(running.id())?;
    let (delivered, _) = versions(&topic.read_after(&listed).await?, &listed);

    let parts = (&mut running, &proxy, &topic);
    let absence = absence(stage, settings, parts, paths, writes).await?;
    let memory = memory.max(machine::peak_memory(running.id())?);
    running.end().await?;
    topic.remove().await?;

    let took = absence.rest.saturating_duration_since(absence.answered);
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = writes as f64 / took.as_secs_f64();
    Ok(Measures::from([
        (RATE, written.rate()),
        (DELIVERED, percent(delivered, writes)),
        (BEHIND, behind(rest, written)),
        (CPU, for_each(live.subject, writes)),
        (ZOOKEEPER_CPU, for_each(live.zookeeper, writes)),
        (CATCH_UP, rate),
        (CAUGHT_UP, percent(absence.delivered, writes)),
        (CATCH_UP_CPU, for_each(absence.spent.subject, writes)),
        (GAPS, absence.gaps()),
        (MEMORY, megabytes(memory)),
        (OTHERS, live.others_percent()),
    ]))
}
