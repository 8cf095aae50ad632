//! Nerve, of SmartStack: `{path}/{instance}_{sequence}`, where the name may hold the registration, too.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::Value;

use super::{Decoded, Decoder, Place, Znode, is_empty, parent_of, pointed};
use crate::payload::{object, port_of, scalar_text, text_of};
use crate::registration::Registration;

const LABELS: &str = "/labels";

/// The beginning of a name that holds the registration: `base64_{length}_{base64}_{sequence}`.
const ENCODED: &str = "base64_";

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    let [service @ .., name] = names else {
        return Decoded::Nothing;
    };
    let is_parent = is_empty(znode) && !name.starts_with(ENCODED);
    if service.is_empty() || is_parent {
        return Decoded::Nothing;
    }
    let place = Place::new(service.join("/"), parent_of(znode.path));
    place.register(znode, |bytes| {
        let found = match bytes {
            [] => object(&encoded(name).ok_or("a name that holds no registration")?)?,
            bytes => object(bytes)?,
        };
        registration(decoder, &found)
    })
}

fn encoded(name: &str) -> Option<Vec<u8>> {
    let (length, rest) = name.strip_prefix(ENCODED)?.split_once('_')?;
    let text = rest.get(..length.parse().ok()?)?;
    URL_SAFE.decode(text).ok()
}

fn registration(decoder: &Decoder, found: &Value) -> Result<Registration, String> {
    let config = &decoder.config;
    let host = text_of(found, "host").ok_or("a registration without 'host'")?;
    let mut registration = Registration::default();
    registration.endpoint(None, None, &host, port_of(found, "port"));
    let at = |pointer: &Option<String>| {
        let pointer = pointer.as_deref()?;
        found.pointer(pointer).and_then(scalar_text)
    };
    registration.zone = at(&config.zone);
    registration.version = at(&config.version);
    registration.weigh(match &config.weight {
        Some(pointer) => found.pointer(pointer),
        None => found.get("weight"),
    });
    let lifted =
        [&config.zone, &config.version, &config.weight].map(|pointer| pointed(pointer.as_deref(), LABELS));
    let without: Vec<&str> = lifted.iter().flatten().map(String::as_str).collect();
    registration.metadata_of(&found["labels"], &without);
    if let Some(name) = found.get("name") {
        registration.meta("name", name);
    }
    Ok(registration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_a_registration_of_the_length_that_it_says() {
        let text = URL_SAFE.encode(br#"{"host":"h","port":1}"#);
        let name = format!("base64_{}_{text}_0000000001", text.len());
        assert_eq!(encoded(&name).unwrap(), br#"{"host":"h","port":1}"#);
        for wrong in ["base64_", "base64_x_a", "base64_99_aa", "i_0000000001"] {
            assert_eq!(encoded(wrong), None, "{wrong}");
        }
    }
}
