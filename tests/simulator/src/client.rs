//! The bridge's end of its connection, as the ZooKeeper connector plays it: sessions and connections one after another,
//! commands in, events and answers out, events always before the answers that reflect them.
//!
//! The real one is in `connectors/zookeeper/src/{source,serve,watchers}.rs`; here, a step takes a random number of
//! messages.

use std::collections::VecDeque;
use std::time::Duration;

use bridge_core::capture::{Event, Input, SessionFate};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::source::{AddressedRequest, Connection, SourceEvent, SourceRequest};
use rand::Rng;
use rand::rngs::StdRng;

use crate::controls::Habit;
use crate::coverage::{Coverage, Seen};
use crate::ensemble::{Ensemble, Packet, Reply, Request, Wire};
use crate::plan::Plan;

/// How long a client waits before it tries the next server.
const RETRY_MS: u64 = 20;

/// How far the watches are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arming {
    /// Nobody asked for them.
    Not,
    /// So many answers are still to come, the last that of `sync`.
    Waits(usize),
    /// Armed.
    Done,
}

/// A session of the bridge, as long as it lives.
#[derive(Clone, Copy, Debug)]
struct Session {
    /// The greatest zxid of a reply.
    newest: Zxid,
    /// When it was last heard of.
    heard_ms: u64,
}

/// The bridge's end.
pub struct Client {
    roots: Vec<ZnodePath>,
    random: StdRng,
    habit: Option<Habit>,
    session_ms: u64,
    has_local_sessions: bool,
    outbox_max: usize,
    channel_max: usize,
    /// The connection that there is.
    pub wire: Option<Wire>,
    session: Option<Session>,
    number: Connection,
    arming: Arming,
    /// When it gives up to wait for its watches.
    arms_by_ms: u64,
    /// Not before this is a connection made; `None`: never again.
    next_try_ms: Option<u64>,
    /// Events of the watchers that nobody has taken, by root.
    heard: Vec<Vec<Event>>,
    answers: VecDeque<Input>,
    outbox: VecDeque<SourceEvent>,
    /// Events that the pipeline can take.
    pub channel: VecDeque<SourceEvent>,
    /// The requests of the pipeline.
    pub requests: VecDeque<AddressedRequest>,
    /// Reads under way, for the habit that keeps them across a reconnect.
    asked: Vec<Request>,
}

impl Client {
    /// Without a connection.
    pub fn new(plan: &Plan, random: StdRng, habit: Option<Habit>, now_ms: u64) -> Client {
        Client {
            roots: plan.capture.roots.clone(),
            random,
            habit,
            session_ms: plan.session_ms,
            has_local_sessions: plan.has_local_sessions,
            outbox_max: plan.outbox,
            channel_max: plan.channel,
            wire: None,
            session: None,
            number: Connection::default(),
            arming: Arming::Not,
            arms_by_ms: 0,
            next_try_ms: Some(now_ms),
            heard: vec![Vec::new(); plan.capture.roots.len()],
            answers: VecDeque::new(),
            outbox: VecDeque::new(),
            channel: VecDeque::new(),
            requests: VecDeque::new(),
            asked: Vec::new(),
        }
    }

    /// Whether nothing is on its way in any direction.
    pub fn is_quiet(&self) -> bool {
        let is_wire_quiet = |wire: &Wire| wire.packets.is_empty() && wire.requests.is_empty();
        self.wire.as_ref().is_some_and(is_wire_quiet)
            && self.heard.iter().all(Vec::is_empty)
            && self.answers.is_empty()
            && self.outbox.is_empty()
            && self.channel.is_empty()
            && self.requests.is_empty()
    }

    /// The source has stopped: there will be no connection any more.
    pub fn stop(&mut self) {
        self.wire = None;
        self.next_try_ms = None;
        self.requests.clear();
    }

