//! The exec sink with real commands: its contract, exit statuses, and commands that fail for some paths.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bridge_core::amount::Span;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Record};
use bridge_core::secret::Secret;
use bridge_core::sink::{DeliverError, Delivery, Extent, Sink, SinkErrorKind};
use bridge_core::testing::{Arrived, Rig, a_record, every_promise};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{ExecConfig, ExecSink};

/// Appends its input to the file `$0`, unless it has a path of the file `$0.refused`. A line feed before the input
/// separates it from the rest of a run that was killed.
const APPEND: &str = r#"
in="$0.$$"; cat > "$in"
if [ -s "$0.refused" ] && grep -qFf "$0.refused" "$in"; then rm "$in"; echo refused >&2; exit 1; fi
{ echo; cat "$in"; } >> "$0"; rm "$in""#;

/// A wait for something that happens at once has failed after this time, also on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

fn shell(script: &str, file: &Path) -> ExecConfig {
    ExecConfig::new(["/bin/sh", "-c", script, &file.display().to_string()])
}

/// A file for each check of the suite.
struct ExecRig {
    folder: TempDir,
    files: u32,
    batch: usize,
}

impl ExecRig {
    fn file(&self) -> PathBuf {
        self.folder.path().join(self.files.to_string())
    }
}

impl Rig for ExecRig {
    async fn fresh(&mut self) {
        self.files += 1;
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        let mut config = shell(APPEND, &self.file());
        config.batch = self.batch;
        Box::new(ExecSink::new(&config))
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        let is_whole = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        let lines = text.split('\n').filter(is_whole);
        lines.map(|line| Arrived::from_json(line.as_bytes())).collect()
    }

    fn refuse(&mut self, paths: &[ZnodePath]) -> bool {
        let lines: String = paths
            .iter()
            .map(|path| format!("\"path\":\"{path}\"\n"))
            .collect();
        let file = self.folder.path().join(format!("{}.refused", self.files));
        fs::write(file, lines).unwrap();
        true
    }
}

#[tokio::test]
async fn the_sink_keeps_every_promise_of_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    let (files, batch) = (0, 25);
    every_promise(&mut ExecRig { folder, files, batch }).await;
}

/// Each record of these paths, numbered from 1.
fn records(paths: &[&str]) -> Vec<Arc<Record>> {
    let record = |(path, seq): (&&str, u64)| a_record().seq(seq).path(path).arc();
    paths.iter().zip(1..).map(record).collect()
}

async fn opened(config: &ExecConfig) -> ExecSink {
    let mut sink = ExecSink::new(config);
    sink.open().await.unwrap();
    sink
}

async fn deliver(sink: &mut ExecSink, records: &[Arc<Record>]) -> Result<(), DeliverError> {
    let records = records.to_vec();
    sink.deliver(&Delivery { records }).await
}

/// The settled, the rejected and the deferred records, and the extent of the error.
fn parts(report: &DeliverError) -> (usize, Vec<u64>, Vec<u64>, Option<Extent>) {
    (
        report.done,
        report.rejected.iter().map(|one| one.seq.0).collect(),
        report.deferred.iter().map(|one| one.seq.0).collect(),
        report.error.as_ref().map(|_| report.extent),
    )
}

#[tokio::test]
async fn the_exit_status_is_the_answer() {
    let file = Path::new("/");
    let one = [a_record().seq(7).arc()];
    let of_status = |status: u8| shell(&format!("cat > /dev/null; echo why >&2; exit {status}"), file);
    deliver(&mut opened(&of_status(0)).await, &one).await.unwrap();

    let refused = deliver(&mut opened(&of_status(65)).await, &one)
        .await
        .unwrap_err();
    assert_eq!(parts(&refused), (1, vec![7], vec![], None));
    let reason = &refused.rejected[0].reason;
    assert!(reason.contains("/bin/sh: it ended with status 65"), "{reason}");
    assert!(reason.contains("\"why\""), "{reason}");
    let mut config = of_status(3);
    config.refuse_status = 3;
    let refused = deliver(&mut opened(&config).await, &one).await.unwrap_err();
    assert_eq!(parts(&refused), (1, vec![7], vec![], None));

    let fails = async |config: &ExecConfig, words: &str| {
        let failed = deliver(&mut opened(config).await, &one).await.unwrap_err();
        assert_eq!(parts(&failed), (0, vec![], vec![], Some(Extent::Unknown)));
        let error = failed.error.unwrap();
        assert_eq!(error.kind, SinkErrorKind::Unavailable);
        assert!(error.message.contains(words), "{error}");
    };
    for status in [1, 66, 127] {
        fails(&of_status(status), &format!("ended with status {status}")).await;
    }
    fails(&shell("kill -9 $$", file), "signal 9 ended it").await;
    let mut hangs = shell("echo waiting; sleep 600", file);
    hangs.timeout = Span::secs(1);
    fails(
        &hangs,
        "ran longer than 1s and was killed; its standard output ends with \"waiting\"",
    )
    .await;
}

