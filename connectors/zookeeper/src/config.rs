//! The options of a ZooKeeper source: typed, documented, checked.
//!
//! Only what can be known without a connection is decided here. Nothing in this module opens a file or a socket.

mod auth;
mod capture;
mod connect;
mod dropped_roots;
mod exclude;

use std::fmt;

use bridge_core::amount::{Interval, Size, Span};
use bridge_core::file_path::{FilePath, tls_objections};
use bridge_core::issue::ConfigIssue;
use bridge_core::path::ZnodePath;
use bridge_core::secret::Secret;
use bridge_core::source::{SourceError, SourceErrorKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use bridge_core::journal::Before;

use crate::observer::ObserverOptions;
use crate::txnlog::TxnlogOptions;
use crate::who::WhoOptions;

pub use auth::{Auth, AuthScheme, Auths, Credentials, SaslMechanism};
pub use capture::{CaptureMode, HistoryProof};
pub use connect::{BadConnect, Connect, Server};
pub use dropped_roots::DroppedRoots;
pub use exclude::{BadGlob, PathGlob};

/// ZooKeeper's own znodes.
pub(crate) const RESERVED: &str = "/zookeeper";

/// The parent of the znodes that bridges create for themselves.
const OWN: &str = "/zkbridge";

/// Servers give a session at least two of their ticks, of 2 s by default, whatever is asked for.
const SESSION_TIMEOUT_USUAL_MIN: Span = Span::secs(4);

/// Below this no server of any tick time keeps a session through an ordinary pause.
const SESSION_TIMEOUT_MIN: Span = Span::millis(100);

/// Beyond this nothing can be meant: the protocol ends at 24 days, and sums of such times must not overflow.
const SESSION_TIMEOUT_MAX: Span = Span::secs(86_400);

/// Servers give at most twenty ticks, of 2 s by default.
const SESSION_TIMEOUT_USUAL_MAX: Span = Span::secs(40);

/// A full comparison more often than this is a load that a watch is there to spare.
const RECONCILE_USUAL_MIN: Span = Span::secs(10);

/// The options of a source of type `zookeeper`.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZookeeperConfig {
    /// The servers, with a chroot if all paths are below one: `a:2181,b:2181,c:2181/chroot`.
    pub connect: Connect,
    /// How changes are captured.
    #[serde(default)]
    pub capture: CaptureMode,
    /// The watched subtrees; none may cover another. `/zookeeper` is always left out.
    #[serde(default = "default_roots")]
    pub roots: Vec<ZnodePath>,
    /// The records about znodes of a root that is no longer among `roots`.
    #[serde(default)]
    pub dropped_roots: DroppedRoots,
    /// Globs of paths left out, each with its descendants: `*` within one name, `**` across names.
    #[serde(default)]
    pub exclude: Vec<PathGlob>,
    /// The session timeout that the bridge asks for. Servers keep it within their own bounds.
    #[serde(default = "default_session_timeout")]
    pub session_timeout: Span,
    /// When existing znodes are listed as `snapshot` records.
    #[serde(default)]
    pub snapshot: Snapshot,
    /// The interval of a paced comparison of the whole tree with the journal, as a safety net.
    #[serde(default = "default_reconcile_every")]
    pub reconcile_every: Interval,
    /// The check that finds a watch that has stopped without an error.
    #[serde(default)]
    pub liveness: Liveness,
    /// The znode that `liveness = "canary"` writes, created if it is missing. It and its descendants are never
    /// captured; if it is in `/zkbridge`, that is true of all of `/zkbridge`.
    #[serde(default = "default_canary_path")]
    pub canary_path: ZnodePath,
    /// How the data of znodes is written.
    #[serde(default)]
    pub data: DataForm,
    /// The part of the previous state that a record holds.
    #[serde(default)]
    pub before: Before,
    /// The size limit of data in a record; longer data is cut and marked as cut.
    #[serde(default = "default_max_data")]
    pub max_data: Size,
    /// How changes of access control lists are recorded.
    #[serde(default)]
    pub acls: Acls,
    /// Whether access control lists hold digests of passwords, for `acls = "list"` and `"all"`.
    #[serde(default)]
    pub acl_digests: AclDigests,
    /// Append a `heartbeat` record after this time without another record.
    #[serde(default = "default_heartbeat")]
    pub heartbeat: Interval,
    /// The credentials of the bridge: one `[source.auth]`, or several `[[source.auth]]`.
    #[serde(default)]
    pub auth: Auths,
    /// Encrypted connections.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// The connection to the servers' quorum ports, for `capture = "observer"`.
    #[serde(default)]
    pub observer: Option<ObserverOptions>,
    /// The files of servers, for `capture = "txnlog"`. With `"observer"` they fill the hole that a too long absence leaves
    /// in what the leader has in memory. `zkbridge backfill` reads them, too.
    #[serde(default)]
    pub txnlog: Option<TxnlogOptions>,
    /// Where the clients and users of sessions are found, for `capture = "observer"` and `"txnlog"`.
    #[serde(default)]
    pub who: Option<WhoOptions>,
}

