//! The rules of Kafka for the names of topics, and the filter that makes any texts keep them.

use bridge_core::outbound::{NameRules, escaped_name};

/// The longest name that Kafka takes: the folder of a partition holds it, with the partition's number.
const TOPIC_LENGTH_MAX: usize = 249;

/// The topics of records.
pub(crate) static TOPIC: NameRules = NameRules {
    option: "topic",
    filter: topic_filter,
    meaning: "the name of a topic",
    length_max: TOPIC_LENGTH_MAX,
    reason_against,
    remedy: "letters, digits, '.', '_', '-'; write what may hold other characters with the filter topic, as in \
             \"zk.{{ cluster }}.{{ names | topic }}\"",
};

/// Each text escaped, with dots between them.
fn topic_filter(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| escaped_name(name)).collect();
    names.join(".")
}

/// Why Kafka would not take a name.
fn reason_against(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if matches!(name, "." | "..") {
        return Some("'.' and '..' are folders".to_owned());
    }
    let letter = name.chars().find(|letter| !is_allowed(*letter))?;
    Some(format!(
        "it holds {letter:?}, and only letters, digits, '.', '_' and '-' are allowed (the filter topic writes others)"
    ))
}

fn is_allowed(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}
