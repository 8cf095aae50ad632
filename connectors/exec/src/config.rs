//! The options of an exec sink: typed, documented, checked. Nothing in this module starts a process or reads a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bridge_core::amount::Span;
use bridge_core::format::Format;
use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::LineProjection;
use bridge_core::secret::Secret;
use bridge_subprocess::{ChildCommand, OptionNames};
use schemars::JsonSchema;
use serde::Deserialize;

/// As many as the engine reads at once.
const BATCH_MAX: usize = 1_000;

/// Greater statuses have a meaning of their own for shells: 126 and 127 for a command that was not run, 128 and more for
/// a signal.
const STATUS_MAX: u8 = 125;

const NAMES: OptionNames = OptionNames {
    words: "command",
    env: "env",
    directory: "directory",
    timeout: "timeout",
};

/// The options of a sink of type `exec`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program and its arguments: a list, as no shell reads it. The program is an absolute path, or a name that is
    /// looked up in `PATH` of `env`.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// The most records of one run, each on a line of the standard input. A run of several that fails is repeated record
    /// by record.
    #[serde(default = "default_batch")]
    #[schemars(range(min = 1, max = 1000))]
    pub batch: usize,
    /// The content of a line. `record`: the change record. `cloudevents`: a CloudEvent 1.0 around it. `flat`: a row for
    /// tables. Binary CloudEvents have headers, and raw data may hold line feeds, so neither fits a line.
    #[serde(default)]
    #[schemars(schema_with = "LineProjection::schema_of_formats")]
    pub format: Format,
    /// A template for the content of a line in the place of the format, which is then `record` or `service`: over the
    /// fields of the record or the event, see docs/messages.md. The command is not run where its result is empty.
    #[serde(default)]
    pub body: Option<String>,
    /// The media type of `body`. In JSON each value is written as JSON, and a line feed of the template is a space.
    #[serde(default)]
    #[schemars(extend("default" = "application/json"))]
    pub content_type: Option<String>,
    /// A run that takes longer is killed with its process group, and repeated; from `100ms` to `1h`.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// The exit status by which the command refuses a record for good: it becomes a dead letter. 65 is `EX_DATAERR` of
    /// `sysexits.h`.
    #[serde(default = "default_refuse_status")]
    #[schemars(range(min = 1, max = 125))]
    pub refuse_status: u8,
    /// The environment of the command, which gets no other variable than these and `PATH`, which has the folders of the
    /// system where it is not given. Values are never shown.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
    /// The working directory of the command, an absolute path.
    #[serde(default = "default_directory")]
    pub directory: PathBuf,
}

fn default_batch() -> usize {
    1
}

fn default_timeout() -> Span {
    Span::secs(30)
}

fn default_refuse_status() -> u8 {
    65
}

fn default_directory() -> PathBuf {
    PathBuf::from("/")
}

impl ExecConfig {
    /// The defaults for this command.
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>) -> ExecConfig {
        ExecConfig {
            command: command.into_iter().map(Into::into).collect(),
            batch: default_batch(),
            format: Format::default(),
            body: None,
            content_type: None,
            timeout: default_timeout(),
            refuse_status: default_refuse_status(),
            env: BTreeMap::new(),
            directory: default_directory(),
        }
    }

    /// Everything about the options that cannot work, or is surely not meant.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = self.child_command().objections(&NAMES);
        if !(1..=BATCH_MAX).contains(&self.batch) {
            found.push(ConfigIssue::error(
                "batch",
                format!("{} is not a number of records from 1 to {BATCH_MAX}", self.batch),
                "give 1 for a run for each record, or up to 1000",
            ));
        }
        let (body, media_type) = (self.body.as_deref(), self.content_type.as_deref());
        found.extend(LineProjection::objections(self.format, body, media_type));
        if !(1..=STATUS_MAX).contains(&self.refuse_status) {
            found.push(ConfigIssue::error(
                "refuse_status",
                format!(
                    "{} has a meaning already: 0 is delivered, and shells use 126 and more",
                    self.refuse_status
                ),
                format!("give a status from 1 to {STATUS_MAX}, such as 65"),
            ));
        }
        found
    }

    /// The command as it is run.
    pub(crate) fn child_command(&self) -> ChildCommand {
        ChildCommand {
            words: self.command.clone(),
            env: self.env.clone(),
            directory: self.directory.clone(),
            timeout: self.timeout,
        }
    }
}
