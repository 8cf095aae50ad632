//! `/metrics`, `/healthz`, `/readyz` and `/status`, which serve no znode data, and beside them the [API](crate::api),
//! which has a guard of its own.
//!
//! `/healthz` and `/readyz` need no token, so they name sources and nothing else: an error's text can repeat the value
//! of an option. Without a token, `/metrics` and `/status` answer only requests to an address, localhost or a
//! configured name, so that a web page whose name resolves to this address (DNS rebinding) is refused by the `Host`
//! header.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::metrics::gauge;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bridge_config::{HttpConfig, Listen};
use bridge_core::metrics::{self, DURATION_BUCKETS, LATENCY_BUCKETS};
use bridge_core::secret::Secret;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use super::listener::{self, CLOSE_BOUND, Limits};
use super::listening_process::listening_process;
use super::{View, descriptors, environment};
use crate::api::Api;
use crate::exit::{Exit, Failure};
use crate::version;

/// How often the exporter drains the samples of histograms.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// Answers are made from memory; a slower one waits for a processor.
const ANSWER_BOUND: Duration = Duration::from_secs(30);

/// There is one recorder in a process.
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder, once.
pub(super) fn install_metrics() -> Result<PrometheusHandle, Failure> {
    if let Some(handle) = METRICS.get() {
        return Ok(handle.clone());
    }
    let failure = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Runtime, format!("metrics cannot be kept: {error}"))
    };
    let handle = PrometheusBuilder::new()
        .set_buckets(&DURATION_BUCKETS)
        .and_then(|builder| {
            let latency = Matcher::Full(metrics::SINK_DELIVERY_LATENCY.into());
            builder.set_buckets_for_metric(latency, &LATENCY_BUCKETS)
        })
        .map_err(|error| failure(&error))?
        .install_recorder()
        .map_err(|error| failure(&error))?;
    metrics::describe();
    gauge!(metrics::BUILD_INFO, "version" => version::VERSION).set(1.0);
    Collector::default().describe();
    Ok(METRICS.get_or_init(|| handle).clone())
}

/// Binds the address, before anything else is started.
pub(super) async fn bind(config: &HttpConfig) -> Result<Option<TcpListener>, Failure> {
    let Listen::At(address) = config.listen else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).await;
    bound
        .map(Some)
        .map_err(|error| environment(cannot_listen(address, &error)))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let other = "choose another address with http.listen, or \"off\"";
    if error.kind() != io::ErrorKind::AddrInUse {
        return format!("cannot listen on {address}: {error}\nhelp: {other}");
    }
    match listening_process(address) {
        Some(process) => {
            format!("cannot listen on {address}: {error}: {process}\nhelp: stop that process, or {other}")
        }
        None => format!(
            "cannot listen on {address}: {error}\nhelp: stop the process that listens there, which \
             'ss -ltnp \"sport = :{}\"' names to root, or {other}",
            address.port()
        ),
    }
}

/// The running listener.
pub(super) struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    view: View,
    metrics: PrometheusHandle,
    token: Option<Arc<Secret>>,
    /// Names in `Host` that are accepted besides addresses and localhost.
    hosts: Arc<[String]>,
}

impl Server {
    pub(super) fn start(
        listener: TcpListener,
        config: &HttpConfig,
        view: View,
        metrics: PrometheusHandle,
        api: &Api,
    ) -> Server {
        let address = listener
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
        let stop = CancellationToken::new();
        let token = config.token.clone().map(Arc::new);
        let shared = Shared {
            view,
            metrics: metrics.clone(),
            token,
            hosts: config.hosts.clone().into(),
        };
        let limits = Limits::new(descriptors::http_connections(), ANSWER_BOUND);
        let serving = listener::serve(
            listener,
            router(shared).merge(api.router()),
            limits,
            "http",
            stop.clone(),
        );
        let tasks = vec![
            tokio::spawn(serving),
            tokio::spawn(keep_up(metrics, stop.clone())),
        ];
        Server { address, stop, tasks }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            if timeout(CLOSE_BOUND * 2, task).await.is_err() {
                tracing::warn!("an HTTP task did not end in time");
            }
        }
    }
}

