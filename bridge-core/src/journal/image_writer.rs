//! The image of a local journal: [`ImageTxn`] on the open transaction of its SQLite file.
//!
//! The image stores the number of the last record that it has applied, so that nothing is written to a file whose image
//! and log disagree.

use std::io;
use std::path::Path;

use rusqlite::Connection;

use super::error::{JournalError, JournalErrorKind};
use super::facts::FactsTable;
use super::image::{self, Life, Place};
use super::paths::{Entered, Paths};
use super::position;
use super::progress::{self, Roots};
use super::shadow_load::ShadowLoad;
use super::shadows::Shadows;
use super::unreadable;
use super::writer::Journal;
use crate::append::{Append, NodeFacts, RecordKind};
use crate::committed::{HistoryPosition, ShadowKey, ShadowNode};
use crate::derive::DerivationMark;
use crate::image_txn::{Children, ImageTxn, Node, Progress};
use crate::number::{Epoch, Seq, SessionId};
use crate::path::ZnodePath;
use crate::record::{GapReason, Stat, Timestamp};
use crate::unreadable_span::{HistoryPoint, UnreadableExtent, UnreadableSpan};

/// The key in `meta` of the last record that the image has applied.
const APPLIED: &str = "applied";

/// The image, as the writer knows it.
pub(super) struct Image {
    pub(super) paths: Paths,
    pub(super) roots: Roots,
    pub(super) facts: FactsTable,
    pub(super) shadows: Shadows,
    /// The last record that it has applied, with the open transaction.
    pub(super) applied: Seq,
}

impl Image {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Image> {
        Ok(Image {
            paths: Paths::load(connection)?,
            roots: Roots::default(),
            facts: FactsTable::default(),
            shadows: Shadows::default(),
            applied: Seq(progress::number(connection, APPLIED)?),
        })
    }

    /// An image that is not the one of the last record would make records that contradict the log.
    pub(super) fn check_applied(&self, tail: Seq, file: &Path) -> Result<(), JournalError> {
        if self.applied == tail {
            return Ok(());
        }
        Err(JournalError::new(
            JournalErrorKind::Damaged,
            file,
            format!(
                "the image has applied the records up to {}, and the last record is {tail}: restore a copy of the data \
                 directory, or move the journal away and start with a new one, which begins with a snapshot",
                self.applied
            ),
        ))
    }

    /// Stores which record it has applied last.
    pub(super) fn store_applied(&self, connection: &Connection) -> rusqlite::Result<()> {
        progress::set_number(connection, APPLIED, self.applied.0)
    }
}

impl Journal {
    fn refresh_stat(&mut self, path: &ZnodePath, stat: &Stat) -> rusqlite::Result<()> {
        let place = self.image.paths.find(&self.connection, path)?;
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
        self.image
            .paths
            .store(&self.connection, path, Entered { place, is_new })
    }

    fn store_facts(&mut self, path: &ZnodePath, facts: &NodeFacts) -> rusqlite::Result<()> {
        let Some(mut place) = self.image.paths.find(&self.connection, path)? else {
            return Ok(());
        };
        let id = Some(self.image.facts.id(&self.connection, facts)?);
        if !place.is_living() || place.facts == id {
            return Ok(());
        }
        place.facts = id;
        let is_new = false;
        self.image
            .paths
            .store(&self.connection, path, Entered { place, is_new })
    }

    fn check_keeps_checksums(&self) -> Result<(), JournalError> {
        match self.masking {
            None => Ok(()),
            Some(_) => Err(JournalError::new(
                JournalErrorKind::Storage,
                &self.file,
                "a journal with masks keeps no checksums of znodes: prove its source by the numbers of transactions",
            )),
        }
    }

    /// Children of a path after a name, looked for by its id; none where it is not known, or known to have none.
    fn below<T>(
        &mut self,
        path: &ZnodePath,
        after: Option<&str>,
        list: impl FnOnce(&mut Journal, i64) -> rusqlite::Result<Children<T>>,
    ) -> Result<Children<T>, JournalError> {
        self.read_beside("listing children in the image", |journal| {
            match journal.image.paths.find(&journal.connection, path)? {
                Some(place) if !journal.image.paths.is_last_below(path, place.id, after) => {
                    journal.image.paths.write(&journal.connection)?;
                    list(journal, place.id)
                }
                _ => Ok(Vec::new()),
            }
        })
    }
}

