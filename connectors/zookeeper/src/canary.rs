//! Writes the canary over a session of its own, so that a write delays no read and its event arrives like any other.
//!
//! The znode is ephemeral, so that a bridge that has ended leaves only the folder. This module decides nothing about
//! the watch: the capture machine does.

use std::hash::{BuildHasher, RandomState};

use bridge_core::capture::{CanaryMark, Input};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::source::{SourceError, SourceErrorKind};
use futures::future::BoxFuture;
use tokio::time::timeout;
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Error, Permission};

use crate::config::ZookeeperConfig;
use crate::connect::connect;
use crate::error::words;

/// The creator of the canary has all permissions, and every client may read it: servers drop events of unreadable
/// znodes.
static CANARY: [Acl; 2] = [
    Acl::new_const(Permission::ALL, "auth", ""),
    Acl::new_const(Permission::READ, "world", "anyone"),
];

/// The creator of the folder has all permissions, and bridges with other credentials may create their canaries in it.
fn folder_acls() -> [Acl; 2] {
    [
        Acl::new(Permission::ALL, AuthId::authed()),
        Acl::new(Permission::READ | Permission::CREATE, AuthId::anyone()),
    ]
}

/// A name for the canary of a source that no other process gives to its own.
pub fn fresh_canary(config: &ZookeeperConfig, source: &str) -> ZnodePath {
    // Its keys are random.
    let random = RandomState::new().hash_one(source);
    config.canary_path.child(&format!("{source}-{random:016x}"))
}

/// Why the canary was not written.
#[derive(Debug)]
struct Refused {
    /// No permission: another attempt cannot succeed until it is granted.
    is_denied: bool,
    message: String,
}

/// One write, done.
pub(crate) struct Attempt {
    mark: CanaryMark,
    /// The session that it was made over, if there is one still.
    client: Option<Client>,
    written: Result<Zxid, Refused>,
}

/// The session that writes, over all connections of a source.
pub(crate) struct Writer {
    config: ZookeeperConfig,
    client: Option<Client>,
    has_written: bool,
    /// The last logged condition, while it lasts.
    said: Option<String>,
}

impl Writer {
    pub(crate) fn new(config: ZookeeperConfig) -> Writer {
        Writer {
            config,
            client: None,
            has_written: false,
            said: None,
        }
    }

    /// The options of the source.
    pub(crate) fn config(&self) -> &ZookeeperConfig {
        &self.config
    }

    /// One write. Cancel safe: what became of it is then unknown.
    pub(crate) fn write(&self, mark: CanaryMark, path: ZnodePath) -> BoxFuture<'static, Attempt> {
        let (config, client) = (self.config.clone(), self.client.clone());
        Box::pin(async move {
            // To make a session may take its timeout, and so may each request until the client gives it up.
            let bound = config.session_timeout.0 * 2;
            let (client, written) = match timeout(bound, attempt(&config, client, mark, &path)).await {
                Ok((client, written)) => (client, written),
                Err(_) => (
                    None,
                    Err(failed(
                        &path,
                        &format!("no answer within {} s", bound.as_secs_f64()),
                    )),
                ),
            };
            Attempt {
                mark,
                client,
                written,
            }
        })
    }

    /// The error to report. Without permission from the beginning the source cannot do what its options demand.
    pub(crate) fn done(&mut self, attempt: Attempt) -> Result<Input, SourceError> {
        let Attempt {
            mark,
            client,
            written,
        } = attempt;
        self.client = client;
        let zxid = match written {
            Ok(zxid) => {
                self.has_written = true;
                if self.said.take().is_some() {
                    tracing::info!("the canary is written again");
                }
                Some(zxid)
            }
            Err(refused) if refused.is_denied && !self.has_written => {
                return Err(refused.into());
            }
            Err(refused) => {
                if self.said.as_ref() != Some(&refused.message) {
                    tracing::error!(
                        trouble = refused.message,
                        "the canary is not written; samples alone prove the watch"
                    );
                }
                self.said = Some(refused.message);
                None
            }
        };
        Ok(Input::CanaryWritten { mark, zxid })
    }
}

impl From<Refused> for SourceError {
    fn from(refused: Refused) -> SourceError {
        SourceError {
            kind: match refused.is_denied {
                true => SourceErrorKind::Configuration,
                false => SourceErrorKind::Unavailable,
            },
            message: refused.message,
        }
    }
}

async fn attempt(
    config: &ZookeeperConfig,
    client: Option<Client>,
    mark: CanaryMark,
    path: &ZnodePath,
) -> (Option<Client>, Result<Zxid, Refused>) {
    let client = match client.filter(|client| !client.state().is_terminated()) {
        Some(client) => client,
        None => match connect(config).await {
            Ok(connected) => connected.client,
            Err(error) => return (None, Err(failed(path, &error.message))),
        },
    };
    let written = put(config, &client, path, mark.0.to_string().as_bytes()).await;
    (Some(client), written)
}

