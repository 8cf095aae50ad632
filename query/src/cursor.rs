//! The `next` of a page: an opaque text that resumes exactly this list, with its resolved range.

use std::hash::{DefaultHasher, Hash, Hasher};

use bridge_core::journal::Position;

use crate::error::QueryError;
use crate::position::position_text;

/// The separator of the parts; no path holds it.
const SEPARATOR: char = '\0';

/// The longest cursor: a path of a znode, with room.
const CURSOR_BYTES_MAX: usize = 8 << 10;

/// The place where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// A hash of the question: a cursor is of no use for another one.
    query: u64,
    parts: Vec<String>,
}

/// A hash of everything that selects the items of a list.
pub(crate) fn query_hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// A moment as a part of the question. A time may have been given as an age or a time of day, which is another one at the
/// next page: the cursor has that of the first page, and it counts.
pub(crate) fn asked(position: Option<Position>) -> Option<String> {
    position.map(|position| match position {
        Position::Time(_) => "time".to_owned(),
        Position::Seq(_) | Position::Zxid(_) => position_text(position),
    })
}

impl Cursor {
    /// The cursor of a question with the parts that resume it.
    pub(crate) fn new(query: u64, parts: impl IntoIterator<Item = String>) -> Cursor {
        Cursor {
            query,
            parts: parts.into_iter().collect(),
        }
    }

    /// The text for a caller: hex, so that it needs no escape in an address.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{:016x}", self.query);
        for byte in self.parts.join(&SEPARATOR.to_string()).bytes() {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }

    /// Reads `N` parts of a cursor of this question.
    ///
    /// # Errors
    ///
    /// If the text is no cursor of this question.
    pub(crate) fn parts<const N: usize>(text: &str, query: u64) -> Result<[String; N], QueryError> {
        let bad = || QueryError::BadCursor(text.chars().take(40).collect());
        if text.len() > CURSOR_BYTES_MAX || !text.is_ascii() || text.len() < 16 {
            return Err(bad());
        }
        let (hash, rest) = text.split_at(16);
        if u64::from_str_radix(hash, 16) != Ok(query) || !rest.len().is_multiple_of(2) {
            return Err(bad());
        }
        let bytes = rest.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        let joined = String::from_utf8(bytes.ok_or_else(bad)?).map_err(|_| bad())?;
        let parts: Vec<String> = joined.split(SEPARATOR).map(str::to_owned).collect();
        parts.try_into().map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_again_for_its_own_question_and_refused_for_any_other() {
        let cursor = Cursor::new(7, ["1842".to_owned(), "/ä/b".to_owned()]);
        let text = cursor.to_text();
        let parts: [String; 2] = Cursor::parts(&text, 7).unwrap();
        assert_eq!(parts, ["1842", "/ä/b"]);
        assert!(Cursor::parts::<2>(&text, 8).is_err(), "another question");
        assert!(Cursor::parts::<3>(&text, 7).is_err(), "another number of parts");
        let long = "0".repeat(CURSOR_BYTES_MAX + 2);
        for bad in [
            "",
            "zz",
            "0000000000000007f",
            "0000000000000007zz",
            "ä0000000000000000",
            &long,
        ] {
            assert!(Cursor::parts::<1>(bad, 7).is_err(), "{bad}");
        }
    }
}
