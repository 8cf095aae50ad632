//! `ls`, `cat`, `tree`, `diff`, `changes`, `activity` and `gaps`: each for people, and as the document that the HTTP API
//! serves; and `ui`, which opens a session there.

use std::net::SocketAddr;

use bridge_servers::real_servers;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bridge::BOUND;
use crate::golden;
use crate::stage::Stage;

/// A tree that is created, written and partly deleted.
async fn a_story(name: &str) -> Stage {
    let mut stage = Stage::set(name).await;
    stage.bridge.start_ready().await;
    stage.create("limits", r#"{"timeout": 250}"#).await;
    stage.create("services", "").await;
    stage.create("services/a", "10.0.0.7:8080").await;
    stage.create_ephemeral("services/b", "10.0.0.8:8080").await;
    stage.write("limits", r#"{"timeout": 900}"#).await;
    stage.delete("services/a").await;
    stage.create("escape", "not \u{1b}[31m red").await;
    stage
}

/// An answer: its head and its body.
async fn exchange(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(BOUND, stream.read_to_string(&mut answer)).await;
    read.expect("it answers in time").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Opens a session with the code of `zkbridge ui`. Returns its cookie.
async fn log_in(stage: &Stage) -> String {
    let link = stage.run(&["ui", "--json"]).await.json(0);
    let address = stage.bridge.address();
    assert_eq!(link["address"], address.to_string());
    let body = format!("{{\"code\": {}}}", link["code"]);
    let request = format!(
        "POST /api/v1/session HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (head, _) = exchange(address, &request).await;
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    let cookie = cookie.unwrap_or_else(|| panic!("{head}"));
    cookie.split(';').next().unwrap().to_owned()
}

async fn get(stage: &Stage, cookie: &str, target: &str) -> Value {
    let address = stage.bridge.address();
    let request = format!(
        "GET /api/v1{target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"
    );
    let (head, body) = exchange(address, &request).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{target}: {head}\n{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_prints_the_document_that_the_api_serves() {
    real_servers!("commands and the API");
    let mut stage = a_story("same").await;
    let cookie = log_in(&stage).await;
    let main = "/sources/main";
    for (args, target) in [
        (
            &["ls", "/same"][..],
            format!("{main}/children?path=/same&limit=200"),
        ),
        (
            &["ls", "/same/services", "--at", "6"],
            format!("{main}/children?path=/same/services&at=6&limit=200"),
        ),
        (&["cat", "/same/limits"], format!("{main}/node?path=/same/limits")),
        (
            &["history", "/same/limits", "--at", "4"],
            format!("{main}/node?path=/same/limits&at=4"),
        ),
        (
            &["diff", "/same", "4"],
            format!("{main}/diff?under=/same&a=4&limit=200"),
        ),
        (
            &["changes", "/same", "--op", "create", "--text", "10.0"],
            format!("{main}/changes?under=/same&op=create&text=10.0&limit=200"),
        ),
        (
            &["changes", "--path", "/same", "--op", "create", "--text", "10.0"],
            format!("{main}/changes?under=/same&op=create&text=10.0&limit=200"),
        ),
        (
            &["changes", "--newest"],
            format!("{main}/changes?order=newest&limit=200"),
        ),
        (
            &["activity", "--buckets", "4"],
            format!("{main}/activity?buckets=4"),
        ),
        (
            &["activity", "--path", "/same", "--buckets", "4"],
            format!("{main}/activity?under=/same&buckets=4"),
        ),
        (&["gaps"], format!("{main}/gaps?limit=200")),
    ] {
        let printed = stage.run(&[args, &["--json"]].concat()).await.json(0);
        let served = get(&stage, &cookie, &target).await;
        assert_eq!(printed, served, "{args:?} {target}");
    }
    stage.bridge.terminate().await;
    let gone = stage.run(&["ui"]).await;
    assert_eq!(gone.code, 1);
    assert!(gone.err.contains("no bridge runs"), "{}", gone.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_at_a_moment_is_printed_for_people() {
    real_servers!("the tree at a moment");
    let mut stage = a_story("moments").await;
    for (name, args) in [
        ("ls.txt", &["ls", "/moments"][..]),
        ("tree.txt", &["tree", "/moments", "--at", "6"]),
        ("diff.txt", &["diff", "/moments", "5"]),
        ("changes.txt", &["changes", "/moments/services"]),
    ] {
        let printed = stage.run(args).await;
        assert!(!printed.out.contains('\u{1b}'), "{}", printed.out);
        golden::check(name, &(printed.out + &printed.err));
    }
    let value = stage.run(&["cat", "/moments/limits", "--at", "5"]).await.ended(0);
    assert_eq!(value, r#"{"timeout": 250}"#);
    let gone = stage.run(&["cat", "/moments/services/a"]).await;
    assert_eq!((gone.code, gone.out.as_str()), (1, ""));
    assert!(gone.err.contains("it did not exist"), "{}", gone.err);
    let unknown = stage.run(&["cat", "/moments/never"]).await;
    assert!(unknown.code == 1 && unknown.err.contains("no journal has a record of /moments/never"));

    // A restart leaves a gap, and the same answers come from the journal of a stopped bridge.
    stage.bridge.terminate().await;
    stage.client.delete("/moments/limits", None).await.unwrap();
    stage.bridge.start_ready().await;
    stage.bridge.terminate().await;
    golden::check("gaps.txt", &stage.run(&["gaps"]).await.ended(0));
    let between = stage.run(&["diff", "/moments", "5", "--json"]).await.json(0);
    let kinds: Vec<(&str, &str)> = between["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["path"].as_str().unwrap(), item["kind"].as_str().unwrap()))
        .filter(|(path, _)| path.ends_with("limits"))
        .collect();
    assert_eq!(kinds, [("/moments/limits", "deleted")]);
    let activity = stage.run(&["activity"]).await.ended(0);
    assert!(
        activity.contains("delete") && activity.contains('█'),
        "{activity}"
    );
}
