//! A transaction log: a file of records, each with a checksum, and zeros after the last one.
//!
//! ```text
//! "ZKLG" int version=2 long database                     16 bytes
//! long checksum | int length | payload | 'B'             one record: Adler-32 of the payload alone
//! zeros                                                  space that the server reserved
//! ```
//!
//! [`frame`] examines the bytes at a position, for readers of a file that grows. [`LogReader`] reads a whole file.
//! A server flushes in pieces of 8 KiB, so the last record of a live file may be there in part, and a crash can leave it
//! so. Such a record was never acknowledged. A record with a wrong checksum and others after it is damage, and so is a
//! length that reaches over another record. (A torn record whose value has a whole record of a log in it looks the same,
//! and is reported as damage.)

mod search;

use std::io::{self, Read};

use adler2::adler32_slice;

use crate::jute::DecodeError;
use crate::transaction::Transaction;

/// The first bytes of a transaction log.
pub const LOG_MAGIC: [u8; 4] = *b"ZKLG";
/// The version of the format in all releases.
pub const LOG_VERSION: i32 = 2;
/// Bytes before the first record.
pub const HEADER_BYTES: usize = 16;
/// Bytes of a record beside its payload: checksum, length, and the mark of its end.
pub const FRAME_BYTES: usize = 13;
/// Bytes of checksum and length.
const PREFIX_BYTES: usize = 12;
/// The byte after each payload.
const END_OF_RECORD: u8 = b'B';

/// The largest payload that is read. A server takes requests of `jute.maxbuffer` (1 MiB), and what it makes of one can be
/// larger: the paths of a session's end, and the parts of a `multi`.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// The bytes at a position of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole record. The next one begins [`FRAME_BYTES`] and the length of the payload later.
    Record {
        /// Its payload.
        payload: &'a [u8],
    },
    /// Nothing, or zeros: no record was written here.
    Empty,
    /// The input ends within a record; it has this many bytes at least.
    Cut {
        /// Bytes from the beginning of the record.
        needed: usize,
    },
    /// Not a record: one that is being written, was written in part, or is damaged.
    Bad(BadFrame),
}

/// The reason why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A length that is negative or larger than [`PAYLOAD_BYTES_MAX`].
    #[error("the length {0} is outside of 1 to {PAYLOAD_BYTES_MAX}")]
    Length(i32),
    /// A byte other than the mark after the payload.
    #[error("the payload of {length} bytes is followed by {found:#04x} and not by 'B'")]
    End {
        /// The length of the payload.
        length: usize,
        /// The byte.
        found: u8,
    },
    /// A length that reaches over another record, so that it is wrong.
    #[error("the length {length} reaches over another record, which begins {next} bytes later")]
    Overrun {
        /// The length of the payload.
        length: usize,
        /// Bytes from the beginning of this record to the other one.
        next: usize,
    },
    /// A checksum that differs, while length and mark fit together.
    #[error("the checksum of {length} bytes is {found:#x} and not {expected:#x}")]
    Checksum {
        /// The length of the payload.
        length: usize,
        /// The checksum in the file.
        expected: i64,
        /// The checksum of the payload.
        found: u32,
    },
}

/// Examines the bytes at the position where a record begins or may begin later.
pub fn frame(bytes: &[u8]) -> Frame<'_> {
    let begin = bytes.split_first_chunk::<8>();
    let begin = begin.and_then(|(sum, rest)| Some((sum, rest.split_first_chunk::<4>()?)));
    let Some((checksum, (length, rest))) = begin else {
        return match bytes.iter().all(|byte| *byte == 0) {
            true => Frame::Empty,
            false => Frame::Cut { needed: FRAME_BYTES },
        };
    };
    let checksum = i64::from_be_bytes(*checksum);
    let announced = i32::from_be_bytes(*length);
    let length = match usize::try_from(announced) {
        Ok(0) if checksum == 0 => return Frame::Empty,
        Ok(length) if (1..=PAYLOAD_BYTES_MAX).contains(&length) => length,
        _ => return Frame::Bad(BadFrame::Length(announced)),
    };
    let Some(found) = rest.get(length).copied() else {
        return Frame::Cut {
            needed: FRAME_BYTES + length,
        };
    };
    if found != END_OF_RECORD {
        return Frame::Bad(BadFrame::End { length, found });
    }
    let payload = &rest[..length];
    let found = adler32_slice(payload);
    match i64::from(found) == checksum {
        true => Frame::Record { payload },
        false => Frame::Bad(BadFrame::Checksum {
            length,
            expected: checksum,
            found,
        }),
    }
}

