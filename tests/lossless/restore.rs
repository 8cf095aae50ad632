//! `zkbridge restore` with a source that reads transactions: lists and lifetimes come from the journal.

use std::process::{Command, Output};
use std::time::Duration;

use bridge_servers::{ZooKeeper, real_servers};
use serde_json::{Value, json};
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Permission};

use crate::golden;
use crate::observer::observer;
use crate::stage::{Bridge, OPEN, last_zxid};
use crate::txnlog::txnlog;

/// Longer than the test.
const TTL: Duration = Duration::from_secs(3_600);

/// The last create of a path. No Stat of a server shows a lifetime, and no answer to a stranger a digest.
fn created(bridge: &Bridge, path: &str) -> Value {
    let records = bridge.records();
    let mut created = records
        .iter()
        .rev()
        .filter(|record| record["path"] == path && record["op"] == "create");
    created.next().cloned().unwrap_or_default()
}

fn run(bridge: &Bridge, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    let command = command.current_dir(bridge.folder()).args(arguments);
    command.output().unwrap()
}

fn printed(bridge: &Bridge, arguments: &[&str]) -> String {
    let output = run(bridge, arguments);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{arguments:?}: {out}\n{err}");
    out
}

async fn started(quorum: bool) -> ZooKeeper {
    let builder = ZooKeeper::builder().system_property("zookeeper.extendedTypesEnabled", "true");
    let builder = match quorum {
        true => builder.quorum(),
        false => builder,
    };
    builder.start().await.unwrap()
}

/// Lists that only a journal can know once the znodes are deleted.
fn reader() -> Vec<Acl> {
    vec![Acl::new(Permission::READ | Permission::ADMIN, AuthId::anyone())]
}

fn owner() -> Vec<Acl> {
    vec![
        Acl::new(Permission::READ, AuthId::anyone()),
        Acl::new(Permission::ALL, AuthId::new("digest", "owner:aGFzaA==")),
    ]
}

/// A znode of each kind.
async fn plant(client: &Client) {
    let create = async |path: &str, mode: CreateMode, acl: &[Acl]| {
        let options = mode.with_acls(Acls::new(acl));
        client.create(path, path.as_bytes(), &options).await.unwrap();
    };
    let open = Acls::anyone_all().to_vec();
    create("/app/config", CreateMode::Persistent, &open).await;
    create("/app/config/closed", CreateMode::Persistent, &owner()).await;
    create("/app/config/changed", CreateMode::Persistent, &open).await;
    client
        .set_acl("/app/config/changed", &reader(), None)
        .await
        .unwrap();
    create("/app/locks", CreateMode::Container, &open).await;
    create("/app/locks/lock-0000000000", CreateMode::Persistent, &open).await;
    create("/app/session", CreateMode::Ephemeral, &open).await;
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all()).with_ttl(TTL);
    client.create("/app/lease", b"mine", &options).await.unwrap();
    create("/app/kept", CreateMode::Persistent, &open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_from_transactions_brings_back_containers_lifetimes_and_lists() {
    real_servers!("restore on lossless sources");
    for quorum in [false, true] {
        let zookeeper = started(quorum).await;
        let source = match quorum {
            true => observer(&zookeeper),
            false => txnlog(&zookeeper, &[0]),
        };
        check(&zookeeper, &format!("acl_digests = \"full\"\n{source}")).await;
    }
}

async fn check(zookeeper: &ZooKeeper, source: &str) {
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    client.create("/app", b"", &OPEN).await.unwrap();
    let mut bridge = Bridge::of(zookeeper, source);
    bridge.start();
    bridge.delivers(last_zxid(zookeeper)).await;
    plant(&client).await;
    let moment = format!("0x{:x}", last_zxid(zookeeper));
    // Later changes of lists are none of the moment.
    client
        .set_acl("/app/config/changed", &owner(), None)
        .await
        .unwrap();
    for path in [
        "/app/config/closed",
        "/app/config/changed",
        "/app/config",
        "/app/locks/lock-0000000000",
        "/app/locks",
        "/app/session",
        "/app/lease",
    ] {
        client.delete(path, None).await.unwrap();
    }
    client.set_data("/app/kept", b"other", None).await.unwrap();
    client.create("/app/newer", b"", &OPEN).await.unwrap();
    bridge.delivers(last_zxid(zookeeper)).await;

    let plan = [
        "restore", "/app", "--at", &moment, "--plan", "app.plan", "--prune",
    ];
    let text = printed(&bridge, &plan);
    golden::check("restore-plan.txt", &text);
    printed(&bridge, &["restore", "apply", "app.plan"]);

    bridge.delivers(last_zxid(zookeeper)).await;
    let ttl = u64::try_from(TTL.as_millis()).unwrap();
    for (path, kind, ttl) in [
        ("/app/locks", "container", None),
        ("/app/lease", "ttl", Some(ttl)),
        ("/app/config", "persistent", None),
    ] {
        assert_eq!(
            created(&bridge, path)["lifetime"],
            json!({"kind": kind, "ttl": ttl}),
            "{path}"
        );
    }
    let entry = |scheme: &str, id: &str, perms: &str| json!({"scheme": scheme, "id": id, "perms": perms});
    for (path, expected) in [
        ("/app/config", json!([entry("world", "anyone", "cdrwa")])),
        (
            "/app/config/closed",
            json!([
                entry("world", "anyone", "r"),
                entry("digest", "owner:aGFzaA==", "cdrwa")
            ]),
        ),
        ("/app/config/changed", json!([entry("world", "anyone", "ra")])),
    ] {
        assert_eq!(created(&bridge, path)["acl"], expected, "{path}");
    }
    for gone in ["/app/session", "/app/newer"] {
        assert_eq!(client.check_stat(gone).await.unwrap(), None, "{gone}");
    }
    assert_eq!(client.get_data("/app/kept").await.unwrap().0, b"/app/kept");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_with_masked_digests_is_refused_and_a_rule_for_lists_takes_its_place() {
    real_servers!("restore of masked lists");
    let zookeeper = started(false).await;
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    client.create("/app", b"", &OPEN).await.unwrap();
    let mut bridge = Bridge::of(&zookeeper, &txnlog(&zookeeper, &[0]));
    bridge.start();
    bridge.delivers(last_zxid(&zookeeper)).await;
    plant(&client).await;
    let moment = format!("0x{:x}", last_zxid(&zookeeper));
    client.delete("/app/config/closed", None).await.unwrap();
    client.delete("/app/lease", None).await.unwrap();
    bridge.delivers(last_zxid(&zookeeper)).await;
    let plan = ["restore", "/app", "--at", &moment, "--plan", "app.plan"];
    let refused = run(&bridge, &plan);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    // Of the list without a digest all is known.
    assert!(
        error.contains("/app/config/closed") && !error.contains("/app/lease"),
        "{error}"
    );
    printed(&bridge, &[&plan[..], &["--acl", "parent"]].concat());
    printed(&bridge, &["restore", "apply", "app.plan"]);
    let (acl, _) = client.get_acl("/app/config/closed").await.unwrap();
    assert_eq!(acl, Acls::anyone_all().to_vec());
    bridge.delivers(last_zxid(&zookeeper)).await;
    assert_eq!(created(&bridge, "/app/lease")["lifetime"]["kind"], "ttl");
    bridge.stop().await;
}
