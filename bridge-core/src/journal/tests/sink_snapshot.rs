//! The present state as it is delivered to one sink.

use uuid::Uuid;

use super::scratch::{Advance, path};
use crate::amount::{Horizon, Span};
use crate::append::{Append, Change, ChangeKind, DeletedAt, Read, RecordKind};
use crate::image_txn::ImageTxn;
use crate::journal::{
    Journal, JournalOptions, JournalWriter, ReadLimit, Reader, RunStep, SinkProgress, SinkRun, SinkState,
};
use crate::number::{Seq, Zxid};
use crate::record::{Data, DataForm, Fidelity, Op, Record, Stat, Timestamp};
use crate::scope::Scope;

const DAY_MS: i64 = 86_400_000;

fn change(root: &str, at: &str, kind: ChangeKind) -> Append {
    Append {
        root: Some(path(root)),
        captured: Timestamp(0),
        kind: RecordKind::Change(Change {
            path: path(at),
            kind,
            fidelity: Fidelity::Exact,
            missed: Some(0),
            superseded: Vec::new(),
            txn: None,
            facts: None,
        }),
    }
}

fn stat(czxid: u64, mzxid: u64, version: i32) -> Stat {
    Stat {
        czxid: Zxid(czxid),
        mzxid: Zxid(mzxid),
        version,
        ..Stat::default()
    }
}

fn read(stat: Stat, text: &str) -> Read {
    let data = Some(Data::limited(text.as_bytes(), DataForm::Auto, 99));
    Read { stat, data }
}

fn created(root: &str, at: &str, zxid: u64, text: &str) -> Append {
    let read = read(stat(zxid, zxid, 0), text);
    change(root, at, ChangeKind::Created { read })
}

/// `/a` with 40 children, one of them with a child, one gone and one never read; `/b` with nothing below.
fn a_tree(journal: &mut Journal) {
    journal.append(created("/a", "/a", 10, "top")).unwrap();
    for child in 0..40 {
        let name = format!("/a/n{child:02}");
        journal
            .append(created("/a", &name, 100 + child, &format!("v{child}")))
            .unwrap();
    }
    let at = DeletedAt::Exact(Zxid(901));
    let unread = ChangeKind::CreatedUnread {
        czxid: Zxid(902),
        ephemeral: None,
        ctime: None,
    };
    for entry in [
        created("/a", "/a/n07/below", 900, "deep"),
        change("/a", "/a/n01", ChangeKind::Deleted { at }),
        change("/a", "/a/unread", unread),
        created("/b", "/b", 903, "other"),
    ] {
        journal.append(entry).unwrap();
    }
    journal.register_sink("one", Seq::ZERO).unwrap();
    journal.commit().unwrap();
}

fn open(folder: &std::path::Path) -> Journal {
    let mut options = JournalOptions::new("main");
    options.retention = Horizon::For(Span::secs(86_400));
    Journal::open(&folder.join("main.journal"), &options).unwrap()
}

fn a_run(path: Option<&str>, at: Seq) -> SinkRun {
    let path = path.map(super::scratch::path);
    let mut run = SinkRun::new(Uuid::from_u128(7), path, Timestamp(5));
    run.at = Some(at);
    run
}

/// All records of a run, with some changes of the journal before each page.
fn delivered(folder: &std::path::Path, run: SinkRun, meanwhile: impl FnMut(usize)) -> Vec<Record> {
    read_out(
        Reader::open(&folder.join("main.journal")).unwrap(),
        run,
        meanwhile,
    )
}

fn read_out(mut reader: Reader, run: SinkRun, mut meanwhile: impl FnMut(usize)) -> Vec<Record> {
    let limit = ReadLimit {
        records: 7,
        bytes: usize::MAX,
    };
    let (mut next, mut all) = (Some(run), Vec::new());
    for page in 0.. {
        let Some(run) = next else { break };
        assert!(page < 100, "no end");
        meanwhile(page);
        let page = reader.snapshot_page(&run, limit).unwrap();
        let seqs: std::collections::HashSet<Seq> = page.records.iter().map(|record| record.seq).collect();
        assert_eq!(seqs.len(), page.records.len(), "a page names each seq once");
        all.extend(page.records.iter().map(|record| (**record).clone()));
        // As it comes back from the journal after a crash.
        next = page
            .next
            .map(|run| serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap());
    }
    all
}

fn paths(records: &[Record]) -> Vec<&str> {
    let snapshots = records.iter().filter(|record| record.op == Op::Snapshot);
    snapshots.map(|record| record.path.as_deref().unwrap()).collect()
}

fn text(record: &Record) -> &str {
    let data = record.after.as_ref().unwrap().data.as_ref().unwrap();
    std::str::from_utf8(&data.bytes).unwrap()
}

