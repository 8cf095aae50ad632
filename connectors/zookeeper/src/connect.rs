//! Opens a session: credentials, encryption, and the error if it cannot be opened.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bridge_core::file_path::FilePath;
use bridge_core::path::ZnodePath;
use bridge_core::source::{SourceError, SourceErrorKind};
use futures::future::join_all;
use tokio::time::timeout;
use zookeeper_client::{Client, Connector, Error, SaslOptions, TlsOptions};

use crate::canary::try_out;
use crate::config::{CaptureMode, Credentials, Liveness, Server, Tls, ZookeeperConfig};
use crate::error::{Failure, authentication, of_request, too_old, words};
use crate::handshake::probe_encrypted;
use crate::probe::{Probe, is_new_enough, probe};
use crate::throttle::Throttle;

/// An attempt to make a session is given up after the session timeout and this.
const CONNECT_EXTRA: Duration = Duration::from_secs(2);

/// The limit for the answer to the oldest request, in session timeouts. Less would cut off long answers on slow
/// networks; the client library notices earlier if no bytes arrive at all.
const ANSWER_SESSIONS: u32 = 3;
/// The longest session timeout that counts for that limit, however long a server grants: the most that servers grant by
/// default.
const SESSION_TIMEOUT_USUAL_MAX: Duration = Duration::from_secs(40);
/// Longer sessions are refused unless they are asked for. Servers grant 40 s at most by default.
const SESSION_TIMEOUT_MOST: Duration = Duration::from_secs(600);
/// The bound of a request must not be zero, even if a server grants that.
const SESSION_TIMEOUT_LEAST: Duration = Duration::from_millis(100);

/// A session, and what its servers say of themselves.
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) version: Option<Arc<str>>,
}

/// The result of the first check of an ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The version, where all servers that answer say the same.
    pub version: Option<Arc<str>>,
    /// For how long the servers keep the session without contact.
    pub session_timeout: Duration,
    /// The chroot of the connect string, if it does not exist (yet): then no root exists.
    pub missing_chroot: Option<ZnodePath>,
    /// Each configured root.
    pub roots: Vec<(ZnodePath, RootFound)>,
    /// The path of the canary that was written, if the source has one.
    pub canary: Option<ZnodePath>,
}

/// A root as the session of the source sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootFound {
    /// It can be read.
    Readable {
        /// How many children it has.
        children: usize,
    },
    /// It is not there (yet): it will be watched all the same.
    Missing,
    /// It may not be read, so that nothing of it would be seen.
    Denied,
}

/// Makes a session, looks at the roots, tries out the canary if there is to be one, and gives the session back: proves
/// address, encryption, credentials and permission.
///
/// # Errors
/// As [`crate::ZookeeperSource`] would report.
pub async fn test_connection(config: &ZookeeperConfig) -> Result<Checked, SourceError> {
    let connected = connect(config).await?;
    let client = &connected.client;
    let bound = answer_bound(client, config);
    let mut roots = Vec::with_capacity(config.roots.len());
    let look = async |path: &ZnodePath| {
        let looked = timeout(bound, look_at(client, path)).await;
        looked.unwrap_or_else(|_| Err(silent(config, &format!("a read of {path}"), bound)))
    };
    for root in &config.roots {
        roots.push((root.clone(), look(root).await?));
    }
    let missing_chroot = match config.connect.chroot() {
        Some(chroot) if look(&ZnodePath::slash()).await? == RootFound::Missing => Some(chroot.clone()),
        _ => None,
    };
    let has_canary = config.liveness == Liveness::Canary;
    if has_canary {
        let tried = timeout(bound, try_out(config, client)).await;
        tried.unwrap_or_else(|_| Err(silent(config, "writing the canary", bound)))?;
    }
    Ok(Checked {
        version: connected.version,
        session_timeout: connected.client.session_timeout(),
        missing_chroot,
        roots,
        canary: has_canary.then(|| config.canary_path.clone()),
    })
}

/// The remark about a granted session timeout that differs from the requested one.
pub fn remark_on_timeout(config: &ZookeeperConfig, granted: Duration) -> Option<String> {
    let asked = config.session_timeout.0;
    (granted != asked).then(|| {
        format!(
            "the servers grant a session timeout of {} s where {} s were asked for: set session_timeout within their \
             minSessionTimeout and maxSessionTimeout, or change these",
            granted.as_secs_f64(),
            asked.as_secs_f64()
        )
    })
}

