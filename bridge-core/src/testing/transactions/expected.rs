//! The records that a transaction must have, by the trees before and after it. Shares no code with the machine.

use std::collections::HashSet;
use std::sync::Arc;

use super::server::ServerTree;
use crate::committed::{CommittedTxn, NodeOperation, TxnContent};
use crate::path::ZnodePath;
use crate::record::{LifetimeKind, Op, Record, Stat, TxnKind};

/// A record, as the history says it has to be.
#[derive(Debug, PartialEq)]
pub struct ExpectedRecord {
    /// The kind of record.
    pub op: Op,
    /// The znode.
    pub path: ZnodePath,
    /// The place of its operation in the transaction.
    pub index: u32,
    /// Writes of the same transaction that are not recorded.
    pub missed: u64,
    /// Right before the transaction.
    pub before: Option<(Stat, Arc<[u8]>)>,
    /// Right after it.
    pub after: Option<(Stat, Arc<[u8]>)>,
    /// Operations of the transaction.
    pub count: usize,
    /// The type of the transaction.
    pub kind: TxnKind,
    /// The session that requested it.
    pub session: u64,
}

/// The records of a transaction, from the trees before and after it and the list of its operations.
pub fn expected(
    txn: &CommittedTxn,
    before: &ServerTree,
    after: &ServerTree,
    captured: impl Fn(&ZnodePath) -> bool,
) -> Vec<ExpectedRecord> {
    let operations: Vec<NodeOperation> = match &txn.content {
        TxnContent::Nothing => Vec::new(),
        TxnContent::Single(operation) => vec![operation.clone()],
        TxnContent::Multi(operations) => operations.clone(),
        TxnContent::CloseSession { paths } => {
            let delete = |path: &ZnodePath| NodeOperation::Delete {
                path: path.clone(),
                is_of_container: false,
            };
            paths.iter().flatten().map(delete).collect()
        }
    };
    let places = |path: &ZnodePath, op: Op| -> Vec<u32> {
        let is_of = |operation: &NodeOperation| match operation {
            NodeOperation::Create { path: at, .. } => op == Op::Create && at == path,
            NodeOperation::Delete { path: at, .. } => op == Op::Delete && at == path,
            NodeOperation::SetData { path: at, .. } => op == Op::Update && at == path,
            NodeOperation::SetAcl { path: at, .. } => op == Op::Acl && at == path,
            NodeOperation::Check => false,
        };
        let numbered = (0..).zip(&operations);
        numbered
            .filter(|(_, operation)| is_of(operation))
            .map(|(index, _)| index)
            .collect()
    };
    let kind = match (&txn.content, operations.first()) {
        (TxnContent::Multi(_) | TxnContent::Nothing, _) | (_, None) => TxnKind::Multi,
        (TxnContent::CloseSession { .. }, _) => TxnKind::CloseSession,
        (_, Some(NodeOperation::Create { lifetime, .. })) => match lifetime.kind {
            LifetimeKind::Container => TxnKind::CreateContainer,
            LifetimeKind::Ttl => TxnKind::CreateTtl,
            _ => TxnKind::Create,
        },
        (_, Some(NodeOperation::Delete { .. })) => TxnKind::Delete,
        (_, Some(NodeOperation::SetData { .. })) => TxnKind::SetData,
        (_, Some(NodeOperation::SetAcl { .. })) => TxnKind::SetAcl,
        (_, Some(NodeOperation::Check)) => TxnKind::Multi,
    };
    let state = |tree: &ServerTree, path: &ZnodePath| {
        let stat = tree.stat(path)?;
        Some((stat, tree.nodes[path].data.clone()))
    };
    let mut all = Vec::new();
    let paths: HashSet<&ZnodePath> = before.nodes.keys().chain(after.nodes.keys()).collect();
    for path in paths.into_iter().filter(|path| captured(path)) {
        let (was, is) = (state(before, path), state(after, path));
        let row = |op, index, missed, before, after| ExpectedRecord {
            op,
            path: path.clone(),
            index,
            missed,
            before,
            after,
            count: operations.len(),
            kind,
            session: txn.session.0,
        };
        let is_same = match (&was, &is) {
            (Some((was, _)), Some((is, _))) => was.czxid == is.czxid,
            _ => false,
        };
        let writes = places(path, Op::Update);
        if let (Some(was), false) = (&was, is_same) {
            let index = places(path, Op::Delete)[0];
            let missed = writes.iter().filter(|write| **write < index).count() as u64;
            all.push(row(Op::Delete, index, missed, Some(was.clone()), None));
        }
        if let (Some(is), false) = (&is, is_same) {
            let index = *places(path, Op::Create).last().expect("it was created");
            let missed = writes.iter().filter(|write| **write > index).count() as u64;
            all.push(row(Op::Create, index, missed, None, Some(is.clone())));
        }
        if let (Some(was), Some(is), true) = (&was, &is, is_same) {
            if let Some(last) = writes.last() {
                let missed = writes.len() as u64 - 1;
                all.push(row(
                    Op::Update,
                    *last,
                    missed,
                    Some(was.clone()),
                    Some(is.clone()),
                ));
            }
            if let Some(last) = places(path, Op::Acl).last() {
                all.push(row(Op::Acl, *last, 0, Some(was.clone()), Some(is.clone())));
            }
        }
    }
    all.sort_by_key(|row| row.index);
    all
}

/// The same of a record.
pub fn found(record: &Record) -> ExpectedRecord {
    let about = record.txn.as_ref().expect("an exact record has its transaction");
    let state = |state: &Option<crate::record::State>| {
        let state = state.as_ref()?;
        let data = state.data.as_ref().expect("values are kept");
        Some((state.stat.expect("it was read"), data.bytes.clone()))
    };
    ExpectedRecord {
        op: record.op,
        path: record.path.clone().expect("a change has a path"),
        index: about.index,
        missed: record.missed.expect("it is known"),
        before: state(&record.before),
        after: state(&record.after),
        count: about.count as usize,
        kind: about.kind,
        session: about.session.0,
    }
}
