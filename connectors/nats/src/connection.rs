//! One connection to the servers, with its events.
//!
//! The client library reconnects by itself and sends the messages that still wait. That is harmless, because one path
//! has one message in flight and the stream knows its id; but a delivery does not continue across a reconnect, because
//! acknowledgements of the lost connection no longer arrive.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::context::{Context, ContextBuilder, PublishAckFuture, PublishError};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{Client, ConnectOptions, Event, ServerError, Subject};
use bridge_core::file_path::FilePath;
use bridge_core::sink::{SinkError, SinkErrorKind};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::{Auth, NatsConfig, Tls};
use crate::error;
use crate::refused::RefusedSubjects;

/// How long a server may take to let us in, and for one question.
pub(crate) const ANSWER_BOUND: Duration = Duration::from_secs(10);

/// How the connection is called in the servers' lists.
const CLIENT_NAME: &str = "zkbridge";

/// The wait before the second of reconnects that follow each other; each later one takes twice as long.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);
/// The longest wait before a reconnect.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(5);
/// A connection that lasted for so long makes the next loss the first one again.
const RECONNECT_LASTED: Duration = Duration::from_secs(60);

/// The waits before reconnects. The library counts only attempts that fail, so that a server that lets us in and then
/// breaks the protocol would be tried again without a pause.
fn reconnect_delays() -> impl Fn(usize) -> Duration + Send + Sync + 'static {
    let reconnects = Mutex::new(Reconnects::default());
    move |_| {
        let mut reconnects = reconnects.lock().unwrap_or_else(PoisonError::into_inner);
        reconnects.next_delay(Instant::now())
    }
}

/// The reconnects that followed each other.
#[derive(Debug, Default)]
struct Reconnects {
    count: u32,
    last: Option<Instant>,
}

impl Reconnects {
    /// The wait before the next reconnect.
    fn next_delay(&mut self, now: Instant) -> Duration {
        let has_lasted = |last: Instant| now.saturating_duration_since(last) >= RECONNECT_LASTED;
        if self.last.is_none_or(has_lasted) {
            self.count = 0;
        }
        self.last = Some(now);
        self.count = self.count.saturating_add(1);
        match self.count {
            1 => Duration::ZERO,
            count => RECONNECT_DELAY
                .saturating_mul(1 << (count - 2).min(10))
                .min(RECONNECT_DELAY_MAX),
        }
    }
}

/// The failures of a connection so far.
#[derive(Clone, Debug)]
struct ConnectionState {
    is_lost: bool,
    subjects: RefusedSubjects,
    /// The server's first refusal of something else than messages of one subject, with its kind.
    refusal: Option<(SinkErrorKind, String)>,
}

/// One connection.
pub(crate) struct Connection {
    client: Client,
    context: Context,
    state: watch::Receiver<ConnectionState>,
    refused: RefusedSubjects,
    servers: Arc<str>,
}

impl Connection {
    /// Connects and authenticates.
    pub(crate) async fn open(config: &NatsConfig) -> Result<Connection, SinkError> {
        let urls = config.urls();
        let servers: Arc<str> = urls.join(",").into();
        let refused = RefusedSubjects::at(&servers);
        let (sender, state) = watch::channel(ConnectionState {
            is_lost: false,
            subjects: refused.clone(),
            refusal: None,
        });
        let sender = Arc::new(sender);
        let options = ConnectOptions::new()
            .name(CLIENT_NAME)
            .connection_timeout(ANSWER_BOUND)
            .request_timeout(Some(ANSWER_BOUND))
            .custom_inbox_prefix(&config.inbox_prefix)
            // A lost connection is replaced by one to the configured servers, so others are never needed; and a
            // certificate rarely has the addresses that servers announce.
            .ignore_discovered_servers()
            // Each server once after a loss, so that no unused connection is opened.
            .max_reconnects(urls.len())
            .reconnect_delay_callback(reconnect_delays())
            .event_callback(move |event| {
                let sender = Arc::clone(&sender);
                async move { sender.send_modify(|state| state.apply(event)) }
            });
        let options = with_auth(options, config.auth.as_ref()).await?;
        let options = with_tls(options, config.tls.as_ref()).await?;
        let client = options
            .connect(urls)
            .await
            .map_err(|failure| error::of_connect(failure, &servers))?;
        let context = ContextBuilder::new()
            .timeout(config.timeout.0)
            // The queue counts for itself, and never waits here.
            .max_ack_inflight(config.in_flight as usize + 1);
        let context = match &config.domain {
            Some(domain) => context.domain(domain).build(client.clone()),
            None => context.build(client.clone()),
        };
        Ok(Connection {
            client,
            context,
            state,
            refused,
            servers,
        })
    }

