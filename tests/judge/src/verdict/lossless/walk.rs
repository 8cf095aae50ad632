//! Walks over the records and the true history side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::net::{self, Expected, Parts};
use super::state::{self, Shared, text_of};
use super::{Account, Lossless};
use crate::truth::log::Transaction;
use crate::truth::shadow::Shadow;
use crate::truth::{covers, is_left_out};
use crate::verdict::fields::{self, hex, name, op, path, root};

/// After so many complaints the rest only repeats them.
const COMPLAINTS_MAX: usize = 200;

/// Where the transactions are that the walk passes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// After the first listing and outside of gaps: each must have its records.
    Open,
    /// Before the end of the first listing, or inside of a gap.
    Covered,
}

/// The last record of a path.
struct Last<'a> {
    record: &'a Value,
    /// Written since the gap or listing began, or began again.
    is_new: bool,
}

/// Listings and gaps that are open: they end together.
#[derive(Default)]
struct Brackets<'a> {
    open: BTreeSet<&'a str>,
    /// Roots whose listing or gap has not ended, once the first has begun: all have one, and no exact record is between
    /// them.
    pending: BTreeSet<&'a str>,
    /// The zxid at which the first of them ended.
    ends_at: Option<u64>,
    /// Where the gap begins; `None` if all of them are listings.
    from: Option<u64>,
    has_listing: bool,
}

pub struct Walk<'a> {
    case: &'a Lossless<'a>,
    history: &'a [Transaction],
    /// The tree before the next transaction.
    tree: Shadow,
    next: usize,
    is_listed: bool,
    brackets: Brackets<'a>,
    fold: BTreeMap<&'a str, Last<'a>>,
    /// The zxid of the last exact record.
    last: u64,
    account: Account,
    complaints: Vec<String>,
}

