//! The command as a shell sees it: its output, its errors, and its exit code.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use bridge_servers::Child;
use serde_json::Value;

/// Runs the real binary in a folder, without environment variables that could affect it.
fn zkbridge(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ZKBRIDGE_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(folder)
        .args(args)
        .output()
        .expect("the binary runs")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is text")
}

/// Runs a command that must end with this code. Returns standard output and standard error.
#[track_caller]
fn check(folder: &Path, args: &[&str], code: i32) -> (String, String) {
    let output = zkbridge(folder, args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
    (out, err)
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("the folder can be written");
}

#[test]
fn every_help_fits_into_80_columns_has_examples_and_no_colour_in_a_pipe() {
    let folder = folder();
    for command in [
        &[][..],
        &["check"],
        &["init"],
        &["schema"],
        &["dlq"],
        &["dlq", "retry"],
        &["sink"],
        &["sink", "enable"],
        &["sink", "test"],
        &["template"],
        &["status"],
        &["tail"],
        &["history"],
        &["ls"],
        &["tree"],
        &["cat"],
        &["diff"],
        &["changes"],
        &["activity"],
        &["gaps"],
        &["ui"],
        &["config"],
        &["config", "show"],
        &["replay"],
        &["completions"],
        &["man"],
        &["doctor"],
        &["verify"],
        &["journal"],
        &["journal", "check"],
        &["journal", "export"],
    ] {
        let (out, err) = check(folder.path(), &[command, &["--help"]].concat(), 0);
        assert!(out.contains("Examples:"), "{out}");
        assert!(!out.contains('\u{1b}'), "{out}");
        assert_eq!(err, "");
        for line in out.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn config_show_prints_each_value_with_its_origin_and_no_secret() {
    let folder = folder();
    let file = "[http]\ntoken = \"hunter2hunter2hunter2\"\n[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"console\"\n";
    write(folder.path(), "zkbridge.toml", file);
    let (out, err) = check(folder.path(), &["config", "show"], 0);
    assert_eq!(err, "");
    for words in [
        "http.token = \"***\"",
        "line 2",
        "source[0].connect = \"a\"",
        "sink[0].format = \"pretty\"",
        "default",
    ] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    assert!(!out.contains("hunter2"), "{out}");
    let (out, _) = check(folder.path(), &["config", "show", "--json"], 0);
    let shown: Value = serde_json::from_str(&out).expect("it is JSON");
    let settings = shown["settings"].as_array().expect("a list");
    let connect = settings
        .iter()
        .find(|setting| setting["key"] == "source[0].connect");
    assert_eq!(
        connect.map(|setting| &setting["origin"]),
        Some(&Value::from("line 4"))
    );
    write(folder.path(), "zkbridge.toml", "[[source]]\nconect = \"a\"\n");
    check(folder.path(), &["config", "show"], 2);
}

#[test]
fn completions_and_manual_pages_are_valid() {
    let folder = folder();
    for (shell, words) in [
        ("bash", "complete -F _zkbridge"),
        ("zsh", "#compdef zkbridge"),
        ("fish", "complete -c zkbridge"),
    ] {
        let (out, _) = check(folder.path(), &["completions", shell], 0);
        assert!(out.contains(words) && out.contains("history"), "{shell}: {out}");
    }
    check(folder.path(), &["completions", "tcsh"], 2);
    let (whole, _) = check(folder.path(), &["man"], 0);
    assert!(
        whole.starts_with(".ie") && whole.contains("zkbridge\\-tail(1)"),
        "{whole}"
    );
    let (page, _) = check(folder.path(), &["man", "journal", "export"], 0);
    assert!(
        page.contains(".TH zkbridge-journal-export 1") && page.contains("Exit codes"),
        "{page}"
    );
    check(folder.path(), &["man", "tial"], 2);
    check(folder.path(), &["man", "--output", "pages"], 0);
    let page = |name: &str| std::fs::read_to_string(folder.path().join("pages").join(name));
    assert_eq!(page("zkbridge.1").expect("the page of the program"), whole);
    assert!(page("zkbridge-journal-backup.1").is_ok() && page("zkbridge-restore-journal.1").is_ok());
    assert!(page("zkbridge-help.1").is_err(), "only commands have pages");
}

#[test]
fn the_version_names_the_package_the_commit_and_the_optional_features() {
    let (out, _) = check(folder().path(), &["--version"], 0);
    let begin = format!("zkbridge {} (commit ", env!("CARGO_PKG_VERSION"));
    assert!(out.starts_with(&begin) && out.lines().count() == 1, "{out}");
    let features = out.split("optional features: ").nth(1).expect(&out);
    let has = |name| features.contains(name);
    assert_eq!(has("gssapi"), cfg!(feature = "gssapi"), "{out}");
    assert_eq!(has("vendored"), cfg!(feature = "vendored"), "{out}");
}

#[test]
fn a_command_line_that_is_wrong_ends_with_2_and_says_what_is_near() {
    let folder = folder();
    let (out, err) = check(folder.path(), &["chek"], 2);
    assert_eq!(out, "");
    assert!(err.contains("'check'"), "{err}");
    check(folder.path(), &["check", "--jsn"], 2);
    check(folder.path(), &["schema", "everything"], 2);
    let (_, err) = check(folder.path(), &[], 2);
    assert!(err.contains("Usage: zkbridge"), "{err}");
}

#[test]
fn check_accepts_the_configuration_that_init_writes() {
    let folder = folder();
    let (printed, _) = check(folder.path(), &["init"], 0);
    let (said, _) = check(folder.path(), &["init", "--output", "zkbridge.toml"], 0);
    assert!(said.contains("zkbridge check"), "{said}");
    let written = std::fs::read_to_string(folder.path().join("zkbridge.toml")).expect("it was written");
    assert_eq!(printed, written);
    let (out, err) = check(folder.path(), &["check"], 0);
    assert!(
        out.contains("0 errors, 0 warnings") && out.contains("main -> console"),
        "{out}"
    );
    assert_eq!(err, "");
}

#[test]
fn init_overwrites_nothing() {
    let folder = folder();
    write(folder.path(), "mine.toml", "mine");
    let (out, err) = check(folder.path(), &["init", "--output", "mine.toml"], 3);
    assert_eq!(out, "");
    assert!(err.contains("mine.toml is there already"), "{err}");
    let kept = std::fs::read_to_string(folder.path().join("mine.toml")).expect("it is there");
    assert_eq!(kept, "mine");
    check(folder.path(), &["init", "--output", "no/such/folder.toml"], 3);
}

#[test]
fn check_says_all_that_is_wrong_and_ends_with_2() {
    let folder = folder();
    let wrong = "[[source]]\nconect = \"a\"\nroots = [\"a\"]\n[[sink]]\ntype = \"console\"\nretry = 5\n";
    write(folder.path(), "zkbridge.toml", wrong);
    let (out, err) = check(folder.path(), &["check"], 2);
    for words in [
        "zkbridge.toml:2:1: source[0].conect",
        "did you mean 'connect'?",
        "zkbridge.toml:3:10: source[0].roots[0]",
        "zkbridge.toml:6:1: sink[0].retry",
        "4 errors, 0 warnings",
    ] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "{out}");
    assert_eq!(err, "");
    let (_, err) = check(folder.path(), &["check", "--log-level", "noisy"], 2);
    assert!(err.contains("possible values"), "{err}");
}

#[test]
fn check_speaks_json_to_programs() {
    let folder = folder();
    write(folder.path(), "good.toml", "[[source]]\nconnect = \"a\"\n");
    write(folder.path(), "bad.yaml", "source:\n  - connect: 5\n");
    let (out, _) = check(folder.path(), &["check", "--json", "--config", "good.toml"], 0);
    let good: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!(
        (&good["ok"], &good["sources"][0]),
        (&Value::from(true), &Value::from("main"))
    );
    assert_eq!(good["problems"][0]["severity"], "warning");
    let (out, _) = check(folder.path(), &["check", "--json", "--config", "bad.yaml"], 2);
    let bad: Value = serde_json::from_str(&out).expect("it is JSON");
    assert_eq!(bad["ok"], false);
    let problems = bad["problems"].as_array().expect("a list");
    let problem = problems
        .iter()
        .find(|problem| problem["key"] == "source[0].connect")
        .expect("it is there");
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&Value::from(2), &Value::from(5))
    );
    assert_eq!(problem["severity"], "error");
}

