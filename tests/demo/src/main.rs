//! `demo`: runs the bridge between a real ZooKeeper and a real Kafka, and checks that every change arrived.
//!
//! It runs the `zkbridge` program as a user does and must never share state with it. `make demo` builds and starts both.

mod clients;
mod consumer;
mod demo;
mod expectation;
#[cfg(test)]
mod samples;
mod scenario;
mod screen;
mod servers;
mod slack;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bridge_servers::Error;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use demo::Demo;

const EXAMPLES: &str = "\
Examples:
  demo
  demo --keep   leave it running, to try things out

Needs Java, and Maven, which fetches the servers once (70 MB); `make demo`
installs both. Everything listens on 127.0.0.1, on free ports.

Exit codes:
  0      what arrived is what was done
  1      something is missing, or something failed
  2      the command line is wrong
  3      a tool or a server is missing
  128+n  ended by signal n";

/// The number of the signal of Ctrl-C.
const SIGINT: u8 = 2;
/// The number of the signal that asks a process to end.
const SIGTERM: u8 = 15;

/// Run the bridge between a real ZooKeeper and a real Kafka, and check what
/// arrived.
#[derive(Parser, Debug)]
#[command(name = "demo", max_term_width = 80, after_help = EXAMPLES)]
struct Args {
    /// Leave everything running after the last step, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// The zkbridge program; the default is the one beside this program
    #[arg(long, value_name = "FILE")]
    bridge: Option<PathBuf>,
}

/// Why the demo ended early or failed.
struct Failure {
    exit: u8,
    message: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.exit)
        }
    }
}

async fn run(args: &Args) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(failure)?;
    let bridge = bridge_program(args.bridge.as_ref()).map_err(failure)?;
    let mut demo = tokio::select! {
        biased;
        signal = signals.next() => return Err(interrupted(signal)),
        played = demo::play(bridge) => played.map_err(failure)?,
    };
    if args.keep {
        let kept = keep(&mut demo, &mut signals).await;
        if let Err(error) = kept {
            return Err(failure(demo.fail(error)));
        }
    }
    tokio::select! {
        biased;
        signal = signals.next() => Err(interrupted(signal)),
        ended = demo.end() => ended.map_err(failure),
    }
}

/// Returns at the next signal, or with an error if the bridge ends.
async fn keep(demo: &mut Demo, signals: &mut Signals) -> Result<()> {
    tokio::select! {
        biased;
        _ = signals.next() => Ok(()),
        kept = demo.keep() => kept,
    }
}

/// The program to run: the named one, or the one in this program's folder.
fn bridge_program(named: Option<&PathBuf>) -> Result<PathBuf> {
    let program = match named {
        Some(named) => named.clone(),
        None => std::env::current_exe()
            .context("the folder of this program is unknown; name zkbridge with --bridge")?
            .with_file_name("zkbridge"),
    };
    anyhow::ensure!(
        program.is_file(),
        "no bridge to run: {}: no such file\nhelp: build it with `cargo build`, or name it with --bridge",
        program.display()
    );
    Ok(program)
}

/// SIGINT and SIGTERM, which no longer end the process by themselves.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?,
        })
    }

    /// The number of the next signal. Cancel safe.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => SIGTERM,
            _ = self.interrupt.recv() => SIGINT,
        }
    }
}

/// Printed after everything was stopped: the select that saw the signal has dropped the servers.
fn interrupted(signal: u8) -> Failure {
    Failure {
        exit: 128 + signal,
        message: "interrupted; everything was stopped".to_owned(),
    }
}

fn failure(error: anyhow::Error) -> Failure {
    let exit = match error.downcast_ref::<Error>() {
        Some(Error::MissingTool { .. } | Error::Fetch { .. }) => 3,
        _ => 1,
    };
    Failure {
        exit,
        message: format!("{error:#}"),
    }
}
