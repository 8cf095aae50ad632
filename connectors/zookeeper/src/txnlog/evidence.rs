//! Which files are believed: the one rule for every reader of logs and snapshots.
//!
//! A server logs a transaction before it is committed, and a leader that starts writes a snapshot of its whole log before
//! a quorum has followed it. So neither a log nor a snapshot shows by itself that a transaction was committed.
//!
//! * A *transaction* is committed if a server of `connect` that serves has applied it, or a later one of the same epoch. A
//!   later epoch shows nothing: the transaction can have been left out when that epoch began. It is also committed if, in
//!   some log, the first transaction of a later epoch comes directly after it or after a later one of its epoch: a server
//!   takes the proposals of a new leader only after it has cut what that leader does not have. But a server that took a
//!   snapshot of that leader keeps what it had logged: where a log passes over an epoch of which another log or a snapshot
//!   has a transaction, it shows nothing.
//! * A *snapshot* is believed if the zxid in its name is committed, or once the digest of a committed transaction after it
//!   is that of its tree. One that is known to be committed is preferred to a newer one that is not. If the digests
//!   contradict the tree, or nothing shows within some time that it is right, the next older snapshot is tried.
//! * A *record* that is not committed and is followed, in the same folder, by one of a later epoch is dead. It is passed over:
//!   what comes after it begins after a hole, unless the record turns out to be committed.
//! * A *folder* with a transaction or a snapshot of an epoch that no server of `connect` has reached is of another ensemble,
//!   or of one that was replaced by this one: nothing of it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bridge_core::number::Zxid;
use bridge_transactions::transaction::{counter, epoch};

use super::folder::LogFolder;
use super::tail::{LogTail, TailError};

/// What shows that transactions are committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// Of each epoch, the last transaction that a serving server has applied.
    applied: BTreeMap<u32, i64>,
    /// Where a log goes on with the first transaction of a later epoch: the last one before it, and that one.
    turns: BTreeSet<(i64, i64)>,
    /// The epochs of which there is a transaction.
    epochs: BTreeSet<u32>,
    /// Whether logs have not been read to their ends, so that an epoch may be missing above.
    pub(super) is_partial: bool,
}

impl Evidence {
    /// What shows whether a transaction is committed: the servers, or else the logs from it to the end of its epoch.
    pub(super) fn of(folders: &[LogFolder], zxid: i64, applied: &[i64]) -> Evidence {
        let mut evidence = Evidence::default();
        applied.iter().for_each(|zxid| evidence.applied(*zxid));
        if evidence.is_committed(zxid) {
            return evidence;
        }
        for folder in folders {
            let snapshots = folder.snapshots().unwrap_or_default();
            snapshots.iter().for_each(|one| evidence.snapshot(one.zxid));
            let mut tail = LogTail::new(folder.clone(), zxid.saturating_sub(1));
            let mut last = None;
            // A log that cannot be read shows nothing; the error is reported where its transactions are taken.
            while let Ok(batch) = tail.poll()
                && !batch.is_empty()
                && last.is_none_or(|last| epoch(last) <= epoch(zxid))
            {
                for transaction in batch {
                    evidence.logged(last.replace(transaction.zxid), transaction.zxid);
                }
            }
        }
        evidence
    }

    /// A server that serves clients has applied this transaction.
    pub(super) fn applied(&mut self, zxid: i64) {
        let known = self.applied.entry(epoch(zxid)).or_insert(zxid);
        *known = zxid.max(*known);
    }

    /// A log has a transaction, after another one. Returns whether it passes over an epoch.
    pub(super) fn logged(&mut self, last: Option<i64>, zxid: i64) -> bool {
        self.epochs.insert(epoch(zxid));
        let Some(last) = last.filter(|last| epoch(zxid) > epoch(*last) && counter(zxid) == 1) else {
            return false;
        };
        self.turns.insert((last, zxid));
        epoch(zxid) > epoch(last) + 1
    }

