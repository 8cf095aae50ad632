//! The runs of a delivery.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_core::outbound::LineProjection;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkError, SinkErrorKind};
use bridge_subprocess::{ChildCommand, Runner};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;

use crate::attempt::{Attempt, Suspects};
use crate::config::ExecConfig;
use crate::encode::line_projection;
use crate::error::{Answer, answer};

/// Runs a command for records.
pub struct ExecSink {
    command: Arc<ChildCommand>,
    lines: LineProjection,
    batch: usize,
    refuse_status: u8,
    /// Found by `open`.
    program: Option<PathBuf>,
    runner: Runner,
    /// Paths that failed. Kept when the sink is opened again, as they decide the order of turns and nothing else.
    suspects: Suspects,
    /// Whether each record has a run of its own, because one failed in the last call.
    is_single: bool,
    /// The last line that a successful run wrote.
    answer: Option<String>,
}

impl ExecSink {
    /// A sink with these options. Nothing is started before the first record.
    ///
    /// # Panics
    ///
    /// If [`ExecConfig::objections`] has an error about `body`.
    pub fn new(config: &ExecConfig) -> ExecSink {
        ExecSink {
            command: Arc::new(config.child_command()),
            lines: line_projection(config),
            batch: config.batch.max(1),
            refuse_status: config.refuse_status,
            program: None,
            runner: Runner::default(),
            suspects: Suspects::new(),
            is_single: false,
            answer: None,
        }
    }

    /// Counts the runs as those of this sink and source.
    #[must_use]
    pub fn metered(mut self, name: &str, source: &str) -> ExecSink {
        self.runner = self.runner.metered(name, source);
        self
    }

    async fn prepare(&mut self) -> Result<(), SinkError> {
        self.program = None;
        let command = Arc::clone(&self.command);
        let found = spawn_blocking(move || command.find()).await;
        let found = found.unwrap_or_else(|cause| {
            let message = "the thread that looks for the program ended";
            Err(SinkError::new(SinkErrorKind::Broken, message).because(cause))
        });
        self.program = Some(found?);
        Ok(())
    }

    async fn deliver_batch(&mut self, records: &[Arc<Record>]) -> Result<(), DeliverError> {
        let Some(program) = self.program.clone() else {
            return Err(DeliverError::after(0, SinkError::not_opened()));
        };
        let mut attempt = Attempt::new(records, &self.lines);
        let stopped = self.run_all(&program, &mut attempt).await;
        attempt.update(&mut self.suspects);
        self.is_single = attempt.has_failed();
        attempt.report(&self.suspects, stopped)
    }

    /// Runs the command for each record that needs it, until all are settled or time is up.
    ///
    /// # Errors
    ///
    /// No command can be run.
    async fn run_all(&mut self, program: &Path, attempt: &mut Attempt<'_>) -> Result<(), SinkError> {
        let turns = attempt.turns(&self.suspects);
        let mut next = 0;
        while next < turns.len() && !attempt.is_late(self.command.timeout.0) {
            let size = match self.is_single {
                true => 1,
                false => self.batch,
            };
            let end = turns.len().min(next + size);
            let members = attempt.free(&turns[next..end]);
            if members.is_empty() {
                next = end;
                continue;
            }
            match self.ask(program, attempt.input(&members)).await? {
                Answer::Took => attempt.took(&members),
                answer if members.len() == 1 => attempt.settle(members[0], answer),
                // Runs of their own show which of them it is.
                answer => {
                    if let Answer::Failed(error) = &answer {
                        attempt.failed(error);
                    }
                    self.is_single = true;
                    continue;
                }
            }
            next = end;
        }
        Ok(())
    }

    async fn ask(&mut self, program: &Path, input: Vec<u8>) -> Result<Answer, SinkError> {
        let finished = self.runner.run(program, &self.command, input).await?;
        let answer = answer(program, &finished, self.refuse_status);
        if matches!(answer, Answer::Took) {
            let line = finished.stdout.last_line();
            self.answer = Some(match line {
                Some(line) => format!("status 0 ({line})"),
                None => "status 0".to_owned(),
            });
        }
        Ok(answer)
    }
}

impl Sink for ExecSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.prepare().boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.deliver_batch(&batch.records).boxed()
    }

    fn take_answer(&mut self) -> Option<String> {
        self.answer.take()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async {
            // A run that is not gone after some seconds is killed and ends when its device answers.
            self.runner.stop().await;
            Ok(())
        }
        .boxed()
    }
}
