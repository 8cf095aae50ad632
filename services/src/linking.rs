//! Keeps the row of a znode and those that point to it, and notes the subjects that they touch.

use bridge_core::derive::{DerivedState, ObservedChange};
use bridge_core::journal::JournalError;
use bridge_core::number::{SessionId, Zxid};

use crate::decode::{Candidate, Decoded, Rule};
use crate::election::candidate_name;
use crate::group::Touch;
use crate::keys;
use crate::machine::{Note, Section, Subject};
use crate::registration::ServiceKey;
use crate::rows::{Cause, ElectionRow, Meaning, NodeRow, QueuedRow, get, put, remove};
use crate::speaking::Newest;

/// Keeps the rows of one znode and those that point to it.
pub(crate) struct Linking<'a> {
    pub(crate) section: &'a Section,
    pub(crate) path: &'a str,
    pub(crate) cause: &'a Cause,
    pub(crate) state: &'a mut dyn DerivedState,
    pub(crate) touches: &'a mut Vec<Touch>,
    pub(crate) newest: &'a mut Newest,
}

impl Linking<'_> {
    fn touch(&mut self, subject: Subject, note: Option<Note>) {
        let cause = self.cause.clone();
        self.touches.push(Touch { subject, cause, note });
    }

    fn name(&self) -> String {
        self.section.name.clone()
    }

    /// The znode is gone.
    pub(crate) fn unlink(&mut self, old: &NodeRow) -> Result<(), JournalError> {
        remove(self.state, &keys::node(&self.section.name, self.path))?;
        remove(self.state, &keys::owned(old.owner, &self.section.name, self.path))?;
        match &old.meaning {
            Some(meaning) => self.unlink_meaning(meaning, old.czxid),
            None => Ok(()),
        }
    }

    fn unlink_meaning(&mut self, meaning: &Meaning, czxid: Zxid) -> Result<(), JournalError> {
        let section = &self.section.name;
        match meaning {
            Meaning::Live {
                service, instance, ..
            } => {
                self.newest.forget(section, service, instance);
                remove(
                    self.state,
                    &keys::life(section, service, instance, czxid, self.path),
                )?;
                self.touch_instance(service, instance);
            }
            Meaning::Beside {
                service, instance, ..
            } => {
                remove(
                    self.state,
                    &keys::beside_at(section, service, instance, self.path),
                )?;
                self.touch_instance(service, instance);
            }
            Meaning::Rule { service, .. } => {
                let key = keys::rule(section, service, self.path);
                self.touch_rule(service, &key, None)?;
                remove(self.state, &key)?;
                self.touch_instances(service);
            }
            Meaning::Leader { election, .. } => {
                self.change_election(election, |row| {
                    row.leader_path = None;
                })?;
                self.touch_election(election, None, None);
            }
            Meaning::Candidate {
                election, candidate, ..
            } => {
                remove(
                    self.state,
                    &keys::candidate(section, election, &candidate.order, self.path),
                )?;
                self.change_election(election, |row| row.queue = row.queue.saturating_sub(1))?;
                let note = Note::Left(candidate_name(candidate, self.cause.owner));
                self.touch_election(election, Some(candidate), Some(note));
            }
        }
        Ok(())
    }

    /// The znode has this meaning now.
    pub(crate) fn apply(
        &mut self,
        old: Option<NodeRow>,
        change: &ObservedChange<'_>,
        decoded: Decoded,
    ) -> Result<(), JournalError> {
        let had = old.as_ref().and_then(|old| old.meaning.as_ref());
        let was_unreadable = old.as_ref().is_some_and(|old| old.is_unreadable);
        let since = old.as_ref().map_or(change.captured, |old| old.since);
        let mut row = NodeRow {
            czxid: change.czxid,
            owner: change.owner,
            since,
            meaning: None,
            is_unreadable: false,
            is_unread: change.data.is_none(),
        };
        let now = match (decoded, had) {
            // Only a registration that is deleted is gone.
            (Decoded::Nothing, Some(live @ Meaning::Live { .. })) => {
                self.unreadable(
                    &mut row,
                    Some(live.clone()),
                    was_unreadable,
                    "its data is empty".to_owned(),
                );
                return self.store(old, row);
            }
            (Decoded::Nothing, None) => match old {
                None => return Ok(()),
                Some(_) => None,
            },
            (Decoded::Nothing, Some(_)) => None,
            (Decoded::Waiting, had) => {
                row.meaning = had.cloned();
                return self.store(old, row);
            }
            (
                Decoded::Unreadable {
                    service,
                    instance,
                    home,
                    reason,
                },
                None,
            ) => {
                if !was_unreadable {
                    let section = self.name();
                    let subject = Subject::Unreadable {
                        section,
                        service,
                        instance,
                        home,
                        path: self.path.to_owned(),
                        reason,
                    };
                    self.touch(subject, None);
                }
                row.is_unreadable = true;
                return self.store(old, row);
            }
            (Decoded::Unreadable { reason, .. }, Some(had)) => {
                self.unreadable(&mut row, Some(had.clone()), was_unreadable, reason);
                return self.store(old, row);
            }
            (
                Decoded::Live {
                    service,
                    instance,
                    home,
                    registration,
                },
                _,
            ) => Some(Meaning::Live {
                service,
                instance,
                home,
                registration,
            }),
            (
                Decoded::Beside {
                    service,
                    instance,
                    registration,
                },
                _,
            ) => Some(Meaning::Beside {
                service,
                instance,
                registration,
            }),
            (Decoded::Rule { service, rule }, _) => Some(Meaning::Rule { service, rule }),
            (
                Decoded::Leader {
                    election,
                    service,
                    leader,
                },
                _,
            ) => Some(Meaning::Leader {
                election,
                service,
                leader,
            }),
            (
                Decoded::Candidate {
                    election,
                    service,
                    candidate,
                },
                _,
            ) => Some(Meaning::Candidate {
                election,
                service,
                candidate,
            }),
        };
        // One that could never be read comes up.
        let lost = |old: &NodeRow| old.is_unreadable && matches!(old.meaning, Some(Meaning::Live { .. }));
        if let Some(Meaning::Live {
            service,
            instance,
            home,
            ..
        }) = &now
            && old.as_ref().is_some_and(lost)
        {
            let subject = Subject::Readable {
                section: self.name(),
                service: service.clone(),
                instance: instance.clone(),
                home: home.clone(),
                path: self.path.to_owned(),
            };
            self.touch(subject, None);
        }
        row.meaning = now;
        if let Some(old) = &old {
            if *old == row {
                return Ok(());
            }
            self.relink(old, &row)?;
        } else if let Some(meaning) = &row.meaning {
            self.link(meaning, &row, true)?;
        }
        self.store(old, row)
    }

    /// Writes the rows that point to a znode whose meaning has changed.
    fn relink(&mut self, old: &NodeRow, row: &NodeRow) -> Result<(), JournalError> {
        match (&old.meaning, &row.meaning) {
            (Some(had), Some(now)) if is_same_subject(had, now) => self.link(now, row, false),
            (
                Some(Meaning::Live {
                    service,
                    instance: from,
                    ..
                }),
                Some(now @ Meaning::Live { instance: to, .. }),
            ) => {
                self.newest.forget(&self.section.name, service, from);
                remove(
                    self.state,
                    &keys::life(&self.section.name, service, from, old.czxid, self.path),
                )?;
                // The registration that takes the old identity comes after the one that left it.
                if !self.rename(service, from, to, old.czxid)? {
                    self.touch_instance(service, from);
                }
                self.link(now, row, true)
            }
            (had, now) => {
                if let Some(had) = had {
                    self.unlink_meaning(had, old.czxid)?;
                }
                match now {
                    Some(now) => self.link(now, row, true),
                    None => Ok(()),
                }
            }
        }
    }

    fn link(&mut self, meaning: &Meaning, row: &NodeRow, is_new: bool) -> Result<(), JournalError> {
        let section = &self.section.name;
        match meaning {
            Meaning::Live {
                service, instance, ..
            } => {
                if is_new {
                    self.newest.forget(section, service, instance);
                    let key = keys::life(section, service, instance, row.czxid, self.path);
                    self.state.put(key.bytes(), Some(self.path.as_bytes()))?;
                }
                self.touch_instance(service, instance);
            }
            Meaning::Beside {
                service,
                instance,
                registration,
            } => {
                let key = keys::beside_at(section, service, instance, self.path);
                put(self.state, &key, registration)?;
                self.touch_instance(service, instance);
            }
            Meaning::Rule { service, rule } => {
                let key = keys::rule(section, service, self.path);
                self.touch_rule(service, &key, Some(rule))?;
                put(self.state, &key, rule)?;
                self.touch_instances(service);
            }
            Meaning::Leader {
                election, service, ..
            } => {
                let path = self.path.to_owned();
                let service = service.clone();
                self.change_election(election, |row| {
                    row.leader_path = Some(path);
                    row.service = service;
                })?;
                self.touch_election(election, None, None);
            }
            Meaning::Candidate {
                election,
                service,
                candidate,
            } => {
                let key = keys::candidate(section, election, &candidate.order, self.path);
                let queued = QueuedRow {
                    path: self.path.to_owned(),
                    czxid: row.czxid,
                    owner: row.owner,
                    since: row.since,
                    candidate: candidate.clone(),
                };
                put(self.state, &key, &queued)?;
                let service = service.clone();
                self.change_election(election, |row| {
                    row.queue += u64::from(is_new);
                    row.service = service;
                })?;
                let joined = || Note::Joined(candidate_name(candidate, row.owner));
                self.touch_election(election, Some(candidate), is_new.then(joined));
            }
        }
        Ok(())
    }

    fn store(&mut self, old: Option<NodeRow>, row: NodeRow) -> Result<(), JournalError> {
        if old.as_ref() == Some(&row) {
            return Ok(());
        }
        let section = &self.section.name;
        let owner = old.as_ref().map(|old| old.owner);
        if owner != Some(row.owner) {
            // Nobody had read the znode before.
            if let Some(before) = owner {
                remove(self.state, &keys::owned(before, section, self.path))?;
            }
            if row.owner != SessionId::NONE {
                self.state
                    .put(keys::owned(row.owner, section, self.path).bytes(), Some(&[]))?;
            }
        }
        put(self.state, &keys::node(section, self.path), &row)
    }

    fn unreadable(&mut self, row: &mut NodeRow, had: Option<Meaning>, was_unreadable: bool, reason: String) {
        if let (
            false,
            Some(Meaning::Live {
                service,
                instance,
                home,
                ..
            }),
        ) = (was_unreadable, &had)
        {
            let subject = Subject::Unreadable {
                section: self.name(),
                service: service.clone(),
                instance: Some(instance.clone()),
                home: home.clone(),
                path: self.path.to_owned(),
                reason,
            };
            self.touch(subject, None);
        }
        row.meaning = had;
        row.is_unreadable = true;
    }

    fn change_election(
        &mut self,
        election: &str,
        change: impl FnOnce(&mut ElectionRow),
    ) -> Result<(), JournalError> {
        let key = keys::election(&self.section.name, election);
        let mut row: ElectionRow = get(self.state, &key)?.unwrap_or_default();
        change(&mut row);
        put(self.state, &key, &row)
    }

    fn touch_instance(&mut self, service: &ServiceKey, instance: &str) {
        let subject = Subject::Instance {
            section: self.name(),
            service: service.clone(),
            instance: instance.to_owned(),
        };
        self.touch(subject, None);
    }

    fn touch_instances(&mut self, service: &str) {
        let subject = Subject::Instances {
            section: self.name(),
            service: service.to_owned(),
        };
        self.touch(subject, None);
    }

    /// Before the row of a rule is changed.
    fn touch_rule(&mut self, service: &str, key: &keys::Key, to: Option<&Rule>) -> Result<(), JournalError> {
        if !self.section.decoder.config.rule_events {
            return Ok(());
        }
        let from: Option<Rule> = get(self.state, key)?;
        // Its other effects are not known here.
        let switches_off = [from.as_ref(), to]
            .into_iter()
            .flatten()
            .any(|rule| rule.disables);
        if switches_off && from.as_ref() != to {
            let subject = Subject::Rule {
                section: self.name(),
                service: service.to_owned(),
                path: self.path.to_owned(),
                from,
                to: to.cloned(),
            };
            self.touch(subject, None);
        }
        Ok(())
    }

    fn touch_election(&mut self, election: &str, candidate: Option<&Candidate>, note: Option<Note>) {
        let (section, election) = (self.name(), election.to_owned());
        let subject = match candidate.is_some_and(|candidate| candidate.is_lock) {
            true => Subject::Lock { section, election },
            false => Subject::Election { section, election },
        };
        self.touch(subject, note);
    }
}

/// Whether the rows that point to a znode stay where they are.
fn is_same_subject(had: &Meaning, now: &Meaning) -> bool {
    match (had, now) {
        // The service is in the path.
        (Meaning::Live { instance, .. }, Meaning::Live { instance: named, .. }) => instance == named,
        (
            Meaning::Beside {
                service, instance, ..
            },
            Meaning::Beside {
                service: of,
                instance: named,
                ..
            },
        ) => service == of && instance == named,
        (Meaning::Rule { service, .. }, Meaning::Rule { service: of, .. }) => service == of,
        (Meaning::Leader { election, .. }, Meaning::Leader { election: of, .. }) => election == of,
        (
            Meaning::Candidate {
                election, candidate, ..
            },
            Meaning::Candidate {
                election: of,
                candidate: named,
                ..
            },
        ) => election == of && candidate.order == named.order && candidate.is_lock == named.is_lock,
        _ => false,
    }
}
