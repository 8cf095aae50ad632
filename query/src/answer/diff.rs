//! The difference of a subtree between two moments.
//!
//! Every path that the journal knows is visited. One whose last record is certainly before both moments was the same at
//! both of them, and costs no look-up. A difference that is not certain is listed as such, and never left out.

use bridge_core::journal::{Position, ReadLimit, ValuePart};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::{AnswerList, position_of_cursor};
use crate::PAGE_MAX;
use crate::as_of::AsOfValue;
use crate::at_position::{AtPosition, STEP_VALUES};
use crate::certainty::{Certainty, Doubt};
use crate::coverage::LATE_MS;
use crate::cursor::{Cursor, asked, query_hash};
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::known_paths::{KnownPath, KnownPaths};
use crate::position::position_text;
use crate::unreadable::ListScope;
use crate::visibility::Access;

/// Paths that one page visits at most: some 100 ms.
const PATHS_MAX: u64 = 20_000;

/// Paths of a page whose values are looked up at both moments: some 50 ms.
const COMPARED_MAX: usize = 2_000;

/// The bytes of a value in a difference; more are cut, and the value says so.
pub const PREVIEW_BYTES_MAX: usize = 64 << 10;

/// Bytes of values in one page.
const BYTES_MAX: usize = 4 << 20;

/// A question about two moments.
#[derive(Clone, Copy, Debug)]
pub struct DiffQuestion<'a> {
    /// This path and everything below it.
    pub under: &'a ZnodePath,
    /// The first moment.
    pub a: Position,
    /// The second moment; `None` is the end of the journal.
    pub b: Option<Position>,
    /// Only these differences, and those that are not certain; empty: all.
    pub kinds: &'a [DiffKind],
    /// The `next` of the page before.
    pub cursor: Option<&'a str>,
    /// Items of a page, [`PAGE_MAX`] at most.
    pub limit: usize,
}

/// A path that differs, or may differ.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DiffItem {
    /// The path.
    pub path: ZnodePath,
    /// The difference.
    pub kind: DiffKind,
    /// The znode at the first moment; null if the journal knows nothing of it then.
    pub before: Option<AsOfValue>,
    /// The znode at the second moment.
    pub after: Option<AsOfValue>,
}

/// A difference between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiffKind {
    /// It exists only at the second moment.
    Created,
    /// It exists only at the first moment.
    Deleted,
    /// It was written, and its data is another one, or is not known at both moments.
    Changed,
    /// It was deleted and created again.
    Recreated,
    /// It was written, and its data and its access control list are the same at both moments.
    Rewritten,
    /// Perhaps there is a difference; the doubts say why it is not known.
    Uncertain,
}

impl DiffKind {
    /// All of them.
    pub const ALL: &'static [DiffKind] = &[
        DiffKind::Created,
        DiffKind::Deleted,
        DiffKind::Changed,
        DiffKind::Recreated,
        DiffKind::Rewritten,
        DiffKind::Uncertain,
    ];

    /// Its name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            DiffKind::Created => "created",
            DiffKind::Deleted => "deleted",
            DiffKind::Changed => "changed",
            DiffKind::Recreated => "recreated",
            DiffKind::Rewritten => "rewritten",
            DiffKind::Uncertain => "uncertain",
        }
    }
}

/// The version of a znode, as far as it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownVersion {
    Absent,
    Written {
        czxid: Zxid,
        mzxid: Zxid,
    },
    /// It exists, in a version that is not certain.
    Some,
    Unknown,
}

impl KnownVersion {
    fn of(value: Option<&AsOfValue>) -> KnownVersion {
        let Some(value) = value else {
            return KnownVersion::Unknown;
        };
        // Other doubts are about the value alone, or about the whole moment, which says so. Each one counts: the worst may
        // be a mask, and the version open besides.
        let is_open_to = |others: &[Certainty]| {
            let mut doubts = value.doubts.iter().map(Doubt::certainty);
            doubts.any(|doubt| !others.contains(&doubt))
        };
        let is_certain = !is_open_to(&[Certainty::Masked, Certainty::Cut, Certainty::Beyond]);
        let is_version_certain = !is_open_to(&[
            Certainty::Masked,
            Certainty::Cut,
            Certainty::Beyond,
            Certainty::Unread,
        ]);
        // There a znode may have been deleted without a record.
        let is_unseen = |doubt: &Doubt| matches!(doubt, Doubt::InGap { .. } | Doubt::GapsUnread(_));
        if value.doubts.iter().any(is_unseen) {
            return KnownVersion::Unknown;
        }
        match (value.exists, value.stat) {
            (Some(true), Some(stat)) if is_version_certain => KnownVersion::Written {
                czxid: stat.czxid,
                mzxid: stat.mzxid,
            },
            (Some(true), _) => KnownVersion::Some,
            (Some(false), _) if is_certain => KnownVersion::Absent,
            _ => KnownVersion::Unknown,
        }
    }

