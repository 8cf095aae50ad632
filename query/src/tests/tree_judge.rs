//! Compares the answers about a tree with the tree as it was.

use std::collections::BTreeSet;

use bridge_core::journal::Position;
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;

use super::scratch::path;
use super::tree::{PATHS, Tree, Znode};
use crate::JournalQuery;
use crate::answer::{AnswerList, ChildrenQuestion, DiffItem, DiffKind, DiffQuestion};

/// A comparison of the answers with the truth: the first lie, and how much was certain.
pub(super) struct Judge<'a> {
    pub(super) query: &'a JournalQuery,
    pub(super) truth: &'a [Tree],
    pub(super) now: Timestamp,
    pub(super) certain: u64,
    pub(super) lie: Option<String>,
}

impl Judge<'_> {
    fn expect(&mut self, is_true: bool, claim: impl FnOnce() -> String) {
        if !is_true && self.lie.is_none() {
            self.lie = Some(claim());
        }
    }

    /// The value of each znode, and the children of each.
    pub(super) fn judge_moment(&mut self, position: Position, tree: &Tree) {
        for at in PATHS {
            let Some(answer) = self.query.node(&path(at), Some(position), self.now).unwrap() else {
                continue;
            };
            let then = &answer.then;
            let text = then
                .data
                .as_ref()
                .map(|data| String::from_utf8_lossy(&data.bytes).into_owned());
            let actual = tree.get(at);
            self.certain += u64::from(then.certain);
            let is_true = then.exists == Some(actual.is_some()) && text == actual.map(Znode::text);
            self.expect(!then.certain || is_true, || {
                format!("{at} {position:?}: {then:?}, and was {actual:?}")
            });
        }
        for parent in ["/", "/a", "/a/x", "/b"] {
            self.judge_children(position, parent, tree);
        }
    }

    fn judge_children(&mut self, position: Position, parent: &str, tree: &Tree) {
        let parent = path(parent);
        let (mut items, mut unknown, mut cursor) = (Vec::new(), 0, None::<String>);
        let is_certain = loop {
            let question = ChildrenQuestion {
                path: &parent,
                at: Some(position),
                prefix: "",
                after: None,
                cursor: cursor.as_deref(),
                limit: 2,
            };
            let page = self.query.children_at(&question, self.now).unwrap();
            items.extend(page.items);
            unknown += page.unknown;
            cursor = page.next;
            if cursor.is_none() {
                break page.to.certain;
            }
        };
        for item in &items {
            let at = parent.child(&item.name);
            let actual = tree.get(at.as_str());
            let is_true = item.exists == Some(true)
                && actual.map(|znode| Zxid(znode.mzxid)) == item.mzxid
                && actual.map(|znode| znode.version) == item.version;
            self.expect(!item.certain || is_true, || {
                format!("{at} {position:?}: {item:?}, and was {actual:?}")
            });
        }
        let listed: BTreeSet<&str> = items.iter().map(|item| item.name.as_str()).collect();
        for at in tree
            .keys()
            .filter(|at| path(at).parent().as_ref() == Some(&parent))
        {
            let is_listed = listed.contains(path(at).name()) || unknown > 0;
            self.expect(!is_certain || is_listed, || {
                format!("{at} is not among the children at {position:?}")
            });
        }
    }

    pub(super) fn judge_diff(&mut self, a: u64, b: u64, limit: usize) {
        let (before, after) = (&self.truth[a as usize], &self.truth[b as usize]);
        let pages = self.diff(a, b, limit);
        let is_certain = pages.iter().all(|page| {
            let from = page.from.as_ref().expect("a difference has two moments");
            from.certain && page.to.certain
        });
        let items: Vec<DiffItem> = pages.into_iter().flat_map(|page| page.items).collect();
        let mut listed = BTreeSet::new();
        for item in items {
            let at = item.path.as_str();
            let kind = match (before.get(at), after.get(at)) {
                (None, None) => None,
                (None, Some(_)) => Some(DiffKind::Created),
                (Some(_), None) => Some(DiffKind::Deleted),
                (Some(one), Some(other)) if one.czxid != other.czxid => Some(DiffKind::Recreated),
                (Some(one), Some(other)) if one.mzxid == other.mzxid => None,
                (Some(one), Some(other)) if one.text() == other.text() => Some(DiffKind::Rewritten),
                (Some(_), Some(_)) => Some(DiffKind::Changed),
            };
            self.certain += u64::from(item.kind != DiffKind::Uncertain);
            self.expect(
                item.kind == DiffKind::Uncertain || Some(item.kind) == kind,
                || format!("{a} to {b}: {item:?}, and was {kind:?}"),
            );
            self.expect(listed.insert(at.to_owned()), || format!("{at} is listed twice"));
        }
        for at in PATHS {
            let is_listed = listed.contains(at) || before.get(at) == after.get(at);
            self.expect(!is_certain || is_listed, || {
                format!("{at} differs between {a} and {b} and is not listed")
            });
        }
    }

    fn diff(&self, a: u64, b: u64, limit: usize) -> Vec<AnswerList<DiffItem>> {
        let (mut pages, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let question = DiffQuestion {
                under: &ZnodePath::slash(),
                a: Position::Zxid(Zxid(a)),
                b: Some(Position::Zxid(Zxid(b))),
                kinds: &[],
                cursor: cursor.as_deref(),
                limit,
            };
            let page = self.query.diff(&question, self.now).unwrap();
            assert!(page.items.len() <= limit, "{page:?}");
            cursor.clone_from(&page.next);
            pages.push(page);
            if cursor.is_none() {
                return pages;
            }
        }
    }
}
