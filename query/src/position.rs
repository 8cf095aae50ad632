//! A position as people type it: a record's number, a zxid, a time, or how long ago.

use std::ops::RangeInclusive;
use std::path::Path;

use bridge_core::amount::Span;
use bridge_core::file_path::open_regular;
use bridge_core::journal::Position;
use bridge_core::number::{Seq, Zxid};
use bridge_core::record::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// The forms of a position, for messages.
pub const POSITION_FORMS: &str = "a record's number (1842), a zxid (0x300001a2f), a time \
     (2026-11-22T13:40:00Z, 2026-11-22T14:40:00+01:00, 2026-11-22 14:40 local), a date (2026-11-22), a time of day (12:30, \
     12:30 local), 'today', 'yesterday', an age (15m), or 'now'; UTC unless it has an offset or 'local'";

/// A number that large is a Unix time and no record's number.
const UNIX_TIME_MIN: u64 = 1_000_000_000;

/// The years of a number of eight digits that is rather a date than a record's number.
const DATED_YEARS: RangeInclusive<i16> = 1970..=2099;

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

/// A position in a form that [`parse_position`] reads again, whatever the time is.
pub fn position_text(position: Position) -> String {
    match position {
        // The leading zero says that it is no date.
        Position::Seq(seq) if date_of_digits(&seq.to_string()).is_some() => format!("0{seq}"),
        Position::Seq(seq) => seq.to_string(),
        Position::Zxid(zxid) => zxid.to_string(),
        Position::Time(time) => time.to_string(),
    }
}

/// Reads a position. A date is its first moment, and a time of day the last such moment. A time is in UTC if it has no
/// offset and no `local`, which is the time zone of the process (`TZ`).
///
/// # Errors
///
/// If the text has none of the forms of [`POSITION_FORMS`].
pub fn parse_position(text: &str, now: Timestamp) -> Result<Position, BadPosition> {
    parse_in(text, now, &local_zone(), Edge::First)
}

/// Reads the position with which a range ends. As [`parse_position`], but a date is its last moment, so that a range to a
/// day has the whole day.
///
/// # Errors
///
/// As of [`parse_position`].
pub fn parse_range_end(text: &str, now: Timestamp) -> Result<Position, BadPosition> {
    parse_in(text, now, &local_zone(), Edge::Last)
}

/// The time zone of the process.
fn local_zone() -> TimeZone {
    match is_readable(&std::env::var("TZ").unwrap_or_default()) {
        true => TimeZone::system(),
        false => TimeZone::UTC,
    }
}

/// Whether a value of `TZ` can be looked up: a file that it names must be a regular one, as a device may never end.
fn is_readable(zone: &str) -> bool {
    let file = Path::new(zone.strip_prefix(':').unwrap_or(zone));
    !file.is_absolute() || open_regular(file).is_ok()
}

/// The moment of a day that its date names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    First,
    /// Now, if the day is not over.
    Last,
}

fn parse_in(text: &str, now: Timestamp, local: &TimeZone, edge: Edge) -> Result<Position, BadPosition> {
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
    if let Some(date) = date_of_digits(text) {
        return Err(bad(format!(
            "it is a date or the number of a record; write {date} for the date, or 0{text} for the record"
        )));
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
    jiff::Timestamp::from_millisecond(now.0)
        .ok()
        .and_then(|now| time(text, now, local, edge))
        .map(|time| Position::Time(Timestamp(time.as_millisecond())))
        .ok_or_else(|| bad("it has none of the known forms".to_owned()))
}

/// The date that eight digits are without separators. A leading zero makes any number that of a record.
fn date_of_digits(text: &str) -> Option<Date> {
    if text.len() != "20261130".len() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, month, day) = (
        text[..4].parse().ok()?,
        text[4..6].parse().ok()?,
        text[6..].parse().ok()?,
    );
    let date = Date::new(year, month, day).ok()?;
    DATED_YEARS.contains(&year).then_some(date)
}

