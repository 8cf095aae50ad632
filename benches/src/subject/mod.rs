//! What is measured, each in a process of its own: nobody, the bare watcher, the bare pipeline, Curator, the bridge.

mod bridge;
pub mod peer;

use std::fmt;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use bridge_servers::Child;
use serde::Serialize;
use tempfile::TempDir;

use crate::program::READY;
use crate::settings::Settings;
use crate::topic::Topic;
use crate::tree::ROOT;

pub use bridge::{Held, held};

/// How long a start beside a large tree may take, for the slowest subject on a busy machine.
pub const START_BOUND: Duration = Duration::from_secs(900);
/// How long an orderly end may take.
const END_BOUND: Duration = Duration::from_secs(30);
/// As the sink of Kafka compresses by itself; the others do the same.
pub const COMPRESSION: &str = "zstd";

/// A subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Nobody is attached.
    Nobody,
    /// Events are counted.
    Watcher,
    /// A tree is read once.
    Walk,
    /// Watch, reads and producer, and nothing else.
    Pipeline,
    /// `CuratorCache` and `KafkaProducer`.
    Curator,
    /// The bridge as it is by itself.
    Bridge,
    /// The bridge that does not wait for its disk.
    BridgeUnsynced,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Subject::Nobody => "nobody",
            Subject::Watcher => "bare watcher",
            Subject::Walk => "raw walk",
            Subject::Pipeline => "bare pipeline",
            Subject::Curator => "Curator",
            Subject::Bridge => "bridge",
            Subject::BridgeUnsynced => "bridge, `process_crash`",
        };
        f.pad(name)
    }
}

/// How long a message waits for company before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linger {
    /// So many milliseconds, for every subject.
    Millis(u32),
    /// As the bridge's sink does by itself; the others as the clients do by themselves.
    Own,
}

/// What a subject is told.
#[derive(Clone, Copy, Debug)]
pub struct Orders<'a> {
    /// Where ZooKeeper is.
    pub server: SocketAddr,
    /// Where Kafka is.
    pub bootstrap: &'a str,
    /// The topic.
    pub topic: &'a Topic,
    /// How long messages wait.
    pub linger: Linger,
}

/// A subject that runs. Its process and its files are gone when this is dropped.
#[derive(Debug)]
pub struct Running {
    subject: Subject,
    child: Child,
    // Behind the process, so that nobody writes there any more when it goes.
    _folder: TempDir,
}

impl Running {
    /// Starts a subject, and does not wait; `None` for nobody, and for what does not stay.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(subject: Subject, settings: &Settings, orders: &Orders<'_>) -> Result<Option<Running>> {
        let folder = tempfile::Builder::new()
            .prefix("round-")
            .tempdir_in(&settings.folder)
            .with_context(|| format!("make a folder in {}", settings.folder.display()))?;
        let mut command = match subject {
            Subject::Nobody | Subject::Walk => return Ok(None),
            Subject::Watcher => watcher(settings, orders),
            Subject::Pipeline => pipeline(settings, orders),
            Subject::Curator => peer::command(settings, orders)?,
            Subject::Bridge => bridge::command(settings, orders, folder.path(), "power_loss")?,
            Subject::BridgeUnsynced => bridge::command(settings, orders, folder.path(), "process_crash")?,
        };
        command.current_dir(folder.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ZKBRIDGE_") {
                command.env_remove(name);
            }
        }
        let child = Child::start(&command)?;
        Ok(Some(Running {
            subject,
            child,
            _folder: folder,
        }))
    }

    /// Waits until it follows, and has told what there is already.
    ///
    /// # Errors
    ///
    /// If it ends, or does not come so far in time.
    pub async fn ready(&mut self) -> Result<()> {
        match self.subject {
            Subject::Bridge | Subject::BridgeUnsynced => bridge::at_rest(&mut self.child, START_BOUND).await,
            _ => self
                .child
                .line(READY, START_BOUND)
                .await
                .map(drop)
                .map_err(Into::into),
        }
    }

    /// Which it is.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process with what it prints.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How many events the bare watcher has told of so far.
    pub fn events(&self) -> usize {
        let lines = self.child.stdout();
        let told = lines.iter().rev().find_map(|line| line.strip_prefix("events "));
        told.and_then(|count| count.parse().ok()).unwrap_or_default()
    }

    /// Ends it in order, or by force where that takes too long.
    ///
    /// # Errors
    ///
    /// If it can be neither ended nor killed.
    pub async fn end(mut self) -> Result<()> {
        self.child.terminate()?;
        if self.child.wait(END_BOUND).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

fn program(settings: &Settings, name: &str, orders: &Orders<'_>) -> Command {
    let mut command = Command::new(&settings.harness);
    command.args([name, "--servers", &orders.server.to_string(), "--root", ROOT]);
    command
}

fn watcher(settings: &Settings, orders: &Orders<'_>) -> Command {
    program(settings, "watcher", orders)
}

fn pipeline(settings: &Settings, orders: &Orders<'_>) -> Command {
    let mut command = program(settings, "pipeline", orders);
    command.args(["--bootstrap", orders.bootstrap, "--topic", orders.topic.name()]);
    command.args(["--linger", &linger_ms(orders.linger).to_string()]);
    command.args(["--compression", COMPRESSION]);
    command
}

/// The raw walk.
///
/// # Errors
///
/// If it fails; what it printed is in the error.
pub async fn walk(settings: &Settings, server: SocketAddr) -> Result<Duration> {
    let mut command = Command::new(&settings.harness);
    command.args(["walk", "--servers", &server.to_string(), "--root", ROOT]);
    let mut child = Child::start(&command)?;
    let line = child.line("walked ", START_BOUND).await?;
    let seconds = line.split(' ').nth(2).and_then(|word| word.parse().ok());
    let seconds = seconds.with_context(|| format!("the walk said {line:?}"))?;
    Ok(Duration::from_secs_f64(seconds))
}

/// What the clients of the others do where nothing is said: librdkafka waits 5 ms, Kafka's own since 4.0 as well.
fn linger_ms(linger: Linger) -> u32 {
    match linger {
        Linger::Millis(millis) => millis,
        Linger::Own => 5,
    }
}
