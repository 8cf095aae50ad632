//! The documents of the answers: ranges, pages, filters, and what is open.

use std::sync::Arc;

use bridge_core::journal::Position;
use bridge_core::number::{Seq, SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Timestamp, Txn, TxnKind};

use super::scratch::{NOON, Scratch, created, deleted, gap, path, time_of, updated};
use crate::answer::{ChangesOrder, ChangesQuestion, ChildrenQuestion, DiffQuestion, RangeQuestion};
use crate::{Access, Certainty, Doubt, JournalQuery, PathPattern, QueryError, Selection, Visibility};

const TXN: Txn = Txn {
    session: SessionId(1),
    cxid: 1,
    index: 0,
    count: 1,
    kind: TxnKind::SetData,
    time: NOON,
    ended_by: None,
    client: None,
    user: None,
    rest: 0,
};

const NOW: Timestamp = Timestamp(NOON + 1_000_000_000);

fn at(zxid: u64) -> Position {
    Position::Zxid(Zxid(zxid))
}

fn story() -> Scratch {
    Scratch::with([
        created("/a", 1, "1"),
        created("/a/x", 2, "2"),
        created("/a/xy", 3, "3"),
        updated("/a", 1, 4, "4"),
        created("/a/y", 5, "5"),
        updated("/a", 1, 6, "6"),
        deleted("/a/x", 7),
        updated("/a", 1, 8, "8"),
    ])
}

