//! `zkbridge reload` and SIGHUP: sinks change while records arrive.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bridge_servers::{eventually, real_servers};
use serde_json::{Value, json};
use zookeeper_client::{Acls, Client, CreateMode};

use crate::bridge::BOUND;
use crate::stage::{Stage, zookeeper};

/// The records in a file of a sink.
fn records(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The seqs in a file, in the order of their first arrival.
fn seqs(file: &Path) -> Vec<u64> {
    let mut seqs: Vec<u64> = Vec::new();
    for record in records(file) {
        let seq = record["seq"].as_u64().unwrap();
        if seqs.last().is_none_or(|last| *last < seq) {
            seqs.push(seq);
        }
    }
    seqs
}

fn source(stage: &Stage, connect: &str) -> String {
    format!(
        "[[source]]\nconnect = \"{connect}\"\nroots = [\"{}\"]\n\
         [[sink]]\nname = \"audit\"\ntype = \"file\"\npath = \"audit.jsonl\"\n",
        stage.root
    )
}

fn file_sink(name: &str, more: &str) -> String {
    format!("[[sink]]\nname = \"{name}\"\ntype = \"file\"\npath = \"{name}.jsonl\"\n{more}")
}

/// Writes until it is stopped. Returns the number of writes.
async fn write_until(client: Client, root: String, stop: Arc<AtomicBool>) -> u64 {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let path = format!("{root}/{}-{count}", if count % 2 == 0 { "even" } else { "odd" });
        client.create(&path, b"value", &options).await.unwrap();
    }
    count
}

async fn at_rest(stage: &Stage) {
    stage
        .bridge
        .until("everything to be delivered", bridge_servers::is_at_rest)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_come_change_and_go_under_load_and_nothing_of_theirs_is_lost() {
    real_servers!("reload under load");
    let mut stage = Stage::set("reload").await;
    let connect = zookeeper().await.connect_string();
    let common = source(&stage, &connect);
    stage.bridge.start_ready().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_until(
        stage.client.clone(),
        stage.root.clone(),
        stop.clone(),
    ));

    // A sink that is new begins with everything.
    stage
        .bridge
        .configure(&(common.clone() + &file_sink("second", "")));
    let done = stage.run(&["reload", "--json"]).await.json(0);
    assert_eq!(
        done,
        json!({"started": ["second"], "changed": [], "stopped": [], "untouched": ["audit"]})
    );

    // With a filter it continues from its cursor.
    let filtered = file_sink("second", &format!("paths = [\"{}/even-*\"]\n", stage.root));
    stage.bridge.configure(&(common.clone() + &filtered));
    let text = stage.run(&["reload"]).await.ended(0);
    assert_eq!(text, "changed    sink 'second'\nuntouched  sink 'audit'\n");

    // Without it, it stops, and the first is not disturbed.
    stage.bridge.configure(&common);
    let done = stage.run(&["reload", "--json"]).await.json(0);
    assert_eq!(
        (&done["stopped"], &done["untouched"]),
        (&json!(["second"]), &json!(["audit"]))
    );
    let ended = seqs(&stage.bridge.folder().join("second.jsonl"));

    // Added again, it continues after its cursor.
    stage
        .bridge
        .configure(&(common.clone() + &file_sink("second", "")));
    stage.run(&["reload"]).await.ended(0);
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    at_rest(&stage).await;

    let folder = stage.bridge.folder();
    let (audit, second) = (
        seqs(&folder.join("audit.jsonl")),
        seqs(&folder.join("second.jsonl")),
    );
    let creates = records(&folder.join("audit.jsonl"));
    let paths: BTreeMap<&str, &Value> = creates
        .iter()
        .filter(|record| record["op"] == "create")
        .map(|record| (record["path"].as_str().unwrap(), &record["seq"]))
        .collect();
    assert_eq!(paths.len() as u64, written, "every create is there");
    assert!(
        second.starts_with(&ended),
        "nothing was delivered anew out of order"
    );
    // While the filter was on, odd ones were left out, and nothing else ever was.
    let missing: Vec<&u64> = audit
        .iter()
        .filter(|seq| second.binary_search(seq).is_err())
        .collect();
    let is_odd = |seq: &&&u64| {
        let of = creates.iter().find(|record| record["seq"] == ***seq).unwrap();
        of["path"].as_str().is_some_and(|path| path.contains("/odd-"))
    };
    let others: Vec<_> = missing.iter().filter(|seq| !is_odd(seq)).collect();
    assert!(others.is_empty(), "lost: {others:?}");
    stage.bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_work_changes_nothing_and_says_why() {
    real_servers!("reload of what cannot work");
    let mut stage = Stage::set("reload-refused").await;
    let connect = zookeeper().await.connect_string();
    let common = source(&stage, &connect);
    let nobody = stage.run(&["reload"]).await;
    assert_eq!(nobody.code, 3);
    assert!(nobody.err.contains("no bridge runs on data"), "{}", nobody.err);
    stage.bridge.start_ready().await;

    // The command itself finds the mistake.
    stage
        .bridge
        .configure(&(common.clone() + "[[sink]]\ntype = \"kafak\"\n"));
    let wrong = stage.run(&["reload"]).await;
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("kafka"), "{}", wrong.err);

    // So does a bridge that gets the signal.
    hang_up(stage.bridge.child().id());
    let found = eventually("the refusal in the log", BOUND, || async {
        stage
            .bridge
            .has_logged(&["the configuration was not taken over", "kafak"])
    });
    found.await.unwrap();

    // Sections other than sinks need a restart.
    let elsewhere = common.replace("[[source]]\n", "[[source]]\nmax_data = \"1 KiB\"\n");
    stage.bridge.configure(&(elsewhere + &file_sink("second", "")));
    let refused = stage.run(&["reload"]).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("source differs") && refused.err.contains("restart"),
        "{}",
        refused.err
    );
    assert_eq!(stage.bridge.status().await["sinks"].as_array().unwrap().len(), 1);

    // And a signal with a good one is taken.
    stage.bridge.configure(&(common + &file_sink("second", "")));
    hang_up(stage.bridge.child().id());
    stage
        .bridge
        .until("the second sink", |status| {
            status["sinks"].as_array().is_some_and(|sinks| sinks.len() == 2)
        })
        .await;
    stage.create("after", "one").await;
    at_rest(&stage).await;
    let second = records(&stage.bridge.folder().join("second.jsonl"));
    assert!(
        second
            .iter()
            .any(|record| record["path"] == stage.path("after").as_str()),
        "{second:?}"
    );
    stage.bridge.terminate().await;
}

fn hang_up(process: u32) {
    let sent = std::process::Command::new("kill")
        .args(["-HUP", &process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}
