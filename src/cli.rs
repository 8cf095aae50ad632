//! The command line and its help.

use std::path::{Path, PathBuf};

use bridge_config::{Format, Loaded, LogFormat, LogLevel, Refused, WIDTH, load, nearest};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::command::{self, argument::word_of};
use crate::exit::{Exit, Failure};
use crate::operator::Journals;
use crate::terminal::notice;
use crate::version;

const EXAMPLES: &str = "\
Examples:
  zkbridge init --output zkbridge.toml   write a commented configuration
  zkbridge check                         report everything wrong with it
  zkbridge doctor                        examine what the bridge relies on
  zkbridge status                        show the running bridge
  zkbridge schema record                 print the contract for consumers

Exit codes:
  0      success
  1      a runtime failure
  2      the configuration or the command line is wrong
  3      something that the configuration relies on is missing
  4      every source has halted and needs an operator
  128+n  ended by signal n";

/// Change data capture for Apache ZooKeeper: every change under the watched
/// znodes, in order, at least once.
#[derive(Debug, Parser)]
#[command(
    name = "zkbridge",
    version = version::long(),
    max_term_width = WIDTH,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// The log.
    #[command(flatten)]
    pub log: LogFlags,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Count the records of a range by interval
    Activity(command::activity::ActivityArgs),
    /// Make the history from before a journal from transaction logs
    Backfill(command::backfill::BackfillArgs),
    /// Print the value of a znode at a moment
    Cat(command::cat::CatArgs),
    /// Print the records of a range that pass a filter
    Changes(command::changes::ChangesArgs),
    /// Check the configuration and report everything wrong with it
    Check(command::check::CheckArgs),
    /// Print the completion script of a shell
    Completions(command::completions::CompletionsArgs),
    /// Show the configuration as it takes effect
    Config(command::config::ConfigArgs),
    /// Print the paths that differ between two moments
    Diff(command::diff::DiffArgs),
    /// List, print, retry or drop dead letters
    Dlq(command::dlq::DlqArgs),
    /// Examine everything that the bridge relies on
    Doctor(command::doctor::DoctorArgs),
    /// Print the gaps of a range
    Gaps(command::gaps::GapsArgs),
    /// Print every journalled version of a znode, or its value at a moment
    History(command::history::HistoryArgs),
    /// Print a configuration with a comment on each key
    Init(command::init::InitArgs),
    /// Back up, check, compact and export the journals
    Journal(command::journal::JournalArgs),
    /// Print or check transaction logs and snapshots of ZooKeeper
    Log(command::log::LogArgs),
    /// Print the children of a znode at a moment
    Ls(command::ls::LsArgs),
    /// Print the manual pages
    Man(command::man::ManArgs),
    /// Make a running bridge read its configuration again
    Reload(command::reload::ReloadArgs),
    /// Deliver journalled records to a sink again
    Replay(command::replay::ReplayArgs),
    /// Put a subtree back as it was at a moment: plan, then apply
    Restore(command::restore::RestoreCommand),
    /// Put a backup in the place of a journal
    RestoreJournal(command::restore_journal::RestoreArgs),
    /// Capture every change, keep it in the journal and deliver it
    Run(command::run::RunArgs),
    /// Print the JSON Schema of records, service events or the configuration
    Schema(command::schema::SchemaArgs),
    /// List the registered instances of services and the leaders of elections
    Services(command::services::ServicesArgs),
    /// List, test or resume sinks, and remove or rename their cursors
    Sink(command::sink::SinkArgs),
    /// Send the present state to one sink again
    Snapshot(command::snapshot::SnapshotArgs),
    /// Show the state of sources, sinks and journals
    Status(command::status::StatusArgs),
    /// Print the last journalled changes, and new ones as they come
    Tail(command::tail::TailArgs),
    /// Render a template of messages over records, and send nothing
    Template(command::template::TemplateArgs),
    /// Print a subtree at a moment
    Tree(command::tree::TreeArgs),
    /// Print a link that opens a session of the API
    Ui(command::ui::UiArgs),
    /// Compare the journal's image with the tree in ZooKeeper
    Verify(command::verify::VerifyArgs),
    /// Print changes as they happen, with no configuration
    Watch(command::watch::WatchArgs),
}

