//! A receiver on this machine in the place of Slack: it takes the messages of a webhook and hands their texts on.
//!
//! One request on a connection. A request that is no message is answered with 400, as Slack does, and not handed on.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A request of a webhook has a few KiB.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// How long a request may take.
const REQUEST_BOUND: Duration = Duration::from_secs(10);

/// Texts that may wait; the scenario has six.
const TEXTS_MAX: usize = 64;

/// A receiver on a free port of this machine.
pub(crate) struct SlackReceiver {
    address: SocketAddr,
    texts: mpsc::Receiver<String>,
    server: JoinHandle<()>,
}

impl Drop for SlackReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl SlackReceiver {
    /// Starts to take messages.
    pub(crate) async fn start() -> Result<SlackReceiver> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.context("no port of 127.0.0.1 can be listened on")?;
        let address = listener.local_addr()?;
        let (sender, texts) = mpsc::channel(TEXTS_MAX);
        let server = tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let text = timeout(REQUEST_BOUND, message(&mut connection))
                    .await
                    .ok()
                    .flatten();
                let answer = match &text {
                    Some(_) => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
                    None => {
                        "HTTP/1.1 400 Bad Request\r\ncontent-length: 7\r\nconnection: close\r\n\r\nno_text"
                    }
                };
                // A bridge that did not wait for the answer sends again.
                let _ = connection.write_all(answer.as_bytes()).await;
                let _ = connection.shutdown().await;
                if let Some(text) = text
                    && sender.send(text).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(SlackReceiver {
            address,
            texts,
            server,
        })
    }

    /// The address for the webhook.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/services/demo", self.address)
    }

    /// The text of the next message. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<String> {
        let text = self.texts.recv().await;
        text.context("the receiver in the place of Slack has ended")
    }
}

/// The text of the message in a request; `None` if it is none.
async fn message(connection: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(body) = body(&bytes) {
            let body: Value = serde_json::from_slice(body).ok()?;
            return body["text"].as_str().map(str::to_owned);
        }
        let read = connection.read_buf(&mut bytes).await.ok()?;
        if read == 0 || bytes.len() > REQUEST_BYTES_MAX {
            return None;
        }
    }
}

/// The body of a request that has arrived whole.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    bytes.get(end + 4..)?.get(..length?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(receiver: &SlackReceiver, body: &str) -> String {
        let mut connection = TcpStream::connect(receiver.address).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (first, rest) = request.split_at(20);
        connection.write_all(first.as_bytes()).await.unwrap();
        connection.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_message_is_answered_and_handed_on_and_anything_else_is_refused() {
        let mut receiver = SlackReceiver::start().await.unwrap();
        for body in ["no JSON", "{}", r#"{"text":7}"#] {
            assert!(answer(&receiver, body).await.ends_with("no_text"), "{body}");
        }
        assert!(answer(&receiver, r#"{"text":"hello"}"#).await.ends_with("ok"));
        assert_eq!(receiver.next().await.unwrap(), "hello");
    }
}
