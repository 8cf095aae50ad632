//! Whether what arrived is what happened: the promises of the record contract, checked from outside.
//!
//! Written from the contract, on plain JSON; must never use the product's own types, which would share its mistakes.
//! Every check gives complaints in sentences, so that one run shows all that is wrong, and every check has a control
//! that it must object to.

mod accounts;
mod brackets;
mod census;
#[cfg(test)]
mod controls;
mod fields;
mod fold;
mod form;
mod whole;

use std::collections::BTreeMap;

use serde_json::Value;

pub use census::Census;
pub use fold::told;

use crate::topic::Delivery;
use crate::tree::Tree;
use crate::truth::Truth;

/// What the servers tell with their events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// Their zxids: servers from 3.9.
    WithZxid,
    /// Only their paths.
    WithoutZxid,
}

/// All that is judged after a scenario.
pub struct Case<'a> {
    /// What arrived, in the order of each partition.
    pub deliveries: &'a [Delivery],
    /// What happened.
    pub truth: &'a Truth,
    /// What there is now.
    pub tree: &'a Tree,
    /// What the bridge was told to watch.
    pub roots: &'a [String],
    /// What the servers tell with their events.
    pub events: Events,
    /// Paths that the bridge could not read for some time: when they existed cannot be told.
    pub hidden: &'a [String],
}

/// Complaints shown at most: the first tell the cause.
const SHOWN_MAX: usize = 25;

impl Case<'_> {
    /// All that is wrong.
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

    /// Prints all records of the paths that complaints are about, as they were told.
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

    /// What became of every change.
    pub fn census(&self) -> Census {
        census::check(&each_once(self.deliveries), self).0
    }

    /// Whether there was a time when the bridge could not read this path.
    fn is_hidden(&self, path: &str) -> bool {
        self.truth.was_hidden(path) || self.hidden.iter().any(|hidden| hidden == path)
    }

    /// Fails with all that is wrong, and else prints what became of every change.
    ///
    /// # Panics
    ///
    /// If anything is.
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
