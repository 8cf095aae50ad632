//! The time when a file was begun: from the file system, or else from the first record. Only reads.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bridge_core::record::Timestamp;
use serde_json::Value;

/// A longer first line is not looked at: the largest znodes, before and after a change, twice as long as JSON, and room for
/// servers with a larger `jute.maxbuffer`.
const FIRST_LINE_MAX: u64 = 16 << 20;

/// When the file was begun. Some file systems (NFS among them) keep no time of making; then it is the time at which the
/// first record was captured, which may lie before by what waited for the sink. A file without one is begun now.
pub(crate) fn begun(file: &File, made: io::Result<SystemTime>, now: SystemTime) -> SystemTime {
    made.ok().or_else(|| first_captured(file)).unwrap_or(now)
}

fn first_captured(mut file: &File) -> Option<SystemTime> {
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(file).take(FIRST_LINE_MAX);
    reader.read_until(b'\n', &mut line).ok()?;
    let line: Value = serde_json::from_slice(&line).ok()?;
    // The record itself, or the data of an event.
    let record = if line["specversion"].is_string() {
        &line["data"]
    } else {
        &line
    };
    // A row has no time of its capture.
    let time = match record["time"].is_object() {
        true => &record["time"]["captured"],
        false => &line["changed"],
    };
    let Timestamp(millis) = serde_json::from_value(time.clone()).ok()?;
    Some(UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bridge_core::format::Format;
    use bridge_core::testing::some_records;

    use super::*;
    use crate::encode::lines;

    #[test]
    fn a_file_without_a_time_of_making_is_as_old_as_its_first_record() {
        let records = some_records(3, 1);
        let captured = UNIX_EPOCH + Duration::from_millis(records[0].time.captured.0.unsigned_abs());
        let made = UNIX_EPOCH + Duration::from_secs(7);
        let now = SystemTime::now();
        let check = |text: &[u8], made_at: Option<SystemTime>, expected: SystemTime| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text).unwrap();
            let made_at = made_at.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported));
            assert_eq!(
                begun(&file, made_at, now),
                expected,
                "{}",
                String::from_utf8_lossy(text)
            );
        };
        for format in [Format::Record, Format::Cloudevents] {
            check(&lines(&records, format), None, captured);
            check(&lines(&records, format), Some(made), made);
        }
        let Timestamp(changed) = records[0].time.changed.unwrap();
        let changed = UNIX_EPOCH + Duration::from_millis(changed.unsigned_abs());
        check(&lines(&records, Format::Flat), None, changed);
        check(b"", None, now);
        check(b"{\"time\": 5}\n", None, now);
        check(b"no record\n", None, now);
    }
}
