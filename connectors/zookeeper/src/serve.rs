//! One connection from its session to its end: commands out, events and answers in.
//!
//! Reads run ahead of their answers in a window that the machine bounds. Reports that the pipeline does not take at
//! once wait here, bounded too: the socket is read on, because the client's own queue has no bound.

use std::collections::VecDeque;
use std::time::Duration;

use bridge_core::capture::{Input, Outcome, ReadRequest, SessionFate, Ticket};
use bridge_core::path::ZnodePath;
use bridge_core::source::{self, Command, Link, Order, Report, SourceError};
use futures::future::BoxFuture;
use tokio::time::timeout;
use zookeeper_client::{AddWatchMode, Client, Error, MultiReadResult, SessionState, StateWatcher};

use crate::canary::{Attempt, Writer};
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

type Answer<'a> = BoxFuture<'a, Result<Vec<MultiReadResult>, Error>>;

/// A MultiRead under way.
struct Asked<'a> {
    ticket: Ticket,
    reads: Vec<ReadRequest>,
    answer: Answer<'a>,
}

/// What waits for the pipeline.
#[derive(Default)]
struct Outbox {
    reports: VecDeque<Report>,
    events: usize,
}

impl Outbox {
    fn input(&mut self, input: Input) {
        self.reports.push_back(Report::Input(input));
    }

    /// Adds events to those that wait at the end already.
    fn told(&mut self, told: Told) {
        if told.events.is_empty() {
            return;
        }
        self.events += told.events.len();
        match self.reports.back_mut() {
            Some(Report::Input(Input::Events(waiting))) => waiting.extend(told.events),
            _ => self.input(Input::Events(told.events)),
        }
    }

    fn next(&mut self) -> Option<Report> {
        let report = self.reports.pop_front();
        if let Some(Report::Input(Input::Events(events))) = &report {
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
    connection.outbox.reports.push_back(Report::Connected {
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
    asked: VecDeque<Asked<'a>>,
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

    fn answered(&mut self, (asked, answer): (Asked<'a>, Result<Vec<MultiReadResult>, Error>)) -> Option<End> {
        let outcomes = answer.and_then(|results| convert::outcomes(&asked.reads, results));
        // Every event that came before this answer is in the watchers by now, and has to be told before it.
        let told = self.watchers.drain();
        if let Some(end) = self.told(told) {
            return Some(end);
        }
        match outcomes {
            Ok(outcomes) => self.answer(asked.ticket, outcomes),
            Err(error) => Some(self.end_of_failure("a read", &error)),
        }
    }

    fn answer(&mut self, ticket: Ticket, outcomes: Vec<Outcome>) -> Option<End> {
        self.outbox.input(Input::Answer { ticket, outcomes });
        None
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
        match multi_read(self.client, &reads) {
            Ok(answer) => {
                self.asked.push_back(Asked {
                    ticket,
                    reads,
                    answer,
                });
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
fn multi_read<'a>(client: &'a Client, reads: &[ReadRequest]) -> Result<Answer<'a>, Error> {
    let mut reader = client.new_multi_reader();
    for read in reads {
        reader.add_get_data(&read.path)?;
        if read.children {
            reader.add_get_children(&read.path)?;
        }
    }
    Ok(Box::pin(reader.commit()))
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
async fn next_answer<'a>(
    asked: &mut VecDeque<Asked<'a>>,
) -> (Asked<'a>, Result<Vec<MultiReadResult>, Error>) {
    let Some(oldest) = asked.front_mut() else {
        return std::future::pending().await;
    };
    let answer = (&mut oldest.answer).await;
    match asked.pop_front() {
        Some(oldest) => (oldest, answer),
        None => std::future::pending().await,
    }
}
