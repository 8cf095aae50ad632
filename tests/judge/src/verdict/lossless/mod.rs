//! The judge of sources that read transactions: every committed transaction below the roots is in the records, once and
//! exactly, with its author, and nothing else is; a gap is only where a server forced it.
//!
//! ```text
//! listing at exactly one zxid ──▶ exact records, transaction after transaction ──▶ gap_begin … gap_end ──▶ exact records
//! ```
//!
//! The truth is the tree that the servers' own logs build, which their digests prove. Compacted journals, filters,
//! `snapshot = "always"`, a chroot and options that leave out parts of records are not judged here.

mod forced;
mod net;
mod state;
mod walk;

#[cfg(test)]
mod controls;
#[cfg(test)]
mod story;

use std::fmt;

use serde_json::Value;

pub use forced::{Snapshot, snapshots_sent};
use walk::Walk;

use crate::truth::Truth;

/// The input of the judge.
#[derive(Clone, Copy)]
pub struct Lossless<'a> {
    /// Each record once, in the order of the journal.
    pub records: &'a [&'a Value],
    /// The true history.
    pub truth: &'a Truth,
    /// The roots of the bridge.
    pub roots: &'a [String],
    /// The values that `source.mode` may have: more than one if logs fill the holes of an observer.
    pub modes: &'a [&'a str],
    /// Whether the source has `acls = "list"`, instead of `"notice"`.
    pub has_lists: bool,
    /// The positions after which a server sent its whole tree instead of the history: only there a gap may begin.
    pub forced: &'a [u64],
}

/// The counts of the judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Records that are exact.
    pub exact: usize,
    /// Transactions that have them.
    pub transactions: usize,
    /// Znodes in listings.
    pub listed: usize,
    /// Gaps, and the transactions below the roots inside of them.
    pub gaps: usize,
    /// Transactions below the roots that are only inside of a gap.
    pub inside: usize,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account {
            exact,
            transactions,
            listed,
            gaps,
            inside,
        } = self;
        write!(
            f,
            "{exact} exact records of {transactions} transactions, {listed} znodes listed, {inside} transactions in {gaps} \
             forced gaps"
        )
    }
}

impl Lossless<'_> {
    /// The counts of the judge, and all complaints.
    pub fn judge(&self) -> (Account, Vec<String>) {
        Walk::over(self).finish()
    }
}
