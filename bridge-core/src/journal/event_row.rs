//! The detail of a service event in its row: the event as JSON without the fields that are absent, and its home.
//!
//! *Invariant.* It is read as the event of the public contract, in which absent fields are null: whatever wrote it, this
//! build or an earlier one that wrote nulls.

use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::path::ZnodePath;
use crate::record::ServiceEvent;

/// A service event, and the path that orders it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct EventDetail {
    pub(super) home: ZnodePath,
    #[serde(serialize_with = "present_fields")]
    pub(super) event: Arc<ServiceEvent>,
}

fn present_fields<S: Serializer>(event: &ServiceEvent, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    macro_rules! always {
        ($($field:ident),*) => { $( map.serialize_entry(stringify!($field), &event.$field)?; )* };
    }
    macro_rules! if_present {
        ($($field:ident),*) => { $(
            if event.$field.is_some() {
                map.serialize_entry(stringify!($field), &event.$field)?;
            }
        )* };
    }
    map.serialize_entry("type", &event.kind)?;
    always!(
        schema, id, seq, cluster, section, format, service, endpoints, metadata
    );
    always!(path, changes, fidelity, time, text);
    if_present!(
        zxid,
        group,
        version,
        instance,
        status,
        native_status,
        role,
        application
    );
    if_present!(
        zone,
        weight,
        liveness,
        session,
        cause,
        missed,
        summary,
        unavailable,
        downs
    );
    if_present!(
        instances, election, previous, leader, sequence, queue, vacant_ms, anomaly
    );
    if_present!(joined, left, lock, mode, holder, waiting, waited_ms, reason);
    if !event.by_service.is_empty() {
        map.serialize_entry("by_service", &event.by_service)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::record::{ServiceEventType, service_schema};

    /// A value for a field of the schema that is not absent.
    fn any(name: &str, schema: &Value) -> Value {
        let text = schema.to_string();
        let found = [
            ("\"array\"", Value::from(Vec::<Value>::new())),
            ("\"integer\"", 7.into()),
        ];
        let of_type = found.into_iter().find(|(kind, _)| text.contains(kind));
        match name {
            "status" => "draining".into(),
            "liveness" => "session".into(),
            "cause" => "unknown".into(),
            "zxid" | "session" => "0x0000000000000007".into(),
            "summary" => "6f2c0e0a-9f0d-4d5e-8d43-0a4a1f3a7c11".into(),
            "weight" => 3.into(),
            _ => of_type.map_or("x".into(), |(_, value)| value),
        }
    }

    fn detail(event: ServiceEvent) -> EventDetail {
        EventDetail {
            home: ZnodePath::slash(),
            event: Arc::new(event),
        }
    }

    #[test]
    fn an_event_is_read_again_with_every_field_that_the_contract_has_and_with_those_that_are_absent() {
        let bare = ServiceEvent::of_type(ServiceEventType::InstanceUp);
        let written = serde_json::to_value(&bare).unwrap();
        let mut fields: serde_json::Map<String, Value> = written.as_object().unwrap().clone();
        let schema = service_schema();
        for (name, schema) in schema["properties"].as_object().unwrap() {
            if fields.get(name).is_none_or(Value::is_null) && name != "by_service" {
                fields.insert(name.clone(), any(name, schema));
            }
        }
        fields.insert("by_service".to_owned(), serde_json::json!({"pay": 3}));
        let full: ServiceEvent = serde_json::from_value(Value::Object(fields.clone())).unwrap();
        assert_eq!(
            serde_json::to_value(&full).unwrap(),
            Value::Object(fields),
            "no field is left out"
        );
        for event in [bare, full] {
            let detail = detail(event);
            let bytes = serde_json::to_vec(&detail).unwrap();
            assert_eq!(serde_json::from_slice::<EventDetail>(&bytes).unwrap(), detail);
        }
    }

    #[test]
    fn an_event_of_an_earlier_build_is_read_with_its_nulls() {
        let event = ServiceEvent::of_type(ServiceEventType::LeaderLost);
        let earlier = BTreeMap::from([
            ("home", Value::from("/")),
            ("event", serde_json::to_value(&event).unwrap()),
        ]);
        let bytes = serde_json::to_vec(&earlier).unwrap();
        assert_eq!(
            serde_json::from_slice::<EventDetail>(&bytes).unwrap(),
            detail(event)
        );
    }
}
