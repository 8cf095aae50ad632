//! `kill -9` at any byte: whatever a write left, the next sink goes on so that nothing is lost or torn.

use super::*;

/// In memory where that is possible: thousands of crashes, and a kill leaves what the kernel has, disk or not.
fn quick_folder() -> TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn a_kill_at_any_byte_of_a_write_leaves_whole_lines_and_loses_nothing() {
    for format in [Format::Record, Format::Cloudevents] {
        let folder = quick_folder();
        let path = folder.path().join("zk.jsonl");
        let records = some_records(4, 2);
        // The cursor is after the first two; the others are being written when the process dies.
        let (durable, in_flight) = records.split_at(2);
        let kept = encode::lines(durable, format);
        let torn = encode::lines(in_flight, format);
        for written in 0..=torn.len() {
            fs::write(&path, [&kept[..], &torn[..written]].concat()).unwrap();
            let mut sink = FileSink::new(FileConfig {
                format,
                ..FileConfig::new(&path)
            });
            sink.open().await.unwrap();
            deliver(&mut sink, in_flight).await;

            let whole = torn[..written]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |feed| feed + 1);
            let expected = [&kept[..], &torn[..whole], &torn[..]].concat();
            assert!(
                fs::read(&path).unwrap() == expected,
                "{format:?}: {written} of {} bytes were written",
                torn.len()
            );
        }
    }
}

#[tokio::test]
async fn a_kill_at_any_byte_of_the_first_line_leaves_no_line_that_is_torn() {
    let folder = quick_folder();
    let path = folder.path().join("zk.jsonl");
    let records = some_records(1, 1);
    let torn = encode::lines(&records, Format::Record);
    for written in 0..torn.len() {
        fs::write(&path, &torn[..written]).unwrap();
        let mut sink = sink_at(&path);
        sink.open().await.unwrap();
        deliver(&mut sink, &records).await;
        assert!(fs::read(&path).unwrap() == torn, "{written} bytes were written");
    }
}
