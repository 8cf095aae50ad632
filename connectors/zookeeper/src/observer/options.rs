//! The options of the observer: typed, documented, checked without a connection.

use bridge_core::amount::{Size, Span};
use bridge_core::file_path::tls_objections;
use bridge_core::issue::ConfigIssue;
use bridge_core::record::NAMESPACE;
use bridge_core::secret::Secret;
use bridge_transactions::quorum::ObserverId;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::members::QuorumAddress;
use crate::config::{HistoryProof, Tls};

/// Nothing shorter is a wait for a leader: it sends a ping only every half tick, of 2 s by default.
const TIMEOUT_MIN: Span = Span::secs(1);

/// Beyond this a lost connection would be noticed too late.
const TIMEOUT_MAX: Span = Span::secs(3_600);

/// A transaction of `jute.maxbuffer`, many of them: less would give up connections all the time.
const SPOOL_MIN: Size = Size(16 << 20);

/// How transactions are read from the ensemble, for `capture = "observer"`.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObserverOptions {
    /// Must be true: an observer reads all znodes with their access control lists, and no access control list restricts it.
    #[serde(default)]
    pub bypasses_acls: bool,
    /// The quorum ports of the servers, as in `zk1:2888`. Found in the configuration of the ensemble (3.5 and newer) if
    /// none is given.
    #[serde(default)]
    pub servers: Vec<QuorumAddress>,
    /// The ports of followers that serve observers (`observerMasterPort`), which are tried before the leader.
    #[serde(default)]
    pub observer_masters: Vec<QuorumAddress>,
    /// Whether the servers in the configuration of the ensemble are tried, too, so that the bridge follows its changes.
    /// With `false` it connects to `servers` and `observer_masters` alone, for an ensemble whose own addresses lead
    /// nowhere, or elsewhere, from where the bridge runs.
    #[serde(default = "default_discover")]
    pub discover: bool,
    /// The id of the observer, greater than 4294967296. Derived from the name of the source if it is not given.
    #[serde(default)]
    pub id: Option<i64>,
    /// How long a leader may take to accept the observer and to bring it up to date, for each packet.
    #[serde(default = "default_init_timeout")]
    pub init_timeout: Span,
    /// How long a leader may be silent afterwards. It sends a ping every half tick.
    #[serde(default = "default_sync_timeout")]
    pub sync_timeout: Span,
    /// How many bytes of transactions may wait for the journal. With more, the connection is given up.
    #[serde(default = "default_spool")]
    pub spool: Size,
    /// The largest tree that a leader may send, in bytes of its snapshot.
    #[serde(default = "default_max_tree")]
    pub max_tree: Size,
    /// How it is proved that no transaction is missing.
    #[serde(default)]
    pub proof: HistoryProof,
    /// For quorum ports with `sslQuorum`.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// For quorum ports with `quorum.auth.enableSasl`: DIGEST-MD5.
    #[serde(default)]
    pub sasl: Option<QuorumSasl>,
}

/// A user of the authentication between servers.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuorumSasl {
    /// A user in the `QuorumServer` section of the servers' JAAS configuration.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

fn default_discover() -> bool {
    true
}

fn default_init_timeout() -> Span {
    Span::secs(40)
}

fn default_sync_timeout() -> Span {
    Span::secs(20)
}

fn default_spool() -> Size {
    Size(1 << 30)
}

fn default_max_tree() -> Size {
    Size(64 << 30)
}

impl ObserverOptions {
    /// The defaults for these quorum ports.
    pub fn new(servers: Vec<QuorumAddress>) -> ObserverOptions {
        ObserverOptions {
            bypasses_acls: true,
            servers,
            observer_masters: Vec::new(),
            discover: default_discover(),
            id: None,
            init_timeout: default_init_timeout(),
            sync_timeout: default_sync_timeout(),
            spool: default_spool(),
            max_tree: default_max_tree(),
            proof: HistoryProof::default(),
            tls: None,
            sasl: None,
        }
    }

    /// The id of the observer of a source: the same at every start, because servers keep metrics of each id.
    pub fn observer_id(&self, source: &str) -> ObserverId {
        let derived = || {
            let name = Uuid::new_v5(&NAMESPACE, format!("observer\n{source}").as_bytes());
            ObserverId::from_hash(name.as_u64_pair().0)
        };
        self.id.and_then(ObserverId::new).unwrap_or_else(derived)
    }