async fn keep_up(metrics: PrometheusHandle, stop: CancellationToken) {
    let mut beat = interval(UPKEEP_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => metrics.run_upkeep(),
        }
    }
}

fn router(shared: Shared) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/status", get(show_status))
        .layer(middleware::from_fn_with_state(shared.clone(), guard));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(show_ready))
        .merge(guarded)
        .with_state(shared)
}

/// Accepts a request by its token if one is configured, otherwise by its `Host` header.
async fn guard(State(shared): State<Shared>, request: Request<Body>, next: Next) -> Response {
    match &shared.token {
        Some(token) if is_allowed(request.headers(), token) => next.run(request).await,
        Some(_) => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            "send the token of [http] as 'Authorization: Bearer …'\n",
        )
            .into_response(),
        None if is_own_host(&request, &shared.hosts) => next.run(request).await,
        None => (
            StatusCode::MISDIRECTED_REQUEST,
            "the Host header names neither an address nor localhost\n\
             help: use the address, or add the name to http.hosts\n",
        )
            .into_response(),
    }
}

/// Whether the request was sent to an address, to localhost or to one of these names.
pub fn is_own_host(request: &Request<Body>, hosts: &[String]) -> bool {
    let header = request.headers().get(header::HOST);
    let authority = match (request.uri().authority(), header) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(header)) => header.to_str().unwrap_or("?"),
        // HTTP/1.0, which no browser uses.
        (None, None) => return true,
    };
    let Ok(authority) = authority.parse::<axum::http::uri::Authority>() else {
        return false;
    };
    let host = authority.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is = |name: &str| host.eq_ignore_ascii_case(name);
    address.parse::<IpAddr>().is_ok() || is("localhost") || hosts.iter().any(|name| is(name))
}

fn is_allowed(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    given.is_some_and(|given| given.as_bytes().ct_eq(token.reveal().as_bytes()).into())
}

async fn show_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Collector::default().collect();
    (kind, shared.metrics.render())
}

async fn show_status(State(shared): State<Shared>) -> impl IntoResponse {
    json(StatusCode::OK, &shared.view.status().await)
}

async fn show_ready(State(shared): State<Shared>) -> impl IntoResponse {
    let status = shared.view.status().await;
    let code = if status.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let not_ready: Vec<String> = status
        .sources
        .iter()
        .filter(|source| !source.is_ready())
        .map(|source| format!("source '{}' is not ready", source.source))
        .collect();
    json(
        code,
        &serde_json::json!({"ready": status.ready, "not_ready": not_ready}),
    )
}

pub(super) fn json(code: StatusCode, body: &impl serde::Serialize) -> Response {
    let body =
        serde_json::to_string_pretty(body).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (code, kind, body + "\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_let_in_by_an_address_localhost_or_a_configured_name_only() {
        let check = |uri: &str, host: Option<&str>| {
            let mut request = Request::builder().uri(uri);
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            let hosts = ["zkbridge.example".to_owned()];
            is_own_host(&request.body(Body::empty()).unwrap(), &hosts)
        };
        let good = "127.0.0.1 127.0.0.1:9641 [::1]:9641 10.1.2.3:80 localhost LocalHost:9641 localhost. zkbridge.example:1";
        for good in good.split(' ') {
            assert!(check("/status", Some(good)), "{good}");
        }
        let bad = "evil.example evil.example:9641 localhost.evil.example 127.0.0.1.evil.example user@127.0.0.1@x ? zkbridge";
        for bad in bad.split(' ') {
            assert!(!check("/status", Some(bad)), "{bad}");
        }
        assert!(!check("http://evil.example/status", Some("127.0.0.1")));
        assert!(check("/status", None));
    }

    #[test]
    fn only_the_whole_token_is_let_in() {
        let token = Secret::new("s3cret");
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            headers
        };
        assert!(is_allowed(&headers("Bearer s3cret"), &token));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Basic s3cret", "Bearer "] {
            assert!(!is_allowed(&headers(wrong), &token), "{wrong}");
        }
        assert!(!is_allowed(&HeaderMap::new(), &token));
    }
}
