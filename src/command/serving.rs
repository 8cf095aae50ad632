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
    /// There where SIGHUP must not end the process.
    hangup: Option<Signal>,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub fn new() -> Result<Signals, Failure> {
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: None,
        })
    }

    /// From now on SIGHUP does not end the process either: programs for log rotation send it to whoever writes files.
    pub fn outliving_hangups(self) -> Result<Signals, Failure> {
        Ok(Signals {
            hangup: Some(listen(SignalKind::hangup())?),
            ..self
        })
    }

    /// The number of the next signal that ends the process. Cancel safe.
    pub async fn next(&mut self) -> u8 {
        loop {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.terminate.recv() => return SIGTERM,
                _ = self.interrupt.recv() => return SIGINT,
                _ = hangup => tracing::info!(
                    "SIGHUP: nothing to reopen, every write looks whether its file was moved away; a changed \
                     configuration needs a restart"
                ),
            }
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| {
        Failure::new(
            Exit::Environment,
            format!("signals cannot be listened for: {error}"),
        )
    })
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
