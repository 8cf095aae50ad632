//! The vectors: changes of znodes, and the events that they lead to.
//!
//! `vectors.json` has the changes in the order of a journal. A field of an expected event must be equal; a null field may
//! be absent. Events that are not listed are failures.

#![allow(clippy::unwrap_used, reason = "a helper of a test may panic")]

use bridge_core::derive::{Derivation, DerivationMark, DerivedEvent, ObservedChange, RestOfTransaction};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, Op, Timestamp};
use bridge_services::{MemoryState, ServiceConfig, ServiceMachine};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The vectors were written before the names of some options.
fn options(vector: &Value) -> ServiceConfig {
    let mut options = vector["options"].as_object().cloned().unwrap_or_default();
    let format = match vector["format"].as_str().unwrap() {
        "curator-queue" => "queue",
        format => format,
    };
    options.insert("format".to_owned(), format.into());
    if let Some(payload) = options.remove("payload") {
        options.insert("decode".to_owned(), payload);
    }
    // The owner says it.
    options.remove("ephemeral");
    serde_json::from_value(Value::Object(options)).unwrap()
}

fn time(record: &Value) -> Timestamp {
    record["at"].as_str().unwrap().parse().unwrap()
}

fn zxid(record: &Value, key: &str) -> Option<Zxid> {
    Some(record.get(key)?.as_str()?.parse().unwrap())
}

fn bytes(record: &Value) -> Option<Vec<u8>> {
    if let Some(text) = record["text"].as_str() {
        return Some(text.as_bytes().to_vec());
    }
    let text = record["base64"].as_str()?;
    let mut bits = 0_u32;
    let mut bytes = Vec::new();
    for (at, letter) in text.bytes().filter(|letter| *letter != b'=').enumerate() {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digit = alphabet.iter().position(|known| *known == letter).unwrap();
        bits = (bits << 6 | u32::try_from(digit).unwrap()) & 0xff_ffff;
        if at % 4 != 0 {
            let shift = 6 - 2 * (at % 4);
            bytes.push(u8::try_from(bits >> shift & 0xff).unwrap());
        }
    }
    Some(bytes)
}

/// The events of a vector, with its options or others.
fn play(config: &ServiceConfig, records: &[Value]) -> Vec<DerivedEvent> {
    let mut state = MemoryState::default();
    let mut machine = ServiceMachine::new("main", std::slice::from_ref(config)).unwrap();
    machine.begin(&mut state).unwrap();
    machine.filled();
    let mut events = Vec::new();
    for (at, record) in records.iter().enumerate() {
        let now = time(record);
        let op = match record["op"].as_str().unwrap() {
            "create" => Op::Create,
            "update" => Op::Update,
            "delete" => Op::Delete,
            "snapshot" => Op::Snapshot,
            mark => {
                events.extend(machine.complete(RestOfTransaction::None, &mut state).unwrap());
                let mark = match mark {
                    "gap_begin" => DerivationMark::GapBegin,
                    "gap_end" => DerivationMark::GapEnd,
                    "snapshot_begin" => DerivationMark::ListingBegin,
                    "snapshot_end" => DerivationMark::ListingEnd,
                    "tick" => {
                        if machine.has_due(now) {
                            events.extend(machine.due(now, &mut state).unwrap());
                        }
                        continue;
                    }
                    other => panic!("{other} is no op"),
                };
                events.extend(machine.mark(mark, None, &mut state).unwrap());
                continue;
            }
        };
        let path = ZnodePath::parse(record["path"].as_str().unwrap()).unwrap();
        let data = bytes(record).map(|bytes| Data::limited(&bytes, DataForm::Auto, usize::MAX));
        let change = ObservedChange {
            root: None,
            path: &path,
            op,
            id: Uuid::from_u128(at as u128 + 1),
            zxid: zxid(record, "zxid"),
            is_exact: record["fidelity"] == "exact" || op != Op::Delete,
            czxid: zxid(record, "czxid").unwrap(),
            owner: SessionId(zxid(record, "owner").unwrap().0),
            fidelity: match record["fidelity"].as_str() {
                Some("reconciled") => Fidelity::Reconciled,
                _ => Fidelity::Exact,
            },
            missed: record["missed"].as_u64(),
            changed: None,
            captured: now,
            data: data.as_ref(),
            txn: None,
        };
        if machine.is_ended_by(change.zxid) {
            events.extend(machine.complete(RestOfTransaction::None, &mut state).unwrap());
        }
        if machine.covers(&path) {
            machine.change(&change, &mut state).unwrap();
        }
        // A restart between two transactions changes nothing.
        let is_whole = records
            .get(at + 1)
            .is_none_or(|next| machine.is_ended_by(zxid(next, "zxid")));
        if is_whole && at % 2 == 1 {
            events.extend(machine.complete(RestOfTransaction::None, &mut state).unwrap());
            machine = ServiceMachine::new("main", std::slice::from_ref(config)).unwrap();
            assert!(
                !machine.begin(&mut state).unwrap().must_fill,
                "the rows are of these options"
            );
        }
    }
    events.extend(machine.complete(RestOfTransaction::None, &mut state).unwrap());
    events
}

