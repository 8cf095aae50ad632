//! Bytes on both sides of the bridge, counted by proxies, for each znode and each change. Only the bridge is measured, and
//! only once, because bytes do not depend on the machine.

use std::time::Duration;

use anyhow::{Context, Result};
use bridge_servers::{Direction, Proxy};

use super::reconnect::compared;
use crate::figures::{Figures, Measures};
use crate::settings::Settings;
use crate::stage::{HEAP, Stage};
use crate::subject::{Linger, Orders, Running, Subject, held};
use crate::topic::{Topic, Watch};
use crate::tree;
use crate::writer::{flat_out, paced};

/// The scenario's name.
pub const NAME: &str = "network, bytes";
/// A first listing, for each znode.
pub const LISTED: [&str; 3] = [
    "a listed znode: from ZooKeeper",
    "a listed znode: to ZooKeeper",
    "a listed znode: to Kafka",
];
/// Changes at some hundred a second.
pub const PACED: [&str; 3] = [
    "a change, 500 a second: from ZooKeeper",
    "a change, 500 a second: to ZooKeeper",
    "a change, 500 a second: to Kafka",
];
/// Changes at the maximum rate of the server.
pub const FLAT_OUT: [&str; 3] = [
    "a change under load: from ZooKeeper",
    "a change under load: to ZooKeeper",
    "a change under load: to Kafka",
];
/// A comparison, for each znode.
pub const COMPARED: [&str; 3] = [
    "a compared znode: from ZooKeeper",
    "a compared znode: to ZooKeeper",
    "a compared znode: to Kafka",
];

/// How long the scenario may take.
const REST_BOUND: Duration = Duration::from_secs(120);

/// The proxies on both sides of the bridge.
struct Ways<'a> {
    zookeeper: &'a Proxy,
    kafka: &'a Proxy,
}

impl Ways<'_> {
    /// The bytes so far, in the order of the measures.
    fn passed(&self) -> [u64; 3] {
        [
            self.zookeeper.forwarded(Direction::ToClient),
            self.zookeeper.forwarded(Direction::ToServer),
            self.kafka.forwarded(Direction::ToServer),
        ]
    }

    /// The bytes since `earlier`, divided by `count`.
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn since(&self, before: [u64; 3], names: [&'static str; 3], count: usize) -> [(&'static str, f64); 3] {
        let now = self.passed();
        std::array::from_fn(|at| (names[at], (now[at] - before[at]) as f64 / count as f64))
    }
}

pub(super) async fn run(settings: &Settings, figures: &mut Figures) -> Result<()> {
    let stage = Stage::start_with_proxy(HEAP).await?;
    let sizes = &settings.sizes;
    let written = tree::flat(sizes.written_znodes);
    let all = written.iter().cloned().chain(tree::large(sizes.network_tree));
    let znodes = tree::plant(stage.client(), all, sizes.value_bytes).await?;
    let proxy = Proxy::start(stage.server()).await?;
    let topic = stage.topic().await?;
    let ways = Ways {
        zookeeper: &proxy,
        kafka: stage.kafka_proxy(),
    };
    let bootstrap = ways.kafka.addr().to_string();
    let orders = Orders {
        server: proxy.addr(),
        bootstrap: &bootstrap,
        topic: &topic,
        linger: Linger::Own,
        transactions: None,
    };
    let mut bridge = Running::start(Subject::Bridge, settings, &orders)?.context("the bridge starts")?;
    bridge.ready().await?;
    let mut measures = Measures::from(ways.since([0; 3], LISTED, znodes));

    let before = ways.passed();
    let (server, bytes) = (stage.server(), sizes.value_bytes);
    paced(
        server,
        written.clone(),
        sizes.paced_writes,
        sizes.paced_rate,
        bytes,
    )
    .await?;
    come_to_rest(&topic, settings).await?;
    measures.extend(ways.since(before, PACED, sizes.paced_writes));

    let before = ways.passed();
    flat_out(server, written, sizes.sustained_writes, bytes).await?;
    come_to_rest(&topic, settings).await?;
    measures.extend(ways.since(before, FLAT_OUT, sizes.sustained_writes));

    let stood = held(bridge.child()).await?.context("the bridge answers")?;
    let before = ways.passed();
    proxy.reset_connections().await?;
    compared(&mut bridge, &stood).await?;
    measures.extend(ways.since(before, COMPARED, znodes));

    figures.add(NAME, 0, Subject::Bridge, measures);
    bridge.end().await
}

async fn come_to_rest(topic: &Topic, settings: &Settings) -> Result<()> {
    let quiet = settings.sizes.quiet;
    topic.rest(1, quiet, REST_BOUND, Watch::Loosely).await.map(drop)
}
