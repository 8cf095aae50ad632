//! The changes of znodes, one kind after the other.

use bridge_servers::real_servers;

use crate::stage::Scene;
use crate::writer::Writer;

#[tokio::test(flavor = "multi_thread")]
async fn creates_updates_deletes_and_recreates_are_delivered_one_by_one() {
    real_servers!("creates, updates, deletes and recreates");
    let mut scene = Scene::live("one-by-one").await;
    let path = scene.path("a");
    scene.writer.create(&path, "1").await;
    scene.settle().await;
    scene.writer.set(&path, "2").await;
    scene.settle().await;
    scene.writer.set(&path, "2").await;
    scene.settle().await;
    scene.writer.delete(&path).await;
    scene.writer.create(&path, "again").await;
    scene.judge().await;
    let expected = ["create", "update", "update", "delete", "create"];
    assert_eq!(scene.story(&path), expected.map(|op| format!("{op} exact")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_records_of_a_multi_are_together_and_each_path_has_one() {
    real_servers!("a multi");
    let mut scene = Scene::live("multi").await;
    let path = |name: &str| scene.path(name);
    let [a, b, both, gone] = ["a", "b", "both", "gone"].map(path);
    scene.writer.create(&a, "old").await;
    scene.writer.create(&gone, "old").await;
    let mut multi = scene.writer.client.new_multi_writer();
    multi.add_create(&b, b"1", &crate::writer::PERSISTENT).unwrap();
    multi.add_set_data(&a, b"2", None).unwrap();
    multi.add_set_data(&b, b"3", None).unwrap();
    multi.add_set_data(&b, b"4", None).unwrap();
    multi.add_create(&both, b"5", &crate::writer::PERSISTENT).unwrap();
    multi.add_delete(&both, None).unwrap();
    multi.add_delete(&gone, None).unwrap();
    multi.add_create(&gone, b"6", &crate::writer::PERSISTENT).unwrap();
    multi.commit().await.unwrap();
    scene.judge().await;
    assert_eq!(scene.story(&both), [""; 0]);
    assert_eq!(
        scene.story(&gone),
        ["create exact", "delete exact", "create exact"]
    );
    let created = &scene.last(&b).record;
    assert_eq!(created["op"], "create");
    assert_eq!(created["missed"], 2);
    assert_eq!(created["after"]["data"]["value"], "4");
    assert_eq!(scene.last(&gone).record["zxid"], created["zxid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ephemerals_of_a_session_are_reported_as_deleted_at_its_end() {
    real_servers!("ephemerals");
    let mut scene = Scene::live("ephemerals").await;
    let paths = ["x", "y", "z"].map(|name| scene.path(name));
    let mortal = Writer::connect(&scene.place.direct).await;
    let session = format!("0x{:016x}", mortal.client.session_id().0);
    for path in &paths {
        mortal.create_ephemeral(path, "here").await;
    }
    scene.settle().await;
    drop(mortal);
    let gone = bridge_servers::eventually("the session to end", crate::bridge::BOUND, || async {
        scene.writer.tree(&paths).await.is_empty()
    });
    gone.await.unwrap();
    scene.judge().await;
    let ends: Vec<_> = paths.iter().map(|path| &scene.last(path).record).collect();
    for end in &ends {
        assert_eq!(end["op"], "delete");
        assert_eq!(end["ephemeral"], true);
        assert_eq!(end["zxid"], ends[0]["zxid"]);
        assert_eq!(end["before"]["stat"]["ephemeralOwner"], *session);
    }
}