/// The events of a vector without restarts in the middle of a transaction.
fn whole(config: &ServiceConfig, records: &[Value]) -> Vec<Value> {
    let events = play(config, records);
    events
        .iter()
        .map(|derived| serde_json::to_value(&derived.event).unwrap())
        .collect()
}

/// The first difference between what is expected and what came.
fn difference(expected: &Value, found: &Value, place: &str) -> Option<String> {
    match (expected, found) {
        (Value::Object(fields), Value::Object(_)) => fields
            .iter()
            .find_map(|(name, value)| difference(value, &found[name], &format!("{place}.{name}"))),
        (Value::Array(list), Value::Array(items)) if list.len() == items.len() => {
            let pairs = list.iter().zip(items).enumerate();
            pairs
                .into_iter()
                .find_map(|(at, (value, item))| difference(value, item, &format!("{place}[{at}]")))
        }
        (expected, found) if expected == found => None,
        (expected, found) => Some(format!("{place}: expected {expected}, found {found}")),
    }
}

fn complaints(name: &str, expected: &[Value], found: &[Value]) -> Vec<String> {
    let brief = |events: &[Value]| -> Vec<String> {
        events
            .iter()
            .map(|event| format!("{} {}", event["type"], event["text"]))
            .collect()
    };
    if expected.len() != found.len() {
        return vec![format!(
            "{name}: expected {:#?}\nfound {:#?}",
            expected,
            brief(found)
        )];
    }
    let pairs = expected.iter().zip(found).enumerate();
    pairs
        .filter_map(|(at, (expected, found))| difference(expected, found, &format!("{name}[{at}]")))
        .collect()
}

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

#[test]
fn every_vector_leads_to_its_events_and_to_no_others() {
    let mut wrong = Vec::new();
    for vector in vectors() {
        let name = vector["name"].as_str().unwrap();
        let (config, records) = (options(&vector), list(&vector["records"]));
        assert_eq!(config.objections(), [], "{name}");
        wrong.extend(complaints(
            name,
            &list(&vector["expect"]),
            &whole(&config, &records),
        ));
        if let Value::Array(expected) = &vector["expect_without_grace"] {
            let grace = bridge_core::amount::Span::default();
            let found = whole(&ServiceConfig { grace, ..config }, &records);
            wrong.extend(complaints(&format!("{name} without grace"), expected, &found));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(vectors().len(), 25);
}

#[test]
fn an_event_that_is_missing_wrong_or_too_much_is_a_complaint() {
    let found = [json!({"type": "instance.up", "service": "a", "zone": null})];
    let check = |expected: Value, count: usize| {
        let expected = expected.as_array().unwrap();
        assert_eq!(complaints("v", expected, &found).len(), count, "{expected:?}");
    };
    check(json!([{"type": "instance.up"}]), 0);
    check(json!([{"type": "instance.up", "zone": null, "role": null}]), 0);
    check(json!([{"type": "instance.down"}]), 1);
    check(json!([{"zone": "az"}]), 1);
    check(json!([]), 1);
    check(json!([{}, {}]), 1);
}

#[test]
fn ids_are_those_of_every_replay_and_of_no_other_event() {
    let mut seen: Map<String, Value> = Map::new();
    for vector in vectors() {
        let (config, records) = (options(&vector), list(&vector["records"]));
        let ids: Vec<String> = play(&config, &records)
            .iter()
            .map(|event| event.event.id.to_string())
            .collect();
        let again: Vec<String> = play(&config, &records)
            .iter()
            .map(|event| event.event.id.to_string())
            .collect();
        assert_eq!(ids, again, "{}", vector["name"]);
        let mut own: Vec<&String> = ids.iter().collect();
        own.sort();
        own.dedup();
        assert_eq!(own.len(), ids.len(), "{}", vector["name"]);
        seen.extend(ids.into_iter().map(|id| (id, Value::Null)));
    }
    assert!(seen.len() > 80, "{} events", seen.len());
}
