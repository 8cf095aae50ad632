//! A process that cannot outlive the process that started it.
//!
//! ```text
//! this process ──pipe──▶ watchdog (sh, blocked in `read`)       one process group,
//!       └─────starts──▶ the program itself (`exec`ed by sh)     named by the program's id
//! ```
//!
//! The kernel closes the pipe when this process ends, be it by a panic, Ctrl-C or SIGKILL; the watchdog wakes up,
//! kills the program and removes its data. Dropping a [`Guarded`] kills and reaps the group at once. While the
//! watchdog lives, the group exists, so its id cannot name a stranger.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::{Error, Result};

/// `$1` is the directory to remove if this process dies, `$2…` the program and its arguments.
const SCRIPT: &str = r#"
litter=$1; shift
exec 3<&0
( read -r _ <&3
  kill -KILL $$
  [ -z "$litter" ] || rm -rf -- "$litter"
  kill -KILL -- -$$ ) >/dev/null 2>&1 &
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

/// A running program with its watchdog.
#[derive(Debug)]
pub(crate) struct Guarded {
    child: Child,
    status: Option<ExitStatus>,
    _lifeline: Option<ChildStdin>,
}

impl Guarded {
    /// Starts what [`command`] made.
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).process_group(0).spawn()?;
        let lifeline = child.stdin.take();
        Ok(Self {
            child,
            status: None,
            _lifeline: lifeline,
        })
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
        // Fails only if the group is gone, which is what is wanted.
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
