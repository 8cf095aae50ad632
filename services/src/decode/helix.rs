//! Helix, also that of Pinot: `LIVEINSTANCES/{instance}` is the liveness, `CONFIGS/PARTICIPANT/{instance}` the address and
//! the operator's switch. Either may be gzip.

use bridge_core::record::InstanceStatus;
use serde_json::Value;

use super::{Decoded, Decoder, Leader, Payload, Place, Znode, leader};
use crate::payload::{object, perhaps_gzip, port, text_of};
use crate::registration::Registration;

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    let base = decoder.base_path();
    let cluster = super::name_of(&base).to_owned();
    match *names {
        ["LIVEINSTANCES", instance] => Place::new(cluster, base).of(instance).register(znode, |bytes| {
            let fields = simple_fields(bytes)?;
            let mut registration = Registration {
                process: text_of(&fields, "LIVE_INSTANCE"),
                version: text_of(&fields, "HELIX_VERSION"),
                ..Registration::default()
            };
            if let Some((host, digits)) = instance.rsplit_once('_')
                && let Some(port) = port(digits)
            {
                registration.endpoint(None, None, host, Some(port));
            }
            Ok(registration)
        }),
        ["CONFIGS", "PARTICIPANT", instance] => {
            let place = Place::new(cluster, base).of(instance);
            let fields = match znode.payload {
                Payload::NotRead => return Decoded::Waiting,
                Payload::Unusable(reason) => Err(reason.to_owned()),
                Payload::Bytes(bytes) => simple_fields(bytes),
            };
            match fields {
                // Without its facts a disabled instance would be up.
                Err(reason) => place.unreadable(reason),
                Ok(fields) => Decoded::Beside {
                    service: place.service,
                    instance: instance.to_owned(),
                    registration: participant(&fields),
                },
            }
        }
        ["CONTROLLER", "LEADER"] => leader(znode, decoder.at_base("CONTROLLER"), cluster, |bytes| {
            let found = object(&perhaps_gzip(bytes).ok()?).ok()?;
            Some(Leader {
                name: Some(text_of(&found, "id")?),
                endpoints: Vec::new(),
            })
        }),
        _ => Decoded::Nothing,
    }
}

fn simple_fields(bytes: &[u8]) -> Result<Value, String> {
    let mut found = object(&perhaps_gzip(bytes)?)?;
    match found["simpleFields"].take() {
        fields @ Value::Object(_) => Ok(fields),
        _ => Err("a record of Helix without 'simpleFields'".to_owned()),
    }
}

fn participant(fields: &Value) -> Registration {
    let mut registration = Registration::default();
    if let Some(host) = text_of(fields, "HELIX_HOST") {
        let port = text_of(fields, "HELIX_PORT").as_deref().and_then(port);
        registration.endpoint(None, None, &host, port);
    }
    if text_of(fields, "HELIX_ENABLED").is_some_and(|word| word.eq_ignore_ascii_case("false")) {
        registration.status = InstanceStatus::Disabled;
    }
    let domain = text_of(fields, "DOMAIN").unwrap_or_default();
    let zone = domain
        .split(',')
        .find_map(|part| part.trim().strip_prefix("zone="));
    registration.zone = zone.map(str::to_owned).or_else(|| text_of(fields, "ZONE_ID"));
    registration.weigh(fields.get("WEIGHT"));
    registration
}

#[cfg(test)]
mod tests {
    use bridge_core::number::SessionId;
    use bridge_core::path::ZnodePath;

    use super::*;
    use crate::config::{ServiceConfig, ServiceFormat};

    #[test]
    fn a_participant_that_cannot_be_read_is_unreadable_and_not_without_facts() {
        let decoder = Decoder::new(ServiceConfig {
            format: ServiceFormat::Helix,
            base: Some(ZnodePath::parse("/cluster").unwrap()),
            ..ServiceConfig::default()
        });
        let decoder = decoder.unwrap();
        let decode = |payload| {
            decoder.decode(&Znode {
                path: "/cluster/CONFIGS/PARTICIPANT/h_1",
                owner: SessionId::NONE,
                payload,
            })
        };
        assert_eq!(decode(Payload::NotRead), Decoded::Waiting);
        let is_unreadable = |payload| matches!(decode(payload), Decoded::Unreadable { .. });
        assert!(is_unreadable(Payload::Unusable("it was cut")));
        assert!(is_unreadable(Payload::Bytes(b"{")));
        assert!(!is_unreadable(Payload::Bytes(br#"{"simpleFields":{}}"#)));
    }
}
