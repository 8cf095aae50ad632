//! A real ZooKeeper, a real Kafka and the bridge between them, all on loopback.
//!
//! The bridge is a process of its own, started as a user starts it, so that it can be killed. Nothing here outlives this
//! process, however that ends.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bridge_servers::{Child, Kafka, Port, ZooKeeper, eventually, page_of};
use tempfile::TempDir;

use crate::slack::SlackReceiver;

/// The name of the source, which is the `cluster` of the records.
pub(crate) const SOURCE: &str = "demo";

/// The source of the service events. It has a journal of its own, so that the records of the first one are numbered
/// without holes.
const REGISTRY_SOURCE: &str = "registry";

/// Where services register in the format of Curator.
pub(crate) const REGISTRY: &str = "/registry";

/// The topic that the template of the configuration gives for this source.
pub(crate) const TOPIC: &str = "zk.demo";

/// More than one, so that order per path is not a property of a single partition.
pub(crate) const PARTITIONS: i32 = 3;

/// How long the bridge may take to arm its watches and walk; it takes less than a second.
const READY_BOUND: Duration = Duration::from_secs(60);

/// How long the bridge may take to end: it drains for 10 s at most.
const END_BOUND: Duration = Duration::from_secs(20);

/// The exit code of a process that ended in good order after SIGTERM.
const ENDED_BY_SIGTERM: i32 = 128 + 15;

/// How long a command of the bridge may take.
const COMMAND_BOUND: Duration = Duration::from_secs(20);

/// How much of the bridge's log an error shows.
const LOG_LINES: usize = 15;

/// Script of the shell that starts the bridge: it redirects the output to a file and execs the bridge.
const INTO_LOG: &str = r#"log=$1; shift; exec "$@" >>"$log" 2>&1"#;

/// The servers and the bridge. Dropped in this order.
pub(crate) struct Servers {
    bridge: Option<Child>,
    bridge_program: PathBuf,
    kafka: Kafka,
    zookeeper: ZooKeeper,
    slack: SlackReceiver,
    http: Port,
    folder: TempDir,
}

impl Servers {
    /// Writes the configuration of the bridge, and does not start it.
    pub(crate) fn prepare(
        bridge_program: PathBuf,
        zookeeper: ZooKeeper,
        kafka: Kafka,
        slack: SlackReceiver,
        roots: &[&str],
    ) -> Result<Servers> {
        let folder = tempfile::Builder::new().prefix("zkbridge-demo-").tempdir();
        let folder =
            folder.context("no temporary folder can be made; set TMPDIR to one that can be written")?;
        let servers = Servers {
            bridge: None,
            bridge_program,
            kafka,
            zookeeper,
            slack,
            http: Port::reserve()?,
            folder,
        };
        let file = servers.configuration();
        let text = servers.configuration_text(roots)?;
        std::fs::write(&file, text).with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(servers)
    }

    fn configuration_text(&self, roots: &[&str]) -> Result<String> {
        // JSON's texts are TOML's, too.
        let data = self.folder.path().join("data");
        let data = serde_json::to_string(&data)?;
        let roots = serde_json::to_string(roots)?;
        let (listen, connect, brokers) = (self.http.addr(), self.connect_string(), self.brokers());
        let slack = self.slack.url();
        Ok(format!(
            r#"# Written by the demo.
data_dir = {data}

[http]
listen = "{listen}"

[log]
format = "text"

[[source]]
name = "{SOURCE}"
type = "zookeeper"
connect = "{connect}"
roots = {roots}

[[source]]
name = "{REGISTRY_SOURCE}"
connect = "{connect}"
roots = ["{REGISTRY}"]

[[source.service]]
format = "curator"
base = "{REGISTRY}"

[[sink]]
name = "slack"
type = "webhook"
sources = ["{REGISTRY_SOURCE}"]
url = "{slack}"
allow_private_addresses = true
preset = "slack"
format = "service"
events = ["instance.*", "service.*"]

[[sink]]
name = "changes"
type = "kafka"
sources = ["{SOURCE}"]
brokers = "{brokers}"
topic = "zk.{{{{ cluster }}}}"
create_topics = {{ partitions = {PARTITIONS}, replication = 1 }}
"#
        ))
    }

    /// The connect string of ZooKeeper.
    pub(crate) fn connect_string(&self) -> String {
        self.zookeeper.connect_string()
    }

    /// The receiver in the place of Slack.
    pub(crate) fn slack(&mut self) -> &mut SlackReceiver {
        &mut self.slack
    }

    /// The one ZooKeeper server.
    pub(crate) fn zookeeper(&self) -> &ZooKeeper {
        &self.zookeeper
    }

    /// The bootstrap address of Kafka.
    pub(crate) fn brokers(&self) -> String {
        self.kafka.bootstrap()
    }

