//! The source: opens one connection after another, until it is stopped or cannot continue.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::{Duration, Instant};

use bridge_core::capture::{Input, SessionFate};
use bridge_core::source::{Connection, Link, Source, SourceError, SourceErrorKind, SourceEvent};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::sleep;
use zookeeper_client::{Client, SessionState};

use crate::canary::Writer;
use crate::config::ZookeeperConfig;
use crate::connect::{Connected, connect, only_version, remark_on_timeout, versions};
use crate::own_thread;
use crate::reconnects::{RECONNECT_MAX, Reconnects, STEADY};
use crate::serve::{End, serve};

/// This many connections in a row that end soon are reported.
const ENDED_SOON_MAX: u32 = 3;

/// The pause between two questions for the versions of servers that differ.
const VERSIONS_EVERY: Duration = Duration::from_secs(30);

/// A ZooKeeper ensemble as a source of changes.
#[derive(Debug)]
pub struct ZookeeperSource {
    config: ZookeeperConfig,
}

impl ZookeeperSource {
    /// Nothing is connected before [`Source::run`].
    pub fn new(config: ZookeeperConfig) -> ZookeeperSource {
        ZookeeperSource { config }
    }

    async fn run(self, mut link: Link) {
        let stop = link.stop.clone();
        let mut reconnects = Reconnects::default();
        let mut number = Connection::default();
        let mut remarked = None;
        let mut writer = Writer::new(self.config.clone());
        loop {
            let connected = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                connected = connect(&self.config) => connected,
            };
            let wait = match connected {
                Ok(connected) => {
                    self.remark(&connected, &mut remarked);
                    let mut keeper = SourceState {
                        number: &mut number,
                        writer: &mut writer,
                        reconnects: &mut reconnects,
                        link: &mut link,
                    };
                    match keeper.keep(connected).await {
                        Some(after) => after,
                        None => return,
                    }
                }
                Err(trouble) => {
                    let is_final = trouble.kind.is_final();
                    if link.reports.send(SourceEvent::Trouble(trouble)).await.is_err() || is_final {
                        return;
                    }
                    reconnects.failed()
                }
            };
            if !pause(wait, &mut link).await {
                return;
            }
        }
    }

    /// Says once that the servers do not grant the session timeout that is asked for.
    fn remark(&self, connected: &Connected, remarked: &mut Option<String>) {
        let remark = remark_on_timeout(&self.config, connected.client.session_timeout());
        if let Some(remark) = remark.as_ref().filter(|_| remark != *remarked) {
            tracing::warn!(servers = self.config.connect.as_str(), "{remark}");
        }
        *remarked = remark;
    }
}

impl Source for ZookeeperSource {
    fn run(self: Box<Self>, link: Link) -> BoxFuture<'static, ()> {
        let source = *self;
        Box::pin(apart(|link| source.run(link), link))
    }
}

/// Runs a source on a thread of its own, which ends when nothing waits for it any more. A panic there halts the source
/// with a message.
pub(crate) async fn apart<R>(run: impl FnOnce(Link) -> R, mut link: Link)
where
    R: Future<Output = ()> + Send + 'static,
{
    link.stop = link.stop.child_token();
    let _ends_too = link.stop.clone().drop_guard();
    let reports = link.reports.clone();
    let run = AssertUnwindSafe(own_thread::run(run(link)));
    let trouble = match run.catch_unwind().await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => SourceError {
            kind: SourceErrorKind::Configuration,
            message: format!(
                "there is no thread for the connection: {error}; allow the process more threads (ulimit -u, TasksMax)"
            ),
        },
        Err(panic) => SourceError {
            kind: SourceErrorKind::Defect,
            message: format!(
                "the connection ended in a panic: {}; this is a defect of zkbridge: report it with the log, and restart \
                 the bridge to go on",
                words_of(&*panic)
            ),
        },
    };
    let _pipeline_gone = reports.send(SourceEvent::Trouble(trouble)).await;
}

/// The message of a panic.
fn words_of(panic: &(dyn Any + Send)) -> &str {
    let fixed = panic.downcast_ref::<&str>().copied();
    fixed
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Waits, and throws away commands for the connection that is gone. `false`: asked to stop.
pub(crate) async fn pause(wait: Duration, link: &mut Link) -> bool {
    let wait = sleep(wait);
    tokio::pin!(wait);
    loop {
        tokio::select! {
            biased;
            () = link.stop.cancelled() => return false,
            () = &mut wait => return true,
            command = link.requests.recv() => if command.is_none() {
                return false;
            },
        }
    }
}

/// The state that outlives a session of the source.
struct SourceState<'a> {
    number: &'a mut Connection,
    writer: &'a mut Writer,
    reconnects: &'a mut Reconnects,
    link: &'a mut Link,
}

