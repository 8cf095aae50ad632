//! The sentence of an event, for people. Bounded, and without control characters.

use bridge_core::record::{DownCause, Endpoint, Fidelity, FieldChange, ServiceEvent, ServiceEventType};
use serde_json::Value;

use crate::flaps::WINDOW_MS;
use crate::shown::{host_port, shown_address, shown_instance};

/// Fields that a sentence names; the others it counts.
const FIELDS_MAX: usize = 3;

/// A longer value is cut.
const VALUE_BYTES_MAX: usize = 64;

/// A longer sentence is cut.
const BYTES_MAX: usize = 512;

/// The sentence of an event whose other fields are filled.
pub(crate) fn sentence(event: &ServiceEvent) -> String {
    let service = &event.service;
    let instance = event.instance.as_deref().unwrap_or_default();
    let instance = shown_instance(instance, &event.endpoints);
    let of = |name: &Option<String>| name.clone().unwrap_or_default();
    let (leader, previous) = (of(&event.leader), of(&event.previous));
    let (lock, holder, mode) = (of(&event.lock), of(&event.holder), of(&event.mode));
    let found = match event.fidelity {
        Fidelity::Exact => "",
        Fidelity::Reconciled => ", found after a gap",
    };
    let text = match event.kind {
        ServiceEventType::InstanceUp => format!("{service} {instance} is {}{found}", state_of(event)),
        ServiceEventType::InstanceListed => {
            format!("{service} {instance} is registered, {}", state_of(event))
        }
        ServiceEventType::InstanceDown => format!("{service} {instance} is down: {}", reason(event)),
        ServiceEventType::InstanceChanged => {
            let least = if event.missed > Some(0) { "at least " } else { "" };
            format!(
                "{service} {instance} changed: {least}{}{found}",
                changes(&event.changes)
            )
        }
        ServiceEventType::InstanceRestarted => match &event.reason {
            None => format!("{service} {instance} restarted{found}"),
            Some(open) => format!("{service} {instance} registered again{found}: {open}"),
        },
        ServiceEventType::InstanceFlapping => format!(
            "{service} {instance} is flapping: {} times down within {} minutes",
            event.downs.unwrap_or_default(),
            WINDOW_MS / 60_000
        ),
        ServiceEventType::InstancesDown => summary(event),
        ServiceEventType::RuleChanged => format!("{service}: {}{found}", rule_words(event)),
        ServiceEventType::ServiceAvailable => match event.instances {
            Some(1) => format!("{service} is available: 1 instance"),
            count => format!("{service} is available: {} instances", count.unwrap_or_default()),
        },
        ServiceEventType::ServiceUnavailable => format!("{service} has no available instance"),
        ServiceEventType::LeaderElected => format!("{service}: {leader} was elected leader{found}"),
        ServiceEventType::LeaderChanged => {
            format!("{service}: the leader changed from {previous} to {leader}{found}")
        }
        ServiceEventType::LeaderLost => {
            format!("{service}: the leader {previous} is gone: {}", reason(event))
        }
        ServiceEventType::RegistrationUnreadable => {
            let path = &event.path;
            format!(
                "{service}: the registration {path} cannot be decoded: {}",
                of(&event.reason)
            )
        }
        ServiceEventType::RegistrationReadable => {
            format!(
                "{service}: the registration {} can be read again{found}",
                event.path
            )
        }
        ServiceEventType::QueueChanged => match (&event.joined, &event.left) {
            (Some(joined), _) => format!("{service}: {joined} joined the queue"),
            (None, left) => format!("{service}: {} left the queue", of(left)),
        },
        ServiceEventType::LockAcquired => format!("{holder} holds the {mode} lock {lock}"),
        ServiceEventType::LockReleased => format!("{holder} released the {mode} lock {lock}"),
    };
    plain(text, BYTES_MAX)
}

/// Many instances and services.
fn summary(event: &ServiceEvent) -> String {
    let mut services: Vec<(&String, u64)> = event
        .by_service
        .iter()
        .map(|(name, count)| (name, *count))
        .collect();
    services.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let shown: Vec<String> = services
        .iter()
        .take(FIELDS_MAX)
        .map(|(name, count)| match count {
            0 => plain(*name, VALUE_BYTES_MAX),
            count => format!("{} {count}", plain(*name, VALUE_BYTES_MAX)),
        })
        .collect();
    let mut shown = shown.join(", ");
    if services.len() > FIELDS_MAX {
        shown.push_str(&format!(" and {} more", services.len() - FIELDS_MAX));
    }
    let unavailable = match event.unavailable.unwrap_or_default() {
        0 => None,
        1 => Some("1 service has no available instance".to_owned()),
        count => Some(format!("{count} services have no available instance")),
    };
    let downs = event.instances.unwrap_or_default();
    let of = match services.len() {
        1 => "1 service".to_owned(),
        count => format!("{count} services"),
    };
    let why = match event.cause {
        Some(DownCause::Deregistered) => ": they deregistered",
        Some(DownCause::SessionEnded) => ": their sessions ended",
        Some(DownCause::Unknown) => ": the causes are unknown",
        None => "",
    };
    let down = (downs > 0).then(|| format!("{downs} instances of {of} are down{why}"));
    let parts: Vec<String> = down.into_iter().chain(unavailable).collect();
    format!("{} ({shown})", parts.join("; "))
}