/// Proves that a canary may be written, and leaves nothing of it but the folder.
///
/// # Errors
/// The permission is missing, or the server does not take it.
pub(crate) async fn try_out(config: &ZookeeperConfig, client: &Client) -> Result<(), SourceError> {
    let path = fresh_canary(config, "check");
    put(config, client, &path, b"check").await?;
    match client.delete(&path, None).await {
        // It ends with the session anyway.
        Ok(()) | Err(Error::NoNode | Error::NoAuth) => Ok(()),
        Err(error) => Err(failed(&path, &words(&error)).into()),
    }
}

/// Sets the data of the canary; creates it, and the folder, where they are missing.
async fn put(
    config: &ZookeeperConfig,
    client: &Client,
    path: &ZnodePath,
    data: &[u8],
) -> Result<Zxid, Refused> {
    match client.set_data(path, data, None).await {
        Ok(stat) => return Ok(Zxid(stat.mzxid.cast_unsigned())),
        Err(Error::NoNode) => {}
        Err(error) => return Err(refused(config, path, "write", &error)),
    }
    match create(config, client, path, data).await {
        Err(Error::NoNode) => {}
        created => return created.map_err(|error| refused(config, path, "create", &error)),
    }
    let folder = &config.canary_path;
    let with_credentials = folder_acls();
    let acls = match config.auth.is_empty() {
        false => Acls::new(&with_credentials),
        true => Acls::anyone_all(),
    };
    client
        .mkdir(folder, &CreateMode::Persistent.with_acls(acls))
        .await
        .map_err(|error| refused(config, folder, "create", &error))?;
    create(config, client, path, data)
        .await
        .map_err(|error| refused(config, path, "create", &error))
}

async fn create(
    config: &ZookeeperConfig,
    client: &Client,
    path: &ZnodePath,
    data: &[u8],
) -> Result<Zxid, Error> {
    let acls = match config.auth.is_empty() {
        false => Acls::new(&CANARY),
        true => Acls::anyone_all(),
    };
    let options = CreateMode::Ephemeral.with_acls(acls);
    let (stat, _) = client.create(path, data, &options).await?;
    Ok(Zxid(stat.mzxid.cast_unsigned()))
}

fn refused(config: &ZookeeperConfig, at: &ZnodePath, what: &str, error: &Error) -> Refused {
    if !matches!(error, Error::NoAuth) {
        return failed(at, &words(error));
    }
    let folder = &config.canary_path;
    Refused {
        is_denied: true,
        message: format!(
            "the canary needs permission to write: the servers do not let the bridge {what} '{at}'. Give [source.auth] \
             credentials that may create znodes in '{folder}' (let an administrator create it and grant them 'c' on \
             it), choose another canary_path, or set liveness = \"sample\", which only reads"
        ),
    }
}

fn failed(path: &ZnodePath, why: &str) -> Refused {
    Refused {
        is_denied: false,
        message: format!("the canary '{path}' cannot be written: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Result<Zxid, Refused> {
        Err(Refused {
            is_denied: true,
            message: "no permission".to_owned(),
        })
    }

    fn attempt(written: Result<Zxid, Refused>) -> Attempt {
        Attempt {
            mark: CanaryMark(1),
            client: None,
            written,
        }
    }

    fn writer() -> Writer {
        Writer::new(ZookeeperConfig::new("a:2181".parse().unwrap()))
    }

    #[test]
    fn a_source_that_may_never_write_its_canary_stops_and_one_that_may_no_longer_goes_on_and_says_so() {
        let error = writer().done(attempt(denied())).unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Configuration);

        let mut writer = writer();
        let is_answered = |input: Input, expected| {
            assert_eq!(
                input,
                Input::CanaryWritten {
                    mark: CanaryMark(1),
                    zxid: expected
                }
            );
        };
        is_answered(writer.done(attempt(Ok(Zxid(7)))).unwrap(), Some(Zxid(7)));
        is_answered(writer.done(attempt(denied())).unwrap(), None);
        assert_eq!(writer.said.as_deref(), Some("no permission"));
        is_answered(writer.done(attempt(Ok(Zxid(8)))).unwrap(), Some(Zxid(8)));
        assert_eq!(writer.said, None);
    }

    #[test]
    fn a_write_that_fails_for_another_reason_is_tried_again() {
        let failed = Err(failed(&ZnodePath::slash(), "timeout"));
        let input = writer().done(attempt(failed)).unwrap();
        assert!(matches!(input, Input::CanaryWritten { zxid: None, .. }));
    }

    #[test]
    fn no_two_canaries_have_one_name() {
        let config = ZookeeperConfig::new("a:2181".parse().unwrap());
        let (one, other) = (fresh_canary(&config, "main"), fresh_canary(&config, "main"));
        assert_ne!(one, other);
        assert!(one.as_str().starts_with("/zkbridge/canary/main-"), "{one}");
    }
}
