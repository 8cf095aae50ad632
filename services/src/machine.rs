//! The machine: takes changes, keeps the rows of znodes, and notes the subjects that a transaction has touched.

use std::collections::BTreeSet;

use bridge_core::derive::{
    Begun, Derivation, DerivationMark, DerivedEvent, DerivedState, InstanceCount, ObservedChange,
    RestOfTransaction,
};
use bridge_core::journal::JournalError;
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Timestamp};
use serde::{Deserialize, Serialize};

use crate::announce::Announcer;
use crate::batches::{Announcing, defer, of_transaction, subjects_of};
use crate::causes::Deletes;
use crate::config::ServiceConfig;
use crate::deadlines::Deadlines;
use crate::decode::{Decoded, Decoder, Payload, Rule, Znode};
use crate::group::Group;
use crate::keys;
use crate::levels::Levels;
use crate::linking::Linking;
use crate::registration::ServiceKey;
use crate::rows::{Cause, InstanceRow, NodeRow, Row, for_each, get, root_of};
use crate::speaking::Newest;

/// A longer identity is no identity.
const IDENTITY_BYTES_MAX: usize = 1_024;

/// Batches without an event that one tick takes.
const SILENT_BATCHES_MAX: usize = 16;

/// Derives service events from the changes of one source.
pub struct ServiceMachine {
    cluster: String,
    pub(crate) sections: Vec<Section>,
    group: Group,
    /// The subjects of the last transaction, gap or listing that are still to be announced.
    pub(crate) announcing: Option<Announcing>,
    /// The roots with an open gap.
    gaps: BTreeSet<String>,
    /// The roots that are being listed.
    listings: BTreeSet<String>,
    deadlines: Deadlines,
    levels: Levels,
    newest: Newest,
    /// The sections that take the tree as it is, while they are filled.
    filling: Option<BTreeSet<usize>>,
}

/// One section, compiled.
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) decoder: Decoder,
    pub(crate) grace_ms: i64,
}

/// Someone joined or left a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The downs of an instance that are remembered.
    Flaps {
        section: String,
        service: ServiceKey,
        instance: String,
    },
    /// A rule that became another one.
    Rule {
        section: String,
        service: String,
        path: String,
        from: Option<Rule>,
        to: Option<Rule>,
    },
    Unreadable {
        section: String,
        service: ServiceKey,
        instance: Option<String>,
        home: String,
        path: String,
        reason: String,
    },
    /// A registration that could not be read before.
    Readable {
        section: String,
        service: ServiceKey,
        instance: String,
        home: String,
        path: String,
    },
}

impl Row for Subject {}

impl Subject {
    /// Its key.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("a subject has only texts")
    }

    pub(crate) fn is_once(&self) -> bool {
        !matches!(self, Subject::Unreadable { .. } | Subject::Rule { .. })
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
            announcing: None,
            deadlines: Deadlines::default(),
            levels: Levels::default(),
            newest: Newest::default(),
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
            newest: &mut self.newest,
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

    /// An announcer for events of this machine.
    pub(crate) fn announcer<'a>(
        &'a mut self,
        deletes: &'a Deletes,
        state: &'a mut dyn DerivedState,
        is_gap: bool,
    ) -> Announcer<'a> {
        Announcer {
            cluster: &self.cluster,
            sections: &self.sections,
            deletes,
            deadlines: &mut self.deadlines,
            levels: &mut self.levels,
            newest: &mut self.newest,
            state,
            events: Vec::new(),
            is_gap,
        }
    }

    /// Announces what waited for the rest of its transaction when the last process ended, before rows of other options are
    /// removed.
    fn resume(&mut self, state: &mut dyn DerivedState) -> Result<Vec<DerivedEvent>, JournalError> {
        if state.scan(keys::all(keys::TOUCHES).bytes(), None, 1)?.is_empty() {
            return Ok(Vec::new());
        }
        self.load(state)?;
        let mut events = self.complete(RestOfTransaction::Lost, state)?;
        while self.has_more() {
            events.extend(self.more(state)?);
        }
        Ok(events)
    }

    fn load(&mut self, state: &mut dyn DerivedState) -> Result<(), JournalError> {
        self.group = Group::load(state)?;
        self.announcing = None;
        self.newest.clear();
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
            if let Some(row) = InstanceRow::of_bytes(row)
                && let Some(announced) = row.announced
            {
                levels.moved(&row.service.name, None, Some(announced.registration.status));
            }
            Ok(())
        })?;
        self.deadlines.load(state)
    }
}

