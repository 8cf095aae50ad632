//! The znodes of a subtree at a moment, with their values, page by page.

use bridge_core::journal::{Position, ValuePart};
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;

use crate::PAGE_MAX;
use crate::as_of::AsOfValue;
use crate::at_position::{AtPosition, STEP_VALUES};
use crate::changes::PAGE_BYTES_MAX;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::known_paths::{KnownPath, KnownPaths};
use crate::selection::PathPattern;
use crate::visibility::Access;

/// Paths that one page visits at most: some 100 ms.
const PATHS_MAX: u64 = 20_000;

/// A question about the znodes of a subtree.
#[derive(Clone, Copy, Debug)]
pub struct TreeQuestion<'a> {
    /// This path and everything below it.
    pub under: &'a ZnodePath,
    /// Only paths that one of these selects; empty: all.
    pub patterns: &'a [PathPattern],
    /// The moment.
    pub at: Position,
    /// The `next` of the page before.
    pub after: Option<&'a ZnodePath>,
    /// Znodes of a page, [`PAGE_MAX`] at most.
    pub limit: usize,
}

/// A page of the znodes of a subtree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TreePage {
    /// Parents first, siblings by the bytes of their names.
    pub znodes: Vec<(ZnodePath, AsOfValue)>,
    /// The `after` of the next page; `None` on the last one.
    pub next: Option<ZnodePath>,
    /// Znodes that were left out although it is not certain that they did not exist.
    pub unknown: u64,
}

impl JournalQuery {
    /// The znodes of a subtree that existed at a moment, or may have existed. Those that did not exist are left out, as are
    /// paths of which the journal knows nothing but that something is below them.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn tree_at(&self, question: &TreeQuestion<'_>, now: Timestamp) -> Result<TreePage, QueryError> {
        self.must_be_visible(question.under)?;
        let limit = question.limit.clamp(1, PAGE_MAX);
        let at = AtPosition::new(self, question.at, now)?;
        let mut paths = KnownPaths::below(self, question.under, question.after);
        let mut page = TreePage::default();
        let (mut visits, mut bytes) = (0, 0);
        let mut last = None;
        let is_asked = |known: &KnownPath| {
            is_selected(question.patterns, &known.path) && self.access(&known.path) != Access::Hidden
        };
        'page: loop {
            let room = (limit - page.znodes.len()).min(STEP_VALUES);
            if room == 0 || bytes >= PAGE_BYTES_MAX || visits >= PATHS_MAX {
                break;
            }
            let step = paths.step(room, PATHS_MAX - visits, is_asked)?;
            visits += step.visits;
            let mut left = step.wanted.as_slice();
            while !left.is_empty() {
                let values = at.values_of(left, ValuePart::Whole)?;
                let (read, rest) = left.split_at(values.len());
                left = rest;
                for (known, value) in read.iter().zip(values) {
                    if bytes >= PAGE_BYTES_MAX {
                        break 'page;
                    }
                    last = Some(known.path.clone());
                    let Some(value) = value else { continue };
                    match (value.is_presumed_absent(), value.certain) {
                        (true, true) => {}
                        (true, false) => page.unknown += 1,
                        _ => {
                            bytes += value.data.as_ref().map_or(0, |data| data.bytes.len());
                            page.znodes.push((known.path.clone(), value));
                        }
                    }
                }
            }
            last = step.last.or(last);
            if step.is_end {
                return Ok(page);
            }
        }
        page.next = last;
        Ok(page)
    }
}

fn is_selected(patterns: &[PathPattern], path: &ZnodePath) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.selects(path))
}
