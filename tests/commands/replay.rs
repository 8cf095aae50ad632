//! `zkbridge replay`.

use bridge_servers::real_servers;
use serde_json::Value;

use crate::stage::Stage;

/// The seqs in the file of the sink, in their order.
fn delivered(stage: &Stage) -> Vec<u64> {
    let text = std::fs::read_to_string(stage.bridge.folder().join("audit.jsonl")).unwrap();
    let seq = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["seq"]
            .as_u64()
            .unwrap()
    };
    text.lines().map(seq).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_once_more_beside_the_bridge_and_with_its_next_start() {
    real_servers!("replay");
    let mut stage = Stage::set("replay").await;
    stage.bridge.start_ready().await;
    for name in ["a", "b"] {
        stage.create(name, "first").await;
        stage.write(name, "second").await;
    }
    assert_eq!(delivered(&stage), [1, 2, 3, 4, 5, 6, 7]);
    let out = stage
        .run(&["replay", "--sink", "audit", "--from", "5"])
        .await
        .ended(0);
    assert_eq!(out, "sink 'audit': 3 records delivered once more\n");
    assert_eq!(delivered(&stage)[7..], [5, 6, 7]);
    let report = stage
        .run(&[
            "replay",
            "--sink",
            "audit",
            "--from",
            "1h",
            "--to",
            "6",
            "--path",
            "/replay/*",
            "--json",
        ])
        .await
        .json(0);
    assert_eq!(
        (&report["delivered"], &report["sources"][0]["records"]),
        (&true.into(), &3.into())
    );
    assert_eq!(delivered(&stage)[10..], [4, 5, 6]);
    let none = stage.run(&["replay", "--sink", "audit", "--from", "8"]).await;
    assert_eq!(none.code, 1);
    assert!(none.err.contains("has got no such record"), "{}", none.err);
    assert_eq!(
        stage
            .run(&["replay", "--sink", "other", "--from", "1"])
            .await
            .code,
        2
    );

    stage.bridge.terminate().await;
    let out = stage
        .run(&["replay", "--sink", "audit", "--from", "6"])
        .await
        .ended(0);
    assert!(out.contains("2 records put down"), "{out}");
    assert_eq!(delivered(&stage).len(), 13);
    stage.bridge.start_ready().await;
    stage
        .bridge
        .until("the records", |status| {
            status["sinks"][0]["parked"]["records"] == 0
        })
        .await;
    assert!(
        delivered(&stage)[13..].starts_with(&[6, 7]),
        "{:?}",
        delivered(&stage)
    );
    stage.run(&["journal", "check"]).await.ended(0);
}