    fn difference(self, after: KnownVersion) -> Option<DiffKind> {
        use KnownVersion::{Absent, Some as Exists, Unknown, Written};
        match (self, after) {
            (Absent, Absent) => None,
            (Absent, Written { .. } | Exists) => Some(DiffKind::Created),
            (Written { .. } | Exists, Absent) => Some(DiffKind::Deleted),
            (
                Written { czxid, mzxid },
                Written {
                    czxid: then_czxid,
                    mzxid: then_mzxid,
                },
            ) => match (czxid == then_czxid, mzxid == then_mzxid) {
                (true, true) => None,
                (true, false) => Some(DiffKind::Changed),
                (false, _) => Some(DiffKind::Recreated),
            },
            (Unknown | Exists, _) | (_, Unknown | Exists) => Some(DiffKind::Uncertain),
        }
    }
}

/// The difference of a znode between two moments; `None`: there is none.
fn difference(before: Option<&AsOfValue>, after: Option<&AsOfValue>) -> Option<DiffKind> {
    match KnownVersion::of(before).difference(KnownVersion::of(after))? {
        DiffKind::Changed if before.zip(after).is_some_and(|(a, b)| is_rewritten(a, b)) => {
            Some(DiffKind::Rewritten)
        }
        kind => Some(kind),
    }
}

/// Whether two versions of a znode have the same data and, by the number of its writes, the same access control list.
fn is_rewritten(before: &AsOfValue, after: &AsOfValue) -> bool {
    let lists = |value: &AsOfValue| value.stat.map(|stat| stat.aversion);
    let is_whole = |data: &Data| !data.truncated || data.digest.is_some();
    let data = before.data.as_ref().zip(after.data.as_ref());
    lists(before) == lists(after)
        && data.is_some_and(|(one, other)| {
            (one.size, &one.bytes, one.digest) == (other.size, &other.bytes, other.digest)
                && is_whole(one)
                && is_whole(other)
        })
}

