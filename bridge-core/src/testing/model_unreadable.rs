//! A model of what the journal keeps of znodes that may not be read, without a limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Op, Record, Timestamp};
use crate::unreadable_span::{HistoryPoint, UnreadableExtent, UnreadableSpan};

/// The spans and the walks of one journal.
#[derive(Clone, Debug, Default)]
pub struct ModelUnreadable {
    walked: BTreeMap<ZnodePath, HistoryPoint>,
    /// In order of their begins.
    pub spans: Vec<UnreadableSpan>,
}

impl ModelUnreadable {
    pub(super) fn walked(&self, root: &ZnodePath) -> HistoryPoint {
        self.walked.get(root).copied().unwrap_or_default()
    }

    pub(super) fn set_walked(&mut self, root: &ZnodePath, began: HistoryPoint) {
        self.walked.insert(root.clone(), began);
    }

    /// `records`: all that there ever were, and how many of them are removed.
    pub(super) fn begin(
        &mut self,
        root: &ZnodePath,
        (path, extent): (&ZnodePath, UnreadableExtent),
        since: HistoryPoint,
        (records, removed): (&[Arc<Record>], usize),
        now: Timestamp,
    ) {
        let path = match extent {
            UnreadableExtent::Znode => path,
            UnreadableExtent::Unnamed => root,
        };
        if self.spans.iter().any(|span| is_open(span, (path, extent))) {
            return;
        }
        let last = records
            .iter()
            .skip(removed)
            .rfind(|record| record.path.as_ref() == Some(path) && record.op != Op::Service);
        let last = last.filter(|last| last.op != Op::Snapshot && extent == UnreadableExtent::Znode);
        let seq = last.map_or(Seq::ZERO, |last| last.seq).max(since.seq);
        self.spans.push(UnreadableSpan {
            path: path.clone(),
            extent,
            since: HistoryPoint { seq, ..since },
            found: (Seq(records.len() as u64), now),
            until: None,
        });
    }

    pub(super) fn open(&self, root: &ZnodePath) -> Vec<UnreadableSpan> {
        let open = self
            .spans
            .iter()
            .filter(|span| span.until.is_none() && root.covers(&span.path));
        let mut open: Vec<UnreadableSpan> = open.cloned().collect();
        open.sort_by(|one, other| (one.path.as_str(), one.extent).cmp(&(other.path.as_str(), other.extent)));
        open
    }

    pub(super) fn earliest_over(&self, path: &ZnodePath) -> Option<HistoryPoint> {
        let over = self
            .spans
            .iter()
            .filter(|span| span.until.is_none() && span.path.covers(path));
        over.map(|span| span.since).reduce(HistoryPoint::min)
    }

    pub(super) fn end(&mut self, znode: (&ZnodePath, UnreadableExtent), until: HistoryPoint) {
        for span in self.spans.iter_mut().filter(|span| is_open(span, znode)) {
            span.until = Some(until);
        }
    }

    /// Retention has removed the records up to this one.
    pub(super) fn remove_until(&mut self, last: Seq) {
        self.spans
            .retain(|span| span.until.is_none_or(|until| until.seq > last));
    }
}

fn is_open(span: &UnreadableSpan, (path, extent): (&ZnodePath, UnreadableExtent)) -> bool {
    span.path == *path && span.extent == extent && span.until.is_none()
}