#[test]
fn a_history_in_a_range_has_the_versions_of_both_ends_and_those_between() {
    let scratch = story();
    let query = scratch.query();
    let check = |from: Option<Position>, to: Option<Position>, expected: &[u64]| {
        for limit in 1..6 {
            let (mut found, mut next) = (Vec::new(), None);
            loop {
                let page = query.history_between(&path("/a"), (from, to), next, limit);
                let page = page.unwrap().unwrap();
                assert!(page.versions.len() <= limit, "{page:?}");
                found.extend(page.versions.iter().map(|version| version.record.seq.0));
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{from:?} {to:?} {limit}");
        }
    };
    check(None, None, &[8, 6, 4, 1]);
    check(Some(at(4)), None, &[8, 6, 4]);
    check(Some(at(5)), Some(at(7)), &[6]);
    check(None, Some(at(3)), &[1]);
    check(Some(at(9)), None, &[]);
    check(Some(Position::Seq(Seq(4))), Some(Position::Seq(Seq(6))), &[6, 4]);
    let noon = |zxid| Some(Position::Time(Timestamp(time_of(zxid))));
    check(noon(4), noon(6), &[6, 4]);
}

/// The names of all pages of children.
fn names(query: &JournalQuery, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let question = ChildrenQuestion {
            path: &path("/a"),
            at: Some(at(6)),
            prefix,
            after,
            cursor: cursor.as_deref(),
            limit,
        };
        let page = query.children_at(&question, NOW).unwrap();
        assert!(page.items.len() <= limit && page.complete == page.next.is_none());
        found.extend(page.items.into_iter().map(|item| item.name));
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}

#[test]
fn children_of_a_moment_are_paged_by_their_names_from_any_name_on() {
    let scratch = story();
    let query = scratch.query();
    for limit in 1..5 {
        assert_eq!(names(&query, "", None, limit), ["x", "xy", "y"]);
        assert_eq!(names(&query, "x", None, limit), ["x", "xy"]);
        assert_eq!(names(&query, "", Some("x"), limit), ["xy", "y"]);
        assert_eq!(names(&query, "z", None, limit), Vec::<String>::new());
    }
    let now = ChildrenQuestion {
        path: &path("/a"),
        at: None,
        prefix: "",
        after: None,
        cursor: None,
        limit: 9,
    };
    let page = query.children_at(&now, NOW).unwrap();
    let found: Vec<&str> = page.items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(found, ["xy", "y"], "x is deleted");
}

#[test]
fn the_pages_of_a_difference_visit_each_path_once_parents_first() {
    let scratch = story();
    let query = scratch.query();
    for limit in 1..6 {
        let (mut found, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let question = DiffQuestion {
                under: &path("/a"),
                a: at(4),
                b: None,
                kinds: &[],
                cursor: cursor.as_deref(),
                limit,
            };
            let page = query.diff(&question, NOW).unwrap();
            found.extend(page.items.into_iter().map(|item| item.path.to_string()));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, ["/a", "/a/x", "/a/y"], "{limit}");
    }
}

#[test]
fn a_cursor_of_another_question_is_refused() {
    let scratch = story();
    let query = scratch.query();
    let selection = Selection::default();
    let question = ChangesQuestion {
        from: None,
        to: None,
        selection: &selection,
        filter: "",
        order: ChangesOrder::Oldest,
        cursor: None,
        limit: 2,
    };
    let page = query.records_between(&question, NOW).unwrap();
    let next = page.next.unwrap();
    let resumed = ChangesQuestion {
        cursor: Some(&next),
        ..question.clone()
    };
    assert_eq!(query.records_between(&resumed, NOW).unwrap().items[0].seq, Seq(3));
    for other in [
        ChangesQuestion {
            filter: "op=create",
            ..resumed.clone()
        },
        ChangesQuestion {
            order: ChangesOrder::Newest,
            ..resumed.clone()
        },
        ChangesQuestion {
            from: Some(at(2)),
            ..resumed.clone()
        },
    ] {
        let error = query.records_between(&other, NOW).unwrap_err();
        assert!(matches!(error, QueryError::BadCursor(_)), "{error}");
    }
}

#[test]
fn a_cursor_of_a_question_about_an_age_goes_on_with_the_moments_of_its_first_page() {
    let scratch = story();
    let query = scratch.query();
    let selection = Selection::default();
    // The same age, asked a millisecond later for each page.
    let page = |later: i64, cursor: Option<&str>| {
        let question = ChangesQuestion {
            from: Some(Position::Time(Timestamp(NOON + later))),
            to: None,
            selection: &selection,
            filter: "",
            order: ChangesOrder::Oldest,
            cursor,
            limit: 2,
        };
        query.records_between(&question, NOW).unwrap()
    };
    let first = page(0, None);
    let second = page(1, first.next.as_deref());
    assert_eq!((first.items[0].seq, second.items[0].seq), (Seq(1), Seq(3)));
    assert_eq!(first.from, second.from);
}

/// Masks all values below `/masked`.
struct MasksSome;

impl Visibility for MasksSome {
    fn access(&self, at: &ZnodePath) -> Access {
        match at.names().next() {
            Some("masked") => Access::Masked,
            _ => Access::Full,
        }
    }
}

#[test]
fn a_text_is_found_in_the_values_that_the_caller_may_see_and_in_no_others() {
    let scratch = Scratch::with([
        created("/open", 1, "a needle here"),
        created("/masked", 2, "a needle here"),
        created("/other", 3, "hay"),
        deleted("/open", 4),
    ]);
    let selection = Selection {
        text: Some("needle".to_owned()),
        ..Selection::default()
    };
    let found = |query: &JournalQuery| {
        let question = ChangesQuestion {
            from: None,
            to: None,
            selection: &selection,
            filter: "",
            order: ChangesOrder::Oldest,
            cursor: None,
            limit: 9,
        };
        let list = query.records_between(&question, NOW).unwrap();
        list.items.iter().map(|record| record.seq.0).collect::<Vec<_>>()
    };
    assert_eq!(
        found(&scratch.query()),
        [1, 2, 4],
        "and in the value that a delete ended"
    );
    let query = scratch.query().with_visibility(Arc::new(MasksSome));
    assert_eq!(found(&query), [1, 4]);
}

#[test]
fn a_second_pattern_and_a_session_narrow_the_selection() {
    let record = bridge_core::testing::a_record().path("/a/b").build();
    let check = |within: Option<&str>, session: Option<u64>, expected| {
        let selection = Selection {
            paths: vec![PathPattern::parse("/a").unwrap()],
            within: within.map(|pattern| PathPattern::parse(pattern).unwrap()),
            session: session.map(SessionId),
            ..Selection::default()
        };
        assert_eq!(selection.selects(&record), expected, "{within:?} {session:?}");
    };
    check(None, None, true);
    check(Some("/*/b"), None, true);
    check(Some("/*/c"), None, false);
    check(None, Some(0x1234), false);
}

#[test]
fn a_client_is_found_with_and_without_its_port_and_a_user_by_each_of_its_names() {
    let mut record = bridge_core::testing::a_record().path("/a").build();
    let mut selects = |client: Option<&str>, user: Option<&str>, selection: Selection| {
        let mut txn = TXN;
        txn.client = client.map(Arc::from);
        txn.user = user.map(Arc::from);
        record.txn = Some(Box::new(txn));
        let is_selected = selection.selects(&record);
        record.txn = None;
        assert!(!selection.selects(&record), "of no known writer: {selection:?}");
        is_selected
    };
    let mut of_client = |known: &str, wanted: &str| {
        let selection = Selection {
            client: Some(wanted.to_owned()),
            ..Selection::default()
        };
        assert!(!selects(None, Some(wanted), selection.clone()), "{wanted}");
        selects(Some(known), None, selection)
    };
    for (known, wanted, expected) in [
        ("10.0.0.5:41804", "10.0.0.5", true),
        ("10.0.0.5:41804", "10.0.0.5:41804", true),
        ("10.0.0.5:41804", "10.0.0.5:4180", false),
        ("10.0.0.5:41804", "10.0.0", false),
        ("10.0.0.51:41804", "10.0.0.5", false),
        ("10.0.0.5:41804", "41804", false),
        ("[0:0:0:0:0:0:0:1]:7", "::1", true),
        ("0:0:0:0:0:0:0:1:7", "[::1]", true),
        ("[fe80::1%2]:7", "fe80::1%2", true),
        ("[fe80::1%2]:7", "fe80::1", false),
    ] {
        assert_eq!(of_client(known, wanted), expected, "{known} {wanted}");
    }
    let mut of_user = |known: &str, wanted: &str| {
        let selection = Selection {
            user: Some(wanted.to_owned()),
            ..Selection::default()
        };
        assert!(!selects(Some(wanted), None, selection.clone()), "{wanted}");
        selects(None, Some(known), selection)
    };
    for (known, wanted, expected) in [
        ("alice", "alice", true),
        ("127.0.0.1,alice", "alice", true),
        ("127.0.0.1,alice", "127.0.0.1", true),
        ("127.0.0.1,alice", "127.0.0.1,alice", true),
        ("127.0.0.1,alice", "alic", false),
        ("127.0.0.1,malice", "alice", false),
        ("127.0.0.1,CN=alice,OU=ops", "CN=alice,OU=ops", true),
        ("127.0.0.1,CN=alice,OU=ops", "CN=alice", true),
    ] {
        assert_eq!(of_user(known, wanted), expected, "{known} {wanted}");
    }
}

/// A journal with `/a`, whose root is listed and reported up to a zxid.
fn listed_until(reported: u64) -> Scratch {
    use bridge_core::image_txn::{ImageTxn, Progress};
    let mut scratch = Scratch::with([created("/a", 1, "1")]);
    let progress = Progress {
        reported: Zxid(reported),
        listed: true,
        run: None,
    };
    scratch
        .journal
        .set_progress(&ZnodePath::slash(), &progress)
        .unwrap();
    scratch
}

#[test]
fn while_the_watch_is_down_the_last_values_are_not_certain() {
    use bridge_core::journal::JournalWriter;
    let mut scratch = listed_until(4);
    scratch.journal.commit().unwrap();
    let value = |scratch: &Scratch, position| {
        let node = scratch.query().node(&path("/a"), position, NOW).unwrap();
        node.unwrap().then
    };
    assert!(value(&scratch, None).certain);
    scratch.append([gap(4)]);
    for position in [None, Some(Position::Time(NOW))] {
        let value = value(&scratch, position);
        assert_eq!((value.exists, value.certainty), (Some(true), Certainty::Gap));
        assert!(
            matches!(value.doubts[0], Doubt::InGap { begin: Seq(2), .. }),
            "{value:?}"
        );
    }
    assert!(
        value(&scratch, Some(Position::Seq(Seq(1)))).certain,
        "before the gap"
    );
    let moment = scratch.query().moment(None, NOW).unwrap();
    assert_eq!((moment.certain, moment.certainty), (false, Certainty::Gap));
    let question = RangeQuestion {
        from: None,
        to: None,
        cursor: None,
        limit: 9,
    };
    let gaps = scratch.query().gaps_between(&question, NOW).unwrap();
    assert_eq!((gaps.items.len(), gaps.items[0].end), (1, None));
}

#[test]
fn a_journal_with_more_gaps_than_are_looked_at_is_not_certain_that_there_is_none() {
    let mut scratch = listed_until(4);
    scratch.append((1..=700).map(gap));
    let query = scratch.query();
    let value = query.node(&path("/a"), None, NOW).unwrap().unwrap().then;
    assert_eq!((value.certain, value.certainty), (false, Certainty::Gap));
    let moment = query.moment(None, NOW).unwrap();
    assert_eq!((moment.certain, moment.certainty), (false, Certainty::Gap));
}

#[test]
fn an_empty_journal_is_certain_of_nothing() {
    let moment = Scratch::new().query().moment(None, NOW).unwrap();
    assert_eq!(
        (moment.certain, moment.doubts),
        (false, vec![Doubt::EmptyJournal])
    );
}

#[test]
fn a_position_is_found_in_a_long_journal_as_a_scan_finds_it() {
    let mut scratch = Scratch::with([created("/a", 1, "1"), created("/b", 2, "2")]);
    // The zxids of some records are lower than those before them, as those of listings are.
    scratch.append((3..=20_000).map(|at| match at % 7 {
        0 => updated("/b", 2, 10 + at / 2, "x"),
        _ => updated("/a", 1, 10 + at, "x"),
    }));
    let check = |query: &JournalQuery| {
        for number in [
            0, 1, 9, 8_191, 8_192, 8_193, 12_345, 16_384, 20_009, 20_010, 20_011,
        ] {
            for position in [at(number), Position::Time(Timestamp(time_of(number)))] {
                let scanned = query.reader().unwrap().first_at(position).unwrap();
                for _ in 0..2 {
                    assert_eq!(query.cut(position).unwrap().first, scanned, "{position:?}");
                }
            }
        }
    };
    let query = scratch.query();
    check(&query);
    // As a journal of which an older format has written the first part, and one of an older format.
    for sql in ["DELETE FROM stretch WHERE last < 10000", "DELETE FROM stretch"] {
        scratch.execute(sql);
        check(&scratch.query());
    }
    let last = query.cut(at(30_000)).unwrap();
    assert_eq!((last.first, last.seq), (None, Seq(20_000)));
    scratch.append([updated("/a", 1, 30_001, "later")]);
    assert_eq!(query.cut(at(30_000)).unwrap().first, Some(Seq(20_001)));
}

#[test]
fn a_path_with_many_records_is_answered_from_a_place_near_the_moment() {
    // `/busy` has most of the records, `/calm` a few at the beginning and at the end, `/late` many at the end.
    let mut scratch = Scratch::with([
        created("/busy", 1, "v1"),
        created("/calm", 2, "v2"),
        created("/late", 3, "v3"),
    ]);
    scratch.append((4..=3_000).map(|zxid| {
        let (at, czxid) = match zxid {
            ..10 | 2_990.. => ("/calm", 2),
            2_500..2_990 if zxid % 2 == 0 => ("/late", 3),
            _ => ("/busy", 1),
        };
        updated(at, czxid, zxid, &format!("v{zxid}"))
    }));
    let query = scratch.query();
    for (at, own) in [
        (
            "/busy",
            (10..2_990)
                .filter(|zxid| *zxid < 2_500 || zxid % 2 == 1)
                .collect::<Vec<u64>>(),
        ),
        ("/calm", (4..10).chain(2_990..=3_000).collect()),
        ("/late", (2_500..2_990).step_by(2).collect()),
    ] {
        for moment in (4..3_000).step_by(37) {
            let last = own.iter().rfind(|zxid| **zxid <= moment);
            let first = match at {
                "/busy" => 1,
                "/calm" => 2,
                _ => 3,
            };
            let expected = format!("v{}", last.unwrap_or(&first));
            for position in [Position::Zxid(Zxid(moment)), Position::Seq(Seq(moment))] {
                let node = query.node(&path(at), Some(position), NOW).unwrap().unwrap();
                let data = node.then.data.expect("the value is known");
                assert_eq!(data.bytes.as_ref(), expected.as_bytes(), "{at} {position:?}");
                assert!(node.then.certain, "{at} {position:?}: {:?}", node.then.doubts);
                let page = query.history_between(&path(at), (None, Some(position)), None, 1);
                let newest = page.unwrap().unwrap().versions[0].record.seq.0;
                assert_eq!(newest, *last.unwrap_or(&first), "{at} {position:?}");
            }
        }
    }
}
