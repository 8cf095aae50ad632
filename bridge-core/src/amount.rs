//! Times and sizes as people write them in a configuration: `10s`, `64 MiB`.
//!
//! A bare number is refused: it never says which unit was meant. `humantime` reads times. Sizes are read here, because
//! `bytesize` takes a bare number for bytes and shows a size rounded, while an option must be shown as it was given.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::text_value;

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
    /// Until this time has passed.
    After(Span),
}

/// Something done again and again, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Interval {
    /// Not at all.
    #[default]
    Off,
    /// Again after this time.
    Every(Span),
}

/// How long something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Horizon {
    /// Without end.
    Forever,
    /// For this time.
    For(Span),
}

/// A size at which something happens, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Threshold {
    /// Never.
    Off,
    /// Before it grows beyond this.
    At(Size),
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

impl Span {
    /// A span of milliseconds.
    pub const fn millis(count: u64) -> Span {
        Span(Duration::from_millis(count))
    }

    /// A span of seconds.
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

/// Reads and writes an enum of one word and one amount.
macro_rules! word_or_amount {
    ($name:ident, $none:ident = $word:literal, $some:ident, $wanted:literal) => {
        impl FromStr for $name {
            type Err = BadAmount;

            fn from_str(text: &str) -> Result<$name, BadAmount> {
                if text == $word {
                    return Ok($name::$none);
                }
                text.parse()
                    .map($name::$some)
                    .map_err(|_| bad(text, $wanted))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $name::$none => f.write_str($word),
                    $name::$some(amount) => amount.fmt(f),
                }
            }
        }
    };
}

word_or_amount!(
    Patience,
    Never = "never",
    After,
    "a time or never: write a number and its unit, as in 10s, 5m or 7d, or \"never\""
);
word_or_amount!(
    Interval,
    Off = "off",
    Every,
    "a time or off: write a number and its unit, as in 30s, 5m or 1h, or \"off\""
);
word_or_amount!(
    Horizon,
    Forever = "forever",
    For,
    "a time or forever: write a number and its unit, as in 1h, 7d or 4w, or \"forever\""
);
word_or_amount!(
    Threshold,
    Off = "off",
    At,
    "a size or off: write a whole number and its unit, as in 64 MiB or 1 GiB, or \"off\""
);

text_value!(Span, {
    "type": "string",
    "description": "A length of time: a number and its unit.",
    "examples": ["250ms", "10s", "5m", "1h", "7d"],
});
text_value!(Size, {
    "type": "string",
    "description": "A number of bytes: a whole number and its unit.",
    "examples": ["64 KiB", "1 MiB", "10 GiB"],
});
text_value!(Interval, {
    "type": "string",
    "description": "A length of time, or off.",
    "examples": ["off", "30s", "1h"],
});
text_value!(Horizon, {
    "type": "string",
    "description": "A length of time, or forever.",
    "examples": ["forever", "7d"],
});
text_value!(Patience, {
    "type": "string",
    "description": "A length of time, or never.",
    "examples": ["never", "10m", "7d"],
});
text_value!(Threshold, {
    "type": "string",
    "description": "A number of bytes, or off.",
    "examples": ["256 MiB", "off"],
});

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