#[tokio::test]
async fn of_a_batch_only_the_records_that_fail_are_held_or_refused() {
    let script = r#"in=$(cat); case "$in" in *'"/never"'*) exit 65;; *'"/later"'*) exit 1;; esac"#;
    let records = records(&["/a", "/later", "/never", "/b", "/later"]);
    for batch in [1, 2, 100] {
        let mut config = shell(script, Path::new("/"));
        config.batch = batch;
        let mut sink = opened(&config).await;
        for _ in 0..2 {
            let report = deliver(&mut sink, &records).await.unwrap_err();
            assert_eq!(parts(&report), (5, vec![3], vec![2, 5], None), "{batch}");
        }
        // Nothing shows that the command takes anything.
        let failing = [Arc::clone(&records[2]), Arc::clone(&records[1])];
        let report = deliver(&mut sink, &failing).await.unwrap_err();
        assert_eq!(
            parts(&report),
            (1, vec![3], vec![], Some(Extent::Unknown)),
            "{batch}"
        );
    }
}

#[tokio::test]
async fn a_run_has_as_many_records_as_a_batch_until_one_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (counts, broken) = (folder.path().join("counts"), folder.path().join("broken"));
    let script = r#"wc -l >> "$0/counts"; [ ! -e "$0/broken" ]"#;
    let mut config = shell(script, folder.path());
    config.batch = 2;
    let mut sink = opened(&config).await;
    let records = records(&["/a", "/b", "/c"]);
    let runs = || {
        let text = fs::read_to_string(&counts).unwrap();
        fs::remove_file(&counts).unwrap();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    deliver(&mut sink, &records).await.unwrap();
    assert_eq!(runs(), ["2", "1"]);
    fs::write(&broken, "").unwrap();
    deliver(&mut sink, &records).await.unwrap_err();
    assert_eq!(runs(), ["2", "1", "1", "1"]);
    fs::remove_file(&broken).unwrap();
    deliver(&mut sink, &records).await.unwrap();
    assert_eq!(runs(), ["1", "1", "1"]);
    deliver(&mut sink, &records).await.unwrap();
    assert_eq!(runs(), ["2", "1"]);
}

#[tokio::test]
async fn a_path_whose_command_hangs_lets_the_others_pass_with_the_next_call() {
    let script = r#"case "$(cat)" in *'"/hang'*) sleep 600;; esac"#;
    let mut config = shell(script, Path::new("/"));
    config.timeout = Span::secs(1);
    let mut sink = opened(&config).await;
    let records = records(&["/hang/1", "/hang/2", "/a", "/hang/1"]);
    for _ in 0..2 {
        let report = deliver(&mut sink, &records).await.unwrap_err();
        assert_eq!(parts(&report), (0, vec![], vec![], Some(Extent::Unknown)));
        let message = report.error.unwrap().message;
        assert!(message.contains("ran longer than 1s"), "{message}");
    }
    sink.open().await.unwrap();
    let report = deliver(&mut sink, &records).await.unwrap_err();
    assert_eq!(parts(&report), (4, vec![], vec![1, 2, 4], None));
}

#[tokio::test]
async fn records_without_a_line_need_no_run_and_those_that_can_have_none_are_rejected() {
    let mut config = shell("cat; exit 1", Path::new("/"));
    config.body = Some("{% if path != '/a' %}{{ after.data.value | default('-') }}{% endif %}".to_owned());
    config.content_type = Some("text/plain".to_owned());
    assert_eq!(config.objections(), []);
    let mut sink = opened(&config).await;
    let control = a_record().seq(2).control(Op::GapEnd).arc();
    let passed = [a_record().seq(1).path("/a").arc(), control];
    deliver(&mut sink, &passed).await.unwrap();
    let broken = a_record().seq(3).path("/b").after("1\n2").arc();
    let report = deliver(&mut sink, &[broken]).await.unwrap_err();
    assert_eq!(parts(&report), (1, vec![3], vec![], None));
    let report = deliver(&mut sink, &[a_record().path("/b").after("shown").arc()])
        .await
        .unwrap_err();
    let message = report.error.unwrap().message;
    assert!(
        message.ends_with("its standard output ends with \"shown\""),
        "{message}"
    );
}

