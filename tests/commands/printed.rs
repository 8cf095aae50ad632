//! The output of commands without test files of their own, all on one bridge.

use bridge_servers::{eventually, real_servers};
use serde_json::Value;

use crate::bridge::BOUND;
use crate::golden;
use crate::refusing::refusing;
use crate::stage::Stage;

/// Text and JSON of a command that ends well, each compared with its file.
async fn check(stage: &Stage, name: &str, args: &[&str]) {
    let text = check_wide(stage, name, args).await;
    golden::fits(&text);
}

/// The same for records that are printed as JSON.
async fn check_wide(stage: &Stage, name: &str, args: &[&str]) -> String {
    let text = stage.run(args).await.ended(0);
    golden::check(&format!("{name}.txt"), &text);
    let json = stage.run(&[args, &["--json"]].concat()).await.ended(0);
    let parsed: Value = serde_json::from_str(&json).unwrap();
    assert!(parsed.is_object(), "{json}");
    golden::check(&format!("{name}.json"), &json);
    text
}

/// Removes lines about the machine, which differ, and the number of warnings.
fn without_machine(doctor: &str) -> String {
    let mut text = String::new();
    let (mut section, mut is_left_out) = ("", false);
    for line in doctor.lines() {
        let is_entry = ["ok ", "warning ", "failure "]
            .iter()
            .any(|word| line.starts_with(word));
        if !is_entry && !line.starts_with(' ') {
            section = line;
        }
        if !line.starts_with(' ') {
            is_left_out = section == "machine"
                || section.contains(" warning")
                || ["clock", "a walk takes about", "answers in"]
                    .iter()
                    .any(|words| line.contains(words));
        }
        if !is_left_out {
            text.push_str(&format!("{line}\n"));
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_of_each_command_equals_its_golden_file() {
    real_servers!("what the commands print");
    let (port, serving) = refusing("bad").await;
    let hook = format!(
        "[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         allow_private_addresses = true\n"
    );
    let mut stage = Stage::set_with("printed", &hook).await;
    stage.bridge.start_ready().await;
    stage.create("good", "one").await;
    stage.create("bad", "two").await;
    let set_aside = eventually("a dead letter in the journal", BOUND, || async {
        let listed = stage.run(&["dlq", "list", "--json"]).await.json(0);
        listed["dead_letters"]
            .as_array()
            .is_some_and(|letters| letters.len() == 1)
    });
    set_aside.await.unwrap();
    stage.bridge.at_rest().await;

    check(&stage, "check", &["check"]).await;
    check(&stage, "config-show", &["config", "show"]).await;
    check_wide(&stage, "dlq-list", &["dlq", "list"]).await;
    check_wide(&stage, "dlq-show", &["dlq", "show", "--all"]).await;
    check(&stage, "reload", &["reload"]).await;
    check(&stage, "sink-enable", &["sink", "enable", "hook"]).await;
    check(&stage, "snapshot", &["snapshot", "--sink", "audit"]).await;
    check(&stage, "replay", &["replay", "--sink", "audit", "--from", "4"]).await;
    let exported = stage.run(&["journal", "export", "--from", "3"]).await.ended(0);
    golden::check("journal-export.jsonl", &exported);
    let doctor = stage.run(&["doctor"]).await.ended(0);
    golden::fits(&doctor);
    golden::check("doctor.txt", &without_machine(&doctor));

    stage.bridge.terminate().await;
    check(&stage, "journal-compact", &["journal", "compact"]).await;
    serving.abort();
}
