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

#[tokio::test(flavor = "multi_thread")]
async fn doctor_proposes_a_section_for_the_services_in_the_tree_which_passes_check_and_is_proposed_once() {
    real_servers!("doctor and services");
    let stage = Stage::set("doctor-services").await;
    let options = zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
    for (name, data) in [
        ("registry", ""),
        ("registry/pay", ""),
        (
            "registry/pay/a",
            r#"{"name":"pay","id":"a","address":"10.0.0.7","port":8080,"serviceType":"STATIC"}"#,
        ),
    ] {
        let path = stage.path(name);
        stage
            .client
            .create(&path, data.as_bytes(), &options)
            .await
            .unwrap();
    }
    let text = stage.run(&["doctor"]).await.ended(0);
    golden::fits(&text);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let found = "found 1 service of the format 'curator' with 1 registration below /doctor-services/registry";
    assert!(words.contains(found), "{text}");
    let from = text.find("[[source.service]]").unwrap();
    let section = text[from..].split("\n\n").next().unwrap();
    assert_eq!(
        section,
        "[[source.service]]\nformat = \"curator\"\nbase = \"/doctor-services/registry\""
    );
    let connect = crate::stage::zookeeper().await.connect_string();
    stage.bridge.configure(&format!(
        "[[source]]\nconnect = \"{connect}\"\nroots = [\"/doctor-services\"]\n{section}\n\
         [[sink]]\nname = \"audit\"\ntype = \"file\"\npath = \"audit.jsonl\"\nformat = \"service\"\n"
    ));
    stage.run(&["check"]).await.ended(0);
    let report = stage.run(&["doctor", "--json"]).await.json(0);
    let lines = report["lines"].as_array().unwrap();
    assert!(lines.iter().all(|line| line["section"].is_null()), "{report:#}");
}
