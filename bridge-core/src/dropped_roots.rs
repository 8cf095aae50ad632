//! Deletes for the znodes of roots that a source no longer watches, where its options ask for them.
//!
//! They go into the journal in a gap with the reason `unwatched` that no `gap_end` closes: what happens below the root
//! from then on is not known. A root that is watched again begins as a new one, with a listing. Children come before their
//! parents. A znode at, above or below a root that is watched gets no delete.
//!
//! An end of the process at any moment costs nothing: what is left to delete is what the image has, and the next start
//! goes on with it. The memory is bounded by the depth of the tree.

use crate::append::{Append, Change, ChangeKind, DeletedAt, RecordKind};
use crate::image_txn::{ImageTxn, Progress};
use crate::journal::{Journal, JournalError, JournalWriter};
use crate::number::Epoch;
use crate::path::ZnodePath;
use crate::record::{Fidelity, GapReason, Timestamp};
use crate::unreadable_span::HistoryPoint;

/// Deletes in one transaction of the journal.
const BATCH: u64 = 500;

/// A znode on the way down, with the last of its children that was looked at.
struct VisitedZnode {
    path: ZnodePath,
    visited: Option<Box<str>>,
}

/// The walk of one dropped root.
struct DroppedWalk<'a> {
    root: &'a ZnodePath,
    watched: &'a [ZnodePath],
    now: Timestamp,
    way: Vec<VisitedZnode>,
    has_begun: bool,
}

/// Journals a delete for each znode that the image has at or below `root`, and marks the root as never listed. Returns
/// how many. `watched` are the roots of the source.
///
/// # Errors
///
/// If the journal cannot be read or written. Deletes that were committed are kept.
pub fn delete_dropped_root(
    journal: &mut Journal,
    root: &ZnodePath,
    watched: &[ZnodePath],
    now: Timestamp,
) -> Result<u64, JournalError> {
    if watched.iter().any(|watched| watched.covers(root)) {
        return Ok(0);
    }
    let mut walk = DroppedWalk {
        root,
        watched,
        now,
        way: vec![VisitedZnode {
            path: root.clone(),
            visited: None,
        }],
        has_begun: false,
    };
    let mut deleted = 0;
    loop {
        journal.begin()?;
        let done = walk.batch(journal);
        match done {
            Ok(0) => break,
            Ok(some) => deleted += some,
            Err(error) => {
                journal.rollback()?;
                return Err(error);
            }
        }
        journal.commit()?;
    }
    let progress = Progress {
        reported: journal.progress(root)?.reported,
        ..Progress::default()
    };
    journal.set_progress(root, &progress)?;
    let until = HistoryPoint {
        seq: journal.last_seq()?,
        zxid: progress.reported,
        time: now,
    };
    for span in journal.open_unreadable(root)? {
        if watched.iter().any(|watched| watched.covers(&span.path)) {
            continue;
        }
        journal.end_unreadable((&span.path, span.extent), &until)?;
    }
    journal.commit()?;
    Ok(deleted)
}

impl DroppedWalk<'_> {
    /// Some deletes; none at the end.
    fn batch(&mut self, image: &mut dyn ImageTxn) -> Result<u64, JournalError> {
        let mut deleted = 0;
        while deleted < BATCH {
            let Some(level) = self.way.last() else { break };
            let next = image.occupied_children(&level.path, level.visited.as_deref(), 1)?;
            match next.into_iter().next() {
                Some((name, _)) => self.descend(name),
                None => {
                    let done = self.way.pop().map(|level| level.path);
                    deleted += u64::from(self.leave(done, image)?);
                }
            }
        }
        Ok(deleted)
    }

    fn descend(&mut self, name: Box<str>) {
        let Some(level) = self.way.last_mut() else { return };
        let path = level.path.child(&name);
        level.visited = Some(name);
        if !self.watched.iter().any(|watched| watched.covers(&path)) {
            self.way.push(VisitedZnode { path, visited: None });
        }
    }

    /// Deletes a znode below which nothing is left to do. Returns whether there was one.
    fn leave(&mut self, path: Option<ZnodePath>, image: &mut dyn ImageTxn) -> Result<bool, JournalError> {
        let is_above_watched = |path: &ZnodePath| self.watched.iter().any(|watched| path.covers(watched));
        let Some(path) = path.filter(|path| !is_above_watched(path)) else {
            return Ok(false);
        };
        if image.node(&path)?.is_none() {
            return Ok(false);
        }
        self.begin(image)?;
        let change = Change {
            path,
            kind: ChangeKind::Deleted {
                at: DeletedAt::Unwatched,
            },
            fidelity: Fidelity::Reconciled,
            missed: None,
            superseded: Vec::new(),
            txn: None,
            facts: None,
        };
        image.append(self.of(RecordKind::Change(change)))?;
        Ok(true)
    }

    /// Opens the gap before the first delete.
    fn begin(&mut self, image: &mut dyn ImageTxn) -> Result<(), JournalError> {
        if self.has_begun {
            return Ok(());
        }
        self.has_begun = true;
        let epoch: Epoch = image.epoch()?.next();
        image.set_epoch(epoch)?;
        let from_zxid = image.progress(self.root)?.reported;
        image.append(self.of(RecordKind::GapBegin {
            epoch,
            from_zxid,
            reason: GapReason::Unwatched,
        }))?;
        Ok(())
    }

    fn of(&self, kind: RecordKind) -> Append {
        Append {
            root: Some(self.root.clone()),
            captured: self.now,
            kind,
        }
    }
}
