//! The form of each record, and repeated deliveries: schema, identity, key, headers, sequence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;
use uuid::{Uuid, uuid};

use super::Case;
use super::fields::{self, has_exact_zxid, hex, name, op, path, root, seq};
use crate::topic::Delivery;

const NAMESPACE: Uuid = uuid!("11ffacbc-6176-5700-805d-4f48ed75f0bc");

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let text = include_str!("../../../../bridge-core/schema/record.json");
    let schema = serde_json::from_str(text).expect("the schema is JSON");
    jsonschema::draft202012::new(&schema).expect("the schema is one")
});

/// Checks every delivery: schema, key, headers; repeated ones are equal; those of a path are in order.
pub fn check(deliveries: &[Delivery]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut first: BTreeMap<u64, &Delivery> = BTreeMap::new();
    let mut last_new: BTreeMap<&str, u64> = BTreeMap::new();
    for delivery in deliveries {
        let record = &delivery.record;
        complaints.extend(SCHEMA.iter_errors(record).map(|error| {
            format!(
                "{}: not by the schema: {error} at {}",
                name(record),
                error.instance_path()
            )
        }));
        complaints.extend(check_message(delivery));
        let seq = seq(record);
        if let Some(before) = first.get(&seq) {
            if before.record != *record {
                complaints.push(format!("{}: delivered again, and not equal", name(record)));
            }
            continue;
        }
        first.insert(seq, delivery);
        let last = last_new.insert(&delivery.key, seq).unwrap_or_default();
        if seq < last {
            complaints.push(format!(
                "{}: delivered after seq {last} of its path",
                name(record)
            ));
        }
    }
    complaints
}

fn check_message(delivery: &Delivery) -> Vec<String> {
    let record = &delivery.record;
    let mut complaints = Vec::new();
    let key = match path(record) {
        Some(path) => path.to_owned(),
        None => format!("control:{}", root(record).unwrap_or_default()),
    };
    if delivery.key != key {
        complaints.push(format!("{}: its key is {:?}", name(record), delivery.key));
    }
    for field in ["id", "op", "zxid", "cluster", "schema"] {
        let header = delivery.headers.get(&format!("zkbridge-{field}"));
        if header.map(String::as_str) != record[field].as_str() {
            complaints.push(format!("{}: its header {field} is {header:?}", name(record)));
        }
    }
    complaints
}

/// Checks the records: `seq` from 1 without holes, one id for each record, and the id of the contract.
pub fn check_journal(records: &[&Value]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut ids = BTreeSet::new();
    let mut living = BTreeMap::new();
    for (expected, record) in (1..).zip(records) {
        if seq(record) != expected {
            complaints.push(format!("{}: seq {expected} is missing before it", name(record)));
            break;
        }
    }
    for record in records {
        let id = record["id"].as_str().unwrap_or_default();
        if !ids.insert(id) {
            complaints.push(format!("{}: another record has its id too", name(record)));
        }
        let expected = identity(record, &mut living);
        if expected.map(|id| id.to_string()).as_deref() != Some(id) {
            complaints.push(format!(
                "{}: its id is {id}, by the contract {expected:?}",
                name(record)
            ));
        }
    }
    complaints
}

/// The id according to the contract. `living` has the czxid of each reported incarnation.
pub fn identity(record: &Value, living: &mut BTreeMap<String, u64>) -> Option<Uuid> {
    let named = named(record, living)?;
    Some(Uuid::new_v5(&NAMESPACE, named.as_bytes()))
}

/// The name whose UUID is the id.
fn named(record: &Value, living: &mut BTreeMap<String, u64>) -> Option<String> {
    let cluster = record["cluster"].as_str()?;
    let place = path(record).or(root(record)).unwrap_or_default();
    let hex16 = |number: u64| format!("{number:016x}");
    let after = &record["after"]["stat"];
    let known = living.get(place).copied();
    let mut version = String::new();
    let mut extra = String::new();
    let mut czxid = hex(&after["czxid"]).or(known);
    match op(record) {
        "create" => {
            czxid = hex(&after["czxid"]).or(fields::zxid(record));
            let is_read = record["fidelity"] == "reconciled";
            version = if is_read {
                after["version"].to_string()
            } else {
                "0".to_owned()
            };
        }
        "update" => version = after["version"].to_string(),
        "snapshot" => {
            version = after["version"].to_string();
            extra = format!("{}/{}", after["aversion"], record["run"]["id"].as_str()?);
        }
        "acl" => extra = after["aversion"].to_string(),
        "delete" => {
            living.remove(place);
            czxid = known;
            if known.is_none() {
                extra = fields::zxid(record).map_or_else(|| seq(record).to_string(), hex16);
            }
        }
        "snapshot_begin" | "snapshot_end" => {
            czxid = None;
            extra = record["run"]["id"].as_str()?.to_owned();
        }
        "gap_begin" | "gap_end" => {
            czxid = None;
            extra = format!(
                "{}/{}",
                hex16(hex(&record["gap"]["from_zxid"])?),
                record["gap"]["epoch"]
            );
        }
        "heartbeat" => {
            czxid = None;
            extra = seq(record).to_string();
        }
        _ => return None,
    }
    if let (Some(path), Some(czxid)) = (path(record), czxid)
        && op(record) != "delete"
    {
        living.insert(path.to_owned(), czxid);
    }
    let czxid = czxid.map(hex16).unwrap_or_default();
    Some(format!(
        "{cluster}\n{place}\n{}\n{czxid}\n{version}\n{extra}",
        op(record)
    ))
}

/// Exact zxids ascend over all exact records, and those of one transaction are together.
pub fn check_exact_order(records: &[&Value], case: &Case<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut last = 0;
    let mut closed = BTreeSet::new();
    for record in records.iter().filter(|record| op(record) != "acl") {
        let zxid = fields::zxid(record).unwrap_or_default();
        let counts = fields::is_change(record) && fields::is_exact(record);
        // The walk did not learn which incarnation ended, but the event had the transaction.
        let is_found_end = op(record) == "delete" && !counts && zxid == last;
        if (!counts && !is_found_end) || zxid != last {
            closed.insert(last);
        }
        if !counts {
            continue;
        }
        if !has_exact_zxid(record) {
            // Which incarnation of an unreadable path ended is unknown.
            if op(record) == "delete" && path(record).is_some_and(|path| case.is_hidden(path)) {
                continue;
            }
            complaints.push(format!("{}: exact, and its zxid is not", name(record)));
            continue;
        }
        if zxid < last {
            complaints.push(format!("{}: exact, after an exact {last:#018x}", name(record)));
        } else if closed.contains(&zxid) {
            complaints.push(format!(
                "{}: not beside the others of its transaction",
                name(record)
            ));
        }
        last = last.max(zxid);
    }
    complaints
}
