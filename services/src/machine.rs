//! The machine: takes changes, keeps the rows of znodes, and announces the subjects that a transaction has touched.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::derive::{
    Derivation, DerivationMark, DerivedEvent, DerivedState, InstanceCount, ObservedChange,
};
use bridge_core::journal::JournalError;
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Fidelity, Op, Timestamp};
use serde::{Deserialize, Serialize};

use crate::announce::Announcer;
use crate::causes::Deletes;
use crate::config::ServiceConfig;
use crate::decode::{Decoded, Decoder, Payload, Znode};
use crate::keys;
use crate::levels::Levels;
use crate::linking::Linking;
use crate::registration::ServiceKey;
use crate::rows::{Cause, InstanceRow, NodeRow, for_each, get, put, remove};

/// A longer identity is no identity.
const IDENTITY_BYTES_MAX: usize = 1_024;

/// Events that are held back and end in one tick; the others end in the next.
const DUE_AT_ONCE: usize = 1_024;

/// Derives service events from the changes of one source.
pub struct ServiceMachine {
    cluster: String,
    sections: Vec<Section>,
    group: Group,
    /// The roots with an open gap.
    gaps: BTreeSet<String>,
    /// The roots that are being listed.
    listings: BTreeSet<String>,
    next_due: Option<i64>,
    levels: Levels,
    /// The sections that take the tree as it is, while they are filled.
    filling: Option<BTreeSet<usize>>,
}

/// One section, compiled.
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) decoder: Decoder,
    pub(crate) grace_ms: i64,
}

/// The changes of one transaction of the ensemble.
#[derive(Default)]
struct Group {
    zxid: Option<Zxid>,
    touches: Vec<Touch>,
    deletes: Deletes,
}

/// A subject that a change has touched.
pub(crate) struct Touch {
    pub(crate) subject: Subject,
    pub(crate) cause: Cause,
    pub(crate) note: Option<Note>,
}

/// Someone joined or left a queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Note {
    Joined(String),
    Left(String),
}

/// Something that has events of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Subject {
    Instance {
        section: String,
        service: ServiceKey,
        instance: String,
    },
    /// All instances of a service.
    Instances {
        section: String,
        service: String,
    },
    Election {
        section: String,
        election: String,
    },
    Lock {
        section: String,
        election: String,
    },
    Unreadable {
        section: String,
        service: ServiceKey,
        instance: Option<String>,
        home: String,
        path: String,
        reason: String,
    },
}

impl Subject {
    /// Its key.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("a subject has only texts")
    }

    fn is_once(&self) -> bool {
        !matches!(self, Subject::Unreadable { .. })
    }
}

impl ServiceMachine {
    /// A machine for these sections of the source `cluster`.
    ///
    /// # Errors
    ///
    /// If the options of a section cannot work, or two sections have one name.
    pub fn new(cluster: &str, sections: &[ServiceConfig]) -> Result<ServiceMachine, String> {
        let mut compiled: Vec<Section> = Vec::new();
        for config in sections {
            let name = config.name();
            if compiled.iter().any(|section| section.name == name) {
                return Err(format!(
                    "two sections of services are named '{name}': give one of them another 'name'"
                ));
            }
            let decoder =
                Decoder::new(config.clone()).map_err(|reason| format!("services '{name}': {reason}"))?;
            let grace_ms = i64::try_from(config.grace.0.as_millis()).unwrap_or(i64::MAX);
            compiled.push(Section {
                name,
                decoder,
                grace_ms,
            });
        }
        Ok(ServiceMachine {
            cluster: cluster.to_owned(),
            sections: compiled,
            group: Group::default(),
            gaps: BTreeSet::new(),
            listings: BTreeSet::new(),
            next_due: None,
            levels: Levels::default(),
            filling: None,
        })
    }

    fn take(
        &mut self,
        at: usize,
        change: &ObservedChange<'_>,
        state: &mut dyn DerivedState,
    ) -> Result<(), JournalError> {
        let section = &self.sections[at];
        let key = keys::node(&section.name, change.path);
        let old: Option<NodeRow> = get(state, &key)?;
        let mut cause = Cause::of(change);
        if let (Op::Delete, Some(old)) = (change.op, &old) {
            cause.owner = old.owner;
            cause.is_unread = old.is_unread;
        }
        let mut linking = Linking {
            section,
            path: change.path,
            cause: &cause,
            state,
            touches: &mut self.group.touches,
        };
        if change.op == Op::Delete {
            if let Some(old) = old {
                linking.unlink(&old)?;
                if change.is_exact {
                    self.group.deletes.count(old.owner, change.path);
                }
            }
            return Ok(());
        }
        let old = match old {
            // Its delete was not seen.
            Some(old) if old.czxid != change.czxid => {
                linking.unlink(&old)?;
                None
            }
            old => old,
        };
        let payload = match change.data {
            None => Payload::NotRead,
            Some(data) if data.is_masked() => Payload::Unusable("a value that is masked"),
            Some(data) if data.truncated => Payload::Unusable("a value that was cut at max_bytes"),
            Some(data) => Payload::Bytes(&data.bytes),
        };
        let decoded = section.decoder.decode(&Znode {
            path: change.path,
            owner: change.owner,
            payload,
        });
        linking.apply(old, change, bounded(decoded))
    }

