//! The file sink on real files: its contract, crashes, files changed by other programs, and full disks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_core::amount::{Size, Threshold};
use bridge_core::format::Format;
use bridge_core::record::{Op, Record};
use bridge_core::sink::{Delivery, Sink, SinkError, SinkErrorKind};
use bridge_core::testing::{Arrived, Rig, a_record, every_promise, some_records};
use tempfile::TempDir;

use crate::encode::{self, LINE_START_MAX, LINE_STARTS, ROW_START};
use crate::{FileConfig, FileSink, Keep};

mod closed;
mod crash;

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
    FileSink::new(FileConfig::new(path))
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
async fn a_path_that_can_never_be_a_file_of_records_halts_with_the_reason() {
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

#[tokio::test(flavor = "multi_thread")]
async fn sinks_that_share_a_file_never_write_inside_each_others_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zk.jsonl");
    let records = some_records(200, 3);
    let write_all = async |records: Vec<Arc<Record>>| {
        let mut sink = sink_rotating(&path, 20_000, Keep::All);
        sink.open().await.unwrap();
        for batch in records.chunks(3) {
            deliver(&mut sink, batch).await;
        }
        sink.close().await.unwrap();
    };

    tokio::join!(write_all(records.clone()), write_all(records.clone()));

    let mut seen: Vec<u64> = files_in(folder.path())
        .iter()
        .flat_map(|file| seqs(file))
        .collect();
    seen.sort_unstable();
    let twice: Vec<u64> = (1..=200).flat_map(|seq| [seq, seq]).collect();
    assert_eq!(seen, twice);
}

fn sink_rotating(path: &Path, bytes: u64, keep: Keep) -> FileSink {
    FileSink::new(FileConfig {
        rotate: Threshold::At(Size(bytes)),
        keep,
        ..FileConfig::new(path)
    })
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_file_that_would_grow_too_long_is_followed_by_a_new_one_and_the_oldest_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zk.jsonl");
    let stranger = folder.path().join("zk.not-a-time-of-rotation.jsonl");
    fs::write(&stranger, "kept").unwrap();
    let records = some_records(60, 3);
    let mut sink = sink_rotating(&path, 10_000, Keep::Newest(2));
    sink.open().await.unwrap();

    for batch in records.chunks(5) {
        deliver(&mut sink, batch).await;
    }

    let files = files_in(folder.path());
    assert_eq!(
        files.len(),
        4,
        "two rotated, the present one, a stranger: {files:?}"
    );
    assert!(files.contains(&stranger) && files.contains(&path));
    for file in files.iter().filter(|file| **file != stranger) {
        assert!(fs::metadata(file).unwrap().len() <= 10_000, "{file:?}");
    }
    let kept: Vec<u64> = files
        .iter()
        .filter(|file| **file != stranger)
        .flat_map(|file| seqs(file))
        .collect();
    assert!(kept.is_sorted() && kept.ends_with(&[60]), "{kept:?}");
}

#[tokio::test]
async fn a_batch_longer_than_a_file_stays_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zk");
    let mut sink = sink_rotating(&path, 100, Keep::Newest(0));
    sink.open().await.unwrap();

    deliver(&mut sink, &some_records(5, 2)).await;

    assert_eq!(seqs(&path), [1, 2, 3, 4, 5]);
    assert_eq!(files_in(folder.path()), [path]);
}

struct RotatingRig(FileRig);

impl Rig for RotatingRig {
    async fn fresh(&mut self) {
        self.0.fresh().await;
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        Box::new(sink_rotating(&self.0.path(), 30_000, Keep::All))
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        let files = files_in(self.0.path().parent().unwrap());
        let text: String = files
            .iter()
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        text.lines()
            .map(|line| Arrived::from_json(line.as_bytes()))
            .collect()
    }
}

