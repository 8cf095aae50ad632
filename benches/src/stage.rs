//! The servers of a scenario, and the processor time of everything on the machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bridge_servers::{Kafka, KafkaBuilder, Proxy, ZooKeeper};
use zookeeper_client::Client;

use crate::machine;
use crate::subject::{Running, TransactionSource};
use crate::topic::Topic;
use crate::tree;

/// The heap of the server for a small tree.
pub const HEAP: &str = "1g";
/// Transactions that a leader keeps for observers by default.
pub const COMMIT_LOG: usize = 500;
/// The heap of the server for a million znodes.
pub const HEAP_OF_A_MILLION: &str = "3g";

/// Real servers, and a session that no subject uses.
#[derive(Debug)]
pub struct Stage {
    zookeeper: ZooKeeper,
    kafka: Kafka,
    client: Client,
    topics: AtomicUsize,
    /// The `dataDir` of a server that is an ensemble of one.
    logs: Option<PathBuf>,
}

/// The processor time used so far.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    at: Instant,
    subject: Duration,
    zookeeper: Duration,
    kafka: Duration,
    harness: Duration,
    all: Duration,
}

/// The processor time used between two measurements.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// The time between the measurements.
    pub time: Duration,
    /// By the subject.
    pub subject: Duration,
    /// By the server of ZooKeeper.
    pub zookeeper: Duration,
    /// By the broker.
    pub kafka: Duration,
    /// By all other programs of the machine.
    pub others: Duration,
}

impl Stage {
    /// Starts the servers as in production, except that ZooKeeper does not fsync transactions: it is the load, and its
    /// disk must not limit the measurement.
    ///
    /// # Errors
    ///
    /// If one does not start.
    pub async fn start(heap: &str) -> Result<Stage> {
        Stage::with(heap, Kafka::builder(), None).await
    }

    /// Starts the servers with ZooKeeper as an ensemble of one, which has a quorum port. It keeps this number of transactions
    /// in memory for observers that come back.
    ///
    /// # Errors
    ///
    /// As [`Stage::start`].
    pub async fn start_quorum(heap: &str, commit_log: usize) -> Result<Stage> {
        Stage::with(heap, Kafka::builder(), Some(commit_log)).await
    }

    /// Starts the servers with a proxy in front of the broker.
    ///
    /// # Errors
    ///
    /// As [`Stage::start`].
    pub async fn start_with_proxy(heap: &str) -> Result<Stage> {
        Stage::with(heap, Kafka::builder().behind_proxy(), None).await
    }

    async fn with(heap: &str, kafka: KafkaBuilder, quorum: Option<usize>) -> Result<Stage> {
        let zookeeper = ZooKeeper::builder()
            .heap(heap)
            .property("tickTime", "2000")
            .property("initLimit", "10")
            .property("syncLimit", "5")
            .property("minSessionTimeout", "4000")
            .property("preAllocSize", "65536")
            .lasting();
        let zookeeper = match quorum {
            Some(commit_log) => zookeeper
                .quorum()
                .property("commitLogCount", &commit_log.to_string()),
            None => zookeeper,
        };
        let kafka = kafka.lasting();
        let (zookeeper, kafka) = futures::try_join!(zookeeper.start(), kafka.start())?;
        let client = tree::connect(&zookeeper.connect_string()).await?;
        Ok(Stage {
            logs: quorum.map(|_| zookeeper.data_dir(0)),
            zookeeper,
            kafka,
            client,
            topics: AtomicUsize::new(0),
        })
    }

    /// A session that no subject uses.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The address of ZooKeeper.
    pub fn server(&self) -> SocketAddr {
        self.zookeeper.client_addr(0)
    }

    /// Where transactions can be read, of [`Stage::start_quorum`].
    pub fn transactions(&self) -> Option<TransactionSource<'_>> {
        let logs = self.logs.as_deref()?;
        let quorum = self.zookeeper.quorum_addr(0);
        Some(TransactionSource { quorum, logs })
    }

    /// The broker.
    pub fn bootstrap(&self) -> String {
        self.kafka.bootstrap()
    }

    /// The proxy in front of the broker of [`Stage::start_with_proxy`].
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn kafka_proxy(&self) -> &Proxy {
        self.kafka.proxy()
    }

    /// A new topic for a round.
    ///
    /// # Errors
    ///
    /// If the broker does not create it.
    pub async fn topic(&self) -> Result<Topic> {
        let number = self.topics.fetch_add(1, Ordering::Relaxed);
        Topic::create(&self.bootstrap(), &format!("bench-{number}")).await
    }

    /// The processor time used so far, by a subject and all others.
    ///
    /// # Errors
    ///
    /// If one of the processes has ended.
    pub fn costs(&self, subject: Option<&Running>) -> Result<Costs> {
        let server = self.zookeeper.process_id(0).context("ZooKeeper has ended")?;
        let broker = self.kafka.process_id().context("Kafka has ended")?;
        Ok(Costs {
            at: Instant::now(),
            subject: subject.map_or(Ok(Duration::ZERO), |running| machine::used(running.id()))?,
            zookeeper: machine::used(server)?,
            kafka: machine::used(broker)?,
            harness: machine::used(std::process::id())?,
            all: machine::used_by_all()?,
        })
    }
}

impl Costs {
    /// The processor time used since an earlier measurement.
    pub fn since(&self, earlier: &Costs) -> Spent {
        let between = |part: fn(&Costs) -> Duration| part(self).saturating_sub(part(earlier));
        let (subject, zookeeper) = (between(|costs| costs.subject), between(|costs| costs.zookeeper));
        let (kafka, harness) = (between(|costs| costs.kafka), between(|costs| costs.harness));
        let known = subject + zookeeper + kafka + harness;
        Spent {
            time: self.at - earlier.at,
            subject,
            zookeeper,
            kafka,
            others: between(|costs| costs.all).saturating_sub(known),
        }
    }
}

impl Spent {
    /// The share of one core that other programs used, in percent. It makes a round less reliable.
    pub fn others_percent(&self) -> f64 {
        100.0 * self.others.as_secs_f64() / self.time.as_secs_f64()
    }
}
