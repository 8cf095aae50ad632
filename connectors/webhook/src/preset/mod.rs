//! Messages for receivers that people use: Slack, Teams, Discord, PagerDuty, Opsgenie and Alertmanager.
//!
//! | file | role |
//! | --- | --- |
//! | `notice` | a record or a service event in the words of a message |
//! | `chat` | bodies for Slack, Teams and Discord |
//! | `incident` | bodies for PagerDuty, Opsgenie and Alertmanager |
//! | `answer` | answers that mean something else than their status says |
//!
//! *Invariants.* Every body is within the published limits of its receiver. No name and no value of a znode makes a
//! mention, a link or a field: bodies are built as JSON, and texts are escaped as the receiver's markup asks.

mod answer;
mod chat;
mod incident;
mod notice;

use bridge_core::format::Format;
use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::{MessageSubject, Messages};
use bridge_core::record::Record;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::config::WebhookConfig;
use crate::encode::Encoded;
use notice::Notice;

/// A receiver whose messages the sink knows.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Preset {
    /// An incoming webhook of Slack.
    Slack,
    /// A webhook of a workflow or a channel of Microsoft Teams.
    Teams,
    /// A webhook of a channel of Discord.
    Discord,
    /// Events API v2: an incident for each instance, service or election, resolved when it is back.
    Pagerduty,
    /// Alerts with an alias, closed when it is back.
    Opsgenie,
    /// API v2: alerts with a start and an end.
    Alertmanager,
}

/// Media type of all of them. Teams counts a body without the charset twice.
const JSON: &str = "application/json; charset=utf-8";

impl Preset {
    /// Every preset, in the order of the documentation.
    pub const ALL: &[Preset] = Preset::VARIANTS;

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether people read the messages in their order, and nothing stays open.
    pub fn is_chat(self) -> bool {
        matches!(self, Preset::Slack | Preset::Teams | Preset::Discord)
    }

    fn needs_key(self) -> bool {
        matches!(self, Preset::Pagerduty | Preset::Opsgenie)
    }
}

/// Makes the messages of a preset.
pub struct PresetMessages {
    preset: Preset,
    /// The records of other subjects have no message; `None`: all have one.
    subject: Option<MessageSubject>,
    url: Url,
    key: String,
}

/// A message as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresetRequest {
    /// The path and the query of its address, where that differs from the sink's.
    pub target: Option<String>,
    /// The body.
    pub body: String,
}

impl PresetMessages {
    pub(crate) fn of(config: &WebhookConfig) -> Option<PresetMessages> {
        Some(PresetMessages {
            preset: config.preset?,
            subject: Some(MessageSubject::of_format(config.format)),
            url: config.parsed_url().ok()?,
            key: config
                .key
                .as_ref()
                .map(|key| key.reveal().to_owned())
                .unwrap_or_default(),
        })
    }

    /// The messages of a preset without a receiver, to show them.
    ///
    /// # Panics
    ///
    /// Never: the address is valid.
    pub fn of_nobody(preset: Preset) -> PresetMessages {
        let url = match preset {
            Preset::Opsgenie => "https://api.opsgenie.com/v2/alerts",
            _ => "https://receiver.example/",
        };
        PresetMessages {
            preset,
            subject: None,
            url: Url::parse(url).expect("the address is valid"),
            key: "0".repeat(incident::ROUTING_KEY_CHARS),
        }
    }

    /// The messages of a record, to show them.
    pub fn shown(&self, record: &Record) -> Vec<PresetRequest> {
        let target = |url: &Url| match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let requests = self.requests(record);
        let shown = requests.iter().map(|request| PresetRequest {
            target: request.address.as_ref().map(target),
            body: String::from_utf8_lossy(&request.body).into_owned(),
        });
        shown.collect()
    }

    pub(crate) fn project(&self, record: &Record) -> Result<Messages<Encoded>, String> {
        Ok(self.requests(record))
    }

    fn requests(&self, record: &Record) -> Messages<Encoded> {
        let is_of_another = |subject| subject != MessageSubject::of_record(record);
        if self.subject.is_some_and(is_of_another) {
            return Messages::None;
        }
        let Some(notice) = Notice::of(record) else {
            return Messages::None;
        };
        let (address, body) = match self.preset {
            Preset::Slack => (None, Some(chat::slack(&notice))),
            Preset::Teams => (None, Some(chat::teams(&notice))),
            Preset::Discord => (None, Some(chat::discord(&notice))),
            Preset::Pagerduty => (None, incident::pagerduty(&notice, &self.key)),
            Preset::Opsgenie => incident::opsgenie(&notice, &self.url),
            Preset::Alertmanager => (None, incident::alertmanager(&notice)),
        };
        let Some(body) = body else {
            return Messages::None;
        };
        Messages::One(Encoded {
            id: record.id,
            address,
            content_type: JSON.into(),
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        })
    }
}

/// Everything about the options of a preset that cannot work, or is probably a mistake.
pub(crate) fn objections(config: &WebhookConfig) -> Vec<ConfigIssue> {
    let mut found = Vec::new();
    let mut object =
        |key: &str, message: String, remedy: &str| found.push(ConfigIssue::error(key, message, remedy));
    let Some(preset) = config.preset else {
        if config.key.is_some() {
            let message = "it is the key of a preset, and there is none".to_owned();
            object(
                "key",
                message,
                "give preset = \"pagerduty\" or \"opsgenie\", or leave key out",
            );
        }
        return found;
    };
    let name = preset.as_str();
    if !matches!(config.format, Format::Record | Format::Service) {
        object(
            "format",
            format!(
                "the preset {name} has messages of its own, and \"{}\" is no choice",
                config.format.as_str()
            ),
            "use \"service\" for service events, or \"record\" for changes",
        );
    }
    if config.body.is_some() || config.content_type.is_some() {
        object(
            "body",
            format!("the preset {name} writes the body"),
            "leave body and content_type out, or preset",
        );
    }
    if config.batch > 1 {
        object(
            "batch",
            format!("a message of the preset {name} is about one record"),
            "leave batch out",
        );
    }
    if crate::written::is_template(config.url.reveal()) {
        object(
            "url",
            format!("the preset {name} has no values in its address"),
            "give the address as it is",
        );
    }
    match &config.key {
        None if preset.needs_key() => object(
            "key",
            format!("the preset {name} sends nothing without a key"),
            "give the integration's key, as in key = \"${ALERT_KEY}\"",
        ),
        Some(_) if !preset.needs_key() => {
            object("key", format!("the preset {name} has none"), "leave it out");
        }
        Some(key)
            if preset == Preset::Pagerduty && key.reveal().chars().count() != incident::ROUTING_KEY_CHARS =>
        {
            object(
                "key",
                format!(
                    "a routing key of PagerDuty has {} characters",
                    incident::ROUTING_KEY_CHARS
                ),
                "give the integration key of an Events API v2 integration",
            );
        }
        Some(key) if key.reveal().is_empty() || !key.reveal().bytes().all(|byte| byte.is_ascii_graphic()) => {
            object(
                "key",
                "it has other characters than keys have".to_owned(),
                "give the key alone, in one line",
            );
        }
        _ => {}
    }
    if let (Some(end), Ok(url)) = (incident::path_of(preset), config.parsed_url())
        && !url.path().ends_with(end)
    {
        found.push(ConfigIssue::warning(
            "url",
            format!("the API of {name} ends with {end}"),
            format!("add {end} to the address, unless a proxy has it elsewhere"),
        ));
    }
    found
}
