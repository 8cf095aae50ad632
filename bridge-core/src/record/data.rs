//! A znode's data inside a record: kept as bytes, written as text, base64 or a parsed document.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a source wants its data written. The choice is journalled with the value, so that a later change of the
/// configuration does not change what an earlier record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum DataForm {
    /// Text where all bytes are valid UTF-8, base64 elsewhere.
    #[default]
    Auto,
    /// Always base64.
    Base64,
    /// The parsed document where the bytes are JSON and parsing keeps every number; elsewhere like `Auto`.
    Json,
}

/// The data of one version of a znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The bytes, or their beginning where a limit cut them.
    pub bytes: Arc<[u8]>,
    /// Bytes in ZooKeeper.
    pub size: u32,
    /// How they are written.
    pub form: DataForm,
    /// Whether a limit cut the bytes.
    pub truncated: bool,
}

impl Data {
    /// Takes what was read and keeps at most `max_bytes` of it; text is cut between characters.
    pub fn limited(bytes: &[u8], form: DataForm, max_bytes: usize) -> Data {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let kept = &bytes[..cut_at(bytes, form, max_bytes)];
        Data {
            bytes: kept.into(),
            size,
            form,
            truncated: kept.len() < bytes.len(),
        }
    }

    /// At most `max_bytes` from its beginning, written as the whole is: bytes that are no text do not become one where they
    /// are cut.
    pub(crate) fn cut(&self, max_bytes: usize) -> Data {
        let mut cut = Data::limited(&self.bytes, self.form, max_bytes);
        if std::str::from_utf8(&self.bytes).is_err() {
            cut.form = DataForm::Base64;
        }
        cut.size = self.size;
        cut.truncated |= self.truncated;
        cut
    }

    fn json(&self) -> Option<serde_json::Value> {
        if self.form != DataForm::Json || self.truncated {
            return None;
        }
        lossless_json(&self.bytes)
    }
}

fn cut_at(bytes: &[u8], form: DataForm, max_bytes: usize) -> usize {
    if bytes.len() <= max_bytes {
        return bytes.len();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if form != DataForm::Base64 => text.floor_char_boundary(max_bytes),
        _ => max_bytes,
    }
}

/// The parsed document if writing it again keeps every number as it stood (no digit lost to a float, no integer
/// beyond 64 bits) and no key stood twice.
fn lossless_json(bytes: &[u8]) -> Option<serde_json::Value> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_string(&value).ok()?;
    let mut before = scalars(bytes)?;
    let mut after = scalars(written.as_bytes())?;
    before.sort_unstable();
    after.sort_unstable();
    (before == after).then_some(value)
}

/// The numbers of a JSON text as they are written, and one entry for each colon outside strings, so that a key lost as
/// a duplicate shows.
fn scalars(text: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(text).ok()?;
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let end = end_of_number(bytes, at);
                found.push(&text[at..end]);
                at = end;
            }
            b':' => {
                found.push(":");
                at += 1;
            }
            _ => at += 1,
        }
    }
    Some(found)
}

fn end_of_string(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_number(bytes: &[u8], start: usize) -> usize {
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    start + bytes[start..].iter().take_while(|byte| is_part(byte)).count()
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = if self.truncated { 4 } else { 3 };
        let mut object = serializer.serialize_struct("Data", fields)?;
        if let Some(value) = self.json() {
            object.serialize_field("encoding", "json")?;
            object.serialize_field("size", &self.size)?;
            object.serialize_field("value", &value)?;
            return object.end();
        }
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if self.form != DataForm::Base64 => {
                object.serialize_field("encoding", "utf8")?;
                object.serialize_field("size", &self.size)?;
                object.serialize_field("value", text)?;
            }
            _ => {
                object.serialize_field("encoding", "base64")?;
                object.serialize_field("size", &self.size)?;
                object.serialize_field("value", &STANDARD.encode(&self.bytes))?;
            }
        }
        if self.truncated {
            object.serialize_field("truncated", &true)?;
        }
        object.end()
    }
}

#[derive(Deserialize)]
struct DataFields {
    encoding: String,
    size: u32,
    value: serde_json::Value,
    #[serde(default)]
    truncated: bool,
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let DataFields {
            encoding,
            size,
            value,
            truncated,
        } = DataFields::deserialize(deserializer)?;
        let text = || {
            value
                .as_str()
                .ok_or_else(|| D::Error::custom("the value is not a text"))
        };
        let (bytes, form) = match encoding.as_str() {
            "utf8" => (text()?.as_bytes().to_vec(), DataForm::Auto),
            "base64" => (
                STANDARD.decode(text()?).map_err(D::Error::custom)?,
                DataForm::Base64,
            ),
            "json" => (value.to_string().into_bytes(), DataForm::Json),
            other => return Err(D::Error::custom(format!("'{other}' is not utf8, base64 or json"))),
        };
        Ok(Data {
            bytes: bytes.into(),
            size,
            form,
            truncated,
        })
    }
}

impl JsonSchema for Data {
    fn schema_name() -> Cow<'static, str> {
        "Data".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A znode's data. A znode without data has size 0.",
            "required": ["encoding", "size", "value"],
            "properties": {
                "encoding": {
                    "enum": ["utf8", "base64", "json"],
                    "description": "utf8 where all bytes are valid UTF-8; json only where the source asks for it."
                },
                "size": {"type": "integer", "minimum": 0, "description": "Bytes in ZooKeeper."},
                "value": {"description": "A text for utf8 and base64, any JSON value for json."},
                "truncated": {"const": true, "description": "There where a limit cut the value."}
            },
            "if": {"properties": {"encoding": {"enum": ["utf8", "base64"]}}},
            "then": {"properties": {"value": {"type": "string"}}}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8], form: DataForm, max: usize) -> serde_json::Value {
        serde_json::to_value(Data::limited(bytes, form, max)).unwrap()
    }

    #[test]
    fn text_is_written_as_text_and_other_bytes_as_base64() {
        assert_eq!(
            written("ü".as_bytes(), DataForm::Auto, 9),
            serde_json::json!({"encoding": "utf8", "size": 2, "value": "ü"})
        );
        assert_eq!(
            written(&[0xff, 0], DataForm::Auto, 9),
            serde_json::json!({"encoding": "base64", "size": 2, "value": "/wA="})
        );
        assert_eq!(
            written(b"", DataForm::Auto, 9),
            serde_json::json!({"encoding": "utf8", "size": 0, "value": ""})
        );
        assert_eq!(
            written(b"a", DataForm::Base64, 9),
            serde_json::json!({"encoding": "base64", "size": 1, "value": "YQ=="})
        );
    }

    #[test]
    fn a_limit_cuts_between_characters_and_says_so() {
        let cut = written("aüb".as_bytes(), DataForm::Auto, 2);
        assert_eq!(
            cut,
            serde_json::json!({"encoding": "utf8", "size": 4, "value": "a", "truncated": true})
        );
    }

    #[test]
    fn json_is_parsed_only_where_nothing_is_lost() {
        let kept = written(br#"{"b": [1, -2.5, "1e400"], "a": null}"#, DataForm::Json, 99);
        assert_eq!(kept["encoding"], "json");
        assert_eq!(kept["value"]["b"][1], -2.5);
        for lossy in [
            "12345678901234567890123",
            "0.1234567890123456789012345",
            "1.0e2",
            "{\"a\":1,\"a\":1}",
            "{\"a\":null,\"a\":null}",
            "no",
        ] {
            assert_eq!(
                written(lossy.as_bytes(), DataForm::Json, 99)["encoding"],
                "utf8",
                "{lossy}"
            );
        }
    }
}
