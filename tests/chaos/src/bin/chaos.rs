//! `chaos --bridge PROGRAM [--minutes N] [--seed N] [--capture MODE] [--keep FOLDER]`: real servers, random work, random
//! faults, and a judge, for as long as wanted. `make chaos MINUTES=30` builds the program for release first.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bridge_chaos::{Capture, Chaos, Length};

/// The default length of a run.
const MINUTES: u64 = 10;

#[tokio::main]
async fn main() -> ExitCode {
    let run = async { chaos(std::env::args().skip(1))?.run().await };
    match Box::pin(run).await {
        Ok(total) => {
            println!("{total}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn chaos(mut arguments: impl Iterator<Item = String>) -> Result<Chaos> {
    let mut bridge = None;
    let mut minutes = MINUTES;
    let mut seed = rand::random::<u32>().into();
    let mut keep = PathBuf::from("target/chaos");
    let mut capture = Capture::Watch;
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        let number = || {
            value
                .parse()
                .with_context(|| format!("{name} is {value:?}, no number"))
        };
        match name.as_str() {
            "--bridge" => bridge = Some(value.into()),
            "--minutes" => minutes = number()?,
            "--seed" => seed = number()?,
            "--capture" => capture = Capture::named(&value)?,
            "--keep" => keep = value.into(),
            _ => bail!(
                "unknown argument {name:?}: there are --bridge, --minutes, --seed, --capture and --keep"
            ),
        }
    }
    let bridge: PathBuf =
        bridge.context("name the program with --bridge: make build makes target/release/zkbridge")?;
    let bridge = bridge
        .canonicalize()
        .with_context(|| format!("find {}", bridge.display()))?;
    Ok(Chaos {
        bridge,
        seed,
        length: Length::Time(Duration::from_secs(minutes * 60)),
        capture,
        keep,
    })
}
