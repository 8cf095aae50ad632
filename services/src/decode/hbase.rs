//! HBase: region servers and masters, in an envelope with a salt that is new at each write.

use bridge_core::record::{Endpoint, InstanceStatus};

use super::{Decoded, Decoder, Leader, Place, Znode, leader};
use crate::payload::port as port_of_text;
use crate::protobuf::{bytes as bytes_of, fields, port, text};
use crate::registration::{Registration, ServiceKey};

const REGION_SERVER: &str = "hbase-regionserver";
const BACKUP_MASTER: &str = "hbase-backup-master";
const MASTER: &str = "hbase-master";

/// Before each message.
const MAGIC: &[u8] = b"PBUF";

pub(super) fn decode(decoder: &Decoder, znode: &Znode<'_>, names: &[&str]) -> Decoded {
    match *names {
        ["rs", name] => server(Place::new(REGION_SERVER, decoder.at_base("rs")), znode, name),
        ["backup-masters", name] => server(
            Place::new(BACKUP_MASTER, decoder.at_base("backup-masters")),
            znode,
            name,
        ),
        ["draining", name] => match name_parts(name) {
            Some((instance, ..)) => Decoded::Beside {
                service: ServiceKey::named(REGION_SERVER),
                instance,
                registration: Registration {
                    status: InstanceStatus::Draining,
                    ..Registration::default()
                },
            },
            None => Decoded::Nothing,
        },
        ["master"] => leader(znode, decoder.at_base("master"), MASTER, master),
        _ => Decoded::Nothing,
    }
}

/// `host,port,startcode`: the first two are the identity.
fn name_parts(name: &str) -> Option<(String, &str, u16, &str)> {
    let mut parts = name.split(',');
    let (host, port, startcode) = (parts.next()?, parts.next()?, parts.next()?);
    let is_name = parts.next().is_none() && !host.is_empty() && startcode.parse::<u64>().is_ok();
    is_name.then_some(())?;
    Some((format!("{host},{port}"), host, port_of_text(port)?, startcode))
}

fn server(place: Place, znode: &Znode<'_>, name: &str) -> Decoded {
    let Some((instance, host, rpc, startcode)) = name_parts(name) else {
        return place.unreadable("a name that is not 'host,port,startcode'".to_owned());
    };
    place.of(instance).register(znode, |payload| {
        let mut registration = Registration {
            process: Some(startcode.to_owned()),
            ..Registration::default()
        };
        registration.endpoint(Some("rpc"), None, host, Some(rpc));
        if payload.is_empty() {
            return Ok(registration);
        }
        let message = message(payload).ok_or("bytes that are no message of HBase")?;
        let found = fields(message).ok_or("bytes that are no message of HBase")?;
        if let Some(info) = port(&found, 1) {
            registration.endpoint(Some("info"), None, host, Some(info));
        }
        let version = bytes_of(&found, 2).and_then(fields);
        registration.version = version.and_then(|version| text(&version, 1));
        Ok(registration)
    })
}

/// The message in its envelope: `FF`, a length, an id with its salt, and `PBUF`. Old ones begin with `PBUF`.
fn message(bytes: &[u8]) -> Option<&[u8]> {
    let inside = match bytes.split_first()? {
        (0xff, rest) => {
            let (length, rest) = rest.split_at_checked(4)?;
            let length = u32::from_be_bytes(length.try_into().ok()?);
            rest.get(usize::try_from(length).ok()?..)?
        }
        _ => bytes,
    };
    inside.strip_prefix(MAGIC)
}

fn master(bytes: &[u8]) -> Option<Leader> {
    let found = fields(message(bytes)?)?;
    let server = fields(bytes_of(&found, 1)?)?;
    let (host, rpc) = (text(&server, 1)?, port(&server, 2)?);
    let endpoint = |name: &str, port| Endpoint {
        name: Some(name.to_owned()),
        host: host.clone(),
        port,
        ..Endpoint::default()
    };
    let info = port(&found, 3).map(|port| endpoint("info", Some(port)));
    Some(Leader {
        name: Some(format!("{host},{rpc}")),
        endpoints: std::iter::once(endpoint("rpc", Some(rpc))).chain(info).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_of_a_master_is_opened_whatever_its_salt() {
        let hex = "ff000000146d61737465723a31363030300102030405060708504255460a1b0a0f686d312e6578616d706c652e636f6d\
                   10807d18b8fafc9ba0341000188a7d";
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
        let found = master(&bytes).unwrap();
        assert_eq!(found.name.as_deref(), Some("hm1.example.com,16000"));
        assert_eq!(found.endpoints[1].port, Some(16010));
        for end in 0..bytes.len() - 5 {
            assert!(master(&bytes[..end]).is_none(), "{end}");
        }
    }
}
