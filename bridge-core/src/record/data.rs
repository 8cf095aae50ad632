//! A znode's data inside a record: kept as bytes, written as text, base64 or a parsed document.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// How a source wants its data written. The choice is journalled with the value, so that a later change of the
/// configuration does not change what an earlier record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum DataForm {
    /// Text if all bytes are valid UTF-8 without control characters other than tab, line feed and carriage return;
    /// otherwise base64.
    #[default]
    Auto,
    /// Always base64.
    Base64,
    /// The document itself if the bytes are JSON that every reader takes: no key is repeated, every number is within the
    /// range of a 64-bit float, and no text has a half of a surrogate pair or a NUL; otherwise like `Auto`.
    Json,
    /// A keyed digest in place of the data, as text; see [`Masking`](super::Masking).
    Masked,
}

/// SHA-256 of the whole data of a znode.
pub type DataDigest = [u8; 32];

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
    /// Of all bytes in ZooKeeper, if a limit cut them; `None` in records of older versions.
    pub digest: Option<DataDigest>,
}

impl Data {
    /// Takes what was read and keeps at most `max_bytes` of it; text is cut between characters. Bytes that are no text
    /// do not become one by being cut.
    pub fn limited(bytes: &[u8], form: DataForm, max_bytes: usize) -> Data {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if bytes.len() <= max_bytes {
            return Data {
                bytes: bytes.into(),
                size,
                form,
                truncated: false,
                digest: None,
            };
        }
        let text = text_of(bytes).filter(|_| form != DataForm::Base64);
        Data {
            bytes: bytes[..text.map_or(max_bytes, |text| text.floor_char_boundary(max_bytes))].into(),
            size,
            form: if text.is_some() { form } else { DataForm::Base64 },
            truncated: true,
            digest: Some(Sha256::digest(bytes).into()),
        }
    }

    /// A digest in place of data of this size.
    pub(super) fn masked(digest: String, size: u32) -> Data {
        Data {
            bytes: digest.into_bytes().into(),
            size,
            form: DataForm::Masked,
            truncated: false,
            digest: None,
        }
    }

    /// Whether the bytes are a digest in place of the data.
    pub fn is_masked(&self) -> bool {
        self.form == DataForm::Masked
    }

    /// At most `max_bytes` from its beginning, written as the whole is.
    pub(crate) fn cut(&self, max_bytes: usize) -> Data {
        if self.is_masked() {
            let kept = max_bytes.min(self.bytes.len());
            return Data {
                bytes: self.bytes[..kept].into(),
                truncated: self.truncated || kept < self.bytes.len(),
                ..self.clone()
            };
        }
        let mut cut = Data::limited(&self.bytes, self.form, max_bytes);
        if self.truncated {
            (cut.size, cut.truncated, cut.digest) = (self.size, true, self.digest);
        }
        cut
    }

    /// The data as text; `None` if it is written in base64 unless the source asks for JSON.
    pub fn text(&self) -> Option<&str> {
        text_of(&self.bytes).filter(|_| self.form != DataForm::Base64)
    }

    /// The data in the form in which it is written.
    pub fn value(&self) -> DataValue<'_> {
        if let Some(document) = self.json() {
            return DataValue::Json(document);
        }
        match self.text() {
            Some(text) => DataValue::Text(text),
            None => DataValue::Base64(STANDARD.encode(&self.bytes)),
        }
    }

    /// Why the data is not written as JSON; `None` if it is, if there is no data, or a mask is in its place. The reason
    /// holds no part of the data.
    pub fn why_not_json(&self) -> Option<String> {
        if self.size == 0 || self.is_masked() {
            return None;
        }
        if self.truncated {
            return Some(format!(
                "it is cut to {} of {} bytes",
                self.bytes.len(),
                self.size
            ));
        }
        if self.form != DataForm::Json {
            return Some("its source does not have data = \"json\"".to_owned());
        }
        let parsed = serde_json::from_slice::<CheckedJson<true>>(&self.bytes);
        parsed.err().map(|error| error.to_string())
    }

    fn json(&self) -> Option<Box<RawValue>> {
        if self.form != DataForm::Json || self.truncated {
            return None;
        }
        json_document(&self.bytes)
    }
}

