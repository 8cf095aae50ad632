//! Subtrees of the image, as a sink that writes the present state reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::{Glob, GlobSetBuilder};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::scratch::{Scratch, append_all, control_record, created, deleted, path, stat, unread, updated};
use crate::append::{Append, RecordKind};
use crate::image_txn::{ImageTxn, Progress};
use crate::journal::{Journal, JournalWriter, Reader};
use crate::number::{Epoch, Seq, Zxid};
use crate::record::GapReason;
use crate::scope::Scope;
use crate::subtree::{Subtree, SubtreeCompleteness, SubtreeError, SubtreeLimit, SubtreeReader};

const LIMIT: SubtreeLimit = SubtreeLimit {
    znodes: 1_000,
    bytes: 1 << 20,
};

/// A journal whose root `/` is listed, with these records.
fn listed(scratch: &Scratch, appends: impl IntoIterator<Item = Append>) -> Journal {
    let mut journal = scratch.open();
    append_all(&mut journal, appends);
    set_listed(&mut journal, true);
    journal
}

fn set_listed(journal: &mut Journal, listed: bool) {
    let progress = Progress {
        reported: Zxid(1),
        listed,
        run: None,
    };
    journal.set_progress(&path("/"), &progress).unwrap();
    journal.commit().unwrap();
}

/// The paths with their texts.
fn texts(subtree: &Subtree) -> Vec<(String, String)> {
    let text = |znode: &crate::subtree::SubtreeZnode| {
        let bytes = znode.data.as_ref().map(|data| data.bytes.to_vec());
        bytes.map_or("?".to_owned(), |bytes| String::from_utf8(bytes).unwrap())
    };
    let znodes = subtree.znodes().iter();
    znodes
        .map(|znode| (znode.path.to_string(), text(znode)))
        .collect()
}

fn subtree(reader: &mut Reader, top: &str) -> Subtree {
    reader.subtree(&path(top), LIMIT).unwrap()
}

fn a_tree() -> Vec<Append> {
    vec![
        created("/a", 1, "top"),
        created("/a/b", 2, "1"),
        created("/a/b/c", 3, "2"),
        created("/a/b.c", 4, "3"),
        created("/a/gone", 5, "4"),
        unread("/a/unread", 6),
        created("/ab", 7, "5"),
        updated("/a/b", 2, 8, 1, "6"),
        deleted("/a/gone", 9),
    ]
}

#[test]
fn a_subtree_has_every_existing_znode_once_each_before_those_below_it() {
    let scratch = Scratch::new();
    let journal = listed(&scratch, a_tree());
    let mut reader = scratch.reader();
    let found = subtree(&mut reader, "/a");
    let expected = [
        ("/a", "top"),
        ("/a/b", "6"),
        ("/a/b/c", "2"),
        ("/a/b.c", "3"),
        ("/a/unread", "?"),
    ];
    assert_eq!(
        texts(&found),
        expected.map(|(path, text)| (path.to_owned(), text.to_owned()))
    );
    assert_eq!((found.at, &*found.cluster), (journal.tail(), "main"));
    assert_eq!(found.completeness, SubtreeCompleteness::Complete);
    let stats = found
        .znodes()
        .iter()
        .map(|znode| znode.stat.map(|stat| stat.version));
    assert_eq!(
        stats.collect::<Vec<_>>(),
        [Some(0), Some(1), Some(0), Some(0), None]
    );
    assert_eq!(found.znodes()[0].stat.unwrap().czxid, stat(1, 1, 0).czxid);
    assert_eq!(texts(&subtree(&mut reader, "/a/gone")), []);
    assert_eq!(texts(&subtree(&mut reader, "/never")), []);
    reader.slice_finely();
    assert_eq!(subtree(&mut reader, "/a"), found, "one row for each transaction");
}

#[test]
fn a_subtree_that_is_not_watched_or_excluded_is_left_out() {
    let scratch = Scratch::new();
    let _journal = listed(&scratch, a_tree());
    let mut reader = scratch.reader();
    let scope = |roots: &[&str], exclude: &str| {
        let mut globs = GlobSetBuilder::new();
        globs.add(Glob::new(exclude).unwrap());
        let roots = roots.iter().map(|root| path(root)).collect();
        Arc::new(Scope::new(roots, globs.build().unwrap()))
    };
    reader.set_scope(scope(&["/"], "/a/b"));
    let paths: Vec<String> = texts(&subtree(&mut reader, "/a"))
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(paths, ["/a", "/a/b.c", "/a/unread"]);
    assert_eq!(texts(&subtree(&mut reader, "/a/b")), []);
    reader.set_scope(scope(&["/other"], "/x"));
    let found = subtree(&mut reader, "/a");
    assert_eq!(found.completeness, SubtreeCompleteness::NotWatched);
    assert_eq!(texts(&found), []);
}

