//! The canary: the bridge's own write proves the watch on a tree without other changes.

use std::time::{Duration, Instant};

use bridge_servers::{Child, Proxy, eventually, real_servers};
use zookeeper_client::{Acl, AuthId, CreateMode, Permission};

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, Scene, shared};
use crate::writer::Writer;

/// The canary is written every 10 seconds; the rest is for a machine busy with other tests.
const FOUND_WITHIN: Duration = Duration::from_secs(25);

/// Drops the events of the connection until one of the canary is lost, and waits for the consequence.
async fn assert_finds_a_dead_watch(bridge: &Bridge, proxy: &Proxy) {
    let epoch = bridge.status().await["sources"][0]["epoch"].clone();
    proxy.deaf().await.unwrap();
    let began = Instant::now();
    let unheard = eventually("an event to be lost", BOUND, || async { proxy.unheard() > 0 });
    unheard.await.unwrap();
    proxy.restore().await.unwrap();
    bridge
        .until("the dead watch to be found and healed", |status| {
            status["ready"] == true && status["sources"][0]["epoch"] != epoch
        })
        .await;
    assert!(began.elapsed() < FOUND_WITHIN, "after {:?}", began.elapsed());
    assert!(
        bridge.has_logged(&["WARN", "the watch cannot be trusted (liveness)"]),
        "{:#?}",
        bridge.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_canary_finds_a_dead_watch_on_a_tree_without_changes() {
    real_servers!("a canary outside of the root");
    let proxy = Proxy::start(shared().await.zookeeper.client_addr(0))
        .await
        .unwrap();
    let mut place = Place::shared().await;
    place.connect = proxy.addr().to_string();
    place.source = "session_timeout = \"30s\"\nliveness = \"canary\"".to_owned();
    let mut scene = Scene::at("canary-apart", place).await;
    scene.writer.create(scene.root(), "root").await;
    scene.bridge.start_ready().await;
    scene.settle().await;

    assert_finds_a_dead_watch(&scene.bridge, &proxy).await;
    scene.judge().await;
    assert_eq!(scene.gaps(), ["liveness"]);
    let gap = scene
        .topic
        .deliveries
        .iter()
        .find(|delivery| delivery.record["op"] == "gap_end");
    assert_eq!(gap.unwrap().record["gap"]["differences"], 0);
}

/// How often the one canary in a folder was written.
async fn writes(writer: &Writer, folder: &str) -> i32 {
    let Ok(names) = writer.client.list_children(folder).await else {
        return 0;
    };
    let [name] = &names[..] else { return 0 };
    assert!(name.starts_with("main-"), "{name}");
    let stat = writer.client.check_stat(&format!("{folder}/{name}")).await;
    stat.unwrap().map_or(0, |stat| stat.version + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_below_a_root_proves_its_watch_and_leaves_no_trace_in_the_records() {
    real_servers!("a canary below a root");
    let chroot = "/canary-below";
    let proxy = Proxy::start(shared().await.zookeeper.client_addr(0))
        .await
        .unwrap();
    let writer = Writer::connect(&Place::shared().await.connect).await;
    writer.create(chroot, "root").await;
    let mut bridge = Bridge::configured(&format!(
        "[[source]]\nname = \"main\"\nconnect = \"{}{chroot}\"\nsession_timeout = \"30s\"\nliveness = \"canary\"\n\
         [[sink]]\ntype = \"file\"\npath = \"out.jsonl\"\n",
        proxy.addr()
    ));
    bridge.start_ready().await;
    let epoch = bridge.status().await["sources"][0]["epoch"].clone();
    let folder = format!("{chroot}/zkbridge/canary");
    let written = eventually("the canary to be written", BOUND, || async {
        writes(&writer, &folder).await >= 3
    });
    written.await.unwrap();
    assert_eq!(bridge.status().await["sources"][0]["epoch"], epoch);

    assert_finds_a_dead_watch(&bridge, &proxy).await;
    writer.create(&format!("{chroot}/last"), "end").await;
    let file = bridge.folder().join("out.jsonl");
    let text = || std::fs::read_to_string(&file).unwrap_or_default();
    let arrived = eventually("the last record", BOUND, || async {
        text().contains("\"/last\"")
    });
    arrived.await.unwrap();
    assert!(
        !text().contains("zkbridge/canary") && !text().contains("\"/zkbridge\""),
        "{}",
        text()
    );
    let mut verify = Child::start(&bridge.command(&["verify"])).unwrap();
    let code = verify.exit_code(BOUND).await.unwrap();
    assert_eq!(code, 0, "{}", verify.stdout().join("\n"));

    bridge.terminate().await;
    let gone = eventually("the canary to be gone", BOUND, || async {
        writer.client.list_children(&folder).await.unwrap().is_empty()
    });
    gone.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_permission_to_write_the_canary_is_refused_with_a_remedy() {
    real_servers!("a canary that may not be written");
    let root = "/canary-denied";
    let connect = Place::shared().await.connect;
    let writer = Writer::connect(&connect).await;
    let only_read = [Acl::new(Permission::READ, AuthId::anyone())];
    let options = CreateMode::Persistent.with_acls(zookeeper_client::Acls::new(&only_read));
    writer.client.create(root, b"root", &options).await.unwrap();
    let mut bridge = Bridge::configured(&format!(
        "[[source]]\nconnect = \"{connect}\"\nroots = [\"{root}\"]\nliveness = \"canary\"\n\
         canary_path = \"{root}/own/canary\"\n[[sink]]\ntype = \"file\"\npath = \"out.jsonl\"\n"
    ));
    let words = [
        "the canary needs permission to write",
        "[source.auth]",
        "liveness = \"sample\"",
    ];
    for (args, expected) in [(&["check", "--connect"][..], 3), (&["doctor"], 1)] {
        let mut child = Child::start(&bridge.command(args)).unwrap();
        let code = child.exit_code(BOUND).await.unwrap();
        let said = child
            .stdout()
            .join(" ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert_eq!(code, expected, "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    bridge.start().await;
    assert_eq!(bridge.child().exit_code(BOUND).await.unwrap(), 4);
    assert!(bridge.has_logged(&words[..2]), "{:#?}", bridge.log());
}
