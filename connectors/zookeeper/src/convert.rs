//! From the client's types to those of the capture machine. Pure.

use std::sync::Arc;

use bridge_core::capture::{AclOutcome, Event, EventKind, Outcome, ReadRequest};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::Stat;
use zookeeper_client::{Error, EventType, MultiReadResult, WatchedEvent};

use crate::acl;
use crate::config::AclDigests;

/// A node event; `None` for those that recursive watches do not give and for session events.
pub(crate) fn event(event: &WatchedEvent) -> Option<Event> {
    let kind = match event.event_type {
        EventType::NodeCreated => EventKind::Created,
        EventType::NodeDataChanged => EventKind::Changed,
        EventType::NodeDeleted => EventKind::Deleted,
        EventType::NodeChildrenChanged | EventType::Session => return None,
    };
    let path = ZnodePath::parse(&event.path).ok()?;
    Some(Event {
        path,
        kind,
        zxid: Zxid::from_wire(event.zxid),
    })
}

/// The outcomes of a MultiRead, one for each request; an error that is neither a missing nor a forbidden znode fails
/// the whole answer.
pub(crate) fn outcomes(reads: &[ReadRequest], results: Vec<MultiReadResult>) -> Result<Vec<Outcome>, Error> {
    let mut results = results.into_iter();
    reads.iter().map(|read| outcome(read, &mut results)).collect()
}

fn outcome(
    read: &ReadRequest,
    results: &mut impl Iterator<Item = MultiReadResult>,
) -> Result<Outcome, Error> {
    let data = results.next();
    let names = if read.children { results.next() } else { None };
    let (data, stat) = match data {
        Some(MultiReadResult::Data { data, stat }) => (data, stat),
        Some(MultiReadResult::Error { err: Error::NoNode }) => return Ok(Outcome::Missing),
        Some(MultiReadResult::Error { err: Error::NoAuth }) => return Ok(Outcome::Denied),
        Some(MultiReadResult::Error { err }) => return Err(err),
        _ => return Err(Error::RuntimeInconsistent),
    };
    let children = match names {
        Some(MultiReadResult::Children { children }) => {
            check_names(read, &children)?;
            Some(children.into_iter().map(String::into_boxed_str).collect())
        }
        Some(MultiReadResult::Error { err: Error::NoAuth }) => return Ok(Outcome::Denied),
        Some(MultiReadResult::Error { err }) => return Err(err),
        None => None,
        Some(_) => return Err(Error::RuntimeInconsistent),
    };
    Ok(Outcome::Found {
        stat: convert_stat(&stat),
        data: Arc::from(data),
        children,
    })
}

/// A server that lists what cannot be a name would be asked for the same path again and again.
fn check_names(read: &ReadRequest, names: &[String]) -> Result<(), Error> {
    let is_bad =
        |name: &&String| name.is_empty() || name.contains(['/', '\0']) || *name == "." || *name == "..";
    match names.iter().find(is_bad) {
        None => Ok(()),
        Some(name) => Err(Error::UnexpectedError(format!(
            "the server lists a child of {} that cannot exist: {name:?}",
            read.path
        ))),
    }
}

/// The result of reading one access control list.
pub(crate) fn acl_outcome(
    result: Result<(Vec<zookeeper_client::Acl>, zookeeper_client::Stat), Error>,
    digests: AclDigests,
) -> Result<AclOutcome, Error> {
    match result {
        Ok((entries, stat)) => Ok(AclOutcome::Found {
            stat: convert_stat(&stat),
            acl: entries
                .iter()
                .map(|entry| acl::of_client(entry, digests))
                .collect(),
        }),
        Err(Error::NoNode) => Ok(AclOutcome::Missing),
        Err(Error::NoAuth) => Ok(AclOutcome::Denied),
        Err(error) => Err(error),
    }
}

fn convert_stat(stat: &zookeeper_client::Stat) -> Stat {
    Stat {
        czxid: Zxid(stat.czxid.cast_unsigned()),
        mzxid: Zxid(stat.mzxid.cast_unsigned()),
        pzxid: Zxid(stat.pzxid.cast_unsigned()),
        ctime: stat.ctime,
        mtime: stat.mtime,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        ephemeral_owner: SessionId(stat.ephemeral_owner.cast_unsigned()),
        data_length: stat.data_length,
        num_children: stat.num_children,
    }
}
