//! One act: servers of one version, Kafka, the networks before them, a bridge and a topic. Rounds play on it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bridge_judge::topic::{self, Topic};
use bridge_judge::truth::Truth;
use bridge_judge::verdict::Events;
use bridge_servers::{Kafka, Proxy, ZooKeeper};

use crate::bridge::Bridge;
use crate::capture::Capture;
use crate::faults::SESSION;
use crate::gardener::Gardener;
use crate::tally::Tally;
use crate::witness::Witness;

/// The roots that sessions work on, and delete with all that is below.
const WORKED: [&str; 2] = ["/chaos", "/other root"];

/// A root that nobody deletes. It proves the ensemble to a bridge that was away while every worked znode was deleted and
/// created again; without it such a bridge stops, as it may be connected to another ensemble.
pub const KEPT: &str = "/kept";

/// The name of the topic.
const TOPIC: &str = "chaos";

/// Which servers an act is played on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
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

impl Cast {
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

/// All that plays.
pub struct Act {
    pub cast: Cast,
    pub events: Events,
    pub zookeeper: ZooKeeper,
    pub kafka: Kafka,
    /// Before all ports of the servers that the bridge connects to: for each kind of port one for each server, in order.
    pub proxies: Vec<Proxy>,
    pub witness: Witness,
    pub bridge: Bridge,
    pub topic: Topic,
    /// The roots of the bridge.
    pub roots: Vec<String>,
    /// Rounds that have begun.
    pub rounds: usize,
}

impl Act {
    /// Starts everything, plants the roots, and starts the bridge, with these sinks beside the topic.
    pub async fn open(cast: Cast, program: &Path, more_sinks: &str) -> Result<Act> {
        let zookeeper = ZooKeeper::builder()
            .version(cast.version)
            .servers(cast.servers)
            .system_property("zookeeper.extendedTypesEnabled", "true")
            .system_property("znode.container.checkIntervalMs", "500");
        let zookeeper = match cast.reads_log {
            true => zookeeper,
            false => zookeeper.system_property("zookeeper.snapshotSizeFactor", "-1"),
        };
        let zookeeper = cast.capture.prepare(zookeeper, cast.servers);
        let kafka = Kafka::builder()
            .property("auto.create.topics.enable", "false")
            .behind_proxy();
        let (zookeeper, kafka) = tokio::try_join!(zookeeper.start(), kafka.start())?;
        let proxies = cast.capture.proxies(&zookeeper).await?;
        topic::create(&kafka.bootstrap(), TOPIC, true).await;
        let roots: Vec<String> = WORKED
            .iter()
            .chain([&KEPT])
            .map(|&root| root.to_owned())
            .collect();
        let gardener = Gardener::connect(&zookeeper.connect_string()).await?;
        gardener.plant(&roots[0], cast.width).await?;
        gardener.plant(&roots[1], 0).await?;
        gardener.plant(KEPT, 0).await?;
        // Below the servers' own directory, which goes with them even if this process is killed.
        let folder = zookeeper.home().join("bridge");
        let configuration =
            configuration(cast.capture.source(&zookeeper, &proxies), &kafka, &roots) + more_sinks;
        let mut bridge = Bridge::configured(program, folder, &configuration)?;
        bridge.launch()?;
        let witness = Witness::new(bridge.process(), &zookeeper, &proxies);
        Ok(Act {
            cast,
            events: cast.events(),
            topic: Topic::open(&kafka.bootstrap(), TOPIC),
            zookeeper,
            kafka,
            proxies,
            witness,
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
    /// A leader can hang by itself (met on 3.7.2): followers that come back to it within its epoch have its open proposals
    /// already, acknowledge none of them, and nothing is committed any more. Only another election ends that. An observer
    /// could be the cause, so that with one it is a complaint.
    pub async fn gardener(&self) -> Result<(Gardener, Tally)> {
        let mut restarts = Tally::default();
        let connect = self.zookeeper.connect_string();
        match Gardener::connect(&connect).await {
            Err(error) if self.cast.capture != Capture::Observer && self.zookeeper.count() > 1 => {
                let leader = self.zookeeper.leader().await.context(error)?;
                self.zookeeper.restart(leader).await?;
                restarts.count("leader that hung restarted");
            }
            gardener => return Ok((gardener?, restarts)),
        }
        Ok((Gardener::connect(&connect).await?, restarts))
    }

    /// Everything runs and every way is open.
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
