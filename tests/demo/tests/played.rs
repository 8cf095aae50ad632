//! The demo on real servers: what arrives agrees with the scenario, and no process or file is left, however it ends.
//!
//! It needs the `zkbridge` program of the same build: `cargo test --workspace` builds it, `cargo test -p bridge-demo` alone
//! does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bridge_servers::{Child, eventually, real_servers};
use zookeeper_client::{Acls, Client, CreateMode};

/// The scenario takes 10 s, and longer on a busy machine.
const BOUND: Duration = Duration::from_secs(180);

/// How long killed processes and their folders may take to disappear.
const GONE_BOUND: Duration = Duration::from_secs(10);

/// The prefixes of all folders that the demo creates.
const FOLDERS: [&str; 3] = ["zkbridge-demo-", "zkbridge-kafka-", "zkbridge-zookeeper-"];

/// The processes and folders of a running demo.
#[derive(Default)]
struct Traces {
    /// The command lines of its processes, by process id and start time, which together are unique.
    processes: BTreeMap<(u32, String), String>,
    /// Its folders.
    folders: BTreeSet<PathBuf>,
}

impl Traces {
    /// Adds the process and all its descendants.
    fn look(&mut self, root: u32) {
        let all: Vec<Process> = processes().collect();
        let mut family = BTreeSet::from([root]);
        while let Some(child) = all
            .iter()
            .find(|process| family.contains(&process.parent) && !family.contains(&process.id))
        {
            family.insert(child.id);
        }
        for process in all.into_iter().filter(|process| family.contains(&process.id)) {
            self.folders.extend(process.folders());
            self.processes
                .insert((process.id, process.begun), process.words.join(" "));
        }
    }

    fn saw(&self, words: &str) -> bool {
        self.processes.values().any(|line| line.contains(words))
    }

    fn folder(&self, begin: &str) -> PathBuf {
        let is_it = |folder: &&PathBuf| {
            folder
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(begin))
        };
        self.folders
            .iter()
            .find(is_it)
            .cloned()
            .expect("the folder was seen in a command line")
    }

    /// The processes and folders that still exist.
    fn left(&self) -> Vec<String> {
        let alive: BTreeSet<(u32, String)> = processes().map(|process| (process.id, process.begun)).collect();
        let processes = self.processes.iter().filter(|(name, _)| alive.contains(name));
        let folders = self.folders.iter().filter(|folder| folder.exists());
        processes
            .map(|((id, _), line)| format!("process {id}: {line}"))
            .chain(folders.map(|folder| folder.display().to_string()))
            .collect()
    }

    async fn are_gone(&self) {
        let gone = eventually("everything to be gone", GONE_BOUND, || async {
            self.left().is_empty()
        });
        assert!(gone.await.is_ok(), "left over: {:#?}", self.left());
    }
}

/// A process that is not a zombie.
struct Process {
    id: u32,
    parent: u32,
    begun: String,
    words: Vec<String>,
}

impl Process {
    fn of(id: u32) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name before the last parenthesis may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let words = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let words = words.split(|byte| *byte == 0);
        Some(Process {
            id,
            parent: fields.get(1)?.parse().ok()?,
            begun: (*fields.get(19)?).to_owned(),
            words: words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect(),
        })
        .filter(|_| fields[0] != "Z" && fields[0] != "X")
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let paths = self.words.iter().flat_map(|word| Path::new(word).ancestors());
        let is_ours = |path: &&Path| {
            path.file_name().is_some_and(|name| {
                FOLDERS
                    .iter()
                    .any(|begin| name.to_string_lossy().starts_with(begin))
            })
        };
        paths.filter(is_ours).map(Path::to_owned)
    }
}

fn processes() -> impl Iterator<Item = Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter_map(Process::of)
}

fn demo(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    Child::start(command.args(arguments)).expect("the demo starts")
}

/// Waits for a line, and collects processes and folders meanwhile.
async fn seen_until(demo: &mut Child, part: &str) -> Traces {
    let (mut traces, id) = (Traces::default(), demo.id());
    let what = format!("a line with {part:?}");
    let seen = demo.until(&what, BOUND, |lines| {
        traces.look(id);
        lines.iter().any(|line| line.text.contains(part)).then_some(())
    });
    seen.await.expect("the demo gets that far");
    traces
}

