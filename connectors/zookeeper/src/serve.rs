//! One connection from its session to its end: commands out, events and answers in.
//!
//! Reads run ahead of their answers in a window that the machine bounds. Reports that the pipeline does not take at
//! once wait here, bounded too: the socket is read on, because the client's own queue has no bound.

use std::collections::VecDeque;
use std::time::Duration;

use bridge_core::capture::{AclOutcome, Input, ReadRequest, SessionFate, Ticket};
use bridge_core::path::ZnodePath;
use bridge_core::source::{self, Command, Link, Order, SourceError, SourceEvent};
use futures::future::{BoxFuture, join_all};
use tokio::time::timeout;
use zookeeper_client::{AddWatchMode, Client, Error, SessionState, StateWatcher};

use crate::canary::{Attempt, Writer};
use crate::config::AclDigests;
use crate::convert;
use crate::error::{Failure, of_request};
use crate::watchers::{Told, Watchers};

/// Events that may wait for the pipeline, about 20 MB of them; then the connection is given up.
const WAITING_EVENTS_MAX: usize = 200_000;

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It was lost; the session may go on.
    Lost,
    /// The session is over.
    Expired,
    /// The pipeline did not take events as fast as they came, and some had to be thrown away.
    Overflow,
    /// The pipeline wants another one, after a while.
    Replace(Duration),
    /// It cannot go on.
    Trouble(SourceError),
    /// Asked to stop, or the pipeline is gone.
    Stopped,
}

type Answer<'a> = BoxFuture<'a, Result<Input, Error>>;

/// What waits for the pipeline.
#[derive(Default)]
struct Outbox {
    reports: VecDeque<SourceEvent>,
    events: usize,
}

impl Outbox {
    fn input(&mut self, input: Input) {
        self.reports.push_back(SourceEvent::Input(input));
    }

    /// Adds events to those that wait at the end already.
    fn told(&mut self, told: Told) {
        if told.events.is_empty() {
            return;
        }
        self.events += told.events.len();
        match self.reports.back_mut() {
            Some(SourceEvent::Input(Input::Events(waiting))) => waiting.extend(told.events),
            _ => self.input(Input::Events(told.events)),
        }
    }

    fn next(&mut self) -> Option<SourceEvent> {
        let report = self.reports.pop_front();
        if let Some(SourceEvent::Input(Input::Events(events))) = &report {
            self.events -= events.len();
        }
        report
    }
}

/// Serves one connection until it ends. What is still waiting for the pipeline at the end is dropped but for what says
/// that it ended: the machine compares anew anyway.
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
        asked: VecDeque::new(),
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
    /// Requests under way, in their order.
    asked: VecDeque<Answer<'a>>,
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
        loop {
            // Room for reports first, so that little waits. Answers and commands come next: the machine's windows bound
            // them, while events can come without a pause and would keep reads, and so values, waiting for ever.
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
                answer = next_answer(&mut self.asked) => self.answered(answer),
                command = link.commands.recv() => match command {
                    Some(order) => self.order(order).await,
                    None => return End::Stopped,
                },
                attempt = next_attempt(&mut self.writing) => self.attempted(attempt),
                told = self.watchers.next() => self.told(told),
                state = self.states.changed() => self.state_changed(state),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn told(&mut self, told: Told) -> Option<End> {
        let is_lost = told.is_lost;
        self.outbox.told(told);
        if is_lost {
            return Some(self.end_of_state(self.states.peek_state()));
        }
        if self.outbox.events > WAITING_EVENTS_MAX {
            return Some(End::Overflow);
        }
        None
    }

    fn answered(&mut self, answer: Result<Input, Error>) -> Option<End> {
        // Every event that came before this answer is in the watchers by now, and has to be told before it.
        let told = self.watchers.drain();
        if let Some(end) = self.told(told) {
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
        let told = self.watchers.drain();
        self.outbox.told(told);
        (state != SessionState::SyncConnected).then(|| self.end_of_state(state))
    }

    async fn order(&mut self, order: Order) -> Option<End> {
        // Meant for a connection that was lost before it could follow.
        if order.connection != self.number {
            return None;
        }
        match order.command {
            Command::Arm(roots) => self.arm(&roots).await,
            Command::Read { ticket, reads } => self.ask(ticket, reads),
            Command::ReadAcls { ticket, paths } => {
                let digests = self.writer.config().acl_digests;
                self.asked
                    .push_back(read_acls(self.client, ticket, paths, digests));
                None
            }
            Command::WriteCanary { mark, path } => {
                self.writing = Some(self.writer.write(mark, path));
                None
            }
            Command::Reconnect { after } => Some(End::Replace(after)),
        }
    }

    /// Adds the watches, then syncs, so that what is read from now on is no older than what was reported before.
    async fn arm(&mut self, roots: &[ZnodePath]) -> Option<End> {
        let bound = self.client.session_timeout();
        match timeout(bound, arm(self.client, roots)).await {
            Ok(Ok(mut watchers)) => {
                // What a server that lagged caught up with was told on an earlier connection, or is seen by the walk.
                if watchers.drain().is_lost {
                    return Some(self.end_of_state(self.states.peek_state()));
                }
                self.watchers = watchers;
                self.outbox.input(Input::Armed);
                None
            }
            Ok(Err(error)) => Some(self.end_of_failure("adding a recursive watch", &error)),
            Err(_) => Some(End::Lost),
        }
    }

    fn ask(&mut self, ticket: Ticket, reads: Vec<ReadRequest>) -> Option<End> {
        match multi_read(self.client, ticket, reads) {
            Ok(answer) => {
                self.asked.push_back(answer);
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

async fn arm(client: &Client, roots: &[ZnodePath]) -> Result<Watchers, Error> {
    let mut watchers = Vec::with_capacity(roots.len());
    for root in roots {
        watchers.push(client.watch(root, AddWatchMode::PersistentRecursive).await?);
    }
    client
        .sync(roots.first().map_or("/", |root| root.as_str()))
        .await?;
    Ok(Watchers::new(watchers))
}

/// Sends one MultiRead; the client sends when called, so requests leave in this order.
fn multi_read(client: &Client, ticket: Ticket, reads: Vec<ReadRequest>) -> Result<Answer<'_>, Error> {
    let mut reader = client.new_multi_reader();
    for read in &reads {
        reader.add_get_data(&read.path)?;
        if read.children {
            reader.add_get_children(&read.path)?;
        }
    }
    let results = reader.commit();
    Ok(Box::pin(async move {
        let outcomes = convert::outcomes(&reads, results.await?)?;
        Ok(Input::Answer { ticket, outcomes })
    }))
}

/// Asks for lists one by one, as there is no request for many: all leave now, and their answers come in order.
fn read_acls(client: &Client, ticket: Ticket, paths: Vec<ZnodePath>, digests: AclDigests) -> Answer<'_> {
    let asked: Vec<_> = paths.iter().map(|path| client.get_acl(path)).collect();
    let answers = join_all(asked);
    Box::pin(async move {
        let outcomes = answers
            .await
            .into_iter()
            .map(|answer| convert::acl_outcome(answer, digests))
            .collect::<Result<Vec<_>, _>>()?;
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

/// The answer to the oldest request; pending without one. Cancel safe: the request stays in the queue until then.
async fn next_answer(asked: &mut VecDeque<Answer<'_>>) -> Result<Input, Error> {
    let Some(oldest) = asked.front_mut() else {
        return std::future::pending().await;
    };
    let answer = oldest.await;
    asked.pop_front();
    answer
}
