//! The model and the real journal side by side: every call goes to both, and both must answer the same.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bridge_core::amount::{Horizon, Span};
use bridge_core::append::{Append, NodeFacts};
use bridge_core::committed::{HistoryPosition, ShadowKey, ShadowNode};
use bridge_core::image_txn::{Children, ImageTxn, Node, Progress};
use bridge_core::journal::{
    Durability, Journal, JournalError, JournalOptions, JournalWriter, Log, LogEnd, Maintained, ProgressError,
    ReadLimit, Reader, SealedBatch, SinkProgress, SinkState, Term,
};
use bridge_core::number::{Epoch, Seq, SessionId};
use bridge_core::path::ZnodePath;
use bridge_core::record::{GapReason, Mode, Record, Stat, Timestamp};
use bridge_core::testing::{ModelBacklog, ModelDisk, ModelJournal, records_after};
use bridge_core::unreadable_span::{HistoryPoint, UnreadableExtent, UnreadableSpan};
use tempfile::TempDir;

use crate::coverage::{Coverage, Seen};

/// Where the journal is kept while no process has it open.
#[derive(Clone)]
pub struct Store {
    /// The model's disk.
    pub disk: Rc<RefCell<ModelDisk>>,
    /// Of the real journal, where there is one.
    folder: Option<Rc<TempDir>>,
    /// A worker's reader of the real journal that is open, which gets from memory what is there.
    worker: Rc<RefCell<Option<Reader>>>,
}

impl Store {
    /// A disk without a journal on it yet.
    ///
    /// # Panics
    ///
    /// When there is no temporary folder for the real one.
    pub fn new(disk: ModelDisk, with_real_journal: bool) -> Store {
        let folder = || Rc::new(tempfile::tempdir().expect("there is a folder for temporary files"));
        Store {
            disk: Rc::new(RefCell::new(disk)),
            folder: with_real_journal.then(folder),
            worker: Rc::default(),
        }
    }

    /// Opens it, as a process that starts.
    ///
    /// # Panics
    ///
    /// When the real journal cannot be opened.
    pub fn open(&self) -> Twin {
        let retention = Span::millis(self.disk.borrow().retention_ms.unsigned_abs());
        let real = self.folder.as_ref().map(|folder| {
            let file = folder.path().join("main.journal");
            let options = JournalOptions {
                // Synchronising proves nothing here and takes most of the time.
                durability: Durability::ProcessCrash,
                retention: Horizon::For(retention),
                ..JournalOptions::new("main")
            };
            Journal::open(&file, &options).expect("what was written can be opened again")
        });
        *self.worker.borrow_mut() = real
            .as_ref()
            .map(|real| real.reader_for("worker").expect("it can be read"));
        Twin {
            model: ModelJournal::open(Rc::clone(&self.disk)),
            real,
        }
    }

    /// The durable records after a position.
    ///
    /// # Panics
    ///
    /// When the real journal holds others, in its file or in memory.
    pub fn read(&self, after: Seq, limit: usize, seen: &mut Coverage) -> Vec<Arc<Record>> {
        let records = records_after(&self.disk.borrow(), after, limit);
        if let Some(mut reader) = self.reader() {
            let limit = ReadLimit {
                records: limit,
                bytes: usize::MAX,
            };
            assert_eq!(reader.read(after, limit).expect("it can be read"), records);
            if let Some(worker) = &mut *self.worker.borrow_mut()
                && let Some(handed) = worker.cached(after, limit)
            {
                seen.see(Seen::HandedOver);
                assert_eq!(handed, records, "in memory after {after}");
            }
        }
        records
    }
}

impl Store {
    /// These records, as far as they are kept: in the journal or with what is set aside.
    ///
    /// # Panics
    ///
    /// When the real journal holds others.
    pub fn recall(&self, seqs: &[Seq]) -> Vec<Arc<Record>> {
        let disk = self.disk.borrow();
        // Of any sink: a record is the same for all.
        let is_aside = |seq: &Seq| {
            let mut backlogs = disk.state.backlogs.values();
            backlogs.any(|backlog| backlog.parked.contains_key(seq) || backlog.letters.contains_key(seq))
        };
        let kept = seqs
            .iter()
            .filter(|seq| seq.0 >= disk.kept_from() || is_aside(seq));
        let record = |seq: &Seq| &disk.state.model.records[usize::try_from(seq.0 - 1).unwrap_or_default()];
        let records: Vec<Arc<Record>> = kept.map(record).cloned().collect();
        if let Some(mut reader) = self.reader() {
            assert_eq!(reader.recall(seqs).expect("it can be read"), records);
        }
        records
    }

