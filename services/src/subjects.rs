//! Announces the subjects of a transaction or of a gap, each by its kind, and the services after their instances.

use std::collections::BTreeMap;

use bridge_core::journal::JournalError;
use bridge_core::record::{FieldChange, ServiceEvent, ServiceEventType};

use crate::announce::{Announcer, liveness, session};
use crate::batches::{DeferredService, Touched};
use crate::decode::Rule;
use crate::keys;
use crate::machine::{Note, Subject};
use crate::registration::ServiceKey;
use crate::rows::{Cause, NodeRow, ServiceRow, get, put, root_of};

impl Announcer<'_> {
    /// Announces a subject of a transaction. A service comes after the last of its instances, of which `left` are left.
    pub(crate) fn transaction(
        &mut self,
        (subject, cause, notes): Touched,
        left: &mut BTreeMap<(String, ServiceKey), usize>,
    ) -> Result<(), JournalError> {
        let Subject::Instance {
            section,
            service,
            instance,
        } = subject
        else {
            return self.subject(subject, &cause, notes);
        };
        let Some(at) = self.section(&section) else {
            return Ok(());
        };
        self.instance(at, &service, &instance, &cause)?;
        if left.is_empty() {
            return self.service(at, &service, &cause);
        }
        let key = (section, service);
        if let Some(count) = left.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.service(at, &key.1, &cause)?;
            }
        }
        Ok(())
    }

    /// Announces a subject at the end of a gap. The services come after all instances.
    pub(crate) fn deferred(&mut self, subject: Subject, cause: Cause) -> Result<(), JournalError> {
        let Subject::Instance {
            section,
            service,
            instance,
        } = subject
        else {
            return self.subject(subject, &cause, Vec::new());
        };
        let Some(at) = self.section(&section) else {
            return Ok(());
        };
        self.instance(at, &service, &instance, &cause)?;
        let row: Option<ServiceRow> = get(self.state, &keys::service(&section, &service))?;
        if row.is_some_and(|row| row.is_available != (row.available > 0)) {
            let key = keys::deferred_service(root_of(&cause), &section, &service);
            let deferred = DeferredService {
                section,
                service,
                cause,
            };
            put(self.state, &key, &deferred)?;
        }
        Ok(())
    }

    /// Announces what is no instance.
    fn subject(&mut self, subject: Subject, cause: &Cause, notes: Vec<Note>) -> Result<(), JournalError> {
        match subject {
            Subject::Unreadable {
                section,
                service,
                instance,
                home,
                path,
                reason,
            } => {
                let Some(found) = self.section(&section) else {
                    return Ok(());
                };
                // It may be gone or readable again at the end of the transaction or the gap.
                let node: Option<NodeRow> = get(self.state, &keys::node(&section, &path))?;
                if node.is_none_or(|node| !node.is_unreadable) {
                    return Ok(());
                }
                let mut event = self.event(ServiceEventType::RegistrationUnreadable, found, cause);
                of_registration(&mut event, &service, instance, cause);
                event.reason = Some(reason);
                self.push(event, &home, cause, "");
                Ok(())
            }
            Subject::Readable {
                section,
                service,
                instance,
                home,
                path,
            } => {
                let Some(found) = self.section(&section) else {
                    return Ok(());
                };
                // It may be gone or unreadable again at the end of the transaction or the gap.
                let node: Option<NodeRow> = get(self.state, &keys::node(&section, &path))?;
                if node.is_none_or(|node| node.is_unreadable) {
                    return Ok(());
                }
                let mut event = self.event(ServiceEventType::RegistrationReadable, found, cause);
                of_registration(&mut event, &service, Some(instance), cause);
                self.push(event, &home, cause, "");
                Ok(())
            }
            Subject::Election { section, election } => match self.section(&section) {
                Some(found) => self.election(found, &election, cause, notes),
                None => Ok(()),
            },
            Subject::Lock { section, election } => match self.section(&section) {
                Some(found) => self.lock(found, &election, cause),
                None => Ok(()),
            },
            Subject::Rule {
                section,
                service,
                path,
                from,
                to,
            } => {
                let Some(found) = self.section(&section) else {
                    return Ok(());
                };
                // At the end of a gap it may be yet another one.
                let now: Option<Rule> = get(self.state, &keys::rule(&section, &service, &path))?;
                if now != to {
                    return Ok(());
                }
                let mut event = self.event(ServiceEventType::RuleChanged, found, cause);
                event.changes = vec![FieldChange {
                    field: "rule".to_owned(),
                    from: serde_json::to_value(from).unwrap_or_default(),
                    to: serde_json::to_value(to).unwrap_or_default(),
                }];
                let home = self.sections[found].decoder.at_base(&service);
                event.service = service;
                self.push(event, &home, cause, &path);
                Ok(())
            }
            // Their instances are in their places; flaps have a time and no change.
            Subject::Instances { .. } | Subject::Instance { .. } | Subject::Flaps { .. } => Ok(()),
        }
    }
}

/// The subject of an event that is about a registration and not its facts.
fn of_registration(event: &mut ServiceEvent, service: &ServiceKey, instance: Option<String>, cause: &Cause) {
    event.service.clone_from(&service.name);
    event.group.clone_from(&service.group);
    event.version.clone_from(&service.version);
    event.instance = instance;
    event.session = session(cause.owner);
    event.liveness = Some(liveness(cause.owner));
}
