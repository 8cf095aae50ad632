//! A program under test, such as the `zkbridge` command, as a child that cannot outlive the test.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::guarded::{self, Guarded};
use crate::patience::eventually;
use crate::{Error, Result};

/// How much of the output an error shows.
const TAIL_LINES: usize = 40;

/// How long the last lines of an ended child may take to arrive.
const LAST_LINES_BOUND: Duration = Duration::from_secs(5);

/// Where a line was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a child printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub stream: Stream,
    /// The line, without the line break; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// A running program whose output is collected. Dropping this kills it and all processes that it started.
#[derive(Debug)]
pub struct Child {
    program: String,
    process: Guarded,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    lines: Vec<Line>,
    /// How many of the two streams have ended.
    ended: usize,
}

impl Output {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a stream to its end, on a thread of its own that ends with the stream.
    fn collect(self: &Arc<Self>, stream: Stream, pipe: impl Read + Send + 'static) {
        let this = Arc::clone(self);
        std::thread::spawn(move || {
            for bytes in BufReader::new(pipe).split(b'\n').map_while(std::io::Result::ok) {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                this.gathered().lines.push(Line { stream, text });
            }
            this.gathered().ended += 1;
        });
    }
}

impl Child {
    /// Starts the program with the arguments, environment and directory of `command`; its streams, and a cleared
    /// environment, are ignored.
    ///
    /// ```no_run
    /// # use std::{process::Command, time::Duration};
    /// # use bridge_servers::Child;
    /// # async fn example() -> Result<(), bridge_servers::Error> {
    /// let mut bridge = Child::start(Command::new("zkbridge").args(["run", "--config", "bridge.toml"]))?;
    /// bridge.line("ready", Duration::from_secs(10)).await?;
    /// bridge.terminate()?;
    /// assert!(bridge.wait(Duration::from_secs(10)).await?.success());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If no process can be made. A program that does not exist ends at once with status 127 and says so.
    pub fn start(command: &Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut guarded = guarded::command(command.get_program(), None);
        guarded
            .args(command.get_args())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(key, value),
                None => guarded.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            guarded.current_dir(directory);
        }
        let spawned = Guarded::spawn(&mut guarded).map_err(Error::attempt(format!("start {program}")));
        Ok(Self::collecting(program, spawned?))
    }

    fn collecting(program: String, mut process: Guarded) -> Self {
        let output = Arc::new(Output::default());
        let child = process.child_mut();
        if let Some(pipe) = child.stdout.take() {
            output.collect(Stream::Stdout, pipe);
        }
        if let Some(pipe) = child.stderr.take() {
            output.collect(Stream::Stderr, pipe);
        }
        Self {
            program,
            process,
            output,
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All lines so far, in the order in which they were read.
    pub fn lines(&self) -> Vec<Line> {
        self.output.gathered().lines.clone()
    }

    /// The lines of standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.printed(Stream::Stdout)
    }

    /// The lines of standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.printed(Stream::Stderr)
    }

    fn printed(&self, stream: Stream) -> Vec<String> {
        let gathered = self.output.gathered();
        gathered
            .lines
            .iter()
            .filter(|line| line.stream == stream)
            .map(|line| line.text.clone())
            .collect()
    }

    /// Waits for a line, on either stream, that contains `part`, and returns the first one.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if the child ends without it, [`Error::TimedOut`]; both with the end of the output.
    pub async fn line(&mut self, part: &str, bound: Duration) -> Result<String> {
        let what = format!("a line with {part:?}");
        self.until(&what, bound, |lines| {
            lines
                .iter()
                .find(|line| line.text.contains(part))
                .map(|line| line.text.clone())
        })
        .await
    }

    /// Waits until `look` finds something in all the lines so far. `what` completes the sentence "waited … in vain
    /// for …".
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if the child ends without it, [`Error::TimedOut`]; both with the end of the output.
    pub async fn until<T>(
        &mut self,
        what: &str,
        bound: Duration,
        mut look: impl FnMut(&[Line]) -> Option<T>,
    ) -> Result<T> {
        let awaited = eventually(what, bound, || {
            // Checked first: all output of an ended child has been read.
            let ended = self.all_read();
            let found = look(&self.output.gathered().lines).map(Ok);
            std::future::ready(found.or_else(|| ended.map(Err)))
        });
        match awaited.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(status)) => Err(self.ended_before(what, status)),
            Err(_) => Err(Error::TimedOut {
                what: format!("{what}; the end of the output:\n{}", self.tail()),
                bound,
            }),
        }
    }

    /// How the child ended, once all that it printed has been read too.
    fn all_read(&mut self) -> Option<ExitStatus> {
        let status = self.process.ended()?;
        (self.output.gathered().ended == 2).then_some(status)
    }

    fn ended_before(&self, what: &str, status: ExitStatus) -> Error {
        Error::Ended {
            program: self.program.clone(),
            status,
            what: what.to_owned(),
            tail: self.tail(),
        }
    }

    fn tail(&self) -> String {
        let gathered = self.output.gathered();
        let skipped = gathered.lines.len().saturating_sub(TAIL_LINES);
        let texts: Vec<&str> = gathered.lines[skipped..]
            .iter()
            .map(|line| line.text.as_str())
            .collect();
        texts.join("\n")
    }

    /// How the child ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Waits until the child has ended and all its output is read.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], with the end of the output.
    pub async fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.program);
        self.until(&what, bound, |_| None::<ExitStatus>)
            .await
            .or_else(|error| match error {
                Error::Ended { status, .. } => Ok(status),
                error => Err(error),
            })
    }

    /// Waits for the end and gives the exit code as a shell does: 128 + n after signal n.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub async fn exit_code(&mut self, bound: Duration) -> Result<i32> {
        let status = self.wait(bound).await?;
        Ok(status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(-1))
    }

    /// SIGTERM.
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent; a child that has ended is no error.
    pub fn terminate(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)
    }

    /// SIGINT, as Ctrl-C sends it.
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent; a child that has ended is no error.
    pub fn interrupt(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGINT)
    }

    /// Stops it with SIGSTOP and waits until it has stopped.
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent; a child that has ended is no error.
    pub fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    /// SIGCONT.
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent; a child that has ended is no error.
    pub fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }

    /// Kills it and the processes of its group with SIGKILL. Waits for their end and for the rest of the output.
    ///
    /// # Errors
    ///
    /// If something that it started elsewhere holds its output open.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill();
        eventually("the last lines of a killed child", LAST_LINES_BOUND, || async {
            self.output.gathered().ended == 2
        })
        .await
    }
}
