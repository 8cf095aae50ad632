//! What really happened: every committed transaction, read from the transaction logs that the servers themselves wrote.
//!
//! It knows nothing of zkbridge, and it misses nothing: not the ends of sessions, not what another client wrote, not a
//! write whose reply was lost. Servers from 3.6 on write a digest of the whole tree with each transaction; the truth
//! builds the tree and compares, so a transaction that it read wrongly shows. Never takes anything from the product's
//! own reading of ZooKeeper.

mod checksum;
mod committed;
mod jute;
mod log;
mod shadow;

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
    /// When, by the leader's clock.
    pub time_ms: i64,
    /// What was written.
    pub data: Vec<u8>,
}

/// One incarnation of a path that was visible: it lived beyond the transaction that created it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The zxid of its create.
    pub czxid: u64,
    /// The session that owned it, or 0.
    pub owner: u64,
    /// Its values, oldest first.
    pub versions: Vec<Version>,
    /// The zxid of its delete.
    pub died: Option<u64>,
}

impl Life {
    /// The version with this zxid and number.
    pub fn version(&self, mzxid: u64, number: i64) -> Option<&Version> {
        let at = self.versions.partition_point(|version| version.number < number);
        let version = self.versions.get(at)?;
        (version.mzxid == mzxid && version.number == number).then_some(version)
    }

    /// The version that stood after the transaction with this zxid.
    pub fn version_at(&self, zxid: u64) -> Option<&Version> {
        let at = self.versions.partition_point(|version| version.mzxid <= zxid);
        self.versions[..at].last()
    }

    /// Whether it lived after the transaction with this zxid.
    pub fn lives_at(&self, zxid: u64) -> bool {
        self.czxid <= zxid && self.died.is_none_or(|died| died > zxid)
    }

    /// How many versions there were.
    pub fn last_number(&self) -> i64 {
        self.versions.last().map_or(0, |version| version.number)
    }
}

/// The lives of all paths, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// By path, but for those that nobody is told of.
    pub lives: BTreeMap<String, Vec<Life>>,
    /// The last transaction.
    pub last: u64,
    /// How many transactions were committed.
    pub transactions: usize,
    /// Digests of the tree that were compared with the server's own and agreed.
    pub digests: u64,
    /// What was logged and never committed.
    pub dropped: usize,
    /// Paths that a client without credentials could not read at some time.
    pub closed: BTreeSet<String>,
    /// What is wrong with the logs, so that nothing can be judged by them.
    pub faults: Vec<String>,
}

impl Truth {
    /// Reads all logs of all servers of an ensemble, or of the one that there is, up to the last whole record.
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
        let mut lives = Lives::default();
        for transaction in &committed.transactions {
            lives.apply(transaction);
        }
        lives.lives.retain(|path, _| !is_left_out(path));
        Truth {
            lives: lives.lives,
            closed: lives.closed,
            last: committed.transactions.last().map_or(0, |last| last.zxid),
            transactions: committed.transactions.len(),
            digests: committed.digests,
            dropped: committed.dropped,
            faults: committed.faults,
        }
    }

    /// The incarnation of a path with this czxid.
    pub fn life(&self, path: &str, czxid: u64) -> Option<&Life> {
        let lives = self.lives.get(path)?;
        let at = lives.partition_point(|life| life.czxid < czxid);
        lives.get(at).filter(|life| life.czxid == czxid)
    }

    /// Whether there was a time when a client without credentials could not read it: who may not read a znode may not
    /// list it either, so it is hidden with all below.
    pub fn was_hidden(&self, path: &str) -> bool {
        let mut ends = path.match_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
        !self.closed.is_empty()
            && (self.closed.contains(path) || ends.any(|end| self.closed.contains(&path[..end])))
    }

    /// Paths below the roots, with their lives.
    pub fn below<'a>(&'a self, roots: &'a [String]) -> impl Iterator<Item = (&'a String, &'a Vec<Life>)> {
        self.lives
            .iter()
            .filter(move |(path, _)| roots.iter().any(|root| covers(root, path)))
    }

    /// A truth written by hand, for controls.
    #[cfg(test)]
    pub(crate) fn of_lives(lives: impl IntoIterator<Item = (&'static str, Life)>) -> Truth {
        let mut truth = Truth::default();
        for (path, life) in lives {
            let last = life.died.or(life.versions.last().map(|version| version.mzxid));
            truth.transactions += 1;
            truth.last = truth.last.max(last.unwrap_or(life.czxid));
            truth.lives.entry(path.to_owned()).or_default().push(life);
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
        let lives = std::mem::take(&mut self.lives).into_iter();
        let lives = lives.filter_map(|(path, lives)| Some((seen(&path)?, lives)));
        let lives = lives.filter(|(path, _)| !is_left_out(path));
        let closed = std::mem::take(&mut self.closed);
        Truth {
            lives: lives.collect(),
            closed: closed.iter().filter_map(|path| seen(path)).collect(),
            ..self
        }
    }
}

/// Whether nobody is told of a path: ZooKeeper's own, and what bridges keep for themselves.
pub fn is_left_out(path: &str) -> bool {
    covers("/zookeeper", path) || covers("/zkbridge", path)
}

/// Whether a path is the root or below it.
pub fn covers(root: &str, path: &str) -> bool {
    root == "/" || path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// Lives as the transactions make them.
#[derive(Default)]
struct Lives {
    lives: BTreeMap<String, Vec<Life>>,
    ephemerals: BTreeMap<u64, BTreeSet<String>>,
    closed: BTreeSet<String>,
}

impl Lives {
    fn apply(&mut self, transaction: &Transaction) {
        let mut ended = Vec::new();
        for change in &transaction.changes {
            match change {
                Change::Create { path, .. } => self.create(transaction, path, change),
                Change::Delete { path } => ended.extend(self.delete(transaction.zxid, path)),
                Change::Set { path, data, version } => self.set(transaction, path, data, *version),
                Change::SetAcl { path, readable, .. } => self.note_readable(path, readable.0),
                Change::Close => {
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
        self.lives.entry(path.to_owned()).or_default().push(Life {
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

    fn living(&mut self, path: &str) -> Option<&mut Life> {
        let lives = self.lives.get_mut(path)?;
        lives.last_mut().filter(|life| life.died.is_none())
    }

    /// The path, if it lived.
    fn delete(&mut self, zxid: u64, path: &str) -> Option<String> {
        let life = self.living(path)?;
        life.died = Some(zxid);
        let owner = life.owner;
        if let Some(paths) = self.ephemerals.get_mut(&owner) {
            paths.remove(path);
        }
        Some(path.to_owned())
    }

    fn set(&mut self, transaction: &Transaction, path: &str, data: &[u8], version: i32) {
        // The log holds writes to ZooKeeper's own znodes, which nobody created.
        let Some(life) = self.living(path) else { return };
        life.versions.push(Version {
            mzxid: transaction.zxid,
            number: i64::from(version),
            time_ms: transaction.time_ms,
            data: data.to_vec(),
        });
    }

    /// Nobody could ever see what began and ended inside one transaction.
    fn forget_invisible(&mut self, zxid: u64, path: &str) {
        let Some(lives) = self.lives.get_mut(path) else {
            return;
        };
        lives.retain(|life| !(life.czxid == zxid && life.died == Some(zxid)));
        if lives.is_empty() {
            self.lives.remove(path);
        }
    }
}
