//! BookKeeper: `available/{bookie}`, and `available/readonly/{bookie}` for one that is full.

use bridge_core::record::InstanceStatus;

use super::{Decoded, Decoder, Place, Znode};
use crate::payload::host_port;
use crate::protobuf::{Field, fields, port, text};
use crate::registration::Registration;

const SERVICE: &str = "bookkeeper";

/// The field of the message with an address: 1 id, 2 port, 3 host, 4 protocol.
const ENDPOINT: u64 = 6;

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    let (bookie, status) = match *names {
        // The parent of the others; its data is that of its maker.
        ["available", "readonly"] => return Decoded::Nothing,
        ["available", bookie] => (bookie, InstanceStatus::Up),
        ["available", "readonly", bookie] => (bookie, InstanceStatus::ReadOnly),
        _ => return Decoded::Nothing,
    };
    let place = Place::new(SERVICE, decoder.at_base("available")).of(bookie);
    place.register(znode, |bytes| {
        let mut registration = Registration {
            status,
            ..Registration::default()
        };
        for (at, field) in fields(bytes).ok_or("bytes that are no message of BookKeeper")? {
            let (ENDPOINT, Field::Bytes(bytes)) = (at, field) else {
                continue;
            };
            let found = fields(bytes).ok_or("an address that is no message of BookKeeper")?;
            let host = text(&found, 3).ok_or("an address without a host")?;
            let (id, protocol) = (text(&found, 1), text(&found, 4));
            registration.endpoint(id.as_deref(), protocol.as_deref(), &host, port(&found, 2));
        }
        if registration.endpoints.is_empty()
            && let Some((host, port)) = host_port(bookie)
        {
            registration.endpoint(Some("bookie"), None, &host, port);
        }
        Ok(registration)
    })
}
