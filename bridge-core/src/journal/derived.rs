//! The derivation of a journal: passes each change to it, keeps its rows, and appends its events.
//!
//! *Invariants.* An event is appended to the batch of the changes that it follows from, after them, or, where more of
//! their transaction may come, to the one in which that becomes known. Without a derivation nothing is read, written or
//! allocated for it. Rows and events become durable with the changes: a rollback takes them along, and the derivation
//! begins again from the rows.

use rusqlite::Connection;
use uuid::Uuid;

use super::append::draft_event;
use super::derived_rows::DerivedTxn;
use super::error::JournalError;
use super::image::{Life, Place};
use super::row::data_of_value;
use super::schema::SLASH;
use super::writer::{Journal, TxnState};
use crate::append::{Append, Change, ChangeKind, DeletedAt, RecordKind};
use crate::derive::{
    Derivation, DerivationMark, DerivedEvent, DerivedState, InstanceCount, ObservedChange, RestOfTransaction,
};
use crate::journal::JournalWriter;
use crate::number::{SessionId, Zxid};
use crate::path::ZnodePath;
use crate::record::{Data, Fidelity, Identity, Op, Timestamp, TxnKind};

/// Znodes that one look at the image takes.
const PAGE: usize = 256;

/// A change that was appended, for the derivation.
pub(super) struct Observation {
    root: Option<ZnodePath>,
    path: ZnodePath,
    op: Op,
    pub(super) id: Uuid,
    zxid: Option<Zxid>,
    is_exact: bool,
    czxid: Zxid,
    owner: SessionId,
    fidelity: Fidelity,
    missed: Option<u64>,
    pub(super) changed: Option<Timestamp>,
    captured: Timestamp,
    data: Option<Data>,
    txn: Option<TxnKind>,
}

impl Observation {
    /// The part of an appended change that a derivation sees; `life` is the image's before it. `None` if no derivation
    /// can use it: the access control list alone, or an incarnation that nobody has seen.
    pub(super) fn of(
        root: Option<&ZnodePath>,
        captured: Timestamp,
        change: &Change,
        life: Life,
    ) -> Option<Observation> {
        let before = life.node();
        let owner_before = before
            .and_then(|node| node.stat)
            .map_or(SessionId::NONE, |stat| stat.ephemeral_owner);
        let (czxid, owner, zxid, is_exact, data) = match &change.kind {
            ChangeKind::Created { read } | ChangeKind::Updated { read } | ChangeKind::Listed { read, .. } => {
                let stat = read.stat;
                (
                    stat.czxid,
                    stat.ephemeral_owner,
                    Some(stat.mzxid),
                    true,
                    read.data.clone(),
                )
            }
            ChangeKind::CreatedUnread { czxid, .. } => (*czxid, SessionId::NONE, Some(*czxid), true, None),
            // It shows nothing about the znode.
            ChangeKind::Deleted {
                at: DeletedAt::Unwatched,
            } => return None,
            ChangeKind::Deleted { at } => {
                let (zxid, is_exact) = match at {
                    DeletedAt::Exact(zxid) => (Some(*zxid), true),
                    DeletedAt::Bound(zxid) => (Some(*zxid), false),
                    DeletedAt::Unknown | DeletedAt::Unwatched => (None, false),
                };
                (before?.czxid, owner_before, zxid, is_exact, None)
            }
            // A listing that is repeated shows what the derivation knows.
            ChangeKind::Restated { .. } | ChangeKind::AclChanged { .. } => return None,
        };
        Some(Observation {
            root: root.cloned(),
            path: change.path.clone(),
            op: change.kind.op(),
            id: Uuid::nil(),
            zxid,
            is_exact,
            czxid,
            owner,
            fidelity: change.fidelity,
            missed: change.missed,
            changed: None,
            captured,
            data,
            txn: change.txn.as_ref().map(|txn| txn.kind),
        })
    }

    fn as_change(&self) -> ObservedChange<'_> {
        ObservedChange {
            root: self.root.as_ref(),
            path: &self.path,
            op: self.op,
            id: self.id,
            zxid: self.zxid,
            is_exact: self.is_exact,
            czxid: self.czxid,
            owner: self.owner,
            fidelity: self.fidelity,
            missed: self.missed,
            changed: self.changed,
            captured: self.captured,
            data: self.data.as_ref(),
            txn: self.txn,
        }
    }
}

