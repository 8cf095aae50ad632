//! The children of a znode at a moment.

use bridge_core::journal::{Position, ValuePart};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{AnswerList, position_of_cursor};
use crate::PAGE_MAX;
use crate::as_of::AsOfValue;
use crate::at_position::{AtPosition, STEP_VALUES};
use crate::certainty::{Certainty, Doubt};
use crate::cursor::{Cursor, asked, query_hash};
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::known_paths::{KnownPath, name_after};
use crate::position::position_text;
use crate::unreadable::ListScope;
use crate::visibility::Access;

/// Names that one page looks at: each costs a look-up in the history, some 15 µs.
const NAMES_MAX: usize = 4_000;

/// Names read in one step.
const STEP_NAMES: usize = 500;

/// A question about the children of a znode.
#[derive(Clone, Copy, Debug)]
pub struct ChildrenQuestion<'a> {
    /// The parent.
    pub path: &'a ZnodePath,
    /// The moment; `None` is the end of the journal.
    pub at: Option<Position>,
    /// Only names that begin so.
    pub prefix: &'a str,
    /// Only names after this one, by their bytes.
    pub after: Option<&'a str>,
    /// The `next` of the page before.
    pub cursor: Option<&'a str>,
    /// Items of a page, [`PAGE_MAX`] at most.
    pub limit: usize,
}

/// A child at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ChildItem {
    /// Its name.
    pub name: String,
    /// Whether it existed; null if that is not known.
    pub exists: Option<bool>,
    /// Bytes of its data in ZooKeeper.
    pub size: Option<u32>,
    /// When its data was last written, by ZooKeeper's clock.
    pub changed: Option<Timestamp>,
    /// The transaction of the last write.
    pub mzxid: Option<Zxid>,
    /// The number of writes since its create.
    pub version: Option<i32>,
    /// Whether it ends with a session, if that is known.
    pub kind: Option<ZnodeKind>,
    /// The record with this version.
    pub seq: Option<Seq>,
    /// Whether the journal knows znodes below it, at whatever moment.
    pub has_children: bool,
    /// Whether nothing is open.
    pub certain: bool,
    /// The worst of the doubts.
    pub certainty: Certainty,
    /// The doubts, in sentences.
    pub doubts: Vec<Doubt>,
}

/// The kind of a znode, as far as a Stat shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZnodeKind {
    /// Until it is deleted.
    Persistent,
    /// Until its session ends.
    Ephemeral,
}

impl ChildItem {
    fn new(name: &str, has_children: bool, value: Option<AsOfValue>) -> ChildItem {
        // A path above the roots, or one whose own records are removed, has no value of its own.
        let value = value.unwrap_or_else(AsOfValue::without_record);
        let stat = value.stat;
        ChildItem {
            name: name.to_owned(),
            exists: value.exists,
            size: match (&value.data, stat) {
                (Some(data), _) => Some(data.size),
                (None, Some(stat)) => u32::try_from(stat.data_length).ok(),
                (None, None) => None,
            },
            changed: stat.and_then(|stat| Timestamp::of_stat(stat.mtime)),
            mzxid: stat.map(|stat| stat.mzxid),
            version: stat.map(|stat| stat.version),
            kind: stat.map(|stat| match stat.is_ephemeral() {
                true => ZnodeKind::Ephemeral,
                false => ZnodeKind::Persistent,
            }),
            seq: value.seq,
            has_children,
            certain: value.certain,
            certainty: value.certainty,
            doubts: value.doubts,
        }
    }
}

impl JournalQuery {
    /// The children of a znode that existed at a moment, or may have existed, by the bytes of their names. Those that did
    /// not exist are left out; if that is not certain of some, `unknown` counts them.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the cursor belongs to another question, the journal cannot be read, or all readers are busy.
    pub fn children_at(
        &self,
        question: &ChildrenQuestion<'_>,
        now: Timestamp,
    ) -> Result<AnswerList<ChildItem>, QueryError> {
        let ChildrenQuestion { path, prefix, .. } = question;
        self.must_be_visible(path)?;
        let limit = question.limit.clamp(1, PAGE_MAX);
        let asked = asked(question.at);
        let hash = query_hash(&("children", path.as_str(), prefix, question.after, asked));
        let (position, mut from) = match question.cursor {
            Some(text) => {
                let [at, from] = Cursor::parts(text, hash)?;
                (position_of_cursor(&at)?, from + "\0")
            }
            None => {
                let after = question.after.map(name_after).unwrap_or_default();
                (question.at, after.max((*prefix).to_owned()))
            }
        };
        let position = self.position_or_tail(position)?;
        let at = AtPosition::new(self, position, now)?;
        let (mut items, mut unknown, mut looked) = (Vec::new(), 0, 0);
        let mut last: Option<String> = None;
        // Names that certainly did not exist around the moment are left out unseen.
        let mut around = match at.is_complete_below(path)? {
            true => self.around(position)?,
            false => None,
        };
        let is_all = 'page: loop {
            let step = STEP_NAMES.min(2 * limit);
            let known = match around {
                Some(range) => self.reader()?.children_around(path, range, &from, step)?,
                None => None,
            };
            let known = match known {
                Some(known) => known,
                None => {
                    around = None;
                    self.reader()?.known_children(path, &from, step)?
                }
            };
            let is_end = known.len() < step;
            let mut known = known.as_slice();
            while let Some(first) = known.first() {
                if !first.name.starts_with(*prefix) {
                    break 'page true;
                }
                let room = (limit - items.len()).min(NAMES_MAX - looked);
                if room == 0 {
                    break 'page false;
                }
                let wanted = known.iter().take(room.min(STEP_VALUES));
                let wanted = wanted.take_while(|child| child.name.starts_with(*prefix));
                let below: Vec<_> = wanted.map(|child| KnownPath::of(path, child)).collect();
                let values = at.values_of(&below, ValuePart::Size)?;
                let (read, rest) = known.split_at(values.len());
                known = rest;
                looked += read.len();
                for ((child, below), value) in read.iter().zip(&below).zip(values) {
                    from = name_after(&child.name);
                    last = Some(child.name.to_string());
                    if self.access(&below.path) == Access::Hidden {
                        continue;
                    }
                    match value
                        .as_ref()
                        .map(|value| (value.is_presumed_absent(), value.certain))
                    {
                        Some((true, true)) => {}
                        Some((true, false)) => unknown += 1,
                        _ => items.push(ChildItem::new(&child.name, child.has_children, value)),
                    }
                }
            }
            if is_end {
                break true;
            }
        };
        let next = last.filter(|_| !is_all);
        let next = next.map(|last| Cursor::new(hash, [position_text(position), last]).to_text());
        let moment = self.moment_of_list(&at, ListScope::Children(path))?;
        Ok(AnswerList {
            scanned: looked as u64,
            unknown,
            ..AnswerList::of(None, moment, items, next)
        })
    }
}
