//! The registration that speaks for an instance: the newest.

use bridge_core::derive::DerivedState;
use bridge_core::journal::JournalError;

use crate::keys;
use crate::registration::{Registration, ServiceKey};
use crate::rows::{Meaning, NodeRow, get};

/// Znodes beside a registration.
const BESIDE_MAX: usize = 16;

/// The newest registration of an instance, with the facts beside it, and without rules.
pub(crate) struct Speaking {
    pub(crate) path: String,
    pub(crate) node: NodeRow,
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
        state: &mut dyn DerivedState,
    ) -> Result<Option<Speaking>, JournalError> {
        let lives = keys::lives(section, service, instance);
        let newest = state.scan(lives.bytes(), None, 1)?;
        let path = newest
            .first()
            .and_then(|(_, path)| std::str::from_utf8(path).ok());
        let Some(path) = path else { return Ok(None) };
        let node: Option<NodeRow> = get(state, &keys::node(section, path))?;
        let Some(node) = node else { return Ok(None) };
        let Some(Meaning::Live {
            home, registration, ..
        }) = &node.meaning
        else {
            return Ok(None);
        };
        let (home, mut registration) = (home.clone(), registration.clone());
        if has_beside {
            let beside = keys::beside(section, service, instance);
            for (_, row) in state.scan(beside.bytes(), None, BESIDE_MAX)? {
                if let Ok(beside) = serde_json::from_slice(&row) {
                    registration.overlay(&beside);
                }
            }
        }
        Ok(Some(Speaking {
            path: path.to_owned(),
            node,
            home,
            registration,
        }))
    }
}
