//! Locks that all test processes of this machine share, as files in the temporary directory.
//!
//! Tests of several packages, and of several checkouts, run at the same time. They must not run two Mavens on one
//! local repository, hand out one port twice, or start ten JVMs on two cores. A lock ends with its process, however
//! that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use crate::patience::eventually;
use crate::{Error, Result};

/// Longest wait for a turn to start a server: every start before ours may use its own bound to the full.
const TURN_BOUND: Duration = Duration::from_secs(240);

/// Longest wait for another process's work: a few slow fetches.
const LOCK_BOUND: Duration = Duration::from_secs(1_800);

/// The directory of lock files, one per user so that permissions never clash.
fn directory() -> Result<PathBuf> {
    let name = format!("zkbridge-servers-{}", nix::unistd::getuid());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
    Ok(directory)
}

fn open(name: &str) -> Result<File> {
    let path = directory()?.join(name);
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    opened.map_err(Error::io("open", &path))
}

/// Takes the lock of that name, waiting for it.
pub(crate) async fn lock(name: &str) -> Result<File> {
    let what = format!("the lock {name} of {}", directory()?.display());
    eventually(what, LOCK_BOUND, || async { try_lock(name).transpose() }).await?
}

/// Takes the lock of that name if it is free.
pub(crate) fn try_lock(name: &str) -> Result<Option<File>> {
    let file = open(name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(Error::Io {
            action: format!("lock {name}"),
            source,
        }),
    }
}

/// The right to start a server: as many at once on the machine as it has cores. Given back on drop.
pub(crate) struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits for a turn.
    pub(crate) async fn take() -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lock = eventually("a turn to start a server", TURN_BOUND, || async {
            (0..cores).find_map(|slot| try_lock(&format!("turn-{slot}")).transpose())
        });
        Ok(Self { _lock: lock.await?? })
    }
}
