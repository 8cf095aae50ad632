//! Random operations of clients, for histories that nobody has written.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::server::{ServerNode, ServerTree, acl, path};
use crate::committed::{CommittedTxn, NodeOperation};
use crate::path::ZnodePath;
use crate::record::{Lifetime, LifetimeKind};

/// The paths of three roots with three children each, of which `third` is the last, and two below each.
pub fn universe(third: &str) -> Vec<ZnodePath> {
    let mut all = Vec::new();
    for top in ["/a", "/b", "/c"] {
        all.push(path(top));
        for one in ["1", "2", third] {
            all.push(path(&format!("{top}/{one}")));
            for two in ["x", "y"] {
                all.push(path(&format!("{top}/{one}/{two}")));
            }
        }
    }
    all
}

impl ServerTree {
    /// An operation on one of these paths; `None` if the server refuses it.
    pub fn random_operation(
        &self,
        paths: &[ZnodePath],
        is_in_multi: bool,
        random: &mut StdRng,
    ) -> Option<NodeOperation> {
        let at = paths.choose(random)?.clone();
        let data: Arc<[u8]> = random.random_range(0..1_000).to_string().into_bytes().into();
        let node = self.nodes.get(&at);
        let operation = match random.random_range(0..10) {
            0..4 => {
                let kinds = [
                    LifetimeKind::Persistent,
                    LifetimeKind::Persistent,
                    LifetimeKind::Ephemeral,
                    LifetimeKind::Container,
                    LifetimeKind::Ttl,
                ];
                let kind = *kinds.choose(random)?;
                let parent = self.nodes.get(&at.parent()?)?;
                NodeOperation::Create {
                    path: at,
                    data,
                    acl: acl("r"),
                    lifetime: Lifetime {
                        kind,
                        ttl: (kind == LifetimeKind::Ttl).then_some(99),
                    },
                    parent_cversion: Some(parent.raw.cversion + 1),
                }
            }
            4..8 => NodeOperation::SetData {
                version: node?.raw.version + 1,
                path: at,
                data,
            },
            8 if !is_in_multi => NodeOperation::SetAcl {
                version: node?.raw.aversion + 1,
                path: at,
                acl: acl(if random.random_bool(0.5) { "rw" } else { "cdrwa" }),
            },
            8 => NodeOperation::Check,
            _ => NodeOperation::Delete {
                path: at,
                is_of_container: false,
            },
        };
        self.allows(&operation).then_some(operation)
    }

    /// The operations of one transaction.
    pub fn random_multi(
        &self,
        draft: &CommittedTxn,
        paths: &[ZnodePath],
        random: &mut StdRng,
    ) -> Vec<NodeOperation> {
        let mut tree = self.clone();
        let mut operations = Vec::new();
        for _ in 0..random.random_range(2..12) {
            if let Some(operation) = tree.random_operation(paths, true, random) {
                tree.apply_operation(draft, &operation);
                operations.push(operation);
            }
        }
        operations
    }

    /// The ephemeral znodes of a session.
    pub fn owned_by(&self, session: u64) -> Vec<ZnodePath> {
        let is_of = |node: &ServerNode| {
            node.lifetime.kind == LifetimeKind::Ephemeral && node.raw.owner.cast_unsigned() == session
        };
        let owned = self.nodes.iter().filter(|(_, node)| is_of(node));
        owned.map(|(at, _)| at.clone()).collect()
    }
}
