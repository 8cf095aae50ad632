//! The first start of a source that begins with the history in the files of servers, and not with the present tree.

use std::path::Path;
use std::time::{Duration, Instant};

use bridge_config::SourceConfig;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::backfill::{BackfillPlan, Progress, backfill};
use crate::exit::Failure;
use crate::source_type::source_type;

/// How often the progress is logged.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// Makes the journal of a source that has none. Blocks on the disk and on servers; needs a runtime.
///
/// # Errors
/// If the files have no history that can be used, or `stop` is cancelled. Nothing is made then: a journal that begins with the present tree would
/// never be given what came before.
pub(super) fn begin_with_history(
    source: &SourceConfig,
    journal: &Path,
    key_file: &Path,
    stop: &CancellationToken,
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
        applied: applied(source, stop),
        stop: stop.clone(),
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

/// The last transactions that servers have applied; none if no server says it, or nothing waits for it any more.
fn applied(source: &SourceConfig, stop: &CancellationToken) -> Vec<i64> {
    let asked = stop.run_until_cancelled(source_type(&source.kind).applied());
    let applied = Handle::current()
        .block_on(asked)
        .unwrap_or_else(|| Ok(Vec::new()));
    applied.unwrap_or_else(|reason| {
        tracing::warn!(
            source = &*source.name,
            reason,
            "the history has only what the logs themselves show to be committed"
        );
        Vec::new()
    })
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
