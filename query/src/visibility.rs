//! Restricts what a caller may see of each znode. Every answer of this crate is filtered through it.

use std::sync::Arc;

use bridge_core::path::ZnodePath;
use bridge_core::record::{Record, State};

/// How much of a znode a caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    Full,
    /// Its path, operations and Stat; neither its data nor its access control list.
    Masked,
    /// Nothing: it is left out of lists, and a question about it fails. If it is a root, its gaps and snapshots are left
    /// out, too.
    Hidden,
}

/// Decides what a caller may see. An implementation is fast and does no I/O: it runs once for each record of a page.
pub trait Visibility: Send + Sync {
    /// The access to a znode.
    fn access(&self, path: &ZnodePath) -> Access;
}

/// Shows everything: for the operator's own commands, which can read the file anyway.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllVisible;

impl Visibility for AllVisible {
    fn access(&self, _: &ZnodePath) -> Access {
        Access::Full
    }
}

/// The access to a record: that to its znode, for a control record that to its root. A heartbeat, which has neither, is
/// visible.
pub(crate) fn access_to(visibility: &dyn Visibility, record: &Record) -> Access {
    let subject = record.path.as_ref().or(record.root.as_ref());
    subject.map_or(Access::Full, |path| visibility.access(path))
}

/// The record as the caller may see it; `None` if it is hidden.
pub(crate) fn shown(visibility: &dyn Visibility, record: &Arc<Record>) -> Option<Arc<Record>> {
    match access_to(visibility, record) {
        Access::Full => Some(Arc::clone(record)),
        Access::Masked => Some(Arc::new(masked(record))),
        Access::Hidden => None,
    }
}

fn masked(record: &Record) -> Record {
    let without_data = |state: &Option<State>| {
        state.as_ref().map(|state| State {
            data: None,
            stat: state.stat,
        })
    };
    Record {
        before: without_data(&record.before),
        after: without_data(&record.after),
        acl: None,
        ..record.clone()
    }
}
