//! The source: connection after connection, until it is asked to stop or cannot go on.

use std::time::Duration;

use bridge_core::capture::{Input, SessionFate};
use bridge_core::source::{Connection, Link, Source, SourceError, SourceErrorKind, SourceEvent};
use futures::future::BoxFuture;
use tokio::time::sleep;
use zookeeper_client::{Client, SessionState};

use crate::canary::Writer;
use crate::config::ZookeeperConfig;
use crate::connect::{Connected, connect, remark_on_timeout};
use crate::own_thread;
use crate::serve::{End, serve};

/// The wait before the first new attempt to make a session; it doubles with each failure.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// No wait is longer: an ensemble that is back is found within this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

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
        let mut backoff = BACKOFF_FIRST;
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
                    backoff = BACKOFF_FIRST;
                    self.remark(&connected, &mut remarked);
                    match keep_session(connected, &mut number, &mut writer, &mut link).await {
                        Some(after) => after,
                        None => return,
                    }
                }
                Err(trouble) => {
                    let is_final = trouble.kind.is_final();
                    if link.reports.send(SourceEvent::Trouble(trouble)).await.is_err() || is_final {
                        return;
                    }
                    let wait = backoff;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    wait
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
        Box::pin(apart(*self, link))
    }
}

/// Runs a source on a thread of its own, which ends when nobody waits for it any more.
async fn apart(source: ZookeeperSource, mut link: Link) {
    link.stop = link.stop.child_token();
    let _ends_too = link.stop.clone().drop_guard();
    let reports = link.reports.clone();
    if let Err(error) = own_thread::run(source.run(link)).await {
        let trouble = SourceError {
            kind: SourceErrorKind::Configuration,
            message: format!(
                "there is no thread for the connection: {error}; allow the process more threads (ulimit -u, TasksMax)"
            ),
        };
        let _pipeline_gone = reports.send(SourceEvent::Trouble(trouble)).await;
    }
}

/// Waits, and throws away commands for the connection that is gone. `false`: asked to stop.
async fn pause(wait: Duration, link: &mut Link) -> bool {
    let wait = sleep(wait);
    tokio::pin!(wait);
    loop {
        tokio::select! {
            biased;
            () = link.stop.cancelled() => return false,
            () = &mut wait => return true,
            command = link.commands.recv() => if command.is_none() {
                return false;
            },
        }
    }
}

/// Serves a session over all its connections. Returns how long to wait before the next one; `None` to end.
async fn keep_session(
    connected: Connected,
    number: &mut Connection,
    writer: &mut Writer,
    link: &mut Link,
) -> Option<Duration> {
    let Connected { client, version } = connected;
    link.reports.send(SourceEvent::Server(version)).await.ok()?;
    let mut fate = SessionFate::New;
    loop {
        *number = number.next();
        let end = serve(&client, *number, fate, writer, link).await;
        let wait = match end {
            End::Stopped => return None,
            End::Replace(after) => {
                link.reports
                    .send(SourceEvent::Input(Input::Disconnected))
                    .await
                    .ok()?;
                return Some(after);
            }
            End::Overflow => {
                link.reports
                    .send(SourceEvent::Input(Input::Overflow))
                    .await
                    .ok()?;
                return Some(Duration::ZERO);
            }
            End::Trouble(trouble) => {
                let is_final = trouble.kind.is_final();
                link.reports
                    .send(SourceEvent::Input(Input::Disconnected))
                    .await
                    .ok()?;
                link.reports.send(SourceEvent::Trouble(trouble)).await.ok()?;
                return (!is_final).then_some(BACKOFF_MAX);
            }
            End::Lost => {
                link.reports
                    .send(SourceEvent::Input(Input::Disconnected))
                    .await
                    .ok()?;
                wait_for_session(&client, link).await?
            }
            End::Expired => {
                link.reports
                    .send(SourceEvent::Input(Input::Disconnected))
                    .await
                    .ok()?;
                false
            }
        };
        if !wait {
            return Some(Duration::ZERO);
        }
        fate = SessionFate::Kept;
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
            command = link.commands.recv() => { command?; }
        }
    }
}