/// Data in the form in which it is written.
#[derive(Debug)]
pub enum DataValue<'a> {
    /// The document itself, on one line.
    Json(Box<RawValue>),
    /// Text.
    Text(&'a str),
    /// Bytes as base64.
    Base64(String),
}

/// Many programs, PostgreSQL among them, take no text with such characters, and bytes that hold them are numbers more
/// often than text.
fn text_of(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    // Nearly all values are ASCII, and bytes are compared many at once. Beyond ASCII there are 32 more (U+0080 to U+009F).
    let is_control = |letter: char| letter.is_control() && !matches!(letter, '\t' | '\n' | '\r');
    let has_control = match text.is_ascii() {
        true => bytes
            .iter()
            .fold(false, |has, byte| has | is_ascii_control(*byte)),
        false => text.contains(is_control),
    };
    (!has_control).then_some(text)
}

fn is_ascii_control(byte: u8) -> bool {
    let is_white = (byte == b'\t') | (byte == b'\n') | (byte == b'\r');
    (byte == 0x7f) | ((byte < b' ') & !is_white)
}

/// The document on one line, with each number and text as it is written there; `None` if the bytes are no JSON, a key is
/// repeated, or the parser of a reader may refuse it and with it the whole record: a number that no 64-bit float holds
/// (`1e400`), a half of a surrogate pair (`"\ud800"`), a NUL (`"\u0000"`), which PostgreSQL refuses.
fn json_document(bytes: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice::<CheckedJson<true>>(bytes).ok()?;
    let text = std::str::from_utf8(bytes).ok()?;
    let mut line = String::with_capacity(text.len());
    let (mut is_quoted, mut is_escaped) = (false, false);
    for letter in text.chars() {
        // JSON has white space between its elements only.
        if is_quoted || !matches!(letter, ' ' | '\t' | '\n' | '\r') {
            line.push(letter);
        }
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
    }
    RawValue::from_string(line).ok()
}

/// How keys begin by which the JSON library marks what it hands to itself: it takes an object with such a key for
/// another document, the one that the value has as its text.
const LIBRARY_KEYS: &str = "$serde_json::private::";

/// A JSON document without a key of [`LIBRARY_KEYS`]; if strict, also without a repeated key and a NUL.
struct CheckedJson<const IS_STRICT: bool>;

/// The document in a text, with every key as it is.
///
/// # Errors
/// If the text is no JSON, or has a key that only the JSON library itself uses.
pub(crate) fn parsed_json(text: &str) -> serde_json::Result<serde_json::Value> {
    serde_json::from_str::<CheckedJson<false>>(text)?;
    serde_json::from_str(text)
}

impl<'de, const IS_STRICT: bool> Deserialize<'de> for CheckedJson<IS_STRICT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CheckedJson)
    }
}

impl<'de, const IS_STRICT: bool> Visitor<'de> for CheckedJson<IS_STRICT> {
    type Value = CheckedJson<IS_STRICT>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON document without repeated keys")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self, E> {
        match IS_STRICT && text.contains('\0') {
            true => Err(E::custom("a text with a NUL")),
            false => Ok(self),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, CheckedJson)) = map.next_entry::<String, Self>()? {
            if key.starts_with(LIBRARY_KEYS) {
                return Err(A::Error::custom("a key of the JSON library"));
            }
            if IS_STRICT && key.contains('\0') {
                return Err(A::Error::custom("a key with a NUL"));
            }
            if IS_STRICT && !keys.insert(key) {
                return Err(A::Error::custom("a repeated key"));
            }
        }
        Ok(self)
    }
}

