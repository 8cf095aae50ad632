//! Children: their lines, signals and ends. No process outlives the one that started it.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail it like the test itself"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bridge_servers::{Child, Error, Stream, eventually, real_servers};

const BOUND: Duration = Duration::from_secs(30);

fn shell(script: &str) -> Child {
    Child::start(Command::new("sh").args(["-c", script]).env("GREETING", "hello")).unwrap()
}

/// Whether a process of that id runs; one that is dead and not yet reaped does not.
fn runs(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}

#[tokio::test]
async fn lines_of_both_streams_are_collected() {
    let mut child = shell("echo $GREETING; echo trouble >&2; sleep 100");
    assert_eq!(child.line("hell", BOUND).await.unwrap(), "hello");
    child.line("trouble", BOUND).await.unwrap();
    assert_eq!(child.stdout(), ["hello"]);
    assert_eq!(child.stderr(), ["trouble"]);
    assert!(
        child
            .lines()
            .iter()
            .any(|line| line.stream == Stream::Stderr && line.text == "trouble")
    );
    assert!(child.ended().is_none());
}

#[tokio::test]
async fn a_child_that_ends_too_early_shows_its_last_lines() {
    let mut child = shell("echo no configuration; exit 2");
    let error = child.line("ready", BOUND).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }));
    assert!(error.to_string().contains("no configuration"), "{error}");
    assert_eq!(child.exit_code(BOUND).await.unwrap(), 2);
}

#[tokio::test]
async fn a_silent_child_shows_its_last_lines_at_the_bound() {
    let mut child = shell("echo still walking; sleep 100");
    let error = child.line("ready", Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }));
    assert!(error.to_string().contains("still walking"), "{error}");
}

#[tokio::test]
async fn a_child_can_handle_sigterm() {
    let mut child = shell("trap 'echo draining; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    child.line("ready", BOUND).await.unwrap();
    child.terminate().unwrap();
    assert_eq!(child.exit_code(BOUND).await.unwrap(), 7);
    assert_eq!(child.stdout(), ["ready", "draining"]);
}

#[tokio::test]
async fn a_kill_ends_the_processes_of_the_child_too() {
    let mut child = shell("sleep 100 & echo $!; wait");
    let started = child
        .until("an id", BOUND, |lines| lines.first()?.text.parse::<u32>().ok())
        .await
        .unwrap();
    assert!(runs(started));
    child.kill().await.unwrap();
    eventually("the grandchild to die", BOUND, || async { !runs(started) })
        .await
        .unwrap();
    assert_eq!(child.exit_code(BOUND).await.unwrap(), 128 + 9);
}

#[tokio::test]
async fn a_drop_kills() {
    let child = shell("sleep 100");
    let id = child.id();
    assert!(runs(id));
    drop(child);
    assert!(!runs(id));
}

#[tokio::test]
async fn a_program_that_does_not_exist_says_so() {
    let mut child = Child::start(&Command::new("zkbridge-that-is-not-there")).unwrap();
    assert_eq!(child.exit_code(BOUND).await.unwrap(), 127);
    assert!(
        child.stderr().iter().any(|line| line.contains("not found")),
        "{:?}",
        child.stderr()
    );
}

#[tokio::test]
async fn servers_die_with_a_process_that_is_killed() {
    real_servers!("servers die with a process that is killed");
    let mut starter =
        Child::start(Command::new(env!("CARGO_BIN_EXE_run-servers")).arg("zookeeper-3.9.5")).unwrap();
    starter
        .line("running 1 of 1 servers", Duration::from_secs(120))
        .await
        .unwrap();
    let line = starter.line("zookeeper-3.9.5 127.0.0.1", BOUND).await.unwrap();
    let java: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(runs(java), "{line}");
    let home = std::fs::read_link(format!("/proc/{java}/cwd")).unwrap();
    assert!(home.is_dir());

    // Only this process: the others must end by themselves.
    let killed = Command::new("kill")
        .args(["-KILL", &starter.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    eventually("the server to die", BOUND, || async { !runs(java) })
        .await
        .unwrap();
    eventually("its data to go", BOUND, || async { !Path::new(&home).exists() })
        .await
        .unwrap();
}

#[tokio::test]
async fn the_usage_is_printed_for_help_and_for_a_server_that_does_not_exist() {
    let run = |argument: &'static str| async move {
        let mut child = Child::start(Command::new(env!("CARGO_BIN_EXE_run-servers")).arg(argument)).unwrap();
        let code = child.exit_code(BOUND).await.unwrap();
        (code, child.stdout().join("\n"), child.stderr().join("\n"))
    };
    let (code, printed, _) = run("--help").await;
    assert_eq!(code, 0);
    assert!(printed.starts_with("usage: run-servers"), "{printed}");
    let (code, _, complaint) = run("zokeeper-3.9.5").await;
    assert_eq!(code, 2);
    assert!(
        complaint.contains("there is no server \"zokeeper-3.9.5\""),
        "{complaint}"
    );
}
