//! The one writer of a journal.
//!
//! A batch is a transaction: begun, filled, committed. After any error inside it nothing more is taken until it is
//! rolled back, so that no half of a batch can become durable. Rows of the open batch wait to be written together, see
//! [`super::rows`]: they are written before anything but the image's own look-ups reads the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::append::{Context, Drafts, draft_change, draft_control};
use super::error::{JournalError, JournalErrorKind};
use super::folding::Folding;
use super::holes::Holes;
use super::hydrate::Named;
use super::image::{self, Life, Place};
use super::lock::{FileId, Lock};
use super::log::LogCopier;
use super::log_gate::LogGate;
use super::open::{OpenedWriter, open_writer};
use super::options::{Durability, JournalOptions};
use super::paths::{Entered, Paths};
use super::progress::{self, Origins, Roots};
use super::read::Reader;
use super::read_marks::ReadMarks;
use super::size::Room;
use super::tail_cache::TailCache;
use super::writer_mark::WriterMark;
use crate::append::{Append, RecordKind};
use crate::image_txn::{Children, ImageTxn, Node, Progress};
use crate::number::{Epoch, Seq};
use crate::path::ZnodePath;
use crate::record::{GapReason, Origin, Stat};

/// The journal of one source, open for writing. Synchronous: it lives on one thread.
///
/// Dropping it rolls back what is not committed and lets go of the file.
pub struct Journal {
    /// Before the connection, which is to be the last to close and copies what is left of the log.
    pub(super) copier: LogCopier,
    pub(super) connection: Connection,
    pub(super) file: PathBuf,
    pub(super) options: JournalOptions,
    pub(super) paths: Paths,
    pub(super) room: Room,
    pub(super) holes: Holes,
    pub(super) folding: Folding,
    pub(super) reach: ReadMarks,
    /// Written with others, as the rows that wait in `paths` and `roots` are.
    drafts: Drafts,
    pub(super) handover: TailCache,
    roots: Roots,
    origins: Origins,
    server: Option<Arc<str>>,
    /// Of the last record, committed or not.
    pub(super) head: Seq,
    /// Of the last record that is durable.
    pub(super) tail: Seq,
    rebaselined: Seq,
    pub(super) batch: Batch,
    /// Where this process's readers wait while the log is long. After the connections, as it has to outlive them.
    pub(super) gate: Arc<LogGate>,
    /// A reader of another process keeps the log from being restarted.
    pub(super) log_is_held: bool,
    /// The log could not be copied, and that was logged.
    pub(super) log_is_stuck: bool,
    /// How long the last batch took to the disk.
    synchronised: Option<Duration>,
    mark: WriterMark,
    lock: Lock,
}

/// The transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// There is none.
    Closed,
    /// It takes entries.
    Open,
    /// Something in it failed; it waits to be rolled back.
    Failed,
}

impl Journal {
    /// Opens the journal of a source, creates it with its folder if there is none, and keeps every other process from
    /// writing it.
    ///
    /// # Errors
    ///
    /// If another process has the journal open, it cannot be read or created, is not a journal of this source, or has a newer
    /// format.
    pub fn open(file: &Path, options: &JournalOptions) -> Result<Journal, JournalError> {
        let OpenedWriter {
            connection,
            gate,
            lock,
        } = open_writer(file, options)?;
        // From here on no earlier writer can write: what is loaded stays as it is.
        let mark = WriterMark::set(&connection)
            .map_err(|error| JournalError::of_sqlite(file, "marking it as open", error))?;
        let loaded = load(&connection)
            .map_err(|error| JournalError::of_sqlite(file, "reading where it ends", error))?;
        Ok(Journal {
            copier: LogCopier::start(file)?,
            paths: loaded.paths,
            room: Room::new(options.max_size),
            holes: loaded.holes,
            folding: Folding::default(),
            reach: ReadMarks::default(),
            drafts: Drafts::default(),
            handover: TailCache::default(),
            roots: Roots::default(),
            origins: Origins::default(),
            server: None,
            head: loaded.tail,
            tail: loaded.tail,
            rebaselined: loaded.rebaselined,
            batch: Batch::Closed,
            gate,
            log_is_held: false,
            log_is_stuck: false,
            synchronised: None,
            connection,
            file: file.to_owned(),
            options: options.clone(),
            mark,
            lock,
        })
    }