/// The digest as text.
pub(super) fn hex(digest: &DataDigest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of a text; `None` if it is none.
pub(super) fn digest_of_hex(text: &str) -> Option<DataDigest> {
    let mut digest = DataDigest::default();
    if !text.is_ascii() || text.len() != 2 * digest.len() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let marks = [self.truncated, self.digest.is_some(), self.is_masked()];
        let fields = 3 + marks.into_iter().filter(|is_there| *is_there).count();
        let mut object = serializer.serialize_struct("Data", fields)?;
        let (encoding, value) = match self.value() {
            DataValue::Json(value) => {
                object.serialize_field("encoding", "json")?;
                object.serialize_field("size", &self.size)?;
                object.serialize_field("value", &value)?;
                return object.end();
            }
            DataValue::Text(text) => ("utf8", Cow::Borrowed(text)),
            DataValue::Base64(text) => ("base64", Cow::Owned(text)),
        };
        object.serialize_field("encoding", encoding)?;
        object.serialize_field("size", &self.size)?;
        object.serialize_field("value", &value)?;
        if self.truncated {
            object.serialize_field("truncated", &true)?;
        }
        if let Some(digest) = &self.digest {
            object.serialize_field("sha256", &hex(digest))?;
        }
        if self.is_masked() {
            object.serialize_field("masked", &true)?;
        }
        object.end()
    }
}

