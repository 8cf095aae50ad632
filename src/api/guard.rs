//! The guard around all routes: the host, the credential and the origin of a request, the headers of every answer, and
//! the audit line.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::BASE;
use super::access::{Access, Caller};
use super::document::Rows;
use super::login::sessions_of;
use super::problem::Problem;
use crate::bridge::{Peer, is_own_host};

/// The only route that changes something; a caller without a credential may `POST` to it.
const LOGIN: &str = "/session";

/// Lets a request through, or answers it with a problem. Every answer may be kept by nobody.
pub(super) async fn guard(State(access): State<Access>, mut request: Request<Body>, next: Next) -> Response {
    let audit = Audit::of(&request);
    let mut response = match check(&access, &request) {
        Ok(caller) => {
            let name = caller.as_ref().map(|caller| caller.name().to_owned());
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let response = next.run(request).await;
            audit.log(name.as_deref().unwrap_or("-"), &response);
            response
        }
        Err(problem) => {
            // Anybody can make these: they are no lines of the log unless it is asked for.
            let response = problem.into_response();
            audit.log_refusal(&response);
            response
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    response
}

/// The caller of a request; `None` for a login.
fn check(access: &Access, request: &Request<Body>) -> Result<Option<Caller>, Problem> {
    let headers = request.headers();
    // A page of another name cannot send this header, so that only requests without it depend on the name.
    let token = bearer(headers);
    if token.is_none() && !is_own_host(request, access.hosts()) {
        return Err(Problem::wrong_host());
    }
    // No other route changes anything: there a method that is none of GET is answered as such.
    let is_login = request.uri().path() == format!("{BASE}{LOGIN}");
    let changes = matches!(*request.method(), Method::POST | Method::DELETE);
    if is_login && changes && !is_of_own_page(request) {
        return Err(Problem::wrong_origin());
    }
    if is_login && request.method() == Method::POST {
        return Ok(None);
    }
    let caller = match token {
        Some(token) => access.by_token(token),
        None => sessions_of(headers).find_map(|session| access.by_session(session)),
    };
    caller.map(Some).ok_or_else(Problem::unauthorized)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok();
    // A header that is no bearer token is a wrong one, and not a missing one.
    Some(
        given
            .and_then(|given| given.strip_prefix("Bearer "))
            .unwrap_or_default(),
    )
}

/// Whether a request that changes something comes from our page, or from no page.
fn is_of_own_page(request: &Request<Body>) -> bool {
    let headers = request.headers();
    let is_own = headers
        .get("sec-fetch-site")
        .is_none_or(|site| site == "same-origin" || site == "none");
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_json = kind.split(';').next().unwrap_or_default().trim() == "application/json";
    is_own && (is_json || request.method() == Method::DELETE)
}

/// The question of a request, for the log.
struct Audit {
    peer: Option<SocketAddr>,
    method: Method,
    route: String,
    query: String,
}

/// More of a query is not logged: a path of a znode, and a moment.
const QUERY_CHARS_MAX: usize = 500;

impl Audit {
    fn of(request: &Request<Body>) -> Audit {
        Audit {
            peer: request.extensions().get::<Peer>().map(|peer| peer.0),
            method: request.method().clone(),
            route: request.uri().path().chars().take(QUERY_CHARS_MAX).collect(),
            // Texts that are looked for may be parts of values.
            query: form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
                .filter(|(name, _)| name != "text" && name != "cursor")
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
                .chars()
                .take(QUERY_CHARS_MAX)
                .collect(),
        }
    }

    fn log_refusal(&self, response: &Response) {
        tracing::debug!(
            peer = self.peer.map(|peer| peer.to_string()),
            method = %self.method,
            route = self.route,
            status = response.status().as_u16(),
            "API request refused"
        );
    }

    fn log(&self, caller: &str, response: &Response) {
        let rows = response.extensions().get::<Rows>().map_or(0, |rows| rows.0);
        tracing::info!(
            caller,
            peer = self.peer.map(|peer| peer.to_string()),
            method = %self.method,
            route = self.route,
            query = self.query,
            status = response.status().as_u16(),
            rows,
            "API request"
        );
    }
}
