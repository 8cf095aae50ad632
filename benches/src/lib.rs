//! Measures the bridge beside its baselines on real servers: a writer alone, a bare watcher, a bare pipeline, a careful
//! Java program, and the bridge as users run it.
//!
//! Every subject runs in a process of its own. Costs come from the kernel and deliveries from the topic; a subject's own
//! figures are used only if no one else can know them. Subjects take turns in each repetition, so that a change in the
//! machine's speed affects all of them; the results are ratios within a repetition. No test depends on a time. This crate
//! must not share types with the bridge.

mod figures;
mod goals;
mod machine;
pub mod program;
mod report;
mod scenario;
mod settings;
mod stage;
mod subject;
mod topic;
mod tree;
mod wire;
mod writer;

use std::path::Path;

use anyhow::{Context, Result, ensure};

pub use figures::{Comparison, Figures, Measures, Round, Summary};
pub use goals::{Outcome, outcomes};
pub use report::table;
pub use scenario::{
    cut, idle, journal, large, latency, lossless, network, reconnect, services, start, sustained,
};
pub use settings::{SCENARIOS, Scenario, Settings, Sizes};
pub use subject::{Subject, peer};

/// Runs the scenarios of the settings. Writes the table so far into `folder` after each scenario.
///
/// # Errors
///
/// If a server or a subject fails: the scenarios after a failed one still run. If the table cannot be written, or the
/// figures of the journal not be read, at once.
pub async fn run(settings: &Settings, folder: &Path) -> Result<Figures> {
    std::fs::create_dir_all(&settings.folder)
        .with_context(|| format!("create {}", settings.folder.display()))?;
    let mut figures = Figures::default();
    let mut failures = Vec::new();
    if let Some(file) = &settings.journal {
        journal::take(file, &mut figures)?;
    }
    for scenario in &settings.scenarios {
        // A failed scenario does not discard the results of the others.
        if let Err(error) = Box::pin(scenario::run(*scenario, settings, &mut figures)).await {
            eprintln!("{scenario:?} failed: {error:#}");
            failures.push(format!("{scenario:?}: {error:#}"));
        }
        report::write(&figures, settings, folder)?;
    }
    ensure!(
        failures.is_empty(),
        "{} of {} scenarios failed, and {} has the results of the others: {}",
        failures.len(),
        settings.scenarios.len(),
        folder.join(report::TABLE).display(),
        failures.join("; ")
    );
    Ok(figures)
}
