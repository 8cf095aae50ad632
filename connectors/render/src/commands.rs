//! The check of a new text, and the reload.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_core::sink::SinkError;
use bridge_subprocess::{ChildCommand, RunEnd, Runner};

use crate::config::{FILE_PLACE, RenderConfig};
use crate::error;

/// The commands of a sink, found on this machine.
#[derive(Clone)]
pub(crate) struct Commands {
    verify: Option<FoundCommand>,
    reload: Option<FoundCommand>,
}

#[derive(Clone)]
struct FoundCommand {
    program: PathBuf,
    command: Arc<ChildCommand>,
}

impl Commands {
    /// Finds the programs. Blocks on the disk.
    pub(crate) fn find(config: &RenderConfig) -> Result<Commands, SinkError> {
        let find = |words: &Option<Vec<String>>| -> Result<Option<FoundCommand>, SinkError> {
            let Some(command) = config.command(words.as_ref()) else {
                return Ok(None);
            };
            Ok(Some(FoundCommand {
                program: command.find()?,
                command: Arc::new(command),
            }))
        };
        Ok(Commands {
            verify: find(&config.verify)?,
            reload: find(&config.reload)?,
        })
    }

    /// Whether there is a reload.
    pub(crate) fn has_reload(&self) -> bool {
        self.reload.is_some()
    }

    /// Asks whether a staged text may take the place of the file.
    pub(crate) async fn verify(
        &self,
        runner: &mut Runner,
        staged: &Path,
        config: &RenderConfig,
    ) -> Result<(), SinkError> {
        let Some(FoundCommand { program, command }) = &self.verify else {
            return Ok(());
        };
        let staged = staged.to_string_lossy();
        let mut command = ChildCommand::clone(command);
        for word in command.words.iter_mut().skip(1) {
            *word = word.replace(FILE_PLACE, &staged);
        }
        let ended = runner.run(program, &Arc::new(command), Vec::new()).await?;
        match ended.end {
            RunEnd::Status(0) => Ok(()),
            _ => Err(error::refused(config, &ended.sentence(program))),
        }
    }

    /// Runs the reload.
    pub(crate) async fn reload(&self, runner: &mut Runner, config: &RenderConfig) -> Result<(), SinkError> {
        let Some(FoundCommand { program, command }) = &self.reload else {
            return Ok(());
        };
        let ended = runner.run(program, command, Vec::new()).await?;
        match ended.end {
            RunEnd::Status(0) => Ok(()),
            _ => Err(error::not_reloaded(config, &ended.sentence(program))),
        }
    }
}
