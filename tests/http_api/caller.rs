//! A caller of the API: plain requests on sockets of its own.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bridge::{BOUND, Bridge};

/// The token of the configuration that [`with_token`] writes.
pub const TOKEN: &str = "token-of-the-test-of-the-api";

/// Adds a token to the configuration of a bridge that is not started. A named one, because `http.token` closes `/status`,
/// which the stage reads.
pub fn with_token(bridge: &Bridge) {
    let file = bridge.folder().join("zkbridge.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (listen, rest) = text.split_once("[[source]]").unwrap();
    let text = format!("{listen}[[http.tokens]]\nname = \"test\"\ntoken = \"{TOKEN}\"\n[[source]]{rest}");
    std::fs::write(&file, text).unwrap();
}

/// The head of an answer, and the socket with the rest of it.
pub struct Answered {
    pub code: u16,
    pub head: String,
    /// The part of the body that came with the head.
    pub begin: Vec<u8>,
    pub socket: TcpStream,
}

impl Answered {
    /// A header, by its name in lower case; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The rest of a body that ends with its connection.
    pub async fn body(mut self) -> String {
        let mut body = self.begin;
        timeout(BOUND, self.socket.read_to_end(&mut body))
            .await
            .unwrap()
            .unwrap();
        String::from_utf8(body).unwrap()
    }
}

/// Sends `GET` to a route below `/api/v1`, and reads the head of the answer. `None`: the bridge has closed the connection.
pub async fn ask(address: SocketAddr, target: &str, headers: &str) -> Option<Answered> {
    let asking = async {
        let mut socket = TcpStream::connect(address).await.ok()?;
        let request = format!(
            "GET /api/v1{target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\
             Connection: close\r\n{headers}\r\n"
        );
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut read = Vec::new();
        loop {
            if let Some(at) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = String::from_utf8(read[..at].to_vec()).ok()?;
                return Some(Answered {
                    code: head.split(' ').nth(1)?.parse().ok()?,
                    head,
                    begin: read[at + 4..].to_vec(),
                    socket,
                });
            }
            if socket.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        }
    };
    timeout(BOUND, asking).await.expect("an answer in time")
}

/// The answer as JSON.
pub async fn json(address: SocketAddr, target: &str) -> Value {
    let answered = ask(address, target, "").await.expect("an answer");
    let code = answered.code;
    let body = answered.body().await;
    assert_eq!(code, 200, "{target}: {body}");
    serde_json::from_str(&body).unwrap()
}
