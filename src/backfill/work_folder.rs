//! The folder in which a history is made, and the moment in which it gets its name.
//!
//! One process at a time has the folder, by a lock file beside it. A folder that a killed process left is removed.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use bridge_core::folder::{folder_of, open_plain, sync_folder};
use bridge_core::journal::{check_not_lost, log_beside, remove_companions};
use nix::fcntl::OFlag;

use crate::exit::{Exit, Failure};

/// A folder for its owner only: the file holds the data of znodes.
const FOLDER_MODE: u32 = 0o700;

/// Read and write for the owner only.
const FILE_MODE: u32 = 0o600;

/// The name of the file while it is made.
const FILE: &str = "made.journal";

/// A folder of this process; removed when it is dropped.
pub(super) struct WorkFolder {
    folder: PathBuf,
    _lock: File,
}

impl WorkFolder {
    /// Takes the folder beside a journal.
    pub(super) fn take(journal: &Path) -> Result<WorkFolder, Failure> {
        let folder = journal.with_extension("backfill");
        let lock = journal.with_extension("backfill.lock");
        let failed = |error: io::Error| environment(&lock, &error);
        let around = folder_of(journal);
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(around)
            .map_err(|error| environment(around, &error))?;
        let held = open_plain(&lock, FILE_MODE).map_err(failed)?.ok_or_else(|| {
            let message = format!(
                "{} is a link or no plain file, so it is left alone\nhelp: find out who made it, and remove it",
                lock.display()
            );
            Failure::new(Exit::Environment, message)
        })?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "another backfill of this source runs: it holds {}\nhelp: wait for its end",
                    lock.display()
                );
                return Err(Failure::new(Exit::Environment, message));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        give_to_owner(&held, &lock).map_err(failed)?;
        Ok(WorkFolder { folder, _lock: held })
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// The path for a file, in a folder that is empty.
    pub(super) fn fresh_file(&self) -> Result<PathBuf, Failure> {
        let failed = |error: io::Error| environment(&self.folder, &error);
        self.clear().map_err(failed)?;
        DirBuilder::new()
            .mode(FOLDER_MODE)
            .create(&self.folder)
            .map_err(failed)?;
        Ok(self.folder.join(FILE))
    }

    /// Gives a closed file its name, in place of the one that has it.
    pub(super) fn publish(&self, file: &Path, name: &Path) -> Result<(), Failure> {
        let done = synchronised(file, name)
            // SQLite would use the logs of the earlier file as those of this.
            .and_then(|()| remove_companions(name))
            .and_then(|()| fs::rename(file, name))
            .and_then(|()| sync_folder(folder_of(name)));
        done.map_err(|error| environment(name, &error))
    }

    /// Gives a closed file its name, which no file may have. A bridge may have been started meanwhile, and killed: what it
    /// left is kept, and no log of a lost journal becomes one of this file.
    pub(super) fn publish_new(&self, file: &Path, name: &Path) -> Result<(), Failure> {
        check_not_lost(name)?;
        let done = synchronised(file, name)
            .and_then(|()| fs::hard_link(file, name))
            .and_then(|()| sync_folder(folder_of(name)));
        done.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::new(
                Exit::Environment,
                format!(
                    "{} was made meanwhile: a bridge was started\nhelp: run the command again, which now makes the history \
                     beside it",
                    name.display()
                ),
            ),
            _ => environment(name, &error),
        })
    }

    fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::warn!(folder = %self.folder.display(), %error, "a folder of a backfill is left");
        }
    }
}

/// A file that was closed, with its data on the disk and without a log, for its place.
fn synchronised(file: &Path, name: &Path) -> io::Result<()> {
    if let Some(log) = log_beside(file) {
        return Err(io::Error::other(format!(
            "its log {} was not copied into it",
            log.display()
        )));
    }
    let closed = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(file)?;
    give_to_owner(&closed, name)?;
    closed.sync_all()
}

/// Where root reads the files of servers for the bridge of another user, who could not open what root has made: a file gets
/// the owner of the folder of its place.
fn give_to_owner(file: &File, name: &Path) -> io::Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        return Ok(());
    }
    let folder = fs::metadata(folder_of(name))?;
    fchown(file, Some(folder.uid()), Some(folder.gid()))
}

fn environment(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Environment,
        format!(
            "{}: {error}\nhelp: make room, and give this user permission to write in data_dir",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use bridge_core::journal::{Journal, JournalOptions, beside};

    use super::*;

    #[test]
    fn a_new_journal_gets_no_name_beside_which_a_log_or_a_lock_file_of_a_lost_one_is_left() {
        let check = |suffix: &str, content: &str, expected: &str| {
            let home = tempfile::tempdir().unwrap();
            let journal = home.path().join("main.journal");
            let work = WorkFolder::take(&journal).unwrap();
            let file = work.fresh_file().unwrap();
            fs::write(&file, "new").unwrap();
            let left = beside(&journal, suffix);
            fs::write(&left, content).unwrap();
            let refused = work.publish_new(&file, &journal).unwrap_err();
            assert!(refused.message.contains(expected), "{refused}");
            assert!(!journal.exists());
            assert_eq!(fs::read_to_string(&left).unwrap(), content);
        };
        check("-wal", "of a lost one", "main.journal-wal is there without it");
        check(
            "-journal",
            "of a lost one",
            "main.journal-journal is there without it",
        );
        check(
            ".lock",
            "7 journal-exists",
            "its lock file says that there was one",
        );
    }

    #[test]
    fn a_file_appears_whole_and_a_second_process_waits_for_the_first() {
        let home = tempfile::tempdir().unwrap();
        let journal = home.path().join("data/main.journal");
        let work = WorkFolder::take(&journal).unwrap();
        let busy = WorkFolder::take(&journal).err().expect("one at a time");
        assert!(busy.message.contains("another backfill"), "{busy}");
        let file = work.fresh_file().unwrap();
        fs::write(&file, "one").unwrap();
        // Of an attempt before.
        let file = work.fresh_file().unwrap();
        assert!(!file.exists());
        fs::write(&file, "two").unwrap();
        let past = home.path().join("data/main.history");
        fs::write(&past, "old").unwrap();
        for suffix in ["-wal", "-shm", "-journal"] {
            fs::write(beside(&past, suffix), "of the old one").unwrap();
        }
        work.publish(&file, &past).unwrap();
        assert_eq!(fs::read_to_string(&past).unwrap(), "two");
        for suffix in ["-wal", "-shm", "-journal"] {
            assert!(!beside(&past, suffix).exists(), "{suffix}");
        }
        drop(Journal::open(&file, &JournalOptions::new("main")).unwrap());
        work.publish_new(&file, &journal).unwrap();
        let taken = work.publish_new(&file, &journal).unwrap_err();
        assert!(taken.message.contains("was made meanwhile"), "{taken}");
        fs::write(beside(&file, "-wal"), "not copied").unwrap();
        assert!(work.publish(&file, &past).is_err());
        drop(work);
        assert!(!home.path().join("data/main.backfill").exists());
        WorkFolder::take(&journal).unwrap();
    }
}
