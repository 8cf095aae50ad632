//! `/metrics`, `/healthz`, `/readyz` and `/status`. No znode data is served here.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{View, environment};
use crate::exit::{Exit, Failure};

/// How often the exporter folds what histograms have gathered.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// Requests under way at the end may take so long.
const CLOSE_BOUND: Duration = Duration::from_secs(2);

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
    Ok(METRICS.get_or_init(|| handle).clone())
}

/// Takes the address, before anything else is started.
pub(super) async fn bind(config: &HttpConfig) -> Result<Option<TcpListener>, Failure> {
    let Listen::At(address) = config.listen else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|error| {
        environment(format!(
            "cannot listen on {address}: {error}; choose another address with http.listen, or \"off\", or stop what \
             listens there"
        ))
    })
}

/// The listener at work.
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
}

impl Server {
    pub(super) fn start(
        listener: TcpListener,
        config: &HttpConfig,
        view: View,
        metrics: PrometheusHandle,
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
        };
        let router = router(shared);
        let closing = stop.clone();
        let serving = tokio::spawn(async move {
            let shutdown = closing.clone();
            let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
            let bounded = async {
                closing.cancelled().await;
                tokio::time::sleep(CLOSE_BOUND).await;
            };
            tokio::select! {
                served = server.into_future() => if let Err(error) = served {
                    tracing::error!(error = error.to_string(), "the HTTP listener failed");
                },
                () = bounded => {}
            }
        });
        let upkeep = tokio::spawn(keep_up(metrics, stop.clone()));
        Server {
            address,
            stop,
            tasks: vec![serving, upkeep],
        }
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
        .layer(middleware::from_fn_with_state(shared.clone(), ask_for_token));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(show_ready))
        .merge(guarded)
        .with_state(shared)
}

/// `/metrics` and `/status` ask for the token where there is one; the probes of an orchestrator do not.
async fn ask_for_token(State(shared): State<Shared>, request: Request<Body>, next: Next) -> Response {
    let Some(token) = &shared.token else {
        return next.run(request).await;
    };
    if is_allowed(request.headers(), token) {
        return next.run(request).await;
    }
    let asks = [(header::WWW_AUTHENTICATE, "Bearer")];
    (
        StatusCode::UNAUTHORIZED,
        asks,
        "send the token of [http] as 'Authorization: Bearer …'\n",
    )
        .into_response()
}

fn is_allowed(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    given.is_some_and(|given| is_same(given.as_bytes(), token.reveal().as_bytes()))
}

/// Compares without telling by its duration where the difference is.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

async fn show_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, shared.metrics.render())
}

async fn show_status(State(shared): State<Shared>) -> impl IntoResponse {
    json(StatusCode::OK, &shared.view.status())
}

async fn show_ready(State(shared): State<Shared>) -> impl IntoResponse {
    let status = shared.view.status();
    let code = if status.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(
        code,
        &serde_json::json!({"ready": status.ready, "not_ready": status.not_ready}),
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
