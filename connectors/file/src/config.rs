//! The options of a file sink: typed, documented, checked. Nothing in this module opens a file.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use bridge_core::amount::{Interval, Size, Span, Threshold};
use bridge_core::format::Format;
use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::LineProjection;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Smaller files would be closed several times in each batch.
const ROTATE_MIN: Size = Size(1 << 20);

/// The same for files that are begun by the clock.
const ROTATE_EVERY_MIN: Span = Span::secs(60);

/// The options of a sink of type `file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The file; one JSON object on each line. A relative path is relative to the working directory. Missing folders
    /// and the file are created, readable by the owner only. Records are appended to an existing file.
    pub path: PathBuf,
    /// The content of a line. `record`: the change record. `cloudevents`: a CloudEvent 1.0 around it. `flat`:
    /// a row for tables. Binary
    /// CloudEvents have headers, and raw data may hold line feeds, so neither fits a line.
    #[serde(default)]
    #[schemars(schema_with = "LineProjection::schema_of_formats")]
    pub format: Format,
    /// A template for the content of a line in the place of the format, which is then `record` or `service`: over the
    /// fields of the record or the event, see docs/messages.md. No line is written where its result is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The media type of `body`. In JSON each value is written as JSON, and a line feed of the template is a space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "application/json"))]
    pub content_type: Option<String>,
    /// The size at which a file is closed, with the time added to its name (`zk.2026-11-22T13-40-00.123Z.jsonl`), and a
    /// new one begun; `off`: never. A batch is never split, so a file can be larger by one batch.
    #[serde(default = "default_rotate")]
    pub rotate: Threshold,
    /// The age of a file at which the next record begins a new one; `off`: never.
    #[serde(default)]
    pub rotate_every: Interval,
    /// The compression of closed files: `gzip` or `zstd`, with `.gz` or `.zst` added to the name.
    #[serde(default)]
    pub compress: Compress,
    /// The number of closed files to keep, the newest ones; `all`: none is removed.
    #[serde(default)]
    pub keep: Keep,
}

/// How files that were rotated are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compress {
    /// As they are.
    #[default]
    None,
    /// For every tool.
    Gzip,
    /// Smaller and faster.
    Zstd,
}

impl Compress {
    /// The ending of a compressed file.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Compress::None => "",
            Compress::Gzip => ".gz",
            Compress::Zstd => ".zst",
        }
    }
}

/// How many of the files that were rotated stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    All,
    /// The newest.
    Newest(u32),
}

impl Default for Keep {
    fn default() -> Keep {
        Keep::Newest(16)
    }
}

impl FileConfig {
    /// The defaults for this file.
    pub fn new(path: impl Into<PathBuf>) -> FileConfig {
        FileConfig {
            path: path.into(),
            format: Format::default(),
            body: None,
            content_type: None,
            rotate: default_rotate(),
            rotate_every: Interval::Off,
            compress: Compress::default(),
            keep: Keep::default(),
        }
    }

    /// Everything about the options that cannot work, or is surely not meant.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        let text = self.path.to_string_lossy();
        if self.path.file_name().is_none() || text.ends_with('/') {
            found.push(ConfigIssue::error(
                "path",
                format!("'{text}' names a folder and no file"),
                "give the path of a file, such as \"audit/zk.jsonl\"",
            ));
        }
        let (body, media_type) = (self.body.as_deref(), self.content_type.as_deref());
        found.extend(LineProjection::objections(self.format, body, media_type));
        if let Threshold::At(size) = self.rotate
            && size < ROTATE_MIN
        {
            found.push(ConfigIssue::error(
                "rotate",
                format!("a new file every {size} would make several files a second under load"),
                format!("give \"{ROTATE_MIN}\" or more, or \"off\""),
            ));
        }
        if let Interval::Every(span) = self.rotate_every
            && span < ROTATE_EVERY_MIN
        {
            found.push(ConfigIssue::error(
                "rotate_every",
                format!("a new file every {span} makes more files than anybody reads"),
                format!("give \"{ROTATE_EVERY_MIN}\" or more, or \"off\""),
            ));
        }
        found
    }
}

fn default_rotate() -> Threshold {
    Threshold::At(Size(256 << 20))
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Keep::All => serializer.serialize_str("all"),
            Keep::Newest(count) => serializer.serialize_u32(*count),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeepVisitor)
    }
}

struct KeepVisitor;

impl Visitor<'_> for KeepVisitor {
    type Value = Keep;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of files, or \"all\"")
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Keep, E> {
        u32::try_from(count)
            .map(Keep::Newest)
            .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(count), &self))
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<Keep, E> {
        u64::try_from(count)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(count), &self))
            .and_then(|count| self.visit_u64(count))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Keep, E> {
        match text {
            "all" => Ok(Keep::All),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }
}

impl JsonSchema for Keep {
    fn schema_name() -> Cow<'static, str> {
        "Keep".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of files, or all.",
            "oneOf": [{"type": "integer", "minimum": 0}, {"const": "all"}],
        })
    }
}
