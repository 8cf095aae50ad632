//! The persistent recursive watches of one connection, read as one stream.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bridge_core::capture::Event;
use zookeeper_client::{EventType, PersistentWatcher, SessionState, WatchedEvent};

use crate::convert;

/// Events of the watches of all roots, in the order of the connection.
#[derive(Debug, Default)]
pub(crate) struct WatchEvents {
    pub(crate) events: Vec<Event>,
    /// The connection is lost; earlier events are in `events`.
    pub(crate) is_lost: bool,
}

/// One watcher for each root.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: Vec<PersistentWatcher>,
    /// Watchers that returned a terminal state: polling them again panics.
    ended: HashSet<usize>,
}

impl Watchers {
    pub(crate) fn push(&mut self, watcher: PersistentWatcher) {
        self.watchers.push(watcher);
    }

    /// Waits for `work` and discards the events that arrive meanwhile, because the client's queue of a watcher has no
    /// limit. Sets `is_lost` if the connection is lost.
    pub(crate) async fn discard_during<T>(&mut self, work: impl Future<Output = T>, is_lost: &mut bool) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                arrived = self.next() => *is_lost |= arrived.is_lost,
            }
        }
    }

    /// Waits for an event of any watch, then takes all that have arrived. Cancel safe.
    pub(crate) async fn next(&mut self) -> WatchEvents {
        let first = std::future::poll_fn(|context| {
            match (0..self.watchers.len()).find_map(|at| self.poll(at, context).map(|event| (at, event))) {
                Some(first) => Poll::Ready(first),
                None => Poll::Pending,
            }
        })
        .await;
        self.drain_with(Some(first))
    }

    /// Takes all events that have arrived, without waiting. After a reply these include every event before it: the
    /// client forwards both from one task, in the order of the connection.
    pub(crate) fn drain(&mut self) -> WatchEvents {
        self.drain_with(None)
    }

    fn drain_with(&mut self, first: Option<(usize, WatchedEvent)>) -> WatchEvents {
        let mut arrived = WatchEvents::default();
        if let Some((at, event)) = first {
            self.take(at, event, &mut arrived);
        }
        // An event seen on one watch proves that all earlier ones of the others are there: pass until none is new.
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let before = arrived.events.len();
            for at in 0..self.watchers.len() {
                while let Some(event) = self.poll(at, &mut context) {
                    self.take(at, event, &mut arrived);
                }
            }
            if arrived.events.len() == before {
                break;
            }
        }
        if self.watchers.len() > 1 && arrived.events.iter().all(|event| event.zxid.is_some()) {
            arrived.events.sort_by_key(|event| event.zxid);
        }
        arrived
    }

    fn poll(&mut self, at: usize, context: &mut Context<'_>) -> Option<WatchedEvent> {
        if self.ended.contains(&at) {
            return None;
        }
        match pin!(self.watchers[at].changed()).poll(context) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    fn take(&mut self, at: usize, event: WatchedEvent, arrived: &mut WatchEvents) {
        if event.event_type == EventType::Session {
            arrived.is_lost |= event.session_state != SessionState::SyncConnected;
            if event.session_state.is_terminated() {
                self.ended.insert(at);
            }
            return;
        }
        // After a disconnect only a comparison shows the changes.
        if !arrived.is_lost {
            arrived.events.extend(convert::event(&event));
        }
    }
}
