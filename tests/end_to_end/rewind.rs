//! An ensemble that goes back in time: a data directory replaced by an old copy, or another cluster at the old address.
//!
//! The bridge stops that source, prints the choices, reports nothing of it, and continues with the others. An operator
//! decides.

use std::path::{Path, PathBuf};

use bridge_servers::{ZooKeeper, real_servers};
use serde_json::Value;

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, Scene, kafka_sink, shared, source};
use crate::verdict::{each_once, folded};
use crate::writer::Writer;

/// The other source of the process, on a server to which nothing happens.
const OTHER: &str = "/rewind-other";

/// Unchanged children of the root: none of them may be reported again.
const UNTOUCHED: usize = 20;

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The data directory of the server.
pub fn kept(zookeeper: &ZooKeeper) -> PathBuf {
    zookeeper.data_dir(0).join("version-2")
}

/// A live scene on a server of its own, with a second source and a file for its records.
async fn two_sources(name: &str, zookeeper: &ZooKeeper, other: &Writer, other_root: &str) -> Scene {
    let place = Place::on(zookeeper, &shared().await.kafka);
    let mut scene = Scene::at(name, place).await;
    scene.writer.create(scene.root(), "root").await;
    for at in 0..UNTOUCHED {
        let path = scene.path(&format!("untouched-{at:02}"));
        scene.writer.create(&path, "untouched").await;
        scene.writer.create(&format!("{path}/below"), "untouched").await;
    }
    other.create(other_root, "other").await;
    scene.bridge.configure(&configuration(&scene, other_root).await);
    scene.bridge.start_ready().await;
    scene
}

async fn configuration(scene: &Scene, other_root: &str) -> String {
    let sink = kafka_sink(&scene.place, scene.root().trim_start_matches('/'));
    let sink = sink.replace("type = \"kafka\"", "sources = [\"main\"]\ntype = \"kafka\"");
    let file = "[[sink]]\nname = \"file\"\ntype = \"file\"\npath = \"other.jsonl\"\nsources = [\"other\"]\n";
    let main = source("main", &scene.place, &scene.roots);
    let other = source("other", &Place::shared().await, &[other_root.to_owned()]);
    format!("{main}{other}{sink}{file}")
}

fn of_main(status: &Value) -> &Value {
    let sources = status["sources"].as_array().expect("sources");
    sources
        .iter()
        .find(|source| source["source"] == "main")
        .expect("main")
}

/// Waits until the source has stopped, with the cause and the choices in every place.
async fn check_stopped(scene: &Scene) {
    scene
        .bridge
        .until("the source to stop", |status| {
            of_main(status)["state"] == "halted"
        })
        .await;
    let words = [
        "went back in time",
        "restored from a backup",
        "'zkbridge run --accept-baseline main'",
        "correct 'connect' of source 'main'",
    ];
    let status = scene.bridge.status().await;
    let halted = of_main(&status)["halted"].as_str().unwrap_or_default();
    assert!(words.iter().all(|word| halted.contains(word)), "{halted}");
    let logged = bridge_servers::eventually("the log", BOUND, || async {
        scene.bridge.has_logged(&["ERROR", words[0]])
    });
    logged.await.unwrap();
    let (code, which) = scene.bridge.get("/readyz").await;
    assert!(
        code == 503 && which.contains("source 'main' is not ready"),
        "{code}: {which}"
    );
    let reasons = status["not_ready"].to_string();
    assert!(reasons.contains(words[0]), "{reasons}");
    let shown = bridge_servers::eventually("the metric", BOUND, || async {
        let labels = [("source", "main")];
        scene.bridge.metric("zkbridge_source_halted", &labels).await == 1.0
    });
    shown.await.unwrap();
}

/// Records of the other source arrive although the first has stopped.
async fn check_other_continues(scene: &Scene, other: &Writer, path: &str) {
    other.create(path, "it goes on").await;
    let file = scene.bridge.folder().join("other.jsonl");
    let arrived = bridge_servers::eventually("the other source's record", BOUND, || async {
        std::fs::read_to_string(&file).unwrap_or_default().contains(path)
    });
    arrived.await.unwrap();
}

