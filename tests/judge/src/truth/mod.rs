//! The true history: every committed transaction, read from the transaction logs of the servers.
//!
//! It is independent of zkbridge and complete: it includes the ends of sessions, the writes of other clients, and writes
//! whose reply was lost. Servers from 3.6 on write a digest of the whole tree with each transaction. The truth builds the
//! tree and compares digests, so a wrongly read transaction is detected. It must never use the product's own reading of
//! ZooKeeper.

mod checksum;
mod committed;
mod jute;
pub(crate) mod log;
pub(crate) mod shadow;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use log::cut_torn_record;

use committed::Committed;
use log::{Change, Transaction};

/// One version of a znode's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The zxid of the write.
    pub mzxid: u64,
    /// The version, from 0.
    pub number: i64,
    /// The time of the write, by the leader's clock.
    pub time_ms: i64,
    /// The data.
    pub data: Vec<u8>,
}

/// One visible incarnation of a path: it existed after the transaction that created it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// The zxid of its create.
    pub czxid: u64,
    /// The session that owned it, or 0.
    pub owner: u64,
    /// Its values, oldest first.
    pub versions: Vec<Version>,
    /// The zxid of its delete.
    pub died: Option<u64>,
}

impl Incarnation {
    /// The version with this zxid and number.
    pub fn version(&self, mzxid: u64, number: i64) -> Option<&Version> {
        let at = self.versions.partition_point(|version| version.number < number);
        let version = self.versions.get(at)?;
        (version.mzxid == mzxid && version.number == number).then_some(version)
    }

    /// The version after the transaction with this zxid.
    pub fn version_at(&self, zxid: u64) -> Option<&Version> {
        let at = self.versions.partition_point(|version| version.mzxid <= zxid);
        self.versions[..at].last()
    }

    /// Whether it existed after the transaction with this zxid.
    pub fn exists_at(&self, zxid: u64) -> bool {
        self.czxid <= zxid && self.died.is_none_or(|died| died > zxid)
    }

    /// How many versions there were.
    pub fn last_number(&self) -> i64 {
        self.versions.last().map_or(0, |version| version.number)
    }
}

/// The incarnations of all paths, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// By path, without those that a bridge never reports.
    pub incarnations: BTreeMap<String, Vec<Incarnation>>,
    /// The last transaction.
    pub last: u64,
    /// How many transactions were committed.
    pub transactions: usize,
    /// Digests of the tree that were compared with the server's own and agreed.
    pub digests: u64,
    /// Transactions that were logged and never committed.
    pub dropped: usize,
    /// Paths that a client without credentials could not read at some time.
    pub closed: BTreeSet<String>,
    /// Faults of the logs. With any of them, no verdict is possible.
    pub faults: Vec<String>,
    /// All committed transactions in their order.
    pub(crate) history: Vec<Transaction>,
}

impl Truth {
    /// Reads all logs of all servers, up to the last whole record.
    pub fn of_servers(data_dirs: &[PathBuf]) -> Truth {
        let mut logs = Vec::new();
        let mut faults = Vec::new();
        for data_dir in data_dirs {
            match log::read_all(data_dir) {
                Ok(log) => logs.push(log),
                Err(fault) => faults.push(fault),
            }
        }
        let mut truth = Truth::of_committed(committed::of_logs(logs));
        truth.faults.append(&mut faults);
        truth
    }

    fn of_committed(committed: Committed) -> Truth {
        let mut incarnations = Incarnations::default();
        for transaction in &committed.transactions {
            incarnations.apply(transaction);
        }
        incarnations.incarnations.retain(|path, _| !is_left_out(path));
        Truth {
            incarnations: incarnations.incarnations,
            closed: incarnations.closed,
            last: committed.transactions.last().map_or(0, |last| last.zxid),
            transactions: committed.transactions.len(),
            digests: committed.digests,
            dropped: committed.dropped,
            faults: committed.faults,
            history: committed.transactions,
        }
    }

    /// The incarnation of a path with this czxid.
    pub fn incarnation(&self, path: &str, czxid: u64) -> Option<&Incarnation> {
        let incarnations = self.incarnations.get(path)?;
        let at = incarnations.partition_point(|incarnation| incarnation.czxid < czxid);
        incarnations
            .get(at)
            .filter(|incarnation| incarnation.czxid == czxid)
    }

    /// Whether a client without credentials could not read it at some time. An unreadable znode cannot be listed either, so
    /// all its descendants are hidden too.
    pub fn was_hidden(&self, path: &str) -> bool {
        let mut ends = path.match_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
        !self.closed.is_empty()
            && (self.closed.contains(path) || ends.any(|end| self.closed.contains(&path[..end])))
    }

