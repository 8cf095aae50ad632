//! `zkbridge status`.

use bridge_servers::{Child, real_servers};
use serde_json::Value;

use crate::bridge::BOUND;
use crate::golden;
use crate::stage::{Stage, zookeeper};

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_a_running_bridge_and_the_journal_of_a_stopped_one() {
    real_servers!("status");
    let mut stage = Stage::set("status").await;
    let none = stage.run(&["status"]).await;
    assert_eq!(none.code, 3);
    assert!(none.err.contains("there is no journal in data"), "{}", none.err);

    stage.bridge.start_ready().await;
    stage.create("a", "one").await;
    stage
        .bridge
        .until("the journal to be measured", |status| {
            !status["sources"][0]["journal"]["oldest"].is_null()
        })
        .await;
    let text = stage.run(&["status"]).await.ended(0);
    golden::fits(&text);
    golden::check("status-running.txt", &text);
    let mut document = stage.run(&["status", "--json"]).await.json(0);
    let mut served = stage.bridge.status().await;
    assert_eq!(document["ready"], true);
    let server = zookeeper().await.connect_string();
    assert_eq!(document["sources"][0]["connected_to"], *server);
    assert!(
        stage.bridge.has_logged(&["\"connected\"", &server]),
        "{:?}",
        stage.bridge.log()
    );
    for changing in [&mut document, &mut served] {
        changing["time"] = Value::Null;
    }
    assert_eq!(document, served, "the command and /status give one document");

    stage.run(&["status", "--running"]).await.ended(0);

    stage.bridge.terminate().await;
    let probed = stage.run(&["status", "--running"]).await;
    assert_eq!((probed.code, probed.out.as_str()), (3, ""));
    assert!(probed.err.contains("no bridge runs on data"), "{}", probed.err);
    let text = stage.run(&["status"]).await.ended(0);
    golden::fits(&text);
    golden::check("status-stopped.txt", &text);
    let stopped = stage.run(&["status", "--json"]).await.json(0);
    assert_eq!(stopped["sources"][0]["connected_to"], Value::Null);
    assert_eq!(
        (&stopped["running"], &stopped["ready"]),
        (&Value::from(false), &Value::from(false))
    );
    assert_eq!(
        stopped["sources"][0]["reported"],
        document["sources"][0]["reported"]
    );
    assert_eq!(stopped["sinks"][0]["cursor"], document["sinks"][0]["cursor"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_names_each_obstacle_and_what_to_do() {
    real_servers!("status of trouble");
    let hook = "[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\n\
                allow_private_addresses = true\nsecrets = [\"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"]\n";
    let mut stage = Stage::set_with("status-trouble", hook).await;
    stage.bridge.start_ready().await;
    stage
        .bridge
        .until("the sink to fail", |status| {
            status["sinks"][1]["state"] == "backing_off"
        })
        .await;
    let text = stage.run(&["status"]).await.ended(0);
    golden::fits(&text);
    for words in [
        "sink hook from main: backing off",
        "unavailable",
        "help: check",
        "cursor      0 of 3",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_that_watches_shows_the_change_and_ends_with_the_signal() {
    real_servers!("status --watch");
    let mut stage = Stage::set("status-watch").await;
    stage.bridge.start_ready().await;
    let mut watching = Child::start(&stage.bridge.command(&["status", "--watch", "--json"])).unwrap();
    let found = watching.until("the running bridge", BOUND, |lines| {
        let text = &lines.last()?.text;
        serde_json::from_str::<Value>(text).ok()?["running"]
            .as_bool()
            .filter(|running| *running)
    });
    found.await.unwrap();
    stage.bridge.kill().await;
    let found = watching.until("its end", BOUND, |lines| {
        let text = &lines.last()?.text;
        serde_json::from_str::<Value>(text).ok()?["running"]
            .as_bool()
            .filter(|running| !*running)
    });
    found.await.unwrap();
    watching.terminate().unwrap();
    assert_eq!(watching.exit_code(BOUND).await.unwrap(), 143);
}
