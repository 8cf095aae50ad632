//! The versions of a znode in a range.

use std::sync::Arc;

use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, Stat, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::moment::Moment;
use super::position_of_cursor;
use crate::PAGE_MAX;
use crate::certainty::Doubt;
use crate::cursor::{Cursor, asked, query_hash};
use crate::error::QueryError;
use crate::history::{HistoryPage, Version};
use crate::journal::JournalQuery;
use crate::past::PastPlace;
use crate::position::position_text;

/// A question about the versions of a znode.
#[derive(Clone, Copy, Debug)]
pub struct HistoryQuestion<'a> {
    /// The znode.
    pub path: &'a ZnodePath,
    /// Only versions at or after this moment.
    pub from: Option<Position>,
    /// Only versions at or before this moment.
    pub to: Option<Position>,
    /// The `next` of the page before.
    pub cursor: Option<&'a str>,
    /// Items of a page, [`PAGE_MAX`](crate::PAGE_MAX) at most.
    pub limit: usize,
}

/// A page of the versions of a znode.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HistoryAnswer {
    /// Its path.
    pub path: ZnodePath,
    /// The name of the source.
    pub source: Arc<str>,
    /// Where the range begins; null if it is all of the history.
    pub from: Option<Moment>,
    /// Where the range ends.
    pub to: Moment,
    /// The versions, the newest first.
    pub items: Vec<Version>,
    /// The versions from before the journal, after all items, the newest first: of the history that `zkbridge backfill` has
    /// made. Their record numbers are their own.
    pub past: Vec<Version>,
    /// The `cursor` of the next page; null on the last one.
    pub next: Option<String>,
    /// Whether this is the last page.
    pub complete: bool,
    /// Whether older records may have been removed; only on the last page.
    pub removed: bool,
    /// The znode as it is, if no record of it is kept: it has not changed since.
    pub unchanged: Option<UnchangedZnode>,
    /// Everything that is open about the list as a whole, in sentences.
    pub doubts: Vec<Doubt>,
}

/// A znode without kept records.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct UnchangedZnode {
    /// Its Stat.
    pub stat: Option<Stat>,
    /// Its data; null if it is not known or masked.
    pub data: Option<Data>,
}

/// Where a page begins or ends.
#[derive(Clone, Copy, Debug)]
enum HistoryPlace {
    /// In the journal, at this record or at the newest.
    Journal {
        next: Option<Seq>,
        /// The place in the time before, after all versions of the journal so far.
        past: PastPlace,
    },
    /// In the time before.
    Past(PastPlace),
    /// After the last version.
    End,
}

impl HistoryPlace {
    const BEGIN: HistoryPlace = HistoryPlace::Journal {
        next: None,
        past: PastPlace::NEWEST,
    };

    /// The place after a page of the journal; `None`: it knows nothing of the path.
    fn after(self, page: Option<&HistoryPage>) -> HistoryPlace {
        let past = match self {
            HistoryPlace::Journal { past, .. } => past,
            HistoryPlace::Past(_) | HistoryPlace::End => return self,
        };
        let past = page.map_or(past, |page| past.or_before(&page.versions));
        match page.and_then(|page| page.next) {
            Some(next) => HistoryPlace::Journal {
                next: Some(next),
                past,
            },
            None => HistoryPlace::Past(past),
        }
    }

    /// The place as parts of a cursor; `None` at the end.
    fn to_parts(self) -> Option<[String; 3]> {
        let (journal, past) = match self {
            HistoryPlace::Journal { next, past } => (next?.to_string(), past),
            HistoryPlace::Past(past) => (String::new(), past),
            HistoryPlace::End => return None,
        };
        let [until, from] = past.to_parts();
        Some([journal, until, from])
    }

    /// Reads the parts of a cursor; `None` if they are none of ours.
    fn of_parts([journal, until, from]: &[String; 3]) -> Option<HistoryPlace> {
        let past = PastPlace::of_parts(until, from)?;
        Some(match journal.as_str() {
            "" => HistoryPlace::Past(past),
            seq => HistoryPlace::Journal {
                next: Some(Seq(seq.parse().ok()?)),
                past,
            },
        })
    }
}

impl JournalQuery {
    /// The versions of a znode in a range, and after those of the journal the ones from before it. `None`: nothing is known of the path.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the cursor belongs to another question, the journal cannot be read, or all readers are busy.
    pub fn versions(
        &self,
        question: &HistoryQuestion<'_>,
        now: Timestamp,
    ) -> Result<Option<HistoryAnswer>, QueryError> {
        let HistoryQuestion { path, from, to, .. } = *question;
        self.must_be_visible(path)?;
        let asked = (asked(from), asked(to));
        let hash = query_hash(&("history", path.as_str(), asked));
        let (from, to, place) = match question.cursor {
            Some(text) => {
                let [from, to, rest @ ..] = Cursor::parts::<5>(text, hash)?;
                let place = HistoryPlace::of_parts(&rest);
                let place = place.ok_or_else(|| QueryError::BadCursor(text.chars().take(40).collect()))?;
                (position_of_cursor(&from)?, position_of_cursor(&to)?, place)
            }
            None => (from, to, HistoryPlace::BEGIN),
        };
        let to = self.position_or_tail(to)?;
        let range = (from, Some(to));
        let page = match place {
            HistoryPlace::Journal { next, .. } => self.history_between(path, range, next, question.limit)?,
            HistoryPlace::Past(_) | HistoryPlace::End => None,
        };
        let mut place = place.after(page.as_ref());
        let read = page.as_ref().map_or(0, |page| page.versions.len());
        let mut past = None;
        let room = question.limit.clamp(1, PAGE_MAX).saturating_sub(read);
        if let HistoryPlace::Past(begin) = place {
            let found = self.past_versions(path, range, begin, room.max(1))?;
            if page.is_none() && found.is_none() && question.cursor.is_none() {
                return Ok(None);
            }
            match found {
                // There is no room for them: the next page has them.
                Some(_) if room == 0 => {}
                found => {
                    let next = found.as_ref().and_then(|found| found.next);
                    place = next.map_or(HistoryPlace::End, HistoryPlace::Past);
                    past = found;
                }
            }
        }
        let resume = place.to_parts().map(|parts| {
            let ends = [from.map(position_text).unwrap_or_default(), position_text(to)];
            Cursor::new(hash, ends.into_iter().chain(parts)).to_text()
        });
        // Where both files join, the one has the records that retention removed from the other.
        let (mut is_cut, unchanged) = page
            .as_ref()
            .map_or((false, None), |page| (page.is_cut, page.unchanged.clone()));
        let mut doubts = Vec::new();
        if let Some(past) = &past {
            is_cut = past.doubt.is_some();
            doubts.extend(past.doubt.clone());
        }
        let is_cut = is_cut && resume.is_none();
        doubts.extend(is_cut.then_some(Doubt::Removed));
        if self.past.is_none() {
            doubts.extend(self.known_since_begin(from, to)?);
        }
        doubts.extend(self.unreadable_of_versions(path, (from, Some(to)))?);
        Ok(Some(HistoryAnswer {
            path: path.clone(),
            source: Arc::clone(self.source()),
            from: from.map(|from| self.moment(Some(from), now)).transpose()?,
            to: self.moment(Some(to), now)?,
            items: page.map(|page| page.versions).unwrap_or_default(),
            past: past.map(|past| past.versions).unwrap_or_default(),
            complete: resume.is_none(),
            next: resume,
            removed: is_cut,
            unchanged: unchanged.map(|znode| UnchangedZnode {
                stat: znode.node.stat,
                data: znode.data,
            }),
            doubts,
        }))
    }
}
