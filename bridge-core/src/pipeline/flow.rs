//! The decisions of the pipeline, without waits: takes reports, the progress of sinks and ticks, writes the journal,
//! and returns requests and log lines.
//!
//! The thread of the [`Pipeline`](super::Pipeline) waits; a simulator drives the same decisions with its own clock.
//! This module must not use threads, channels or clocks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::lateness::Lateness;
use super::standstill::Standstill;
use crate::backoff::{Backoff, Jitter};
use crate::journal::{
    Folded, JournalError, JournalErrorKind, JournalWriter, Maintained, ProgressError, RefusedProgress,
    SinkProgress,
};
use crate::machine::{CaptureState, Halt, SourceMachine, StepError, StepOutcome};
use crate::number::Seq;
use crate::record::Timestamp;
use crate::source::{
    AddressedRequest, Connection, FeedMeasures, Input, SessionFate, SourceError, SourceEvent, SourceRequest,
};

/// The wait before the next connection after a server that lags or a watch in doubt; it doubles with each failure.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// The longest such wait.
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// The wait while the journal takes no records: sinks and retention need time to make room.
const FULL_WAIT: Duration = Duration::from_secs(5);

/// Records that one round of retention removes at most, in slices.
const RETENTION_SLICE: usize = 2_000;
/// Slices of one round.
const RETENTION_SLICES: usize = 10;
/// Records that a full journal looks at in one transaction when it compacts: what waits is held up for a few 10 ms.
const FOLD_SLICE: usize = 500;
/// Slices after a batch that found no room: seconds at most, and a connection waits meanwhile.
const FOLD_SLICES: usize = 50;

/// The results of a decision besides the journalled records, in order.
#[derive(Debug)]
pub enum PipelineEvent {
    /// For the connection.
    Request(AddressedRequest),
    /// There is a connection, to this server where it is known.
    Connected(Option<Arc<str>>),
    /// The version of the server, if it is known.
    Server(Option<Arc<str>>),
    /// The measures of a source that reads transactions.
    Feed(FeedMeasures),
    /// The connection cannot be made or kept.
    Trouble(SourceError),
    /// A server lags or a watch is in doubt: the tree is compared again.
    Anew(StepError),
    /// The journal takes nothing at present.
    Held(JournalError),
    /// The journal is near its limit and compacts what is not delivered.
    Compacting,
    /// The round is complete; this many records were merged into later ones.
    Compacted(u64),
    /// The progress of a sink does not follow its cursor: nothing of it is stored, and the sink has to halt.
    Refused(RefusedProgress),
    /// The source has stopped until an operator decides: the connection is to end.
    Halted(Halt),
}

/// The capture machine, the journal's writer and the cursors that wait to be stored.
pub struct Flow<L> {
    machine: Box<dyn SourceMachine>,
    journal: L,
    /// The last that was reported.
    connection: Connection,
    /// Not stored yet, by sink.
    progress: BTreeMap<Arc<str>, SinkProgress>,
    backoff: Backoff,
    random: StdRng,
    /// The machine has more to do when nothing waits.
    has_more: bool,
    /// The journal has more to compact.
    is_crowded: bool,
    events: VecDeque<PipelineEvent>,
    /// Whether there is a connection that may report.
    is_fed: bool,
    standstill: Standstill,
    lateness: Lateness,
    /// Of a connection that reads transactions.
    feed: FeedMeasures,
}

impl<L: JournalWriter> Flow<L> {
    /// A pipeline without a connection. `seed` is the seed of the jitter.
    pub fn new(machine: Box<dyn SourceMachine>, journal: L, seed: u64) -> Flow<L> {
        Flow {
            machine,
            journal,
            connection: Connection::default(),
            progress: BTreeMap::new(),
            backoff: Backoff::new(RECONNECT_FIRST, RECONNECT_MAX, Jitter::Half),
            random: StdRng::seed_from_u64(seed),
            has_more: false,
            is_crowded: false,
            events: VecDeque::new(),
            is_fed: true,
            standstill: Standstill::default(),
            lateness: Lateness::default(),
            feed: FeedMeasures::default(),
        }
    }

    /// The machine, for reading.
    pub fn machine(&self) -> &dyn SourceMachine {
        &*self.machine
    }

    /// The journal.
    pub fn journal(&mut self) -> &mut L {
        &mut self.journal
    }

    /// Whether [`Flow::go_on`] has something to do.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// The oldest that was not taken yet.
    pub fn next_event(&mut self) -> Option<PipelineEvent> {
        self.events.pop_front()
    }

