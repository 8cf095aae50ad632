//! The options of a webhook sink: typed, documented, checked.
//!
//! Only what can be known without a connection is decided here. Nothing in this module opens a file or a socket, and
//! nothing shows a secret; the path and the query of the address are taken for one, as they often are.

mod headers;
mod templates;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use bridge_core::amount::{Size, Span};
use bridge_core::file_path::{FilePath, tls_objections};
use bridge_core::format::Format;
use bridge_core::issue::ConfigIssue;
use bridge_core::secret::Secret;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::address;
use crate::preset::{self, Preset};
use crate::signature::SigningKey;
use crate::written::{AddressTemplate, is_template};
use headers::header_of;

/// Below this no request survives an ordinary pause of a receiver.
const TIMEOUT_MIN: Span = Span::millis(100);

/// Every path in flight is a connection (or a stream of one) at the receiver. More is an attack, and not a delivery.
const PARALLEL_MAX: usize = 1_000;

/// More records make a body that no receiver of webhooks expects; its size limit cuts it before that anyway.
const BATCH_MAX: usize = 10_000;

/// More tries are the same as "never" in practice.
const TRIES_MAX: u32 = 1_000_000;

/// The parts of a record beside its data must fit with some room to spare, or every record would be rejected.
const BODY_MIN: Size = Size(4 << 10);

/// The longest name in the domain name system.
const ORIGIN_BYTES_MAX: usize = 253;

/// The options of a sink of type `webhook`.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The address of the receiver: `https://hooks.example.com/zk`. Only its scheme, host and port are ever shown. Its
    /// path and query may be a template.
    pub url: Secret,
    /// The secrets that sign requests, in the form of Standard Webhooks: `whsec_…` (HMAC-SHA256) or `whsk_…` (ed25519).
    /// Each adds a signature, so that receivers can move from an old secret to a new one.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// The content of a request.
    #[serde(default)]
    #[schemars(schema_with = "schema_of_formats")]
    pub format: Format,
    /// Messages as a known receiver reads them, of changes (`format = "record"`) or service events
    /// (`format = "service"`).
    #[serde(default)]
    pub preset: Option<Preset>,
    /// The routing key of PagerDuty or the API key of Opsgenie.
    #[serde(default)]
    pub key: Option<Secret>,
    /// A template for the body in the place of the format, which is then `record` or `service`: over the fields of the
    /// record or the event, see docs/messages.md. Nothing is sent where its result is empty.
    #[serde(default)]
    pub body: Option<String>,
    /// The media type of `body`. In JSON each value is written as JSON.
    #[serde(default)]
    #[schemars(extend("default" = "application/json"))]
    pub content_type: Option<String>,
    /// Further headers of every request, such as `authorization`. Their values are never shown, and may be templates.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// A request fails after this time without an answer.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// A connection attempt fails after this time.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Span,
    /// A connection is closed after this time without a request.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout: Span,
    /// The limit of requests in flight. One request of a path is in flight at a time.
    #[serde(default = "default_parallel")]
    #[schemars(range(min = 1, max = 1000))]
    pub parallel: usize,
    /// The most records in one request, as a JSON array; 1: each record in a request of its own, without an array.
    #[serde(default = "default_batch")]
    #[schemars(range(min = 1, max = 10000))]
    pub batch: usize,
    /// The size limit of a body; data is cut until the record fits. Left out: no limit until the receiver answers 413;
    /// data is then cut so that the body has half the size, repeatedly.
    #[serde(default)]
    pub max_body: Option<Size>,
    /// A record is rejected after this number of answers with a 4xx status or that cannot be read. 408, 410, 425 and 429
    /// do not count; neither do 401, 403, 404, 405 and 407 while the receiver accepts no record, since the address itself
    /// is then wrong. No answer counts before the first accepted record since the start.
    #[serde(default = "default_reject_after")]
    #[schemars(range(min = 1))]
    pub reject_after: u32,
    /// Whether the answer 410 (gone) disables the sink until an operator enables it; otherwise 410 counts as any 4xx.
    #[serde(default = "default_disable_on_410")]
    pub disable_on_410: bool,
    /// Whether requests may go to addresses outside of the public internet: private networks, this machine, the local
    /// link, metadata services of clouds.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// The version of HTTP.
    #[serde(default)]
    pub http: HttpVersion,
    /// Asks the receiver for its consent before anything is sent, as the CloudEvents specification for webhooks has it.
    #[serde(default)]
    pub consent: Option<Consent>,
    /// TLS of `https`.
    #[serde(default)]
    pub tls: Tls,
}

/// The request for the consent of a receiver (`OPTIONS`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// The system that sends, as the receiver knows it: a name such as `zk.example.com`. Every request has it in
    /// `WebHook-Request-Origin`.
    pub origin: String,
    /// Asks for this number of requests a minute, which is then never exceeded. Left out: the sink asks for none, and
    /// keeps to the rate that the receiver allows, if it names one.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub rate: Option<u32>,
}

