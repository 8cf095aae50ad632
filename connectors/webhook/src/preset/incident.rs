//! Incidents that are opened and closed: PagerDuty, Opsgenie and Alertmanager.

use bridge_core::outbound::cut;
use bridge_core::record::Timestamp;
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::Preset;
use super::notice::{Effect, Notice, Urgency};

/// Of a key of the Events API v2.
pub(super) const ROUTING_KEY_CHARS: usize = 32;

/// The longest message of an alert of Opsgenie.
const OPSGENIE_MESSAGE_CHARS_MAX: usize = 130;

/// How long an alert fires that nothing ends. Alertmanager ends one without an end after its `resolve_timeout`, as it
/// expects it again every few minutes, and a bridge says a thing once.
const FIRES_FOR_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// The last part of the address of an API.
pub(super) fn path_of(preset: Preset) -> Option<&'static str> {
    match preset {
        Preset::Pagerduty => Some("/v2/enqueue"),
        Preset::Opsgenie => Some("/v2/alerts"),
        Preset::Alertmanager => Some("/api/v2/alerts"),
        Preset::Slack | Preset::Teams | Preset::Discord => None,
    }
}

/// An event of PagerDuty's Events API v2.
pub(super) fn pagerduty(notice: &Notice, routing_key: &str) -> Option<Value> {
    let severity = match notice.urgency {
        Urgency::Critical => "critical",
        Urgency::Error => "error",
        Urgency::Info => "info",
    };
    let payload = json!({
        "summary": notice.title,
        "source": notice.cluster,
        "severity": severity,
        "timestamp": notice.moment.to_string(),
        "component": notice.subject,
        "class": notice.kind,
        "custom_details": details(notice),
    });
    let action = match notice.effect {
        Effect::Opens => "trigger",
        Effect::Closes => "resolve",
        Effect::Informs => return None,
    };
    Some(json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": notice.key,
        "client": "zkbridge",
        "payload": payload,
    }))
}

/// A request to Opsgenie: the creation of an alert, or its end at an address of its own.
pub(super) fn opsgenie(notice: &Notice, url: &Url) -> (Option<Url>, Option<Value>) {
    let priority = match notice.urgency {
        Urgency::Critical => "P1",
        Urgency::Error => "P2",
        Urgency::Info => "P5",
    };
    match notice.effect {
        Effect::Opens => {
            let created = json!({
                "message": cut(&notice.title, OPSGENIE_MESSAGE_CHARS_MAX),
                "alias": notice.key,
                "description": notice.title,
                "details": details(notice),
                "entity": notice.subject,
                "source": "zkbridge",
                "priority": priority,
                "tags": ["zkbridge", notice.kind],
            });
            (None, Some(created))
        }
        Effect::Closes => {
            let mut close = url.clone();
            if let Ok(mut segments) = close.path_segments_mut() {
                segments.pop_if_empty().push(&notice.key).push("close");
            }
            close.set_query(Some("identifierType=alias"));
            let closed = json!({"source": "zkbridge", "user": "zkbridge", "note": notice.title});
            (Some(close), Some(closed))
        }
        Effect::Informs => (None, None),
    }
}

/// One alert for the API v2 of Alertmanager.
pub(super) fn alertmanager(notice: &Notice) -> Option<Value> {
    // Of the end as of the begin: the labels identify an alert.
    let severity = match notice.alert {
        "ZooKeeperServiceUnavailable" => "critical",
        _ => "error",
    };
    let mut labels = Map::new();
    let subject = if notice.kind.starts_with("znode.") {
        "path"
    } else {
        "service"
    };
    for (name, value) in [
        ("alertname", Some(notice.alert)),
        ("cluster", Some(&*notice.cluster)),
        (subject, Some(&*notice.subject)),
        ("instance", notice.instance.as_deref()),
        ("severity", Some(severity)),
        // Two long or strange names can look the same when they are cut.
        ("zkbridge_key", Some(&*notice.key)),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            labels.insert(name.to_owned(), value.into());
        }
    }
    let description: Vec<String> = notice
        .facts
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let mut alert = json!({
        "labels": labels,
        "annotations": {"summary": notice.title, "description": description.join("\n")},
    });
    match notice.effect {
        Effect::Opens => {
            alert["startsAt"] = notice.moment.to_string().into();
            alert["endsAt"] = Timestamp(notice.moment.0.saturating_add(FIRES_FOR_MS))
                .to_string()
                .into();
        }
        Effect::Closes => alert["endsAt"] = notice.moment.to_string().into(),
        Effect::Informs => return None,
    }
    Some(json!([alert]))
}

fn details(notice: &Notice) -> Value {
    let facts = notice
        .facts
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())));
    let event = ("event".to_owned(), Value::from(notice.kind));
    Value::Object(facts.chain([event]).collect())
}
