//! Znodes that the bridge may not read: what is open about them at a position.
//!
//! ```text
//! records of the path   │ last                            │ later
//! ──────────────────────┼──────────[ since   …   until ]──┼─────
//!                              position in here: a doubt, unless the records beside it show that nothing was missed
//! ```
//!
//! A server sends no event of a change of such a znode. So the value of its last record is only certain where a later
//! read proves it: the walk at `until` has compared the znode with its last record, and a record that was seen as it
//! happened says how many versions it follows. An absence is never certain: a znode may have come and gone.

use std::collections::HashMap;

use bridge_core::journal::Position;
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Fidelity, Op, Record, Timestamp};
use bridge_core::unreadable_span::{HistoryPoint, UnreadableExtent, UnreadableSpan};
use schemars::JsonSchema;
use serde::Serialize;

use crate::as_of::{AsOfQuery, AsOfValue};
use crate::certainty::{Doubt, UnreadableZnode};
use crate::coverage::LATE_MS;
use crate::error::QueryError;
use crate::gaps::Captured;
use crate::journal::JournalQuery;
use crate::selection::{PathPattern, Selection};
use crate::visibility::Access;

/// Znodes that the doubts about a list name; the others are counted.
const NAMED_MAX: usize = 3;

/// The znodes of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ListScope<'a> {
    /// A path and everything below it.
    Subtree(&'a ZnodePath),
    /// The children of a path.
    Children(&'a ZnodePath),
}

impl ListScope<'_> {
    /// The path of the list.
    fn top(&self) -> &ZnodePath {
        match self {
            ListScope::Subtree(top) | ListScope::Children(top) => top,
        }
    }

    /// Whether a znode of a span may belong to the list.
    fn meets(&self, span: &UnreadableSpan) -> bool {
        if span.path.covers(self.top()) {
            return true;
        }
        match (self, span.extent) {
            (ListScope::Children(top), UnreadableExtent::Znode) => span.path.parent().as_ref() == Some(*top),
            _ => self.top().covers(&span.path),
        }
    }
}

/// The spans that hold one position.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlindSpots {
    position: Option<Position>,
    spans: HashMap<ZnodePath, Vec<UnreadableSpan>>,
}

impl BlindSpots {
    pub(crate) fn at(journal: &JournalQuery, position: Position) -> Result<BlindSpots, QueryError> {
        let mut spans: HashMap<ZnodePath, Vec<UnreadableSpan>> = HashMap::new();
        for span in journal.reader()?.unreadable()? {
            if holds(&span, position) {
                spans.entry(span.path.clone()).or_default().push(span);
            }
        }
        Ok(BlindSpots {
            position: Some(position),
            spans,
        })
    }

    /// The spans of a path: of itself and of the paths above it.
    fn of<'a>(&'a self, path: &ZnodePath) -> impl Iterator<Item = &'a UnreadableSpan> {
        let line = match self.spans.is_empty() {
            true => Vec::new(),
            false => std::iter::once(path.clone()).chain(path.ancestors()).collect(),
        };
        line.into_iter()
            .filter_map(|above| self.spans.get(&above))
            .flatten()
    }

    /// Whether a path is, or is below, a znode that could not be read at the position.
    pub(crate) fn covers(&self, path: &ZnodePath) -> bool {
        self.of(path).next().is_some()
    }

    /// The doubt about a value. `query` has taken the records beside the position.
    pub(crate) fn doubt(
        &self,
        journal: &JournalQuery,
        path: &ZnodePath,
        value: &AsOfValue,
        query: &AsOfQuery,
    ) -> Option<Doubt> {
        let position = self.position?;
        let open = self
            .of(path)
            .find(|span| !is_proved(span, position, value, query));
        open.map(|span| doubt_about(journal, span, path))
    }

    /// The doubt about a path of which the journal knows nothing.
    pub(crate) fn doubt_of_unknown(&self, journal: &JournalQuery, path: &ZnodePath) -> Option<Doubt> {
        self.of(path).next().map(|span| doubt_about(journal, span, path))
    }

    /// The doubts about a list as a whole, by path; the first ones are named.
    pub(crate) fn doubts_of_list(&self, journal: &JournalQuery, scope: ListScope<'_>) -> Vec<Doubt> {
        let mut spans: Vec<&UnreadableSpan> = self.spans.values().flatten().collect();
        spans.retain(|span| {
            let is_above = span.path.covers(scope.top());
            scope.meets(span) && (is_above || journal.access(&span.path) != Access::Hidden)
        });
        spans.sort_by(|one, other| one.path.as_str().cmp(other.path.as_str()));
        named(&spans, |span| doubt_about(journal, span, scope.top()))
    }
}

