//! zkbridge: change data capture for Apache ZooKeeper.
//!
//! The command line, and nothing else: what a command does is in the crates below.

mod cli;
mod command;
mod exit;
mod logging;

use std::process::ExitCode;

use clap::Parser;

use bridge_config::LogConfig;
use cli::{Cli, Command};
use exit::{Exit, Failure};

fn main() -> ExitCode {
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
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let logging = logging::start(&LogConfig::default(), &cli.log);
    logging.map_err(|error| Failure::new(Exit::Runtime, format!("logging cannot start: {error}")))?;
    match &cli.command {
        Command::Check(args) => command::check::run(args),
        Command::Init(args) => command::init::run(args),
        Command::Schema(args) => command::schema::run(args),
    }
}

fn report(failure: &Failure) -> ExitCode {
    if !failure.message.is_empty() {
        eprintln!("error: {failure}");
    }
    failure.exit.into()
}
