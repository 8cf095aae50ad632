//! A real broker of Apache Kafka 3.9, the last line that registers its brokers and its controller in ZooKeeper.

use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;

use crate::daemon::{Daemon, Home, Java};
use crate::distribution::Distribution;
use crate::machine::Turn;
use crate::ports::Port;
use crate::{Error, Result};

const MAIN: &str = "kafka.Kafka";
const CONFIGURE: &str = "kafka.admin.ConfigCommand";

/// A broker without topics takes half of it.
const HEAP: &str = "256m";

/// How long a start may take. It takes 2 s on an idle machine.
const SERVE_BOUND: Duration = Duration::from_secs(120);

/// How often new ports are tried when some other program took one of ours.
const PORT_ATTEMPTS: usize = 3;

/// The line that a broker logs when it is registered and takes requests.
const SERVING: &str = "] started";

/// The listener for clients, whose address can be changed while the broker runs.
const CLIENTS: &str = "CLIENTS";
/// The listener for other brokers.
const BROKERS: &str = "BROKERS";

/// A running broker. Dropping it kills it: its session has to expire.
#[derive(Debug)]
pub struct KafkaBroker {
    daemon: Daemon,
    java: Java,
    id: u32,
    clients: Port,
    brokers: Port,
    // Last, so that the broker is dead before its data go.
    _home: TempDir,
}

impl KafkaBroker {
    /// Starts a broker of the cluster at this connect string, which may end with a chroot, and waits until it serves.
    ///
    /// # Errors
    ///
    /// If Kafka cannot be fetched, or the broker does not serve in time; with the end of its log.
    pub async fn start(connect: &str, session: Duration, id: u32, rack: &str) -> Result<KafkaBroker> {
        let distribution = Distribution::kafka_on_zookeeper();
        let java = Java::new(&distribution.jars().await?, HEAP)?;
        let title = format!("{}, broker {id}", distribution.title());
        let lines = format!(
            "broker.id={id}\nbroker.rack={rack}\nzookeeper.connect={connect}\n\
             zookeeper.session.timeout.ms={}\n",
            session.as_millis()
        );
        let _turn = Turn::take().await?;
        for _ in 1..PORT_ATTEMPTS {
            match KafkaBroker::start_once(&title, &java, id, &lines).await {
                Err(error) if error.is_port_clash() => tracing::warn!(%error, "trying other ports"),
                outcome => return outcome,
            }
        }
        KafkaBroker::start_once(&title, &java, id, &lines).await
    }

    async fn start_once(title: &str, java: &Java, id: u32, lines: &str) -> Result<KafkaBroker> {
        let home = tempfile::Builder::new().prefix("zkbridge-broker-").tempdir();
        let home = home.map_err(Error::attempt("create a temporary directory"))?;
        let (clients, brokers) = (Port::reserve()?, Port::reserve()?);
        let listeners = format!("{CLIENTS}://{},{BROKERS}://{}", clients.addr(), brokers.addr());
        let configuration = home.path().join("server.properties");
        let text = format!(
            "{lines}listeners={listeners}\nadvertised.listeners={listeners}\n\
             listener.security.protocol.map={CLIENTS}:PLAINTEXT,{BROKERS}:PLAINTEXT\n\
             inter.broker.listener.name={BROKERS}\nlog.dirs={}\nlog.cleaner.dedupe.buffer.size=2097152\n",
            home.path().join("data").display()
        );
        std::fs::write(&configuration, text).map_err(Error::io("write", &configuration))?;
        let place = Home {
            litter: home.path(),
            home: home.path(),
            configuration: &configuration,
        };
        let started = KafkaBroker {
            daemon: Daemon::new(title.to_owned(), java.program(MAIN), place),
            java: java.clone(),
            id,
            clients,
            brokers,
            _home: home,
        };
        started.restart().await?;
        Ok(started)
    }

    /// Where clients start.
    pub fn clients(&self) -> SocketAddr {
        self.clients.addr()
    }

    /// Where other brokers connect.
    pub fn brokers(&self) -> SocketAddr {
        self.brokers.addr()
    }

    /// Changes the address that the running broker announces to clients, with Kafka's own tool.
    ///
    /// # Errors
    ///
    /// [`Error::Tool`] if the tool fails, with its output.
    pub async fn announce(&self, address: &str) -> Result<()> {
        let (bootstrap, id) = (self.clients.addr().to_string(), self.id.to_string());
        let brokers = self.brokers.addr();
        let change = format!("advertised.listeners=[{CLIENTS}://{address},{BROKERS}://{brokers}]");
        let broker = ["--entity-type", "brokers", "--entity-name", &id];
        let words = [
            &["--bootstrap-server", &bootstrap],
            &broker[..],
            &["--alter", "--add-config", &change],
        ];
        self.java.run(CONFIGURE, &words.concat()).await.map(drop)
    }

    /// Kills the broker with SIGKILL and waits for its end.
    pub fn kill(&self) {
        self.daemon.kill();
    }

    /// Ends the broker with SIGTERM, a controlled shutdown, and waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not run, or had to be killed.
    pub async fn stop(&self) -> Result<()> {
        self.daemon.stop().await
    }

    /// Starts the broker again on its ports and data and waits until it serves. Its last session must have ended: a
    /// broker whose id is registered does not start.
    ///
    /// # Errors
    ///
    /// If it does not serve in time.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        self.daemon.launch()?;
        let serving = format!("id={}{SERVING}", self.id);
        let serves = || async { self.daemon.run_log().contains(&serving) };
        self.daemon.ready(SERVE_BOUND, serves).await
    }
}
