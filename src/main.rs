//! zkbridge: change data capture for Apache ZooKeeper.
//!
//! The command line, and nothing else: what a command does is in the crates below.

// They panic where nobody reads the output any more, or its disk is full: `command::print` and `terminal::notice` do not.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

mod api;
mod backfill;
mod bridge;
mod cli;
mod command;
mod doctor;
mod exit;
mod export;
mod logging;
mod operator;
mod restore;
mod secrets_in_tree;
mod service_manager;
mod source_type;
mod terminal;
mod verify;
mod version;

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};

use cli::{Cli, Command, suggest};
use exit::{Exit, Failure};
use terminal::notice;

fn main() -> ExitCode {
    // A file at its limit (ulimit -f) is an error of the write, and not the end of the process. Every later thread has the
    // mask of this one; a command that a sink runs begins with none.
    let blocked = SigSet::from(Signal::SIGXFSZ).thread_block();
    if let Err(error) = blocked {
        return report(&Failure::new(
            Exit::Runtime,
            format!("the signal SIGXFSZ cannot be blocked: {error}"),
        ));
    }
    // Several libraries bring rustls with them; without one provider for all, the first connection would panic.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return report(&Failure::new(
            Exit::Runtime,
            "a cryptography provider is installed already",
        ));
    }
    let cli = Cli::try_parse().unwrap_or_else(|error| suggest(error).exit());
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Activity(args) => command::activity::run(args),
        Command::Backfill(args) => command::backfill::run(args),
        Command::Cat(args) => command::cat::run(args),
        Command::Changes(args) => command::changes::run(args),
        Command::Check(args) => command::check::run(args),
        Command::Completions(args) => command::completions::run(args),
        Command::Config(args) => command::config::run(args),
        Command::Diff(args) => command::diff::run(args),
        Command::Dlq(args) => command::dlq::run(args),
        Command::Doctor(args) => command::doctor::run(args),
        Command::Gaps(args) => command::gaps::run(args),
        Command::History(args) => command::history::run(args),
        Command::Init(args) => command::init::run(args),
        Command::Journal(args) => command::journal::run(args),
        Command::Log(args) => command::log::run(args),
        Command::Ls(args) => command::ls::run(args),
        Command::Man(args) => command::man::run(args),
        Command::Replay(args) => command::replay::run(args),
        Command::Restore(args) => command::restore::run(args),
        Command::RestoreJournal(args) => command::restore_journal::run(args),
        Command::Run(args) => command::run::run(args, &cli.log),
        Command::Schema(args) => command::schema::run(args),
        Command::Services(args) => command::services::run(args),
        Command::Reload(args) => command::reload::run(args),
        Command::Sink(args) => command::sink::run(args),
        Command::Snapshot(args) => command::snapshot::run(args),
        Command::Status(args) => command::status::run(args),
        Command::Tail(args) => command::tail::run(args),
        Command::Template(args) => command::template::run(args),
        Command::Tree(args) => command::tree::run(args),
        Command::Ui(args) => command::ui::run(args),
        Command::Verify(args) => command::verify::run(args),
        Command::Watch(args) => command::watch::run(args, &cli.log),
    }
}

/// The longest wait for somebody to read the last message.
const MESSAGE_BOUND: Duration = Duration::from_secs(1);

fn report(failure: &Failure) -> ExitCode {
    if !failure.message.is_empty() {
        let text = terminal::message(&format!("error: {failure}"));
        let (said, wait) = mpsc::channel();
        // A pipe that is full must not keep the process from its end.
        std::thread::spawn(move || {
            notice(text);
            let _ = said.send(());
        });
        let _ = wait.recv_timeout(MESSAGE_BOUND);
    }
    failure.exit.into()
}
