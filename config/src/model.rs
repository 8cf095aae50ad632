//! The options that the bridge itself has, and those that every source or every sink has.

mod listen;
mod name;

use std::fmt;
use std::path::PathBuf;

use bridge_core::amount::{Horizon, Interval, Size, Span};
use bridge_core::delivery::{Filter, RejectPolicy, Retry, Start};
use bridge_core::format::Format;
use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::NotJson;
use bridge_core::path::ZnodePath;
use bridge_core::secret::Secret;
use bridge_zookeeper::config::{
    CaptureMode, DataForm, DroppedRoots, HistoryProof, PathGlob, ZookeeperConfig,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

pub use bridge_console::ConsoleConfig;
pub use bridge_core::journal::{Before, Durability, WhenFull};
pub use bridge_exec::ExecConfig;
pub use bridge_file::FileConfig;
pub use bridge_kafka::KafkaConfig;
pub use bridge_nats::NatsConfig;
pub use bridge_render::RenderConfig;
pub use bridge_services::ServiceConfig;
pub use bridge_webhook::WebhookConfig;
pub use listen::{BadListen, Listen};
pub use name::{BadName, Name};

/// A whole configuration, checked.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// Where the journals are: `<data_dir>/<source>.journal`.
    pub data_dir: PathBuf,
    /// The HTTP listener.
    pub http: HttpConfig,
    /// The log.
    pub log: LogConfig,
    /// The ensembles; at least one, each of another name.
    pub sources: Vec<SourceConfig>,
    /// The destinations, each of another name.
    pub sinks: Vec<SinkConfig>,
}

/// The keys at the top besides `source` and `sink`.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Top {
    /// One journal per source is kept there, `<data_dir>/<source>.journal`. One process at a time.
    pub(crate) data_dir: PathBuf,
    /// The HTTP listener.
    pub(crate) http: HttpConfig,
    /// The log.
    pub(crate) log: LogConfig,
}

impl Default for Top {
    fn default() -> Top {
        Top {
            data_dir: PathBuf::from("zkbridge-data"),
            http: HttpConfig::default(),
            log: LogConfig::default(),
        }
    }
}

/// The HTTP listener: `/metrics`, `/healthz`, `/readyz` and `/status`.
#[derive(Clone, Debug, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The address and port to listen on, or `off`.
    pub listen: Listen,
    /// The token that a client sends as `Authorization: Bearer …`. Required if `listen` is not a loopback address.
    pub token: Option<Secret>,
    /// Host names under which `/metrics` and `/status` answer, besides addresses and `localhost`. Only needed where
    /// there is no token, as behind a proxy: any other name gets 421, so that no web page can read them. The API answers
    /// a request without an `Authorization` header under these names only.
    pub hosts: Vec<String>,
    /// More tokens for the API, each a table with `name`, `token`, `paths` (globs of the paths that it shows, each with
    /// its descendants; left out: all) and `values` (`false`: no values). `token` has the name `default` and shows
    /// everything.
    pub tokens: Vec<TokenConfig>,
}

/// One `[[http.tokens]]`: a token for the API.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The name in the log.
    pub name: Name,
    /// The token that a client sends as `Authorization: Bearer …`.
    pub token: Secret,
    /// Globs of the paths that this token shows, each with its descendants. Left out: all.
    #[serde(default)]
    pub paths: Vec<PathGlob>,
    /// Whether it shows values; `false`: paths, operations and Stats only.
    #[serde(default = "shown")]
    pub values: bool,
}

fn shown() -> bool {
    true
}

/// The log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The level.
    pub level: LogLevel,
    /// The format.
    pub format: LogFormat,
}

/// The level of the log.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Errors: an operator must act.
    Error,
    /// Also warnings: problems that the bridge recovered from.
    Warn,
    /// Also changes of connections, walks and sinks.
    #[default]
    Info,
    /// Also each batch.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every level, from the quietest.
    pub const ALL: &[LogLevel] = LogLevel::VARIANTS;

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl LogFormat {
    /// Every format.
    pub const ALL: &[LogFormat] = LogFormat::VARIANTS;

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The format of the log.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// For programs: one object per line.
    Json,
}

/// One `[[source]]`.
#[derive(Clone, PartialEq)]
pub struct SourceConfig {
    /// The records' `cluster`, and the name of the journal.
    pub name: Name,
    /// Globs of the paths whose values are masked.
    pub mask: Vec<PathGlob>,
    /// How the journal is kept.
    pub journal: JournalConfig,
    /// The conventions whose changes become service events.
    pub services: Vec<ServiceConfig>,
    /// The options of its type.
    pub kind: SourceKind,
}

/// The types of sources with their options.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    /// `zookeeper`: watches over a client session.
    Zookeeper(ZookeeperConfig),
}

