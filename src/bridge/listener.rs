//! Serves HTTP/1.1 on a socket that any peer can reach, at a bounded cost.
//!
//! Invariants: no peer can hold a connection by silence or by not reading, and no number of connections takes the file
//! descriptors that the bridge needs for its work. At the limit, a new connection replaces the oldest one that has no
//! request under way and gets no stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::read_in_time::ReadInTime;

/// Requests under way at the end may take this long.
pub(super) const CLOSE_BOUND: Duration = Duration::from_secs(2);

/// Wait after an accept that failed, so that an exhausted process does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The same failure of `accept` is logged once in this time.
const ACCEPT_LOG_EVERY: Duration = Duration::from_secs(60);

/// The largest request line with its headers. Ours have a few hundred bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The largest body of a request. An order to replay names at most some ten thousand records.
const BODY_BYTES_MAX: usize = 2 << 20;

/// The limits for peers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Open connections.
    pub(super) connections: usize,
    /// Time for the head of a request, which is also the time that a connection may be idle; and time for its body.
    pub(super) silence: Duration,
    /// Time from the request to its answer.
    pub(super) answer: Duration,
    /// Time in which a peer takes nothing of what is sent to it.
    pub(super) unread: Duration,
    /// Life of a connection.
    pub(super) life: Duration,
}

impl Limits {
    /// For this many connections, with answers that take at most `answer`.
    pub(super) fn new(connections: usize, answer: Duration) -> Limits {
        Limits {
            connections,
            silence: Duration::from_secs(10),
            answer,
            unread: Duration::from_secs(30),
            life: Duration::from_secs(300),
        }
    }
}

/// A socket that accepts connections.
pub(super) trait Accept: Send + Sync + 'static {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and the address of its peer, if it has one. Cancel safe.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let accepted = TcpListener::accept(self).await;
        accepted.map(|(stream, peer)| (stream, Some(peer)))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        UnixListener::accept(self).await.map(|(stream, _)| (stream, None))
    }
}

/// Answers requests until `stop` is cancelled, then for at most [`CLOSE_BOUND`] those under way. `what` names the
/// listener in the log.
pub(super) async fn serve(
    listener: impl Accept,
    router: Router,
    limits: Limits,
    what: &'static str,
    stop: CancellationToken,
) {
    let mut connections = Connections::default();
    let mut tasks = JoinSet::new();
    let mut failures = AcceptFailures { what, logged: None };
    loop {
        while tasks.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(open) = connections.admit(limits.connections, peer) {
                    let connection = converse(stream, router.clone(), limits, open, stop.clone());
                    tasks.spawn(connection);
                }
            }
            Err(error) => {
                failures.log(&error);
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    let ended = async { while tasks.join_next().await.is_some() {} };
    // Open connections are aborted with the set.
    let _ = timeout(CLOSE_BOUND, ended).await;
}

/// Rate-limits the log lines of `accept`.
struct AcceptFailures {
    what: &'static str,
    logged: Option<Instant>,
}

impl AcceptFailures {
    fn log(&mut self, error: &io::Error) {
        if self
            .logged
            .is_some_and(|logged| logged.elapsed() < ACCEPT_LOG_EVERY)
        {
            return;
        }
        self.logged = Some(Instant::now());
        tracing::error!(
            listener = self.what,
            error = error.to_string(),
            help = "raise the limit of open files (LimitNOFILE, ulimit -n) if it is reached",
            "no connection can be accepted"
        );
    }
}

/// The connections that are open, oldest first.
#[derive(Default)]
struct Connections(VecDeque<Arc<Open>>);

/// One open connection, as the listener and the connection's own task see it.
#[derive(Default)]
struct Open {
    /// A request was read completely and its answer is not yet handed to the socket.
    busy: AtomicBool,
    /// Cancelled by the listener: the connection gives way. By the connection: it has ended.
    end: CancellationToken,
    peer: Option<Peer>,
}

/// The address of the peer of a request, among the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Connections {
    /// A place for one more connection. At the limit the oldest without a request gives way; `None` if all have one.
    fn admit(&mut self, max: usize, peer: Option<SocketAddr>) -> Option<Arc<Open>> {
        self.0.retain(|open| !open.end.is_cancelled());
        if self.0.len() >= max {
            let idle = self.0.iter().position(|open| !open.busy.load(Ordering::Relaxed));
            let Some(given_up) = idle.and_then(|at| self.0.remove(at)) else {
                tracing::debug!(max, "connection refused: all others have requests under way");
                return None;
            };
            given_up.end.cancel();
        }
        let open = Arc::new(Open {
            peer: peer.map(Peer),
            ..Open::default()
        });
        self.0.push_back(Arc::clone(&open));
        Some(open)
    }
}