/// The version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum HttpVersion {
    /// 2 if the receiver offers it in the TLS handshake, otherwise 1.1.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// Only 1.1.
    #[serde(rename = "1.1")]
    One,
    /// Only 2, also without TLS.
    #[serde(rename = "2")]
    Two,
}

/// TLS of `https`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// A PEM file of the authorities that may have signed the receiver's certificate, instead of those of the system.
    pub ca: Option<FilePath>,
    /// A PEM file of the bridge's own certificate, for receivers that ask for one.
    pub cert: Option<FilePath>,
    /// A PEM file of its key.
    pub key: Option<FilePath>,
}

fn default_timeout() -> Span {
    Span::secs(20)
}

fn default_connect_timeout() -> Span {
    Span::secs(10)
}

fn default_idle_timeout() -> Span {
    Span::secs(60)
}

fn default_parallel() -> usize {
    16
}

fn default_batch() -> usize {
    1
}

fn default_reject_after() -> u32 {
    3
}

fn default_disable_on_410() -> bool {
    true
}

/// Shows only options that cannot hold a secret.
impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("WebhookConfig");
        shown.field("format", &self.format).field("batch", &self.batch);
        shown.finish_non_exhaustive()
    }
}

/// The schema of `format`: no receiver of webhooks reads the envelope of Kafka Connect.
fn schema_of_formats(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Format::json_schema(generator);
    let formats = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    let formats = formats.expect("each format has a description");
    formats.retain(|format| format["const"] != Format::ConnectJson.as_str());
    schema.insert("default".to_owned(), Format::default().as_str().into());
    schema
}

impl WebhookConfig {
    /// The defaults for this address.
    pub fn new(url: &str) -> WebhookConfig {
        WebhookConfig {
            url: Secret::new(url),
            secrets: Vec::new(),
            format: Format::default(),
            preset: None,
            key: None,
            body: None,
            content_type: None,
            headers: BTreeMap::new(),
            timeout: default_timeout(),
            connect_timeout: default_connect_timeout(),
            idle_timeout: default_idle_timeout(),
            parallel: default_parallel(),
            batch: default_batch(),
            max_body: None,
            reject_after: default_reject_after(),
            disable_on_410: default_disable_on_410(),
            allow_private_addresses: false,
            http: HttpVersion::default(),
            consent: None,
            tls: Tls::default(),
        }
    }

