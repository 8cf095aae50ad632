//! Servers that live and answer nothing: pings prove no watch.

use std::io;
use std::time::Duration;

use bridge_core::capture::{Input, SessionFate};
use bridge_core::source::SourceEvent;
use bridge_zookeeper::test_connection;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use crate::driver::{BOUND, Driver, FIRST_VERSION, Server, UPGRADED};
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

/// Answers what arming takes, and ends the connection at the first read.
async fn ends_at_a_read(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let asked = request(&mut stream).await?;
        match asked.operation {
            PING => frame(&mut stream, &header(asked.xid, 5)).await?,
            ADD_WATCH => frame(&mut stream, &header(asked.xid, 4)).await?,
            SYNC => frame(&mut stream, &[header(asked.xid, 5), text("/a")].concat()).await?,
            _ => return Ok(()),
        }
    }
}

#[tokio::test]
async fn servers_that_are_upgraded_within_a_session_are_asked_for_their_version_again() {
    let server = Server::start(10_000, ends_at_a_read).await;
    let mut driver = Driver::run(server.config());
    let is_upgraded =
        |report: &SourceEvent| matches!(report, SourceEvent::Server(Some(version)) if **version == *UPGRADED);
    driver.until(is_upgraded).await;
    let kept = SessionFate::Kept;
    let is_kept =
        |report: &SourceEvent| matches!(report, SourceEvent::Connected { session, .. } if *session == kept);
    assert!(driver.reports.iter().any(is_kept), "{:?}", driver.reports);
    let is_first = |report: &SourceEvent| matches!(report, SourceEvent::Server(Some(version)) if **version == *FIRST_VERSION);
    assert!(driver.reports.iter().any(is_first), "{:?}", driver.reports);
    driver.end().await;
}

#[tokio::test]
async fn a_session_that_the_server_keeps_for_weeks_is_refused_with_both_remedies() {
    let server = Server::start(i32::MAX, ends_at_a_read).await;
    let mut driver = Driver::run(server.config());
    driver.until_trouble("keep a session for 2147483 s").await;
    let text = format!("{:?}", driver.reports);
    assert!(
        text.contains("minSessionTimeout") && text.contains("set session_timeout"),
        "{text}"
    );
    driver.end().await;
}
