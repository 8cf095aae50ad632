//! The one writer of a journal.
//!
//! A batch is a transaction: begun, filled, committed. After any error inside it nothing more is taken until it is
//! rolled back, so that no half of a batch can become durable. Rows of the open batch wait to be written together, see
//! [`super::rows`]: they are written before anything but the image's own look-ups reads the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::append::{Context, draft_change, draft_control};
use super::contract::{JournalWriter, SealedBatch};
use super::derived::Observation;
use super::derived_rows::DerivedTable;
use super::drafts::Draft;
use super::error::{JournalError, JournalErrorKind};
use super::folding::{Folded, Folding};
use super::hydrate::Named;
use super::image::Place;
use super::image_writer::Image;
use super::live::LiveUntil;
use super::local_log::LocalLog;
use super::lock::Lock;
use super::masking::mask;
use super::open::{OpenedWriter, open_writer};
use super::options::JournalOptions;
use super::paths::Entered;
use super::place::JournalPlace;
use super::read::Reader;
use super::read_marks::ReadMarks;
use super::retention::Maintained;
use super::shadow_load::ShadowLoad;
use super::size::Room;
use super::wal::WalCopier;
use super::wal_gate::WalGate;
use crate::append::{Append, Change, ChangeKind, RecordKind};
use crate::derive::{Derivation, RestOfTransaction};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Masking, Mode, Origin, Timestamp};

/// The journal of one source, open for writing. Synchronous: it is used on one thread.
///
/// Dropping it rolls back what is not committed and lets go of the file.
pub struct Journal {
    /// Before the connection, which is to be the last to close and copies what is left of the log.
    pub(super) copier: WalCopier,
    pub(super) connection: Connection,
    pub(super) file: PathBuf,
    pub(super) options: JournalOptions,
    pub(super) log: LocalLog,
    pub(super) image: Image,
    pub(super) room: Room,
    pub(super) folding: Folding,
    pub(super) read_marks: ReadMarks,
    pub(super) state: TxnState,
    /// Where this process's readers wait while the log is long. After the connections, as it has to outlive them.
    pub(super) gate: Arc<WalGate>,
    /// A reader of another process keeps the log from being restarted.
    pub(super) wal_is_held: bool,
    /// The log could not be copied, and that was logged.
    pub(super) wal_is_stuck: bool,
    /// The paths whose values are masked.
    pub(super) masking: Option<Arc<Masking>>,
    /// The proof of a whole tree, until it is stored.
    pub(super) shadow_load: Option<ShadowLoad>,
    /// How long the last batch took to the disk.
    pub(super) synchronised: Option<Duration>,
    pub(super) lock: Lock,
    /// The files as they were when they were last looked at.
    pub(super) place: JournalPlace,
    /// Derives events from the changes.
    pub(super) derivation: Option<Box<dyn Derivation>>,
    /// The rows of the derivation.
    pub(super) derived_rows: DerivedTable,
    /// The change that was appended last, until the derivation has it.
    pub(super) observed: Option<Observation>,
    /// When the last change was captured that the derivation has.
    pub(super) last_captured: Timestamp,
    /// How far capture is known to have been live.
    pub(super) live: LiveUntil,
}

/// The transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TxnState {
    /// There is none.
    Closed,
    /// It takes entries.
    Open,
    /// It is complete and waits to be appended.
    Sealed,
    /// Something in it failed; it waits to be rolled back.
    Failed,
}

