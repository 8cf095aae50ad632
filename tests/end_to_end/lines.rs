//! The promises on every supported version of ZooKeeper, on one server and on three: writes of all kinds, a
//! network that is cut, a bridge that is killed, a server that is killed, and the same judgement on all of them.

use bridge_servers::{Proxy, ZOOKEEPER_LINES, ZooKeeper, real_servers};

use crate::stage::{Place, Scene, shared};
use crate::verdict::{Events, each_once};
use crate::writer::{Storm, Writer};

/// Writes between two faults: enough that each fault meets some under way.
const WRITES: usize = 150;

/// The newest version of a line.
fn newest(line: &str) -> &'static str {
    let mut versions = ZOOKEEPER_LINES.iter();
    versions.find(|version| version.starts_with(line)).unwrap()
}

async fn check(line: &str, servers: usize) {
    let version = newest(line);
    let zookeeper = ZooKeeper::builder().version(version).servers(servers);
    let zookeeper = zookeeper.start().await.unwrap();
    let mut place = Place::on(&zookeeper, &shared().await.kafka);
    if line != "3.9." {
        place.events = Events::WithoutZxid;
    }
    let mut proxies = Vec::new();
    for server in 0..servers {
        proxies.push(Proxy::start(zookeeper.client_addr(server)).await.unwrap());
    }
    let addresses: Vec<String> = proxies.iter().map(|proxy| proxy.addr().to_string()).collect();
    place.connect = addresses.join(",");
    place.source = "session_timeout = \"4s\"".to_owned();
    let mut scene = Scene::at(&format!("line-{version}-{servers}"), place).await;
    let root = scene.root().to_owned();
    scene.writer.create(&root, "root").await;
    scene.bridge.start_ready().await;
    let status = scene.bridge.status().await;
    assert_eq!(status["sources"][0]["server"], *version, "{status:#}");

    let seed = servers as u64;
    storm(&scene, seed).await;
    for proxy in &proxies {
        proxy.cut().await.unwrap();
    }
    storm(&scene, seed + 10).await;
    for proxy in &proxies {
        proxy.restore().await.unwrap();
    }
    storm(&scene, seed + 20).await;
    scene.bridge.kill().await;
    storm(&scene, seed + 30).await;
    scene.bridge.start().await;
    storm(&scene, seed + 40).await;
    let victim = match servers {
        1 => 0,
        _ => zookeeper.leader().await.unwrap(),
    };
    zookeeper.restart(victim).await.unwrap();
    zookeeper.serves().await.unwrap();
    storm(&scene, seed + 50).await;
    scene.writer = Writer::connect(&scene.place.direct).await;
    scene.judge().await;
    let is_told = |op: &str| {
        each_once(&scene.topic.deliveries)
            .iter()
            .any(|record| record["op"] == op)
    };
    for op in ["create", "update", "delete", "gap_end"] {
        assert!(is_told(op), "the story had no {op}");
    }
}

/// Writes in a session of its own: its ephemerals end with it.
async fn storm(scene: &Scene, seed: u64) {
    let writer = Writer::connect(&scene.place.direct).await;
    Storm::new(&writer, scene.root(), seed).blow(WRITES).await;
}

/// One test for each line and number of servers.
macro_rules! lines {
    ($($name:ident: $line:literal, $servers:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            real_servers!(concat!("ZooKeeper ", $line, " with ", $servers, " servers"));
            Box::pin(check($line, $servers)).await;
        }
    )*};
}

lines! {
    every_change_is_accounted_for_on_one_server_of_3_6: "3.6.", 1;
    every_change_is_accounted_for_on_three_servers_of_3_6: "3.6.", 3;
    every_change_is_accounted_for_on_one_server_of_3_7: "3.7.", 1;
    every_change_is_accounted_for_on_three_servers_of_3_7: "3.7.", 3;
    every_change_is_accounted_for_on_one_server_of_3_8: "3.8.", 1;
    every_change_is_accounted_for_on_three_servers_of_3_8: "3.8.", 3;
    every_change_is_accounted_for_on_one_server_of_3_9: "3.9.", 1;
    every_change_is_accounted_for_on_three_servers_of_3_9: "3.9.", 3;
}
