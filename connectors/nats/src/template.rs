//! The rules for subjects: NATS's own, and the filter that makes any names keep them.
//!
//! A subject that NATS would not take, or would take for something else, is never sent.

use std::sync::Arc;

use bridge_core::outbound::{NameRules, NameTemplate, escaped_name, hashed_rest};
use bridge_core::path::ZnodePath;

/// The longest subject that is sent. Servers take four times as much in one line of the protocol (`max_control_line`),
/// which also holds the reply's subject; NATS advises to stay below 256.
const SUBJECT_LENGTH_MAX: usize = 1_024;

/// The most tokens that the filter makes of a path: NATS advises 16 for a whole subject.
const TOKENS_MAX: usize = 12;

/// The most characters that the filter makes of a path, without the token that replaces the rest.
const LENGTH_MAX: usize = 200;

/// A path without names, and an empty text; no escaped name is only that.
const EMPTY: &str = "_";

/// The subjects of records.
pub(crate) static SUBJECT: NameRules = NameRules {
    option: "subject",
    filter: tokens,
    further: &[],
    meaning: "a subject for records",
    length_max: SUBJECT_LENGTH_MAX,
    reason_against,
    remedy: "visible ASCII, tokens with dots between them; write names with the filter subject, as in \
             \"zk.{{ cluster }}.{{ names | subject }}\"",
};

/// Subjects of paths and ops that differ in all that a template can distinguish, each with its path.
pub(crate) fn samples(template: &NameTemplate, cluster: &str) -> Vec<(&'static str, Arc<str>)> {
    const PATHS: [&str; 4] = ["/", "/alpha", "/beta/one", "/gamma/one/two/three/four/five"];
    const OPS: [&str; 2] = ["create", "snapshot_begin"];
    let mut samples = Vec::new();
    for sample in PATHS {
        let path = ZnodePath::parse(sample).expect("the samples are paths");
        for op in OPS {
            if let Ok(subject) = template.name_of(cluster, &path, op) {
                samples.push((sample, subject));
            }
        }
    }
    samples
}

/// Why a subject is not sent; `None` if it is.
pub(crate) fn reason_against(subject: &str) -> Option<String> {
    if subject.is_empty() {
        return Some("it is empty".to_owned());
    }
    if let Some(letter) = subject.chars().find(|letter| !is_allowed(*letter)) {
        return Some(format!(
            "it holds {letter:?}, and only visible ASCII without '*' and '>' is allowed (the filter subject writes \
             others)"
        ));
    }
    if subject.split('.').any(str::is_empty) {
        return Some("a token is empty: two dots follow each other, or one is at an end".to_owned());
    }
    if subject.starts_with("$KV.") {
        return Some(
            "it is the key of a bucket, whose rules for deletes the messages of a stream do not follow; name the bucket \
             with the option bucket"
                .to_owned(),
        );
    }
    let is_of_servers = subject.starts_with('$') || subject.starts_with("_INBOX.");
    is_of_servers.then(|| "subjects that begin with '$' or '_INBOX.' are the servers' own".to_owned())
}

fn is_allowed(letter: char) -> bool {
    letter.is_ascii_graphic() && !matches!(letter, '*' | '>')
}

/// A list of names becomes one token each, a text one token.
///
/// Each is escaped, and an empty one is `_`, as is an empty list. A list of more than [`TOKENS_MAX`] names, or longer than
/// [`LENGTH_MAX`], keeps the first that fit; one token, `__` and a hash, replaces the rest.
fn tokens(names: &[&str]) -> String {
    let mut subject = String::new();
    let escaped: Vec<String> = names.iter().map(|name| escaped(name)).collect();
    if escaped.is_empty() {
        return EMPTY.to_owned();
    }
    let length: usize = escaped.iter().map(|token| token.len() + 1).sum();
    let fits = escaped.len() <= TOKENS_MAX && length <= LENGTH_MAX + 1;
    for (at, token) in escaped.iter().enumerate() {
        let is_cut = !fits && (at + 1 == TOKENS_MAX || subject.len() + token.len() > LENGTH_MAX);
        if is_cut {
            subject.push_str(&hashed_rest(&names[at..].join("/")));
            return subject;
        }
        subject.push_str(token);
        if at + 1 < escaped.len() {
            subject.push('.');
        }
    }
    subject
}

fn escaped(name: &str) -> String {
    match name {
        "" => EMPTY.to_owned(),
        name => escaped_name(name),
    }
}
