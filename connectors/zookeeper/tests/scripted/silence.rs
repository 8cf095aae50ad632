//! Servers that live and answer nothing: pings prove no watch.

use std::io;
use std::time::Duration;

use bridge_core::capture::Input;
use bridge_core::source::SourceEvent;
use bridge_zookeeper::test_connection;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use crate::driver::{BOUND, Driver, Server};
use crate::wire::{ADD_WATCH, PING, SYNC, frame, header, request, text};

/// Requests have three of them.
const SESSION_MS: i32 = 500;

/// Answers pings, and until then what arming takes; not from this operation on.
async fn silent_from(mut stream: TcpStream, operation: i32) -> io::Result<()> {
    loop {
        let asked = request(&mut stream).await?;
        match asked.operation {
            PING => frame(&mut stream, &header(asked.xid, 5)).await?,
            silent if silent == operation => {}
            ADD_WATCH => frame(&mut stream, &header(asked.xid, 4)).await?,
            SYNC => frame(&mut stream, &[header(asked.xid, 5), text("/a")].concat()).await?,
            _ => {}
        }
    }
}

/// The connection is given up with its reason, the trouble is reported, and another one is made.
async fn is_given_up(server: &Server) {
    let mut driver = Driver::run(server.config());
    driver
        .until(|report| matches!(report, SourceEvent::Input(Input::Unanswered)))
        .await;
    driver.until_trouble("answers pings").await;
    driver
        .until(|report| matches!(report, SourceEvent::Connected { .. }))
        .await;
    driver.end().await;
}

#[tokio::test]
async fn a_server_that_answers_pings_and_no_read_is_given_up() {
    let server = Server::start(SESSION_MS, |stream| silent_from(stream, i32::MAX)).await;
    is_given_up(&server).await;
}

#[tokio::test]
async fn a_server_that_answers_pings_and_no_watch_is_given_up() {
    let server = Server::start(SESSION_MS, |stream| silent_from(stream, ADD_WATCH)).await;
    is_given_up(&server).await;
}

#[tokio::test]
async fn a_server_that_drips_its_answer_is_given_up() {
    let server = Server::start(SESSION_MS, async |mut stream| {
        loop {
            let asked = request(&mut stream).await?;
            match asked.operation {
                PING => frame(&mut stream, &header(asked.xid, 5)).await?,
                ADD_WATCH => frame(&mut stream, &header(asked.xid, 4)).await?,
                SYNC => frame(&mut stream, &[header(asked.xid, 5), text("/a")].concat()).await?,
                _ => break,
            }
        }
        stream.write_all(&1_000i32.to_be_bytes()).await?;
        let mut drip = interval(Duration::from_millis(50));
        loop {
            drip.tick().await;
            stream.write_all(&[0]).await?;
        }
    })
    .await;
    is_given_up(&server).await;
}

#[tokio::test]
async fn a_first_look_at_a_server_that_answers_pings_alone_ends() {
    let server = Server::start(SESSION_MS, |stream| silent_from(stream, i32::MAX)).await;
    let looked = timeout(BOUND, test_connection(&server.config())).await;
    assert!(looked.expect("it ends in time").is_err());
}
