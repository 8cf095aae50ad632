//! One run of a command.
//!
//! ```text
//! start ──▶ output is read ──▶ the leader ends │ timeout │ too much output │ it is given up
//!                                     └──▶ kill the group ──▶ reap the leader ──▶ the result
//! ```
//!
//! The group is killed before its leader is reaped: until then its number belongs to no other process.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::amount::{Size, Span};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::command::ChildCommand;
use crate::input;
use crate::output::{OUTPUT_BYTES_MAX, OutputTail};

/// How long output is read after the end of the leader. A process that left the group can hold it open without a limit.
const OUTPUT_AFTER_END: Duration = Duration::from_millis(200);

/// The result of a run.
#[derive(Clone, Debug)]
pub struct FinishedRun {
    /// How it ended.
    pub end: RunEnd,
    /// The last bytes of its standard output.
    pub stdout: OutputTail,
    /// The last bytes of its standard error.
    pub stderr: OutputTail,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// By itself, with this exit status.
    Status(i32),
    /// By a signal that somebody else sent.
    Signal(i32),
    /// Killed after this time.
    TimedOut(Span),
    /// Killed because it wrote too much.
    TooMuchOutput,
    /// Killed because nobody waits for it any more.
    GivenUp,
}

impl FinishedRun {
    /// How the run of this program ended, and the last of its output, in one line.
    pub fn sentence(&self, program: &Path) -> String {
        let end = match self.end {
            RunEnd::Status(status) => format!("it ended with status {status}"),
            RunEnd::Signal(signal) => format!("signal {signal} ended it"),
            RunEnd::TimedOut(timeout) => format!("it ran longer than {timeout} and was killed"),
            RunEnd::TooMuchOutput => {
                format!("it wrote more than {} and was killed", Size(OUTPUT_BYTES_MAX))
            }
            RunEnd::GivenUp => "it was stopped".to_owned(),
        };
        let output = match (self.stderr.is_empty(), self.stdout.is_empty()) {
            (true, true) => "it wrote nothing".to_owned(),
            (false, _) => format!("its standard error ends with {}", self.stderr.shown()),
            (true, false) => format!("its standard output ends with {}", self.stdout.shown()),
        };
        format!("{}: {end}; {output}", program.display())
    }
}

/// The process group of a run. Killed when this is dropped, unless its leader was reaped.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> ProcessGroup {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        ProcessGroup(id.map(Pid::from_raw))
    }

    fn kill(&self) {
        if let Some(leader) = self.0 {
            // An error means that no process is left. The leader itself can have moved to another group of its session.
            let _ = killpg(leader, Signal::SIGKILL);
            let _ = kill(leader, Signal::SIGKILL);
        }
    }

    /// The leader was reaped: its number can belong to another process.
    fn reaped(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs the command to its end. Its group is gone when this returns, and killed when the future is dropped.
///
/// # Errors
///
/// It was not started.
pub(crate) async fn run(
    program: PathBuf,
    command: Arc<ChildCommand>,
    input: Vec<u8>,
    give_up: CancellationToken,
) -> io::Result<FinishedRun> {
    // Before the start, so that no end is missed.
    let mut ends = unix::signal(SignalKind::child())?;
    let mut child = command.prepared(&program, input::whole(&input)?).spawn()?;
    drop(input);
    let group = ProcessGroup::of(&child);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let hidden = command.hidden_texts();
    let (mut stdout, mut stderr) = (OutputTail::hiding(hidden.clone()), OutputTail::hiding(hidden));
    let cause = {
        let mut flow = pin!(async { tokio::try_join!(stdout.read(out), stderr.read(err)) });
        let mut is_flowing = true;
        let mut leader_ends = pin!(until_ended(group.0, &mut ends));
        let mut limit = pin!(sleep(command.timeout.0));
        let cause = loop {
            tokio::select! {
                biased;
                () = &mut leader_ends => break None,
                () = give_up.cancelled() => break Some(RunEnd::GivenUp),
                () = &mut limit => break Some(RunEnd::TimedOut(command.timeout)),
                read = &mut flow, if is_flowing => {
                    is_flowing = false;
                    if read.is_err() {
                        break Some(RunEnd::TooMuchOutput);
                    }
                }
            }
        };
        group.kill();
        if cause.is_some() {
            leader_ends.await;
        }
        if is_flowing {
            // Whether it ends or not: the tails have what came.
            let _ = timeout(OUTPUT_AFTER_END, flow).await;
        }
        cause
    };
    let status = child.wait().await?;
    group.reaped();
    let end = cause.unwrap_or_else(|| end_of(status));
    Ok(FinishedRun { end, stdout, stderr })
}

/// Waits until the leader has ended, and leaves it to be reaped.
async fn until_ended(leader: Option<Pid>, ends: &mut unix::Signal) {
    let Some(leader) = leader else {
        return;
    };
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    loop {
        match waitid(Id::Pid(leader), flags) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::StillAlive) => {
                if ends.recv().await.is_none() {
                    return;
                }
            }
            _ => return,
        }
    }
}

fn end_of(status: ExitStatus) -> RunEnd {
    match (status.code(), status.signal()) {
        (Some(status), _) => RunEnd::Status(status),
        (None, signal) => RunEnd::Signal(signal.unwrap_or_default()),
    }
}
