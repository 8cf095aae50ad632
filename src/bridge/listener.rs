//! Serves HTTP/1.1 on a socket that any peer can reach, at a bounded cost.
//!
//! Invariants: no peer can hold a connection by silence, and no number of connections takes the file descriptors that
//! the bridge needs for its work. At the limit, a new connection replaces the oldest one that has no request under way.

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
    /// Life of a connection. Ends one whose peer does not read its answer.
    pub(super) life: Duration,
}

impl Limits {
    /// For this many connections, with answers that take at most `answer`.
    pub(super) fn new(connections: usize, answer: Duration) -> Limits {
        Limits {
            connections,
            silence: Duration::from_secs(10),
            answer,
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
        async move { Ok::<_, Infallible>(answer(request, router, limits, &open).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.silence)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
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
    open: &Open,
) -> Response {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect();
    let body = match timeout(limits.silence, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    open.busy.store(true, Ordering::Relaxed);
    let mut request = Request::from_parts(head, Body::from(body));
    if let Some(peer) = open.peer {
        request.extensions_mut().insert(peer);
    }
    let answered = timeout(limits.answer, hyper::service::Service::call(&router, request)).await;
    open.busy.store(false, Ordering::Relaxed);
    match answered {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::sync::watch;

    use super::*;

    const BOUND: Duration = Duration::from_secs(20);

    struct Served {
        address: SocketAddr,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
        /// Whether a request to `/never` has reached its handler.
        begun: watch::Sender<bool>,
    }

    async fn serving(limits: Limits) -> Served {
        let begun = watch::Sender::new(false);
        let begin = begun.clone();
        let never = async move || {
            begin.send_replace(true);
            std::future::pending::<&'static str>().await
        };
        let router = Router::new()
            .route("/ok", get(|| async { "ok" }))
            .route("/never", get(never))
            .route("/large", get(|| async { "x".repeat(8 << 20) }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, limits, "test", stop.clone()));
        Served {
            address,
            stop,
            task,
            begun,
        }
    }

    impl Served {
        async fn send(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }

        async fn get(&self, path: &str) -> String {
            let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            all_of(self.send(&request).await).await
        }

        async fn end(self) {
            self.stop.cancel();
            timeout(BOUND, self.task).await.unwrap().unwrap();
        }
    }

    /// Reads until the peer closes; an aborted connection counts as closed.
    async fn all_of(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let _ = timeout(BOUND, stream.read_to_end(&mut bytes)).await.unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn limits() -> Limits {
        Limits::new(8, BOUND)
    }

    #[tokio::test]
    async fn half_requests_do_not_keep_others_from_an_answer() {
        let served = serving(limits()).await;
        let mut held = Vec::new();
        for _ in 0..200 {
            held.push(served.send("GET /ok HTTP/1.1\r\nHost: a\r\n").await);
        }
        let answer = timeout(BOUND, served.get("/ok")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // All but the last few have been closed already.
        for stream in held.drain(..200 - limits().connections) {
            assert_eq!(all_of(stream).await, "");
        }
        served.end().await;
    }

    #[tokio::test]
    async fn a_connection_that_sends_nothing_or_half_a_request_or_half_a_body_is_closed() {
        let limits = Limits {
            silence: Duration::from_millis(100),
            ..limits()
        };
        let served = serving(limits).await;
        for text in [
            "",
            "GET /ok HTTP/1.1\r\n",
            "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        ] {
            all_of(served.send(text).await).await;
        }
        served.end().await;
    }

    #[tokio::test]
    async fn a_request_under_way_is_not_given_up_for_a_new_connection() {
        let limits = Limits {
            connections: 1,
            ..limits()
        };
        let served = serving(limits).await;
        let mut begun = served.begun.subscribe();
        let busy = served.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await;
        timeout(BOUND, begun.changed()).await.unwrap().unwrap();
        assert_eq!(served.get("/ok").await, "", "there is no place for it");
        assert!(busy.try_read(&mut [0]).is_err(), "the first was closed");
        served.end().await;
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_its_answer_is_let_go() {
        let limits = Limits {
            life: Duration::from_millis(100),
            ..limits()
        };
        let served = serving(limits).await;
        let stream = served.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // The listener can only end its task after the connection has gone.
        tokio::time::timeout(BOUND, async {
            while !matches!(stream.try_write(b"GET /ok"), Err(error) if error.kind() != io::ErrorKind::WouldBlock) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        served.end().await;
    }

    #[tokio::test]
    async fn a_wall_clock_that_has_no_date_is_answered_and_panics_nowhere() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(is_clock_off(UNIX_EPOCH - Duration::from_secs(1)));
        assert!(is_clock_off(at(DATE_SECONDS_MAX + 1)));
        for fine in [at(0), at(DATE_SECONDS_MAX), SystemTime::now()] {
            assert!(!is_clock_off(fine), "{fine:?}");
        }
        let (mut peer, own) = tokio::io::duplex(4096);
        let refused = tokio::spawn(refuse_for_clock(own));
        peer.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        timeout(BOUND, peer.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("correct the clock"),
            "{answer}"
        );
        refused.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn http_2_in_clear_is_not_spoken() {
        let served = serving(limits()).await;
        let answer = all_of(served.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await).await;
        assert!(
            !answer.starts_with("HTTP/1.1 200") && !answer.contains('\0'),
            "{answer:?}"
        );
        served.end().await;
    }
}
