//! The contract between the delivery engine and a destination.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::number::Seq;
use crate::record::Record;

/// Records of one source in the order of `seq`, or of a run that is made for the sink, whose records repeat the `seq` of
/// what they restate and come in the order of their paths. For one sink. Never empty; each record has another `seq`.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What to deliver. Filters have been applied, so `seq` may have holes.
    pub records: Vec<Arc<Record>>,
}

/// A destination.
///
/// **Ownership.** One worker owns a sink; its calls never overlap. Several sources that feed one configured sink have
/// one worker and one `Sink` value each.
///
/// **Order.** `deliver` makes the records of a path durable in the order of `seq`. A sink that spreads paths over
/// partitions or connections keeps the order of each path only. Where a sink defers records ([`DeliverError::deferred`])
/// or an operator retries dead letters, these come later in deliveries of their own, after records of other paths.
///
/// **Duplicates.** After an error, a restart or a lost acknowledgement the same records come again from after the
/// cursor; a record that comes again has the same `id` and is equal as JSON, unless a full journal compacted it in
/// between: `before`, `missed` and `superseded` then also cover the records that went into it. Within one value's life,
/// records are never delivered again once `deliver` reported them as durable.
///
/// **Durability.** What `deliver` reports as durable must survive a crash of this process, and, where the destination
/// can promise it, of the destination. The cursor moves past it, so a sink that reports early loses records.
///
/// **Cancellation.** The worker may drop the future of `deliver` at a shutdown, after the drain bound. Nothing of that
/// call then counts as delivered. The sink is not called again afterwards except for `close`.
///
/// **Shutdown.** `close` is called once, flushes what it can within its own bound, and never blocks without a limit.
pub trait Sink: Send {
    /// Proves address, credentials and topic before any record is read, and prepares to deliver. Called again after
    /// an error of `deliver`, before the next one; it must then discard all that is left of the attempts before.
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Delivers a batch. `Ok`: every record is durable at the destination.
    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>>;

    /// How long a record may wait for company before it is handed over in a batch that is not full. Asked once, before the
    /// first record is read. The next batch is handed over when one is durable, so that a destination which waits by
    /// itself, as the producers of some client libraries do, makes each record wait for nobody.
    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    /// How many of the records that became durable since this was last asked had been shrunk to what the destination
    /// takes ([`crate::oversize`]). A destination without a limit has nothing to say.
    fn take_shrunk(&mut self) -> u64 {
        0
    }

    /// Flushes and lets go of the destination.
    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>>;

    /// What the last successful `open` found at the destination that is allowed and may not be meant, such as settings by
    /// which it would lose what was delivered: a sentence each, with what to do. `zkbridge check --connect` prints them as
    /// warnings; the sink itself logs them, each once.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a batch came to when not every record is durable. Built from its default, so that what a sink has nothing to say
/// about need not be named.
#[derive(Debug, Default)]
pub struct DeliverError {
    /// How many records from the front of the batch are durable for certain, or were rejected or deferred as listed.
    pub done: usize,
    /// Records among those first `done` that the destination will never accept, in the order of the batch.
    pub rejected: Vec<Rejected>,
    /// Records among those first `done` that the destination refused for now, in the order of the batch: the way to it works, and
    /// nothing but their own path has to wait. Only a sink whose failures are those of a path says so, such as one that
    /// calls a service for each record. After a deferred record, every later one of its path in the batch must be
    /// deferred as well (or rejected), as nothing may overtake it.
    pub deferred: Vec<Deferred>,
    /// Why the rest is not delivered; `None` where the rejected and deferred ones are all there is to say (`done` is then
    /// the whole batch).
    pub error: Option<SinkError>,
    /// How far `error` reaches, as far as the sink can tell.
    pub extent: Extent,
}

/// How far a failure reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Extent {
    /// The whole destination: no other record would fare better.
    #[default]
    Destination,
    /// The paths of the records that failed, or the whole destination: only records of other paths can show it. The
    /// engine adds newer records to the batch before it is delivered again, and soon delivers it again where they are of
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
}

/// A record that a destination refused for now, while the records of other paths go on.
#[derive(Debug)]
pub struct Deferred {
    /// Which.
    pub seq: Seq,
    /// Why, and when to come back where the destination said so.
    pub error: SinkError,
}

/// What went wrong at a destination.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// Decides what the engine does.
    pub kind: SinkErrorKind,
    /// What happened, with the concrete value.
    pub message: String,
    /// The destination's own word on when to come back, as in `Retry-After`: the engine waits at least so long, up to
    /// [`RETRY_AFTER_MAX`](crate::delivery::RETRY_AFTER_MAX).
    pub retry_after: Option<Duration>,
    /// Below.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
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

    /// The same with the destination's word on when to come back.
    pub fn retry_after(self, wait: Duration) -> SinkError {
        SinkError {
            retry_after: Some(wait),
            ..self
        }
    }
}

/// The kinds of failure at a destination. The engine's one match on them is `delivery::policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SinkErrorKind {
    /// The destination cannot be reached, is not ready, is overloaded, or did not answer in time.
    Unavailable,
    /// It asked to slow down.
    Throttled,
    /// Credentials are wrong or expired.
    Authentication,
    /// It knows who asks and refuses.
    Authorization,
    /// The topic, stream, file or address is not there.
    Missing,
    /// It has no room left (disk, quota, full stream).
    Full,
    /// The client library can not go on with this connection or producer; a new one can.
    Broken,
    /// The options of the sink cannot work with this destination.
    Configuration,
    /// The destination said that it is gone for good, or an operator switched it off. Kept over restarts until an operator
    /// enables the sink.
    Disabled,
    /// The destination ended with this life of the process, such as an output that nobody reads any more; the next life
    /// has another one.
    Ended,
}

impl SinkErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: [SinkErrorKind; 10] = [
        SinkErrorKind::Unavailable,
        SinkErrorKind::Throttled,
        SinkErrorKind::Authentication,
        SinkErrorKind::Authorization,
        SinkErrorKind::Missing,
        SinkErrorKind::Full,
        SinkErrorKind::Broken,
        SinkErrorKind::Configuration,
        SinkErrorKind::Disabled,
        SinkErrorKind::Ended,
    ];

    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            SinkErrorKind::Unavailable => "unavailable",
            SinkErrorKind::Throttled => "throttled",
            SinkErrorKind::Authentication => "authentication",
            SinkErrorKind::Authorization => "authorization",
            SinkErrorKind::Missing => "missing",
            SinkErrorKind::Full => "full",
            SinkErrorKind::Broken => "broken",
            SinkErrorKind::Configuration => "configuration",
            SinkErrorKind::Disabled => "disabled",
            SinkErrorKind::Ended => "ended",
        }
    }
}

impl fmt::Display for SinkErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
