//! Finds out whether the folders of a source are those of servers that run, for `doctor`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bridge_transactions::log_file::{LogEnd, LogError, LogItem, LogReader};
use bridge_transactions::transaction::{counter, epoch};

use super::applied::applied_by_servers;
use super::evidence::ForeignFolder;
use super::folder::{LogFile, LogFolder};
use crate::config::ZookeeperConfig;

/// The state of one folder.
#[derive(Debug)]
pub struct FolderExamination {
    /// As it is configured.
    pub folder: PathBuf,
    /// Its files; otherwise why it cannot be listed.
    pub files: Result<FolderFiles, String>,
}

/// The files of a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FolderFiles {
    /// Transaction logs.
    pub logs: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// The first transaction by the name of the oldest log.
    pub first: Option<i64>,
    /// The last transaction in the newest log that has one.
    pub last: Option<i64>,
    /// The newest snapshot.
    pub snapshot: Option<i64>,
    /// Files that are named as logs and cannot be read as such, each with the reason.
    pub unreadable: Vec<String>,
}

impl FolderExamination {
    /// The folder as one of another ensemble, if it has an epoch after the one that servers have reached with this zxid.
    pub fn foreign(&self, applied: i64) -> Option<ForeignFolder> {
        let files = self.files.as_ref().ok()?;
        let newest = files.last.max(files.snapshot)?;
        (epoch(newest) > epoch(applied)).then(|| ForeignFolder {
            path: self.folder.clone(),
            newest,
            reached: epoch(applied),
        })
    }
}

/// Examines a folder. Blocks while it reads its newest log.
pub fn examine_folder(folder: &Path) -> FolderExamination {
    let found = LogFolder::new(folder);
    let files = found.logs().and_then(|logs| Ok((logs, found.snapshots()?)));
    let files = files.map_err(|error| error.to_string()).map(|(logs, snapshots)| {
        let mut files = FolderFiles {
            logs: logs.len(),
            snapshots: snapshots.len(),
            first: logs.first().map(|log| log.first),
            snapshot: snapshots.last().map(|snapshot| snapshot.zxid),
            ..FolderFiles::default()
        };
        for log in logs.iter().rev() {
            match read_log(log, files.last.is_none()) {
                Ok(last) => files.last = files.last.or(last),
                Err(reason) => files.unreadable.push(format!("{}: {reason}", log.path.display())),
            }
        }
        files
    });
    FolderExamination {
        folder: folder.to_owned(),
        files,
    }
}

/// The last transaction of a log; with `whole` unset only its header is read.
fn read_log(log: &LogFile, whole: bool) -> Result<Option<i64>, String> {
    let words = |error: LogError| error.to_string();
    let file = File::open(&log.path).map_err(|error| error.to_string())?;
    let mut reader = LogReader::new(BufReader::new(file)).map_err(words)?;
    let mut last = None;
    while whole && let Some(item) = reader.next_item().map_err(words)? {
        match item {
            LogItem::Transaction { transaction, .. } => last = Some(transaction.zxid),
            LogItem::Damaged { at, fault } | LogItem::End(LogEnd::Damaged { at, fault }) => {
                return Err(format!("damaged at byte {at}: {fault}"));
            }
            LogItem::End(_) => {}
        }
    }
    Ok(last)
}

/// The last transaction that any serving server of `connect` has applied.
///
/// # Errors
///
/// The reason of each server, if none says it.
pub async fn newest_applied(config: &ZookeeperConfig) -> Result<i64, String> {
    let applied = applied_by_servers(config).await?;
    applied
        .into_iter()
        .max()
        .ok_or_else(|| "no server says which transactions are committed".to_owned())
}

/// The transactions in a second, measured over some time; `None` if no server says it, or the leader changes meanwhile.
#[allow(clippy::cast_precision_loss, reason = "a counter of 32 bits")]
pub async fn write_rate(config: &ZookeeperConfig, over: Duration) -> Option<f64> {
    let before = newest_applied(config).await.ok()?;
    let began = std::time::Instant::now();
    tokio::time::sleep(over).await;
    let after = newest_applied(config).await.ok()?;
    let is_one_leader = epoch(before) == epoch(after);
    let came = i64::from(counter(after)) - i64::from(counter(before));
    is_one_leader.then(|| came.max(0) as f64 / began.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use bridge_transactions::testing;
    use bridge_transactions::transaction::Transaction;

    use super::*;

    #[test]
    fn the_ends_of_the_logs_and_the_files_that_are_none_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        let transactions: Vec<Transaction> = (1..=3)
            .map(|at| testing::a_create(0x1_0000_0000 + at, "/a"))
            .collect();
        write("log.100000001", &testing::log_file(&transactions));
        // The server has just created it.
        write("log.100000004", b"");
        write("log.0", b"2026-01-01 INFO rotated by logrotate");
        write("snapshot.0", b"");
        let found = examine_folder(folder.path()).files.unwrap();
        assert_eq!((found.logs, found.snapshots), (3, 1));
        assert_eq!(found.last, Some(0x1_0000_0003));
        assert_eq!(found.snapshot, Some(0));
        assert_eq!(found.unreadable.len(), 1);
        assert!(
            found.unreadable[0].contains("log.0: is not a transaction log"),
            "{found:?}"
        );
        let missing = examine_folder(&folder.path().join("missing")).files;
        assert!(missing.unwrap_err().contains("missing"));
    }

    #[test]
    fn a_log_that_is_damaged_in_its_middle_is_named_with_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let transactions: Vec<Transaction> = (1..=3)
            .map(|at| testing::a_create(0x1_0000_0000 + at, "/a"))
            .collect();
        let mut bytes = testing::log_file(&transactions);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(folder.path().join("log.100000001"), bytes).unwrap();
        let found = examine_folder(folder.path()).files.unwrap();
        assert_eq!(found.unreadable.len(), 1, "{found:?}");
        assert!(found.unreadable[0].contains("damaged at byte"), "{found:?}");
    }
}
