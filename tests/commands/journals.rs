//! `zkbridge journal` and `zkbridge restore-journal`.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

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

/// A user that is not the one of the test.
const OTHER_USER: u32 = 65_534;

fn audited(stage: &Stage) -> Vec<Value> {
    let text = std::fs::read_to_string(stage.bridge.folder().join("audit.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_the_bridge_is_restored_and_what_came_after_it_is_delivered_again() {
    real_servers!("backup");
    let mut stage = Stage::set("backup").await;
    stage.bridge.start_ready().await;
    stage.create("a", "one").await;
    let (backup, files) = (["journal", "backup", "saved"], ["saved", "saved/main.journal"]);
    let said = stage.run(&backup).await.ended(0);
    assert!(
        said.starts_with("journal of main: records up to ") && said.contains("saved/main.journal"),
        "{said}"
    );
    let mode = |name: &str| {
        let file = std::fs::metadata(stage.bridge.folder().join(name)).unwrap();
        file.permissions().mode() & 0o777
    };
    assert_eq!(files.map(mode), [0o700, 0o600]);
    let refused = stage.run(&backup).await;
    assert_eq!(refused.code, 3, "nothing is overwritten");
    stage.create("b", "after the backup").await;
    let before = audited(&stage);

    let restore = ["restore-journal", "saved"];
    let refused = stage.run(&[&restore[..], &["--force"]].concat()).await;
    assert_eq!(refused.code, 3);
    assert!(refused.err.contains("stop the bridge"), "{}", refused.err);
    stage.bridge.terminate().await;
    let refused = stage.run(&restore).await;
    assert_eq!(refused.code, 3);
    assert!(refused.err.contains("add --force"), "{}", refused.err);
    let nowhere = stage.run(&["restore-journal", "nowhere"]).await;
    assert_eq!(nowhere.code, 3);
    assert!(nowhere.err.contains("no copy of a journal"), "{}", nowhere.err);
    // As of another user, for whom root restores.
    let is_root = nix::unistd::Uid::effective().is_root();
    let data = stage.bridge.folder().join("data");
    if is_root {
        chown(&data, Some(OTHER_USER), Some(OTHER_USER)).unwrap();
    }
    let done = stage
        .run(&[&restore[..], &["--force", "--json"]].concat())
        .await
        .json(0);
    if is_root {
        for name in ["main.journal", "main.journal.lock"] {
            assert_eq!(
                std::fs::metadata(data.join(name)).unwrap().uid(),
                OTHER_USER,
                "{name}"
            );
        }
        chown(&data, Some(0), Some(0)).unwrap();
    }
    let tail = done["restored"][0]["tail"].as_u64().unwrap();
    assert!(
        done["restored"][0]["replaced"]
            .as_str()
            .unwrap()
            .ends_with(".replaced")
    );
    assert!(before.iter().any(|record| record["seq"].as_u64() > Some(tail)));

    stage.bridge.start_ready().await;
    stage.create("c", "it goes on").await;
    let after = audited(&stage);
    let is_b = |record: &&Value| record["path"] == stage.path("b");
    let ids: Vec<&Value> = after.iter().filter(is_b).map(|record| &record["id"]).collect();
    assert_eq!(ids.len(), 2, "it is delivered again: {ids:?}");
    assert_eq!(ids[0], ids[1], "under the same id");
    stage.run(&["journal", "check"]).await.ended(0);
}
