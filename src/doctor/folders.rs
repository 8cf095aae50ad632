//! Checks of the folders of a source that reads transaction logs: whether they are those of servers that run.

use std::path::PathBuf;

use bridge_core::number::Zxid;
use bridge_zookeeper::config::ZookeeperConfig;
use bridge_zookeeper::txnlog::{
    FolderExamination, FolderFiles, TxnlogOptions, examine_folder, newest_applied,
};

use super::{Level, Line};
use crate::terminal::count;

/// Files that are named at most.
const NAMED_MAX: usize = 5;

/// The checks of a source that reads logs.
pub(super) async fn examine(subject: &str, options: &ZookeeperConfig, txnlog: &TxnlogOptions) -> Vec<Line> {
    let mut examined = examine_folders(txnlog).await;
    let mut lines: Vec<Line> = examined.iter().flat_map(|one| folder(subject, one)).collect();
    let applied = newest_applied(options).await;
    lines.extend(foreign(subject, &mut examined, &applied));
    let files: Vec<&FolderFiles> = readable(&examined);
    lines.extend(base(subject, &files));
    lines.push(end(subject, &files, applied));
    lines
}

/// Takes out the folders of other ensembles.
fn foreign(subject: &str, examined: &mut Vec<FolderExamination>, applied: &Result<i64, String>) -> Vec<Line> {
    let Ok(applied) = applied else { return Vec::new() };
    let mut lines = Vec::new();
    examined.retain(|one| {
        let Some(foreign) = one.foreign(*applied) else {
            return true;
        };
        let check = format!("folder {}", one.folder.display());
        let remedy =
            "take it out of [source.txnlog] directories, or correct 'connect'; nothing of it is read";
        lines.push(Line::failure(subject, &check, foreign.to_string(), remedy));
        false
    });
    lines
}

/// The checks of the folders beside an observer, which reads them after a long absence only: nothing of them ends the
/// capture. Returns the first transaction that they have, too.
pub(super) async fn examine_beside(
    subject: &str,
    options: &ZookeeperConfig,
    txnlog: &TxnlogOptions,
) -> (Vec<Line>, Option<i64>) {
    let mut examined = examine_folders(txnlog).await;
    let mut lines: Vec<Line> = examined.iter().flat_map(|one| folder(subject, one)).collect();
    let applied = newest_applied(options).await;
    lines.extend(foreign(subject, &mut examined, &applied));
    let files: Vec<&FolderFiles> = readable(&examined);
    lines.push(end(subject, &files, applied));
    for line in lines.iter_mut().filter(|line| line.level == Level::Failure) {
        line.level = Level::Warning;
    }
    let can_fill = lines.iter().all(|line| line.level == Level::Ok);
    let first = files.iter().filter_map(|files| files.first).min();
    (lines, first.filter(|_| can_fill))
}

async fn examine_folders(txnlog: &TxnlogOptions) -> Vec<FolderExamination> {
    let folders: Vec<PathBuf> = txnlog.directories.clone();
    let examined = tokio::task::spawn_blocking(move || {
        let examined = folders.iter().map(|folder| examine_folder(folder));
        examined.collect::<Vec<_>>()
    });
    // The runtime ends: nobody reads the lines.
    examined.await.unwrap_or_default()
}

fn readable(examined: &[FolderExamination]) -> Vec<&FolderFiles> {
    let files = examined.iter().filter_map(|one| one.files.as_ref().ok());
    files.collect()
}

fn shown(zxid: i64) -> Zxid {
    Zxid(zxid.cast_unsigned())
}

fn folder(subject: &str, examined: &FolderExamination) -> Vec<Line> {
    let check = format!("folder {}", examined.folder.display());
    let files = match &examined.files {
        Ok(files) => files,
        Err(reason) => {
            let remedy = "correct [source.txnlog] directories, or give this user the permission to read it";
            return vec![Line::failure(subject, &check, reason, remedy)];
        }
    };
    let found = format!(
        "{}, {}",
        count(files.logs as u64, "transaction log"),
        count(files.snapshots as u64, "snapshot")
    );
    let mut lines = vec![match (files.last, files.logs + files.snapshots) {
        (Some(last), _) => Line::ok(subject, &check, format!("{found}, up to {}", shown(last))),
        (None, 0) => Line::warning(
            subject,
            &check,
            "it has neither transaction logs nor snapshots",
            "name the dataLogDir or the dataDir of a server",
        ),
        (None, _) => Line::ok(subject, &check, found),
    }];
    for reason in files.unreadable.iter().take(NAMED_MAX) {
        lines.push(Line::warning(
            subject,
            &check,
            reason,
            "if it is no log of ZooKeeper, move it away: the source stops at it; otherwise see 'zkbridge log --check'",
        ));
    }
    lines
}

