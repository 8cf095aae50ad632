//! The status of a running bridge.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The answer of `/status`; `None` without an answer in JSON. Waits without a limit.
pub async fn status_of(address: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
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
        .all(|sink| sink["lag_records"] == 0 && tails.contains(&&sink["tail"]));
    status["ready"] == true && captured && delivered
}
