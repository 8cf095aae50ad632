//! Real commands, those that misbehave among them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bridge_core::amount::Span;
use bridge_core::secret::Secret;
use bridge_core::sink::SinkErrorKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{sleep, timeout};

use crate::output::{KEPT_BYTES_MAX, OUTPUT_BYTES_MAX};
use crate::{ChildCommand, FinishedRun, OptionNames, OutputTail, RunEnd, Runner};

/// A wait for something that happens at once has failed after this time, also on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

const NAMES: OptionNames = OptionNames {
    words: "command",
    env: "env",
    directory: "directory",
    timeout: "timeout",
};

fn command(words: &[&str]) -> ChildCommand {
    ChildCommand {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        directory: "/".into(),
        timeout: Span(BOUND),
    }
}

/// A script for a shell; `$0` is the path.
fn shell(script: &str, path: &Path) -> ChildCommand {
    command(&["/bin/sh", "-c", script, &path.display().to_string()])
}

async fn run(command: &ChildCommand, input: &str) -> FinishedRun {
    let program = command.find().unwrap();
    let (command, input) = (Arc::new(command.clone()), input.as_bytes().to_vec());
    Runner::default().run(&program, &command, input).await.unwrap()
}

/// The process with the number in this file, once it is there.
async fn process_of(file: &Path) -> Pid {
    let number = async {
        loop {
            let text = fs::read_to_string(file).unwrap_or_default();
            match text.strip_suffix('\n').map(str::parse) {
                Some(Ok(number)) => return Pid::from_raw(number),
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(BOUND, number)
        .await
        .expect("the command writes its number")
}

/// Whether a process runs; one that has ended and was not reaped by its new parent does not.
fn runs(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Whether the process has an entry, also as a zombie.
fn is_known(process: Pid) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

async fn until_not(is_there: impl Fn(Pid) -> bool, process: Pid) {
    let gone = async {
        while is_there(process) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(BOUND, gone).await.expect("the process ends");
}

#[tokio::test]
async fn a_command_reads_its_input_and_its_end_and_output_are_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let input = "line\n".repeat(400_000);
    let counted = run(&command(&["wc", "-lc"]), &input).await;
    assert_eq!(counted.end, RunEnd::Status(0));
    let words = counted.stdout.last_line().unwrap();
    assert!(words.contains("400000 2000000"), "{words}");

    let check = |script: &'static str, end: RunEnd, sentence: &'static str| {
        let command = shell(script, folder.path());
        async move {
            let finished = run(&command, "x").await;
            assert_eq!(finished.end, end, "{script}");
            assert_eq!(finished.sentence(Path::new("/bin/sh")), sentence);
        }
    };
    check(
        "",
        RunEnd::Status(0),
        "/bin/sh: it ended with status 0; it wrote nothing",
    )
    .await;
    let said = "/bin/sh: it ended with status 3; its standard output ends with \"a\\nb\"";
    check("echo a; echo b; exit 3", RunEnd::Status(3), said).await;
    let said = "/bin/sh: it ended with status 1; its standard error ends with \"why\"";
    check("echo a; echo why >&2; exit 1", RunEnd::Status(1), said).await;
    let said = "/bin/sh: signal 9 ended it; it wrote nothing";
    check("kill -9 $$", RunEnd::Signal(9), said).await;
}

#[tokio::test]
async fn a_command_that_reads_no_or_a_part_of_its_input_or_closes_it_is_judged_by_its_status() {
    let folder = tempfile::tempdir().unwrap();
    let input = "x".repeat(4 << 20);
    for (script, status) in [
        ("true", 0),
        ("exec <&-; exit 0", 0),
        ("head -c 10 > /dev/null; exit 9", 9),
    ] {
        let finished = run(&shell(script, folder.path()), &input).await;
        assert_eq!(finished.end, RunEnd::Status(status), "{script}");
    }
}

#[tokio::test]
async fn a_command_gets_its_arguments_folder_and_variables_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        "printf '%s|%s|' \"$1\" \"$PWD\"; env | grep -v -e ^PWD -e ^_ -e ^SHLVL | sort | tr '\\n' ' '";
    let mut command = command(&["sh", "-c", script, "x", "$HOME; echo `id`"]);
    command.directory = folder.path().to_owned();
    command.env = [("B", "two"), ("A", "1"), ("PATH", "/bin:/usr/bin")]
        .map(|(name, value)| (name.to_owned(), Secret::new(value)))
        .into();
    let finished = run(&command, "").await;
    let shown = finished.stdout.shown();
    let expected = format!(
        "\"$HOME; echo `id`|{}|A=1 B=two PATH=/bin:/usr/bin\"",
        folder.path().display()
    );
    assert_eq!(shown, expected);
    assert!(!format!("{command:?}").contains("two"));
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_with_its_children_and_leaves_no_zombie() {
    let folder = tempfile::tempdir().unwrap();
    let (leader, child) = (folder.path().join("leader"), folder.path().join("child"));
    let script = "cd $0; trap '' TERM; echo $$ > leader; sleep 600 & echo $! > child; echo waiting; wait";
    let mut command = shell(script, folder.path());
    command.timeout = Span::secs(2);
    let finished = run(&command, "x").await;
    assert_eq!(finished.end, RunEnd::TimedOut(Span::secs(2)));
    let sentence = finished.sentence(Path::new("/bin/sh"));
    assert!(
        sentence.contains("it ran longer than 2s and was killed"),
        "{sentence}"
    );
    assert!(sentence.contains("\"waiting\""), "{sentence}");
    until_not(runs, process_of(&child).await).await;
    assert!(!is_known(process_of(&leader).await), "the leader was not reaped");
}

#[tokio::test]
async fn children_that_a_command_leaves_in_its_group_end_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("child");
    let finished = run(&shell("sleep 600 & echo $! > $0", &child), "").await;
    assert_eq!(finished.end, RunEnd::Status(0));
    until_not(runs, process_of(&child).await).await;
}

#[tokio::test]
async fn a_daemon_that_holds_the_output_open_does_not_delay_the_end_of_its_command() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = folder.path().join("daemon");
    let script = r#"setsid sh -c 'echo $$ > "$0"; exec sleep 600' "$0" & while [ ! -s "$0" ]; do :; done; echo started"#;
    let finished = run(&shell(script, &daemon), "").await;
    let daemon = process_of(&daemon).await;
    let is_left = runs(daemon);
    kill(daemon, Signal::SIGKILL).unwrap();
    assert_eq!(finished.end, RunEnd::Status(0));
    assert_eq!(finished.stdout.last_line().unwrap(), "\"started\"");
    assert!(is_left, "a process that left the group is not killed");
}

#[tokio::test]
async fn a_command_that_writes_without_end_is_killed_and_the_end_of_its_output_is_shown() {
    for script in ["yes 'again and again'", "yes 'again and again' >&2"] {
        let finished = run(&shell(script, Path::new("/")), "").await;
        assert_eq!(finished.end, RunEnd::TooMuchOutput);
        let sentence = finished.sentence(Path::new("/bin/sh"));
        assert!(
            sentence.contains("it wrote more than 16 MiB and was killed"),
            "{sentence}"
        );
        assert!(
            sentence.contains("…") && sentence.contains("again and again\\n"),
            "{sentence}"
        );
        assert!(sentence.len() < 2 * KEPT_BYTES_MAX, "{}", sentence.len());
    }
}

#[tokio::test]
async fn only_the_end_of_an_output_is_kept_and_it_is_shown_without_control_characters() {
    let mut tail = OutputTail::default();
    tail.read(Some(&b" \n"[..])).await.unwrap();
    assert!(tail.is_empty());
    assert_eq!((tail.shown().as_str(), tail.last_line()), ("\"\"", None));
    let mut long = vec![b'x'; 50_000];
    long.extend(b"\nthe end \x1b[31m\xff\n\n");
    tail.read(Some(&long[..])).await.unwrap();
    let shown = tail.shown();
    assert!(shown.starts_with("\"…xxx"), "{shown}");
    assert!(shown.ends_with("the end \\u{1b}[31m\u{fffd}\""), "{shown}");
    assert_eq!(tail.last_line().unwrap(), "\"the end \\u{1b}[31m\u{fffd}\"");
    assert!(shown.len() < 2 * KEPT_BYTES_MAX);
    let endless = tokio::io::AsyncReadExt::take(tokio::io::repeat(b'x'), OUTPUT_BYTES_MAX);
    assert!(tail.read(Some(endless)).await.is_err());
}

#[tokio::test]
async fn a_command_that_prints_its_variables_when_it_fails_shows_no_secret() {
    let secret = "hunter2-swordfish";
    let script = "env; echo \"> Authorization: Bearer $TOKEN\"; env >&2; exit 7";
    let mut command = shell(script, Path::new("/"));
    let variables = [("TOKEN", secret), ("LOGIN", "me:hunter2-swordfish")];
    command.env = variables
        .map(|(name, value)| (name.to_owned(), Secret::new(value)))
        .into();
    let finished = run(&command, "").await;
    let (sentence, line) = (
        finished.sentence(Path::new("/bin/sh")),
        finished.stdout.last_line(),
    );
    assert!(sentence.contains("TOKEN=***"), "{sentence}");
    assert_eq!(line.as_deref(), Some("\"> Authorization: Bearer ***\""));
    assert!(
        !format!("{sentence} {finished:?}").contains("swordfish"),
        "{sentence} {finished:?}"
    );
    // Wherever the part that is shown begins.
    for more in 1_000..1_030 {
        let script = format!("printf \"$TOKEN%{more}s\" x; exit 7");
        command.words[2] = script;
        let sentence = run(&command, "").await.sentence(Path::new("/bin/sh"));
        assert!(!sentence.contains("fish"), "{more}: {sentence}");
    }
}

#[tokio::test]
async fn a_run_that_is_given_up_is_gone_before_the_next_one_starts() {
    let folder = tempfile::tempdir().unwrap();
    let leader = folder.path().join("leader");
    let waits = Arc::new(shell(r#"echo $$ > "$0"; sleep 600"#, &leader));
    let program = waits.find().unwrap();
    let mut runner = Runner::default();
    for is_last in [false, true] {
        let process = tokio::select! {
            ended = runner.run(&program, &waits, vec![1]) => panic!("it does not end: {ended:?}"),
            process = process_of(&leader) => process,
        };
        if is_last {
            drop(runner);
            return until_not(is_known, process).await;
        }
        let next = Arc::new(shell(r#"kill -0 "$(cat "$0")""#, &leader));
        let finished = runner.run(&program, &next, vec![]).await.unwrap();
        assert_eq!(finished.end, RunEnd::Status(1), "{finished:?}");
        assert!(!is_known(process), "it was not reaped");
        fs::remove_file(&leader).unwrap();
    }
}

#[tokio::test]
async fn a_runner_that_is_stopped_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let leader = folder.path().join("leader");
    let waits = Arc::new(shell(r#"echo $$ > "$0"; sleep 600"#, &leader));
    let mut runner = Runner::default();
    assert!(runner.stop().await);
    let program = waits.find().unwrap();
    let process = tokio::select! {
        ended = runner.run(&program, &waits, vec![]) => panic!("it does not end: {ended:?}"),
        process = process_of(&leader) => process,
    };
    assert!(runner.stop().await);
    assert!(!is_known(process));
}

#[test]
fn a_runtime_that_ends_takes_the_run_under_way_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let leader = folder.path().join("leader");
    let waits = Arc::new(shell(r#"echo $$ > "$0"; sleep 600"#, &leader));
    let program = waits.find().unwrap();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let ending = runtime();
    ending.spawn(async move { Runner::default().run(&program, &waits, vec![]).await.map(drop) });
    let other = runtime();
    let process = other.block_on(process_of(&leader));
    drop(ending);
    other.block_on(until_not(runs, process));
}

#[test]
fn a_program_that_cannot_be_run_is_found_before_it_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let plain = PathBuf::from(path("plain"));
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let check = |command: &ChildCommand, kind: SinkErrorKind, words: &str| {
        let error = command.find().unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words), "{error}");
    };
    check(&command(&[&path("none")]), SinkErrorKind::Missing, &path("none"));
    check(
        &command(&["no-such-program-anywhere"]),
        SinkErrorKind::Missing,
        "no folder of PATH",
    );
    check(&command(&[&path("")]), SinkErrorKind::Configuration, "not a file");
    check(
        &command(&[&path("plain/x")]),
        SinkErrorKind::Configuration,
        "plain/x",
    );
    let mut elsewhere = command(&["true"]);
    elsewhere.directory = path("gone").into();
    check(&elsewhere, SinkErrorKind::Missing, "gone");
    let mut named = command(&["plain"]);
    named.env = [("PATH".to_owned(), Secret::new(format!("relative:{}", path(""))))].into();
    check(&named, SinkErrorKind::Authorization, &path("plain"));
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(named.find().unwrap(), plain);
}

#[tokio::test]
async fn a_start_that_fails_has_its_kind_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |content: &str, kind: SinkErrorKind, words: &str| {
        let path = folder.path().join("program");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let command = Arc::new(command(&[&path.display().to_string()]));
        let started = async {
            loop {
                let error = Runner::default().run(&path, &command, vec![]).await.unwrap_err();
                // Another test forks while the file is open for writing.
                if error.kind != SinkErrorKind::Unavailable {
                    return error;
                }
            }
        };
        let error = timeout(BOUND, started).await.unwrap();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words), "{error}");
    };
    check("#!/no/such/interpreter\n", SinkErrorKind::Missing, "interpreter").await;
    check("echo no first line\n", SinkErrorKind::Configuration, "#!/bin/sh").await;
}

#[test]
fn options_that_cannot_work_are_found_without_starting_anything() {
    let check = |change: &dyn Fn(&mut ChildCommand), expected: &[&str]| {
        let mut options = command(&["cat"]);
        change(&mut options);
        let found = options.objections(&NAMES);
        let keys: Vec<&str> = found.iter().map(|one| &*one.key).collect();
        assert_eq!(keys, expected, "{options:?}: {found:?}");
    };
    let with_words =
        |words: &'static [&str]| move |options: &mut ChildCommand| options.words = command(words).words;
    let with_variable = |name: &'static str, value: &'static str| {
        move |options: &mut ChildCommand| options.env = [(name.to_owned(), Secret::new(value))].into()
    };
    check(&|_| {}, &[]);
    check(&with_words(&["/bin/cat", "a b", ""]), &[]);
    check(&with_words(&["/opt/my tools/notify", "x"]), &[]);
    check(&with_words(&[]), &["command"]);
    check(&with_words(&[""]), &["command"]);
    check(&with_words(&["./notify"]), &["command"]);
    check(&with_words(&["cat > /tmp/x"]), &["command"]);
    check(&with_words(&["cat", "a\0b"]), &["command"]);
    check(&|options| options.words.push("x".repeat(128 << 10)), &["command"]);
    check(&|options| options.words = vec!["x".into(); 1_001], &["command"]);
    check(&with_variable("A", "a=b"), &[]);
    check(&with_variable("A=B", "x"), &["env"]);
    check(&with_variable("", "x"), &["env"]);
    check(&with_variable("A", "a\0b"), &["env"]);
    check(&|options| options.directory = "here".into(), &["directory"]);
    check(&|options| options.timeout = Span::millis(10), &["timeout"]);
    check(&|options| options.timeout = Span::secs(3_601), &["timeout"]);
}

#[test]
fn runs_are_counted_by_how_they_ended() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let mut runner = Runner::default().metered("notify", "main");
            for script in ["", "exit 1", "exit 2", "kill -9 $$"] {
                let command = Arc::new(shell(script, Path::new("/")));
                runner.run(Path::new("/bin/sh"), &command, vec![]).await.unwrap();
            }
            let nothing = Arc::new(command(&["/no/such/program"]));
            let program = Path::new("/no/such/program");
            runner.run(program, &nothing, vec![]).await.unwrap_err();
        });
    });
    let mut counts: Vec<(String, u64)> = Vec::new();
    for (key, _, _, value) in snapshots.snapshot().into_vec() {
        let (_, key) = key.into_parts();
        let labels: Vec<&str> = key.labels().map(|label| label.value()).collect();
        let DebugValue::Counter(count) = value else {
            panic!("{key:?} is a counter");
        };
        counts.push((labels.join(" "), count));
    }
    counts.sort();
    let expected = [
        ("notify main not_run", 1),
        ("notify main signal", 1),
        ("notify main status", 2),
        ("notify main success", 1),
    ];
    assert_eq!(counts, expected.map(|(labels, count)| (labels.to_owned(), count)));
}
