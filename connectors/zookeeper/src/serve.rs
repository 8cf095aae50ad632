//! Serves one connection until its session ends: takes requests, and reports events and answers.
//!
//! Many reads are under way at once, within a window that the machine bounds. Reports that the pipeline does not take
//! at once wait here, with a bound: the socket is still read, because the client's own queue has no bound.

use std::collections::VecDeque;
use std::time::Duration;

use bridge_core::capture::{AclOutcome, Event, Input, ReadRequest, SessionFate, Ticket};
use bridge_core::path::ZnodePath;
use bridge_core::source::{self, AddressedRequest, Link, SourceError, SourceEvent, SourceRequest};
use futures::future::{BoxFuture, join_all};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use zookeeper_client::{AddWatchMode, Client, Error, MultiReadResult, SessionState, StateWatcher};

use crate::canary::{Attempt, Writer};
use crate::config::AclDigests;
use crate::connect::{answer_bound, silent};
use crate::convert;
use crate::error::{Failure, of_request};
use crate::watchers::{WatchEvents, Watchers};

/// Events that may wait for the pipeline; then the connection is given up.
const WAITING_EVENTS_MAX: usize = 200_000;
/// Bytes of their paths. With paths of usual length [`WAITING_EVENTS_MAX`] is reached first.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// The first wait before a throttled request is sent again; it doubles with each one.
const THROTTLED_FIRST: Duration = Duration::from_millis(20);
/// No such wait is longer.
const THROTTLED_MAX: Duration = Duration::from_secs(2);
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

type Answer<'a> = BoxFuture<'a, Result<Input, Error>>;

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
        asked: Asked::new(answer_bound(client, writer.config())),
        writer,
        writing: None,
        outbox: Outbox::default(),
    };
    connection.outbox.reports.push_back(SourceEvent::Connected {
        connection: number,
        session,
    });
    connection.run(link).await
}

struct Connection<'a> {
    client: &'a Client,
    number: source::Connection,
    states: StateWatcher,
    watchers: Watchers,
    asked: Asked<'a>,
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
        let mut look = interval(self.asked.bound / LOOKS);
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
                answer = self.asked.next() => self.answered(answer),
                command = link.requests.recv() => match command {
                    Some(request) => self.follow(request, &link.stop).await,
                    None => return End::Stopped,
                },
                attempt = next_attempt(&mut self.writing) => self.attempted(attempt),
                arrived = self.watchers.next() => self.forward(arrived),
                state = self.states.changed() => self.state_changed(state),
                _ = look.tick() => self.asked.is_overdue().then(|| self.unanswered("a read")),
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
            SourceRequest::Read { ticket, reads } => self.ask(ticket, reads),
            SourceRequest::ReadAcls { ticket, paths } => {
                let digests = self.writer.config().acl_digests;
                self.asked.push(read_acls(self.client, ticket, paths, digests));
                None
            }
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
        match timeout(self.asked.bound, arm(self.client, roots)).await {
            Ok(Ok((mut watchers, is_lost))) => {
                if watchers.drain().is_lost || is_lost {
                    return Some(self.end_of_state(self.states.peek_state()));
                }
                self.watchers = watchers;
                self.outbox.input(Input::Armed);
                None
            }
            Ok(Err(error)) => Some(self.end_of_failure("adding a recursive watch", &error)),
            Err(_) => Some(self.unanswered("adding a recursive watch")),
        }
    }

    fn unanswered(&self, what: &str) -> End {
        End::Unanswered(silent(self.writer.config(), what, self.asked.bound))
    }

    fn ask(&mut self, ticket: Ticket, reads: Vec<ReadRequest>) -> Option<End> {
        match multi_read(self.client, ticket, reads) {
            Ok(answer) => {
                self.asked.push(answer);
                None
            }
            Err(error) => Some(self.end_of_failure("a read", &error)),
        }
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

/// Requests under way, in their order.
struct Asked<'a> {
    answers: VecDeque<Answer<'a>>,
    /// Since when the oldest is the oldest.
    since: Instant,
    /// How long the oldest may take.
    bound: Duration,
}