impl Journal {
    /// Opens the journal of a source, creates it with its folder if there is none, and keeps every other process from
    /// writing it.
    ///
    /// # Errors
    ///
    /// If another process has the journal open, it cannot be read or created, is not a journal of this source, or has a
    /// newer format.
    pub fn open(file: &Path, options: &JournalOptions) -> Result<Journal, JournalError> {
        let OpenedWriter {
            connection,
            gate,
            lock,
        } = open_writer(file, options)?;
        let loaded = LocalLog::load(&connection).and_then(|log| {
            let (image, live) = (Image::load(&connection)?, LiveUntil::load(&connection)?);
            Ok((log, image, live))
        });
        let (log, image, live) =
            loaded.map_err(|error| JournalError::of_sqlite(file, "opening it", error))?;
        image.check_applied(log.end.tail, file)?;
        Ok(Journal {
            copier: WalCopier::start(file)?,
            log,
            image,
            room: Room::new(options.max_size),
            folding: Folding::default(),
            read_marks: ReadMarks::default(),
            state: TxnState::Closed,
            gate,
            wal_is_held: false,
            wal_is_stuck: false,
            masking: None,
            shadow_load: None,
            synchronised: None,
            connection,
            file: file.to_owned(),
            options: options.clone(),
            lock,
            place: JournalPlace::default(),
            derivation: None,
            derived_rows: DerivedTable::default(),
            observed: None,
            last_captured: Timestamp(0),
            live,
        })
    }

    /// From now on [`JournalOptions::stop`] interrupts nothing.
    ///
    /// # Errors
    ///
    /// If SQLite refuses it.
    pub fn end_opening(&mut self) -> Result<(), JournalError> {
        let ended = self.connection.progress_handler(0, None::<fn() -> bool>);
        ended.map_err(|error| self.fault("opening it", error))
    }

