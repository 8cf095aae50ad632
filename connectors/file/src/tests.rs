use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_core::record::Record;
use bridge_core::sink::{Delivery, Sink, SinkError, SinkErrorKind};
use bridge_core::testing::{Arrived, Rig, every_promise, some_records};
use tempfile::TempDir;

use crate::{FileConfig, FileSink};

struct FileRig {
    folder: TempDir,
    files: u32,
}

impl FileRig {
    fn new() -> FileRig {
        FileRig {
            folder: tempfile::tempdir().unwrap(),
            files: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(format!("{}/zk.jsonl", self.files))
    }
}

impl Rig for FileRig {
    async fn fresh(&mut self) {
        self.files += 1;
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        Box::new(sink_at(&self.path()))
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        let text = fs::read_to_string(self.path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is torn");
        text.lines()
            .map(|line| Arrived::from_json(line.as_bytes()))
            .collect()
    }
}

fn sink_at(path: &Path) -> FileSink {
    FileSink::new(&FileConfig { path: path.into() })
}

async fn deliver(sink: &mut FileSink, records: &[Arc<Record>]) {
    let batch = Delivery {
        records: records.to_vec(),
    };
    sink.deliver(&batch).await.unwrap();
}

async fn refusal(path: &Path) -> SinkError {
    sink_at(path).open().await.unwrap_err()
}

fn seqs(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    let seq = |line: &str| Arrived::from_json(line.as_bytes()).seq.0;
    text.lines().map(seq).collect()
}

#[tokio::test]
async fn the_sink_keeps_every_promise_of_its_contract() {
    every_promise(&mut FileRig::new()).await;
}

#[tokio::test]
async fn a_torn_last_line_is_cut_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zk.jsonl");
    let records = some_records(3, 2);
    let kept = "a line of before\n".to_owned() + &line(&records[0]);
    let torn = &line(&records[1])[..70];
    fs::write(&path, kept.clone() + torn).unwrap();

    let mut sink = sink_at(&path);
    sink.open().await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), kept);
    deliver(&mut sink, &records[1..]).await;

    let expected = kept + &line(&records[1]) + &line(&records[2]);
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

fn line(record: &Record) -> String {
    String::from_utf8(record.to_json()).unwrap() + "\n"
}

#[tokio::test]
async fn a_file_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passwd");
    fs::write(&path, "root:x:0:0\nno line feed").unwrap();

    let error = refusal(&path).await;

    assert_eq!(error.kind, SinkErrorKind::Configuration);
    assert!(error.message.contains("its last line is not complete"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "root:x:0:0\nno line feed");
}

#[tokio::test]
async fn file_and_folders_are_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/zk.jsonl");

    sink_at(&path).open().await.unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&folder.path().join("a")), 0o700);
}

#[tokio::test]
async fn what_can_never_be_a_file_of_records_halts_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    let check = async |path: &Path, words: &str| {
        let error = refusal(path).await;
        assert_eq!(error.kind, SinkErrorKind::Configuration, "{error}");
        assert!(error.message.contains(words), "{error}");
    };
    check(folder.path(), "it is a folder").await;
    check(Path::new("/dev/null"), "it is a device or a pipe").await;
    check(&plain.join("below/zk.jsonl"), "plain/below").await;
}

#[tokio::test(start_paused = true)]
async fn two_sinks_never_write_between_each_others_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zk.jsonl");
    let mut first = sink_at(&path);
    first.open().await.unwrap();

    let error = refusal(&path).await;
    assert_eq!(error.kind, SinkErrorKind::Unavailable);
    assert!(error.message.contains("is locked"), "{error}");

    first.close().await.unwrap();
    sink_at(&path).open().await.unwrap();
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_replaced_by_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("zk.jsonl"), folder.path().join("zk.jsonl.1"));
    let records = some_records(6, 2);
    let mut sink = sink_at(&path);
    sink.open().await.unwrap();

    deliver(&mut sink, &records[..2]).await;
    fs::rename(&path, &moved).unwrap();
    deliver(&mut sink, &records[2..4]).await;
    fs::remove_file(&path).unwrap();
    deliver(&mut sink, &records[4..]).await;

    assert_eq!(seqs(&moved), [1, 2]);
    assert_eq!(seqs(&path), [5, 6]);
}

#[test]
fn options_are_read_and_checked() {
    let read = |text: &str| serde_json::from_str::<FileConfig>(text);
    assert_eq!(read(r#"{"path": "audit/zk.jsonl"}"#).unwrap().objections(), []);
    assert!(read(r#"{"path": "a", "compress": true}"#).is_err());
    for folder in ["", "audit/", "/", ".."] {
        let objections = read(&format!(r#"{{"path": "{folder}"}}"#)).unwrap().objections();
        assert_eq!(objections[0].key, "path", "{folder}");
    }
}

#[test]
fn every_line_begins_as_a_torn_one_is_recognised() {
    for record in some_records(3, 1) {
        assert!(record.to_json().starts_with(crate::encode::LINE_START));
    }
}