impl SourceState<'_> {
    /// Serves a session over all its connections. Returns how long to wait before the next session; `None` to end.
    async fn keep(&mut self, connected: Connected) -> Option<Duration> {
        let Connected { client, version } = connected;
        self.link.reports.send(SourceEvent::Server(version)).await.ok()?;
        let mut client = client;
        let mut fate = SessionFate::New;
        loop {
            *self.number = self.number.next();
            let began = Instant::now();
            let asked = ask_version(self.writer.config().clone(), fate, self.link.reports.clone());
            let served = serve(&client, *self.number, fate, self.writer, self.link);
            let end = beside(served, asked).await;
            let lasted = began.elapsed();
            self.reconnects.lasted(lasted);
            let input = match &end {
                End::Stopped => return None,
                End::Overflow => Input::Overflow,
                End::Unanswered(_) => Input::Unanswered,
                End::Lost | End::Expired | End::Replace(_) | End::Trouble(_) => Input::Disconnected,
            };
            // The pipeline may take long to make room for the report: nothing more is read meanwhile.
            let kept = matches!(end, End::Lost).then_some(client);
            self.report(SourceEvent::Input(input)).await?;
            match end {
                End::Stopped => return None,
                End::Replace(after) => return Some(after),
                End::Overflow => return Some(self.reconnects.failed()),
                End::Unanswered(trouble) => {
                    self.report(SourceEvent::Trouble(trouble)).await?;
                    return Some(self.reconnects.failed());
                }
                End::Trouble(trouble) => {
                    let is_final = trouble.kind.is_final();
                    self.report(SourceEvent::Trouble(trouble)).await?;
                    return (!is_final).then_some(RECONNECT_MAX);
                }
                End::Expired => return self.ended_soon(lasted).await,
                End::Lost => {}
            }
            client = kept?;
            let wait = self.ended_soon(lasted).await?;
            if !pause(wait, self.link).await {
                return None;
            }
            if !wait_for_session(&client, self.link).await? {
                return Some(Duration::ZERO);
            }
            fate = SessionFate::Kept;
        }
    }

    async fn report(&self, report: SourceEvent) -> Option<()> {
        self.link.reports.send(report).await.ok()
    }

    /// A connection or session ended. Returns how long to wait, and reports those that end soon one after another.
    async fn ended_soon(&mut self, lasted: Duration) -> Option<Duration> {
        if lasted >= STEADY {
            return Some(Duration::ZERO);
        }
        let wait = self.reconnects.failed();
        if self.reconnects.failures() >= ENDED_SOON_MAX {
            let message = format!(
                "'{}' ends each connection soon after it is made; check that 'connect' names ZooKeeper servers, and look \
                 at their logs",
                self.writer.config().connect.as_str()
            );
            let kind = SourceErrorKind::Unavailable;
            self.report(SourceEvent::Trouble(SourceError { kind, message }))
                .await?;
        }
        Some(wait)
    }
}

/// Asks the servers for their version again after a reconnect, as they may have been upgraded meanwhile, and as long as
/// they differ: an upgrade goes from server to server.
async fn ask_version(config: ZookeeperConfig, fate: SessionFate, reports: mpsc::Sender<SourceEvent>) {
    // A new session has asked when it began.
    let mut is_due = fate == SessionFate::Kept;
    loop {
        if !is_due {
            sleep(VERSIONS_EVERY).await;
        }
        is_due = false;
        let found = versions(&config).await;
        // The source ends without its pipeline.
        let sent = reports.send(SourceEvent::Server(only_version(&found))).await;
        if sent.is_err() || found.len() <= 1 {
            return;
        }
    }
}

/// Runs both until the first ends; the other one may be cut off.
async fn beside<T>(served: impl Future<Output = T>, asked: impl Future<Output = ()>) -> T {
    let mut served = pin!(served);
    tokio::select! {
        biased;
        end = &mut served => end,
        () = asked => served.await,
    }
}

/// Waits until the client has the session again (`true`) or it is over (`false`). `None`: asked to stop.
///
/// The client gives a session up by itself after 7/5 of its timeout without a server, so this ends.
async fn wait_for_session(client: &Client, link: &mut Link) -> Option<bool> {
    let mut states = client.state_watcher();
    loop {
        match states.state() {
            SessionState::SyncConnected => return Some(true),
            state if state.is_terminated() => return Some(false),
            _ => {}
        }
        tokio::select! {
            biased;
            () = link.stop.cancelled() => return None,
            _ = states.changed() => {}
            command = link.requests.recv() => { command?; }
        }
    }
}
