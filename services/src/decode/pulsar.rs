//! Pulsar: `brokers/{host:port}`, and the leader of the load balancing. The older manager writes its load into the same
//! znode, so that only addresses and the version count.

use super::{Decoded, Decoder, Leader, Place, Znode, is_empty, leader};
use crate::payload::{object, text_of};
use crate::registration::Registration;
use crate::url::Url;

const SERVICE: &str = "pulsar";

/// The members with an address.
const URLS: [&str; 4] = [
    "webServiceUrl",
    "webServiceUrlTls",
    "pulsarServiceUrl",
    "pulsarServiceUrlTls",
];

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    match *names {
        ["brokers", _] if is_empty(znode) => Decoded::Nothing,
        ["brokers", broker] => Place::new(SERVICE, decoder.at_base("brokers"))
            .of(broker)
            .register(znode, |bytes| {
                let found = object(bytes)?;
                let mut registration = Registration {
                    version: text_of(&found, "brokerVersionString")
                        .or_else(|| text_of(&found, "brokerVersion")),
                    ..Registration::default()
                };
                for name in URLS {
                    let Some(text) = text_of(&found, name) else {
                        continue;
                    };
                    let url = Url::parse(&text).ok_or_else(|| format!("'{name}' is no URL"))?;
                    registration.endpoint(Some(name), Some(&url.scheme), &url.host, url.port);
                }
                match registration.endpoints.is_empty() {
                    true => Err("a broker without an address".to_owned()),
                    false => {
                        registration.meta("advertisedListeners", &found["advertisedListeners"]);
                        Ok(registration)
                    }
                }
            }),
        ["leader"] => leader(znode, decoder.at_base("leader"), SERVICE, |bytes| {
            Some(Leader {
                name: Some(text_of(&object(bytes).ok()?, "serviceUrl")?),
                endpoints: Vec::new(),
            })
        }),
        _ => Decoded::Nothing,
    }
}