/// Words that look like commands, and what to use.
const OTHER_WORDS: [(&str, &str); 17] = [
    ("version", "use 'zkbridge --version'"),
    ("export", "use 'zkbridge journal export'"),
    ("compact", "use 'zkbridge journal compact'"),
    ("backup", "use 'zkbridge journal backup FOLDER'"),
    ("start", "use 'zkbridge run'"),
    ("serve", "use 'zkbridge run'"),
    ("sync", "use 'zkbridge run'"),
    ("stop", "send SIGTERM to the process of 'zkbridge run'"),
    ("health", "use 'zkbridge status --running'"),
    ("lint", "use 'zkbridge check'"),
    (
        "test",
        "use 'zkbridge check --connect', or 'zkbridge sink test NAME'",
    ),
    (
        "metrics",
        "the page /metrics of 'zkbridge run' has them, at the address of http.listen",
    ),
    ("validate", "use 'zkbridge check'"),
    ("retry", "use 'zkbridge dlq retry'"),
    ("enable", "use 'zkbridge sink enable NAME'"),
    ("get", "use 'zkbridge cat PATH'"),
    (
        "logs",
        "'zkbridge run' logs to standard error; 'zkbridge tail' prints changes",
    ),
];

/// Adds a suggestion to an error of the command line that has none.
pub fn suggest(mut error: clap::Error) -> clap::Error {
    let has_one = |kind| error.get(kind).is_some();
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.clone()),
        _ => None,
    };
    let argument = word(ContextKind::InvalidArg);
    let command = word(ContextKind::InvalidSubcommand);
    let tip = match (&command, &argument) {
        (Some(command), _) => {
            let known = OTHER_WORDS.iter().find(|(other, _)| other == command);
            let all = Cli::command();
            let near = nearest(command, all.get_subcommands().map(clap::Command::get_name));
            let near = near.filter(|_| !has_one(ContextKind::SuggestedSubcommand));
            let near = near.map(|near| format!("a similar subcommand exists: '{near}'"));
            known.map(|(_, tip)| (*tip).to_owned()).or(near)
        }
        (None, Some(argument)) if Format::of(Path::new(argument)).is_some() => {
            Some(format!("name the configuration with '--config {argument}'"))
        }
        _ => None,
    };
    if let Some(tip) = tip {
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The configuration in the working directory.
const HERE: &str = "zkbridge.toml";

/// The configuration that the packages install.
const OF_PACKAGES: &str = "/etc/zkbridge/zkbridge.toml";

/// The file of a command that names none: `of_packages` where only that one is there.
fn default_file(here: &Path, of_packages: &Path) -> PathBuf {
    match !here.exists() && of_packages.exists() {
        true => of_packages.to_owned(),
        false => here.to_owned(),
    }
}

/// The configuration of a command.
#[derive(Args, Debug)]
pub struct ConfigFlag {
    /// Configuration file: .toml, .yaml or .json. Where zkbridge.toml is not in
    /// the working directory, the default is /etc/zkbridge/zkbridge.toml
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value_os_t = default_file(Path::new(HERE), Path::new(OF_PACKAGES)),
        env = "ZKBRIDGE_CONFIG"
    )]
    pub config: PathBuf,
}

impl ConfigFlag {
    /// Reads the configuration. Prints its problems if it cannot be used.
    pub fn load(&self) -> Result<Loaded, Failure> {
        load(&self.config).map_err(refused)
    }

    /// The journals of the configuration.
    pub fn journals(&self) -> Result<Journals, Failure> {
        Ok(Journals::new(self.load()?.config))
    }
}

/// Prints the problems of a configuration.
pub fn refused(refused: Refused) -> Failure {
    notice(refused);
    Failure::new(Exit::Configuration, "")
}

/// The log; overrides the configuration.
#[derive(Args, Debug, Clone, Default)]
pub struct LogFlags {
    /// Log level of standard error
    #[arg(long, global = true, value_name = "LEVEL", value_parser = word_of(LogLevel::ALL, LogLevel::as_str))]
    pub log_level: Option<LogLevel>,
    /// Log format. auto: text on a terminal, JSON otherwise
    #[arg(long, global = true, value_name = "FORMAT", value_parser = word_of(LogFormat::ALL, LogFormat::as_str))]
    pub log_format: Option<LogFormat>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_that_names_no_file_reads_the_one_here_before_that_of_the_packages() {
        let folder = tempfile::tempdir().unwrap();
        let (here, of_packages) = (folder.path().join("here"), folder.path().join("of-packages"));
        let check = |expected: &Path| assert_eq!(default_file(&here, &of_packages), expected);
        check(&here);
        std::fs::write(&of_packages, "").unwrap();
        check(&of_packages);
        std::fs::write(&here, "").unwrap();
        check(&here);
    }
}
