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
async fn sinks_are_added_changed_and_removed_under_load_without_losing_records() {
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

    // A sink that asks for the history begins with everything.
    stage
        .bridge
        .configure(&(common.clone() + &file_sink("second", "start = \"earliest\"")));
    let mut done = stage.run(&["reload", "--json"]).await.json(0);
    let new_sinks = done.as_object_mut().unwrap().remove("new_sinks").unwrap();
    assert_eq!(
        (&new_sinks[0]["sink"], &new_sinks[0]["start"]),
        (&json!("second"), &json!("earliest"))
    );
    assert_eq!(
        done,
        json!({"started": ["second"], "changed": [], "stopped": [], "untouched": ["audit"]})
    );
    // The filter would leave out the listing of the root.
    let delivered = stage.bridge.folder().join("second.jsonl");
    stage
        .bridge
        .until("the second sink to deliver the listing", |_| {
            delivered.exists() && seqs(&delivered).len() > 3
        })
        .await;

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
async fn a_new_sink_gets_the_present_state_and_its_reload_says_how_many_records_come() {
    real_servers!("starts of new sinks");
    let mut stage = Stage::set("reload-starts").await;
    let connect = zookeeper().await.connect_string();
    let common = source(&stage, &connect);
    stage.bridge.start_ready().await;
    stage.create("kept", "one").await;
    stage.write("kept", "two").await;
    stage.create("gone", "secret").await;
    stage.delete("gone").await;

    let sinks = file_sink("state", "")
        + &file_sink("news", "start = \"now\"\n")
        + &file_sink("history", "start = \"earliest\"\n");
    stage.bridge.configure(&(common.clone() + &sinks));
    let announced = [
        "new sink 'state' of source 'main' starts with the present state: at most 2 znodes",
        "new sink 'news' of source 'main' starts with the next change",
        "new sink 'history' of source 'main' starts with the history: at most 7 records",
    ];
    let checked = stage.run(&["check"]).await.ended(0);
    let reloaded = stage.run(&["reload"]).await.ended(0);
    for line in announced {
        assert!(checked.contains(line), "{checked}");
        assert!(reloaded.contains(line), "{reloaded}");
    }
    stage.create("later", "three").await;
    at_rest(&stage).await;

    let delivered = |sink: &str| -> Vec<(String, String)> {
        let records = records(&stage.bridge.folder().join(format!("{sink}.jsonl")));
        let changes = records.iter().filter(|record| !record["path"].is_null());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        changes
            .map(|record| (text(&record["op"]), text(&record["path"])))
            .collect()
    };
    let own = |op: &str, name: &str| (op.to_owned(), stage.path(name));
    let top = ("snapshot".to_owned(), stage.root.clone());
    assert_eq!(
        delivered("state"),
        [top.clone(), own("snapshot", "kept"), own("create", "later")]
    );
    assert_eq!(delivered("news"), [own("create", "later")]);
    let history = [
        top,
        own("create", "kept"),
        own("update", "kept"),
        own("create", "gone"),
        own("delete", "gone"),
        own("create", "later"),
    ];
    assert_eq!(delivered("history"), history);
    let checked = stage.run(&["check"]).await.ended(0);
    assert!(!checked.contains("new sink"), "{checked}");
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
        stage.bridge.has_logged(&[
            "reload rejected; still running with the previous configuration",
            "kafak",
        ])
    });
    found.await.unwrap();

    // Sections other than sources and sinks need a restart.
    let elsewhere = format!("[log]\nlevel = \"warn\"\n{common}");
    stage.bridge.configure(&(elsewhere + &file_sink("second", "")));
    let refused = stage.run(&["reload"]).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("log.level differs") && refused.err.contains("restart"),
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