/// The doubts about some spans, of which the first ones are named.
fn named(spans: &[&UnreadableSpan], doubt: impl Fn(&UnreadableSpan) -> Doubt) -> Vec<Doubt> {
    let mut doubts: Vec<Doubt> = spans.iter().take(NAMED_MAX).map(|span| doubt(span)).collect();
    let more = spans.len().saturating_sub(NAMED_MAX) as u64;
    doubts.extend((more > 0).then_some(Doubt::MoreUnreadable(more)));
    doubts
}

/// A hidden znode above a path is not named: then the path is named in its place.
fn doubt_about(journal: &JournalQuery, span: &UnreadableSpan, path: &ZnodePath) -> Doubt {
    let mut znode = UnreadableZnode::from(span);
    if journal.access(&span.path) == Access::Hidden {
        znode.path = path.clone();
    }
    Doubt::Unreadable(znode)
}

/// Whether a position is after the begin of a span and before its end. Times are of two clocks, and count as late as
/// changes may be captured.
fn holds(span: &UnreadableSpan, position: Position) -> bool {
    let UnreadableSpan { since, until, .. } = span;
    match position {
        Position::Seq(at) => at > since.seq && until.is_none_or(|until| at < until.seq),
        Position::Zxid(at) => at > since.zxid && until.is_none_or(|until| at < until.zxid),
        Position::Time(at) => {
            at.0 > since.time.0.saturating_sub(LATE_MS)
                && until.is_none_or(|until| at.0 < until.time.0.saturating_add(LATE_MS))
        }
    }
}

/// Whether the records beside a position in a span show that the value is that of the position.
fn is_proved(span: &UnreadableSpan, position: Position, value: &AsOfValue, query: &AsOfQuery) -> bool {
    if value.exists != Some(true) {
        return false;
    }
    let is_read_then = match (position, &value.stat, query.found()) {
        // A snapshot record may repeat what was read before.
        (Position::Seq(at), _, Some(found)) => at == found.seq && found.op != Op::Snapshot,
        (Position::Zxid(at), Some(stat), _) => stat.mzxid >= at,
        (Position::Time(at), Some(stat), _) => stat.mtime >= at.0,
        _ => false,
    };
    is_read_then
        || match query.later() {
            // The walk that has ended the span has compared it with its last record.
            None => span.until.is_some(),
            Some(later) => follows_directly(later) || span.until.is_some_and(|until| later.seq > until.seq),
        }
}

/// Whether a record shows that the version before it is that of the record before.
fn follows_directly(later: &Record) -> bool {
    let is_seen = later.fidelity == Fidelity::Exact && later.missed == Some(0);
    is_seen && matches!(later.op, Op::Update | Op::Delete)
}

/// A znode that may not be read, or could not be, as `gaps` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnreadableItem {
    /// The znode, or the root below which there are too many to be named.
    pub path: ZnodePath,
    /// Whether `path` is a root, and any znode of it may be one of those that could not be read.
    pub unnamed: bool,
    /// Its state is surely known up to here; null if it was never read.
    pub since: Option<UnreadablePoint>,
    /// When it was found, which is not when it began.
    pub found: Captured,
    /// From here on its state is known again; null while it may not be read.
    pub until: Option<UnreadablePoint>,
    /// What is open, as a sentence.
    pub doubt: Doubt,
}

