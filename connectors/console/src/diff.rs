//! The difference of two JSON objects as short text. Pure.
//!
//! ```text
//! weight: 1 → 25, +zone: "eu", -draining: true
//! ```

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::text::{columns, differing, escaped, shortened};

const ARROW: &str = " → ";

/// The members that differ, in at most `space` columns; `None` if the two are no objects or have equal members.
pub(crate) fn members(old: &[u8], new: &[u8], space: usize) -> Option<String> {
    let (old, new) = (leaves(old)?, leaves(new)?);
    let mut changes: Vec<Change> = Vec::new();
    for (name, old) in &old {
        match new.get(name) {
            None => changes.push(Change::Gone(name, old)),
            Some(new) if new != old => changes.push(Change::Other(name, old, new)),
            Some(_) => {}
        }
    }
    let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
    changes.extend(added.map(|(name, new)| Change::New(name, new)));
    match changes.as_slice() {
        [] => None,
        [only] => Some(only.within(space)),
        several => {
            let words: Vec<String> = several.iter().map(|one| one.within(usize::MAX)).collect();
            Some(shortened(&words.join(", "), space).into_owned())
        }
    }
}

/// One member of the two objects, by its name; its values as JSON.
enum Change<'a> {
    New(&'a str, &'a str),
    Gone(&'a str, &'a str),
    Other(&'a str, &'a str, &'a str),
}

impl Change<'_> {
    fn within(&self, space: usize) -> String {
        let words = match self {
            Change::New(name, value) => format!("+{name}: {value}"),
            Change::Gone(name, value) => format!("-{name}: {value}"),
            Change::Other(name, old, new) => {
                let words = format!("{name}: {old}{ARROW}{new}");
                let values = space.saturating_sub(columns(name) + ": ".len() + columns(ARROW));
                if columns(&words) <= space || values < 2 {
                    words
                } else {
                    let (old, new) = differing(old, new, values / 2);
                    format!("{name}: {old}{ARROW}{new}")
                }
            }
        };
        shortened(&words, space).into_owned()
    }
}

/// The values of an object that are no objects themselves, by their names with dots between them.
fn leaves(json: &[u8]) -> Option<BTreeMap<String, String>> {
    let object: Map<String, Value> = serde_json::from_slice(json).ok()?;
    let mut found = BTreeMap::new();
    let mut left: Vec<(String, Value)> = object.into_iter().collect();
    while let Some((name, value)) = left.pop() {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                left.extend(
                    inner
                        .into_iter()
                        .map(|(key, value)| (format!("{name}.{key}"), value)),
                );
            }
            value => {
                found.insert(
                    escaped(&name).into_owned(),
                    escaped(&value.to_string()).into_owned(),
                );
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_that_differ_are_shown() {
        let check = |old: &str, new: &str, space: usize, expected: Option<&str>| {
            let shown = members(old.as_bytes(), new.as_bytes(), space);
            assert_eq!(shown.as_deref(), expected, "{old} {new}");
        };
        check(r#"{"a":1,"b":2}"#, r#"{"b":2, "a":3}"#, 40, Some("a: 1 → 3"));
        check(r#"{"a":1}"#, r#"{"a":1,"b":"x"}"#, 40, Some(r#"+b: "x""#));
        check(r#"{"a":1,"b":[1]}"#, r#"{"a":1}"#, 40, Some("-b: [1]"));
        check(
            r#"{"a":{"b":1,"c":{"d":2}}}"#,
            r#"{"a":{"b":5,"c":{"d":3}}}"#,
            40,
            Some("a.b: 1 → 5, a.c.d: 2 → 3"),
        );
        check(r#"{"a":1,"b":1}"#, r#"{"a":2,"b":2}"#, 12, Some("a: 1 → 2, b…"));
        check(r#"{"a":1}"#, r#"{ "a": 1 }"#, 40, None);
        check("[1]", "[2]", 40, None);
        check("text", r#"{"a":1}"#, 40, None);
    }

    #[test]
    fn a_long_value_is_cut_to_where_it_differs() {
        let object = |word: &str| format!(r#"{{"text":"{}{word}{}"}}"#, "x".repeat(80), "y".repeat(80));
        let shown = members(object("OLD").as_bytes(), object("NEW").as_bytes(), 60).unwrap();
        assert!(shown.contains("OLD") && shown.contains("NEW"), "{shown}");
        assert!(columns(&shown) <= 60, "{shown}");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_passes_through_a_name_or_a_value() {
        let shown = members(b"{}", "{\"a\\u001b[2J\":\"\\u202e\u{202e}\"}".as_bytes(), 80).unwrap();
        assert!(
            !shown
                .chars()
                .any(|letter| letter.is_control() || letter == '\u{202e}'),
            "{shown:?}"
        );
    }
}
