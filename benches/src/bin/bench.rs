//! `bench run --bridge PROGRAM` measures; `make bench` builds all for release first. The other commands are the bare
//! programs that the bridge is measured by, each started by the first in a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bridge_bench::program::{Pipeline, pipeline, walk, watcher};
use bridge_bench::{SCENARIOS, Scenario, Settings, Sizes, peer, run, table};
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures zkbridge beside what it is to be measured by")]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the scenarios and prints the table
    Run(Run),
    /// Counts events
    Watcher(Watched),
    /// Watches, reads and produces
    Pipeline(Produced),
    /// Reads a tree once
    Walk(Watched),
}

#[derive(Args)]
struct Run {
    /// The zkbridge program; `make build` makes target/release/zkbridge
    #[arg(long)]
    bridge: PathBuf,
    /// What runs; everything if nothing is said
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Smaller sizes: minutes in place of an hour
    #[arg(long)]
    quick: bool,
    /// How often each subject has its turn
    #[arg(long)]
    repetitions: Option<usize>,
    /// Leaves out the program in Java, which Maven builds
    #[arg(long)]
    no_curator: bool,
    /// What `make bench-journal` printed: its figures go into the table
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Where journals are written meanwhile, and the table and its JSON in the end
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
}

#[derive(Args)]
struct Watched {
    /// The servers of ZooKeeper
    #[arg(long)]
    servers: String,
    /// What is watched
    #[arg(long)]
    root: String,
}

#[derive(Args)]
struct Produced {
    #[command(flatten)]
    watched: Watched,
    /// The broker
    #[arg(long)]
    bootstrap: String,
    /// Where changes go
    #[arg(long)]
    topic: String,
    /// How long a message waits for company, in ms
    #[arg(long)]
    linger: u32,
    /// How batches are compressed
    #[arg(long)]
    compression: String,
}

fn main() -> ExitCode {
    match Line::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn run(self) -> Result<()> {
        // The bare programs have one thread of their own: measured to cost the least.
        let mut runtime = match self {
            Command::Run(_) => tokio::runtime::Builder::new_multi_thread(),
            _ => tokio::runtime::Builder::new_current_thread(),
        };
        let runtime = runtime.enable_all().build()?;
        runtime.block_on(async {
            match self {
                Command::Run(options) => Box::pin(options.run()).await,
                Command::Watcher(watched) => watcher(&watched.servers, &watched.root).await,
                Command::Pipeline(produced) => Box::pin(pipeline(produced.into())).await,
                Command::Walk(watched) => walk(&watched.servers, &watched.root).await,
            }
        })
    }
}

impl From<Produced> for Pipeline {
    fn from(produced: Produced) -> Pipeline {
        Pipeline {
            servers: produced.watched.servers,
            root: produced.watched.root,
            bootstrap: produced.bootstrap,
            topic: produced.topic,
            linger: produced.linger,
            compression: produced.compression,
        }
    }
}

impl Run {
    async fn run(self) -> Result<()> {
        let settings = self.settings()?;
        let figures = run(&settings, &self.folder).await?;
        println!("{}", table(&figures, &settings));
        Ok(())
    }

    fn settings(&self) -> Result<Settings> {
        let mut sizes = if self.quick { Sizes::quick() } else { Sizes::full() };
        sizes.repetitions = self.repetitions.unwrap_or(sizes.repetitions);
        let bridge = self
            .bridge
            .canonicalize()
            .with_context(|| format!("find {}: make build makes it", self.bridge.display()))?;
        let peer = match self.no_curator {
            true => None,
            false => Some(peer::build(&self.folder.join("peers"))?),
        };
        let chosen = match self.scenario.is_empty() {
            true => SCENARIOS.to_vec(),
            false => self.scenario.clone(),
        };
        Ok(Settings {
            bridge,
            harness: std::env::current_exe().context("find this program")?,
            folder: self.folder.join("rounds"),
            scenarios: chosen,
            sizes,
            journal: self.journal.clone(),
            peer,
        })
    }
}