    /// Everything about the options that cannot work. Keys are relative to `observer`.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        if !self.bypasses_acls {
            found.push(ConfigIssue::error(
                "observer.bypasses_acls",
                "an observer reads all znodes, and no access control list restricts it",
                "write bypasses_acls = true if the readers of the destinations may see everything, or use capture = \
                 \"watch\"",
            ));
        }
        if !self.discover && self.servers.is_empty() && self.observer_masters.is_empty() {
            found.push(ConfigIssue::error(
                "observer.discover",
                "no server is named, and the configuration of the ensemble is not used",
                "name the quorum ports in observer.servers, as in \"zk1:2888\", or leave discover out",
            ));
        }
        if let Some(id) = self.id.filter(|id| ObserverId::new(*id).is_none()) {
            found.push(ConfigIssue::error(
                "observer.id",
                format!("{id} may be the id of a server: an observer with it would be counted in the quorum"),
                "give a number greater than 4294967296, or leave id out",
            ));
        }
        for (key, timeout) in [
            ("init_timeout", self.init_timeout),
            ("sync_timeout", self.sync_timeout),
        ] {
            if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
                found.push(ConfigIssue::error(
                    format!("observer.{key}"),
                    format!("{timeout} is not between {TIMEOUT_MIN} and {TIMEOUT_MAX}"),
                    "give a time of a few ticks of the servers, such as \"20s\"",
                ));
            }
        }
        if self.spool < SPOOL_MIN {
            found.push(ConfigIssue::error(
                "observer.spool",
                format!(
                    "a spool of {} is smaller than a few large transactions",
                    self.spool
                ),
                format!("give \"{SPOOL_MIN}\" or more"),
            ));
        }
        if let Some(tls) = &self.tls {
            let files = [&tls.ca, &tls.cert, &tls.key].map(Option::as_ref);
            found.extend(tls_objections(files, "the servers ask"));
            if tls.ca.is_none() {
                found.push(ConfigIssue::error(
                    "observer.tls.ca",
                    "observer.tls.ca is missing, so that no server's certificate could be checked",
                    "name the PEM file of the authority that signed the servers' certificates",
                ));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(options: &ObserverOptions) -> Vec<String> {
        options
            .objections()
            .iter()
            .map(|issue| issue.key.to_string())
            .collect()
    }

    #[test]
    fn an_observer_that_ignores_access_control_lists_must_be_asked_for() {
        let mut options = ObserverOptions::new(Vec::new());
        assert_eq!(keys(&options), [] as [&str; 0]);
        options.bypasses_acls = false;
        assert_eq!(keys(&options), ["observer.bypasses_acls"]);
    }

    #[test]
    fn an_observer_that_may_not_look_for_servers_needs_one_that_is_named() {
        let address = || "zk1:2888".parse().unwrap();
        let mut options = ObserverOptions::new(Vec::new());
        options.discover = false;
        assert_eq!(keys(&options), ["observer.discover"]);
        options.observer_masters = vec![address()];
        assert_eq!(keys(&options), [] as [&str; 0]);
        (options.servers, options.observer_masters) = (vec![address()], Vec::new());
        assert_eq!(keys(&options), [] as [&str; 0]);
    }

    #[test]
    fn numbers_that_cannot_work_are_refused() {
        let mut options = ObserverOptions::new(Vec::new());
        options.id = Some(3);
        options.init_timeout = Span::millis(10);
        options.sync_timeout = Span::secs(86_400);
        options.spool = Size(1);
        let expected = [
            "observer.id",
            "observer.init_timeout",
            "observer.sync_timeout",
            "observer.spool",
        ];
        assert_eq!(keys(&options), expected);
    }

    #[test]
    fn the_id_of_an_observer_is_the_same_at_every_start_and_another_one_for_another_source() {
        let options = ObserverOptions::new(Vec::new());
        assert_eq!(options.observer_id("a"), options.observer_id("a"));
        assert_ne!(options.observer_id("a"), options.observer_id("b"));
        let id = (1 << 40) + 7;
        let options = ObserverOptions {
            id: Some(id),
            ..options
        };
        assert_eq!(options.observer_id("a").get(), id);
    }
}