async fn converse<S>(stream: S, router: Router, limits: Limits, open: Arc<Open>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let end = open.end.clone();
    let _ended = end.clone().drop_guard();
    if is_clock_off(SystemTime::now()) {
        let _ = timeout(limits.silence, refuse_for_clock(stream)).await;
        return;
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, open) = (router.clone(), Arc::clone(&open));
        async move { Ok::<_, Infallible>(answer(request, router, limits, open).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.silence)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(ReadInTime::new(stream, limits.unread)), service);
    let mut connection = pin!(connection);
    // How a peer breaks off is of no interest to anyone.
    tokio::select! {
        biased;
        () = end.cancelled() => return,
        _ = &mut connection => return,
        () = stop.cancelled() => {}
        () = sleep(limits.life) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(CLOSE_BOUND, connection).await;
}

/// The last second of the year 9999.
const DATE_SECONDS_MAX: u64 = 253_402_300_799;

/// Whether the wall clock shows a time that HTTP has no date for: hyper panics then, with and without the header `Date`.
fn is_clock_off(now: SystemTime) -> bool {
    let since = now.duration_since(UNIX_EPOCH);
    since.map_or(true, |since| since.as_secs() > DATE_SECONDS_MAX)
}

/// Answers the first request on a connection without hyper. How a peer breaks off is of no interest.
async fn refuse_for_clock(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    const BODY: &str = "the wall clock of this machine shows a time before 1970 or after 9999\n\
                        help: correct the clock; capture and delivery go on meanwhile\n";
    let mut head = Vec::new();
    let mut block = [0; 1024];
    // Unread bytes at the close of the socket would reset the connection, and lose the answer.
    while head.len() < HEAD_BYTES_MAX && !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        match stream.read(&mut block).await? {
            0 => break,
            read => head.extend_from_slice(&block[..read]),
        }
    }
    let length = BODY.len();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{BODY}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads the whole request before the router sees it, so that a handler never waits for a peer.
async fn answer(
    request: Request<Incoming>,
    router: TowerToHyperService<Router>,
    limits: Limits,
    open: Arc<Open>,
) -> Response {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect();
    let body = match timeout(limits.silence, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let busy = Busy::new(open.clone());
    let mut request = Request::from_parts(head, Body::from(body));
    if let Some(peer) = open.peer {
        request.extensions_mut().insert(peer);
    }
    let answered = timeout(limits.answer, hyper::service::Service::call(&router, request)).await;
    match answered {
        Ok(Ok(response)) => kept_while_streaming(response, busy),
        Ok(Err(never)) => match never {},
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Marks a connection that has a request under way.
struct Busy(Arc<Open>);

impl Busy {
    fn new(open: Arc<Open>) -> Busy {
        open.busy.store(true, Ordering::Relaxed);
        Busy(open)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Relaxed);
    }
}

/// A stream is under way until its end: its caller had a credential, and half requests of others must not end it. Any other
/// answer is complete, and a peer that does not take it gives way.
fn kept_while_streaming(response: Response, busy: Busy) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            // Dropped with the body.
            let _ = &busy;
            frame
        }))
    })
}

#[cfg(test)]
mod tests;
