//! Requests that Schemathesis makes from docs/openapi.json, right and wrong ones: each answer must be one that the
//! description has. `make fuzz` makes `ZKBRIDGE_FUZZ` times as many.

use std::time::Duration;

use bridge_servers::{Python, eventually, real_servers};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::bridge::BOUND;
use crate::caller::{TOKEN, ask, json as answer_of, with_token};
use crate::refusing::refusing;
use crate::stage::{Stage, zookeeper};

/// Runs Schemathesis in a folder, where it leaves files, with arguments: a JSON object on standard input.
const RUN: &str = "
import json, os, sys
from schemathesis.cli import schemathesis
order = json.load(sys.stdin)
os.chdir(order['folder'])
schemathesis(order['arguments'])
";

/// Random requests to each route, beside those that cover its parameters one by one.
const EXAMPLES: u64 = 5;

/// Requests that are made at the least; fewer are a sign that the description was not understood.
const REQUESTS_MIN: u64 = 500;

/// Streams that are asked for with random parameters.
const STREAMS: u64 = 60;

/// Time for a run on a machine that is busy with other tests.
const RUN_BOUND: Duration = Duration::from_secs(600);

/// Answers that hold against the description.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,response_headers_conformance,negative_data_rejection,unsupported_method,\
    allow_header_conformance,ignored_auth";

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// A bridge with versions, a delete, a gap, an ephemeral znode, unusual names and values, dead letters, and the history
/// from before its journal.
async fn story(name: &str) -> (Stage, JoinHandle<()>) {
    let (port, serving) = refusing("b").await;
    let hook = format!(
        "[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         allow_private_addresses = true\n"
    );
    let mut stage = Stage::set_with(name, &hook).await;
    with_token(&stage.bridge);
    let early = stage.path("early");
    let options = zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
    stage
        .client
        .create(&early, b"before the bridge", &options)
        .await
        .unwrap();
    stage.client.delete(&early, None).await.unwrap();
    stage.bridge.start_ready().await;
    for name in ["a", "b", "a/x"] {
        stage.create(name, "one").await;
        stage.write(name, "{\"two\": 2}").await;
    }
    // A name that JSON escapes, so that the stage cannot wait for its line.
    let unusual = stage.path("a/ä \u{202e}\"'%");
    stage.client.create(&unusual, b"one", &options).await.unwrap();
    stage.bridge.at_rest().await;
    stage.create_ephemeral("a/session", "\u{0}\u{1b}[0m").await;
    stage.delete("b").await;
    stage.bridge.kill().await;
    let path = stage.path("a");
    stage.client.set_data(&path, &[0xff, 0xfe], None).await.unwrap();
    stage.bridge.start_ready().await;
    stage.write("a", "three").await;
    let set_aside = eventually("dead letters", BOUND, || async {
        let status: Value = answer_of(stage.bridge.address(), "/sinks").await;
        let sinks = status.as_array().unwrap().iter();
        sinks
            .filter(|sink| sink["sink"] == "hook")
            .any(|sink| sink["dead_letters"].as_u64() > Some(0))
    });
    if let Err(error) = set_aside.await {
        panic!("{error}: {:#}", answer_of(stage.bridge.address(), "/sinks").await);
    }
    let logs = zookeeper().await.data_dir(0);
    let backfilled = stage
        .run(&["backfill", "main", "--from", logs.to_str().unwrap()])
        .await;
    backfilled.ended(0);
    (stage, serving)
}

/// Values that a random text would never have, for each parameter; its schema gives others.
async fn known(stage: &Stage) -> Value {
    let (root, address) = (&stage.root, stage.bridge.address());
    let mut cursors = Vec::new();
    for target in [
        format!("/sources/main/children?path={root}&limit=1"),
        format!("/sources/main/history?path={root}/a&limit=1"),
        format!("/sources/main/changes?under={root}&limit=1"),
        "/sources/main/changes?order=newest&limit=1".to_owned(),
        format!("/sources/main/diff?under={root}&a=0&limit=1"),
        "/sources/main/letters?sink=hook&limit=1".to_owned(),
    ] {
        if let Some(next) = answer_of(address, &target).await["next"].as_str() {
            cursors.push(next.to_owned());
            // One that was cut, and one that was changed.
            cursors.push(next[..next.len() - 2].to_owned());
            cursors.push(format!("{}ff", &next[..next.len() - 2]));
        }
    }
    assert!(cursors.len() >= 9, "lists have a next page: {cursors:?}");
    let moments = [
        "0",
        "3",
        "1000",
        "now",
        "0x1",
        "0x7fffffffffffffff",
        "15m",
        "2026-11-22",
        "2100-01-01T00:00:00Z",
        "9999999999",
        "-1",
    ];
    json!({
        "source": ["main", "none"],
        "sink": ["audit", "hook", "none"],
        "seq": [0, 1, 3, 9, u64::MAX],
        "path": [root, format!("{root}/a"), format!("{root}/b"), format!("{root}/early"), "/none", "/", "a", "/zookeeper"],
        "under": [root, "/", format!("{root}/*"), "/[", "**"],
        "glob": ["/**", format!("{root}/*"), "{", "/[a"],
        "op": ["create", "update,delete", "gap_begin", "create,", "none"],
        "session": ["0x0", "0x0100002f037b0000", "x"],
        "text": ["one", "\"two\": 2", "\u{0}"],
        "prefix": ["a", "ä"],
        "after": ["x", "0"],
        "cursor": cursors,
        "at": moments, "from": moments, "to": moments, "a": moments, "b": moments,
    })
}

