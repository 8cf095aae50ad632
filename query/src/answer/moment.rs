//! A moment: a position resolved to a place between two records.

use std::sync::Arc;

use bridge_core::journal::{Position, ReadLimit};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Record, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use crate::at_position::AtPosition;
use crate::certainty::{Certainty, Doubt};
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::position::position_text;
use crate::unreadable::ListScope;

/// A place in the journal: the records on both of its sides, and what is open about all znodes at it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Moment {
    /// The moment as a record's number, a zxid or a time: every parameter that takes a moment takes it again.
    pub at: String,
    /// The last record at or before the moment, by its zxid or its time: that of its transaction, or of its capture where it
    /// was not read as one; 0 if none is.
    pub seq: Seq,
    /// That record, if it is kept.
    pub before: Option<RecordPlace>,
    /// The first record after it; null if there is none yet.
    pub after: Option<RecordPlace>,
    /// The first record that is kept.
    pub oldest: Option<Seq>,
    /// The last durable record.
    pub tail: Seq,
    /// Whether nothing is open about the tree as a whole.
    pub certain: bool,
    /// The worst of the doubts.
    pub certainty: Certainty,
    /// The doubts, in sentences.
    pub doubts: Vec<Doubt>,
}

/// A record as a place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecordPlace {
    /// Its number.
    pub seq: Seq,
    /// Its zxid.
    pub zxid: Option<Zxid>,
    /// When ZooKeeper made the change.
    pub changed: Option<Timestamp>,
    /// When it was captured.
    pub captured: Timestamp,
}

impl From<&Arc<Record>> for RecordPlace {
    fn from(record: &Arc<Record>) -> RecordPlace {
        RecordPlace {
            seq: record.seq,
            zxid: record.zxid,
            changed: record.time.changed,
            captured: record.time.captured,
        }
    }
}

impl JournalQuery {
    /// Resolves a position; `None` is the end of the journal, so that pages of a list about "now" agree.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn moment(&self, position: Option<Position>, now: Timestamp) -> Result<Moment, QueryError> {
        let position = match position {
            Some(position) => position,
            None => Position::Seq(self.tail()?),
        };
        self.moment_of(&AtPosition::new(self, position, now)?)
    }

    /// The same with the doubts about a subtree: znodes of it may not be read, or could not be.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn moment_under(
        &self,
        under: &ZnodePath,
        position: Option<Position>,
        now: Timestamp,
    ) -> Result<Moment, QueryError> {
        let position = self.position_or_tail(position)?;
        let at = AtPosition::new(self, position, now)?;
        self.moment_of_list(&at, ListScope::Subtree(under))
    }

    /// The moment of a list of znodes: any that could not be read may be missing in it.
    pub(crate) fn moment_of_list(
        &self,
        at: &AtPosition<'_>,
        scope: ListScope<'_>,
    ) -> Result<Moment, QueryError> {
        let mut moment = self.moment_of(at)?;
        for doubt in at.blind_spots()?.doubts_of_list(self, scope) {
            moment.certainty = moment.certainty.max(doubt.certainty());
            moment.certain = false;
            moment.doubts.push(doubt);
        }
        Ok(moment)
    }

    /// The moment of questions that are asked already.
    pub(crate) fn moment_of(&self, at: &AtPosition<'_>) -> Result<Moment, QueryError> {
        let position = at.position;
        let cut = self.cut(position)?;
        let mut doubts: Vec<Doubt> = at.beyond.iter().cloned().collect();
        if cut.is_removed() {
            doubts.push(Doubt::Removed);
        }
        if cut.tail == Seq::ZERO {
            doubts.push(Doubt::EmptyJournal);
        }
        let roots = at.coverage()?.0.iter();
        let visible = roots.filter(|root| self.sees_below(&root.root));
        for doubt in visible.filter_map(|root| root.doubt_of_all()) {
            if !doubts.contains(&doubt) {
                doubts.push(doubt);
            }
        }
        let before = self.record_after(Seq(cut.seq.0.saturating_sub(1)))?;
        let after = self.record_after(cut.seq)?;
        Ok(Moment {
            at: position_text(position),
            seq: cut.seq,
            before: before
                .filter(|record| record.seq <= cut.seq)
                .as_ref()
                .map(RecordPlace::from),
            after: after.as_ref().map(RecordPlace::from),
            oldest: cut.oldest,
            tail: cut.tail,
            certain: doubts.is_empty(),
            certainty: doubts
                .iter()
                .map(Doubt::certainty)
                .max()
                .unwrap_or(Certainty::Exact),
            doubts,
        })
    }

    /// The position of a moment that was resolved before.
    pub(crate) fn position_or_tail(&self, position: Option<Position>) -> Result<Position, QueryError> {
        match position {
            Some(position) => Ok(position),
            None => Ok(Position::Seq(self.tail()?)),
        }
    }

    /// One record, as this caller may see it; `None` if it is gone or hidden.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub fn record(&self, seq: Seq) -> Result<Option<Arc<Record>>, QueryError> {
        let found = self.record_after(Seq(seq.0.saturating_sub(1)))?;
        let found = found.filter(|record| record.seq == seq);
        Ok(found.and_then(|record| self.shown(&record)))
    }

    /// The first kept record after another one.
    fn record_after(&self, after: Seq) -> Result<Option<Arc<Record>>, QueryError> {
        let one = ReadLimit {
            records: 1,
            bytes: 1 << 20,
        };
        Ok(self.reader()?.read(after, one)?.into_iter().next())
    }
}