#[test]
fn every_existing_znode_is_delivered_once_parents_first_with_the_seq_of_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    a_tree(&mut journal);
    let tail = journal.tail();

    let records = delivered(folder.path(), a_run(None, tail), |_| {});
    let mut split = Reader::open(&folder.path().join("main.journal")).unwrap();
    split.slice_finely();
    assert_eq!(
        read_out(split, a_run(None, tail), |_| {}),
        records,
        "in many transactions"
    );

    let ops: Vec<Op> = records
        .iter()
        .map(|record| record.op)
        .filter(|op| op.is_control())
        .collect();
    let (begin, end) = (Op::SnapshotBegin, Op::SnapshotEnd);
    assert_eq!(ops, [begin, end, begin, end]);
    let mut expected = vec!["/a".to_owned()];
    for child in (0..40).filter(|child| *child != 1) {
        expected.push(format!("/a/n{child:02}"));
        expected.extend((child == 7).then(|| "/a/n07/below".to_owned()));
    }
    expected.push("/b".into());
    assert_eq!(paths(&records), expected);
    let indexes: Vec<u64> = records[..43]
        .iter()
        .map(|one| one.run.as_ref().unwrap().index)
        .collect();
    assert_eq!(indexes, (0..43).collect::<Vec<_>>());
    let end = &records[42];
    assert_eq!((end.seq, end.zxid), (tail, Some(Zxid(900))));
    assert_eq!(end.run.as_ref().unwrap().nodes, Some(41));
    for record in records.iter().filter(|record| record.op == Op::Snapshot) {
        let original = Reader::open(&folder.path().join("main.journal"))
            .unwrap()
            .recall(&[record.seq])
            .unwrap();
        assert_eq!(original[0].path, record.path);
        assert_eq!(original[0].after, record.after);
    }
}

#[test]
fn a_part_of_the_tree_is_delivered_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    a_tree(&mut journal);
    let tail = journal.tail();
    let check = |top: &str, expected: &[&str], marks: usize| {
        let records = delivered(folder.path(), a_run(Some(top), tail), |_| {});
        assert_eq!(paths(&records), expected, "{top}");
        assert_eq!(records.len() - expected.len(), marks, "{top}");
    };
    check("/a/n07", &["/a/n07", "/a/n07/below"], 2);
    check("/b", &["/b"], 2);
    check("/a/none", &[], 2);
    check("/elsewhere", &[], 0);
}

#[test]
fn a_znode_written_meanwhile_is_left_to_its_own_record_and_no_other_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    a_tree(&mut journal);
    let tail = journal.tail();

    let records = delivered(folder.path(), a_run(Some("/a"), tail), |page| {
        if page != 2 {
            return;
        }
        let newer = read(stat(130, 950, 1), "newer");
        let mut with_acl = stat(131, 131, 0);
        with_acl.aversion = 1;
        let acl = ChangeKind::AclChanged {
            zxid: None,
            stat: with_acl,
            acl: None,
        };
        let at = DeletedAt::Exact(Zxid(951));
        for entry in [
            change("/a", "/a/n30", ChangeKind::Updated { read: newer }),
            change("/a", "/a/n31", acl),
            change("/a", "/a/n32", ChangeKind::Deleted { at }),
            created("/a", "/a/n32", 952, "born again"),
            created("/a", "/a/n33/new", 953, "new"),
            // Those that the pages before have come to.
            change(
                "/a",
                "/a/n05",
                ChangeKind::Deleted {
                    at: DeletedAt::Exact(Zxid(954)),
                },
            ),
        ] {
            journal.append(entry).unwrap();
        }
        journal.commit().unwrap();
    });

    let delivered = paths(&records);
    for left_out in ["/a/n30", "/a/n32", "/a/n33/new"] {
        assert!(!delivered.contains(&left_out), "{left_out}");
    }
    let acl = records
        .iter()
        .find(|record| record.path.as_deref() == Some("/a/n31"))
        .unwrap();
    assert_eq!(
        (text(acl), acl.seq),
        ("v31", Seq(33)),
        "its value is delivered, as no other record does"
    );
    assert!(records.iter().all(|record| record.seq <= tail));
    assert!(delivered.contains(&"/a/n39"));
}

#[test]
fn a_state_whose_record_retention_has_removed_is_delivered_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    a_tree(&mut journal);
    let tail = journal.tail();
    let moved = SinkProgress {
        sink: "one".into(),
        to: tail,
        ..SinkProgress::default()
    };
    journal.advance(&moved).unwrap();
    journal.commit().unwrap();
    let removed = journal.maintain(Timestamp(2 * DAY_MS), 10_000).unwrap();
    assert!(removed.removed > 40, "{removed:?}");

    let records = delivered(folder.path(), a_run(None, tail), |_| {});

    assert_eq!(paths(&records).len(), 42);
    assert_eq!(text(&records[1]), "top");
}