    /// The address of the bridge's HTTP listener.
    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.http.addr())
    }

    /// The bridge's configuration file.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.path().join("zkbridge.toml")
    }

    /// The bridge's log file.
    pub(crate) fn bridge_log(&self) -> PathBuf {
        self.folder.path().join("bridge.log")
    }

    /// The bridge's program file.
    pub(crate) fn bridge_program(&self) -> &Path {
        &self.bridge_program
    }

    /// The process id of the bridge, while it runs.
    pub(crate) fn bridge_id(&self) -> Option<u32> {
        self.bridge.as_ref().map(Child::id)
    }

    /// Starts the bridge and does not wait for it.
    pub(crate) fn start_bridge(&mut self) -> Result<()> {
        let log = self.bridge_log();
        let opened = OpenOptions::new().create(true).append(true).open(&log);
        opened.with_context(|| format!("{} cannot be written", log.display()))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", INTO_LOG, "bridge"])
            .arg(&log)
            .arg(&self.bridge_program);
        command.arg("run").arg("--config").arg(self.configuration());
        forget_other_bridges(&mut command);
        self.bridge = Some(Child::start(&command)?);
        Ok(())
    }

    /// A link to the page, which opens one session within a minute.
    pub(crate) async fn page(&self) -> Result<String> {
        let mut command = Command::new(&self.bridge_program);
        command.arg("ui").arg("--config").arg(self.configuration());
        forget_other_bridges(&mut command);
        let mut asked = Child::start(&command)?;
        let code = asked.exit_code(COMMAND_BOUND).await?;
        let (printed, complaint) = (asked.stdout().concat(), asked.stderr().join("\n"));
        match code {
            0 => Ok(printed.trim().to_owned()),
            _ => bail!("the bridge gives no link to its page (exit code {code}): {complaint}"),
        }
    }

    /// Waits until the watches are armed and the walk is done, by `/readyz`.
    pub(crate) async fn bridge_ready(&mut self) -> Result<()> {
        let address = self.http.addr();
        let bridge = self.bridge.as_mut().context("the bridge was not started")?;
        let ready = eventually("the bridge to be ready", READY_BOUND, || {
            let ended = bridge.ended();
            async move {
                match ended {
                    Some(status) => Some(Err(status)),
                    None => is_ready(address).await.then_some(Ok(())),
                }
            }
        });
        let tail = |error: String| {
            let log = self.folder.path().join("bridge.log");
            anyhow::anyhow!("{error}; the end of its log:\n{}", tail_of(&log))
        };
        match ready.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => Err(tail(format!("the bridge ended ({status}) before it was ready"))),
            Err(error) => Err(tail(error.to_string())),
        }
    }

    /// Kills the bridge with SIGKILL and waits for its end.
    pub(crate) async fn kill_bridge(&mut self) -> Result<()> {
        if let Some(mut bridge) = self.bridge.take() {
            bridge.kill().await?;
        }
        Ok(())
    }

    /// Ends the bridge with SIGTERM.
    pub(crate) async fn end_bridge(&mut self) -> Result<()> {
        let Some(mut bridge) = self.bridge.take() else {
            return Ok(());
        };
        bridge.terminate()?;
        let code = bridge.exit_code(END_BOUND).await?;
        if code != 0 && code != ENDED_BY_SIGTERM {
            let log = tail_of(&self.bridge_log());
            bail!("the bridge ended with exit code {code} after SIGTERM; the end of its log:\n{log}");
        }
        Ok(())
    }

    /// The message for a bridge that has ended by itself; `None` while it runs.
    pub(crate) fn bridge_ended(&mut self) -> Option<String> {
        let status = self.bridge.as_mut()?.ended()?;
        Some(format!("the bridge ended by itself ({status})"))
    }

    /// Stops everything and removes all but the logs. Returns the folder that keeps them.
    pub(crate) fn keep_logs(self) -> Result<PathBuf> {
        let folder = self.folder.path().to_owned();
        for (log, name) in [
            (self.zookeeper.log(0), "zookeeper.log"),
            (self.kafka.log(), "kafka.log"),
        ] {
            std::fs::copy(&log, folder.join(name))
                .with_context(|| format!("{} cannot be kept", log.display()))?;
        }
        let Servers {
            bridge,
            kafka,
            zookeeper,
            folder: kept,
            ..
        } = self;
        drop((bridge, kafka, zookeeper));
        let data = folder.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data)
                .with_context(|| format!("{} cannot be removed", data.display()))?;
        }
        Ok(kept.keep())
    }
}

/// The environment may configure another bridge of the user.
fn forget_other_bridges(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ZKBRIDGE_") {
            command.env_remove(name);
        }
    }
}

/// Whether `/readyz` answers 200.
async fn is_ready(address: std::net::SocketAddr) -> bool {
    let answer = page_of(address, "/readyz", "").await;
    answer.is_some_and(|(code, _)| code == 200)
}

fn tail_of(log: &Path) -> String {
    let text = File::open(log).and_then(|mut file| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    });
    let text = text.unwrap_or_else(|error| format!("{} cannot be read: {error}", log.display()));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
