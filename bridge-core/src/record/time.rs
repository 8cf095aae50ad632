//! Moments as records write them: RFC 3339, UTC, milliseconds.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// The last moment with a year of four digits; later ones are written as this one.
const MAX_MS: i64 = 253_402_300_799_999;

impl Timestamp {
    /// The moment of a clock.
    pub fn of(time: SystemTime) -> Timestamp {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(MAX_MS))
    }

    /// A time of a Stat. ZooKeeper has 0 where nothing happened: in `/`, which no transaction created.
    pub fn of_stat(ms: i64) -> Option<Timestamp> {
        (ms != 0).then_some(Timestamp(ms))
    }

    /// How long ago it was; 0 where the clock was set back meanwhile.
    pub fn age_seconds(self, now: Timestamp) -> f64 {
        let ms = now.0.saturating_sub(self.0).max(0);
        Duration::from_millis(ms.unsigned_abs()).as_secs_f64()
    }

    fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.clamp(0, MAX_MS).unsigned_abs())
    }
}

/// A text that is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a moment: write it in UTC, as in 2026-11-22T13:40:00Z")]
pub struct BadTimestamp(String);

/// As people write it: the `T`, the `Z` and the fraction may be left out, and it is UTC.
impl FromStr for Timestamp {
    type Err = BadTimestamp;

    fn from_str(text: &str) -> Result<Timestamp, BadTimestamp> {
        let parsed = humantime::parse_rfc3339_weak(text);
        parsed
            .map(Timestamp::of)
            .map_err(|_| BadTimestamp(text.to_owned()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.system_time()).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text)
            .map(Timestamp::of)
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_without_a_time_has_none() {
        assert_eq!(Timestamp::of_stat(0), None);
        assert_eq!(Timestamp::of_stat(1), Some(Timestamp(1)));
    }
}
