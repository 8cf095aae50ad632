//! Commands: the real binary between a real ZooKeeper and a command that is run for each change.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bridge_servers::{eventually, real_servers};
use serde_json::Value;

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, source};
use crate::writer::Writer;

/// Appends its input to `$0/lines`. A record of `/exec/slow` waits for the file `$0/go` first, and shows by
/// `$0/waits` that it does.
const APPEND: &str = r#"
in=$(cat)
case "$in" in
    *'"/exec/slow"'*) echo $$ > "$0/waits"; while [ ! -e "$0/go" ]; do sleep 0.1; done;;
    *'"/exec/never"'*) echo 'no such customer' >&2; exit 65;;
    *'"/exec/refused"'*) [ -e "$0/open" ] || exit 1;;
esac
printf '%s\n' "$in" >> "$0/lines""#;

/// The lines of a sink whose command has a lock of its own, so that a run that a killed bridge has left is not overlapped.
fn sink(folder: &Path, lines: &str) -> String {
    let lock = folder.join("lock");
    format!(
        "[[sink]]\nname = \"run\"\ntype = \"exec\"\ncommand = [\"flock\", {lock:?}, \"sh\", \"-c\", '''{APPEND}''', \
         {folder:?}]\nretry = {{ first = \"50ms\", max = \"300ms\" }}\n{lines}\n"
    )
}

fn records(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("lines")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line is a whole record"))
        .collect()
}

/// The ops of a path, each record once, in the order of arrival.
fn story(records: &[Value], path: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let of_path = records.iter().filter(|record| record["path"] == path);
    let fresh = of_path.filter(|record| seen.insert(record["id"].to_string()));
    fresh
        .map(|record| record["op"].as_str().unwrap_or("?").to_owned())
        .collect()
}

async fn has_ops(bridge: &Bridge, folder: &Path, path: &str, expected: &[&str]) {
    let found = eventually(format!("{expected:?} of {path}"), BOUND, || async {
        story(&records(folder), path) == expected
    });
    if let Err(error) = found.await {
        let log = bridge.log().join("\n");
        panic!(
            "{error}: {:#?}\n{:#}\n{log}",
            records(folder),
            bridge.status().await
        );
    }
}

async fn until_there(file: &Path) {
    let there = eventually(file.display().to_string(), BOUND, || async { file.exists() });
    there.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_every_change_of_a_path_in_order_over_kills_of_the_bridge() {
    real_servers!("a command between kills of the bridge");
    let place = Place::shared().await;
    let writer = Writer::connect(&place.direct).await;
    writer.create("/exec", "root").await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let of_source = source("main", &place, &["/exec".to_owned()]);
    let mut bridge = Bridge::configured(&(of_source + &sink(folder, "timeout = \"2s\"")));
    bridge.start_ready().await;
    writer.create("/exec/a", "1").await;
    writer.set("/exec/a", "2").await;
    has_ops(&bridge, folder, "/exec/a", &["create", "update"]).await;

    writer.create("/exec/slow", "1").await;
    until_there(&folder.join("waits")).await;
    bridge.kill().await;
    writer.set("/exec/slow", "2").await;
    writer.delete("/exec/a").await;
    bridge.start_ready().await;
    // The run that the killed bridge has left holds the lock: those of the next bridge wait for it, and time out.
    bridge
        .until("a run that timed out", |status| {
            status["sinks"][0]["error"]
                .to_string()
                .contains("ran longer than 2s")
        })
        .await;
    assert_eq!(story(&records(folder), "/exec/slow"), [""; 0]);
    fs::write(folder.join("go"), "").unwrap();
    has_ops(&bridge, folder, "/exec/slow", &["create", "update"]).await;
    has_ops(&bridge, folder, "/exec/a", &["create", "update", "delete"]).await;
    bridge.at_rest().await;
    let all = records(folder);
    let seqs: Vec<u64> = all
        .iter()
        .filter(|record| record["path"] == "/exec/slow")
        .map(|record| record["seq"].as_u64().unwrap())
        .collect();
    assert!(
        seqs.is_sorted(),
        "a run overlapped the one of the killed bridge: {seqs:?}"
    );
    let runs = bridge
        .metric("zkbridge_command_runs_total", &[("end", "success")])
        .await;
    assert!(runs >= 3.0, "{runs}");
    bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_connects_finds_a_program_that_cannot_be_run_and_a_test_runs_it_once() {
    real_servers!("a command under check");
    let place = Place::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str], command: &str| {
        let of_sink = format!("[[sink]]\nname = \"run\"\ntype = \"exec\"\ncommand = {command}\n");
        let bridge = Bridge::configured(&(source("main", &place, &["/".to_owned()]) + &of_sink));
        let output = bridge.command(args).output().unwrap();
        // Joins the lines that were wrapped at the width of a terminal.
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        (output.status.code(), words.join(" "))
    };
    let check = ["check", "--connect"];
    let (code, text) = run(&check, "[\"cat\"]");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ok sink 'run'"), "{text}");
    let (code, text) = run(&check, "[\"/no/such/program\"]");
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("cannot run /no/such/program"), "{text}");
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    let (code, text) = run(&check, &format!("[{plain:?}]"));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("may not execute it: change its mode"), "{text}");

    let file = folder.path().join("test");
    let script = "cat > \"$0\"; echo posted as 7";
    let (code, text) = run(
        &["sink", "test", "run"],
        &format!("[\"sh\", \"-c\", '{script}', {file:?}]"),
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("status 0 (\"posted as 7\")"), "{text}");
    let sent: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(
        sent["path"].as_str().unwrap().starts_with("/zkbridge/example"),
        "{sent}"
    );
    let (code, text) = run(
        &["sink", "test", "run"],
        "[\"sh\", \"-c\", \"echo no >&2; exit 4\"]",
    );
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("ended with status 4"), "{text}");
}
