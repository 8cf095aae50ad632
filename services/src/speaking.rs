//! The registration that speaks for an instance: the newest.

use std::collections::HashMap;

use bridge_core::derive::DerivedState;
use bridge_core::journal::JournalError;
use bridge_core::number::{SessionId, Zxid};
use bridge_core::record::Timestamp;

use crate::keys;
use crate::registration::{Registration, ServiceKey};
use crate::rows::{Meaning, NodeRow, get};

/// Instances whose newest registration is held in memory: those of the changes of some batches.
const NEWEST_MAX: usize = 4_096;

/// The paths of the newest registrations of the instances that were looked up last, as the rows have them: an instance
/// that changes again and again does not list its rows each time.
#[derive(Default)]
pub(crate) struct Newest(HashMap<keys::Key, String>);

impl Newest {
    /// The registrations of an instance are others now.
    pub(crate) fn forget(&mut self, section: &str, service: &ServiceKey, instance: &str) {
        if !self.0.is_empty() {
            self.0.remove(&keys::lives(section, service, instance));
        }
    }

    /// The rows may be others.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn of(&mut self, lives: keys::Key, state: &mut dyn DerivedState) -> Result<Option<String>, JournalError> {
        if let Some(path) = self.0.get(&lives) {
            return Ok(Some(path.clone()));
        }
        let newest = state.scan(lives.bytes(), None, 1)?;
        let path = newest
            .into_iter()
            .next()
            .and_then(|(_, path)| String::from_utf8(path).ok());
        let Some(path) = path else { return Ok(None) };
        if self.0.len() == NEWEST_MAX {
            self.0.clear();
        }
        self.0.insert(lives, path.clone());
        Ok(Some(path))
    }
}

/// Znodes beside a registration.
const BESIDE_MAX: usize = 16;

/// The newest registration of an instance, with the facts beside it, and without rules.
pub(crate) struct Speaking {
    pub(crate) path: String,
    pub(crate) czxid: Zxid,
    pub(crate) owner: SessionId,
    /// When its znode was created, as far as the bridge saw.
    pub(crate) since: Timestamp,
    pub(crate) home: String,
    pub(crate) registration: Registration,
}

impl Speaking {
    /// Reads the rows. `None`: the instance has no registration.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub(crate) fn of(
        section: &str,
        service: &ServiceKey,
        instance: &str,
        has_beside: bool,
        newest: &mut Newest,
        state: &mut dyn DerivedState,
    ) -> Result<Option<Speaking>, JournalError> {
        let lives = keys::lives(section, service, instance);
        let Some(path) = newest.of(lives, state)? else {
            return Ok(None);
        };
        let node: Option<NodeRow> = get(state, &keys::node(section, &path))?;
        let Some(NodeRow {
            czxid,
            owner,
            since,
            meaning:
                Some(Meaning::Live {
                    home,
                    mut registration,
                    ..
                }),
            ..
        }) = node
        else {
            return Ok(None);
        };
        if has_beside {
            let beside = keys::beside(section, service, instance);
            for (_, row) in state.scan(beside.bytes(), None, BESIDE_MAX)? {
                if let Ok(beside) = serde_json::from_slice(&row) {
                    registration.overlay(&beside);
                }
            }
        }
        Ok(Some(Speaking {
            path,
            czxid,
            owner,
            since,
            home,
            registration,
        }))
    }
}
