//! Znodes that the bridge may not read: counted and named, never taken for deleted, and picked up when it may.

use bridge_servers::{eventually, real_servers};
use zookeeper_client::{Acl, Acls, CreateMode};

use crate::bridge::BOUND;
use crate::stage::{Place, Scene};

/// More than a sample tries again at once.
const MANY: usize = 30;

fn open() -> Vec<Acl> {
    Acls::anyone_all().iter().cloned().collect()
}

fn closed() -> Vec<Acl> {
    Acls::creator_all().iter().cloned().collect()
}

impl Scene {
    /// Waits until so many are counted in status and metric; the first is named in status and log.
    async fn until_unreadable(&self, count: u64, first: &str) {
        self.bridge
            .until("the blind spots to be counted", |status| {
                let source = &status["sources"][0];
                source["unreadable"] == count && source["unreadable_paths"][0] == first
            })
            .await;
        let shown = eventually("metric and log", BOUND, || async {
            let labels = [("source", "main")];
            let metric = self
                .bridge
                .metric("zkbridge_source_unreadable_znodes", &labels)
                .await;
            metric == count as f64 && self.bridge.has_logged(&["WARN", "may not be read", first])
        });
        if let Err(error) = shown.await {
            panic!("{error}: {:#?}", self.bridge.log());
        }
    }

    async fn until_all_readable(&self) {
        self.bridge
            .until("no blind spot to be left", |status| {
                status["ready"] == true && status["sources"][0]["unreadable"] == 0
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_subtree_is_counted_named_and_picked_up_when_permission_comes() {
    real_servers!("an unreadable subtree");
    let mut scene = Scene::open("blind").await;
    scene.writer.client.auth("digest", b"owner:secret").await.unwrap();
    let secret = scene.path("secret");
    let below: Vec<String> = (0..3).map(|at| format!("{secret}/{at}")).collect();
    let kept_secret = CreateMode::Persistent.with_acls(Acls::creator_all());
    for path in std::iter::once(&secret).chain(&below) {
        scene
            .writer
            .client
            .create(path, b"hidden", &kept_secret)
            .await
            .unwrap();
    }
    scene.bridge.start_ready().await;
    // The descendants of an unreadable znode cannot even be listed.
    scene.until_unreadable(1, &secret).await;
    let hidden: Vec<&str> = std::iter::once(&secret)
        .chain(&below)
        .map(String::as_str)
        .collect();
    scene.settle_without(&hidden).await;
    let end = scene
        .topic
        .deliveries
        .iter()
        .find(|delivery| delivery.record["op"] == "snapshot_end");
    assert_eq!(end.unwrap().record["run"]["unreadable"], 1);
    assert_eq!(scene.story(&secret), [""; 0]);

    // Permission is granted, below first, without a restart.
    for path in below.iter().chain([&secret]) {
        scene.writer.client.set_acl(path, &open(), None).await.unwrap();
    }
    scene.until_all_readable().await;
    scene.hidden = hidden.into_iter().map(str::to_owned).collect();
    scene.judge().await;
    assert_eq!(scene.gaps(), ["permission"]);
    for path in [&secret, &below[0], &below[2]] {
        assert_eq!(scene.story(path), ["create reconciled"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subtree_whose_permission_is_withdrawn_is_counted_and_never_taken_for_deleted() {
    real_servers!("withdrawn permission");
    let mut scene = Scene::open("withdrawn").await;
    scene.writer.client.auth("digest", b"owner:secret").await.unwrap();
    let above = scene.path("above");
    let below = format!("{above}/below");
    for path in [&above, &below] {
        scene.writer.create(path, "seen").await;
    }
    scene.bridge.start_ready().await;
    scene.settle().await;
    for path in [&above, &below] {
        scene.writer.client.set_acl(path, &closed(), None).await.unwrap();
    }
    // Live: a sample finds it. Its changes give no events.
    scene
        .bridge
        .until("both to be found", |status| {
            status["sources"][0]["unreadable"] == 2
        })
        .await;
    scene.until_unreadable(2, &above).await;
    scene.writer.set(&above, "unseen").await;
    scene.writer.delete(&below).await;
    // And through a restart: the walk does not see below it.
    scene.bridge.kill().await;
    scene.bridge.start_ready().await;
    scene.until_unreadable(1, &above).await;
    scene.bridge.at_rest().await;
    tokio::task::block_in_place(|| scene.topic.read_on());
    for path in [&above, &below] {
        assert_eq!(scene.story(path), ["snapshot reconciled"]);
    }

    scene.writer.client.set_acl(&above, &open(), None).await.unwrap();
    scene.until_all_readable().await;
    scene.hidden = vec![above.clone(), below.clone()];
    scene.judge().await;
    assert_eq!(scene.gaps(), ["started", "permission"]);
    assert_eq!(scene.story(&below), ["snapshot reconciled", "delete reconciled"]);
    assert_eq!(
        scene.story(&above)[..2],
        ["snapshot reconciled", "update reconciled"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_blind_spots_the_one_that_may_be_read_again_is_found() {
    real_servers!("many blind spots");
    let mut scene = Scene::at("many-blind", Place::shared().await).await;
    scene.writer.create(scene.root(), "root").await;
    scene.writer.client.auth("digest", b"owner:secret").await.unwrap();
    let paths: Vec<String> = (0..MANY)
        .map(|at| scene.path(&format!("secret-{at:02}")))
        .collect();
    let kept_secret = CreateMode::Persistent.with_acls(Acls::creator_all());
    for path in &paths {
        scene
            .writer
            .client
            .create(path, b"hidden", &kept_secret)
            .await
            .unwrap();
    }
    scene.bridge.start_ready().await;
    scene.until_unreadable(MANY as u64, &paths[0]).await;
    let last = paths.last().unwrap();
    scene.writer.client.set_acl(last, &open(), None).await.unwrap();
    scene.until_unreadable(MANY as u64 - 1, &paths[0]).await;
    scene
        .bridge
        .until("the source to be live again", |status| status["ready"] == true)
        .await;
    let hidden: Vec<&str> = paths[..MANY - 1].iter().map(String::as_str).collect();
    scene.settle_without(&hidden).await;
    assert_eq!(scene.gaps(), ["permission"]);
    assert_eq!(scene.story(last), ["create reconciled"]);
}
