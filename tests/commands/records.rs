//! `zkbridge tail` and `zkbridge history`.

use bridge_servers::{Child, real_servers};
use serde_json::Value;

use crate::bridge::BOUND;
use crate::golden;
use crate::stage::Stage;

const FIRST: &str = r#"{"name": "payments", "weight": 1, "zone": "eu-central-1", "owner": "team-payments"}"#;
const SECOND: &str =
    r#"{"name": "payments", "weight": 25, "zone": "eu-central-1", "owner": "team-payments"}"#;

/// A znode that is created, written, deleted and created again as an ephemeral, and one beside it.
async fn a_story(name: &str) -> Stage {
    let mut stage = Stage::set(name).await;
    stage.bridge.start_ready().await;
    stage.create("a", FIRST).await;
    stage.write("a", SECOND).await;
    stage.create("b", "beside \u{1b}[31m it").await;
    stage.delete("a").await;
    stage.create_ephemeral("a", "third").await;
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_prints_the_last_records_those_of_a_glob_and_those_that_follow() {
    real_servers!("tail");
    let stage = a_story("tail").await;
    let text = stage.run(&["tail"]).await.ended(0);
    golden::check("tail.txt", &text);
    assert!(!text.contains('\u{1b}'), "{text}");
    let coloured = stage.run(&["tail", "--color", "always"]).await.ended(0);
    assert!(coloured.contains("\u{1b}[31mdelete  \u{1b}[0m"), "{coloured}");

    let text = stage
        .run(&["tail", "--path", "/tail/a", "-n", "2", "--json"])
        .await
        .ended(0);
    let ops: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["op"].to_string())
        .collect();
    assert_eq!(ops, ["\"delete\"", "\"create\""]);
    let deletes = stage
        .run(&["tail", "--op", "delete", "--from", "1h"])
        .await
        .ended(0);
    assert_eq!(deletes.lines().count(), 1, "{deletes}");
    let from = serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap()["zxid"].clone();
    let behind = stage
        .run(&["tail", "--from", from.as_str().unwrap(), "--json"])
        .await
        .ended(0);
    assert_eq!(
        behind, text,
        "from the zxid of the delete on there are two records"
    );
    let of_sink = stage
        .run(&["tail", "--sink", "audit", "--from", "1"])
        .await
        .ended(0);
    assert_eq!(of_sink.lines().count(), 8, "{of_sink}");

    let own = stage
        .run(&[
            "tail",
            "--path",
            "/tail/a",
            "-n",
            "2",
            "--format",
            "{{ op }}\t{{ names | last }}",
        ])
        .await
        .ended(0);
    assert_eq!(own, "delete\ta\ncreate\ta\n");
    let empty = stage
        .run(&["tail", "--format", "{% if op == 'delete' %}{{ path }}{% endif %}"])
        .await
        .ended(0);
    assert_eq!(empty, "/tail/a\n");
    let refused = stage.run(&["tail", "--format", "{{ pth }}"]).await;
    assert!(refused.err.contains("it uses 'pth', which no"), "{}", refused.err);
    refused.ended(2);

    let mut following = Child::start(&stage.bridge.command(&["tail", "-f", "-n", "1"])).unwrap();
    let until = |words: &'static str| {
        move |lines: &[bridge_servers::Line]| lines.iter().any(|line| line.text.contains(words)).then_some(())
    };
    following.until("the last", BOUND, until("third")).await.unwrap();
    stage.create("c", "the newest").await;
    following
        .until("the next", BOUND, until("the newest"))
        .await
        .unwrap();
    following.terminate().unwrap();
    assert_eq!(following.exit_code(BOUND).await.unwrap(), 143);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_cut_to_the_width_of_a_terminal_and_neither_with_wide_nor_into_a_pipe() {
    real_servers!("widths of lines");
    // The heads of `history` need 73 columns.
    const COLUMNS: usize = 76;
    let stage = a_story("width").await;
    let a = stage.path("a");
    for args in [
        &["changes", "/width"][..],
        &["tail"],
        &["history", &a],
        &["diff", "/width", "4", "5"],
    ] {
        let short = stage.run_on_terminal(COLUMNS, args).await.ended(0);
        let widest = short.lines().map(|line| line.chars().count()).max();
        assert!(
            widest <= Some(COLUMNS) && short.contains('…'),
            "{args:?}: {short}"
        );
        assert!(!short.contains(FIRST), "{args:?}: {short}");
        let wide = [args, &["--wide"]].concat();
        let wide = stage.run_on_terminal(COLUMNS, &wide).await.ended(0);
        let piped = stage.run(args).await.ended(0);
        for text in [wide, piped] {
            assert!(text.contains(FIRST) && !text.contains('…'), "{args:?}: {text}");
        }
    }
    let dates = stage
        .run_on_terminal(COLUMNS, &["changes", "/width"])
        .await
        .ended(0);
    let date = dates.lines().next().unwrap();
    assert!(
        date.len() == "2026-11-22".len() && date.starts_with("20"),
        "{dates}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn history_prints_every_version_and_the_value_at_a_moment() {
    real_servers!("history");
    let mut stage = a_story("history").await;
    let path = stage.path("a");
    let text = stage.run(&["history", &path]).await.ended(0);
    golden::check("history.txt", &text);
    let newest = stage.run(&["history", &path, "-n", "1"]).await.ended(0);
    assert!(
        text.starts_with(&newest) && newest.lines().count() == 4,
        "{newest}"
    );

    let records = stage.run(&["history", &path, "--json"]).await.ended(0);
    let records: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ops: Vec<&str> = records
        .iter()
        .map(|record| record["op"].as_str().unwrap())
        .collect();
    assert_eq!(ops, ["create", "delete", "update", "create"]);
    let zxids: Vec<&str> = records
        .iter()
        .map(|record| record["zxid"].as_str().unwrap())
        .collect();
    for (at, value) in [(0, "third"), (1, ""), (2, SECOND), (3, FIRST)] {
        let then = stage.run(&["history", &path, "--at", zxids[at]]).await;
        assert_eq!((then.code, &*then.out), (0, value), "{}", then.err);
    }
    for (at, words) in [
        ("99999", "there is no record 99999 yet"),
        ("2999-01-01T00:00:00Z", "still to come"),
    ] {
        let then = stage.run(&["history", &path, "--at", at]).await;
        assert_eq!((then.code, &*then.out), (1, "third"), "{}", then.err);
        assert!(then.err.contains(words), "{}", then.err);
    }
    let parent = stage.run(&["history", stage.root.as_str()]).await;
    assert_eq!(parent.code, 0, "{parent:?}");
    assert!(
        parent.err.contains("records of znodes below are printed by"),
        "{}",
        parent.err
    );
    let none = stage.run(&["history", &stage.path("none")]).await;
    assert_eq!(none.code, 1);
    assert!(none.err.contains("no journal has a record of"), "{}", none.err);

    // Changes while the bridge is down are found later, with bounds only.
    stage.bridge.kill().await;
    let (b, gone) = (stage.path("b"), stage.path("gone"));
    stage.client.set_data(&b, b"first", None).await.unwrap();
    stage.client.set_data(&b, b"second", None).await.unwrap();
    stage.client.delete(&b, None).await.unwrap();
    let later = stage.client.check_stat("/history").await.unwrap().unwrap();
    stage.bridge.start_ready().await;
    stage.bridge.at_rest().await;
    let text = stage.run(&["history", &b]).await.ended(0);
    assert!(
        text.contains("reconciled  delete") && text.contains("≤ 0x"),
        "{text}"
    );
    let before = format!("{:#x}", later.pzxid - 1);
    let doubtful = stage.run(&["history", &b, "--at", &before]).await;
    assert_eq!(doubtful.code, 1, "{doubtful:?}");
    assert!(doubtful.err.contains("perhaps before"), "{}", doubtful.err);
    assert_eq!(stage.run(&["history", &gone, "--at", "1h"]).await.code, 1);
}
