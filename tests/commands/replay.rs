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
async fn records_are_replayed_by_a_running_bridge_and_at_the_next_start() {
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
    assert_eq!(out, "sink 'audit': 3 records delivered again\n");
    assert_eq!(delivered(&stage)[7..], [5, 6, 7]);
    let stale = stage
        .run(&["replay", "--sink", "audit", "--from", "4", "--to", "6"])
        .await;
    assert!(
        stale.code == 1
            && stale
                .err
                .contains("the range ends at record 6, and the last one of /replay/b is 7"),
        "an old value would be the newest one of a compacted topic: {stale:?}"
    );
    assert_eq!(delivered(&stage).len(), 10);
    let report = stage
        .run(&[
            "replay",
            "--force",
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
    assert!(none.err.contains("no record matches"), "{}", none.err);
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
    assert!(out.contains("2 records queued"), "{out}");
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

/// The records of a path in the file of the sink, from a line on: seq and value.
fn of_path(stage: &Stage, path: &str, from: usize) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(stage.bridge.folder().join("audit.jsonl")).unwrap();
    let records = text.lines().skip(from).map(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        let value = record["after"]["data"]["value"].as_str().unwrap_or_default();
        (record["path"] == path).then(|| (record["seq"].as_u64().unwrap(), value.to_owned()))
    });
    records.flatten().collect()
}

/// Waits until the sink has nothing more to do.
async fn done(stage: &Stage) {
    stage.bridge.at_rest().await;
    stage
        .bridge
        .until("no parked and no undelivered record", |status| {
            let sink = &status["sinks"][0];
            sink["parked"]["records"] == 0 && sink["snapshot"].is_null() && sink["lag_records"] == 0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_records_are_replayed_one_by_one_and_none_overtakes_a_pending_merge() {
    real_servers!("replay beside a window of merging");
    let mut stage = Stage::set_with("replay-merge", "merge = \"1s\"\n").await;
    stage.bridge.start_ready().await;
    let path = stage.path("busy");
    stage.create("busy", "0").await;
    set_each(&stage, &path, 1..=10).await;
    done(&stage).await;
    let merged = delivered(&stage).len();
    let tail = *delivered(&stage).last().unwrap();

    // While the next window is open, all that was merged before is wanted once more.
    set_each(&stage, &path, 11..=20).await;
    let to = tail.to_string();
    stage
        .run(&["replay", "--sink", "audit", "--from", "1", "--to", &to])
        .await
        .ended(0);
    done(&stage).await;

    let again: Vec<u64> = delivered(&stage)[merged..].to_vec();
    let missing: Vec<u64> = (1..=tail).filter(|seq| !again.contains(seq)).collect();
    assert!(missing.is_empty(), "{missing:?} of {again:?}");
    let records = of_path(&stage, &path, merged);
    assert_eq!(records.last().unwrap().1, "20", "{records:?}");
    let older = records.iter().filter(|(seq, _)| *seq <= tail);
    assert!(older.is_sorted(), "{records:?}");
    stage.run(&["journal", "check"]).await.ended(0);
    stage.bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_and_a_snapshot_that_are_ordered_together_both_finish() {
    real_servers!("replay beside a snapshot");
    let mut stage = Stage::set("replay-snapshot").await;
    stage.bridge.start_ready().await;
    for node in 0..40 {
        let path = stage.path(&format!("node-{node}"));
        let options =
            zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
        stage.client.create(&path, b"value", &options).await.unwrap();
    }
    done(&stage).await;
    let before = delivered(&stage).len();
    let tail = *delivered(&stage).last().unwrap();

    let (replayed, snapshot) = tokio::join!(
        stage.run(&["replay", "--sink", "audit", "--from", "1"]),
        stage.run(&["snapshot", "--sink", "audit", "--json"])
    );
    let ordered: Value = serde_json::from_str(&snapshot.out).unwrap();
    assert_eq!(
        ordered,
        serde_json::json!({"sink": "audit", "path": null, "sources": ["main"]})
    );
    assert_eq!(
        (replayed.code, snapshot.code),
        (0, 0),
        "{replayed:?} {snapshot:?}"
    );
    done(&stage).await;

    let text = std::fs::read_to_string(stage.bridge.folder().join("audit.jsonl")).unwrap();
    let behind: Vec<Value> = text
        .lines()
        .skip(before)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ends = behind.iter().filter(|record| record["op"] == "snapshot_end");
    assert!(ends.count() >= 1, "{text}");
    // Each znode arrives by the replay or by the retry, and every replayed record arrives.
    let again: Vec<u64> = behind
        .iter()
        .filter_map(|record| record["seq"].as_u64())
        .collect();
    let missing: Vec<u64> = (1..=tail).filter(|seq| !again.contains(seq)).collect();
    assert!(missing.is_empty(), "{missing:?} of {again:?}");
    stage.bridge.terminate().await;
}

async fn set_each(stage: &Stage, path: &str, values: std::ops::RangeInclusive<u32>) {
    for value in values {
        let value = value.to_string();
        let written = stage.client.set_data(path, value.as_bytes(), None).await;
        written.unwrap();
    }
}

/// Creates znodes below the root, many in one transaction.
async fn create_many(stage: &Stage, count: usize) {
    let options = zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let mut writer = stage.client.new_multi_writer();
        for number in chunk {
            let path = stage.path(&format!("n-{number:05}"));
            writer.add_create(&path, b"", &options).unwrap();
        }
        writer.commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_finds_the_retry_queue_full_ends_with_1_and_says_where_to_go_on() {
    real_servers!("replay into a full queue");
    let mut stage = Stage::set("replay-full").await;
    create_many(&stage, 10_000).await;
    stage.bridge.start_ready().await;
    done(&stage).await;
    stage.bridge.terminate().await;
    // The next start finds a full queue, and a destination that takes nothing of it.
    let queued = stage
        .run(&[
            "replay",
            "--sink",
            "audit",
            "--from",
            "1",
            "--path",
            "/replay-full/*",
        ])
        .await
        .ended(0);
    assert!(queued.contains("10000 records queued"), "{queued}");
    let file = stage.bridge.folder().join("audit.jsonl");
    let kept = stage.bridge.folder().join("kept.jsonl");
    std::fs::rename(&file, &kept).unwrap();
    std::os::unix::fs::symlink(stage.bridge.folder().join("missing/audit.jsonl"), &file).unwrap();
    stage.bridge.start_ready().await;

    let refused = stage
        .run(&[
            "replay",
            "--sink",
            "audit",
            "--from",
            "1",
            "--path",
            "/replay-full",
            "--json",
        ])
        .await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused
            .err
            .contains("1 record not queued for sink 'audit' of source 'main'")
            && refused
                .err
                .contains("the retry queue is full: 10000 records wait")
            && refused.err.contains("repeat the command with --from"),
        "the root alone is not in the queue: {refused:?}"
    );
    let report: Value = serde_json::from_str(&refused.out).unwrap();
    assert_eq!(report["sources"][0]["not_queued"], 1, "{report}");

    std::fs::remove_file(&file).unwrap();
    std::fs::rename(&kept, &file).unwrap();
    done(&stage).await;
    let from = report["sources"][0]["continue_from"].to_string();
    let again = stage
        .run(&[
            "replay",
            "--sink",
            "audit",
            "--from",
            &from,
            "--path",
            "/replay-full",
        ])
        .await
        .ended(0);
    assert!(again.contains("delivered again"), "{again}");
    stage.bridge.terminate().await;
}