fn rule_words(event: &ServiceEvent) -> String {
    let change = event.changes.first();
    let (from, to) = change.map_or((&Value::Null, &Value::Null), |change| (&change.from, &change.to));
    let effect = |rule: &Value| {
        let named = |what: &str| match rule[what].as_str()? {
            "*" => Some(format!("any {what}")),
            name => Some(format!("{what} {}", plain(name, VALUE_BYTES_MAX))),
        };
        let of: Vec<String> = ["group", "version"].into_iter().filter_map(named).collect();
        let of = match of.is_empty() {
            true => String::new(),
            false => format!(" of {}", of.join(" and ")),
        };
        match (rule["disables"].as_bool(), rule["host"].as_str()) {
            (Some(true), Some(host)) => {
                let port = rule["port"].as_u64().and_then(|port| u16::try_from(port).ok());
                format!("disables {}{of}", host_port(host, port, false))
            }
            (Some(true), None) => format!("disables all instances{of}"),
            _ => "disables nothing".to_owned(),
        }
    };
    match (from, to) {
        (Value::Null, to) => format!("a new rule {}", effect(to)),
        (from, Value::Null) => format!("a rule that {} was removed", effect(from)),
        (_, to) => format!("a rule {} now", effect(to)),
    }
}

fn state_of(event: &ServiceEvent) -> String {
    event
        .status
        .map_or("up", bridge_core::record::InstanceStatus::as_str)
        .replace('_', "-")
}

fn reason(event: &ServiceEvent) -> &'static str {
    match (event.cause, event.fidelity) {
        (Some(DownCause::Deregistered), _) => "it deregistered",
        (Some(DownCause::SessionEnded), _) => "its session ended",
        (_, Fidelity::Reconciled) => "found after a gap, the cause is unknown",
        (_, Fidelity::Exact) => "the cause is unknown",
    }
}

fn changes(changes: &[FieldChange]) -> String {
    let named: Vec<String> = changes.iter().take(FIELDS_MAX).map(words).collect();
    let named = named.join(", ");
    match changes.len().saturating_sub(FIELDS_MAX) {
        0 => named,
        rest => format!("{named} and {rest} more"),
    }
}

fn words(change: &FieldChange) -> String {
    let value = |side: &Value| match (&*change.field, side) {
        ("instance", Value::String(name)) => plain(shown_instance(name, &[]), VALUE_BYTES_MAX),
        _ => value(side),
    };
    format!(
        "{} {} to {}",
        change.field,
        value(&change.from),
        value(&change.to)
    )
}

fn value(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let endpoint = |one: &Value| serde_json::from_value::<Endpoint>(one.clone()).ok();
            match list.iter().map(endpoint).collect::<Option<Vec<Endpoint>>>() {
                Some(endpoints) => endpoints.iter().map(shown_address).collect::<Vec<_>>().join(" "),
                None => value.to_string(),
            }
        }
        other => other.to_string(),
    };
    plain(text, VALUE_BYTES_MAX)
}

/// The text without control characters, cut.
fn plain(text: impl Into<String>, max: usize) -> String {
    let mut text: String = text.into();
    if text.contains(char::is_control) {
        text = text.replace(char::is_control, " ");
    }
    if text.len() <= max {
        return text;
    }
    format!("{}…", &text[..text.floor_char_boundary(max)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_three_fields_counts_the_rest_and_says_at_least_after_missed_writes() {
        let change = |at: usize| FieldChange {
            field: format!("metadata.k{at}"),
            from: Value::Null,
            to: at.into(),
        };
        let mut event = ServiceEvent::of_type(ServiceEventType::InstanceChanged);
        event.service = "pay\n".to_owned();
        event.instance = Some("x".repeat(10));
        event.changes = (0..5).map(change).collect();
        event.missed = Some(2);
        assert_eq!(
            sentence(&event),
            "pay  xxxxxxxxxx changed: at least metadata.k0 none to 0, metadata.k1 none to 1, metadata.k2 none to 2 \
             and 2 more"
        );
        event.instance = Some("ü".repeat(1_000));
        assert!(sentence(&event).len() <= BYTES_MAX + "…".len());
    }
}
