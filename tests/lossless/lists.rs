//! Access control lists and lifetimes in `create` and `snapshot` records on real servers.

use bridge_servers::{ZooKeeper, eventually, real_servers};
use serde_json::{Value, json};
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Permission};

use crate::observer::observer;
use crate::stage::{BOUND, Bridge, OPEN, last_zxid};

fn open_list() -> Value {
    json!([{"scheme": "world", "id": "anyone", "perms": "cdrwa"}])
}

/// The records of a path once there are so many of these operations.
async fn records_of(bridge: &Bridge, path: &str, ops: &[&str]) -> Vec<Value> {
    let found = eventually(format!("{ops:?} of {path}"), BOUND, || async {
        let records = bridge.records_so_far();
        let own: Vec<Value> = records
            .into_iter()
            .filter(|record| record["path"] == path)
            .collect();
        let found: Vec<&str> = own.iter().map(|record| record["op"].as_str().unwrap()).collect();
        (found == ops).then_some(own)
    });
    match found.await {
        Ok(records) => records,
        Err(error) => panic!("{error}: {:#?}", bridge.records_so_far()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_a_watch_reads_the_lists_of_znodes_that_are_listed_and_created() {
    real_servers!("acls = \"all\" with a watch");
    for version in ["3.6.4", "3.9.5"] {
        let zookeeper = ZooKeeper::builder().version(version).start().await.unwrap();
        let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
        client.create("/app", b"", &OPEN).await.unwrap();
        let reader = [Acl::new(Permission::READ | Permission::ADMIN, AuthId::anyone())];
        let closed = CreateMode::Persistent.with_acls(Acls::new(&reader));
        client.create("/app/old", b"", &closed).await.unwrap();
        let mut bridge = Bridge::of(&zookeeper, "acls = \"all\"\n");
        bridge.start();
        records_of(&bridge, "/app", &["snapshot"]).await;
        client.create("/app/new", b"", &closed).await.unwrap();
        let read = json!([{"scheme": "world", "id": "anyone", "perms": "ra"}]);
        for (path, op, expected) in [
            ("/app", "snapshot", open_list()),
            ("/app/old", "snapshot", read.clone()),
            ("/app/new", "create", read.clone()),
        ] {
            let records = records_of(&bridge, path, &[op]).await;
            assert_eq!(records[0]["acl"], expected, "{version} {path}");
            assert_eq!(records[0].get("lifetime"), None, "a watch cannot know it");
        }
        bridge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_made_from_the_journal_has_lifetimes_and_lists() {
    real_servers!("a snapshot from the journal of an observer");
    let zookeeper = ZooKeeper::builder()
        .quorum()
        .system_property("zookeeper.extendedTypesEnabled", "true")
        .start()
        .await
        .unwrap();
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    client.create("/app", b"", &OPEN).await.unwrap();
    let mut bridge = Bridge::of(&zookeeper, &observer(&zookeeper));
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    client.create("/app/container", b"", &container).await.unwrap();
    let reader = [Acl::new(Permission::READ | Permission::ADMIN, AuthId::anyone())];
    client.set_acl("/app/container", &reader, None).await.unwrap();
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.run(&["snapshot", "--sink", "file"]).await;
    let records = records_of(&bridge, "/app/container", &["create", "acl", "snapshot"]).await;
    let read = json!([{"scheme": "world", "id": "anyone", "perms": "ra"}]);
    let lifetime = json!({"kind": "container", "ttl": null});
    assert_eq!(records[0]["acl"], open_list());
    for record in [&records[0], &records[2]] {
        assert_eq!(record["lifetime"], lifetime);
    }
    assert_eq!(records[2]["acl"], read);
    bridge.stop().await;
}
