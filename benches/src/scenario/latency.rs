//! A steady rate of some hundred writes a second: the age of each value when a consumer of the topic receives it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::sustained::for_each;
use super::{OTHERS, in_turn};
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{HEAP, Spent, Stage};
use crate::subject::{Linger, Orders, Running, Subject};
use crate::topic::{Watch, percentile};
use crate::tree;
use crate::writer::{flat_out, paced};

/// With the same linger for all producers.
pub const SAME_LINGER: &str = "latency, linger 5 ms";
/// With the default linger of each.
pub const OWN_LINGER: &str = "latency, the sink's own linger";
/// The median age.
pub const P50: &str = "p50, ms";
/// The 99th percentile of the age.
pub const P99: &str = "p99, ms";
/// The maximum age.
const MOST: &str = "maximum, ms";
/// Processor time of the subject.
pub const CPU: &str = "CPU of the subject, µs a change";
/// Processor time of the server beyond that of the same writes without a subject.
pub const ZOOKEEPER_MORE: &str = "CPU of ZooKeeper beyond that with the writer alone, µs a change";
/// Values that the consumer received.
const CAME: &str = "values received, %";

const SUBJECTS: [Subject; 3] = [Subject::Pipeline, Subject::Curator, Subject::Bridge];

/// How long a round may take.
const REST_BOUND: Duration = Duration::from_secs(120);

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let stage = Stage::start(HEAP).await?;
    let paths = tree::flat(settings.sizes.written_znodes);
    tree::plant(stage.client(), paths.iter().cloned(), settings.sizes.value_bytes).await?;
    for repetition in 0..settings.sizes.repetitions {
        for subject in in_turn(&SUBJECTS, settings, repetition) {
            let measures = Box::pin(round(&stage, settings, subject, Linger::Millis(5), &paths)).await;
            let (measures, _) = measures.with_context(|| format!("{SAME_LINGER}, {subject}"))?;
            figures.add(SAME_LINGER, repetition, subject, measures);
        }
        let (measures, _) = Box::pin(round(&stage, settings, Subject::Bridge, Linger::Own, &paths)).await?;
        figures.add(OWN_LINGER, repetition, Subject::Bridge, measures);
    }
    Ok(())
}

/// Measures these subjects on a stage without a tree, with the same linger, beside the writer alone.
pub(super) async fn beside(
    stage: &Stage,
    name: &str,
    subjects: &[Subject],
    settings: &Settings,
    figures: &mut Figures,
) -> Result<()> {
    let paths = tree::flat(settings.sizes.written_znodes);
    tree::plant(stage.client(), paths.iter().cloned(), settings.sizes.value_bytes).await?;
    for repetition in 0..settings.sizes.repetitions {
        let (_, alone) = Box::pin(round(stage, settings, Subject::None, Linger::Millis(5), &paths)).await?;
        for subject in in_turn(subjects, settings, repetition) {
            let measured = Box::pin(round(stage, settings, subject, Linger::Millis(5), &paths)).await;
            let (mut measures, spent) = measured.with_context(|| format!("{name}, {subject}"))?;
            let more = spent.zookeeper.saturating_sub(alone.zookeeper);
            measures.insert(ZOOKEEPER_MORE, for_each(more, settings.sizes.paced_writes));
            figures.add(name, repetition, subject, measures);
        }
    }
    Ok(())
}

async fn round(
    stage: &Stage,
    settings: &Settings,
    subject: Subject,
    linger: Linger,
    paths: &[String],
) -> Result<(Measures, Spent)> {
    let sizes = &settings.sizes;
    let topic = stage.topic().await?;
    let orders = Orders {
        server: stage.server(),
        bootstrap: &stage.bootstrap(),
        topic: &topic,
        linger,
        transactions: stage.transactions(),
    };
    let mut running = Running::start(subject, settings, &orders)?;
    if let Some(running) = &mut running {
        running.ready().await?;
    }
    // Unmeasured, to warm up the programs, above all a JVM.
    let warming = flat_out(
        stage.server(),
        paths.to_vec(),
        sizes.warming_writes,
        sizes.value_bytes,
    );
    warming.await?;
    let least = i64::from(running.is_some());
    topic.rest(least, sizes.quiet, REST_BOUND, Watch::Loosely).await?;

    let follower = topic.follow()?;
    let before = stage.costs(running.as_ref())?;
    let paced = paced(
        stage.server(),
        paths.to_vec(),
        sizes.paced_writes,
        sizes.paced_rate,
        sizes.value_bytes,
    );
    paced.await?;
    topic.rest(least, sizes.quiet, REST_BOUND, Watch::Loosely).await?;
    let spent = stage.costs(running.as_ref())?.since(&before);
    let ages = follower.ages().await?;
    let measures = match running {
        None => Measures::new(),
        Some(running) => {
            running.end().await?;
            measures(ages, sizes.paced_writes, spent.subject, spent.others_percent())?
        }
    };
    topic.remove().await?;
    Ok((measures, spent))
}

fn measures(mut ages: Vec<Duration>, writes: usize, spent: Duration, others: f64) -> Result<Measures> {
    ensure!(!ages.is_empty(), "no value came");
    ages.sort_unstable();
    let at = |percent: usize| percentile(&ages, percent).unwrap_or_default();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let of_all = |value: f64| value / writes as f64;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let came = 100.0 * of_all(ages.len() as f64);
    Ok(Measures::from([
        (P50, at(50)),
        (P99, at(99)),
        (MOST, at(100)),
        (CAME, came),
        (CPU, of_all(spent.as_secs_f64() * 1e6)),
        (OTHERS, others),
    ]))
}