/// The description that is checked in, with the known values.
async fn description(stage: &Stage) -> Value {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json")).unwrap();
    let mut description: Value = serde_json::from_str(&text).unwrap();
    let known = known(stage).await;
    for route in description["paths"].as_object_mut().unwrap().values_mut() {
        for parameter in route["get"]["parameters"].as_array_mut().into_iter().flatten() {
            let values = known.get(parameter["name"].as_str().unwrap());
            if let Some(values) = values.filter(|_| parameter["schema"]["enum"].is_null()) {
                parameter["schema"] = json!({"anyOf": [{"enum": values}, parameter["schema"]]});
            }
        }
    }
    description
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_a_running_bridge_is_one_that_the_description_has() {
    real_servers!("the description of the API");
    let (stage, serving) = story("described").await;
    let description = description(&stage).await;
    let file = stage.bridge.folder().join("openapi.json");
    std::fs::write(&file, description.to_string()).unwrap();
    let (seed, times) = (number("ZKBRIDGE_SEED", 7), number("ZKBRIDGE_FUZZ", 1));
    println!("seed {seed}");
    let arguments = json!([
        "run",
        file,
        "--url",
        format!("http://{}", stage.bridge.address()),
        "--header",
        format!("Authorization: Bearer {TOKEN}"),
        "--checks",
        CHECKS,
        // A stream has no end: the test below asks for them.
        "--exclude-path-regex",
        "/stream$",
        "--phases",
        "coverage,fuzzing",
        "--mode",
        "all",
        "--max-examples",
        (EXAMPLES * times).to_string(),
        "--request-timeout",
        "30",
        "--generation-database",
        "none",
        "--seed",
        seed.to_string(),
        "--no-color",
    ]);
    let order = json!({"folder": stage.bridge.folder(), "arguments": arguments});
    let bound = RUN_BOUND * u32::try_from(times).unwrap();
    let ran = Python::SCHEMATHESIS
        .run_within(RUN, order.to_string().as_bytes(), bound)
        .await;
    let report =
        ran.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{}", stage.bridge.log().join("\n")));
    // The control: it has asked.
    let words: Vec<&str> = report.split_whitespace().collect();
    let generated = words
        .windows(2)
        .find(|two| two[1] == "generated,")
        .map(|two| two[0]);
    let generated: u64 = generated.and_then(|count| count.parse().ok()).unwrap_or_default();
    println!("{generated} requests");
    assert!(generated >= REQUESTS_MIN, "{report}");
    serving.abort();
}

/// A parameter of a stream, right or wrong.
fn parameter(random: &mut StdRng, root: &str) -> String {
    let values: [(&str, &[&str]); 6] = [
        (
            "under",
            &["/", "/described-streams/a", "/[", "x", "", "%FF", "/%00"],
        ),
        ("glob", &["/**", "{", "*", "%E2%80%AE"]),
        ("op", &["create", "create,update", "none", ","]),
        (
            "after",
            &[
                "0",
                "1",
                "18446744073709551615",
                "18446744073709551616",
                "-1",
                "x",
            ],
        ),
        ("rate", &["0", "1", "4294967295", "4294967296", "1e3"]),
        ("unknown", &["1"]),
    ];
    let (name, values) = values[random.random_range(0..values.len())];
    match random.random_range(0..5) {
        0 => format!("under={root}"),
        _ => format!("{name}={}", values[random.random_range(0..values.len())]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_that_is_asked_for_begins_or_is_answered_with_a_described_problem() {
    real_servers!("the description of the streams");
    let (stage, serving) = story("described-streams").await;
    let (seed, times) = (number("ZKBRIDGE_SEED", 7), number("ZKBRIDGE_FUZZ", 1));
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json")).unwrap();
    let description: Value = serde_json::from_str(&text).unwrap();
    let described = &description["paths"]["/api/v1/sources/{source}/stream"]["get"]["responses"];
    let (mut begun, mut refused) = (0, 0);
    for _ in 0..STREAMS * times {
        let source = ["main", "main", "main", "none", "%2e%2e"][random.random_range(0..5)];
        let count = random.random_range(0..3);
        let query: Vec<String> = (0..count).map(|_| parameter(&mut random, &stage.root)).collect();
        let target = format!("/sources/{source}/stream?{}", query.join("&"));
        let last = ["", "Last-Event-ID: 2\r\n", "Last-Event-ID: x\r\n"][random.random_range(0..3)];
        let answered = ask(stage.bridge.address(), &target, last).await;
        let answered = answered.unwrap_or_else(|| panic!("seed {seed}: {target}: no answer"));
        let (code, kind) = (answered.code, answered.header("content-type").to_owned());
        assert!(
            described.get(code.to_string()).is_some(),
            "seed {seed}: {target}: {code}"
        );
        assert!(code < 500 || code == 503, "seed {seed}: {target}: {code}");
        if code == 200 {
            begun += 1;
            assert_eq!(kind, "text/event-stream", "seed {seed}: {target}");
            continue;
        }
        refused += 1;
        assert_eq!(kind, "application/problem+json", "seed {seed}: {target}");
        let problem: Value = serde_json::from_str(&answered.body().await).unwrap();
        assert_eq!(problem["status"], code, "{problem}");
        assert!(
            problem["remedy"].as_str().is_some_and(|text| !text.is_empty()),
            "{problem}"
        );
    }
    // The control: both were asked for.
    assert!(begun > 5 && refused > 5, "{begun} {refused}");
    serving.abort();
}
