//! Decides which texts of a configuration file no message may repeat, and masks lines that cannot be parsed.
//!
//! The grammar of the configuration decides, not the words around a value: a text may be shown only where the schema
//! takes a text that is no secret. So a text at an unknown key, or where a table is wanted, is hidden: it may be a
//! secret that was put in the wrong place.

use std::collections::BTreeSet;

use bridge_core::file_path::looks_like_contents;
use bridge_core::secret::{MASK, Secret};
use serde_json::Value as Json;

use crate::schema::{Hints, config_schema};
use crate::tree::{Node, Value};

/// Words in the names of keys that hold secrets though their type does not say so: properties of a client, headers.
const DELICATE: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "jaas",
];

/// Whether a key of free choice names a secret.
pub(crate) fn is_delicate(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    DELICATE.iter().any(|word| key.contains(word)) || key.ends_with("key.pem")
}

/// Shorter texts occur in messages by chance.
const HIDDEN_CHARS_MIN: usize = 4;

/// Masks these texts in a message, a user with a password before `@`, and the query of an address.
pub(crate) fn hide(message: &mut String, secrets: &[Secret]) {
    for secret in secrets.iter().map(Secret::reveal) {
        if secret.chars().count() >= HIDDEN_CHARS_MIN && message.contains(secret) {
            *message = message.replace(secret, MASK);
        }
    }
    if message.contains('@') {
        *message = without_userinfo(message);
    }
    if message.contains('?') {
        *message = without_query(message);
    }
}

/// A text in which all after the `?` of `host?key=value` is masked.
fn without_query(text: &str) -> String {
    let is_inside = |letter: char| !letter.is_whitespace() && !matches!(letter, ',' | '\'' | '"');
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('?') {
        let end = after.find(|letter| !is_inside(letter)).unwrap_or(after.len());
        let is_query = before.ends_with(is_inside) && after[..end].contains('=');
        shown.push_str(before);
        shown.push('?');
        if is_query {
            shown.push_str(MASK);
        }
        rest = &after[if is_query { end } else { 0 }..];
    }
    shown + rest
}

/// A text in which user and password of every `u:pw@host` are masked.
pub(crate) fn without_userinfo(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        let begin = |c: char| c.is_whitespace() || matches!(c, '/' | ',' | '\'' | '"');
        let kept = before.rfind(begin).map_or(0, |at| at + 1);
        // An `@` with nothing before it is no address.
        let mask = if kept < before.len() { MASK } else { "" };
        shown.push_str(&before[..kept]);
        shown.push_str(mask);
        shown.push('@');
        rest = after;
    }
    shown + rest
}

/// The texts of a tree that no message may show, besides those that were brought in by references.
pub(crate) fn secrets_of(tree: &Node, hints: &Hints) -> Vec<Secret> {
    let mut walk = Walk {
        hints,
        found: Vec::new(),
    };
    walk.node(tree, &[hints.top()], false);
    walk.found
}

struct Walk<'a> {
    hints: &'a Hints,
    found: Vec<Secret>,
}

impl<'a> Walk<'a> {
    fn node(&mut self, node: &Node, schemas: &[&'a Json], is_secret: bool) {
        match &node.value {
            Value::Text(text) => {
                // A text where a list of texts is wanted is shown as its elements are.
                let elements = self.hints.items(schemas);
                let mut all = schemas.iter().chain(&elements);
                let is_secret = is_secret || elements.iter().any(|schema| self.hints.is_write_only(schema));
                let is_known = all.any(|schema| self.hints.takes_text(schema));
                if is_secret || !is_known || looks_like_contents(&text.text) {
                    self.found.push(Secret::new(text.text.as_str()));
                    // A message may show one line of the text.
                    let lines = text.text.lines().map(str::trim);
                    self.found.extend(lines.map(Secret::new));
                }
            }
            Value::List(list) => {
                let items = self.hints.items(schemas);
                for element in list {
                    self.node(element, &items, is_secret);
                }
            }
            Value::Table(table) => {
                for (key, (_, value)) in table {
                    let below = self.hints.properties(schemas, key);
                    let is_secret = is_secret
                        || is_delicate(key)
                        || below.iter().any(|schema| self.hints.is_write_only(schema));
                    self.node(value, &below, is_secret);
                }
            }
            _ => {}
        }
    }
}

/// A line that cannot be read, with everything masked but punctuation and the words of the configuration itself.
pub(crate) fn masked_line(line: &str) -> String {
    let known = words_of(&config_schema());
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_punctuation = |c: char| c.is_ascii_whitespace() || "[]{}=:,\"'#.-".contains(c);
    let mut shown = String::new();
    let mut rest = line.trim_end();
    while let Some(first) = rest.chars().next() {
        let end = |is_part: &dyn Fn(char) -> bool| rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (part, is_shown) = if is_word(first) {
            let word = &rest[..end(&is_word)];
            (word, known.contains(word))
        } else {
            (&rest[..first.len_utf8()], is_punctuation(first))
        };
        match is_shown {
            true => shown.push_str(part),
            false if shown.ends_with(MASK) => {}
            false => shown.push_str(MASK),
        }
        rest = &rest[part.len()..];
    }
    shown
}

/// The keys of a schema, and the words that its keys take.
fn words_of(schema: &Json) -> BTreeSet<String> {
    let mut words: BTreeSet<String> = ["true", "false", "null"].map(str::to_owned).into();
    let mut left = vec![schema];
    while let Some(schema) = left.pop() {
        match schema {
            Json::Array(list) => left.extend(list),
            Json::Object(object) => {
                let keys = object.get("properties").and_then(Json::as_object);
                words.extend(keys.into_iter().flat_map(|keys| keys.keys().cloned()));
                let constants = object.get("const").into_iter();
                let listed = object.get("enum").and_then(Json::as_array).into_iter().flatten();
                words.extend(
                    constants
                        .chain(listed)
                        .filter_map(|word| word.as_str().map(str::to_owned)),
                );
                left.extend(object.values());
            }
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_read_shows_the_words_of_the_configuration_and_nothing_else() {
        let check = |line: &str, expected: &str| assert_eq!(masked_line(line), expected, "{line}");
        check("listen = off", "listen = off");
        check("password = \"hunter2", "password = \"***");
        check("connect \"a:2181\"  ", "connect \"***:***\"");
        check("MIIEvQIBADANBgkqhkiG9w0==", "***==");
        check("  \"token\": hunter2,", "  \"token\": ***,");
        check("pa$$w0rd!ü 12", "*** ***");
    }

    #[test]
    fn a_user_with_a_password_is_masked_everywhere() {
        let check = |text: &str, expected: &str| assert_eq!(without_userinfo(text), expected);
        check("'u:pw@host:1' is refused", "'***@host:1' is refused");
        check("nats://u:pw@a,nats://b", "nats://***@a,nats://b");
        check("a@b c@d", "***@b ***@d");
        check("nothing @ all", "nothing @ all");
    }

    #[test]
    fn the_query_of_an_address_is_masked_everywhere() {
        let check = |text: &str, expected: &str| assert_eq!(without_query(text), expected);
        check("'b:9092?token=x' is refused", "'b:9092?***' is refused");
        check("a?b=c,d?e=f g?", "a?***,d?*** g?");
        check("did you mean 'x = y'?", "did you mean 'x = y'?");
        check("what? a=b", "what? a=b");
    }
}