/// A place in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnreadablePoint {
    /// The last record at it.
    pub seq: Seq,
    /// The last transaction at it.
    pub zxid: Zxid,
    /// The time; null if it is not known.
    pub at: Option<Timestamp>,
}

impl From<HistoryPoint> for UnreadablePoint {
    fn from(point: HistoryPoint) -> UnreadablePoint {
        UnreadablePoint {
            seq: point.seq,
            zxid: point.zxid,
            at: Some(point.time).filter(|time| time.0 > 0),
        }
    }
}

impl From<&UnreadableSpan> for UnreadableItem {
    fn from(span: &UnreadableSpan) -> UnreadableItem {
        UnreadableItem {
            path: span.path.clone(),
            unnamed: span.extent == UnreadableExtent::Unnamed,
            since: (span.since != HistoryPoint::default()).then(|| span.since.into()),
            found: Captured {
                seq: span.found.0,
                at: span.found.1,
            },
            until: span.until.map(UnreadablePoint::from),
            doubt: Doubt::Unreadable(UnreadableZnode::from(span)),
        }
    }
}

impl JournalQuery {
    /// The znodes that could not be read at some moment of a range, by path. Hidden ones are left out. `from`: `None` is
    /// the begin of the journal.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub(crate) fn unreadable_between(
        &self,
        from: Option<Position>,
        to: Position,
    ) -> Result<Vec<UnreadableSpan>, QueryError> {
        let mut spans = self.reader()?.unreadable()?;
        spans.retain(|span| meets_range(span, from, to) && self.access(&span.path) != Access::Hidden);
        Ok(spans)
    }
}

impl JournalQuery {
    /// The doubts about the records of a range: znodes that are selected could not be read at some moment of it.
    pub(crate) fn unreadable_of_records(
        &self,
        (from, to): (Option<Position>, Position),
        selection: &Selection,
    ) -> Result<Vec<Doubt>, QueryError> {
        let spans = self.unreadable_between(from, to)?;
        let is_selected = |span: &&UnreadableSpan| {
            let meets = |pattern: &PathPattern| match pattern {
                PathPattern::Subtree(top) => top.covers(&span.path) || span.path.covers(top),
                // What is below the znode may match, too.
                PathPattern::Glob(_) => true,
            };
            let is_of_paths = selection.paths.is_empty() || selection.paths.iter().any(meets);
            is_of_paths && selection.within.as_ref().is_none_or(meets)
        };
        let spans: Vec<&UnreadableSpan> = spans.iter().filter(is_selected).collect();
        Ok(named(&spans, |span| Doubt::Unreadable(span.into())))
    }

    /// The doubts about the versions of a znode in a range: it could not be read at some moment of it.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn unreadable_of_versions(
        &self,
        path: &ZnodePath,
        (from, to): (Option<Position>, Option<Position>),
    ) -> Result<Vec<Doubt>, QueryError> {
        self.must_be_visible(path)?;
        let to = self.position_or_tail(to)?;
        let mut spans = self.reader()?.unreadable()?;
        spans.retain(|span| span.path.covers(path) && meets_range(span, from, to));
        let spans: Vec<&UnreadableSpan> = spans.iter().collect();
        Ok(named(&spans, |span| doubt_about(self, span, path)))
    }
}

fn meets_range(span: &UnreadableSpan, from: Option<Position>, to: Position) -> bool {
    is_begun(span, to) && from.is_none_or(|from| !is_over(span, from))
}

fn is_begun(span: &UnreadableSpan, at: Position) -> bool {
    let open = UnreadableSpan {
        until: None,
        ..span.clone()
    };
    holds(&open, at)
}

fn is_over(span: &UnreadableSpan, at: Position) -> bool {
    is_begun(span, at) && !holds(span, at)
}
