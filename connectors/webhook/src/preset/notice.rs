//! A record or a service event in the words of a message, free of control characters, with bounded lengths.

use bridge_core::outbound::{cut, hashed_rest};
use bridge_core::record::{Op, Record, ServiceEvent, ServiceEventType, State, Timestamp};
use uuid::Uuid;

/// The longest title in characters, within the limits of every receiver after escaping.
const TITLE_CHARS_MAX: usize = 500;

/// The longest value of a fact in characters.
const FACT_CHARS_MAX: usize = 200;

/// The longest key in bytes: PagerDuty takes 255 characters.
const KEY_BYTES_MAX: usize = 255;

/// The effect of a notice on an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Opens,
    Closes,
    /// It is for people, and opens and closes nothing.
    Informs,
}

/// How urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    Critical,
    Error,
    Info,
}

/// The message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    /// A sentence, never empty.
    pub(super) title: String,
    /// Names and values, at most eight.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) effect: Effect,
    pub(super) urgency: Urgency,
    /// Names what is open: the same in the notice that opens and the one that closes.
    pub(super) key: String,
    /// The type of the event: `instance.down`, `znode.deleted`.
    pub(super) kind: &'static str,
    /// The name of an alert: the same for the end as for the begin.
    pub(super) alert: &'static str,
    pub(super) cluster: String,
    /// The service, or the path.
    pub(super) subject: String,
    pub(super) instance: Option<String>,
    pub(super) moment: Timestamp,
}

impl Notice {
    /// The notice of a record; `None` if it says nothing that people wait for.
    pub(super) fn of(record: &Record) -> Option<Notice> {
        match &record.event {
            Some(event) => Notice::of_event(event),
            None => Notice::of_change(record),
        }
    }

    fn of_event(event: &ServiceEvent) -> Option<Notice> {
        use ServiceEventType as Type;
        let (alert, effect, urgency) = match event.kind {
            // It was there when the bridge came.
            Type::InstanceListed => return None,
            Type::InstanceDown => ("ZooKeeperInstanceDown", Effect::Opens, Urgency::Error),
            Type::InstanceUp | Type::InstanceRestarted => {
                ("ZooKeeperInstanceDown", Effect::Closes, Urgency::Info)
            }
            // Another one has taken its name.
            Type::InstanceChanged if event.changes.iter().any(|change| change.field == "instance") => {
                ("ZooKeeperInstanceDown", Effect::Closes, Urgency::Info)
            }
            Type::ServiceUnavailable => ("ZooKeeperServiceUnavailable", Effect::Opens, Urgency::Critical),
            Type::ServiceAvailable => ("ZooKeeperServiceUnavailable", Effect::Closes, Urgency::Info),
            Type::LeaderLost => ("ZooKeeperLeaderLost", Effect::Opens, Urgency::Error),
            Type::LeaderElected | Type::LeaderChanged => {
                ("ZooKeeperLeaderLost", Effect::Closes, Urgency::Info)
            }
            Type::InstancesDown => ("ZooKeeperInstancesDown", Effect::Informs, Urgency::Critical),
            Type::InstanceFlapping => ("ZooKeeperInstanceFlapping", Effect::Informs, Urgency::Error),
            Type::RegistrationUnreadable => {
                ("ZooKeeperRegistrationUnreadable", Effect::Informs, Urgency::Error)
            }
            Type::RegistrationReadable => ("ZooKeeperRegistrationUnreadable", Effect::Informs, Urgency::Info),
            Type::InstanceChanged
            | Type::RuleChanged
            | Type::QueueChanged
            | Type::LockAcquired
            | Type::LockReleased => ("ZooKeeperServiceEvent", Effect::Informs, Urgency::Info),
        };
        let of_one = matches!(alert, "ZooKeeperInstanceDown");
        let subject = [
            Some(event.service.as_str()),
            event.group.as_deref(),
            // Of an instance the version may change over a restart.
            event.version.as_deref().filter(|_| event.instance.is_none()),
        ];
        let subject = subject.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let one = match of_one {
            true => event.instance.as_deref().unwrap_or(&event.path),
            false => event.election.as_deref().unwrap_or_default(),
        };
        // Of an instance that is gone the event has the last one, which reads as a contradiction in a message.
        let status = event.status.filter(|_| event.kind != Type::InstanceDown);
        let status = status.map(|status| status.as_str().to_owned());
        let cause = event.cause.and_then(|cause| serde_json::to_value(cause).ok());
        let facts = [
            ("cluster", Some(event.cluster.clone())),
            ("service", Some(subject.clone())),
            ("instance", event.instance.clone()),
            ("status", status),
            ("cause", cause.and_then(|cause| cause.as_str().map(str::to_owned))),
            ("zone", event.zone.clone()),
            ("leader", event.leader.clone()),
            ("path", Some(event.path.clone())),
        ];
        let title = match event.text.is_empty() {
            true => format!("{} of {subject}", event.kind.as_str()),
            false => event.text.clone(),
        };
        Some(Notice {
            title: plain(&title, TITLE_CHARS_MAX),
            facts: shown(facts),
            effect,
            urgency,
            key: key(&[&event.cluster, alert, &event.section, &subject, one]),
            kind: event.kind.as_str(),
            alert,
            cluster: plain(&event.cluster, FACT_CHARS_MAX),
            subject: plain(&subject, FACT_CHARS_MAX),
            instance: of_one.then(|| plain(one, FACT_CHARS_MAX)),
            moment: event.time.changed.unwrap_or(event.time.captured),
        })
    }

