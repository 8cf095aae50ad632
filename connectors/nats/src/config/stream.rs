//! The options of the stream: its name, and the settings of a stream that the sink creates.

use std::fmt;

use bridge_core::amount::{Size, Span};
use bridge_core::issue::ConfigIssue;
use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::subjects;

/// JetStream keeps no more copies.
const REPLICAS_MAX: u32 = 5;

/// The longest name that is not refused by some file system of a server.
const NAME_LENGTH_MAX: usize = 255;

/// Whether the sink creates the stream if it is missing.
#[derive(Clone, Debug, PartialEq, Eq, Default, JsonSchema)]
#[schemars(untagged)]
pub enum CreateStream {
    /// It does not.
    #[default]
    #[schemars(
        with = "bool",
        description = "Whether it does, with the defaults of the table."
    )]
    No,
    /// It does, with these settings.
    Yes(StreamSettings),
}

/// The settings of a new stream. An existing stream is never changed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamSettings {
    /// The subjects of the stream; left out: all subjects that the template can give, for every cluster.
    pub subjects: Vec<String>,
    /// Copies of each message, each on another server.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u32,
    /// The storage of the messages.
    pub storage: Storage,
    /// The age at which messages are removed; left out: never.
    pub max_age: Option<Span>,
    /// The size limit of the stream; left out: the limit of the account.
    pub max_bytes: Option<Size>,
    /// The action at `max_bytes`.
    pub when_full: WhenFull,
    /// The time for which the stream remembers the ids of its messages, so that it stores no message twice.
    pub duplicate_window: Span,
}

/// The storage of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// On disks.
    #[default]
    File,
    /// In memory: lost when all its servers have stopped.
    Memory,
}

/// The action of a full stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It refuses new messages; the sink waits until there is room.
    #[default]
    Refuse,
    /// It removes its oldest messages.
    RemoveOldest,
}

impl Default for StreamSettings {
    fn default() -> StreamSettings {
        StreamSettings {
            subjects: Vec::new(),
            replicas: 1,
            storage: Storage::default(),
            max_age: None,
            max_bytes: None,
            when_full: WhenFull::default(),
            duplicate_window: Span::secs(600),
        }
    }
}

/// `KV_`, before the name of a bucket in that of its stream.
const BUCKET_PREFIX_BYTES: usize = 3;

pub(super) fn objections_to_name(name: &str, found: &mut Vec<ConfigIssue>) {
    let is_odd = |letter: &char| {
        letter.is_whitespace() || letter.is_control() || matches!(letter, '.' | '*' | '>' | '/' | '\\')
    };
    let reason = if name.is_empty() {
        Some("it is empty".to_owned())
    } else if let Some(letter) = name.chars().find(is_odd) {
        Some(format!("it holds {letter:?}"))
    } else {
        (name.len() > NAME_LENGTH_MAX)
            .then(|| format!("it has {} bytes, and {NAME_LENGTH_MAX} are allowed", name.len()))
    };
    if let Some(reason) = reason {
        found.push(ConfigIssue::error(
            "stream",
            format!("'{name}' is not the name of a stream: {reason}"),
            "give a name without spaces, dots, slashes and wildcards, as in \"ZK\", or a bucket",
        ));
    }
}

/// The rules of buckets are stricter than those of streams: the name is a token of their subjects.
pub(super) fn objections_to_bucket(name: &str, found: &mut Vec<ConfigIssue>) {
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if name.is_empty() || name.len() > NAME_LENGTH_MAX - BUCKET_PREFIX_BYTES || !name.chars().all(is_allowed)
    {
        found.push(ConfigIssue::error(
            "bucket",
            format!("'{}' is not the name of a bucket", name.escape_debug()),
            "use letters, digits, '-' and '_', as in \"tree\"",
        ));
    }
}

pub(super) fn objections(settings: &StreamSettings, timeout: Span, found: &mut Vec<ConfigIssue>) {
    for subject in &settings.subjects {
        if !subjects::is_pattern(subject) {
            found.push(ConfigIssue::error(
                "create_stream.subjects",
                format!("'{subject}' is not a subject that a stream can take"),
                "give tokens with dots between them; '*' matches one and '>' the rest, as in \"zk.>\"",
            ));
        }
    }
    if !(1..=REPLICAS_MAX).contains(&settings.replicas) {
        found.push(ConfigIssue::error(
            "create_stream.replicas",
            format!("JetStream cannot keep {} copies", settings.replicas),
            "give 1, 3 or 5",
        ));
    }
    if settings.duplicate_window <= timeout {
        found.push(ConfigIssue::error(
            "create_stream.duplicate_window",
            format!(
                "{} is over before a message is sent again, which takes the timeout of {timeout}",
                settings.duplicate_window
            ),
            "give more than twice the timeout; \"10m\" suits most",
        ));
    }
    if let Some(age) = settings.max_age
        && age < settings.duplicate_window
    {
        found.push(ConfigIssue::error(
            "create_stream.max_age",
            format!(
                "{age} is shorter than the duplicate_window of {}, which JetStream refuses",
                settings.duplicate_window
            ),
            "give a longer max_age, or leave it out",
        ));
    }
}

impl<'de> Deserialize<'de> for CreateStream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CreateStreamVisitor)
    }
}

struct CreateStreamVisitor;

impl<'de> Visitor<'de> for CreateStreamVisitor {
    type Value = CreateStream;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("false, true or { subjects = [\"zk.>\"], replicas = 3, … }")
    }

    fn visit_bool<E: de::Error>(self, wanted: bool) -> Result<CreateStream, E> {
        Ok(if wanted {
            CreateStream::Yes(StreamSettings::default())
        } else {
            CreateStream::No
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CreateStream, A::Error> {
        StreamSettings::deserialize(MapAccessDeserializer::new(map)).map(CreateStream::Yes)
    }
}