    /// Whether nothing can be said of a subject before the end of the gap or, of a queue, of the listing.
    fn must_wait(&self, subject: &Subject, cause: &Cause) -> bool {
        let root = root_of(cause);
        let is_queue = matches!(subject, Subject::Election { .. } | Subject::Lock { .. });
        let is_listed = cause.op == Op::Snapshot || self.listings.contains(root);
        self.gaps.contains(root) || (is_queue && is_listed)
    }

    /// Announces what a group has touched, or defers it to the end of the gap or listing that is open.
    fn announce_group(
        &mut self,
        group: Group,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError> {
        let subjects = subjects_of(group.touches, state)?;
        let (later, now): (Vec<_>, Vec<_>) = subjects
            .into_iter()
            .partition(|(subject, cause, _)| self.must_wait(subject, cause));
        for (subject, cause, _) in later {
            defer(&subject, &cause, state)?;
        }
        let mut announcer = Announcer {
            cluster: &self.cluster,
            sections: &self.sections,
            deletes: &group.deletes,
            next_due: &mut self.next_due,
            levels: &mut self.levels,
            state,
            events: Vec::new(),
            is_gap: false,
        };
        announcer.all(now)?;
        Ok(announcer.events)
    }

    fn load(&mut self, state: &mut dyn DerivedState) -> Result<(), JournalError> {
        self.group = Group::default();
        let gaps = (keys::gaps(), &mut self.gaps);
        for (kind, open) in [gaps, (keys::listings(), &mut self.listings)] {
            open.clear();
            for_each(state, &kind, |_, _, row| {
                open.extend(std::str::from_utf8(row).map(str::to_owned));
                Ok(())
            })?;
        }
        self.levels.clear();
        let levels = &mut self.levels;
        for_each(state, &keys::all(b'i'), |_, _, row| {
            if let Ok(row) = serde_json::from_slice::<InstanceRow>(row)
                && let Some(announced) = row.announced
            {
                levels.moved(&row.service.name, None, Some(announced.registration.status));
            }
            Ok(())
        })?;
        self.look_for_due(state)
    }

    fn look_for_due(&mut self, state: &mut dyn DerivedState) -> Result<(), JournalError> {
        let first = state.scan(keys::deadlines().bytes(), None, 1)?;
        self.next_due = first.first().and_then(|(key, _)| keys::due_of(key));
        Ok(())
    }
}

impl Derivation for ServiceMachine {
    fn covers(&self, path: &str) -> bool {
        self.sections.iter().any(|section| section.decoder.covers(path))
    }

    fn is_ended_by(&self, zxid: Option<Zxid>) -> bool {
        !self.group.touches.is_empty() && (zxid.is_none() || self.group.zxid != zxid)
    }

    fn change(
        &mut self,
        change: &ObservedChange<'_>,
        state: &mut dyn DerivedState,
    ) -> Result<(), JournalError> {
        let zxid = change.zxid.filter(|_| change.is_exact);
        // A transaction that touches no subject ends without being completed: its deletes are not those of the next.
        if zxid.is_none() || self.group.zxid != zxid {
            self.group.deletes = Deletes::default();
        }
        self.group.zxid = zxid;
        for at in 0..self.sections.len() {
            let is_filled = self.filling.as_ref().is_none_or(|filling| filling.contains(&at));
            if is_filled && self.sections[at].decoder.covers(change.path) && change.op != Op::Acl {
                self.take(at, change, state)?;
            }
        }
        Ok(())
    }

    fn complete(&mut self, state: &mut dyn DerivedState) -> Result<Vec<DerivedEvent>, JournalError> {
        let group = std::mem::take(&mut self.group);
        if group.touches.is_empty() {
            return Ok(Vec::new());
        }
        self.announce_group(group, state)
    }

