//! Decodes one znode: its path and its bytes give a registration, a candidate, a leader, a rule, or nothing.
//!
//! A decoder knows one znode and no other. Recognition needs the shape of the path and the payload together; a znode of
//! the right path with another payload is unreadable, which an event names, and never an instance.

mod bookkeeper;
mod clickhouse;
mod curator;
mod dubbo;
mod generic;
mod hadoop;
mod hbase;
mod helix;
mod kafka;
mod nerve;
mod patroni;
mod pulsar;
mod queue;
mod serverset;
mod solr;

use bridge_core::number::SessionId;
use bridge_core::record::Endpoint;
use serde::{Deserialize, Serialize};

use crate::config::{ServiceConfig, ServiceFormat};
use crate::registration::{Registration, ServiceKey};
use crate::template::Template;
use crate::url::masked;
pub(crate) use queue::Mode;

/// A znode as a decoder sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Znode<'a> {
    pub(crate) path: &'a str,
    pub(crate) owner: SessionId,
    pub(crate) payload: Payload<'a>,
}

/// The bytes of a znode.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    /// Nobody read them.
    NotRead,
    /// All of them.
    Bytes(&'a [u8]),
    /// They were cut or masked.
    Unusable(&'static str),
}

/// The meaning of a znode.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decoded {
    /// It has none.
    Nothing,
    /// Its bytes were not read yet, and they decide.
    Waiting,
    /// A registration: while it exists, the instance does.
    Live {
        service: ServiceKey,
        instance: String,
        home: String,
        registration: Registration,
    },
    /// Further facts of an instance that another znode keeps alive.
    Beside {
        service: ServiceKey,
        instance: String,
        registration: Registration,
    },
    /// A rule for the instances of a service.
    Rule { service: String, rule: Rule },
    /// The leader of an election.
    Leader {
        election: String,
        service: String,
        leader: Leader,
    },
    /// A candidate of an election or a lock.
    Candidate {
        election: String,
        service: String,
        candidate: Candidate,
    },
    /// A registration that cannot be decoded.
    Unreadable {
        service: ServiceKey,
        instance: Option<String>,
        home: String,
        reason: String,
    },
}

/// Switches instances of a service off from outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(crate) struct Rule {
    /// The host that it names; `None` for all.
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    /// `*` for any.
    pub(crate) group: Option<String>,
    pub(crate) version: Option<String>,
    /// Whether it is in force and disables.
    pub(crate) disables: bool,
}

impl Rule {
    /// Whether it switches off an instance of this service with this address.
    pub(crate) fn disables(&self, service: &ServiceKey, endpoint: Option<&Endpoint>) -> bool {
        let is_any =
            |rule: &Option<String>, own: &Option<String>| rule.as_deref() == Some("*") || rule == own;
        self.disables
            && is_any(&self.group, &service.group)
            && is_any(&self.version, &service.version)
            && match (&self.host, endpoint) {
                (None, _) => true,
                (Some(host), Some(endpoint)) => *host == endpoint.host && self.port == endpoint.port,
                (Some(_), None) => false,
            }
    }
}

/// The leader of an election.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Leader {
    /// `None`: its session names it.
    pub(crate) name: Option<String>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A candidate in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    /// `None`: its session names it.
    pub(crate) name: Option<String>,
    /// The order of the clients of this recipe, as text.
    pub(crate) order: String,
    pub(crate) sequence: Option<i64>,
    pub(crate) mode: Mode,
    /// Whether the queue is that of a lock.
    pub(crate) is_lock: bool,
    /// Whether another znode names the leader, so that the queue only counts.
    pub(crate) only_counts: bool,
}

/// One section, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    pub(crate) config: ServiceConfig,
    /// Without a slash at its end; empty for `/`.
    base: String,
    template: Option<Template>,
}

impl Decoder {
    /// Compiles a section whose options have no error.
    pub(crate) fn new(config: ServiceConfig) -> Result<Decoder, String> {
        let template = match (config.format, &config.path) {
            (ServiceFormat::Generic, Some(path)) => Some(Template::parse(path)?),
            (ServiceFormat::Generic, None) => return Err("format = \"generic\" has no path".to_owned()),
            _ => None,
        };
        let base = config.base().trim_end_matches('/').to_owned();
        Ok(Decoder {
            config,
            base,
            template,
        })
    }

    /// Whether a path can matter.
    pub(crate) fn covers(&self, path: &str) -> bool {
        match (&self.template, self.config.format) {
            (Some(template), _) => template.covers(path),
            (None, ServiceFormat::Queue) => queue::election_of(&self.config, path).is_some(),
            (None, _) => self.below(path).is_some(),
        }
    }

