//! `zkbridge sink`: cursors of sinks that are renamed or removed.

use bridge_servers::{eventually, real_servers};
use serde_json::{Value, json};

use crate::bridge::BOUND;
use crate::stage::{Stage, zookeeper};

fn parts(stage: &Stage, connect: &str, sink: &str) -> String {
    format!(
        "[[source]]\nconnect = \"{connect}\"\nroots = [\"{}\"]\n\
         [[sink]]\nname = \"{sink}\"\ntype = \"file\"\npath = \"audit.jsonl\"\n",
        stage.root
    )
}

/// The sinks of `sink list`, each with its state.
async fn listed(stage: &Stage) -> Vec<(String, String)> {
    let listed = stage.run(&["sink", "list", "--json"]).await.json(0);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let sinks = listed.as_array().unwrap().iter();
    sinks
        .map(|sink| (text(&sink["sink"]), text(&sink["state"])))
        .collect()
}

fn delivered(stage: &Stage) -> usize {
    let text = std::fs::read_to_string(stage.bridge.folder().join("audit.jsonl")).unwrap();
    text.lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_renamed_with_a_running_bridge_keeps_its_cursor() {
    real_servers!("renaming a sink");
    let mut stage = Stage::set("sink-rename").await;
    let connect = zookeeper().await.connect_string();
    stage.bridge.start_ready().await;
    stage.create("before", "one").await;
    let before = delivered(&stage);

    let early = stage.run(&["sink", "rename", "audit", "trail"]).await;
    assert!(
        early.code == 1 && early.err.contains("'audit' is configured"),
        "{early:?}"
    );
    stage.bridge.configure(&parts(&stage, &connect, "trail"));
    let unknown = stage.run(&["sink", "rename", "adit", "trail"]).await;
    assert!(
        unknown.code == 1
            && unknown.err.contains("no journal has a cursor of sink 'adit'")
            && unknown.err.contains("help: give one of: audit"),
        "{unknown:?}"
    );
    stage.run(&["sink", "rename", "audit", "trail"]).await.ended(0);
    stage
        .bridge
        .until("the renamed sink to be idle", |status| {
            status["sinks"][0]["sink"] == "trail" && status["sinks"][0]["state"] == "idle"
        })
        .await;
    assert_eq!(delivered(&stage), before, "nothing is delivered again");
    assert_eq!(listed(&stage).await, [("trail".to_owned(), "idle".to_owned())]);
    stage.create("after", "two").await;
    assert_eq!(delivered(&stage), before + 1);
    stage.bridge.terminate().await;

    // The same without a bridge.
    stage.bridge.configure(&parts(&stage, &connect, "ledger"));
    stage.run(&["sink", "rename", "trail", "ledger"]).await.ended(0);
    stage.bridge.start_ready().await;
    stage.bridge.at_rest().await;
    assert_eq!(
        delivered(&stage),
        before + 3,
        "the begin and the end of the gap are new"
    );
    stage.bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_without_a_sink_is_named_everywhere_until_it_is_forgotten() {
    real_servers!("forgetting a sink");
    let mut stage = Stage::set("sink-forget").await;
    let connect = zookeeper().await.connect_string();
    stage.bridge.start_ready().await;
    stage.create("before", "one").await;
    let configured = stage.run(&["sink", "forget", "audit"]).await;
    assert!(
        configured.code == 1 && configured.err.contains("is configured"),
        "{configured:?}"
    );

    stage.bridge.configure(&parts(&stage, &connect, "trail"));
    let reloaded = stage.run(&["reload"]).await.ended(0);
    let warning = "no sink is configured for the cursor of 'audit' in source 'main'";
    assert!(reloaded.contains(warning), "{reloaded}");
    let words = ["WARN", "no sink is configured for this cursor", "audit"];
    let logged = eventually("the warning", BOUND, || async { stage.bridge.has_logged(&words) });
    logged.await.unwrap();
    let status = stage.run(&["status"]).await.ended(0);
    assert!(status.contains("sink audit from main: unconfigured"), "{status}");
    let labels = [("sink", "audit"), ("source", "main")];
    assert_eq!(
        stage.bridge.metric("zkbridge_unconfigured_cursor", &labels).await,
        1.0
    );
    let examined = stage.run(&["doctor"]).await;
    assert!(
        examined.out.contains("has a cursor of this sink"),
        "{}",
        examined.out
    );

    stage.run(&["sink", "forget", "audit"]).await.ended(0);
    assert_eq!(listed(&stage).await, [("trail".to_owned(), "idle".to_owned())]);
    assert_eq!(
        stage.bridge.metric("zkbridge_unconfigured_cursor", &labels).await,
        0.0
    );
    let again = stage.run(&["sink", "forget", "audit"]).await;
    assert!(
        again.code == 1 && again.err.contains("help: give one of: trail"),
        "{again:?}"
    );
    stage.bridge.terminate().await;

    // Without a bridge: another name, and an unknown one.
    stage.bridge.configure(&parts(&stage, &connect, "ledger"));
    let names = [("ledger", "new"), ("trail", "unconfigured")].map(|(sink, state)| json!([sink, state]));
    let mut found: Vec<Value> = listed(&stage).await.into_iter().map(|pair| json!(pair)).collect();
    found.sort_by_key(Value::to_string);
    assert_eq!(found, names);
    stage.run(&["sink", "forget", "trail"]).await.ended(0);
    let unknown = stage.run(&["sink", "forget", "trail"]).await;
    assert_eq!(unknown.code, 2, "{unknown:?}");
    let started = stage.run(&["run", "--forget-sink", "trail"]).await;
    assert!(
        started.code == 2
            && started
                .err
                .contains("--forget-sink trail: no journal has a cursor"),
        "{started:?}"
    );
}
