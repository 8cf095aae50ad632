//! Announces in batches the subjects of a transaction, or those that a gap or a listing has deferred to its end.
//!
//! *Invariants.* Events of a batch are at most those of [`SUBJECTS_AT_ONCE`] subjects. The subjects of a gap are read
//! page by page: memory does not grow with the changes that it hid. A batch that is rolled back begins again from rows.

use std::collections::{BTreeMap, VecDeque};

use bridge_core::derive::{DerivedEvent, DerivedState};
use bridge_core::journal::JournalError;
use bridge_core::record::Fidelity;
use serde::{Deserialize, Serialize};

use crate::causes::Deletes;
use crate::group::Touch;
use crate::keys;
use crate::machine::{Note, ServiceMachine, Subject};
use crate::registration::ServiceKey;
use crate::rows::{Cause, InstanceRow, Row, for_each, get, json, put, root_of};

/// Subjects of one batch of events. An event has a few KiB, and at most some hundred.
pub(crate) const SUBJECTS_AT_ONCE: usize = 256;

/// A subject with the last change that touched it, and all notes.
pub(crate) type Touched = (Subject, Cause, Vec<Note>);

/// Subjects whose events are to be announced.
pub(crate) enum Announcing {
    /// The subjects of a transaction.
    Transaction {
        subjects: VecDeque<Touched>,
        deletes: Deletes,
        /// How many instances of each service are left: it comes after the last. None for a single subject.
        left: BTreeMap<(String, ServiceKey), usize>,
    },
    /// The instances, elections and locks that the end of the gap or listing of this root has.
    Deferred(String),
    /// Then their services.
    Services(String),
}

/// A service that is to be compared at the end of a gap.
#[derive(Serialize, Deserialize)]
pub(crate) struct DeferredService {
    pub(crate) section: String,
    pub(crate) service: ServiceKey,
    pub(crate) cause: Cause,
}

impl Row for DeferredService {}

impl ServiceMachine {
    /// The events of the next batch.
    pub(crate) fn next_batch(
        &mut self,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError> {
        match self.announcing.take() {
            None => Ok(Vec::new()),
            Some(Announcing::Transaction {
                mut subjects,
                deletes,
                mut left,
            }) => {
                let rest = subjects.split_off(subjects.len().min(SUBJECTS_AT_ONCE));
                let mut announcer = self.announcer(&deletes, state, false);
                for touched in subjects {
                    announcer.transaction(touched, &mut left)?;
                }
                let events = announcer.with_summaries();
                if !rest.is_empty() {
                    self.announcing = Some(Announcing::Transaction {
                        subjects: rest,
                        deletes,
                        left,
                    });
                }
                Ok(events)
            }
            Some(Announcing::Deferred(root)) => self.next_deferred(root, state),
            Some(Announcing::Services(root)) => self.next_services(root, state),
        }
    }

    fn next_deferred(
        &mut self,
        root: String,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError> {
        let rows = state.scan(keys::deferred(&root).bytes(), None, SUBJECTS_AT_ONCE)?;
        let is_last = rows.len() < SUBJECTS_AT_ONCE;
        let mut subjects = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            if let Ok((subject, mut cause)) = serde_json::from_slice::<(Subject, Cause)>(&row) {
                cause.fidelity = Fidelity::Reconciled;
                cause.missed = None;
                state.put(keys::deferred_subject(&root, &subject.text()).bytes(), None)?;
                subjects.push((subject, cause));
            }
            state.put(&key, None)?;
        }
        let deletes = Deletes::default();
        let mut announcer = self.announcer(&deletes, state, true);
        for (subject, cause) in subjects {
            announcer.deferred(subject, cause)?;
        }
        let events = announcer.with_summaries();
        self.announcing = Some(match is_last {
            true => Announcing::Services(root),
            false => Announcing::Deferred(root),
        });
        Ok(events)
    }

    fn next_services(
        &mut self,
        root: String,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError> {
        let rows = state.scan(keys::deferred_services(&root).bytes(), None, SUBJECTS_AT_ONCE)?;
        let is_last = rows.len() < SUBJECTS_AT_ONCE;
        let deletes = Deletes::default();
        let mut announcer = self.announcer(&deletes, state, true);
        for (key, row) in rows {
            announcer.state.put(&key, None)?;
            if let Ok(deferred) = serde_json::from_slice::<DeferredService>(&row)
                && let Some(section) = announcer.section(&deferred.section)
            {
                announcer.service(section, &deferred.service, &deferred.cause)?;
            }
        }
        let events = announcer.with_summaries();
        self.announcing = (!is_last).then_some(Announcing::Services(root));
        Ok(events)
    }
}

/// The subjects of a transaction, with the number of instances of each service.
pub(crate) fn of_transaction(subjects: Vec<Touched>, deletes: Deletes) -> Option<Announcing> {
    let mut left: BTreeMap<(String, ServiceKey), usize> = BTreeMap::new();
    for (subject, ..) in subjects.iter().filter(|_| subjects.len() > 1) {
        if let Subject::Instance { section, service, .. } = subject {
            *left.entry((section.clone(), service.clone())).or_default() += 1;
        }
    }
    (!subjects.is_empty()).then(|| Announcing::Transaction {
        subjects: subjects.into(),
        deletes,
        left,
    })
}

/// Each subject once, in the order in which they were touched first.
pub(crate) fn subjects_of(
    touches: Vec<Touch>,
    state: &mut dyn DerivedState,
) -> Result<Vec<Touched>, JournalError> {
    // As most transactions do.
    if let [Touch { subject, .. }] = &touches[..]
        && !matches!(subject, Subject::Instances { .. })
    {
        let touched = |touch: Touch| (touch.subject, touch.cause, touch.note.into_iter().collect());
        return Ok(touches.into_iter().map(touched).collect());
    }
    let mut found: Vec<Touched> = Vec::new();
    let mut places: BTreeMap<Subject, usize> = BTreeMap::new();
    let mut add = |subject: Subject, cause: Cause, note: Option<Note>| {
        if let Some(at) = places.get(&subject).filter(|_| subject.is_once()) {
            let (_, last, notes) = &mut found[*at];
            *last = cause;
            notes.extend(note);
            return;
        }
        places.insert(subject.clone(), found.len());
        found.push((subject, cause, note.into_iter().collect()));
    };
    for Touch { subject, cause, note } in touches {
        let Subject::Instances { section, service } = &subject else {
            add(subject, cause, note);
            continue;
        };
        for_each(state, &keys::instances_named(section, service), |_, _, row| {
            if let Some(row) = InstanceRow::of_bytes(row) {
                let subject = Subject::Instance {
                    section: section.clone(),
                    service: row.service,
                    instance: row.instance,
                };
                add(subject, cause.clone(), None);
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// Notes a subject for the end of the gap: in the order of the first change, with the last one.
pub(crate) fn defer(
    subject: &Subject,
    cause: &Cause,
    state: &mut dyn DerivedState,
) -> Result<(), JournalError> {
    let root = root_of(cause);
    let name = keys::deferred_subject(root, &subject.text());
    let number = match get::<u64>(state, &name)? {
        Some(number) => number,
        None => {
            let counter = keys::deferred_subject(root, "");
            let number = get::<u64>(state, &counter)?.unwrap_or_default();
            put(state, &counter, &(number + 1))?;
            put(state, &name, &number)?;
            number
        }
    };
    state.put(
        keys::deferred_at(root, number).bytes(),
        Some(&json(&(subject, cause))),
    )
}
