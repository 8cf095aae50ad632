//! A testbed: servers of one version, Kafka, proxies before them, a bridge and a topic. Rounds are played on it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bridge_judge::topic::{self, Topic};
use bridge_judge::truth::Truth;
use bridge_judge::verdict::Events;
use bridge_servers::{Kafka, Proxy, ZooKeeper};

use crate::bridge::Bridge;
use crate::capture::Capture;
use crate::faults::SESSION;
use crate::operation_counts::OperationCounts;
use crate::proxy_check::ProxyCheck;
use crate::tree_admin::TreeAdmin;

/// The roots that sessions work on, and delete with all that is below.
const WORKED: [&str; 2] = ["/chaos", "/other root"];

/// A root that nobody deletes. It proves the ensemble to a bridge that was away while every worked znode was deleted and
/// created again; without it such a bridge stops, as it may be connected to another ensemble.
pub const KEPT: &str = "/kept";

/// The name of the topic.
const TOPIC: &str = "chaos";

/// The servers of a testbed, and how the bridge captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestbedOptions {
    /// The version of ZooKeeper.
    pub version: &'static str,
    /// 1 or 3.
    pub servers: usize,
    /// Children of the widest znode.
    pub width: usize,
    /// How the bridge captures.
    pub capture: Capture,
    /// Whether a leader reads its log for those who were away for long, as it does by default if its log is much smaller
    /// than its tree; otherwise it has the last 500 transactions only.
    pub reads_log: bool,
}

impl TestbedOptions {
    /// Servers from 3.9 send the zxids of their events, and transactions have them.
    fn events(self) -> Events {
        if self.capture.is_lossless() {
            return Events::WithZxid;
        }
        let is_old = ["3.6.", "3.7.", "3.8."]
            .iter()
            .any(|line| self.version.starts_with(line));
        if is_old {
            Events::WithoutZxid
        } else {
            Events::WithZxid
        }
    }
}

/// Its servers, its bridge, and the state of its rounds.
pub struct Testbed {
    pub options: TestbedOptions,
    pub events: Events,
    pub zookeeper: ZooKeeper,
    pub kafka: Kafka,
    /// Before all ports of the servers that the bridge connects to: for each kind of port one for each server, in order.
    pub proxies: Vec<Proxy>,
    pub proxy_check: ProxyCheck,
    pub bridge: Bridge,
    pub topic: Topic,
    /// The roots of the bridge.
    pub roots: Vec<String>,
    /// Rounds that have begun.
    pub rounds: usize,
}

impl Testbed {
    /// Starts the servers, creates the roots, and starts the bridge, with these sinks beside the topic.
    pub async fn open(options: TestbedOptions, program: &Path, more_sinks: &str) -> Result<Testbed> {
        let zookeeper = ZooKeeper::builder()
            .version(options.version)
            .servers(options.servers)
            .system_property("zookeeper.extendedTypesEnabled", "true")
            .system_property("znode.container.checkIntervalMs", "500");
        let zookeeper = match options.reads_log {
            true => zookeeper,
            false => zookeeper.system_property("zookeeper.snapshotSizeFactor", "-1"),
        };
        let zookeeper = options.capture.prepare(zookeeper, options.servers);
        let kafka = Kafka::builder()
            .property("auto.create.topics.enable", "false")
            .behind_proxy();
        let (zookeeper, kafka) = tokio::try_join!(zookeeper.start(), kafka.start())?;
        let proxies = options.capture.proxies(&zookeeper).await?;
        topic::create(&kafka.bootstrap(), TOPIC, true).await;
        let roots: Vec<String> = WORKED
            .iter()
            .chain([&KEPT])
            .map(|&root| root.to_owned())
            .collect();
        let tree_admin = TreeAdmin::connect(&zookeeper.connect_string()).await?;
        tree_admin.create_root(&roots[0], options.width).await?;
        tree_admin.create_root(&roots[1], 0).await?;
        tree_admin.create_root(KEPT, 0).await?;
        // Below the servers' own directory, which goes with them even if this process is killed.
        let folder = zookeeper.home().join("bridge");
        let configuration =
            configuration(options.capture.source(&zookeeper, &proxies), &kafka, &roots) + more_sinks;
        let mut bridge = Bridge::configured(program, folder, &configuration)?;
        bridge.launch()?;
        let proxy_check = ProxyCheck::new(bridge.process(), &zookeeper, &proxies);
        Ok(Testbed {
            options,
            events: options.events(),
            topic: Topic::open(&kafka.bootstrap(), TOPIC),
            zookeeper,
            kafka,
            proxies,
            proxy_check,
            bridge,
            roots,
            rounds: 0,
        })
    }

    /// The roots that sessions work on.
    pub fn worked_roots(&self) -> &[String] {
        &self.roots[..WORKED.len()]
    }

    /// The true history so far.
    pub fn truth(&self) -> Truth {
        let data_dirs: Vec<PathBuf> = (0..self.zookeeper.count())
            .map(|server| self.zookeeper.data_dir(server))
            .collect();
        Truth::of_servers(&data_dirs)
    }

    /// A client that may read everything. Counts a leader that it had to restart for it.
    ///
    /// A leader can hang by itself (met on 3.6.4 and 3.7.2): followers that come back to it within its epoch have its open
    /// proposals already, acknowledge none of them, and nothing is committed any more. Only another election ends that.
    ///
    /// # Errors
    ///
    /// The servers let nobody in, or an observer was the cause: once its bridge is killed, clients get sessions.
    pub async fn tree_admin(&mut self) -> Result<(TreeAdmin, OperationCounts)> {
        let mut restarts = OperationCounts::default();
        let connect = self.zookeeper.connect_string();
        let error = match TreeAdmin::connect(&connect).await {
            Err(error) if self.zookeeper.count() > 1 => error,
            tree_admin => return Ok((tree_admin?, restarts)),
        };
        let is_observed = self.options.capture == Capture::Observer;
        if is_observed {
            self.bridge.kill().await?;
            if TreeAdmin::connect(&connect).await.is_ok() {
                return Err(error.context("the servers took clients again when the observer was gone"));
            }
        }
        let leader = self.zookeeper.leader().await.context(error)?;
        self.zookeeper.restart(leader).await?;
        restarts.count("leader that hung restarted");
        if is_observed {
            self.bridge.launch()?;
        }
        Ok((TreeAdmin::connect(&connect).await?, restarts))
    }

    /// Restores every network, and starts what does not run.
    pub async fn heal(&mut self) -> Result<()> {
        for proxy in &self.proxies {
            proxy.restore().await?;
        }
        self.kafka.proxy().restore().await?;
        for server in 0..self.zookeeper.count() {
            self.zookeeper.launch(server)?;
        }
        self.zookeeper.serves().await?;
        self.kafka.launch()?;
        self.kafka.serves().await?;
        self.bridge.launch()
    }
}

fn configuration((connect, more): (String, String), kafka: &Kafka, roots: &[String]) -> String {
    format!(
        "data_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[source]]\nname = \"main\"\ntype = \"zookeeper\"\nconnect = \"{}\"\nroots = {roots:?}\n\
         session_timeout = \"{}s\"\n{more}\
         [[sink]]\nname = \"topic\"\ntype = \"kafka\"\nbrokers = \"{}\"\ntopic = \"{TOPIC}\"\n\
         retry = {{ first = \"50ms\", max = \"500ms\" }}\n",
        connect,
        SESSION.as_secs(),
        kafka.proxied_bootstrap(),
    )
}