    /// A reader for the worker of a sink. No record that it has read goes into one that it has not, and what is held in
    /// memory it need not read.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    pub fn reader_for(&self, sink: &str) -> Result<Reader, JournalError> {
        let reader = Reader::open(&self.file)?;
        Ok(reader.for_worker(self.reach.enter(sink), self.handover.newest()))
    }

    /// The server's version that the next records name.
    pub fn set_server(&mut self, server: Option<Arc<str>>) {
        if self.server != server {
            self.server = server;
            self.origins.changed();
        }
    }

    /// Begins a batch. Every call that writes begins one by itself, too.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    pub fn begin(&mut self) -> Result<(), JournalError> {
        match self.batch {
            Batch::Open => Ok(()),
            Batch::Failed => Err(self.failed()),
            Batch::Closed => {
                let begun = self.connection.execute_batch("BEGIN IMMEDIATE");
                begun.map_err(|error| self.fault("beginning a batch", error))?;
                self.batch = Batch::Open;
                self.room.forget();
                self.check_mark()
            }
        }
    }

    /// Refuses the batch if another process has opened the journal to write it.
    fn check_mark(&mut self) -> Result<(), JournalError> {
        let is_ours = self.mark.is_in(&self.connection);
        match is_ours {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.batch = Batch::Failed;
                Err(JournalError::new(
                    JournalErrorKind::InUse,
                    &self.file,
                    "another process has opened it for writing meanwhile, which its lock file prevents unless that was \
                     removed: end one of the two, and let nothing clean up data_dir",
                ))
            }
            Err(error) => {
                self.batch = Batch::Failed;
                Err(self.fault("beginning a batch", error))
            }
        }
    }

    /// Looks whether the open file is still the one at its path, and locked. To be called every second or so: what is
    /// written to a file without a name is lost.
    ///
    /// # Errors
    ///
    /// If the file was removed, moved or replaced ([`JournalErrorKind::Moved`]), or another process has locked it.
    pub fn verify_place(&mut self) -> Result<(), JournalError> {
        let found = FileId::at(&self.file)
            .map_err(|error| JournalError::of_io(&self.file, "looking at it", error))?;
        if found == Some(self.gate.file()) {
            return self.lock.verify();
        }
        let what = match found {
            None => "its file was removed or moved away",
            Some(_) => "another file was put in its place",
        };
        Err(JournalError::new(
            JournalErrorKind::Moved,
            &self.file,
            format!(
                "{what} while it was open, so nothing more is written to it: put it back with the files beside it, or \
                 restore it from a copy, and start again; without it the source begins anew, with a snapshot"
            ),
        ))
    }

    /// Makes the batch durable and returns the tail. After an error nothing of it is.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    pub fn commit(&mut self) -> Result<Seq, JournalError> {
        match self.batch {
            Batch::Closed => return Ok(self.tail),
            Batch::Failed => {
                let error = self.failed();
                self.rollback()?;
                return Err(error);
            }
            Batch::Open => {}
        }
        let began = Instant::now();
        let committed = self
            .write_waiting()
            .and_then(|()| self.connection.execute_batch("COMMIT"));
        self.synchronised = (self.options.durability == Durability::PowerLoss).then(|| began.elapsed());
        if let Err(error) = committed {
            let error = self.fault("writing a batch", error);
            self.rollback()?;
            return Err(error);
        }
        self.batch = Batch::Closed;
        self.tail = self.head;
        self.handover.committed(self.tail);
        self.keep_log_short();
        Ok(self.tail)
    }

    /// Undoes the batch.
    ///
    /// # Errors
    ///
    /// If the journal cannot be written, or its content is not valid.
    pub fn rollback(&mut self) -> Result<(), JournalError> {
        // After some errors SQLite has rolled back by itself.
        if !self.connection.is_autocommit() {
            let undone = self.connection.execute_batch("ROLLBACK");
            undone.map_err(|error| self.fault("undoing a batch", error))?;
        }
        if self.batch != Batch::Closed {
            let loaded =
                load(&self.connection).map_err(|error| self.fault("reading where it ends", error))?;
            self.paths = loaded.paths;
            self.holes = loaded.holes;
            self.rebaselined = loaded.rebaselined;
            self.head = self.tail;
            self.drafts = Drafts::default();
            self.roots = Roots::default();
            self.origins.changed();
            self.handover.rolled_back();
            self.batch = Batch::Closed;
        }
        Ok(())
    }

    /// The position of the last durable record.
    pub fn tail(&self) -> Seq {
        self.tail
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
    fn write_beside<T>(
        &mut self,
        doing: &str,
        step: impl FnOnce(&mut Journal) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        self.begin()?;
        step(self).map_err(|error| {
            self.batch = Batch::Failed;
            self.fault(doing, error)
        })
    }

    /// Reads what the journal holds with the open batch.
    pub(super) fn read<T>(
        &mut self,
        doing: &str,
        step: impl FnOnce(&mut Journal) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        if self.batch == Batch::Open {
            self.write(doing, |_| Ok(()))?;
        }
        self.read_beside(doing, step)
    }

    /// The same for what reads no row that may wait. Rows of the image may have to be written first: where that fails, the
    /// batch is spoiled.
    fn read_beside<T>(
        &mut self,
        doing: &str,
        step: impl FnOnce(&mut Journal) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        step(self).map_err(|error| {
            if self.batch == Batch::Open {
                self.batch = Batch::Failed;
            }
            self.fault(doing, error)
        })
    }

    fn write_waiting(&mut self) -> rusqlite::Result<()> {
        self.paths.write(&self.connection)?;
        self.drafts.write(&self.connection, &mut self.handover)?;
        self.roots.write(&self.connection)
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

    fn append_record(&mut self, entry: Append) -> rusqlite::Result<Seq> {
        let Append { root, captured, word } = entry;
        let seq = self.head.next();
        let ctx = Context {
            seq,
            cluster: &self.options.cluster,
            root: self.roots.id(&self.connection, root.as_ref())?,
            origin: self
                .origins
                .id(&self.connection, self.options.mode, self.server.as_ref())?,
            before: self.options.before,
            rebaselined: self.rebaselined,
        };
        let (draft, path) = match word {
            RecordKind::Change(change) => {
                let path = change.path.clone();
                let Entered { place, is_new } = self.paths.find_or_enter(&self.connection, &path)?;
                let (draft, place) = draft_change(ctx, captured, change, place);
                self.paths
                    .store(&self.connection, &path, Entered { place, is_new })?;
                (draft, Some(path))
            }
            word => {
                let draft = draft_control(ctx, root.as_ref(), captured, &word);
                self.note_baseline(&word, seq)?;
                (draft, None)
            }
        };
        self.room.grew(&draft);
        let named = self.handover.is_wanted().then(|| Named {
            cluster: Arc::clone(&self.options.cluster),
            root,
            path,
            origin: Origin {
                mode: self.options.mode,
                server: self.server.clone(),
            },
        });
        self.drafts
            .add(&self.connection, (draft, named), &mut self.handover)?;
        self.head = seq;
        Ok(seq)
    }

    fn note_baseline(&mut self, word: &RecordKind, seq: Seq) -> rusqlite::Result<()> {
        if let RecordKind::GapBegin {
            reason: GapReason::Rebaselined,
            ..
        } = word
        {
            self.rebaselined = seq;
            progress::set_number(&self.connection, "rebaselined", seq.0)?;
        }
        Ok(())
    }

    fn refresh_stat(&mut self, path: &ZnodePath, stat: &Stat) -> rusqlite::Result<()> {
        let place = self.paths.find(&self.connection, path)?;
        let Some((mut place, known)) = place.and_then(|place| match place.life {
            Life::Read { stat } => Some((place, stat)),
            _ => None,
        }) else {
            panic!("the Stat of {path} is refreshed while the image has none: {place:?}");
        };
        assert!(
            (known.czxid, known.mzxid) == (stat.czxid, stat.mzxid),
            "the Stat of {path} is refreshed to another version: {known:?} is not of the version of {stat:?}"
        );
        if known == *stat {
            return Ok(());
        }
        place.life = Life::Read { stat: *stat };
        let is_new = false;
        self.paths
            .store(&self.connection, path, Entered { place, is_new })
    }
}

struct Loaded {
    tail: Seq,
    rebaselined: Seq,
    holes: Holes,
    paths: Paths,
}

fn load(connection: &Connection) -> rusqlite::Result<Loaded> {
    let tail: i64 = connection.query_row("SELECT ifnull(max(seq), 0) FROM record", [], |row| row.get(0))?;
    Ok(Loaded {
        tail: Seq(tail.cast_unsigned()),
        rebaselined: Seq(progress::number(connection, "rebaselined")?),
        holes: Holes::load(connection)?,
        paths: Paths::load(connection)?,
    })
}

impl Journal {
    /// Children of a path after a name, looked for by its id; none where it is not known, or known to have none.
    fn below<T>(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        list: impl FnOnce(&mut Journal, i64) -> rusqlite::Result<Children<T>>,
    ) -> Result<Children<T>, JournalError> {
        self.read_beside("listing children in the image", |journal| {
            match journal.paths.find(&journal.connection, path)? {
                Some(place) if !journal.paths.is_last_below(path, place.id, after) => {
                    journal.paths.write(&journal.connection)?;
                    list(journal, place.id)
                }
                _ => Ok(Vec::new()),
            }
        })
    }
}

impl ImageTxn for Journal {
    fn node(&mut self, path: &ZnodePath) -> Result<Option<Node>, JournalError> {
        self.read_beside("reading the image", |journal| {
            let place = journal.paths.find(&journal.connection, path)?;
            Ok(place.and_then(|place| place.life.node()))
        })
    }

    fn children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, Node)>, JournalError> {
        self.below(path, after, |journal, id| {
            image::children(&journal.connection, id, after, limit)
        })
    }

    fn children_to_compare(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, Node)>, JournalError> {
        self.below(path, after, |journal, id| {
            let found = image::children_and_leaves(&journal.connection, id, after, limit)?;
            let rows = found
                .iter()
                .map(|(name, place, is_leaf)| (&**name, *place, *is_leaf));
            journal.paths.foresee(path, rows);
            let living = |(name, place, _): (Box<str>, Place, bool)| Some((name, place.life.node()?));
            Ok(found.into_iter().filter_map(living).collect())
        })
    }

    fn occupied_children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Children<Option<Node>>, JournalError> {
        self.below(path, after, |journal, id| {
            image::occupied_children(&journal.connection, id, after, limit)
        })
    }

    fn deepest_below(
        &mut self,
        path: &ZnodePath,
        limit: usize,
    ) -> Result<Vec<(ZnodePath, Node)>, JournalError> {
        self.read_beside("walking the image", |journal| {
            image::deepest_below(&journal.connection, &mut journal.paths, path, limit)
        })
    }

    fn append(&mut self, entry: Append) -> Result<Seq, JournalError> {
        self.begin()?;
        self.make_room()?;
        self.write_beside("appending a record", |journal| journal.append_record(entry))
    }

    fn refresh(&mut self, path: &ZnodePath, stat: &Stat) -> Result<(), JournalError> {
        self.write_beside("refreshing the image", |journal| journal.refresh_stat(path, stat))
    }

    fn epoch(&mut self) -> Result<Epoch, JournalError> {
        self.read("reading the watch epoch", |journal| {
            progress::number(&journal.connection, "epoch").map(Epoch)
        })
    }

    fn set_epoch(&mut self, epoch: Epoch) -> Result<(), JournalError> {
        self.write("storing the watch epoch", |journal| {
            progress::set_number(&journal.connection, "epoch", epoch.0)
        })
    }

    fn progress(&mut self, root: &ZnodePath) -> Result<Progress, JournalError> {
        self.read("reading the progress of a root", |journal| {
            progress::progress(&journal.connection, root)
        })
    }

    fn set_progress(&mut self, root: &ZnodePath, progress: &Progress) -> Result<(), JournalError> {
        self.write_beside("storing the progress of a root", |journal| {
            if let Some(id) = journal.roots.id(&journal.connection, Some(root))? {
                journal.roots.set_progress(id, progress);
            }
            Ok(())
        })
    }
}
