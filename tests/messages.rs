//! The commands for messages: templates that are rendered without sending, and tests of sinks.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("the folder can be written");
}

/// Runs a command that must end with this code. Returns standard output and standard error.
#[track_caller]
fn check(folder: &Path, args: &[&str], code: i32) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ZKBRIDGE_") {
            command.env_remove(name);
        }
    }
    let output = command
        .current_dir(folder)
        .args(args)
        .output()
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
    (out, err)
}

#[test]
fn a_template_is_rendered_over_examples_and_over_records_without_sending() {
    let folder = folder();
    write(
        folder.path(),
        "body.j2",
        r#"{"p": {{ path }}, "v": {{ after.data.value | default(none) }}}"#,
    );
    let (out, _) = check(folder.path(), &["template", "body.j2"], 0);
    for words in [
        "── create\n",
        "── delete\n{\"p\": \"/zkbridge/example/10.0.0.7:8080\", \"v\": null}",
    ] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    let (out, _) = check(
        folder.path(),
        &[
            "template",
            "--preset",
            "slack",
            "--service",
            "--only",
            "instance.down",
        ],
        0,
    );
    let message: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!(
        message["text"],
        "🔴 example 10.0.0.7:8080 is down: its session ended"
    );
    let (out, _) = check(
        folder.path(),
        &["template", "--preset", "opsgenie", "--service"],
        0,
    );
    assert!(
        out.contains("POST /v2/alerts/") && out.contains("(nothing is sent)"),
        "{out}"
    );

    write(folder.path(), "bad.j2", "{{ after.data.value }}");
    let (_, err) = check(folder.path(), &["template", "bad.j2"], 1);
    assert!(err.contains("delete: undefined value"), "{err}");
    write(folder.path(), "worse.j2", "{{ pth }}");
    let (_, err) = check(folder.path(), &["template", "worse.j2"], 2);
    assert!(err.contains("'pth', which no change record has"), "{err}");
    write(folder.path(), "records.jsonl", "{}\n");
    let (_, err) = check(
        folder.path(),
        &["template", "body.j2", "--record", "records.jsonl"],
        2,
    );
    assert!(err.contains("line 1 is neither"), "{err}");
    check(folder.path(), &["template", "body.j2", "--only", "heartbeat"], 2);
}

#[test]
fn a_test_of_a_sink_sends_one_marked_record_and_moves_no_cursor() {
    let folder = folder();
    let config = "[[source]]\nconnect = \"127.0.0.1:1\"\n[[sink]]\nname = \"audit\"\ntype = \"file\"\npath = \"audit.jsonl\"\n\
                  [[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nallow_private_addresses = true\n\
                  [[sink]]\nname = \"mirror\"\ntype = \"nats\"\nservers = \"nats://127.0.0.1:1\"\nbucket = \"zk\"\n";
    write(folder.path(), "zkbridge.toml", config);
    let (out, _) = check(folder.path(), &["sink", "test", "audit"], 0);
    assert!(out.contains("sink 'audit' (file) sent a test, id "), "{out}");
    check(folder.path(), &["sink", "test", "audit", "--json"], 0);
    let lines = std::fs::read_to_string(folder.path().join("audit.jsonl")).expect("it was written");
    assert_eq!(lines.lines().count(), 2);
    write(folder.path(), "body.j2", "{{ path }}");
    let (out, _) = check(
        folder.path(),
        &["template", "body.j2", "--record", "audit.jsonl"],
        0,
    );
    assert!(out.contains("\"/zkbridge/example/10.0.0.7:8080\""), "{out}");
    assert!(
        !folder.path().join("zkbridge-data").exists(),
        "no journal is made"
    );

    let (_, err) = check(folder.path(), &["sink", "test", "hook"], 3);
    assert!(err.contains("127.0.0.1:1"), "{err}");
    let (_, err) = check(folder.path(), &["sink", "test", "mirror"], 2);
    assert!(err.contains("mirrors the tree"), "{err}");
    check(folder.path(), &["sink", "test", "other"], 2);
    check(folder.path(), &["sink", "test", "audit", "--source", "other"], 2);
}

#[test]
fn a_test_of_a_sink_whose_template_leaves_the_example_out_says_that_nothing_was_sent() {
    let folder = folder();
    let sink = |op: &str| {
        let config = format!(
            "[[source]]\nconnect = \"127.0.0.1:1\"\n[[sink]]\nname = \"audit\"\ntype = \"file\"\npath = \"audit.jsonl\"\n\
             body = '{{% if op == \"{op}\" %}}{{{{ path }}}}{{% endif %}}'\n"
        );
        write(folder.path(), "zkbridge.toml", &config);
    };
    let sent = folder.path().join("audit.jsonl");

    sink("delete");
    let (_, err) = check(folder.path(), &["sink", "test", "audit"], 1);
    assert!(err.contains("writes nothing for the example"), "{err}");
    assert!(err.contains("nothing was sent"), "{err}");
    assert!(!sent.exists(), "the destination was not touched");

    sink("update");
    check(folder.path(), &["sink", "test", "audit"], 0);
    let lines = std::fs::read_to_string(&sent).expect("it was written");
    assert_eq!(lines, "\"/zkbridge/example/10.0.0.7:8080\"\n");
}