    /// There is a snapshot with this zxid. One with the counter 0 has no transaction of its epoch.
    pub(super) fn snapshot(&mut self, zxid: i64) {
        if counter(zxid) > 0 {
            self.epochs.insert(epoch(zxid));
        }
    }

    pub(super) fn is_committed(&self, zxid: i64) -> bool {
        let of_epoch = epoch(zxid);
        let is_applied = self.applied.get(&of_epoch).is_some_and(|bound| zxid <= *bound);
        let mut later = self.turns.range((zxid, i64::MIN)..);
        let is_direct = |next: u32| {
            let is_next = next == of_epoch + 1;
            is_next || (!self.is_partial && self.epochs.range(of_epoch + 1..next).next().is_none())
        };
        // A new server has the tree before all transactions.
        zxid == 0
            || is_applied
            || later
                .by_ref()
                .take_while(|(last, _)| epoch(*last) == of_epoch)
                .any(|(_, next)| is_direct(epoch(*next)))
    }
}

/// A folder that is not read, because it is ahead of all servers of `connect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignFolder {
    /// As it is configured.
    pub path: PathBuf,
    /// The newest zxid in it.
    pub newest: i64,
    /// The newest epoch that a server has reached.
    pub reached: u32,
}

impl std::fmt::Display for ForeignFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} has {}, of epoch {}, and no server of 'connect' has reached an epoch after {}: its files are those of \
             another ensemble; name only folders of servers of this one",
            self.path.display(),
            Zxid(self.newest.cast_unsigned()),
            epoch(self.newest),
            self.reached
        )
    }
}

/// The folders with an epoch that no server has reached. Blocks while the newest log of each folder is read.
///
/// # Errors
///
/// If a folder or a log cannot be read.
pub fn foreign_folders(folders: &[LogFolder], applied: &[i64]) -> Result<Vec<ForeignFolder>, TailError> {
    let Some(reached) = applied.iter().map(|zxid| epoch(*zxid)).max() else {
        return Ok(Vec::new());
    };
    let mut foreign = Vec::new();
    for folder in folders {
        let newest = newest(folder)?;
        if epoch(newest) > reached {
            let path = folder.named().to_owned();
            foreign.push(ForeignFolder {
                path,
                newest,
                reached,
            });
        }
    }
    Ok(foreign)
}

