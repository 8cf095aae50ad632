//! `zkbridge verify`.

use bridge_servers::{Proxy, real_servers};

use crate::golden;
use crate::stage::{Stage, zookeeper};

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_no_difference_beside_a_bridge_and_each_one_without_it() {
    real_servers!("verify");
    let mut stage = Stage::set("verify").await;
    stage.bridge.start_ready().await;
    for name in ["kept", "written", "deleted", "deleted/below", "recreated"] {
        stage.create(name, name).await;
    }
    let text = stage.run(&["verify"]).await.ended(0);
    golden::check("verify-running.txt", &text);

    // Changes that are on their way are no differences.
    let (client, path) = (stage.client.clone(), stage.path("written"));
    let writing = tokio::spawn(async move {
        loop {
            client.set_data(&path, b"again and again", None).await.unwrap();
        }
    });
    for _ in 0..3 {
        let report = stage.run(&["verify", "--json"]).await.json(0);
        assert_eq!(
            (&report["ok"], &report["sources"][0]["znodes"]),
            (&true.into(), &6.into())
        );
    }
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    stage.write("written", "the last").await;

    stage.bridge.terminate().await;
    assert_eq!(stage.run(&["verify"]).await.ended(0).lines().count(), 1);
    stage
        .client
        .set_data(&stage.path("written"), b"while away", None)
        .await
        .unwrap();
    for name in ["deleted/below", "deleted", "recreated"] {
        stage.client.delete(&stage.path(name), None).await.unwrap();
    }
    for name in ["recreated", "new"] {
        let options =
            zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
        stage
            .client
            .create(&stage.path(name), b"", &options)
            .await
            .unwrap();
    }
    let text = stage.run(&["verify"]).await.ended(1);
    golden::fits(&text);
    // The number of writes depends on the speed of the machine, and so does the line break.
    let version = regex::Regex::new(r"version\s+\d\d+\s+of\s+\S+,\s+the\s+image\s+version\s+\d\d+").unwrap();
    golden::check(
        "verify-stopped.txt",
        &version.replace_all(&text, "version N of ZXID, the image\n              version N"),
    );
    let report = stage.run(&["verify", "--json"]).await.json(1);
    let differences = report["sources"][0]["differences"].as_array().unwrap().clone();
    let found: Vec<(&str, &str)> = differences
        .iter()
        .map(|difference| {
            (
                difference["path"].as_str().unwrap(),
                difference["kind"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("/verify/deleted", "only_in_image"),
        ("/verify/deleted/below", "only_in_image"),
        ("/verify/new", "only_in_zookeeper"),
        ("/verify/recreated", "other_life"),
        ("/verify/written", "other_version"),
    ];
    assert_eq!(found, expected);

    stage.bridge.start_ready().await;
    stage.bridge.at_rest().await;
    stage.run(&["verify"]).await.ended(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_the_changes_that_a_bridge_with_a_dead_watch_has_missed() {
    real_servers!("verify beside a dead watch");
    let mut stage = Stage::set("verify-dead").await;
    let proxy = Proxy::start(zookeeper().await.client_addr(0)).await.unwrap();
    stage.bridge.configure(&format!(
        "[[source]]\nconnect = \"{}\"\nroots = [\"{}\"]\nsession_timeout = \"30s\"\n\
         liveness = \"off\"\nreconcile_every = \"off\"\n\
         [[sink]]\nname = \"audit\"\ntype = \"file\"\npath = \"audit.jsonl\"\n",
        proxy.addr(),
        stage.root
    ));
    stage.bridge.start_ready().await;
    stage.create("written", "seen").await;
    proxy.deaf().await.unwrap();
    let (written, new) = (stage.path("written"), stage.path("new"));
    stage.client.set_data(&written, b"unheard", None).await.unwrap();
    let options = zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
    stage.client.create(&new, b"unheard", &options).await.unwrap();

    // The bridge believes that all is well.
    assert_eq!(stage.run(&["status", "--json"]).await.json(0)["ready"], true);
    let report = stage.run(&["verify", "--json"]).await.json(1);
    assert_eq!(report["running"], true);
    let differences = report["sources"][0]["differences"].as_array().unwrap();
    let found: Vec<(&str, &str)> = differences
        .iter()
        .map(|one| (one["path"].as_str().unwrap(), one["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(
        found,
        [(&*new, "only_in_zookeeper"), (&*written, "other_version")]
    );
    stage.bridge.terminate().await;
}
