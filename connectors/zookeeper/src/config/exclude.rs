//! Globs of paths to leave out.

use std::fmt;
use std::str::FromStr;

use bridge_core::path_glob::path_glob;
use bridge_core::read_from_text;
use globset::{Glob, GlobMatcher};

/// A glob of paths: `*` within one name, `**` across names.
#[derive(Clone)]
pub struct PathGlob {
    glob: Glob,
    matcher: GlobMatcher,
}

/// A text that is no glob of paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a glob of paths: {reason}; write for example \"/services/*/tmp\" or \"/**/lock-*\"")]
pub struct BadGlob {
    text: String,
    reason: String,
}

impl PathGlob {
    /// As the set builders of globset take it.
    pub fn glob(&self) -> &Glob {
        &self.glob
    }

    /// Whether a path matches, or one above it does.
    pub fn takes(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        ends.chain([path.len()])
            .any(|end| self.matcher.is_match(&path[..end]))
    }
}

impl FromStr for PathGlob {
    type Err = BadGlob;

    fn from_str(text: &str) -> Result<PathGlob, BadGlob> {
        let glob = path_glob(text).map_err(|reason| BadGlob {
            text: text.to_owned(),
            reason,
        })?;
        let matcher = glob.compile_matcher();
        Ok(PathGlob { glob, matcher })
    }
}

impl PartialEq for PathGlob {
    fn eq(&self, other: &PathGlob) -> bool {
        self.glob == other.glob
    }
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.glob.glob())
    }
}

impl fmt::Debug for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

read_from_text!(PathGlob, {
    "type": "string",
    "description": "A glob of paths: `*` within one name, `**` across names.",
    "minLength": 1,
    "examples": ["/services/*/tmp", "/**/lock-*"],
});