/// When existing znodes are listed as `snapshot` records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Snapshot {
    /// At the first start of a root.
    #[default]
    Initial,
    /// At the first start of a root, and again after each gap.
    Always,
}

/// The check that finds a watch that has stopped without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Every 10 s a few znodes are read and compared with the journal.
    #[default]
    Sample,
    /// As with `sample`; in addition the bridge writes a znode of its own every 10 s and expects the event. This finds
    /// a dead watch in a tree that nobody changes. Needs write permission.
    Canary,
    /// No check.
    Off,
}

/// How the data of znodes is written into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataForm {
    /// As text where it is valid UTF-8, else as base64.
    #[default]
    Auto,
    /// As base64.
    Base64,
    /// As the parsed document where it is JSON and parsing keeps every number, else as with `auto`.
    Json,
    /// No data.
    None,
}

/// How changes of access control lists are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Acls {
    /// An `acl` record when `aversion` moved.
    #[default]
    Notice,
    /// The same, with the list at the time of the read.
    List,
    /// The same, and the list in `create` and `snapshot` records, too. A watch reads it with one request for each znode
    /// that is created or listed; sources that read transactions have it anyway, also with `list`.
    All,
    /// No record.
    Off,
}

/// Whether the ids of scheme `digest` hold the digests of passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AclDigests {
    /// Only the user: `user:x`.
    #[default]
    Masked,
    /// As the server sends them: readers of the records can try passwords.
    Full,
}

/// Encrypted connections. Without `ca` the server's certificate is checked against no authority and refused.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A PEM file of the authorities that may have signed the servers' certificates.
    #[serde(default)]
    pub ca: Option<FilePath>,
    /// A PEM file of the bridge's own certificate, for servers that ask for one.
    #[serde(default)]
    pub cert: Option<FilePath>,
    /// A PEM file of its key.
    #[serde(default)]
    pub key: Option<FilePath>,
    /// Whether a subject alternative name of the server's certificate must be the name connected to. `false` is for
    /// certificates that have only a common name (CN), as many ensembles do: then any certificate that an authority in
    /// `ca` has signed is accepted.
    #[serde(default = "default_verify_hostname")]
    pub verify_hostname: bool,
}

fn default_roots() -> Vec<ZnodePath> {
    vec![ZnodePath::slash()]
}

fn default_session_timeout() -> Span {
    Span::secs(10)
}

fn default_canary_path() -> ZnodePath {
    ZnodePath::slash().child("zkbridge").child("canary")
}

fn default_reconcile_every() -> Interval {
    Interval::Every(Span::secs(3600))
}

fn default_max_data() -> Size {
    Size(1 << 20)
}

fn default_heartbeat() -> Interval {
    Interval::Off
}

fn default_verify_hostname() -> bool {
    true
}

/// Shows the fields that every record has anyway. Others may come from the environment.
impl fmt::Debug for ZookeeperConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ZookeeperConfig");
        shown.field("roots", &self.roots).finish_non_exhaustive()
    }
}

impl ZookeeperConfig {
    /// The defaults for these servers.
    pub fn new(connect: Connect) -> ZookeeperConfig {
        ZookeeperConfig {
            connect,
            capture: CaptureMode::default(),
            roots: default_roots(),
            dropped_roots: DroppedRoots::default(),
            exclude: Vec::new(),
            session_timeout: default_session_timeout(),
            snapshot: Snapshot::default(),
            reconcile_every: default_reconcile_every(),
            liveness: Liveness::default(),
            canary_path: default_canary_path(),
            data: DataForm::default(),
            before: Before::default(),
            max_data: default_max_data(),
            acls: Acls::default(),
            acl_digests: AclDigests::default(),
            heartbeat: default_heartbeat(),
            auth: Auths::default(),
            tls: None,
            observer: None,
            txnlog: None,
            who: None,
        }
    }