/// RFC 3339 with any offset, a date and time without one, a date, or a time of day.
fn time(text: &str, now: jiff::Timestamp, local: &TimeZone, edge: Edge) -> Option<jiff::Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let (text, zone) = match text.strip_suffix("local") {
        Some(text) => (text.trim_end(), local),
        None => (text, &TimeZone::UTC),
    };
    let now = now.to_zoned(zone.clone());
    let time = match text {
        "today" => now.start_of_day(),
        "yesterday" => now.yesterday().and_then(|day| day.start_of_day()),
        _ if !is_without_zone(text) => return None,
        _ => match (text.parse::<DateTime>(), text.parse::<Time>()) {
            (Ok(time), _) => time.to_zoned(zone.clone()),
            (_, Ok(time)) => {
                let today = now.with().time(time).build();
                let is_past = today.as_ref().is_ok_and(|today| *today <= now);
                if is_past {
                    today
                } else {
                    now.yesterday().and_then(|day| day.with().time(time).build())
                }
            }
            _ => return None,
        },
    };
    let first = time.ok()?;
    if edge == Edge::First || !is_day(text) {
        return Some(first.timestamp());
    }
    let next = first.tomorrow().and_then(|day| day.start_of_day()).ok()?;
    let last = next.timestamp() - jiff::SignedDuration::from_millis(1);
    let now = now.timestamp();
    Some(if first.timestamp() <= now {
        last.min(now)
    } else {
        last
    })
}

/// Whether a text without its zone names a day.
fn is_day(text: &str) -> bool {
    matches!(text, "today" | "yesterday") || text.parse::<jiff::civil::Date>().is_ok() && text.len() == DATE
}

/// The length of a date.
const DATE: usize = "2026-11-22".len();