/// The zxid of the transaction that a record belongs to, if it was seen as it happened. What is found by comparing may
/// come between two changes of a transaction, and have the zxid of any other.
fn seen_zxid(kind: &RecordKind) -> Option<Zxid> {
    let RecordKind::Change(change) = kind else {
        return None;
    };
    if change.fidelity == Fidelity::Reconciled {
        return None;
    }
    match &change.kind {
        ChangeKind::Created { read } | ChangeKind::Updated { read } | ChangeKind::Listed { read, .. } => {
            Some(read.stat.mzxid)
        }
        ChangeKind::CreatedUnread { czxid, .. } => Some(*czxid),
        ChangeKind::Deleted {
            at: DeletedAt::Exact(zxid),
        } => Some(*zxid),
        ChangeKind::AclChanged { zxid, .. } => *zxid,
        ChangeKind::Deleted { .. } | ChangeKind::Restated { .. } => None,
    }
}

impl Journal {
    /// Derives events from all changes from now on. If its options are new to the journal, the image is passed to it as
    /// a listing first, at the time `now`. Returns how many events that gave. Commits. Without one, rows of an earlier
    /// one are removed: they miss the changes from now on.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or written, or its content is not valid.
    pub fn set_derivation(
        &mut self,
        derivation: Option<Box<dyn Derivation>>,
        now: Timestamp,
    ) -> Result<u64, JournalError> {
        self.derivation = None;
        let Some(derivation) = derivation else {
            let has_rows: bool = self.read("looking for the state of services", |journal| {
                let exists = "SELECT EXISTS (SELECT 1 FROM derived)";
                journal.connection.query_row(exists, [], |row| row.get(0))
            })?;
            if has_rows {
                self.write("removing the state of services", |journal| {
                    journal.derived_rows.forget();
                    journal.connection.execute("DELETE FROM derived", []).map(drop)
                })?;
                JournalWriter::commit(self)?;
            }
            return Ok(0);
        };
        self.begin()?;
        self.derivation = Some(derivation);
        let before = self.log.head;
        let begun = self.with_derivation(|derivation, rows| derivation.begin(rows))?;
        self.append_events(begun.events, now)?;
        if begun.must_fill {
            self.fill_derivation(now)?;
        }
        if let Some(derivation) = &mut self.derivation {
            derivation.filled();
        }
        let events = self.log.head.0 - before.0;
        JournalWriter::commit(self)?;
        Ok(events)
    }

    /// How many instances are registered, if that has changed since the last call.
    pub fn instances(&mut self) -> Option<Vec<InstanceCount>> {
        self.derivation.as_mut()?.instances()
    }

    /// Calls the derivation with its rows. An error spoils the batch.
    fn with_derivation<T: Default>(
        &mut self,
        call: impl FnOnce(&mut dyn Derivation, &mut dyn DerivedState) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let Some(mut derivation) = self.derivation.take() else {
            return Ok(T::default());
        };
        let mut rows = DerivedTxn::new(&mut self.derived_rows, &self.connection, &self.file);
        let called = call(&mut *derivation, &mut rows);
        self.room.grew_by(rows.grown());
        self.derivation = Some(derivation);
        if called.is_err() && self.state == TxnState::Open {
            self.state = TxnState::Failed;
        }
        called
    }

    /// Whether changes wait for the rest of their transaction: [`JournalWriter::tick`] should come within some hundred
    /// milliseconds.
    pub fn is_within_transaction(&self) -> bool {
        self.derivation
            .as_ref()
            .is_some_and(|derivation| derivation.waits())
    }

    /// Before a record is appended: a change of another transaction of the ensemble completes those that wait.
    pub(super) fn derive_before(&mut self, entry: &Append) -> Result<(), JournalError> {
        let Some(derivation) = &self.derivation else {
            return Ok(());
        };
        let zxid = match &entry.kind {
            // It comes at any time.
            RecordKind::Heartbeat { .. } => return Ok(()),
            kind => seen_zxid(kind),
        };
        if !derivation.is_ended_by(zxid) {
            return Ok(());
        }
        let rest = match zxid {
            Some(_) => RestOfTransaction::None,
            None => RestOfTransaction::Lost,
        };
        self.derive_complete(rest, entry.captured)
    }

    /// The changes of the batch, as far as they are complete.
    pub(super) fn derive_complete(
        &mut self,
        rest: RestOfTransaction,
        captured: Timestamp,
    ) -> Result<(), JournalError> {
        let events = self.with_derivation(|derivation, rows| derivation.complete(rest, rows))?;
        self.append_batches(events, captured)
    }

    /// After a record was appended.
    pub(super) fn derive_after(
        &mut self,
        mark: Option<(DerivationMark, Option<ZnodePath>)>,
        captured: Timestamp,
    ) -> Result<(), JournalError> {
        if let Some(observed) = self.observed.take() {
            self.last_captured = captured;
            self.with_derivation(|derivation, rows| derivation.change(&observed.as_change(), rows))?;
        }
        let Some((mark, root)) = mark.filter(|_| self.derivation.is_some()) else {
            return Ok(());
        };
        self.derive_complete(RestOfTransaction::Lost, captured)?;
        let events = self.with_derivation(|derivation, rows| derivation.mark(mark, root.as_ref(), rows))?;
        self.append_batches(events, captured)
    }