/// The newest zxid of the files of a folder.
fn newest(folder: &LogFolder) -> Result<i64, TailError> {
    let snapshots = folder.snapshots()?;
    let mut newest = snapshots.last().map_or(0, |snapshot| snapshot.zxid);
    if let Some(log) = folder.logs()?.last() {
        newest = newest.max(log.first);
        let mut tail = LogTail::new(folder.clone(), log.first.saturating_sub(1));
        // Its name is enough while its content cannot be read.
        while let Ok(batch) = tail.poll()
            && let Some(last) = batch.last()
        {
            newest = newest.max(last.zxid);
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use bridge_transactions::testing;
    use bridge_transactions::transaction::Transaction;

    use super::*;

    const NEXT: i64 = 1 << 32;

    /// A folder with one log of these transactions and empty snapshots.
    fn folder(zxids: &[i64], snapshots: &[i64]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: String, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        let all: Vec<Transaction> = zxids
            .iter()
            .map(|zxid| testing::a_create(*zxid, &format!("/{zxid:x}")))
            .collect();
        if let Some(first) = zxids.first() {
            write(format!("log.{first:x}"), &testing::log_file(&all));
        }
        for zxid in snapshots {
            write(format!("snapshot.{zxid:x}"), b"");
        }
        folder
    }

    #[test]
    fn a_snapshot_is_committed_if_a_server_or_the_begin_of_the_next_epoch_shows_it() {
        let check = |zxid: i64, applied: &[i64], logs: &[&[i64]], snapshots: &[i64], expected: bool| {
            let folders: Vec<tempfile::TempDir> = logs.iter().map(|log| folder(log, snapshots)).collect();
            let named: Vec<LogFolder> = folders.iter().map(|one| LogFolder::new(one.path())).collect();
            let found = Evidence::of(&named, zxid, applied).is_committed(zxid);
            assert_eq!(found, expected, "{zxid:x} {applied:x?} {logs:x?} {snapshots:x?}");
        };
        let dead = NEXT + 3;
        check(0, &[], &[], &[], true);
        check(dead, &[], &[&[NEXT + 2, dead]], &[dead], false);
        check(dead, &[NEXT + 2, 2 * NEXT], &[&[NEXT + 2, dead]], &[dead], false);
        check(dead, &[NEXT + 4], &[&[]], &[dead], true);
        // The next epoch begins after the one before it, or after it.
        let before: &[i64] = &[NEXT + 2, 2 * NEXT + 1];
        check(
            dead,
            &[2 * NEXT + 1],
            &[before, &[NEXT + 2, dead]],
            &[dead],
            false,
        );
        check(NEXT + 2, &[2 * NEXT + 1], &[before], &[], true);
        check(
            dead,
            &[2 * NEXT + 1],
            &[&[NEXT + 2, dead, 2 * NEXT + 1]],
            &[],
            true,
        );
        check(
            dead,
            &[2 * NEXT + 9],
            &[&[NEXT + 2, dead, 2 * NEXT + 9]],
            &[],
            false,
        );
    }

    #[test]
    fn a_log_that_passes_over_an_epoch_shows_nothing_if_that_epoch_has_a_transaction_elsewhere() {
        let jumps: &[i64] = &[NEXT + 2, NEXT + 3, 3 * NEXT + 1];
        let check = |others: &[&[i64]], snapshots: &[i64], expected: bool| {
            let mut folders = vec![folder(jumps, snapshots)];
            folders.extend(others.iter().map(|log| folder(log, &[])));
            let named: Vec<LogFolder> = folders.iter().map(|one| LogFolder::new(one.path())).collect();
            let found = Evidence::of(&named, NEXT + 3, &[3 * NEXT + 1]).is_committed(NEXT + 3);
            assert_eq!(found, expected, "{others:x?} {snapshots:x?}");
        };
        check(&[], &[], true);
        // A leader without a transaction has written one.
        check(&[], &[2 * NEXT], true);
        // The server took the snapshot of a leader that had none of it.
        check(&[], &[2 * NEXT + 5], false);
        check(&[&[NEXT + 2, 2 * NEXT + 1, 3 * NEXT + 1]], &[], false);
    }

    #[test]
    fn a_folder_of_an_epoch_that_no_server_has_reached_is_foreign_and_named() {
        let right = folder(&[NEXT + 1, 2 * NEXT + 1], &[NEXT]);
        let check = |other: &tempfile::TempDir, applied: &[i64], newest: Option<i64>| {
            let folders = [right.path(), other.path()].map(LogFolder::new);
            let found = foreign_folders(&folders, applied).unwrap();
            assert_eq!(found.first().map(|one| one.newest), newest, "{found:?}");
            if let Some(found) = found.first() {
                let text = found.to_string();
                assert_eq!(found.path, other.path());
                assert!(
                    text.contains(&format!("{} has 0x", other.path().display())),
                    "{text}"
                );
            }
        };
        let by_record = folder(&[NEXT + 1, 2 * NEXT + 1, 6 * NEXT + 9], &[]);
        check(&by_record, &[NEXT, 2 * NEXT + 5], Some(6 * NEXT + 9));
        check(&by_record, &[6 * NEXT], None);
        check(&by_record, &[], None);
        let by_snapshot = folder(&[], &[6 * NEXT]);
        check(&by_snapshot, &[2 * NEXT + 5], Some(6 * NEXT));
    }
}