impl<'a> Walk<'a> {
    /// Walks over everything.
    pub fn over(case: &'a Lossless<'a>) -> Walk<'a> {
        let mut walk = Walk {
            case,
            history: &case.truth.history,
            tree: Shadow::default(),
            next: 0,
            is_listed: false,
            brackets: Brackets::default(),
            fold: BTreeMap::new(),
            last: 0,
            account: Account::default(),
            complaints: case.truth.faults.clone(),
        };
        let mut rest = case.records;
        while let Some(record) = rest.first()
            && walk.complaints.len() < COMPLAINTS_MAX
        {
            let taken = match op(record) {
                "snapshot_begin" | "gap_begin" => walk.begin(record),
                "snapshot_end" | "gap_end" => walk.end(record),
                "heartbeat" => walk.heartbeat(record),
                _ if record["txn"].is_null() => walk.compared(record),
                _ => walk.transaction(rest),
            };
            rest = &rest[taken..];
        }
        walk.pass(u64::MAX, Place::Open);
        walk
    }

    /// The account, and all complaints.
    pub fn finish(mut self) -> (Account, Vec<String>) {
        if !self.is_listed {
            self.complaints.push("no first listing ends".to_owned());
        }
        if let Some(root) = self.brackets.pending.first() {
            self.complaints
                .push(format!("a gap or listing of {root} never ends"));
        }
        (self.account, self.complaints)
    }

    fn complain(&mut self, record: &Value, complaint: &str) {
        self.complaints.push(format!("{}: {complaint}", name(record)));
    }

    /// Moves the tree over the next transaction, and gives what it must have.
    fn advance(&mut self) -> (&'a Transaction, Parts, Vec<Expected>) {
        let transaction = &self.history[self.next];
        self.next += 1;
        let parts = Parts::of(transaction, &self.tree, self.case.roots);
        let expected = net::apply(transaction, &parts, &mut self.tree, self.case.roots);
        (transaction, parts, expected)
    }

    /// Passes all transactions up to a zxid that have no record any more.
    fn pass(&mut self, to: u64, place: Place) {
        while self.history.get(self.next).is_some_and(|next| next.zxid <= to)
            && self.complaints.len() < COMPLAINTS_MAX
        {
            let (transaction, _, expected) = self.advance();
            let Some(first) = expected.first() else {
                continue;
            };
            if place == Place::Open && self.is_listed {
                self.complaints.push(format!(
                    "transaction {} has no record of its {} changes: {} {} first",
                    text_of(transaction.zxid),
                    expected.len(),
                    first.op,
                    first.path
                ));
            } else if self.is_listed {
                self.account.inside += 1;
            }
        }
    }

    /// The records of one transaction. Returns how many there are.
    fn transaction(&mut self, records: &'a [&'a Value]) -> usize {
        let Some(record) = records.first() else {
            return 1;
        };
        let Some(zxid) = fields::zxid(record) else {
            self.complain(record, "of a transaction, and has no zxid");
            return 1;
        };
        let is_of_it = |other: &&&Value| fields::zxid(other) == Some(zxid) && !other["txn"].is_null();
        let count = records.iter().take_while(is_of_it).count();
        if !self.brackets.pending.is_empty() || !self.is_listed {
            self.complain(record, "of a transaction, inside of a gap or listing");
            return count;
        }
        if zxid <= self.last {
            let last = text_of(self.last);
            self.complain(record, &format!("after records at {last}"));
            return count;
        }
        self.last = zxid;
        self.pass(zxid - 1, Place::Open);
        if self.history.get(self.next).is_none_or(|next| next.zxid != zxid) {
            self.complain(
                record,
                "of a transaction that was not committed, or was passed by a listing or gap",
            );
            return count;
        }
        let (transaction, parts, expected) = self.advance();
        let shared = Shared {
            transaction,
            parts: &parts,
            roots: self.case.roots,
            modes: self.case.modes,
            has_lists: self.case.has_lists,
        };
        let total = expected.len();
        for (at, expected) in expected.iter().enumerate() {
            let Some(record) = records[..count].get(at) else {
                self.complaints.push(format!(
                    "transaction {} lacks the record of {} {}",
                    text_of(zxid),
                    expected.op,
                    expected.path
                ));
                break;
            };
            let rest = total - at - 1;
            if let Some(complaint) = state::check(record, expected, rest, &shared) {
                self.complain(record, &complaint);
            } else {
                self.account.exact += 1;
            }
        }
        if let Some(more) = records[..count].get(expected.len()) {
            self.complain(more, "its transaction has no such change");
        }
        self.account.transactions += usize::from(!expected.is_empty());
        for record in &records[..count] {
            self.remember(record);
        }
        count
    }

    fn remember(&mut self, record: &'a Value) {
        let Some(path) = path(record) else { return };
        if op(record) == "delete" {
            self.fold.remove(path);
            return;
        }
        let last = Last { record, is_new: true };
        self.fold.insert(path, last);
    }

    /// Everything up to the zxid of a heartbeat is in the records before it.
    fn heartbeat(&mut self, record: &'a Value) -> usize {
        if !self.brackets.pending.is_empty() || !self.is_listed {
            self.complain(record, "inside of a gap or listing");
        }
        if !state::has_mode(record, self.case.modes) {
            self.complain(record, "of another mode");
        }
        let exact = fields::zxid(record).filter(|_| record["zxid_kind"] == "exact");
        let Some(zxid) = exact else {
            self.complain(record, "it has no exact zxid");
            return 1;
        };
        if zxid < self.last {
            let last = text_of(self.last);
            self.complain(record, &format!("after records at {last}"));
            return 1;
        }
        self.last = zxid;
        self.pass(zxid, Place::Open);
        let passed = self.next.checked_sub(1).map_or(0, |last| self.history[last].zxid);
        if passed != zxid {
            let passed = text_of(passed);
            self.complain(
                record,
                &format!("the history has {passed}, and nothing at the heartbeat"),
            );
        }
        1
    }

    /// A record that was found by comparing.
    fn compared(&mut self, record: &'a Value) -> usize {
        let is_inside = root(record).is_some_and(|root| self.brackets.open.contains(root));
        if !is_inside {
            self.complain(record, "of no transaction, outside of a gap or listing");
        }
        if record["fidelity"] != "reconciled" {
            self.complain(record, "of no transaction, and not reconciled");
        }
        if !state::has_mode(record, self.case.modes) {
            self.complain(record, "of another mode");
        }
        if op(record) == "snapshot" {
            self.account.listed += 1;
        }
        self.remember(record);
        1
    }

    fn begin(&mut self, record: &'a Value) -> usize {
        let Some(root) = root(record) else { return 1 };
        if self.brackets.pending.is_empty() {
            self.brackets = Brackets {
                pending: self.case.roots.iter().map(String::as_str).collect(),
                ..Brackets::default()
            };
        }
        if !self.brackets.pending.contains(root) {
            self.complain(record, "begins again before those of other roots have ended");
        }
        let of_root = self.fold.iter_mut().filter(|(path, _)| covers(root, path));
        of_root.for_each(|(_, last)| last.is_new = false);
        if op(record) == "gap_begin" {
            self.begin_gap(record);
        } else {
            self.brackets.has_listing = true;
        }
        self.brackets.open.insert(root);
        1
    }

    fn begin_gap(&mut self, record: &'a Value) {
        let Some(from) = hex(&record["gap"]["from_zxid"]) else {
            return self.complain(record, "from nowhere");
        };
        match self.brackets.from {
            Some(known) if known != from => {
                let known = text_of(known);
                self.complain(record, &format!("the gap of another root is from {known}"));
            }
            Some(_) => {}
            None => {
                self.brackets.from = Some(from);
                self.account.gaps += 1;
                self.pass(from, Place::Open);
                let accepts = record["gap"]["reason"] == "rebaselined";
                let last = text_of(self.last);
                if from < self.last && !accepts {
                    self.complain(record, &format!("after records at {last}"));
                }
                if !self.case.forced.contains(&from) {
                    self.complain(record, "no server sent its tree instead of the history after it");
                }
            }
        }
    }

    fn end(&mut self, record: &'a Value) -> usize {
        let Some(root) = root(record) else { return 1 };
        if !self.brackets.open.remove(root) {
            self.complain(record, "ends a gap or listing that did not begin");
            return 1;
        }
        self.brackets.pending.remove(root);
        let is_listing = op(record) == "snapshot_end";
        let at = match is_listing {
            true => fields::zxid(record),
            false => hex(&record["gap"]["to_zxid"]),
        };
        if is_listing && record["zxid_kind"] != "exact" {
            self.complain(record, "the listing is not of exactly one zxid");
        }
        if is_listing && record["run"]["unreadable"] != 0 {
            self.complain(record, "a source that reads everything has unreadable znodes");
        }
        let Some(at) = at else {
            self.complain(record, "ends at no zxid");
            return 1;
        };
        match self.brackets.ends_at {
            Some(known) if known != at => {
                let known = text_of(known);
                self.complain(record, &format!("that of another root ends at {known}"));
            }
            Some(_) => {}
            None => {
                self.brackets.ends_at = Some(at);
                self.pass(at, Place::Covered);
                self.last = self.last.max(at);
                let passed = self.next.checked_sub(1).map_or(0, |last| self.history[last].zxid);
                if !is_end(at, passed) {
                    let passed = text_of(passed);
                    self.complain(
                        record,
                        &format!("the history has {passed}, and nothing at its end"),
                    );
                }
            }
        }
        self.check_fold(record, root);
        self.is_listed |= self.brackets.pending.is_empty();
        1
    }

    /// At the end of a gap or listing the fold is the tree.
    fn check_fold(&mut self, record: &Value, root: &str) {
        let is_of_root = |path: &str| covers(root, path) && !is_left_out(path);
        let mut found = Vec::new();
        let slash = (root == "/").then(|| self.tree.znode("/")).flatten();
        let znodes = self.tree.znodes().map(|(path, node)| (path.as_str(), node));
        for (path, node) in slash.map(|node| ("/", node)).into_iter().chain(znodes) {
            if !is_of_root(path) {
                continue;
            }
            let complaint = match self.fold.get(path) {
                None => Some("exists, and no record has it".to_owned()),
                Some(last) if last.is_new => {
                    let is_listing = self.brackets.has_listing;
                    let difference = state::folded(&last.record["after"], node, is_listing);
                    difference.or_else(|| state::facts(last.record, node, self.case.has_lists))
                }
                Some(last) => state::folded(&last.record["after"], node, true),
            };
            found.extend(complaint.map(|complaint| format!("at its end {path}: {complaint}")));
        }
        let gone = self
            .fold
            .keys()
            .filter(|path| is_of_root(path) && self.tree.znode(path).is_none());
        found.extend(gone.map(|path| format!("at its end {path} is gone, and no record deletes it")));
        for complaint in found {
            self.complain(record, &complaint);
        }
    }
}

/// Whether a gap may end at this zxid once the history has passed another one: at the last transaction, or at the begin of
/// a later epoch, which no transaction has. A leader that has proposed nothing yet sends its tree as that of the begin.
fn is_end(at: u64, passed: u64) -> bool {
    let is_begin_of_epoch = at & u64::from(u32::MAX) == 0;
    at == passed || is_begin_of_epoch && at > passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_ends_at_its_last_transaction_or_at_the_begin_of_a_later_epoch() {
        let last = 0x7_0000_00b6;
        assert!(is_end(last, last));
        assert!(is_end(0x8_0000_0000, last));
        for other in [last - 1, last + 1, 0x7_0000_0000, 0x8_0000_0001] {
            assert!(!is_end(other, last), "{other:x}");
        }
    }
}
