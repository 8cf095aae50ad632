//! Deletes for the znodes of roots that are no longer watched.

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

use super::scratch::{NOON, Scratch, append_all, created, found, path, read, stat};
use crate::amount::Size;
use crate::append::{Append, ChangeKind, RecordKind};
use crate::dropped_roots::delete_dropped_root;
use crate::image_txn::{ImageTxn, Progress};
use crate::journal::{Journal, JournalErrorKind, JournalWriter, SinkState};
use crate::number::{Seq, Zxid};
use crate::record::{Fidelity, GapReason, Op, Record, ZxidKind};

const TREE: [&str; 7] = ["/g", "/g/a", "/g/a/x", "/g/b", "/g/kept", "/g/kept/y", "/h"];

/// A journal with the tree, whose root `/g` is listed.
fn known(scratch: &Scratch) -> Journal {
    let mut journal = scratch.open();
    let entries = TREE
        .iter()
        .enumerate()
        .map(|(at, path)| created(path, at as u64 + 1, "v"));
    append_all(&mut journal, entries);
    let progress = Progress {
        reported: Zxid(9),
        listed: true,
        run: None,
    };
    journal.set_progress(&path("/g"), &progress).unwrap();
    journal.commit().unwrap();
    journal
}

fn after(scratch: &Scratch, seq: u64) -> Vec<Arc<Record>> {
    let records = scratch.records().into_iter();
    records.filter(|record| record.seq > Seq(seq)).collect()
}

#[test]
fn the_znodes_of_a_dropped_root_get_deletes_in_a_gap_children_first_and_those_of_watched_roots_none() {
    let scratch = Scratch::new();
    let mut journal = known(&scratch);
    let watched = [path("/g/kept"), path("/h")];

    assert_eq!(
        delete_dropped_root(&mut journal, &path("/g"), &watched, NOON).unwrap(),
        3
    );

    let records = after(&scratch, TREE.len() as u64);
    let gap = records[0].gap.as_ref().unwrap();
    assert_eq!(
        (records[0].op, gap.reason, gap.from_zxid),
        (Op::GapBegin, GapReason::Unwatched, Zxid(9))
    );
    let deleted: Vec<&str> = records[1..]
        .iter()
        .map(|record| record.path.as_deref().unwrap())
        .collect();
    assert_eq!(deleted, ["/g/a/x", "/g/a", "/g/b"]);
    for record in &records[1..] {
        assert_eq!((record.op, record.fidelity), (Op::Delete, Fidelity::Reconciled));
        assert_eq!((record.zxid, record.zxid_kind), (None, ZxidKind::Unknown));
        assert!(record.before.is_some(), "{record:?}");
    }
    assert!(!journal.progress(&path("/g")).unwrap().listed);
    // The rest is as it was, and a further start finds nothing to do.
    assert!(journal.node(&path("/g/kept/y")).unwrap().is_some());
    assert!(journal.node(&path("/g")).unwrap().is_some());
    let tail = records.len() + TREE.len();
    assert_eq!(
        delete_dropped_root(&mut journal, &path("/g"), &watched, NOON).unwrap(),
        0
    );
    assert_eq!(after(&scratch, tail as u64), []);
    // A root inside of one that is watched is not dropped.
    assert_eq!(
        delete_dropped_root(&mut journal, &path("/h/x"), &watched, NOON).unwrap(),
        0
    );
}

#[test]
fn a_root_that_is_watched_and_dropped_again_has_a_delete_with_an_id_of_its_own() {
    let scratch = Scratch::new();
    let mut journal = known(&scratch);
    delete_dropped_root(&mut journal, &path("/g"), &[], NOON).unwrap();
    let run = Uuid::from_u128(7);
    let of_root = |kind| Append {
        root: Some(path("/g")),
        captured: NOON,
        kind,
    };
    let listed = TREE[..6].iter().zip(1..).map(|(path, index)| {
        let read = read(stat(index, index, 0), "v");
        found(path, ChangeKind::Listed { read, run, index })
    });
    let begin = of_root(RecordKind::RunBegin { run });
    append_all(&mut journal, std::iter::once(begin).chain(listed));
    let run_of = Progress {
        listed: true,
        ..Progress::default()
    };
    journal.set_progress(&path("/g"), &run_of).unwrap();
    journal.commit().unwrap();

    assert_eq!(
        delete_dropped_root(&mut journal, &path("/g"), &[], NOON).unwrap(),
        6
    );

    let records = scratch.records();
    let deletes = records.iter().filter(|record| record.op == Op::Delete);
    let ids: HashSet<Uuid> = deletes.map(|record| record.id).collect();
    assert_eq!(ids.len(), 12);
}

#[test]
fn a_stop_in_the_midst_leaves_the_rest_to_the_next_start() {
    const ZNODES: u64 = 1_203;
    let mut interrupted = 0;
    for room in [32 << 10, 64 << 10, 128 << 10, 256 << 10] {
        let mut scratch = Scratch::new();
        let mut journal = scratch.open();
        journal.register_sink("slow", Seq::ZERO).unwrap();
        let names = (0..ZNODES).map(|at| created(&format!("/g/n{at:04}"), at + 1, "v"));
        append_all(&mut journal, names);
        let listed = Progress {
            listed: true,
            ..Progress::default()
        };
        journal.set_progress(&path("/g"), &listed).unwrap();
        journal.commit().unwrap();
        drop(journal);

        // A journal that is full in the midst, as a process that ends there, keeps whole batches.
        let used = scratch.reader().overview().unwrap().used_bytes;
        let unlimited = std::mem::replace(&mut scratch.options.max_size, Size(used + room));
        let mut journal = scratch.open();
        let stopped = delete_dropped_root(&mut journal, &path("/g"), &[], NOON);
        let done = after(&scratch, ZNODES);
        let done = done.iter().filter(|record| record.op == Op::Delete).count() as u64;
        if let Err(error) = &stopped {
            assert_eq!(error.kind, JournalErrorKind::Full, "{error}");
            assert!(done < ZNODES && done.is_multiple_of(500), "{done}");
            assert!(journal.progress(&path("/g")).unwrap().listed, "it is not done");
            interrupted += u64::from(done > 0);
        }
        drop(journal);

        scratch.options.max_size = unlimited;
        let mut journal = scratch.open();
        let rest = delete_dropped_root(&mut journal, &path("/g"), &[], NOON).unwrap();
        assert_eq!(done + rest, ZNODES);
        let records = after(&scratch, ZNODES);
        let deletes = records.iter().filter(|record| record.op == Op::Delete);
        let paths: HashSet<&str> = deletes.map(|record| record.path.as_deref().unwrap()).collect();
        assert_eq!(paths.len() as u64, ZNODES);
    }
    assert!(interrupted > 0, "no journal was full in the midst");
}
