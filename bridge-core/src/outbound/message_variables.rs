//! The variables of templates for messages.

use minijinja::value::Value;

use crate::format::Format;
use crate::record::Record;

/// The subject of the messages of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageSubject {
    /// Changes of znodes.
    Changes,
    /// Service events.
    Services,
}

/// The fields of a change record, then what is made of them.
const OF_CHANGES: [&str; 24] = [
    "schema",
    "id",
    "seq",
    "cluster",
    "root",
    "path",
    "op",
    "zxid",
    "zxid_kind",
    "fidelity",
    "missed",
    "superseded",
    "ephemeral",
    "before",
    "after",
    "txn",
    "time",
    "source",
    "acl",
    "lifetime",
    "run",
    "record",
    "names",
    "name",
];

/// The fields of a service event, then what is made of them.
const OF_SERVICES: [&str; 52] = [
    "schema",
    "type",
    "id",
    "seq",
    "zxid",
    "cluster",
    "section",
    "format",
    "service",
    "group",
    "version",
    "instance",
    "status",
    "native_status",
    "role",
    "application",
    "endpoints",
    "zone",
    "weight",
    "metadata",
    "liveness",
    "session",
    "path",
    "changes",
    "cause",
    "fidelity",
    "missed",
    "time",
    "text",
    "summary",
    "by_service",
    "unavailable",
    "downs",
    "instances",
    "election",
    "previous",
    "leader",
    "sequence",
    "queue",
    "vacant_ms",
    "anomaly",
    "joined",
    "left",
    "lock",
    "mode",
    "holder",
    "waiting",
    "waited_ms",
    "reason",
    "event",
    "names",
    "name",
];

impl MessageSubject {
    /// The subject of a sink with this format.
    pub fn of_format(format: Format) -> MessageSubject {
        match format.is_of_services() {
            true => MessageSubject::Services,
            false => MessageSubject::Changes,
        }
    }

    /// The subject of a record.
    pub fn of_record(record: &Record) -> MessageSubject {
        match record.event {
            Some(_) => MessageSubject::Services,
            None => MessageSubject::Changes,
        }
    }

    /// The format whose records a sink for this gets.
    pub fn format(self) -> Format {
        match self {
            MessageSubject::Changes => Format::Record,
            MessageSubject::Services => Format::Service,
        }
    }

    /// The words in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            MessageSubject::Changes => "change record",
            MessageSubject::Services => "service event",
        }
    }

    /// The names of the variables.
    pub fn variables(self) -> &'static [&'static str] {
        match self {
            MessageSubject::Changes => &OF_CHANGES,
            MessageSubject::Services => &OF_SERVICES,
        }
    }

    fn whole(self) -> &'static str {
        match self {
            MessageSubject::Changes => "record",
            MessageSubject::Services => "event",
        }
    }
}

/// The values of the variables for a record: those of its service event, if it has one. A field that it does not have is
/// null.
pub(super) fn values_of(record: &Record) -> Result<Value, String> {
    let json = match &record.event {
        Some(event) => event.to_json(),
        None => record.to_json(),
    };
    let document: serde_json::Value = serde_json::from_slice(&json)
        .map_err(|error| format!("the record is too deep for a template: {error}"))?;
    let path = document["path"].as_str().unwrap_or_default();
    let names: Vec<Value> = path
        .split('/')
        .filter(|name| !name.is_empty())
        .map(Value::from)
        .collect();
    let name = names.last().cloned().unwrap_or_else(|| Value::from(""));
    let whole = value_of(document);
    let subject = MessageSubject::of_record(record);
    let known = subject.variables().iter().map(|variable| {
        let value = match *variable {
            "names" => Value::from(names.clone()),
            "name" => name.clone(),
            variable if variable == subject.whole() => whole.clone(),
            field => whole.get_attr(field).unwrap_or_default(),
        };
        let value = if value.is_undefined() {
            Value::from(())
        } else {
            value
        };
        (*variable, value)
    });
    Ok(Value::from_pairs(known))
}

/// A document as a value of the engine: integers stay exact, other numbers are doubles.
pub(super) fn value_of(document: serde_json::Value) -> Value {
    match document {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            (_, _, Some(number)) => Value::from(number),
            _ => Value::from(number.to_string()),
        },
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(all) => all.into_iter().map(value_of).collect(),
        serde_json::Value::Object(all) => {
            Value::from_pairs(all.into_iter().map(|(key, value)| (key, value_of(value))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::record::{record_schema, service_schema};

    #[test]
    fn the_variables_are_the_fields_of_the_contracts() {
        let check = |subject: MessageSubject, schema: serde_json::Value, left_out: &[&str]| {
            let fields = schema["properties"].as_object().unwrap().keys().cloned();
            let fields: BTreeSet<String> = fields.filter(|field| !left_out.contains(&&**field)).collect();
            let made = [subject.whole(), "names", "name"];
            let known = subject.variables().iter().filter(|name| !made.contains(name));
            let known: BTreeSet<String> = known.map(|name| (*name).to_owned()).collect();
            assert_eq!(known, fields, "{subject:?}");
        };
        // Control records have no message, and a record with an event shows the event.
        check(MessageSubject::Changes, record_schema(), &["event", "gap"]);
        check(MessageSubject::Services, service_schema(), &[]);
    }
}
