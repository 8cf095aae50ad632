//! The bridge beside what it is measured by, on real servers: a writer with nobody attached, a bare watcher, a bare
//! pipeline, a careful program in Java, and the bridge as users run it.
//!
//! Every subject runs in a process of its own, and the kernel and the topic are asked what it cost and what came
//! through; what a subject says of itself is taken only where nobody else can know it. Subjects have their turns
//! beside each other, so that a change of the machine's pace meets all of them; ratios within a round count. Nothing
//! in the test suite depends on a time. This crate must not share types with the bridge.

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
pub use scenario::{cut, idle, journal, latency, network, reconnect, start, sustained};
pub use settings::{SCENARIOS, Scenario, Settings, Sizes};
pub use subject::{Subject, peer};

/// Runs all that is asked for. After each scenario the table so far is written into `folder`.
///
/// # Errors
///
/// If a server or a subject fails, or the table cannot be written. The scenarios behind one that fails run all the same.
pub async fn run(settings: &Settings, folder: &Path) -> Result<Figures> {
    std::fs::create_dir_all(&settings.folder)
        .with_context(|| format!("create {}", settings.folder.display()))?;
    let mut figures = Figures::default();
    let mut failures = Vec::new();
    if let Some(file) = &settings.journal {
        journal::take(file, &mut figures)?;
    }
    for scenario in &settings.scenarios {
        // One that fails takes nothing from the others, which have cost their time.
        if let Err(error) = Box::pin(scenario::run(*scenario, settings, &mut figures)).await {
            eprintln!("{scenario:?} failed: {error:#}");
            failures.push(format!("{scenario:?}: {error:#}"));
        }
        report::write(&figures, settings, folder)?;
    }
    ensure!(
        failures.is_empty(),
        "{} of {} scenarios failed, and {} has what the others came to: {}",
        failures.len(),
        settings.scenarios.len(),
        folder.join(report::TABLE).display(),
        failures.join("; ")
    );
    Ok(figures)
}
