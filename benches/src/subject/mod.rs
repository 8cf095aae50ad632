//! The subjects, each in a process of its own: none, the bare watcher, the bare pipeline, Curator, the bridge.

mod bridge;
pub mod peer;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
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

pub use bridge::{Held, TOKEN, address, held};

/// How long a start with a large tree may take, for the slowest subject on a busy machine.
pub const START_BOUND: Duration = Duration::from_secs(900);
/// How long an orderly end may take.
const END_BOUND: Duration = Duration::from_secs(30);
/// The default compression of the Kafka sink; the other subjects use the same.
pub const COMPRESSION: &str = "zstd";

/// A measured program, or its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// No subject: only the writer.
    None,
    /// Counts events.
    Watcher,
    /// Reads a tree once.
    Walk,
    /// Only a watch, reads and a producer.
    Pipeline,
    /// `CuratorCache` and `KafkaProducer`.
    Curator,
    /// The bridge with its defaults.
    Bridge,
    /// The bridge without fsync.
    BridgeUnsynced,
    /// The bridge as an observer.
    BridgeObserver,
    /// The bridge as a reader of the server's logs.
    BridgeTxnlog,
    /// The bridge with sections of services.
    BridgeServices,
    /// The bridge with viewers of its stream that take 50 records a second, as the page does.
    BridgeViewers,
    /// The bridge with viewers of its stream that take every record.
    BridgeStreams,
}

impl Subject {
    /// Whether it is the bridge, with any options.
    pub(crate) fn is_bridge(self) -> bool {
        match self {
            Subject::Bridge
            | Subject::BridgeUnsynced
            | Subject::BridgeObserver
            | Subject::BridgeTxnlog
            | Subject::BridgeServices
            | Subject::BridgeViewers
            | Subject::BridgeStreams => true,
            Subject::None | Subject::Watcher | Subject::Walk | Subject::Pipeline | Subject::Curator => false,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Subject::None => "writer alone",
            Subject::Watcher => "bare watcher",
            Subject::Walk => "raw walk",
            Subject::Pipeline => "bare pipeline",
            Subject::Curator => "Curator",
            Subject::Bridge => "bridge",
            Subject::BridgeUnsynced => "bridge, `process_crash`",
            Subject::BridgeObserver => "bridge, `observer`",
            Subject::BridgeTxnlog => "bridge, `txnlog`",
            Subject::BridgeServices => "bridge, services",
            Subject::BridgeViewers => "bridge, 32 viewers",
            Subject::BridgeStreams => "bridge, 32 full streams",
        };
        f.pad(name)
    }
}

/// The producer's linger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linger {
    /// This many milliseconds, for every subject.
    Millis(u32),
    /// The default of the bridge's sink, and the defaults of the other clients.
    Own,
}

/// The arguments of a subject.
#[derive(Clone, Copy, Debug)]
pub struct Orders<'a> {
    /// The address of ZooKeeper.
    pub server: SocketAddr,
    /// The address of Kafka.
    pub bootstrap: &'a str,
    /// The topic.
    pub topic: &'a Topic,
    /// The linger.
    pub linger: Linger,
    /// For subjects that read transactions.
    pub transactions: Option<TransactionSource<'a>>,
}

/// Where transactions can be read.
#[derive(Clone, Copy, Debug)]
pub struct TransactionSource<'a> {
    /// The quorum port.
    pub quorum: SocketAddr,
    /// The `dataDir` of the server.
    pub logs: &'a Path,
}

/// A running subject. Dropping it removes its process and files.
#[derive(Debug)]
pub struct Running {
    subject: Subject,
    child: Child,
    command: Command,
    // Dropped after the process, which writes to it.
    _folder: TempDir,
}

impl Running {
    /// Starts a subject without waiting; `None` if it has no process that stays.
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
            Subject::None | Subject::Walk => return Ok(None),
            Subject::Watcher => watcher(settings, orders),
            Subject::Pipeline => pipeline(settings, orders),
            Subject::Curator => peer::command(settings, orders)?,
            Subject::Bridge
            | Subject::BridgeObserver
            | Subject::BridgeTxnlog
            | Subject::BridgeServices
            | Subject::BridgeViewers
            | Subject::BridgeStreams => {
                bridge::command(subject, settings, orders, folder.path(), "power_loss")?
            }
            Subject::BridgeUnsynced => {
                bridge::command(subject, settings, orders, folder.path(), "process_crash")?
            }
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
            command,
            _folder: folder,
        }))
    }

    /// Waits until it follows changes and has delivered the existing tree.
    ///
    /// # Errors
    ///
    /// If it ends, or is not ready in time.
    pub async fn ready(&mut self) -> Result<()> {
        if self.subject.is_bridge() {
            return bridge::at_rest(&mut self.child, START_BOUND).await;
        }
        let ready = self.child.line(READY, START_BOUND).await;
        ready.map(drop).map_err(Into::into)
    }

    /// The number of records in its journal; `None` of a subject without one.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub async fn journalled(&mut self) -> Result<Option<u64>> {
        if !self.subject.is_bridge() {
            return Ok(None);
        }
        let held = held(&mut self.child)
            .await?
            .context("the bridge does not answer")?;
        Ok(Some(held.tail))
    }

    /// The kind of subject.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process with its output.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The number of events that the bare watcher has printed so far.
    pub fn events(&self) -> usize {
        let lines = self.child.stdout();
        let printed = lines.iter().rev().find_map(|line| line.strip_prefix("events "));
        printed.and_then(|count| count.parse().ok()).unwrap_or_default()
    }

    /// Kills it. Its files stay.
    ///
    /// # Errors
    ///
    /// If it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Starts it again with its files.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        self.child = Child::start(&self.command)?;
        Ok(())
    }

    /// Ends it with SIGTERM, or with SIGKILL if that takes too long.
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

/// Runs the raw walk and returns its time.
///
/// # Errors
///
/// If it fails; the error has its output.
pub async fn walk(settings: &Settings, server: SocketAddr) -> Result<Duration> {
    let mut command = Command::new(&settings.harness);
    command.args(["walk", "--servers", &server.to_string(), "--root", ROOT]);
    let mut child = Child::start(&command)?;
    let line = child.line("walked ", START_BOUND).await?;
    let seconds = line.split(' ').nth(2).and_then(|word| word.parse().ok());
    let seconds = seconds.with_context(|| format!("the walk printed {line:?}"))?;
    Ok(Duration::from_secs_f64(seconds))
}

/// The default linger of the other clients: 5 ms in librdkafka, and in Kafka's own client since 4.0.
fn linger_ms(linger: Linger) -> u32 {
    match linger {
        Linger::Millis(millis) => millis,
        Linger::Own => 5,
    }
}
