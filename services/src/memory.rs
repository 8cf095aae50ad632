//! Rows in memory, for tests and for anything that has no journal.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bridge_core::derive::{DerivedRow, DerivedState};
use bridge_core::journal::JournalError;

/// Rows of a derivation in memory. A clone is a state to come back to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryState {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryState {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl DerivedState for MemoryState {
    fn get(&mut self, key: &[u8]) -> Result<Option<Arc<[u8]>>, JournalError> {
        Ok(self.rows.get(key).map(|row| Arc::from(&row[..])))
    }

    fn put(&mut self, key: &[u8], row: Option<&[u8]>) -> Result<(), JournalError> {
        match row {
            Some(row) => drop(self.rows.insert(key.to_vec(), row.to_vec())),
            None => drop(self.rows.remove(key)),
        }
        Ok(())
    }

    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<DerivedRow>, JournalError> {
        let from = match after {
            Some(after) => Bound::Excluded(after.to_vec()),
            None => Bound::Included(prefix.to_vec()),
        };
        let rows = self.rows.range((from, Bound::Unbounded));
        let rows = rows.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(rows.map(|(key, row)| (key.clone(), row.clone())).collect())
    }
}
