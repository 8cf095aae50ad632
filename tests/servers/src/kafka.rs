//! A real Apache Kafka: one node that is broker and controller (KRaft), on free loopback ports and temporary data.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::daemon::{Daemon, Home, Java};
use crate::distribution::{Distribution, KAFKA_NEWEST};
use crate::machine::Turn;
use crate::ports::Port;
use crate::{Error, Proxy, Result};

const MAIN: &str = "kafka.Kafka";
const FORMAT: &str = "kafka.tools.StorageTool";

/// Kafka's cluster id; any id serves for a single node.
const CLUSTER_ID: &str = "emticmlkZ2UtdGVzdHMtMQ";

/// The node takes 300 MB in all.
const HEAP: &str = "512m";

/// How long a start may take. It takes 1.7 s on an idle machine.
const SERVE_BOUND: Duration = Duration::from_secs(90);

/// How often new ports are tried when some other program took one of ours.
const PORT_ATTEMPTS: usize = 3;

/// The line that the server logs when it takes requests.
const SERVING: &str = "Kafka Server started";

/// The property that names the protocol of each listener.
const PROTOCOLS: &str = "listener.security.protocol.map";

/// The default `server.properties`: one copy of everything, small internal topics, and sessions
/// short enough that a node that was killed is let in again at once.
const DEFAULTS: [(&str, &str); 16] = [
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "DIRECT"),
    (
        PROTOCOLS,
        "DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    ),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("log.cleaner.dedupe.buffer.size", "2097152"),
    ("broker.heartbeat.interval.ms", "300"),
    ("broker.session.timeout.ms", "2000"),
];

/// Describes the Kafka to start.
#[derive(Debug, Clone)]
pub struct KafkaBuilder {
    version: String,
    properties: BTreeMap<String, String>,
    /// Name and protocol.
    listeners: Vec<(String, String)>,
    behind_proxy: bool,
    is_lasting: bool,
}

/// A running Kafka node. Dropping this stops it and removes its data.
#[derive(Debug)]
pub struct Kafka {
    daemon: Daemon,
    java: Java,
    ports: Ports,
    proxy: Option<Proxy>,
    // Last, so that the node is dead before its data go.
    home: TempDir,
}

#[derive(Debug)]
struct Ports {
    direct: Port,
    proxied: Port,
    controller: Port,
    /// The ports of the builder's listeners, by name.
    more: Vec<(String, Port)>,
}

impl Default for KafkaBuilder {
    fn default() -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let properties = DEFAULTS.iter().map(owned).collect();
        Self {
            version: KAFKA_NEWEST.to_owned(),
            properties,
            listeners: Vec::new(),
            behind_proxy: false,
            is_lasting: false,
        }
    }
}

impl KafkaBuilder {
    /// Any released version that needs no ZooKeeper.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// A line of `server.properties`, instead of the default of that name: `message.max.bytes`,
    /// `auto.create.topics.enable`.
    #[must_use]
    pub fn property(mut self, key: &str, value: &str) -> Self {
        self.properties.insert(key.to_owned(), value.to_owned());
        self
    }

    /// One more listener, on a port of its own: `listener("MUTUAL", "SSL")`. Clients that start from
    /// [`Kafka::bootstrap_of`] stay on it. Properties configure it (`listener.name.mutual.…`); the first
    /// listener, of [`Kafka::bootstrap`], stays as it is.
    #[must_use]
    pub fn listener(mut self, name: &str, protocol: &str) -> Self {
        self.listeners.push((name.to_owned(), protocol.to_owned()));
        self
    }

    /// Puts a [`Proxy`] before the node: clients that start from [`Kafka::proxied_bootstrap`] stay behind it, because
    /// the node advertises the proxy's address to them. [`Kafka::bootstrap`] goes past it.
    #[must_use]
    pub fn behind_proxy(mut self) -> Self {
        self.behind_proxy = true;
        self
    }

