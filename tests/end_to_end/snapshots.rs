//! The present state sent again to one sink, which is a file: with the bridge killed in the middle and changes all the
//! while.

use std::collections::{BTreeMap, BTreeSet};

use bridge_servers::real_servers;
use serde_json::Value;

use crate::bridge::Bridge;
use crate::stage::{Place, source};
use crate::writer::{Storm, Writer};

const ROOT: &str = "/snapshots";

/// The lines of a sink's file after the first `skip`.
fn lines(bridge: &Bridge, file: &str, skip: usize) -> Vec<Value> {
    let text = std::fs::read_to_string(bridge.folder().join(file)).expect("the sink has written");
    let lines = text.lines().skip(skip);
    lines
        .map(|line| serde_json::from_str(line).expect("a whole line"))
        .collect()
}

/// The fold of these records alone.
fn fold(records: &[Value]) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    for record in records {
        let Some(path) = record["path"].as_str() else {
            continue;
        };
        match record["op"].as_str() {
            Some("delete") => drop(tree.remove(path)),
            Some("create" | "update" | "snapshot") => {
                let mzxid = record["after"]["stat"]["mzxid"].as_str().unwrap_or_default();
                tree.insert(path.to_owned(), mzxid.to_owned());
            }
            _ => {}
        }
    }
    tree
}

fn ordered(bridge: &Bridge, words: &[&str]) -> (Option<i32>, String) {
    let output = bridge
        .command(&[&["snapshot"], words].concat())
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_ordered_sink_gets_a_snapshot_even_over_a_kill_and_a_storm() {
    real_servers!("a snapshot for one sink");
    let place = Place::shared().await;
    let writer = Writer::connect(&place.direct).await;
    writer.create(ROOT, "the root").await;
    writer.create(&format!("{ROOT}/part"), "").await;
    for node in 0..300 {
        let value = format!("{node} ").repeat(500);
        writer.create(&format!("{ROOT}/part/node-{node:03}"), value).await;
    }
    let sink =
        |name: &str| format!("[[sink]]\nname = \"{name}\"\ntype = \"file\"\npath = \"{name}.jsonl\"\n");
    let roots = [ROOT.to_owned()];
    let parts = [source("main", &place, &roots), sink("one"), sink("two")].concat();
    let mut bridge = Bridge::configured(&parts);

    bridge.start_ready().await;
    bridge.at_rest().await;
    let (code, said) = ordered(&bridge, &["--sink", "three"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = ordered(&bridge, &["--sink", "one", "--path", "/elsewhere"]);
    assert_eq!((code, said.contains(ROOT)), (Some(2), true), "{said}");
    let (known, others) = (
        lines(&bridge, "one.jsonl", 0).len(),
        lines(&bridge, "two.jsonl", 0).len(),
    );

    let mut storm = Storm::new(&writer, ROOT, 7);
    storm.blow(50).await;
    let (code, said) = ordered(&bridge, &["--sink", "one"]);
    assert_eq!(code, Some(0), "{said}");
    bridge.kill().await;
    storm.blow(50).await;
    let (code, said) = ordered(&bridge, &["--sink", "one"]);
    assert_eq!((code, said.contains("no bridge runs")), (Some(1), true), "{said}");

    bridge.start_ready().await;
    bridge.at_rest().await;
    bridge
        .until("the end of the run", |status| {
            let sinks = status["sinks"].as_array().expect("there are sinks");
            sinks
                .iter()
                .all(|sink| sink["snapshot"].is_null() && sink["lag_records"] == 0)
        })
        .await;
    let records = lines(&bridge, "one.jsonl", known);
    let tree = writer.tree(&roots).await;
    let expected: BTreeMap<String, String> = tree
        .iter()
        .map(|(path, node)| (path.clone(), format!("0x{:016x}", node.mzxid)))
        .collect();
    assert_eq!(fold(&records), expected);
    // Records in flight at the kill may be repeated, with the same id.
    let ended = records.iter().filter(|record| record["op"] == "snapshot_end");
    let runs: BTreeSet<String> = ended.map(|record| record["id"].to_string()).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    let of_others = lines(&bridge, "two.jsonl", others);
    assert!(of_others.iter().all(|record| record["op"] != "snapshot"));

    let known = lines(&bridge, "one.jsonl", 0).len();
    let part = format!("{ROOT}/part/node-007");
    let (code, said) = ordered(&bridge, &["--sink", "one", "--path", &part]);
    assert_eq!(code, Some(0), "{said}");
    bridge.at_rest().await;
    bridge
        .until("the end of the run", |status| {
            status["sinks"][0]["snapshot"].is_null()
        })
        .await;
    let records = lines(&bridge, "one.jsonl", known);
    let ops: Vec<_> = records
        .iter()
        .map(|record| record["op"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(ops, ["snapshot_begin", "snapshot", "snapshot_end"]);
    assert_eq!(records[1]["path"], part.as_str());
    bridge.terminate().await;
}
