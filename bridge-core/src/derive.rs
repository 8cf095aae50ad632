//! The contract of a derivation: it turns the changes of a source into events of another kind, which the journal appends
//! to the same transaction.
//!
//! The journal passes each change with its raw bytes, after masks and before anything is merged, filtered or left out.
//! The derivation keeps its state in rows of the same transaction ([`DerivedState`]), so that state, changes and events
//! become durable together or not at all.
//!
//! Invariants of every derivation:
//!
//! * It reads no clock and does not wait: the same changes on the same rows give the same events.
//! * Between two batches it holds nothing but what its rows say, and what may be forgotten: no event is lost without it,
//!   and none says more than is known. After a rollback [`Derivation::forget`] is called.
//! * Its memory has a bound: events come in batches ([`Derivation::more`]), however many changes a gap has hidden.
//! * It has no part in a change: no input makes it fail but rows that cannot be read or written.

use std::sync::Arc;

use uuid::Uuid;

use crate::journal::JournalError;
use crate::number::{SessionId, Zxid};
use crate::path::ZnodePath;
use crate::record::{Data, Fidelity, Op, ServiceEvent, Timestamp, TxnKind};

/// A change as it is appended.
#[derive(Clone, Copy, Debug)]
pub struct ObservedChange<'a> {
    /// The root that covers the path.
    pub root: Option<&'a ZnodePath>,
    /// The znode.
    pub path: &'a ZnodePath,
    /// The operation.
    pub op: Op,
    /// The id of the record.
    pub id: Uuid,
    /// The zxid of the record.
    pub zxid: Option<Zxid>,
    /// Whether the zxid is the transaction's own.
    pub is_exact: bool,
    /// Names the incarnation.
    pub czxid: Zxid,
    /// The session that owns the znode, or owned it; none if it is persistent, or was never read.
    pub owner: SessionId,
    /// Seen or found.
    pub fidelity: Fidelity,
    /// As in the record.
    pub missed: Option<u64>,
    /// ZooKeeper's time of the change.
    pub changed: Option<Timestamp>,
    /// Ours.
    pub captured: Timestamp,
    /// The data after the change; `None` if nobody read it.
    pub data: Option<&'a Data>,
    /// The type of the transaction, where the source reads transactions.
    pub txn: Option<TxnKind>,
}

/// A record about the stream that a derivation must know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivationMark {
    /// Changes may have been missed from here on.
    GapBegin,
    /// They have been found by comparing.
    GapEnd,
    /// A root is being listed: its znodes come in any order, those of one queue apart from each other.
    ListingBegin,
    /// The root, or with none the image, has been listed.
    ListingEnd,
}

/// What is known of the rest of the transaction of the ensemble whose changes wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestOfTransaction {
    /// There is none: a change of another transaction comes next, or the rest would have come long ago.
    None,
    /// The next batch may begin with it: a watch reports a transaction change by change.
    MayCome,
    /// It may come, and will not be seen as a part of this transaction: changes may be missed from here on.
    Lost,
}

/// An event, and where it belongs.
#[derive(Clone, Debug, PartialEq)]
pub struct DerivedEvent {
    /// The root of the change that caused it.
    pub root: Option<ZnodePath>,
    /// The path below which everything is registered that shares an order with it: events of one home are delivered in
    /// order.
    pub home: ZnodePath,
    /// The event, without its position.
    pub event: ServiceEvent,
}

/// Rows of a derivation inside the open transaction, ordered by key. Each call sees all earlier ones.
pub trait DerivedState {
    /// The row of a key.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    fn get(&mut self, key: &[u8]) -> Result<Option<Arc<[u8]>>, JournalError>;

    /// Stores the row of a key, or removes it.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written.
    fn put(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<(), JournalError>;

    /// The rows whose keys begin with `prefix`, in ascending order, greater than `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DerivedRow>, JournalError>;
}

/// The key and the content of a row.
pub type DerivedRow = (Vec<u8>, Vec<u8>);

/// Registered instances of a service with a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceCount {
    /// The service.
    pub service: String,
    /// The word of the status.
    pub status: &'static str,
    /// How many.
    pub count: u64,
}

/// How a derivation begins.
#[derive(Debug, Default)]
pub struct Begun {
    /// The image must be passed to [`Derivation::change`] as a listing, and then [`Derivation::filled`] called: rows of
    /// other options are removed.
    pub must_fill: bool,
    /// The events of changes that waited for the rest of their transaction when the last process ended.
    pub events: Vec<DerivedEvent>,
}

/// Turns changes into events.
pub trait Derivation: Send {
    /// Whether changes of the path can matter. Cheap: it is asked for each change.
    fn covers(&self, path: &str) -> bool;

    /// Whether changes wait that belong to another transaction of the ensemble than this: [`Derivation::complete`] must
    /// come first.
    fn is_ended_by(&self, zxid: Option<Zxid>) -> bool;

    /// Takes a change of a path that it covers.
    ///
    /// # Errors
    ///
    /// If its rows cannot be read or written.
    fn change(
        &mut self,
        change: &ObservedChange<'_>,
        state: &mut dyn DerivedState,
    ) -> Result<(), JournalError>;

    /// The events of the changes that wait, in order, the first batch of them: [`Derivation::more`] has the others. Where
    /// the rest of their transaction may come, changes that it could give another meaning go on waiting, in rows.
    ///
    /// # Errors
    ///
    /// If its rows cannot be read or written.
    fn complete(
        &mut self,
        rest: RestOfTransaction,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError>;

    /// Whether changes wait for the rest of their transaction. Then the journal asks [`Derivation::has_waited`] soon.
    fn waits(&self) -> bool;

    /// Whether changes have waited so long that the rest of their transaction would have come.
    fn has_waited(&self, now: Timestamp) -> bool;

    /// Takes the begin or end of a gap or a listing of a root, after [`Derivation::complete`]. Returns the first batch of
    /// the events that an end leads to.
    ///
    /// # Errors
    ///
    /// If its rows cannot be read or written.
    fn mark(
        &mut self,
        mark: DerivationMark,
        root: Option<&ZnodePath>,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError>;

    /// Whether the last [`Derivation::complete`] or [`Derivation::mark`] has more events. They must be taken before the
    /// next change.
    fn has_more(&self) -> bool;

    /// The next batch of these events. It may be empty before the end.
    ///
    /// # Errors
    ///
    /// If its rows cannot be read or written.
    fn more(&mut self, state: &mut dyn DerivedState) -> Result<Vec<DerivedEvent>, JournalError>;

    /// Whether [`Derivation::due`] has something to do. Cheap: it is asked every second, and more often while changes
    /// wait.
    fn has_due(&self, now: Timestamp) -> bool;

    /// The events whose time has come, at most one batch; [`Derivation::has_due`] stays true while more are due.
    ///
    /// # Errors
    ///
    /// If its rows cannot be read or written.
    fn due(
        &mut self,
        now: Timestamp,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError>;

    /// Compares its options with those that the rows were made with, before the first change.
    ///
    /// # Errors
    ///
    /// If the rows cannot be read or written.
    fn begin(&mut self, state: &mut dyn DerivedState) -> Result<Begun, JournalError>;

    /// The image was passed.
    fn filled(&mut self);

    /// How many instances are registered, by service and status, if that has changed since the last call. Includes
    /// services and statuses that have none any more.
    fn instances(&mut self) -> Option<Vec<InstanceCount>>;

    /// Takes its state from the rows again, as of the last commit.
    ///
    /// # Errors
    ///
    /// If the rows cannot be read.
    fn forget(&mut self, state: &mut dyn DerivedState) -> Result<(), JournalError>;
}
