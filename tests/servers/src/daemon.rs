//! One server process: started, watched, paused, killed and started again on the same data.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::distribution::{Jars, find_tool};
use crate::guarded::{self, Guarded};
use crate::patience::eventually;
use crate::{Error, Result};

/// Flags for a quick start and a small footprint: measured 0.3 s for ZooKeeper, 1.7 s for Kafka.
const JVM_FLAGS: [&str; 4] = [
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];

/// Timestamps that can be compared with those of the bridge.
const LOG_TIME: &str = "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX";

/// How much of a log an error shows.
const TAIL_LINES: usize = 25;

/// How long a server may take to end after SIGTERM before it is killed.
const STOP_BOUND: Duration = Duration::from_secs(30);

/// How to run a main class of a distribution.
#[derive(Debug, Clone)]
pub(crate) struct Java {
    java: PathBuf,
    classpath: OsString,
    /// `-Xmx…` and `-D…`.
    pub(crate) options: Vec<String>,
    flags: &'static [&'static str],
}

impl Java {
    pub(crate) fn new(jars: &Jars, heap: &str) -> Result<Self> {
        let options = vec![format!("-Xmx{heap}")];
        Ok(Self {
            java: find_java()?,
            classpath: jars.classpath()?,
            options,
            flags: &JVM_FLAGS,
        })
    }

    /// A JVM with its default flags: slower to start, and with both of its compilers.
    pub(crate) fn with_its_own_flags(mut self) -> Self {
        self.flags = &[];
        self
    }

    /// The server of that main class.
    pub(crate) fn program(&self, main: &str) -> Program {
        let flags = self.flags.iter().copied().chain([LOG_TIME]).map(OsString::from);
        let options = self.options.iter().map(OsString::from);
        let class = [OsString::from("-cp"), self.classpath.clone(), main.into()];
        Program {
            path: self.java.clone(),
            arguments: flags.chain(options).chain(class).collect(),
        }
    }

    /// Runs a tool to its end and returns its output.
    pub(crate) async fn run(&self, main: &str, arguments: &[&str]) -> Result<String> {
        let program = self.program(main);
        let mut command = tokio::process::Command::new(&program.path);
        let ran = command
            .args(&program.arguments)
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Error::attempt(format!("run {main}")))?;
        let stdout = String::from_utf8_lossy(&ran.stdout).into_owned();
        if ran.status.success() {
            return Ok(stdout);
        }
        let output = format!("{stdout}{}", String::from_utf8_lossy(&ran.stderr));
        Err(Error::Tool {
            tool: main.to_owned(),
            status: ran.status,
            output,
        })
    }
}

/// The Java of `JAVA_HOME`, otherwise of the PATH.
pub(crate) fn find_java() -> Result<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    match home.filter(|java| java.is_file()) {
        Some(java) => Ok(java),
        None => find_tool("java"),
    }
}

/// The command line; the configuration file is added as the last argument.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

/// A server process and all that is needed to start it again.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    program: Program,
    configuration: PathBuf,
    home: PathBuf,
    /// The files that the watchdog removes if this process dies without dropping anything.
    litter: PathBuf,
    life: Mutex<Life>,
}

/// The directories of a server.
pub(crate) struct Home<'a> {
    /// The temporary directory, of all servers of an ensemble.
    pub(crate) litter: &'a Path,
    /// This server's own directory in it.
    pub(crate) home: &'a Path,
    /// Its last argument.
    pub(crate) configuration: &'a Path,
}

#[derive(Debug, Default)]
struct Life {
    process: Option<Guarded>,
    /// Where in the log the present run begins.
    log_start: u64,
}

