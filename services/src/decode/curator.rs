//! Curator's service discovery: `{base}/{service}/{id}`, also with the payloads of Spring Cloud Zookeeper and Dubbo 3.

use bridge_core::record::InstanceStatus;
use serde_json::Value;

use super::{Decoded, Decoder, Place, Znode, is_empty, pointed};
use crate::payload::{json, object, port_of, scalar_text, text_of};
use crate::registration::Registration;

/// Where Spring and Dubbo keep further facts.
const METADATA: &str = "/payload/metadata";

/// Dubbo's list of addresses, as JSON in a text.
const DUBBO_ENDPOINTS: &str = "dubbo.endpoints";

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    let &[service, _] = names else {
        return Decoded::Nothing;
    };
    if is_empty(znode) {
        return Decoded::Nothing;
    }
    let place = Place::new(service, decoder.at_base(service));
    place.register(znode, |bytes| registration(decoder, service, &object(bytes)?))
}

fn registration(decoder: &Decoder, service: &str, found: &Value) -> Result<Registration, String> {
    let (name, id) = (text_of(found, "name"), text_of(found, "id"));
    if name.as_deref() != Some(service) || id.is_none() {
        return Err(
            "no instance of Curator: 'name' must be the name of its parent, and 'id' be there".to_owned(),
        );
    }
    let config = &decoder.config;
    let mut registration = Registration {
        process: text_of(found, "registrationTimeUTC").filter(|time| time != "0"),
        ..Registration::default()
    };
    endpoints(&mut registration, found)?;
    let at = |pointer: &Option<String>, default: &str| {
        let pointer = pointer.as_deref().unwrap_or(default);
        found
            .pointer(pointer)
            .and_then(scalar_text)
            .filter(|text| !text.is_empty())
    };
    let (zone, version) = ("/payload/metadata/zone", "/payload/metadata/version");
    registration.zone = at(&config.zone, zone);
    registration.version = at(&config.version, version);
    registration.weigh(
        config
            .weight
            .as_deref()
            .and_then(|pointer| found.pointer(pointer)),
    );
    let lifted = [
        pointed(Some(config.zone.as_deref().unwrap_or(zone)), METADATA),
        pointed(Some(config.version.as_deref().unwrap_or(version)), METADATA),
        pointed(config.weight.as_deref(), METADATA),
    ];
    status(&mut registration, found);
    let mut without = vec!["instance_status", "timestamp", DUBBO_ENDPOINTS];
    without.extend(lifted.iter().flatten().map(String::as_str));
    match found.pointer(METADATA) {
        Some(metadata @ Value::Object(_)) => registration.metadata_of(metadata, &without),
        _ => registration.metadata_of(&found["payload"], &["@class", "id", "name", "metadata"]),
    }
    Ok(registration)
}

fn endpoints(registration: &mut Registration, found: &Value) -> Result<(), String> {
    let Some(host) = text_of(found, "address") else {
        return Ok(());
    };
    let metadata = found.pointer(METADATA);
    if let Some(Value::String(list)) = metadata.and_then(|metadata| metadata.get(DUBBO_ENDPOINTS)) {
        let list = json(list.as_bytes()).map_err(|reason| format!("'{DUBBO_ENDPOINTS}' is {reason}"))?;
        for endpoint in list.as_array().into_iter().flatten() {
            let scheme = text_of(endpoint, "protocol");
            registration.endpoint(None, scheme.as_deref(), &host, port_of(endpoint, "port"));
        }
    }
    if !registration.endpoints.is_empty() {
        return Ok(());
    }
    let parts = found.pointer("/uriSpec/parts").and_then(Value::as_array);
    let has_scheme = parts.is_some_and(|parts| {
        let is_scheme = |part: &Value| part["variable"] == true && part["value"] == "scheme";
        parts.iter().any(is_scheme)
    });
    let (plain, ssl) = (port_of(found, "port"), port_of(found, "sslPort"));
    let scheme = |scheme| has_scheme.then_some(scheme);
    if plain.is_some() || ssl.is_none() {
        registration.endpoint(None, scheme("http"), &host, plain);
    }
    if ssl.is_some() {
        registration.endpoint(Some("ssl"), scheme("https"), &host, ssl);
    }
    Ok(())
}

/// Spring's `instance_status`, in either case, where a blank one counts as up, and Curator's own switch, which is absent for true.
fn status(registration: &mut Registration, found: &Value) {
    registration.native_status = found
        .pointer("/payload/metadata/instance_status")
        .and_then(scalar_text)
        .filter(|word| !word.trim().is_empty());
    let word = registration.native_status.as_deref().map(str::to_ascii_uppercase);
    registration.status = match word.as_deref() {
        None | Some("UP") => InstanceStatus::Up,
        Some("OUT_OF_SERVICE" | "DOWN") => InstanceStatus::Disabled,
        Some("STARTING") => InstanceStatus::Starting,
        Some(_) => InstanceStatus::Unknown,
    };
    if found["enabled"] == false {
        registration.status = InstanceStatus::Disabled;
    }
}