    fn of_change(record: &Record) -> Option<Notice> {
        let path = record.path.as_deref()?;
        let (kind, verb, effect) = match record.op {
            Op::Create => ("znode.created", "was created", Effect::Closes),
            Op::Update => ("znode.updated", "was changed", Effect::Informs),
            Op::Delete => ("znode.deleted", "was deleted", Effect::Opens),
            Op::Acl => (
                "znode.acl_changed",
                "has another access control list",
                Effect::Informs,
            ),
            Op::Snapshot
            | Op::SnapshotBegin
            | Op::SnapshotEnd
            | Op::GapBegin
            | Op::GapEnd
            | Op::Heartbeat
            | Op::Service => return None,
        };
        let urgency = match effect {
            Effect::Opens => Urgency::Error,
            Effect::Closes | Effect::Informs => Urgency::Info,
        };
        let facts = [
            ("cluster", Some(record.cluster.to_string())),
            ("before", text_of(record.before.as_ref())),
            ("after", text_of(record.after.as_ref())),
            ("zxid", record.zxid.map(|zxid| zxid.to_string())),
        ];
        Some(Notice {
            title: plain(&format!("{path} {verb}"), TITLE_CHARS_MAX),
            facts: shown(facts),
            effect,
            urgency,
            key: key(&[&record.cluster, "znode", path]),
            kind,
            alert: "ZooKeeperZnodeDeleted",
            cluster: plain(&record.cluster, FACT_CHARS_MAX),
            subject: plain(path, FACT_CHARS_MAX),
            instance: None,
            moment: record.time.changed.unwrap_or(record.time.captured),
        })
    }
}

