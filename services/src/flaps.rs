//! Instances that come and go all the time: after some downs within [`WINDOW_MS`] an event says so, and the next
//! `instance.up` waits until the instance has stayed that long. Thousands of flaps are a bounded number of events.
//!
//! *Invariants.* A `down` is never held back here, and `up` never comes before it: whoever counts ups and downs is right.
//! An instance has one row, for [`WINDOW_MS`] after its last change.

use bridge_core::journal::JournalError;
use bridge_core::record::{Op, ServiceEventType};
use serde::{Deserialize, Serialize};

use crate::announce::Announcer;
use crate::config::FlapLimit;
use crate::deadlines::Deadlines;
use crate::keys;
use crate::machine::Subject;
use crate::registration::ServiceKey;
use crate::rows::{Cause, InstanceRow, Row, get, put, remove};

/// The time in which downs are counted, and in which a flapping instance must stay.
pub(crate) const WINDOW_MS: i64 = 10 * 60 * 1_000;

/// The downs of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FlapRow {
    /// When it went, in milliseconds since 1970: fewer than the limit of its section.
    downs: Vec<i64>,
    /// Its `instance.up` waits.
    pub(crate) is_held: bool,
    /// When the row ends, and the wait.
    due: i64,
    /// The last change.
    cause: Cause,
}

impl Row for FlapRow {}

impl Announcer<'_> {
    /// Counts a `down` that was announced.
    pub(crate) fn count_flap(
        &mut self,
        at: usize,
        row: &InstanceRow,
        cause: &Cause,
    ) -> Result<(), JournalError> {
        let FlapLimit(limit) = self.sections[at].decoder.config.flap_limit;
        if limit == 0 {
            return Ok(());
        }
        let key = keys::flaps(&self.sections[at].name, &row.service, &row.instance);
        let found: Option<FlapRow> = get(self.state, &key)?;
        let now = cause.time.captured.0;
        let mut downs = found
            .as_ref()
            .map(|found| found.downs.clone())
            .unwrap_or_default();
        downs.retain(|down| down.saturating_add(WINDOW_MS) > now);
        downs.push(now);
        let is_held = downs.len() as u64 >= u64::from(limit);
        if is_held {
            let mut event = self.event(ServiceEventType::InstanceFlapping, at, cause);
            event.service.clone_from(&row.service.name);
            event.group.clone_from(&row.service.group);
            event.version.clone_from(&row.service.version);
            event.instance = Some(row.instance.clone());
            event.downs = Some(downs.len() as u64);
            self.push(event, &row.home, cause, &row.instance);
            downs.clear();
        }
        self.store_flaps(at, &row.service, &row.instance, found, downs, is_held, cause)
    }

    /// Whether the `up` of an instance waits. A come or go begins the wait anew.
    pub(crate) fn is_held(
        &mut self,
        at: usize,
        service: &ServiceKey,
        instance: &str,
        cause: &Cause,
    ) -> Result<bool, JournalError> {
        let section = &self.sections[at];
        if section.decoder.config.flap_limit == FlapLimit(0) {
            return Ok(false);
        }
        let key = keys::flaps(&section.name, service, instance);
        let Some(found) = get::<FlapRow>(self.state, &key)?.filter(|found| found.is_held) else {
            return Ok(false);
        };
        if cause.op != Op::Update {
            self.store_flaps(at, service, instance, Some(found), Vec::new(), true, cause)?;
        }
        Ok(true)
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a row and of its key")]
    fn store_flaps(
        &mut self,
        at: usize,
        service: &ServiceKey,
        instance: &str,
        before: Option<FlapRow>,
        downs: Vec<i64>,
        is_held: bool,
        cause: &Cause,
    ) -> Result<(), JournalError> {
        let section = self.sections[at].name.clone();
        let key = keys::flaps(&section, service, instance);
        let subject = Subject::Flaps {
            section,
            service: service.clone(),
            instance: instance.to_owned(),
        };
        if let Some(before) = before {
            Deadlines::release_at(&subject, before.due, &before.cause, self.state)?;
        }
        let due = cause.time.captured.0.saturating_add(WINDOW_MS);
        self.hold_back(&subject, due, cause)?;
        let row = FlapRow {
            downs,
            is_held,
            due,
            cause: cause.clone(),
        };
        put(self.state, &key, &row)
    }

    /// The time of a row is over: the instance has stayed, or has not come back.
    pub(crate) fn end_flaps(
        &mut self,
        at: usize,
        service: &ServiceKey,
        instance: &str,
        due: i64,
    ) -> Result<(), JournalError> {
        let key = keys::flaps(&self.sections[at].name, service, instance);
        let Some(row) = get::<FlapRow>(self.state, &key)?.filter(|row| row.due == due) else {
            return Ok(());
        };
        remove(self.state, &key)?;
        if !row.is_held {
            return Ok(());
        }
        self.instance(at, service, instance, &row.cause)?;
        self.service(at, service, &row.cause)
    }
}