    /// A reader for the worker of a sink. No record that it has read goes into one that it has not, and what is held in
    /// memory it need not read.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn reader_for(&self, sink: &str) -> Result<Reader, JournalError> {
        let reader = Reader::open(&self.file)?;
        Ok(reader.for_worker(self.read_marks.enter(sink), self.log.tail_cache.newest()))
    }

    /// How long every worker lets a record wait for further ones: a batch that stays open for a part of it delays none.
    /// Zero without a worker.
    pub fn linger(&self) -> Duration {
        self.read_marks.linger()
    }

    /// Begins a transaction. Every call that writes begins one by itself, too.
    ///
    /// # Errors
    ///
    /// If another process has opened or written the journal ([`JournalErrorKind::InUse`]), if it cannot be written, or
    /// its content is not valid.
    pub fn begin(&mut self) -> Result<(), JournalError> {
        match self.state {
            TxnState::Open => Ok(()),
            TxnState::Sealed | TxnState::Failed => Err(self.failed()),
            TxnState::Closed => {
                let begun = execute(&self.connection, "BEGIN IMMEDIATE");
                begun.map_err(|error| self.fault("beginning a batch", error))?;
                self.state = TxnState::Open;
                self.room.forget();
                let refused = match self.log.check_end(&self.connection) {
                    // An earlier writer may have written between the opening and this batch. It cannot any more.
                    Ok(Ok(())) if self.log.is_before_its_term() => match self.reload() {
                        Ok(()) => return Ok(()),
                        Err(error) => error,
                    },
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(refused)) => JournalError::of_refused_batch(&self.file, refused),
                    Err(error) => self.fault("reading where it ends", error),
                };
                self.rollback_transaction()?;
                Err(refused)
            }
        }
    }

    pub(super) fn rollback_transaction(&mut self) -> Result<(), JournalError> {
        self.live.rolled_back();
        // Until memory is that of the file again, nothing is taken, and another rollback tries it once more.
        if self.state != TxnState::Closed {
            self.state = TxnState::Failed;
        }
        // After some errors SQLite has rolled back by itself.
        if !self.connection.is_autocommit() {
            let undone = self.connection.execute_batch("ROLLBACK");
            undone.map_err(|error| self.fault("undoing a batch", error))?;
        }
        if self.state != TxnState::Closed {
            self.reload()?;
            self.state = TxnState::Closed;
            self.derive_anew()?;
        }
        Ok(())
    }

    /// Takes log and image from the file again.
    fn reload(&mut self) -> Result<(), JournalError> {
        let reloaded = self
            .log
            .rolled_back(&self.connection)
            .and_then(|()| Image::load(&self.connection));
        self.derived_rows.forget();
        self.image = reloaded.map_err(|error| self.fault("reading where it ends", error))?;
        Ok(())
    }

    /// Rolls back a transaction that cannot be completed, and returns why.
    pub(super) fn give_up(&mut self) -> Result<JournalError, JournalError> {
        let error = self.failed();
        self.rollback_transaction()?;
        Ok(error)
    }

    /// The position of the last durable record.
    pub fn tail(&self) -> Seq {
        self.log.end.tail
    }

    /// How long the database took to write the last batch and to synchronise it to the disk; `None` where it does not
    /// wait for the disk.
    pub fn synchronised(&self) -> Option<Duration> {
        self.synchronised
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How its records say that they were captured.
    pub fn mode(&self) -> Mode {
        self.options.mode
    }

    /// Runs something inside the batch, after all that was to be written; an error spoils the batch.
    pub(super) fn write<T>(
        &mut self,
        doing: &str,
        step: impl FnOnce(&mut Journal) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        self.write_beside(doing, |journal| {
            journal.write_waiting()?;
            step(journal)
        })
    }

    /// The same for what reads no row that may wait.
    pub(super) fn write_beside<T>(
        &mut self,
        doing: &str,
        step: impl FnOnce(&mut Journal) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        self.begin()?;
        step(self).map_err(|error| {
            self.state = TxnState::Failed;
            self.fault(doing, error)
        })
    }

    /// Reads what the journal holds with the open batch.
    pub(super) fn read<T>(
        &mut self,
        doing: &str,
        step: impl FnOnce(&mut Journal) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        if self.state == TxnState::Open {
            self.write(doing, |_| Ok(()))?;
        }
        self.read_beside(doing, step)
    }

    /// The same for what reads no row that may wait. Rows of the image may have to be written first: where that fails,
    /// the batch is spoiled.
    pub(super) fn read_beside<T>(
        &mut self,
        doing: &str,
        step: impl FnOnce(&mut Journal) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        step(self).map_err(|error| {
            if self.state == TxnState::Open {
                self.state = TxnState::Failed;
            }
            self.fault(doing, error)
        })
    }

    fn write_waiting(&mut self) -> rusqlite::Result<()> {
        self.image.paths.write(&self.connection)?;
        self.image.shadows.write(&self.connection)?;
        self.derived_rows.write(&self.connection)?;
        self.log
            .drafts
            .write(&self.connection, &mut self.log.tail_cache)?;
        self.image.roots.write(&self.connection)
    }

    pub(super) fn fault(&self, doing: &str, error: rusqlite::Error) -> JournalError {
        JournalError::of_sqlite(&self.file, doing, error)
    }

    fn failed(&self) -> JournalError {
        JournalError::new(
            JournalErrorKind::Storage,
            &self.file,
            "a batch that failed takes nothing more: roll it back",
        )
    }

    /// Removes facts that no znode has any more, now and then.
    pub(super) fn remove_unused_facts(&mut self) -> rusqlite::Result<()> {
        if !self.image.facts.is_full() {
            return Ok(());
        }
        self.image.paths.write(&self.connection)?;
        self.image.facts.remove_unused(&self.connection)
    }

    pub(super) fn append_record(&mut self, entry: Append) -> rusqlite::Result<Seq> {
        let Append {
            root,
            captured,
            mut kind,
        } = entry;
        if let Some(masking) = &self.masking {
            mask(masking, &mut kind);
        }
        self.remove_unused_facts()?;
        match kind {
            RecordKind::Change(change) => self.append_change(root, captured, change)?,
            kind => self
                .append_draft(root.clone(), None, |ctx| {
                    draft_control(ctx, root.as_ref(), captured, &kind)
                })
                .and_then(|()| self.log.note_baseline(&self.connection, &kind, self.log.head))?,
        }
        Ok(self.log.head)
    }

    fn append_change(
        &mut self,
        root: Option<ZnodePath>,
        captured: Timestamp,
        mut change: Change,
    ) -> rusqlite::Result<()> {
        let path = change.path.clone();
        let Entered { place, is_new } = self.image.paths.find_or_enter(&self.connection, &path)?;
        let facts = self.image.facts.after(&self.connection, &change, place.facts)?;
        if let (ChangeKind::Restated { .. }, Some(id)) = (&change.kind, facts) {
            change.facts = Some(Box::new(self.image.facts.get(&self.connection, id)?));
        }
        let mut observed = self.observe(root.as_ref(), captured, &change, &place);
        let mut after = place;
        let noted = &mut observed;
        self.append_draft(root, Some(path.clone()), |ctx| {
            let (draft, place) = draft_change(ctx, captured, change, place);
            after = place;
            if let Some(observed) = noted {
                observed.id = draft.stored.id;
                observed.changed = draft.stored.times().changed;
            }
            draft
        })?;
        after.facts = facts;
        self.image
            .paths
            .store(&self.connection, &path, Entered { place: after, is_new })?;
        self.observed = observed;
        Ok(())
    }

    /// The change for the derivation, if there is one that covers its path.
    fn observe(
        &self,
        root: Option<&ZnodePath>,
        captured: Timestamp,
        change: &Change,
        place: &Place,
    ) -> Option<Observation> {
        let derivation = self.derivation.as_ref()?;
        match derivation.covers(&change.path) {
            true => Observation::of(root, captured, change, place.life),
            false => None,
        }
    }

    /// Appends one record, whose draft needs its position.
    pub(super) fn append_draft(
        &mut self,
        root: Option<ZnodePath>,
        path: Option<ZnodePath>,
        draft: impl FnOnce(Context<'_>) -> Draft,
    ) -> rusqlite::Result<()> {
        let Journal {
            connection,
            options,
            log,
            image,
            live,
            ..
        } = self;
        let seq = log.head.next();
        let mode = log.mode.unwrap_or(options.mode);
        let ctx = Context {
            seq,
            cluster: &options.cluster,
            root: image.roots.id(connection, root.as_ref())?,
            origin: log.origins.id(connection, mode, log.server.as_ref())?,
            before: options.before,
            rebaselined: log.rebaselined,
            live: live.known(),
        };
        let draft = draft(ctx);
        self.room.grew(&draft);
        log.stretch.take(connection, &draft.stored)?;
        let named = log.tail_cache.is_wanted().then(|| Named {
            cluster: Arc::clone(&options.cluster),
            root,
            path,
            origin: Origin {
                mode,
                server: log.server.clone(),
            },
        });
        log.drafts.add(connection, (draft, named), &mut log.tail_cache)?;
        log.head = seq;
        image.applied = seq;
        Ok(())
    }
}

/// Executes a statement that is not prepared again for each batch.
pub(super) fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

impl JournalWriter for Journal {
    fn set_server(&mut self, server: Option<Arc<str>>) {
        if self.log.server != server {
            self.log.server = server;
            self.log.origins.changed();
        }
    }

    fn set_mode(&mut self, mode: Option<Mode>) {
        if self.log.mode != mode {
            self.log.mode = mode;
            self.log.origins.changed();
        }
    }

    fn set_live(&mut self, now: Timestamp) {
        self.live.set(now);
    }

    fn store_live(&mut self) -> Result<(), JournalError> {
        self.write_live()
    }

    fn seal(&mut self) -> Result<SealedBatch, JournalError> {
        match self.state {
            TxnState::Closed => {}
            TxnState::Sealed | TxnState::Failed => return Err(self.give_up()?),
            TxnState::Open => {
                if let Err(error) = self.derive_complete(RestOfTransaction::MayCome, self.last_captured) {
                    self.rollback_transaction()?;
                    return Err(error);
                }
                let written = self.write_waiting().and_then(|()| match self.log.head {
                    head if head == self.log.end.tail => Ok(()),
                    _ => self.image.store_applied(&self.connection),
                });
                if let Err(error) = written {
                    let error = self.fault("writing a batch", error);
                    self.rollback_transaction()?;
                    return Err(error);
                }
                self.state = TxnState::Sealed;
            }
        }
        Ok(SealedBatch { last: self.log.head })
    }

    fn rollback(&mut self) -> Result<(), JournalError> {
        self.rollback_transaction()
    }

    fn tick(&mut self, now: Timestamp) -> Result<(), JournalError> {
        self.derive_due(now)
    }

    fn maintain(&mut self, now: Timestamp, budget: usize) -> Result<Maintained, JournalError> {
        self.remove_old(now, budget)
    }

    fn fold(&mut self, budget: usize) -> Result<Folded, JournalError> {
        self.fold_slice(budget)
    }
}
