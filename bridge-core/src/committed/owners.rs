//! The clients and users of sessions, as far as the source has learned them.
//!
//! A record has what is known when it is appended. What comes later changes no record.

use std::sync::Arc;

use hashlink::LruCache;

use super::net::NetEffect;
use super::txn::{CommittedTxn, TxnContent};
use crate::number::SessionId;
use crate::source::SessionOwner;

/// Sessions that are remembered: more than the connections of any server. The least used are forgotten.
const REMEMBERED_MAX: usize = 65_536;

/// The known owner of each session.
#[derive(Debug)]
pub(super) struct SessionOwners(LruCache<SessionId, KnownOwner>);

#[derive(Clone, Debug)]
struct KnownOwner {
    client: Option<Arc<str>>,
    user: Option<Arc<str>>,
}

impl Default for SessionOwners {
    fn default() -> SessionOwners {
        SessionOwners(LruCache::new(REMEMBERED_MAX))
    }
}

impl SessionOwners {
    /// Takes what has become known.
    pub(super) fn learn(&mut self, owners: Vec<SessionOwner>) {
        for owner in owners {
            let SessionOwner {
                session,
                client,
                user,
            } = owner;
            self.0.insert(session, KnownOwner { client, user });
        }
    }

    /// Names the client and the user of a transaction in its records.
    pub(super) fn name(&mut self, txn: &CommittedTxn, effect: &mut NetEffect) {
        if self.0.is_empty() || effect.changes.is_empty() {
            return;
        }
        let Some(owner) = self.0.get(&txn.session) else {
            return;
        };
        for (_, change) in &mut effect.changes {
            if let Some(about) = &mut change.txn {
                about.client.clone_from(&owner.client);
                about.user.clone_from(&owner.user);
            }
        }
    }

    /// Forgets a session that has ended.
    pub(super) fn ended(&mut self, txn: &CommittedTxn) {
        if let TxnContent::CloseSession { .. } = txn.content {
            self.0.remove(&txn.session);
        }
    }
}