    /// Makes a connection if it is time for one.
    pub fn connect(&mut self, ensemble: &Ensemble, now_ms: u64, seen: &mut Coverage) {
        // Watches that take longer than a session lives are given up with their connection: a server may wait for a
        // transaction that its ensemble has no more.
        if matches!(self.arming, Arming::Waits(_)) && now_ms > self.arms_by_ms {
            self.lose(now_ms, seen);
        }
        if self.wire.is_some() || self.next_try_ms.is_none_or(|at| at > now_ms) {
            return;
        }
        self.next_try_ms = Some(now_ms + RETRY_MS);
        self.expire(now_ms);
        let Some(server) = ensemble.any_reached(&mut self.random) else {
            return;
        };
        let fate = match self.session {
            Some(session) if ensemble.zxid_of(server) < session.newest => return seen.see(Seen::Refused),
            Some(_) => SessionFate::Kept,
            // A session begins with a transaction of the quorum, which this server has lost.
            None if ensemble.servers[server].is_isolated && !self.has_local_sessions => return,
            None => SessionFate::New,
        };
        if ensemble.servers[server].applied < ensemble.log_len() {
            seen.see(Seen::ReconnectedToLag);
        }
        let newest = self.session.map_or(Zxid::ZERO, |session| session.newest);
        self.session = Some(Session {
            newest,
            heard_ms: now_ms,
        });
        self.wire = Some(Wire::new(server));
        if self.habit == Some(Habit::WatchTrusted) && self.arming == Arming::Done {
            return self.trust_the_watch();
        }
        if fate == SessionFate::New {
            self.outbox.push_back(SourceEvent::Server(Some("3.9.5".into())));
        }
        self.number = self.number.next();
        self.arming = Arming::Not;
        let connection = self.number;
        self.outbox.push_back(SourceEvent::Connected {
            connection,
            session: fate,
            server: None,
        });
    }

    /// The wrong habit: the library adds the watches again, and no event reports that there was a gap.
    fn trust_the_watch(&mut self) {
        let Some(wire) = &mut self.wire else { return };
        wire.watches.clone_from(&self.roots);
        wire.requests.extend(self.asked.iter().cloned());
    }

    /// A session is over when no server has heard of it for its timeout.
    fn expire(&mut self, now_ms: u64) {
        if self
            .session
            .is_some_and(|session| now_ms > session.heard_ms + self.session_ms)
        {
            self.session = None;
        }
    }

    /// The connection is lost; the session may go on.
    pub fn lose(&mut self, now_ms: u64, seen: &mut Coverage) {
        let Some(wire) = self.wire.take() else {
            return;
        };
        if !wire.packets.is_empty() || !wire.requests.is_empty() {
            seen.see(Seen::Cut);
        }
        self.next_try_ms = Some(now_ms);
        if self.habit == Some(Habit::WatchTrusted) && self.arming == Arming::Done {
            return;
        }
        self.end(Input::Disconnected);
    }

    /// The session is over.
    pub fn forget_session(&mut self) {
        self.session = None;
    }

    /// Drops every event that was not taken, except the end of the connection.
    fn end(&mut self, input: Input) {
        self.wire = None;
        self.arming = Arming::Not;
        self.heard.iter_mut().for_each(Vec::clear);
        self.answers.clear();
        self.outbox.clear();
        self.asked.clear();
        self.outbox.push_back(SourceEvent::Input(input));
    }

    /// Follows the next request.
    pub fn order(&mut self, now_ms: u64) {
        // The connector awaits the watches before it looks at the next request.
        if matches!(self.arming, Arming::Waits(_)) && self.wire.is_some() {
            return;
        }
        let Some(addressed) = self.requests.pop_front() else {
            return;
        };
        if addressed.connection != self.number || self.wire.is_none() {
            return;
        }
        match addressed.request {
            SourceRequest::Arm(roots) => self.arm(roots, now_ms),
            SourceRequest::Read { ticket, reads } => {
                let request = Request::Read(ticket, reads);
                self.asked.push(request.clone());
                self.send(request);
            }
            SourceRequest::ReadAcls { ticket, paths } => self.send(Request::Acls(ticket, paths)),
            // No plan has a canary.
            SourceRequest::WriteCanary { .. } => {}
            SourceRequest::Resume { .. } | SourceRequest::ReadStage { .. } | SourceRequest::Follow => {
                unreachable!("the machine of a watched tree requests no transactions")
            }
            SourceRequest::Reconnect { after } => self.replace(after, now_ms),
        }
    }

    fn arm(&mut self, roots: Vec<ZnodePath>, now_ms: u64) {
        self.arms_by_ms = now_ms + self.session_ms;
        let count = roots.len();
        for root in roots {
            self.send(Request::AddWatch(root));
        }
        match self.habit {
            Some(Habit::NoSync) => self.arming = Arming::Waits(count),
            Some(Habit::WalkBeforeArmed) => {
                // The requests for the watches leave after those of the walk.
                self.arming = Arming::Done;
                self.outbox.push_back(SourceEvent::Input(Input::Armed));
            }
            _ => {
                self.send(Request::Sync { target: None });
                self.arming = Arming::Waits(count + 1);
            }
        }
    }

