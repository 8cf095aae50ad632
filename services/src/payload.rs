//! Payloads of registrations, within bounds. Nothing here shows a byte of a payload in a reason.

use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::Value;

/// ZooKeeper's own limit of a znode, by default.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// A compressed payload may not grow beyond this: registrations have kilobytes.
const INFLATED_BYTES_MAX: u64 = 4 << 20;

/// The first bytes of a gzip stream.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Reads JSON. The parser bounds the depth, and the last of two equal keys counts.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, String> {
    if bytes.len() > PAYLOAD_BYTES_MAX.max(usize::try_from(INFLATED_BYTES_MAX).unwrap_or(usize::MAX)) {
        return Err(format!("it has {} bytes", bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Eof => {
                format!("JSON that ends too early, at line {line}, column {column}")
            }
            _ => format!("no JSON, at line {line}, column {column}"),
        }
    })
}

/// A JSON object.
pub(crate) fn object(bytes: &[u8]) -> Result<Value, String> {
    let value = json(bytes)?;
    match value.is_object() {
        true => Ok(value),
        false => Err("JSON that is no object".to_owned()),
    }
}

/// Text in UTF-8.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "bytes that are no text".to_owned())
}

/// The content of a gzip stream.
pub(crate) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut inflated = Vec::new();
    GzDecoder::new(bytes)
        .take(INFLATED_BYTES_MAX + 1)
        .read_to_end(&mut inflated)
        .map_err(|_| "a damaged gzip stream".to_owned())?;
    match inflated.len() as u64 > INFLATED_BYTES_MAX {
        true => Err(format!("a gzip stream of more than {INFLATED_BYTES_MAX} bytes")),
        false => Ok(inflated),
    }
}

/// The bytes, or the content of a gzip stream.
pub(crate) fn perhaps_gzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    match bytes.starts_with(&GZIP) {
        true => gunzip(bytes),
        false => Ok(bytes.to_vec()),
    }
}

/// Digits that a number holds exactly.
const DIGITS_MAX: usize = 15;

/// A text of decimal digits as a number, any other as it is: `"10"` and `10` are equal. `"007"` stays a text.
pub(crate) fn number_or_text(text: &str) -> Value {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty()
        && digits.len() <= DIGITS_MAX
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    match text.parse::<i64>() {
        Ok(number) if is_number && text != "-0" => number.into(),
        _ => text.into(),
    }
}

/// The value with texts of digits as numbers.
pub(crate) fn normal(value: &Value) -> Value {
    match value {
        Value::String(text) => number_or_text(text),
        other => other.clone(),
    }
}

/// A scalar as text; `None` for null, arrays and objects.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The text of a member; `None` if it is absent, null or empty.
pub(crate) fn text_of(value: &Value, key: &str) -> Option<String> {
    scalar_text(value.get(key)?).filter(|text| !text.is_empty())
}

/// The port of a member, as a number or as digits; `None` if it is absent or none that can be connected to.
pub(crate) fn port_of(value: &Value, key: &str) -> Option<u16> {
    port(&scalar_text(value.get(key)?)?)
}

/// A port from its digits.
pub(crate) fn port(digits: &str) -> Option<u16> {
    digits.parse().ok().filter(|port| *port > 0)
}

/// `host:port`, also `[::1]:80`; the port may be absent.
pub(crate) fn host_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => match text.rfind(':') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        },
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some(digits) => Some(port(digits)?),
        None => return None,
    };
    let is_host = !host.is_empty() && !host.contains(['/', ' ', '\n', '@']);
    is_host.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn digits_become_numbers_where_nothing_is_lost() {
        for (text, expected) in [
            ("10", Value::from(10)),
            ("-3", Value::from(-3)),
            ("0", Value::from(0)),
            ("007", Value::from("007")),
            ("-0", Value::from("-0")),
            ("1.10", Value::from("1.10")),
            ("", Value::from("")),
            ("12345678901234567890", Value::from("12345678901234567890")),
        ] {
            assert_eq!(number_or_text(text), expected, "{text}");
        }
    }

    #[test]
    fn a_compressed_bomb_and_deep_json_are_refused_within_their_bounds() {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..64 {
            bomb.write_all(&vec![0; 1 << 20]).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        assert!(gunzip(&bomb).unwrap_err().contains("more than"));
        assert!(json("[".repeat(100_000).as_bytes()).is_err());
        assert!(perhaps_gzip(&[0x1f, 0x8b, 9]).is_err());
    }

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        assert_eq!(host_port("h:80"), Some(("h".to_owned(), Some(80))));
        assert_eq!(host_port("[::1]:80"), Some(("::1".to_owned(), Some(80))));
        assert_eq!(host_port("h"), Some(("h".to_owned(), None)));
        for wrong in [
            "", ":80", "h:0", "h:99999", "h:x", "a/b:1", "[::1", "[::1]x", "u:p@h:1",
        ] {
            assert_eq!(host_port(wrong), None, "{wrong}");
        }
    }
}
