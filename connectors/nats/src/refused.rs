//! Subjects to which the server does not let the sink publish.
//!
//! A server refuses a message aloud (`-ERR 'Permissions Violation for Publish to "…"'`) and acknowledges nothing: without
//! this, the message would wait for its timeout, and all others with it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bridge_core::sink::{SinkError, SinkErrorKind};

/// The beginning of a refusal; the quoted subject follows.
const REFUSAL: &str = "permissions violation for publish to ";

/// The subjects that are remembered. More of them in one delivery are a refusal of the whole connection.
const SUBJECTS_MAX: usize = 20_000;

/// The refused subjects of a connection. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct RefusedSubjects {
    servers: Arc<str>,
    subjects: Arc<Mutex<HashSet<String>>>,
}

impl RefusedSubjects {
    /// None yet at these servers.
    pub(crate) fn at(servers: &Arc<str>) -> RefusedSubjects {
        RefusedSubjects {
            servers: Arc::clone(servers),
            subjects: Arc::default(),
        }
    }

    fn subjects(&self) -> MutexGuard<'_, HashSet<String>> {
        // Nothing in here panics halfway.
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes words of the server; false if they refuse something else than messages of one subject.
    pub(crate) fn take(&self, words: &str) -> bool {
        let Some(subject) = subject_of(words) else {
            return false;
        };
        let mut subjects = self.subjects();
        if subjects.len() >= SUBJECTS_MAX {
            return subjects.contains(&subject);
        }
        subjects.insert(subject);
        true
    }

    /// Why a message of this subject is not taken, if the server refused one since the last
    /// [`RefusedSubjects::forget`].
    pub(crate) fn reason(&self, subject: &str) -> Option<SinkError> {
        let is_refused = {
            let subjects = self.subjects();
            !subjects.is_empty() && subjects.contains(subject)
        };
        is_refused.then(|| {
            let message = format!(
                "NATS at {}: the server does not let the sink publish to '{subject}'; grant the sink's user that subject",
                self.servers
            );
            SinkError::new(SinkErrorKind::Authorization, message)
        })
    }

    /// Forgets all, so that they are tried again.
    pub(crate) fn forget(&self) {
        self.subjects().clear();
    }
}

/// The subject of a message that was refused; `None` if the server refused something else, such as the API of
/// JetStream, without which nothing can be delivered.
fn subject_of(words: &str) -> Option<String> {
    let (beginning, quoted) = words.split_at_checked(REFUSAL.len())?;
    if !beginning.eq_ignore_ascii_case(REFUSAL) {
        return None;
    }
    let subject = unquoted(quoted.trim())?;
    let is_of_servers = ["$JS.", "$SYS.", "_INBOX."]
        .iter()
        .any(|prefix| subject.starts_with(prefix));
    (!is_of_servers).then_some(subject)
}

/// A text as Go quotes one of visible ASCII (`%q`).
fn unquoted(quoted: &str) -> Option<String> {
    let mut letters = quoted.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\\' => letters.next()?,
            letter => letter,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_one_subject_is_distinguished_from_one_of_the_connection() {
        let check = |words: &str, expected: Option<&str>| {
            assert_eq!(subject_of(words).as_deref(), expected, "{words}");
            let refused = RefusedSubjects::at(&"nats://a".into());
            assert_eq!(refused.take(words), expected.is_some(), "{words}");
            assert!(expected.is_none_or(|subject| refused.reason(subject).is_some()));
            refused.forget();
            assert!(expected.is_none_or(|subject| refused.reason(subject).is_none()));
        };
        let publish = "Permissions Violation for Publish to ";
        check(&format!("{publish}\"zk.main.A\""), Some("zk.main.A"));
        check(&format!("{publish}\"zk.a\\\"b\\\\c\""), Some("zk.a\"b\\c"));
        check(&format!("{publish}\"$KV.tree.a\""), Some("$KV.tree.a"));
        check(&format!("{publish}\"$JS.API.STREAM.INFO.changes\""), None);
        check(&format!("{publish}\"$JS.hub.API.STREAM.INFO.changes\""), None);
        check(
            "Permissions Violation for Publish with Reply of \"_INBOX.x\"",
            None,
        );
        check("Permissions Violation for Subscription to \"_INBOX.x.>\"", None);
        check(&format!("{publish}\"zk.a"), None);
        check(&format!("{publish}\""), None);
        check(publish, None);
        check("Übertragung verboten", None);
        check("", None);
    }

    #[test]
    fn more_refused_subjects_than_are_remembered_are_a_refusal_of_the_connection() {
        let refused = RefusedSubjects::at(&"nats://a".into());
        let words = |number: usize| format!("Permissions Violation for Publish to \"zk.{number}\"");
        for number in 0..SUBJECTS_MAX {
            assert!(refused.take(&words(number)));
        }
        assert!(!refused.take(&words(SUBJECTS_MAX)));
    }
}
