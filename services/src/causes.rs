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
pub(crate) struct Deletes {
    /// The znode of an owner; `None` once there are more.
    gone: BTreeMap<SessionId, Option<Box<str>>>,
    /// Not all of them are known, or more may come.
    pub(crate) is_partial: bool,
}

impl Deletes {
    /// Counts a delete, once for all sections that have the znode.
    pub(crate) fn count(&mut self, owner: SessionId, path: &str) {
        if owner == SessionId::NONE {
            return;
        }
        let first = self.gone.entry(owner).or_insert_with(|| Some(path.into()));
        if first.as_deref() != Some(path) {
            *first = None;
        }
    }

    /// Why the znode of this delete is gone, at the end of its transaction.
    ///
    /// ```text
    /// persistent                                             deregistered
    /// the transaction is known                               session_ended, or deregistered
    /// found by comparing, or its zxid is not exact           unknown
    /// another ephemeral znode of the owner stays             deregistered; unknown if not all of the transaction was seen
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
        let are_several = self.gone.get(&cause.owner).is_some_and(Option::is_none);
        Ok(match (others.is_empty(), are_several) {
            (false, _) if self.is_partial => DownCause::Unknown,
            (false, _) => DownCause::Deregistered,
            (true, true) => DownCause::SessionEnded,
            (true, false) => DownCause::Unknown,
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
        assert_eq!(deletes.gone[&owner].as_deref(), Some("/a"));
        for path in ["/b", "/a"] {
            deletes.count(owner, path);
            assert_eq!(deletes.gone[&owner], None);
        }
        deletes.count(SessionId::NONE, "/c");
        assert_eq!(deletes.gone.len(), 1);
    }
}
