//! Recognises conventions in a tree, to propose sections for a configuration. Never used while a bridge runs.
//!
//! *Invariants.* A convention is recognised by the shape of a path and by its payload together, and only if the decoder of
//! the proposed section reads the znode. Formats without such a sign are not proposed: nerve, kazoo's queues, everything
//! generic. A znode of a section that is configured is left out.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::number::SessionId;
use bridge_core::path::ZnodePath;
use serde_json::Value;

use crate::config::{SECTIONS_MAX, ServiceConfig, ServiceFormat};
use crate::decode::{Decoded, Decoder, Payload, Znode};
use crate::payload::{json, perhaps_gzip, text_of};

/// Different services that a proposal counts.
const SERVICES_MAX: usize = 10_000;

/// Takes the znodes of a tree.
#[derive(Debug, Default)]
pub struct Recognition {
    configured: Vec<Decoder>,
    found: BTreeMap<(&'static str, String), RecognisedSection>,
}

#[derive(Debug)]
struct RecognisedSection {
    decoder: Decoder,
    services: BTreeSet<String>,
    instances: u64,
}

/// A section that fits a part of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedSection {
    /// The section.
    pub section: ServiceConfig,
    /// The different services, or elections, that it was found with.
    pub services: u64,
    /// The instances, leaders or candidates.
    pub instances: u64,
}

impl Recognition {
    /// Leaves out what the sections of a source decode already.
    pub fn beside(configured: &[ServiceConfig]) -> Recognition {
        let decoders = configured.iter().cloned().map(Decoder::new);
        Recognition {
            configured: decoders.filter_map(Result::ok).collect(),
            found: BTreeMap::new(),
        }
    }

    /// Takes a znode.
    pub fn take(&mut self, path: &ZnodePath, owner: SessionId, bytes: &[u8]) {
        let znode = Znode {
            path,
            owner,
            payload: Payload::Bytes(bytes),
        };
        let is_configured = |decoder: &Decoder| {
            decoder.covers(path)
                && !matches!(
                    decoder.decode(&znode),
                    Decoded::Nothing | Decoded::Unreadable { .. }
                )
        };
        if self.configured.iter().any(is_configured) {
            return;
        }
        let Some((format, base)) = sign(&znode, bytes) else {
            return;
        };
        let key = (format.as_str(), base);
        if !self.found.contains_key(&key) {
            let Some(decoder) = section(format, &key.1).and_then(|section| Decoder::new(section).ok()) else {
                return;
            };
            if self.found.len() >= SECTIONS_MAX {
                return;
            }
            let recognised = RecognisedSection {
                decoder,
                services: BTreeSet::new(),
                instances: 0,
            };
            self.found.insert(key.clone(), recognised);
        }
        let Some(recognised) = self.found.get_mut(&key) else {
            return;
        };
        let service = match recognised.decoder.decode(&znode) {
            Decoded::Live { service, .. } => service.name,
            Decoded::Leader { election, .. } | Decoded::Candidate { election, .. } => election,
            _ => return,
        };
        recognised.instances += 1;
        if recognised.services.len() < SERVICES_MAX {
            recognised.services.insert(service);
        }
    }

    /// The sections, by format and base.
    pub fn proposals(self) -> Vec<ProposedSection> {
        let found = self.found.into_values().filter(|found| found.instances > 0);
        let proposals = found.map(|found| ProposedSection {
            section: found.decoder.config,
            services: found.services.len() as u64,
            instances: found.instances,
        });
        let mut all: Vec<ProposedSection> = Vec::new();
        for proposed in proposals {
            // The elections of one source are one section.
            let queue = all
                .last_mut()
                .filter(|last| [last.section.format, proposed.section.format] == [ServiceFormat::Queue; 2]);
            match queue {
                Some(last) => {
                    last.section.elections.extend(proposed.section.elections);
                    last.services += proposed.services;
                    last.instances += proposed.instances;
                }
                None => all.push(proposed),
            }
        }
        all
    }
}

impl ProposedSection {
    /// The section as TOML, to be written after its `[[source]]`.
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "[[source.service]]\nformat = \"{}\"\n",
            self.section.format.as_str()
        );
        // A JSON text is one of TOML.
        if let Some(base) = &self.section.base {
            text.push_str(&format!("base = {}\n", Value::from(base.as_str())));
        }
        if !self.section.elections.is_empty() {
            text.push_str(&format!(
                "elections = {}\n",
                Value::from(self.section.elections.clone())
            ));
        }
        text
    }

    /// The base, or the elections.
    pub fn place(&self) -> String {
        match self.section.elections.is_empty() {
            true => self.section.base().to_owned(),
            false => self.section.elections.join(" "),
        }
    }
}

fn section(format: ServiceFormat, base: &str) -> Option<ServiceConfig> {
    let path = ZnodePath::parse(base).ok()?;
    Some(match format {
        ServiceFormat::Queue => ServiceConfig {
            format,
            elections: vec![base.to_owned()],
            ..ServiceConfig::default()
        },
        _ => ServiceConfig {
            format,
            base: (format.default_base() != Some(base)).then_some(path),
            ..ServiceConfig::default()
        },
    })
}