/// The mark that a record is for a derivation, with its root.
fn derivation_mark(entry: &Append) -> Option<(DerivationMark, Option<ZnodePath>)> {
    let mark = match entry.kind {
        // Nothing becomes known of a root that is not watched until it is listed again.
        RecordKind::GapBegin {
            reason: GapReason::Unwatched,
            ..
        } => return None,
        RecordKind::GapBegin { .. } => DerivationMark::GapBegin,
        RecordKind::GapEnd { .. } => DerivationMark::GapEnd,
        RecordKind::RunBegin { .. } => DerivationMark::ListingBegin,
        RecordKind::RunEnd { .. } => DerivationMark::ListingEnd,
        _ => return None,
    };
    Some((mark, entry.root.clone()))
}

impl ImageTxn for Journal {
    fn node(&mut self, path: &ZnodePath) -> Result<Option<Node>, JournalError> {
        self.read_beside("reading the image", |journal| {
            let place = journal.image.paths.find(&journal.connection, path)?;
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
            journal.image.paths.foresee(path, rows);
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
            image::deepest_below(&journal.connection, &mut journal.image.paths, path, limit)
        })
    }

    fn append(&mut self, entry: Append) -> Result<Seq, JournalError> {
        self.begin()?;
        self.make_room()?;
        self.derive_before(&entry)?;
        let (mark, captured) = (derivation_mark(&entry), entry.captured);
        let seq = self.write_beside("appending a record", |journal| journal.append_record(entry))?;
        self.derive_after(mark, captured)?;
        Ok(seq)
    }

    fn refresh(&mut self, path: &ZnodePath, stat: &Stat) -> Result<(), JournalError> {
        self.write_beside("refreshing the image", |journal| journal.refresh_stat(path, stat))
    }