impl Derivation for ServiceMachine {
    fn covers(&self, path: &str) -> bool {
        self.sections.iter().any(|section| section.decoder.covers(path))
    }

    fn is_ended_by(&self, zxid: Option<Zxid>) -> bool {
        self.group.is_ended_by(zxid)
    }

    fn change(
        &mut self,
        change: &ObservedChange<'_>,
        state: &mut dyn DerivedState,
    ) -> Result<(), JournalError> {
        self.group.begin_change(change);
        let before = self.group.touches.len();
        for at in 0..self.sections.len() {
            let is_filled = self.filling.as_ref().is_none_or(|filling| filling.contains(&at));
            if is_filled && self.sections[at].decoder.covers(change.path) && change.op != Op::Acl {
                self.take(at, change, state)?;
            }
        }
        self.group.end_change(change, before);
        Ok(())
    }

    fn complete(
        &mut self,
        rest: RestOfTransaction,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError> {
        let (touches, deletes) = self.group.take(rest, state)?;
        if touches.is_empty() {
            return Ok(Vec::new());
        }
        let subjects = subjects_of(touches, state)?;
        let (later, now): (Vec<_>, Vec<_>) = subjects
            .into_iter()
            .partition(|(subject, cause, _)| self.must_wait(subject, cause));
        for (subject, cause, _) in later {
            defer(&subject, &cause, state)?;
        }
        self.announcing = of_transaction(now, deletes);
        self.next_batch(state)
    }

    fn waits(&self) -> bool {
        self.group.waits()
    }

    fn has_waited(&self, now: Timestamp) -> bool {
        self.group.has_waited(now)
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
        // A listing inside of a gap ends before it.
        if self.gaps.contains(root) {
            return Ok(Vec::new());
        }
        self.announcing = Some(Announcing::Deferred(root.to_owned()));
        self.next_batch(state)
    }

    fn has_more(&self) -> bool {
        self.announcing.is_some()
    }

    fn more(&mut self, state: &mut dyn DerivedState) -> Result<Vec<DerivedEvent>, JournalError> {
        self.next_batch(state)
    }

    fn has_due(&self, now: Timestamp) -> bool {
        self.deadlines.has_due(now.0, &self.gaps)
    }

    fn due(
        &mut self,
        now: Timestamp,
        state: &mut dyn DerivedState,
    ) -> Result<Vec<DerivedEvent>, JournalError> {
        let deletes = Deletes::default();
        // Most of those that end without an event are counts of flaps: they hold up no event.
        for _ in 0..SILENT_BATCHES_MAX {
            let due = self.deadlines.take_due(now.0, &self.gaps, state)?;
            if due.is_empty() {
                break;
            }
            let mut announcer = self.announcer(&deletes, state, false);
            for due in due {
                announcer.fire(&due.subject, due.at)?;
            }
            if !announcer.events.is_empty() {
                return Ok(announcer.with_summaries());
            }
        }
        Ok(Vec::new())
    }

    fn instances(&mut self) -> Option<Vec<InstanceCount>> {
        self.levels.take()
    }

    fn forget(&mut self, state: &mut dyn DerivedState) -> Result<(), JournalError> {
        self.load(state)
    }

    fn begin(&mut self, state: &mut dyn DerivedState) -> Result<Begun, JournalError> {
        Deadlines::migrate(state)?;
        let events = self.resume(state)?;
        let filling = self.compare_options(state)?;
        self.load(state)?;
        let must_fill = !filling.is_empty();
        self.filling = must_fill.then_some(filling);
        Ok(Begun { must_fill, events })
    }

    fn filled(&mut self) {
        self.filling = None;
    }
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
