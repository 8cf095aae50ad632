//! The command line: what can be typed, and the help that teaches it.

use std::path::PathBuf;

use bridge_config::{LogFormat, LogLevel, WIDTH};
use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::command;

const EXAMPLES: &str = "\
Examples:
  zkbridge init --output zkbridge.toml   write a commented configuration
  zkbridge check                         say all that is wrong with it
  zkbridge doctor                        whether all that it needs is there
  zkbridge status                        where the running bridge stands
  zkbridge schema record                 what a consumer can rely on

Exit codes:
  0      fine
  1      something failed at work
  2      the configuration or the command line is wrong
  3      what the configuration relies on is not there
  128+n  ended by signal n";

/// Change data capture for Apache ZooKeeper: every change under the watched
/// znodes, in order, at least once.
#[derive(Debug, Parser)]
#[command(
    name = "zkbridge",
    version,
    max_term_width = WIDTH,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How the program reports on itself.
    #[command(flatten)]
    pub log: LogFlags,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration: everything that is wrong, at once
    Check(command::check::CheckArgs),
    /// Print what a shell needs to complete the command line
    Completions(command::completions::CompletionsArgs),
    /// Show the configuration as it takes effect
    Config(command::config::ConfigArgs),
    /// Play a story between a real ZooKeeper and a real Kafka, and check it
    Demo(command::demo::DemoArgs),
    /// Look at dead letters, try them again, or let them go
    Dlq(command::dlq::DlqArgs),
    /// Examine everything that the bridge relies on
    Doctor(command::doctor::DoctorArgs),
    /// Print every journalled version of a znode, or its value at a moment
    History(command::history::HistoryArgs),
    /// Print a configuration with a comment on each key
    Init(command::init::InitArgs),
    /// Check, compact and export the journals
    Journal(command::journal::JournalArgs),
    /// Print the manual pages
    Man(command::man::ManArgs),
    /// Let a running bridge read its configuration again
    Reload(command::reload::ReloadArgs),
    /// Deliver journalled records to a sink once more
    Replay(command::replay::ReplayArgs),
    /// Capture every change, keep it in the journal and deliver it
    Run(command::run::RunArgs),
    /// Print the JSON Schema of the records or of the configuration
    Schema(command::schema::SchemaArgs),
    /// Let a sink that was halted or disabled go on
    Sink(command::sink::SinkArgs),
    /// Send the present state again, to one sink
    Snapshot(command::snapshot::SnapshotArgs),
    /// Show where the bridge stands: sources, sinks, journals
    Status(command::status::StatusArgs),
    /// Print the last journalled changes, and those that follow
    Tail(command::tail::TailArgs),
    /// Compare the journal's image with the tree as ZooKeeper has it
    Verify(command::verify::VerifyArgs),
    /// Print changes as they happen, with no configuration
    Watch(command::watch::WatchArgs),
}

/// Which configuration a command uses.
#[derive(Args, Debug)]
pub struct ConfigFlag {
    /// The configuration: a .toml, .yaml or .json file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "zkbridge.toml",
        env = "ZKBRIDGE_CONFIG"
    )]
    pub config: PathBuf,
}

/// How the program reports on itself; goes before what the configuration says.
#[derive(Args, Debug, Clone, Default)]
pub struct LogFlags {
    /// How much is logged to standard error
    #[arg(long, global = true, value_name = "LEVEL", hide_possible_values = false)]
    pub log_level: Option<LevelWord>,
    /// In which form is logged; auto: text on a terminal, else json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<FormatWord>,
}

/// A level as the command line takes it.
#[derive(Clone, Copy, Debug)]
pub struct LevelWord(pub LogLevel);

/// A form as the command line takes it.
#[derive(Clone, Copy, Debug)]
pub struct FormatWord(pub LogFormat);

impl ValueEnum for LevelWord {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [LevelWord; 6] = [
            LevelWord(LogLevel::Off),
            LevelWord(LogLevel::Error),
            LevelWord(LogLevel::Warn),
            LevelWord(LogLevel::Info),
            LevelWord(LogLevel::Debug),
            LevelWord(LogLevel::Trace),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.as_str()))
    }
}

impl ValueEnum for FormatWord {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [FormatWord; 3] = [
            FormatWord(LogFormat::Auto),
            FormatWord(LogFormat::Text),
            FormatWord(LogFormat::Json),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
