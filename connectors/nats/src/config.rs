//! The options of a NATS sink: typed, documented, checked.
//!
//! Only what can be known without a connection is decided here. Nothing in this module opens a file or a socket.

mod auth;
mod servers;
mod stream;

use std::fmt;

use bridge_core::amount::Span;
use bridge_core::file_path::{FilePath, tls_objections};
use bridge_core::format::Format;
use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::{BodyTemplate, NameTemplate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use auth::Auth;
pub use stream::{CreateStream, Storage, StreamSettings, WhenFull};

use crate::bucket::{self, KEY};
use crate::template::SUBJECT;

/// Below this no acknowledgement survives an ordinary change of a stream's leader.
const TIMEOUT_MIN: Span = Span::millis(100);

/// The longest `domain` and `inbox_prefix`: a line of the protocol has 4 KiB.
const PREFIX_LENGTH_MAX: usize = 256;

/// Every message in flight waits in memory, here and in the server.
const IN_FLIGHT_MAX: u32 = 100_000;

/// The options of a sink of type `nats`.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsConfig {
    /// The servers: `nats://a:4222,nats://b:4222`. Each address of a name is tried. Others that they announce are not used,
    /// as certificates rarely have their addresses.
    pub servers: String,
    /// The subject of a record: a template over `cluster`, `root`, `path`, `op` and `names` (the names of the path, from
    /// the top). Control records have no path; theirs is that of their root. The filter `subject` writes any names as
    /// tokens: `{{ names | subject }}`. Not with `bucket`.
    #[serde(default = "default_subject")]
    pub subject: String,
    /// The JetStream stream that must take the messages. Give this or `bucket`.
    #[serde(default)]
    pub stream: String,
    /// The key-value bucket that is a mirror of the tree: the keys are the paths, the values the data of the znodes.
    #[serde(default)]
    pub bucket: Option<String>,
    /// The keys of the bucket: the path, or the cluster and the path where several sources share it.
    #[serde(default)]
    pub key: KeyBy,
    /// Whether the sink creates the stream or the bucket if it is missing, and with which settings.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub create_stream: CreateStream,
    /// The limit of unacknowledged messages. One message of a path is in flight at a time.
    #[serde(default = "default_in_flight")]
    #[schemars(range(min = 1, max = 100_000))]
    pub in_flight: u32,
    /// Whether the stream refuses a message if another client has written to its subject
    /// (`Nats-Expected-Last-Subject-Sequence`). One message of a subject is then in flight at a time.
    #[serde(default)]
    pub fence: bool,
    /// The content of a message. Left out: `record`, and in a bucket `raw`, which is the only one there.
    #[serde(default)]
    pub format: Option<Format>,
    /// A template for the content of a message in the place of the format, which is then `record` or `service`: over the
    /// fields of the record or the event, see docs/messages.md. Not with `bucket`. Nothing is sent where its result is empty.
    #[serde(default)]
    pub body: Option<String>,
    /// The media type of `body`, sent as the header `content-type`. In JSON each value is written as JSON.
    #[serde(default)]
    #[schemars(extend("default" = "application/json"))]
    pub content_type: Option<String>,
    /// A delivery fails after this time without an acknowledgement, and is retried.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// The credentials of the sink: a token, a user with a password, an nkey or a file of credentials.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// The JetStream domain of the stream, where the servers reach it through a leaf node.
    #[serde(default)]
    pub domain: Option<String>,
    /// The first tokens of the subjects for answers, for users that may not subscribe to `_INBOX.>`.
    #[serde(default = "default_inbox_prefix")]
    pub inbox_prefix: String,
    /// Encrypted connections. Left out: encrypted if a server asks for it, with the system's authorities.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// The key of an entry of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyBy {
    /// The path of the znode.
    #[default]
    Path,
    /// The cluster and the path.
    ClusterPath,
}

/// Encrypted connections.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// A PEM file of the authorities that may have signed the servers' certificates; left out: those of the system.
    pub ca: Option<FilePath>,
    /// A PEM file of the sink's own certificate, for servers that ask for one.
    pub cert: Option<FilePath>,
    /// A PEM file of its key.
    pub key: Option<FilePath>,
    /// Whether the TLS handshake comes before the server's first message (`handshake_first` of the servers).
    pub handshake_first: bool,
}

fn default_subject() -> String {
    "zk.{{ cluster }}.{{ names | subject }}".to_owned()
}

fn default_inbox_prefix() -> String {
    "_INBOX".to_owned()
}

fn default_in_flight() -> u32 {
    1_000
}

fn default_timeout() -> Span {
    Span::secs(30)
}

impl NatsConfig {
    /// The defaults for these servers and this stream.
    pub fn new(servers: impl Into<String>, stream: impl Into<String>) -> NatsConfig {
        NatsConfig {
            servers: servers.into(),
            subject: default_subject(),
            stream: stream.into(),
            bucket: None,
            key: KeyBy::default(),
            create_stream: CreateStream::default(),
            in_flight: default_in_flight(),
            fence: false,
            format: None,
            body: None,
            content_type: None,
            timeout: default_timeout(),
            auth: None,
            domain: None,
            inbox_prefix: default_inbox_prefix(),
            tls: None,
        }
    }

