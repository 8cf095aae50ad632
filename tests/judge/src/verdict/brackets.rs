//! Gaps and snapshot runs: they open and close in pairs, their counts are right, and reconciled records are inside.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{hex, name, op, root, zxid};

/// The zxids of a root's changes that a gap or run covers: after the first, up to the second.
pub type Span = (u64, u64);

#[derive(Default)]
struct Bracket<'a> {
    run: Option<(&'a Value, u64)>,
    gap: Option<(&'a Value, u64)>,
    had_run: bool,
    epoch: u64,
}

/// The brackets of all roots.
pub fn check(records: &[&Value]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut open: BTreeMap<&str, Bracket<'_>> = BTreeMap::new();
    for record in records {
        let Some(root) = root(record) else { continue };
        let bracket = open.entry(root).or_default();
        let complaint = match op(record) {
            "snapshot_begin" => bracket.begin_run(record),
            "snapshot_end" => bracket.end_run(record),
            "gap_begin" => bracket.begin_gap(record),
            "gap_end" => bracket.end_gap(record),
            "snapshot" => bracket.list(record),
            "acl" => None,
            _ if record["fidelity"] == "reconciled" => bracket.reconcile(),
            _ => None,
        };
        complaints.extend(complaint.map(|complaint| format!("{}: {complaint}", name(record))));
    }
    for (root, bracket) in open {
        if bracket.run.is_some() || bracket.gap.is_some() {
            complaints.push(format!("a gap or run of {root} never ends"));
        }
    }
    complaints
}

fn said<T: std::fmt::Debug>(what: &str, found: T, expected: T) -> Option<String> {
    Some(format!("{what} is {found:?}, expected {expected:?}"))
}

impl<'a> Bracket<'a> {
    fn begin_run(&mut self, record: &'a Value) -> Option<String> {
        let is_free = self.run.is_none() && self.gap.is_none();
        self.run = Some((record, 0));
        if !is_free {
            return Some("a run begins inside a gap or run".to_owned());
        }
        let index = &record["run"]["index"];
        (*index != 0).then(|| format!("index is {index}, expected 0"))
    }

    fn list(&mut self, record: &Value) -> Option<String> {
        let Some((begin, count)) = &mut self.run else {
            return Some("outside a run".to_owned());
        };
        *count += 1;
        if record["run"]["id"] != begin["run"]["id"] {
            return Some("of another run".to_owned());
        }
        let index = record["run"]["index"].as_u64();
        if index == Some(*count) {
            return None;
        }
        said("index", index, Some(*count))
    }

    fn end_run(&mut self, record: &Value) -> Option<String> {
        self.had_run = true;
        let Some((begin, count)) = self.run.take() else {
            return Some("ends a run that did not begin".to_owned());
        };
        let run = &record["run"];
        if run["id"] != begin["run"]["id"] {
            return Some("ends another run".to_owned());
        }
        if run["nodes"].as_u64() != Some(count) {
            return said("nodes", run["nodes"].as_u64(), Some(count));
        }
        if run["index"].as_u64() != Some(count + 1) {
            return said("index", run["index"].as_u64(), Some(count + 1));
        }
        // Sources that read transactions list the tree at exactly one zxid.
        let kind = match (zxid(record), record["source"]["mode"] == "watch") {
            (Some(_), true) => "upper_bound",
            (Some(_), false) => "exact",
            (None, _) => "unknown",
        };
        (record["zxid_kind"] != kind).then(|| format!("zxid_kind is {}", record["zxid_kind"]))
    }

    fn begin_gap(&mut self, record: &'a Value) -> Option<String> {
        let gap = &record["gap"];
        let cut = self.gap.replace((record, 0));
        if self.run.is_some() || !self.had_run {
            return Some("a gap before the end of the first run".to_owned());
        }
        if let Some((cut, _)) = cut
            && cut["gap"]["from_zxid"] != gap["from_zxid"]
        {
            return Some("not from where the gap that was cut began".to_owned());
        }
        if !gap["to_zxid"].is_null() || !gap["differences"].is_null() {
            return Some("a begin that knows the end".to_owned());
        }
        let epoch = gap["epoch"].as_u64().unwrap_or_default();
        let before = std::mem::replace(&mut self.epoch, epoch);
        (epoch <= before).then(|| format!("epoch {epoch} after {before}"))
    }

    fn end_gap(&mut self, record: &Value) -> Option<String> {
        let Some((begin, count)) = self.gap.take() else {
            return Some("ends a gap that did not begin".to_owned());
        };
        let (begin, end) = (&begin["gap"], &record["gap"]);
        for field in ["epoch", "from_zxid", "reason"] {
            if begin[field] != end[field] {
                return Some(format!(
                    "{field} is {}, its begin has {}",
                    end[field], begin[field]
                ));
            }
        }
        if end["differences"].as_u64() != Some(count) {
            return said("differences", end["differences"].as_u64(), Some(count));
        }
        (hex(&end["to_zxid"]) < hex(&end["from_zxid"])).then(|| "ends before it begins".to_owned())
    }

    fn reconcile(&mut self) -> Option<String> {
        if let Some((_, count)) = &mut self.gap {
            *count += 1;
        } else if self.run.is_none() {
            return Some("reconciled, outside a gap or run".to_owned());
        }
        None
    }
}

/// The spans of each root that gaps and runs cover.
pub fn spans(records: &[&Value]) -> BTreeMap<String, Vec<Span>> {
    let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for record in records {
        let span = match op(record) {
            "snapshot_end" => Some((0, zxid(record).unwrap_or_default())),
            "gap_end" => hex(&record["gap"]["from_zxid"]).zip(hex(&record["gap"]["to_zxid"])),
            _ => None,
        };
        if let (Some(root), Some(span)) = (root(record), span) {
            spans.entry(root.to_owned()).or_default().push(span);
        }
    }
    spans
}
