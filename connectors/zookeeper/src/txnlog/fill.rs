//! The transactions after a position, from the logs of servers, for a source that reads them elsewhere and was away for
//! too long.
//!
//! Invariants:
//!
//! 1. Nothing is read on from a position whose transaction is in no log: only that shows that the logs are those of the
//!    journal's ensemble.
//! 2. The transactions follow the position without a hole, and all of them are committed (`history`). A new epoch needs
//!    the tree, which costs a snapshot; within an epoch their numbers are enough.

use bridge_core::committed::HistoryPosition;
use bridge_core::number::Zxid;
use bridge_transactions::transaction::Transaction;

use super::base::{BaseError, Resumed, Sources};
use super::folder::LogFolder;
use super::history::{HistoryError, LogHistory, LogPosition};
use super::tail::{LogTail, TailError};

/// Why logs cannot fill a hole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FillError {
    /// No log has the last transaction of the journal.
    #[error(
        "no log has 0x{position:016x}, the last transaction in the journal: the servers have removed it \
         (autopurge.snapRetainCount), or [source.txnlog] directories names other folders"
    )]
    NoPosition {
        /// Its zxid.
        position: i64,
    },
    /// A log has another transaction in its place.
    #[error(
        "{} has another transaction at 0x{position:016x} than the journal: name only folders of servers of this ensemble \
         in [source.txnlog] directories",
        folder.display()
    )]
    OtherHistory {
        /// The folder.
        folder: std::path::PathBuf,
        /// The zxid.
        position: i64,
    },
    /// A log cannot be read.
    #[error(transparent)]
    Tail(#[from] TailError),
    /// The logs cannot be read on.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// There is no tree to prove the begin of an epoch with.
    #[error(transparent)]
    Base(#[from] BaseError),
}

/// Reads the transactions after a position.
pub(crate) struct HoleFill<'a> {
    sources: Sources<'a>,
    history: LogHistory,
    /// The epoch of the leader; nothing later is returned.
    epoch: u32,
    applied: Vec<i64>,
    /// Whether the history has the tree.
    has_tree: bool,
    /// Where no tree could be had. Another server's log can lead to a later place.
    without_tree_at: Option<i64>,
}

impl<'a> HoleFill<'a> {
    /// Finds the position in the logs. Nothing of an epoch after `epoch` is returned.
    ///
    /// # Errors
    ///
    /// If no log has it, or a log cannot be read.
    pub(crate) fn begin(
        sources: Sources<'a>,
        at: &HistoryPosition,
        epoch: u32,
        applied: &[i64],
    ) -> Result<HoleFill<'a>, FillError> {
        check_position(sources.folders, at)?;
        let begin = LogPosition {
            zxid: at.zxid.0.cast_signed(),
            payload_crc: at.payload_crc,
            // Of paths in UTF-8, and perhaps not the leader's.
            digest: None,
        };
        let history = LogHistory::new(sources.folders.to_vec(), begin, None);
        let mut fill = HoleFill {
            sources,
            history,
            epoch,
            applied: Vec::new(),
            has_tree: false,
            without_tree_at: None,
        };
        fill.history.end_with_epoch(epoch);
        fill.applied(applied);
        Ok(fill)
    }

    /// Serving servers have applied these transactions.
    pub(crate) fn applied(&mut self, zxids: &[i64]) {
        self.applied = zxids.to_vec();
        zxids.iter().for_each(|zxid| self.history.applied(*zxid));
    }

    /// The next transactions; none where the logs have no more that are known to be committed.
    ///
    /// # Errors
    ///
    /// If a log cannot be read.
    pub(crate) fn next(&mut self) -> Result<Vec<Transaction>, FillError> {
        let taken = poll(&mut self.history)?;
        if !taken.is_empty() || self.has_tree || self.history.hole().is_none() {
            return Ok(taken);
        }
        // The first transaction of an epoch: the tree shows whether the epoch before it ended with the one before it.
        let reached = self.history.position();
        if self.without_tree_at == Some(reached.zxid) {
            return Ok(taken);
        }
        self.without_tree_at = Some(reached.zxid);
        let at = HistoryPosition {
            zxid: Zxid(reached.zxid.cast_unsigned()),
            payload_crc: reached.payload_crc,
            ..HistoryPosition::default()
        };
        let Resumed::From(mut history) = self.sources.resume(&at, &self.applied)? else {
            return Ok(Vec::new());
        };
        history.end_with_epoch(self.epoch);
        self.history = *history;
        self.has_tree = true;
        Ok(poll(&mut self.history)?)
    }

    /// Why nothing more follows.
    pub(crate) fn reason(&self) -> String {
        let end = self.history.position().zxid;
        if let Some(hole) = self.history.hole() {
            return format!(
                "the logs have no transaction between 0x{:016x} and 0x{:016x}, or nothing shows that there is none: name \
                 the folders of more servers in [source.txnlog] directories",
                hole.last, hole.next
            );
        }
        match self.history.obstacles().next() {
            Some(obstacle) => format!(
                "{} has no whole transaction at byte {}{}: examine it with zkbridge log --check",
                obstacle.path.display(),
                obstacle.at,
                obstacle
                    .fault
                    .map_or_else(String::new, |fault| format!(" ({fault})"))
            ),
            None => format!("the logs end at 0x{end:016x}"),
        }
    }
}

