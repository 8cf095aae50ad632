//! The status of a running bridge.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Status code and body of a page; `None` without an answer. `header` holds further lines of the request, each with its
/// line break. Waits without a limit. Cancel safe.
pub async fn page_of(address: SocketAddr, page: &str, header: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {page} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}

/// The answer of `/status`; `None` without an answer in JSON. Waits without a limit. Cancel safe.
pub async fn status_of(address: SocketAddr) -> Option<Value> {
    let (_, body) = page_of(address, "/status", "").await?;
    serde_json::from_str(&body).ok()
}

/// Whether all sources are live with nothing waiting, and all sinks are at their tails.
#[must_use]
pub fn is_at_rest(status: &Value) -> bool {
    let each = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    let (sources, sinks) = (each("sources"), each("sinks"));
    let captured = sources
        .iter()
        .all(|source| source["state"] == "live" && source["waiting"] == 0);
    let tails: Vec<&Value> = sources.iter().map(|source| &source["journal"]["tail"]).collect();
    let delivered = sinks
        .iter()
        .filter(|sink| sink["state"] != "unconfigured")
        .all(|sink| sink["lag_records"] == 0 && tails.contains(&&sink["tail"]));
    status["ready"] == true && captured && delivered
}
