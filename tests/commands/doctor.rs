//! `zkbridge doctor`.

use bridge_servers::real_servers;
use serde_json::Value;

use crate::golden;
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn doctor_passes_a_healthy_bridge_and_names_each_fault_with_a_remedy() {
    real_servers!("doctor");
    let mut stage = Stage::set("doctor").await;
    let text = stage.run(&["doctor"]).await.ended(0);
    golden::fits(&text);
    // The figures of the machine differ from run to run.
    for words in [
        "ok       process: none runs on this data_dir",
        "fsync: ",
        "open files: ",
        "ZooKeeper 3.9.5, standalone, answers in",
        "ok       session: granted, with a timeout of 10 s",
        "ok       root /doctor: 1 znode, and a walk takes about",
        "ok       root /doctor: all of them may be read",
        "ok       destination: file can be used",
        "0 failures, ",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }

    stage.bridge.start_ready().await;
    stage.create("a", "one").await;
    stage.create("secret", "two").await;
    stage.create("secret/below", "three").await;
    let nobody = [zookeeper_client::Acl::new(
        zookeeper_client::Permission::ALL,
        zookeeper_client::AuthId::new("digest", "nobody:x"),
    )];
    stage
        .client
        .set_acl(&stage.path("secret"), &nobody, None)
        .await
        .unwrap();
    let report = stage.run(&["doctor", "--json"]).await.json(0);
    let lines = report["lines"].as_array().unwrap();
    let find = |words: &str| -> &Value {
        let found = lines
            .iter()
            .find(|line| line["message"].as_str().unwrap().contains(words));
        found.unwrap_or_else(|| panic!("{words}: {report:#}"))
    };
    let blind = find("may not be read: /doctor/secret");
    assert_eq!(blind["level"], "warning");
    assert!(blind["remedy"].as_str().unwrap().contains("permission 'r'"));
    assert_eq!(find("the running bridge delivers to it")["subject"], "sink audit");
    assert_eq!(find("captured right after")["check"], "clock");
    stage.bridge.terminate().await;

    let nobody_there = "[[source]]\nconnect = \"127.0.0.1:1,127.0.0.1:2\"\nsession_timeout = \"1s\"\n\
                        [[sink]]\nname = \"audit\"\ntype = \"file\"\npath = \"no/such/\\u0000\"\n";
    stage.bridge.configure(nobody_there);
    let text = stage.run(&["doctor"]).await.ended(1);
    golden::fits(&text);
    for words in [
        "failure  server 127.0.0.1:1: cannot be asked: ",
        "failure  session: no session",
        "help: ",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}