/// The first start, and each restart, begin with a snapshot that the logs continue.
fn base(subject: &str, files: &[&FolderFiles]) -> Option<Line> {
    const CHECK: &str = "snapshot";
    let newest = files.iter().filter_map(|files| files.snapshot).max();
    let oldest_log = files.iter().filter_map(|files| files.first).min()?;
    match newest {
        None => Some(Line::failure(
            subject,
            CHECK,
            "no folder has a snapshot, so that there is no tree to begin with",
            "name the dataDir of the server beside its dataLogDir; its snapshots are there",
        )),
        Some(newest) if newest < oldest_log - 1 && newest != 0 => Some(Line::warning(
            subject,
            CHECK,
            format!(
                "the newest snapshot is at {}, and the oldest log begins with {}",
                shown(newest),
                shown(oldest_log)
            ),
            "name the folders that have the logs between, or let the server write a snapshot (a restart does)",
        )),
        Some(newest) => Some(Line::ok(
            subject,
            CHECK,
            format!("the newest is at {}", shown(newest)),
        )),
    }
}

/// The logs of a server that runs have what it has applied.
fn end(subject: &str, files: &[&FolderFiles], applied: Result<i64, String>) -> Line {
    const CHECK: &str = "end of the logs";
    let last = files.iter().filter_map(|files| files.last).max();
    let applied = match applied {
        Ok(applied) => applied,
        Err(reason) => {
            return Line::failure(
                subject,
                CHECK,
                format!(
                    "no server says which transactions are committed, so that nothing is recorded: {reason}"
                ),
                "start a server of 'connect', and allow srvr (4lw.commands.whitelist)",
            );
        }
    };
    match last {
        None => Line::failure(
            subject,
            CHECK,
            "no folder has a transaction",
            "name the dataLogDir of a server that runs",
        ),
        // A new leader without a transaction of its own has the counter 0.
        Some(last) if last >= applied || applied & 0xffff_ffff == 0 => Line::ok(
            subject,
            CHECK,
            format!("{}, as servers have applied", shown(last)),
        ),
        Some(last) => Line::failure(
            subject,
            CHECK,
            format!(
                "the logs end at {}, and a server has applied {}",
                shown(last),
                shown(applied)
            ),
            "name the dataLogDir of a server that runs; on a network file system, see that files grow as they are \
             written",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::for_people;
    use super::*;

    const EPOCH: i64 = 1 << 32;

    #[test]
    fn logs_that_end_before_what_a_server_has_applied_are_a_failure() {
        let files = FolderFiles {
            logs: 1,
            first: Some(EPOCH + 1),
            last: Some(EPOCH + 5),
            snapshot: Some(0),
            ..FolderFiles::default()
        };
        for (applied, level) in [
            (Ok(EPOCH + 5), Level::Ok),
            (Ok(EPOCH + 4), Level::Ok),
            (Ok(2 * EPOCH), Level::Ok),
            (Ok(EPOCH + 6), Level::Failure),
            (Err("mute".to_owned()), Level::Failure),
        ] {
            let line = end("source main", &[&files], applied.clone());
            assert_eq!(line.level, level, "{applied:?}: {line:?}");
        }
        assert_eq!(end("source main", &[], Ok(EPOCH)).level, Level::Failure);
    }

    #[test]
    fn a_folder_of_an_epoch_that_no_server_has_reached_is_a_failure_and_shows_nothing() {
        let of = |folder: &str, last: i64| FolderExamination {
            folder: folder.into(),
            files: Ok(FolderFiles {
                logs: 1,
                last: Some(last),
                ..FolderFiles::default()
            }),
        };
        let all = || vec![of("/right", 2 * EPOCH + 5), of("/other", 6 * EPOCH + 9)];
        let mut examined = all();
        let lines = foreign("source main", &mut examined, &Ok(2 * EPOCH + 5));
        assert_eq!((lines.len(), lines[0].level), (1, Level::Failure), "{lines:?}");
        assert!(
            lines[0].message.starts_with("/other has 0x0000000600000009"),
            "{lines:?}"
        );
        assert_eq!(examined.len(), 1);
        for applied in [Ok(6 * EPOCH), Err("mute".to_owned())] {
            let mut examined = all();
            assert!(foreign("source main", &mut examined, &applied).is_empty());
            assert_eq!(examined.len(), 2);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_read_has_one_remedy() {
        let missing = examine_folder(std::path::Path::new("/does/not/exist"));
        let line = folder("source main", &missing).remove(0);
        assert!(
            line.message.ends_with("No such file or directory (os error 2)"),
            "{line:?}"
        );
        let text = for_people(&[line], &bridge_console::Style::PLAIN);
        assert_eq!(text.matches("help: ").count(), 1, "{text}");
        assert!(text.contains("name the server's dataLogDir"), "{text}");
    }

    #[test]
    fn logs_without_a_snapshot_or_with_one_that_is_too_old_are_found() {
        let with = |snapshot: Option<i64>| FolderFiles {
            logs: 1,
            first: Some(EPOCH + 10),
            snapshot,
            ..FolderFiles::default()
        };
        for (snapshot, level) in [
            (None, Level::Failure),
            (Some(EPOCH + 3), Level::Warning),
            (Some(EPOCH + 9), Level::Ok),
            (Some(EPOCH + 30), Level::Ok),
        ] {
            let files = with(snapshot);
            let line = base("source main", &[&files]).unwrap();
            assert_eq!(line.level, level, "{snapshot:?}: {line:?}");
        }
    }
}