#[test]
fn a_listing_and_a_gap_are_seen_until_they_end() {
    let scratch = Scratch::new();
    let mut journal = listed(&scratch, a_tree());
    let mut reader = scratch.reader();
    let mut check = |expected: SubtreeCompleteness| {
        assert_eq!(subtree(&mut reader, "/a").completeness, expected);
    };
    let (epoch, from_zxid, reason) = (Epoch(2), Zxid(9), GapReason::Disconnected);
    let begin = || RecordKind::GapBegin {
        epoch,
        from_zxid,
        reason,
    };
    let end = RecordKind::GapEnd {
        epoch,
        from_zxid,
        to_zxid: Zxid(12),
        reason,
        differences: 0,
    };
    check(SubtreeCompleteness::Complete);
    let first = append_all(&mut journal, [control_record(Some("/"), begin())]);
    let in_gap = |begin: Seq| SubtreeCompleteness::InGap {
        root: path("/"),
        begin,
    };
    check(in_gap(first));
    append_all(&mut journal, [created("/a/found", 10, "x")]);
    check(in_gap(first));
    let again = append_all(&mut journal, [control_record(Some("/"), begin())]);
    check(in_gap(again));
    append_all(&mut journal, [control_record(Some("/"), end)]);
    check(SubtreeCompleteness::Complete);
    append_all(&mut journal, [control_record(Some("/other"), begin())]);
    check(SubtreeCompleteness::Complete);
    set_listed(&mut journal, false);
    check(SubtreeCompleteness::Listing { root: path("/") });
}

#[test]
fn a_subtree_that_is_too_large_is_refused_with_the_limit() {
    let scratch = Scratch::new();
    let _journal = listed(&scratch, a_tree());
    let mut reader = scratch.reader();
    let mut check = |znodes, bytes, expected: Option<&str>| {
        let read = reader.subtree(&path("/a"), SubtreeLimit { znodes, bytes });
        let refused = read.err().map(|error| match error {
            SubtreeError::TooLarge { .. } => error.to_string(),
            SubtreeError::Journal(error) => panic!("{error}"),
        });
        assert_eq!(refused.as_deref(), expected);
    };
    check(5, 6, None);
    check(4, 6, Some("/a has more than 4 znodes at and below it"));
    check(5, 5, Some("/a has more than 5 bytes of data at and below it"));
}

#[test]
fn the_subtree_of_any_history_is_the_fold_of_its_records() {
    let seed = std::env::var("ZKBRIDGE_SEED").map_or(17, |seed| seed.parse().unwrap());
    println!("ZKBRIDGE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let scratch = Scratch::new();
    let mut journal = listed(&scratch, [created("/a", 1, "top")]);
    let mut reader = scratch.reader();
    let mut model: BTreeMap<String, (u64, i32, String)> = BTreeMap::new();
    for zxid in 2..400_u64 {
        let name = format!("/a/{}", random.random_range(0..12));
        let text = format!("v{zxid}");
        let append = match model.get(&name).cloned() {
            Some(_) if random.random_range(0..3) == 0 => {
                model.remove(&name);
                deleted(&name, zxid)
            }
            Some((czxid, version, _)) => {
                model.insert(name.clone(), (czxid, version + 1, text.clone()));
                updated(&name, czxid, zxid, version + 1, &text)
            }
            None => {
                model.insert(name.clone(), (zxid, 0, text.clone()));
                created(&name, zxid, &text)
            }
        };
        append_all(&mut journal, [append]);
        if random.random_range(0..4) == 0 {
            let found: BTreeMap<String, String> =
                texts(&subtree(&mut reader, "/a")).into_iter().skip(1).collect();
            let expected: BTreeMap<String, String> = model
                .iter()
                .map(|(path, (_, _, text))| (path.clone(), text.clone()))
                .collect();
            assert_eq!(found, expected, "seed {seed}, zxid {zxid}");
        }
    }
}