    /// Everything about the options that cannot work, or is surely not meant.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        objections_to_roots(&self.roots, &mut found);
        self.objections_to_excluded_roots(&mut found);
        self.objections_to_canary_path(&mut found);
        self.objections_to_times(&mut found);
        found.extend(self.auth.objections());
        if let Some(tls) = &self.tls {
            objections_to_tls(tls, &mut found);
        }
        capture::objections(self, &mut found);
        if self.max_data.0 == 0 {
            found.push(ConfigIssue::error(
                "max_data",
                "max_data is 0 B, so that every value would be cut to nothing",
                "give at least \"1 B\", or leave data out with data = \"none\"",
            ));
        }
        found
    }

    fn objections_to_excluded_roots(&self, found: &mut Vec<ConfigIssue>) {
        for (at, glob) in self.exclude.iter().enumerate() {
            for root in self.roots.iter().filter(|root| glob.takes(root)) {
                found.push(ConfigIssue::error(
                    format!("exclude[{at}]"),
                    format!("the glob '{glob}' takes the whole root '{root}', so that nothing of it is left"),
                    "make the glob narrower, or leave that root out of roots",
                ));
            }
        }
    }

    /// The option or rule by which a path is not captured although it is below a root; `None` if it is captured.
    pub fn left_out_by(&self, path: &str) -> Option<String> {
        if bridge_core::path::covers(RESERVED, path) {
            return Some(format!("the rule that {RESERVED} is ZooKeeper's own"));
        }
        let own = self.own_area();
        if own.covers(path) {
            return Some(format!("the rule that {own} has the bridge's own znodes"));
        }
        let glob = self.exclude.iter().find(|glob| glob.takes(path))?;
        Some(format!("exclude '{glob}'"))
    }

    /// How it is proved that no transaction is missing, where transactions are read.
    pub fn proof(&self) -> HistoryProof {
        let observer = self.observer.as_ref().map(|observer| observer.proof);
        let txnlog = self.txnlog.as_ref().map(|txnlog| txnlog.proof);
        let of_mode = match self.capture {
            CaptureMode::Watch => None,
            CaptureMode::Observer => observer,
            CaptureMode::Txnlog => txnlog,
        };
        of_mode.unwrap_or_default()
    }

    /// The znode below which the bridge's own znodes are. It is not captured, and neither are its descendants.
    pub fn own_area(&self) -> ZnodePath {
        let own = ZnodePath::slash().child(OWN.trim_start_matches('/'));
        if own.covers(&self.canary_path) {
            return own;
        }
        self.canary_path.clone()
    }

    /// The same options with other credentials, `user:password`: for SASL where the source uses that, otherwise for
    /// `addauth`.
    ///
    /// # Errors
    ///
    /// If the text has no user or no password.
    pub fn with_credentials(&self, credentials: &Secret) -> Result<ZookeeperConfig, SourceError> {
        let auth = Auths::of_text(credentials, self.auth.is_sasl());
        let auth = auth.ok_or_else(|| SourceError {
            kind: SourceErrorKind::Configuration,
            message: "the credentials are not of the form user:password; write them into the file as one line of that \
                      form"
                .to_owned(),
        })?;
        Ok(ZookeeperConfig { auth, ..self.clone() })
    }

    fn objections_to_canary_path(&self, found: &mut Vec<ConfigIssue>) {
        let path = &self.canary_path;
        if bridge_core::path::covers(RESERVED, path) {
            found.push(ConfigIssue::error(
                "canary_path",
                format!("'{path}' lies among ZooKeeper's own znodes, where nobody may write"),
                "name a znode of your own, or leave canary_path out for \"/zkbridge/canary\"",
            ));
            return;
        }
        let own = self.own_area();
        for (at, root) in self.roots.iter().enumerate().filter(|(_, root)| own.covers(root)) {
            found.push(ConfigIssue::error(
                format!("roots[{at}]"),
                format!("'{own}' is left out for the canary, so that nothing of the root '{root}' would be captured"),
                "watch another path, or give a canary_path that does not lie above a root",
            ));
        }
    }

    fn objections_to_times(&self, found: &mut Vec<ConfigIssue>) {
        let timeout = self.session_timeout;
        if timeout < SESSION_TIMEOUT_MIN {
            found.push(ConfigIssue::error(
                "session_timeout",
                format!("{timeout} is shorter than any session lives"),
                "give at least \"100ms\"; servers usually grant between 4s and 40s",
            ));
        } else if timeout > SESSION_TIMEOUT_MAX {
            found.push(ConfigIssue::error(
                "session_timeout",
                format!("{timeout} is longer than any server grants"),
                "give \"40s\" or less",
            ));
        } else if timeout < SESSION_TIMEOUT_USUAL_MIN {
            found.push(ConfigIssue::warning(
                "session_timeout",
                format!(
                    "{timeout} is less than servers usually grant; each short pause may cost a full walk"
                ),
                "give \"4s\" or more",
            ));
        } else if timeout > SESSION_TIMEOUT_USUAL_MAX {
            found.push(ConfigIssue::warning(
                "session_timeout",
                format!("{timeout} is more than servers usually grant (20 ticks, 40s); they shorten it"),
                "give \"40s\" or less, or raise maxSessionTimeout on the servers",
            ));
        }
        if let Interval::Every(every) = self.reconcile_every
            && every < RECONCILE_USUAL_MIN
        {
            found.push(ConfigIssue::warning(
                "reconcile_every",
                format!("comparing the whole tree every {every} is a constant load on the servers"),
                "give \"1m\" or more; the watch reports changes without it",
            ));
        }
        if self.heartbeat == Interval::Every(Span::millis(0)) {
            found.push(ConfigIssue::error(
                "heartbeat",
                "a heartbeat every 0s would never pause",
                "give \"1s\" or more, or \"off\"",
            ));
        }
    }
}

