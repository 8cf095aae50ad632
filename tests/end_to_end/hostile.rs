//! Hostile servers: the answers of a real ZooKeeper, Kafka, NATS or HTTP receiver are cut, changed, endless, dripped or
//! replaced, from one seed (`ZKBRIDGE_SEED`). The bridge must stay alive within its memory or stop with a reason, and go on
//! when the server behaves.
//!
//! `make fuzz` makes `ZKBRIDGE_FUZZ` times as many rounds.

use std::time::Duration;

use bridge_servers::{Kafka, Nats, Proxy, real_servers};
use tokio::net::TcpListener;
use tokio::time::{Instant, interval, sleep};

use crate::bridge::{BOUND, Bridge};
use crate::resident::Resident;
use crate::stage::{Place, shared, source};
use crate::topic;
use crate::writer::Writer;

/// Attacks of one round. In the first seconds after a failure a connection is tried several times a second.
const ROUND: Duration = Duration::from_secs(6);

/// The peak of resident memory: that of a storm on a healthy server, which `sizes` measures.
const MEMORY_MAX: u64 = 300 << 20;

/// Connections of a round that are attacked at the least.
const ATTACKS_MIN: u64 = 3;

/// In so many rounds every kind of attack is made.
const ROUNDS_FOR_EVERY_ATTACK: u64 = 10;

/// The exit code of a bridge whose sources have all stopped.
const STOPPED: i32 = 4;

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// A bridge on a healthy ZooKeeper with a sink behind the proxy, or the other way round.
struct Siege<'a> {
    name: &'static str,
    bridge: Bridge,
    proxy: &'a Proxy,
    writer: Writer,
    root: String,
    written: u64,
}

impl<'a> Siege<'a> {
    /// A bridge with this configuration. Writes go below `root` and past the proxy.
    fn of(
        name: &'static str,
        proxy: &'a Proxy,
        writer: Writer,
        root: &str,
        configuration: &str,
    ) -> Siege<'a> {
        Siege {
            name,
            bridge: Bridge::configured(configuration),
            proxy,
            writer,
            root: root.to_owned(),
            written: 0,
        }
    }

    async fn run(mut self) {
        let seed = number("ZKBRIDGE_SEED", 20_261_129);
        println!("{}: seed {seed}", self.name);
        self.bridge.start_ready().await;
        let rounds = number("ZKBRIDGE_FUZZ", 1);
        for round in 0..rounds {
            let before = self.attacks();
            self.attack(seed.wrapping_add(round.wrapping_mul(1_000_003)))
                .await;
            let attacks = self.attacks() - before;
            assert!(attacks >= ATTACKS_MIN, "{}: only {attacks} attacks", self.name);
            self.recovers().await;
        }
        println!("{}: {:?}", self.name, self.proxy.attacks());
        if rounds >= ROUNDS_FOR_EVERY_ATTACK {
            for (attack, count) in self.proxy.attacks() {
                assert!(count > 0, "{}: {attack} was never made", self.name);
            }
        }
        self.bridge.terminate().await;
    }

    fn attacks(&self) -> u64 {
        self.proxy.attacks().iter().map(|(_, count)| count).sum()
    }

    async fn attack(&mut self, seed: u64) {
        self.proxy.hostile(seed).await.unwrap();
        let began = Instant::now();
        let mut beat = interval(Duration::from_millis(50));
        while began.elapsed() < ROUND {
            beat.tick().await;
            self.write().await;
            self.check_memory();
        }
        self.proxy.restore().await.unwrap();
    }

    async fn write(&mut self) {
        let path = format!("{}/{}", self.root, self.written % 50);
        if self.written < 50 {
            self.writer.create(&path, "x").await;
        } else {
            self.writer.set(&path, self.written.to_string()).await;
        }
        self.written += 1;
    }

    /// The kernel's count of a process that has ended is gone.
    fn check_memory(&mut self) {
        if self.bridge.child().ended().is_none()
            && let Some(resident) = Resident::of_running(self.bridge.child().id())
        {
            let peak = resident.peak;
            assert!(peak < MEMORY_MAX, "{}: {peak} bytes", self.name);
        }
    }

    /// A source that has stopped says why, and an operator's decision resumes it: a changed answer is the truth until
    /// the next one, so that the server seems to go back in time.
    async fn recovers(&mut self) {
        let began = Instant::now();
        while self.bridge.get("/readyz").await.0 != 200 {
            if self.bridge.child().ended().is_some() {
                let code = self.bridge.child().exit_code(BOUND).await.unwrap();
                let log = self.bridge.log().join("\n");
                assert_eq!(code, STOPPED, "{}: {log}", self.name);
                assert!(log.contains("the source has stopped"), "{}: {log}", self.name);
                self.bridge.start_with(&["--accept-baseline", "main"]).await;
            }
            assert!(
                began.elapsed() < 2 * BOUND,
                "{}: it does not recover: {}",
                self.name,
                self.bridge.log().join("\n")
            );
            sleep(Duration::from_millis(100)).await;
        }
        self.enable_halted_sinks().await;
        self.write().await;
        self.bridge.at_rest().await;
        self.check_memory();
        let panics = self.bridge.has_logged(&["panicked"]);
        assert!(!panics, "{}: {}", self.name, self.bridge.log().join("\n"));
    }

    async fn enable_halted_sinks(&self) {
        let status = self.bridge.status().await;
        let sinks = status["sinks"].as_array().into_iter().flatten();
        for sink in sinks.filter(|sink| sink["state"] == "halted") {
            assert!(!sink["error"].is_null(), "{}: {sink:#}", self.name);
            let name = sink["sink"].as_str().unwrap();
            let enabled = self.bridge.command(&["sink", "enable", name]).output().unwrap();
            assert!(enabled.status.success(), "{}: {enabled:?}", self.name);
        }
    }
}