    /// One report, into the open batch.
    ///
    /// # Errors
    /// The journal cannot be written any more. Everything durable stays so.
    pub fn report(&mut self, report: SourceEvent, now: Timestamp) -> Result<(), JournalError> {
        match report {
            SourceEvent::Server(version) => {
                self.journal.set_server(version.clone());
                self.events.push_back(PipelineEvent::Server(version));
                Ok(())
            }
            SourceEvent::Mode(mode) => {
                self.journal.set_mode(mode);
                Ok(())
            }
            SourceEvent::Feed(measures) => {
                self.feed = measures.clone();
                self.events.push_back(PipelineEvent::Feed(measures));
                Ok(())
            }
            SourceEvent::Trouble(trouble) => {
                self.events.push_back(PipelineEvent::Trouble(trouble));
                Ok(())
            }
            SourceEvent::Connected {
                connection,
                session,
                server,
            } => {
                self.events.push_back(PipelineEvent::Connected(server));
                self.connected(connection, session, now)
            }
            SourceEvent::Input(input) => self.step(input, now),
        }
    }

    fn connected(
        &mut self,
        connection: Connection,
        session: SessionFate,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.connection = connection;
        self.step(Input::Connected { session }, now)
    }

    /// About a second has passed.
    ///
    /// # Errors
    /// As of [`Flow::report`].
    pub fn tick(&mut self, now: Timestamp) -> Result<(), JournalError> {
        match self.fire(now) {
            Ok(()) => self.step(Input::Tick, now),
            Err(error) => self.failed(StepError::Journal(error)),
        }
    }

    /// Less than a second has passed: only events that were held back come.
    ///
    /// # Errors
    /// As of [`Flow::report`].
    pub fn beat(&mut self, now: Timestamp) -> Result<(), JournalError> {
        match self.fire(now) {
            Ok(()) => Ok(()),
            Err(error) => self.failed(StepError::Journal(error)),
        }
    }

    fn fire(&mut self, now: Timestamp) -> Result<(), JournalError> {
        // Without a connection, and until the tree is compared after it, nobody knows whether what has gone is back: an
        // event that was held back waits.
        match self.machine.state() {
            CaptureState::Live => self.journal.tick(now),
            _ => Ok(()),
        }
    }

    /// Nothing waits: the machine does more of what it had left.
    ///
    /// # Errors
    /// As of [`Flow::report`].
    pub fn go_on(&mut self, now: Timestamp) -> Result<(), JournalError> {
        self.has_more = false;
        self.step(Input::Continue, now)
    }

    fn step(&mut self, input: Input, now: Timestamp) -> Result<(), JournalError> {
        let is_trusted = self.standstill.trusts(now);
        match self.machine.step(now, input, &mut self.journal) {
            Ok(outcome) => self.act(outcome),
            Err(error) => return self.failed(error),
        }
        if is_trusted && self.is_fed && self.machine.is_current() {
            self.note_live(now);
        }
        Ok(())
    }

    /// Capture is live, and complete as far as is known.
    fn note_live(&mut self, now: Timestamp) {
        let known = self.machine.reported().zip(self.feed.view().newest);
        let until = match known {
            Some((position, newest)) => self.lateness.complete_until(position, newest, now),
            None => Some(now),
        };
        if let Some(until) = until {
            self.journal.set_live(until);
        }
    }

    /// The connection is gone and reports nothing more, so capture is live no more, whatever the machine knows.
    pub fn ended(&mut self) {
        self.is_fed = false;
    }

    /// A step failed: nothing of the open transaction becomes durable, and the connection is made anew.
    fn failed(&mut self, error: StepError) -> Result<(), JournalError> {
        self.journal.rollback()?;
        let reset = self.machine.reset(&error);
        let wait = match error {
            StepError::Journal(error) => {
                if !may_pass(error.kind) {
                    return Err(error);
                }
                if self.make_room()? {
                    self.events
                        .push_back(PipelineEvent::Anew(StepError::Journal(error)));
                    self.backoff.failed(&mut self.random)
                } else {
                    self.events.push_back(PipelineEvent::Held(error));
                    FULL_WAIT
                }
            }
            StepError::Lagging(_) | StepError::Doubt(_) | StepError::Unproved(_) => {
                self.events.push_back(PipelineEvent::Anew(error));
                self.backoff.failed(&mut self.random)
            }
        };
        match reset {
            Ok(()) => self.request(SourceRequest::Reconnect { after: wait }),
            Err(halt) => self.events.push_back(PipelineEvent::Halted(halt)),
        }
        Ok(())
    }

    /// Whether a journal that has refused a record could be compacted.
    fn make_room(&mut self) -> Result<bool, JournalError> {
        let mut records = 0;
        for _ in 0..FOLD_SLICES {
            records += self.compact()?;
            if !self.is_crowded {
                break;
            }
        }
        Ok(records > 0)
    }

