//! Times and sizes as people write them in a configuration: `10s`, `64 MiB`.
//!
//! A bare number is refused: it never says which unit was meant. `humantime` reads times. Sizes are read here, because
//! `bytesize` takes a bare number for bytes and shows a size rounded, while an option must be shown as it was given.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, written as text: `250ms`, `10s`, `5m`, `1h 30m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

/// A number of bytes, written as text: `512 B`, `64 KiB`, `1 MiB`, `10 GiB`, `64 MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// A length of time, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Patience {
    /// Without end.
    #[default]
    Never,
    /// Until so much time has passed.
    After(Span),
}

/// Something done again and again, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interval {
    /// Not at all.
    Off,
    /// Again after so much time.
    Every(Span),
}

/// How long something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Horizon {
    /// Without end.
    Forever,
    /// For so much time.
    For(Span),
}

/// A text that is no amount, with what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {wanted}")]
pub struct BadAmount {
    text: String,
    wanted: &'static str,
}

const A_SPAN: &str = "a time: write a number and its unit, as in 250ms, 10s, 5m, 1h or 7d";
const A_SIZE: &str = "a size: write a whole number and its unit, as in 512 B, 64 KiB, 1 MiB or 10 GiB";
const A_PATIENCE: &str = "a time or never: write a number and its unit, as in 10s, 5m or 7d, or \"never\"";

const AN_INTERVAL: &str = "a time or off: write a number and its unit, as in 30s, 5m or 1h, or \"off\"";
const A_HORIZON: &str = "a time or forever: write a number and its unit, as in 1h, 7d or 4w, or \"forever\"";

/// The units of sizes; those without `i` are powers of ten.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

impl FromStr for Span {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Span, BadAmount> {
        humantime::parse_duration(text)
            .map(Span)
            .map_err(|_| bad(text, A_SPAN))
    }
}

impl FromStr for Size {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Size, BadAmount> {
        let trimmed = text.trim();
        let digits = trimmed
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let factor = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))
            .map(|(_, factor)| *factor);
        number
            .parse::<u64>()
            .ok()
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .map(Size)
            .ok_or_else(|| bad(text, A_SIZE))
    }
}

impl FromStr for Patience {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Patience, BadAmount> {
        if text == "never" {
            return Ok(Patience::Never);
        }
        text.parse()
            .map(Patience::After)
            .map_err(|_| bad(text, A_PATIENCE))
    }
}

impl FromStr for Interval {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Interval, BadAmount> {
        if text == "off" {
            return Ok(Interval::Off);
        }
        text.parse()
            .map(Interval::Every)
            .map_err(|_| bad(text, AN_INTERVAL))
    }
}

impl FromStr for Horizon {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Horizon, BadAmount> {
        if text == "forever" {
            return Ok(Horizon::Forever);
        }
        text.parse().map(Horizon::For).map_err(|_| bad(text, A_HORIZON))
    }
}

impl Span {
    /// So many milliseconds.
    pub const fn millis(count: u64) -> Span {
        Span(Duration::from_millis(count))
    }

    /// So many seconds.
    pub const fn secs(count: u64) -> Span {
        Span(Duration::from_secs(count))
    }
}

impl Interval {
    /// The time between, if it is done at all.
    pub fn period(self) -> Option<Duration> {
        match self {
            Interval::Off => None,
            Interval::Every(span) => Some(span.0),
        }
    }
}

impl Horizon {
    /// How long, if there is an end.
    pub fn period(self) -> Option<Duration> {
        match self {
            Horizon::Forever => None,
            Horizon::For(span) => Some(span.0),
        }
    }
}

fn bad(text: &str, wanted: &'static str) -> BadAmount {
    BadAmount {
        text: text.to_owned(),
        wanted,
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime writes days in full where everybody writes `7d`.
        let text = humantime::format_duration(self.0).to_string();
        f.write_str(&text.replace("days", "d").replace("day", "d"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides = |factor: u64| self.0 != 0 && self.0.is_multiple_of(factor);
        let (unit, factor) = UNITS[..5]
            .iter()
            .rev()
            .find(|(_, factor)| divides(*factor))
            .unwrap_or(&UNITS[0]);
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl fmt::Display for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Patience::Never => f.write_str("never"),
            Patience::After(span) => span.fmt(f),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Interval::Off => f.write_str("off"),
            Interval::Every(span) => span.fmt(f),
        }
    }
}

impl fmt::Display for Horizon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Horizon::Forever => f.write_str("forever"),
            Horizon::For(span) => span.fmt(f),
        }
    }
}

macro_rules! written_as_text {
    ($name:ident, $meaning:literal, $examples:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "description": $meaning, "examples": $examples})
            }
        }
    };
}

written_as_text!(
    Span,
    "A length of time: a number and its unit.",
    ["250ms", "10s", "5m", "1h", "7d"]
);
written_as_text!(
    Size,
    "A number of bytes: a whole number and its unit.",
    ["64 KiB", "1 MiB", "10 GiB"]
);
written_as_text!(Interval, "A length of time, or off.", ["off", "30s", "1h"]);
written_as_text!(Horizon, "A length of time, or forever.", ["forever", "7d"]);
written_as_text!(Patience, "A length of time, or never.", ["never", "10m", "7d"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_its_unit() {
        let check = |text: &str, expected: Duration| assert_eq!(text.parse(), Ok(Span(expected)), "{text}");
        check("100ms", Duration::from_millis(100));
        check("1h 30m", Duration::from_secs(5400));
        check("7d", Duration::from_secs(7 * 86_400));
        for refused in ["", "10", "ten seconds", "-1s", "1 parsec"] {
            let error = refused.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains("write a number and its unit"), "{error}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_with_its_unit() {
        let check = |text: &str, expected: u64| assert_eq!(text.parse(), Ok(Size(expected)), "{text}");
        check("0 B", 0);
        check("64 MiB", 64 << 20);
        check("64MB", 64_000_000);
        check(" 1 gib ", 1 << 30);
        for refused in [
            "",
            "64",
            "1.5 MiB",
            "MiB",
            "1 MiBs",
            "99999999999999999999 B",
            "99999999999 TiB",
        ] {
            let error = refused.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains("write a whole number and its unit"), "{error}");
        }
    }

    #[test]
    fn an_amount_is_written_as_it_can_be_read_again() {
        for bytes in [0, 1, 1000, 1024, 64 << 20, (64 << 20) + 1, 3 << 40] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
        assert_eq!(Size(64 << 20).to_string(), "64 MiB");
        for text in ["100ms", "1h 30m", "7d", "1d 1h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn patience_may_have_no_end() {
        assert_eq!("never".parse(), Ok(Patience::Never));
        assert_eq!(
            serde_json::from_str::<Patience>("\"5m\"").unwrap(),
            Patience::After(Span(Duration::from_secs(300)))
        );
        let error = serde_json::from_str::<Patience>("\"soon\"").unwrap_err();
        assert!(error.to_string().contains("or \"never\""), "{error}");
    }

    #[test]
    fn a_word_is_taken_only_where_it_means_something() {
        assert_eq!("off".parse(), Ok(Interval::Off));
        assert_eq!("1h".parse(), Ok(Interval::Every(Span::secs(3600))));
        assert_eq!("forever".parse(), Ok(Horizon::Forever));
        for (error, word) in [
            ("forever".parse::<Interval>().unwrap_err(), "or \"off\""),
            ("off".parse::<Horizon>().unwrap_err(), "or \"forever\""),
        ] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
