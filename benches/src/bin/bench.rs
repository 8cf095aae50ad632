//! `bench run --bridge PROGRAM` measures; `make bench` builds for release first. The other commands are the baselines,
//! which `run` starts in processes of their own.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bridge_bench::program::{Pipeline, pipeline, walk, watcher};
use bridge_bench::{SCENARIOS, Scenario, Settings, Sizes, peer, run, table};
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measure zkbridge beside its baselines")]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the scenarios and print the table
    Run(Run),
    /// Count events
    Watcher(Watched),
    /// Watch, read and produce
    Pipeline(Produced),
    /// Read a tree once
    Walk(Watched),
}

#[derive(Args)]
struct Run {
    /// The zkbridge program; `make build` makes target/release/zkbridge
    #[arg(long)]
    bridge: PathBuf,
    /// Scenarios to run; the default is all
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Use smaller sizes: minutes instead of an hour
    #[arg(long)]
    quick: bool,
    /// Number of repetitions
    #[arg(long)]
    repetitions: Option<usize>,
    /// Omit the Java program, which Maven builds
    #[arg(long)]
    no_curator: bool,
    /// Output of `make bench-journal` to include in the table
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Folder for journals, and for the table and its JSON
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
}

#[derive(Args)]
struct Watched {
    /// ZooKeeper servers
    #[arg(long)]
    servers: String,
    /// Root to watch
    #[arg(long)]
    root: String,
}

#[derive(Args)]
struct Produced {
    #[command(flatten)]
    watched: Watched,
    /// Kafka broker
    #[arg(long)]
    bootstrap: String,
    /// Topic for changes
    #[arg(long)]
    topic: String,
    /// Producer linger in ms
    #[arg(long)]
    linger: u32,
    /// Compression of batches
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
        // The baselines use one thread: measured to cost the least.
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
            .with_context(|| format!("find {}: build it with `make build`", self.bridge.display()))?;
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
