//! Roots that are created and deleted, that cannot be read, and that are seen through a chroot; several sources and sinks.

use bridge_servers::real_servers;
use zookeeper_client::{Acl, Acls, AuthId, CreateMode, Permission};

use crate::bridge::Bridge;
use crate::stage::{Place, Scene, kafka_sink, source};
use crate::topic::{self, Topic};
use crate::truth::Truth;
use crate::verdict::Case;
use crate::writer::{PERSISTENT, Storm, Writer};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_root_is_reported_when_it_is_created_deleted_and_created_again() {
    real_servers!("a root that is created and deleted");
    let mut scene = Scene::at("late-root", Place::shared().await).await;
    scene.bridge.start_ready().await;
    let root = scene.root().to_owned();
    scene.writer.create(&root, "at last").await;
    scene.writer.create(&scene.path("a"), "1").await;
    scene.settle().await;
    scene.writer.delete_all(&root).await;
    scene.writer.create(&root, "again").await;
    scene.writer.create(&scene.path("a"), "2").await;
    scene.judge().await;
    assert_eq!(
        scene.story(&root),
        ["create exact", "delete exact", "create exact"]
    );
    // The same while the bridge is down.
    scene.bridge.kill().await;
    scene.writer.delete_all(&root).await;
    scene.bridge.start_ready().await;
    scene.bridge.kill().await;
    scene.writer.create(&root, "for the last time").await;
    scene.bridge.start_ready().await;
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_access_control_list_is_reported_at_the_next_read() {
    real_servers!("access control lists");
    let mut scene = Scene::live("acls").await;
    let path = scene.path("a");
    scene.writer.create(&path, "1").await;
    scene.settle().await;
    let read = [Acl::new(Permission::ALL, AuthId::new("ip", "127.0.0.1"))];
    scene.writer.client.set_acl(&path, &read, None).await.unwrap();
    scene.writer.set(&path, "2").await;
    scene.judge().await;
    assert_eq!(
        scene.story(&path),
        ["create exact", "update exact", "acl reconciled"]
    );
    // And by the walk after a restart.
    scene.bridge.kill().await;
    let all = Acls::anyone_all();
    let lists: Vec<Acl> = all.iter().cloned().collect();
    scene.writer.client.set_acl(&path, &lists, None).await.unwrap();
    scene.bridge.start_ready().await;
    scene.judge().await;
    assert_eq!(scene.story(&path).len(), 4);
    let last = &scene.last(&path).record;
    assert_eq!(
        (last["op"].as_str(), last["after"]["stat"]["aversion"].as_u64()),
        (Some("acl"), Some(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_znode_is_counted_and_never_reported_as_deleted() {
    real_servers!("unreadable znodes");
    let mut scene = Scene::open("unreadable").await;
    let owner = &scene.writer;
    owner.client.auth("digest", b"owner:secret").await.unwrap();
    let secret = scene.path("secret");
    let closed = CreateMode::Persistent.with_acls(Acls::creator_all());
    owner.client.create(&secret, b"hidden", &closed).await.unwrap();
    owner
        .client
        .create(&scene.path("open"), b"seen", &PERSISTENT)
        .await
        .unwrap();
    let later = scene.path("later");
    owner.create(&later, "seen at first").await;
    scene.bridge.start_ready().await;
    scene.settle_without(&[&secret]).await;
    let status = scene.bridge.status().await;
    assert_eq!(status["sources"][0]["unreadable"], 1, "{status:#}");
    assert_eq!(status["sources"][0]["unreadable_paths"][0], *secret);
    assert_eq!(scene.story(&secret), [""; 0]);
    // A reported znode that is closed later is not reported as deleted either.
    let lists: Vec<Acl> = Acls::creator_all().iter().cloned().collect();
    scene.writer.client.set_acl(&later, &lists, None).await.unwrap();
    scene.bridge.kill().await;
    scene.bridge.start_ready().await;
    scene
        .bridge
        .until("both to be counted", |status| {
            status["sources"][0]["unreadable"] == 2
        })
        .await;
    scene.settle_without(&[&secret]).await;
    assert_eq!(scene.story(&later), ["snapshot reconciled"]);
    // After it is opened again, the current state is reported.
    let open: Vec<Acl> = Acls::anyone_all().iter().cloned().collect();
    for path in [&secret, &later] {
        scene.writer.client.set_acl(path, &open, None).await.unwrap();
    }
    scene.bridge.kill().await;
    scene.bridge.start_ready().await;
    scene.hidden.push(secret.clone());
    scene.judge().await;
    assert_eq!(scene.story(&secret), ["create reconciled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_and_two_sinks_in_one_process_do_not_mix() {
    real_servers!("two sources, two sinks");
    let mut scene = Scene::open("two-a").await;
    let place = scene.place.clone();
    let other_root = "/two-b".to_owned();
    let chroot = "/two-chroot";
    scene.writer.create(&other_root, "b").await;
    scene.writer.create(chroot, "c").await;
    for topic in ["two-b", "two-c"] {
        topic::create(&place.brokers, topic, false).await;
    }
    let through_chroot = Place {
        connect: format!("{}{chroot}", place.connect),
        // The canary writes below this root, and its znodes are not reported.
        source: "liveness = \"canary\"".to_owned(),
        ..place.clone()
    };
    let sink = |name: &str| {
        let sink = kafka_sink(&place, &format!("two-{name}"));
        sink.replace(
            "name = \"topic\"",
            &format!("name = \"topic-{name}\"\nsources = [\"{name}\"]"),
        )
    };
    let file = "[[sink]]\nname = \"file\"\ntype = \"file\"\npath = \"all.jsonl\"\nsources = [\"a\"]\n";
    scene.bridge = Bridge::configured(&format!(
        "{}{}{}{}{}{}{file}",
        source("a", &place, &scene.roots),
        source("b", &place, std::slice::from_ref(&other_root)),
        source("c", &through_chroot, &["/".to_owned()]),
        sink("a"),
        sink("b"),
        sink("c"),
    ));
    scene.bridge.start_ready().await;
    let root = scene.root().to_owned();
    for (at, root) in [root.as_str(), &other_root, chroot].into_iter().enumerate() {
        Storm::new(&scene.writer, root, 50 + at as u64).blow(200).await;
    }
    scene.bridge.kill().await;
    scene.bridge.start_ready().await;
    scene.judge().await;
    scene.bridge.at_rest().await;
    let truth = Truth::of_servers(&place.data_dirs);
    let below = Writer::connect(&through_chroot.connect).await;
    let others = [
        ("two-b", other_root, truth.clone(), &scene.writer),
        ("two-c", "/".to_owned(), truth.below_chroot(chroot), &below),
    ];
    for (name, root, truth, reader) in others {
        let mut topic = Topic::open(&place.brokers, name);
        tokio::task::block_in_place(|| topic.read_on());
        let roots = [root];
        let case = Case {
            deliveries: &topic.deliveries,
            truth: &truth,
            tree: &reader.tree(&roots).await,
            roots: &roots,
            events: place.events,
            hidden: &[],
        };
        case.hold();
    }
    let written = std::fs::read_to_string(scene.bridge.folder().join("all.jsonl")).unwrap();
    let written: Vec<serde_json::Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    let written: Vec<_> = written
        .iter()
        .filter(|record| seen.insert(record["seq"].as_u64()))
        .collect();
    assert_eq!(written, crate::verdict::each_once(&scene.topic.deliveries));
}
