//! Whether logs begin with the first transaction of an ensemble.
//!
//! A new standalone server begins with epoch 0, and a new ensemble with epoch 1. So a log from the first transaction of epoch
//! 0 on is the begin of all; one from the first transaction of epoch 1 on need not be: the server may have been alone
//! before, and have purged the logs of that time. The digest of the first transaction that has one decides, or, before
//! 3.6, the first create of a child of the root: a server counts these creates, and writes the count into each.

use bridge_transactions::transaction::{Operation, Transaction, counter, epoch};
use bridge_transactions::tree::Tree;

use super::folder::LogFolder;
use super::tail::{LogTail, TailError};

/// Transactions that are read in search of one that decides. A new ensemble has a znode long before.
pub(super) const BEGIN_MAX: usize = 65_536;

/// Whether the logs of a folder begin with the first transaction of all.
pub(super) fn has_begin(folder: &LogFolder) -> Result<bool, TailError> {
    let logs = folder.logs()?;
    let Some(first) = logs.first().map(|log| log.first) else {
        return Ok(false);
    };
    match (epoch(first), counter(first)) {
        (0, 1) => Ok(true),
        (1, 1) => has_begin_of_ensemble(folder),
        _ => Ok(false),
    }
}

fn has_begin_of_ensemble(folder: &LogFolder) -> Result<bool, TailError> {
    let mut search = BeginSearch::new();
    let mut tail = LogTail::new(folder.clone(), 0);
    let mut looked = 0;
    while looked < BEGIN_MAX {
        let batch = tail.poll()?;
        if batch.is_empty() {
            break;
        }
        looked += batch.len();
        if let Some(is_new) = search.look(&batch) {
            return Ok(is_new);
        }
    }
    Ok(false)
}

/// Whether transactions from the first of epoch 1 on are those of a new ensemble; `false` also if none of them decides.
pub(super) fn is_begin_of_ensemble<'a>(transactions: impl IntoIterator<Item = &'a Transaction>) -> bool {
    BeginSearch::new().look(transactions) == Some(true)
}

/// The search for a transaction that shows whether there were znodes before the first one.
pub(super) struct BeginSearch {
    tree: Tree,
}

impl BeginSearch {
    pub(super) fn new() -> BeginSearch {
        BeginSearch {
            tree: Tree::of_new_server(),
        }
    }

    /// Looks at the next transactions. Whether the tree before the first one was that of a new server; `None` while nothing
    /// decides it.
    pub(super) fn look<'a>(
        &mut self,
        transactions: impl IntoIterator<Item = &'a Transaction>,
    ) -> Option<bool> {
        transactions.into_iter().find_map(|transaction| {
            self.tree.apply(transaction);
            match transaction.digest {
                Some(digest) => Some(self.tree.has_digest(digest.value)),
                None => shown_by(&transaction.operation),
            }
        })
    }
}

fn shown_by(operation: &Operation) -> Option<bool> {
    match operation {
        Operation::Create {
            path,
            parent_cversion,
            ..
        } => match (is_child_of_root(path), *parent_cversion) {
            // Servers of 3.3 do not write it.
            (true, -1) => None,
            (true, count) => Some(count == 1),
            // Below a znode that was there before.
            (false, _) => is_of_earlier_tree(path),
        },
        Operation::SetData { path, version, .. } | Operation::SetAcl { path, version, .. } => {
            match path.as_str() {
                "" | "/" => (*version > 1).then_some(false),
                path => is_of_earlier_tree(path),
            }
        }
        Operation::Delete { path } | Operation::DeleteContainer { path } => is_of_earlier_tree(path),
        Operation::CloseSession { paths } => paths.iter().flatten().find_map(|path| is_of_earlier_tree(path)),
        Operation::Multi(parts) => parts.iter().find_map(shown_by),
        Operation::Reconfigure { .. }
        | Operation::CreateSession { .. }
        | Operation::Check { .. }
        | Operation::FailedMulti { .. }
        | Operation::Error { .. } => None,
    }
}