    fn mark(
        &mut self,
        mark: DerivationMark,
        root: Option<&ZnodePath>,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError> {
        use DerivationMark::{GapBegin, GapEnd, ListingBegin, ListingEnd};
        let root = root.map_or("", ZnodePath::as_str);
        let (open, key) = match mark {
            GapBegin | GapEnd => (&mut self.gaps, keys::gap(root)),
            ListingBegin | ListingEnd => (&mut self.listings, keys::listing(root)),
        };
        if matches!(mark, GapBegin | ListingBegin) {
            open.insert(root.to_owned());
            state.put(key.bytes(), Some(root.as_bytes()))?;
            return Ok(Vec::new());
        }
        open.remove(root);
        state.put(key.bytes(), None)?;
        let mut subjects = Vec::new();
        for_each(state, &keys::deferred(root), |state, key, row| {
            if let Ok((subject, mut cause)) = serde_json::from_slice::<(Subject, Cause)>(row) {
                cause.fidelity = Fidelity::Reconciled;
                cause.missed = None;
                state.put(keys::deferred_subject(root, &subject.text()).bytes(), None)?;
                subjects.push((subject, cause, Vec::new()));
            }
            state.put(key, None)
        })?;
        let mut announcer = Announcer {
            cluster: &self.cluster,
            sections: &self.sections,
            deletes: &Deletes::default(),
            next_due: &mut self.next_due,
            levels: &mut self.levels,
            state,
            events: Vec::new(),
            is_gap: true,
        };
        announcer.all(subjects)?;
        Ok(announcer.events)
    }

    fn has_due(&self, now: Timestamp) -> bool {
        self.next_due.is_some_and(|due| due <= now.0)
    }

    fn due(
        &mut self,
        now: Timestamp,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError> {
        let rows = state.scan(keys::deadlines().bytes(), None, DUE_AT_ONCE)?;
        let mut announcer = Announcer {
            cluster: &self.cluster,
            sections: &self.sections,
            deletes: &Deletes::default(),
            next_due: &mut self.next_due,
            levels: &mut self.levels,
            state,
            events: Vec::new(),
            is_gap: false,
        };
        for (key, row) in rows {
            let due = keys::due_of(&key);
            if due.is_none_or(|due| due > now.0) {
                break;
            }
            let found = serde_json::from_slice::<(Subject, Option<ZnodePath>)>(&row).ok();
            let root = found.as_ref().and_then(|(_, root)| root.as_ref());
            // Inside a gap nothing is known to be gone.
            if self.gaps.contains(root.map_or("", ZnodePath::as_str)) {
                continue;
            }
            announcer.state.put(&key, None)?;
            if let Some((subject, _)) = found {
                announcer.fire(&subject, due.unwrap_or_default())?;
            }
        }
        let events = announcer.events;
        self.look_for_due(state)?;
        Ok(events)
    }

    fn instances(&mut self) -> Option<Vec<InstanceCount>> {
        self.levels.take()
    }

    fn forget(&mut self, state: &mut dyn DerivedState) -> Result<(), JournalError> {
        self.load(state)
    }

    fn begin(&mut self, state: &mut dyn DerivedState) -> Result<bool, JournalError> {
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
                forget_section(&section.name, state)?;
                state.put(key.bytes(), Some(&options))?;
                filling.insert(at);
            }
        }
        // Of sections that are gone.
        for key in known.into_keys() {
            if let Some(name) = key.get(1..key.len().saturating_sub(1))
                && let Ok(name) = std::str::from_utf8(name)
            {
                forget_section(name, state)?;
            }
            state.put(&key, None)?;
        }
        self.load(state)?;
        let is_filled = filling.is_empty();
        self.filling = (!is_filled).then_some(filling);
        Ok(!is_filled)
    }

    fn filled(&mut self) {
        self.filling = None;
    }
}

/// Removes the rows of a section.
fn forget_section(name: &str, state: &mut dyn DerivedState) -> Result<(), JournalError> {
    let nodes = keys::section(b'n', name);
    for_each(state, &nodes, |state, key, row| {
        if let Ok(node) = serde_json::from_slice::<NodeRow>(row)
            && let Some(path) = key.get(nodes.bytes().len()..key.len().saturating_sub(1))
            && let Ok(path) = std::str::from_utf8(path)
        {
            remove(state, &keys::owned(node.owner, name, path))?;
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

fn root_of(cause: &Cause) -> &str {
    cause.root.as_ref().map_or("", ZnodePath::as_str)
}

/// A subject with the last change that touched it, and all notes.
pub(crate) type Touched = (Subject, Cause, Vec<Note>);

/// Each subject once, in the order in which they were touched first.
fn subjects_of(touches: Vec<Touch>, state: &mut dyn DerivedState) -> Result<Vec<Touched>, JournalError> {
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
            if let Ok(row) = serde_json::from_slice::<InstanceRow>(row) {
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
fn defer(subject: &Subject, cause: &Cause, state: &mut dyn DerivedState) -> Result<(), JournalError> {
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
    put(state, &keys::deferred_at(root, number), &(subject, cause))
}

/// A registration within bounds, or one that is unreadable.
fn bounded(decoded: Decoded) -> Decoded {
    match decoded {
        Decoded::Live {
            service,
            instance,
            home,
            ..
        } if instance.len() > IDENTITY_BYTES_MAX => Decoded::Unreadable {
            service,
            instance: None,
            home,
            reason: format!("an identity of {} bytes", instance.len()),
        },
        Decoded::Live {
            service,
            instance,
            home,
            mut registration,
        } => {
            registration.cut();
            Decoded::Live {
                service,
                instance,
                home,
                registration,
            }
        }
        Decoded::Beside {
            service,
            instance,
            mut registration,
        } => {
            registration.cut();
            Decoded::Beside {
                service,
                instance,
                registration,
            }
        }
        other => other,
    }
}