    /// Paths below the roots, with their incarnations.
    pub fn below<'a>(
        &'a self,
        roots: &'a [String],
    ) -> impl Iterator<Item = (&'a String, &'a Vec<Incarnation>)> {
        self.incarnations
            .iter()
            .filter(move |(path, _)| roots.iter().any(|root| covers(root, path)))
    }

    /// A truth from a test, whose transactions have no digests.
    #[cfg(test)]
    pub(crate) fn of_transactions(transactions: Vec<Transaction>) -> Truth {
        Truth::of_committed(Committed {
            transactions,
            ..Committed::default()
        })
    }

    /// A truth from a test, for controls.
    #[cfg(test)]
    pub(crate) fn of_incarnations(
        incarnations: impl IntoIterator<Item = (&'static str, Incarnation)>,
    ) -> Truth {
        let mut truth = Truth::default();
        for (path, incarnation) in incarnations {
            let last = incarnation
                .died
                .or(incarnation.versions.last().map(|version| version.mzxid));
            truth.transactions += 1;
            truth.last = truth.last.max(last.unwrap_or(incarnation.czxid));
            truth
                .incarnations
                .entry(path.to_owned())
                .or_default()
                .push(incarnation);
        }
        truth
    }

    /// The same truth as a client below a chroot sees it.
    pub fn below_chroot(mut self, chroot: &str) -> Truth {
        let seen = |path: &str| {
            let rest = path.strip_prefix(chroot)?;
            match rest {
                "" => Some("/".to_owned()),
                rest if rest.starts_with('/') => Some(rest.to_owned()),
                _ => None,
            }
        };
        let incarnations = std::mem::take(&mut self.incarnations).into_iter();
        let incarnations = incarnations.filter_map(|(path, incarnations)| Some((seen(&path)?, incarnations)));
        let incarnations = incarnations.filter(|(path, _)| !is_left_out(path));
        let closed = std::mem::take(&mut self.closed);
        Truth {
            incarnations: incarnations.collect(),
            closed: closed.iter().filter_map(|path| seen(path)).collect(),
            ..self
        }
    }
}

/// Whether a bridge never reports the path: ZooKeeper's own, and those of bridges.
pub fn is_left_out(path: &str) -> bool {
    covers("/zookeeper", path) || covers("/zkbridge", path)
}

/// Whether a path is the root or below it.
pub fn covers(root: &str, path: &str) -> bool {
    root == "/" || path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// Builds incarnations from transactions.
#[derive(Default)]
struct Incarnations {
    incarnations: BTreeMap<String, Vec<Incarnation>>,
    ephemerals: BTreeMap<u64, BTreeSet<String>>,
    closed: BTreeSet<String>,
}

impl Incarnations {
    fn apply(&mut self, transaction: &Transaction) {
        let mut ended = Vec::new();
        for change in &transaction.changes {
            match change {
                Change::Create { path, .. } => self.create(transaction, path, change),
                Change::Delete { path } => ended.extend(self.delete(transaction.zxid, path)),
                Change::Set { path, data, version } => self.set(transaction, path, data, *version),
                Change::SetAcl { path, readable, .. } => self.note_readable(path, readable.0),
                Change::Check => {}
                Change::Close { .. } => {
                    for path in self.ephemerals.remove(&transaction.session).unwrap_or_default() {
                        ended.extend(self.delete(transaction.zxid, &path));
                    }
                }
            }
        }
        for path in ended {
            self.forget_invisible(transaction.zxid, &path);
        }
    }

    fn create(&mut self, transaction: &Transaction, path: &str, change: &Change) {
        let Change::Create {
            data,
            readable,
            owner,
            ..
        } = change
        else {
            return;
        };
        let owner = if shadow::is_session(*owner) { *owner } else { 0 };
        if owner != 0 {
            self.ephemerals.entry(owner).or_default().insert(path.to_owned());
        }
        let first = Version {
            mzxid: transaction.zxid,
            number: 0,
            time_ms: transaction.time_ms,
            data: data.clone(),
        };
        self.incarnations
            .entry(path.to_owned())
            .or_default()
            .push(Incarnation {
                czxid: transaction.zxid,
                owner,
                versions: vec![first],
                died: None,
            });
        self.note_readable(path, readable.0);
    }

    fn note_readable(&mut self, path: &str, is_readable: bool) {
        if !is_readable {
            self.closed.insert(path.to_owned());
        }
    }

    fn living(&mut self, path: &str) -> Option<&mut Incarnation> {
        let incarnations = self.incarnations.get_mut(path)?;
        incarnations
            .last_mut()
            .filter(|incarnation| incarnation.died.is_none())
    }

    /// The path, if it existed.
    fn delete(&mut self, zxid: u64, path: &str) -> Option<String> {
        let incarnation = self.living(path)?;
        incarnation.died = Some(zxid);
        let owner = incarnation.owner;
        if let Some(paths) = self.ephemerals.get_mut(&owner) {
            paths.remove(path);
        }
        Some(path.to_owned())
    }

    fn set(&mut self, transaction: &Transaction, path: &str, data: &[u8], version: i32) {
        // The log has writes to ZooKeeper's own znodes, which have no create.
        let Some(incarnation) = self.living(path) else {
            return;
        };
        incarnation.versions.push(Version {
            mzxid: transaction.zxid,
            number: i64::from(version),
            time_ms: transaction.time_ms,
            data: data.to_vec(),
        });
    }

    /// An incarnation inside one transaction is visible to no client.
    fn forget_invisible(&mut self, zxid: u64, path: &str) {
        let Some(incarnations) = self.incarnations.get_mut(path) else {
            return;
        };
        incarnations.retain(|incarnation| !(incarnation.czxid == zxid && incarnation.died == Some(zxid)));
        if incarnations.is_empty() {
            self.incarnations.remove(path);
        }
    }
}
