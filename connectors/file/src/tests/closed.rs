//! Files that were rotated: by age, compressed, and what a crash leaves of that.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bridge_core::amount::{Interval, Span};

use super::*;
use crate::Compress;

/// A clock that runs ahead by so many seconds.
fn ahead_by(seconds: &Arc<AtomicU64>) -> crate::log::Clock {
    let seconds = Arc::clone(seconds);
    Arc::new(move || SystemTime::now() + Duration::from_secs(seconds.load(Ordering::SeqCst)))
}

/// The seqs in all files of a folder, whatever their form; sorted by the names of the files.
fn all_seqs(folder: &Path) -> Vec<u64> {
    let read = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        let mut text = String::new();
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text),
            Some("zst") => zstd::Decoder::new(&bytes[..]).unwrap().read_to_string(&mut text),
            Some("tmp") => Ok(0),
            _ => (&bytes[..]).read_to_string(&mut text),
        }
        .unwrap();
        text
    };
    let text: String = files_in(folder).iter().map(read).collect();
    text.lines()
        .map(|line| Arrived::from_json(line.as_bytes()).seq.0)
        .collect()
}

fn endings(folder: &Path) -> Vec<String> {
    let ending = |path: &PathBuf| path.extension().unwrap().to_string_lossy().into_owned();
    files_in(folder).iter().map(ending).collect()
}

#[tokio::test]
async fn a_file_that_is_old_is_followed_by_a_new_one_with_the_next_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zk.jsonl");
    let seconds = Arc::new(AtomicU64::new(0));
    let config = FileConfig {
        rotate: Threshold::Off,
        rotate_every: Interval::Every(Span::secs(3_600)),
        ..FileConfig::new(&path)
    };
    let records = some_records(6, 2);
    let mut sink = FileSink::with_clock(config.clone(), ahead_by(&seconds));
    sink.open().await.unwrap();
    deliver(&mut sink, &records[..2]).await;
    seconds.store(3_590, Ordering::SeqCst);
    deliver(&mut sink, &records[2..4]).await;
    assert_eq!(files_in(folder.path()).len(), 1);

    // Its age is known to the next process, too.
    drop(sink);
    seconds.store(3_700, Ordering::SeqCst);
    let mut sink = FileSink::with_clock(config, ahead_by(&seconds));
    sink.open().await.unwrap();
    assert_eq!(
        files_in(folder.path()).len(),
        1,
        "nothing is rotated without a record"
    );
    deliver(&mut sink, &records[4..]).await;

    assert_eq!(files_in(folder.path()).len(), 2);
    assert_eq!(seqs(&path), [5, 6]);
    assert_eq!(all_seqs(folder.path()), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn closed_files_are_compressed_and_hold_every_record_once() {
    for (compress, ending) in [(Compress::Gzip, "gz"), (Compress::Zstd, "zst")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zk.jsonl");
        let mut sink = FileSink::new(FileConfig {
            rotate: Threshold::At(Size(10_000)),
            keep: Keep::Newest(3),
            compress,
            ..FileConfig::new(&path)
        });
        sink.open().await.unwrap();
        for batch in some_records(80, 3).chunks(5) {
            deliver(&mut sink, batch).await;
            sink.compressed().await;
        }
        sink.close().await.unwrap();

        assert_eq!(endings(folder.path()), [ending, ending, ending, "jsonl"]);
        let seqs = all_seqs(folder.path());
        let first = seqs[0];
        assert!(seqs.iter().copied().eq(first..=80), "{seqs:?}");
        for file in files_in(folder.path()) {
            let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{file:?}");
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_step_of_compressing_loses_and_doubles_nothing() {
    let lines: String = some_records(20, 3).iter().map(|record| line(record)).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, lines.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let (plain, done, staging) = (
        "zk.2026-11-22T13-40-00.123Z.jsonl",
        "zk.2026-11-22T13-40-00.123Z.jsonl.gz",
        "zk.2026-11-22T13-40-00.123Z.jsonl.gz.tmp",
    );
    let half = &gzip[..gzip.len() / 2];
    let steps: [&[(&str, &[u8])]; 6] = [
        &[(plain, lines.as_bytes())],
        &[(plain, lines.as_bytes()), (staging, b"")],
        &[(plain, lines.as_bytes()), (staging, half)],
        &[(plain, lines.as_bytes()), (staging, &gzip)],
        &[(plain, lines.as_bytes()), (done, &gzip)],
        &[(done, &gzip)],
    ];
    for compress in [Compress::Gzip, Compress::Zstd] {
        for files in steps {
            let folder = tempfile::tempdir().unwrap();
            for (name, content) in files {
                fs::write(folder.path().join(name), content).unwrap();
            }
            let mut sink = FileSink::new(FileConfig {
                compress,
                ..FileConfig::new(folder.path().join("zk.jsonl"))
            });
            sink.open().await.unwrap();
            sink.compressed().await;

            let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
            let seqs = all_seqs(folder.path());
            assert!(
                seqs.iter().copied().eq(1..=20),
                "{compress:?} {names:?}: {seqs:?}"
            );
            assert!(!folder.path().join(plain).exists(), "{names:?}");
        }
    }
}

#[tokio::test]
async fn a_compression_that_is_not_waited_for_is_given_up_and_done_by_the_next_sink() {
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("zk.2026-11-22T13-40-00.123Z.jsonl");
    let lines: String = some_records(9_000, 3).iter().map(|record| line(record)).collect();
    fs::write(&closed, &lines).unwrap();
    let sink = || {
        FileSink::new(FileConfig {
            compress: Compress::Gzip,
            ..FileConfig::new(folder.path().join("zk.jsonl"))
        })
    };
    let mut first = sink();
    first.open().await.unwrap();
    first.close().await.unwrap();
    assert_eq!(all_seqs(folder.path()).len(), 9_000, "whatever it came to");

    let mut second = sink();
    second.open().await.unwrap();
    second.compressed().await;
    assert_eq!(all_seqs(folder.path()).len(), 9_000);
    assert_eq!(endings(folder.path()), ["gz", "jsonl"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_that_share_a_file_compress_each_closed_one_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zk.jsonl");
    let records = some_records(300, 3);
    let write_all = async |records: Vec<Arc<Record>>| {
        let mut sink = FileSink::new(FileConfig {
            rotate: Threshold::At(Size(20_000)),
            keep: Keep::All,
            compress: Compress::Zstd,
            ..FileConfig::new(&path)
        });
        sink.open().await.unwrap();
        for batch in records.chunks(3) {
            deliver(&mut sink, batch).await;
        }
        sink.compressed().await;
        sink.close().await.unwrap();
    };

    tokio::join!(write_all(records.clone()), write_all(records.clone()));
    let mut last = FileSink::new(FileConfig {
        compress: Compress::Zstd,
        ..FileConfig::new(&path)
    });
    last.open().await.unwrap();
    last.compressed().await;

    let mut seen = all_seqs(folder.path());
    seen.sort_unstable();
    let twice: Vec<u64> = (1..=300).flat_map(|seq| [seq, seq]).collect();
    assert_eq!(seen, twice);
    let plain = endings(folder.path())
        .iter()
        .filter(|ending| *ending == "jsonl")
        .count();
    assert_eq!(plain, 1, "{:?}", endings(folder.path()));
}