    /// The dead letters and parked records of a sink.
    ///
    /// # Panics
    ///
    /// When the real journal holds other things.
    pub fn set_aside(&self, sink: &str) -> ModelBacklog {
        let backlog = self
            .disk
            .borrow()
            .state
            .backlogs
            .get(sink)
            .cloned()
            .unwrap_or_default();
        if let Some(mut reader) = self.reader() {
            let letters = reader
                .letters(sink, Seq::ZERO, usize::MAX)
                .expect("it can be read");
            let parked = reader
                .parked(sink, Seq::ZERO, usize::MAX)
                .expect("it can be read");
            let real = ModelBacklog {
                letters: letters.into_iter().map(|letter| (letter.seq, letter)).collect(),
                parked: parked.into_iter().map(|parked| (parked.seq, parked)).collect(),
            };
            assert_eq!(
                real, backlog,
                "what '{sink}' set aside in the real journal, and then in the model"
            );
        }
        backlog
    }

    fn reader(&self) -> Option<Reader> {
        let file = self.folder.as_ref()?.path().join("main.journal");
        Some(Reader::open(&file).expect("it was opened before"))
    }
}

/// Both journals, open.
pub struct Twin {
    model: ModelJournal,
    real: Option<Journal>,
}

impl Twin {
    fn both<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        call: impl Fn(&mut dyn JournalWriter) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let expected = call(&mut self.model)?;
        if let Some(real) = &mut self.real {
            let answer = call(real).unwrap_or_else(|error| panic!("{what} failed: {error}"));
            assert_eq!(answer, expected, "{what}: the real journal, and then the model");
        }
        Ok(expected)
    }
}

impl ImageTxn for Twin {
    fn node(&mut self, path: &ZnodePath) -> Result<Option<Node>, JournalError> {
        self.both("node", |journal| journal.node(path))
    }

    fn children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Box<str>, Node)>, JournalError> {
        self.both("children", |journal| journal.children(path, after, limit))
    }

    fn occupied_children(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Children<Option<Node>>, JournalError> {
        self.both("occupied_children", |journal| {
            journal.occupied_children(path, after, limit)
        })
    }

    fn deepest_below(
        &mut self,
        path: &ZnodePath,
        limit: usize,
    ) -> Result<Vec<(ZnodePath, Node)>, JournalError> {
        self.both("deepest_below", |journal| journal.deepest_below(path, limit))
    }

    fn append(&mut self, entry: Append) -> Result<Seq, JournalError> {
        self.both("append", |journal| journal.append(entry.clone()))
    }

    fn refresh(&mut self, path: &ZnodePath, stat: &Stat) -> Result<(), JournalError> {
        self.both("refresh", |journal| journal.refresh(path, stat))
    }

    fn set_facts(&mut self, path: &ZnodePath, facts: &NodeFacts) -> Result<(), JournalError> {
        self.both("set_facts", |journal| journal.set_facts(path, facts))
    }

    fn epoch(&mut self) -> Result<Epoch, JournalError> {
        self.both("epoch", |journal| journal.epoch())
    }

    fn set_epoch(&mut self, epoch: Epoch) -> Result<(), JournalError> {
        self.both("set_epoch", |journal| journal.set_epoch(epoch))
    }

    fn progress(&mut self, root: &ZnodePath) -> Result<Progress, JournalError> {
        self.both("progress", |journal| journal.progress(root))
    }

    fn set_progress(&mut self, root: &ZnodePath, progress: &Progress) -> Result<(), JournalError> {
        self.both("set_progress", |journal| journal.set_progress(root, progress))
    }

    fn due_gap(&mut self) -> Result<Option<GapReason>, JournalError> {
        self.both("due_gap", |journal| journal.due_gap())
    }

    fn set_due_gap(&mut self, reason: Option<GapReason>) -> Result<(), JournalError> {
        self.both("set_due_gap", |journal| journal.set_due_gap(reason))
    }

    fn last_seq(&mut self) -> Result<Seq, JournalError> {
        self.both("last_seq", |journal| journal.last_seq())
    }

    fn walked(&mut self, root: &ZnodePath) -> Result<HistoryPoint, JournalError> {
        self.both("walked", |journal| journal.walked(root))
    }

    fn set_walked(&mut self, root: &ZnodePath, began: &HistoryPoint) -> Result<(), JournalError> {
        self.both("set_walked", |journal| journal.set_walked(root, began))
    }

    fn begin_unreadable(
        &mut self,
        root: &ZnodePath,
        znode: (&ZnodePath, UnreadableExtent),
        since: &HistoryPoint,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.both("begin_unreadable", |journal| {
            journal.begin_unreadable(root, znode, since, now)
        })
    }

    fn open_unreadable(&mut self, root: &ZnodePath) -> Result<Vec<UnreadableSpan>, JournalError> {
        self.both("open_unreadable", |journal| journal.open_unreadable(root))
    }

    fn unreadable_since(&mut self, path: &ZnodePath) -> Result<Option<HistoryPoint>, JournalError> {
        self.both("unreadable_since", |journal| journal.unreadable_since(path))
    }

    fn end_unreadable(
        &mut self,
        znode: (&ZnodePath, UnreadableExtent),
        until: &HistoryPoint,
    ) -> Result<(), JournalError> {
        self.both("end_unreadable", |journal| journal.end_unreadable(znode, until))
    }

    fn position(&mut self) -> Result<Option<HistoryPosition>, JournalError> {
        self.both("position", |journal| journal.position())
    }

    fn set_position(&mut self, position: Option<&HistoryPosition>) -> Result<(), JournalError> {
        self.both("set_position", |journal| journal.set_position(position))
    }

    fn shadow(&mut self, key: &ShadowKey) -> Result<Option<ShadowNode>, JournalError> {
        self.both("shadow", |journal| journal.shadow(key))
    }

    fn set_shadow(&mut self, key: &ShadowKey, node: Option<&ShadowNode>) -> Result<(), JournalError> {
        self.both("set_shadow", |journal| journal.set_shadow(key, node))
    }

    fn clear_shadow(&mut self) -> Result<(), JournalError> {
        self.both("clear_shadow", |journal| journal.clear_shadow())
    }

    fn stage_shadow(&mut self, key: &ShadowKey, node: &ShadowNode) -> Result<(), JournalError> {
        self.both("stage_shadow", |journal| journal.stage_shadow(key, node))
    }

    fn load_shadow(&mut self) -> Result<(), JournalError> {
        self.both("load_shadow", |journal| journal.load_shadow())
    }

    fn uncaptured_of(&mut self, session: SessionId) -> Result<Option<Vec<ZnodePath>>, JournalError> {
        self.both("uncaptured_of", |journal| journal.uncaptured_of(session))
    }

    fn set_uncaptured(&mut self, path: &ZnodePath, session: Option<SessionId>) -> Result<(), JournalError> {
        self.both("set_uncaptured", |journal| journal.set_uncaptured(path, session))
    }

    fn clear_uncaptured(&mut self) -> Result<(), JournalError> {
        self.both("clear_uncaptured", |journal| journal.clear_uncaptured())
    }
}

