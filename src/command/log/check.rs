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
mod tests {
    use bridge_transactions::compression::Compression;
    use bridge_transactions::digest::PersistedStat;
    use bridge_transactions::snapshot::{AclId, SnapshotZnode};
    use bridge_transactions::testing::{self, Trailer};
    use bridge_transactions::transaction::{Lifetime, Operation, TreeDigest};

    use super::*;

    /// Creates, each with the digest of the tree after it.
    fn history(begin: &mut Tree, zxids: std::ops::RangeInclusive<i64>) -> Vec<Transaction> {
        let create = |zxid| {
            let operation = Operation::Create {
                path: format!("/ë{zxid}"),
                data: None,
                acl: vec![testing::anyone()],
                lifetime: Lifetime::Persistent,
                parent_cversion: begin.get("/").unwrap().stat.cversion + 1,
            };
            let mut transaction = testing::transaction(zxid, operation, None);
            begin.apply(&transaction);
            transaction.digest = Some(digest_of(begin));
            transaction
        };
        zxids.map(create).collect()
    }

    fn digest_of(tree: &Tree) -> TreeDigest {
        TreeDigest {
            version: DIGEST_VERSION,
            value: tree.digest(),
        }
    }

    fn znodes(paths: &[&str], tree: &Tree) -> Vec<SnapshotZnode> {
        let znode = |path: &&str| SnapshotZnode {
            path: (*path).to_owned(),
            data: None,
            acl: AclId::OPEN,
            stat: tree
                .get(path)
                .map_or(PersistedStat::default(), |znode| znode.stat),
        };
        paths.iter().map(znode).collect()
    }

    /// The report for a snapshot after 5 transactions with these znodes, and a log of those after it.
    fn checked(znodes: &[SnapshotZnode], trailer: Trailer, log: &[Transaction]) -> CheckReport {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = testing::snapshot_file(&testing::snapshot_body(&[], &[], znodes), trailer);
        std::fs::write(folder.path().join("snapshot.5"), snapshot).unwrap();
        std::fs::write(folder.path().join("log.6"), testing::log_file(log)).unwrap();
        of_folder(&LogFolder::new(folder.path())).unwrap()
    }

    const OLD: [&str; 8] = [
        "/",
        "/zookeeper",
        "/zookeeper/config",
        "/ë1",
        "/ë2",
        "/ë3",
        "/ë4",
        "/ë5",
    ];

    #[test]
    fn a_snapshot_with_a_part_of_a_later_transaction_is_judged_by_the_first_digest_after_it() {
        let mut tree = Tree::of_new_server();
        history(&mut tree, 1..=5);
        let (at_5, digest) = (tree.clone(), digest_of(&tree));
        let log = history(&mut tree, 6..=8);
        let trailer = Trailer::Both(5, digest);

        let exact = checked(&znodes(&OLD, &at_5), trailer, &log);
        assert_eq!((exact.digests, exact.warnings.len()), (4, 0), "{exact:?}");
        assert_eq!(exact.errors, Vec::<String>::new());

        // The znode of the sixth transaction is there, and its parent has not counted it.
        let mut ahead = znodes(&OLD, &at_5);
        ahead.extend(znodes(&["/ë6"], &tree));
        let fuzzy = checked(&ahead, trailer, &log);
        assert_eq!((fuzzy.digests, fuzzy.warnings.len()), (3, 1), "{fuzzy:?}");
        assert_eq!(fuzzy.errors, Vec::<String>::new());
        assert!(
            fuzzy.warnings[0].contains("the next digest of a log decides"),
            "{fuzzy:?}"
        );

        // One that lacks a znode is wrong: no transaction after it explains that.
        let damaged = checked(&znodes(&OLD[..7], &at_5), trailer, &log);
        assert_eq!((damaged.digests, damaged.errors.len()), (0, 1), "{damaged:?}");
        assert!(
            damaged.errors[0].contains("the digest of the tree after 0x0000000000000006"),
            "{damaged:?}"
        );
        // A digest of a tree before the name, as after the beginning of an epoch, is not compared.
        let before = checked(&znodes(&OLD, &at_5), Trailer::Digest(4, digest), &log);
        assert_eq!(
            (before.digests, before.warnings.len(), before.errors.len()),
            (3, 0, 0)
        );
    }

