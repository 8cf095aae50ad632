//! A znode loses its read permission, is changed, and gets the permission back: what questions about each moment say.

use bridge_servers::real_servers;
use serde_json::Value;
use zookeeper_client::{Acl, Acls};

use crate::stage::Stage;

fn open() -> Vec<Acl> {
    Acls::anyone_all().iter().cloned().collect()
}

fn closed() -> Vec<Acl> {
    Acls::creator_all().iter().cloned().collect()
}

/// The number of the last record, after one more record of another znode.
async fn a_moment(stage: &Stage, data: &str) -> String {
    stage.write("beside", data).await;
    let node = stage.run(&["cat", &stage.path("beside"), "--json"]).await.json(0);
    node["moment"]["tail"].to_string()
}

async fn cat(stage: &Stage, name: &str, at: &str) -> Value {
    let path = stage.path(name);
    // It ends with 1 where something is open.
    let printed = stage.run(&["cat", &path, "--at", at, "--json"]).await;
    let node: Value = serde_json::from_str(&printed.out).unwrap();
    node["then"].clone()
}

/// Certainty and value of a znode at a moment.
async fn shown(stage: &Stage, name: &str, at: &str) -> (String, String) {
    let then = cat(stage, name, at).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&then["certainty"]), text(&then["data"]["value"]))
}

fn of(certainty: &str, value: &str) -> (String, String) {
    (certainty.to_owned(), value.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_znode_that_may_not_be_read_is_certain_before_and_after_and_restore_refuses_in_between() {
    real_servers!("blind spots in answers");
    let mut stage = Stage::set("unseen").await;
    stage.bridge.start_ready().await;
    stage.client.auth("digest", b"owner:secret").await.unwrap();
    for (name, data) in [("kept", "one"), ("kept/below", "b"), ("beside", "0")] {
        stage.create(name, data).await;
    }
    stage.write("kept", "two").await;
    let before = a_moment(&stage, "1").await;

    let kept = stage.path("kept");
    stage.client.set_acl(&kept, &closed(), None).await.unwrap();
    stage.client.set_data(&kept, b"unseen", None).await.unwrap();
    let until_unreadable = async |stage: &Stage, count: u64| {
        stage
            .bridge
            .until("the blind spot to be counted", |status| {
                status["ready"] == true && status["sources"][0]["unreadable"] == count
            })
            .await;
    };
    until_unreadable(&stage, 1).await;
    let during = a_moment(&stage, "2").await;

    assert_eq!(shown(&stage, "kept", &during).await, of("gap", "two"));
    assert_eq!(shown(&stage, "kept/below", &during).await, of("gap", "b"));
    assert_eq!(shown(&stage, "kept/never", &during).await, of("gap", ""));
    assert_eq!(shown(&stage, "beside", &during).await, of("exact", "2"));
    let then = cat(&stage, "kept", &during).await;
    let doubt = then["doubts"][0].as_str().unwrap().to_owned();
    assert!(doubt.contains(&format!("may not read {kept} since")), "{doubt}");
    assert_eq!(then["exists"], Value::Null);
    for path in [&stage.root, &kept] {
        let list = stage.run(&["ls", path, "--at", &during, "--json"]).await.json(0);
        assert_eq!(list["to"]["certainty"], "gap", "{path}: {list}");
    }
    let history = stage.run(&["history", &kept]).await;
    assert!(history.err.contains(&doubt), "{}", history.err);
    let diff = stage
        .run(&["diff", &stage.root, &before, &during, "--json"])
        .await
        .json(0);
    let kind_of = |path: &str| {
        let items = diff["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["path"] == path);
        item.map(|item| item["kind"].clone())
    };
    assert_eq!(kind_of(&kept), Some("uncertain".into()));
    assert_eq!(kind_of(&stage.path("beside")), Some("changed".into()));

    // A restart forgets nothing of it.
    let gaps = stage.run(&["gaps", "--json"]).await.json(0);
    assert_eq!(gaps["unreadable"][0]["path"], *kept);
    assert_eq!(gaps["unreadable"][0]["until"], Value::Null);
    let since = gaps["unreadable"][0]["since"].clone();
    assert!(
        since["seq"].as_u64().unwrap() < before.parse().unwrap(),
        "{since}"
    );
    stage.bridge.kill().await;
    stage.bridge.start_ready().await;
    until_unreadable(&stage, 1).await;
    let gaps = stage.run(&["gaps", "--json"]).await.json(0);
    assert_eq!(gaps["unreadable"][0]["since"], since);
    let later = a_moment(&stage, "3").await;
    assert_eq!(shown(&stage, "kept", &later).await, of("gap", "two"));

    // The value that restore would put back was perhaps never that of the moment.
    std::fs::write(stage.bridge.folder().join("owner"), "owner:secret\n").unwrap();
    let plan = async |at: &str, more: &[&str]| {
        let words = [
            "restore",
            "/unseen",
            "--at",
            at,
            "--plan",
            "a.plan",
            "--credentials",
            "owner",
        ];
        stage.run(&[&words[..], more].concat()).await
    };
    let refused = plan(&during, &[]).await;
    assert_eq!(refused.code, 1, "{}", refused.out);
    for words in ["may not read /unseen/kept", "--accept"] {
        assert!(refused.err.contains(words), "{}", refused.err);
    }
    let accepted = plan(&during, &["--accept", "gap", "--json"]).await.json(0);
    let set: Vec<&Value> = accepted["operations"].as_array().unwrap().iter().collect();
    assert!(set.iter().any(|one| one["path"] == *kept), "{set:?}");
    std::fs::remove_file(stage.bridge.folder().join("a.plan")).unwrap();

    stage.client.set_acl(&kept, &open(), None).await.unwrap();
    until_unreadable(&stage, 0).await;
    let after = a_moment(&stage, "4").await;
    assert_eq!(shown(&stage, "kept", &after).await, of("exact", "unseen"));
    assert_eq!(shown(&stage, "kept/below", &after).await, of("exact", "b"));
    assert_eq!(shown(&stage, "kept", &during).await, of("gap", "two"));
    assert_eq!(shown(&stage, "kept", &before).await.1, "two");
    let gaps = stage.run(&["gaps", "--json"]).await.json(0);
    let until = &gaps["unreadable"][0]["until"]["seq"];
    assert!(until.as_u64().unwrap() <= after.parse().unwrap(), "{gaps}");
    let refused = plan(&during, &[]).await;
    assert!(
        refused.code == 1 && refused.err.contains("could not read"),
        "{}",
        refused.err
    );
    // The control: afterwards nothing is in the way.
    let planned = plan(&after, &["--json"]).await.json(0);
    assert_eq!(planned["operations"], Value::Array(Vec::new()));
    let found = stage.run(&["journal", "check"]).await;
    assert_eq!(found.code, 0, "{} {}", found.out, found.err);
}
