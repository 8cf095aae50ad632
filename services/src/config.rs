//! The options of one `[[source.service]]` section: typed, documented, checked without a connection.

use bridge_core::amount::Span;
use bridge_core::issue::ConfigIssue;
use bridge_core::path::ZnodePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::template::Template;

/// One convention below one path, whose changes become service events.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceConfig {
    /// The name in events, unique in the source. Without one it is made of `format` and `base` or `path`.
    pub name: Option<String>,
    /// The convention.
    pub format: ServiceFormat,
    /// The path below which the convention begins, with the chroot of its clients. The default is that of the convention.
    pub base: Option<ZnodePath>,
    /// Holds back `instance.down` and `leader.lost` for this time, so that a return within it leads to no pair of
    /// events. `10s` suits people, `0s` topics.
    pub grace: Span,
    /// JSON pointer to the zone of an instance, `/payload/metadata/zone`; for `dubbo` the name of a parameter.
    pub zone: Option<String>,
    /// JSON pointer to the version of an instance.
    pub version: Option<String>,
    /// JSON pointer to the weight of an instance.
    pub weight: Option<String>,
    /// Paths whose children queue for an election. `*` is any one name. Only for `queue`.
    pub elections: Vec<String>,
    /// Paths whose children queue for a lock, with `lock.*` events. `*` is any one name. Only for `queue`.
    pub locks: Vec<String>,
    /// Whether candidates that join or leave the queue of an election lead to `queue.changed`.
    pub queue_events: bool,
    /// An instance that goes so often within ten minutes is `instance.flapping`: its next `instance.up` waits until it has
    /// stayed for ten minutes. 0: no limit.
    pub flap_limit: FlapLimit,
    /// Whether rules that switch instances off lead to `rule.changed`. Only for `dubbo`.
    pub rule_events: bool,
    /// The path of a registration, for `generic`: `/microservices/{service}/{instance}`. `{name}` is one name or a part
    /// of it, `{name:regex}` one that matches, `{seq}` a sequence number, `{guid}` a UUID, `{_}` anything.
    pub path: Option<String>,
    /// The encoding of the registration, for `generic`.
    pub decode: Decoding,
    /// Where the registration is, for `generic`.
    pub from: DecodeFrom,
    /// What is around it, from the outside, for `generic`.
    pub unwrap: Vec<Unwrapping>,
    /// Where the addresses are, for `generic`.
    pub endpoints: EndpointsAt,
    /// Where the status is, for `generic`.
    pub status: StatusAt,
    /// JSON pointer to an object with further fields, for `generic`.
    pub metadata: Option<String>,
    /// JSON pointers to members that change without a meaning, for `generic`.
    pub volatile: Vec<String>,
    /// The identity of an instance, from the names of `path`: `{instance}`. Without one it is the first address.
    pub identity: Option<String>,
}

/// Downs of an instance that are remembered.
const FLAPS_MAX: u32 = 1_000;

/// How often an instance may go within ten minutes before it is flapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct FlapLimit(pub u32);

impl Default for FlapLimit {
    fn default() -> FlapLimit {
        FlapLimit(5)
    }
}

/// The convention of a `[[source.service]]` section.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ServiceFormat {
    /// Described by `path`, `decode` and JSON pointers.
    #[default]
    Generic,
    /// Curator's service discovery, also that of Spring Cloud and of Dubbo 3 by application. No default base.
    Curator,
    /// Dubbo by interface, below `/dubbo`.
    Dubbo,
    /// SOFARPC, below `/sofa-rpc`.
    Sofarpc,
    /// Elections and locks by queues of sequential znodes, as Curator, kazoo and ZooKeeper's recipes make them.
    Queue,
    /// The brokers and the controller of a Kafka cluster, below `/`.
    Kafka,
    /// The leaders of Hadoop's name nodes, below `/hadoop-ha`.
    HadoopHa,
    /// The leaders of YARN's resource managers, below `/yarn-leader-election`.
    Yarn,
    /// The region servers and masters of HBase, below `/hbase`.
    Hbase,
    /// The live nodes and leaders of Solr, below `/`.
    Solr,
    /// The replicas of ClickHouse's tables, below `/clickhouse`.
    Clickhouse,
    /// The bookies of BookKeeper, below `/ledgers`.
    Bookkeeper,
    /// The brokers of Pulsar, below `/loadbalance`.
    Pulsar,
    /// The instances of one Helix cluster. No default base.
    Helix,
    /// The members and leaders of Patroni's clusters, below `/service`.
    Patroni,
    /// Serversets of Finagle and Aurora. No default base.
    Serverset,
    /// Nerve, of SmartStack. No default base.
    Nerve,
}

