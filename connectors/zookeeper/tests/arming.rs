//! What a connection hands on of what comes while its watches are being armed, with a server that is a script: a real one
//! lags when it likes.

use std::io;
use std::time::Duration;

use bridge_core::capture::{Event, EventKind, Input, ReadRequest, SessionFate, Ticket};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::source::{Command, Connection, Link, Order, Source, SourceEvent};
use bridge_zookeeper::ZookeeperSource;
use bridge_zookeeper::config::ZookeeperConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
const BOUND: Duration = Duration::from_secs(30);

/// `xid` of what no request asked for.
const NOTIFICATION: i32 = -1;
const SYNC: i32 = 9;
const PING: i32 = 11;
const ADD_WATCH: i32 = 106;
/// A session is connected.
const CONNECTED: i32 = 3;
const NODE_CREATED: i32 = 1;

async fn frame(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    stream.write_all(&[length(body).as_slice(), body].concat()).await
}

fn length(bytes: &[u8]) -> [u8; 4] {
    i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes()
}

fn header(xid: i32, zxid: i64) -> Vec<u8> {
    [&xid.to_be_bytes()[..], &zxid.to_be_bytes(), &0i32.to_be_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [length(text.as_bytes()).as_slice(), text.as_bytes()].concat()
}

async fn created(stream: &mut TcpStream, path: &str, zxid: i64) -> io::Result<()> {
    let kind_and_state = [NODE_CREATED.to_be_bytes(), CONNECTED.to_be_bytes()].concat();
    frame(
        stream,
        &[header(NOTIFICATION, zxid), kind_and_state, text(path)].concat(),
    )
    .await
}

async fn request(stream: &mut TcpStream, length: i32) -> io::Result<Vec<u8>> {
    let mut request = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut request).await?;
    Ok(request)
}

/// A server that catches up with one create between the watch and the `sync`, and hears of another one with a read.
async fn lagging_server(listener: TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut first = [0; 4];
        stream.read_exact(&mut first).await?;
        if &first == b"srvr" {
            let word = b"Zookeeper version: 3.9.5, built long ago\nMode: follower\n";
            stream.write_all(word).await?;
            continue;
        }
        request(&mut stream, i32::from_be_bytes(first)).await?;
        let session = [
            &0i32.to_be_bytes()[..],
            &10_000i32.to_be_bytes(),
            &7i64.to_be_bytes(),
        ];
        let password = [&16i32.to_be_bytes()[..], &[0; 16], &[0]];
        frame(&mut stream, &[session.concat(), password.concat()].concat()).await?;
        return serve(stream).await;
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = stream.read_i32().await?;
        let request = request(&mut stream, length).await?;
        let mut numbers = request.chunks_exact(4).map(|bytes| match bytes {
            [a, b, c, d] => i32::from_be_bytes([*a, *b, *c, *d]),
            _ => 0,
        });
        let (xid, operation) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        match operation {
            ADD_WATCH => {
                frame(&mut stream, &header(xid, 4)).await?;
                created(&mut stream, "/a/known", 5).await?;
            }
            SYNC => frame(&mut stream, &[header(xid, 5), text("/a")].concat()).await?,
            PING => frame(&mut stream, &header(xid, 5)).await?,
            // The first read: the watch has something to tell before it is answered.
            _ => created(&mut stream, "/a/new", 6).await?,
        }
    }
}

#[tokio::test]
async fn what_a_lagging_server_catches_up_with_before_the_watches_are_armed_is_not_handed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(lagging_server(listener));
    let (orders, commands) = mpsc::channel(8);
    let (reports, mut reported) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let link = Link {
        commands,
        reports,
        stop: stop.clone(),
    };
    let source = Box::new(ZookeeperSource::new(ZookeeperConfig::new(
        connect.parse().unwrap(),
    )));
    let source = tokio::spawn(source.run(link));
    let (root, mut number) = (ZnodePath::parse("/a").unwrap(), Connection::default());
    let mut told = Vec::new();
    let is_told = |told: &[SourceEvent]| matches!(told.last(), Some(SourceEvent::Input(Input::Events(_))));
    while !is_told(&told) {
        let report = timeout(BOUND, reported.recv())
            .await
            .expect("a report in time")
            .unwrap();
        let command = match &report {
            SourceEvent::Connected { connection, session } => {
                assert_eq!(*session, SessionFate::New);
                number = *connection;
                Some(Command::Arm(vec![root.clone()]))
            }
            SourceEvent::Input(Input::Armed) => Some(Command::Read {
                ticket: Ticket(1),
                reads: vec![ReadRequest {
                    path: root.clone(),
                    children: true,
                }],
            }),
            _ => None,
        };
        if let Some(command) = command {
            let order = Order {
                connection: number,
                command,
            };
            orders.send(order).await.unwrap();
        }
        told.push(report);
    }
    let event = Event {
        path: ZnodePath::parse("/a/new").unwrap(),
        kind: EventKind::Created,
        zxid: Some(Zxid(6)),
    };
    // What came before the answer to sync was told on an earlier connection, or is read by the walk.
    let [
        SourceEvent::Input(Input::Armed),
        SourceEvent::Input(Input::Events(events)),
    ] = &told[2..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(events, &[event]);
    stop.cancel();
    timeout(BOUND, source).await.expect("the source ends").unwrap();
    server.abort();
}
