//! The contract between the delivery engine and a destination.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use strum::{IntoStaticStr, VariantArray};

use crate::number::Seq;
use crate::record::Record;
use crate::subtree::SubtreeReader;

/// A batch for one sink: records of one source in the order of `seq`, or records of a run that is made for the sink,
/// which have the `seq` of the records that they repeat and are in the order of their paths. Never empty; each record
/// has a different `seq`.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The records to deliver. Filters have been applied, so `seq` may have holes.
    pub records: Vec<Arc<Record>>,
}

/// A destination.
///
/// **Ownership.** One worker owns a sink; its calls never overlap. Several sources that feed one configured sink have
/// one worker and one `Sink` value each.
///
/// **Order.** `deliver` makes the records of a path durable in the order of `seq`. A sink that spreads paths over
/// partitions or connections keeps the order of each path only. If a sink defers records ([`DeliverError::deferred`])
/// or an operator retries dead letters, these records come later in deliveries of their own, after records of other
/// paths.
///
/// **Duplicates.** After an error, a restart or a lost acknowledgement the records after the cursor are delivered
/// again. A repeated record has the same `id` and is equal as JSON, unless a full journal compacted it in between:
/// `before`, `missed` and `superseded` then also cover the records that were merged into it. One `Sink` value never
/// gets a record again that its `deliver` reported as durable.
///
/// **Durability.** A record that `deliver` reports as durable must survive a crash of this process, and, if the
/// destination can promise it, of the destination. The cursor moves past it, so a sink that reports early loses
/// records.
///
/// **Cancellation.** The worker may drop the future of `deliver` at a shutdown, after the drain bound. Nothing of that
/// call then counts as delivered. The sink is not called again afterwards except for `close`.
///
/// **Shutdown.** `close` is called once, flushes as much as its own time limit allows, and never blocks without a
/// limit.
///
/// **States.** A sink that writes the present state of a subtree ([`Sink::reads_subtrees`]) reads it from the image. A
/// record is then durable when the destination shows the state after it, or a later one.
pub trait Sink: Send {
    /// Checks address, credentials and topic before any record is read, and prepares to deliver. Called again after an
    /// error of `deliver`, before the next call; it must then discard all state of the earlier attempts.
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Delivers a batch. `Ok`: every record is durable at the destination.
    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>>;

    /// Whether the sink writes the present state of a subtree, and so needs a reader of the image.
    fn reads_subtrees(&self) -> bool {
        false
    }

    /// Gives the sink a reader of its source's image: once, before `open`, if it [reads subtrees](Sink::reads_subtrees).
    /// A check of the configuration opens the sink without one, and the sink then writes nothing.
    fn attach(&mut self, image: Box<dyn SubtreeReader>) {
        drop(image);
    }

    /// Whether this record can end a failure of the kind [`SinkErrorKind::Content`]: it changes what the destination would be
    /// sent. The next attempt then does not wait for `retry`.
    fn may_correct(&self, record: &Record) -> bool {
        let _ = record;
        false
    }

    /// How long a record may wait for further ones, from its capture on, before a batch that is not full is delivered.
    /// Called once, before the first record is read. Return zero if the client library already batches: the next batch is delivered only
    /// when this one is durable, so waiting twice only adds latency.
    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns how many of the records that became durable since the last call were shrunk to the limit of the
    /// destination ([`crate::oversize`]); 0 for a destination without a limit.
    fn take_shrunk(&mut self) -> u64 {
        0
    }

    /// Takes the last answer of the destination that made records durable, in one line for people; `None` if there was none
    /// since the last call, or the destination does not answer.
    fn take_answer(&mut self) -> Option<String> {
        None
    }

    /// These records are not delivered again by the engine of its own accord: they became dead letters, the journal no
    /// longer has them, or they are durable. A sink that remembers something of records that it deferred forgets it.
    /// Called between two calls of `deliver`; must not block.
    fn forget_deferred(&mut self, records: &[Seq]) {
        let _ = records;
    }

    /// Flushes, and releases the destination.
    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Returns the settings of the destination that the last successful `open` found allowed but probably a mistake,
    /// such as one by which it would lose delivered records: a sentence each, with a remedy. `zkbridge check --connect`
    /// prints them as warnings; the sink itself logs each once.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The result of a batch in which not every record is durable. Build it from its default, so that a sink names only the
/// fields that it uses.
#[derive(Debug, Default)]
pub struct DeliverError {
    /// The number of records from the front of the batch that are certainly durable, or rejected or deferred as listed.
    pub done: usize,
    /// Records among those first `done` that the destination will never accept, in the order of the batch.
    pub rejected: Vec<Rejected>,
    /// Records among those first `done` that the destination refused for now, in the order of the batch: the transport
    /// works, and only their own paths have to wait. Only a sink whose failures can concern a single path reports them,
    /// such as one that calls a service for each record. After a deferred record, every later one of its path in the
    /// batch must be deferred as well (or rejected), because no record may overtake it.
    pub deferred: Vec<Deferred>,
    /// Why the rest is not delivered; `None` if every record is durable, rejected or deferred (`done` is then the whole
    /// batch).
    pub error: Option<SinkError>,
    /// The extent of `error`, if the sink knows it.
    pub extent: Extent,
}

/// The extent of a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Extent {
    /// The whole destination: every other record would fail as well.
    #[default]
    Destination,
    /// The paths of the records that failed, or the whole destination: only records of other paths can show it. The
    /// engine adds newer records to the batch before it is delivered again, and soon delivers it again if they are of
    /// other paths. A sink that finds some of them durable and others refused then reports these as deferred.
    Unknown,
}

