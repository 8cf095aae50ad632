//! Selects the records of a list. Looks at path, operation and kind only, never at a value.

use bridge_core::delivery::{CompiledFilter, Filter};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Record};

/// Characters that make a pattern a glob.
const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

/// Selects znodes: a path selects the znode and everything below it, a glob the paths that it matches.
///
/// In a glob `*` is within one name and `**` goes across names. A trailing slash is ignored.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// A znode and everything below it.
    Subtree(ZnodePath),
    /// The paths of a glob.
    Glob(Box<CompiledFilter>),
}

/// A text that is no pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path pattern '{pattern}': {reason}")]
pub struct BadPattern {
    pattern: String,
    reason: String,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// If it neither begins like a path nor is a valid glob.
    pub fn parse(text: &str) -> Result<PathPattern, BadPattern> {
        let trimmed = match text.trim_end_matches('/') {
            "" if !text.is_empty() => "/",
            trimmed => trimmed,
        };
        let bad = |reason: String| BadPattern {
            pattern: text.to_owned(),
            reason,
        };
        if !trimmed.contains(WILDCARDS) {
            let path = ZnodePath::parse(trimmed).map_err(|error| bad(error.to_string()))?;
            return Ok(PathPattern::Subtree(path));
        }
        let filter = Filter {
            paths: vec![trimmed.to_owned()],
            ..Filter::default()
        };
        let filter = CompiledFilter::new(&filter).map_err(|error| bad(error.to_string()))?;
        Ok(PathPattern::Glob(Box::new(filter)))
    }

    /// Whether a path is selected.
    pub fn selects(&self, path: &ZnodePath) -> bool {
        match self {
            PathPattern::Subtree(top) => top.covers(path),
            PathPattern::Glob(filter) => filter.passes_path(path),
        }
    }
}

impl std::str::FromStr for PathPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<PathPattern, BadPattern> {
        PathPattern::parse(text)
    }
}

/// Selects records. The default selects all; each condition narrows it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The znodes; empty: all znodes, and control records.
    pub paths: Vec<PathPattern>,
    /// The operations; empty: all.
    pub ops: Vec<Op>,
    /// The filter of a sink, if only its records are selected.
    pub sink: Option<CompiledFilter>,
}

impl Selection {
    /// Whether a record is selected.
    pub fn selects(&self, record: &Record) -> bool {
        let is_of_paths = match &record.path {
            _ if self.paths.is_empty() => true,
            Some(path) => self.paths.iter().any(|pattern| pattern.selects(path)),
            None => false,
        };
        is_of_paths
            && (self.ops.is_empty() || self.ops.contains(&record.op))
            && self.sink.as_ref().is_none_or(|sink| sink.passes(record))
    }
}
