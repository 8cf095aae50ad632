//! Serversets of Finagle, Aurora and Armeria: `{path}/member_{sequence}`.

use bridge_core::record::InstanceStatus;
use serde_json::Value;

use super::{Decoded, Decoder, Place, Znode, parent_of, pointed};
use crate::payload::{object, port_of, scalar_text, text_of};
use crate::registration::Registration;

const METADATA: &str = "/metadata";
const ZONE: &str = "/metadata/zone";

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    let [service @ .., name] = names else {
        return Decoded::Nothing;
    };
    if service.is_empty() || !name.starts_with("member_") {
        return Decoded::Nothing;
    }
    let place = Place::new(service.join("/"), parent_of(znode.path));
    place.register_as(znode, |bytes| {
        let found = object(bytes)?;
        // A shard outlives its tasks.
        let shard = found.get("shard").and_then(scalar_text);
        let identity = shard.map(|shard| format!("shard {shard}"));
        Ok((identity, registration(decoder, &found)?))
    })
}

fn registration(decoder: &Decoder, found: &Value) -> Result<Registration, String> {
    let native = text_of(found, "status").ok_or("a member without 'status'")?;
    let config = &decoder.config;
    let pointer = |pointer: &Option<String>| {
        let pointer = pointer.as_deref()?;
        found.pointer(pointer).and_then(scalar_text)
    };
    let zone = config.zone.clone().unwrap_or_else(|| ZONE.to_owned());
    let mut registration = Registration {
        status: match &*native {
            "ALIVE" => InstanceStatus::Up,
            "STARTING" => InstanceStatus::Starting,
            "STOPPING" => InstanceStatus::Draining,
            "DEAD" | "STOPPED" => InstanceStatus::Disabled,
            _ => InstanceStatus::Unknown,
        },
        native_status: Some(native),
        zone: pointer(&Some(zone.clone())),
        version: pointer(&config.version),
        ..Registration::default()
    };
    registration.weigh(
        config
            .weight
            .as_deref()
            .and_then(|pointer| found.pointer(pointer)),
    );
    let main = text_of(&found["serviceEndpoint"], "host").ok_or("a member without 'serviceEndpoint'")?;
    registration.endpoint(None, None, &main, port_of(&found["serviceEndpoint"], "port"));
    for (name, endpoint) in found["additionalEndpoints"].as_object().into_iter().flatten() {
        if let Some(host) = text_of(endpoint, "host") {
            registration.endpoint(Some(name), None, &host, port_of(endpoint, "port"));
        }
    }
    let lifted = pointed(Some(&zone), METADATA);
    let without: Vec<&str> = lifted.iter().map(String::as_str).collect();
    registration.metadata_of(&found["metadata"], &without);
    Ok(registration)
}
