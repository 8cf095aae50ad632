//! The scope of a source: its roots without the excluded paths.
//!
//! The image in the journal may hold more: subtrees of roots that were dropped from the configuration, and znodes that
//! were captured before they were excluded.

use globset::GlobSet;

use crate::path::ZnodePath;

/// The roots and excluded paths of a source.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The watched subtrees, in the order of their paths; none covers another.
    roots: Vec<ZnodePath>,
    exclude: GlobSet,
}

impl Scope {
    /// These roots without the paths that match one of these globs, each with all below it.
    pub fn new(mut roots: Vec<ZnodePath>, exclude: GlobSet) -> Scope {
        roots.sort_unstable();
        Scope { roots, exclude }
    }

    /// The roots, in the order of their paths.
    pub fn roots(&self) -> &[ZnodePath] {
        &self.roots
    }

    /// Whether a path, or one above it, is excluded.
    pub fn is_excluded(&self, path: &str) -> bool {
        is_excluded(&self.exclude, path)
    }
}

/// Whether a path, or one above it, matches one of these globs.
pub(crate) fn is_excluded(exclude: &GlobSet, path: &str) -> bool {
    if exclude.is_empty() {
        return false;
    }
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    ends.chain([path.len()]).any(|end| exclude.is_match(&path[..end]))
}
