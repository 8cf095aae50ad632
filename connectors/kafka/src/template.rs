//! The rules of Kafka for the names of topics, and the filter that makes any texts keep them.

use std::fmt::Write;

use bridge_core::outbound::{NameRules, escaped_name};

/// The longest name that Kafka takes: the folder of a partition holds it, with the partition's number.
const TOPIC_LENGTH_MAX: usize = 249;

/// The topics of records.
pub(crate) static TOPIC: NameRules = NameRules {
    option: "topic",
    filter: topic_filter,
    further: &[(STRICT, topic_strict_filter)],
    meaning: "the name of a topic",
    length_max: TOPIC_LENGTH_MAX,
    reason_against,
    remedy: "letters, digits, '.', '_', '-'; write what may hold other characters with the filter topic, as in \
             \"zk.{{ cluster }}.{{ names | topic }}\"",
};

/// Each text escaped, with dots between them. Two lists of texts never give one name, but names that differ only in `.`
/// and `_`: `/a/5fb` and `/a_b` are `a.5fb` and `a_5fb`, and a cluster takes only one of them.
fn topic_filter(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| escaped_name(name)).collect();
    names.join(".")
}

/// The filter for names that differ in more than `.` and `_`, which brokers take for the same letter.
pub(crate) const STRICT: &str = "topic_strict";

/// Each text escaped with `_x` and two hex digits for a byte, with dots between them. Also where `.` and `_` are the same,
/// two lists of texts never give one name: there a mark before `x` and two hex digits is an escape, and any other mark is
/// between two texts, as no text begins so.
fn topic_strict_filter(names: &[&str]) -> String {
    let mut topic = String::new();
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            topic.push('.');
        }
        let begins_as_escape = is_escape(name.as_bytes());
        for (place, byte) in name.bytes().enumerate() {
            let is_plain = byte.is_ascii_alphanumeric() || byte == b'-';
            if is_plain && !(place == 0 && begins_as_escape) {
                topic.push(char::from(byte));
            } else {
                write!(topic, "_x{byte:02x}").expect("writing to a string cannot fail");
            }
        }
    }
    topic
}

/// Whether a text begins as an escape does after its mark.
fn is_escape(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    matches!(text, [b'x', high, low, ..] if is_digit(high) && is_digit(low))
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
