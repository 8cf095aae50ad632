//! `zkbridge log --check`: reads logs and snapshots to their ends, replays the logs from the first usable snapshot, and
//! compares the tree with the digests that servers from 3.6 on write.
//!
//! The znodes of a snapshot can have parts of transactions that come after it, so they are judged by the first digest of a
//! transaction after those; their own digest, where it differs, is a warning.
//!
//! A log of a member of an ensemble can have holes and transactions that were never committed: a server that was synced by
//! a snapshot has them. A hole is a warning, and the replay begins again at the next snapshot.

use std::fs::File;
use std::path::{Path, PathBuf};

use bridge_console::{Color, Style};
use bridge_transactions::compression::Decompressed;
use bridge_transactions::log_file::{LogEnd, LogItem, LogReader};
use bridge_transactions::snapshot::{SnapshotEnd, SnapshotError, SnapshotItem, SnapshotReader};
use bridge_transactions::transaction::{DIGEST_VERSION, Transaction, can_follow, counter, epoch};
use bridge_transactions::tree::Tree;
use bridge_zookeeper::txnlog::{LogFile, LogFolder, SnapshotFile};
use serde::Serialize;

use super::input::{self, Kind};
use super::torn;
use crate::command::{json_text, print};
use crate::exit::{Exit, Failure};
use crate::terminal::{Tone, count, line};

/// Messages of each kind that are kept.
const MESSAGES_MAX: usize = 100;

/// The result for a folder or a file.
#[derive(Debug, Default, Serialize)]
struct CheckReport {
    path: PathBuf,
    logs: u64,
    transactions: u64,
    /// The zxid of the first transaction, and of the last one.
    first: Option<String>,
    last: Option<String>,
    /// Snapshots that are whole.
    snapshots: u64,
    /// Digests that were computed and agree.
    digests: u64,
    warnings: Vec<String>,
    errors: Vec<String>,
}

impl CheckReport {
    fn warn(&mut self, message: String) {
        if self.warnings.len() < MESSAGES_MAX {
            self.warnings.push(message);
        }
    }

    fn fail(&mut self, message: String) {
        if self.errors.len() < MESSAGES_MAX {
            self.errors.push(message);
        }
    }

    fn text(&self, style: &Style) -> String {
        let mut text = format!("{}\n", self.path.display());
        let mut say = |label: &str, words: &str, tone| text.push_str(&line(label, words, tone, style));
        if let (Some(first), Some(last)) = (&self.first, &self.last) {
            let (transactions, logs) = (count(self.transactions, "transaction"), count(self.logs, "log"));
            say(
                "logs",
                &format!("{transactions} in {logs}, {first} to {last}"),
                Tone::Plain,
            );
        }
        if self.snapshots > 0 {
            say("snapshots", &format!("{} whole", self.snapshots), Tone::Plain);
        }
        match self.digests {
            0 => say("digests", "none compared", Tone::Quiet),
            digests => say("digests", &format!("{digests} agree"), Tone::Good),
        }
        for warning in &self.warnings {
            say("warning", warning, Tone::Warning);
        }
        for error in &self.errors {
            say("error", error, Tone::Bad);
        }
        text
    }
}

/// Checks the named files and folders.
pub fn run(named: &[PathBuf], json: bool) -> Result<(), Failure> {
    let style = Style::for_stdout(Color::Auto);
    let mut is_sound = true;
    for path in named {
        let report = match path.is_dir() {
            true => of_folder(&LogFolder::new(path))?,
            false => of_file(path)?,
        };
        is_sound &= report.errors.is_empty();
        match json {
            true => print(&json_text(&report, serde_json::to_string)?)?,
            false => print(&report.text(&style))?,
        }
    }
    match is_sound {
        true => Ok(()),
        false => Err(Failure::new(Exit::Runtime, "")),
    }
}

/// The tree that is replayed.
enum Replay {
    /// There is no state from which the next transaction could be applied.
    Without,
    /// Transactions up to this snapshot are in it.
    From(SnapshotFile),
    /// The tree after the last transaction.
    At { tree: Box<Tree>, trust: Trust },
}

/// Whether a digest that differs is a fault of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It is: a digest has agreed, or the tree is the one of a new server.
    Proved,
    /// The first one decides: a log that begins with epoch 1 is that of a new ensemble, or of a server that was alone before
    /// and has purged the logs of that time.
    Begin,
    /// It is, once a transaction after this one was replayed over a snapshot: the snapshot has nothing beyond that.
    After(i64),
    /// It is not until one has agreed: nothing shows up to where the snapshot can have transactions.
    Open,
}

