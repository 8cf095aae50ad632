//! A new snapshot for a sink is bounded by the paths that the source watches today: roots that were dropped and znodes
//! that were excluded later stay in the journal and reach no sink.

use std::collections::BTreeSet;

use bridge_servers::{Child, eventually, real_servers};
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

/// The paths of the deletes that a sink got, in order.
fn deletes(stage: &Stage, sink: &str) -> Vec<String> {
    let records = records(stage, sink).into_iter();
    let deletes = records.filter(|record| record["op"] == "delete");
    deletes
        .map(|record| record["path"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_root_gets_deletes_by_choice_also_after_a_kill_in_the_midst_and_a_listing_when_it_is_back()
{
    real_servers!("deletes for a dropped root");
    const ZNODES: usize = 10_000;
    let mut stage = Stage::set("dropped").await;
    let connect = zookeeper().await.connect_string();
    let gone = format!("{}-gone", stage.root);
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    stage
        .client
        .create(&stage.path("kept"), b"value", &options)
        .await
        .unwrap();
    stage.client.create(&gone, b"", &options).await.unwrap();
    for batch in 0..ZNODES / 500 {
        let mut writer = stage.client.new_multi_writer();
        for at in 0..500 {
            let path = format!("{gone}/n{:05}", batch * 500 + at);
            writer.add_create(&path, b"value", &options).unwrap();
        }
        writer.commit().await.unwrap();
    }
    let sink = "[[sink]]\nname = \"audit\"\ntype = \"file\"\npath = \"audit.jsonl\"\n";
    let source = |roots: &str| {
        format!("[[source]]\nconnect = \"{connect}\"\nroots = [{roots}]\ndropped_roots = \"delete\"\n{sink}")
    };
    let both = format!("\"{}\", \"{gone}\"", stage.root);
    let kept = format!("\"{}\"", stage.root);
    stage.bridge.configure(&source(&both));
    stage.bridge.start_ready().await;
    stage.bridge.at_rest().await;
    stage.bridge.terminate().await;
    assert_eq!(deletes(&stage, "audit"), [""; 0]);

    // Killed while the deletes are journalled: after some batches, and before the last.
    stage.bridge.configure(&source(&kept));
    let log = stage.bridge.folder().join("data/main.journal-wal");
    let length = || std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    let tail = async |stage: &Stage| {
        let status = stage.run(&["status", "--json"]).await.json(0);
        status["sources"][0]["journal"]["tail"].as_u64().unwrap() as usize
    };
    let listed = tail(&stage).await;
    let before = length();
    let mut child = Child::start(&stage.bridge.command(&["run"])).unwrap();
    let begun = eventually("the first batch of deletes", BOUND, || async {
        length() > before + (64 << 10)
    });
    begun.await.unwrap();
    child.kill().await.unwrap();
    let journalled = tail(&stage).await - listed;
    assert!(
        (1..ZNODES).contains(&journalled),
        "{journalled} of {ZNODES} before the kill"
    );
    stage.bridge.start_ready().await;
    stage.bridge.at_rest().await;

    let got = deletes(&stage, "audit");
    let paths: BTreeSet<&str> = got.iter().map(String::as_str).collect();
    assert_eq!(
        (paths.len(), got.last()),
        (ZNODES + 1, Some(&gone)),
        "each once, the parent at the end"
    );
    assert!(
        paths.iter().all(|path| path.starts_with(&*gone)),
        "nothing of the other root"
    );
    let gaps: Vec<Value> = records(&stage, "audit");
    let reasons = gaps
        .iter()
        .filter(|record| record["op"] == "gap_begin" && record["root"] == *gone);
    let reasons: Vec<&Value> = reasons.map(|record| &record["gap"]["reason"]).collect();
    assert!(reasons.len() == 1 || reasons.len() == 2, "{reasons:?}");
    assert!(reasons.iter().all(|reason| *reason == "unwatched"), "{reasons:?}");
    let answer = stage.run(&["cat", &format!("{gone}/n00001")]).await;
    assert_eq!(answer.code, 1, "nobody knows: {}{}", answer.out, answer.err);
    stage.bridge.terminate().await;
    stage.bridge.start_ready().await;
    stage.bridge.at_rest().await;
    assert_eq!(
        deletes(&stage, "audit").len(),
        got.len(),
        "a further start deletes nothing"
    );

    // Watched again, it begins with a listing.
    let until = records(&stage, "audit").len();
    stage.bridge.configure(&source(&both));
    stage.run(&["reload"]).await.ended(0);
    let (listed, nodes) = snapshot(&stage, "audit", &gone, until).await;
    assert_eq!((listed.len(), nodes), (ZNODES + 1, ZNODES as u64 + 1));
    stage.bridge.ready().await;
    let answer = stage.run(&["cat", &format!("{gone}/n00001")]).await;
    assert_eq!(
        (answer.code, answer.out.trim_end()),
        (0, "value"),
        "{}",
        answer.err
    );
    stage.run(&["journal", "check"]).await.ended(0);
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
