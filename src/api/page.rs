//! The files of the page under `/ui/`, built from `web/` and embedded in the program.
//!
//! Invariants:
//!
//! * The files hold no data, so they need no credential; everything that the page shows comes from the API.
//! * The policy lets a browser run the page's own script and style alone, and connect to this server alone.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::io::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::access::Access;
use super::problem::Problem;
use crate::bridge::is_own_host;

/// The only sources of anything on the page; a text never becomes a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'";

/// One file, plain and compressed.
struct File {
    path: &'static str,
    kind: &'static str,
    plain: &'static [u8],
    zipped: Bytes,
    tag: HeaderValue,
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    vec![
        File::new(
            "/ui/",
            "text/html; charset=utf-8",
            include_bytes!("../../web/dist/index.html"),
        ),
        File::new(
            "/ui/page.js",
            "text/javascript; charset=utf-8",
            include_bytes!("../../web/dist/page.js"),
        ),
        File::new(
            "/ui/page.css",
            "text/css; charset=utf-8",
            include_bytes!("../../web/dist/page.css"),
        ),
    ]
});

impl File {
    fn new(path: &'static str, kind: &'static str, plain: &'static [u8]) -> File {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // A vector takes every byte.
        let zipped = match encoder.write_all(plain).and_then(|()| encoder.finish()) {
            Ok(zipped) => Bytes::from(zipped),
            Err(_) => Bytes::new(),
        };
        let mut hasher = DefaultHasher::new();
        hasher.write(plain);
        let tag = format!("W/\"{:016x}\"", hasher.finish());
        File {
            path,
            kind,
            plain,
            zipped,
            tag: HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("W/\"page\"")),
        }
    }

    fn respond(&self, request: &HeaderMap) -> Response {
        let text = |name| {
            request
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
                .unwrap_or_default()
        };
        let is_known = text(header::IF_NONE_MATCH)
            .split(',')
            .any(|known| known.trim().as_bytes() == self.tag.as_bytes());
        let takes_gzip = text(header::ACCEPT_ENCODING)
            .split(',')
            .any(|one| matches!(one.trim(), "gzip" | "gzip;q=1" | "gzip;q=1.0"));
        let mut response = match (is_known, takes_gzip && !self.zipped.is_empty()) {
            (true, _) => StatusCode::NOT_MODIFIED.into_response(),
            (false, true) => {
                let mut response = Response::new(Body::from(self.zipped.clone()));
                let gzip = HeaderValue::from_static("gzip");
                response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
                response
            }
            (false, false) => Response::new(Body::from(self.plain)),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::ETAG, self.tag.clone());
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        // A browser asks each time, so that a new version of the program is a new page at once.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// The routes of the page.
pub(super) fn router(access: &Access) -> Router {
    let mut router = Router::new()
        .route("/", get(async || Redirect::temporary("/ui/")))
        .route("/ui", get(async || Redirect::permanent("/ui/")));
    for file in FILES.iter() {
        let access = access.clone();
        let answer = async move |request: Request| match is_own_host(&request, access.hosts()) {
            true => file.respond(request.headers()),
            false => Problem::wrong_host().into_response(),
        };
        router = router.route(file.path, get(answer));
    }
    router.layer(axum::middleware::map_response(with_policy))
}

async fn with_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for name in ["cross-origin-resource-policy", "cross-origin-opener-policy"] {
        headers.insert(name, HeaderValue::from_static("same-origin"));
    }
    response
}

/// Bytes of all files, compressed: the size of the page on the network.
#[cfg(test)]
pub(super) fn zipped_bytes() -> usize {
    FILES.iter().map(|file| file.zipped.len()).sum()
}
