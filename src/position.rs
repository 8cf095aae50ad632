//! A place in a journal as people type it: a record's number, a zxid, a moment, or how long ago.

use std::str::FromStr;

use bridge_core::amount::Span;
use bridge_core::journal::Position;
use bridge_core::number::{Seq, Zxid};
use bridge_core::record::Timestamp;

use crate::bridge::wall_clock;

/// What `--from`, `--to` and `--at` take.
pub const FORMS: &str = "\
a record's number (1842), a zxid (0x300001a2f), a moment in UTC
(2026-11-22T13:40:00Z), or how long ago (15m)";

/// A position as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typed(pub Position);

impl FromStr for Typed {
    type Err = String;

    fn from_str(text: &str) -> Result<Typed, String> {
        parse(text, wall_clock()()).map(Typed)
    }
}

fn parse(text: &str, now: Timestamp) -> Result<Position, String> {
    if let Some(digits) = text.strip_prefix("0x") {
        let zxid = u64::from_str_radix(digits, 16).map_err(|error| format!("{error}: give {FORMS}"))?;
        return Ok(Position::Zxid(Zxid(zxid)));
    }
    if let Ok(seq) = text.parse() {
        return Ok(Position::Seq(Seq(seq)));
    }
    if let Ok(Span(ago)) = text.parse() {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(Position::Time(Timestamp(now.0.saturating_sub(ago))));
    }
    let moment: Result<Timestamp, _> = text.parse();
    moment
        .map(Position::Time)
        .map_err(|_| format!("this is no position: give {}", FORMS.replace('\n', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_taken_in_each_of_its_forms() {
        let now = Timestamp(1_795_355_000_000);
        let check = |text, expected| assert_eq!(parse(text, now), Ok(expected), "{text}");
        check("1842", Position::Seq(Seq(1842)));
        check("0x300001a2f", Position::Zxid(Zxid(0x3_0000_1a2f)));
        check("0x0000000300001a2f", Position::Zxid(Zxid(0x3_0000_1a2f)));
        check("15m", Position::Time(Timestamp(now.0 - 900_000)));
        check("2026-11-22T13:43:20Z", Position::Time(now));
        check("2026-11-22 13:43:20", Position::Time(now));
        for wrong in ["", "0x", "yesterday", "-3"] {
            let error = parse(wrong, now).unwrap_err();
            assert!(error.contains("how long ago"), "{error}");
        }
    }
}
