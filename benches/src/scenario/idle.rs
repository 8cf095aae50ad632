//! The costs of watching a tree without changes.

use anyhow::{Context, Result};

use super::sustained::megabytes;
use super::{OTHERS, in_turn};
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{HEAP, Stage};
use crate::subject::{Linger, Orders, Running, Subject};
use crate::{machine, tree};

/// The scenario's name.
pub const NAME: &str = "idle, 100,000 znodes watched";
/// Processor time of the subject.
pub const CPU: &str = "CPU of the subject, % of one core";
/// Records in the journal of the bridge, events among them.
pub const JOURNALLED: &str = "records in the journal";
/// Memory of the subject at the end.
pub const MEMORY: &str = "memory, MB";

const SUBJECTS: [Subject; 3] = [Subject::Pipeline, Subject::Curator, Subject::Bridge];

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let stage = Stage::start(HEAP).await?;
    let leaves = settings.sizes.idle_tree;
    tree::plant(stage.client(), tree::large(leaves), settings.sizes.value_bytes).await?;
    for subject in in_turn(&SUBJECTS, settings, 0) {
        let measures = Box::pin(round(&stage, settings, subject)).await;
        let measures = measures.with_context(|| format!("{NAME}, {subject}"))?;
        figures.add(NAME, 0, subject, measures);
    }
    Ok(())
}

pub(super) async fn round(stage: &Stage, settings: &Settings, subject: Subject) -> Result<Measures> {
    let topic = stage.topic().await?;
    let orders = Orders {
        server: stage.server(),
        bootstrap: &stage.bootstrap(),
        topic: &topic,
        linger: Linger::Own,
        transactions: None,
    };
    let mut running = Running::start(subject, settings, &orders)?.context("this subject has no process")?;
    running.ready().await?;
    tokio::time::sleep(settings.sizes.settle).await;
    let before = stage.costs(Some(&running))?;
    tokio::time::sleep(settings.sizes.idle).await;
    let spent = stage.costs(Some(&running))?.since(&before);
    let mut measures = Measures::from([
        (
            CPU,
            100.0 * spent.subject.as_secs_f64() / spent.time.as_secs_f64(),
        ),
        (MEMORY, megabytes(machine::resident_memory(running.id())?)),
        (OTHERS, spent.others_percent()),
    ]);
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    measures.extend(
        running
            .journalled()
            .await?
            .map(|records| (JOURNALLED, records as f64)),
    );
    running.end().await?;
    topic.remove().await?;
    Ok(measures)
}