impl Trust {
    /// Of a snapshot. The server had applied the transactions up to these zxids when it had written the znodes, and perhaps
    /// a part of the next one.
    fn of_snapshot(snapshot: &SnapshotFile, end: &SnapshotEnd) -> Trust {
        let read_after = end.digest.map(|(zxid, _)| zxid).max(end.last_zxid);
        read_after.map_or(Trust::Open, |zxid| Trust::After(zxid.max(snapshot.zxid)))
    }
}

struct FolderCheck {
    report: CheckReport,
    snapshots: Vec<SnapshotFile>,
    replay: Replay,
    last: Option<i64>,
}

fn of_folder(folder: &LogFolder) -> Result<CheckReport, Failure> {
    let mut check = FolderCheck {
        report: CheckReport {
            path: folder.path().to_owned(),
            ..CheckReport::default()
        },
        snapshots: Vec::new(),
        replay: Replay::Without,
        last: None,
    };
    for snapshot in folder.snapshots()? {
        match load(&snapshot) {
            Ok((tree, end)) => {
                check.report.snapshots += 1;
                check.compare(&snapshot, &tree, &end);
                check.snapshots.push(snapshot);
            }
            Err(error) => check.report.fail(format!("{}: {error}", name_of(&snapshot.path))),
        }
    }
    for log in folder.logs()? {
        check.log(&log);
    }
    Ok(check.report)
}

fn of_file(path: &Path) -> Result<CheckReport, Failure> {
    let inputs = input::resolve(&[path.to_owned()])?;
    let mut check = FolderCheck {
        report: CheckReport {
            path: path.to_owned(),
            ..CheckReport::default()
        },
        snapshots: Vec::new(),
        replay: Replay::Without,
        last: None,
    };
    for input in inputs {
        let zxid = input.zxid.unwrap_or_default();
        match input.kind {
            Kind::Log => check.log(&LogFile {
                first: zxid,
                path: input.path,
            }),
            Kind::Snapshot(compression) => {
                let snapshot = SnapshotFile {
                    zxid,
                    compression,
                    path: input.path,
                };
                match load(&snapshot) {
                    Ok((tree, end)) => {
                        check.report.snapshots += 1;
                        check.compare(&snapshot, &tree, &end);
                    }
                    Err(error) => check.report.fail(error.to_string()),
                }
            }
        }
    }
    Ok(check.report)
}

