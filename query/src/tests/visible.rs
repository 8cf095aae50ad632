//! No query shows more than the caller may see.

use std::sync::Arc;
use std::time::Duration;

use bridge_core::append::Append;
use bridge_core::journal::Position;
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Op, Timestamp};

use super::scratch::{Scratch, created, gap, path, updated};
use crate::{
    Access, Certainty, Follower, GapMark, Grouping, JournalQuery, QueryError, Range, Selection, Visibility,
};

/// Masks `/masked` and hides `/hidden`, each with everything below it.
struct SomeVisible;

impl Visibility for SomeVisible {
    fn access(&self, at: &ZnodePath) -> Access {
        match at.names().next() {
            Some("masked") => Access::Masked,
            Some("hidden") => Access::Hidden,
            _ => Access::Full,
        }
    }
}

fn story() -> (Scratch, JournalQuery) {
    let scratch = Scratch::with([
        created("/open", 1, "public"),
        created("/masked", 2, "secret"),
        created("/hidden", 3, "secret"),
        updated("/masked", 2, 4, "secret too"),
        updated("/hidden", 3, 5, "secret too"),
    ]);
    let query = scratch.query().with_visibility(Arc::new(SomeVisible));
    (scratch, query)
}

#[test]
fn lists_leave_hidden_znodes_out_and_values_of_masked_ones_away() {
    let (_scratch, query) = story();
    let range = Range {
        after: Seq::ZERO,
        until: Seq(5),
    };
    let selection = Selection::default();
    let changes = query.changes(range, &selection, 100).unwrap().records;
    let newest = query.newest(range, &selection, 100).unwrap().records;
    let followed = Follower::new(Seq::ZERO)
        .next(&query, &selection)
        .unwrap()
        .unwrap();
    for records in [changes, newest, followed.records] {
        let paths: Vec<&str> = records
            .iter()
            .filter_map(|record| record.path.as_deref())
            .collect();
        assert_eq!(paths, ["/open", "/masked", "/masked"]);
        let text = format!("{records:?}");
        assert!(text.contains("/open") && !text.contains("hidden"), "{text}");
        let json = records
            .iter()
            .map(|record| String::from_utf8(record.to_json()).unwrap());
        let json: String = json.collect();
        assert!(json.contains("public") && !json.contains("secret"), "{json}");
    }
    let page = query.children(&ZnodePath::slash(), None, 10).unwrap();
    assert_eq!(
        page.names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["masked", "open"]
    );
    assert_eq!(page.next, None);
}

#[test]
fn a_question_about_a_masked_znode_is_answered_without_its_value() {
    let (_scratch, query) = story();
    let value = query
        .as_of(&path("/masked"), Position::Zxid(Zxid(3)), Timestamp(0))
        .unwrap()
        .unwrap();
    assert_eq!((value.exists, value.data.is_none()), (Some(true), true));
    assert_eq!(value.certainty, Certainty::Masked);
    let page = query.history(&path("/masked"), None, 10).unwrap().unwrap();
    assert_eq!(page.versions.len(), 2);
    for version in &page.versions {
        let json = String::from_utf8(version.record.to_json()).unwrap();
        assert!(!json.contains("secret"), "{json}");
    }
    let znode = query.znode(&path("/masked")).unwrap().unwrap();
    assert!(znode.data.is_none() && znode.node.stat.is_some());
}

#[test]
fn a_question_about_a_hidden_znode_fails_whether_it_exists_or_not() {
    let (_scratch, query) = story();
    for hidden in ["/hidden", "/hidden/none"] {
        let hidden = path(hidden);
        let position = Position::Zxid(Zxid(3));
        let errors = [
            query.as_of(&hidden, position, Timestamp(0)).unwrap_err(),
            query.history(&hidden, None, 10).unwrap_err(),
            query.znode(&hidden).unwrap_err(),
            query.children(&hidden, None, 10).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(&error, QueryError::Hidden(_)), "{error}");
        }
    }
}

/// The roots of the marks of gaps.
fn roots(marks: &[GapMark]) -> Vec<&str> {
    marks.iter().filter_map(|mark| mark.root.as_deref()).collect()
}

#[test]
fn no_list_shows_a_gap_of_a_hidden_root_and_activity_counts_no_hidden_znode() {
    let mut scratch = Scratch::with([created("/open", 1, "public"), created("/hidden", 2, "secret")]);
    scratch.append(["/open", "/hidden"].map(|root| Append {
        root: Some(path(root)),
        ..gap(3)
    }));
    let everything = scratch.query();
    let query = scratch.query().with_visibility(Arc::new(SomeVisible));
    let range = Range {
        after: Seq::ZERO,
        until: Seq(4),
    };
    let selection = Selection::default();
    // The control: without a restriction each list has both roots.
    for (query, expected) in [(&everything, &["/open", "/hidden"][..]), (&query, &["/open"][..])] {
        let open = query.gaps(range.into(), 9).unwrap().left.open;
        let open: Vec<&str> = open.iter().map(|span| span.root.as_str()).collect();
        assert_eq!(open, expected);
        let lists = [
            query.changes(range, &selection, 9).unwrap(),
            query.newest(range, &selection, 9).unwrap(),
            Follower::new(Seq::ZERO).next(query, &selection).unwrap().unwrap(),
        ];
        for list in lists {
            assert_eq!(roots(&list.gaps), expected);
            let begun = list.records.iter().filter(|record| record.op == Op::GapBegin);
            let begun: Vec<&str> = begun.filter_map(|record| record.root.as_deref()).collect();
            assert_eq!(begun, expected);
            assert_eq!(list.scanned, 4);
        }
    }
    let grouping = Grouping {
        every: Duration::from_secs(3600),
        depth: 1,
    };
    let activity = query.activity(range, &selection, grouping, 9).unwrap();
    assert_eq!(roots(&activity.gaps), ["/open"]);
    let controls = activity.counts.iter().filter(|((_, at), _)| at.is_none());
    let begun: u64 = controls.map(|(_, counts)| counts.of(Op::GapBegin)).sum();
    assert_eq!(begun, 1);
    let subtrees: Vec<Option<&str>> = activity.counts.keys().map(|(_, at)| at.as_deref()).collect();
    assert_eq!(subtrees, [None, Some("/open")]);
}
