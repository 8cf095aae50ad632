//! `zkbridge journal`.

use bridge_servers::real_servers;
use serde_json::Value;

use crate::golden;
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_checked_and_exported_beside_the_bridge_and_compacted_without_it() {
    real_servers!("journal");
    let mut stage = Stage::set("journal").await;
    stage.bridge.start_ready().await;
    stage.create("a", "one").await;
    stage.write("a", "two").await;
    stage.create("b", "three").await;

    let text = stage.run(&["journal", "check"]).await.ended(0);
    golden::fits(&text);
    golden::check("journal-check.txt", &text);
    let exported = stage.run(&["journal", "export"]).await.ended(0);
    let delivered = std::fs::read_to_string(stage.bridge.folder().join("audit.jsonl")).unwrap();
    assert_eq!(exported, delivered, "both are all records");
    let part = stage
        .run(&[
            "journal",
            "export",
            "--from",
            "5",
            "--to",
            "5",
            "--path",
            "/journal/*",
        ])
        .await
        .ended(0);
    assert_eq!(part.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&part).unwrap()["seq"], 5);
    let written = ["journal", "export", "--output", "out.jsonl"];
    assert_eq!(stage.run(&written).await.ended(0), "6 records in out.jsonl\n");
    assert_eq!(stage.run(&written).await.code, 3, "nothing is overwritten");
    let refused = stage.run(&["journal", "compact"]).await;
    assert_eq!(refused.code, 3);
    assert!(
        refused.err.contains("applies retention itself"),
        "{}",
        refused.err
    );

    stage.bridge.terminate().await;
    let done = stage.run(&["journal", "compact", "--json"]).await.json(0);
    assert_eq!(done["compacted"][0]["removed"], 0);
    let report = stage.run(&["journal", "check", "--json"]).await.json(0);
    assert_eq!(
        (&report["ok"], &report["journals"][0]["records"]),
        (&Value::from(true), &Value::from(6))
    );
    stage.bridge.start_ready().await;
    stage.create("c", "it goes on").await;
}
