//! The persistent recursive watches of one connection, read as one stream.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bridge_core::capture::Event;
use zookeeper_client::{EventType, PersistentWatcher, SessionState, WatchedEvent};

use crate::convert;

/// What the watches of the roots told, in the order of the connection.
#[derive(Debug, Default)]
pub(crate) struct WatchEvents {
    pub(crate) events: Vec<Event>,
    /// The connection is gone; what came before is in `events`.
    pub(crate) is_lost: bool,
}

/// One watcher for each root.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: Vec<PersistentWatcher>,
    /// Those that told a terminal state: asking them again panics.
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
                told = self.next() => *is_lost |= told.is_lost,
            }
        }
    }

    /// Waits until any watch tells something, then takes all that is there. Cancel safe.
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

    /// Takes all that is there, without waiting. After a reply this holds every event that came before it: the client
    /// hands both on from one task in the order of the connection.
    pub(crate) fn drain(&mut self) -> WatchEvents {
        self.drain_with(None)
    }

    fn drain_with(&mut self, first: Option<(usize, WatchedEvent)>) -> WatchEvents {
        let mut told = WatchEvents::default();
        if let Some((at, event)) = first {
            self.take(at, event, &mut told);
        }
        // An event seen on one watch proves that all earlier ones of the others are there: pass until none is new.
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let before = told.events.len();
            for at in 0..self.watchers.len() {
                while let Some(event) = self.poll(at, &mut context) {
                    self.take(at, event, &mut told);
                }
            }
            if told.events.len() == before {
                break;
            }
        }
        if self.watchers.len() > 1 && told.events.iter().all(|event| event.zxid.is_some()) {
            told.events.sort_by_key(|event| event.zxid);
        }
        told
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

    fn take(&mut self, at: usize, event: WatchedEvent, told: &mut WatchEvents) {
        if event.event_type == EventType::Session {
            told.is_lost |= event.session_state != SessionState::SyncConnected;
            if event.session_state.is_terminated() {
                self.ended.insert(at);
            }
            return;
        }
        // Behind a disconnect only a comparison can tell what happened.
        if !told.is_lost {
            told.events.extend(convert::event(&event));
        }
    }
}
