//! Applies a transaction to a staged tree as a server does that starts: the tree may have it already, or lack what it
//! changes because a later one has removed that.

use bridge_transactions::digest::PersistedStat;
use bridge_transactions::transaction::{Operation, Transaction};

use super::StageError;
use super::nodes::{AclLists, Node, Nodes};

/// The transaction of an operation.
#[derive(Clone, Copy)]
struct Moment {
    zxid: i64,
    time: i64,
    session: i64,
}

pub(super) fn apply(
    nodes: &mut Nodes,
    acls: &mut AclLists,
    transaction: &Transaction,
) -> Result<(), StageError> {
    let at = Moment {
        zxid: transaction.zxid,
        time: transaction.time,
        session: transaction.session,
    };
    match &transaction.operation {
        Operation::Multi(parts) => parts.iter().try_for_each(|part| operate(nodes, acls, at, part)),
        Operation::CloseSession { paths } => {
            for path in paths.iter().flatten() {
                delete(nodes, at, path)?;
            }
            // Lines before 3.6 send no list.
            let others = nodes.of_session(at.session)?;
            others.iter().try_for_each(|path| delete(nodes, at, path))
        }
        operation => operate(nodes, acls, at, operation),
    }
}

fn operate(
    nodes: &mut Nodes,
    acls: &mut AclLists,
    at: Moment,
    operation: &Operation,
) -> Result<(), StageError> {
    match operation {
        Operation::Create {
            path,
            data,
            acl,
            lifetime,
            parent_cversion,
        } => {
            let parent = parent(path);
            if !nodes.change_stat(parent, |stat| child_created(stat, *parent_cversion, at.zxid))? {
                return Ok(());
            }
            if nodes.contains(path)? {
                // The tree has the znode already, perhaps without its list, which is in no digest. Changes of the list that
                // came later are applied after this.
                let acl = acls.id_of(acl)?;
                return nodes.replace_acl(path, acl);
            }
            nodes.insert(&Node {
                path: path.clone(),
                data: data.clone().unwrap_or_default(),
                acl: acls.id_of(acl)?,
                stat: PersistedStat {
                    czxid: at.zxid,
                    mzxid: at.zxid,
                    pzxid: at.zxid,
                    ctime: at.time,
                    mtime: at.time,
                    ephemeral_owner: lifetime.owner(at.session),
                    ..PersistedStat::default()
                },
                lifetime: *lifetime,
            })
        }
        Operation::Delete { path } | Operation::DeleteContainer { path } => delete(nodes, at, path),
        Operation::SetData { path, data, version } => {
            nodes.set_data(path, data.as_deref().unwrap_or_default(), |stat| {
                stat.version = *version;
                stat.mtime = at.time;
                stat.mzxid = at.zxid;
            })
        }
        Operation::SetAcl { path, acl, version } => {
            let acl = acls.id_of(acl)?;
            nodes.set_acl(path, acl, *version)
        }
        // The data of /zookeeper/config is each server's own.
        Operation::Check { .. }
        | Operation::Reconfigure { .. }
        | Operation::Error { .. }
        | Operation::FailedMulti { .. }
        | Operation::CreateSession { .. }
        | Operation::CloseSession { .. }
        | Operation::Multi(_) => Ok(()),
    }
}

/// The counter only grows, so that a repeated create changes nothing.
fn child_created(parent: &mut PersistedStat, cversion: i32, zxid: i64) {
    let cversion = match cversion {
        -1 => parent.cversion + 1,
        cversion => cversion,
    };
    if cversion > parent.cversion {
        parent.cversion = cversion;
        parent.pzxid = zxid;
    }
}

fn delete(nodes: &mut Nodes, at: Moment, path: &str) -> Result<(), StageError> {
    nodes.change_stat(parent(path), |stat| stat.pzxid = stat.pzxid.max(at.zxid))?;
    nodes.remove(path)
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}
