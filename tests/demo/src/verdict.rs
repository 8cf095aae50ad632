//! Compares what arrived with what was done: each step with its records, the folded topic with the tree. Pure.
//!
//! The only repetition that it accepts is the one that the record contract allows: a delivery equal to the first.

mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bridge_core::record::{GapReason, Op, Record};
use uuid::Uuid;

use crate::expectation::{ExpectedRecord, Step, Version};

/// A message of the topic.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// The partition that it came from.
    pub(crate) partition: i32,
    /// Its key.
    pub(crate) key: String,
    /// The record in it.
    pub(crate) record: Record,
}

/// Znodes by path.
pub(crate) type Tree = BTreeMap<String, Version>;

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The step, or the rule that must hold.
    pub(crate) done: String,
    /// The expected records.
    pub(crate) expected: String,
    /// The records that arrived.
    pub(crate) arrived: String,
    /// Whether the two agree.
    pub(crate) agrees: bool,
}

/// The table, and the complaints below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// A row for each step.
    pub(crate) steps: Vec<Row>,
    /// A row for each rule about all records together.
    pub(crate) rules: Vec<Row>,
    /// Each disagreement, for people.
    pub(crate) complaints: Vec<String>,
}

impl Verdict {
    /// Whether everything agrees.
    pub(crate) fn agrees(&self) -> bool {
        self.complaints.is_empty() && self.steps.iter().chain(&self.rules).all(|row| row.agrees)
    }

    fn rule(&mut self, done: &str, (expected, arrived): (&str, String), complaints: Vec<String>) {
        self.rules.push(Row {
            done: done.to_owned(),
            expected: expected.to_owned(),
            arrived,
            agrees: complaints.is_empty(),
        });
        self.complaints.extend(complaints);
    }
}

/// Compares the arrivals, in the order of arrival, with the steps and with the tree under the roots as it is now.
pub(crate) fn judge(steps: &[Step], arrivals: &[Arrival], roots: &[&str], tree: &Tree) -> Verdict {
    let (firsts, repeats) = firsts(arrivals);
    let mut verdict = Verdict::default();
    let mut matching = Matching::new(&firsts);
    for step in steps {
        let (row, complaints) = matching.step(step);
        verdict.steps.push(row);
        verdict.complaints.extend(complaints);
    }
    let extra = matching.extra();
    verdict.rule("nothing else", ("0 records", extra.len().to_string()), extra);
    rules::holes(&mut verdict, &firsts);
    rules::repeats(&mut verdict, &repeats);
    rules::order(&mut verdict, arrivals, &firsts);
    rules::marks(&mut verdict, &firsts, roots);
    rules::tree(&mut verdict, &firsts, tree);
    verdict
}

/// Whether all records of the steps have arrived.
pub(crate) fn is_complete(steps: &[Step], arrivals: &[Arrival]) -> bool {
    let (firsts, _) = firsts(arrivals);
    let mut matching = Matching::new(&firsts);
    steps.iter().all(|step| matching.step(step).0.agrees)
}

/// Whether the gap of a start has ended for each root.
pub(crate) fn is_gap_over(roots: &[&str], arrivals: &[Arrival]) -> bool {
    let records = arrivals.iter().map(|arrival| &arrival.record);
    let ended: BTreeSet<&str> = records
        .filter(|record| record.op == Op::GapEnd)
        .filter(|record| {
            record
                .gap
                .as_ref()
                .is_some_and(|gap| gap.reason == GapReason::Started)
        })
        .filter_map(|record| record.root.as_deref())
        .collect();
    roots.iter().all(|root| ended.contains(root))
}

/// Every repeated delivery, paired with the first one.
type Repeats<'a> = Vec<(&'a Arrival, &'a Arrival)>;

fn firsts(arrivals: &[Arrival]) -> (Vec<&Arrival>, Repeats<'_>) {
    let mut known: BTreeMap<Uuid, &Arrival> = BTreeMap::new();
    let mut firsts = Vec::new();
    let mut repeats = Vec::new();
    for arrival in arrivals {
        match known.get(&arrival.record.id) {
            Some(first) => repeats.push((*first, arrival)),
            None => {
                known.insert(arrival.record.id, arrival);
                firsts.push(arrival);
            }
        }
    }
    (firsts, repeats)
}

/// The records of each path that no step has claimed yet.
struct Matching<'a> {
    unclaimed: BTreeMap<&'a str, VecDeque<&'a Record>>,
    extra: Vec<String>,
}

impl<'a> Matching<'a> {
    fn new(firsts: &[&'a Arrival]) -> Matching<'a> {
        let mut unclaimed: BTreeMap<&str, VecDeque<&Record>> = BTreeMap::new();
        for arrival in firsts {
            if let Some(path) = arrival.record.path.as_deref() {
                unclaimed.entry(path).or_default().push_back(&arrival.record);
            }
        }
        Matching {
            unclaimed,
            extra: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) -> (Row, Vec<String>) {
        let complaints: Vec<String> = step
            .wanted
            .iter()
            .filter_map(|wanted| self.claim(wanted).err())
            .map(|complaint| format!("{}: {complaint}", step.done))
            .collect();
        let arrived = step.wanted.len() - complaints.len();
        let row = Row {
            done: step.done.clone(),
            expected: step.expected.clone(),
            arrived: arrived.to_string(),
            agrees: complaints.is_empty(),
        };
        (row, complaints)
    }

    /// Takes the first record of the path that fits. The records before it are unexpected, or too early.
    fn claim(&mut self, wanted: &ExpectedRecord) -> Result<(), String> {
        let absent = format!("the {} did not arrive", wanted.words());
        let Some(records) = self.unclaimed.get_mut(wanted.path()) else {
            return Err(absent);
        };
        let fits = |record: &&Record| wanted.objection(record).is_none();
        if let Some(at) = records.iter().position(fits) {
            let skipped = records.drain(..=at).take(at);
            self.extra.extend(skipped.map(unexpected));
            return Ok(());
        }
        Err(match records.front() {
            Some(record) => {
                let reason = wanted.objection(record).unwrap_or_default();
                format!("{absent}; seq {} is not it: {reason}", record.seq)
            }
            None => absent,
        })
    }

    fn extra(self) -> Vec<String> {
        let left = self.unclaimed.into_values().flatten().map(unexpected);
        self.extra.into_iter().chain(left).collect()
    }
}

fn unexpected(record: &Record) -> String {
    let path = record.path.as_deref().unwrap_or_default();
    let (seq, op) = (record.seq, record.op.as_str());
    format!("seq {seq}, a {op} of {path}, belongs to no change at that point")
}
