//! Writes znodes in requests of several operations, for `zkbridge restore`. It has a session of its own, which reads as a
//! [`Survey`] does.
//!
//! Invariant: a request is carried out as a whole or not at all. Where the connection is lost before the answer, the error
//! says that the outcome is not known; nothing is sent a second time.

use std::fmt;

use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Lifetime, LifetimeKind};
use bridge_core::source::{SourceError, SourceErrorKind};
use std::time::Duration;
use tokio::time::timeout;
use zookeeper_client::{
    Acl as ClientAcl, Acls, CreateMode, CreateOptions, Error, MultiWriteError, MultiWriter,
};

use crate::acl;
use crate::config::{AclDigests, ZookeeperConfig};
use crate::convert;
use crate::error::{Failure, of_request, words};
use crate::survey::Survey;
use crate::throttle::Throttle;

/// One write of a znode.
#[derive(Clone, Copy, Debug)]
pub enum TreeWrite<'a> {
    /// Creates it.
    Create {
        /// The znode.
        path: &'a ZnodePath,
        /// Its data.
        data: &'a [u8],
        /// Its access control list.
        acl: &'a [Acl],
        /// How long it lasts; an ephemeral one is refused.
        lifetime: Lifetime,
    },
    /// Sets its data.
    Set {
        /// The znode.
        path: &'a ZnodePath,
        /// Its new data.
        data: &'a [u8],
        /// The version that it has.
        version: i32,
    },
    /// Deletes it.
    Delete {
        /// The znode.
        path: &'a ZnodePath,
        /// The version that it has.
        version: i32,
    },
}

/// Why an operation was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteRefusal {
    /// The znode has another version.
    BadVersion,
    /// The znode, or the parent of a create, does not exist.
    Missing,
    /// The znode exists already.
    Exists,
    /// The znode has children.
    NotEmpty,
    /// The parent of a create is ephemeral.
    EphemeralParent,
    /// The permission is missing.
    Denied,
    /// The servers do not take the access control list.
    InvalidAcl,
    /// Another answer of the server.
    Other(String),
}

/// Why a request failed.
#[derive(Debug)]
pub enum WriteError {
    /// The server refused an operation; nothing of the request was carried out.
    Refused {
        /// The operation.
        index: usize,
        /// Why.
        refusal: WriteRefusal,
    },
    /// The session or the server failed. Perhaps the request was carried out.
    Failed(SourceError),
}

/// A session that writes what it is asked for.
pub struct TreeWriter(Survey);

impl TreeWriter {
    /// Makes the session.
    ///
    /// # Errors
    ///
    /// If no session can be made.
    pub async fn open(config: &ZookeeperConfig) -> Result<TreeWriter, SourceError> {
        Survey::open(config).await.map(TreeWriter)
    }

    /// The reads of the session.
    pub fn survey(&self) -> &Survey {
        &self.0
    }

    /// The access control list of a znode, with its digests; `None` if the znode does not exist or the list may not be
    /// read. Servers mask digests for sessions without the permission `a`.
    ///
    /// # Errors
    ///
    /// If the session is lost, or the server refuses the request.
    pub async fn acl(&self, path: &ZnodePath) -> Result<Option<Vec<Acl>>, SourceError> {
        let what = "reading an access control list";
        let read = self.0.bounded(what, || async {
            let outcome = self.0.client.get_acl(path).await;
            convert::acl_outcome(outcome, AclDigests::Full)
        });
        Ok(match read.await? {
            bridge_core::capture::AclOutcome::Found { acl, .. } => Some(acl),
            _ => None,
        })
    }