/// A file that cannot be read as a transaction log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("cannot be read at byte {at}: {cause}")]
    Io {
        /// The position.
        at: u64,
        /// The cause.
        cause: io::Error,
    },
    /// The file is something else.
    #[error("is not a transaction log: it begins with {found:02x?} and not with \"ZKLG\"")]
    Foreign {
        /// The first bytes.
        found: Vec<u8>,
    },
    /// The file has a format that is not known.
    #[error("has the format {0}, and only {LOG_VERSION} is known")]
    Version(i32),
    /// A record with the right checksum that is not a transaction.
    #[error("the record at byte {at} is not a transaction: {cause}")]
    Record {
        /// The position of the record.
        at: u64,
        /// The cause.
        cause: DecodeError,
    },
}

/// A record of a file, or something else at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    /// A transaction.
    Transaction {
        /// The position of its record.
        at: u64,
        /// The transaction.
        transaction: Transaction,
    },
    /// A record whose checksum is wrong; its length is right, and others may follow.
    Damaged {
        /// The position of the record.
        at: u64,
        /// The fault.
        fault: BadFrame,
    },
    /// The end of what can be read.
    End(LogEnd),
}

/// The end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// The file ends after a record, or only zeros follow.
    Whole {
        /// The position after the last record.
        at: u64,
    },
    /// A part of a record at the end, and no record after it. It was never acknowledged, or is being written.
    Torn {
        /// The position of the record; 0 for the header of the file.
        at: u64,
    },
    /// Bytes that are no record, and more than one record can leave.
    Damaged {
        /// The position.
        at: u64,
        /// The fault.
        fault: BadFrame,
    },
}

/// Checks the header of a log; `false` if there is none yet, because the server has just created the file.
///
/// # Errors
///
/// If the file is something else.
pub fn check_header(bytes: &[u8]) -> Result<bool, LogError> {
    let known = LOG_MAGIC.len().min(bytes.len());
    if bytes[..known] != LOG_MAGIC[..known] {
        let found = bytes[..known].to_vec();
        return Err(LogError::Foreign { found });
    }
    let Some([_, _, _, _, a, b, c, d, ..]) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(false);
    };
    match i32::from_be_bytes([*a, *b, *c, *d]) {
        LOG_VERSION => Ok(true),
        other => Err(LogError::Version(other)),
    }
}

/// Reads the records of a file one after the other, with the memory of one record.
#[derive(Debug)]
pub struct LogReader<R> {
    input: R,
    /// Bytes that were read; the first `passed` of them are done.
    buffer: Vec<u8>,
    passed: usize,
    /// The position in the file of the first byte that is not done.
    at: u64,
    has_header: bool,
    has_ended: bool,
}

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

