//! Watch events as the machine sees them.

use crate::number::Zxid;
use crate::path::ZnodePath;

/// One event of a persistent recursive watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The znode that changed.
    pub path: ZnodePath,
    /// How.
    pub kind: EventKind,
    /// Of the transaction; `None` from servers before 3.9 (ZOOKEEPER-4655).
    pub zxid: Option<Zxid>,
}

/// The events that a recursive watch gives (it gives no `NodeChildrenChanged`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `NodeCreated`
    Created,
    /// `NodeDataChanged`, also when the data is the same as before.
    Changed,
    /// `NodeDeleted`
    Deleted,
}
