//! A record in the envelope of Kafka Connect's `JsonConverter` with `schemas.enable = true`: `{"schema": …, "payload":
//! …}`. The payload is the record, so that sink connectors get a struct with typed fields.
//!
//! The schema is made from the record's JSON Schema, so it has every field of the record. A field that may be null or
//! absent there is optional here. The one difference of the payload: a value that the record has as a JSON document is
//! its text, because a Connect field has one type.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::record::{DataForm, Record, record_schema};

/// The schema of every payload.
static SCHEMA: LazyLock<String> = LazyLock::new(|| connect_schema().to_string());

/// The name of the record's struct; those of its parts follow it.
const NAME: &str = "zkbridge.change";

/// As in `zkbridge.change/1`.
const VERSION: u32 = 1;

/// A record with its schema.
pub(super) fn envelope(record: &Record) -> Vec<u8> {
    let payload = match has_document(record) {
        true => with_texts(record.clone()).to_json(),
        false => record.to_json(),
    };
    let (before, between, after) = ("{\"schema\":", ",\"payload\":", "}");
    let mut all =
        Vec::with_capacity(before.len() + SCHEMA.len() + between.len() + payload.len() + after.len());
    for part in [
        before.as_bytes(),
        SCHEMA.as_bytes(),
        between.as_bytes(),
        &payload,
        after.as_bytes(),
    ] {
        all.extend_from_slice(part);
    }
    all
}

fn has_document(record: &Record) -> bool {
    let states = [&record.before, &record.after].into_iter().flatten();
    let mut data = states.filter_map(|state| state.data.as_ref());
    data.any(|data| data.form == DataForm::Json)
}

fn with_texts(mut record: Record) -> Record {
    let states = [&mut record.before, &mut record.after].into_iter().flatten();
    for data in states.filter_map(|state| state.data.as_mut()) {
        if data.form == DataForm::Json {
            data.form = DataForm::Auto;
        }
    }
    record
}

/// The schema in the JSON of Kafka Connect.
fn connect_schema() -> Value {
    let root = record_schema();
    let mut schema = struct_of(&root, &root, NAME);
    schema["version"] = VERSION.into();
    schema["optional"] = false.into();
    schema
}

/// The Connect schema of a JSON Schema, without whether it is optional.
fn type_of(root: &Value, schema: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or_default();
        let definition = &root["$defs"][name];
        return match definition["properties"].is_object() {
            true => struct_of(root, definition, &format!("{NAME}.{name}")),
            false => type_of(root, definition),
        };
    }
    if let Some(variants) = schema["anyOf"].as_array() {
        let mut present = variants.iter().filter(|variant| variant["type"] != "null");
        return type_of(root, present.next().unwrap_or(&Value::Null));
    }
    let mut names = names_of_types(schema).into_iter();
    match names.find(|name| *name != "null") {
        Some("integer") => match schema["format"].as_str() {
            Some("int32") => json!({"type": "int32"}),
            _ => json!({"type": "int64"}),
        },
        Some("boolean") => json!({"type": "boolean"}),
        Some("array") => {
            let mut items = type_of(root, &schema["items"]);
            items["optional"] = false.into();
            json!({"type": "array", "items": items})
        }
        None if schema["const"].is_boolean() => json!({"type": "boolean"}),
        // Names, texts, and the value of a znode, which may have any type as a document.
        _ => json!({"type": "string"}),
    }
}

/// The types that a JSON Schema names.
fn names_of_types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_nullable(schema: &Value) -> bool {
    let mut variants = schema["anyOf"].as_array().into_iter().flatten();
    variants.any(|variant| variant["type"] == "null") || names_of_types(schema).contains(&"null")
}

fn struct_of(root: &Value, schema: &Value, name: &str) -> Value {
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let required = schema["required"].as_array().into_iter().flatten();
    let required: Vec<&str> = required.filter_map(Value::as_str).collect();
    let mut names: Vec<&String> = properties.keys().collect();
    names.sort_unstable();
    let fields = names.into_iter().map(|field| {
        let property = &properties[field];
        let mut of_field = type_of(root, property);
        of_field["field"] = field.as_str().into();
        of_field["optional"] = (is_nullable(property) || !required.contains(&field.as_str())).into();
        of_field
    });
    let fields: Vec<Value> = fields.collect();
    json!({"type": "struct", "name": name, "fields": fields})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{a_record, limit_records, some_records};

    /// Checks a value as the converter does, and that no field of it is unknown to the schema.
    fn check(schema: &Value, value: &Value, place: &str) {
        if value.is_null() {
            assert_eq!(schema["optional"], true, "{place} is null");
            return;
        }
        match schema["type"].as_str().unwrap() {
            "string" => assert!(value.is_string(), "{place}: {value}"),
            "int64" => assert!(value.is_i64(), "{place}: {value}"),
            "int32" => assert!(
                value.as_i64().is_some_and(|value| i32::try_from(value).is_ok()),
                "{place}: {value}"
            ),
            "boolean" => assert!(value.is_boolean(), "{place}: {value}"),
            "array" => {
                for item in value.as_array().unwrap() {
                    check(&schema["items"], item, place);
                }
            }
            "struct" => {
                let fields = schema["fields"].as_array().unwrap();
                let object = value.as_object().unwrap();
                for name in object.keys() {
                    assert!(
                        fields.iter().any(|field| field["field"] == **name),
                        "{place}.{name} is unknown"
                    );
                }
                for field in fields {
                    let name = field["field"].as_str().unwrap();
                    let none = Value::Null;
                    check(
                        field,
                        object.get(name).unwrap_or(&none),
                        &format!("{place}.{name}"),
                    );
                }
            }
            other => panic!("{place} has the type {other}"),
        }
    }

    fn read(record: &Record) -> Value {
        let envelope: Value = serde_json::from_slice(&envelope(record)).unwrap();
        assert_eq!(envelope.as_object().unwrap().len(), 2);
        check(&envelope["schema"], &envelope["payload"], "record");
        envelope["payload"].clone()
    }

    #[test]
    fn every_record_fits_the_schema_and_is_the_payload() {
        let some = some_records(200, 5);
        for record in some.iter().chain(&limit_records()) {
            let whole: Value = serde_json::from_slice(&record.to_json()).unwrap();
            assert_eq!(read(record), whole);
        }
    }

    #[test]
    fn a_document_is_its_text() {
        let mut record = a_record().before("[1, 2]").after(r#"{"n": 1.10}"#).build();
        for state in [&mut record.before, &mut record.after] {
            state.as_mut().unwrap().data.as_mut().unwrap().form = DataForm::Json;
        }
        let payload = read(&record);
        assert_eq!(payload["after"]["data"]["encoding"], "utf8");
        assert_eq!(payload["after"]["data"]["value"], r#"{"n": 1.10}"#);
        assert_eq!(payload["before"]["data"]["value"], "[1, 2]");
    }

    #[test]
    fn a_record_that_does_not_fit_the_schema_is_found() {
        let mut payload = read(&a_record().build());
        let schema = connect_schema();
        payload["after"]["stat"]["version"] = "two".into();
        let found = std::panic::catch_unwind(|| check(&schema, &payload, "record")).unwrap_err();
        let message = found.downcast_ref::<String>().unwrap();
        assert!(message.starts_with("record.after.stat.version"), "{message}");
    }
}
