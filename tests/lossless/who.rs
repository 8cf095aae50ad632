//! `[source.who]` on real servers: records name the client and the user of their session.

use bridge_servers::{Port, ZooKeeper, eventually, real_servers};
use serde_json::Value;
use zookeeper_client::Client;

use crate::observer::observer;
use crate::stage::{BOUND, Bridge, EPHEMERAL, OPEN, create, last_zxid};
use crate::txnlog::txnlog;

/// Writes in one session until a record of it satisfies a condition: the owner of a session becomes known in time, and no
/// record waits for it.
async fn written_until(
    bridge: &Bridge,
    zookeeper: &ZooKeeper,
    what: &str,
    is_wanted: impl Fn(&Value) -> bool,
) -> Value {
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    client.auth("digest", b"alice:pa55").await.unwrap();
    client.create("/app", b"", &OPEN).await.unwrap();
    let session = format!("0x{:016x}", client.session_id().0);
    let found = eventually(what, BOUND, || async {
        client.set_data("/app", b"x", None).await.unwrap();
        bridge.delivers(last_zxid(zookeeper)).await;
        let records = bridge.records();
        let mut own = records
            .iter()
            .rev()
            .filter(|record| record["txn"]["session"] == session.as_str());
        own.find(|record| is_wanted(&record["txn"])).cloned()
    });
    match found.await {
        Ok(record) => record,
        Err(error) => panic!("{error}: {:#?}", bridge.records().last()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_a_session_is_learned_from_the_four_letter_word_and_its_user_from_the_audit_log() {
    real_servers!("the owners of sessions from cons and an audit log");
    for version in ["3.6.4", "3.9.5"] {
        let zookeeper = ZooKeeper::builder()
            .version(version)
            .quorum()
            .system_property("zookeeper.audit.enable", "true")
            .start()
            .await
            .unwrap();
        let who = format!(
            "[source.who]\nservers = \"{}\"\naudit_logs = [\"{}\"]\nevery = \"1s\"\n",
            zookeeper.connect_string(),
            zookeeper.log(0).display()
        );
        let mut bridge = Bridge::of(&zookeeper, &format!("{}{who}", observer(&zookeeper)));
        bridge.start();
        let record = written_until(&bridge, &zookeeper, "client and user", |txn| {
            txn["client"].is_string() && (version == "3.6.4" || txn["user"].is_string())
        })
        .await;
        let client = record["txn"]["client"].as_str().unwrap();
        assert!(client.starts_with("127.0.0.1:"), "{version}: {client}");
        let mut filters = vec![["--client", client], ["--client", "127.0.0.1"]];
        if let Some(user) = record["txn"]["user"].as_str() {
            assert!(user.contains("alice"), "{version}: {user}");
            filters.push(["--user", "alice"]);
        }
        let printed = async |[option, wanted]: [&str; 2]| {
            let list = bridge
                .run(&["changes", option, wanted, "--json", "-n", "1000"])
                .await;
            let list: Value = serde_json::from_str(&list).unwrap();
            let records = list["items"].as_array().unwrap().clone();
            records.iter().any(|found| found["id"] == record["id"])
        };
        for filter in filters {
            assert!(printed(filter).await, "{version}: {filter:?}");
        }
        for none in [["--client", "127.0.0.2"], ["--user", "bob"]] {
            assert!(!printed(none).await, "{version}: {none:?}");
        }
        bridge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_a_session_that_ended_with_its_ephemeral_znodes_is_not_the_one_of_the_server() {
    real_servers!("the users of sessions that have ended");
    let zookeeper = ZooKeeper::builder()
        .quorum()
        .system_property("zookeeper.audit.enable", "true")
        .start()
        .await
        .unwrap();
    let who = format!(
        "[source.who]\naudit_logs = [\"{}\"]\n",
        zookeeper.log(0).display()
    );
    let mut bridge = Bridge::of(&zookeeper, &format!("{}{who}", observer(&zookeeper)));
    bridge.start();
    create(&zookeeper, "/app").await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    // No record waits for the audit log, so a record without a user proves nothing.
    for _round in 0..20 {
        bridge.stop().await;
        let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
        client.auth("digest", b"alice:pa55").await.unwrap();
        client.create("/app/session", b"", &EPHEMERAL).await.unwrap();
        let session = format!("0x{:016x}", client.session_id().0);
        let ended = format!("session=0x{:x}\tuser=", client.session_id().0);
        drop(client);
        let is_logged = || async {
            let log = std::fs::read_to_string(zookeeper.log(0)).unwrap();
            let mut lines = log.lines().filter(|line| line.contains(&ended));
            lines
                .any(|line| line.contains("ephemeralZNodeDeletionOnSessionCloseOrExpire"))
                .then_some(())
        };
        eventually("the end of the session in the audit log", BOUND, is_logged)
            .await
            .unwrap();
        bridge.start();
        bridge.delivers(last_zxid(&zookeeper)).await;
        let records = bridge.records();
        let mut own = records
            .iter()
            .filter(|record| record["txn"]["session"] == session.as_str());
        if let Some(user) = own.find_map(|record| record["txn"]["user"].as_str()) {
            assert!(user.contains("alice"), "{user}");
            bridge.stop().await;
            return;
        }
    }
    panic!("no record has a user: {:#?}", bridge.records().last());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_a_session_is_learned_from_the_admin_server() {
    real_servers!("the owners of sessions from the AdminServer");
    let admin = Port::reserve().unwrap();
    let zookeeper = ZooKeeper::builder()
        .admin_server(admin.number())
        .start()
        .await
        .unwrap();
    let who = format!("[source.who]\nadmin = \"{}\"\nevery = \"1s\"\n", admin.addr());
    let mut bridge = Bridge::of(&zookeeper, &format!("{}{who}", txnlog(&zookeeper, &[0])));
    bridge.start();
    let record = written_until(&bridge, &zookeeper, "the client", |txn| txn["client"].is_string()).await;
    let client = record["txn"]["client"].as_str().unwrap();
    assert!(client.starts_with("127.0.0.1:"), "{client}");
    assert_eq!(record["txn"]["user"], Value::Null);
    let doctor = bridge.run(&["doctor"]).await;
    assert!(
        doctor.contains(&format!("settings of {}", admin.addr())),
        "{doctor}"
    );
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_cannot_be_asked_delay_no_record() {
    real_servers!("the owners of sessions from servers that are not there");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    let closed = Port::reserve().unwrap();
    let who = format!(
        "[source.who]\nservers = \"{0}\"\nadmin = \"{0}\"\naudit_logs = [\"/does/not/exist\"]\n",
        closed.addr()
    );
    let mut bridge = Bridge::of(&zookeeper, &format!("{}{who}", observer(&zookeeper)));
    bridge.start();
    let record = written_until(&bridge, &zookeeper, "a record", Value::is_object).await;
    assert_eq!(record["txn"]["client"], Value::Null);
    bridge.stop().await;
}
