//! ClickHouse on ZooKeeper: `{table}/replicas/{replica}/is_active` is the liveness, `host` beside it the address.

use super::{Decoded, Decoder, Payload, Znode};
use crate::payload::{port, text};
use crate::registration::{Registration, ServiceKey};

/// More lines than `host` has.
const LINES_MAX: usize = 64;

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    let [table @ .., "replicas", replica, last] = names else {
        return Decoded::Nothing;
    };
    let table = decoder.at_base(&table.join("/"));
    let service = ServiceKey::named(&table);
    match *last {
        "is_active" => Decoded::Live {
            service,
            instance: (*replica).to_owned(),
            home: table,
            registration: Registration::default(),
        },
        "host" => {
            let registration = match znode.payload {
                Payload::NotRead => return Decoded::Waiting,
                Payload::Unusable(reason) => {
                    return Decoded::Unreadable {
                        service,
                        instance: Some((*replica).to_owned()),
                        home: table,
                        reason: reason.to_owned(),
                    };
                }
                Payload::Bytes(bytes) => host(bytes),
            };
            Decoded::Beside {
                service,
                instance: (*replica).to_owned(),
                registration: registration.unwrap_or_default(),
            }
        }
        _ => Decoded::Nothing,
    }
}

/// Lines of `name: value`.
fn host(bytes: &[u8]) -> Option<Registration> {
    let lines = text(bytes).ok()?.lines().take(LINES_MAX);
    let pairs: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let value = |wanted: &str| {
        pairs
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| *value)
    };
    let host = value("host").filter(|host| !host.is_empty())?;
    let mut registration = Registration::default();
    registration.endpoint(
        Some("interserver"),
        value("scheme"),
        host,
        value("port").and_then(port),
    );
    if let Some(tcp) = value("tcp_port").and_then(port) {
        registration.endpoint(Some("tcp"), None, host, Some(tcp));
    }
    for name in ["database", "table"] {
        if let Some(value) = value(name) {
            registration.meta(name, &value.into());
        }
    }
    Some(registration)
}