    /// The stream, also that of a bucket.
    pub(crate) fn stream_name(&self) -> String {
        match &self.bucket {
            Some(bucket) => bucket::stream_of(bucket),
            None => self.stream.clone(),
        }
    }

    /// The content of a message.
    pub fn form(&self) -> Format {
        let default = match self.bucket {
            Some(_) => Format::Raw,
            None => Format::default(),
        };
        self.format.unwrap_or(default)
    }

    /// The subjects of records, also those of a bucket.
    pub(crate) fn subjects(&self) -> Result<NameTemplate, ConfigIssue> {
        match &self.bucket {
            Some(bucket) => {
                let template = bucket::template(bucket, self.key == KeyBy::ClusterPath);
                NameTemplate::parse(&KEY, &template)
            }
            None => NameTemplate::parse(&SUBJECT, &self.subject),
        }
    }

    /// The template of the payloads of checked options.
    pub(crate) fn body_template(&self) -> Option<BodyTemplate> {
        let (body, media_type) = (self.body.as_deref(), self.content_type.as_deref());
        BodyTemplate::of_checked(body, media_type, self.form())
    }

    /// The servers, each as a URL.
    pub(crate) fn urls(&self) -> Vec<String> {
        servers::urls(&self.servers)
    }

    /// Everything about the options that cannot work, or is surely not meant.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        servers::objections(&self.servers, self.tls.is_some(), &mut found);
        match &self.bucket {
            Some(bucket) => self.object_to_bucket(bucket, &mut found),
            None => {
                match self.subjects() {
                    Ok(template) => found.extend(template.objection()),
                    Err(objection) => found.push(objection),
                }
                stream::objections_to_name(&self.stream, &mut found);
            }
        }
        if let CreateStream::Yes(settings) = &self.create_stream {
            stream::objections(settings, self.timeout, &mut found);
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            found.push(ConfigIssue::error(
                "in_flight",
                format!("{} messages cannot be in flight at a time", self.in_flight),
                format!("give a number from 1 to {IN_FLIGHT_MAX}; 1000 suits most"),
            ));
        }
        if self.timeout < TIMEOUT_MIN {
            found.push(ConfigIssue::error(
                "timeout",
                format!(
                    "{} is shorter than servers need for an ordinary acknowledgement",
                    self.timeout
                ),
                "give at least \"100ms\"; \"30s\" suits most",
            ));
        }
        if let Some(domain) = &self.domain
            && (!are_tokens(domain) || domain.contains('.'))
        {
            found.push(ConfigIssue::error(
                "domain",
                format!("'{domain}' is not the name of a JetStream domain"),
                "give one token, as the servers have it under jetstream.domain",
            ));
        }
        if !are_tokens(&self.inbox_prefix) {
            found.push(ConfigIssue::error(
                "inbox_prefix",
                format!("no subject begins with '{}'", self.inbox_prefix),
                "give tokens of visible ASCII with dots between them, without '*' and '>', as in \"_INBOX_zkbridge\"",
            ));
        }
        if self.bucket.is_none() {
            let (body, media_type) = (self.body.as_deref(), self.content_type.as_deref());
            found.extend(BodyTemplate::objections(body, media_type, self.form()));
        }
        if let Some(auth) = &self.auth {
            found.extend(auth.objections());
        }
        if let Some(tls) = &self.tls {
            let files = [&tls.ca, &tls.cert, &tls.key].map(Option::as_ref);
            found.extend(tls_objections(files, "the servers ask"));
        }
        found
    }
}

impl NatsConfig {
    fn object_to_bucket(&self, bucket: &str, found: &mut Vec<ConfigIssue>) {
        stream::objections_to_bucket(bucket, found);
        let mut object = |key: &str, message: &str, remedy: &str| {
            found.push(ConfigIssue::error(key, message, remedy));
        };
        if !self.stream.is_empty() {
            object(
                "stream",
                "a bucket has a stream of its own",
                "leave stream out, or bucket",
            );
        }
        if self.subject != default_subject() {
            object(
                "subject",
                "a bucket has subjects of its own, made of its keys",
                "leave subject out",
            );
        }
        if self.form() != Format::Raw {
            object(
                "format",
                "the values of a bucket are the data of the znodes",
                "leave format out, or write the records to a stream",
            );
        }
        if self.body.is_some() || self.content_type.is_some() {
            object(
                "body",
                "the values of a bucket are the data of the znodes",
                "leave body and content_type out, or write to a stream",
            );
        }
        let CreateStream::Yes(settings) = &self.create_stream else {
            return;
        };
        if !settings.subjects.is_empty() {
            object(
                "create_stream.subjects",
                "a bucket has subjects of its own",
                "leave it out",
            );
        }
        if settings.when_full != WhenFull::Refuse {
            object(
                "create_stream.when_full",
                "a bucket that removes its oldest entries is no mirror of the tree",
                "leave it out",
            );
        }
    }
}

/// Whether it is a subject or the beginning of one.
fn are_tokens(text: &str) -> bool {
    let is_allowed = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '*' | '>');
    text.len() <= PREFIX_LENGTH_MAX
        && text
            .split('.')
            .all(|token| !token.is_empty() && token.chars().all(is_allowed))
}

/// Shows where the records go. The rest may have been brought in from the environment.
impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("NatsConfig");
        shown
            .field("servers", &self.servers)
            .field("stream", &self.stream_name());
        shown.finish_non_exhaustive()
    }
}
