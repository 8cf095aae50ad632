//! The records that one transaction must have, by the contract: its net effect on each path below the roots.

use std::collections::BTreeMap;

use crate::truth::log::{Change, Kind, Transaction};
use crate::truth::shadow::{Shadow, Znode};
use crate::truth::{covers, is_left_out};

/// A record that must be there.
#[derive(Clone, Debug)]
pub struct Expected {
    pub op: &'static str,
    pub path: String,
    /// The place of its operation in the transaction.
    pub index: usize,
    pub missed: usize,
    /// The znode right before the transaction; `None` in a create.
    pub before: Option<Znode>,
    /// The znode right after it; `None` in a delete.
    pub after: Option<Znode>,
}

/// The change of one path by a transaction.
#[derive(Default)]
struct Fate {
    before: Option<Znode>,
    /// The delete of the incarnation before, and the writes before that.
    deleted: Option<(usize, usize)>,
    is_alive: bool,
    created: Option<usize>,
    writes: usize,
    last_write: usize,
    listed: Option<usize>,
}

/// All operations of a transaction, with a delete for each znode of a session that ends.
pub struct Parts {
    operations: Vec<(Operation, String)>,
    /// All operations, checks included.
    pub count: usize,
}

#[derive(Clone, Copy)]
enum Operation {
    Create,
    Set,
    SetAcl,
    Delete,
    Check,
}

impl Parts {
    /// `tree` is the one before the transaction. Of a session's end without a list, the znodes below the roots count.
    pub fn of(transaction: &Transaction, tree: &Shadow, roots: &[String]) -> Parts {
        let mut operations = Vec::new();
        for change in &transaction.changes {
            match change {
                Change::Create { path, .. } => operations.push((Operation::Create, path.clone())),
                Change::Set { path, .. } => operations.push((Operation::Set, path.clone())),
                Change::SetAcl { path, .. } => operations.push((Operation::SetAcl, path.clone())),
                Change::Delete { path } => operations.push((Operation::Delete, path.clone())),
                Change::Check => operations.push((Operation::Check, String::new())),
                Change::Close { listed } => {
                    let owned = || {
                        let owned = tree.owned_by(transaction.session).into_iter();
                        owned.filter(|path| is_captured(path, roots)).collect()
                    };
                    let paths = listed.clone().unwrap_or_else(owned);
                    operations.extend(paths.into_iter().map(|path| (Operation::Delete, path)));
                }
            }
        }
        let count = operations.len();
        Parts { operations, count }
    }
}

fn is_captured(path: &str, roots: &[String]) -> bool {
    !is_left_out(path) && roots.iter().any(|root| covers(root, path))
}

/// Moves the tree over a transaction, and gives the records that it must have, in their order.
pub fn apply(transaction: &Transaction, parts: &Parts, tree: &mut Shadow, roots: &[String]) -> Vec<Expected> {
    let mut fates: BTreeMap<&str, Fate> = BTreeMap::new();
    for (index, (operation, path)) in parts.operations.iter().enumerate() {
        if transaction.kind == Kind::Other || !is_captured(path, roots) {
            continue;
        }
        let fate = fates.entry(path).or_insert_with(|| {
            let before = tree.znode(path).cloned();
            Fate {
                is_alive: before.is_some(),
                before,
                ..Fate::default()
            }
        });
        fate.take(*operation, index);
    }
    tree.apply(transaction);
    let mut expected: Vec<Expected> = Vec::new();
    for (path, fate) in fates {
        fate.records(path, tree.znode(path), &mut expected);
    }
    expected.sort_by_key(|record| record.index);
    expected
}

impl Fate {
    fn take(&mut self, operation: Operation, index: usize) {
        match operation {
            Operation::Create => {
                (self.created, self.is_alive, self.writes) = (Some(index), true, 0);
            }
            Operation::Set => {
                self.writes += 1;
                self.last_write = index;
            }
            Operation::SetAcl => self.listed = Some(index),
            // The list of a session's end may have one that is gone.
            Operation::Delete if !self.is_alive => {}
            Operation::Delete => {
                if self.created.take().is_none() {
                    self.deleted = Some((index, self.writes));
                }
                (self.is_alive, self.writes) = (false, 0);
            }
            Operation::Check => {}
        }
    }

    fn records(self, path: &str, after: Option<&Znode>, expected: &mut Vec<Expected>) {
        let mut add = |op, index, missed, before: Option<&Znode>, after: Option<&Znode>| {
            expected.push(Expected {
                op,
                path: path.to_owned(),
                index,
                missed,
                before: before.cloned(),
                after: after.cloned(),
            });
        };
        let before = self.before.as_ref();
        if let Some((index, writes)) = self.deleted {
            add("delete", index, writes, before, None);
        }
        if !self.is_alive {
            return;
        }
        match (self.created, self.writes) {
            (Some(index), writes) => add("create", index, writes, None, after),
            (None, 0) => {}
            (None, writes) => add("update", self.last_write, writes - 1, before, after),
        }
        if let Some(index) = self.listed {
            add("acl", index, 0, before, after);
        }
    }
}
