//! The order of the history: which transaction may follow, and which are held.
//!
//! A zxid is the epoch of a leader and a counter that begins with 1. Every transaction takes the next number, also one
//! that changes nothing, so a missing number is a missing transaction.
//!
//! A server may send transactions of earlier epochs from its log, and the last ones of an epoch in a log may never have
//! been committed. So they are held until the leader's own epoch begins with its counter 1, or until the server says that
//! the source is up to date. The digest of the first transaction after them proves all of them.

use crate::number::Zxid;

use super::txn::{CommittedTxn, HistoryPosition, NodeOperation, SyncAnswer, SyncKind, TxnContent};

/// The epoch of the leader that proposed a transaction.
pub(super) fn epoch_of(zxid: Zxid) -> u32 {
    u32::try_from(zxid.0 >> 32).expect("32 bits are left")
}

fn counter_of(zxid: Zxid) -> u32 {
    u32::try_from(zxid.0 & 0xffff_ffff).expect("32 bits are left")
}

/// Why a transaction cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HistoryFault {
    /// The history has a hole, or is not in order.
    Unproved(String),
    /// It is another history than the one in the journal.
    Other(String),
    /// Too much is held.
    Overflow,
}

/// The sequence of transactions of one connection, from the position on.
#[derive(Debug)]
pub(super) struct TxnSequence {
    /// The last transaction that was released.
    position: HistoryPosition,
    /// The epoch of the leader.
    epoch: u32,
    /// The server cut its history before the position: the transaction at the position has to come again.
    awaits_position: bool,
    is_up_to_date: bool,
    /// In order, of epochs that are older than the leader's.
    held: Vec<CommittedTxn>,
    held_bytes: usize,
    held_bytes_max: usize,
}

impl TxnSequence {
    /// The transactions after a position, as a server answered.
    pub(super) fn new(position: HistoryPosition, answer: SyncAnswer, held_bytes_max: usize) -> TxnSequence {
        let awaits_position = matches!(answer.kind, SyncKind::Truncate(last) if last < position.zxid);
        TxnSequence {
            position,
            epoch: answer.epoch,
            awaits_position,
            is_up_to_date: false,
            held: Vec::new(),
            held_bytes: 0,
            held_bytes_max,
        }
    }

    /// The last transaction that was released.
    pub(super) fn position(&self) -> &HistoryPosition {
        &self.position
    }

    /// Notes the digest of the tree at the position.
    pub(super) fn proved(&mut self, digest: Option<u64>) {
        self.position.digest = digest;
    }

    /// Transactions that are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes the next transaction, and appends those to `ready` that may be recorded now.
    pub(super) fn take(
        &mut self,
        txn: CommittedTxn,
        ready: &mut Vec<CommittedTxn>,
    ) -> Result<(), HistoryFault> {
        let last = self.held.last().map_or(self.position.zxid, |held| held.zxid);
        if txn.zxid <= last {
            return self.repeated(&txn);
        }
        self.check_follows(last, txn.zxid)?;
        if epoch_of(txn.zxid) < self.epoch && !self.is_up_to_date {
            self.held_bytes += bytes_of(&txn);
            if self.held_bytes > self.held_bytes_max {
                return Err(HistoryFault::Overflow);
            }
            self.held.push(txn);
            return Ok(());
        }
        // The leader proposes the first of its epoch after all that the epochs before have committed.
        self.release(ready);
        self.advance(&txn);
        ready.push(txn);
        Ok(())
    }

    /// Everything that was committed before was sent. Appends what was held to `ready`.
    pub(super) fn up_to_date(&mut self, ready: &mut Vec<CommittedTxn>) {
        self.is_up_to_date = true;
        self.release(ready);
    }

    pub(super) fn is_up_to_date(&self) -> bool {
        self.is_up_to_date
    }

    fn release(&mut self, ready: &mut Vec<CommittedTxn>) {
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        if let Some(last) = held.last() {
            self.advance(last);
        }
        ready.extend(held);
    }

    fn advance(&mut self, txn: &CommittedTxn) {
        self.position = HistoryPosition {
            zxid: txn.zxid,
            payload_crc: Some(txn.payload_crc),
            digest: self.position.digest,
            epoch: self.position.epoch.max(self.epoch),
            scope: self.position.scope,
            is_of_other_charset: self.position.is_of_other_charset,
        };
    }