    /// Carries out all of these writes, or none.
    ///
    /// # Errors
    ///
    /// If the server refuses one of them, or the session is lost.
    pub async fn write(&self, writes: &[TreeWrite<'_>]) -> Result<(), WriteError> {
        let send = || async {
            let mut writer = self.0.client.new_multi_writer();
            for (index, write) in writes.iter().enumerate() {
                let added = add(&mut writer, write);
                added.map_err(|source| MultiWriteError::OperationFailed { index, source })?;
            }
            writer.commit().await
        };
        let bound = self.0.bound();
        let mut throttle = Throttle::default();
        // A request that the server throttles is not carried out.
        let written = timeout(bound, async {
            throttle
                .unthrottled(|| async {
                    match send().await {
                        Err(MultiWriteError::RequestFailed {
                            source: Error::Throttled,
                        }) => Err(Error::Throttled),
                        other => Ok(other),
                    }
                })
                .await
        })
        .await;
        match written {
            Err(_) => Err(WriteError::Failed(unknown(bound))),
            Ok(Err(source) | Ok(Err(MultiWriteError::RequestFailed { source }))) => {
                Err(WriteError::Failed(self.failed(&source)))
            }
            Ok(Ok(Err(MultiWriteError::OperationFailed { index, source }))) => Err(WriteError::Refused {
                index,
                refusal: refusal(&source),
            }),
            Ok(Ok(Ok(_))) => Ok(()),
        }
    }

    fn failed(&self, error: &Error) -> SourceError {
        match of_request("a write", error) {
            Failure::Trouble(trouble) => trouble,
            Failure::Lost => SourceError {
                kind: SourceErrorKind::Unavailable,
                message: format!(
                    "the session was lost during a write ({}), so that it is not known whether it was carried out; run \
                     the command again: it finds that out",
                    words(error)
                ),
            },
        }
    }
}

fn unknown(bound: Duration) -> SourceError {
    SourceError {
        kind: SourceErrorKind::Unavailable,
        message: format!(
            "a write got no answer within {} s, so that it is not known whether it was carried out; run the command \
             again: it finds that out",
            bound.as_secs_f64()
        ),
    }
}

fn add(writer: &mut MultiWriter<'_>, write: &TreeWrite<'_>) -> Result<(), Error> {
    match *write {
        TreeWrite::Create {
            path,
            data,
            acl,
            lifetime,
        } => {
            let acl: Vec<ClientAcl> = acl.iter().map(client_acl).collect::<Result<_, _>>()?;
            writer.add_create(path, data, &create_options(lifetime, &acl)?)
        }
        TreeWrite::Set { path, data, version } => writer.add_set_data(path, data, Some(version)),
        TreeWrite::Delete { path, version } => writer.add_delete(path, Some(version)),
    }
}

fn create_options(lifetime: Lifetime, acl: &[ClientAcl]) -> Result<CreateOptions<'_>, Error> {
    let acls = Acls::new(acl);
    match (lifetime.kind, lifetime.ttl) {
        (LifetimeKind::Persistent, _) => Ok(CreateMode::Persistent.with_acls(acls)),
        (LifetimeKind::Container, _) => Ok(CreateMode::Container.with_acls(acls)),
        (LifetimeKind::Ttl, Some(ttl)) => {
            let ttl = u64::try_from(ttl).map_err(|_| Error::BadArguments(&"a time to live is negative"))?;
            Ok(CreateMode::Persistent
                .with_acls(acls)
                .with_ttl(Duration::from_millis(ttl)))
        }
        (LifetimeKind::Ttl, None) => Err(Error::BadArguments(&"a time to live is missing")),
        (LifetimeKind::Ephemeral, _) => Err(Error::BadArguments(&"an ephemeral znode is not created")),
    }
}

fn client_acl(acl: &Acl) -> Result<ClientAcl, Error> {
    acl::to_client(acl).map_err(|_| Error::BadArguments(&"a permission is none of c, d, r, w, a"))
}

fn refusal(error: &Error) -> WriteRefusal {
    match error {
        Error::BadVersion => WriteRefusal::BadVersion,
        Error::NoNode => WriteRefusal::Missing,
        Error::NodeExists => WriteRefusal::Exists,
        Error::NotEmpty => WriteRefusal::NotEmpty,
        Error::NoChildrenForEphemerals => WriteRefusal::EphemeralParent,
        Error::NoAuth => WriteRefusal::Denied,
        Error::InvalidAcl => WriteRefusal::InvalidAcl,
        other => WriteRefusal::Other(words(other)),
    }
}

impl fmt::Display for WriteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteRefusal::BadVersion => "it was written since the plan was made",
            WriteRefusal::Missing => "it, or its parent, was deleted since the plan was made",
            WriteRefusal::Exists => "it was created since the plan was made",
            WriteRefusal::NotEmpty => "it has a child that the plan does not delete",
            WriteRefusal::EphemeralParent => "its parent is ephemeral, and such a znode has no children",
            WriteRefusal::Denied => "the credentials do not have the permission to write it",
            WriteRefusal::InvalidAcl => "the servers do not take its access control list",
            WriteRefusal::Other(words) => words,
        })
    }
}

#[cfg(test)]
mod tests {
    use zookeeper_client::{AuthId, Permission};

    use super::*;

    #[test]
    fn each_lifetime_but_an_ephemeral_one_can_be_created() {
        let acl = [ClientAcl::new(Permission::ALL, AuthId::anyone())];
        let check = |kind, ttl, is_possible: bool| {
            let options = create_options(Lifetime { kind, ttl }, &acl);
            assert_eq!(options.is_ok(), is_possible, "{kind:?} {ttl:?}");
        };
        check(LifetimeKind::Persistent, None, true);
        check(LifetimeKind::Container, None, true);
        check(LifetimeKind::Ttl, Some(1_000), true);
        check(LifetimeKind::Ttl, Some(-1), false);
        check(LifetimeKind::Ttl, None, false);
        check(LifetimeKind::Ephemeral, None, false);
    }
}
