//! The first start of a source that begins with the history in the files of servers, and not with the present tree.

use std::path::Path;
use std::time::{Duration, Instant};

use bridge_config::SourceConfig;

use super::environment;
use crate::backfill::{BackfillPlan, Progress, backfill};
use crate::exit::Failure;
use crate::source_type::source_type;

/// How often the progress is logged.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// Makes the journal of a source that has none. Blocks on the disk and on servers.
///
/// # Errors
/// If the files have no history that can be used. Nothing is made then: a journal that begins with the present tree would
/// never be given what came before.
pub(super) fn begin_with_history(
    source: &SourceConfig,
    journal: &Path,
    key_file: &Path,
) -> Result<(), Failure> {
    let name = &*source.name;
    let directories = source_type(&source.kind).log_directories();
    tracing::info!(
        source = name,
        "the journal begins with the history in transaction logs"
    );
    let plan = BackfillPlan {
        journal: journal.to_owned(),
        key_file: key_file.to_owned(),
        source,
        directories,
        applied: applied(source)?,
    };
    let done = backfill(&plan, progress(name)).map_err(|failure| {
        let message = format!(
            "the journal of source '{name}' cannot begin with the history in transaction logs: {}; or take backfill out of \
             [source.txnlog] to begin with the present tree",
            failure.message
        );
        Failure::new(failure.exit, message)
    })?;
    for reason in &done.passed_over {
        tracing::warn!(source = name, reason, "older files were not used");
    }
    tracing::info!(
        source = name,
        from = %done.from,
        to = %done.to,
        records = done.records,
        end = done.reason,
        "the journal has the history in transaction logs"
    );
    Ok(())
}

/// The last transactions that servers have applied; none if no server says it.
fn applied(source: &SourceConfig) -> Result<Vec<i64>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| environment(format!("no runtime to ask servers: {error}")))?;
    let applied = runtime.block_on(source_type(&source.kind).applied());
    Ok(applied.unwrap_or_else(|reason| {
        tracing::warn!(
            source = &*source.name,
            reason,
            "the history has only what the logs themselves show to be committed"
        );
        Vec::new()
    }))
}

/// Logs how far the work is.
fn progress(name: &str) -> impl FnMut(Progress) {
    let mut logged = Instant::now();
    move |progress| {
        if logged.elapsed() >= PROGRESS_EVERY {
            logged = Instant::now();
            tracing::info!(
                source = name,
                records = progress.records,
                zxid = %progress.zxid,
                "the history in transaction logs is being read"
            );
        }
    }
}