/// Refuses a session that outlives its connection for too long. A connection that is lost without a sign would be
/// noticed as late, and the ephemeral znodes of clients with such sessions stay for as long.
fn too_long(config: &ZookeeperConfig, granted: Duration) -> Option<SourceError> {
    let most = config.session_timeout.0.max(SESSION_TIMEOUT_MOST);
    (granted > most).then(|| SourceError {
        kind: SourceErrorKind::Unavailable,
        message: format!(
            "the servers at '{}' keep a session for {} s without contact where {} s were asked for, and the bridge takes \
             {} s at most, because a lost connection would be noticed as late; lower minSessionTimeout on the servers, \
             or set session_timeout to what they grant",
            config.connect.as_str(),
            granted.as_secs(),
            config.session_timeout.0.as_secs_f64(),
            most.as_secs()
        ),
    })
}

/// How long a request may take, by the session timeout that was granted, within reason.
pub(crate) fn answer_bound(client: &Client, config: &ZookeeperConfig) -> Duration {
    let reasonable = config.session_timeout.0.max(SESSION_TIMEOUT_USUAL_MAX);
    let session = client.session_timeout().clamp(SESSION_TIMEOUT_LEAST, reasonable);
    session * ANSWER_SESSIONS
}

/// The error for a server that is connected and does not answer a request.
pub(crate) fn silent(config: &ZookeeperConfig, what: &str, bound: Duration) -> SourceError {
    SourceError {
        kind: SourceErrorKind::Unavailable,
        message: format!(
            "'{}' answers pings, but not {what} within {} s; try another server, and restart this one if it stays so",
            config.connect.as_str(),
            bound.as_secs_f64()
        ),
    }
}

/// The error for a server that throttles a request for as long.
pub(crate) fn throttled(config: &ZookeeperConfig, what: &str, bound: Duration) -> SourceError {
    SourceError {
        kind: SourceErrorKind::Unavailable,
        message: format!(
            "'{}' throttles {what} and has not carried it out within {} s: it has more requests than its \
             zookeeper.request_throttle_max_requests allows; raise that, or take load off the server",
            config.connect.as_str(),
            bound.as_secs_f64()
        ),
    }
}

async fn look_at(client: &Client, root: &ZnodePath) -> Result<RootFound, SourceError> {
    let mut throttle = Throttle::default();
    match throttle.unthrottled(|| client.get_children(root)).await {
        Ok((children, _)) => Ok(RootFound::Readable {
            children: children.len(),
        }),
        Err(Error::NoNode) => Ok(RootFound::Missing),
        Err(Error::NoAuth) => Ok(RootFound::Denied),
        Err(error) => match of_request("looking at a root", &error) {
            Failure::Trouble(trouble) => Err(trouble),
            Failure::Lost => Err(SourceError {
                kind: SourceErrorKind::Unavailable,
                message: format!(
                    "the session was lost while {root} was looked at ({}); try again",
                    words(&error)
                ),
            }),
        },
    }
}

/// Makes a session. Cancel safe: an unfinished one is closed.
pub(crate) async fn connect(config: &ZookeeperConfig) -> Result<Connected, SourceError> {
    let connector = connector(config)?;
    let bound = config.session_timeout.0 + CONNECT_EXTRA;
    let (session, found) = tokio::join!(timeout(bound, open(connector, config)), versions(config));
    let version = only_version(&found);
    let is_watched = config.capture != CaptureMode::Txnlog;
    let is_old = |version: &&str| is_watched && !is_new_enough(version);
    if let Some(version) = version.as_deref().filter(is_old) {
        return Err(too_old(&format!("is ZooKeeper {version}")));
    }
    let error = match session {
        Ok(Ok(client)) => match too_long(config, client.session_timeout()) {
            None => return Ok(Connected { client, version }),
            Some(error) => return Err(error),
        },
        Ok(Err(Error::AuthFailed)) => return Err(authentication()),
        Ok(Err(Error::BadArguments(what))) => {
            return Err(SourceError {
                kind: SourceErrorKind::Configuration,
                message: format!("the options of the connection are not accepted: {what}"),
            });
        }
        Ok(Err(error)) => words(&error),
        Err(_) => format!("no session within {} s", bound.as_secs()),
    };
    Err(unreachable(config, &error).await)
}

async fn open(connector: Connector, config: &ZookeeperConfig) -> Result<Client, Error> {
    let connect = config.connect.as_str();
    let connector = connector.with_fail_eagerly();
    match config.tls {
        Some(_) => connector.secure_connect(connect).await,
        None => connector.connect(connect).await,
    }
}

