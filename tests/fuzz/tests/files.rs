//! The file of a sink that a crash, a disk or a person changed: the sink goes on after its complete lines, or refuses it.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use bridge_core::sink::Sink;
use bridge_core::testing::some_records;
use bridge_file::{FileConfig, FileSink};
use bridge_fuzz::damaged;

const WORDS: &[&str] = &[
    "\n",
    "\0",
    "\0\0\0\0\0\0\0\0",
    "{",
    "{\"schema\":",
    "\r\n",
    "\u{feff}",
    "ü",
];

#[test]
fn a_changed_file_is_refused_or_continued_and_loses_no_complete_line() {
    let lines: Vec<String> = some_records(4, 2)
        .iter()
        .map(|record| serde_json::to_string(&**record).unwrap() + "\n")
        .collect();
    let valid = lines.concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zk.jsonl");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    damaged!(
        "a_changed_file_is_refused_or_continued_and_loses_no_complete_line",
        500,
        [valid],
        WORDS,
        |_, before: &[u8]| {
            std::fs::write(&path, before).unwrap();
            let mut sink = FileSink::new(FileConfig::new(&path));
            let opened = runtime.block_on(async {
                let opened = sink.open().await;
                sink.close().await.unwrap();
                opened
            });
            let after = std::fs::read(&path).unwrap();
            match opened {
                Err(refused) => {
                    assert!(!refused.to_string().is_empty());
                    assert!(after == before, "a file that is refused was changed");
                }
                Ok(()) => {
                    assert!(before.starts_with(&after), "what is there was changed");
                    let sound = before.iter().position(|byte| *byte == 0).unwrap_or(before.len());
                    let kept = before[..sound]
                        .iter()
                        .rposition(|byte| *byte == b'\n')
                        .map_or(0, |at| at + 1);
                    assert!(after.len() >= kept, "a complete line was cut");
                }
            }
        }
    );
}
