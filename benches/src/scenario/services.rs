//! The costs of service events: processor time for a change where each write is an event of an instance, and the memory
//! of 100,000 instances in 1,000 services, each beside the same bridge without sections.

use anyhow::{Context, Result};

use super::{idle, in_turn, sustained};
use crate::figures::Figures;
use crate::settings::Settings;
use crate::stage::{HEAP, Stage};
use crate::subject::Subject;
use crate::tree;

/// The scenario of the processor time.
pub const NAME: &str = "services, each write an event";
/// The scenario of the memory.
pub const REGISTRY: &str = "services, 100,000 instances in 1,000 services";

/// The subjects.
const SUBJECTS: [Subject; 2] = [Subject::Bridge, Subject::BridgeServices];

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let stage = Stage::start(HEAP).await?;
    sustained::beside(&stage, NAME, &SUBJECTS, settings, figures).await?;
    drop(stage);
    let stage = Stage::start(HEAP).await?;
    let instances = tree::registry(settings.sizes.idle_tree);
    tree::plant(stage.client(), instances, settings.sizes.value_bytes).await?;
    for subject in in_turn(&SUBJECTS, settings, 0) {
        let measures = Box::pin(idle::round(&stage, settings, subject)).await;
        let measures = measures.with_context(|| format!("{REGISTRY}, {subject}"))?;
        figures.add(REGISTRY, 0, subject, measures);
    }
    Ok(())
}