impl ServiceFormat {
    /// Every format, in the order of the documentation.
    pub const ALL: &[ServiceFormat] = ServiceFormat::VARIANTS;

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The path below which the convention begins unless it was moved.
    pub fn default_base(self) -> Option<&'static str> {
        Some(match self {
            ServiceFormat::Dubbo => "/dubbo",
            ServiceFormat::Sofarpc => "/sofa-rpc",
            ServiceFormat::Kafka | ServiceFormat::Solr | ServiceFormat::Queue | ServiceFormat::Generic => "/",
            ServiceFormat::HadoopHa => "/hadoop-ha",
            ServiceFormat::Yarn => "/yarn-leader-election",
            ServiceFormat::Hbase => "/hbase",
            ServiceFormat::Clickhouse => "/clickhouse",
            ServiceFormat::Bookkeeper => "/ledgers",
            ServiceFormat::Pulsar => "/loadbalance",
            ServiceFormat::Patroni => "/service",
            ServiceFormat::Curator
            | ServiceFormat::Helix
            | ServiceFormat::Serverset
            | ServiceFormat::Nerve => {
                return None;
            }
        })
    }
}

/// The encoding of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decoding {
    /// A JSON object.
    #[default]
    Json,
    /// `name=value&…`, which reads as an object of texts.
    Query,
    /// `scheme://host:port/…?name=value&…`, an object of the parameters with `scheme`, `host`, `port` and `path`.
    Url,
    /// `host:port`, an object of both.
    Hostport,
    /// A text, which is the address.
    Text,
    /// Nothing: the path has everything.
    None,
}

/// Where a registration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DecodeFrom {
    /// In the data of the znode.
    #[default]
    Data,
    /// In its name.
    Name,
}

/// An encoding around a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unwrapping {
    /// Form encoding, with `%2F` and `+`.
    Percent,
    /// Base64 with `-` and `_`.
    Base64url,
    /// A gzip stream.
    Gzip,
}

/// Where the addresses of an instance are: in a list, or in members.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointsAt {
    /// JSON pointer to a list.
    pub each: Option<String>,
    /// The form of a text of the list, or of the text that is the registration.
    #[serde(rename = "as")]
    pub form: UrlForm,
    /// JSON pointer to the host, in the registration or in each object of the list.
    pub host: Option<String>,
    /// JSON pointer to the port.
    pub port: Option<String>,
    /// JSON pointer to the protocol.
    pub scheme: Option<String>,
}

/// The form of an address in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UrlForm {
    /// `scheme://host:port`.
    #[default]
    Url,
    /// `host:port`.
    Hostport,
}

/// Where the status of an instance is, and which words mean what. A word in no list is up.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StatusAt {
    /// JSON pointer to the status.
    pub at: Option<String>,
    /// Words of an instance that does not take work yet.
    pub starting: Vec<String>,
    /// Words of an instance that takes no more work.
    pub draining: Vec<String>,
    /// Words of an instance that is switched off.
    pub disabled: Vec<String>,
    /// Words of an instance that takes reads alone.
    pub read_only: Vec<String>,
}

/// More sections of one source than a person writes.
pub const SECTIONS_MAX: usize = 64;

/// Patterns of elections and locks in one section.
const PATTERNS_MAX: usize = 256;

impl ServiceConfig {
    /// The name in events and metrics.
    pub fn name(&self) -> String {
        match (&self.name, &self.path) {
            (Some(name), _) => name.clone(),
            (None, Some(path)) => format!("{}:{path}", self.format.as_str()),
            (None, None) => format!("{}:{}", self.format.as_str(), self.base()),
        }
    }

    /// The path below which the convention begins.
    pub fn base(&self) -> &str {
        let given = self.base.as_ref().map(ZnodePath::as_str);
        given.or(self.format.default_base()).unwrap_or("/")
    }

    /// The options that decide which facts the rows have: a section whose facts are other ones is filled anew.
    pub(crate) fn facts(&self) -> ServiceConfig {
        ServiceConfig {
            grace: Span::default(),
            queue_events: false,
            flap_limit: FlapLimit::default(),
            rule_events: false,
            ..self.clone()
        }
    }