#[derive(Deserialize)]
struct DataFields {
    encoding: String,
    size: u32,
    value: Box<RawValue>,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    masked: bool,
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let DataFields {
            encoding,
            size,
            value,
            truncated,
            sha256,
            masked,
        } = DataFields::deserialize(deserializer)?;
        let text = || serde_json::from_str::<String>(value.get()).map_err(D::Error::custom);
        let digest =
            sha256.map(|text| digest_of_hex(&text).ok_or_else(|| D::Error::custom("sha256 is no digest")));
        let (bytes, form) = match encoding.as_str() {
            "utf8" if masked => (text()?.into_bytes(), DataForm::Masked),
            "utf8" => (text()?.into_bytes(), DataForm::Auto),
            "base64" => (
                STANDARD.decode(text()?).map_err(D::Error::custom)?,
                DataForm::Base64,
            ),
            "json" => (value.get().as_bytes().to_vec(), DataForm::Json),
            other => return Err(D::Error::custom(format!("'{other}' is not utf8, base64 or json"))),
        };
        Ok(Data {
            bytes: bytes.into(),
            size,
            form,
            truncated,
            digest: digest.transpose()?,
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
                    "description": "utf8 where all bytes are valid UTF-8 without control characters other than tab, LF and CR; json only where the source asks for it."
                },
                "size": {"type": "integer", "minimum": 0, "description": "Bytes in ZooKeeper."},
                "value": {"description": "A text for utf8 and base64, any JSON value for json."},
                "truncated": {"const": true, "description": "There where a limit cut the value."},
                "sha256": {
                    "type": "string",
                    "pattern": "^[0-9a-f]{64}$",
                    "description": "Of all bytes in ZooKeeper, where a limit cut the value."
                },
                "masked": {
                    "const": true,
                    "description": "There where value is a keyed digest in place of the data: hmac-sha256, the name of the key and the digest, with colons between."
                }
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
    fn bytes_with_control_characters_are_base64_so_that_no_counter_flips_between_encodings() {
        for counter in 126_i32..=256 {
            assert_eq!(
                written(&counter.to_be_bytes(), DataForm::Auto, 9)["encoding"],
                "base64",
                "{counter}"
            );
        }
        for bytes in [&b"host\0port"[..], b"\x1b[31m", b"a\x7f", "a\u{9b}".as_bytes()] {
            assert_eq!(
                written(bytes, DataForm::Auto, 99)["encoding"],
                "base64",
                "{bytes:?}"
            );
        }
        for letter in '\0'..='\u{ff}' {
            let is_text = !letter.is_control() || matches!(letter, '\t' | '\n' | '\r');
            for text in [
                format!("{letter}"),
                format!("long enough for many at once {letter}"),
            ] {
                assert_eq!(text_of(text.as_bytes()).is_some(), is_text, "{text:?}");
            }
        }
        let lines = "a\tb\r\nü";
        assert_eq!(written(lines.as_bytes(), DataForm::Auto, 99)["value"], lines);
    }

    #[test]
    fn a_limit_cuts_between_characters_and_leaves_the_digest_of_the_whole() {
        let cut = written("aüb".as_bytes(), DataForm::Auto, 2);
        let sha256 = hex(&Sha256::digest("aüb").into());
        assert_eq!(
            cut,
            serde_json::json!({"encoding": "utf8", "size": 4, "value": "a", "truncated": true, "sha256": sha256})
        );
        let whole = Data::limited("aüb".as_bytes(), DataForm::Auto, 9);
        let twice = whole.cut(3).cut(2);
        assert_eq!(
            serde_json::to_value(&twice).unwrap(),
            cut,
            "cut again it is still that of the whole"
        );
        assert_eq!(serde_json::from_value::<Data>(cut).unwrap(), twice);
        let other = Data::limited("aüc".as_bytes(), DataForm::Auto, 2);
        assert_ne!(other, twice, "values that differ after the cut are not equal");
    }

    #[test]
    fn bytes_that_are_no_text_stay_base64_where_they_are_cut() {
        let cut = written(b"text and then \0", DataForm::Auto, 4);
        assert_eq!(
            (&cut["encoding"], &cut["value"]),
            (&"base64".into(), &"dGV4dA==".into())
        );
    }

    #[test]
    fn json_keeps_the_text_of_every_number_and_is_written_on_one_line() {
        let check = |bytes: &str, expected: &str| {
            let json = serde_json::to_string(&Data::limited(bytes.as_bytes(), DataForm::Json, 99)).unwrap();
            let size = bytes.len();
            assert_eq!(
                json,
                format!("{{\"encoding\":\"json\",\"size\":{size},\"value\":{expected}}}")
            );
            let again: Data = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), json);
        };
        check(
            "{\n  \"n\": 1.10,\t\"m\": [1.0e2, -0]\r\n}",
            r#"{"n":1.10,"m":[1.0e2,-0]}"#,
        );
        check("12345678901234567890123", "12345678901234567890123");
        check("0.1234567890123456789012345", "0.1234567890123456789012345");
        check(
            r#"{"b": [1, -2.5, "1e400 \" \\ "], "a": null}"#,
            r#"{"b":[1,-2.5,"1e400 \" \\ "],"a":null}"#,
        );
        check("true", "true");
    }

    #[test]
    fn json_that_readers_may_refuse_stays_text_and_every_record_is_read_again() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        for (text, encoding) in [
            (r#"{"n":1e400}"#, "utf8"),
            (r#"{"n":-1E+999}"#, "utf8"),
            (r#"{"n":1e308}"#, "json"),
            (r#"{"n":1e-400}"#, "json"),
            (r#"{"a":"\u0000"}"#, "utf8"),
            (r#"{"\u0000":1}"#, "utf8"),
            (r#"{"$serde_json::private::RawValue":"{\"w\":666}"}"#, "utf8"),
            (r#"[{"\u0024serde_json::private::RawValue":"1 2"}]"#, "utf8"),
            (r#""\ud800""#, "utf8"),
            (r#"{"\udc00":1}"#, "utf8"),
            (r#"["\ud800\u0041"]"#, "utf8"),
            (r#""\ud83d\ude00""#, "json"),
            (&nested(127), "json"),
            (&nested(128), "utf8"),
        ] {
            let data = Data::limited(text.as_bytes(), DataForm::Json, 9_999);
            let json = serde_json::to_string(&data).unwrap();
            assert_eq!(
                written(text.as_bytes(), DataForm::Json, 9_999)["encoding"],
                encoding,
                "{text}"
            );
            assert_eq!(data.why_not_json().is_none(), encoding == "json", "{text}");
            let again: Data = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), json, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_json_or_repeat_a_key_are_text() {
        for text in [
            "{\"a\":1,\"a\":1}",
            "[{\"a\":null,\"b\":{},\"\\u0061\":null}]",
            "no",
            "1 2",
            "{\"a\":1}}",
        ] {
            assert_eq!(
                written(text.as_bytes(), DataForm::Json, 99)["encoding"],
                "utf8",
                "{text}"
            );
        }
    }
}
