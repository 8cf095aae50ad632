//! Texts that must never be seen: passwords, tokens, signing keys.
//!
//! A secret has no `Display` and no `Serialize`, its `Debug` is a mask, and its text is read with [`Secret::reveal`] only,
//! so that every such place can be found.
//!
//! What others write can repeat them: a command that was given one, a receiver that sends a request back. [`HiddenTexts`]
//! masks them there.
//!
//! Not a type of the crate `secrecy`: those cannot be compared, have no JSON Schema, and do not ask a reader of
//! configurations by a name of their own; wrapped for these, they would only add that one copy of several is overwritten.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// Shown in place of a secret.
pub const MASK: &str = "***";

/// A whole secret is masked from this length on: a shorter one occurs in texts by chance.
const WHOLE_BYTES_MIN: usize = 4;

/// A part of a secret is masked from this length on: a shorter one would mask parts of ordinary words.
const PART_BYTES_MIN: usize = 6;

/// A text that no log, error or listing may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes a text into keeping.
    pub fn new(text: impl Into<Box<str>>) -> Secret {
        Secret(text.into())
    }

    /// The text, for the one place that sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The name marks the value, so that a reader of configurations leaves it out of its errors.
        deserializer.deserialize_newtype_struct("Secret", SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "writeOnly": true,
            "description": "A text that is never shown. Best brought in with ${NAME} or ${file:/run/secrets/name}.",
        })
    }
}

/// Texts that are masked in what others write.
#[derive(Clone, Default)]
pub struct HiddenTexts {
    /// The longest first, as one may hold another.
    texts: Vec<Box<[u8]>>,
}

impl HiddenTexts {
    /// Secrets with what is usually repeated of them: lines and words, the parts of an address or of a user with a
    /// password, and the whole in base64, as `Authorization: Basic` has it.
    pub fn of_secrets<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> HiddenTexts {
        let mut texts = Vec::new();
        for secret in secrets.into_iter().map(Secret::reveal) {
            let whole = secret.trim();
            if whole.len() < WHOLE_BYTES_MIN {
                continue;
            }
            texts.extend([whole.to_owned(), STANDARD.encode(whole)]);
            let is_address = whole.contains("://") || whole.contains('@');
            let between = |letter: char| {
                letter.is_whitespace() || letter == ':' || is_address && "/?&=@".contains(letter)
            };
            let parts = whole.lines().map(str::trim).chain(whole.split(between));
            // The folders of a PATH are words of every message about a file.
            let parts = parts.filter(|part| is_address || !part.starts_with('/'));
            texts.extend(
                parts
                    .filter(|part| part.len() >= PART_BYTES_MIN)
                    .map(str::to_owned),
            );
        }
        HiddenTexts::of_texts(texts)
    }

    /// Just these texts. An empty one is left out.
    pub fn of_texts(texts: impl IntoIterator<Item = String>) -> HiddenTexts {
        let texts = texts.into_iter().filter(|text| !text.is_empty());
        let mut texts: Vec<Box<[u8]>> = texts.map(|text| text.into_bytes().into()).collect();
        texts.sort_by(|one, other| (Reverse(one.len()), one).cmp(&(Reverse(other.len()), other)));
        texts.dedup();
        HiddenTexts { texts }
    }

    /// The bytes of the longest.
    pub fn longest(&self) -> usize {
        self.texts.first().map_or(0, |text| text.len())
    }

    /// These bytes from `from` on, with [`MASK`] in the place of what belongs to a text, also to one that begins before.
    pub fn mask(&self, bytes: &[u8], from: usize) -> Vec<u8> {
        let mut shown = Vec::new();
        let (mut hidden_until, mut is_hidden) = (0, false);
        for at in 0..bytes.len() {
            let rest = &bytes[at..];
            if let Some(text) = self.texts.iter().find(|text| rest.starts_with(text)) {
                hidden_until = hidden_until.max(at + text.len());
            }
            if at < from {
                continue;
            }
            match (at < hidden_until, is_hidden) {
                (true, true) => {}
                (true, false) => shown.extend_from_slice(MASK.as_bytes()),
                (false, _) => shown.push(bytes[at]),
            }
            is_hidden = at < hidden_until;
        }
        shown
    }
}

impl fmt::Debug for HiddenTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_with_its_parts_and_where_it_is_cut() {
        let secrets = [
            "Bearer hunter2!",
            "me:swordfish",
            "https://h/hooks/T0KEN99?key=k3yk3y",
            "/usr/bin",
            "abc",
        ];
        let secrets = secrets.map(Secret::new);
        let hidden = HiddenTexts::of_secrets(&secrets);
        let check = |text: &str, from: usize, expected: &str| {
            assert_eq!(
                String::from_utf8(hidden.mask(text.as_bytes(), from)).unwrap(),
                expected
            );
        };
        check("> Authorization: Bearer hunter2!", 0, "> Authorization: ***");
        check("got 'hunter2!', abc", 0, "got '***', abc");
        check("Basic bWU6c3dvcmRmaXNo", 0, "Basic ***");
        check(
            "login failed for me with swordfish",
            0,
            "login failed for me with ***",
        );
        check("> POST /hooks/T0KEN99?key=k3yk3y", 0, "> POST /hooks/***?key=***");
        check("/usr/local is no folder", 0, "/usr/local is no folder");
        check("a swordfish b swordfish", 5, "*** b ***");
        check("a swordfish b swordfish", 11, " b ***");
        // One begins in another.
        let hidden = HiddenTexts::of_texts(["abcd".to_owned(), "cdefghij".to_owned()]);
        assert_eq!(hidden.mask(b"-abcdefghij-", 0), b"-***-");
    }

    #[test]
    fn debug_shows_a_mask_and_only_reveal_shows_the_text() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
