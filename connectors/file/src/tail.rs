//! Repairs the end of a file after a crash: removes the rest of a write that was never reported as durable.
//!
//! ```text
//! … complete line⏎ complete line⏎ {"schema":"zkbri            a write was cut
//! … complete line⏎ \0\0\0\0\0\0 {"schema":…}⏎                  the power went before a page reached the disk
//!                  ▲ cut here
//! ```
//!
//! Only the end of a file that this sink wrote is cut: what does not look like a record stays, and is an error.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use crate::encode::{LINE_START_MAX, LINE_STARTS, ROW_START};

/// A page that never reached the disk lies at most so far before the end: more than one batch is never under way,
/// and its lines are shorter than this.
const UNSYNCED_MAX: u64 = 64 << 20;

/// The state of the end of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The file is empty or ends with a complete line.
    Whole,
    /// A line of ours was cut; complete lines end at this length.
    Torn(u64),
    /// The last line is not complete and none of ours.
    Foreign,
}

/// The last line that is complete: bytes `start..end` of the file, `end` after its line feed.
#[derive(Clone, Copy)]
struct LastLine {
    start: u64,
    end: u64,
}

/// Reads the end of a file. `own_start`: the beginning of every line that a template writes, if it has one.
pub(crate) fn end_of(file: &File, own_start: &[u8]) -> io::Result<End> {
    let length = file.metadata()?.len();
    let last = last_complete_line(file, length)?;
    if last.end == length {
        return Ok(End::Whole);
    }
    let starts: Vec<&[u8]> = match own_start {
        [] => LINE_STARTS.to_vec(),
        own_start => LINE_STARTS.into_iter().chain([own_start]).collect(),
    };
    if is_ours(file, last, &starts)? {
        return Ok(End::Torn(last.end));
    }
    Ok(End::Foreign)
}

/// The last line whose line feed comes before any NUL: JSON lines hold no NUL, pages that were never written are all
/// NUL.
fn last_complete_line(mut file: &File, length: u64) -> io::Result<LastLine> {
    let mut at = length.saturating_sub(UNSYNCED_MAX);
    file.seek(SeekFrom::Start(at))?;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut last = LastLine { start: at, end: at };
    loop {
        let block = reader.fill_buf()?;
        if block.is_empty() {
            return Ok(last);
        }
        let sound = block.iter().position(|byte| *byte == 0).unwrap_or(block.len());
        last = last_in(&block[..sound], at).after(last);
        if sound < block.len() {
            return Ok(last);
        }
        let read = block.len();
        at += read as u64;
        reader.consume(read);
    }
}

/// The last line as one block shows it: its start and its end, if they are in the block.
struct Seen {
    start: Option<u64>,
    end: Option<u64>,
}

fn last_in(block: &[u8], at: u64) -> Seen {
    let after_last_feed = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map(|feed| feed + 1);
    let end = after_last_feed(block);
    let start = end.and_then(|end| after_last_feed(&block[..end - 1]));
    Seen {
        start: start.map(|start| at + start as u64),
        end: end.map(|end| at + end as u64),
    }
}

impl Seen {
    fn after(self, before: LastLine) -> LastLine {
        match self.end {
            None => before,
            Some(end) => LastLine {
                start: self.start.unwrap_or(before.end),
                end,
            },
        }
    }
}

/// Whether the rest after the last complete line is a record of this sink that was cut: it begins as one, or it is too
/// short to decide and comes after one (or alone in the file).
fn is_ours(file: &File, last: LastLine, starts: &[&[u8]]) -> io::Result<bool> {
    let begins_as_ours = |line: &[u8]| starts.iter().any(|start| line.starts_with(start));
    let rest = beginning(file, last.end)?;
    let written = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let rest = &rest[..written];
    if begins_as_ours(rest) {
        return Ok(true);
    }
    let may_be_ours = starts.iter().any(|start| start.starts_with(rest));
    let may_be_row = rest.starts_with(ROW_START) || ROW_START.starts_with(rest);
    if last.end == 0 {
        return Ok(may_be_ours || may_be_row);
    }
    let before = beginning(file, last.start)?;
    let is_after_row = before.starts_with(ROW_START);
    Ok(may_be_ours && (begins_as_ours(&before) || is_after_row) || may_be_row && is_after_row)
}

