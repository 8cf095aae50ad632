//! An answer as bytes, with what caches and clients need to know about it.

use std::hash::{DefaultHasher, Hasher};
use std::io::Write;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::problem::Problem;

/// A smaller answer is sent as it is.
const GZIP_BYTES_MIN: usize = 1 << 10;

/// An answer that is complete.
#[derive(Debug)]
pub(super) struct Document {
    body: Vec<u8>,
    form: BodyForm,
    /// Items, for the audit line.
    rows: usize,
    headers: Vec<DocumentHeader>,
}

/// A header of its own of a document.
#[derive(Clone, Debug)]
pub(super) struct DocumentHeader {
    name: HeaderName,
    value: String,
}

impl DocumentHeader {
    /// A value beyond visible ASCII is left out.
    pub(super) fn new(name: &'static str, value: &str) -> DocumentHeader {
        DocumentHeader {
            name: HeaderName::from_static(name),
            value: value.to_owned(),
        }
    }
}

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyForm {
    Json,
    /// The bytes of a value, which no browser may interpret.
    Octets,
}

/// The number of items of an answer, for the audit line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows(pub(super) usize);

impl Document {
    /// A document.
    pub(super) fn json(document: &impl Serialize) -> Result<Document, Problem> {
        Document::list(document, 1)
    }

    /// A document with this number of items.
    pub(super) fn list(document: &impl Serialize, rows: usize) -> Result<Document, Problem> {
        let mut body = serde_json::to_vec(document).map_err(Problem::failed)?;
        body.push(b'\n');
        Ok(Document {
            body,
            form: BodyForm::Json,
            rows,
            headers: Vec::new(),
        })
    }

    /// A text that is JSON already.
    pub(super) fn of_json_text(text: String) -> Document {
        Document {
            body: text.into_bytes(),
            form: BodyForm::Json,
            rows: 1,
            headers: Vec::new(),
        }
    }

    /// The bytes of a value, with headers that say more of it.
    pub(super) fn octets(bytes: &[u8], headers: Vec<DocumentHeader>) -> Document {
        Document {
            body: bytes.to_vec(),
            form: BodyForm::Octets,
            rows: 1,
            headers,
        }
    }

    /// The response to a request with these headers.
    pub(super) fn respond(self, request: &HeaderMap) -> Response {
        let tag = self.tag();
        let is_known = request
            .get(header::IF_NONE_MATCH)
            .and_then(|known| known.to_str().ok())
            .is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
        let rows = Rows(self.rows);
        let own = self.headers.clone();
        let mut response = match is_known {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => self.body(request),
        };
        let headers = response.headers_mut();
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        for DocumentHeader { name, value } in own {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(name, value);
            }
        }
        response.extensions_mut().insert(rows);
        response
    }

    /// A tag of the body and of its own headers: equal for equal answers, and of no use to a caller who sees other ones.
    fn tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.body);
        for header in &self.headers {
            hasher.write(header.value.as_bytes());
        }
        format!("W/\"{:016x}\"", hasher.finish())
    }

    fn body(self, request: &HeaderMap) -> Response {
        let accepted = request.get(header::ACCEPT_ENCODING);
        let accepted = accepted.and_then(|accepted| accepted.to_str().ok());
        let takes_gzip = accepted.is_some_and(|accepted| {
            accepted
                .split(',')
                .any(|one| matches!(one.trim(), "gzip" | "gzip;q=1" | "gzip;q=1.0"))
        });
        let zipped = match takes_gzip && self.body.len() >= GZIP_BYTES_MIN {
            true => gzip(&self.body),
            false => None,
        };
        let is_zipped = zipped.is_some();
        let mut response = zipped.unwrap_or(self.body).into_response();
        let headers = response.headers_mut();
        if is_zipped {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        match self.form {
            BodyForm::Json => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            BodyForm::Octets => {
                headers.insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/octet-stream"),
                );
                headers.insert(
                    header::CONTENT_DISPOSITION,
                    HeaderValue::from_static("attachment; filename=\"value\""),
                );
            }
        }
        response
    }
}

/// `None` only if memory refuses, which a vector never does.
fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}
