//! Writes znodes in requests of several operations, for `zkbridge restore`. It has a session of its own, which reads as a
//! [`Survey`] does.
//!
//! Invariant: a request is carried out as a whole or not at all. Where the connection is lost before the answer, the error
//! says that the outcome is not known, and the request is not sent again. It is sent again only where the server has
//! throttled it, and so has not carried it out.

use std::fmt;

use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Lifetime, LifetimeKind};
use bridge_core::source::{SourceError, SourceErrorKind};
use std::time::Duration;
use tokio::time::{sleep_until, timeout};
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
    /// An operation cannot be sent, such as a create with a negative time to live; nothing of the request was.
    Invalid {
        /// The operation.
        index: usize,
        /// Why.
        reason: String,
    },
    /// The server refused an operation; nothing of the request was carried out.
    Refused {
        /// The operation.
        index: usize,
        /// Why.
        refusal: WriteRefusal,
    },
    /// The session or the server failed. Perhaps the request was carried out; the message says so.
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

    /// Carries out all of these writes, or none. If it is dropped, it is not known which.
    ///
    /// # Errors
    ///
    /// If one of them cannot be sent, the server refuses one, or there is no answer: the session is lost, or the server
    /// throttles the request as long as one may take.
    pub async fn write(&self, writes: &[TreeWrite<'_>]) -> Result<(), WriteError> {
        let bound = self.0.bound();
        let mut throttle = Throttle::default();
        let mut is_under_way = false;
        let attempts = async {
            loop {
                let mut request = self.request(writes)?;
                is_under_way = true;
                match request.commit().await {
                    Ok(_) => return Ok(()),
                    Err(MultiWriteError::RequestFailed {
                        source: Error::Throttled,
                    }) => {
                        is_under_way = false;
                        sleep_until(throttle.until()).await;
                    }
                    Err(MultiWriteError::RequestFailed { source }) => {
                        return Err(WriteError::Failed(self.failed(&source)));
                    }
                    Err(MultiWriteError::OperationFailed { index, source }) => {
                        let refusal = refusal(&source);
                        return Err(WriteError::Refused { index, refusal });
                    }
                }
            }
        };
        match timeout(bound, attempts).await {
            Ok(written) => written,
            Err(_) if is_under_way => Err(WriteError::Failed(unknown(bound))),
            Err(_) => Err(WriteError::Failed(self.0.unanswered("a write", &throttle))),
        }
    }

    /// A request of these writes, which is not sent yet.
    fn request(&self, writes: &[TreeWrite<'_>]) -> Result<MultiWriter<'_>, WriteError> {
        let mut request = self.0.client.new_multi_writer();
        for (index, write) in writes.iter().enumerate() {
            add(&mut request, write).map_err(|reason| WriteError::Invalid { index, reason })?;
        }
        Ok(request)
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

/// Adds a write to a request. The error says why it cannot be sent.
fn add(request: &mut MultiWriter<'_>, write: &TreeWrite<'_>) -> Result<(), String> {
    let added = match *write {
        TreeWrite::Create {
            path,
            data,
            acl,
            lifetime,
        } => {
            let acl = acl.iter().map(client_acl).collect::<Result<Vec<_>, _>>()?;
            request.add_create(path, data, &create_options(lifetime, &acl)?)
        }
        TreeWrite::Set { path, data, version } => request.add_set_data(path, data, Some(version)),
        TreeWrite::Delete { path, version } => request.add_delete(path, Some(version)),
    };
    added.map_err(|error| words(&error))
}

fn create_options(lifetime: Lifetime, acl: &[ClientAcl]) -> Result<CreateOptions<'_>, String> {
    let acls = Acls::new(acl);
    match (lifetime.kind, lifetime.ttl) {
        (LifetimeKind::Persistent, _) => Ok(CreateMode::Persistent.with_acls(acls)),
        (LifetimeKind::Container, _) => Ok(CreateMode::Container.with_acls(acls)),
        (LifetimeKind::Ttl, Some(ttl)) => {
            let ttl = u64::try_from(ttl).map_err(|_| format!("its time to live of {ttl} ms is negative"))?;
            Ok(CreateMode::Persistent
                .with_acls(acls)
                .with_ttl(Duration::from_millis(ttl)))
        }
        (LifetimeKind::Ttl, None) => Err("its time to live is missing".to_owned()),
        (LifetimeKind::Ephemeral, _) => Err("an ephemeral znode is not created".to_owned()),
    }
}

fn client_acl(acl: &Acl) -> Result<ClientAcl, String> {
    acl::to_client(acl).map_err(|letter| format!("{letter:?} is none of the permissions c, d, r, w, a"))
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
