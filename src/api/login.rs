//! The session of a browser: a cookie that no script reads.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{Access, Caller, SESSION_MAX};
use super::document::Document;
use super::problem::Problem;

/// The name of the cookie. With the prefix `__Host-` a browser takes it over TLS only, and from no other host.
const COOKIE: &str = "zkbridge-session";
const TLS_COOKIE: &str = "__Host-zkbridge-session";

/// Cookies of these names that are looked at. A browser sends one; another page of the host may have put more before it.
const SESSIONS_TRIED_MAX: usize = 4;

/// The largest login: a token, with room.
const BODY_BYTES_MAX: usize = 4 << 10;

/// Says nothing of the body, which may hold a secret.
const BODY_REASON: &str =
    "the body is no login\nhelp: send {\"code\": \"…\"} or {\"token\": \"…\"} as JSON, with one of the two";

/// The caller of a session.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct SessionAnswer {
    /// The name of its token, or `operator` after a one-time code.
    caller: String,
    /// Whether it may see some znodes only, or no values.
    restricted: bool,
}

/// A login: exactly one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    code: Option<String>,
    token: Option<String>,
}

/// The ids in the cookies of a request: first those that no other host can have set.
pub(super) fn sessions_of(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let of_name = |wanted: &'static str| {
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookies = cookies.filter_map(|cookies| cookies.to_str().ok());
        cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter_map(move |(name, value)| (name == wanted).then_some(value))
    };
    of_name(TLS_COOKIE)
        .chain(of_name(COOKIE))
        .take(SESSIONS_TRIED_MAX)
}

/// Names the caller.
pub(super) fn show(request: &Request) -> Response {
    let shown = Caller::of(request.extensions()).and_then(|caller| {
        Document::json(&SessionAnswer {
            caller: caller.name().to_owned(),
            restricted: caller.is_restricted(),
        })
    });
    match shown {
        Ok(document) => document.respond(request.headers()),
        Err(problem) => problem.into_response(),
    }
}

/// Opens a session.
pub(super) async fn open(access: &Access, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let opened = match to_bytes(body, BODY_BYTES_MAX).await {
        Ok(body) => match serde_json::from_slice::<Login>(&body) {
            Ok(login) if login.code.is_some() != login.token.is_some() => {
                access.log_in(login.code.as_deref(), login.token.as_deref())
            }
            _ => Err(Problem::bad_parameter("body", BODY_REASON)),
        },
        Err(_) => Err(Problem::body_too_large(BODY_BYTES_MAX)),
    };
    match opened {
        Ok(id) => with_cookie(&cookie(&id, &head.headers)),
        Err(problem) => problem.into_response(),
    }
}

/// Closes the caller's session.
pub(super) fn close(access: &Access, request: &Request) -> Response {
    if let Ok(caller) = Caller::of(request.extensions()) {
        access.log_out(&caller);
    }
    with_cookie(&format!(
        "{COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict"
    ))
}

fn with_cookie(cookie: &str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// A proxy that ends TLS says so.
fn cookie(id: &Arc<str>, headers: &HeaderMap) -> String {
    let is_tls = headers
        .get("x-forwarded-proto")
        .is_some_and(|scheme| scheme == "https");
    let (name, secure) = match is_tls {
        true => (TLS_COOKIE, "; Secure"),
        false => (COOKIE, ""),
    };
    format!(
        "{name}={id}; Max-Age={}; Path=/; HttpOnly; SameSite=Strict{secure}",
        SESSION_MAX.as_secs()
    )
}
