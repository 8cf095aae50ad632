//! Derives the incarnations of one path from its waiting events, for [`settle_by_read`](super::settle_by_read).

use crate::path::ZnodePath;

use super::EventKind;
use super::follow::{Follow, Item};

/// The incarnations that the events of one path show, up to the read of the window.
#[derive(Debug, Default)]
pub(super) struct PathEvents {
    /// Events before this position are reflected in the read.
    pub(super) upto: u64,
    pub(super) creates: usize,
    pub(super) deletes: usize,
    /// The position of the first delete.
    pub(super) first_delete: Option<u64>,
    /// Whether the first delete may be that of an incarnation that was never recorded.
    pub(super) is_uncertain: bool,
    /// Whether an incarnation was created and deleted without being read.
    pub(super) has_unread: bool,
    /// Whether the incarnation that was read may be a later one than the first in the events.
    pub(super) may_be_later: bool,
}

impl Follow {
    /// Whether an event of this kind waits for this path at or after a position. It is asked for each event, so it looks
    /// at no other ones where their number answers it.
    pub(crate) fn has(&self, path: &str, kind: EventKind, from: u64) -> bool {
        let Some(pending) = self.paths.get(path) else {
            return false;
        };
        if pending.kinds.count(kind) == 0 {
            return false;
        }
        if pending.positions.front().is_some_and(|first| *first >= from) {
            return true;
        }
        let mut later = pending.positions.iter().rev().take_while(|at| **at >= from);
        later.any(|at| self.kind_at(*at) == Some(kind))
    }

    pub(super) fn kind_at(&self, position: u64) -> Option<EventKind> {
        match self.items.get((position - self.base) as usize) {
            Some(Item::Event(event)) => Some(event.kind),
            _ => None,
        }
    }

    /// Reads the events of a path, from the state in the image (`is_known`) to the state that was read (`is_found`).
    pub(super) fn path_events(&self, path: &ZnodePath, is_known: bool, is_found: bool) -> PathEvents {
        let covers = self.window.covers;
        let mut events = PathEvents {
            upto: covers,
            ..PathEvents::default()
        };
        let Some(pending) = self.paths.get(path) else {
            return events;
        };
        let mut exists = is_known;
        // Deletes that surely belong to incarnations after the last recorded one.
        let mut unread_deletes = 0;
        let mut has_create = is_known;
        for position in &pending.positions {
            let Some(Item::Event(event)) = self.item(*position) else {
                continue;
            };
            // A delete implies that the znode existed, also if its create was left to the walk: that incarnation may be
            // the one that was read.
            exists |= is_found && *position >= covers && event.kind == EventKind::Deleted;
            let is_reflected = *position < covers || (exists != is_found && !events.may_be_later);
            match event.kind {
                EventKind::Changed => continue,
                EventKind::Created if !is_reflected => {
                    events.may_be_later |= is_found;
                    continue;
                }
                EventKind::Deleted if !is_reflected => continue,
                EventKind::Created => {
                    events.creates += 1;
                    has_create |= !event.may_be_recorded;
                    exists = true;
                }
                EventKind::Deleted => {
                    events.deletes += 1;
                    events.first_delete.get_or_insert(*position);
                    if events.deletes == 1 {
                        events.is_uncertain = event.uncertain;
                    }
                    unread_deletes += usize::from(has_create && !event.may_be_recorded);
                    exists = false;
                }
            }
            events.upto = events.upto.max(*position + 1);
        }
        events.has_unread = unread_deletes > usize::from(is_known);
        events
    }

    /// The deletes of a path before the read was sent, up to the last of them.
    pub(super) fn sure_deletes(&self, path: &ZnodePath, is_known: bool) -> PathEvents {
        let mut sure = PathEvents::default();
        let (mut unread_deletes, mut has_create) = (0, is_known);
        let positions = self
            .paths
            .get(path)
            .into_iter()
            .flat_map(|pending| &pending.positions);
        for position in positions.take_while(|position| **position < self.window.covers) {
            let Some(Item::Event(event)) = self.item(*position) else {
                continue;
            };
            match event.kind {
                EventKind::Changed => {}
                // It may belong to an incarnation before the one that a walk has read.
                EventKind::Deleted if event.may_be_recorded => {}
                EventKind::Created => has_create |= !event.may_be_recorded,
                EventKind::Deleted => {
                    sure.deletes += 1;
                    sure.first_delete.get_or_insert(*position);
                    if sure.deletes == 1 {
                        sure.is_uncertain = event.uncertain;
                    }
                    unread_deletes += usize::from(has_create);
                    sure.upto = *position + 1;
                }
            }
        }
        sure.has_unread = unread_deletes > usize::from(is_known);
        sure
    }
}
