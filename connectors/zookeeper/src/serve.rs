//! Serves one connection until its session ends: takes requests, and reports events and answers.
//!
//! Many reads are under way at once, within a window that the machine bounds. Reports that the pipeline does not take
//! at once wait here, with a bound: the socket is still read, because the client's own queue has no bound.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bridge_core::capture::{Event, Input, SessionFate};
use bridge_core::path::ZnodePath;
use bridge_core::source::{self, AddressedRequest, Link, SourceError, SourceEvent, SourceRequest};
use futures::future::BoxFuture;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use zookeeper_client::{AddWatchMode, Client, Error, SessionState, StateWatcher};

use crate::canary::{Attempt, Writer};
use crate::connect::{answer_bound, silent, throttled};
use crate::error::{Failure, of_request};
use crate::reads::{ReadOrder, Reads};
use crate::throttle::Throttle;
use crate::watchers::{WatchEvents, Watchers};

/// Events that may wait for the pipeline; then the connection is given up.
const WAITING_EVENTS_MAX: usize = 200_000;
/// Bytes of their paths. With paths of usual length [`WAITING_EVENTS_MAX`] is reached first.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// How often within this bound the oldest request is looked at.
const LOOKS: u32 = 8;

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It was lost; the session may continue.
    Lost,
    /// The session is over.
    Expired,
    /// The pipeline did not take events as fast as they came, and some had to be thrown away.
    Overflow,
    /// The pipeline requests another one, after a wait.
    Replace(Duration),
    /// A request was not answered in time, although the server answers pings.
    Unanswered(SourceError),
    /// It cannot continue.
    Trouble(SourceError),
    /// Asked to stop, or the pipeline is gone.
    Stopped,
}

/// The reports that wait for the pipeline.
#[derive(Default)]
struct Outbox {
    reports: VecDeque<SourceEvent>,
    events: usize,
    /// Of the paths of these events.
    bytes: usize,
}

fn bytes_of(events: &[Event]) -> usize {
    events.iter().map(|event| event.path.len()).sum()
}

impl Outbox {
    fn input(&mut self, input: Input) {
        self.reports.push_back(SourceEvent::Input(input));
    }

    /// Adds events to those that wait at the end already.
    fn events(&mut self, arrived: WatchEvents) {
        if arrived.events.is_empty() {
            return;
        }
        self.events += arrived.events.len();
        self.bytes += bytes_of(&arrived.events);
        match self.reports.back_mut() {
            Some(SourceEvent::Input(Input::Events(waiting))) => waiting.extend(arrived.events),
            _ => self.input(Input::Events(arrived.events)),
        }
    }

    fn next(&mut self) -> Option<SourceEvent> {
        let report = self.reports.pop_front();
        if let Some(SourceEvent::Input(Input::Events(events))) = &report {
            self.events -= events.len();
            self.bytes -= bytes_of(events);
        }
        report
    }

    fn is_full(&self) -> bool {
        self.events > WAITING_EVENTS_MAX || self.bytes > WAITING_BYTES_MAX
    }
}

/// Serves one connection until it ends. Events that still wait for the pipeline at the end are dropped, except the end
/// itself: the machine compares the whole tree anyway.
pub(crate) async fn serve(
    client: &Client,
    number: source::Connection,
    session: SessionFate,
    writer: &mut Writer,
    link: &mut Link,
) -> End {
    let mut connection = Connection {
        client,
        number,
        states: client.state_watcher(),
        watchers: Watchers::default(),
        reads: Reads::new(client, answer_bound(client, writer.config())),
        writer,
        writing: None,
        outbox: Outbox::default(),
    };
    connection.outbox.reports.push_back(SourceEvent::Connected {
        connection: number,
        session,
        server: connected_server(client),
    });
    connection.run(link).await
}

/// The server of a connection as it is configured, and its address where that is another text.
fn connected_server(client: &Client) -> Option<Arc<str>> {
    let (host, port, address) = client.connected_server()?;
    let server = match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    };
    let address = address.map(|address| address.to_string());
    Some(match address.filter(|address| *address != server) {
        Some(address) => format!("{server} ({address})").into(),
        None => server.into(),
    })
}

struct Connection<'a> {
    client: &'a Client,
    number: source::Connection,
    states: StateWatcher,
    watchers: Watchers,
    reads: Reads<'a>,
    writer: &'a mut Writer,
    /// A write of the canary under way.
    writing: Option<BoxFuture<'static, Attempt>>,
    outbox: Outbox,
}

impl<'a> Connection<'a> {
    async fn run(&mut self, link: &mut Link) -> End {
        if self.states.state() != SessionState::SyncConnected {
            return self.end_of_state(self.states.peek_state());
        }
        let mut look = interval(self.reads.bound() / LOOKS);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Room for reports first, so that little waits. Answers and commands come next: the machine's windows bound
            // them, while events can come without a pause and would keep reads, and so values, waiting without a limit.
            let end = tokio::select! {
                biased;
                () = link.stop.cancelled() => return End::Stopped,
                permit = link.reports.reserve(), if !self.outbox.reports.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(report) = self.outbox.next() {
                            permit.send(report);
                        }
                        None
                    }
                    Err(_) => return End::Stopped,
                },
                answer = self.reads.next() => self.answered(answer),
                command = link.requests.recv() => match command {
                    Some(request) => self.follow(request, &link.stop).await,
                    None => return End::Stopped,
                },
                attempt = next_attempt(&mut self.writing) => self.attempted(attempt),
                arrived = self.watchers.next() => self.forward(arrived),
                state = self.states.changed() => self.state_changed(state),
                _ = look.tick() => self.overdue(),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn forward(&mut self, arrived: WatchEvents) -> Option<End> {
        let is_lost = arrived.is_lost;
        self.outbox.events(arrived);
        if is_lost {
            return Some(self.end_of_state(self.states.peek_state()));
        }
        if self.outbox.is_full() {
            return Some(End::Overflow);
        }
        None
    }

