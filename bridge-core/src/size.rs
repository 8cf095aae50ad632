//! Sizes in bytes, as people write them in a configuration.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written with its unit: `64 MiB`, `1 MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// The forms that [`Size`] takes, for messages.
pub const SIZE_FORMS: &str = "a number and a unit in quotes, like \"64 MiB\" or \"1 MB\" (units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)";

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size: give {SIZE_FORMS}")]
pub struct BadSize(String);

impl Size {
    /// So many times 1024 * 1024 bytes.
    pub const fn mib(count: u64) -> Size {
        Size(count << 20)
    }

    /// So many times 1024 * 1024 * 1024 bytes.
    pub const fn gib(count: u64) -> Size {
        Size(count << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Size, BadSize> {
        parse(text.trim()).ok_or_else(|| BadSize(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Size> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.trim_start();
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    let tenth_power = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(*factor) / u128::from(tenth_power);
    let bytes = whole
        .checked_mul(*factor)?
        .checked_add(u64::try_from(part).ok()?)?;
    Some(Size(bytes))
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (unit, factor) = UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number of bytes with its unit.",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT][iI]?)?[bB]\s*$|\$\{",
            "examples": ["64 MiB", "1 MB", "500 KB"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit_of_1000_or_1024() {
        for (text, bytes) in [
            ("64 MiB", 64 << 20),
            ("1 MB", 1_000_000),
            ("10GiB", 10 << 30),
            ("1.5 KiB", 1536),
            ("0 B", 0),
            (" 7 kb ", 7000),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_size_is_refused_with_the_forms_that_are() {
        for bad in [
            "",
            "64",
            "MiB",
            "64 MIBS",
            "-1 MB",
            "1. MB",
            ".5 MB",
            "99999999 TiB",
            "1 2 MB",
        ] {
            let error = bad.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains("\"64 MiB\""), "{bad}: {error}");
        }
    }

    #[test]
    fn a_size_is_shown_in_the_largest_unit_that_keeps_it_whole() {
        for (size, text) in [
            (Size::mib(64), "64 MiB"),
            (Size::gib(10), "10 GiB"),
            (Size(1_000_000), "1 MB"),
            (Size(1025), "1025 B"),
            (Size(0), "0 B"),
        ] {
            assert_eq!(size.to_string(), text);
            assert_eq!(text.parse(), Ok(size));
        }
    }
}
