//! A sink that merges, beside one that does not.

use bridge_servers::real_servers;
use serde_json::Value;

use crate::bridge::Bridge;
use crate::stage::{Place, source};
use crate::writer::Writer;

const ROOT: &str = "/merging";

/// The records of a path in a sink's file.
fn records_of(bridge: &Bridge, file: &str, path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(bridge.folder().join(file)).expect("the sink has written");
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
    records.filter(|record| record["path"] == path).collect()
}

/// Versions of it that the records account for.
fn versions(records: &[Value]) -> u64 {
    let of = |record: &Value| match record["op"].as_str() {
        Some("update") => record["missed"].as_u64().unwrap_or_default() + 1,
        _ => 0,
    };
    records.iter().map(of).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writes_only_the_last_of_each_window_is_delivered_and_all_are_accounted_for() {
    real_servers!("a sink that merges");
    let place = Place::shared().await;
    let writer = Writer::connect(&place.direct).await;
    writer.create(ROOT, "the root").await;
    let sink = |name: &str, merge: &str| {
        format!(
            "[[sink]]\nname = \"{name}\"\ntype = \"file\"\npath = \"{name}.jsonl\"\nmerge = \"{merge}\"\n"
        )
    };
    let roots = [ROOT.to_owned()];
    let parts = [
        source("main", &place, &roots),
        sink("state", "2s"),
        sink("steps", "off"),
    ]
    .concat();
    let mut bridge = Bridge::configured(&parts);
    bridge.start_ready().await;
    let busy = format!("{ROOT}/busy");
    writer.create(&busy, "0").await;
    for write in 1..=200 {
        writer.set(&busy, format!("{write}")).await;
    }
    bridge.at_rest().await;

    let (state, steps) = (
        records_of(&bridge, "state.jsonl", &busy),
        records_of(&bridge, "steps.jsonl", &busy),
    );
    assert_eq!((versions(&state), versions(&steps)), (200, 200));
    assert!(state.len() < steps.len(), "{} and {}", state.len(), steps.len());
    assert_eq!(state[0]["op"], "create");
    for records in [&state, &steps] {
        let last = records.last().expect("the path has a record");
        assert_eq!(last["after"]["data"]["value"], "200");
    }
    assert_eq!(
        state.last().map(|last| &last["id"]),
        steps.last().map(|last| &last["id"])
    );
    let labels = [("sink", "state")];
    let merged = bridge.metric("zkbridge_sink_merged_records_total", &labels).await;
    assert!(merged >= 1.0, "{merged}");
    bridge.terminate().await;
}