impl JournalQuery {
    /// The paths of a subtree that differ between two moments, parents first, by the bytes of their names.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the cursor belongs to another question, the journal cannot be read, or all readers are busy.
    pub fn diff(
        &self,
        question: &DiffQuestion<'_>,
        now: Timestamp,
    ) -> Result<AnswerList<DiffItem>, QueryError> {
        let DiffQuestion {
            under, a, b, kinds, ..
        } = *question;
        self.must_be_visible(under)?;
        let limit = question.limit.clamp(1, PAGE_MAX);
        let hash = query_hash(&("diff", under.as_str(), asked(Some(a)), asked(b), kinds));
        let (a, b, visited) = match question.cursor {
            Some(text) => {
                let [a, b, visited] = Cursor::parts(text, hash)?;
                let bad = || QueryError::BadCursor(text.chars().take(40).collect());
                (
                    position_of_cursor(&a)?.ok_or_else(bad)?,
                    position_of_cursor(&b)?,
                    Some(ZnodePath::parse(&visited).map_err(|_| bad())?),
                )
            }
            None => (a, b, None),
        };
        let b = self.position_or_tail(b)?;
        let (before, after) = (AtPosition::new(self, a, now)?, AtPosition::new(self, b, now)?);
        let settled = self.settled(a)?.min(self.settled(b)?);
        let blind = (before.blind_spots()?, after.blind_spots()?);
        let is_blind = |path: &ZnodePath| blind.0.covers(path) || blind.1.covers(path);
        let mut paths = KnownPaths::below(self, under, visited.as_ref());
        let (mut items, mut visits, mut compared, mut bytes) = (Vec::new(), 0, 0, 0);
        let mut last = None;
        let is_compared = |known: &KnownPath| {
            let is_same = known.last.is_none_or(|last| last <= settled) && !is_blind(&known.path);
            !is_same && self.access(&known.path) != Access::Hidden
        };
        let is_wanted =
            |kind: &DiffKind| kinds.is_empty() || kinds.contains(kind) || *kind == DiffKind::Uncertain;
        let is_all = 'page: loop {
            let room = (limit - items.len())
                .min(COMPARED_MAX - compared)
                .min(STEP_VALUES);
            if room == 0 || bytes >= BYTES_MAX || visits >= PATHS_MAX {
                break false;
            }
            let step = paths.step(room, PATHS_MAX - visits, is_compared)?;
            visits += step.visits;
            let mut left = step.wanted.as_slice();
            while !left.is_empty() {
                let then = before.values_of(left, ValuePart::Whole)?;
                let later = after.values_of(&left[..then.len()], ValuePart::Whole)?;
                let (read, rest) = left.split_at(later.len());
                left = rest;
                for ((known, then), later) in read.iter().zip(then).zip(later) {
                    if bytes >= BYTES_MAX {
                        break 'page false;
                    }
                    compared += 1;
                    last = Some(known.path.clone());
                    let Some(kind) = difference(then.as_ref(), later.as_ref()).filter(is_wanted) else {
                        continue;
                    };
                    let [then, later] = [then, later].map(|value| value.map(preview));
                    for data in [&then, &later].into_iter().flatten() {
                        bytes += data.data.as_ref().map_or(0, |data| data.bytes.len());
                    }
                    items.push(DiffItem {
                        path: known.path.clone(),
                        kind,
                        before: then,
                        after: later,
                    });
                }
            }
            last = step.last.or(last);
            if step.is_end {
                break true;
            }
        };
        let next = last.filter(|_| !is_all);
        let next = next.map(|last| {
            let parts = [position_text(a), position_text(b), last.to_string()];
            Cursor::new(hash, parts).to_text()
        });
        let scope = ListScope::Subtree(under);
        let from = self.moment_of_list(&before, scope)?;
        let to = self.moment_of_list(&after, scope)?;
        Ok(AnswerList {
            scanned: visits,
            ..AnswerList::of(Some(from), to, items, next)
        })
    }

    /// A record such that it and all before it are certainly of changes at or before a position, but for a path whose last
    /// record has an unknown zxid and the same neighbours.
    fn settled(&self, position: Position) -> Result<Seq, QueryError> {
        let first = match position {
            Position::Seq(seq) => return Ok(seq),
            Position::Time(time) => {
                let early = Position::Time(Timestamp(time.0.saturating_sub(LATE_MS)));
                let first = self.cut(early)?;
                return Ok(first.first.map_or(first.tail, |first| Seq(first.0 - 1)));
            }
            Position::Zxid(_) => {
                let cut = self.cut(position)?;
                cut.first.unwrap_or(cut.tail.next())
            }
        };
        // A delete without a zxid right before the first record may be of a later change: go back to one with a zxid.
        let look = ReadLimit {
            records: 100,
            bytes: 8 << 20,
        };
        let records = self
            .reader()?
            .read(Seq(first.0.saturating_sub(look.records as u64 + 1)), look)?;
        let before = records.iter().rev().filter(|record| record.seq < first);
        let proved = before.into_iter().find(|record| record.zxid.is_some());
        Ok(proved.map_or(Seq::ZERO, |record| record.seq))
    }
}

/// The value with the beginning of its data.
fn preview(mut value: AsOfValue) -> AsOfValue {
    if let Some(data) = &mut value.data
        && data.bytes.len() > PREVIEW_BYTES_MAX
    {
        let cut = Data::limited(&data.bytes, data.form, PREVIEW_BYTES_MAX);
        *data = Data {
            size: data.size,
            digest: data.digest.or(cut.digest.filter(|_| !data.truncated)),
            ..cut
        };
    }
    value
}

#[cfg(test)]
mod tests {
    use bridge_core::record::Stat;

    use super::*;

    #[test]
    fn a_version_with_another_doubt_than_its_mask_is_not_certain() {
        let masked = |doubt: Option<Doubt>| {
            let mut value = AsOfValue {
                stat: Some(Stat::default()),
                exists: Some(true),
                data: None,
                seq: None,
                certain: true,
                doubts: Vec::new(),
                certainty: Certainty::Exact,
            };
            doubt.into_iter().for_each(|doubt| value.doubt(doubt));
            value.doubt(Doubt::Masked);
            assert_eq!(value.certainty, Certainty::Masked);
            KnownVersion::of(Some(&value))
        };
        // The control.
        assert!(matches!(masked(None), KnownVersion::Written { .. }));
        assert_eq!(masked(Some(Doubt::Overwritten(Zxid(7)))), KnownVersion::Some);
        assert_eq!(masked(Some(Doubt::Compacted(3))), KnownVersion::Some);
    }
}
