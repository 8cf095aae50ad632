//! A new snapshot for a sink is bounded by the paths that the source watches today: roots that were dropped and znodes
//! that were excluded later stay in the journal and reach no sink.

use std::collections::BTreeSet;

use bridge_servers::{eventually, real_servers};
use serde_json::Value;
use zookeeper_client::{Acls, CreateMode};

use crate::bridge::BOUND;
use crate::stage::{Stage, zookeeper};

fn records(stage: &Stage, sink: &str) -> Vec<Value> {
    let file = stage.bridge.folder().join(format!("{sink}.jsonl"));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Waits for the end of the snapshot of a root; the paths in it, and the number of znodes that its end names.
async fn snapshot(stage: &Stage, sink: &str, root: &str, after: usize) -> (BTreeSet<String>, u64) {
    let is_end = |record: &Value| record["op"] == "snapshot_end" && record["root"] == root;
    let ended = eventually("the end of the snapshot", BOUND, || async {
        records(stage, sink)[after..].iter().any(is_end)
    });
    ended.await.unwrap();
    let records = records(stage, sink);
    let records = &records[after..];
    let paths = records.iter().filter(|record| record["op"] == "snapshot");
    let paths = paths
        .map(|record| record["path"].as_str().unwrap().to_owned())
        .collect();
    let nodes = records.iter().find(|record| is_end(record)).unwrap()["run"]["nodes"].as_u64();
    (paths, nodes.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_holds_no_dropped_root_and_nothing_that_was_excluded_later() {
    real_servers!("a snapshot within what is watched");
    let mut stage = Stage::set("scope").await;
    let connect = zookeeper().await.connect_string();
    let gone = format!("{}-gone", stage.root);
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let below = [stage.path("kept"), stage.path("secret"), stage.path("secret/key")];
    for path in [gone.clone(), format!("{gone}/a")].iter().chain(&below) {
        stage.client.create(path, b"value", &options).await.unwrap();
    }
    let sink =
        |name: &str| format!("[[sink]]\nname = \"{name}\"\ntype = \"file\"\npath = \"{name}.jsonl\"\n");
    let source = |roots: &str, more: &str| {
        format!(
            "[[source]]\nconnect = \"{connect}\"\nroots = [{roots}]\n{more}[source.journal]\nretention = \"1s\"\n"
        )
    };
    let both = format!("\"{}\", \"{gone}\"", stage.root);
    stage.bridge.configure(&(source(&both, "") + &sink("audit")));
    stage.bridge.start_ready().await;
    stage.bridge.at_rest().await;

    let kept = format!("\"{}\"", stage.root);
    let exclude = format!("exclude = [\"{}\"]\n", stage.path("secret"));
    stage
        .bridge
        .configure(&(source(&kept, &exclude) + &sink("audit")));
    stage.run(&["reload"]).await.ended(0);
    stage.bridge.ready().await;
    stage.client.delete(&format!("{gone}/a"), None).await.unwrap();
    let before = records(&stage, "audit").len();
    stage.run(&["snapshot", "--sink", "audit"]).await.ended(0);

    let expected: BTreeSet<String> = [stage.root.clone(), stage.path("kept")].into();
    let (paths, nodes) = snapshot(&stage, "audit", &stage.root, before).await;
    assert_eq!((&paths, nodes), (&expected, 2));
    assert!(stage.bridge.has_logged(&["a root is no longer watched", &gone]));

    // A sink that is new after retention has removed the first records begins with the same.
    let removed = eventually("retention to remove the first records", BOUND, || async {
        let status = stage.bridge.status().await;
        status["sources"][0]["journal"]["records"]
            .as_u64()
            .is_some_and(|records| records < 4)
    });
    removed.await.unwrap();
    stage
        .bridge
        .configure(&(source(&kept, &exclude) + &sink("audit") + &sink("fresh")));
    stage.run(&["reload"]).await.ended(0);
    let (paths, nodes) = snapshot(&stage, "fresh", &stage.root, 0).await;
    assert_eq!((&paths, nodes), (&expected, 2));
    stage.bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_doctor_name_a_pattern_that_matches_nothing_and_the_nearest_znode() {
    real_servers!("a pattern that matches nothing");
    let stage = Stage::set_with("pattern-near", "paths = [\"/pattern-near/servces/**\"]\n").await;
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    stage
        .client
        .create(&stage.path("services"), b"", &options)
        .await
        .unwrap();
    for args in [&["check", "--connect"][..], &["doctor"]] {
        let printed = stage.run(args).await;
        let text = printed.out.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in [
            "'/pattern-near/servces/**' matches nothing in source main",
            "/pattern-near/servces does not exist",
            "help: did you mean '/pattern-near/services'?",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
    }
}
