//! Problems of the further headers, and their values.

use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::headers;
use bridge_core::secret::Secret;
use reqwest::header::{HeaderName, HeaderValue};

use super::WebhookConfig;
use crate::encode::ATTRIBUTE;

/// Receivers take about a hundred headers, and the request has its own.
const HEADERS_MAX: usize = 50;

impl WebhookConfig {
    pub(super) fn object_to_headers(&self, found: &mut Vec<ConfigIssue>) {
        if self.headers.len() > HEADERS_MAX {
            found.push(ConfigIssue::error(
                "headers",
                format!(
                    "{} headers are more than receivers take ({HEADERS_MAX})",
                    self.headers.len()
                ),
                "leave some out",
            ));
        }
        for (name, value) in &self.headers {
            let key = format!("headers.{name}");
            let Ok(parsed) = name.parse::<HeaderName>() else {
                found.push(ConfigIssue::error(
                    key,
                    format!("'{name}' is not the name of a header"),
                    "use letters, digits and '-'",
                ));
                continue;
            };
            if let Some(why) = reason_against_header(parsed.as_str()) {
                found.push(ConfigIssue::error(
                    key,
                    format!("the header '{parsed}' is set by {why}"),
                    "leave it out",
                ));
            } else if header_of(value).is_err() {
                found.push(ConfigIssue::error(
                    key,
                    format!("the value of '{parsed}' cannot stand in a header"),
                    "use one line of visible characters",
                ));
            }
        }
    }
}

/// The reason why a header cannot be configured: the party that sets it.
fn reason_against_header(name: &str) -> Option<&'static str> {
    match name {
        "webhook-id" | "webhook-timestamp" | "webhook-signature" => {
            Some("the sink, as Standard Webhooks has it")
        }
        "webhook-request-origin" | "webhook-request-rate" | "webhook-request-callback" => {
            Some("the sink, with the option 'consent'")
        }
        headers::CONTENT_TYPE | headers::OP | headers::PATH | headers::TRUNCATED => {
            Some("the sink, by the format")
        }
        "host"
        | "content-length"
        | "transfer-encoding"
        | "connection"
        | "keep-alive"
        | "te"
        | "trailer"
        | "upgrade"
        | "expect"
        | "proxy-authorization"
        | "proxy-connection" => Some("HTTP itself"),
        _ if name.starts_with(ATTRIBUTE) => Some("the sink, as CloudEvents has it"),
        _ => None,
    }
}

pub(super) fn header_of(value: &Secret) -> Result<HeaderValue, ()> {
    HeaderValue::from_str(value.reveal()).map_err(drop)
}
