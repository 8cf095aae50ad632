//! A subtree as the text of the file. Pure: the same subtree gives the same text, at every start and on every machine.

use std::fmt;
use std::sync::Arc;

use bridge_core::number::Seq;
use bridge_core::outbound::TreeTemplate;
use bridge_core::path::ZnodePath;
use bridge_core::sink::SinkError;
use bridge_core::subtree::{Subtree, SubtreeCompleteness};

use crate::config::{Instead, RenderConfig};
use crate::error;

/// The file after a state of the tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileContent {
    /// This text.
    Text(String),
    /// The present one.
    Kept(KeptFor),
}

/// Why the file stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeptFor {
    /// The first listing of the root is not complete.
    Listing(ZnodePath),
    /// A gap of the root is open.
    Gap(ZnodePath, Seq),
    /// The path does not exist.
    Missing(ZnodePath),
}

impl fmt::Display for KeptFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeptFor::Listing(root) => write!(f, "the first listing of {root} is not complete"),
            KeptFor::Gap(root, begin) => {
                write!(
                    f,
                    "a gap of {root} is open since record {begin}, and gaps = \"keep\""
                )
            }
            KeptFor::Missing(tree) => write!(f, "{tree} does not exist, and missing = \"keep\""),
        }
    }
}

/// The file for a subtree.
pub(crate) fn encode(
    subtree: &Arc<Subtree>,
    template: &TreeTemplate,
    config: &RenderConfig,
) -> Result<FileContent, SinkError> {
    let kept = match &subtree.completeness {
        SubtreeCompleteness::NotWatched => return Err(error::not_watched(&config.tree)),
        SubtreeCompleteness::Listing { root } => Some(KeptFor::Listing(root.clone())),
        SubtreeCompleteness::InGap { root, begin } if config.gaps == Instead::Keep => {
            Some(KeptFor::Gap(root.clone(), *begin))
        }
        SubtreeCompleteness::InGap { .. } | SubtreeCompleteness::Complete => None,
    };
    if let Some(kept) = kept {
        return Ok(FileContent::Kept(kept));
    }
    let exists = subtree
        .znodes()
        .first()
        .is_some_and(|top| top.path == config.tree);
    if !exists && config.missing == Instead::Keep {
        return Ok(FileContent::Kept(KeptFor::Missing(config.tree.clone())));
    }
    let bytes_max = usize::try_from(config.max_file.0).unwrap_or(usize::MAX);
    let rendered = template.render(subtree, bytes_max);
    rendered
        .map(FileContent::Text)
        .map_err(|failure| error::no_text(config, &failure.reason))
}
