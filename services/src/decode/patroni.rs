//! Patroni: `{scope}/members/{name}`, and the leader. Positions in the log change all the time and mean nothing here.

use bridge_core::record::InstanceStatus;

use super::{Decoded, Decoder, Leader, Place, Znode, leader};
use crate::payload::{object, text, text_of};
use crate::registration::Registration;
use crate::url::Url;

/// Lifted into the event, or different at each write.
const NO_METADATA: [&str; 9] = [
    "conn_url",
    "api_url",
    "state",
    "role",
    "version",
    "xlog_location",
    "receive_lsn",
    "replay_lsn",
    "latest_end_lsn",
];

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    match *names {
        [scope, "members", member] => {
            let place = Place::new(scope, decoder.at_base(scope)).of(member);
            place.register(znode, |bytes| registration(decoder, bytes))
        }
        [scope, "leader"] => leader(znode, decoder.at_base(scope), scope, |bytes| {
            let name = text(bytes).ok()?.trim();
            Some(Leader {
                name: Some(name.to_owned()).filter(|name| !name.is_empty()),
                endpoints: Vec::new(),
            })
        }),
        _ => Decoded::Nothing,
    }
}

fn registration(decoder: &Decoder, bytes: &[u8]) -> Result<Registration, String> {
    let found = object(bytes)?;
    let conn = text_of(&found, "conn_url").ok_or("a member without 'conn_url'")?;
    let state = text_of(&found, "state");
    let mut registration = Registration {
        status: match state.as_deref() {
            None | Some("running" | "streaming" | "in archive recovery") => InstanceStatus::Up,
            Some(state) if state.contains("stop") => InstanceStatus::Draining,
            Some(_) => InstanceStatus::Starting,
        },
        native_status: state,
        role: text_of(&found, "role"),
        version: text_of(&found, "version"),
        ..Registration::default()
    };
    for (name, url) in [(None, Some(conn)), (Some("api"), text_of(&found, "api_url"))] {
        let Some(url) = url else { continue };
        let url = Url::parse(&url).ok_or("an address that is no URL")?;
        registration.endpoint(name, Some(&url.scheme), &url.host, url.port);
    }
    if let Some(pointer) = &decoder.config.zone {
        registration.zone = found.pointer(pointer).and_then(crate::payload::scalar_text);
    }
    registration.metadata_of(&found, &NO_METADATA);
    Ok(registration)
}
