//! Restricts what a caller may see of each znode. Every answer of this crate is filtered through it.

use std::sync::Arc;

use bridge_core::path::ZnodePath;
use bridge_core::record::{Record, ServiceEvent, State};

/// How much of a znode a caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    Full,
    /// Its path, operations and Stat; neither its data nor its access control list, nor the facts of a service event, which
    /// come from data.
    Masked,
    /// Nothing: it is left out of lists, and a question about it fails. If it is a root, its snapshots are left out, too,
    /// and its gaps unless the caller may see something below it, which they leave open.
    Hidden,
}

/// Decides what a caller may see. An implementation is fast and does no I/O: it runs once for each record of a page.
pub trait Visibility: Send + Sync {
    /// The access to a znode.
    fn access(&self, path: &ZnodePath) -> Access;

    /// Whether the caller may see this znode, or any that may be below it.
    fn sees_below(&self, path: &ZnodePath) -> bool {
        self.access(path) != Access::Hidden
    }

    /// Whether no znode is hidden, so that records may be counted without a look at their paths.
    fn shows_all(&self) -> bool {
        false
    }
}

/// Shows everything: for the operator's own commands, which can read the file anyway.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllVisible;

impl Visibility for AllVisible {
    fn access(&self, _: &ZnodePath) -> Access {
        Access::Full
    }

    fn shows_all(&self) -> bool {
        true
    }
}

/// The access to a record: that to its znode, for a control record that to its root. A heartbeat, which has neither, is
/// visible.
pub(crate) fn access_to(visibility: &dyn Visibility, record: &Record) -> Access {
    let Some(subject) = record.path.as_ref().or(record.root.as_ref()) else {
        return Access::Full;
    };
    match visibility.access(subject) {
        Access::Hidden if record.gap.is_some() && visibility.sees_below(subject) => Access::Masked,
        access => access,
    }
}

/// The record as the caller may see it; `None` if it is hidden.
pub(crate) fn shown(visibility: &dyn Visibility, record: &Arc<Record>) -> Option<Arc<Record>> {
    match access_to(visibility, record) {
        Access::Full => Some(Arc::clone(record)),
        Access::Masked => Some(Arc::new(masked(record))),
        Access::Hidden => None,
    }
}

/// In the place of the sentence of an event, which repeats its facts.
const FACTS_MASKED: &str = "the facts are masked";

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
        event: record.event.as_ref().map(|event| {
            Arc::new(ServiceEvent {
                text: FACTS_MASKED.to_owned(),
                ..event.without_facts()
            })
        }),
        ..record.clone()
    }
}

#[cfg(test)]
mod tests {
    use bridge_core::record::{Endpoint, Op, ServiceEventType};

    use super::*;

    struct Blind;

    impl Visibility for Blind {
        fn access(&self, _: &ZnodePath) -> Access {
            Access::Masked
        }
    }

    #[test]
    fn a_service_event_comes_without_its_facts_where_values_are_masked() {
        let mut record = bridge_core::testing::a_record().control(Op::Service).build();
        record.root = Some(ZnodePath::slash());
        record.event = Some(Arc::new(ServiceEvent {
            service: "payments".to_owned(),
            endpoints: vec![Endpoint {
                host: "10.0.0.1".to_owned(),
                ..Endpoint::default()
            }],
            text: "payments: 10.0.0.1 is up".to_owned(),
            ..ServiceEvent::of_type(ServiceEventType::InstanceUp)
        }));
        let record = Arc::new(record);
        let seen = |visibility: &dyn Visibility| format!("{:?}", shown(visibility, &record));
        // The control.
        assert!(seen(&AllVisible).contains("10.0.0.1"));
        let masked = seen(&Blind);
        assert!(
            masked.contains("payments") && !masked.contains("10.0.0.1"),
            "{masked}"
        );
    }
}
