//! A receiver of webhooks that makes dead letters.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A destination that refuses every record of a znode with this name, for good. It ends with the test.
pub async fn refusing(name: &str) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let end_of_path = format!("/{name}\"");
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // One request for each connection: the answer says so.
            while !is_whole(&request) {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let word = match String::from_utf8_lossy(&request).contains(&end_of_path) {
                true => "422 Unprocessable Content",
                false => "204 No Content",
            };
            let answer = format!("HTTP/1.1 {word}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            // The client may have disconnected.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, serving)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.is_none_or(|length| {
        length
            .trim()
            .parse()
            .is_ok_and(|length: usize| body.len() >= length)
    })
}
