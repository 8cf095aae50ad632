//! ZooKeeper's encoding: big-endian numbers, a length before each text, a count before each list.
//!
//! A decoder reads from a slice and never past its end. Nothing is allocated for an announced length before that many
//! bytes are known to be there.

use std::fmt;

/// Bytes that do not follow the format: the field, its first byte from the beginning of the input, and the fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} at byte {at}: {fault}")]
pub struct DecodeError {
    /// The field that was read.
    pub field: &'static str,
    /// The position of the field, in bytes from the beginning of the input.
    pub at: usize,
    /// The reason.
    pub fault: DecodeFault,
}

/// The reason why a field cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeFault {
    /// The input ends before the field does.
    Short {
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A length or count below -1, which is null.
    NegativeLength(i32),
    /// More elements than the rest of the input can hold.
    Count {
        /// The announced number of elements.
        count: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A text that is not UTF-8.
    NotText,
    /// A boolean that is neither 0 nor 1.
    Boolean(u8),
    /// A type of transaction that no known version of ZooKeeper writes here.
    UnknownType(i32),
    /// Bytes after the end of the last field.
    Rest(usize),
    /// Bytes that are neither a list of paths nor a digest.
    NeitherListNorDigest,
}

impl fmt::Display for DecodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeFault::Short { needed, left } => write!(f, "{needed} bytes are needed, {left} are left"),
            DecodeFault::NegativeLength(length) => write!(f, "the length {length} is negative"),
            DecodeFault::Count { count, left } => write!(f, "{count} elements cannot be in {left} bytes"),
            DecodeFault::NotText => f.write_str("the text is not UTF-8"),
            DecodeFault::Boolean(byte) => write!(f, "the boolean is {byte:#04x}"),
            DecodeFault::UnknownType(code) => write!(f, "the transaction type {code} is not known"),
            DecodeFault::Rest(count) => write!(f, "{count} bytes follow the last field"),
            DecodeFault::NeitherListNorDigest => f.write_str("it is neither a list of paths nor a digest"),
        }
    }
}

/// Reads fields from the front of a slice.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder at the first byte.
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder {
            rest: bytes,
            length: bytes.len(),
        }
    }

    /// The number of bytes that were read.
    pub fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    /// The bytes that were not read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An error of a field that begins here.
    pub fn error(&self, field: &'static str, fault: DecodeFault) -> DecodeError {
        DecodeError {
            field,
            at: self.position(),
            fault,
        }
    }

    fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            let fault = DecodeFault::Short {
                needed: count,
                left: self.rest.len(),
            };
            return Err(self.error(field, fault));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(field, N)?;
        Ok(bytes.try_into().expect("take returns as many bytes as asked for"))
    }

    /// Reads a number of 4 bytes.
    ///
    /// # Errors
    ///
    /// If the input ends before it does.
    pub fn int(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// Reads a number of 8 bytes.
    ///
    /// # Errors
    ///
    /// If the input ends before it does.
    pub fn long(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// Reads a boolean of one byte.
    ///
    /// # Errors
    ///
    /// If the input ends, or the byte is neither 0 nor 1.
    pub fn boolean(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        let begin = self.clone();
        match self.array::<1>(field)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(begin.error(field, DecodeFault::Boolean(other))),
        }
    }

    /// Reads bytes after their length; `None` for null, which is the length -1.
    ///
    /// # Errors
    ///
    /// If the length is negative otherwise, or more bytes than there are.
    pub fn buffer(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let begin = self.clone();
        match self.int(field)? {
            -1 => Ok(None),
            length => {
                let count = usize::try_from(length)
                    .map_err(|_| begin.error(field, DecodeFault::NegativeLength(length)))?;
                self.take(field, count).map(Some)
            }
        }
    }

    /// Reads a text. Null reads as empty.
    ///
    /// Java writes a character outside of the basic plane as two surrogates of three bytes each; both that form and
    /// UTF-8 are read.
    ///
    /// # Errors
    ///
    /// If the length is wrong, or the bytes are in neither form.
    pub fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let begin = self.clone();
        let bytes = self.buffer(field)?.unwrap_or_default();
        text_of(bytes).ok_or_else(|| begin.error(field, DecodeFault::NotText))
    }

    /// Reads the number of elements of a list, each of which has at least `element_bytes` bytes; 0 for null.
    ///
    /// # Errors
    ///
    /// If it is negative otherwise, or that many elements cannot be in the rest of the input.
    pub fn count(&mut self, field: &'static str, element_bytes: usize) -> Result<usize, DecodeError> {
        let begin = self.clone();
        let announced = self.int(field)?;
        if announced == -1 {
            return Ok(0);
        }
        let count = usize::try_from(announced)
            .map_err(|_| begin.error(field, DecodeFault::NegativeLength(announced)))?;
        let left = self.rest.len();
        match count.checked_mul(element_bytes) {
            Some(needed) if needed <= left => Ok(count),
            _ => Err(begin.error(field, DecodeFault::Count { count, left })),
        }
    }

    /// Whether the length or count that comes next is -1, which is null.
    pub fn is_null(&self) -> bool {
        self.rest.starts_with(&[0xff; 4])
    }

    /// Checks that everything was read.
    ///
    /// # Errors
    ///
    /// If bytes are left.
    pub fn end(&self, field: &'static str) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(self.error(field, DecodeFault::Rest(count))),
        }
    }
}