    #[test]
    fn logs_from_epoch_1_on_begin_with_an_empty_tree_only_where_the_first_digest_shows_it() {
        const EPOCH: i64 = 1 << 32;
        let session = || testing::transaction(EPOCH + 1, Operation::CreateSession { timeout: 1 }, None);
        // The log of epoch 1, and a snapshot after its second transaction.
        let check = |before: std::ops::RangeInclusive<i64>, spoiled: Option<usize>, with_snapshot: bool| {
            let mut tree = Tree::of_new_server();
            history(&mut tree, before);
            let mut log = vec![session()];
            tree.apply(&log[0]);
            log.extend(history(&mut tree, EPOCH + 2..=EPOCH + 2));
            let at_2 = (tree.clone(), digest_of(&tree));
            log.extend(history(&mut tree, EPOCH + 3..=EPOCH + 5));
            if let Some(digest) = spoiled.and_then(|at| log[at].digest.as_mut()) {
                digest.value ^= 1;
            }
            let folder = tempfile::tempdir().unwrap();
            let name = format!("log.{:x}", EPOCH + 1);
            std::fs::write(folder.path().join(name), testing::log_file(&log)).unwrap();
            if with_snapshot {
                let old = OLD.map(str::to_owned).into_iter();
                let paths: Vec<String> = old.chain([format!("/ë{}", EPOCH + 2)]).collect();
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                let body = testing::snapshot_body(&[], &[], &znodes(&paths, &at_2.0));
                let snapshot = testing::snapshot_file(&body, Trailer::Both(EPOCH + 2, at_2.1));
                let name = format!("snapshot.{:x}", EPOCH + 2);
                std::fs::write(folder.path().join(name), snapshot).unwrap();
            }
            let report = of_folder(&LogFolder::new(folder.path())).unwrap();
            assert!(report.warnings.is_empty(), "{report:?}");
            (report.digests, report.errors.len())
        };
        #[allow(
            clippy::reversed_empty_ranges,
            reason = "a new ensemble has no history before it"
        )]
        let none = 1..=0;
        // A new ensemble: all digests agree, and a wrong one after the first is damage.
        assert_eq!(check(none.clone(), None, false), (4, 0));
        assert_eq!(check(none, Some(3), false), (2, 1));
        // A server that was alone before, without its logs of that time: nothing is damaged, and a snapshot begins the
        // comparison.
        assert_eq!(check(1..=5, None, false), (0, 0));
        assert_eq!(check(1..=5, None, true), (4, 0));
        assert_eq!(check(1..=5, Some(3), true), (2, 1));
    }

    #[test]
    fn a_snapshot_without_a_digest_is_judged_only_once_a_digest_has_agreed() {
        let mut tree = Tree::of_new_server();
        history(&mut tree, 1..=5);
        let at_5 = tree.clone();
        let mut log = history(&mut tree, 6..=8);
        let wrong = checked(&znodes(&OLD[..7], &at_5), Trailer::Seal, &log);
        assert_eq!((wrong.digests, wrong.errors.len()), (0, 0), "{wrong:?}");
        log[2].digest = Some(TreeDigest {
            version: DIGEST_VERSION,
            value: 1,
        });
        let late = checked(&znodes(&OLD, &at_5), Trailer::Seal, &log);
        assert_eq!((late.digests, late.errors.len()), (2, 1), "{late:?}");
    }

    #[test]
    fn digests_of_a_server_in_another_charset_agree_and_the_error_of_a_malformed_request_is_passed() {
        use bridge_transactions::digest::PathCharset;

        let mut tree = Tree::of_new_server();
        let mut log = Vec::new();
        for zxid in 1..=3 {
            let mut next = history(&mut tree, zxid..=zxid).remove(0);
            let value = tree.digest_in(PathCharset::Ascii);
            assert_ne!(value, tree.digest());
            next.digest = Some(TreeDigest {
                version: DIGEST_VERSION,
                value,
            });
            log.push(next);
            log.push(testing::transaction(zxid, Operation::Error { code: -5 }, None));
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log.1"), testing::log_file(&log)).unwrap();
        let report = of_folder(&LogFolder::new(folder.path())).unwrap();
        assert_eq!((report.transactions, report.digests), (3, 3), "{report:?}");
        assert!(
            report.warnings.is_empty() && report.errors.is_empty(),
            "{report:?}"
        );
    }

    #[test]
    fn the_znodes_of_a_snapshot_reach_no_further_than_the_greatest_of_its_three_zxids() {
        let file = SnapshotFile {
            zxid: 5,
            compression: Compression::Plain,
            path: PathBuf::from("snapshot.5"),
        };
        let digest = |zxid| Some((zxid, digest_of(&Tree::of_new_server())));
        let check = |digest, last_zxid, expected| {
            let end = SnapshotEnd { digest, last_zxid };
            assert_eq!(Trust::of_snapshot(&file, &end), expected);
        };
        check(None, None, Trust::Open);
        check(digest(9), None, Trust::After(9));
        check(digest(4), None, Trust::After(5));
        check(digest(4), Some(7), Trust::After(7));
        check(None, Some(5), Trust::After(5));
    }
}