    /// Everything about the options that cannot work, or is surely not meant.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        self.object_to_url(&mut found);
        self.object_to_secrets(&mut found);
        self.object_to_headers(&mut found);
        self.object_to_times(&mut found);
        self.object_to_counts(&mut found);
        self.object_to_consent(&mut found);
        self.object_to_tls(&mut found);
        self.object_to_templates(&mut found);
        found.extend(preset::objections(self));
        found
    }

    /// The limit of requests in flight: a chat shows messages in the order of their arrival.
    pub(crate) fn parallel_requests(&self) -> usize {
        match self.preset {
            Some(preset) if preset.is_chat() => 1,
            _ => self.parallel,
        }
    }

    /// The address, parsed; of a template without its path.
    pub(crate) fn parsed_url(&self) -> Result<Url, String> {
        let url = match AddressTemplate::parse(self.url.reveal(), self.format) {
            Some(template) => template?.base,
            None => Url::parse(self.url.reveal()).map_err(|error| error.to_string())?,
        };
        match url.scheme() {
            "http" | "https" => Ok(url),
            other => Err(format!("its scheme is '{other}'")),
        }
    }

    /// The keys that sign, where all secrets are some.
    pub(crate) fn keys(&self) -> Vec<SigningKey> {
        let parsed = self
            .secrets
            .iter()
            .map(|secret| SigningKey::parse(secret.reveal()));
        parsed.filter_map(Result::ok).collect()
    }

    /// The further headers, marked so that nothing below shows them either.
    pub(crate) fn header_map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        if let (Some(Preset::Opsgenie), Some(key)) = (self.preset, &self.key)
            && let Ok(mut value) = HeaderValue::from_str(&format!("GenieKey {}", key.reveal()))
        {
            value.set_sensitive(true);
            map.insert(AUTHORIZATION, value);
        }
        let fixed = self
            .headers
            .iter()
            .filter(|(_, value)| !is_template(value.reveal()));
        for (name, value) in fixed {
            if let (Ok(name), Ok(mut value)) = (name.parse::<HeaderName>(), header_of(value)) {
                value.set_sensitive(true);
                map.insert(name, value);
            }
        }
        map
    }

    fn object_to_url(&self, found: &mut Vec<ConfigIssue>) {
        const REMEDY: &str = "give an address such as \"https://hooks.example.com/zk\"";
        let url = match self.parsed_url() {
            Ok(url) => url,
            Err(reason) => {
                found.push(ConfigIssue::error(
                    "url",
                    format!("it is no address of a webhook: {reason}"),
                    REMEDY,
                ));
                return;
            }
        };
        if url.scheme() == "http" {
            found.push(ConfigIssue::warning(
                "url",
                format!(
                    "{} is plain HTTP: anyone on the network path can read the records",
                    shown(&url)
                ),
                "use https; a signature only proves who sent them",
            ));
        }
        if url.fragment().is_some() {
            found.push(ConfigIssue::warning(
                "url",
                "the part after '#' is never sent to a receiver",
                "leave it out, or write '%23' where it belongs to the path",
            ));
        }
        if let Some(address) = literal_address(&url)
            && !self.allow_private_addresses
            && let Some(what) = address::refusal(address)
        {
            found.push(ConfigIssue::error(
                "url",
                format!("{address} is not on the public internet ({what})"),
                "set allow_private_addresses = true if the receiver is meant to be there",
            ));
        }
    }

    fn object_to_secrets(&self, found: &mut Vec<ConfigIssue>) {
        for (at, secret) in self.secrets.iter().enumerate() {
            let key = format!("secrets[{at}]");
            if let Err(reason) = SigningKey::parse(secret.reveal()) {
                let message = format!("it is no secret of Standard Webhooks: {}", reason.message);
                found.push(ConfigIssue::error(key, message, reason.remedy));
            } else if self.secrets[..at].contains(secret) {
                found.push(ConfigIssue::warning(
                    key,
                    "the same secret is given twice",
                    "give it once",
                ));
            }
        }
        if self.secrets.is_empty() && self.preset.is_none() {
            found.push(ConfigIssue::warning(
                "secrets",
                "without a secret no request is signed, so that a receiver cannot tell who sent it",
                "give secrets = [\"${HOOK_SECRET}\"], made with: echo \"whsec_$(openssl rand -base64 32)\"",
            ));
        }
    }

    fn object_to_consent(&self, found: &mut Vec<ConfigIssue>) {
        let Some(consent) = &self.consent else {
            return;
        };
        let is_name = |origin: &str| {
            let mut letters = origin.chars();
            !origin.is_empty()
                && origin.len() <= ORIGIN_BYTES_MAX
                && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_'))
        };
        if !is_name(&consent.origin) {
            found.push(ConfigIssue::error(
                "consent.origin",
                format!("\"{}\" is not a name", consent.origin.escape_debug()),
                format!("use letters, digits, '.', '-' and '_', at most {ORIGIN_BYTES_MAX} of them"),
            ));
        }
        if consent.rate == Some(0) {
            found.push(ConfigIssue::error(
                "consent.rate",
                "with 0 requests a minute nothing is ever sent",
                "give the number of requests a minute, or leave it out",
            ));
        }
    }

    fn object_to_times(&self, found: &mut Vec<ConfigIssue>) {
        for (key, span) in [
            ("timeout", self.timeout),
            ("connect_timeout", self.connect_timeout),
        ] {
            if span < TIMEOUT_MIN {
                found.push(ConfigIssue::error(
                    key,
                    format!("{span} is shorter than an ordinary answer takes"),
                    "give at least \"100ms\"; 15s to 30s suit most receivers",
                ));
            }
        }
    }

    fn object_to_counts(&self, found: &mut Vec<ConfigIssue>) {
        let mut within = |key: &str, count: u64, most: u64| {
            if !(1..=most).contains(&count) {
                found.push(ConfigIssue::error(
                    key,
                    format!("{count} is not between 1 and {most}"),
                    "give a number between them, or leave it out for the default",
                ));
            }
        };
        within("parallel", self.parallel as u64, PARALLEL_MAX as u64);
        within("batch", self.batch as u64, BATCH_MAX as u64);
        within("reject_after", self.reject_after.into(), TRIES_MAX.into());
        if let Some(most) = self.max_body.filter(|most| *most < BODY_MIN) {
            found.push(ConfigIssue::error(
                "max_body",
                format!("{most} is less than a record takes without any data"),
                format!("give \"{BODY_MIN}\" or more"),
            ));
        }
        if self.format == Format::ConnectJson {
            found.push(ConfigIssue::error(
                "format",
                "\"connect-json\" is for readers of Kafka Connect, and no receiver of webhooks is one",
                "use the format \"record\" or \"cloudevents\"",
            ));
        }
        if self.batch > 1
            && matches!(
                self.format,
                Format::CloudeventsBinary | Format::ServiceCloudeventsBinary | Format::Raw
            )
        {
            found.push(ConfigIssue::error(
                "batch",
                format!(
                    "a request in the format \"{}\" holds one record",
                    self.format.as_str()
                ),
                "leave batch out, or use the format \"record\" or \"cloudevents\"",
            ));
        }
    }

    fn object_to_tls(&self, found: &mut Vec<ConfigIssue>) {
        let files = [&self.tls.ca, &self.tls.cert, &self.tls.key].map(Option::as_ref);
        found.extend(tls_objections(files, "the receiver asks"));
        if self.tls != Tls::default() && self.parsed_url().is_ok_and(|url| url.scheme() == "http") {
            found.push(ConfigIssue::warning(
                "tls",
                "the address is http, so that nothing of tls is used",
                "use https, or leave tls out",
            ));
        }
    }
}

/// The part of an address that may be shown: everything after the port is often a secret.
pub(crate) fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The address in a URL without a name, which no resolver will see.
pub(crate) fn literal_address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
