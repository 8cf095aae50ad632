//! A znode at a moment.

use std::sync::Arc;

use bridge_core::journal::Position;
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::moment::Moment;
use crate::as_of::AsOfValue;
use crate::at_position::AtPosition;
use crate::error::QueryError;
use crate::journal::JournalQuery;

/// A znode at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NodeAnswer {
    /// Its path.
    pub path: ZnodePath,
    /// The name of the source.
    pub source: Arc<str>,
    /// The moment.
    pub moment: Moment,
    /// Its value then.
    pub then: AsOfValue,
}

impl JournalQuery {
    /// A znode at a moment, by default at the end of the journal. `None`: the journal knows nothing of the path.
    ///
    /// # Errors
    ///
    /// If the path is hidden, the journal cannot be read, or all readers are busy.
    pub fn node(
        &self,
        path: &ZnodePath,
        at: Option<Position>,
        now: Timestamp,
    ) -> Result<Option<NodeAnswer>, QueryError> {
        self.must_be_visible(path)?;
        let position = self.position_or_tail(at)?;
        let at = AtPosition::new(self, position, now)?;
        let Some(then) = at.value_of(path)? else {
            return Ok(None);
        };
        Ok(Some(NodeAnswer {
            path: path.clone(),
            source: Arc::clone(self.source()),
            moment: self.moment_of(&at)?,
            then,
        }))
    }
}
