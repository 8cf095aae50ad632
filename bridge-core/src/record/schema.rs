//! The JSON Schemas of the record and of the service event, generated from their types.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{Record, ServiceEvent, ServiceEventType};

/// The JSON Schema (draft 2020-12) of the change record. Fields that a reader does not know are allowed.
pub fn record_schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Record>().to_value();
    require_all_but_their_own(&mut schema);
    schema
}

/// The schema as `zkbridge schema` prints it and as it is checked in.
///
/// # Panics
///
/// Never: a schema is valid JSON.
pub fn record_schema_text() -> String {
    let mut text = serde_json::to_string_pretty(&record_schema()).expect("a schema is plain JSON");
    text.push('\n');
    text
}

/// The JSON Schema (draft 2020-12) of the service event. Fields that a reader does not know are allowed.
pub fn service_schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<ServiceEvent>().to_value();
    let common: Vec<String> = serde_json::to_value(ServiceEvent::of_type(ServiceEventType::InstanceUp))
        .ok()
        .and_then(|event| Some(event.as_object()?.keys().cloned().collect()))
        .unwrap_or_default();
    schema["required"] = common.into_iter().collect();
    schema["$defs"]["Times"]["required"] = ["changed", "captured"].into_iter().collect();
    schema
}

/// The schema of the service event as `zkbridge schema service` prints it and as it is checked in.
///
/// # Panics
///
/// Never: a schema is valid JSON.
pub fn service_schema_text() -> String {
    let mut text = serde_json::to_string_pretty(&service_schema()).expect("a schema is plain JSON");
    text.push('\n');
    text
}

/// A null field is written, so it is required; only `acl`, `event`, `lifetime`, `gap` and `run` are fields of their own
/// records alone.
fn require_all_but_their_own(schema: &mut Value) {
    let own = ["acl", "event", "gap", "lifetime", "run"];
    let fields = schema["properties"]
        .as_object()
        .map(|all| all.keys().cloned().collect::<Vec<_>>());
    let required = fields
        .unwrap_or_default()
        .into_iter()
        .filter(|name| !own.contains(&name.as_str()));
    schema["required"] = required.collect();
    for (object, fields) in [
        ("State", &["data", "stat"][..]),
        ("Times", &["changed", "captured"]),
        ("Origin", &["mode", "server"]),
        ("Lifetime", &["kind", "ttl"]),
        (
            "Txn",
            &[
                "session", "cxid", "index", "count", "type", "time", "ended_by", "client", "user", "rest",
            ],
        ),
    ] {
        schema["$defs"][object]["required"] = fields.iter().copied().collect();
    }
    let gap = ["epoch", "from_zxid", "to_zxid", "reason"];
    schema["$defs"]["Gap"]["required"] = gap.into_iter().collect();
}