impl<R: Read> LogReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not a transaction log. A file without a whole header is one without a record.
    pub fn new(input: R) -> Result<LogReader<R>, LogError> {
        let mut reader = LogReader {
            input,
            buffer: Vec::new(),
            passed: 0,
            at: 0,
            has_header: false,
            has_ended: false,
        };
        reader.fill(HEADER_BYTES)?;
        reader.has_header = check_header(reader.rest())?;
        if reader.has_header {
            reader.pass(HEADER_BYTES);
        }
        Ok(reader)
    }

    /// The next record; the last item of a file is [`LogItem::End`], once, and then there is none.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or a record is not a transaction. The reader has then passed it.
    pub fn next_item(&mut self) -> Result<Option<LogItem>, LogError> {
        if self.has_ended {
            return Ok(None);
        }
        if !self.has_header {
            return Ok(Some(match self.rest() {
                [] => self.end(LogEnd::Whole { at: 0 }),
                _ => self.end(LogEnd::Torn { at: 0 }),
            }));
        }
        let mut wanted = PREFIX_BYTES;
        loop {
            let is_more = self.fill(wanted)?;
            let at = self.at;
            match frame(self.rest()) {
                Frame::Record { payload } => {
                    let bytes = payload.len() + FRAME_BYTES;
                    let read = Transaction::decode(payload);
                    self.pass(bytes);
                    let transaction = read.map_err(|cause| LogError::Record { at, cause })?;
                    return Ok(Some(LogItem::Transaction { at, transaction }));
                }
                Frame::Cut { needed } if is_more => wanted = needed,
                Frame::Cut { needed } => return Ok(Some(self.cut(needed))),
                Frame::Empty => return self.padding().map(Some),
                Frame::Bad(fault @ BadFrame::Checksum { length, .. }) => {
                    self.pass(length + FRAME_BYTES);
                    return Ok(Some(LogItem::Damaged { at, fault }));
                }
                Frame::Bad(fault) => return self.bad(fault).map(Some),
            }
        }
    }

    fn end(&mut self, end: LogEnd) -> LogItem {
        self.has_ended = true;
        LogItem::End(end)
    }

    /// Only zeros may follow the last record.
    fn padding(&mut self) -> Result<LogItem, LogError> {
        let at = self.at;
        match self.only_zeros_follow()? {
            true => Ok(self.end(LogEnd::Whole { at })),
            false => Ok(self.end(LogEnd::Damaged {
                at,
                fault: BadFrame::Length(0),
            })),
        }
    }

    /// The file ends within a record, if its length is right.
    fn cut(&mut self, needed: usize) -> LogItem {
        let at = self.at;
        let length = needed.saturating_sub(FRAME_BYTES);
        match search::later_record(self.rest()) {
            Some(next) => self.end(LogEnd::Damaged {
                at,
                fault: BadFrame::Overrun { length, next },
            }),
            None => self.end(LogEnd::Torn { at }),
        }
    }

    /// A record that a crash left has zeros from some byte on; anything else is damage.
    fn bad(&mut self, fault: BadFrame) -> Result<LogItem, LogError> {
        let at = self.at;
        // The zeros after a part of a record begin within it.
        let within = match fault {
            BadFrame::End { length, .. } => FRAME_BYTES + length,
            _ => PREFIX_BYTES,
        };
        let is_torn = self.rest().get(within - 1) == Some(&0);
        let within = within.min(self.rest().len());
        let next = match fault {
            BadFrame::End { length, .. } if is_torn => {
                search::later_record(&self.rest()[..within]).map(|next| BadFrame::Overrun { length, next })
            }
            _ => None,
        };
        self.pass(within);
        let end = match next {
            Some(fault) => LogEnd::Damaged { at, fault },
            None if is_torn && self.only_zeros_follow()? => LogEnd::Torn { at },
            None => LogEnd::Damaged { at, fault },
        };
        Ok(self.end(end))
    }

    fn only_zeros_follow(&mut self) -> Result<bool, LogError> {
        loop {
            if self.rest().iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            self.pass(self.rest().len());
            if !self.fill(1)? {
                return Ok(true);
            }
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.passed..]
    }

    fn pass(&mut self, bytes: usize) {
        self.passed += bytes;
        self.at += bytes as u64;
    }

    /// Reads until this many bytes are not done; `false` if the file ends before. It allocates for bytes that are there.
    fn fill(&mut self, wanted: usize) -> Result<bool, LogError> {
        while self.rest().len() < wanted {
            self.buffer.drain(..self.passed);
            self.passed = 0;
            let chunk = (wanted - self.buffer.len()).max(CHUNK_BYTES) as u64;
            let read = self.input.by_ref().take(chunk).read_to_end(&mut self.buffer);
            let count = read.map_err(|cause| LogError::Io {
                at: self.at + self.buffer.len() as u64,
                cause,
            })?;
            if count == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The zxid in the name of a transaction log, `log.<hex>`, which is that of its first transaction.
pub fn zxid_of_log(name: &str) -> Option<i64> {
    hex_zxid(name.strip_prefix("log.")?)
}

/// The zxid of lower-case hexadecimal digits, as servers write it in names. They write no leading zeros; here those are
/// read as well.
pub(crate) fn hex_zxid(digits: &str) -> Option<i64> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.is_empty() || !digits.bytes().all(is_hex) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().map(u64::cast_signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn transactions() -> Vec<Transaction> {
        (1..=3)
            .map(|zxid| testing::a_create(zxid, &format!("/{zxid}")))
            .collect()
    }

    fn items(bytes: &[u8]) -> Result<Vec<LogItem>, LogError> {
        let mut reader = LogReader::new(bytes)?;
        let mut items = Vec::new();
        while let Some(item) = reader.next_item()? {
            items.push(item);
        }
        Ok(items)
    }

    /// The zxids of a file, and its end or damage.
    fn read(bytes: &[u8]) -> (Vec<i64>, Vec<LogItem>) {
        let (mut zxids, mut others) = (Vec::new(), Vec::new());
        for item in items(bytes).expect("the records are transactions") {
            match item {
                LogItem::Transaction { transaction, .. } => zxids.push(transaction.zxid),
                other => others.push(other),
            }
        }
        (zxids, others)
    }

    fn end(end: LogEnd) -> Vec<LogItem> {
        vec![LogItem::End(end)]
    }

    #[test]
    fn all_records_of_a_file_are_read_and_the_zeros_after_them_are_its_end() {
        let bytes = testing::log_file(&transactions());
        let at = bytes.len() as u64;
        for padding in [0, 1, 11, 12, 13, 70_000] {
            let padded = [&bytes[..], &vec![0; padding]].concat();
            let whole = end(LogEnd::Whole { at });
            assert_eq!(read(&padded), (vec![1, 2, 3], whole), "{padding}");
        }
        let read_back: Vec<Transaction> = items(&bytes)
            .unwrap()
            .into_iter()
            .filter_map(|item| match item {
                LogItem::Transaction { transaction, .. } => Some(transaction),
                _ => None,
            })
            .collect();
        assert_eq!(read_back, transactions());
    }

    #[test]
    fn a_record_that_was_written_in_part_is_a_torn_end_with_and_without_zeros_after_it() {
        let whole = testing::log_file(&transactions()[..2]);
        let last = testing::log_file(&transactions()[2..]);
        for written in 1..last.len() - HEADER_BYTES {
            let torn = [&whole[..], &last[HEADER_BYTES..HEADER_BYTES + written]].concat();
            let padded = [&torn[..], &[0; 300]].concat();
            let at = whole.len() as u64;
            // The first bytes of a checksum are zeros.
            let expected = match torn[whole.len()..].iter().all(|byte| *byte == 0) {
                true => LogEnd::Whole { at },
                false => LogEnd::Torn { at },
            };
            assert_eq!(read(&torn), (vec![1, 2], end(expected)), "{written}");
            assert_eq!(read(&padded), (vec![1, 2], end(expected)), "{written}, padded");
        }
    }

    #[test]
    fn a_damaged_record_is_reported_and_those_after_it_are_read() {
        let sound = testing::log_file(&transactions());
        let first = testing::log_file(&transactions()[..1]).len();
        let mut damaged = sound.clone();
        damaged[first + PREFIX_BYTES + 3] ^= 0x10;
        let (zxids, others) = read(&damaged);
        assert_eq!(zxids, [1, 3]);
        assert!(
            matches!(others[0], LogItem::Damaged { at, fault: BadFrame::Checksum { .. } } if at == first as u64),
            "{others:?}"
        );
        // Without a length that can be trusted, nothing after it can be found.
        for (byte, value) in [(8, 0x80), (11, 0x01)] {
            let mut damaged = sound.clone();
            damaged[first + byte] ^= value;
            let (zxids, others) = read(&damaged);
            assert_eq!(zxids, [1]);
            assert!(
                matches!(others[..], [LogItem::End(LogEnd::Damaged { at, .. })] if at == first as u64),
                "{others:?}"
            );
        }
        let garbage = [&sound[..], &[0; 40], b"garbage"].concat();
        let (zxids, others) = read(&garbage);
        assert_eq!(zxids, [1, 2, 3]);
        assert!(
            matches!(others[..], [LogItem::End(LogEnd::Damaged { .. })]),
            "{others:?}"
        );
    }

    #[test]
    fn a_wrong_length_over_sound_records_is_damage_and_never_a_torn_end() {
        let first = testing::log_file(&transactions()[..1]).len();
        for padding in [0, 300, 70_000] {
            let sound = [testing::log_file(&transactions()), vec![0; padding]].concat();
            let second = first + (sound.len() - padding - first) / 2;
            // Lengths within the limit: some end in the zeros, and some after the end of the file.
            for bit in 0..28 {
                let mut damaged = sound.clone();
                damaged[first + 8 + (31 - bit) / 8] ^= 1 << (bit % 8);
                let (zxids, others) = read(&damaged);
                assert_eq!(zxids[0], 1);
                let is_damage = |item: &LogItem| {
                    matches!(
                        item,
                        LogItem::Damaged { .. } | LogItem::End(LogEnd::Damaged { .. })
                    )
                };
                assert!(
                    others.iter().any(is_damage),
                    "bit {bit}, padding {padding}: {others:?}"
                );
            }
            let mut damaged = sound.clone();
            damaged[first + 9] ^= 0x01;
            let (zxids, others) = read(&damaged);
            assert_eq!(zxids, [1]);
            let [
                LogItem::End(LogEnd::Damaged {
                    at,
                    fault: BadFrame::Overrun { next, .. },
                }),
            ] = others[..]
            else {
                panic!("{others:?}")
            };
            assert_eq!((at, next), (first as u64, second - first));
        }
    }

    #[test]
    fn a_length_of_two_gibibytes_allocates_nothing_and_is_damage() {
        let mut bytes = testing::log_file(&transactions()[..1]);
        let at = bytes.len() as u64;
        bytes.extend([0, 0, 0, 0, 1, 2, 3, 4, 0x7f, 0xff, 0xff, 0xff, 1]);
        let fault = BadFrame::Length(i32::MAX);
        assert_eq!(read(&bytes), (vec![1], end(LogEnd::Damaged { at, fault })));
    }

    #[test]
    fn a_file_that_is_no_transaction_log_is_refused_with_what_it_begins_with() {
        let check = |bytes: &[u8], expected: &str| {
            let error = items(bytes).expect_err("the file is foreign").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(
            b"ZKSN\0\0\0\x02",
            "not a transaction log: it begins with [5a, 4b, 53, 4e]",
        );
        check(b"#!", "begins with [23, 21]");
        check(b"ZKLG\0\0\0\x03\0\0\0\0\0\0\0\0", "has the format 3");
        let mut no_transaction = testing::log_file(&transactions()[..1]);
        no_transaction.truncate(HEADER_BYTES);
        no_transaction.extend(testing::record(b"no transaction"));
        check(
            &no_transaction,
            "the record at byte 16 is not a transaction: zxid at byte 12: 8 bytes are needed",
        );
    }

    #[test]
    fn a_file_of_any_length_up_to_its_header_has_an_end() {
        let header = testing::log_header();
        for length in 0..=header.len() {
            let expected = match length {
                0 => LogEnd::Whole { at: 0 },
                HEADER_BYTES => LogEnd::Whole { at: 16 },
                _ => LogEnd::Torn { at: 0 },
            };
            assert_eq!(read(&header[..length]), (vec![], end(expected)), "{length}");
        }
    }

    #[test]
    fn the_name_of_a_log_has_its_first_zxid() {
        assert_eq!(zxid_of_log("log.100000001"), Some(0x1_0000_0001));
        assert_eq!(zxid_of_log("log.ffffffffffffffff"), Some(-1));
        assert_eq!(zxid_of_log("log.01"), Some(1));
        for other in [
            "log.",
            "log.0x1",
            "log.10G",
            "log.1.gz",
            "log.A",
            "snapshot.1",
            "log.10000000000000000",
            "log.+1",
        ] {
            assert_eq!(zxid_of_log(other), None, "{other}");
        }
    }
}
