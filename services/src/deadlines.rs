//! The deadlines of events that are held back, by the root of the change that caused them: those of a root with an open
//! gap wait, and hold up no other root.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::derive::DerivedState;
use bridge_core::journal::JournalError;
use bridge_core::path::ZnodePath;

use crate::keys;
use crate::machine::Subject;
use crate::rows::{Cause, Pending, for_each, put, remove, root_of};

/// Deadlines that one tick takes, shared by the roots; the others come in the next.
const DUE_AT_ONCE: usize = 1_024;

/// The first deadline of each root that has one.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BTreeMap<String, i64>);

/// A deadline that has come.
pub(crate) struct Due {
    pub(crate) subject: Subject,
    pub(crate) at: i64,
}

impl Deadlines {
    /// Takes them from the rows.
    pub(crate) fn load(&mut self, state: &mut dyn DerivedState) -> Result<(), JournalError> {
        self.0.clear();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let first = state.scan(keys::deadlines().bytes(), after.as_deref(), 1)?;
            let Some((root, due)) = first.first().and_then(|(key, _)| keys::deadline_of(key)) else {
                return Ok(());
            };
            after = Some(keys::after_deadlines_of(&root));
            self.0.insert(root, due);
        }
    }

    /// Notes one.
    pub(crate) fn hold_back(
        &mut self,
        subject: &Subject,
        due: i64,
        cause: &Cause,
        state: &mut dyn DerivedState,
    ) -> Result<(), JournalError> {
        let root = root_of(cause);
        put(state, &keys::deadline(root, due, &subject.text()), subject)?;
        let first = self.0.entry(root.to_owned()).or_insert(due);
        *first = due.min(*first);
        Ok(())
    }

    /// Removes one.
    pub(crate) fn release(
        subject: &Subject,
        pending: &Pending,
        state: &mut dyn DerivedState,
    ) -> Result<(), JournalError> {
        Deadlines::release_at(subject, pending.due, &pending.cause, state)
    }

    /// Removes the one that was noted with this change.
    pub(crate) fn release_at(
        subject: &Subject,
        due: i64,
        cause: &Cause,
        state: &mut dyn DerivedState,
    ) -> Result<(), JournalError> {
        remove(state, &keys::deadline(root_of(cause), due, &subject.text()))
    }

    /// Whether a root has one that has come. Nothing is known to be gone in a root with an open gap.
    pub(crate) fn has_due(&self, now: i64, gaps: &BTreeSet<String>) -> bool {
        self.due_roots(now, gaps).next().is_some()
    }

    fn due_roots<'a>(&'a self, now: i64, gaps: &'a BTreeSet<String>) -> impl Iterator<Item = &'a String> {
        let is_due = move |(root, due): &(&String, &i64)| **due <= now && !gaps.contains(*root);
        self.0.iter().filter(is_due).map(|(root, _)| root)
    }

    /// Takes those that have come, at most [`DUE_AT_ONCE`], of each root its share.
    pub(crate) fn take_due(
        &mut self,
        now: i64,
        gaps: &BTreeSet<String>,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<Due>, JournalError> {
        let roots: Vec<String> = self.due_roots(now, gaps).cloned().collect();
        let share = (DUE_AT_ONCE / roots.len().max(1)).max(1);
        let mut taken = Vec::new();
        for root in roots {
            for (key, row) in state.scan(keys::deadlines_of(&root).bytes(), None, share)? {
                let Some((_, at)) = keys::deadline_of(&key).filter(|(_, at)| *at <= now) else {
                    break;
                };
                state.put(&key, None)?;
                if let Ok(subject) = serde_json::from_slice(&row) {
                    taken.push(Due { subject, at });
                }
            }
            let next = state.scan(keys::deadlines_of(&root).bytes(), None, 1)?;
            match next.first().and_then(|(key, _)| keys::deadline_of(key)) {
                Some((_, due)) => self.0.insert(root, due),
                None => self.0.remove(&root),
            };
        }
        Ok(taken)
    }

    /// Writes the rows of an earlier layout, in which the deadlines of all roots were one list, in that of now.
    pub(crate) fn migrate(state: &mut dyn DerivedState) -> Result<(), JournalError> {
        for_each(state, &keys::all(keys::EARLIER_DEADLINES), |state, key, row| {
            let found = serde_json::from_slice::<(Subject, Option<ZnodePath>)>(row);
            if let (Ok((subject, root)), Some(due)) = (found, keys::earlier_deadline_of(key)) {
                let root = root.as_ref().map_or("", ZnodePath::as_str);
                put(state, &keys::deadline(root, due, &subject.text()), &subject)?;
            }
            state.put(key, None)
        })
    }
}