    /// The events that were held back until now.
    pub(super) fn derive_due(&mut self, now: Timestamp) -> Result<(), JournalError> {
        let Some(derivation) = self.derivation.as_ref() else {
            return Ok(());
        };
        let (has_due, rest) = match derivation.has_waited(now) {
            true => (true, RestOfTransaction::None),
            false => (derivation.has_due(now), RestOfTransaction::MayCome),
        };
        if !has_due {
            return Ok(());
        }
        self.begin()?;
        self.derive_complete(rest, now)?;
        let events = self.with_derivation(|derivation, rows| derivation.due(now, rows))?;
        self.append_events(events, now)
    }

    /// The rows are those of the last commit again.
    pub(super) fn derive_anew(&mut self) -> Result<(), JournalError> {
        self.observed = None;
        self.with_derivation(|derivation, rows| derivation.forget(rows))
    }

    /// Appends the first batch and all others.
    fn append_batches(&mut self, first: Vec<DerivedEvent>, captured: Timestamp) -> Result<(), JournalError> {
        self.append_events(first, captured)?;
        while self
            .derivation
            .as_ref()
            .is_some_and(|derivation| derivation.has_more())
        {
            let events = self.with_derivation(|derivation, rows| derivation.more(rows))?;
            self.append_events(events, captured)?;
        }
        Ok(())
    }

    fn append_events(&mut self, events: Vec<DerivedEvent>, captured: Timestamp) -> Result<(), JournalError> {
        for derived in events {
            self.make_room()?;
            self.write_beside("appending a service event", |journal| {
                journal.append_event(derived, captured).map(drop)
            })?;
        }
        Ok(())
    }

    fn append_event(&mut self, derived: DerivedEvent, captured: Timestamp) -> rusqlite::Result<()> {
        let DerivedEvent { root, home, event } = derived;
        self.append_draft(root, None, |ctx| draft_event(ctx, captured, home, event))
    }

    /// Passes the living znodes of the image to the derivation, parents first.
    fn fill_derivation(&mut self, now: Timestamp) -> Result<(), JournalError> {
        let slash = (SLASH, ZnodePath::slash(), String::new());
        let mut way = vec![slash];
        while let Some((id, path, after)) = way.pop() {
            let page = image_page(&self.connection, id, &after)
                .map_err(|error| self.fault("reading the image for services", error))?;
            let Some((last, ..)) = page.last() else { continue };
            way.push((id, path.clone(), last.clone()));
            let mut below = Vec::with_capacity(page.len());
            for (name, place, data) in page {
                let child = path.child(&name);
                below.push((place.id, child.clone(), String::new()));
                self.fill_one(child, place, data, now)?;
            }
            way.extend(below.into_iter().rev());
        }
        self.derive_after(Some((DerivationMark::ListingEnd, None)), now)
    }

    fn fill_one(
        &mut self,
        path: ZnodePath,
        place: Place,
        data: Option<Data>,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let Life::Read { stat } = place.life else {
            return Ok(());
        };
        if !self
            .derivation
            .as_ref()
            .is_some_and(|derivation| derivation.covers(&path))
        {
            return Ok(());
        }
        let identity = Identity::Snapshot {
            czxid: stat.czxid,
            version: stat.version,
            aversion: stat.aversion,
            run: &Uuid::nil(),
        };
        let observed = Observation {
            root: None,
            id: identity.id(&self.options.cluster, &path),
            path,
            op: Op::Snapshot,
            zxid: Some(stat.mzxid),
            is_exact: true,
            czxid: stat.czxid,
            owner: stat.ephemeral_owner,
            fidelity: Fidelity::Reconciled,
            missed: None,
            changed: Timestamp::of_stat(stat.mtime),
            captured: now,
            data,
            txn: None,
        };
        if self
            .derivation
            .as_ref()
            .is_some_and(|derivation| derivation.is_ended_by(Some(stat.mzxid)))
        {
            self.derive_complete(RestOfTransaction::None, now)?;
        }
        self.with_derivation(|derivation, rows| derivation.change(&observed.as_change(), rows))
    }
}

/// Existing children of a path after a name, with their data.
fn image_page(
    connection: &Connection,
    parent: i64,
    after: &str,
) -> rusqlite::Result<Vec<(String, Place, Option<Data>)>> {
    let rows = super::image::places_after(connection, parent, after, PAGE)?;
    rows.into_iter()
        .map(|(name, place)| {
            let data = place
                .value
                .map(|value| data_of_value(connection, value))
                .transpose()?;
            Ok((name.into(), place, data))
        })
        .collect()
}
