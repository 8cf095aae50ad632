//! `zkbridge services`: now, at a moment, and as it goes on.

use std::time::{Duration, Instant};

use bridge_servers::{Child, Line, eventually, real_servers};
use serde_json::Value;

use crate::bridge::BOUND;
use crate::stage::Stage;

const NAME: &str = "services-command";

fn registration(id: &str, host: &str) -> String {
    format!(r#"{{"name":"pay","id":"{id}","address":"{host}","port":8080}}"#)
}

/// The instances of a document, once it has so many.
async fn instances(stage: &Stage, args: &[&str], code: i32, count: usize) -> Vec<String> {
    let looked = eventually(format!("{count} instances of {args:?}"), BOUND, || async {
        let document = stage.run(args).await.json(code);
        let all = document[0]["instances"].as_array().unwrap();
        let names = all.iter().map(|one| one["instance"].as_str().unwrap().to_owned());
        let names: Vec<String> = names.collect();
        (names.len() == count).then_some(names)
    });
    looked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_those_of_now_of_a_moment_and_go_on_with_watch() {
    real_servers!("the command services");
    let section = format!("[[source.service]]\nformat = \"curator\"\nbase = \"/{NAME}/registry\"\n");
    let mut stage = Stage::set_with(NAME, &section).await;
    stage.bridge.start_ready().await;
    stage.create("registry", "").await;
    stage.create("registry/pay", "").await;
    let mut command = stage.bridge.command(&["services", "--watch", "--json"]);
    let mut watching = Child::start(command.env("TERM", "dumb")).unwrap();
    // It prints what comes after its start.
    stage.create("registry/early", "").await;
    let began = Instant::now();
    for name in (0..).map(|number| format!("registry/early/{number}")) {
        stage
            .create(&name, &registration("e", "h0").replace("pay", "early"))
            .await;
        stage.delete(&name).await;
        let is_printed = |lines: &[Line]| (!lines.is_empty()).then_some(());
        let seen = watching.until("an event", Duration::from_millis(500), is_printed);
        if seen.await.is_ok() {
            break;
        }
        assert!(began.elapsed() < BOUND, "the command prints no event");
    }
    stage.create("registry/pay/a", &registration("a", "h1")).await;
    stage
        .create_ephemeral("registry/pay/b", &registration("b", "h2"))
        .await;
    let (_, first) = stage
        .client
        .get_data(&stage.path("registry/pay/a"))
        .await
        .unwrap();
    let (_, second) = stage
        .client
        .get_data(&stage.path("registry/pay/b"))
        .await
        .unwrap();
    stage.delete("registry/pay/a").await;

    let now = instances(&stage, &["services", "--json"], 0, 1).await;
    assert_eq!(now, ["h2:8080"]);
    let at = format!("{:#x}", second.czxid);
    let both = instances(&stage, &["services", "--json", "--at", &at], 0, 2).await;
    assert_eq!(both, ["h1:8080", "h2:8080"]);
    let at = format!("{:#x}", first.czxid);
    assert_eq!(
        instances(&stage, &["services", "--json", "--at", &at], 0, 1).await,
        ["h1:8080"]
    );
    let text = stage.run(&["services", "--at", &at]).await.ended(0);
    assert!(
        text.starts_with("at record ") && text.contains("pay  1 of 1 available"),
        "{text}"
    );
    let later = stage.run(&["services", "--at", "2999-01-01T00:00:00Z"]).await;
    let text = later.ended(1);
    assert!(text.contains("h2:8080"), "what is known is printed:\n{text}");

    let what = "the events as lines";
    let seen = watching.until(what, BOUND, |lines| {
        let events = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(&line.text).ok())
            .filter(|event| event["service"] == "pay");
        let kinds: Vec<String> = events
            .filter_map(|event| event["type"].as_str().map(str::to_owned))
            .collect();
        let expected = ["instance.up", "service.available", "instance.up", "instance.down"];
        (kinds == expected).then_some(())
    });
    seen.await.unwrap();
    watching.interrupt().unwrap();
    assert_eq!(watching.exit_code(BOUND).await.unwrap(), 130);
    stage.run(&["services", "--at", "1", "--watch"]).await.ended(2);
    stage.bridge.terminate().await;
}
