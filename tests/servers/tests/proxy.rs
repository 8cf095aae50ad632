//! The proxy's faults, as a client of an echo server sees them.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail it like the test itself"
)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bridge_servers::{Direction, Proxy, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const BOUND: Duration = Duration::from_secs(10);

/// Long enough for an echo that is not held to come back.
const SILENCE: Duration = Duration::from_millis(150);

/// A server that sends its name once, and then echoes.
async fn echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(name.as_bytes()).await?;
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    addr
}

async fn proxied() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo("a").await).await.unwrap();
    let client = greeted(&proxy, "a").await;
    (proxy, client)
}

/// A connection through the proxy, to the server of that name.
async fn greeted(proxy: &Proxy, name: &str) -> TcpStream {
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(read(&mut client, name.len()).await.unwrap(), name.as_bytes());
    client
}

async fn read(client: &mut TcpStream, count: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    timeout(BOUND, client.read_exact(&mut bytes))
        .await
        .expect("an answer in time")?;
    Ok(bytes)
}

async fn echoes(client: &mut TcpStream, said: &[u8]) -> std::io::Result<()> {
    client.write_all(said).await?;
    assert_eq!(read(client, said.len()).await?, said);
    Ok(())
}

async fn is_silent(client: &mut TcpStream) -> bool {
    timeout(SILENCE, client.read_u8()).await.is_err()
}

/// The error that ends the connection.
async fn end(client: &mut TcpStream) -> ErrorKind {
    read(client, 1).await.unwrap_err().kind()
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let (proxy, mut client) = proxied().await;
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let (mut reader, mut writer) = client.split();
    let written = async {
        writer.write_all(&large).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, count) = tokio::join!(written, reader.read_to_end(&mut back));
    assert_eq!(count.unwrap(), large.len());
    assert!(back == large);
    assert_eq!(proxy.accepted(), 1);
    assert_eq!(proxy.forwarded(Direction::ToServer), 1_000_000);
    assert_eq!(proxy.forwarded(Direction::ToClient), 1_000_001);
}

#[tokio::test]
async fn a_cut_resets_connections_and_refuses_new_ones_until_restored() {
    let (proxy, mut client) = proxied().await;
    proxy.cut().await.unwrap();
    assert_eq!(end(&mut client).await, ErrorKind::ConnectionReset);
    let refused = TcpStream::connect(proxy.addr()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    proxy.restore().await.unwrap();
    echoes(&mut greeted(&proxy, "a").await, b"again").await.unwrap();
}

#[tokio::test]
async fn a_reset_ends_the_present_connections_only() {
    let (proxy, mut client) = proxied().await;
    proxy.reset_connections().await.unwrap();
    assert_eq!(end(&mut client).await, ErrorKind::ConnectionReset);
    echoes(&mut greeted(&proxy, "a").await, b"again").await.unwrap();
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn a_hold_delays_and_loses_nothing() {
    let (proxy, mut client) = proxied().await;
    proxy.hold().await.unwrap();
    client.write_all(b"held").await.unwrap();
    assert!(is_silent(&mut client).await);

    proxy.release().await.unwrap();
    assert_eq!(read(&mut client, 4).await.unwrap(), b"held");
}

#[tokio::test]
async fn the_dark_swallows_and_answers_nothing() {
    let (proxy, mut client) = proxied().await;
    proxy.dark().await.unwrap();
    client.write_all(b"lost").await.unwrap();
    assert!(is_silent(&mut client).await);
    let mut late = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(is_silent(&mut late).await);

    proxy.restore().await.unwrap();
    assert_eq!(end(&mut client).await, ErrorKind::ConnectionReset);
    assert_eq!(end(&mut late).await, ErrorKind::ConnectionReset);
    echoes(&mut greeted(&proxy, "a").await, b"again").await.unwrap();
}

#[tokio::test]
async fn another_target_serves_new_connections() {
    let (proxy, mut client) = proxied().await;
    proxy.retarget(echo("b").await).await.unwrap();
    echoes(&mut client, b"still a").await.unwrap();
    greeted(&proxy, "b").await;
}

#[tokio::test]
async fn a_connection_is_reset_in_the_middle_of_a_message() {
    let (proxy, mut client) = proxied().await;
    proxy.reset_after(Direction::ToServer, 3).await.unwrap();
    client.write_all(b"request").await.unwrap();
    let ended = eventually("the reset", BOUND, || {
        let passed = proxy.forwarded(Direction::ToServer);
        std::future::ready(passed == 3)
    });
    ended.await.unwrap();
    assert_eq!(last_error(&mut client).await, ErrorKind::ConnectionReset);
    echoes(&mut greeted(&proxy, "a").await, b"request").await.unwrap();
}

#[tokio::test]
async fn a_request_arrives_and_its_reply_is_lost() {
    let (proxy, mut client) = proxied().await;
    proxy.reset_after(Direction::ToClient, 0).await.unwrap();
    client.write_all(b"request").await.unwrap();
    assert_eq!(end(&mut client).await, ErrorKind::ConnectionReset);
    assert_eq!(proxy.forwarded(Direction::ToServer), 7);
    assert_eq!(proxy.forwarded(Direction::ToClient), 1);
}

#[tokio::test]
async fn a_target_that_does_not_listen_resets_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let proxy = Proxy::start(nobody).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(end(&mut client).await, ErrorKind::ConnectionReset);
}

/// Reads what still arrives, to the error after it.
async fn last_error(client: &mut TcpStream) -> ErrorKind {
    loop {
        if let Err(error) = read(client, 1).await {
            return error.kind();
        }
    }
}

#[tokio::test]
async fn a_one_way_network_drops_one_direction_and_forwards_the_other() {
    let (proxy, mut client) = proxied().await;
    proxy.one_way(Direction::ToClient).await.unwrap();
    client.write_all(b"heard").await.unwrap();
    eventually("the server to get the bytes", BOUND, || async {
        proxy.forwarded(Direction::ToServer) == 5
    })
    .await
    .unwrap();
    assert!(is_silent(&mut client).await);
    assert_eq!(proxy.forwarded(Direction::ToClient), 1);

    proxy.restore().await.unwrap();
    assert_eq!(end(&mut client).await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_slow_network_delivers_late_and_loses_nothing() {
    let (proxy, mut client) = proxied().await;
    proxy.slow(SILENCE * 2).await.unwrap();
    client.write_all(b"late").await.unwrap();
    assert!(is_silent(&mut client).await);
    assert_eq!(read(&mut client, 4).await.unwrap(), b"late");
    proxy.restore().await.unwrap();
    echoes(&mut client, b"quick").await.unwrap();
}
