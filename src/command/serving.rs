//! Shared by `run` and `watch`: the runtime, the signals that end them, and the message when every source has halted.

use std::future::Future;
use std::time::Duration;

use bridge_core::pipeline::SourceStatus;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// The signal of a terminal that is closed.
const SIGHUP: u8 = 1;
/// The signal of Ctrl-\.
const SIGQUIT: u8 = 3;
/// The signal of Ctrl-C.
const SIGINT: u8 = 2;
/// The signal of an orderly end.
const SIGTERM: u8 = 15;

/// The same signal again within this time is the same request: `timeout` of coreutils sends its signal to the process and
/// to its group.
const SIGNAL_REPEAT: Duration = Duration::from_secs(1);

/// Runs a future to completion on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Environment, format!("no threads can be started: {error}")))?;
    let result = runtime.block_on(future);
    // The process is about to end. Dropping the runtime would wait for threads that do not end, and tasks of other threads
    // that need it would panic, which a second signal showed.
    std::mem::forget(runtime);
    result
}

/// The request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalRequest {
    /// End the process; the number of the signal.
    End(u8),
    /// Read the configuration again: SIGHUP.
    Reload,
}

/// SIGTERM and SIGINT, and SIGHUP for commands that can reload.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Present if SIGHUP requests a reload and does not end the process.
    hangup: Option<Signal>,
    /// Signals of a terminal that is closed or left, for a command that has something to clean up.
    ends: Vec<(u8, Signal)>,
}

impl Signals {
    /// Catches the signals: from now on they no longer end the process.
    pub fn new() -> Result<Signals, Failure> {
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: None,
            ends: Vec::new(),
        })
    }

    /// Catches SIGHUP, too, as [`SignalRequest::Reload`].
    pub fn with_hangups(self) -> Result<Signals, Failure> {
        Ok(Signals {
            hangup: Some(listen(SignalKind::hangup())?),
            ..self
        })
    }

    /// Catches SIGHUP and SIGQUIT, too, as [`SignalRequest::End`].
    pub fn with_ends_of_terminals(self) -> Result<Signals, Failure> {
        let ends = vec![
            (SIGHUP, listen(SignalKind::hangup())?),
            (SIGQUIT, listen(SignalKind::quit())?),
        ];
        Ok(Signals { ends, ..self })
    }

    /// The request of the next signal. Cancel safe.
    pub async fn request(&mut self) -> SignalRequest {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let ends = self.ends.iter_mut();
        let ends = ends.map(|(number, signal)| Box::pin(async { signal.recv().await.map(|()| *number) }));
        let mut ends: FuturesUnordered<_> = ends.collect();
        tokio::select! {
            Some(Some(number)) = ends.next() => SignalRequest::End(number),
            _ = self.terminate.recv() => SignalRequest::End(SIGTERM),
            _ = self.interrupt.recv() => SignalRequest::End(SIGINT),
            _ = hangup => SignalRequest::Reload,
        }
    }

    /// The number of the next signal that asks for more than `first`, which arrived just now. Cancel safe, but begins to
    /// count the time again.
    pub async fn second(&mut self, first: u8) -> u8 {
        let since = tokio::time::Instant::now();
        loop {
            let signal = self.next().await;
            if signal != first || since.elapsed() >= SIGNAL_REPEAT {
                return signal;
            }
        }
    }

    /// The number of the next signal that ends the process. Cancel safe.
    pub async fn next(&mut self) -> u8 {
        loop {
            if let SignalRequest::End(signal) = self.request().await {
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

/// The failure of a process whose sources have all halted. [`Exit::Halted`] if only an operator can resume them: a journal
/// that failed may work at the next start.
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
    let exit = match sources.iter().all(SourceStatus::needs_operator) {
        true => Exit::Halted,
        false => Exit::Runtime,
    };
    Failure::new(exit, texts.join("\n"))
}

#[cfg(test)]
mod tests {
    use bridge_core::record::{Mode, Timestamp};

    use super::*;

    fn source(name: &str, is_of_journal: bool) -> SourceStatus {
        let status = SourceStatus::halted(name.into(), Mode::Watch, Timestamp(0), "no way on".to_owned());
        SourceStatus {
            journal_failed: is_of_journal,
            ..status
        }
    }

    #[test]
    fn sources_that_need_an_operator_end_the_process_with_a_code_of_their_own() {
        let check = |journals_failed: &[bool], expected| {
            let sources: Vec<_> = journals_failed
                .iter()
                .map(|failed| source("main", *failed))
                .collect();
            let failure = halted(&sources);
            assert_eq!(failure.exit, expected, "{journals_failed:?}");
            assert!(failure.message.contains("source 'main' has stopped: no way on"));
        };
        check(&[false], Exit::Halted);
        check(&[false, false], Exit::Halted);
        check(&[false, true], Exit::Runtime);
        check(&[true], Exit::Runtime);
    }
}