    /// With Java's own flags, as in production: tests take those of a quick start, with which a node is slower for good.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.is_lasting = true;
        self
    }

    /// Fetches the distribution if need be, starts the node and waits until it serves.
    ///
    /// # Errors
    ///
    /// If the distribution cannot be fetched, or the node does not serve in time; with the end of its log.
    pub async fn start(&self) -> Result<Kafka> {
        let distribution = Distribution::kafka(&self.version);
        let mut java = Java::new(&distribution.jars().await?, HEAP)?;
        if self.is_lasting {
            java = java.with_its_own_flags();
        }
        let _turn = Turn::take().await?;
        for _ in 1..PORT_ATTEMPTS {
            match self.start_once(distribution.title(), &java).await {
                Err(error) if error.is_port_clash() => tracing::warn!(%error, "trying other ports"),
                outcome => return outcome,
            }
        }
        self.start_once(distribution.title(), &java).await
    }

    async fn start_once(&self, title: &str, java: &Java) -> Result<Kafka> {
        let home = tempfile::Builder::new().prefix("zkbridge-kafka-").tempdir();
        let home = home.map_err(Error::attempt("create a temporary directory"))?;
        let ports = Ports {
            direct: Port::reserve()?,
            proxied: Port::reserve()?,
            controller: Port::reserve()?,
            more: self.reserve_more()?,
        };
        let proxy = if self.behind_proxy {
            Some(Proxy::start(ports.proxied.addr()).await?)
        } else {
            None
        };
        let configuration = home.path().join("server.properties");
        let text = self.configure(&ports, proxy.as_ref(), home.path());
        std::fs::write(&configuration, text).map_err(Error::io("write", &configuration))?;
        let named = configuration.to_string_lossy();
        java.run(
            FORMAT,
            &["format", "--cluster-id", CLUSTER_ID, "--config", &named],
        )
        .await?;
        let place = Home {
            litter: home.path(),
            home: home.path(),
            configuration: &configuration,
        };
        let daemon = Daemon::new(title.to_owned(), java.program(MAIN), place);
        let started = Kafka {
            daemon,
            java: java.clone(),
            ports,
            proxy,
            home,
        };
        started.launch()?;
        started.serves().await?;
        Ok(started)
    }

    fn configure(&self, ports: &Ports, proxy: Option<&Proxy>, home: &Path) -> String {
        let (direct, controller) = (ports.direct.addr(), ports.controller.addr());
        let mut listeners = format!("DIRECT://{direct}");
        let mut advertised = listeners.clone();
        if let Some(proxy) = proxy {
            let _ = write!(listeners, ",PROXIED://{}", ports.proxied.addr());
            let _ = write!(advertised, ",PROXIED://{}", proxy.addr());
        }
        for (name, port) in &ports.more {
            let _ = write!(listeners, ",{name}://{}", port.addr());
            let _ = write!(advertised, ",{name}://{}", port.addr());
        }
        let mut lines = format!(
            "listeners={listeners},CONTROLLER://{controller}\nadvertised.listeners={advertised}\n\
             controller.quorum.voters=1@{controller}\nlog.dirs={}\n",
            home.join("data").display()
        );
        for (key, value) in &self.properties {
            let _ = write!(lines, "{key}={value}");
            if key == PROTOCOLS {
                for (name, protocol) in &self.listeners {
                    let _ = write!(lines, ",{name}:{protocol}");
                }
            }
            lines.push('\n');
        }
        lines
    }

    fn reserve_more(&self) -> Result<Vec<(String, Port)>> {
        let reserve = |(name, _): &(String, String)| Ok((name.clone(), Port::reserve()?));
        self.listeners.iter().map(reserve).collect()
    }
}

impl Kafka {
    /// A node of the newest version.
    ///
    /// # Errors
    ///
    /// As [`KafkaBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Chooses version, properties and a proxy.
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder::default()
    }

    /// Where clients start; never through the proxy.
    pub fn bootstrap(&self) -> String {
        self.addr().to_string()
    }

    /// The address of [`Kafka::bootstrap`].
    pub fn addr(&self) -> SocketAddr {
        self.ports.direct.addr()
    }

    /// The bootstrap address through the proxy.
    ///
    /// # Panics
    ///
    /// If the node was not built [`KafkaBuilder::behind_proxy`].
    pub fn proxied_bootstrap(&self) -> String {
        self.proxy().addr().to_string()
    }

    /// Where clients of a listener of [`KafkaBuilder::listener`] start.
    ///
    /// # Panics
    ///
    /// If the node was not built with it.
    pub fn bootstrap_of(&self, listener: &str) -> String {
        let mut more = self.ports.more.iter();
        let found = more.find(|(name, _)| name == listener);
        let (_, port) = found.expect("a listener exists if the builder names it");
        port.addr().to_string()
    }

    /// The proxy before the node.
    ///
    /// # Panics
    ///
    /// If the node was not built [`KafkaBuilder::behind_proxy`].
    pub fn proxy(&self) -> &Proxy {
        self.proxy
            .as_ref()
            .expect("a proxy exists if the builder has `behind_proxy()`")
    }

    /// The node's directory, removed on drop.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The node's log file.
    pub fn log(&self) -> PathBuf {
        self.daemon.log()
    }

    /// The process id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.daemon.process_id()
    }

    /// Whether the process runs; a paused one does.
    pub fn is_running(&self) -> bool {
        self.daemon.is_running()
    }

    /// SIGSTOP: the connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pause(&self) -> Result<()> {
        self.daemon.pause()
    }

    /// SIGCONT.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        self.daemon.resume()
    }

    /// Kills the node with SIGKILL and waits for its end. Does nothing if it does not run.
    pub fn kill(&self) {
        self.daemon.kill();
    }

    /// Ends the node with SIGTERM and waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not run, or had to be killed.
    pub async fn stop(&self) -> Result<()> {
        self.daemon.stop().await
    }

    /// Starts the node again on its ports and data, and does not wait for it.
    ///
    /// # Errors
    ///
    /// If the process cannot be made.
    pub fn launch(&self) -> Result<()> {
        self.daemon.launch()
    }

    /// Starts the node again on its ports and data, killing it first if it runs, and waits until it serves.
    ///
    /// # Errors
    ///
    /// If it does not serve in time.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        self.launch()?;
        self.serves().await
    }

    /// Waits until the node takes requests.
    ///
    /// # Errors
    ///
    /// If it does not in time, with the end of its log.
    pub async fn serves(&self) -> Result<()> {
        let serves = || async {
            self.daemon.run_log().contains(SERVING) && TcpStream::connect(self.addr()).await.is_ok()
        };
        self.daemon.ready(SERVE_BOUND, serves).await
    }

    /// Runs one of Kafka's own tools to its end, such as `org.apache.kafka.tools.TopicCommand`; takes a second or two.
    ///
    /// # Errors
    ///
    /// [`Error::Tool`] if it fails, with its output.
    pub async fn tool(&self, main: &str, arguments: &[&str]) -> Result<String> {
        self.java.run(main, arguments).await
    }
}
