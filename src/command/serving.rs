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

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The end, by the signal of this number.
    End(u8),
    /// Another configuration: SIGHUP.
    Reload,
}

/// SIGTERM and SIGINT, and SIGHUP where it means something.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// There where SIGHUP does not end the process.
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

    /// From now on SIGHUP does not end the process either, but is told as [`Wish::Reload`].
    pub fn with_hangups(self) -> Result<Signals, Failure> {
        Ok(Signals {
            hangup: Some(listen(SignalKind::hangup())?),
            ..self
        })
    }

    /// What the next signal asks for. Cancel safe.
    pub async fn wish(&mut self) -> Wish {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Wish::End(SIGTERM),
            _ = self.interrupt.recv() => Wish::End(SIGINT),
            _ = hangup => Wish::Reload,
        }
    }

    /// The number of the next signal that ends the process. Cancel safe.
    pub async fn next(&mut self) -> u8 {
        loop {
            if let Wish::End(signal) = self.wish().await {
                return signal;
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
