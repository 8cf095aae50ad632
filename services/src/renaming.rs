//! A registration whose identity is its address, or else in its bytes, and that takes another one.
//!
//! The instance goes along where nobody else has the new identity: its row is moved in the transaction of the change, so
//! that the identity before is free for another registration, and `instance.changed` names both. Where another
//! registration has the new identity or keeps the one before, each identity is announced for itself.

use bridge_core::journal::JournalError;
use bridge_core::number::Zxid;

use crate::flaps::FlapRow;
use crate::keys;
use crate::linking::Linking;
use crate::registration::ServiceKey;
use crate::rows::{InstanceRow, get, put, remove};

impl Linking<'_> {
    /// Moves the row of an instance that this registration alone keeps. Its row in the lives of `from` is removed, and not
    /// yet in those of `to`. Returns whether the instance has gone along.
    pub(crate) fn rename(
        &mut self,
        service: &ServiceKey,
        from: &str,
        to: &str,
        czxid: Zxid,
    ) -> Result<bool, JournalError> {
        let section = &self.section.name;
        for instance in [from, to] {
            let lives = keys::lives(section, service, instance);
            if !self.state.scan(lives.bytes(), None, 1)?.is_empty() {
                return Ok(false);
            }
        }
        let target = keys::instance(section, service, to);
        let flaps: Option<FlapRow> = get(self.state, &keys::flaps(section, service, to))?;
        if flaps.is_some_and(|row| row.is_held) || self.state.get(target.bytes())?.is_some() {
            return Ok(false);
        }
        let key = keys::instance(section, service, from);
        let Some(mut row) = get::<InstanceRow>(self.state, &key)? else {
            return Ok(false);
        };
        let is_own = |row: &InstanceRow| {
            let announced = row.announced.as_ref();
            announced.is_some_and(|announced| announced.path == self.path && announced.czxid == czxid)
        };
        if row.pending.is_some() || !is_own(&row) {
            return Ok(false);
        }
        remove(self.state, &key)?;
        // The name that was said last.
        let said = row.renamed_from.take().unwrap_or_else(|| from.to_owned());
        row.renamed_from = Some(said).filter(|said| said != to);
        to.clone_into(&mut row.instance);
        put(self.state, &target, &row)?;
        Ok(true)
    }
}
