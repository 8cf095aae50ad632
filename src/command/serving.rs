//! What `run` and `watch` share: the runtime, the signals that end them, and what to say when no source can go on.

use std::future::Future;

use bridge_core::pipeline::SourceStatus;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// The signal of Ctrl-C.
const SIGINT: u8 = 2;
/// The signal of an orderly end.
const SIGTERM: u8 = 15;

/// Runs a future on a runtime of its own, to the end.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Environment, format!("no threads can be started: {error}")))?;
    runtime.block_on(future)
}

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub fn new() -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(
                    Exit::Environment,
                    format!("signals cannot be listened for: {error}"),
                )
            })
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// The number of the next signal. Cancel safe.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => SIGTERM,
            _ = self.interrupt.recv() => SIGINT,
        }
    }
}

/// No source can go on.
pub fn halted(sources: &[SourceStatus]) -> Failure {
    let texts: Vec<String> = sources
        .iter()
        .map(|source| {
            let why = source
                .halted
                .as_deref()
                .or(source.trouble.as_deref())
                .unwrap_or("its journal has failed");
            format!("source '{}' has stopped: {why}", source.source)
        })
        .collect();
    Failure::new(Exit::Runtime, texts.join("\n"))
}