    /// The path below the base, without the slash at its beginning.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.base)?.strip_prefix('/')
    }

    /// A path made of the base and more names.
    pub(crate) fn at_base(&self, names: &str) -> String {
        format!("{}/{names}", self.base)
    }

    /// The base, as a path.
    pub(crate) fn base_path(&self) -> String {
        match self.base.is_empty() {
            true => "/".to_owned(),
            false => self.base.clone(),
        }
    }

    /// Whether facts of an instance are in several znodes.
    pub(crate) fn has_beside(&self) -> bool {
        use ServiceFormat::{Clickhouse, Hbase, Helix};
        matches!(self.config.format, Clickhouse | Helix | Hbase)
    }

    /// Whether rules change instances.
    pub(crate) fn has_rules(&self) -> bool {
        self.config.format == ServiceFormat::Dubbo
    }

    /// The meaning of a znode.
    pub(crate) fn decode(&self, znode: &Znode<'_>) -> Decoded {
        if let Some(template) = &self.template {
            return generic::decode(&self.config, template, znode);
        }
        if self.config.format == ServiceFormat::Queue {
            return queue::decode(&self.config, znode);
        }
        let Some(below) = self.below(znode.path) else {
            return Decoded::Nothing;
        };
        let names: Vec<&str> = below.split('/').collect();
        match self.config.format {
            ServiceFormat::Curator => curator::decode(self, znode, &names),
            ServiceFormat::Dubbo => dubbo::decode(self, &names),
            ServiceFormat::Sofarpc => dubbo::decode_sofarpc(self, znode, &names),
            ServiceFormat::Kafka => kafka::decode(self, znode, &names),
            ServiceFormat::HadoopHa => hadoop::decode(self, znode, &names),
            ServiceFormat::Yarn => hadoop::decode_yarn(self, znode, &names),
            ServiceFormat::Hbase => hbase::decode(self, znode, &names),
            ServiceFormat::Solr => solr::decode(self, znode, &names),
            ServiceFormat::Clickhouse => clickhouse::decode(self, znode, &names),
            ServiceFormat::Bookkeeper => bookkeeper::decode(self, znode, &names),
            ServiceFormat::Pulsar => pulsar::decode(self, znode, &names),
            ServiceFormat::Helix => helix::decode(self, znode, &names),
            ServiceFormat::Patroni => patroni::decode(self, znode, &names),
            ServiceFormat::Serverset => serverset::decode(self, znode, &names),
            ServiceFormat::Nerve => nerve::decode(self, znode, &names),
            ServiceFormat::Generic | ServiceFormat::Queue => Decoded::Nothing,
        }
    }
}

/// The service of a znode, as far as its path says.
struct Place {
    service: ServiceKey,
    instance: Option<String>,
    home: String,
}

impl Place {
    fn new(service: impl Into<String>, home: impl Into<String>) -> Place {
        Place {
            service: ServiceKey::named(service),
            instance: None,
            home: home.into(),
        }
    }

    /// With an identity that the path gives.
    fn of(self, instance: impl Into<String>) -> Place {
        Place {
            instance: Some(instance.into()),
            ..self
        }
    }

    fn live(self, instance: String, registration: Registration) -> Decoded {
        Decoded::Live {
            service: self.service,
            instance,
            home: self.home,
            registration,
        }
    }

    fn unreadable(self, reason: String) -> Decoded {
        Decoded::Unreadable {
            service: self.service,
            instance: self.instance,
            home: self.home,
            reason,
        }
    }

    /// A registration whose bytes are needed. The identity is that of the path, else the first address, else the name of
    /// the znode.
    fn register(
        self,
        znode: &Znode<'_>,
        read: impl FnOnce(&[u8]) -> Result<Registration, String>,
    ) -> Decoded {
        self.register_as(znode, |bytes| Ok((None, read(bytes)?)))
    }

    /// The same with an identity from the bytes.
    fn register_as(
        self,
        znode: &Znode<'_>,
        read: impl FnOnce(&[u8]) -> Result<(Option<String>, Registration), String>,
    ) -> Decoded {
        let bytes = match znode.payload {
            Payload::NotRead => return Decoded::Waiting,
            Payload::Unusable(reason) => return self.unreadable(reason.to_owned()),
            Payload::Bytes(bytes) => bytes,
        };
        match read(bytes) {
            Err(reason) => self.unreadable(reason),
            Ok((identity, registration)) => {
                let named = identity.or_else(|| self.instance.clone());
                let instance = named.or_else(|| registration.address());
                let instance = instance.unwrap_or_else(|| masked(name_of(znode.path)));
                self.live(instance, registration)
            }
        }
    }
}

/// The leader of an election whose bytes name it. Bytes that do not leave it to the session.
fn leader(
    znode: &Znode<'_>,
    election: String,
    service: impl Into<String>,
    read: impl FnOnce(&[u8]) -> Option<Leader>,
) -> Decoded {
    let leader = match znode.payload {
        Payload::NotRead => return Decoded::Waiting,
        Payload::Unusable(_) => None,
        Payload::Bytes(bytes) => read(bytes),
    };
    Decoded::Leader {
        election,
        service: service.into(),
        leader: leader.unwrap_or_default(),
    }
}

/// The last name of a path.
fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The path without its last name.
fn parent_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// Whether the bytes are none: a parent, and no registration.
fn is_empty(znode: &Znode<'_>) -> bool {
    matches!(znode.payload, Payload::Bytes([]))
}

/// The last name of a pointer, which is not repeated in the metadata.
fn pointed(pointer: Option<&str>, below: &str) -> Option<String> {
    let name = pointer?.strip_prefix(below)?.strip_prefix('/')?;
    Some(name.replace("~1", "/").replace("~0", "~"))
}