    /// Whether [`Flow::compact`] has something left to do.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// Compacts a little if the journal is configured to and needs it; returns how many records went into later ones. Not
    /// while a batch is open.
    ///
    /// # Errors
    /// As of [`Flow::report`].
    pub fn compact(&mut self) -> Result<u64, JournalError> {
        let folded = match self.journal.fold(FOLD_SLICE) {
            Ok(folded) => folded,
            // Nothing of it was done; the next batch says what there is to say.
            Err(error) if may_pass(error.kind) => Folded::default(),
            Err(error) => return Err(error),
        };
        self.is_crowded = folded.more;
        if folded.began {
            self.events.push_back(PipelineEvent::Compacting);
        }
        self.events.extend(folded.ended.map(PipelineEvent::Compacted));
        Ok(folded.records)
    }

    fn act(&mut self, outcome: StepOutcome) {
        let StepOutcome {
            requests,
            has_more,
            halt,
        } = outcome;
        for request in requests {
            self.request(request);
        }
        self.has_more |= has_more;
        self.events.extend(halt.map(PipelineEvent::Halted));
        if self.machine.state() == CaptureState::Live {
            self.backoff.succeeded();
        }
    }

    fn request(&mut self, request: SourceRequest) {
        let connection = self.connection;
        let addressed = AddressedRequest { connection, request };
        self.events.push_back(PipelineEvent::Request(addressed));
    }

    /// Keeps the progress of a sink for the next commit, joined with what waits of it. A progress that does not start
    /// where that ends is refused.
    pub fn take_progress(&mut self, progress: SinkProgress) {
        match self.progress.get_mut(&progress.sink) {
            Some(waiting) => {
                if let Err(refused) = waiting.absorb(progress, self.journal.end().tail) {
                    self.events.push_back(PipelineEvent::Refused(refused));
                }
            }
            None => {
                self.progress.insert(progress.sink.clone(), progress);
            }
        }
    }

    /// Whether a cursor waits to be stored.
    pub fn has_progress(&self) -> bool {
        !self.progress.is_empty()
    }

    /// Whether what is waiting must not wait for the next beat: a cursor that is lost costs a record that is delivered
    /// twice, but a sink that was switched off would call a destination again that has asked never to be called.
    pub fn is_urgent(&self) -> bool {
        self.progress.values().any(|progress| progress.switch.is_some())
    }

    /// Makes the open transaction durable, with the cursors that are waiting. `None`: nothing of it became durable, and
    /// the connection is made anew.
    ///
    /// # Errors
    /// As of [`Flow::report`].
    pub fn commit(&mut self) -> Result<Option<Seq>, JournalError> {
        match self.write_progress().and_then(|()| self.journal.commit()) {
            Ok(tail) => {
                self.progress.clear();
                self.machine.committed();
                Ok(Some(tail))
            }
            Err(error) => self.failed(StepError::Journal(error)).map(|()| None),
        }
    }

    /// Writes the progress that waits into the open batch. A progress that is refused waits no more: it would be refused
    /// again, and the journal keeps the cursor before it.
    fn write_progress(&mut self) -> Result<(), JournalError> {
        let mut refused = Vec::new();
        for progress in self.progress.values() {
            match self.journal.store_progress(progress) {
                Ok(()) => {}
                Err(ProgressError::Refused(error)) => refused.push(error),
                Err(ProgressError::Journal(error)) => return Err(error),
            }
        }
        for error in refused {
            self.progress.remove(&error.sink);
            self.events.push_back(PipelineEvent::Refused(error));
        }
        Ok(())
    }

    /// Stores the last cursors; nothing comes after it.
    ///
    /// # Errors
    /// They could not be stored.
    pub fn store_progress(&mut self) -> Result<(), JournalError> {
        self.write_progress()?;
        self.journal.commit()?;
        self.progress.clear();
        self.store_live()
    }

    /// Stores how far capture is live. Not while a batch is open. A full disk only makes a later gap seem longer.
    fn store_live(&mut self) -> Result<(), JournalError> {
        match self.journal.store_live() {
            Err(error) if !may_pass(error.kind) => Err(error),
            _ => Ok(()),
        }
    }

    /// One round of retention, every ten seconds. Not while a batch is open.
    ///
    /// # Errors
    /// As of [`Flow::report`].
    pub fn retain(&mut self, now: Timestamp) -> Result<(), JournalError> {
        self.store_live()?;
        for _ in 0..RETENTION_SLICES {
            match self.journal.maintain(now, RETENTION_SLICE) {
                Ok(Maintained { more: true, .. }) => {}
                Ok(_) => break,
                // Nothing of it was done; the next round does it.
                Err(error) if may_pass(error.kind) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether the journal may take records again without an operator.
pub(super) fn may_pass(kind: JournalErrorKind) -> bool {
    matches!(
        kind,
        JournalErrorKind::Full | JournalErrorKind::DiskFull | JournalErrorKind::Held
    )
}