fn shown<const N: usize>(facts: [(&'static str, Option<String>); N]) -> Vec<(&'static str, String)> {
    let there = facts.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let plain = there.map(|(name, value)| (name, plain(&value, FACT_CHARS_MAX)));
    plain.filter(|(_, value)| !value.is_empty()).collect()
}

/// The data of a state as text.
fn text_of(state: Option<&State>) -> Option<String> {
    let data = state?.data.as_ref()?;
    Some(match data.text() {
        Some(text) => text.to_owned(),
        None => format!("{} bytes that are no text", data.size),
    })
}

/// A text in one line without characters that change the direction of text or are not seen.
fn plain(text: &str, most: usize) -> String {
    // A value may have a megabyte, and only its beginning counts.
    let beginning: String = text
        .chars()
        .take(4 * most)
        .map(|letter| if is_plain(letter) { letter } else { ' ' })
        .collect();
    let words: Vec<&str> = beginning.split_whitespace().collect();
    cut(&words.join(" "), most).into_owned()
}

fn is_plain(letter: char) -> bool {
    !letter.is_control()
        && !matches!(
            letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// A key of these parts: two lists of parts never have the same one.
fn key(parts: &[&str]) -> String {
    let joined = parts.join("\n");
    let is_short = joined.len() <= KEY_BYTES_MAX - "zkbridge/".len();
    let is_simple = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\' | b'"');
    if is_short
        && parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(is_simple))
    {
        return format!("zkbridge/{}", parts.join("/"));
    }
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, joined.as_bytes());
    let name: String = parts
        .first()
        .copied()
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    format!(
        "zkbridge/{}{}",
        cut(&name, 40).trim_end_matches('…'),
        hashed_rest(&hash.to_string())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bridge_core::example::examples;
    use bridge_core::outbound::MessageSubject;
    use bridge_core::record::FieldChange;

    #[test]
    fn an_instance_that_is_gone_has_no_status_and_one_that_came_has() {
        for example in examples(MessageSubject::Services) {
            let (name, has_status) = match &*example.name {
                "instance.down" => ("instance.down", false),
                "instance.up" => ("instance.up", true),
                _ => continue,
            };
            let notice = Notice::of(&example.record).unwrap();
            let found = notice.facts.iter().any(|(fact, _)| *fact == "status");
            assert_eq!(found, has_status, "{name}: {:?}", notice.facts);
        }
    }

    #[test]
    fn an_instance_that_takes_the_name_of_one_that_is_down_closes_its_incident_and_other_changes_do_not() {
        let of = |kind, field: &str| {
            let mut event = ServiceEvent::of_type(kind);
            event.service = "pay".to_owned();
            event.instance = Some("10.0.0.1:8081".to_owned());
            event.changes = vec![FieldChange {
                field: field.to_owned(),
                from: "10.0.0.1:8080".into(),
                to: "10.0.0.1:8081".into(),
            }];
            Notice::of_event(&event).unwrap()
        };
        let down = of(ServiceEventType::InstanceDown, "status");
        let renamed = of(ServiceEventType::InstanceChanged, "instance");
        assert_eq!((renamed.effect, &renamed.key), (Effect::Closes, &down.key));
        let changed = of(ServiceEventType::InstanceChanged, "zone");
        assert_eq!(changed.effect, Effect::Informs);
    }

    #[test]
    fn what_opens_something_and_what_closes_it_have_one_key() {
        let events: Vec<Notice> = examples(MessageSubject::Services)
            .iter()
            .filter_map(|example| Notice::of(&example.record))
            .collect();
        for (opens, closes) in [
            ("instance.down", "instance.up"),
            ("service.unavailable", "service.available"),
            ("leader.lost", "leader.elected"),
        ] {
            let find = |kind| events.iter().find(|one| one.kind == kind).unwrap();
            let (opens, closes) = (find(opens), find(closes));
            assert_eq!((opens.effect, closes.effect), (Effect::Opens, Effect::Closes));
            assert_eq!((&opens.key, opens.alert), (&closes.key, closes.alert));
        }
        let keys: std::collections::BTreeSet<&String> = events
            .iter()
            .filter(|one| one.effect == Effect::Opens)
            .map(|one| &one.key)
            .collect();
        assert_eq!(keys.len(), 3);
        assert!(!events.iter().any(|one| one.kind == "instance.listed"));
    }

    #[test]
    fn a_registration_that_can_be_read_again_has_a_message_of_its_own() {
        let of = |kind: &str| {
            let all = examples(MessageSubject::Services);
            let mut found = all.iter().filter(|example| *example.name == *kind);
            Notice::of(&found.next().unwrap().record).unwrap()
        };
        let (lost, back) = (of("registration.unreadable"), of("registration.readable"));
        assert_eq!((back.effect, back.urgency), (Effect::Informs, Urgency::Info));
        assert_eq!((&back.key, back.alert), (&lost.key, lost.alert));
        assert!(back.title.ends_with("can be read again"), "{}", back.title);
    }

    #[test]
    fn two_subjects_never_share_a_key_and_none_is_too_long() {
        let long = "x".repeat(5_000);
        let all: [&[&str]; 7] = [
            &["a", "b/c"],
            &["a/b", "c"],
            &["a", "b", "c"],
            &["a", "b\nc"],
            &["a", ""],
            &[&long, "1"],
            &[&long, "2"],
        ];
        let keys: std::collections::BTreeSet<String> = all.iter().map(|parts| key(parts)).collect();
        assert_eq!(keys.len(), all.len(), "{keys:?}");
        assert!(
            keys.iter()
                .all(|key| key.len() <= KEY_BYTES_MAX && key.is_ascii()),
            "{keys:?}"
        );
    }

    #[test]
    fn texts_have_no_character_that_hides_or_turns_others() {
        assert_eq!(plain("a\u{202e}b\r\n c\u{200b}d\u{0}", 50), "a b c d");
        assert_eq!(plain(&"ä".repeat(600), 500).chars().count(), 500);
    }
}
