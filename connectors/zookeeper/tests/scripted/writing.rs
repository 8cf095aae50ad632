//! Writes of several operations: what is never sent, and what is known of one without an answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Lifetime, LifetimeKind};
use bridge_zookeeper::{TreeWrite, TreeWriter, WriteError};
use tokio::net::TcpStream;

use crate::driver::Server;
use crate::wire::{PING, failure, frame, header, request};

const MULTI: i32 = 14;
const DELETE: i32 = 2;
const THROTTLED: i32 = -127;

/// The `xid` of the next request of several operations.
async fn write(stream: &mut TcpStream) -> io::Result<i32> {
    loop {
        let asked = request(stream).await?;
        match asked.operation {
            PING => frame(stream, &header(asked.xid, 5)).await?,
            MULTI => return Ok(asked.xid),
            _ => {}
        }
    }
}

/// The answer to a request that deletes one znode.
fn deleted(xid: i32) -> Vec<u8> {
    let part = [&DELETE.to_be_bytes()[..], &[0], &0i32.to_be_bytes()].concat();
    let end = [&(-1i32).to_be_bytes()[..], &[1], &(-1i32).to_be_bytes()].concat();
    [header(xid, 5), part, end].concat()
}

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

fn anyone(perms: &str) -> Acl {
    Acl {
        scheme: "world".to_owned(),
        id: "anyone".to_owned(),
        perms: perms.to_owned(),
    }
}

/// The message of a failure.
fn message(written: Result<(), WriteError>) -> String {
    match written {
        Err(WriteError::Failed(error)) => error.message,
        other => panic!("no failure: {other:?}"),
    }
}

#[tokio::test]
async fn a_write_that_cannot_be_sent_is_no_refusal_of_the_server_and_nothing_of_its_request_is_sent() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let server = Server::start(10_000, move |mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            loop {
                let xid = write(&mut stream).await?;
                counted.fetch_add(1, Ordering::Relaxed);
                frame(&mut stream, &deleted(xid)).await?;
            }
        }
    })
    .await;
    let writer = TreeWriter::open(&server.config()).await.unwrap();
    let (old, new) = (path("/old"), path("/new"));
    let delete = TreeWrite::Delete {
        path: &old,
        version: 3,
    };
    let persistent = Lifetime {
        kind: LifetimeKind::Persistent,
        ttl: None,
    };
    let negative = Lifetime {
        kind: LifetimeKind::Ttl,
        ttl: Some(-1),
    };
    let check = async |acl: &[Acl], lifetime, expected: &str| {
        let create = TreeWrite::Create {
            path: &new,
            data: b"",
            acl,
            lifetime,
        };
        match writer.write(&[delete, create]).await {
            Err(WriteError::Invalid { index: 1, reason }) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    };
    check(&[anyone("r")], negative, "-1 ms").await;
    check(&[anyone("rx")], persistent, "'x'").await;
    check(&[], persistent, "acl").await;
    assert_eq!(sent.load(Ordering::Relaxed), 0);
    writer.write(&[delete]).await.unwrap();
    assert_eq!(sent.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn only_a_write_that_may_have_been_carried_out_is_called_unknown() {
    let old = path("/old");
    let delete = [TreeWrite::Delete {
        path: &old,
        version: 3,
    }];
    // Throttled as long as a request may take.
    let server = Server::start(500, async |mut stream| {
        loop {
            let xid = write(&mut stream).await?;
            frame(&mut stream, &failure(xid, 5, THROTTLED)).await?;
        }
    })
    .await;
    let writer = TreeWriter::open(&server.config()).await.unwrap();
    let throttled = message(writer.write(&delete).await);
    assert!(
        throttled.contains("throttles a write and has not carried it out"),
        "{throttled}"
    );
    assert!(!throttled.contains("not known"), "{throttled}");
    // Throttled once, and then without an answer.
    let server = Server::start(500, async |mut stream| {
        let xid = write(&mut stream).await?;
        frame(&mut stream, &failure(xid, 5, THROTTLED)).await?;
        write(&mut stream).await?;
        write(&mut stream).await.map(|_| ())
    })
    .await;
    let writer = TreeWriter::open(&server.config()).await.unwrap();
    let unknown = message(writer.write(&delete).await);
    assert!(
        unknown.contains("not known whether it was carried out"),
        "{unknown}"
    );
}
