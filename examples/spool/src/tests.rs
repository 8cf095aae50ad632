//! The spool sink at a real folder: its contract, and what it says when it cannot go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_core::amount::Size;
use bridge_core::record::Record;
use bridge_core::sink::{DeliverError, Delivery, Sink, SinkErrorKind};
use bridge_core::testing::{Arrived, Rig, a_record, every_promise};
use tempfile::TempDir;

use crate::error;
use crate::{SpoolConfig, SpoolSink};

/// A folder for each check of the suite.
struct SpoolRig {
    folder: TempDir,
    checks: u32,
}

impl SpoolRig {
    fn folder(&self) -> PathBuf {
        self.folder.path().join(self.checks.to_string())
    }
}

impl Rig for SpoolRig {
    async fn fresh(&mut self) {
        self.checks += 1;
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        Box::new(SpoolSink::new(&SpoolConfig::new(self.folder())))
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        arrived(&self.folder())
    }
}

/// The lines that a reader finds, in its order.
fn arrived(folder: &Path) -> Vec<Arrived> {
    let entries = fs::read_dir(folder.join("new")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts: Vec<String> = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.map(|line| Arrived::from_json(line.as_bytes())).collect()
}

#[tokio::test]
async fn the_sink_keeps_every_promise_of_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    every_promise(&mut SpoolRig { folder, checks: 0 }).await;
}

#[tokio::test]
async fn a_record_that_is_too_large_is_rejected_and_its_retry_writes_over_no_file_that_waits() {
    let folder = tempfile::tempdir().unwrap();
    let record = |seq, bytes| a_record().seq(seq).path("/a").after(vec![b'x'; bytes]).arc();
    let records = [record(1, 5_000), record(2, 10), record(3, 5_000)];
    let mut config = SpoolConfig::new(folder.path());
    config.largest = Size(4 << 10);

    let refused = deliver(&config, &records).await.unwrap_err();
    assert_eq!((refused.done, refused.rejected.len()), (3, 2));
    assert!(refused.rejected[0].reason.contains("raise it"), "{refused:?}");
    config.largest = Size(1 << 20);
    let retried = [Arc::clone(&records[0]), Arc::clone(&records[2])];
    deliver(&config, &retried).await.unwrap();

    let mut seqs: Vec<u64> = arrived(folder.path()).iter().map(|one| one.seq.0).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 3]);
}

#[tokio::test]
async fn a_record_that_was_held_back_is_read_before_what_waited_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = SpoolConfig::new(folder.path());
    let record = |seq, path| a_record().seq(seq).path(path).arc();

    deliver(&config, &[record(5, "/b")]).await.unwrap();
    let later = [record(4, "/a"), record(8, "/b")];
    deliver(&config, &later).await.unwrap();

    let seqs: Vec<u64> = arrived(folder.path()).iter().map(|one| one.seq.0).collect();
    assert_eq!(seqs, [5, 4, 8]);
}

#[tokio::test]
async fn a_lost_number_stops_the_sink_and_no_file_takes_the_place_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let config = SpoolConfig::new(folder.path());
    deliver(&config, &[a_record().arc()]).await.unwrap();
    fs::write(folder.path().join("tmp/number"), "one").unwrap();

    let refused = deliver(&config, &[a_record().arc()]).await.unwrap_err();
    let error = refused.error.unwrap();
    assert_eq!(error.kind, SinkErrorKind::Configuration);
    assert!(error.message.contains("\"one\""), "{error}");
    assert_eq!(arrived(folder.path()).len(), 1);
}

async fn deliver(config: &SpoolConfig, records: &[Arc<Record>]) -> Result<(), DeliverError> {
    let mut sink = SpoolSink::new(config);
    sink.open().await.unwrap();
    let records = records.to_vec();
    sink.deliver(&Delivery { records }).await
}

#[tokio::test]
async fn a_folder_that_is_a_file_cannot_be_opened_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    fs::write(&path, "somebody's").unwrap();
    let error = SpoolSink::new(&SpoolConfig::new(&path)).open().await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Configuration);
    assert!(error.message.contains(&path.display().to_string()), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
}

#[tokio::test]
async fn files_that_nobody_takes_are_remarked() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = SpoolSink::new(&SpoolConfig::new(folder.path()));
    sink.open().await.unwrap();
    assert_eq!(sink.remarks(), [""; 0]);
    for file in 0..10_000 {
        fs::write(folder.path().join(format!("new/{file}")), "").unwrap();
    }
    sink.open().await.unwrap();
    assert!(
        sink.remarks()[0].starts_with("10000 files wait"),
        "{:?}",
        sink.remarks()
    );
}

#[test]
fn each_refusal_of_the_file_system_has_its_kind() {
    let check = |code: i32, expected: SinkErrorKind| {
        let refusal = std::io::Error::from_raw_os_error(code);
        assert_eq!(
            error::at(Path::new("/x"), "write", refusal).kind,
            expected,
            "{code}"
        );
    };
    let (enoent, eio, eacces, enotdir, enospc) = (2, 5, 13, 20, 28);
    check(enoent, SinkErrorKind::Missing);
    check(eio, SinkErrorKind::Unavailable);
    check(eacces, SinkErrorKind::Authorization);
    check(enotdir, SinkErrorKind::Configuration);
    check(enospc, SinkErrorKind::Full);
}

#[test]
fn options_that_cannot_work_are_found_without_touching_a_folder() {
    let check = |options: &str, expected: &[&str]| {
        let config: SpoolConfig = toml::from_str(options).unwrap();
        let keys: Vec<String> = config.objections().into_iter().map(|found| found.key).collect();
        assert_eq!(keys, expected, "{options}");
    };
    check("folder = '/var/spool/zk'", &[]);
    check("folder = ''", &["folder"]);
    check("folder = 'zk'\nlargest = '1 KiB'", &["largest"]);
}