#[test]
fn a_configuration_that_is_not_there_is_explained() {
    let (out, _) = check(folder().path(), &["check"], 2);
    assert!(
        out.contains("zkbridge.toml") && out.contains("zkbridge init"),
        "{out}"
    );
}

#[test]
fn variables_override_keys_and_are_never_shown() {
    let folder = folder();
    write(
        folder.path(),
        "zkbridge.toml",
        "[[source]]\nconnect = \"a\"\n[[sink]]\ntype = \"console\"\n",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    let output = command
        .current_dir(folder.path())
        .arg("check")
        .env("ZKBRIDGE_SOURCE__0__SESSION_TIMEOUT", "Hunter2")
        .output()
        .expect("the binary runs");
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{out}");
    assert!(
        out.contains("ZKBRIDGE_SOURCE__0__SESSION_TIMEOUT") && !out.contains("Hunter2"),
        "{out}"
    );
}

#[test]
fn the_schemas_that_are_printed_are_those_that_are_checked_in() {
    let folder = folder();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (args, file) in [
        (&["schema"][..], "bridge-core/schema/record.json"),
        (&["schema", "record"], "bridge-core/schema/record.json"),
        (&["schema", "service"], "bridge-core/schema/service.json"),
        (&["schema", "config"], "config/schema/config.json"),
        (&["schema", "openapi"], "docs/openapi.json"),
    ] {
        let (out, _) = check(folder.path(), args, 0);
        let kept = std::fs::read_to_string(here.join(file)).expect("it is checked in");
        assert!(out == kept, "{args:?} and {file} differ");
    }
}

#[test]
#[cfg(unix)]
fn a_reader_that_stops_early_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    let mut child = command
        .args(["schema", "config"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

/// Within this `run` starts, reloads and ends, also on a busy machine.
const RUN_BOUND: std::time::Duration = std::time::Duration::from_secs(60);

/// Nothing serves on port 1, it is free or refuses.
const NO_SERVER: &str = "[http]\nlisten = \"off\"\n[[source]]\nconnect = \"127.0.0.1:1\"\n\
                         [[sink]]\ntype = \"file\"\npath = \"out.jsonl\"\n";

/// `run` at work without a server.
async fn run_without_a_server(folder: &tempfile::TempDir) -> Child {
    run_with(folder, NO_SERVER).await
}

async fn run_with(folder: &tempfile::TempDir, config: &str) -> Child {
    write(folder.path(), "zkbridge.toml", config);
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    command
        .current_dir(folder.path())
        .args(["run", "--config", "zkbridge.toml"]);
    let mut child = Child::start(&command).expect("it starts");
    child
        .line("no session with ZooKeeper", RUN_BOUND)
        .await
        .expect("it is at work");
    child
}

#[tokio::test]
async fn a_hangup_does_not_end_run_and_a_termination_does() {
    let folder = folder();
    let mut child = run_without_a_server(&folder).await;

    let hung_up = Command::new("kill")
        .args(["-HUP", &child.id().to_string()])
        .status();
    assert!(hung_up.expect("kill runs").success());

    child
        .line("configuration reloaded", RUN_BOUND)
        .await
        .expect("it says what came of it");
    child.terminate().expect("it still runs");
    assert_eq!(child.exit_code(RUN_BOUND).await.expect("it ends"), 0);
}

#[tokio::test]
async fn the_same_signal_twice_at_once_is_one_and_the_drain_goes_on() {
    let folder = folder();
    let mut child = run_without_a_server(&folder).await;

    // As `timeout` of coreutils sends it: to the process, and to its group.
    let id = child.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &id, &id]).status();
    assert!(killed.expect("kill runs").success());

    assert_eq!(child.exit_code(RUN_BOUND).await.expect("it ends"), 0);
    let said = child.stderr().join("\n");
    assert!(said.contains("draining"), "{said}");
    assert!(!said.contains("second signal"), "{said}");
}

#[test]
fn a_word_that_is_no_command_gets_the_command_that_is_meant() {
    let folder = folder();
    for (args, tip) in [
        (&["help", "tial"][..], "a similar subcommand exists: 'tail'"),
        (&["tial"], "a similar subcommand exists: 'tail'"),
        (&["version"], "use 'zkbridge --version'"),
        (&["export"], "use 'zkbridge journal export'"),
        (&["logs"], "'zkbridge tail' prints changes"),
        (&["serve"], "use 'zkbridge run'"),
        (&["health"], "use 'zkbridge status --running'"),
        (&["lint"], "use 'zkbridge check'"),
        (&["metrics"], "the page /metrics of 'zkbridge run' has them"),
        (&["stop"], "send SIGTERM to the process of 'zkbridge run'"),
        (
            &["run", "x.toml"],
            "name the configuration with '--config x.toml'",
        ),
    ] {
        let (_, err) = check(folder.path(), args, 2);
        let err = err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(err.contains(tip), "{args:?}\n{err}");
    }
}

#[test]
fn a_list_of_no_lines_is_refused_and_one_of_a_single_line_is_not() {
    let folder = folder();
    write(folder.path(), "zkbridge.toml", NO_SERVER);
    for command in [
        &["ls", "-n"][..],
        &["tree", "-n"],
        &["diff", "/", "1", "-n"],
        &["changes", "-n"],
        &["gaps", "-n"],
        &["activity", "--buckets"],
    ] {
        let (_, err) = check(folder.path(), &[command, &["0"]].concat(), 2);
        assert!(err.contains("invalid value '0'"), "{command:?}\n{err}");
        // The command line is accepted; there is no journal.
        check(folder.path(), &[command, &["1"]].concat(), 3);
    }
}

#[test]
fn since_and_until_are_other_names_for_from_and_to() {
    let folder = folder();
    write(folder.path(), "zkbridge.toml", NO_SERVER);
    // The command line is accepted; there is no journal.
    check(folder.path(), &["tail", "--since", "12:30 local"], 3);
    let args = [
        "replay",
        "--sink",
        "file",
        "--since",
        "yesterday",
        "--until",
        "1h",
    ];
    check(folder.path(), &args, 3);
    for command in ["changes", "activity", "gaps"] {
        check(
            folder.path(),
            &[command, "--since", "yesterday", "--until", "1h"],
            3,
        );
    }
}

#[tokio::test]
async fn the_log_begins_with_the_version_and_the_configuration_and_ends_with_counts() {
    let folder = folder();
    let mut child = run_without_a_server(&folder).await;
    child.terminate().expect("it runs");
    child.exit_code(RUN_BOUND).await.expect("it ends");
    let lines = child.stderr();
    let first: Value = serde_json::from_str(&lines[0]).expect("a line of the log");
    assert_eq!(first["message"], "starting");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(first["config"], "zkbridge.toml");
    assert_eq!(
        (&first["sources"], &first["sinks"]),
        (&"main".into(), &"file".into())
    );
    let last: Value = serde_json::from_str(&lines[lines.len() - 1]).expect("a line of the log");
    assert_eq!(last["message"], "stopped");
    assert_eq!((&last["delivered"], &last["undelivered"]), (&0.into(), &0.into()));
}

#[tokio::test]
async fn a_second_bridge_on_the_same_address_and_data_names_the_process_of_the_first() {
    let folder = folder();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("its address").to_string();
    drop(free);
    let config = NO_SERVER.replace("\"off\"", &format!("\"{address}\""));
    let mut child = run_with(&folder, &config).await;
    let (_, err) = check(folder.path(), &["run"], 3);
    let owner = format!("process {} has it open", child.id());
    assert!(err.contains(&owner) && !err.contains(&address), "{err}");
    child.terminate().expect("the first runs on");
    child.exit_code(RUN_BOUND).await.expect("it ends");
}

#[tokio::test]
async fn a_second_bridge_on_the_same_address_with_other_data_names_the_process_that_listens() {
    let folder = folder();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("its address").to_string();
    let config = NO_SERVER.replace("\"off\"", &format!("\"{address}\""));
    write(folder.path(), "zkbridge.toml", &config);
    let check_names = |id: u32, program: &str| {
        let (_, err) = check(folder.path(), &["run"], 3);
        let err = err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(err.contains(&format!("cannot listen on {address}")), "{err}");
        assert!(
            err.contains(&format!("process {id} (")) && err.contains(program),
            "{err}"
        );
        assert!(err.contains("help: stop that process"), "{err}");
    };
    // A program of any kind, here the test's own.
    check_names(std::process::id(), "command_line");
    drop(free);
    let other = self::folder();
    let mut child = run_with(&other, &config).await;
    check_names(child.id(), "zkbridge");
    child.terminate().expect("the first runs on");
    child.exit_code(RUN_BOUND).await.expect("it ends");
}

#[tokio::test]
async fn a_reload_that_needs_a_restart_names_the_key_and_a_new_variable_its_remedy() {
    let folder = folder();
    let mut child = run_without_a_server(&folder).await;
    let reload = |config: String| {
        write(folder.path(), "zkbridge.toml", &config);
        let output = zkbridge(folder.path(), &["reload"]);
        text(&output.stderr)
    };
    let err = reload(NO_SERVER.replace("\"off\"", "\"127.0.0.1:0\""));
    assert!(err.contains("http.listen differs"), "{err}");
    assert!(err.contains("help: restart it"), "{err}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    let config = NO_SERVER.replace("out.jsonl", "${NEW_NAME}.jsonl");
    write(folder.path(), "zkbridge.toml", &config);
    let command = command
        .current_dir(folder.path())
        .env("NEW_NAME", "new")
        .arg("reload");
    let err = text(&command.output().expect("the binary runs").stderr);
    let err = err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(err.contains("the variable NEW_NAME is not set"), "{err}");
    assert!(
        err.contains("a running bridge keeps the variables of its start") && err.contains("${file:"),
        "{err}"
    );
    child.terminate().expect("it runs on");
    child.exit_code(RUN_BOUND).await.expect("it ends");
}
