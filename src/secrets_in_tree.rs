//! Znodes that well-known programs keep secrets in, and that a source captures without a mask.

use std::collections::VecDeque;

use bridge_config::{SourceConfig, secret_path};
use bridge_core::capture::Outcome;
use bridge_core::path::ZnodePath;
use bridge_core::source::SourceError;

use crate::source_type::TreeReader;

/// Znodes that are looked at, level by level: enough for the upper levels of most trees, and no load.
const ZNODES_MAX: usize = 5_000;

/// Znodes of one request.
const READ_AT_ONCE: usize = 100;

/// Znodes that are named.
const NAMED_MAX: usize = 5;

/// A warning, and its remedy.
pub struct OpenSecrets {
    /// The znodes, with what they hold.
    pub message: String,
    /// The remedy.
    pub remedy: &'static str,
}

const REMEDY: &str = "name them in 'mask' of the source, so that a keyed digest takes the place of their values, or in \
                      'exclude'; 'zkbridge init' prints the list of well-known places";

/// Looks for such znodes in the upper levels of the roots; `None` if there is none.
///
/// # Errors
/// If the tree cannot be read.
pub async fn open_secrets(
    tree: &dyn TreeReader,
    source: &SourceConfig,
) -> Result<Option<OpenSecrets>, SourceError> {
    let mut found: Vec<String> = Vec::new();
    let mut more = false;
    let mut waiting: VecDeque<ZnodePath> = source.kind.options().roots().iter().cloned().collect();
    let mut looked = 0;
    while !waiting.is_empty() && looked < ZNODES_MAX {
        let batch: Vec<ZnodePath> = waiting.drain(..waiting.len().min(READ_AT_ONCE)).collect();
        looked += batch.len();
        let outcomes = tree.read(&batch).await?;
        for (path, outcome) in batch.iter().zip(outcomes) {
            let Outcome::Found { data, children, .. } = outcome else {
                continue;
            };
            let is_open = !data.is_empty() && !source.mask.iter().any(|glob| glob.takes(path));
            if let Some(place) = secret_path(path).filter(|_| is_open) {
                match found.len() < NAMED_MAX {
                    true => found.push(format!("{path} ({})", place.holds)),
                    false => more = true,
                }
            }
            let below = children.into_iter().flatten().map(|name| path.child(&name));
            let room = (ZNODES_MAX - looked).saturating_sub(waiting.len());
            waiting.extend(below.filter(|path| tree.is_captured(path)).take(room));
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    let more = if more { ", and more" } else { "" };
    Ok(Some(OpenSecrets {
        message: format!("secrets are captured as they are: {}{more}", found.join(", ")),
        remedy: REMEDY,
    }))
}