/// Whether a text has nothing but a date and a time. One with an offset or a zone is an instant, or not read at all: the
/// types of dates and times would ignore both.
fn is_without_zone(text: &str) -> bool {
    let is_dashed = text.as_bytes().get(4) == Some(&b'-');
    let clock = if is_dashed { text.get(DATE..) } else { Some(text) };
    let is_of_clock = |letter: char| letter.is_ascii_digit() || matches!(letter, ':' | '.' | ' ' | 'T' | 't');
    clock.is_some_and(|clock| clock.chars().all(is_of_clock))
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
        for wrong in ["", "0x", "last week", "-3", "local", "25:00", "12:30 locally"] {
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
            "2026-11-22T14:43:20+26:00",
            "2026-11-22T14:43:20+1:00",
            "2026-13-22",
            "2026-11-22+",
            "2026-11-22T14:43:20Z+01:00",
            "2026-11-22T12:00[Europe/Berlin]",
            "2026-11-22[Europe/Berlin]",
            "12:30+01:00",
            "12:30-03",
            "12:30Z",
            "12:30[UTC]",
        ] {
            assert!(parse_position(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_zone_that_is_no_regular_file_is_never_read() {
        for (zone, expected) in [
            ("", true),
            ("Europe/Berlin", true),
            (":/dev/zero", false),
            ("/dev/zero", false),
            (":/nowhere", false),
        ] {
            assert_eq!(is_readable(zone), expected, "{zone}");
        }
    }

    #[test]
    fn a_time_of_day_and_a_local_time_are_taken_and_a_local_one_is_marked() {
        // 2026-11-22T13:43:20Z, which is 14:43:20 in this time zone.
        let now = Timestamp(1_795_355_000_000);
        let zone = jiff::tz::offset(1).to_time_zone();
        let check = |text, expected: &str| {
            let expected: jiff::Timestamp = expected.parse().unwrap();
            let expected = Position::Time(Timestamp(expected.as_millisecond()));
            assert_eq!(parse_in(text, now, &zone, Edge::First), Ok(expected), "{text}");
        };
        check("12:30", "2026-11-22T12:30:00Z");
        check("13:50", "2026-11-21T13:50:00Z");
        check("13:50 local", "2026-11-22T12:50:00Z");
        check("14:50:30 local", "2026-11-21T13:50:30Z");
        check("2026-11-22 14:40", "2026-11-22T14:40:00Z");
        check("2026-11-22 14:40 local", "2026-11-22T13:40:00Z");
        check("2026-11-22T14:40:00local", "2026-11-22T13:40:00Z");
        check("2026-11-22 local", "2026-11-21T23:00:00Z");
        check("today", "2026-11-22T00:00:00Z");
        check("yesterday", "2026-11-21T00:00:00Z");
        check("yesterday local", "2026-11-20T23:00:00Z");
        for wrong in ["2026-11-22T14:40:00Z local", "2026-11-22T14:40:00+01:00 local"] {
            assert!(parse_in(wrong, now, &zone, Edge::First).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_range_to_a_date_has_the_whole_day_and_a_day_that_is_not_over_ends_now() {
        let now = Timestamp(1_795_355_000_000);
        let zone = jiff::tz::offset(1).to_time_zone();
        let check = |text, expected: &str| {
            let expected: jiff::Timestamp = expected.parse().unwrap();
            let expected = Position::Time(Timestamp(expected.as_millisecond()));
            assert_eq!(parse_in(text, now, &zone, Edge::Last), Ok(expected), "{text}");
        };
        check("2026-11-21", "2026-11-21T23:59:59.999Z");
        check("2026-11-21 local", "2026-11-21T22:59:59.999Z");
        check("yesterday", "2026-11-21T23:59:59.999Z");
        check("today", "2026-11-22T13:43:20Z");
        check("2026-11-22", "2026-11-22T13:43:20Z");
        check("2026-11-23", "2026-11-23T23:59:59.999Z");
        // A time is a moment, also at midnight.
        check("2026-11-21 00:00", "2026-11-21T00:00:00Z");
        check("2026-11-21T00:00:00Z", "2026-11-21T00:00:00Z");
        check("12:30", "2026-11-22T12:30:00Z");
        assert_eq!(parse_range_end("1842", now), Ok(Position::Seq(Seq(1842))));
    }

    #[test]
    fn the_text_of_a_position_is_read_as_the_same_position() {
        for position in [
            Position::Seq(Seq(1842)),
            Position::Zxid(Zxid(0x3_0000_1a2f)),
            Position::Time(Timestamp(1_795_355_000_123)),
        ] {
            let text = position_text(position);
            assert_eq!(parse_position(&text, Timestamp(0)), Ok(position), "{text}");
        }
    }

    #[test]
    fn eight_digits_that_are_a_date_are_refused_with_both_ways_to_write_them() {
        let now = Timestamp(1_795_355_000_000);
        for (text, date) in [
            ("20261130", "2026-11-30"),
            ("20240229", "2024-02-29"),
            ("19991231", "1999-12-31"),
        ] {
            let error = parse_position(text, now).unwrap_err().to_string();
            let both = format!("write {date} for the date, or 0{text} for the record");
            assert!(error.contains(&both), "{error}");
            let seq = Position::Seq(Seq(text.parse().unwrap()));
            assert_eq!(parse_position(&format!("0{text}"), now), Ok(seq));
            assert_eq!(parse_position(&position_text(seq), now), Ok(seq));
        }
        for number in [
            "20261131",
            "20261301",
            "20230229",
            "21000101",
            "2026113",
            "202611301",
        ] {
            let seq = Position::Seq(Seq(number.parse().unwrap()));
            assert_eq!(parse_position(number, now), Ok(seq), "{number}");
            assert_eq!(position_text(seq), number);
        }
    }

    #[test]
    fn a_number_that_can_only_be_a_unix_time_is_refused() {
        let error = parse_position("1795355000", Timestamp(0)).unwrap_err();
        assert!(error.to_string().contains("Unix time"), "{error}");
    }
}
