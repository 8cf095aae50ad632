//! The bytes of a value as an attachment. The body cannot say how certain it is, so headers do.

use bridge_core::record::Data;
use bridge_query::AsOfValue;
use serde_json::{Value, json};

use super::document::{Document, DocumentHeader};

/// Doubts that are listed; `certainty` is the worst of all.
const DOUBTS_MAX: usize = 8;

/// Bytes of a doubt, which may hold a path.
const DOUBT_BYTES_MAX: usize = 512;

/// A header of the answer.
struct RawHeader {
    name: &'static str,
    about: &'static str,
    kind: &'static str,
}

const fn header(name: &'static str, about: &'static str, kind: &'static str) -> RawHeader {
    RawHeader { name, about, kind }
}

const CERTAINTY: RawHeader = header(
    "zkbridge-certainty",
    "With raw=1: the worst of the doubts, as in the document; `exact` if nothing is open.",
    "string",
);
const DOUBT: RawHeader = header(
    "zkbridge-doubt",
    "With raw=1: a doubt in a sentence, once for each of the first 8; characters beyond ASCII as \\u{…}.",
    "string",
);
const SIZE: RawHeader = header(
    "zkbridge-size",
    "With raw=1: the bytes of the value in ZooKeeper; more than the body has if only the beginning is kept.",
    "integer",
);
const MASKED: RawHeader = header(
    "zkbridge-masked",
    "With raw=1: `true` if the body is a digest in the place of the value.",
    "string",
);
const SEQ: RawHeader = header(
    "zkbridge-seq",
    "With raw=1: the record with the value, unless it comes from the image or from the time before the journal.",
    "integer",
);
const MZXID: RawHeader = header(
    "zkbridge-mzxid",
    "With raw=1: the zxid that wrote the value, if it is known.",
    "string",
);

const HEADERS: [&RawHeader; 6] = [&CERTAINTY, &DOUBT, &SIZE, &MASKED, &SEQ, &MZXID];

/// The bytes of a value.
pub(super) fn document(value: &AsOfValue, data: &Data) -> Document {
    let mut headers = vec![
        DocumentHeader::new(CERTAINTY.name, &word(&value.certainty)),
        DocumentHeader::new(SIZE.name, &data.size.to_string()),
    ];
    if data.is_masked() {
        headers.push(DocumentHeader::new(MASKED.name, "true"));
    }
    if let Some(seq) = value.seq {
        headers.push(DocumentHeader::new(SEQ.name, &seq.to_string()));
    }
    if let Some(stat) = value.stat {
        headers.push(DocumentHeader::new(MZXID.name, &stat.mzxid.to_string()));
    }
    for doubt in value.doubts.iter().take(DOUBTS_MAX) {
        headers.push(DocumentHeader::new(DOUBT.name, &in_ascii(&doubt.to_string())));
    }
    Document::octets(&data.bytes, headers)
}

/// The headers for the description of the API.
pub(super) fn described() -> Value {
    let headers = HEADERS.iter().map(|header| {
        let described = json!({
            "description": header.about,
            "schema": {"type": header.kind},
        });
        (header.name.to_owned(), described)
    });
    Value::Object(headers.collect())
}

fn word(certainty: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(certainty).expect("a word is JSON");
    json.trim_matches('"').to_owned()
}

/// A header takes visible ASCII alone.
fn in_ascii(text: &str) -> String {
    let mut ascii = String::new();
    for letter in text.chars() {
        match letter {
            ' '..='~' => ascii.push(letter),
            _ => ascii.extend(letter.escape_unicode()),
        }
        if ascii.len() > DOUBT_BYTES_MAX {
            ascii.truncate(DOUBT_BYTES_MAX);
            break;
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_in_a_header_is_visible_ascii_and_bounded() {
        assert_eq!(in_ascii("/a b~ is open"), "/a b~ is open");
        assert_eq!(in_ascii("/é\n"), "/\\u{e9}\\u{a}");
        let long = in_ascii(&"é".repeat(DOUBT_BYTES_MAX));
        assert!(long.len() == DOUBT_BYTES_MAX && long.is_ascii());
    }
}