fn connector(config: &ZookeeperConfig) -> Result<Connector, SourceError> {
    let mut connector = Client::connector().with_session_timeout(config.session_timeout.0);
    for credentials in config.auth.credentials() {
        connector = match credentials {
            Credentials::Digest { id } => connector.with_auth("digest", id.reveal().as_bytes()),
            Credentials::DigestMd5 { user, password } => {
                let options = SaslOptions::digest_md5(user.to_owned(), password.reveal().to_owned());
                connector.with_sasl(SaslOptions::from(options))
            }
        };
    }
    if let Some(tls) = &config.tls {
        connector = connector.with_tls(tls_options(tls)?);
    }
    Ok(connector)
}

fn tls_options(tls: &Tls) -> Result<TlsOptions, SourceError> {
    let mut options = TlsOptions::new();
    if let Some(ca) = &tls.ca {
        options = options
            .with_pem_ca(&pem(ca)?)
            .map_err(|error| bad_pem(ca, &error))?;
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        let chain = pem(cert)?;
        let secret = key.read_private_key().map_err(|error| bad_pem(key, &error))?;
        options = options
            .with_pem_identity(&chain, &secret)
            .map_err(|error| bad_identity(cert, key, &error))?;
    }
    if !tls.verify_hostname {
        options = options.with_any_name();
    }
    Ok(options)
}

fn pem(file: &FilePath) -> Result<String, SourceError> {
    file.read_text().map_err(|error| bad_pem(file, &error))
}

fn bad_pem(file: &FilePath, error: &dyn std::fmt::Display) -> SourceError {
    SourceError {
        kind: SourceErrorKind::Configuration,
        message: format!("{file} cannot be used for [source.tls]: {error}; give a readable PEM file"),
    }
}

fn bad_identity(cert: &FilePath, key: &FilePath, error: &dyn std::fmt::Display) -> SourceError {
    SourceError {
        kind: SourceErrorKind::Configuration,
        message: format!(
            "{cert} and {key} cannot be used for [source.tls]: {error}; give a readable PEM file of the certificate, and \
             one of its own key"
        ),
    }
}

/// Asks a server for its version, over the same kind of connection as the source. Takes at most about two seconds.
pub async fn ask_server(config: &ZookeeperConfig, server: &Server) -> Probe {
    match &config.tls {
        Some(tls) => probe_encrypted(server, tls).await,
        None => probe(server).await,
    }
}

async fn probes(config: &ZookeeperConfig) -> Vec<Probe> {
    let servers = config.connect.servers().iter();
    join_all(servers.map(|server| ask_server(config, server))).await
}

/// The versions of all servers that answer.
pub(crate) async fn versions(config: &ZookeeperConfig) -> BTreeSet<String> {
    let probes = probes(config).await;
    let versions = probes.into_iter().filter_map(|probe| match probe {
        Probe::Serves { version, .. } => Some(version),
        Probe::Mute(_) | Probe::Unreachable(_) => None,
    });
    versions.collect()
}

/// The version if all servers that answer say the same.
pub(crate) async fn version(config: &ZookeeperConfig) -> Option<Arc<str>> {
    only_version(&versions(config).await)
}

/// The version if there is one only.
pub(crate) fn only_version(versions: &BTreeSet<String>) -> Option<Arc<str>> {
    let version = versions.first().filter(|_| versions.len() == 1)?;
    Some(version.as_str().into())
}

/// Says of each server why there is no session with it.
async fn unreachable(config: &ZookeeperConfig, error: &str) -> SourceError {
    let servers = config.connect.servers();
    let probes = probes(config).await;
    let reasons: Vec<String> = servers
        .iter()
        .zip(probes)
        .map(|(server, probe)| {
            let reason = match probe {
                Probe::Serves { .. } => format!("serves, but gives no session ({error})"),
                Probe::Mute(answer) => format!("answers, but not as a serving ZooKeeper ({answer})"),
                Probe::Unreachable(reason) => reason,
            };
            format!("{}:{}: {reason}", server.host, server.port)
        })
        .collect();
    SourceError {
        kind: SourceErrorKind::Unavailable,
        message: format!(
            "no session with ZooKeeper at '{}': {}; check 'connect' and that a server runs there",
            config.connect.as_str(),
            reasons.join("; ")
        ),
    }
}