    /// The subjects to which the server does not let the sink publish. A change of them ends each wait for a moment, so
    /// that whatever is awaited looks again.
    pub(crate) fn refused(&self) -> RefusedSubjects {
        self.refused.clone()
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The largest message that the server takes, headers included.
    pub(crate) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Whether the connection was lost since it was opened, even if the library has reconnected.
    pub(crate) fn is_lost(&self) -> bool {
        self.state.borrow().is_lost
    }

    /// Asks a question that has no other bound, and hears when the server refuses it aloud.
    pub(crate) async fn ask<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, SinkError> {
        let answered = timeout(ANSWER_BOUND, answer);
        tokio::select! {
            biased;
            answered = answered => answered.map_err(|_| self.silence()),
            error = failure(&mut self.state, &self.servers) => Err(error),
        }
    }

    /// Waits for something that has a bound of its own, no longer than the connection is there.
    pub(crate) async fn while_there<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, SinkError> {
        tokio::select! {
            biased;
            answered = answer => Ok(answered),
            error = failure(&mut self.state, &self.servers) => Err(error),
        }
    }

    /// Sends a message, no longer than the connection is there; the future inside returns its end.
    pub(crate) async fn send(
        &mut self,
        subject: &str,
        message: PublishMessage,
    ) -> Result<Result<PublishAckFuture, PublishError>, SinkError> {
        tokio::select! {
            biased;
            sent = self.context.send_publish(Subject::from(subject), message) => Ok(sent),
            error = failure(&mut self.state, &self.servers) => Err(error),
        }
    }

    fn silence(&self) -> SinkError {
        SinkError::new(
            SinkErrorKind::Unavailable,
            format!(
                "NATS at {}: no answer within {} s; see whether JetStream has a leader",
                self.servers,
                ANSWER_BOUND.as_secs()
            ),
        )
    }
}

/// Waits until the connection cannot be used any more, or the server refuses something.
async fn failure(state: &mut watch::Receiver<ConnectionState>, servers: &str) -> SinkError {
    let failed = state
        .wait_for(|state| state.is_lost || state.refusal.is_some())
        .await;
    let refusal = failed.ok().and_then(|state| state.refusal.clone());
    match refusal {
        Some((kind, words)) => SinkError::new(kind, format!("NATS at {servers}: {words}; {}", remedy(kind))),
        None => SinkError::new(
            SinkErrorKind::Unavailable,
            format!("NATS at {servers}: the connection was lost"),
        ),
    }
}

fn remedy(kind: SinkErrorKind) -> &'static str {
    match kind {
        SinkErrorKind::Authorization => {
            "the sink's user must be allowed to publish to its subjects and to $JS.API.STREAM.INFO.<stream>, with \
             create_stream to $JS.API.STREAM.CREATE.<stream>, with fence to $JS.API.STREAM.MSG.GET.<stream> (with domain \
             $JS.<domain>.API…), and to subscribe to _INBOX.> or what inbox_prefix names"
        }
        SinkErrorKind::Authentication => "see the options under [sink.auth]",
        _ => "see the server's log",
    }
}

impl ConnectionState {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Disconnected | Event::Closed => self.is_lost = true,
            Event::ServerError(refused) => {
                let words = match refused {
                    ServerError::Other(words) => words,
                    other => other.to_string(),
                };
                tracing::debug!(words, "the NATS server says");
                if self.subjects.take(&words) {
                    return;
                }
                let kind = error::of_server(&words);
                self.refusal.get_or_insert((kind, words));
            }
            other => tracing::debug!(%other, "the NATS client says"),
        }
    }
}

async fn with_auth(options: ConnectOptions, auth: Option<&Auth>) -> Result<ConnectOptions, SinkError> {
    let Some(auth) = auth else {
        return Ok(options);
    };
    if let Some(token) = &auth.token {
        return Ok(options.token(token.reveal().to_owned()));
    }
    if let (Some(user), Some(password)) = (&auth.user, &auth.password) {
        return Ok(options.user_and_password(user.clone(), password.reveal().to_owned()));
    }
    if let Some(seed) = &auth.nkey {
        return Ok(options.nkey(seed.reveal().trim().to_owned()));
    }
    let Some(file) = &auth.creds else {
        return Ok(options);
    };
    let text = read(file, "auth.creds").await?;
    options.credentials(&text).map_err(|_| {
        let message = format!("{file} is no file of credentials: see auth.creds");
        SinkError::new(SinkErrorKind::Authentication, message)
    })
}

async fn with_tls(options: ConnectOptions, tls: Option<&Tls>) -> Result<ConnectOptions, SinkError> {
    let Some(tls) = tls else {
        return Ok(options);
    };
    // The library names no file when one cannot be read.
    for (file, key) in [(&tls.ca, "tls.ca"), (&tls.cert, "tls.cert")] {
        if let Some(file) = file {
            read(file, key).await?;
        }
    }
    if let Some(file) = &tls.key {
        read_as(file, "tls.key", FilePath::read_private_key).await?;
    }
    let mut options = options.require_tls(true);
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.as_path().to_owned());
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        options = options.add_client_certificate(cert.as_path().to_owned(), key.as_path().to_owned());
    }
    if tls.handshake_first {
        options = options.tls_first();
    }
    Ok(options)
}

async fn read(file: &FilePath, key: &str) -> Result<String, SinkError> {
    read_as(file, key, FilePath::read_text).await
}

async fn read_as(
    file: &FilePath,
    key: &str,
    how: fn(&FilePath) -> std::io::Result<String>,
) -> Result<String, SinkError> {
    let opened = file.clone();
    let read = tokio::task::spawn_blocking(move || how(&opened)).await;
    let read = read.unwrap_or_else(|failure| Err(std::io::Error::other(failure)));
    read.map_err(|failure| {
        let message = format!("{file} cannot be read: {failure}; see {key}");
        SinkError::new(SinkErrorKind::Authentication, message).because(failure)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_that_do_not_last_wait_longer_each_time_and_one_that_lasts_begins_again() {
        let mut reconnects = Reconnects::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let wait = reconnects.next_delay(now);
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits, [0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(reconnects.next_delay(now + RECONNECT_LASTED), Duration::ZERO);
    }
}
