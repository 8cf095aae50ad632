//! Compares the options of the sections with those that the rows were made with, and removes rows of other options.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::derive::DerivedState;
use bridge_core::journal::JournalError;

use crate::keys;
use crate::machine::ServiceMachine;
use crate::registration::ServiceKey;
use crate::rows::{ElectionRow, InstanceRow, NodeRow, Row, ServiceRow, for_each, get, json, put, remove};

impl ServiceMachine {
    /// The sections whose options are new, without rows. Of the others nothing changes; sections that are gone have no
    /// rows any more.
    pub(crate) fn compare_options(
        &self,
        state: &mut dyn DerivedState,
    ) -> Result<BTreeSet<usize>, JournalError> {
        let mut known = BTreeMap::new();
        for_each(state, &keys::all_options(), |_, key, row| {
            known.insert(key.to_vec(), row.to_vec());
            Ok(())
        })?;
        let mut filling = BTreeSet::new();
        for (at, section) in self.sections.iter().enumerate() {
            let key = keys::options(&section.name);
            let options = serde_json::to_vec(&section.decoder.config.facts())
                .expect("options have only text keys and finite numbers");
            if known.remove(key.bytes()).as_ref() != Some(&options) {
                forget(&section.name, state)?;
                keep_pending(&section.name, state)?;
                state.put(key.bytes(), Some(&options))?;
                filling.insert(at);
            }
        }
        for key in known.into_keys() {
            let name = keys::section_of(&key);
            forget(&name, state)?;
            for kind in keys::ANNOUNCED_OF_SECTION {
                for_each(state, &keys::section(kind, &name), |state, key, _| {
                    state.put(key, None)
                })?;
            }
            state.put(&key, None)?;
        }
        Ok(filling)
    }
}

/// Removes the rows of a section that follow from znodes.
fn forget(name: &str, state: &mut dyn DerivedState) -> Result<(), JournalError> {
    for_each(state, &keys::section(b'n', name), |state, key, row| {
        if let Some(node) = NodeRow::of_bytes(row) {
            remove(state, &keys::owned(node.owner, name, &keys::second_of(key)))?;
        }
        state.put(key, None)
    })?;
    for kind in keys::OF_SECTION {
        for_each(state, &keys::section(kind, name), |state, key, _| {
            state.put(key, None)
        })?;
    }
    Ok(())
}

/// Removes what was announced, but for instances and leaders whose `down` or `lost` is held back: they are gone, whatever
/// the options are, and their events come at their deadlines. The listing adds the others.
fn keep_pending(name: &str, state: &mut dyn DerivedState) -> Result<(), JournalError> {
    for_each(state, &keys::section(b's', name), |state, key, _| {
        state.put(key, None)
    })?;
    for_each(state, &keys::section(b'i', name), |state, key, row| {
        let Some(row) = InstanceRow::of_bytes(row).filter(|row| row.pending.is_some()) else {
            return state.put(key, None);
        };
        let status = row.announced.map(|announced| announced.registration.status);
        match status.is_some_and(|status| status.is_available()) {
            true => count(name, &row.service, row.home, state),
            false => Ok(()),
        }
    })?;
    for_each(state, &keys::section(b'e', name), |state, key, row| {
        let row = serde_json::from_slice::<ElectionRow>(row).ok();
        let Some(row) = row.filter(|row| row.pending.is_some()) else {
            return state.put(key, None);
        };
        let row = ElectionRow {
            leader_path: None,
            queue: 0,
            holders: Vec::new(),
            ..row
        };
        state.put(key, Some(&json(&row)))
    })
}

/// Counts an instance whose `down` waits: its service was announced as available.
fn count(
    section: &str,
    service: &ServiceKey,
    home: String,
    state: &mut dyn DerivedState,
) -> Result<(), JournalError> {
    let key = keys::service(section, service);
    let row: ServiceRow = get(state, &key)?.unwrap_or_default();
    let row = ServiceRow {
        home,
        available: row.available + 1,
        is_available: true,
    };
    put(state, &key, &row)
}
