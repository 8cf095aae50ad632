//! The environment of a scenario: servers, a root and a topic of its own, a bridge, and the judge.

use std::cell::RefCell;
use std::path::PathBuf;

use bridge_servers::{Kafka, ZooKeeper, eventually, is_at_rest};
use tokio::sync::OnceCell;
use tokio::task::block_in_place;

use crate::bridge::{BOUND, Bridge};
use crate::topic::{self, Delivery, Topic};
use crate::truth::Truth;
use crate::verdict::{Case, Events, each_once, folded};
use crate::writer::Writer;

/// The servers that all scenarios share that do them no harm.
pub struct Servers {
    pub zookeeper: ZooKeeper,
    pub kafka: Kafka,
}

static SHARED: OnceCell<Servers> = OnceCell::const_new();

/// The shared servers, started by the first test. Kafka does not create topics automatically, so that a typing error
/// creates none.
pub async fn shared() -> &'static Servers {
    let start = || async {
        let kafka = Kafka::builder().property("auto.create.topics.enable", "false");
        let (zookeeper, kafka) = tokio::join!(ZooKeeper::start(), kafka.start());
        Servers {
            zookeeper: zookeeper.unwrap(),
            kafka: kafka.unwrap(),
        }
    };
    SHARED.get_or_init(start).await
}

/// Where a scenario plays.
#[derive(Clone)]
pub struct Place {
    /// How the bridge connects to ZooKeeper.
    pub connect: String,
    /// How the writer does: never through a proxy.
    pub direct: String,
    /// Where the log of the truth is.
    pub data_dirs: Vec<PathBuf>,
    /// How the bridge connects to Kafka, and the topic's reader.
    pub brokers: String,
    pub events: Events,
    /// The topic takes values of 1 MB.
    pub is_large: bool,
    /// More lines of the source.
    pub source: String,
}

impl Place {
    pub async fn shared() -> Place {
        let servers = shared().await;
        Place::on(&servers.zookeeper, &servers.kafka)
    }

    pub fn on(zookeeper: &ZooKeeper, kafka: &Kafka) -> Place {
        Place {
            connect: zookeeper.connect_string(),
            direct: zookeeper.connect_string(),
            data_dirs: (0..zookeeper.count())
                .map(|server| zookeeper.data_dir(server))
                .collect(),
            brokers: kafka.bootstrap(),
            events: Events::WithZxid,
            is_large: false,
            source: String::new(),
        }
    }
}

/// One scenario: its root has the name of the scenario, and so has its topic.
pub struct Scene {
    pub place: Place,
    pub roots: Vec<String>,
    pub topic: Topic,
    pub bridge: Bridge,
    pub writer: Writer,
    /// Paths that the bridge could not read for some time.
    pub hidden: Vec<String>,
    /// How often the end was marked.
    marks: u32,
}

impl Scene {
    /// A scene on the shared servers with its root; the bridge is not started.
    pub async fn open(name: &str) -> Scene {
        let scene = Scene::at(name, Place::shared().await).await;
        scene.writer.create(scene.root(), "the root").await;
        scene
    }

    /// A scene with a live bridge.
    pub async fn live(name: &str) -> Scene {
        let mut scene = Scene::open(name).await;
        scene.bridge.start_ready().await;
        scene
    }

    /// A scene anywhere; its root does not exist yet, and the bridge is not started.
    pub async fn at(name: &str, place: Place) -> Scene {
        topic::create(&place.brokers, name, place.is_large).await;
        let roots = vec![format!("/{name}")];
        let configuration = format!("{}{}", source("main", &place, &roots), kafka_sink(&place, name));
        let writer = Writer::connect(&place.direct).await;
        Scene {
            roots,
            topic: Topic::open(&place.brokers, name),
            bridge: Bridge::configured(&configuration),
            writer,
            hidden: Vec::new(),
            marks: 0,
            place,
        }
    }

    pub fn root(&self) -> &str {
        &self.roots[0]
    }

    /// A path below the root.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root())
    }

    /// Waits until everything has arrived: a last znode, and the fold of the records equals the tree. The judge reports what
    /// is missing after the bound.
    pub async fn settle(&mut self) {
        self.settle_without(&[]).await;
    }

    /// The same, except for paths that the bridge cannot read and has never reported.
    pub async fn settle_without(&mut self, hidden: &[&str]) {
        self.marks += 1;
        let mark = self.path(&format!("~end-{}", self.marks));
        self.writer.create(&mark, "end").await;
        self.bridge.ready().await;
        let tree = self.writer.tree(&self.roots).await;
        let expected = tree.iter().filter(|(path, _)| !hidden.contains(&path.as_str()));
        let expected = expected.map(|(path, node)| (path.clone(), (node.czxid, node.mzxid)));
        let expected = expected.collect();
        let (bridge, topic) = (&self.bridge, RefCell::new(&mut self.topic));
        let settled = eventually("the records to add up to the tree", BOUND, || async {
            let is_resting = is_at_rest(&bridge.status().await);
            let mut topic = topic.borrow_mut();
            block_in_place(|| topic.read_on());
            is_resting && folded(&each_once(&topic.deliveries)) == expected
        });
        if let Err(error) = settled.await {
            println!(
                "{error}: {:#}\n{}",
                self.bridge.status().await,
                self.bridge.log().join("\n")
            );
        }
    }

    /// Waits until everything has arrived, and judges all of it.
    pub async fn judge(&mut self) {
        self.settle().await;
        let tree = self.writer.tree(&self.roots).await;
        let truth = Truth::of_servers(&self.place.data_dirs);
        let case = Case {
            deliveries: &self.topic.deliveries,
            truth: &truth,
            tree: &tree,
            roots: &self.roots,
            events: self.place.events,
            hidden: &self.hidden,
        };
        case.hold();
    }

    /// Each record of a path once, in order, as `op` and `fidelity`.
    pub fn story(&self, path: &str) -> Vec<String> {
        let records = each_once(&self.topic.deliveries);
        let of_path = records.iter().filter(|record| record["path"] == path);
        let word = |record: &serde_json::Value, field: &str| record[field].as_str().unwrap_or("?").to_owned();
        of_path
            .map(|record| format!("{} {}", word(record, "op"), word(record, "fidelity")))
            .collect()
    }

    /// The last record of a path.
    pub fn last(&self, path: &str) -> &Delivery {
        let mut of_path = self.topic.deliveries.iter().rev();
        of_path
            .find(|delivery| delivery.record["path"] == path)
            .unwrap_or_else(|| panic!("no record of {path}"))
    }

    /// The reasons of all gaps that ended, in order.
    pub fn gaps(&self) -> Vec<String> {
        let records = each_once(&self.topic.deliveries);
        let ends = records.iter().filter(|record| record["op"] == "gap_end");
        ends.map(|record| record["gap"]["reason"].as_str().unwrap_or("?").to_owned())
            .collect()
    }
}

/// The lines of a source.
pub fn source(name: &str, place: &Place, roots: &[String]) -> String {
    format!(
        "[[source]]\nname = \"{name}\"\ntype = \"zookeeper\"\nconnect = \"{}\"\nroots = {roots:?}\n{}\n",
        place.connect, place.source
    )
}

/// The lines of a Kafka sink.
pub fn kafka_sink(place: &Place, topic: &str) -> String {
    format!(
        "[[sink]]\nname = \"topic\"\ntype = \"kafka\"\nbrokers = \"{}\"\ntopic = \"{topic}\"\n\
         retry = {{ first = \"50ms\", max = \"500ms\" }}\n",
        place.brokers
    )
}
