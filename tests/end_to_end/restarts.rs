//! The bridge ends and starts again, in order or by `kill -9`, between any two changes and in the middle of many.

use std::time::Duration;

use bridge_servers::{eventually, real_servers};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::bridge::BOUND;
use crate::stage::Scene;
use crate::writer::{Storm, Writer};

/// How the bridge ends.
#[derive(Clone, Copy)]
enum End {
    Terminate,
    Kill,
}

async fn end(scene: &mut Scene, how: End) {
    match how {
        End::Terminate => scene.bridge.terminate().await,
        End::Kill => scene.bridge.kill().await,
    }
}

/// A change while the bridge is down, and the last record of its path.
async fn check_changes_while_down(name: &str, how: End) {
    let mut scene = Scene::live(name).await;
    let mortal = Writer::connect(&scene.place.direct).await;
    let path = |name: &str| format!("/{}/{name}", scene.roots[0].trim_start_matches('/'));
    let [changed, deleted, recreated, owned, parent, child, untouched] = [
        "changed",
        "deleted",
        "recreated",
        "owned",
        "parent",
        "parent/child",
        "untouched",
    ]
    .map(path);
    for path in [&changed, &deleted, &recreated, &parent, &child, &untouched] {
        scene.writer.create(path, "before").await;
    }
    mortal.create_ephemeral(&owned, "before").await;
    scene.settle().await;
    end(&mut scene, how).await;

    let [created, brief] = ["created", "brief"].map(|name| scene.path(name));
    scene.writer.set(&changed, "1").await;
    scene.writer.set(&changed, "2").await;
    scene.writer.delete(&deleted).await;
    scene.writer.delete(&recreated).await;
    scene.writer.create(&recreated, "before").await;
    scene.writer.delete_all(&parent).await;
    scene.writer.create(&created, "new").await;
    scene.writer.create(&brief, "never seen").await;
    scene.writer.delete(&brief).await;
    drop(mortal);
    let gone = eventually("the session to end", BOUND, || async {
        scene.writer.tree(std::slice::from_ref(&owned)).await.is_empty()
    });
    gone.await.unwrap();

    scene.bridge.start_ready().await;
    scene.judge().await;
    let rows: [(&str, &[&str]); 8] = [
        (&changed, &["create exact", "update reconciled"]),
        (&deleted, &["create exact", "delete reconciled"]),
        (
            &recreated,
            &["create exact", "delete reconciled", "create reconciled"],
        ),
        (&owned, &["create exact", "delete reconciled"]),
        (&child, &["create exact", "delete reconciled"]),
        (&created, &["create reconciled"]),
        (&brief, &[]),
        (&untouched, &["create exact"]),
    ];
    for (path, story) in rows {
        assert_eq!(scene.story(path), story, "{path}");
    }
    assert_eq!(scene.last(&changed).record["missed"], 1);
    assert_eq!(scene.gaps(), ["started"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_after_an_orderly_stop_are_reported_after_the_next_start() {
    real_servers!("down in order");
    check_changes_while_down("terminated", End::Terminate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_after_a_kill_are_reported_after_the_next_start() {
    real_servers!("down by kill -9");
    check_changes_while_down("killed", End::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_between_any_two_changes_lose_nothing() {
    real_servers!("ends between changes");
    let mut scene = Scene::live("between").await;
    let path = scene.path("a");
    let ends = [End::Kill, End::Terminate].into_iter().cycle().take(6);
    for (at, how) in ends.enumerate() {
        match at % 4 {
            0 => scene.writer.create(&path, "created").await,
            1 => scene.writer.set(&path, "set").await,
            2 => scene.writer.delete(&path).await,
            _ => scene.writer.create(&scene.path("b"), "beside").await,
        }
        // Does not wait for the record: the bridge may end before, during or after it.
        end(&mut scene, how).await;
        scene.bridge.start_ready().await;
    }
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_in_the_middle_of_many_writes_lose_nothing() {
    real_servers!("kills among writes");
    let seed = 20_261_122;
    let mut moments = StdRng::seed_from_u64(seed);
    println!("kills with seed {seed}");
    let mut scene = Scene::live("kills").await;
    let root = scene.root().to_owned();
    let place = scene.place.clone();
    let writing = async {
        let writer = Writer::connect(&place.direct).await;
        let mut storm = Storm::new(&writer, &root, seed);
        storm.blow(3000).await;
    };
    let killing = async {
        for _ in 0..4 {
            // Right after the start, during the walk or while it follows: all are moments like others.
            tokio::time::sleep(Duration::from_millis(moments.random_range(1..400))).await;
            scene.bridge.kill().await;
            scene.bridge.start().await;
        }
        &mut scene
    };
    let (_, scene) = tokio::join!(writing, killing);
    scene.judge().await;
}