#[test]
fn a_run_stays_with_its_sink_until_it_is_delivered_or_the_sink_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    a_tree(&mut journal);
    let run = a_run(Some("/a"), Seq(3));
    let noted = |journal: &mut Journal, step| {
        let progress = SinkProgress {
            sink: "one".into(),
            run: Some(step),
            ..SinkProgress::default()
        };
        journal.advance(&progress).unwrap();
        journal.commit().unwrap();
        let mut reader = Reader::open(&folder.path().join("main.journal")).unwrap();
        (reader.run("one").unwrap(), reader.run("two").unwrap())
    };
    let at = || RunStep::At(Box::new(run.clone()));
    assert_eq!(noted(&mut journal, at()), (Some(run.clone()), None));
    assert_eq!(noted(&mut journal, RunStep::Delivered(run.id)), (None, None));
    let mut reader = Reader::open(&folder.path().join("main.journal")).unwrap();
    assert!(reader.knows_run("one", run.id).unwrap());
    assert!(!reader.knows_run("two", run.id).unwrap());
    noted(&mut journal, at());
    journal.remove_sink("one").unwrap();
    journal.commit().unwrap();
    let mut reader = Reader::open(&folder.path().join("main.journal")).unwrap();
    assert_eq!(reader.run("one").unwrap(), None);
}

/// The run of a source that watches these roots today, without what these globs match.
fn delivered_within(folder: &std::path::Path, roots: &[&str], exclude: &[&str], run: SinkRun) -> Vec<Record> {
    let mut globs = globset::GlobSetBuilder::new();
    for glob in exclude {
        globs.add(globset::Glob::new(glob).unwrap());
    }
    let roots = roots.iter().map(|root| super::scratch::path(root)).collect();
    let mut reader = Reader::open(&folder.join("main.journal")).unwrap();
    reader.set_scope(Scope::new(roots, globs.build().unwrap()).into());
    read_out(reader, run, |_| {})
}

/// The roots and numbers of znodes that the ends of the runs name.
fn ends(records: &[Record]) -> Vec<(&str, u64)> {
    let ends = records.iter().filter(|record| record.op == Op::SnapshotEnd);
    ends.map(|end| {
        let nodes = end.run.as_ref().unwrap().nodes.unwrap();
        (end.root.as_deref().unwrap(), nodes)
    })
    .collect()
}

#[test]
fn a_root_that_is_no_longer_watched_is_part_of_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    a_tree(&mut journal);
    let run = a_run(None, journal.tail());

    let records = delivered_within(folder.path(), &["/b"], &[], run.clone());

    assert_eq!(paths(&records), ["/b"]);
    assert_eq!(ends(&records), [("/b", 1)]);
    let records = delivered_within(folder.path(), &["/a/n07", "/new"], &[], run);
    assert_eq!(
        paths(&records),
        ["/a/n07", "/a/n07/below"],
        "a root that was narrowed"
    );
    assert_eq!(
        ends(&records),
        [("/a/n07", 2)],
        "the first walk of a new root delivers it"
    );
}

#[test]
fn a_subtree_that_is_excluded_by_now_is_part_of_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    a_tree(&mut journal);
    let tail = journal.tail();

    let records = delivered_within(folder.path(), &["/a", "/b"], &["/a/n0*"], a_run(None, tail));

    let mut expected = vec!["/a".to_owned()];
    expected.extend((10..40).map(|child| format!("/a/n{child}")));
    expected.push("/b".into());
    assert_eq!(paths(&records), expected);
    assert_eq!(ends(&records), [("/a", 31), ("/b", 1)]);
    let below = delivered_within(
        folder.path(),
        &["/a", "/b"],
        &["/a/n07"],
        a_run(Some("/a/n07/below"), tail),
    );
    assert_eq!((paths(&below), ends(&below)), (vec![], vec![("/a", 0)]));
}

#[test]
fn a_run_that_was_cut_goes_on_within_what_is_watched_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    a_tree(&mut journal);
    let limit = ReadLimit {
        records: 7,
        bytes: usize::MAX,
    };
    let mut reader = Reader::open(&folder.path().join("main.journal")).unwrap();
    let mut run = a_run(None, journal.tail());
    for _ in 0..3 {
        run = reader.snapshot_page(&run, limit).unwrap().next.unwrap();
    }
    assert!(
        run.last().is_some_and(|last| last.starts_with("/a/n")),
        "it is inside /a"
    );

    let records = delivered_within(folder.path(), &["/b"], &[], run.clone());
    assert_eq!((paths(&records), ends(&records)), (vec!["/b"], vec![("/b", 1)]));
    let rest = delivered_within(folder.path(), &["/a"], &["/a/n[0-2]*"], run);
    assert!(
        paths(&rest).iter().all(|path| path.starts_with("/a/n3")),
        "{:?}",
        paths(&rest)
    );
}

#[test]
fn a_count_of_living_znodes_is_the_number_of_snapshots_however_it_is_split() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    a_tree(&mut journal);
    let mut reader = Reader::open(&folder.path().join("main.journal")).unwrap();
    let count = reader.count_living().unwrap();
    reader.slice_finely();
    assert_eq!(
        (count, reader.count_living().unwrap()),
        (42, 42),
        "without one that is gone and one that was never read"
    );
}