fn is_child_of_root(path: &str) -> bool {
    path.rfind('/') == Some(0)
}

/// Before the first create of a child of the root, a new server has nothing but ZooKeeper's own znodes.
fn is_of_earlier_tree(path: &str) -> Option<bool> {
    (!path.starts_with("/zookeeper/")).then_some(false)
}

#[cfg(test)]
mod tests {
    use bridge_transactions::testing;
    use bridge_transactions::transaction::{DIGEST_VERSION, Lifetime, TreeDigest};

    use super::*;

    const NEXT: i64 = 1 << 32;

    fn create(path: &str, parent_cversion: i32) -> Operation {
        Operation::Create {
            path: path.to_owned(),
            data: None,
            acl: vec![testing::anyone()],
            lifetime: Lifetime::Persistent,
            parent_cversion,
        }
    }

    fn set(path: &str, version: i32) -> Operation {
        Operation::SetData {
            path: path.to_owned(),
            data: None,
            version,
        }
    }

    /// A folder with one log from the first transaction of an epoch on.
    fn folder(epoch: i64, operations: Vec<Operation>, digest: Option<u64>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let digest = digest.map(|value| TreeDigest {
            version: DIGEST_VERSION,
            value,
        });
        let transactions: Vec<Transaction> = operations
            .into_iter()
            .zip(epoch * NEXT + 1..)
            .map(|(operation, zxid)| testing::transaction(zxid, operation, digest))
            .collect();
        let name = format!("log.{:x}", epoch * NEXT + 1);
        std::fs::write(folder.path().join(name), testing::log_file(&transactions)).unwrap();
        folder
    }

    #[test]
    fn logs_of_epoch_1_begin_a_history_only_where_a_transaction_shows_that_no_znode_was_there_before() {
        let check = |epoch: i64, operations: Vec<Operation>, expected: bool| {
            let shown = format!("{operations:?}");
            let folder = folder(epoch, operations, None);
            let found = has_begin(&LogFolder::new(folder.path())).unwrap();
            assert_eq!(found, expected, "epoch {epoch}: {shown}");
        };
        let session = || Operation::CreateSession { timeout: 4_000 };
        check(0, vec![create("/b", 7)], true);
        check(1, vec![session(), create("/a", 1)], true);
        check(
            1,
            vec![set("/", 1), create("/zookeeper/quota/a", 1), create("/a", 1)],
            true,
        );
        check(
            1,
            vec![Operation::Multi(vec![create("/a", 1), create("/a/b", 1)])],
            true,
        );
        // Transactions of an earlier time of a standalone server.
        check(1, vec![session(), create("/b", 2)], false);
        check(1, vec![create("/a/b", 1)], false);
        check(1, vec![set("/a", 5), create("/b", 1)], false);
        check(1, vec![set("/", 2), create("/b", 1)], false);
        check(1, vec![Operation::Delete { path: "/a".into() }], false);
        let paths = Some(vec!["/e".to_owned()]);
        check(1, vec![Operation::CloseSession { paths }], false);
        // Nothing decides it.
        check(1, vec![session()], false);
        check(1, vec![create("/a", -1)], false);
        check(2, vec![create("/a", 1)], false);
    }

    #[test]
    fn the_digest_of_the_first_transaction_decides_where_there_is_one() {
        let mut tree = Tree::of_new_server();
        tree.apply(&testing::transaction(NEXT + 1, create("/b", 2), None));
        for (digest, expected) in [(tree.digest(), true), (tree.digest() ^ 1, false)] {
            let folder = folder(1, vec![create("/b", 2)], Some(digest));
            assert_eq!(has_begin(&LogFolder::new(folder.path())).unwrap(), expected);
        }
    }

    #[test]
    fn a_folder_without_logs_has_no_begin() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_begin(&LogFolder::new(folder.path())).unwrap());
    }
}
