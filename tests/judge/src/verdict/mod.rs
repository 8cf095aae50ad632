//! Checks the promises of the record contract from outside: do the records match the true history?
//!
//! It is written from the contract and works on plain JSON. It must never use the product's types, which would share the
//! product's mistakes. Every check returns complaints, so that one run shows all faults. Every check has a negative control.

mod accounts;
mod brackets;
mod census;
#[cfg(test)]
mod controls;
mod fields;
mod fold;
mod form;
mod lossless;
mod whole;

use std::collections::BTreeMap;

use serde_json::Value;

pub use census::Census;
pub use fold::folded;
pub use lossless::{Account, Lossless, Snapshot, snapshots_sent};

use crate::topic::Delivery;
use crate::tree::Tree;
use crate::truth::Truth;

/// The content of the servers' events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// Their zxids: servers from 3.9.
    WithZxid,
    /// Only their paths.
    WithoutZxid,
}

/// The input of the judge after a scenario.
pub struct Case<'a> {
    /// The deliveries, in the order of each partition.
    pub deliveries: &'a [Delivery],
    /// The true history.
    pub truth: &'a Truth,
    /// The tree now.
    pub tree: &'a Tree,
    /// The roots of the bridge.
    pub roots: &'a [String],
    /// The content of the servers' events.
    pub events: Events,
    /// Paths that the bridge could not read at some time: it cannot know when they existed.
    pub hidden: &'a [String],
}

/// Maximum number of printed complaints: the first ones show the cause.
const SHOWN_MAX: usize = 25;

impl Case<'_> {
    /// All complaints.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = form::check(self.deliveries);
        let records = each_once(self.deliveries);
        complaints.extend(form::check_journal(&records));
        complaints.extend(brackets::check(&records));
        complaints.extend(fold::check(&records, self));
        complaints.extend(accounts::check(&records, self));
        complaints.extend(whole::check(&records, self));
        complaints.extend(census::check(&records, self).1);
        complaints
    }

    /// Prints all records of the paths in the complaints, as delivered.
    fn show(&self, complaints: &[&String]) {
        for record in each_once(self.deliveries) {
            let Some(path) = fields::path(record) else {
                continue;
            };
            if complaints
                .iter()
                .any(|complaint| complaint.contains(&format!("{path} ")))
            {
                println!("{record}");
            }
        }
    }

    /// The classes of all changes.
    pub fn census(&self) -> Census {
        census::check(&each_once(self.deliveries), self).0
    }

    /// Whether the bridge could not read this path at some time.
    fn is_hidden(&self, path: &str) -> bool {
        self.truth.was_hidden(path) || self.hidden.iter().any(|hidden| hidden == path)
    }

    /// Prints the classes of all changes, or panics with all complaints.
    ///
    /// # Panics
    ///
    /// If there is a complaint.
    #[track_caller]
    pub fn hold(&self) {
        let complaints = self.complaints();
        let shown: Vec<&String> = complaints.iter().take(SHOWN_MAX).collect();
        self.show(&shown);
        assert!(
            complaints.is_empty(),
            "{} complaints about {} deliveries: {shown:#?}",
            complaints.len(),
            self.deliveries.len()
        );
        println!("{}", self.census());
    }
}

/// Every record once, in the order of the journal.
pub fn each_once(deliveries: &[Delivery]) -> Vec<&Value> {
    let mut by_seq = BTreeMap::new();
    for delivery in deliveries {
        by_seq
            .entry(fields::seq(&delivery.record))
            .or_insert(&delivery.record);
    }
    by_seq.into_values().collect()
}
