//! Values that several commands take.

use bridge_core::journal::Position;
use bridge_core::number::SessionId;
use bridge_core::path::ZnodePath;
use bridge_query::{PathPattern, Selection, parse_position, parse_range_end};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::bridge::wall_clock;
use crate::exit::{Exit, Failure};

/// Takes one of the words that name these values.
pub fn word_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|one| name(*one))).map(move |word| {
        let found = all.iter().find(|one| name(**one) == word);
        *found.expect("the parser takes no other word")
    })
}

/// Reads a position for `--from` and `--at`.
pub fn position(text: &str) -> Result<Position, String> {
    parse_position(text, wall_clock()()).map_err(|error| error.reason_and_help())
}

/// Reads the position with which a range ends, for `--to`: a date is the whole day.
pub fn range_end(text: &str) -> Result<Position, String> {
    parse_range_end(text, wall_clock()()).map_err(|error| error.reason_and_help())
}

/// Reads the path of one znode. A trailing slash is ignored.
pub fn znode(text: &str) -> Result<ZnodePath, String> {
    let trimmed = match text.trim_end_matches('/') {
        "" if !text.is_empty() => "/",
        trimmed => trimmed,
    };
    ZnodePath::parse(trimmed).map_err(|error| error.to_string())
}

/// Reads a session: its hex digits, with `0x` or without.
pub fn session(text: &str) -> Result<SessionId, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let number = u64::from_str_radix(digits, 16).map(SessionId);
    number.map_err(|_| {
        "it is not the id of a session, which has at most 16 hex digits\nhelp: give it as records and ZooKeeper's logs \
         write it, as in 0x0100002f037b0000; 'zkbridge changes' takes a client or a user with --client or --user"
            .to_owned()
    })
}

/// Reads a number of lines for `-n`, which is at least 1.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("it is less than 1\nhelp: give a number of at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}\nhelp: give a whole number")),
    }
}

/// Selects the records of these patterns; all if there is none.
pub fn of_paths(patterns: &[PathPattern]) -> Selection {
    Selection {
        paths: patterns.to_vec(),
        ..Selection::default()
    }
}

/// A filter of the command line that cannot work.
pub fn bad_filter(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Configuration, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailing_slash_of_a_znode_is_ignored() {
        let check = |text, expected: &str| assert_eq!(znode(text).as_deref(), Ok(expected));
        check("/a", "/a");
        check("/a/", "/a");
        check("/a/b//", "/a/b");
        check("/", "/");
        for wrong in ["", "a", "/a//b"] {
            assert!(znode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_session_has_hex_digits_and_other_words_are_refused_with_an_example() {
        let id = SessionId(0x0100_002f_037b_0000);
        for text in ["0x0100002f037b0000", "100002f037b0000"] {
            assert_eq!(session(text), Ok(id));
        }
        for text in ["alice", "", "0x", "0x10000000000000000"] {
            let refused = session(text).unwrap_err();
            assert!(
                refused.contains("at most 16 hex digits") && refused.contains("0x0100002f037b0000"),
                "{refused}"
            );
        }
    }
}
