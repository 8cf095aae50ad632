//! Why a registration is gone, as far as ZooKeeper says.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::derive::DerivedState;
use bridge_core::journal::JournalError;
use bridge_core::number::SessionId;
use bridge_core::record::{DownCause, Fidelity, TxnKind};

use crate::keys;
use crate::rows::Cause;

/// The deletes of ephemeral znodes in one transaction, by owner.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletes(BTreeMap<SessionId, BTreeSet<Box<str>>>);

impl Deletes {
    /// Counts a delete, once for all sections that have the znode.
    pub(crate) fn count(&mut self, owner: SessionId, path: &str) {
        if owner != SessionId::NONE {
            self.0.entry(owner).or_default().insert(path.into());
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
    /// otherwise, or nobody has read the znode                unknown
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
        if cause.owner == SessionId::NONE && !cause.is_unread {
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
        let gone = self.0.get(&cause.owner).map_or(0, BTreeSet::len);
        Ok(match (others.is_empty(), gone) {
            (false, _) => DownCause::Deregistered,
            (true, 2..) => DownCause::SessionEnded,
            (true, _) => DownCause::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_znode_of_several_sections_is_one_delete() {
        let owner = SessionId(7);
        let mut deletes = Deletes::default();
        deletes.count(owner, "/a");
        deletes.count(owner, "/a");
        assert_eq!(deletes.0[&owner].len(), 1);
        deletes.count(owner, "/b");
        deletes.count(SessionId::NONE, "/c");
        assert_eq!((deletes.0[&owner].len(), deletes.0.len()), (2, 1));
    }
}
