//! Runs that follow each other: none starts before the one before it is gone.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::metrics::COMMAND_RUNS;
use bridge_core::sink::{SinkError, SinkErrorKind};
use metrics::counter;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::command::ChildCommand;
use crate::program::unstartable;
use crate::run::{FinishedRun, RunEnd, run};

/// A process that was killed is gone after this time, unless it waits in the kernel for a device or a network disk.
const GONE_AFTER_KILL: Duration = Duration::from_secs(5);

/// Runs commands, one at a time.
#[derive(Debug, Default)]
pub struct Runner {
    /// The run under way, also one that was given up.
    running: Option<JoinHandle<io::Result<FinishedRun>>>,
    give_up: CancellationToken,
    /// The sink and the source in metrics.
    labels: Option<[String; 2]>,
}

impl Runner {
    /// Counts the runs as those of this sink and source.
    #[must_use]
    pub fn metered(mut self, sink: &str, source: &str) -> Runner {
        self.labels = Some([sink.to_owned(), source.to_owned()]);
        self
    }

    /// Runs the command with this input, after the run before is gone. Dropping the future gives the run up: it is
    /// killed, and the next call waits until it is gone. `program` is the one of [`ChildCommand::find`].
    ///
    /// # Errors
    ///
    /// The command was not started, or is killed and not gone after some seconds: nothing else runs before it is.
    pub async fn run(
        &mut self,
        program: &Path,
        command: &Arc<ChildCommand>,
        input: Vec<u8>,
    ) -> Result<FinishedRun, SinkError> {
        let finished = self.run_to_end(program, command, input).await;
        self.count(finished.as_ref().ok());
        finished
    }

    fn count(&self, finished: Option<&FinishedRun>) {
        let Some([sink, source]) = &self.labels else {
            return;
        };
        let end = match finished.map(|finished| finished.end) {
            Some(RunEnd::Status(0)) => "success",
            Some(RunEnd::Status(_)) => "status",
            Some(RunEnd::Signal(_)) => "signal",
            Some(RunEnd::TimedOut(_)) => "timeout",
            Some(RunEnd::TooMuchOutput) => "output",
            Some(RunEnd::GivenUp) => "given_up",
            None => "not_run",
        };
        counter!(COMMAND_RUNS, "sink" => sink.clone(), "source" => source.clone(), "end" => end).increment(1);
    }

    async fn run_to_end(
        &mut self,
        program: &Path,
        command: &Arc<ChildCommand>,
        input: Vec<u8>,
    ) -> Result<FinishedRun, SinkError> {
        if !self.stop().await {
            return Err(not_gone(program));
        }
        self.give_up = CancellationToken::new();
        let work = run(
            program.to_owned(),
            Arc::clone(command),
            input,
            self.give_up.clone(),
        );
        let running = self.running.insert(tokio::spawn(work));
        let guard = self.give_up.clone().drop_guard();
        let ended = timeout(command.timeout.0 + GONE_AFTER_KILL, running).await;
        let Ok(ended) = ended else {
            return Err(not_gone(program));
        };
        guard.disarm();
        self.running = None;
        ended
            .map_err(|error| task_ended(program, error))?
            .map_err(|error| unstartable(program, error))
    }

    /// Gives the run under way up and waits until it is gone, for some seconds. Returns whether none is left.
    pub async fn stop(&mut self) -> bool {
        self.give_up.cancel();
        let Some(running) = &mut self.running else {
            return true;
        };
        let is_gone = timeout(GONE_AFTER_KILL, running).await.is_ok();
        if is_gone {
            self.running = None;
        }
        is_gone
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.give_up.cancel();
    }
}

fn not_gone(program: &Path) -> SinkError {
    SinkError::new(
        SinkErrorKind::Unavailable,
        format!(
            "{}: a run was killed and is not gone: nothing is started before it is; look at its process in the state D",
            program.display()
        ),
    )
}

fn task_ended(program: &Path, error: JoinError) -> SinkError {
    let message = format!("{}: the task that runs it has ended", program.display());
    SinkError::new(SinkErrorKind::Broken, message).because(error)
}
