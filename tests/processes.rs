//! The process as its surroundings see it: its signals, its log, its files, and a configuration that changes under it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bridge_servers::Child;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tempfile::TempDir;

/// Within this the program starts, reloads and ends, also on a busy machine.
const RUN_BOUND: Duration = Duration::from_secs(60);

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn configure(folder: &TempDir, text: &str) {
    std::fs::write(folder.path().join("zkbridge.toml"), text).expect("the configuration can be written");
}

fn command_of_run(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    command
        .current_dir(folder.path())
        .args(["run", "--config", "zkbridge.toml"]);
    command
}

/// `run` at work without a server: nothing serves on port 1, it is free or refuses.
async fn run_without_a_server(folder: &TempDir) -> Child {
    configure(
        folder,
        "[http]\nlisten = \"off\"\n[[source]]\nconnect = \"127.0.0.1:1\"\n",
    );
    let mut child = Child::start(&command_of_run(folder)).expect("it starts");
    let connecting = child.line("no session with ZooKeeper", RUN_BOUND);
    connecting.await.expect("it is at work");
    child
}

#[tokio::test]
async fn a_second_signal_ends_run_at_once_and_without_a_panic() {
    for _ in 0..3 {
        let folder = folder();
        let mut child = run_without_a_server(&folder).await;
        let id = child.id().to_string();
        for signal in ["-TERM", "-INT"] {
            let killed = Command::new("kill").args([signal, &id]).status();
            assert!(killed.expect("kill runs").success());
        }
        let code = child.exit_code(RUN_BOUND).await.expect("it ends");
        assert!([0, 130, 143].contains(&code), "{code}");
        let said = child.stderr().join("\n");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// A process that does not outlive its test.
struct Mortal(std::process::Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
    }
}

/// The next message to a service manager.
fn message(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 512];
    let length = socket.recv(&mut bytes).expect("a message in time");
    String::from_utf8(bytes[..length].to_vec()).expect("messages are text")
}

#[tokio::test]
async fn a_service_manager_hears_that_run_serves_lives_and_drains() {
    let folder = folder();
    let notify = folder.path().join("notify");
    let socket = UnixDatagram::bind(&notify).expect("a socket");
    socket.set_read_timeout(Some(RUN_BOUND)).expect("a bound");
    configure(
        &folder,
        "[http]\nlisten = \"127.0.0.1:0\"\n[[source]]\nconnect = \"127.0.0.1:1\"\n\
         [[sink]]\ntype = \"file\"\npath = \"changes.jsonl\"\n",
    );
    let mut command = command_of_run(&folder);
    command
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "200000");
    let mut child = Child::start(&command).expect("it starts");
    let ready = message(&socket);
    assert!(
        ready.starts_with("READY=1\nSTATUS=1 source, 1 sink, serving on 127.0.0.1:"),
        "{ready}"
    );
    assert_eq!(message(&socket), "WATCHDOG=1");
    assert_eq!(message(&socket), "WATCHDOG=1");
    child.terminate().expect("it runs");
    let stopping = std::iter::repeat_with(|| message(&socket)).find(|message| message != "WATCHDOG=1");
    assert_eq!(stopping.as_deref(), Some("STOPPING=1\nSTATUS=draining"));
    assert_eq!(child.exit_code(RUN_BOUND).await.expect("it ends"), 0);
}

