//! Servers before 3.9, which do not send the zxids of their events: bounds instead of exact deletes, and the same
//! tree at the end.

use bridge_servers::{ZooKeeper, eventually, real_servers};
use serde_json::Value;
use zookeeper_client::Client;

use crate::bridge::{BOUND, Bridge};
use crate::rewind::{copy, kept};
use crate::stage::{Place, Scene, shared};
use crate::verdict::{Events, each_once};
use crate::writer::{Storm, Writer};

async fn check(version: &str) {
    let zookeeper = ZooKeeper::builder().version(version).start().await.unwrap();
    let mut place = Place::on(&zookeeper, &shared().await.kafka);
    place.events = Events::WithoutZxid;
    let mut scene = Scene::at(&format!("line-{version}"), place).await;
    let root = scene.root().to_owned();
    scene.writer.create(&root, "root").await;
    let [kept, deleted, owned] = ["kept", "deleted", "owned"].map(|name| scene.path(name));
    scene.writer.create(&kept, "1").await;
    scene.bridge.start_ready().await;
    assert_eq!(scene.bridge.status().await["sources"][0]["server"], *version);

    let mortal = Writer::connect(&scene.place.direct).await;
    mortal.create_ephemeral(&owned, "here").await;
    scene.writer.create(&deleted, "1").await;
    scene.writer.set(&kept, "2").await;
    scene.settle().await;
    scene.writer.delete(&deleted).await;
    drop(mortal);
    let gone = eventually("the session to end", BOUND, || async {
        scene.writer.tree(std::slice::from_ref(&owned)).await.is_empty()
    });
    gone.await.unwrap();
    scene.settle().await;
    assert_eq!(scene.story(&kept), ["snapshot reconciled", "update exact"]);
    for path in [&deleted, &owned] {
        let end = &scene.last(path).record;
        assert_eq!(
            (end["op"].as_str(), end["zxid_kind"].as_str()),
            (Some("delete"), Some("upper_bound"))
        );
    }

    Storm::new(&scene.writer, &root, 61).blow(600).await;
    scene.bridge.kill().await;
    Storm::new(&scene.writer, &root, 62).blow(200).await;
    scene.bridge.start_ready().await;
    Storm::new(&scene.writer, &root, 63).blow(600).await;
    scene.judge().await;
    let records = each_once(&scene.topic.deliveries);
    let mut deletes = records.iter().filter(|record| record["op"] == "delete");
    assert!(deletes.all(|record| record["zxid_kind"] != "exact"));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_zookeeper_3_6_are_recorded_with_bounds() {
    real_servers!("ZooKeeper 3.6");
    check("3.6.4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_zookeeper_3_8_are_recorded_with_bounds() {
    real_servers!("ZooKeeper 3.8");
    check("3.8.6").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_only_zookeeper_3_4_allowed_are_captured_after_an_upgrade() {
    real_servers!("a tree of ZooKeeper 3.4");
    let odd = ["/odd/unit\u{1f}sep", "/odd/del\u{7f}", "/odd/private\u{f8ff}"];
    let old = ZooKeeper::builder().version("3.4.14").start().await.unwrap();
    let connector = Client::connector().with_server_version(3, 4, 14);
    let client = connector.connect(&old.connect_string()).await.unwrap();
    let writer = Writer { client };
    for path in ["/odd", odd[0], odd[1], odd[2], "/odd/plain"] {
        writer.create(path, "one").await;
    }
    old.stop(0).await.unwrap();

    let upgraded = ZooKeeper::builder().system_property("zookeeper.snapshot.trust.empty", "true");
    let upgraded = upgraded.start().await.unwrap();
    upgraded.stop(0).await.unwrap();
    std::fs::remove_dir_all(kept(&upgraded)).unwrap();
    copy(&kept(&old), &kept(&upgraded));
    upgraded.restart(0).await.unwrap();

    let mut bridge = Bridge::configured(&format!(
        "[[source]]\nconnect = \"{}\"\nroots = [\"/odd\"]\n[[sink]]\ntype = \"file\"\npath = \"odd.jsonl\"\n",
        upgraded.connect_string()
    ));
    bridge.start_ready().await;
    let writer = Writer::connect(&upgraded.connect_string()).await;
    // Newer servers serve such names and refuse to write them.
    writer.set("/odd/plain", "two").await;
    let file = bridge.folder().join("odd.jsonl");
    let arrived = eventually("the update", BOUND, || async {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        (text.contains("\"update\"") && text.ends_with('\n')).then_some(text)
    });
    let text = arrived.await.unwrap();
    let of_path = |path: &str| -> Vec<String> {
        let records = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let own = records.filter(|record| record["path"] == path);
        own.map(|record| record["op"].as_str().unwrap().to_owned())
            .collect()
    };
    for path in odd {
        assert_eq!(of_path(path), ["snapshot"], "{path:?}");
    }
    assert_eq!(of_path("/odd/plain"), ["snapshot", "update"]);
    bridge.terminate().await;
}