impl DeliverError {
    /// The first `done` records are durable, and the rest is not delivered.
    pub fn after(done: usize, error: SinkError) -> DeliverError {
        DeliverError {
            done,
            error: Some(error),
            ..DeliverError::default()
        }
    }
}

/// A record that a destination will never accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which.
    pub seq: Seq,
    /// The destination's reason, with the value it objects to, and what to do.
    pub reason: String,
    /// How often the destination refused it, this time included.
    pub attempts: u32,
}

impl Rejected {
    /// A record that is rejected at the first attempt.
    pub fn at_once(seq: Seq, reason: impl Into<String>) -> Rejected {
        Rejected {
            seq,
            reason: reason.into(),
            attempts: 1,
        }
    }
}

/// A record that a destination refused for now, while records of other paths are delivered.
#[derive(Debug)]
pub struct Deferred {
    /// Which.
    pub seq: Seq,
    /// The cause, and the wait if the destination requested one.
    pub error: SinkError,
}

/// A failure at a destination.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// Decides what the engine does.
    pub kind: SinkErrorKind,
    /// The message, with the concrete value.
    pub message: String,
    /// The wait that the destination requested, as in `Retry-After`: the engine waits at least this long, up to
    /// [`RETRY_AFTER_MAX`](crate::delivery::RETRY_AFTER_MAX).
    pub retry_after: Option<Duration>,
    /// Below.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// An error of the file system at a path, with what was tried, such as `write to`.
pub fn file_error(path: &Path, tried: &str, error: io::Error) -> SinkError {
    let message = format!("cannot {tried} {}: {error}", path.display());
    SinkError::new(SinkErrorKind::of_file_system(&error), message).because(error)
}

impl SinkErrorKind {
    /// The kind of an error of the file system.
    pub fn of_file_system(error: &io::Error) -> SinkErrorKind {
        use io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound => SinkErrorKind::Missing,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => SinkErrorKind::Authorization,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => SinkErrorKind::Full,
            Io::IsADirectory | Io::NotADirectory | Io::InvalidFilename => SinkErrorKind::Configuration,
            // Input and output errors, stale handles of network file systems, interrupted mounts: a later attempt may do.
            _ => SinkErrorKind::Unavailable,
        }
    }
}

impl SinkError {
    /// An error without a cause below.
    pub fn new(kind: SinkErrorKind, message: impl Into<String>) -> SinkError {
        SinkError {
            kind,
            message: message.into(),
            retry_after: None,
            source: None,
        }
    }

    /// A call of `deliver` before a successful `open`.
    pub fn not_opened() -> SinkError {
        SinkError::new(SinkErrorKind::Broken, "the sink was not opened")
    }

    /// The same with its cause.
    pub fn because(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SinkError {
        SinkError {
            source: Some(source.into()),
            ..self
        }
    }

    /// The same with the wait that the destination requested.
    pub fn retry_after(self, wait: Duration) -> SinkError {
        SinkError {
            retry_after: Some(wait),
            ..self
        }
    }
}

/// The kinds of failure at a destination. The engine's one match on them is `delivery::policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SinkErrorKind {
    /// The destination cannot be reached, is not ready, is overloaded, or did not answer in time.
    Unavailable,
    /// It asked to slow down.
    Throttled,
    /// Credentials are wrong or expired.
    Authentication,
    /// The credentials are valid, but lack the permission.
    Authorization,
    /// The topic, stream, file or address does not exist.
    Missing,
    /// It has no room left (disk, quota, full stream).
    Full,
    /// The client library cannot continue with this connection or producer; a new one can.
    Broken,
    /// The present state has no form at the destination: a template or a check of the user's own refuses it, or it exceeds
    /// a limit. Another state may have one.
    Content,
    /// The options of the sink cannot work with this destination.
    Configuration,
    /// The destination reported that it has ended permanently, or an operator disabled the sink. Kept over restarts
    /// until an operator enables the sink.
    Disabled,
    /// The destination ended for this run of the process, such as an output whose reader has ended; the next run has
    /// another one.
    Ended,
}

impl SinkErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: &[SinkErrorKind] = SinkErrorKind::VARIANTS;

    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for SinkErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
