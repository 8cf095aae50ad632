//! Incarnations of one path that its waiting events show, for [`settle_by_read`](super::settle_by_read).

use crate::path::ZnodePath;

use super::EventKind;
use super::follow::{Follow, Item};

/// What the events of one path say of its lives, up to where the read stands.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Events before this position are reflected in the read.
    pub(super) upto: u64,
    pub(super) begins: usize,
    pub(super) ends: usize,
    /// Where the first end stands.
    pub(super) first_end: Option<u64>,
    /// Whether the first end may be that of a life that was never told.
    pub(super) is_uncertain: bool,
    /// A life that nobody read began and ended.
    pub(super) has_unread: bool,
    /// The life that was read may be a later one than the first that the events tell of.
    pub(super) may_be_later: bool,
}

impl Follow {
    /// What the events of a path say, from whether it is known to live to whether it was found.
    pub(super) fn story(&self, path: &ZnodePath, is_known: bool, is_found: bool) -> Story {
        let covers = self.window.covers;
        let mut story = Story {
            upto: covers,
            ..Story::default()
        };
        let Some(pending) = self.paths.get(path) else {
            return story;
        };
        let mut lives = is_known;
        // Ends that are surely of lives behind the last that was told.
        let mut unread_ends = 0;
        let mut has_begun = is_known;
        for position in &pending.positions {
            let Some(Item::Event(event)) = self.item(*position) else {
                continue;
            };
            // What ends has lived, also where its create was left to the walk: what was found may be that life.
            lives |= is_found && *position >= covers && event.kind == EventKind::Deleted;
            let is_reflected = *position < covers || (lives != is_found && !story.may_be_later);
            match event.kind {
                EventKind::Changed => continue,
                EventKind::Created if !is_reflected => {
                    story.may_be_later |= is_found;
                    continue;
                }
                EventKind::Deleted if !is_reflected => continue,
                EventKind::Created => {
                    story.begins += 1;
                    has_begun = true;
                    lives = true;
                }
                EventKind::Deleted => {
                    story.ends += 1;
                    story.first_end.get_or_insert(*position);
                    if story.ends == 1 {
                        story.is_uncertain = event.uncertain;
                    }
                    unread_ends += usize::from(has_begun && !event.may_be_told);
                    lives = false;
                }
            }
            story.upto = story.upto.max(*position + 1);
        }
        story.has_unread = unread_ends > usize::from(is_known);
        story
    }

    /// What ended of a path before the read was sent, up to the last such end.
    pub(super) fn sure_ends(&self, path: &ZnodePath, is_known: bool) -> Story {
        let mut sure = Story::default();
        let (mut unread_ends, mut has_begun) = (0, is_known);
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
                // It may be of an incarnation before the one that a walk has read.
                EventKind::Deleted if event.may_be_told => {}
                EventKind::Created => has_begun = true,
                EventKind::Deleted => {
                    sure.ends += 1;
                    sure.first_end.get_or_insert(*position);
                    if sure.ends == 1 {
                        sure.is_uncertain = event.uncertain;
                    }
                    unread_ends += usize::from(has_begun);
                    sure.upto = *position + 1;
                }
            }
        }
        sure.has_unread = unread_ends > usize::from(is_known);
        sure
    }
}