fn objections_to_roots(roots: &[ZnodePath], found: &mut Vec<ConfigIssue>) {
    if roots.is_empty() {
        found.push(ConfigIssue::error(
            "roots",
            "no root is given, so that nothing would be watched",
            "name at least one path, or leave roots out for [\"/\"]",
        ));
    }
    for (at, root) in roots.iter().enumerate() {
        if bridge_core::path::covers(RESERVED, root) {
            found.push(ConfigIssue::error(
                format!("roots[{at}]"),
                format!("'{root}' holds ZooKeeper's own znodes, which change without transactions"),
                "watch another path; /zookeeper is always left out",
            ));
        }
        let Some(other) = roots[..at].iter().find(|other| overlap(other, root)) else {
            continue;
        };
        let (message, remedy) = if other == root {
            (format!("'{root}' is given twice"), "give it once".to_owned())
        } else {
            let (upper, lower) = if other.covers(root) {
                (other, root)
            } else {
                (root, other)
            };
            let message = format!("the roots '{other}' and '{root}' overlap: '{upper}' covers '{lower}'");
            (
                message,
                format!("leave out '{lower}'; it is watched with '{upper}'"),
            )
        };
        found.push(ConfigIssue::error(format!("roots[{at}]"), message, remedy));
    }
}

fn overlap(one: &ZnodePath, other: &ZnodePath) -> bool {
    one.covers(other) || other.covers(one)
}

fn objections_to_tls(tls: &Tls, found: &mut Vec<ConfigIssue>) {
    let files = [&tls.ca, &tls.cert, &tls.key].map(Option::as_ref);
    found.extend(tls_objections(files, "the servers ask"));
    if !tls.verify_hostname {
        found.push(ConfigIssue::warning(
            "tls.verify_hostname",
            "verify_hostname = false: whoever has any certificate of the authorities in tls.ca can pose as the ensemble",
            "give the servers certificates with a subject alternative name of their own, and leave verify_hostname out; \
             until then name an authority in tls.ca that signs nothing but the ensemble's certificates",
        ));
    }
    if tls.ca.is_none() {
        found.push(ConfigIssue::error(
            "tls.ca",
            "tls.ca is missing, so that no server's certificate could be checked",
            "name the PEM file of the authority that signed the servers' certificates",
        ));
    }
}

#[cfg(test)]
mod tests;
