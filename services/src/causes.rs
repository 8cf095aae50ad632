//! Why a registration is gone, as far as ZooKeeper says.

use std::collections::BTreeMap;

use bridge_core::derive::DerivedState;
use bridge_core::journal::JournalError;
use bridge_core::number::SessionId;
use bridge_core::record::{DownCause, Fidelity, TxnKind};

use crate::keys;
use crate::rows::Cause;

/// The deletes of ephemeral znodes in one transaction, by owner.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletes(BTreeMap<SessionId, u64>);

impl Deletes {
    /// Counts a delete.
    pub(crate) fn count(&mut self, owner: SessionId) {
        if owner != SessionId::NONE {
            *self.0.entry(owner).or_default() += 1;
        }
    }

    /// Why the znode of this delete is gone.
    ///
    /// ```text
    /// persistent                                             deregistered
    /// the transaction is known                               session_ended, or deregistered
    /// found by comparing, or its zxid is not exact           unknown
    /// another ephemeral znode of the owner stays             deregistered
    /// two or more of the owner go at once, and none stays    session_ended
    /// otherwise                                              unknown
    /// ```
    ///
    /// # Errors
    ///
    /// If the rows cannot be read.
    pub(crate) fn cause(
        &self,
        cause: &Cause,
        state: &mut dyn DerivedState,
    ) -> Result<DownCause, JournalError> {
        if cause.owner == SessionId::NONE {
            return Ok(DownCause::Deregistered);
        }
        match cause.txn {
            Some(TxnKind::CloseSession) => return Ok(DownCause::SessionEnded),
            Some(_) => return Ok(DownCause::Deregistered),
            None => {}
        }
        if cause.fidelity == Fidelity::Reconciled || cause.zxid.is_none() {
            return Ok(DownCause::Unknown);
        }
        let others = state.scan(keys::owned_by(cause.owner).bytes(), None, 1)?;
        Ok(match (others.is_empty(), self.0.get(&cause.owner)) {
            (false, _) => DownCause::Deregistered,
            (true, Some(2..)) => DownCause::SessionEnded,
            (true, _) => DownCause::Unknown,
        })
    }
}
