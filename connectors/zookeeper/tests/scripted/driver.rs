//! A source with its scripted server, and the pipeline's part of the conversation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bridge_core::capture::{Input, ReadRequest, Ticket};
use bridge_core::path::ZnodePath;
use bridge_core::source::{
    AddressedRequest, Connection, Link, Source, SourceError, SourceErrorKind, SourceEvent, SourceRequest,
};
use bridge_zookeeper::ZookeeperSource;
use bridge_zookeeper::config::ZookeeperConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::wire::session;

/// Longer than anything here takes on a busy machine.
pub const BOUND: Duration = Duration::from_secs(30);

/// The version of the server when it is asked for the first time, and later.
pub const FIRST_VERSION: &str = "3.9.4";
pub const UPGRADED: &str = "3.9.5";

/// A listener that gives each session to a script, and counts them.
pub struct Server {
    pub connect: String,
    sessions: Arc<AtomicUsize>,
    accepts: JoinHandle<()>,
}

impl Server {
    pub async fn start<F>(timeout_ms: i32, script: impl Fn(TcpStream) -> F + Send + 'static) -> Server
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = listener.local_addr().unwrap().to_string();
        let sessions = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sessions);
        let mut was_asked = false;
        let accepts = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // As if the servers were upgraded after they were asked for the first time.
                let version = if was_asked { UPGRADED } else { FIRST_VERSION };
                match session(&mut stream, timeout_ms, version).await {
                    Ok(true) => {
                        counted.fetch_add(1, Ordering::Relaxed);
                        // It ends with its connection.
                        let _script = tokio::spawn(script(stream));
                    }
                    Ok(false) => was_asked = true,
                    Err(_) => {}
                }
            }
        });
        Server {
            connect,
            sessions,
            accepts,
        }
    }

    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    pub fn config(&self) -> ZookeeperConfig {
        ZookeeperConfig::new(self.connect.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

/// A running source, and what it reported.
pub struct Driver {
    requests: mpsc::Sender<AddressedRequest>,
    reported: mpsc::Receiver<SourceEvent>,
    stop: CancellationToken,
    source: JoinHandle<()>,
    number: Connection,
    pub reports: Vec<SourceEvent>,
}

impl Driver {
    pub fn run(config: ZookeeperConfig) -> Driver {
        let (requests_end, requests) = mpsc::channel(8);
        let (reports, reported) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let link = Link {
            requests,
            reports,
            stop: stop.clone(),
        };
        let source = Box::new(ZookeeperSource::new(config));
        Driver {
            requests: requests_end,
            reported,
            stop,
            source: tokio::spawn(source.run(link)),
            number: Connection::default(),
            reports: Vec::new(),
        }
    }

    /// Plays the pipeline until a report is as wanted: arms `/a`, then reads it once.
    pub async fn until(&mut self, is_wanted: impl Fn(&SourceEvent) -> bool) {
        if timeout(BOUND, self.play(is_wanted)).await.is_err() {
            panic!("not in time: {:?}", self.reports);
        }
    }

    async fn play(&mut self, is_wanted: impl Fn(&SourceEvent) -> bool) {
        loop {
            let report = self.reported.recv().await.expect("the source goes on");
            let request = self.request(&report);
            let is_last = is_wanted(&report);
            self.reports.push(report);
            if let Some(request) = request {
                let connection = self.number;
                self.requests
                    .send(AddressedRequest { connection, request })
                    .await
                    .unwrap();
            }
            if is_last {
                return;
            }
        }
    }

    fn request(&mut self, report: &SourceEvent) -> Option<SourceRequest> {
        let root = ZnodePath::parse("/a").unwrap();
        match report {
            SourceEvent::Connected { connection, .. } => {
                self.number = *connection;
                Some(SourceRequest::Arm(vec![root]))
            }
            SourceEvent::Input(Input::Armed) => Some(SourceRequest::Read {
                ticket: Ticket(1),
                reads: vec![ReadRequest {
                    path: root,
                    children: true,
                }],
            }),
            _ => None,
        }
    }

    /// Sends a request on the present connection.
    pub async fn request_now(&mut self, request: SourceRequest) {
        let connection = self.number;
        let addressed = AddressedRequest { connection, request };
        self.requests.send(addressed).await.unwrap();
    }

    /// Waits for a trouble that is tried again and whose message holds these words.
    pub async fn until_trouble(&mut self, words: &str) {
        self.until(|report| is_trouble(report, words)).await;
    }

    /// The source ends when it is asked to.
    pub async fn end(self) {
        self.stop.cancel();
        drop(self.reported);
        timeout(BOUND, self.source)
            .await
            .expect("the source ends")
            .unwrap();
    }
}

fn is_trouble(report: &SourceEvent, words: &str) -> bool {
    matches!(report, SourceEvent::Trouble(SourceError { kind: SourceErrorKind::Unavailable, message }) if message.contains(words))
}