fn beginning(mut file: &File, at: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut start = Vec::new();
    file.take(LINE_START_MAX as u64).read_to_end(&mut start)?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check(content: &[u8], expected: End) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        assert_eq!(
            end_of(&file, b"").unwrap(),
            expected,
            "{}",
            String::from_utf8_lossy(content)
        );
    }

    #[test]
    fn a_file_that_ends_with_a_line_feed_is_whole() {
        check(b"", End::Whole);
        check(b"anything\n", End::Whole);
        check(b"a\n\n", End::Whole);
    }

    /// A complete record with its line feed, as far as this module looks.
    const RECORD: &str = "{\"schema\":\"zkbridge.change/1\",2}\n";
    const WHOLE: u64 = RECORD.len() as u64;

    #[test]
    fn a_record_that_was_cut_is_torn_after_the_last_line_feed() {
        check(b"one\n{\"schema\":\"zkbridge.change/1\",\"id\":\"5", End::Torn(4));
        check(format!("one\n{RECORD}{{\"sch").as_bytes(), End::Torn(4 + WHOLE));
        check(format!("{RECORD}{{").as_bytes(), End::Torn(WHOLE));
        check(b"{\"schema", End::Torn(0));
        check(b"one\n{\"specversion\":\"1.0\",\"id\":\"5", End::Torn(4));
        check(format!("{RECORD}{{\"spec").as_bytes(), End::Torn(WHOLE));
    }

    #[test]
    fn a_row_that_was_cut_is_torn_where_rows_come_before_it_and_nowhere_else() {
        let row = "{\"path\":\"/a\",\"value\":1}\n";
        let whole = row.len() as u64;
        check(b"{\"path\":\"/a\",\"val", End::Torn(0));
        check(format!("{row}{{\"path\":\"/b").as_bytes(), End::Torn(whole));
        check(format!("{row}{{\"pa").as_bytes(), End::Torn(whole));
        check(b"one\n{\"path\":\"/a\",\"val", End::Foreign);
    }

    #[test]
    fn pages_that_never_reached_the_disk_are_cut_with_all_after_them() {
        check(format!("{RECORD}\0\0\0").as_bytes(), End::Torn(WHOLE));
        check(
            format!("{RECORD}{{\"sche\0\0{RECORD}{RECORD}").as_bytes(),
            End::Torn(WHOLE),
        );
        check(format!("{RECORD}\0\0{RECORD}").as_bytes(), End::Torn(WHOLE));
        check(b"\0\0\0", End::Torn(0));
    }

    #[test]
    fn a_line_of_somebody_else_is_never_cut() {
        check(b"one\nuser=root", End::Foreign);
        check(b"one\n{", End::Foreign);
        check(b"{\"schema\":\"other", End::Foreign);
        check(b"{\"specversion\":\"0.3\",\"id\":\"", End::Foreign);
        check(b"a binary file\n\0\0\x01two\n", End::Foreign);
    }

    #[test]
    fn a_line_of_a_template_is_known_by_its_beginning() {
        let check = |content: &[u8], expected: End| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content).unwrap();
            assert_eq!(end_of(&file, b"{\"path\":").unwrap(), expected);
        };
        check(b"{\"path\":1}\n{\"path\":\"/a", End::Torn(11));
        check(b"{\"path\":1}\n{\"pa", End::Torn(11));
        check(b"{\"path\":1}\nuser=root", End::Foreign);
    }

    #[test]
    fn long_lines_are_found_across_blocks() {
        let mut content = vec![b'x'; 200_000];
        content.push(b'\n');
        let whole = content.len() as u64;
        content.extend_from_slice(LINE_STARTS[0]);
        content.extend(vec![b'y'; 150_000]);
        check(&content, End::Torn(whole));
    }
}
