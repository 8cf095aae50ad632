//! The facts of one registration, whatever its format.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::record::{Endpoint, FieldChange, InstanceStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payload::{normal, scalar_text};

/// Fields of metadata that an event has; the number of those that are left out is in `LEFT_OUT`.
const METADATA_MAX: usize = 64;

/// Bytes of one value of metadata; a longer one is left out.
const METADATA_VALUE_BYTES_MAX: usize = 4_096;

/// Bytes of one text besides metadata.
const TEXT_BYTES_MAX: usize = 1_024;

/// Addresses of one registration.
const ENDPOINTS_MAX: usize = 32;

/// The name under which the number of fields is that were left out.
const LEFT_OUT: &str = "zkbridge.left_out";

/// The facts of one registration.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Registration {
    pub(crate) status: InstanceStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) native_status: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) endpoints: Vec<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) application: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, Value>,
    /// The same for the same process, also after its session expired and it registered again. `None`: the registration does
    /// not say it, and its session counts as the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<String>,
}

impl Registration {
    /// Adds an address.
    pub(crate) fn endpoint(
        &mut self,
        name: Option<&str>,
        scheme: Option<&str>,
        host: &str,
        port: Option<u16>,
    ) {
        if self.endpoints.len() < ENDPOINTS_MAX {
            self.endpoints.push(Endpoint {
                name: name.map(str::to_owned),
                scheme: scheme.map(str::to_owned),
                host: host.to_owned(),
                port,
            });
        }
    }

    /// Adds the members of an object to the metadata, those of `without` left out.
    pub(crate) fn metadata_of(&mut self, object: &Value, without: &[&str]) {
        let members = object.as_object().into_iter().flatten();
        for (name, value) in members {
            if !without.contains(&name.as_str()) {
                self.meta(name, value);
            }
        }
    }

    /// Adds a field of metadata, within the bounds. A null is absent.
    pub(crate) fn meta(&mut self, name: &str, value: &Value) {
        let bytes = match value {
            Value::Null => return,
            Value::String(text) => text.len(),
            Value::Bool(_) | Value::Number(_) => 0,
            Value::Array(_) | Value::Object(_) => value.to_string().len(),
        };
        if self.metadata.len() < METADATA_MAX && bytes + name.len() <= METADATA_VALUE_BYTES_MAX {
            self.metadata.insert(name.to_owned(), normal(value));
            return;
        }
        let left_out = self.metadata.get(LEFT_OUT).and_then(Value::as_u64).unwrap_or(0);
        self.metadata.insert(LEFT_OUT.to_owned(), (left_out + 1).into());
    }

    /// Takes the facts that a znode beside the registration adds.
    pub(crate) fn overlay(&mut self, beside: &Registration) {
        let take = |to: &mut Option<String>, from: &Option<String>| {
            if from.is_some() {
                to.clone_from(from);
            }
        };
        if !beside.endpoints.is_empty() {
            self.endpoints.clone_from(&beside.endpoints);
        }
        if beside.status != InstanceStatus::Up {
            self.status = beside.status;
        }
        take(&mut self.native_status, &beside.native_status);
        take(&mut self.role, &beside.role);
        take(&mut self.version, &beside.version);
        take(&mut self.zone, &beside.zone);
        if beside.weight.is_some() {
            self.weight.clone_from(&beside.weight);
        }
        let added = beside.metadata.iter();
        self.metadata
            .extend(added.map(|(name, value)| (name.clone(), value.clone())));
    }

    /// The fields in which a later state of the instance differs, in the order of the contract.
    pub(crate) fn changes_to(&self, later: &Registration) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        let mut changed = |field: &str, of: &dyn Fn(&Registration) -> Value| {
            let (field, from, to) = (field.to_owned(), of(self), of(later));
            changes.push(FieldChange { field, from, to });
        };
        if self.status != later.status {
            changed("status", &|side| side.status.as_str().into());
        }
        if self.endpoints != later.endpoints {
            changed("endpoints", &|side| {
                serde_json::to_value(&side.endpoints).unwrap_or(Value::Null)
            });
        }
        if self.role != later.role {
            changed("role", &|side| side.role.clone().into());
        }
        if self.version != later.version {
            changed("version", &|side| side.version.clone().into());
        }
        if self.weight != later.weight {
            changed("weight", &|side| side.weight.clone().unwrap_or_default());
        }
        if self.zone != later.zone {
            changed("zone", &|side| side.zone.clone().into());
        }
        if self.metadata == later.metadata {
            return changes;
        }
        let names: BTreeSet<&String> = self.metadata.keys().chain(later.metadata.keys()).collect();
        for name in names {
            let of = |side: &Registration| side.metadata.get(name).cloned().unwrap_or_default();
            if of(self) != of(later) {
                changed(&format!("metadata.{name}"), &of);
            }
        }
        changes
    }

    /// Cuts texts that are longer than any that a person writes.
    pub(crate) fn cut(&mut self) {
        let texts = [
            &mut self.native_status,
            &mut self.role,
            &mut self.version,
            &mut self.zone,
            &mut self.application,
            &mut self.process,
        ];
        for text in texts.into_iter().flatten() {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
        for endpoint in &mut self.endpoints {
            let host = &mut endpoint.host;
            host.truncate(host.floor_char_boundary(TEXT_BYTES_MAX));
            for text in [&mut endpoint.name, &mut endpoint.scheme].into_iter().flatten() {
                text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            }
        }
        if let Some(Value::String(text)) = &mut self.weight {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
    }

    /// `host:port` of the first address, or its host. An identity: without brackets, as in every journal.
    pub(crate) fn address(&self) -> Option<String> {
        let first = self.endpoints.first()?;
        Some(match first.port {
            Some(port) => format!("{}:{port}", first.host),
            None => first.host.clone(),
        })
    }

    /// Sets the weight from a value, if there is one.
    pub(crate) fn weigh(&mut self, value: Option<&Value>) {
        self.weight = value.filter(|value| scalar_text(value).is_some()).map(normal);
    }
}

/// A service, as far as it is part of the identity of an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(crate) struct ServiceKey {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
}

impl ServiceKey {
    /// A service that its name alone identifies.
    pub(crate) fn named(name: impl Into<String>) -> ServiceKey {
        ServiceKey {
            name: name.into(),
            group: None,
            version: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_bounded_and_counts_the_fields_that_it_leaves_out() {
        let mut registration = Registration::default();
        for at in 0..METADATA_MAX + 5 {
            registration.meta(&format!("k{at:03}"), &Value::from("v"));
        }
        registration.meta("long", &Value::from("x".repeat(METADATA_VALUE_BYTES_MAX)));
        assert_eq!(registration.metadata.len(), METADATA_MAX + 1);
        assert_eq!(registration.metadata[LEFT_OUT], Value::from(6));
    }
}