impl Daemon {
    /// A server that keeps its log in `home`, which lies in `litter`; nothing runs before [`Daemon::launch`].
    pub(crate) fn new(name: String, program: Program, home: Home<'_>) -> Self {
        let Home {
            litter,
            home,
            configuration,
        } = home;
        let (litter, home, configuration) = (litter.to_owned(), home.to_owned(), configuration.to_owned());
        Self {
            name,
            program,
            configuration,
            home,
            litter,
            life: Mutex::default(),
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("server.log")
    }

    /// Starts the process, unless it runs, and does not wait for it.
    pub(crate) fn launch(&self) -> Result<()> {
        let mut life = self.life();
        if life
            .process
            .as_mut()
            .is_some_and(|process| process.ended().is_none())
        {
            return Ok(());
        }
        let log = self.open_log()?;
        life.log_start = log.metadata().map_err(Error::io("measure", &self.log()))?.len();
        let mut command = guarded::command(self.program.path.as_os_str(), Some(&self.litter));
        let errors = log.try_clone().map_err(Error::io("share", &self.log()))?;
        command
            .args(&self.program.arguments)
            .arg(&self.configuration)
            .current_dir(&self.home)
            .stdout(log)
            .stderr(errors);
        let spawned = Guarded::spawn(&mut command).map_err(Error::attempt(format!("start {}", self.name)))?;
        life.process = Some(spawned);
        Ok(())
    }

    fn open_log(&self) -> Result<File> {
        let log = self.log();
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Error::io("open", &log))
    }

    /// Whether the process runs; a paused one does.
    pub(crate) fn is_running(&self) -> bool {
        self.life()
            .process
            .as_mut()
            .is_some_and(|process| process.ended().is_none())
    }

    pub(crate) fn process_id(&self) -> Option<u32> {
        let mut life = self.life();
        let process = life.process.as_mut()?;
        process.ended().is_none().then(|| process.id())
    }

    /// SIGSTOP: the connections stay, and nothing answers any more.
    pub(crate) fn pause(&self) -> Result<()> {
        self.with_process(Guarded::pause)
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) -> Result<()> {
        self.with_process(Guarded::resume)
    }

    fn with_process<T>(&self, act: impl FnOnce(&mut Guarded) -> Result<T>) -> Result<T> {
        match self.life().process.as_mut() {
            Some(process) => act(process),
            None => Err(Error::NotRunning {
                server: self.name.clone(),
            }),
        }
    }

    /// Kills the process with SIGKILL and waits for its end.
    pub(crate) fn kill(&self) {
        self.life().process = None;
    }

    /// Ends the process with SIGTERM, or with SIGKILL if that takes too long. Waits for its end.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.with_process(|process| {
            process.signal(Signal::SIGTERM)?;
            // A paused process would not see it.
            process.resume()
        })?;
        let ended = eventually("a server to stop", STOP_BOUND, || async { !self.is_running() }).await;
        self.kill();
        ended
    }

    /// Waits until `serves` holds, at most for `bound`, and only while the process runs.
    pub(crate) async fn ready<F>(&self, bound: Duration, serves: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = bool>,
    {
        let outcome = eventually("the server to serve", bound, || async {
            match self.early_end() {
                Some(reason) => Some(Err(reason)),
                None => serves().await.then_some(Ok(())),
            }
        });
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(self.start_failure(reason)),
            Err(timed_out) => Err(self.start_failure(timed_out.to_string())),
        }
    }

    fn early_end(&self) -> Option<String> {
        match self.life().process.as_mut() {
            Some(process) => process
                .ended()
                .map(|status: ExitStatus| format!("its process ended ({status})")),
            None => Some("it was killed meanwhile".to_owned()),
        }
    }

    fn start_failure(&self, reason: String) -> Error {
        let log = self.run_log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        Error::Start {
            server: self.name.clone(),
            reason,
            log: self.log(),
            tail,
        }
    }

    /// The log of the current run.
    pub(crate) fn run_log(&self) -> String {
        let start = self.life().log_start;
        let mut log = Vec::new();
        let read = File::open(self.log()).and_then(|mut file| {
            file.seek(SeekFrom::Start(start))?;
            file.read_to_end(&mut log)
        });
        // A log that cannot be read is an empty one here: it only completes an error.
        read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&log).into_owned())
    }
}