/// The records in a file that is being written: its last line may be incomplete.
fn complete(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// A second source of the same ensemble, on a root of its own.
fn second_source(connect: &str, root: &str) -> String {
    format!("[[source]]\nname = \"second\"\nconnect = \"{connect}\"\nroots = [\"{root}\"]\n")
}

/// One source in the status; null if it is not there.
async fn source_named(stage: &Stage, name: &str) -> Value {
    let status = stage.bridge.status().await;
    let sources = status["sources"].as_array().cloned().unwrap_or_default();
    let found = sources.into_iter().find(|source| source["source"] == name);
    found.unwrap_or_default()
}

async fn create(stage: &Stage, path: &str) {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    stage.client.create(path, b"value", &options).await.unwrap();
}

/// Waits until a record of this source and path is in the file of a sink.
async fn delivered(stage: &Stage, sink: &str, source: &str, path: &str) {
    let file = stage.bridge.folder().join(format!("{sink}.jsonl"));
    let is_there = || {
        complete(&file)
            .iter()
            .any(|record| record["path"] == path && record["cluster"] == source)
    };
    let found = eventually("a record in the file", BOUND, || async { is_there() });
    if let Err(error) = found.await {
        panic!(
            "{error}: {path} of {source}: {}\n{}",
            stage.bridge.status().await,
            stage.bridge.log().join("\n")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_come_and_go_and_change_their_roots_while_the_others_run_on() {
    real_servers!("reload of sources");
    let mut stage = Stage::set("reload-sources").await;
    let connect = zookeeper().await.connect_string();
    let common = source(&stage, &connect);
    let (second, third) = (format!("{}-second", stage.root), format!("{}-third", stage.root));
    create(&stage, &second).await;
    create(&stage, &third).await;
    stage.bridge.start_ready().await;
    let before = source_named(&stage, "main").await;

    // A source that is new starts beside the first.
    let both = second_source(&connect, &second) + &common;
    stage.bridge.configure(&both);
    let done = stage.run(&["reload", "--json"]).await.json(0);
    assert_eq!(
        (&done["sources"]["started"], &done["untouched"]),
        (&json!(["second"]), &json!(["audit"]))
    );
    stage.bridge.ready().await;
    create(&stage, &format!("{second}/a")).await;
    delivered(&stage, "audit", "second", &format!("{second}/a")).await;
    let after = source_named(&stage, "main").await;
    assert_eq!(
        (&before["epoch"], &before["since"]),
        (&after["epoch"], &after["since"]),
        "the first keeps its watches"
    );

    // Another root and an exclude: only this source starts again.
    let before = source_named(&stage, "second").await;
    let wider = format!(
        "[\"{}\", \"{third}\"]\nexclude = [\"{third}/secret\"]",
        stage.root
    );
    stage
        .bridge
        .configure(&both.replace(&format!("[\"{}\"]", stage.root), &wider));
    let text = stage.run(&["reload"]).await.ended(0);
    assert_eq!(text, "changed    source 'main'\nuntouched  sink 'audit'\n");
    stage.bridge.ready().await;
    create(&stage, &format!("{third}/secret")).await;
    create(&stage, &format!("{third}/b")).await;
    delivered(&stage, "audit", "main", &format!("{third}/b")).await;
    let all = complete(&stage.bridge.folder().join("audit.jsonl"));
    let secret = format!("{third}/secret");
    assert!(all.iter().all(|record| record["path"] != secret.as_str()));
    let after = source_named(&stage, "second").await;
    assert_eq!(
        (&before["epoch"], &before["since"]),
        (&after["epoch"], &after["since"])
    );

    // Left out, it stops and lets its journal go.
    stage.bridge.configure(&common);
    let done = stage.run(&["reload", "--json"]).await.json(0);
    assert_eq!(done["sources"]["stopped"], json!(["second"]));
    assert_eq!(source_named(&stage, "second").await, Value::Null);
    let folder = stage.bridge.folder();
    let journal = folder.join("data").join("second.journal");
    assert!(journal.exists(), "its journal stays");
    stage.create("last", "one").await;
    delivered(&stage, "audit", "main", &stage.path("last")).await;
    stage.bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_opened_stops_no_other_source() {
    real_servers!("a broken journal");
    let mut stage = Stage::set("broken-journal").await;
    let connect = zookeeper().await.connect_string();
    let second = format!("{}-second", stage.root);
    create(&stage, &second).await;
    stage
        .bridge
        .configure(&(second_source(&connect, &second) + &source(&stage, &connect)));
    let data = stage.bridge.folder().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("second.journal"), "this is no journal".repeat(1000)).unwrap();
    stage.bridge.start().await;

    create(&stage, &stage.path("a")).await;
    delivered(&stage, "audit", "main", &stage.path("a")).await;
    let broken = source_named(&stage, "second").await;
    assert_eq!(broken["state"], "halted");
    assert!(
        broken["halted"]
            .as_str()
            .is_some_and(|cause| cause.contains("second.journal")),
        "{broken}"
    );
    let words = ["ERROR", "the source cannot be started", "second"];
    let logged = eventually("the error", BOUND, || async { stage.bridge.has_logged(&words) });
    logged.await.unwrap();
    assert_eq!(stage.bridge.get("/readyz").await.0, 503);
    let halted = [("source", "second")];
    assert_eq!(stage.bridge.metric("zkbridge_source_halted", &halted).await, 1.0);

    // It is tried again with the next reload.
    let failed = stage.run(&["reload", "--json"]).await.json(0);
    assert_eq!(failed["sources"]["failed"], json!(["second"]));
    std::fs::remove_file(data.join("second.journal")).unwrap();
    let done = stage.run(&["reload", "--json"]).await.json(0);
    assert_eq!(done["sources"]["started"], json!(["second"]));
    stage.bridge.ready().await;
    create(&stage, &format!("{second}/b")).await;
    delivered(&stage, "audit", "second", &format!("{second}/b")).await;
    stage.bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_beside_a_journal_that_has_failed_changes_the_other_sources_and_names_the_exception() {
    real_servers!("a failed journal");
    let mut stage = Stage::set("failed-journal").await;
    let connect = zookeeper().await.connect_string();
    let second = format!("{}-second", stage.root);
    create(&stage, &second).await;
    let both = second_source(&connect, &second) + &source(&stage, &connect);
    stage.bridge.configure(&both);
    stage.bridge.start_ready().await;
    let data = stage.bridge.folder().join("data");
    std::fs::rename(data.join("second.journal"), data.join("moved")).unwrap();
    let halted = eventually("the source to halt", BOUND, || async {
        source_named(&stage, "second").await["halted"].is_string()
    });
    halted.await.unwrap();

    stage.bridge.configure(&(both + &file_sink("copy", "")));
    let reloaded = stage.run(&["reload", "--json"]).await;

    assert!(
        reloaded.err.contains("taken over, except for source 'second'"),
        "{reloaded:?}"
    );
    let done = reloaded.json(1);
    assert_eq!(done["started"], json!(["copy"]));
    assert!(done["sources"]["incomplete"]["second"].is_string(), "{done}");
    assert!(!stage.bridge.has_logged(&["reload rejected"]));
    create(&stage, &stage.path("a")).await;
    delivered(&stage, "copy", "main", &stage.path("a")).await;
    stage.bridge.terminate().await;
}

fn hang_up(process: u32) {
    let sent = std::process::Command::new("kill")
        .args(["-HUP", &process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}