impl Log for Twin {
    fn end(&self) -> LogEnd {
        let end = self.model.end();
        if let Some(real) = &self.real {
            assert_eq!(real.end(), end, "the end of the real log, and then of the model");
        }
        end
    }

    fn term(&self) -> Term {
        self.model.term()
    }

    fn append_batch(&mut self, after: Seq, batch: SealedBatch, term: Term) -> Result<Seq, JournalError> {
        self.both("append_batch", |journal| journal.append_batch(after, batch, term))
    }
}

impl SinkState for Twin {
    fn register_sink(&mut self, name: &str, start: Seq) -> Result<Seq, JournalError> {
        self.both("register_sink", |journal| journal.register_sink(name, start))
    }

    fn cursor(&mut self, sink: &str) -> Result<Option<Seq>, JournalError> {
        self.both("cursor", |journal| journal.cursor(sink))
    }

    fn store_progress(&mut self, progress: &SinkProgress) -> Result<(), ProgressError> {
        let stored = self.both("store_progress", |journal| {
            match journal.store_progress(progress) {
                Ok(()) => Ok(Ok(())),
                Err(ProgressError::Refused(refused)) => Ok(Err(refused)),
                Err(ProgressError::Journal(error)) => Err(error),
            }
        })?;
        Ok(stored?)
    }
}

impl JournalWriter for Twin {
    fn set_server(&mut self, server: Option<Arc<str>>) {
        self.model.set_server(server.clone());
        if let Some(real) = &mut self.real {
            real.set_server(server);
        }
    }

    fn set_mode(&mut self, mode: Option<Mode>) {
        self.model.set_mode(mode);
        if let Some(real) = &mut self.real {
            real.set_mode(mode);
        }
    }

    fn set_live(&mut self, now: Timestamp) {
        self.model.set_live(now);
        if let Some(real) = &mut self.real {
            real.set_live(now);
        }
    }

    fn store_live(&mut self) -> Result<(), JournalError> {
        self.both("store_live", |journal| journal.store_live())
    }

    fn seal(&mut self) -> Result<SealedBatch, JournalError> {
        self.both("seal", |journal| journal.seal())
    }

    fn rollback(&mut self) -> Result<(), JournalError> {
        self.both("rollback", |journal| journal.rollback())
    }

    fn maintain(&mut self, now: Timestamp, budget: usize) -> Result<Maintained, JournalError> {
        self.both("maintain", |journal| journal.maintain(now, budget))
    }
}
