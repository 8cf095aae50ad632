//! Counts the available instances of a service, and announces the first and the end of the last.

use bridge_core::journal::JournalError;
use bridge_core::record::ServiceEventType;

use crate::announce::Announcer;
use crate::keys;
use crate::registration::ServiceKey;
use crate::rows::{Cause, ServiceRow, get, put, remove};

impl Announcer<'_> {
    /// Counts an instance of a service as available or not, if that has changed. A listing makes a service available
    /// without an event.
    pub(crate) fn count(
        &mut self,
        at: usize,
        service: &ServiceKey,
        home: &str,
        was: u64,
        is: u64,
        is_listed: bool,
    ) -> Result<(), JournalError> {
        if was == is && !is_listed {
            return Ok(());
        }
        let key = keys::service(&self.sections[at].name, service);
        let found: Option<ServiceRow> = get(self.state, &key)?;
        let mut row = found.clone().unwrap_or_default();
        row.available = (row.available + is).saturating_sub(was);
        row.is_available |= is_listed && row.available > 0;
        if row.home.is_empty() {
            home.clone_into(&mut row.home);
        }
        match found.as_ref() == Some(&row) {
            true => Ok(()),
            false => put(self.state, &key, &row),
        }
    }

    /// Announces that a service is available or not, if that has changed.
    pub(crate) fn service(
        &mut self,
        at: usize,
        service: &ServiceKey,
        cause: &Cause,
    ) -> Result<(), JournalError> {
        let key = keys::service(&self.sections[at].name, service);
        let Some(mut row) = get::<ServiceRow>(self.state, &key)? else {
            return Ok(());
        };
        let is_available = row.available > 0;
        if row.is_available == is_available {
            return Ok(());
        }
        let kind = match is_available {
            true => ServiceEventType::ServiceAvailable,
            false => ServiceEventType::ServiceUnavailable,
        };
        let mut event = self.event(kind, at, cause);
        event.service.clone_from(&service.name);
        event.group.clone_from(&service.group);
        event.version.clone_from(&service.version);
        event.path.clone_from(&row.home);
        event.instances = Some(row.available);
        self.push(event, &row.home, cause, "");
        row.is_available = is_available;
        match is_available {
            true => put(self.state, &key, &row),
            false => remove(self.state, &key),
        }
    }
}