    /// A transaction that was taken before is dropped, if it is the same. A malformed request makes an error that has the
    /// zxid of the transaction before it, and changes nothing.
    fn repeated(&mut self, txn: &CommittedTxn) -> Result<(), HistoryFault> {
        let may_be_error = txn.content == TxnContent::Nothing && !self.awaits_position;
        if txn.zxid == self.position.zxid && !may_be_error {
            let known = self.position.payload_crc;
            if known.is_some_and(|known| known != txn.payload_crc) {
                return Err(HistoryFault::Other(format!(
                    "transaction {} has the checksum {:08x} where the journal has {:08x}",
                    txn.zxid,
                    txn.payload_crc,
                    known.unwrap_or_default()
                )));
            }
            self.awaits_position = false;
        }
        let held = self.held.binary_search_by_key(&txn.zxid, |held| held.zxid);
        if let Ok(at) = held
            && txn.content != TxnContent::Nothing
            && self.held[at].payload_crc != txn.payload_crc
        {
            return Err(HistoryFault::Unproved(format!(
                "transaction {} has the checksum {:08x}, and was sent with {:08x} before",
                txn.zxid, txn.payload_crc, self.held[at].payload_crc
            )));
        }
        Ok(())
    }

    fn check_follows(&self, last: Zxid, next: Zxid) -> Result<(), HistoryFault> {
        if self.awaits_position {
            return Err(HistoryFault::Other(format!(
                "the server cut its history before {}, the last transaction in the journal, and goes on with {next} \
                 without it",
                self.position.zxid
            )));
        }
        if epoch_of(next) > self.epoch {
            return Err(HistoryFault::Unproved(format!(
                "transaction {next} is of a later epoch than the leader's, {}",
                self.epoch
            )));
        }
        let is_next = match epoch_of(next) == epoch_of(last) {
            true => counter_of(next) == counter_of(last).wrapping_add(1),
            false => counter_of(next) == 1,
        };
        match is_next {
            true => Ok(()),
            false => Err(HistoryFault::Unproved(format!(
                "transaction {next} follows {last}, so that at least one is missing"
            ))),
        }
    }
}

