//! The znodes of a subtree at a moment.

use std::sync::Arc;

use bridge_core::journal::Position;
use bridge_core::number::Seq;
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;

use super::scratch::{Scratch, created, deleted, path, updated};
use crate::{Access, AsOfValue, JournalQuery, PathPattern, QueryError, TreeQuestion, Visibility};

const NOW: Timestamp = Timestamp(i64::MAX);

fn story() -> Scratch {
    Scratch::with([
        created("/a", 1, "a"),
        created("/a/x", 2, "x"),
        created("/a/x/deep", 3, "deep"),
        created("/b", 4, "b"),
        updated("/a/x", 2, 5, "x again"),
        deleted("/a/x/deep", 6),
        created("/a/y", 7, "y"),
    ])
}

/// All pages of the question, and the number of znodes of which it is not certain that they did not exist.
fn all(
    query: &JournalQuery,
    under: &str,
    patterns: &[&str],
    at: u64,
    limit: usize,
) -> (Vec<(ZnodePath, AsOfValue)>, u64) {
    let under = path(under);
    let patterns: Vec<PathPattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
    let (mut found, mut unknown, mut after) = (Vec::new(), 0, None);
    loop {
        let question = TreeQuestion {
            under: &under,
            patterns: &patterns,
            at: Position::Seq(Seq(at)),
            after: after.as_ref(),
            limit,
        };
        let page = query.tree_at(&question, NOW).unwrap();
        assert!(page.znodes.len() <= limit);
        unknown += page.unknown;
        found.extend(page.znodes);
        after = page.next;
        if after.is_none() {
            return (found, unknown);
        }
    }
}

#[test]
fn a_tree_at_a_moment_has_each_znode_that_existed_then_with_its_value_whatever_the_pages() {
    let scratch = story();
    let query = scratch.query();
    let check = |at: u64, expected: &[(&str, &str)], expected_unknown: u64| {
        for limit in [1, 2, 100] {
            let (found, unknown) = all(&query, "/", &[], at, limit);
            // No listing says that those of later records did not exist.
            assert_eq!(unknown, expected_unknown, "at {at} by {limit}");
            let texts: Vec<(&str, &str)> = found
                .iter()
                .map(|(path, then)| (path.as_str(), then.data.as_ref().unwrap().text().unwrap()))
                .collect();
            assert_eq!(texts, expected, "at {at} by {limit}");
            for (path, then) in &found {
                let alone = query.as_of(path, Position::Seq(Seq(at)), NOW).unwrap();
                assert_eq!(alone.as_ref(), Some(then), "{path} at {at}");
            }
        }
    };
    check(1, &[("/a", "a")], 4);
    check(
        4,
        &[("/a", "a"), ("/a/x", "x"), ("/a/x/deep", "deep"), ("/b", "b")],
        1,
    );
    check(
        7,
        &[("/a", "a"), ("/a/x", "x again"), ("/a/y", "y"), ("/b", "b")],
        0,
    );
}

#[test]
fn a_tree_at_a_moment_is_narrowed_by_its_top_and_by_patterns() {
    let scratch = story();
    let query = scratch.query();
    let check = |under: &str, patterns: &[&str], expected: &[&str]| {
        let (found, _) = all(&query, under, patterns, 5, 2);
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, expected, "{under} {patterns:?}");
    };
    check("/a/x", &[], &["/a/x", "/a/x/deep"]);
    check("/", &["/*/x"], &["/a/x"]);
    check("/", &["/a/x/deep", "/b"], &["/a/x/deep", "/b"]);
    check("/none", &[], &[]);
}

/// Masks `/a/x` and hides `/b`.
struct SomeVisible;

impl Visibility for SomeVisible {
    fn access(&self, at: &ZnodePath) -> Access {
        match at.as_str() {
            "/a/x" => Access::Masked,
            "/b" => Access::Hidden,
            _ => Access::Full,
        }
    }
}

#[test]
fn a_tree_at_a_moment_shows_no_hidden_znode_and_no_masked_value() {
    let scratch = story();
    let query = scratch.query().with_visibility(Arc::new(SomeVisible));
    let (found, _) = all(&query, "/", &[], 7, 100);
    let values: Vec<(&str, bool)> = found
        .iter()
        .map(|(path, then)| (path.as_str(), then.data.is_some()))
        .collect();
    assert_eq!(values, [("/a", true), ("/a/x", false), ("/a/y", true)]);
    let (under, patterns) = (path("/b"), []);
    let question = TreeQuestion {
        under: &under,
        patterns: &patterns,
        at: Position::Seq(Seq(7)),
        after: None,
        limit: 10,
    };
    assert!(matches!(
        query.tree_at(&question, NOW),
        Err(QueryError::Hidden(_))
    ));
}