/// The tree of a snapshot.
fn load(snapshot: &SnapshotFile) -> Result<(Tree, SnapshotEnd), SnapshotError> {
    let file = File::open(&snapshot.path).map_err(|cause| SnapshotError::Io { at: 0, cause })?;
    let mut reader = SnapshotReader::new(Decompressed::new(file, snapshot.compression))?;
    let mut tree = Tree::default();
    let mut end = SnapshotEnd::default();
    while let Some(item) = reader.next_item()? {
        match item {
            SnapshotItem::Session { id, .. } => tree.insert_session(id),
            SnapshotItem::AclList { .. } => {}
            SnapshotItem::Znode(znode) => tree.insert(&znode.path, znode.data.as_deref(), znode.stat),
            SnapshotItem::End(found) => end = found,
        }
    }
    Ok((tree, end))
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

impl FolderCheck {
    /// Compares a snapshot with its own digest, where no transaction was applied completely while it was written. A part of
    /// one may have been, so a difference shows nothing yet.
    fn compare(&mut self, snapshot: &SnapshotFile, tree: &Tree, end: &SnapshotEnd) {
        let Some((zxid, digest)) = end.digest else { return };
        if zxid != snapshot.zxid || digest.version != DIGEST_VERSION {
            return;
        }
        match tree.has_digest(digest.value) {
            true => self.report.digests += 1,
            false => self.report.warn(format!(
                "{}: the digest of its znodes is 0x{:016x}, and the server wrote 0x{:016x}: a transaction was applied \
                 meanwhile, or it is damaged; the next digest of a log decides",
                name_of(&snapshot.path),
                tree.digest(),
                digest.value
            )),
        }
    }

    fn log(&mut self, log: &LogFile) {
        let name = name_of(&log.path);
        if let Err(error) = self.read_log(log, &name) {
            self.report.fail(format!("{name}: {error}"));
        }
    }

    fn read_log(&mut self, log: &LogFile, name: &str) -> Result<(), String> {
        let file = File::open(&log.path).map_err(|error| error.to_string())?;
        let mut reader = LogReader::new(file).map_err(|error| error.to_string())?;
        self.report.logs += 1;
        loop {
            match reader.next_item() {
                Ok(Some(LogItem::Transaction { transaction, .. })) => self.transaction(&transaction, name),
                Ok(Some(LogItem::Damaged { at, fault })) => {
                    self.report
                        .fail(format!("{name}: the record at byte {at} is damaged: {fault}"));
                }
                Ok(Some(LogItem::End(LogEnd::Damaged { at, fault }))) => {
                    self.report.fail(format!("{name}: damaged at byte {at}: {fault}"));
                }
                Ok(Some(LogItem::End(LogEnd::Torn { at }))) => {
                    self.report.warn(format!("{name}: {}", torn(at)));
                }
                Ok(Some(LogItem::End(LogEnd::Whole { .. }))) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn transaction(&mut self, transaction: &Transaction, name: &str) {
        let zxid = transaction.zxid;
        match self.last {
            // The error of a malformed request, which changes nothing.
            Some(last) if transaction.is_without_number(last) => return,
            None => self.begin(zxid),
            Some(last) if zxid <= last => {
                self.report.warn(format!(
                    "{name}: 0x{zxid:016x} comes after 0x{last:016x}, and is passed over"
                ));
                return;
            }
            Some(last) if !can_follow(zxid, last) => {
                let missing = match epoch(zxid) == epoch(last) {
                    true => format!("{} between them", zxid - last - 1),
                    false => "some".to_owned(),
                };
                self.report.warn(format!(
                    "{name}: 0x{zxid:016x} comes after 0x{last:016x}: {missing} in no log of this folder"
                ));
                self.replay = self.base(zxid);
            }
            Some(_) => {}
        }
        self.last = Some(zxid);
        self.report.transactions += 1;
        self.report.first.get_or_insert_with(|| format!("0x{zxid:016x}"));
        self.report.last = Some(format!("0x{zxid:016x}"));
        self.apply(transaction, name);
    }

    /// The state before the first transaction of all logs. A new standalone server begins with epoch 0, and a new ensemble
    /// with epoch 1.
    fn begin(&mut self, zxid: i64) {
        let trust = match (epoch(zxid), counter(zxid)) {
            (0, 1) => Trust::Proved,
            (1, 1) => Trust::Begin,
            _ => {
                self.replay = self.base(zxid);
                return;
            }
        };
        let tree = Box::new(Tree::of_new_server());
        self.replay = Replay::At { tree, trust };
    }

    /// The first snapshot from which the transactions from this one on can be applied.
    fn base(&self, zxid: i64) -> Replay {
        let usable = self.snapshots.iter().find(|snapshot| snapshot.zxid >= zxid - 1);
        usable.map_or(Replay::Without, |snapshot| Replay::From(snapshot.clone()))
    }

    fn apply(&mut self, transaction: &Transaction, name: &str) {
        if let Replay::From(snapshot) = &self.replay {
            if transaction.zxid <= snapshot.zxid {
                return;
            }
            // It was read before, so that an error is a file that has just changed.
            self.replay = match load(snapshot) {
                Ok((tree, end)) => Replay::At {
                    tree: Box::new(tree),
                    trust: Trust::of_snapshot(snapshot, &end),
                },
                Err(_) => Replay::Without,
            };
        }
        let Replay::At { tree, trust } = &mut self.replay else {
            return;
        };
        tree.apply(transaction);
        let Some(digest) = transaction
            .digest
            .filter(|digest| digest.version == DIGEST_VERSION)
        else {
            return;
        };
        if tree.has_digest(digest.value) {
            *trust = Trust::Proved;
            self.report.digests += 1;
            return;
        }
        let is_fault = match *trust {
            Trust::Proved => true,
            Trust::After(zxid) => transaction.zxid > zxid,
            Trust::Begin => {
                self.replay = self.base(transaction.zxid);
                return self.apply(transaction, name);
            }
            Trust::Open => false,
        };
        if is_fault {
            self.report.fail(format!(
                "{name}: the digest of the tree after 0x{:016x} is 0x{:016x}, and the server wrote 0x{:016x}; \
                 nothing after it is compared until the next snapshot",
                transaction.zxid,
                tree.digest(),
                digest.value
            ));
            self.replay = self.base(transaction.zxid + 1);
        }
    }
}

#[cfg(test)]
mod tests;
