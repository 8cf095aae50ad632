//! A server that throttles requests because it is overloaded.

use std::io;

use bridge_core::capture::{Input, Outcome, ReadRequest, Ticket};
use bridge_core::path::ZnodePath;
use bridge_core::source::{SourceEvent, SourceRequest};
use tokio::net::TcpStream;

use crate::driver::{Driver, Server};
use crate::wire::{ADD_WATCH, PING, Request, SYNC, failure, frame, header, request, text};

const THROTTLED: i32 = -127;
const NO_NODE: i32 = -101;
const NO_AUTH: i32 = -102;
/// Reads of the test: one by the driver, and two more.
const READS: usize = 3;

/// The next request that is no part of arming.
async fn read(stream: &mut TcpStream) -> io::Result<Request> {
    loop {
        let asked = request(stream).await?;
        match asked.operation {
            PING => frame(stream, &header(asked.xid, 5)).await?,
            ADD_WATCH => frame(stream, &header(asked.xid, 4)).await?,
            SYNC => frame(stream, &[header(asked.xid, 5), text("/a")].concat()).await?,
            _ => return Ok(asked),
        }
    }
}

/// The answer to a read of a znode with its children, both of which are refused with this error.
fn refusals(xid: i32, error: i32) -> Vec<u8> {
    let part = [
        &(-1i32).to_be_bytes()[..],
        &[0],
        &error.to_be_bytes(),
        &error.to_be_bytes(),
    ]
    .concat();
    let end = [&(-1i32).to_be_bytes()[..], &[1], &(-1i32).to_be_bytes()].concat();
    [header(xid, 5), part.clone(), part, end].concat()
}

/// Throttles the first read while it answers those after it from its present state, in which the znode is missing; from
/// then on nobody may read the znode. The second read is throttled once more.
async fn throttles_the_first(mut stream: TcpStream) -> io::Result<()> {
    let mut asked = Vec::new();
    while asked.len() < READS {
        asked.push(read(&mut stream).await?.xid);
    }
    frame(&mut stream, &failure(asked[0], 5, THROTTLED)).await?;
    for xid in &asked[1..] {
        frame(&mut stream, &refusals(*xid, NO_NODE)).await?;
    }
    for answered in 0.. {
        let xid = read(&mut stream).await?.xid;
        match answered {
            1 => frame(&mut stream, &failure(xid, 5, THROTTLED)).await?,
            _ => frame(&mut stream, &refusals(xid, NO_AUTH)).await?,
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_answer_after_a_throttled_read_is_of_an_older_state_than_its_own() {
    let server = Server::start(10_000, throttles_the_first).await;
    let mut driver = Driver::run(server.config());
    driver
        .until(|report| matches!(report, SourceEvent::Input(Input::Armed)))
        .await;
    for ticket in 2..=READS as u64 {
        let reads = vec![ReadRequest {
            path: ZnodePath::parse("/a").unwrap(),
            children: true,
        }];
        let ticket = Ticket(ticket);
        driver.request_now(SourceRequest::Read { ticket, reads }).await;
    }
    let last = Ticket(READS as u64);
    driver
        .until(|report| matches!(report, SourceEvent::Input(Input::Answer { ticket, .. }) if *ticket == last))
        .await;
    let answers: Vec<(u64, bool)> = driver
        .reports
        .iter()
        .filter_map(|report| match report {
            SourceEvent::Input(Input::Answer { ticket, outcomes }) => Some((
                ticket.0,
                outcomes.iter().all(|outcome| matches!(outcome, Outcome::Denied)),
            )),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [(1, true), (2, true), (3, true)], "{:?}", driver.reports);
    assert_eq!(server.sessions(), 1, "on the same connection");
    driver.end().await;
}

#[tokio::test]
async fn a_server_that_throttles_for_as_long_as_a_request_may_take_is_named_as_overloaded() {
    let server = Server::start(500, async |mut stream| {
        loop {
            let xid = read(&mut stream).await?.xid;
            frame(&mut stream, &failure(xid, 5, THROTTLED)).await?;
        }
    })
    .await;
    let mut driver = Driver::run(server.config());
    driver.until_trouble("request_throttle_max_requests").await;
    driver.end().await;
}
