//! The servers of a scenario, and what everything on the machine costs meanwhile.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bridge_servers::{Kafka, KafkaBuilder, Proxy, ZooKeeper};
use zookeeper_client::Client;

use crate::machine;
use crate::subject::Running;
use crate::topic::Topic;
use crate::tree;

/// The memory of the server's tree where it is small.
pub const HEAP: &str = "1g";
/// The same with a million znodes.
pub const HEAP_OF_A_MILLION: &str = "3g";

/// Real servers, and a session beside those that are measured.
#[derive(Debug)]
pub struct Stage {
    zookeeper: ZooKeeper,
    kafka: Kafka,
    client: Client,
    topics: AtomicUsize,
}

/// The processor time that was used up to a moment.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    at: Instant,
    subject: Duration,
    zookeeper: Duration,
    kafka: Duration,
    harness: Duration,
    all: Duration,
}

/// What was used between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// How far the moments lie apart.
    pub time: Duration,
    /// By the subject.
    pub subject: Duration,
    /// By the server of ZooKeeper.
    pub zookeeper: Duration,
    /// By the broker.
    pub kafka: Duration,
    /// By all that has nothing to do with the measurement.
    pub others: Duration,
}

impl Stage {
    /// Starts the servers as they would run in production, but that ZooKeeper forces no transaction to its disk: it
    /// is the load, and its disk is not what is measured.
    ///
    /// # Errors
    ///
    /// If one does not start.
    pub async fn start(heap: &str) -> Result<Stage> {
        Stage::with(heap, Kafka::builder()).await
    }

    /// The same with a proxy before the broker.
    ///
    /// # Errors
    ///
    /// As [`Stage::start`].
    pub async fn start_behind_proxy(heap: &str) -> Result<Stage> {
        Stage::with(heap, Kafka::builder().behind_proxy()).await
    }

    async fn with(heap: &str, kafka: KafkaBuilder) -> Result<Stage> {
        let zookeeper = ZooKeeper::builder()
            .heap(heap)
            .property("tickTime", "2000")
            .property("initLimit", "10")
            .property("syncLimit", "5")
            .property("minSessionTimeout", "4000")
            .property("preAllocSize", "65536")
            .lasting();
        let kafka = kafka.lasting();
        let (zookeeper, kafka) = futures::try_join!(zookeeper.start(), kafka.start())?;
        let client = tree::connect(&zookeeper.connect_string()).await?;
        Ok(Stage {
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

    /// The broker.
    pub fn bootstrap(&self) -> String {
        self.kafka.bootstrap()
    }

    /// The proxy before the broker of [`Stage::start_behind_proxy`].
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
    /// If the broker does not make it.
    pub async fn topic(&self) -> Result<Topic> {
        let number = self.topics.fetch_add(1, Ordering::Relaxed);
        Topic::create(&self.bootstrap(), &format!("bench-{number}")).await
    }

    /// What was used up to now, by a subject and all others.
    ///
    /// # Errors
    ///
    /// If one of the processes runs no more.
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
    /// What was used since an earlier moment.
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
    /// The part of one core that others took, in percent: what makes a round worth less.
    pub fn others_percent(&self) -> f64 {
        100.0 * self.others.as_secs_f64() / self.time.as_secs_f64()
    }
}
