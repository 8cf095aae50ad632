//! `zkbridge demo`: a real ZooKeeper, a real Kafka, the bridge between them, and the proof that nothing is lost.

use bridge_servers::Error;
use clap::Args;

use super::serving::{self, Signals};
use crate::demo::{self, Performance};
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  zkbridge demo
  zkbridge demo --keep   leaves it running, to be tried out

Needs Java and Maven, which brings the servers once (70 MB); `make demo`
installs both. Everything listens on 127.0.0.1, on free ports.";

/// How to play.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Leave everything running after the story, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// Plays the demo. Fails if what arrives is not what was done.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    serving::block_on(async {
        let mut signals = Signals::new()?;
        let mut performance = tokio::select! {
            biased;
            signal = signals.next() => return Err(interrupted(signal)),
            played = demo::play() => played.map_err(failure)?,
        };
        if args.keep {
            let kept = keep(&mut performance, &mut signals).await;
            if let Err(error) = kept {
                return Err(failure(performance.fail(error)));
            }
        }
        tokio::select! {
            biased;
            signal = signals.next() => Err(interrupted(signal)),
            ended = performance.end() => ended.map_err(failure),
        }
    })
}

/// Until a signal, which is the ordinary end of it.
async fn keep(performance: &mut Performance, signals: &mut Signals) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        _ = signals.next() => Ok(()),
        kept = performance.keep() => kept,
    }
}

/// What was started is gone when this is printed: it went with the play.
fn interrupted(signal: u8) -> Failure {
    Failure::new(Exit::Signal(signal), "interrupted; everything was stopped")
}

fn failure(error: anyhow::Error) -> Failure {
    let exit = match error.downcast_ref::<Error>() {
        Some(Error::MissingTool { .. } | Error::Fetch { .. }) => Exit::Environment,
        _ => Exit::Runtime,
    };
    Failure::new(exit, format!("{error:#}"))
}