impl<'a> Asked<'a> {
    fn new(bound: Duration) -> Asked<'a> {
        Asked {
            answers: VecDeque::new(),
            since: Instant::now(),
            bound,
        }
    }

    fn push(&mut self, answer: Answer<'a>) {
        if self.answers.is_empty() {
            self.since = Instant::now();
        }
        self.answers.push_back(answer);
    }

    /// The answer to the oldest request; pending without one. Cancel safe: the request stays in the queue until then.
    async fn next(&mut self) -> Result<Input, Error> {
        let Some(oldest) = self.answers.front_mut() else {
            return std::future::pending().await;
        };
        let answer = oldest.await;
        self.answers.pop_front();
        self.since = Instant::now();
        answer
    }

    fn is_overdue(&self) -> bool {
        !self.answers.is_empty() && self.since.elapsed() > self.bound
    }
}

/// The waits of a request that the server throttles because it is overloaded.
struct Throttle {
    next: Duration,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle {
            next: THROTTLED_FIRST,
        }
    }
}

impl Throttle {
    async fn wait(&mut self) {
        tracing::debug!(wait_ms = self.next.as_millis(), "the server throttles a request");
        sleep(self.next).await;
        self.next = (self.next * 2).min(THROTTLED_MAX);
    }
}

/// Sends a request until the server does not throttle it.
async fn unthrottled<T, F: Future<Output = Result<T, Error>>>(send: impl Fn() -> F) -> Result<T, Error> {
    let mut throttle = Throttle::default();
    loop {
        match send().await {
            Err(Error::Throttled) => throttle.wait().await,
            answer => return answer,
        }
    }
}

/// The armed watches, and whether the connection was lost meanwhile.
///
/// Discards the events that arrive before the `sync` is answered: an earlier connection reported these changes, or the
/// walk finds them.
async fn arm(client: &Client, roots: &[ZnodePath]) -> Result<(Watchers, bool), Error> {
    let mut watchers = Watchers::default();
    let mut is_lost = false;
    for root in roots {
        let adding = unthrottled(|| client.watch(root, AddWatchMode::PersistentRecursive));
        let watcher = watchers.discard_during(adding, &mut is_lost).await?;
        watchers.push(watcher);
    }
    let first = roots.first().map_or("/", |root| root.as_str());
    let syncing = unthrottled(|| client.sync(first));
    watchers.discard_during(syncing, &mut is_lost).await?;
    Ok((watchers, is_lost))
}

/// Sends one MultiRead; the client sends when called, so requests leave in this order. One that the server throttles is
/// sent again: only the oldest request waits here, so that fewer are in flight.
fn multi_read(client: &Client, ticket: Ticket, reads: Vec<ReadRequest>) -> Result<Answer<'_>, Error> {
    let mut results = send_multi_read(client, &reads)?;
    Ok(Box::pin(async move {
        let mut throttle = Throttle::default();
        loop {
            match results.await {
                Err(Error::Throttled) => {
                    throttle.wait().await;
                    results = send_multi_read(client, &reads)?;
                }
                answered => {
                    let outcomes = convert::outcomes(&reads, answered?)?;
                    return Ok(Input::Answer { ticket, outcomes });
                }
            }
        }
    }))
}

fn send_multi_read<'a>(
    client: &'a Client,
    reads: &[ReadRequest],
) -> Result<BoxFuture<'a, Result<Vec<MultiReadResult>, Error>>, Error> {
    let mut reader = client.new_multi_reader();
    for read in reads {
        reader.add_get_data(&read.path)?;
        if read.children {
            reader.add_get_children(&read.path)?;
        }
    }
    Ok(Box::pin(reader.commit()))
}

/// Asks for lists one by one, as there is no request for many: all leave now, and their answers come in order.
fn read_acls(client: &Client, ticket: Ticket, paths: Vec<ZnodePath>, digests: AclDigests) -> Answer<'_> {
    let asked: Vec<_> = paths.iter().map(|path| client.get_acl(path)).collect();
    let answers = join_all(asked);
    Box::pin(async move {
        let mut throttle = Throttle::default();
        let mut outcomes = Vec::with_capacity(paths.len());
        for (path, mut answer) in paths.iter().zip(answers.await) {
            while matches!(answer, Err(Error::Throttled)) {
                throttle.wait().await;
                answer = client.get_acl(path).await;
            }
            outcomes.push(convert::acl_outcome(answer, digests)?);
        }
        let mut outcomes_of_paths = paths.iter().zip(&outcomes);
        if let Some((path, _)) = outcomes_of_paths.find(|(_, outcome)| **outcome == AclOutcome::Denied) {
            tracing::warn!(
                path = path.as_str(),
                "an access control list may not be read, so that the acl record is without it: grant the bridge the \
                 permission 'r' or 'a'"
            );
        }
        Ok(Input::Acls { ticket, outcomes })
    })
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