#[tokio::test]
async fn every_change_of_the_scenario_arrives_and_nothing_is_left_running() {
    real_servers!("every change of the scenario arrives and nothing is left running");
    let mut demo = demo(&[]);

    let traces = seen_until(&mut demo, "What was done and what arrived").await;
    let code = demo.exit_code(BOUND).await.unwrap();

    let output = demo.stdout().join("\n");
    assert_eq!(code, 0, "{output}\n{}", demo.stderr().join("\n"));
    for line in [
        "  8 znodes are there already            8 snapshot             8       yes",
        "  three instances register              3 create, ephemeral    3       yes",
        "  a setting changes                     1 update               1       yes",
        "  the same setting changes again        1 update               1       yes",
        "  the session of an instance dies       1 delete, its session  1       yes",
        "  bridge dead: one is deleted           1 delete, in a gap     1       yes",
        "  bridge dead: one deleted, made again  1 delete, 1 create     2       yes",
        "  bridge dead: one is changed           1 update, in a gap     1       yes",
        "  an instance is back                   1 create, ephemeral    1       yes",
        "  nothing else                          0 records              0       yes",
        "  each path's records are in order      11 paths               11      yes",
        "  listing and gap are marked            2 roots                2       yes",
        "  the topic, folded, is the tree        10 znodes              10      yes",
    ] {
        assert!(output.contains(line), "no line {line:?} in:\n{output}");
    }
    for message in [
        "payments 10.0.0.7:8080 is up",
        "payments 10.0.0.7:8081 is down: its session ended",
        "payments has no available instance",
    ] {
        let is_shown = |line: &str| line.starts_with("  Slack  ") && line.ends_with(message);
        assert!(
            output.lines().any(is_shown),
            "no message {message:?} in:\n{output}"
        );
    }
    let record = r#"delete   /services/cart/10.0.0.9:80  was {"w":1}  ephemeral"#;
    assert!(output.contains(record), "{output}");
    assert!(output.contains("zkbridge init"), "{output}");
    assert!(!output.contains('\u{1b}'), "a pipe gets no colours:\n{output}");
    for program in ["QuorumPeerMain", "kafka.Kafka", "run --config"] {
        assert!(traces.saw(program), "{program} was not seen running");
    }
    assert_eq!(traces.folders.len(), 3, "{:?}", traces.folders);
    traces.are_gone().await;
}

#[tokio::test]
async fn ctrl_c_in_the_middle_leaves_nothing_running() {
    real_servers!("Ctrl-C in the middle leaves nothing running");
    let mut demo = demo(&[]);
    let traces = seen_until(&mut demo, "ZooKeeper gives it").await;

    demo.interrupt().unwrap();

    assert_eq!(demo.exit_code(BOUND).await.unwrap(), 130);
    assert!(traces.saw("run --config"));
    traces.are_gone().await;
}

#[tokio::test]
async fn keep_leaves_everything_running_until_ctrl_c() {
    real_servers!("keep leaves everything running until Ctrl-C");
    let mut demo = demo(&["--keep"]);
    let mut traces = seen_until(&mut demo, " watch 127.0.0.1:").await;
    traces.look(demo.id());
    let output = demo.stdout().join("\n");
    assert!(output.contains("  Kafka          127.0.0.1:"), "{output}");
    assert!(output.contains("  its page       http://127.0.0.1:"), "{output}");
    assert!(output.contains("/ui/#code="), "{output}");
    assert!(traces.saw("QuorumPeerMain") && traces.saw("kafka.Kafka") && traces.saw("run --config"));
    assert_eq!(demo.ended(), None);

    demo.interrupt().unwrap();

    let code = demo.exit_code(BOUND).await.unwrap();
    assert_eq!(code, 0, "{}", demo.stderr().join("\n"));
    assert!(demo.stdout().join("\n").contains("zkbridge init"));
    traces.are_gone().await;
}

#[tokio::test]
async fn a_change_that_is_not_in_the_scenario_makes_the_demo_fail() {
    real_servers!("a change that is not in the scenario makes the demo fail");
    let mut demo = demo(&[]);
    let mut traces = seen_until(&mut demo, "ZooKeeper gives it").await;
    let logs = traces.folder("zkbridge-demo-");
    let configuration = std::fs::read_to_string(logs.join("zkbridge.toml")).unwrap();
    let connect = configuration
        .lines()
        .find_map(|line| line.strip_prefix("connect = "))
        .unwrap();

    let stranger = Client::connect(connect.trim_matches('"')).await.unwrap();
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    stranger
        .create("/services/stranger", b"", &options)
        .await
        .unwrap();

    let code = demo.exit_code(BOUND).await.unwrap();
    let (output, errors) = (demo.stdout().join("\n"), demo.stderr().join("\n"));
    assert_eq!(code, 1, "{output}\n{errors}");
    let row = "  nothing else                          0 records              1       NO";
    assert!(output.contains(row), "{output}");
    assert!(output.contains("a create of /services/stranger"), "{output}");
    assert!(errors.contains(&logs.display().to_string()), "{errors}");
    for log in ["bridge.log", "kafka.log", "zookeeper.log"] {
        assert!(logs.join(log).is_file(), "{log} is not kept");
    }
    std::fs::remove_dir_all(&logs).unwrap();
    traces.folders.remove(&logs);
    traces.are_gone().await;
}

#[test]
fn a_missing_bridge_program_is_named_with_what_to_do() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    let output = command.args(["--bridge", "/nowhere/zkbridge"]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("/nowhere/zkbridge: no such file"), "{errors}");
    assert!(errors.contains("help: build it"), "{errors}");
}
