//! The client of the control socket: sends one request over HTTP and reads one answer.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::request::Builder;
use axum::http::{Request, StatusCode, header};
use bridge_query::status::BridgeStatus;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::message::{Answer, Ask, LoginAnswer, ReloadAnswer};
use crate::bridge::CursorChange;
use crate::exit::{Exit, Failure};

/// The name of the socket in `data_dir`.
pub const SOCKET: &str = "control.sock";

/// The longest path of a socket on Linux; other systems allow less.
const PATH_BYTES_MAX: usize = 107;

/// The path of the socket in a `data_dir`. Hold it while the path is used.
pub struct SocketPath {
    path: PathBuf,
    /// The folder that the path leads through.
    _folder: Option<File>,
}

impl SocketPath {
    /// The path, or, if that is too long for a socket, a short one through a descriptor of the folder.
    ///
    /// # Errors
    /// If the path is too long and the folder cannot be opened.
    pub fn of(data_dir: &Path) -> io::Result<SocketPath> {
        let path = data_dir.join(SOCKET);
        if path.as_os_str().len() <= PATH_BYTES_MAX {
            return Ok(SocketPath { path, _folder: None });
        }
        let folder = File::open(data_dir)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        Ok(SocketPath {
            path: path.into(),
            _folder: Some(folder),
        })
    }
}

impl AsRef<Path> for SocketPath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// Longest wait for an answer: the bridge only puts an order into a queue.
const ANSWER_BOUND: Duration = Duration::from_secs(10);

/// Longest wait for a reload: sinks that change drain for 10 s at most, and may take 15 s to close.
const RELOAD_BOUND: Duration = Duration::from_secs(60);

/// The longest answer is a status with the names of some paths for each of many sinks.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Sends an order to the bridge that runs on this `data_dir`; `None` if none runs.
pub async fn ask(data_dir: &Path, ask: &Ask) -> Result<Option<Answer>, Failure> {
    let body = serde_json::to_vec(ask)
        .map_err(|error| Failure::new(Exit::Runtime, format!("the order cannot be written: {error}")))?;
    let request = Request::post("/orders").header(header::CONTENT_TYPE, "application/json");
    exchange(data_dir, request, body, ANSWER_BOUND).await
}

/// The status of the bridge that runs on this `data_dir`; `None` if none runs.
pub async fn ask_status(data_dir: &Path) -> Result<Option<BridgeStatus>, Failure> {
    exchange(data_dir, Request::get("/status"), Vec::new(), ANSWER_BOUND).await
}

/// Makes the bridge that runs on this `data_dir` read its configuration again; `None` if none runs.
pub async fn ask_reload(data_dir: &Path) -> Result<Option<ReloadAnswer>, Failure> {
    exchange(data_dir, Request::post("/reload"), Vec::new(), RELOAD_BOUND).await
}

/// Makes the bridge that runs on this `data_dir` make a code for a login; `None` if none runs.
pub async fn ask_login(data_dir: &Path) -> Result<Option<LoginAnswer>, Failure> {
    exchange(data_dir, Request::post("/login"), Vec::new(), ANSWER_BOUND).await
}

/// Makes the bridge that runs on this `data_dir` change a cursor; `None` if none runs.
pub async fn ask_cursor_change(data_dir: &Path, change: &CursorChange) -> Result<Option<Answer>, Failure> {
    let body = serde_json::to_vec(change)
        .map_err(|error| Failure::new(Exit::Runtime, format!("the order cannot be written: {error}")))?;
    let request = Request::post("/cursors").header(header::CONTENT_TYPE, "application/json");
    exchange(data_dir, request, body, RELOAD_BOUND).await
}

async fn exchange<T: DeserializeOwned>(
    data_dir: &Path,
    request: Builder,
    body: Vec<u8>,
    bound: Duration,
) -> Result<Option<T>, Failure> {
    let file = data_dir.join(SOCKET);
    let connected = match SocketPath::of(data_dir) {
        Ok(path) => UnixStream::connect(&path).await,
        Err(error) => Err(error),
    };
    let stream = match connected {
        Ok(stream) => stream,
        // No socket, or one that a killed bridge left. If a bridge runs nevertheless, the lock of the journal shows it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(unreachable(&file, &error)),
    };
    let answered = timeout(bound, converse(stream, request, body)).await;
    let answer = answered.map_err(|_| unreachable(&file, &format!("no answer in {} s", bound.as_secs())))?;
    answer.map(Some).map_err(|error| unreachable(&file, &error))
}

fn unreachable(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    let message = format!(
        "the bridge cannot be asked through {}: {error}\nhelp: run the command as the user of the bridge, or stop the \
         bridge",
        file.display()
    );
    Failure::new(Exit::Runtime, message)
}

async fn converse<T: DeserializeOwned>(
    stream: UnixStream,
    request: Builder,
    body: Vec<u8>,
) -> anyhow::Result<T> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = request
        .header(header::HOST, "bridge")
        .body(Full::new(Bytes::from(body)))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        anyhow::Ok((status, body))
    };
    // The connection moves only while it is polled, and ends after the answer.
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    let (status, body) = tokio::select! {
        exchanged = &mut exchange => exchanged?,
        ended = &mut connection => {
            ended?;
            exchange.await?
        }
    };
    if status == StatusCode::OK {
        return Ok(serde_json::from_slice(&body)?);
    }
    anyhow::bail!("it answers {status}: {}", String::from_utf8_lossy(&body).trim())
}
