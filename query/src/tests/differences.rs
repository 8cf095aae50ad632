//! The kinds of differences between two moments.

use bridge_core::append::{Append, ChangeKind, RecordKind};
use bridge_core::journal::Position;
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Timestamp};

use super::scratch::{NOON, Scratch, created, deleted, gap, path, updated};
use crate::QueryError;
use crate::answer::{DiffKind, DiffQuestion};

const NOW: Timestamp = Timestamp(NOON + 1_000_000_000);

/// The same, read when its access control list had been written once, or cut at a limit.
fn with_read(mut entry: Append, change: impl FnOnce(&mut bridge_core::append::Read)) -> Append {
    let RecordKind::Change(record) = &mut entry.kind else {
        unreachable!("it is a change");
    };
    if let ChangeKind::Created { read } | ChangeKind::Updated { read } = &mut record.kind {
        change(read);
    }
    entry
}

fn cut(entry: Append) -> Append {
    with_read(entry, |read| {
        read.data = Some(Data::limited(b"a long value", DataForm::Auto, 3));
    })
}

fn without_digest(entry: Append) -> Append {
    with_read(entry, |read| read.data.as_mut().unwrap().digest = None)
}

fn question<'a>(under: &'a ZnodePath, kinds: &'a [DiffKind]) -> DiffQuestion<'a> {
    DiffQuestion {
        under,
        a: Position::Zxid(Zxid(10)),
        b: None,
        kinds,
        cursor: None,
        limit: 100,
    }
}

#[test]
fn a_write_of_the_data_that_a_znode_had_is_rewritten_and_no_change() {
    let paths = ["/changed", "/cut", "/equal", "/list", "/recreated", "/unknown"];
    let before = (1..).zip(paths).map(|(zxid, at)| {
        let entry = created(at, zxid, "same");
        match at {
            "/cut" => cut(entry),
            "/unknown" => without_digest(cut(entry)),
            _ => entry,
        }
    });
    let scratch = Scratch::with(before.chain([
        updated("/changed", 1, 11, "other"),
        cut(updated("/cut", 2, 12, "")),
        updated("/equal", 3, 13, "between"),
        updated("/equal", 3, 14, "same"),
        with_read(updated("/list", 4, 15, "same"), |read| read.stat.aversion = 1),
        deleted("/recreated", 16),
        created("/recreated", 17, "same"),
        without_digest(cut(updated("/unknown", 6, 18, ""))),
    ]));
    let query = scratch.query();
    let found = |kinds: &[DiffKind]| {
        let list = query.diff(&question(&ZnodePath::slash(), kinds), NOW).unwrap();
        let items = list.items.iter();
        let named = items.map(|item| format!("{} {}", item.path, item.kind.as_str()));
        named.collect::<Vec<_>>()
    };
    let all = [
        "/changed changed",
        // Of a value that is cut the digest decides, and without one it is not known.
        "/cut rewritten",
        "/equal rewritten",
        "/list changed",
        "/recreated recreated",
        "/unknown changed",
    ];
    assert_eq!(found(&[]), all);
    assert_eq!(found(DiffKind::ALL), all);
    assert_eq!(
        found(&[DiffKind::Rewritten]),
        ["/cut rewritten", "/equal rewritten"]
    );
    assert_eq!(
        found(&[DiffKind::Changed, DiffKind::Recreated]),
        [
            "/changed changed",
            "/list changed",
            "/recreated recreated",
            "/unknown changed"
        ]
    );
    assert_eq!(found(&[DiffKind::Created]), [""; 0]);
}

#[test]
fn a_kind_of_difference_leaves_out_none_that_is_not_certain_and_its_cursor_is_of_no_other_kind() {
    let scratch = Scratch::with([
        created("/a", 1, "1"),
        created("/b", 2, "2"),
        gap(12),
        updated("/a", 1, 13, "3"),
        updated("/b", 2, 14, "2"),
    ]);
    let query = scratch.query();
    let top = ZnodePath::slash();
    let ask = DiffQuestion {
        b: Some(Position::Zxid(Zxid(13))),
        ..question(&top, &[DiffKind::Deleted])
    };
    let list = query.diff(&ask, NOW).unwrap();
    let kinds: Vec<_> = list.items.iter().map(|item| item.kind).collect();
    assert!(!kinds.is_empty(), "{list:?}");
    assert!(kinds.iter().all(|kind| *kind == DiffKind::Uncertain), "{kinds:?}");
    assert!(kinds.len() <= 2 && list.items[0].path == path("/a"), "{list:?}");

    let first = query.diff(&DiffQuestion { limit: 1, ..ask }, NOW).unwrap();
    let other = DiffQuestion {
        cursor: first.next.as_deref(),
        ..question(&top, &[DiffKind::Changed])
    };
    assert!(other.cursor.is_some(), "{first:?}");
    assert!(matches!(query.diff(&other, NOW), Err(QueryError::BadCursor(_))));
}