    fn set_facts(&mut self, path: &ZnodePath, facts: &NodeFacts) -> Result<(), JournalError> {
        self.write_beside("storing the facts of a znode", |journal| {
            journal.remove_unused_facts()?;
            journal.store_facts(path, facts)
        })
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
            if let Some(id) = journal.image.roots.id(&journal.connection, Some(root))? {
                journal.image.roots.set_progress(id, progress);
            }
            Ok(())
        })
    }

    fn due_gap(&mut self) -> Result<Option<GapReason>, JournalError> {
        self.read_beside("reading which gap is due", |journal| {
            progress::due_gap(&journal.connection)
        })
    }

    fn set_due_gap(&mut self, reason: Option<GapReason>) -> Result<(), JournalError> {
        self.write_beside("storing which gap is due", |journal| {
            progress::set_due_gap(&journal.connection, reason)
        })
    }

    fn last_seq(&mut self) -> Result<Seq, JournalError> {
        Ok(self.log.head)
    }

    fn walked(&mut self, root: &ZnodePath) -> Result<HistoryPoint, JournalError> {
        self.read_beside("reading when a root was walked", |journal| {
            unreadable::walked(&journal.connection, root)
        })
    }

    fn set_walked(&mut self, root: &ZnodePath, began: &HistoryPoint) -> Result<(), JournalError> {
        self.write_beside("storing when a root was walked", |journal| {
            match journal.image.roots.id(&journal.connection, Some(root))? {
                Some(id) => unreadable::set_walked(&journal.connection, id, began),
                None => Ok(()),
            }
        })
    }

    fn begin_unreadable(
        &mut self,
        root: &ZnodePath,
        znode: (&ZnodePath, UnreadableExtent),
        since: &HistoryPoint,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.write("storing that a znode may not be read", |journal| {
            let last = match znode.1 {
                UnreadableExtent::Znode => journal.image.paths.find(&journal.connection, znode.0)?,
                UnreadableExtent::Unnamed => None,
            };
            let last = last.and_then(|place| place.last);
            let seq = unreadable::last_read(&journal.connection, last)?.max(since.seq);
            let (since, found) = (HistoryPoint { seq, ..*since }, (journal.log.head, now));
            unreadable::begin(&journal.connection, root, znode, &since, found)
        })
    }

    fn open_unreadable(&mut self, root: &ZnodePath) -> Result<Vec<UnreadableSpan>, JournalError> {
        self.read_beside("reading which znodes may not be read", |journal| {
            unreadable::open_below(&journal.connection, root)
        })
    }

    fn unreadable_since(&mut self, path: &ZnodePath) -> Result<Option<HistoryPoint>, JournalError> {
        self.read_beside("reading since when a znode may not be read", |journal| {
            unreadable::earliest_over(&journal.connection, path)
        })
    }

    fn end_unreadable(
        &mut self,
        znode: (&ZnodePath, UnreadableExtent),
        until: &HistoryPoint,
    ) -> Result<(), JournalError> {
        self.write_beside("storing that a znode was read again", |journal| {
            unreadable::end(&journal.connection, znode, until)
        })
    }

    fn position(&mut self) -> Result<Option<HistoryPosition>, JournalError> {
        self.read_beside("reading the position in the history", |journal| {
            position::load(&journal.connection)
        })
    }

    fn set_position(&mut self, position: Option<&HistoryPosition>) -> Result<(), JournalError> {
        // Checksums of masked values would let anyone try guesses of them.
        let position = match &self.masking {
            Some(_) => position.map(HistoryPosition::without_checksums),
            None => position.copied(),
        };
        self.write_beside("storing the position in the history", |journal| {
            if position.is_none() {
                journal.image.shadows.clear(&journal.connection)?;
            }
            position::store(&journal.connection, position.as_ref())
        })
    }

    fn shadow(&mut self, key: &ShadowKey) -> Result<Option<ShadowNode>, JournalError> {
        self.read_beside("reading the digest of a znode", |journal| {
            journal.image.shadows.find(&journal.connection, key)
        })
    }

    fn set_shadow(&mut self, key: &ShadowKey, node: Option<&ShadowNode>) -> Result<(), JournalError> {
        if node.is_some() {
            self.check_keeps_checksums()?;
        }
        self.write_beside("storing the digest of a znode", |journal| {
            journal.image.shadows.store(&journal.connection, key, node)
        })
    }

    fn clear_shadow(&mut self) -> Result<(), JournalError> {
        self.shadow_load = None;
        self.write_beside("removing the digests of znodes", |journal| {
            journal.image.shadows.clear(&journal.connection)
        })
    }

    fn stage_shadow(&mut self, key: &ShadowKey, node: &ShadowNode) -> Result<(), JournalError> {
        self.check_keeps_checksums()?;
        let load = match self.shadow_load.take() {
            Some(load) => Ok(load),
            None => ShadowLoad::beside(&self.file),
        };
        let added = load.and_then(|mut load| load.add(key, node).map(|()| load));
        self.shadow_load = Some(added.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalErrorKind::DiskFull,
                _ => JournalErrorKind::Storage,
            };
            let message =
                format!("a file that sorts the digests of znodes cannot be written beside it: {error}");
            JournalError::new(kind, &self.file, message)
        })?);
        Ok(())
    }

    fn load_shadow(&mut self) -> Result<(), JournalError> {
        let Some(load) = self.shadow_load.take() else {
            return Ok(());
        };
        self.write_beside("storing the digests of all znodes", |journal| {
            journal.image.shadows.write(&journal.connection)?;
            journal.image.shadows.forget();
            let mut insert = journal
                .connection
                .prepare_cached("REPLACE INTO shadow(path, crc, stat) VALUES (?1, ?2, ?3)")?;
            let of_file = |error: io::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
            load.insert_all(of_file, |row| {
                insert.execute((row.key(), row.crc(), row.stat())).map(drop)
            })
        })
    }

    fn uncaptured_of(&mut self, session: SessionId) -> Result<Option<Vec<ZnodePath>>, JournalError> {
        self.read_beside("reading the ephemeral znodes that are not captured", |journal| {
            position::uncaptured_of(&journal.connection, session)
        })
    }

    fn set_uncaptured(&mut self, path: &ZnodePath, session: Option<SessionId>) -> Result<(), JournalError> {
        self.write_beside("storing an ephemeral znode that is not captured", |journal| {
            position::set_uncaptured(&journal.connection, path, session)
        })
    }

    fn clear_uncaptured(&mut self) -> Result<(), JournalError> {
        self.write_beside("removing the ephemeral znodes that are not captured", |journal| {
            position::clear_uncaptured(&journal.connection)
        })
    }
}
