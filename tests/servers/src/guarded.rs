//! A process that cannot outlive the process that started it.
//!
//! ```text
//! this process ──pipe──▶ watchdog (sh, blocked in `read`)       one process group,
//!       └─────starts──▶ the program itself (`exec`ed by sh)     named by the program's id
//! ```
//!
//! The kernel closes the pipe when this process ends, be it by a panic, Ctrl-C or SIGKILL; the watchdog wakes up,
//! kills the program and removes its data. Dropping a [`Guarded`] kills and reaps the group at once. While the
//! watchdog runs, the group exists, so its id cannot be reused.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::{Error, Result};

/// `$1` is the directory to remove if this process dies, `$2…` the program and its arguments.
const SCRIPT: &str = r#"
litter=$1; shift
exec 3<&0
( read -r _ <&3
  kill -s KILL $$
  [ -z "$litter" ] || rm -rf -- "$litter"
  kill -s KILL -- -$$ ) >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null
"#;

/// A command that runs `program` under a watchdog. Add arguments and outputs, then [`Guarded::spawn`] it.
pub(crate) fn command(program: &OsStr, litter: Option<&Path>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "guard"]);
    command.arg(litter.map_or(OsStr::new(""), Path::as_os_str));
    command.arg(program);
    command
}

/// How long the threads of a paused process may take to stop.
const STILL_BOUND: Duration = Duration::from_secs(5);

/// A running program with its watchdog.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// Its standard input is our end of the pipe.
    child: Child,
    status: Option<ExitStatus>,
}

impl Guarded {
    /// Starts the command that [`command`] returned.
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let child = command.stdin(Stdio::piped()).process_group(0).spawn()?;
        Ok(Self { child, status: None })
    }

    pub(crate) fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id fits in an i32"))
    }

    /// Sends a signal to the program alone; one that has ended is left in peace.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended().is_some() {
            return Ok(());
        }
        let id = self.id();
        let sent = kill(self.pid(), signal).map_err(std::io::Error::from);
        sent.map_err(Error::attempt(format!("send {signal} to process {id}")))
    }

    /// Stops the program alone with SIGSTOP and waits until all its threads have stopped.
    pub(crate) fn pause(&mut self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        // The signal is sent to the process and reaches its threads one by one, within milliseconds.
        let deadline = Instant::now() + STILL_BOUND;
        while self.ended().is_none() && !has_stopped(self.id()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// How the program ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let status = self.child.try_wait().ok().flatten()?;
            self.conclude(status);
        }
        self.status
    }

    /// SIGKILL to the program and all that it started in its group, and reaps it.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // Fails only if the group is gone already.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        if let Ok(status) = self.child.wait() {
            self.status = Some(status);
        }
    }

    /// The program has been reaped: ends its watchdog too. It is the last that keeps the group's id taken.
    fn conclude(&mut self, status: ExitStatus) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
        self.status = Some(status);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether every thread of the process is stopped. Where there is no `/proc`, it is taken to be.
fn has_stopped(id: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else {
        return true;
    };
    // A thread that has ended meanwhile has no state and counts as stopped.
    let states = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    states.into_iter().all(|stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with(['T', 'X', 'Z']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::eventually;
    use std::io::{BufRead, BufReader};

    const BOUND: Duration = Duration::from_secs(30);

    fn alive(id: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
    }

    /// A guarded shell with a child of its own, whose id it prints.
    fn family(litter: &Path) -> (Guarded, u32) {
        let mut command = command(OsStr::new("sh"), Some(litter));
        command
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped());
        let mut guarded = Guarded::spawn(&mut command).unwrap();
        let mut line = String::new();
        BufReader::new(guarded.child_mut().stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        (guarded, line.trim().parse().unwrap())
    }

    #[tokio::test]
    async fn when_the_pipe_closes_everything_dies_and_the_litter_goes() {
        let litter = tempfile::tempdir().unwrap();
        let (mut guarded, grandchild) = family(litter.path());
        assert!(alive(guarded.id()) && alive(grandchild));

        // As the kernel does when this process ends. Asking `ended` would interfere.
        guarded.child.stdin = None;
        let id = guarded.id();
        eventually("the program to die", BOUND, || std::future::ready(!alive(id)))
            .await
            .unwrap();
        eventually("its child to die", BOUND, || {
            std::future::ready(!alive(grandchild))
        })
        .await
        .unwrap();
        assert!(!litter.path().exists());
    }

    #[tokio::test]
    async fn a_paused_program_dies_as_well() {
        let litter = tempfile::tempdir().unwrap();
        let (mut guarded, _) = family(litter.path());
        guarded.pause().unwrap();
        guarded.child.stdin = None;
        eventually("the program to die", BOUND, || {
            std::future::ready(guarded.ended())
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_drop_kills_everything_and_leaves_the_data() {
        let data = tempfile::tempdir().unwrap();
        let (guarded, grandchild) = family(data.path());
        let id = guarded.id();
        drop(guarded);
        assert!(!alive(id));
        eventually("its child to die", BOUND, || {
            std::future::ready(!alive(grandchild))
        })
        .await
        .unwrap();
        assert!(data.path().exists());
    }
}