/// The options that a source of every type has.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SourceCommon {
    /// The records' `cluster`, and the name of the journal: letters, digits, `.`, `_` and `-`.
    pub(crate) name: Name,
    /// Globs of paths, each with its descendants: a keyed digest takes the place of their values before anything stores
    /// or delivers them.
    pub(crate) mask: Vec<PathGlob>,
    /// How the journal is kept.
    pub(crate) journal: JournalConfig,
    /// One `[[source.service]]` for each convention of services, elections or locks whose changes become service events.
    pub(crate) service: Vec<ServiceConfig>,
}

impl Default for SourceCommon {
    fn default() -> SourceCommon {
        SourceCommon {
            name: Name::known("main"),
            mask: Vec::new(),
            journal: JournalConfig::default(),
            service: Vec::new(),
        }
    }
}

/// How the journal of a source is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// The failures that a delivered batch survives.
    pub durability: Durability,
    /// How long delivered records stay readable as history, or `forever`.
    pub retention: Horizon,
    /// The size limit of the journal.
    pub max_size: Size,
    /// The action at `max_size`.
    pub when_full: WhenFull,
}

impl Default for JournalConfig {
    fn default() -> JournalConfig {
        JournalConfig {
            durability: Durability::PowerLoss,
            retention: Horizon::For(Span::secs(7 * 24 * 60 * 60)),
            max_size: Size(10 << 30),
            when_full: WhenFull::Hold,
        }
    }
}

impl JournalConfig {
    /// Options that cannot work, or are probably a mistake.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        if self.max_size < JOURNAL_SIZE_MIN {
            found.push(ConfigIssue::error(
                "max_size",
                format!(
                    "{} is less than one batch of large records may take",
                    self.max_size
                ),
                "give \"64 MiB\" or more",
            ));
        }
        if self.retention == Horizon::Forever {
            found.push(ConfigIssue::warning(
                "retention",
                format!(
                    "records without a time limit fill the journal up to max_size ({}); capture then waits",
                    self.max_size
                ),
                "give a time, or watch the size of the journal",
            ));
        }
        found
    }
}

/// One batch of records with before and after of 1 MiB each must fit, with room for the image.
const JOURNAL_SIZE_MIN: Size = Size(64 << 20);

/// One `[[sink]]`.
#[derive(Clone, PartialEq)]
pub struct SinkConfig {
    /// The name of its cursor, metrics and dead letters.
    pub name: Name,
    /// The names of the sources that it takes records from, in the order of the configuration.
    pub sources: Vec<Name>,
    /// The first record of a sink that the journal does not know yet.
    pub start: Start,
    /// Which records it gets.
    pub filter: Filter,
    /// The action for records that the destination can never accept.
    pub reject: RejectPolicy,
    /// The window in which the writes of a znode are merged.
    pub merge: Interval,
    /// The action for records whose value is not JSON.
    pub not_json: NotJson,
    /// Retries of a failed delivery.
    pub retry: Retry,
    /// The options of its type.
    pub kind: SinkKind,
}

/// The types of sinks with their options.
#[derive(Clone, PartialEq)]
pub enum SinkKind {
    /// `kafka`
    Kafka(KafkaConfig),
    /// `nats`: a stream of JetStream.
    Nats(NatsConfig),
    /// `webhook`: HTTP requests.
    Webhook(WebhookConfig),
    /// `file`: JSON lines.
    File(FileConfig),
    /// `exec`: a command.
    Exec(ExecConfig),
    /// `render`: a file of the znodes below a path.
    Render(RenderConfig),
    /// `console`: the standard output.
    Console(ConsoleConfig),
}

impl SinkKind {
    /// The words that name the types.
    pub const TYPES: [&str; 7] = ["kafka", "nats", "webhook", "file", "exec", "render", "console"];

    /// The word that names this type.
    pub fn type_name(&self) -> &'static str {
        match self {
            SinkKind::Kafka(_) => "kafka",
            SinkKind::Nats(_) => "nats",
            SinkKind::Webhook(_) => "webhook",
            SinkKind::File(_) => "file",
            SinkKind::Exec(_) => "exec",
            SinkKind::Render(_) => "render",
            SinkKind::Console(_) => "console",
        }
    }

    /// The form of its messages; none of a sink that shows both changes and service events, or renders a tree.
    pub fn format(&self) -> Option<Format> {
        match self {
            SinkKind::Kafka(options) => Some(options.format),
            SinkKind::Nats(options) => Some(options.form()),
            SinkKind::Webhook(options) => Some(options.format),
            SinkKind::File(options) => Some(options.format),
            SinkKind::Exec(options) => Some(options.format),
            SinkKind::Render(_) | SinkKind::Console(_) => None,
        }
    }

    /// Options of the type that cannot work, or are probably a mistake.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        match self {
            SinkKind::Kafka(options) => options.objections(),
            SinkKind::Nats(options) => options.objections(),
            SinkKind::Webhook(options) => options.objections(),
            SinkKind::File(options) => options.objections(),
            SinkKind::Exec(options) => options.objections(),
            SinkKind::Render(options) => options.objections(),
            SinkKind::Console(_) => Vec::new(),
        }
    }
}