#[tokio::test]
async fn run_takes_a_changed_file_over_by_itself_and_keeps_the_old_one_where_the_new_one_is_wrong() {
    let folder = folder();
    let common = "[http]\nlisten = \"off\"\n[[source]]\nconnect = \"127.0.0.1:1\"\n";
    configure(&folder, common);
    let mut command = command_of_run(&folder);
    command.arg("--reload-on-change");
    let mut child = Child::start(&command).expect("it starts");
    let connecting = child.line("no session with ZooKeeper", RUN_BOUND);
    connecting.await.expect("it is at work");
    configure(&folder, &format!("{common}[[sink]]\ntype = \"nothing\"\n"));
    let rejected = child.line("reload rejected", RUN_BOUND).await;
    assert!(rejected.expect("it looks at the file").contains("nothing"));
    configure(
        &folder,
        &format!("{common}[[sink]]\nname = \"later\"\ntype = \"file\"\npath = \"later.jsonl\"\n"),
    );
    let reloaded = child.line("configuration reloaded", RUN_BOUND).await;
    assert!(reloaded.expect("it reloads").contains("later"));
    child.terminate().expect("it runs");
    assert_eq!(child.exit_code(RUN_BOUND).await.expect("it ends"), 0);
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_neither_run_nor_its_end() {
    use std::io::Write as _;

    let folder = folder();
    configure(
        &folder,
        "[http]\nlisten = \"off\"\n[[source]]\nconnect = \"127.0.0.1:1\"\n",
    );
    let (_unread, mut pipe) = std::io::pipe().expect("there is a pipe");
    let is_blocking = |blocking: bool| {
        let flags = if blocking {
            OFlag::empty()
        } else {
            OFlag::O_NONBLOCK
        };
        fcntl(&pipe, FcntlArg::F_SETFL(flags)).expect("a pipe has flags");
    };
    is_blocking(false);
    while (&pipe).write(&[b'x'; 4096]).is_ok() {}
    is_blocking(true);
    pipe.flush().expect("nothing is buffered");
    let child = Command::new(env!("CARGO_BIN_EXE_zkbridge"))
        .current_dir(folder.path())
        .args(["run", "--config", "zkbridge.toml", "--log-level", "trace"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(pipe)
        .spawn();
    let mut child = Mortal(child.expect("it starts"));
    let started = Instant::now();
    while Command::new(env!("CARGO_BIN_EXE_zkbridge"))
        .current_dir(folder.path())
        .args(["status", "--config", "zkbridge.toml", "--json"])
        .output()
        .is_ok_and(|output| !String::from_utf8_lossy(&output.stdout).contains("\"running\": true"))
    {
        assert!(started.elapsed() < RUN_BOUND, "it waits for its log");
    }
    let killed = Command::new("kill")
        .args(["-TERM", &child.0.id().to_string()])
        .status();
    assert!(killed.expect("kill runs").success());
    let ended = tokio::task::spawn_blocking(move || child.0.wait().expect("it ends"));
    let status = tokio::time::timeout(RUN_BOUND, ended)
        .await
        .expect("it obeys")
        .expect("waiting works");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_reload_of_a_hostile_configuration_is_rejected_and_run_goes_on_and_ends() {
    let folder = folder();
    let mut child = run_without_a_server(&folder).await;
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let source = "[[source]]\nconnect = \"127.0.0.1:1\"\n[[sink]]\ntype = \"kafka\"\nbrokers = \"b\"\n";
    let hostile = [
        (
            format!("{source}client_id = \"${{file:{}}}\"\n", pipe.display()),
            "regular",
        ),
        (format!("{source}topic = \"{}\"\n", "(".repeat(100_000)), "1024"),
        (format!("{source}topic = {}\n", "[".repeat(100_000)), "nested"),
    ];
    for (config, reason) in hostile {
        configure(&folder, &config);
        let hung_up = Command::new("kill")
            .args(["-HUP", &child.id().to_string()])
            .status();
        assert!(hung_up.expect("kill runs").success());
        child.line(reason, RUN_BOUND).await.expect("it says why");
    }
    child.terminate().expect("it still runs");
    assert_eq!(child.exit_code(RUN_BOUND).await.expect("it ends"), 0);
}

#[tokio::test]
async fn the_folder_of_watch_is_its_owners_alone_and_goes_with_every_signal() {
    // It takes connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = silent.local_addr().expect("it is bound").to_string();
    for (signal, code) in [("-HUP", 129), ("-QUIT", 131), ("-TERM", 143), ("-INT", 130)] {
        let folder = folder();
        let mut command = Command::new("sh");
        command.env("TMPDIR", folder.path()).args([
            "-c",
            "umask 000; exec \"$0\" watch \"$1\"",
            env!("CARGO_BIN_EXE_zkbridge"),
            &address,
        ]);
        let mut child = Child::start(&command).expect("it starts");
        let made = || {
            let mut entries = std::fs::read_dir(folder.path()).expect("the folder is there");
            entries.next().map(|entry| entry.expect("it can be read").path())
        };
        let begun = bridge_servers::eventually("its folder", RUN_BOUND, || async { made() });
        let path = begun.await.expect("it keeps a journal");
        let mode = std::fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        child
            .line("connecting to", RUN_BOUND)
            .await
            .expect("signals are caught");
        let killed = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(killed.expect("kill runs").success());
        assert_eq!(
            child.exit_code(RUN_BOUND).await.expect("it ends"),
            code,
            "{signal}"
        );
        assert_eq!(made(), None, "{signal}");
    }
}

#[test]
fn a_message_that_cannot_be_written_changes_no_exit_code() {
    let folder = folder();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = |args: &[&str], out: Stdio, err: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
        command
            .current_dir(folder.path())
            .args(args)
            .stdout(out)
            .stderr(err);
        command.output().expect("the binary runs")
    };
    // A problem of the configuration is printed by the command, and a failure by main.
    std::fs::write(folder.path().join("bad.toml"), "sources = 1\n").unwrap();
    for args in [
        &["check", "--config", "bad.toml"][..],
        &["config", "show", "--config", "missing.toml"],
    ] {
        let ended = run(args, Stdio::piped(), full().into());
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {ended:?}");
    }
    let ended = run(&["schema", "record"], full().into(), Stdio::piped());
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        String::from_utf8_lossy(&ended.stderr).contains("standard output cannot be written"),
        "{ended:?}"
    );
}

#[test]
fn a_file_at_the_limit_of_its_size_is_an_error_and_not_the_end_of_the_process() {
    let folder = folder();
    let ended = Command::new("sh")
        .args([
            "-c",
            "ulimit -f 1; exec \"$0\" man --output pages",
            env!("CARGO_BIN_EXE_zkbridge"),
        ])
        .current_dir(folder.path())
        .output()
        .expect("a shell runs");
    assert!(ended.status.code().is_some(), "{ended:?}");
    assert_ne!(ended.status.code(), Some(0), "{ended:?}");
    assert!(
        String::from_utf8_lossy(&ended.stderr).contains("File too large"),
        "{ended:?}"
    );
}