    /// The pipeline wants another connection: a client made anew, that knows of nothing.
    fn replace(&mut self, after: Duration, now_ms: u64) {
        self.session = None;
        self.end(Input::Disconnected);
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.next_try_ms = Some(now_ms + after);
    }

    fn send(&mut self, request: Request) {
        let Some(wire) = &mut self.wire else { return };
        // The wrong habit asks for watches only when its first reads are under way.
        let is_late = self.habit == Some(Habit::WalkBeforeArmed) && matches!(request, Request::Read(..));
        match is_late {
            true => wire.requests.push_front(request),
            false => wire.requests.push_back(request),
        }
    }

    /// Takes some of what has arrived, and tells some of it.
    pub fn receive(&mut self, now_ms: u64, seen: &mut Coverage) {
        let count = self.random.random_range(1..12);
        for _ in 0..count {
            let wire = self.wire.as_mut().filter(|wire| !wire.is_half_open);
            let Some(packet) = wire.and_then(|wire| wire.packets.pop_front()) else {
                break;
            };
            self.take(packet, now_ms);
        }
        self.tell(seen);
    }

    fn take(&mut self, packet: Packet, now_ms: u64) {
        let (zxid, reply) = match packet {
            Packet::Event(event) => {
                if let Some(at) = self.roots.iter().position(|root| root.covers(&event.path)) {
                    self.heard[at].push(event);
                }
                return;
            }
            Packet::Reply(zxid, reply) => (zxid, reply),
        };
        if let Some(session) = &mut self.session {
            session.newest = session.newest.max(zxid);
            session.heard_ms = now_ms;
        }
        match (reply, self.arming) {
            (Reply::Read(ticket, outcomes), _) => {
                self.asked
                    .retain(|request| !matches!(request, Request::Read(asked, _) if *asked == ticket));
                self.answers.push_back(Input::Answer { ticket, outcomes });
            }
            (Reply::Acls(ticket, outcomes), _) => self.answers.push_back(Input::Acls { ticket, outcomes }),
            (Reply::Watching | Reply::Synced, Arming::Waits(1)) => {
                self.arming = Arming::Done;
                // Changes that a lagging server has caught up with were reported before, or the walk sees them.
                self.heard.iter_mut().for_each(Vec::clear);
                self.outbox.push_back(SourceEvent::Input(Input::Armed));
            }
            (Reply::Watching | Reply::Synced, Arming::Waits(left)) => self.arming = Arming::Waits(left - 1),
            (Reply::Watching | Reply::Synced, _) => {}
        }
    }

    /// Hands on answers, each behind all events that are there, and events.
    fn tell(&mut self, seen: &mut Coverage) {
        if self.arming != Arming::Done {
            return;
        }
        while !self.answers.is_empty() && self.random.random_bool(0.7) {
            self.drain();
            if let Some(answer) = self.answers.pop_front() {
                self.outbox.push_back(SourceEvent::Input(answer));
            }
        }
        if self.random.random_bool(0.6) {
            self.drain();
        }
        let events = |report: &SourceEvent| match report {
            SourceEvent::Input(Input::Events(events)) => events.len(),
            _ => 0,
        };
        if self.outbox.iter().map(events).sum::<usize>() > self.outbox_max {
            seen.see(Seen::Overflowed);
            self.session = None;
            self.end(Input::Overflow);
        }
        self.pump();
    }

    /// Takes what all watchers have: by zxid where there are zxids, else watcher by watcher.
    fn drain(&mut self) {
        let mut events: Vec<Event> = Vec::new();
        let first = self.random.random_range(0..self.heard.len());
        for at in 0..self.heard.len() {
            let heard = (first + at) % self.heard.len();
            events.append(&mut self.heard[heard]);
        }
        if events.is_empty() {
            return;
        }
        if events.iter().all(|event| event.zxid.is_some()) {
            events.sort_by_key(|event| event.zxid);
        }
        match self.outbox.back_mut() {
            Some(SourceEvent::Input(Input::Events(waiting))) => waiting.extend(events),
            _ => self.outbox.push_back(SourceEvent::Input(Input::Events(events))),
        }
    }

    /// Moves reports on while the pipeline has room for them.
    pub fn pump(&mut self) {
        while self.channel.len() < self.channel_max
            && let Some(report) = self.outbox.pop_front()
        {
            self.channel.push_back(report);
        }
    }

    /// No connection before then.
    pub fn stay_away(&mut self, until_ms: u64) {
        if self.wire.is_none() && self.next_try_ms.is_some() {
            self.next_try_ms = self.next_try_ms.max(Some(until_ms));
        }
    }
}
