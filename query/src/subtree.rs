//! A whole subtree at a moment, for callers that put it back: every path that the journal knows, with its value then and
//! the facts that a create needs.
//!
//! Invariant: a page reads in steps, as every query; nothing is held between two pages.

use std::sync::Arc;

use bridge_core::journal::{Position, ReadLimit, Side};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Lifetime, Op, Record, Timestamp};

use crate::answer::Moment;
use crate::as_of::{AsOfQuery, AsOfValue};
use crate::at_position::AtPosition;
use crate::certainty::{Certainty, Doubt};
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::known_paths::KnownPaths;
use crate::tree_walk::WalkLimits;
use crate::unreadable::ListScope;

/// A page: some 100 ms.
const PAGE: WalkLimits = WalkLimits {
    znodes: 2_000,
    visits: u64::MAX,
    bytes: 8 << 20,
};

/// Records of a path read in one step.
const STEP_FACTS: usize = 36;

/// Records of a path that a search for its list and lifetime reads at most.
const FACTS_READ_MAX: usize = 200_000;

/// Records before the moment of which the greatest zxid counts.
const ZXIDS_BEFORE: ReadLimit = ReadLimit {
    records: 100,
    bytes: 8 << 20,
};

/// A moment, as far as it concerns one subtree.
#[derive(Clone, Debug, PartialEq)]
pub struct SubtreeMoment {
    /// The moment; its doubts are those about this subtree as a whole.
    pub moment: Moment,
    position: Position,
    /// No change up to the moment has a greater zxid; `None` if that is not known.
    last_zxid: Option<Zxid>,
}

impl SubtreeMoment {
    /// The position, as it was asked for.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether an incarnation was certainly created after the moment.
    pub fn is_before_create(&self, czxid: Zxid, ctime: i64) -> bool {
        match self.position {
            Position::Zxid(at) => czxid > at,
            Position::Time(at) => ctime > at.0,
            Position::Seq(_) => self.last_zxid.is_some_and(|last| czxid > last),
        }
    }
}

/// A path of the subtree with its value at the moment.
#[derive(Clone, Debug, PartialEq)]
pub struct SubtreeZnode {
    /// The path.
    pub path: ZnodePath,
    /// The znode then; `None` if nothing is known of the path.
    pub value: Option<AsOfValue>,
}

/// A page of a subtree, parents first, by the bytes of the names.
#[derive(Clone, Debug, PartialEq)]
pub struct SubtreePage {
    /// Every path that the journal knows, also those that did not exist then.
    pub znodes: Vec<SubtreeZnode>,
    /// The `visited` of the next page; `None` on the last one.
    pub next: Option<ZnodePath>,
}

/// The facts of a znode at a moment that no Stat has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactsAsOf {
    /// Its access control list; `None` if it is not known.
    pub acl: Option<Vec<Acl>>,
    /// How long it lasts; `None` if it is not known.
    pub lifetime: Option<Lifetime>,
}

impl JournalQuery {
    /// A moment and everything that is open about a subtree as a whole.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn subtree_moment(
        &self,
        under: &ZnodePath,
        position: Position,
        now: Timestamp,
    ) -> Result<SubtreeMoment, QueryError> {
        self.must_be_visible(under)?;
        let at = AtPosition::new(self, position, now)?;
        let mut moment = self.moment_of_list(&at, ListScope::Subtree(under))?;
        let of_others = |doubt: &Doubt| {
            let root = match doubt {
                Doubt::InGap { root, .. }
                | Doubt::NotListed(root)
                | Doubt::BeforeListing { root, .. }
                | Doubt::GapsUnread(root) => root,
                _ => return false,
            };
            !root.covers(under)
        };
        moment.doubts.retain(|doubt| !of_others(doubt));
        let is_covered = at.coverage()?.0.iter().any(|known| known.root.covers(under));
        if !is_covered {
            moment.doubts.push(Doubt::NotListed(under.clone()));
        }
        let worst = moment.doubts.iter().map(Doubt::certainty).max();
        moment.certainty = worst.unwrap_or(Certainty::Exact);
        moment.certain = moment.doubts.is_empty();
        Ok(SubtreeMoment {
            last_zxid: self.records_before(moment.seq)?.greatest_zxid(),
            moment,
            position,
        })
    }

    /// A few records up to a position.
    fn records_before(&self, until: Seq) -> Result<RecordsBefore, QueryError> {
        let from = Seq(until.0.saturating_sub(ZXIDS_BEFORE.records as u64));
        let mut records = self.reader()?.read(from, ZXIDS_BEFORE)?;
        records.retain(|record| record.seq <= until);
        Ok(RecordsBefore(records))
    }

    /// The paths of a subtree at a moment, after `visited` if an earlier page ended there.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn subtree_at(
        &self,
        under: &ZnodePath,
        position: Position,
        visited: Option<&ZnodePath>,
        now: Timestamp,
    ) -> Result<SubtreePage, QueryError> {
        self.must_be_visible(under)?;
        let at = AtPosition::new(self, position, now)?;
        let paths = KnownPaths::below(self, under, visited);
        let mut znodes = Vec::new();
        let take = |path: &ZnodePath, value| {
            let path = path.clone();
            znodes.push(SubtreeZnode { path, value });
            true
        };
        let next = at.walk(paths, PAGE, |_| true, take)?;
        Ok(SubtreePage { znodes, next })
    }

    /// The list and the lifetime of a znode at a moment: those of its incarnation, as the last record at or before the
    /// moment has them. A list that was changed at a time that no record has is not known around it. Of a source that
    /// watches, the list is the one that was read last before the moment.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn facts_at(&self, path: &ZnodePath, position: Position) -> Result<FactsAsOf, QueryError> {
        self.must_be_visible(path)?;
        let cut = match (self.cut(position)?.seq, position) {
            // A list without a zxid after the last record with one was perhaps read, and set, later.
            (cut, Position::Zxid(_)) => self.records_before(cut)?.last_with_zxid(),
            (cut, _) => cut,
        };
        let mut search = FactsSearch::new(position, cut);
        let (mut from, mut read) = (None, 0);
        while read < FACTS_READ_MAX {
            let Some(step) = self.reader()?.history(path, from, STEP_FACTS)? else {
                break;
            };
            read += step.records.len();
            for record in &step.records {
                if let Some(facts) = search.take(record) {
                    return Ok(facts);
                }
            }
            match step.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        // Older records are removed or were never kept.
        Ok(FactsAsOf::default())
    }
}

