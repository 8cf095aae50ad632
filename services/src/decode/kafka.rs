//! Kafka up to 3.9: brokers below `brokers/ids`, and the controller.

use super::{Decoded, Decoder, Leader, Place, Znode, is_empty, leader};
use crate::payload::{host_port, object, port_of, scalar_text, text_of};
use crate::registration::Registration;

/// The one service of a cluster.
const SERVICE: &str = "kafka";

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    match *names {
        // A broker is created empty and written in the same transaction.
        ["brokers", "ids", _] if is_empty(znode) => Decoded::Waiting,
        ["brokers", "ids", id] => Place::new(SERVICE, decoder.at_base("brokers/ids"))
            .of(id)
            .register(znode, broker),
        ["controller"] => leader(znode, decoder.at_base("controller"), SERVICE, |bytes| {
            let name = text_of(&object(bytes).ok()?, "brokerid")?;
            let endpoints = Vec::new();
            let name = Some(name);
            Some(Leader { name, endpoints })
        }),
        _ => Decoded::Nothing,
    }
}

/// The facts of a broker. Its `timestamp` names no process: it is the time of the registration, which a broker repeats
/// when it has lost its session.
fn broker(bytes: &[u8]) -> Result<Registration, String> {
    let found = object(bytes)?;
    let mut registration = Registration {
        zone: text_of(&found, "rack"),
        ..Registration::default()
    };
    let protocols = &found["listener_security_protocol_map"];
    for listener in found["endpoints"].as_array().into_iter().flatten() {
        let (name, address) = listener
            .as_str()
            .and_then(|listener| listener.split_once("://"))
            .ok_or("a listener that is no URL")?;
        let (host, port) = address_of(address).ok_or("a listener without an address")?;
        let protocol = protocols.get(name).and_then(scalar_text);
        registration.endpoint(Some(name), Some(protocol.as_deref().unwrap_or(name)), &host, port);
    }
    if registration.endpoints.is_empty() {
        let host = text_of(&found, "host").ok_or("a broker without endpoints and host")?;
        registration.endpoint(
            Some("PLAINTEXT"),
            Some("PLAINTEXT"),
            &host,
            port_of(&found, "port"),
        );
    }
    if found["features"]
        .as_object()
        .is_some_and(|features| !features.is_empty())
    {
        registration.meta("features", &found["features"]);
    }
    if found["jmx_port"].as_i64().is_some_and(|port| port > 0) {
        registration.meta("jmx_port", &found["jmx_port"]);
    }
    Ok(registration)
}

/// A listener may have no host, which means the broker's own.
fn address_of(address: &str) -> Option<(String, Option<u16>)> {
    match address.strip_prefix(':') {
        Some(port) => Some((String::new(), crate::payload::port(port))),
        None => host_port(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_without_an_address_is_unreadable() {
        for wrong in [
            "{}",
            r#"{"endpoints":["x"]}"#,
            r#"{"endpoints":[1]}"#,
            r#"{"host":null}"#,
            "[]",
        ] {
            assert!(broker(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let twice = br#"{"host":"a","host":"b","port":1}"#;
        assert_eq!(broker(twice).unwrap().address().as_deref(), Some("b:1"));
    }
}
