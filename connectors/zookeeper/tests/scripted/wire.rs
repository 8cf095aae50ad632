//! The client protocol as a server speaks it: frames, sessions, and what tests need to answer.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// `xid` of an event.
pub const NOTIFICATION: i32 = -1;
pub const SYNC: i32 = 9;
pub const PING: i32 = 11;
pub const SASL: i32 = 102;
pub const REMOVE_WATCHES: i32 = 18;
pub const ADD_WATCH: i32 = 106;
/// A session is connected.
const CONNECTED: i32 = 3;
const NODE_CREATED: i32 = 1;

/// One request of a client.
#[derive(Clone, Debug)]
pub struct Request {
    pub xid: i32,
    pub operation: i32,
}

pub async fn frame(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    stream.write_all(&[length(body).as_slice(), body].concat()).await
}

pub fn length(bytes: &[u8]) -> [u8; 4] {
    i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes()
}

pub fn header(xid: i32, zxid: i64) -> Vec<u8> {
    failure(xid, zxid, 0)
}

/// The header of an answer that is an error.
pub fn failure(xid: i32, zxid: i64, error: i32) -> Vec<u8> {
    [&xid.to_be_bytes()[..], &zxid.to_be_bytes(), &error.to_be_bytes()].concat()
}

pub fn text(text: &str) -> Vec<u8> {
    [length(text.as_bytes()).as_slice(), text.as_bytes()].concat()
}

/// The body of an event: a znode was created.
pub fn created(path: &str, zxid: i64) -> Vec<u8> {
    let kind_and_state = [NODE_CREATED.to_be_bytes(), CONNECTED.to_be_bytes()].concat();
    [header(NOTIFICATION, zxid), kind_and_state, text(path)].concat()
}

/// The next request.
pub async fn request(stream: &mut TcpStream) -> io::Result<Request> {
    let length = stream.read_i32().await?;
    let body = bytes(stream, length).await?;
    let mut numbers = body.chunks_exact(4).map(|bytes| match bytes {
        [a, b, c, d] => i32::from_be_bytes([*a, *b, *c, *d]),
        _ => 0,
    });
    Ok(Request {
        xid: numbers.next().unwrap_or(0),
        operation: numbers.next().unwrap_or(0),
    })
}

async fn bytes(stream: &mut TcpStream, length: i32) -> io::Result<Vec<u8>> {
    let mut request = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut request).await?;
    Ok(request)
}

/// Makes a session that the server keeps for `timeout_ms`. `false`: it was a four-letter word, which is answered.
pub async fn session(stream: &mut TcpStream, timeout_ms: i32, version: &str) -> io::Result<bool> {
    let mut first = [0; 4];
    stream.read_exact(&mut first).await?;
    if &first == b"srvr" {
        let word = format!("Zookeeper version: {version}, built long ago\nMode: follower\n");
        stream.write_all(word.as_bytes()).await?;
        return Ok(false);
    }
    bytes(stream, i32::from_be_bytes(first)).await?;
    let session = [
        &0i32.to_be_bytes()[..],
        &timeout_ms.to_be_bytes(),
        &7i64.to_be_bytes(),
    ];
    let password = [&16i32.to_be_bytes()[..], &[0; 16], &[0]];
    frame(stream, &[session.concat(), password.concat()].concat()).await?;
    Ok(true)
}