/// A few records up to a position, the oldest first.
struct RecordsBefore(Vec<Arc<Record>>);

impl RecordsBefore {
    fn greatest_zxid(&self) -> Option<Zxid> {
        self.0.iter().filter_map(|record| record.zxid).max()
    }

    /// The last one with a zxid; [`Seq::ZERO`] if none has one.
    fn last_with_zxid(&self) -> Seq {
        let last = self.0.iter().rev().find(|record| record.zxid.is_some());
        last.map_or(Seq::ZERO, |record| record.seq)
    }
}

/// Takes the records of a path, the newest first, until the facts are known.
struct FactsSearch {
    query: AsOfQuery,
    /// The last record at or before the moment, by its capture.
    cut: Seq,
    /// The record after the moment.
    later: Option<Arc<Record>>,
    /// Whether a record of the incarnation at the moment was found.
    is_begun: bool,
    /// Names the incarnation, once a record has shown it.
    czxid: Option<Zxid>,
    acl: Option<Vec<Acl>>,
}

impl FactsSearch {
    fn new(position: Position, cut: Seq) -> FactsSearch {
        FactsSearch {
            query: AsOfQuery::new(position),
            cut,
            later: None,
            is_begun: false,
            czxid: None,
            acl: None,
        }
    }

    /// Takes the next older record; `Some` once the facts are known.
    fn take(&mut self, record: &Arc<Record>) -> Option<FactsAsOf> {
        // A watch gives lists no zxid: their place among the other records counts.
        let is_before = match record.op {
            Op::Acl if record.zxid.is_none() => record.seq <= self.cut,
            _ => self.query.side_of(record) == Side::Before,
        };
        if !is_before && !self.is_begun {
            self.later = Some(Arc::clone(record));
            return None;
        }
        let state = record.after.as_ref();
        let czxid = state.and_then(|state| state.stat).map(|stat| stat.czxid);
        let is_other = czxid.is_some() && self.czxid.is_some() && czxid != self.czxid;
        if record.op == Op::Delete || is_other {
            return Some(self.end(None));
        }
        self.is_begun = true;
        self.czxid = self.czxid.or(czxid);
        if self.acl.is_none()
            && let Some(acl) = &record.acl
        {
            self.acl = Some(acl.clone());
            let aversion = state.and_then(|state| state.stat).map(|stat| stat.aversion);
            if self.is_changed_later(czxid, aversion) {
                // A list of an unknown moment is none of this one.
                self.acl = Some(Vec::new());
            }
        }
        let is_first = matches!(record.op, Op::Create | Op::Snapshot);
        is_first.then(|| self.end(record.lifetime))
    }

    /// Whether the record after the moment shows another list that was set at an unknown time.
    fn is_changed_later(&self, czxid: Option<Zxid>, aversion: Option<i32>) -> bool {
        let Some(later) = &self.later else { return false };
        if later.op == Op::Acl && later.zxid.is_some() {
            return false;
        }
        let state = later.after.as_ref().or(later.before.as_ref());
        let stat = state.and_then(|state| state.stat);
        let is_exact = later.txn.is_some();
        !is_exact && stat.is_some_and(|stat| Some(stat.czxid) == czxid && Some(stat.aversion) != aversion)
    }

    fn end(&mut self, lifetime: Option<Lifetime>) -> FactsAsOf {
        FactsAsOf {
            acl: self.acl.take().filter(|acl| !acl.is_empty()),
            lifetime,
        }
    }
}