/// The options that every type of source has in some form.
pub trait SourceOptions {
    /// Options that cannot work, or are probably a mistake.
    fn objections(&self) -> Vec<ConfigIssue>;

    /// The watched subtrees.
    fn roots(&self) -> &[ZnodePath];

    /// The option or rule by which a path below a root is not captured; `None` if it is.
    fn left_out_by(&self, path: &str) -> Option<String>;

    /// Globs of the paths that are left out.
    fn exclude(&self) -> &[PathGlob];

    /// Whether the znodes of a root that is no longer watched get deletes.
    fn deletes_dropped_roots(&self) -> bool;

    /// Whether records hold the state before the change.
    fn before(&self) -> Before;

    /// Whether records hold the data of znodes.
    fn keeps_data(&self) -> bool;

    /// Whether data that is JSON is written as such.
    fn writes_json(&self) -> bool;

    /// The servers, equal in two sources that watch the same ones.
    fn servers(&self) -> &str;

    /// Whether what proves the history is computed of values.
    fn is_proved_by_values(&self) -> bool;
}

impl SourceOptions for ZookeeperConfig {
    fn objections(&self) -> Vec<ConfigIssue> {
        ZookeeperConfig::objections(self)
    }

    fn roots(&self) -> &[ZnodePath] {
        &self.roots
    }

    fn left_out_by(&self, path: &str) -> Option<String> {
        // The method of the type itself, which has the same name.
        ZookeeperConfig::left_out_by(self, path)
    }

    fn exclude(&self) -> &[PathGlob] {
        &self.exclude
    }

    fn deletes_dropped_roots(&self) -> bool {
        self.dropped_roots == DroppedRoots::Delete
    }

    fn before(&self) -> Before {
        self.before
    }

    fn keeps_data(&self) -> bool {
        self.data != DataForm::None
    }

    fn writes_json(&self) -> bool {
        self.data == DataForm::Json
    }

    fn servers(&self) -> &str {
        self.connect.as_str()
    }

    fn is_proved_by_values(&self) -> bool {
        self.capture != CaptureMode::Watch && self.proof() != HistoryProof::Sequence
    }
}

impl SourceKind {
    /// The words that name the types.
    pub const TYPES: [&str; 1] = ["zookeeper"];

    /// The options of the type.
    pub fn options(&self) -> &dyn SourceOptions {
        match self {
            SourceKind::Zookeeper(options) => options,
        }
    }
}

/// The options of every sink, except its filter and the handling of rejected records.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SinkCommon {
    /// The name of its cursor, metrics and dead letters: letters, digits, `.`, `_` and `-`. Left out: its type.
    pub(crate) name: Option<Name>,
    /// The names of the sources that it takes records from; `*` for all.
    pub(crate) sources: Vec<String>,
    /// The first record of a sink that the journal does not know yet.
    pub(crate) start: Start,
    /// Deliver only the last write of each znode within a window of this length, with correct `missed` and `superseded`;
    /// `off`: deliver each write. The window begins with the first record in it.
    pub(crate) merge: Interval,
    /// The action for a record whose value is not JSON, although its source has `data = "json"`: no document, a repeated
    /// key, or a value that was cut. Znodes without data are always delivered.
    pub(crate) not_json: NotJson,
    /// Retries of a failed delivery: exponential backoff with full jitter.
    pub(crate) retry: Retry,
}

/// Every source.
pub(crate) const ALL_SOURCES: &str = "*";

impl Default for SinkCommon {
    fn default() -> SinkCommon {
        SinkCommon {
            name: None,
            sources: vec![ALL_SOURCES.to_owned()],
            start: Start::default(),
            merge: Interval::Off,
            not_json: NotJson::default(),
            retry: Retry::default(),
        }
    }
}

impl SinkCommon {
    /// Options that cannot work.
    pub(crate) fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = self.retry.objections();
        if let Interval::Every(window) = self.merge
            && !(MERGE_MIN..=MERGE_MAX).contains(&window)
        {
            found.push(ConfigIssue::error(
                "merge",
                format!("a window of {window} is not between {MERGE_MIN} and {MERGE_MAX}"),
                "give a time between them, or \"off\"",
            ));
        }
        found
    }
}

/// A shorter window merges nothing that a busy bridge does not.
const MERGE_MIN: Span = Span::millis(10);

/// A record waits as long as its window. For rarer updates, a snapshot serves better.
const MERGE_MAX: Span = Span::secs(600);

/// Names only: other values may come from the environment.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Config");
        shown.field("sources", &self.sources).field("sinks", &self.sinks);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SourceConfig");
        shown.field("name", &self.name).field("journal", &self.journal);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for SinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

impl fmt::Debug for SinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SinkConfig");
        shown.field("name", &self.name).field("sources", &self.sources);
        shown
            .field("type", &self.kind.type_name())
            .finish_non_exhaustive()
    }
}
