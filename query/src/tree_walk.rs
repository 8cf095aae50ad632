//! Walks the paths of a subtree at one position: the loop of every page of a tree.

use bridge_core::journal::ValuePart;
use bridge_core::path::ZnodePath;

use crate::as_of::AsOfValue;
use crate::at_position::{AtPosition, STEP_VALUES};
use crate::error::QueryError;
use crate::known_paths::{KnownPath, KnownPaths};

/// Where a page ends, whatever comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalkLimits {
    /// Znodes that are taken.
    pub(crate) znodes: usize,
    /// Paths that are visited.
    pub(crate) visits: u64,
    /// Bytes of values, which the last one may exceed.
    pub(crate) bytes: usize,
}

impl AtPosition<'_> {
    /// Gives the paths that are asked for with their values to `take`, which returns whether it takes the znode. Returns
    /// the path after which the next page begins; `None` after the last one.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or all readers are busy.
    pub(crate) fn walk(
        &self,
        mut paths: KnownPaths<'_>,
        limits: WalkLimits,
        is_asked: impl Fn(&KnownPath) -> bool,
        mut take: impl FnMut(&ZnodePath, Option<AsOfValue>) -> bool,
    ) -> Result<Option<ZnodePath>, QueryError> {
        let (mut znodes, mut visits, mut bytes) = (0, 0, 0);
        let mut last = None;
        while znodes < limits.znodes && visits < limits.visits && bytes < limits.bytes {
            let room = (limits.znodes - znodes).min(STEP_VALUES);
            let step = paths.step(room, limits.visits - visits, &is_asked)?;
            visits += step.visits;
            let mut left = step.wanted.as_slice();
            while !left.is_empty() {
                let values = self.values_of(left, ValuePart::Whole)?;
                let (read, rest) = left.split_at(values.len());
                left = rest;
                for (known, value) in read.iter().zip(values) {
                    if bytes >= limits.bytes {
                        return Ok(last);
                    }
                    let data = value.as_ref().and_then(|value| value.data.as_ref());
                    bytes += data.map_or(0, |data| data.bytes.len());
                    last = Some(known.path.clone());
                    znodes += usize::from(take(&known.path, value));
                }
            }
            last = step.last.or(last);
            if step.is_end {
                return Ok(None);
            }
        }
        Ok(last)
    }
}