/// The next transactions, with everything read ahead that may show them to be committed.
pub(super) fn poll(history: &mut LogHistory) -> Result<Vec<Transaction>, HistoryError> {
    loop {
        let taken = history.poll()?;
        if !taken.is_empty() || !history.is_scouting() {
            return Ok(taken);
        }
    }
}

/// Looks for the transaction at the position.
fn check_position(folders: &[LogFolder], at: &HistoryPosition) -> Result<(), FillError> {
    let position = at.zxid.0.cast_signed();
    let mut is_found = false;
    for folder in folders {
        let found = LogTail::new(folder.clone(), position.saturating_sub(1)).poll()?;
        let Some(found) = found.first().filter(|found| found.zxid == position) else {
            continue;
        };
        if at.payload_crc.is_some_and(|crc| crc != found.payload_crc) {
            let folder = folder.path();
            return Err(FillError::OtherHistory { folder, position });
        }
        is_found = true;
    }
    match is_found {
        true => Ok(()),
        false => Err(FillError::NoPosition { position }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bridge_transactions::testing;
    use bridge_transactions::transaction::{DIGEST_VERSION, TreeDigest};
    use bridge_transactions::tree::Tree;

    use super::*;

    const FIRST: i64 = 1 << 32;
    const SECOND: i64 = 2 << 32;

    /// Creates of distinct znodes with these zxids, with the digests of a new server's tree.
    fn proved(zxids: &[i64]) -> Vec<Transaction> {
        let mut tree = Tree::of_new_server();
        zxids
            .iter()
            .map(|zxid| {
                let mut transaction = testing::a_create(*zxid, &format!("/n{zxid:x}"));
                tree.apply(&transaction);
                let value = tree.digest();
                transaction.digest = Some(TreeDigest {
                    version: DIGEST_VERSION,
                    value,
                });
                Transaction::decode(&testing::payload(&transaction)).unwrap()
            })
            .collect()
    }

    fn write(folder: &Path, transactions: &[Transaction]) {
        let name = format!("log.{:x}", transactions[0].zxid);
        std::fs::write(folder.join(name), testing::log_file(transactions)).unwrap();
    }

    fn at(transaction: &Transaction) -> HistoryPosition {
        HistoryPosition {
            zxid: Zxid(transaction.zxid.cast_unsigned()),
            payload_crc: Some(transaction.payload_crc),
            ..HistoryPosition::default()
        }
    }

    /// The zxids that fill the hole after a position, and why no more do.
    fn filled(folder: &Path, at: &HistoryPosition, applied: &[i64]) -> Result<(Vec<i64>, String), FillError> {
        let folders = [LogFolder::new(folder)];
        let sources = Sources {
            folders: &folders,
            stage_folder: folder,
            is_stopped: &|| false,
        };
        let mut fill = HoleFill::begin(sources, at, 2, applied)?;
        let mut zxids = Vec::new();
        loop {
            match fill.next()? {
                none if none.is_empty() => return Ok((zxids, fill.reason())),
                some => zxids.extend(some.iter().map(|one| one.zxid)),
            }
        }
    }

    #[test]
    fn everything_that_was_committed_after_the_position_follows_also_over_an_epoch() {
        let home = tempfile::tempdir().unwrap();
        let zxids = [
            FIRST + 1,
            FIRST + 2,
            FIRST + 3,
            SECOND + 1,
            SECOND + 2,
            SECOND + 3,
        ];
        let all = proved(&zxids);
        write(home.path(), &all[..3]);
        write(home.path(), &all[3..]);
        // The second epoch shows that the first one is committed, and a server that it is applied itself.
        let (found, reason) = filled(home.path(), &at(&all[0]), &[SECOND + 2]).unwrap();
        assert_eq!(found, zxids[1..5]);
        assert!(reason.contains("the logs end at 0x0000000200000002"), "{reason}");
        let (found, _) = filled(home.path(), &at(&all[3]), &[SECOND + 3]).unwrap();
        assert_eq!(found, zxids[4..]);
    }

    #[test]
    fn logs_without_the_position_or_with_another_transaction_there_fill_nothing() {
        let home = tempfile::tempdir().unwrap();
        let all = proved(&[FIRST + 1, FIRST + 2, FIRST + 3]);
        write(home.path(), &all[1..]);
        let refused = filled(home.path(), &at(&all[0]), &[FIRST + 3])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("no log has 0x0000000100000001"), "{refused}");
        let other = HistoryPosition {
            payload_crc: Some(all[1].payload_crc ^ 1),
            ..at(&all[1])
        };
        let refused = filled(home.path(), &other, &[FIRST + 3]).unwrap_err().to_string();
        assert!(
            refused.contains("another transaction at 0x0000000100000002"),
            "{refused}"
        );
        std::fs::remove_dir_all(home.path()).unwrap();
        let refused = filled(home.path(), &at(&all[0]), &[FIRST + 3])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("No such file"), "{refused}");
    }

    #[test]
    fn a_hole_that_another_server_fills_takes_nothing_from_the_begin_of_a_later_epoch() {
        let zxids = [FIRST + 1, FIRST + 2, FIRST + 3, FIRST + 4, SECOND + 1, SECOND + 2];
        let all = proved(&zxids);
        let (holed, slow) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let position = at(&all[1]);
        // The server began with the second transaction, and no tree leads to it.
        write(holed.path(), &[all[1].clone(), all[3].clone()]);
        let folders = [holed.path(), slow.path()].map(LogFolder::new);
        let sources = Sources {
            folders: &folders,
            stage_folder: holed.path(),
            is_stopped: &|| false,
        };
        let mut fill = HoleFill::begin(sources, &position, 2, &[FIRST + 4, SECOND + 2]).unwrap();
        assert_eq!(fill.next().unwrap(), []);
        write(slow.path(), &all);
        let mut found = Vec::new();
        while let taken = fill.next().unwrap()
            && !taken.is_empty()
        {
            found.extend(taken.iter().map(|one| one.zxid));
        }
        assert_eq!(found, zxids[2..]);
    }

    #[test]
    fn a_hole_and_damage_in_the_logs_end_the_fill_and_are_named() {
        let home = tempfile::tempdir().unwrap();
        let all = proved(&[FIRST + 1, FIRST + 2, FIRST + 4]);
        write(home.path(), &all);
        let (found, reason) = filled(home.path(), &at(&all[0]), &[FIRST + 4]).unwrap();
        assert_eq!(found, [FIRST + 2]);
        assert!(
            reason.contains("no transaction between 0x0000000100000002 and 0x0000000100000004"),
            "{reason}"
        );

        let home = tempfile::tempdir().unwrap();
        let all = proved(&[FIRST + 1, FIRST + 2, FIRST + 3]);
        let mut bytes = testing::log_file(&all);
        let last = bytes.len() - 10;
        bytes[last] ^= 1;
        std::fs::write(home.path().join("log.100000001"), bytes).unwrap();
        let (found, reason) = filled(home.path(), &at(&all[0]), &[FIRST + 3]).unwrap();
        assert_eq!(found, [FIRST + 2]);
        assert!(
            reason.contains("log.100000001 has no whole transaction at byte"),
            "{reason}"
        );
    }
}