/// The memory of a held transaction, about.
fn bytes_of(txn: &CommittedTxn) -> usize {
    const EACH: usize = 128;
    let operations = match &txn.content {
        TxnContent::Single(operation) => std::slice::from_ref(operation),
        TxnContent::Multi(operations) => operations,
        TxnContent::CloseSession { paths } => {
            return EACH
                + paths
                    .iter()
                    .flatten()
                    .map(|path| path.len() + EACH)
                    .sum::<usize>();
        }
        TxnContent::Nothing => return EACH,
    };
    let bytes = |operation: &NodeOperation| match operation {
        NodeOperation::Create { path, data, acl, .. } => path.len() + data.len() + acl.len() * EACH,
        NodeOperation::SetData { path, data, .. } => path.len() + data.len(),
        NodeOperation::SetAcl { path, acl, .. } => path.len() + acl.len() * EACH,
        NodeOperation::Delete { path, .. } => path.len(),
        NodeOperation::Check => 0,
    };
    EACH + operations
        .iter()
        .map(|operation| EACH + bytes(operation))
        .sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::SessionId;

    fn zxid(epoch: u64, counter: u64) -> Zxid {
        Zxid(epoch << 32 | counter)
    }

    fn txn(epoch: u64, counter: u64) -> CommittedTxn {
        CommittedTxn {
            zxid: zxid(epoch, counter),
            session: SessionId(1),
            cxid: 1,
            time: 1,
            content: TxnContent::Nothing,
            digest: None,
            payload_crc: u32::try_from(epoch * 1000 + counter).unwrap(),
        }
    }

    fn history(at: (u64, u64), epoch: u32, kind: SyncKind) -> TxnSequence {
        let position = HistoryPosition {
            zxid: zxid(at.0, at.1),
            payload_crc: Some(txn(at.0, at.1).payload_crc),
            epoch: u32::try_from(at.0).unwrap(),
            ..HistoryPosition::default()
        };
        TxnSequence::new(position, SyncAnswer { epoch, kind }, 1 << 20)
    }

    /// The transactions that were released, or the fault.
    fn taken(history: &mut TxnSequence, txns: &[(u64, u64)]) -> Result<Vec<Zxid>, HistoryFault> {
        let mut ready = Vec::new();
        for (epoch, counter) in txns {
            history.take(txn(*epoch, *counter), &mut ready)?;
        }
        Ok(ready.into_iter().map(|txn| txn.zxid).collect())
    }

    #[test]
    fn a_transaction_is_taken_once_and_only_without_a_hole() {
        let check = |txns: &[(u64, u64)], expected: Option<&[(u64, u64)]>| {
            let mut history = history((5, 3), 6, SyncKind::Diff);
            let found = taken(&mut history, txns);
            match expected {
                Some(expected) => {
                    let expected: Vec<Zxid> = expected
                        .iter()
                        .map(|(epoch, counter)| zxid(*epoch, *counter))
                        .collect();
                    assert_eq!(found, Ok(expected), "{txns:?}");
                }
                None => assert!(
                    matches!(found, Err(HistoryFault::Unproved(_))),
                    "{txns:?}: {found:?}"
                ),
            }
        };
        check(&[(6, 1), (6, 2)], Some(&[(6, 1), (6, 2)]));
        check(&[(5, 2), (5, 3), (6, 1)], Some(&[(6, 1)]));
        check(&[(5, 4), (6, 1), (6, 1), (6, 2)], Some(&[(5, 4), (6, 1), (6, 2)]));
        check(&[(5, 5)], None);
        check(&[(6, 2)], None);
        check(&[(6, 1), (6, 3)], None);
        check(&[(5, 4), (6, 2)], None);
        // Later than the leader itself.
        check(&[(7, 1)], None);
    }

    #[test]
    fn transactions_of_an_earlier_epoch_are_held_until_the_leaders_begins_or_the_source_is_up_to_date() {
        let earlier = [(5, 4), (6, 1), (6, 2)];
        let all: Vec<Zxid> = earlier
            .iter()
            .map(|(epoch, counter)| zxid(*epoch, *counter))
            .collect();
        let held = || {
            let mut history = history((5, 3), 7, SyncKind::Diff);
            assert_eq!(taken(&mut history, &earlier), Ok(vec![]));
            assert_eq!((history.held(), history.position().zxid), (3, zxid(5, 3)));
            history
        };
        let begun = taken(&mut held(), &[(7, 1)]).unwrap();
        assert_eq!(begun, [&all[..], &[zxid(7, 1)]].concat());

        let mut history = held();
        let mut ready = Vec::new();
        history.up_to_date(&mut ready);
        assert_eq!(ready.iter().map(|txn| txn.zxid).collect::<Vec<_>>(), all);
        assert_eq!(
            (history.position().zxid, history.position().epoch),
            (zxid(6, 2), 7)
        );
        assert_eq!(
            taken(&mut history, &[(6, 3), (7, 1)]),
            Ok(vec![zxid(6, 3), zxid(7, 1)])
        );
    }

    #[test]
    fn a_held_transaction_that_comes_again_has_to_be_the_same() {
        let changing = |payload_crc| CommittedTxn {
            content: TxnContent::Multi(Vec::new()),
            payload_crc,
            ..txn(5, 4)
        };
        let mut history = history((5, 3), 7, SyncKind::Diff);
        let mut ready = Vec::new();
        for next in [changing(1), txn(5, 5), changing(1)] {
            history.take(next, &mut ready).unwrap();
        }
        let found = history.take(changing(2), &mut ready);
        assert!(matches!(found, Err(HistoryFault::Unproved(_))), "{found:?}");
        assert_eq!((history.held(), ready), (2, vec![]));
    }

    #[test]
    fn held_transactions_have_a_limit() {
        let mut history = history((5, 3), 7, SyncKind::Diff);
        history.held_bytes_max = 300;
        assert_eq!(taken(&mut history, &[(5, 4), (5, 5)]), Ok(vec![]));
        assert_eq!(taken(&mut history, &[(5, 6)]), Err(HistoryFault::Overflow));
    }

    #[test]
    fn a_history_that_a_server_cuts_goes_on_only_with_the_same_transaction_at_the_position() {
        let cut = SyncKind::Truncate(zxid(5, 1));
        let resent = taken(&mut history((5, 3), 5, cut), &[(5, 2), (5, 3), (5, 4)]);
        assert_eq!(resent, Ok(vec![zxid(5, 4)]));
        for other in [(5, 4), (6, 1)] {
            let found = taken(&mut history((5, 3), 6, cut), &[(5, 2), other]);
            assert!(
                matches!(found, Err(HistoryFault::Other(_))),
                "{other:?}: {found:?}"
            );
        }
        // Where the position is awaited, also one that changes nothing.
        let mut replaced = txn(5, 3);
        replaced.payload_crc += 1;
        let found = history((5, 3), 5, cut).take(replaced, &mut Vec::new());
        assert!(matches!(found, Err(HistoryFault::Other(_))), "{found:?}");
    }

    #[test]
    fn a_history_that_is_cut_after_the_position_is_an_ordinary_one() {
        let after = SyncKind::Truncate(zxid(5, 3));
        assert_eq!(
            taken(&mut history((5, 3), 5, after), &[(5, 4)]),
            Ok(vec![zxid(5, 4)])
        );
    }

    #[test]
    fn an_error_with_the_zxid_of_the_transaction_before_it_is_dropped() {
        let mut history = history((5, 3), 5, SyncKind::Diff);
        let error = |counter| CommittedTxn {
            payload_crc: 77,
            ..txn(5, counter)
        };
        let mut ready = Vec::new();
        for next in [error(3), txn(5, 4), error(4), txn(5, 5)] {
            history.take(next, &mut ready).unwrap();
        }
        assert_eq!(ready, [txn(5, 4), txn(5, 5)]);
        assert_eq!(history.position().payload_crc, Some(txn(5, 5).payload_crc));
    }
}