/// The records add up to the tree.
async fn check_restored(scene: &mut Scene) {
    scene.settle().await;
    let tree = scene.writer.tree(&scene.roots).await;
    let tree = tree
        .into_iter()
        .map(|(path, node)| (path, (node.czxid, node.mzxid)));
    assert_eq!(folded(&each_once(&scene.topic.deliveries)), tree.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_an_old_copy_of_its_data_stops_its_source_until_a_person_accepts_it() {
    real_servers!("an old copy of the data");
    let zookeeper = ZooKeeper::start().await.unwrap();
    let other = Writer::connect(&Place::shared().await.connect).await;
    let mut scene = two_sources("rewind", &zookeeper, &other, OTHER).await;
    let [changed, gone, lost, parent] = ["changed", "gone", "lost", "parent"].map(|name| scene.path(name));
    let child = format!("{parent}/child");
    for path in [&changed, &gone, &parent] {
        scene.writer.create(path, "before").await;
    }
    scene.settle().await;

    // A copy, and changes after it.
    let copied = tempfile::tempdir().unwrap();
    zookeeper.stop(0).await.unwrap();
    copy(&kept(&zookeeper), copied.path());
    let epoch = of_main(&scene.bridge.status().await)["epoch"].clone();
    zookeeper.restart(0).await.unwrap();
    scene
        .bridge
        .until("the source to be live again", |status| {
            of_main(status)["state"] == "live" && of_main(status)["epoch"] != epoch
        })
        .await;
    scene.writer = Writer::connect(&scene.place.direct).await;
    scene.writer.set(&changed, "after the copy").await;
    scene.writer.delete(&gone).await;
    scene.writer.create(&lost, "after the copy").await;
    scene.writer.create(&child, "after the copy").await;
    scene.settle().await;
    let before = each_once(&scene.topic.deliveries).len();

    // The copy takes the place of the data.
    zookeeper.stop(0).await.unwrap();
    std::fs::remove_dir_all(kept(&zookeeper)).unwrap();
    copy(copied.path(), &kept(&zookeeper));
    zookeeper.restart(0).await.unwrap();
    scene.writer = Writer::connect(&scene.place.direct).await;
    check_stopped(&scene).await;
    check_other_continues(&scene, &other, &format!("{OTHER}/a")).await;

    // A restart changes nothing about it; the decision of a person does.
    scene.bridge.terminate().await;
    scene.bridge.start().await;
    check_stopped(&scene).await;
    scene.bridge.terminate().await;
    tokio::task::block_in_place(|| scene.topic.read_on());
    let since = each_once(&scene.topic.deliveries).split_off(before);
    let changes: Vec<_> = since.iter().filter(|record| !record["path"].is_null()).collect();
    assert!(changes.is_empty(), "nothing is reported before: {changes:#?}");
    scene.bridge.start_with(&["--accept-baseline", "main"]).await;
    scene.bridge.ready().await;
    check_restored(&mut scene).await;

    let gaps = scene.gaps();
    assert_eq!(
        gaps.iter().filter(|reason| *reason == "rebaselined").count(),
        1,
        "{gaps:?}"
    );
    assert_eq!(scene.story(&lost), ["create exact", "delete reconciled"]);
    assert_eq!(scene.story(&child), ["create exact", "delete reconciled"]);
    assert_eq!(
        scene.story(&gone),
        ["create exact", "delete exact", "create reconciled"]
    );
    assert_eq!(scene.last(&changed).record["after"]["data"]["value"], "before");
    // Unchanged znodes are not reported again.
    for at in 0..UNTOUCHED {
        let path = scene.path(&format!("untouched-{at:02}"));
        assert_eq!(scene.story(&path), ["snapshot reconciled"]);
        assert_eq!(scene.story(&format!("{path}/below")), ["snapshot reconciled"]);
    }
    assert_eq!(scene.story(&parent), ["create exact"]);

    // From here on as ever, through a restart, too.
    scene.writer.set(&changed, "as ever").await;
    scene.writer.create(&lost, "as ever").await;
    check_restored(&mut scene).await;
    let last_record = &scene.last(&lost).record;
    assert_eq!(
        (last_record["op"].as_str(), last_record["fidelity"].as_str()),
        (Some("create"), Some("exact"))
    );
    scene.bridge.terminate().await;
    scene.writer.set(&changed, "while it was down").await;
    scene.bridge.start_ready().await;
    check_restored(&mut scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_at_the_address_stops_the_source_until_connect_is_right() {
    real_servers!("the wrong cluster");
    const OTHER: &str = "/wrong-cluster-other";
    let zookeeper = ZooKeeper::start().await.unwrap();
    let wrong = ZooKeeper::start().await.unwrap();
    let other = Writer::connect(&Place::shared().await.connect).await;
    let mut scene = two_sources("wrong-cluster", &zookeeper, &other, OTHER).await;
    scene.settle().await;
    scene.bridge.terminate().await;

    // An empty cluster: the root is not there.
    let right = std::mem::replace(&mut scene.place.connect, wrong.connect_string());
    scene.bridge.configure(&configuration(&scene, OTHER).await);
    scene.bridge.start().await;
    check_stopped(&scene).await;
    check_other_continues(&scene, &other, &format!("{OTHER}/a")).await;
    scene.bridge.terminate().await;

    scene.place.connect = right;
    scene.bridge.configure(&configuration(&scene, OTHER).await);
    scene.writer.set(&scene.path("untouched-07"), "meanwhile").await;
    scene.bridge.start_ready().await;
    check_restored(&mut scene).await;
    scene.judge().await;
    assert_eq!(scene.gaps(), ["started"]);
    assert_eq!(
        scene.story(&scene.path("untouched-07")),
        ["snapshot reconciled", "update reconciled"]
    );
    assert_eq!(scene.story(&scene.path("untouched-08")), ["snapshot reconciled"]);
}

/// Writes that give another server higher zxids.
const HIGHER: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn another_ensemble_with_a_few_younger_znodes_stops_the_source_and_nothing_is_reported() {
    real_servers!("another small ensemble");
    let (known, other) = (
        ZooKeeper::start().await.unwrap(),
        ZooKeeper::start().await.unwrap(),
    );
    let writer = Writer::connect(&known.connect_string()).await;
    writer.create("/few", "root").await;
    writer.create("/few/a", "one").await;
    let parts = |server: &ZooKeeper| {
        format!(
            "[[source]]\nconnect = \"{}\"\nroots = [\"/few\"]\n[[sink]]\ntype = \"file\"\npath = \"few.jsonl\"\n",
            server.connect_string()
        )
    };
    let mut bridge = Bridge::configured(&parts(&known));
    bridge.start_ready().await;
    bridge.at_rest().await;
    bridge.terminate().await;
    let file = bridge.folder().join("few.jsonl");
    let before = std::fs::read_to_string(&file).unwrap();

    let writer = Writer::connect(&other.connect_string()).await;
    writer.create("/higher", "").await;
    for _ in 0..HIGHER {
        writer.set("/higher", "").await;
    }
    writer.create("/few", "root").await;
    writer.create("/few/a", "one").await;
    bridge.configure(&parts(&other));
    bridge.start().await;
    // Its only source has stopped.
    assert_eq!(bridge.child().exit_code(BOUND).await.unwrap(), 4);
    let log = bridge.log().join("\n");
    assert!(
        log.contains("is connected to another ensemble than the one in its journal")
            && log.contains("'zkbridge run --accept-baseline main'")
            && !log.contains("back in time"),
        "{log}"
    );
    let changes = |text: &str| text.lines().filter(|line| line.contains("\"path\":\"/")).count();
    let after = std::fs::read_to_string(&file).unwrap();
    assert_eq!(changes(&after), changes(&before), "{after}");

    bridge.start_with(&["--accept-baseline", "main"]).await;
    bridge.ready().await;
    bridge.at_rest().await;
    bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chroot_that_does_not_exist_stops_a_source_with_a_journal_and_nothing_is_reported() {
    real_servers!("a chroot that does not exist");
    let server = ZooKeeper::start().await.unwrap();
    let writer = Writer::connect(&server.connect_string()).await;
    for path in ["/app1", "/app1/svc", "/app1/svc/a"] {
        writer.create(path, "").await;
    }
    let parts = |chroot: &str| {
        format!(
            "[[source]]\nconnect = \"{}{chroot}\"\nroots = [\"/svc\"]\n[[sink]]\ntype = \"file\"\npath = \"svc.jsonl\"\n",
            server.connect_string()
        )
    };
    let mut bridge = Bridge::configured(&parts("/app1"));
    bridge.start_ready().await;
    bridge.at_rest().await;
    bridge.terminate().await;
    bridge.configure(&parts("/app2"));
    let checked = bridge.command(&["check", "--connect"]).output().unwrap();
    let text = String::from_utf8_lossy(&checked.stdout)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(text.contains("the chroot /app2 does not exist, and"), "{text}");
    assert!(text.contains("--accept-baseline main"), "{text}");
    assert!(!checked.status.success(), "{text}");
    bridge.start().await;
    // Its only source has stopped.
    assert_eq!(bridge.child().exit_code(BOUND).await.unwrap(), 4);
    let log = bridge.log().join("\n");
    assert!(log.contains("the chroot /app2 does not exist"), "{log}");
    let written = std::fs::read_to_string(bridge.folder().join("svc.jsonl")).unwrap();
    assert!(!written.contains("\"op\":\"delete\""), "{written}");

    bridge.start_with(&["--accept-baseline", "main"]).await;
    bridge.ready().await;
    bridge.at_rest().await;
    let written = std::fs::read_to_string(bridge.folder().join("svc.jsonl")).unwrap();
    assert!(written.contains("\"op\":\"delete\""), "{written}");
    bridge.terminate().await;
}