/// The convention of a znode and the base of its section, by its path and its payload.
fn sign(znode: &Znode<'_>, bytes: &[u8]) -> Option<(ServiceFormat, String)> {
    let names: Vec<&str> = znode.path.trim_start_matches('/').split('/').collect();
    let is_ephemeral = znode.owner != SessionId::NONE;
    let object = || {
        let bytes = perhaps_gzip(bytes).ok()?;
        json(&bytes).ok().filter(Value::is_object)
    };
    let has = |keys: &[&str]| object().is_some_and(|found| keys.iter().all(|key| found.get(*key).is_some()));
    let format = match *names.as_slice() {
        [.., "providers", url] if url.contains("%3A%2F%2F") => match bytes {
            [0 | 1] => (ServiceFormat::Sofarpc, 3),
            _ => (ServiceFormat::Dubbo, 3),
        },
        [.., "brokers", "ids", _] if is_ephemeral && has(&["endpoints", "jmx_port"]) => {
            (ServiceFormat::Kafka, 3)
        }
        [.., "rs", server] if is_ephemeral && is_start_code(server) => (ServiceFormat::Hbase, 2),
        [.., "live_nodes", node] if is_ephemeral && node.contains(':') && node.contains('_') => {
            (ServiceFormat::Solr, 2)
        }
        [.., _, "ActiveStandbyElectorLock"] if is_ephemeral => (hadoop(znode)?, 2),
        [.., "replicas", _, "is_active"] if is_ephemeral => {
            return Some((ServiceFormat::Clickhouse, format!("/{}", names[0])));
        }
        [.., "available", bookie]
            if is_ephemeral && bookie.contains(':') && matches!(bytes, [] | [0x32, ..]) =>
        {
            (ServiceFormat::Bookkeeper, 2)
        }
        [.., "brokers", _] if is_ephemeral && has(&["webServiceUrl", "pulsarServiceUrl"]) => {
            (ServiceFormat::Pulsar, 2)
        }
        [.., "LIVEINSTANCES", _] if is_ephemeral && has(&["id", "simpleFields"]) => (ServiceFormat::Helix, 2),
        [.., _, "members", _] if is_ephemeral && has(&["conn_url", "api_url"]) => (ServiceFormat::Patroni, 3),
        [.., member] if member.starts_with("member_") && has(&["serviceEndpoint", "status"]) => {
            // All serversets below one name of the top are one section, but for one at the top.
            return (names.len() > 2).then(|| (ServiceFormat::Serverset, format!("/{}", names[0])));
        }
        [.., name] if is_ephemeral && is_latch(name) => (ServiceFormat::Queue, 1),
        [.., service, _] if names.len() > 2 => {
            let found = object()?;
            let is_curator = text_of(&found, "name").as_deref() == Some(service)
                && found.get("id").is_some()
                && (found.get("serviceType").is_some() || found.get("registrationTimeUTC").is_some());
            if !is_curator {
                return None;
            }
            (ServiceFormat::Curator, 2)
        }
        _ => return None,
    };
    let (format, below) = format;
    let base = names.get(..names.len().checked_sub(below)?)?.join("/");
    Some((format, format!("/{base}")))
}

/// Name nodes write their address, resource managers a name alone.
fn hadoop(znode: &Znode<'_>) -> Option<ServiceFormat> {
    let base = znode.path.rsplitn(3, '/').last()?;
    let base = if base.is_empty() { "/" } else { base };
    let reads = |format| {
        let decoder = Decoder::new(section(format, base)?).ok()?;
        match decoder.decode(znode) {
            Decoded::Leader { leader, .. } => Some(leader),
            _ => None,
        }
    };
    if reads(ServiceFormat::HadoopHa)?.endpoints.is_empty() {
        let name = reads(ServiceFormat::Yarn)?.name;
        return name.map(|_| ServiceFormat::Yarn);
    }
    Some(ServiceFormat::HadoopHa)
}

/// `host,port,startcode`.
fn is_start_code(name: &str) -> bool {
    let mut parts = name.split(',');
    let host = parts.next().is_some_and(|host| !host.is_empty());
    let port = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
    let code = parts
        .next()
        .is_some_and(|code| code.len() == 13 && code.parse::<u64>().is_ok());
    host && port && code && parts.next().is_none()
}