#[tokio::test]
async fn a_delivery_that_is_dropped_ends_its_command_before_the_next_one_starts() {
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    let script = r#"[ -e "$0" ] && ! kill -0 "$(cat "$0")"; is_gone=$?; echo $$ > "$0.new"; mv "$0.new" "$0"
        [ "$is_gone" = 0 ] || sleep 600"#;
    let mut sink = opened(&shell(script, &started)).await;
    let records = records(&["/a"]);
    let is_started = async {
        while !started.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        delivered = deliver(&mut sink, &records) => panic!("it does not end: {delivered:?}"),
        waited = timeout(BOUND, is_started) => waited.unwrap(),
    }
    deliver(&mut sink, &records).await.unwrap();
    assert_eq!(sink.take_answer().as_deref(), Some("status 0"));
    sink.close().await.unwrap();
}

#[tokio::test]
async fn the_last_line_of_a_run_is_its_answer_and_a_sink_that_was_not_opened_delivers_nothing() {
    let mut sink = ExecSink::new(&shell(
        "echo posted; echo 'id 7'; cat > /dev/null",
        Path::new("/"),
    ));
    let report = deliver(&mut sink, &records(&["/a"])).await.unwrap_err();
    assert_eq!(report.error.unwrap().kind, SinkErrorKind::Broken);
    sink.open().await.unwrap();
    deliver(&mut sink, &records(&["/a"])).await.unwrap();
    assert_eq!(sink.take_answer().as_deref(), Some("status 0 (\"id 7\")"));
    assert_eq!(sink.take_answer(), None);
}

#[tokio::test]
async fn a_program_that_is_gone_is_found_by_open_and_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("true");
    fs::copy("/bin/true", &program).unwrap();
    let mut sink = opened(&ExecConfig::new([program.display().to_string()])).await;
    fs::remove_file(&program).unwrap();
    let report = deliver(&mut sink, &records(&["/a"])).await.unwrap_err();
    assert_eq!(parts(&report), (0, vec![], vec![], Some(Extent::Destination)));
    let error = sink.open().await.unwrap_err();
    for error in [error, report.error.unwrap()] {
        assert_eq!(error.kind, SinkErrorKind::Missing);
        assert!(error.message.contains(&program.display().to_string()), "{error}");
    }
}

#[test]
fn options_that_cannot_work_are_found_without_starting_anything() {
    let check = |options: &str, expected: &[&str]| {
        let config: ExecConfig = toml::from_str(options).unwrap();
        let keys: Vec<String> = config.objections().into_iter().map(|found| found.key).collect();
        assert_eq!(keys, expected, "{options}");
    };
    check("command = ['/bin/cat']", &[]);
    check(
        "command = ['cat', '-']\nbatch = 1000\nformat = 'flat'\ntimeout = '1h'",
        &[],
    );
    check("command = ['cat']\nformat = 'service'\nbody = '{{ text }}'", &[]);
    check("command = []", &["command"]);
    check("command = ['./notify']", &["command"]);
    check("command = ['cat']\nbatch = 0", &["batch"]);
    check("command = ['cat']\nbatch = 1001", &["batch"]);
    check("command = ['cat']\nformat = 'raw'", &["format"]);
    check("command = ['cat']\nformat = 'connect-json'", &["format"]);
    check("command = ['cat']\nbody = '{{'", &["body"]);
    check(
        "command = ['cat']\ncontent_type = 'text/plain'",
        &["content_type"],
    );
    check("command = ['cat']\ntimeout = '10ms'", &["timeout"]);
    check("command = ['cat']\nrefuse_status = 0", &["refuse_status"]);
    check("command = ['cat']\nrefuse_status = 126", &["refuse_status"]);
    check("command = ['cat']\ndirectory = 'here'", &["directory"]);
    check("command = ['cat']\n[env]\n'A=B' = 'x'", &["env"]);
    assert!(toml::from_str::<ExecConfig>("command = 'cat'").is_err());
}

#[test]
fn a_variable_is_never_shown() {
    let mut config = ExecConfig::new(["cat"]);
    config.env = [("TOKEN".to_owned(), Secret::new("s3cr3t\0"))].into();
    let shown = format!("{config:?} {:?}", config.objections());
    assert!(shown.contains("TOKEN") && !shown.contains("s3cr3t"), "{shown}");
}