    fn answered(&mut self, answer: Result<Input, Error>) -> Option<End> {
        // Every event that came before this answer is in the watchers by now, and has to be reported before it.
        let arrived = self.watchers.drain();
        // The client gives the reason of a broken connection to the requests that it ends, and to nothing else.
        if let Err(error) = &answer
            && let Failure::Trouble(trouble) = of_request("a read", error)
        {
            return Some(End::Trouble(trouble));
        }
        if let Some(end) = self.forward(arrived) {
            return Some(end);
        }
        match answer {
            Ok(input) => {
                self.outbox.input(input);
                None
            }
            Err(error) => Some(self.end_of_failure("a read", &error)),
        }
    }

    fn state_changed(&mut self, state: SessionState) -> Option<End> {
        let arrived = self.watchers.drain();
        self.outbox.events(arrived);
        (state != SessionState::SyncConnected).then(|| self.end_of_state(state))
    }

    async fn follow(&mut self, addressed: AddressedRequest, stop: &CancellationToken) -> Option<End> {
        // Meant for a connection that was lost before it could follow.
        if addressed.connection != self.number {
            return None;
        }
        match addressed.request {
            SourceRequest::Arm(roots) => tokio::select! {
                biased;
                () = stop.cancelled() => Some(End::Stopped),
                end = self.arm(&roots) => end,
            },
            SourceRequest::Read { ticket, reads } => self.read(ReadOrder::Znodes {
                ticket,
                reads: reads.into(),
            }),
            SourceRequest::ReadAcls { ticket, paths } => self.read(ReadOrder::Acls {
                ticket,
                paths: paths.into(),
                digests: self.writer.config().acl_digests,
            }),
            SourceRequest::WriteCanary { mark, path } => {
                self.writing = Some(self.writer.write(mark, path));
                None
            }
            SourceRequest::Resume { .. } | SourceRequest::ReadStage { .. } | SourceRequest::Follow => {
                unreachable!("the machine of a watched tree requests no transactions")
            }
            SourceRequest::Reconnect { after } => Some(End::Replace(after)),
        }
    }

    /// Adds the watches, then syncs, so that what is read from now on is no older than what was reported before.
    async fn arm(&mut self, roots: &[ZnodePath]) -> Option<End> {
        let mut throttle = Throttle::default();
        match timeout(self.reads.bound(), arm(self.client, roots, &mut throttle)).await {
            Ok(Ok((mut watchers, is_lost))) => {
                if watchers.drain().is_lost || is_lost {
                    return Some(self.end_of_state(self.states.peek_state()));
                }
                self.watchers = watchers;
                self.outbox.input(Input::Armed);
                None
            }
            Ok(Err(error)) => Some(self.end_of_failure("adding a recursive watch", &error)),
            Err(_) => Some(self.unanswered("adding a recursive watch", throttle.is_throttled())),
        }
    }

    fn unanswered(&self, what: &str, is_throttled: bool) -> End {
        let (config, bound) = (self.writer.config(), self.reads.bound());
        End::Unanswered(match is_throttled {
            true => throttled(config, what, bound),
            false => silent(config, what, bound),
        })
    }

    fn overdue(&self) -> Option<End> {
        let is_throttled = self.reads.is_throttled();
        self.reads
            .is_overdue()
            .then(|| self.unanswered("a read", is_throttled))
    }

    fn read(&mut self, order: ReadOrder) -> Option<End> {
        let sent = self.reads.push(order);
        sent.err().map(|error| self.end_of_failure("a read", &error))
    }

    fn attempted(&mut self, attempt: Attempt) -> Option<End> {
        match self.writer.done(attempt) {
            Ok(input) => {
                self.outbox.input(input);
                None
            }
            Err(trouble) => Some(End::Trouble(trouble)),
        }
    }

    fn end_of_failure(&self, what: &str, error: &Error) -> End {
        match of_request(what, error) {
            Failure::Lost => self.end_of_state(self.states.peek_state()),
            Failure::Trouble(trouble) => End::Trouble(trouble),
        }
    }

    fn end_of_state(&self, state: SessionState) -> End {
        match state {
            SessionState::AuthFailed => End::Trouble(crate::error::authentication()),
            state if state.is_terminated() => End::Expired,
            _ => End::Lost,
        }
    }
}

/// The armed watches, and whether the connection was lost meanwhile.
///
/// Discards the events that arrive before the `sync` is answered: an earlier connection reported these changes, or the
/// walk finds them.
async fn arm(
    client: &Client,
    roots: &[ZnodePath],
    throttle: &mut Throttle,
) -> Result<(Watchers, bool), Error> {
    let mut watchers = Watchers::default();
    let mut is_lost = false;
    for root in roots {
        let adding = throttle.unthrottled(|| client.watch(root, AddWatchMode::PersistentRecursive));
        let watcher = watchers.discard_during(adding, &mut is_lost).await?;
        watchers.push(watcher);
    }
    let first = roots.first().map_or("/", |root| root.as_str());
    let syncing = throttle.unthrottled(|| client.sync(first));
    watchers.discard_during(syncing, &mut is_lost).await?;
    Ok((watchers, is_lost))
}

/// The end of the write under way; pending without one. Cancel safe.
async fn next_attempt(writing: &mut Option<BoxFuture<'static, Attempt>>) -> Attempt {
    let Some(attempt) = writing else {
        return std::future::pending().await;
    };
    let attempt = attempt.await;
    *writing = None;
    attempt
}
