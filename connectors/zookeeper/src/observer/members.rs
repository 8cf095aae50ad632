//! The configuration of an ensemble, as its servers write it into NEWLEADER and into `/zookeeper/config`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bridge_transactions::quorum::ObserverId;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// The most servers of an ensemble whose addresses are kept.
const MEMBERS_MAX: usize = 1_000;

/// The most addresses of one server that are kept.
const ADDRESSES_MAX: usize = 16;

/// The most bytes of a configuration.
pub(crate) const CONFIG_BYTES_MAX: usize = 1 << 20;

/// The address of a port on which a server talks with servers that learn from it: `zk1:2888`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuorumAddress {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for QuorumAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl<'de> Deserialize<'de> for QuorumAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for QuorumAddress {
    fn schema_name() -> Cow<'static, str> {
        "QuorumAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A host and the port on which servers talk with each other.",
            "minLength": 1,
            "examples": ["zk1:2888", "[::1]:2888"],
        })
    }
}

/// A text that is no address of a quorum port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not the address of a quorum port: {reason}; give a host and a port, as in \"zk1:2888\"")]
pub struct BadQuorumAddress {
    text: String,
    reason: &'static str,
}

impl FromStr for QuorumAddress {
    type Err = BadQuorumAddress;

    fn from_str(text: &str) -> Result<QuorumAddress, BadQuorumAddress> {
        let bad = |reason| BadQuorumAddress {
            text: text.to_owned(),
            reason,
        };
        let (host, rest) = split_host(text).ok_or_else(|| bad("it has no port"))?;
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        if rest.contains(':') {
            return Err(bad("it has more than one port"));
        }
        let port = rest.parse().ok().filter(|port| *port != 0);
        Ok(QuorumAddress {
            host: host.to_owned(),
            port: port.ok_or_else(|| bad("its port is not a number from 1 to 65535"))?,
        })
    }
}

/// Splits `host:rest` or `[host]:rest`.
fn split_host(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:"),
        None => text.split_once(':'),
    }
}

/// One server of an ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its id, from its `myid` file.
    pub(crate) id: i64,
    /// Its quorum ports: several with `multiAddress`.
    pub(crate) addresses: Vec<QuorumAddress>,
    /// Its ports of elections, one for each of its addresses.
    pub(crate) election_ports: Vec<u16>,
}

/// The servers of a configuration. Lines of other kinds are not read; a server whose address cannot be read keeps its
/// id, because that must not be the observer's.
pub(crate) fn members(config: &[u8]) -> Vec<Member> {
    let text = String::from_utf8_lossy(config);
    text.lines().filter_map(member).take(MEMBERS_MAX).collect()
}

/// Whether a server of a configuration has the observer's id, however many it has.
pub(crate) fn has_id(config: &[u8], id: ObserverId) -> bool {
    let text = String::from_utf8_lossy(config);
    text.lines()
        .filter_map(server_line)
        .any(|(server, _)| server == id.get())
}

/// The id of a server and the rest of its line.
fn server_line(line: &str) -> Option<(i64, &str)> {
    let (id, value) = line.trim().strip_prefix("server.")?.split_once('=')?;
    Some((id.parse().ok()?, value))
}

/// `server.1=host:2888:3888:participant;0.0.0.0:2181`, with several addresses separated by `|`.
fn member(line: &str) -> Option<Member> {
    let (id, value) = server_line(line)?;
    let servers = value.split(';').next().unwrap_or_default();
    let found = servers.split('|').filter_map(address).take(ADDRESSES_MAX);
    let (addresses, election_ports): (Vec<_>, Vec<_>) = found.unzip();
    Some(Member {
        id,
        addresses,
        election_ports: election_ports.into_iter().flatten().collect(),
    })
}

/// The quorum port and the port of elections in `host:2888:3888`, with a role or without.
fn address(text: &str) -> Option<(QuorumAddress, Option<u16>)> {
    let (host, ports) = split_host(text.trim())?;
    let mut ports = ports.split(':').map(|port| port.parse::<u16>().ok());
    let port = ports.next()??;
    let address = QuorumAddress {
        host: host.to_owned(),
        port,
    };
    (!host.is_empty() && port != 0).then(|| (address, ports.next().flatten()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> QuorumAddress {
        QuorumAddress {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn the_servers_of_a_configuration_are_read_in_every_form() {
        let config = b"server.1=zk1:2888:3888:participant;0.0.0.0:2181\n\
                       server.2=[2001:db8::1]:2888:3888:observer;2181\r\n\
                       server.3=a:2888:3888|b:2889:3889:participant\n\
                       server.4=zk4:2888:3888\n\
                       server.5=nonsense\n\
                       weight.1=1\n\
                       version=100000000";
        let found = members(config);
        let addresses: Vec<_> = found
            .iter()
            .map(|member| (member.id, member.addresses.clone()))
            .collect();
        let expected = vec![
            (1, vec![at("zk1", 2888)]),
            (2, vec![at("2001:db8::1", 2888)]),
            (3, vec![at("a", 2888), at("b", 2889)]),
            (4, vec![at("zk4", 2888)]),
            (5, vec![]),
        ];
        assert_eq!(addresses, expected);
        assert_eq!(found[1].election_ports, [3888]);
        assert_eq!(found[2].election_ports, [3888, 3889]);
    }

    #[test]
    fn a_configured_server_with_the_id_of_the_observer_is_found_even_without_an_address() {
        let id = ObserverId::from_hash(7);
        let config = format!("server.{}=?", id.get());
        assert!(has_id(config.as_bytes(), id));
        assert!(!has_id(b"server.1=zk1:2888:3888", id));
        assert!(!has_id(&[0xff, 0xfe, b'\n'], id));
        // Also after the last server whose addresses are kept.
        let many: String = (1..=MEMBERS_MAX)
            .map(|at| format!("server.{at}=a:2888:3888\n"))
            .collect();
        let config = many + &config;
        assert_eq!(members(config.as_bytes()).len(), MEMBERS_MAX);
        assert!(has_id(config.as_bytes(), id));
    }

    #[test]
    fn a_server_with_any_number_of_addresses_keeps_the_first_few() {
        let many = vec!["zk1:2888:3888"; 1_000].join("|");
        let found = members(format!("server.1={many}").as_bytes());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!("zk1:2888".parse(), Ok(at("zk1", 2888)));
        assert_eq!("[::1]:2888".parse(), Ok(at("::1", 2888)));
        assert_eq!(at("::1", 2888).to_string(), "[::1]:2888");
        for (text, reason) in [
            ("zk1", "it has no port"),
            (":2888", "it has no host"),
            ("zk1:2888:3888", "it has more than one port"),
            ("zk1:0", "from 1 to 65535"),
            ("zk1:70000", "from 1 to 65535"),
        ] {
            let bad = text.parse::<QuorumAddress>().unwrap_err().to_string();
            assert!(bad.contains(reason), "{text}: {bad}");
        }
    }
}
