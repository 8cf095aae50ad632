//! Lengths of time, as people write them in a configuration.
//!
//! Where something can also be switched off, or never ends, a type of its own holds the one word that says so, so
//! that no option takes a word that means nothing there.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, written with its unit: `10s`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// The forms that [`Period`] takes, for messages.
pub const PERIOD_FORMS: &str =
    "a number and a unit in quotes, like \"100ms\", \"10s\", \"1h\" or \"7d\" (units: ms, s, m, h, d, w)";

const UNITS: [(&str, u128); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a time: give {}{PERIOD_FORMS}", or_word(.word))]
pub struct BadPeriod {
    text: String,
    word: Option<&'static str>,
}

fn or_word(word: &Option<&'static str>) -> String {
    word.map(|word| format!("\"{word}\" or ")).unwrap_or_default()
}

impl Period {
    /// So many milliseconds.
    pub const fn millis(count: u64) -> Period {
        Period(Duration::from_millis(count))
    }

    /// So many seconds.
    pub const fn secs(count: u64) -> Period {
        Period(Duration::from_secs(count))
    }

    /// As the standard library has it.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Period {
    type Err = BadPeriod;

    fn from_str(text: &str) -> Result<Period, BadPeriod> {
        let bad = |_| BadPeriod {
            text: text.to_owned(),
            word: None,
        };
        humantime::parse_duration(text.trim()).map(Period).map_err(bad)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let fits = |(_, factor): &&(&str, u128)| millis >= *factor && millis.is_multiple_of(*factor);
        let (unit, factor) = UNITS.iter().find(fits).unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", millis / factor)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A length of time with its unit.",
            "pattern": "^\\s*([0-9.]+\\s*[a-z]+\\s*)+$|\\$\\{",
            "examples": ["100ms", "10s", "1h", "7d"],
        })
    }
}

macro_rules! period_or_word {
    ($(#[$doc:meta])* $name:ident, $with:ident, $without:ident, $word:literal, $with_doc:literal, $without_doc:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            #[doc = $without_doc]
            $without,
            #[doc = $with_doc]
            $with(Duration),
        }

        impl $name {
            /// The length of time, if there is one.
            pub const fn period(self) -> Option<Duration> {
                match self {
                    $name::$without => None,
                    $name::$with(period) => Some(period),
                }
            }
        }

        impl FromStr for $name {
            type Err = BadPeriod;

            fn from_str(text: &str) -> Result<$name, BadPeriod> {
                if text.trim() == $word {
                    return Ok($name::$without);
                }
                let period = text.parse::<Period>().map_err(|bad| BadPeriod { word: Some($word), ..bad })?;
                Ok($name::$with(period.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $name::$without => f.write_str($word),
                    $name::$with(period) => Period(*period).fmt(f),
                }
            }
        }

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

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                json_schema!({ "anyOf": [{ "const": $word }, generator.subschema_for::<Period>()] })
            }
        }
    };
}

period_or_word!(
    /// Something done again and again, or not at all.
    Interval, Every, Off, "off", "Again after so long.", "Not at all."
);
period_or_word!(
    /// How long something is kept.
    Horizon, For, Forever, "forever", "So long.", "For ever."
);
period_or_word!(
    /// When something is given up.
    Patience, After, Never, "never", "After so long.", "Never."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_number_and_a_unit() {
        for (text, millis) in [
            ("100ms", 100),
            ("10s", 10_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("1m 30s", 90_000),
        ] {
            assert_eq!(text.parse(), Ok(Period::millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_period_is_shown_as_it_is_written() {
        for text in ["100ms", "10s", "1h", "7d", "90s", "1500ms"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_word_is_taken_only_where_it_means_something() {
        assert_eq!("off".parse(), Ok(Interval::Off));
        assert_eq!("1h".parse(), Ok(Interval::Every(Duration::from_secs(3600))));
        assert_eq!("forever".parse(), Ok(Horizon::Forever));
        assert_eq!("never".parse(), Ok(Patience::Never));
        assert!("off".parse::<Horizon>().is_err());
        assert!("off".parse::<Period>().is_err());
    }

    #[test]
    fn a_text_that_is_no_period_is_refused_with_the_forms_that_are() {
        for bad in ["", "10", "s", "ten seconds", "-1s", "1 fortnight"] {
            let error = bad.parse::<Interval>().unwrap_err().to_string();
            assert!(
                error.contains("\"off\" or") && error.contains("\"10s\""),
                "{bad}: {error}"
            );
        }
    }
}
