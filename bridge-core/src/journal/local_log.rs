//! The log of a local journal: the records of one SQLite file, whose append is the COMMIT of the open transaction.
//!
//! A process normally is the only writer ([`super::lock`]). If the lock fails (its file was removed, or the file system
//! has none), compare-and-set keeps the log whole: a process stores the next term with its first batch, and each
//! transaction begins by reading where the file ends and in which term. As terms and batches are transactions of one
//! database, no two writers can add records in turns. Opening a journal of the present format, with known sinks and
//! masks, needs no room on the disk: a full one does not keep it from opening.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;

use super::contract::{Log, LogEnd, RefusedBatch, SealedBatch, Term};
use super::drafts::Drafts;
use super::error::JournalError;
use super::holes::Holes;
use super::options::Durability;
use super::progress::{self, Origins};
use super::stretches::OpenStretch;
use super::tail_cache::TailCache;
use super::writer::{Journal, TxnState, execute};
use crate::append::RecordKind;
use crate::number::Seq;
use crate::record::{GapReason, Mode};

/// The key of the term in `meta`.
const TERM: &str = "term";

/// The log, as its writer knows it.
pub(super) struct LocalLog {
    /// Records of the open transaction that are not written yet.
    pub(super) drafts: Drafts,
    pub(super) tail_cache: TailCache,
    pub(super) holes: Holes,
    pub(super) origins: Origins,
    /// The server's version that the next records name.
    pub(super) server: Option<Arc<str>>,
    /// How the next records were captured, if not as the options say.
    pub(super) mode: Option<Mode>,
    /// The last record, with the open transaction.
    pub(super) head: Seq,
    /// The stretch of the records that come next.
    pub(super) stretch: OpenStretch,
    /// As this process has left it, with its own term.
    pub(super) end: LogEnd,
    /// The term in the file: an older one until the first batch of this process.
    pub(super) stored: Term,
    pub(super) term: Term,
    /// The last record that says that an older or other state is the new baseline.
    pub(super) rebaselined: Seq,
}

impl LocalLog {
    /// The log of a process that has written nothing. Its first batch begins the next term, and no earlier writer
    /// appends any more.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<LocalLog> {
        let LogEnd { tail, term: stored } = stored_end(connection)?;
        let term = stored.next();
        Ok(LocalLog {
            drafts: Drafts::default(),
            tail_cache: TailCache::default(),
            holes: Holes::load(connection)?,
            origins: Origins::default(),
            server: None,
            mode: None,
            head: tail,
            stretch: OpenStretch::load(connection, tail)?,
            end: LogEnd { tail, term },
            stored,
            term,
            rebaselined: Seq(progress::number(connection, "rebaselined")?),
        })
    }

    /// Forgets the open transaction, which the file no longer has.
    pub(super) fn rolled_back(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.drafts = Drafts::default();
        self.origins.changed();
        self.tail_cache.rolled_back();
        self.head = self.end.tail;
        self.stretch = OpenStretch::load(connection, self.head)?;
        self.holes = Holes::load(connection)?;
        self.rebaselined = Seq(progress::number(connection, "rebaselined")?);
        Ok(())
    }

    /// Stores that a record makes an older or other state the new baseline.
    pub(super) fn note_baseline(
        &mut self,
        connection: &Connection,
        kind: &RecordKind,
        seq: Seq,
    ) -> rusqlite::Result<()> {
        if let RecordKind::GapBegin {
            reason: GapReason::Rebaselined,
            ..
        } = kind
        {
            self.rebaselined = seq;
            progress::set_number(connection, "rebaselined", seq.0)?;
        }
        Ok(())
    }

    /// Whether the file ends where this process left it, and no other writer has begun a term since. Inside a
    /// transaction that may write.
    pub(super) fn check_end(&self, connection: &Connection) -> rusqlite::Result<Result<(), RefusedBatch>> {
        let end = stored_end(connection)?;
        if end.term > self.stored {
            return Ok(Err(RefusedBatch::OlderTerm {
                term: self.term,
                last: end.term,
            }));
        }
        Ok(end.accepts(self.end.tail, self.term))
    }

    /// Whether this process has not stored its term yet, so that an earlier writer may have written meanwhile.
    pub(super) fn is_before_its_term(&self) -> bool {
        self.stored != self.term
    }
}

fn stored_end(connection: &Connection) -> rusqlite::Result<LogEnd> {
    let sql = "SELECT (SELECT ifnull(max(seq), 0) FROM record), value FROM meta WHERE key = ?1";
    connection.prepare_cached(sql)?.query_row([TERM], |row| {
        let (tail, term): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(LogEnd {
            tail: Seq(tail.cast_unsigned()),
            term: Term(term.cast_unsigned()),
        })
    })
}

impl Log for Journal {
    fn end(&self) -> LogEnd {
        self.log.end
    }

    fn term(&self) -> Term {
        self.log.term
    }

    fn append_batch(&mut self, after: Seq, batch: SealedBatch, term: Term) -> Result<Seq, JournalError> {
        let is_sealed = match self.state {
            TxnState::Sealed => true,
            TxnState::Closed => false,
            TxnState::Open | TxnState::Failed => return Err(self.give_up()?),
        };
        assert_eq!(batch.last, self.log.head, "a batch is appended by its own writer");
        if let Err(refused) = self.log.end.accepts(after, term) {
            self.rollback_transaction()?;
            return Err(JournalError::of_refused_batch(&self.file, refused));
        }
        if !is_sealed {
            self.live.committed();
            return Ok(self.log.end.tail);
        }
        let began = Instant::now();
        let stored = match term == self.log.stored {
            true => Ok(()),
            false => progress::set_number(&self.connection, TERM, term.0),
        };
        let committed = stored.and_then(|()| execute(&self.connection, "COMMIT"));
        self.synchronised = (self.options.durability == Durability::PowerLoss).then(|| began.elapsed());
        if let Err(error) = committed {
            let error = self.fault("writing a batch", error);
            self.rollback_transaction()?;
            return Err(error);
        }
        self.state = TxnState::Closed;
        self.live.committed();
        self.log.term = term;
        self.log.stored = term;
        self.log.end = LogEnd {
            tail: batch.last,
            term,
        };
        self.log.tail_cache.committed(batch.last);
        self.keep_wal_short();
        Ok(batch.last)
    }
}