/// The text of bytes in UTF-8, or as Java writes them.
pub(crate) fn text_of(bytes: &[u8]) -> Option<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.to_owned()),
        Err(_) => joined_surrogates(bytes),
    }
}

/// The text of bytes in which pairs of surrogates are encoded as two characters of three bytes.
fn joined_surrogates(bytes: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (sound, after) = match std::str::from_utf8(rest) {
            Ok(sound) => (sound, &rest[rest.len()..]),
            Err(error) => {
                let (sound, after) = rest.split_at(error.valid_up_to());
                (std::str::from_utf8(sound).ok()?, after)
            }
        };
        text.push_str(sound);
        if after.is_empty() {
            break;
        }
        let (pair, after) = after.split_at_checked(6)?;
        let half = |bytes: &[u8]| match *bytes {
            [0xed, middle @ 0xa0..=0xbf, last @ 0x80..=0xbf] => {
                Some(0xd000 | u16::from(middle & 0x3f) << 6 | u16::from(last & 0x3f))
            }
            _ => None,
        };
        let units = [half(&pair[..3])?, half(&pair[3..])?];
        text.push(char::decode_utf16(units).next()?.ok()?);
        rest = after;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault<T: fmt::Debug>(read: Result<T, DecodeError>) -> String {
        read.expect_err("the input is wrong").to_string()
    }

    #[test]
    fn numbers_texts_and_lists_are_read_in_order() {
        let bytes = [
            &[0, 0, 0, 7][..],
            &[0xff; 8],
            &[1],
            &[0, 0, 0, 2, b'/', b'a'],
            &[0xff; 4],
            &[0, 0, 0, 1, 9],
        ]
        .concat();
        let mut decoder = Decoder::new(&bytes);
        assert_eq!(decoder.int("a"), Ok(7));
        assert_eq!(decoder.long("b"), Ok(-1));
        assert_eq!(decoder.boolean("c"), Ok(true));
        assert_eq!(decoder.text("d"), Ok("/a".to_owned()));
        assert_eq!(decoder.buffer("e"), Ok(None));
        assert_eq!(decoder.position(), 23);
        assert_eq!(
            fault(decoder.end("f")),
            "f at byte 23: 5 bytes follow the last field"
        );
        assert_eq!(decoder.count("g", 1), Ok(1));
        assert_eq!(decoder.rest(), [9]);
    }

    #[test]
    fn a_length_that_the_input_does_not_hold_is_refused_before_anything_is_allocated() {
        let largest = [0x7f, 0xff, 0xff, 0xff, 1];
        let expected = "data at byte 4: 2147483647 bytes are needed, 1 are left";
        assert_eq!(fault(Decoder::new(&largest).buffer("data")), expected);
        assert_eq!(fault(Decoder::new(&largest).text("data")), expected);
        assert_eq!(
            fault(Decoder::new(&largest).count("acl", usize::MAX)),
            "acl at byte 0: 2147483647 elements cannot be in 1 bytes"
        );
        let negative = [0xff, 0xff, 0xff, 0xfe];
        let expected = "acl at byte 0: the length -2 is negative";
        assert_eq!(fault(Decoder::new(&negative).buffer("acl")), expected);
        assert_eq!(fault(Decoder::new(&negative).count("acl", 4)), expected);
        assert_eq!(
            fault(Decoder::new(&[2]).boolean("flag")),
            "flag at byte 0: the boolean is 0x02"
        );
        assert_eq!(
            fault(Decoder::new(&[0; 7]).long("zxid")),
            "zxid at byte 0: 8 bytes are needed, 7 are left"
        );
    }

    #[test]
    fn a_text_is_utf_8_or_has_the_surrogates_that_java_writes() {
        let check = |bytes: &[u8], expected: Option<&str>| {
            let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            let input = [&length, bytes].concat();
            let read = Decoder::new(&input).text("id");
            match expected {
                Some(expected) => assert_eq!(read.as_deref(), Ok(expected)),
                None => assert_eq!(fault(read), "id at byte 0: the text is not UTF-8"),
            }
        };
        check("Zoë 🐘".as_bytes(), Some("Zoë 🐘"));
        check(b"a\xed\xa0\xbd\xed\xb0\x98b", Some("a🐘b"));
        check(b"\xed\xa0\xbd", None);
        check(b"\xed\xb0\x98\xed\xa0\xbd", None);
        check(b"\xff", None);
        check(b"\xc3", None);
    }
}
