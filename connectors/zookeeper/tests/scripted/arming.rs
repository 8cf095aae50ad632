//! Events that arrive while the watches are being armed, from a scripted server: a real one cannot be made to lag on
//! demand.

use std::io;
use std::time::Duration;

use crate::wire::{ADD_WATCH, PING, Request, SYNC, created, frame, header, request, session, text};
use bridge_core::capture::{Event, EventKind, Input, ReadRequest, SessionFate, Ticket};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::source::{AddressedRequest, Connection, Link, Source, SourceEvent, SourceRequest};
use bridge_zookeeper::ZookeeperSource;
use bridge_zookeeper::config::ZookeeperConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
const BOUND: Duration = Duration::from_secs(30);

/// A server that catches up with one create between the watch and the `sync`, and hears of another one with a read.
async fn lagging_server(listener: TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        if session(&mut stream, 10_000, "3.9.5").await? {
            return serve(stream).await;
        }
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let Request { xid, operation } = request(&mut stream).await?;
        match operation {
            ADD_WATCH => {
                frame(&mut stream, &header(xid, 4)).await?;
                frame(&mut stream, &created("/a/known", 5)).await?;
            }
            SYNC => frame(&mut stream, &[header(xid, 5), text("/a")].concat()).await?,
            PING => frame(&mut stream, &header(xid, 5)).await?,
            // The first read: the watch has an event before it is answered.
            _ => frame(&mut stream, &created("/a/new", 6)).await?,
        }
    }
}

#[tokio::test]
async fn changes_that_a_lagging_server_catches_up_with_before_the_watches_are_armed_are_not_forwarded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(lagging_server(listener));
    let (requests_end, requests) = mpsc::channel(8);
    let (reports, mut reported) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let link = Link {
        requests,
        reports,
        stop: stop.clone(),
    };
    let source = Box::new(ZookeeperSource::new(ZookeeperConfig::new(
        connect.parse().unwrap(),
    )));
    let source = tokio::spawn(source.run(link));
    let (root, mut number) = (ZnodePath::parse("/a").unwrap(), Connection::default());
    let mut reports = Vec::new();
    let has_event =
        |reports: &[SourceEvent]| matches!(reports.last(), Some(SourceEvent::Input(Input::Events(_))));
    while !has_event(&reports) {
        let report = timeout(BOUND, reported.recv())
            .await
            .expect("a report in time")
            .unwrap();
        let request = match &report {
            SourceEvent::Connected {
                connection, session, ..
            } => {
                assert_eq!(*session, SessionFate::New);
                number = *connection;
                Some(SourceRequest::Arm(vec![root.clone()]))
            }
            SourceEvent::Input(Input::Armed) => Some(SourceRequest::Read {
                ticket: Ticket(1),
                reads: vec![ReadRequest {
                    path: root.clone(),
                    children: true,
                }],
            }),
            _ => None,
        };
        if let Some(request) = request {
            let addressed = AddressedRequest {
                connection: number,
                request,
            };
            requests_end.send(addressed).await.unwrap();
        }
        reports.push(report);
    }
    let event = Event {
        path: ZnodePath::parse("/a/new").unwrap(),
        kind: EventKind::Created,
        zxid: Some(Zxid(6)),
    };
    // Events before the answer to sync were reported on an earlier connection, or the walk reads their result.
    let [
        SourceEvent::Input(Input::Armed),
        SourceEvent::Input(Input::Events(events)),
    ] = &reports[2..]
    else {
        panic!("{reports:?}");
    };
    assert_eq!(events, &[event]);
    stop.cancel();
    timeout(BOUND, source).await.expect("the source ends").unwrap();
    server.abort();
}
