//! The machine for sources that read the transactions themselves: committed transactions in, records out.
//!
//! A transaction has everything that a record needs, except for the state before it, which is the image. So every
//! record outside of gaps and listings is exact, and nothing is read from a server but its history.
//!
//! ```text
//! Detached ──Connected──▶ Resuming ──history follows the position──────▶ Following
//!    ▲                       └──────a snapshot──▶ Staging ──compared──────▶│
//!    └────── Disconnected, Overflow, a history that cannot be proved ◀─────┘
//! ```
//!
//! Invariants:
//!
//! 1. The image is the captured part of the tree after exactly the transactions up to the [`HistoryPosition`], in every field
//!    of each Stat. Image, records and position move in one transaction of the journal.
//! 2. A transaction is never split over two commits: one input is one step.
//! 3. Transactions follow each other without a hole (`history`). A hole, a version that is not the next one, a delete
//!    of a znode that the image does not have: each means that the history or the image is wrong. Then nothing of the
//!    input is appended, and the tree is compared with a snapshot, in a gap with the reason `unproved`.
//! 4. Nothing that was only proposed is appended: transactions of an earlier epoch than the leader's are held until the
//!    leader's own begins, or until the leader says that the source is up to date.
//! 5. A leader that cuts the history (TRUNC) never moves the image back. Its transactions are dropped up to the
//!    position, and the one at the position has to be the same.
//! 6. With [`ProofMode::Tree`] the digest of the server's tree after each transaction is the one that the journal's
//!    table of znodes gives, or nothing of the input is appended. With [`ProofMode::Roots`] the same holds for the
//!    difference that a transaction makes, if it touches only znodes below the roots and their ancestors.
//! 7. A listing is the tree at exactly one zxid, from a staged snapshot; the comparison is the one of the watch machine,
//!    without events.

mod closed;
mod contract;
mod history;
mod machine;
mod net;
mod options;
mod owners;
mod proof;
mod staging;
mod txn;

#[cfg(test)]
mod tests;

pub use machine::Committed;
pub use options::{CommittedOptions, ProofMode};
pub(crate) use proof::{RAW_STAT_BYTES, decode_raw_stat, encode_raw_stat};
pub use proof::{ShadowKey, ShadowNode};
pub use txn::{
    CommittedTxn, HistoryPosition, NodeOperation, RawStat, StagePage, StageRead, StagedNode, SyncAnswer,
    SyncKind, TreeDigestValue, TxnContent,
};