/// Znodes of a test below a root of its own.
async fn field(root: &str) -> (Place, Writer) {
    let place = Place::shared().await;
    let writer = Writer::connect(&place.direct).await;
    writer.create(root, "root").await;
    (place, writer)
}

const RETRY: &str = "retry = { first = \"50ms\", max = \"300ms\" }";

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_zookeeper_is_survived_in_bounded_memory() {
    real_servers!("a hostile ZooKeeper");
    let root = "/hostile-zookeeper";
    let (mut place, writer) = field(root).await;
    let proxy = Proxy::start(shared().await.zookeeper.client_addr(0))
        .await
        .unwrap();
    place.connect = proxy.addr().to_string();
    place.source = "session_timeout = \"4s\"".to_owned();
    let sink = "[[sink]]\ntype = \"file\"\npath = \"out.jsonl\"\n";
    let configuration = source("main", &place, &[root.to_owned()]) + sink;
    Siege::of("ZooKeeper", &proxy, writer, root, &configuration)
        .run()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_kafka_is_survived_in_bounded_memory() {
    real_servers!("a hostile Kafka");
    let root = "/hostile-kafka";
    let (place, writer) = field(root).await;
    let kafka = Kafka::builder().behind_proxy().start().await.unwrap();
    topic::create(&kafka.bootstrap(), "hostile", false).await;
    let sink = format!(
        "[[sink]]\ntype = \"kafka\"\nbrokers = \"{}\"\ntopic = \"hostile\"\n{RETRY}\nproperties = {{ \"socket.timeout.ms\" \
         = \"2000\", \"reconnect.backoff.max.ms\" = \"300\" }}\n",
        kafka.proxied_bootstrap()
    );
    let configuration = source("main", &place, &[root.to_owned()]) + &sink;
    Siege::of("Kafka", kafka.proxy(), writer, root, &configuration)
        .run()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_nats_is_survived_in_bounded_memory() {
    real_servers!("a hostile NATS");
    let root = "/hostile-nats";
    let (place, writer) = field(root).await;
    let nats = Nats::builder().behind_proxy().start().await.unwrap();
    let sink = format!(
        "[[sink]]\ntype = \"nats\"\nservers = \"{}\"\nstream = \"ZK\"\ncreate_stream = true\ntimeout = \"2s\"\n{RETRY}\n",
        nats.proxied_url()
    );
    let configuration = source("main", &place, &[root.to_owned()]) + &sink;
    Siege::of("NATS", nats.proxy(), writer, root, &configuration)
        .run()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_receiver_of_webhooks_is_survived_in_bounded_memory() {
    real_servers!("a hostile receiver of webhooks");
    let root = "/hostile-webhook";
    let (place, writer) = field(root).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    let answer = axum::routing::post(async || axum::http::StatusCode::NO_CONTENT);
    let router = axum::Router::new().route("/hook", answer);
    let receiver = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let sink = format!(
        "[[sink]]\ntype = \"webhook\"\nurl = \"http://{}/hook\"\nallow_private_addresses = true\ntimeout = \"2s\"\n{RETRY}\n",
        proxy.addr()
    );
    let configuration = source("main", &place, &[root.to_owned()]) + &sink;
    Siege::of("webhook", &proxy, writer, root, &configuration)
        .run()
        .await;
    receiver.abort();
}
