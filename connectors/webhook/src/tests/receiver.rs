//! A receiver of webhooks on a free port, over HTTP/1.1 and 2, with and without TLS, that answers by a script and
//! remembers everything.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub version: Version,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// Which connection brought it.
    pub connection: usize,
    /// The status that it was answered with; 0: none.
    pub answered: u16,
    /// Whether the receiver did with it what it is there for.
    pub is_taken: bool,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// The handling of a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This status; taken if it is 2xx.
    Status(u16),
    /// This status with these headers.
    With(u16, Vec<(&'static str, String)>),
    /// This status with this text.
    Says(u16, String),
    /// 200 with so large a body.
    Large(usize),
    /// 200 after so much time.
    Slow(Duration),
    /// Taken, and never answered.
    Hold,
    /// The connection is cut before anything is done.
    Cut,
    /// Taken, and the connection is cut before the answer.
    CutAfter,
}

type Script = Box<dyn FnMut(&Received) -> Reply + Send>;

struct State {
    requests: Mutex<Vec<Received>>,
    script: Mutex<Script>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

/// See the module.
pub struct Receiver {
    pub address: SocketAddr,
    scheme: &'static str,
    host: String,
    state: Arc<State>,
    server: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Receiver {
    /// One that takes everything.
    pub async fn start() -> Receiver {
        Receiver::start_at([127, 0, 0, 1].into(), None).await
    }

    /// One with a certificate.
    pub async fn start_tls(tls: rustls::ServerConfig) -> Receiver {
        Receiver::start_at([127, 0, 0, 1].into(), Some(tls)).await
    }

    pub async fn start_at(host: IpAddr, tls: Option<rustls::ServerConfig>) -> Receiver {
        Receiver::start_on(SocketAddr::new(host, 0), tls).await
    }

    pub async fn start_on(address: SocketAddr, tls: Option<rustls::ServerConfig>) -> Receiver {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            requests: Mutex::default(),
            script: Mutex::new(Box::new(|_| Reply::Status(200))),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let server = tokio::spawn(serve(listener, tls, Arc::clone(&state)));
        Receiver {
            address,
            scheme,
            host: address.ip().to_string(),
            state,
            server,
        }
    }

    pub fn url(&self) -> String {
        format!("{}://{}:{}/hook", self.scheme, self.host, self.address.port())
    }

    pub fn url_at(&self, host: &str) -> String {
        format!("{}://{host}:{}/hook", self.scheme, self.address.port())
    }

    /// From now on it answers so.
    pub fn answer(&self, script: impl FnMut(&Received) -> Reply + Send + 'static) {
        *lock(&self.state.script) = Box::new(script);
    }

    pub fn requests(&self) -> Vec<Received> {
        lock(&self.state.requests).clone()
    }

    /// Those that it did something with.
    pub fn taken(&self) -> Vec<Received> {
        let mut requests = self.requests();
        requests.retain(|request| request.is_taken);
        requests
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many connections brought requests.
    pub fn used_connections(&self) -> usize {
        let used: HashSet<usize> = self.requests().iter().map(|request| request.connection).collect();
        used.len()
    }

    /// How many requests it worked on at the same time at most.
    pub fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        connections.spawn(converse(stream, tls.clone(), Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let connection = state.connections.fetch_add(1, Ordering::SeqCst);
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { handle(request, connection, &state).await }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // How a connection ends is the matter of whoever is tested.
    let _ = match tls {
        None => builder.serve_connection(TokioIo::new(stream), service).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => builder.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => Ok(()),
        },
    };
}

async fn handle(
    request: Request<Incoming>,
    connection: usize,
    state: &State,
) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut received = Received {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        version: head.version,
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: body.to_vec(),
        connection,
        answered: 0,
        is_taken: false,
    };
    let now = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    state.most_in_flight.fetch_max(now, Ordering::SeqCst);
    let _left = Left(&state.in_flight);
    let reply = (lock(&state.script))(&received);
    (received.answered, received.is_taken) = match &reply {
        Reply::Status(status) | Reply::With(status, _) | Reply::Says(status, _) => {
            (*status, (200..300).contains(status))
        }
        Reply::Large(_) | Reply::Slow(_) => (200, true),
        Reply::Hold | Reply::CutAfter => (0, true),
        Reply::Cut => (0, false),
    };
    lock(&state.requests).push(received);
    let answer = |status: u16, body: Vec<u8>| {
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status.try_into().unwrap();
        answer
    };
    match reply {
        Reply::Status(status) => {
            // The time of an answer: other requests can arrive meanwhile.
            tokio::task::yield_now().await;
            Ok(answer(status, b"ok".to_vec()))
        }
        Reply::With(status, headers) => {
            let mut answer = answer(status, Vec::new());
            for (name, value) in headers {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            Ok(answer)
        }
        Reply::Says(status, text) => Ok(answer(status, text.into_bytes())),
        Reply::Large(bytes) => Ok(answer(200, vec![b'x'; bytes])),
        Reply::Slow(delay) => {
            tokio::time::sleep(delay).await;
            Ok(answer(200, Vec::new()))
        }
        Reply::Hold => {
            let never: Result<Infallible, _> = std::future::pending().await;
            never.map(|never| match never {})
        }
        Reply::Cut | Reply::CutAfter => Err(io::Error::other("the connection is cut")),
    }
}

struct Left<'a>(&'a AtomicUsize);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
