//! Which subjects a stream takes: NATS's wildcards, `*` for one token and `>` for one or more at the end.

use std::sync::Arc;

/// Whether the pattern takes the subject, which may be a pattern itself: then all that it takes.
pub(crate) fn covers(pattern: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    for expected in pattern.split('.') {
        let Some(token) = subject.next() else {
            return false;
        };
        match expected {
            ">" => return true,
            "*" if token != ">" => {}
            literal if literal == token && token != "*" && token != ">" => {}
            _ => return false,
        }
    }
    subject.next().is_none()
}

/// Whether some subject is taken by both patterns.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(left), Some(right)) if left == right || left == "*" || right == "*" => {}
            _ => return false,
        }
    }
}

/// The narrowest pattern of literal tokens and one `>` that takes all of these subjects; `>` where they have nothing in
/// common.
pub(crate) fn pattern_of(subjects: &[Arc<str>]) -> String {
    let Some(first) = subjects.first() else {
        return ">".to_owned();
    };
    if subjects.iter().all(|subject| subject == first) {
        return first.to_string();
    }
    let mut common: Vec<&str> = first.split('.').collect();
    for subject in subjects {
        let shared = common
            .iter()
            .zip(subject.split('.'))
            .take_while(|(token, other)| **token == *other);
        let length = shared.count();
        // One token at least is left for the `>`, which takes no fewer.
        let most = subject.split('.').count() - 1;
        common.truncate(length.min(most));
    }
    common.push(">");
    common.join(".")
}

/// Whether a stream can have it among its subjects.
pub(crate) fn is_pattern(subject: &str) -> bool {
    let tokens: Vec<&str> = subject.split('.').collect();
    let last = tokens.len() - 1;
    tokens.iter().enumerate().all(|(at, token)| {
        let is_wildcard = *token == "*" || (*token == ">" && at == last);
        let is_literal = !token.is_empty()
            && token.chars().all(|letter| {
                !letter.is_whitespace() && !letter.is_control() && !matches!(letter, '*' | '>')
            });
        is_wildcard || is_literal
    })
}
