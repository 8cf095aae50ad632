//! Values that are masked: in no file, no sink and no output, from the first record on or from a later configuration on.

use std::path::Path;

use bridge_servers::{eventually, real_servers};
use serde_json::Value;

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, source};
use crate::writer::Writer;

const SECRET: &str = "hunter2-is-the-password";
const NEWER: &str = "hunter3-is-the-password";
const SINK: &str = "[[sink]]\nname = \"file\"\ntype = \"file\"\npath = \"out.jsonl\"\n";

/// The files below a folder that hold a text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// The JSON lines of the sink for a path.
fn delivered(bridge: &Bridge, path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(bridge.folder().join("out.jsonl")).unwrap();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["path"] == path).collect()
}

fn output(bridge: &Bridge, args: &[&str]) -> String {
    let output = bridge.command(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// No command that prints values, and no file, has one of the secrets.
fn assert_hidden(bridge: &Bridge, path: &str) {
    for args in [
        &["tail", "--wide"][..],
        &["history", path],
        &["history", path, "--json"],
        &["journal", "export"],
        &["journal", "export", "--format", "csv"],
        &["status", "--json"],
    ] {
        let text = output(bridge, args);
        assert!(!text.contains("hunter"), "{args:?}: {text}");
    }
    for secret in [SECRET, NEWER] {
        assert_eq!(holding(bridge.folder(), secret), [""; 0]);
    }
    let log = bridge.log().join("\n");
    assert!(!log.contains("hunter"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_masked_value_is_in_no_file_no_sink_and_no_output_and_its_changes_show() {
    real_servers!("masked values");
    let place = Place::shared().await;
    let writer = Writer::connect(&place.direct).await;
    writer.create("/masked", "root").await;
    writer.create("/masked/secret", SECRET).await;
    let mask = "mask = [\"/masked/secret\"]\n";
    let source = source("main", &place, &["/masked".to_owned()]);
    let mut bridge = Bridge::configured(&format!("{source}{mask}{SINK}"));
    bridge.start_ready().await;
    writer.create("/masked/open", "seen").await;
    writer.set("/masked/secret", SECRET).await;
    writer.set("/masked/secret", NEWER).await;
    bridge.at_rest().await;

    let records = delivered(&bridge, "/masked/secret");
    let value = |record: &Value, side: &str| record[side]["data"]["value"].as_str().unwrap().to_owned();
    let [first, .., last] = &records[..] else {
        panic!("{records:#?}");
    };
    for record in &records {
        assert_eq!(record["after"]["data"]["masked"], true, "{record:#}");
        assert_eq!(record["after"]["data"]["size"], SECRET.len(), "{record:#}");
        assert!(value(record, "after").starts_with("hmac-sha256:"), "{record:#}");
    }
    assert_eq!(value(last, "before"), value(first, "after"), "the same value");
    assert_ne!(value(last, "before"), value(last, "after"), "another value");
    assert!(!holding(bridge.folder(), "seen").is_empty());
    assert_hidden(&bridge, "/masked/secret");
    let verified = bridge.command(&["verify"]).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let key = bridge.folder().join("data/main.mask-key");
    let key = std::fs::read_to_string(key).unwrap();
    assert_eq!(
        holding(bridge.folder(), key.trim()).len(),
        1,
        "the key is in its file alone"
    );

    // The key is kept: a later value of the same text has the same digest.
    bridge.terminate().await;
    bridge.start_ready().await;
    writer.set("/masked/secret", SECRET).await;
    bridge.at_rest().await;
    let records = delivered(&bridge, "/masked/secret");
    assert_eq!(
        value(records.last().unwrap(), "after"),
        value(&records[0], "after")
    );
    bridge.terminate().await;
    assert_hidden(&bridge, "/masked/secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_that_is_added_later_replaces_what_the_journal_has_and_a_missing_one_is_warned_of() {
    real_servers!("a mask that comes later");
    let place = Place::shared().await;
    let writer = Writer::connect(&place.direct).await;
    for path in ["/unmasked", "/unmasked/config", "/unmasked/config/users"] {
        writer.create(path, "").await;
    }
    let path = "/unmasked/config/users/alice";
    writer.create(path, SECRET).await;
    let source = source("main", &place, &["/unmasked".to_owned()]);
    let mut bridge = Bridge::configured(&format!("{source}{SINK}"));
    for args in [&["check", "--connect"][..], &["doctor"]] {
        let text = output(&bridge, args);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains("secrets are captured as they are") && text.contains(path),
            "{text}"
        );
        assert!(text.contains("Kafka: SCRAM") && text.contains("'mask'"), "{text}");
    }
    bridge.start_ready().await;
    bridge.at_rest().await;
    assert!(!holding(bridge.folder(), SECRET).is_empty());

    let mask = "mask = [\"/**/config/users/*\"]\n";
    bridge.configure(&format!("{source}{mask}{SINK}"));
    let reloaded = output(&bridge, &["reload"]);
    bridge.ready().await;
    assert!(
        bridge.has_logged(&["values of masked paths"]),
        "{reloaded}\n{:#?}",
        bridge.log()
    );
    std::fs::remove_file(bridge.folder().join("out.jsonl")).unwrap();
    writer.set(path, NEWER).await;
    bridge
        .until("the change to be delivered", |_| {
            bridge.folder().join("out.jsonl").exists() && !delivered(&bridge, path).is_empty()
        })
        .await;
    let records = delivered(&bridge, path);
    assert!(
        records
            .iter()
            .all(|record| record["before"]["data"]["masked"] == true
                && record["after"]["data"]["masked"] == true),
        "{records:#?}"
    );
    assert_hidden(&bridge, path);
    let text = output(&bridge, &["check", "--connect"]);
    assert!(!text.contains("secrets are captured"), "{text}");
    bridge.terminate().await;
    assert_hidden(&bridge, path);
}

/// A reader that keeps a transaction on the journal: a new mask is not done while it does.
fn held_reader(bridge: &Bridge) -> rusqlite::Connection {
    let reader = rusqlite::Connection::open(bridge.folder().join("data/main.journal")).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let read = reader.query_row("SELECT count(*) FROM record", [], |row| row.get::<_, i64>(0));
    assert!(read.unwrap() > 0);
    reader
}

/// A bridge that has delivered a secret, and its configuration with a mask for it.
async fn with_a_secret(root: &str) -> (Bridge, Writer, String) {
    let place = Place::shared().await;
    let writer = Writer::connect(&place.direct).await;
    writer.create(root, "").await;
    writer.create(&format!("{root}/secret"), SECRET).await;
    let source = source("main", &place, &[root.to_owned()]);
    let mut bridge = Bridge::configured(&format!("{source}{SINK}"));
    bridge.start_ready().await;
    bridge.at_rest().await;
    let masked = format!("{source}mask = [\"{root}/secret\"]\n{SINK}");
    (bridge, writer, masked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_a_new_mask_goes_over_the_journal_ends_that_and_the_next_start_goes_on() {
    real_servers!("a stop during a new mask");
    let (mut bridge, _writer, masked) = with_a_secret("/mask-stop").await;
    let reader = held_reader(&bridge);
    bridge.configure(&masked);
    let process = bridge.child().id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-HUP", &process])
        .status();
    assert!(sent.unwrap().success());
    eventually("the mask to begin", BOUND, || async {
        bridge.has_logged(&["the masks are not those of the journal"])
    })
    .await
    .unwrap();
    bridge.terminate().await;
    assert!(
        bridge.has_logged(&["the opening of the journal was interrupted"]),
        "{:#?}",
        bridge.log()
    );

    // A stop of that start ends as soon.
    bridge.start().await;
    assert!(
        !holding(&bridge.folder().join("data"), SECRET).is_empty(),
        "the reader keeps the log"
    );
    bridge.terminate().await;
    drop(reader);
    std::fs::remove_file(bridge.folder().join("out.jsonl")).unwrap();
    bridge.start_ready().await;
    assert_hidden(&bridge, "/mask-stop/secret");
    bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_mask_that_takes_long_holds_back_no_page_and_no_reload_but_those_of_its_own_source() {
    real_servers!("reloads during a new mask");
    let (mut bridge, _writer, masked) = with_a_secret("/mask-reload").await;
    let reader = held_reader(&bridge);
    bridge.configure(&masked);
    let reloaded = output(&bridge, &["reload"]);
    assert!(reloaded.contains("opening    source 'main'"), "{reloaded}");
    let other = format!("{masked}[[sink]]\nname = \"more\"\ntype = \"file\"\npath = \"more.jsonl\"\n");
    bridge.configure(&other);
    let refused = output(&bridge, &["reload"]);
    assert!(
        refused.contains("nothing was changed: the journal of source 'main' is still being opened"),
        "{refused}"
    );
    let status = bridge.status().await;
    let trouble = status["sources"][0]["trouble"].as_str().unwrap_or_default();
    assert!(trouble.contains("its journal is being opened"), "{status:#}");

    drop(reader);
    bridge.ready().await;
    let reloaded = output(&bridge, &["reload"]);
    assert!(reloaded.contains("started    sink 'more'"), "{reloaded}");
    bridge.terminate().await;
}