    /// Options that cannot work, or are probably a mistake.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        let is_generic = self.format == ServiceFormat::Generic;
        match (&self.path, is_generic) {
            (None, true) => found.push(ConfigIssue::error(
                "path",
                "format = \"generic\" has no path",
                "give the path of a registration, as in \"/services/{service}/{instance}\", or another format",
            )),
            (Some(path), true) => {
                if let Err(reason) = Template::parse(path) {
                    found.push(ConfigIssue::error(
                        "path",
                        format!("'{path}' is no path of registrations: {reason}"),
                        "write for example \"/services/{service}/{instance}\"",
                    ));
                }
            }
            (Some(_), false) => found.push(ConfigIssue::error(
                "path",
                format!("format = \"{}\" has paths of its own", self.format.as_str()),
                "remove it, or write format = \"generic\"",
            )),
            (None, false) => {}
        }
        if self.base.is_none() && self.format.default_base().is_none() {
            found.push(ConfigIssue::error(
                "base",
                format!(
                    "format = \"{}\" has no base that everyone uses",
                    self.format.as_str()
                ),
                "give the path below which the services are, with the chroot of their clients",
            ));
        }
        found.extend(self.queue_objections());
        let FlapLimit(limit) = self.flap_limit;
        if limit == 1 || limit > FLAPS_MAX {
            found.push(ConfigIssue::error(
                "flap_limit",
                format!("{limit} is no number of times that an instance may go"),
                format!("give 2 to {FLAPS_MAX}, or 0 for no limit"),
            ));
        }
        if self.rule_events && self.format != ServiceFormat::Dubbo {
            found.push(ConfigIssue::error(
                "rule_events",
                format!("format = \"{}\" has no rules", self.format.as_str()),
                "leave it out",
            ));
        }
        let pointers = [
            ("zone", &self.zone),
            ("version", &self.version),
            ("weight", &self.weight),
            ("metadata", &self.metadata),
            ("endpoints.each", &self.endpoints.each),
            ("endpoints.host", &self.endpoints.host),
            ("endpoints.port", &self.endpoints.port),
            ("endpoints.scheme", &self.endpoints.scheme),
            ("status.at", &self.status.at),
        ];
        let pointers = pointers
            .into_iter()
            .filter_map(|(key, pointer)| Some((key.to_owned(), pointer.as_ref()?)));
        let volatile = self.volatile.iter().enumerate();
        let volatile = volatile.map(|(at, pointer)| (format!("volatile[{at}]"), pointer));
        for (key, pointer) in pointers.chain(volatile) {
            let is_parameter = self.format == ServiceFormat::Dubbo;
            if !is_parameter && !pointer.starts_with('/') {
                found.push(ConfigIssue::error(
                    key,
                    format!("'{pointer}' is no JSON pointer"),
                    "write for example \"/metadata/zone\"",
                ));
            }
        }
        if let Some(identity) = &self.identity
            && let Some(Ok(template)) = self.path.as_deref().map(Template::parse)
            && let Err(reason) = template.check_names(identity)
        {
            found.push(ConfigIssue::error(
                "identity",
                format!("'{identity}' is no identity: {reason}"),
                "use names of 'path', as in \"{instance}\"",
            ));
        }
        found
    }

    fn queue_objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        let is_queue = self.format == ServiceFormat::Queue;
        if is_queue && self.elections.is_empty() && self.locks.is_empty() {
            found.push(ConfigIssue::error(
                "elections",
                "format = \"queue\" has neither elections nor locks",
                "give the paths whose children are the candidates, as in [\"/druid/coordinator/_COORDINATOR\"]",
            ));
        }
        for (key, patterns) in [("elections", &self.elections), ("locks", &self.locks)] {
            if !is_queue && !patterns.is_empty() {
                found.push(ConfigIssue::error(
                    key,
                    format!("format = \"{}\" has elections of its own", self.format.as_str()),
                    "remove it, or write another section with format = \"queue\"",
                ));
            }
            if patterns.len() > PATTERNS_MAX {
                found.push(ConfigIssue::error(
                    key,
                    format!("{} paths are more than {PATTERNS_MAX}", patterns.len()),
                    "use '*' for a name, or several sections",
                ));
            }
            for (at, pattern) in patterns.iter().enumerate() {
                if let Err(error) = ZnodePath::parse(pattern) {
                    found.push(ConfigIssue::error(
                        format!("{key}[{at}]"),
                        format!("'{pattern}' is no path: {error}"),
                        "write a path, in which '*' may be any one name",
                    ));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_cannot_work_is_refused_with_its_remedy() {
        let keys = |section: ServiceConfig| -> Vec<String> {
            let issues = section.objections().into_iter();
            issues
                .inspect(|issue| assert!(!issue.message.is_empty() && !issue.remedy.is_empty(), "{issue:?}"))
                .map(|issue| issue.key)
                .collect()
        };
        assert_eq!(keys(ServiceConfig::default()), ["path"]);
        let of = |format| ServiceConfig {
            format,
            ..ServiceConfig::default()
        };
        assert_eq!(keys(of(ServiceFormat::Curator)), ["base"]);
        assert_eq!(keys(of(ServiceFormat::Queue)), ["elections"]);
        assert_eq!(keys(of(ServiceFormat::Kafka)), [""; 0]);
        let zone = Some("zone".to_owned());
        assert_eq!(
            keys(ServiceConfig {
                zone,
                ..of(ServiceFormat::Kafka)
            }),
            ["zone"]
        );
        let elections = vec!["a".to_owned()];
        assert_eq!(
            keys(ServiceConfig {
                elections,
                ..of(ServiceFormat::Queue)
            }),
            ["elections[0]"]
        );
        let generic = |path: &str, identity: &str| ServiceConfig {
            path: Some(path.to_owned()),
            identity: Some(identity.to_owned()),
            ..ServiceConfig::default()
        };
        assert_eq!(keys(generic("/m/{service}/{instance}", "{instance}")), [""; 0]);
        assert_eq!(keys(generic("/m/{service}/{instance}", "{other}")), ["identity"]);
        assert_eq!(keys(generic("/m/{service", "{x}")), ["path"]);
    }
}