#[tokio::test]
async fn the_sink_keeps_every_promise_across_rotations() {
    every_promise(&mut RotatingRig(FileRig::new())).await;
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
    let defaults = read(r#"{"path": "a"}"#).unwrap();
    let written = serde_json::to_value(&defaults).unwrap();
    assert_eq!(
        written,
        serde_json::json!({"path": "a", "format": "record", "rotate": "256 MiB", "rotate_every": "off", "compress": "none", "keep": 16})
    );
    let off = read(r#"{"path": "a", "rotate": "off", "keep": "all"}"#).unwrap();
    assert_eq!((off.rotate, off.keep), (Threshold::Off, Keep::All));
    let small = read(r#"{"path": "a", "rotate": "1 KiB"}"#).unwrap();
    assert_eq!(small.objections()[0].key, "rotate");
    let often = read(r#"{"path": "a", "rotate_every": "1s"}"#).unwrap();
    assert_eq!(often.objections()[0].key, "rotate_every");
    let daily = read(r#"{"path": "a", "rotate_every": "1d", "compress": "zstd"}"#).unwrap();
    assert_eq!(daily.objections(), []);
    for (bad, words) in [
        (r#"{"path": "a", "rotate": "daily"}"#, "or \"off\""),
        (r#"{"path": "a", "rotate_every": "daily"}"#, "or \"off\""),
        (r#"{"path": "a", "compress": "lz4"}"#, "`gzip`"),
        (
            r#"{"path": "a", "keep": "some"}"#,
            "a number of files, or \"all\"",
        ),
        (r#"{"path": "a", "keep": -1}"#, "a number of files, or \"all\""),
    ] {
        let error = read(bad).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for folder in ["", "audit/", "/", ".."] {
        let objections = read(&format!(r#"{{"path": "{folder}"}}"#)).unwrap().objections();
        assert_eq!(objections[0].key, "path", "{folder}");
    }
}

#[test]
fn every_line_begins_as_a_torn_one_is_recognised() {
    let formats = [
        Format::Record,
        Format::Cloudevents,
        Format::Service,
        Format::ServiceCloudevents,
        Format::Flat,
    ];
    let starts = LINE_STARTS.into_iter().chain([LINE_STARTS[1], ROW_START]);
    for (format, start) in formats.into_iter().zip(starts) {
        assert!(start.len() <= LINE_START_MAX);
        let event = a_record().control(Op::Service).arc();
        let records = match format.is_of_services() {
            true => vec![event],
            false => some_records(20, 1),
        };
        assert_ne!(encode::lines(&records, format), b"", "{format:?}");
        for record in records {
            let line = encode::lines(&[record], format);
            // Records about the stream have no row.
            let is_as_expected = line.starts_with(start) || format == Format::Flat && line.is_empty();
            assert!(is_as_expected, "{}", String::from_utf8_lossy(&line));
        }
    }
}

#[tokio::test]
async fn a_line_can_be_an_event_with_the_record_inside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zk.jsonl");
    let records = some_records(20, 3);
    let mut sink = FileSink::new(FileConfig {
        format: Format::Cloudevents,
        ..FileConfig::new(&path)
    });
    sink.open().await.unwrap();

    deliver(&mut sink, &records).await;

    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), records.len());
    for (line, record) in text.lines().zip(&records) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["id"], record.id.to_string());
        let inside = Arrived::from_json(event["data"].to_string().as_bytes());
        assert_eq!(inside, Arrived::of(record));
    }
}

#[test]
fn formats_that_no_line_can_hold_are_refused_with_the_reason() {
    let objections = |format: Format| {
        FileConfig {
            format,
            ..FileConfig::new("a")
        }
        .objections()
    };
    for (format, reason) in [
        (Format::CloudeventsBinary, "no headers"),
        (Format::Raw, "line feeds"),
    ] {
        let [objection] = &objections(format)[..] else {
            panic!("{format:?}");
        };
        assert_eq!(objection.key, "format");
        assert!(objection.message.contains(reason), "{objection:?}");
    }
    assert_eq!(objections(Format::Cloudevents), []);
}

#[tokio::test]
async fn a_line_can_be_written_by_a_template_and_a_torn_one_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zk.jsonl");
    let config = FileConfig {
        body: Some("{\"path\": {{ path }},\n \"value\": {{ after.data.value }}}".to_owned()),
        ..FileConfig::new(&path)
    };
    let written = "{\"path\": \"/a\",  \"value\": \"1\\n2\"}\n";
    let records = [
        a_record().path("/a").after("1\n2").arc(),
        a_record().control(Op::GapEnd).seq(2).arc(),
    ];

    let mut sink = FileSink::new(config.clone());
    sink.open().await.unwrap();
    deliver(&mut sink, &records).await;
    sink.close().await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), written);

    fs::write(&path, format!("{written}{{\"path\": \"/b")).unwrap();
    FileSink::new(config).open().await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
}

#[test]
fn the_fixed_beginning_of_a_template_is_the_beginning_of_its_lines() {
    let check = |template: &str, expected: &str| {
        let start = encode::line_start_of(template);
        assert_eq!(String::from_utf8_lossy(start), expected, "{template}");
    };
    check(" {\"path\": {{ path }}}", "{\"path\":");
    check("{{ path }}", "");
    check("{% if op %}x{% endif %}", "");
    check("{\n  \"path\": {{ path }}}", "{");
    check(
        "one two three four five six seven eight {{ op }}",
        "one two three four five six seve",
    );
}
