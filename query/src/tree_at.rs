//! The znodes of a subtree at a moment, with their values, page by page.

use bridge_core::journal::Position;
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;

use crate::PAGE_MAX;
use crate::as_of::AsOfValue;
use crate::at_position::AtPosition;
use crate::changes::PAGE_BYTES_MAX;
use crate::error::QueryError;
use crate::journal::JournalQuery;
use crate::known_paths::{KnownPath, KnownPaths};
use crate::selection::PathPattern;
use crate::tree_walk::WalkLimits;
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
        let at = AtPosition::new(self, question.at, now)?;
        let limits = WalkLimits {
            znodes: question.limit.clamp(1, PAGE_MAX),
            visits: PATHS_MAX,
            bytes: PAGE_BYTES_MAX,
        };
        let paths = KnownPaths::below(self, question.under, question.after);
        let is_asked = |known: &KnownPath| {
            is_selected(question.patterns, &known.path) && self.access(&known.path) != Access::Hidden
        };
        let mut page = TreePage::default();
        page.next = at.walk(paths, limits, is_asked, |path, value| {
            let Some(value) = value else { return false };
            let is_absent = value.is_presumed_absent();
            match is_absent {
                true => page.unknown += u64::from(!value.certain),
                false => page.znodes.push((path.clone(), value)),
            }
            !is_absent
        })?;
        Ok(page)
    }
}

fn is_selected(patterns: &[PathPattern], path: &ZnodePath) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.selects(path))
}
