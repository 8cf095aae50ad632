//! Turns a row into a record.
//!
//! Every record is made here: readers pass the columns that they have read, the tail cache the rows that the writer has
//! cached, and a sink's snapshot rows of the image, so that all of them agree.

use std::sync::Arc;

use super::event_row::EventDetail;
use super::row::{BeforeColumn, Detail, Stored, Values};
use crate::path::ZnodePath;
use crate::record::{Data, Origin, Record, SchemaName, State};

/// The meaning of the numbers of one row.
#[derive(Clone)]
pub(super) struct Named {
    /// The name of the source.
    pub(super) cluster: Arc<str>,
    /// The root.
    pub(super) root: Option<ZnodePath>,
    /// The path.
    pub(super) path: Option<ZnodePath>,
    /// Mode and server.
    pub(super) origin: Origin,
}

impl Stored {
    /// The record, with the data of [`Stored::values`].
    pub(super) fn into_record(self, named: Named, data: Values<Option<Data>>) -> Record {
        let before = (self.before != BeforeColumn::Null).then_some(State {
            data: data.before,
            stat: self.before_stat,
        });
        let after = self.has_after().then_some(State {
            data: data.after,
            stat: self.stat,
        });
        let time = self.times();
        let (mut acl, mut gap, mut run) = (None, None, None);
        let (mut event, mut path) = (None, named.path);
        let lifetime = self.facts.as_ref().and_then(|facts| facts.lifetime);
        match self.detail {
            Detail::None => {}
            Detail::Acl(list) => acl = Some(list),
            Detail::Gap(stretch) => gap = Some(stretch),
            Detail::Run(place) => run = Some(place),
            Detail::Event(detail) => {
                let EventDetail {
                    home,
                    event: mut derived,
                } = *detail;
                // Journals of earlier builds have no position in the event.
                if derived.seq != self.seq {
                    Arc::make_mut(&mut derived).seq = self.seq;
                }
                (event, path) = (Some(derived), Some(home));
            }
        }
        if let Some(facts) = self.facts {
            acl = facts.acl;
        }
        Record {
            schema: SchemaName::V1,
            id: self.id,
            seq: self.seq,
            cluster: named.cluster,
            root: named.root,
            path,
            op: self.op,
            zxid: self.zxid,
            zxid_kind: self.zxid_kind,
            fidelity: self.fidelity,
            missed: self.missed,
            superseded: self.superseded,
            ephemeral: self.ephemeral,
            before,
            after,
            txn: self.txn,
            time,
            source: named.origin,
            acl,
            lifetime,
            gap,
            run,
            event,
        }
    }
}