/// `_c_{uuid}-latch-{seq}`: a leader latch. The `-lock-` of a selector is also that of a mutex.
fn is_latch(name: &str) -> bool {
    let Some((guid, digits)) = name
        .strip_prefix("_c_")
        .and_then(|rest| rest.rsplit_once("-latch-"))
    else {
        return false;
    };
    uuid::Uuid::parse_str(guid).is_ok()
        && digits.len() == 10
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sections that these znodes are proposed with.
    fn proposed(configured: &[ServiceConfig], znodes: &[(&str, u64, &[u8])]) -> Vec<String> {
        let mut recognition = Recognition::beside(configured);
        for (path, owner, bytes) in znodes {
            recognition.take(&ZnodePath::parse(path).unwrap(), SessionId(*owner), bytes);
        }
        let proposals = recognition.proposals().into_iter();
        proposals
            .map(|one| {
                assert_eq!(one.section.objections(), []);
                let format = one.section.format.as_str();
                format!("{format} {} {}/{}", one.place(), one.services, one.instances)
            })
            .collect()
    }

    fn curator(name: &str, id: &str) -> Vec<u8> {
        format!(r#"{{"name":"{name}","id":"{id}","address":"h","port":1,"serviceType":"DYNAMIC"}}"#)
            .into_bytes()
    }

    #[test]
    fn each_convention_with_a_sign_is_proposed_with_the_base_where_it_was_found() {
        let (a, b) = (curator("pay", "a"), curator("cart", "b"));
        let zookeeper: &[u8] =
            br#"{"endpoints":["PLAINTEXT://k1:9092"],"jmx_port":-1,"host":"k1","port":9092,"version":5}"#;
        let check = |znodes: &[(&str, u64, &[u8])], expected: &[&str]| {
            assert_eq!(proposed(&[], znodes), expected);
        };
        check(
            &[
                ("/x/services/pay/a", 1, &a),
                ("/x/services/cart/b", 0, &b),
                ("/x/services/cart", 0, b""),
            ],
            &["curator /x/services 2/2"],
        );
        check(
            &[(
                "/dubbo/com.acme.Pay/providers/dubbo%3A%2F%2F10.0.0.7%3A20880%2Fcom.acme.Pay",
                1,
                b"10.0.0.7",
            )],
            &["dubbo /dubbo 1/1"],
        );
        check(
            &[(
                "/sofa-rpc/com.acme.Pay/providers/bolt%3A%2F%2F10.0.0.7%3A12200%3Fversion%3D1.0",
                1,
                b"\x01",
            )],
            &["sofarpc /sofa-rpc 1/1"],
        );
        check(&[("/brokers/ids/1", 1, zookeeper)], &["kafka / 1/1"]);
        check(&[("/k/brokers/ids/1", 1, zookeeper)], &["kafka /k 1/1"]);
        check(
            &[("/hbase/rs/h1,16020,1795355000120", 1, b"")],
            &["hbase /hbase 1/1"],
        );
        check(
            &[("/solr/live_nodes/10.0.0.21:8983_solr", 1, b"")],
            &["solr /solr 1/1"],
        );
        let latch = "_c_1c7f7b1e-93a1-4d2d-8a55-5a0d3b7d0001-latch-0000000007";
        check(
            &[(&format!("/a/{latch}"), 1, b""), (&format!("/b/{latch}"), 1, b"")],
            &["queue /a /b 2/2"],
        );
        check(
            &[("/service/db/members/n1", 1, br#"{"conn_url":"postgres://h:5432/p","api_url":"http://h:8008","state":"running","role":"replica"}"#)],
            &["patroni /service 1/1"],
        );
        check(
            &[("/aurora/jobs/web/member_0000000001", 1, br#"{"serviceEndpoint":{"host":"h","port":1},"additionalEndpoints":{},"status":"ALIVE","shard":3}"#)],
            &["serverset /aurora 1/1"],
        );
    }

    #[test]
    fn nothing_is_proposed_for_other_znodes_and_for_those_of_a_section_that_is_there() {
        let a = curator("pay", "a");
        for (path, owner, bytes) in [
            ("/services/other/a", 1, a.as_slice()),
            ("/pay/a", 1, &a),
            ("/config/app/db", 0, br#"{"name":"app","id":"7"}"#),
            ("/brokers/ids/1", 1, b"{}"),
            ("/available/h:1", 1, b"text"),
            ("/members/x", 1, b"{broken"),
            (
                "/lock/_c_1c7f7b1e-93a1-4d2d-8a55-5a0d3b7d0001-lock-0000000001",
                1,
                b"",
            ),
            ("/", 0, b""),
        ] {
            assert_eq!(proposed(&[], &[(path, owner, bytes)]), [""; 0], "{path}");
        }
        let section = section(ServiceFormat::Curator, "/services").unwrap();
        assert_eq!(proposed(&[section], &[("/services/pay/a", 1, &a)]), [""; 0]);
    }

    #[test]
    fn a_section_is_written_as_toml_with_any_name() {
        let strange = ZnodePath::parse("/a\"b\\ü/services").unwrap();
        let proposal = ProposedSection {
            section: section(ServiceFormat::Curator, &strange).unwrap(),
            services: 1,
            instances: 1,
        };
        let expected = "[[source.service]]\nformat = \"curator\"\nbase = \"/a\\\"b\\\\ü/services\"\n";
        assert_eq!(proposal.to_toml(), expected);
    }
}
