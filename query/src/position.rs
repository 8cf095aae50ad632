//! A position as people type it: a record's number, a zxid, a time, or how long ago.

use bridge_core::amount::Span;
use bridge_core::journal::Position;
use bridge_core::number::{Seq, Zxid};
use bridge_core::record::Timestamp;

/// The forms of a position, for messages.
pub const POSITION_FORMS: &str = "a record's number (1842), a zxid (0x300001a2f), a time \
     (2026-11-22T13:40:00Z, 2026-11-22T14:40:00+01:00), a date (2026-11-22), an age (15m), or 'now'";

/// A number that large is a Unix time and no record's number.
const UNIX_TIME_MIN: u64 = 1_000_000_000;

/// A text that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position '{text}': {reason}\nhelp: give {POSITION_FORMS}")]
pub struct BadPosition {
    text: String,
    reason: String,
}

impl BadPosition {
    /// The message without the text, for a place that shows the text itself.
    pub fn reason_and_help(&self) -> String {
        format!("{}\nhelp: give {POSITION_FORMS}", self.reason)
    }
}

/// Reads a position. A date is its first moment; a time without an offset is in UTC.
///
/// # Errors
///
/// If the text has none of the forms of [`POSITION_FORMS`].
pub fn parse_position(text: &str, now: Timestamp) -> Result<Position, BadPosition> {
    let bad = |reason: String| BadPosition {
        text: text.to_owned(),
        reason,
    };
    if text == "now" {
        return Ok(Position::Time(now));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        let zxid = u64::from_str_radix(digits, 16).map_err(|error| bad(error.to_string()))?;
        return Ok(Position::Zxid(Zxid(zxid)));
    }
    if let Ok(seq) = text.parse() {
        return match seq >= UNIX_TIME_MIN {
            true => Err(bad(
                "it is too large for a record's number; is it a Unix time?".to_owned()
            )),
            false => Ok(Position::Seq(Seq(seq))),
        };
    }
    if let Ok(Span(ago)) = text.parse() {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(Position::Time(Timestamp(now.0.saturating_sub(ago))));
    }
    time(text)
        .map(Position::Time)
        .ok_or_else(|| bad("it has none of the known forms".to_owned()))
}

/// RFC 3339 with any offset, or in UTC without one, or a date.
fn time(text: &str) -> Option<Timestamp> {
    let is_date = text.len() == "2026-11-22".len() && text.matches('-').count() == 2;
    if is_date {
        return format!("{text}T00:00:00Z").parse().ok();
    }
    // The sign of an offset comes after the date, which has two hyphens itself.
    let after_date = text.get("2026-11-22".len()..)?;
    let Some(at) = after_date.rfind(['+', '-']) else {
        return text.parse().ok();
    };
    let (clock, offset) = text.split_at("2026-11-22".len() + at);
    if clock.ends_with('Z') {
        return None;
    }
    let local: Timestamp = clock.parse().ok()?;
    Some(Timestamp(local.0.checked_sub(offset_ms(offset)?)?))
}

/// `+01:00` or `-0330` in milliseconds.
fn offset_ms(text: &str) -> Option<i64> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits: String = match digits.len() {
        5 if digits.as_bytes()[2] == b':' => digits.replace(':', ""),
        4 => digits.to_owned(),
        2 => format!("{digits}00"),
        _ => return None,
    };
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_taken_in_each_of_its_forms() {
        let now = Timestamp(1_795_355_000_000);
        let check = |text, expected| assert_eq!(parse_position(text, now), Ok(expected), "{text}");
        check("1842", Position::Seq(Seq(1842)));
        check("0x300001a2f", Position::Zxid(Zxid(0x3_0000_1a2f)));
        check("0x0000000300001a2f", Position::Zxid(Zxid(0x3_0000_1a2f)));
        check("15m", Position::Time(Timestamp(now.0 - 900_000)));
        check("now", Position::Time(now));
        check("2026-11-22T13:43:20Z", Position::Time(now));
        check("2026-11-22 13:43:20", Position::Time(now));
        for wrong in ["", "0x", "yesterday", "-3"] {
            let error = parse_position(wrong, now).unwrap_err().to_string();
            assert!(error.contains("an age (15m)"), "{error}");
        }
    }

    #[test]
    fn a_time_may_have_any_offset_and_a_date_is_its_first_moment() {
        let now = Timestamp(1_795_355_000_000);
        let check = |text, expected: i64| {
            assert_eq!(
                parse_position(text, now),
                Ok(Position::Time(Timestamp(expected))),
                "{text}"
            );
        };
        check("2026-11-22T14:43:20+01:00", now.0);
        check("2026-11-22T10:13:20-03:30", now.0);
        check("2026-11-22T14:43:20+0100", now.0);
        check("2026-11-22T14:43:20+01", now.0);
        check("2026-11-22 14:43:20.250+01:00", now.0 + 250);
        check("2026-11-22", 1_795_305_600_000);
        for wrong in [
            "2026-11-22T14:43:20+25:00",
            "2026-11-22T14:43:20+1:00",
            "2026-13-22",
            "12:30",
            "2026-11-22+",
            "2026-11-22T14:43:20Z+01:00",
        ] {
            assert!(parse_position(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_number_that_can_only_be_a_unix_time_is_refused() {
        let error = parse_position("1795355000", Timestamp(0)).unwrap_err();
        assert!(error.to_string().contains("Unix time"), "{error}");
    }
}
