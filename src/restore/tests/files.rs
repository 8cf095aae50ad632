//! Files that are cut, changed, foreign or hostile.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bridge_core::number::Zxid;
use bridge_core::record::Lifetime;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::restore::operation::PlannedData;
use crate::restore::plan_file::{Anchor, OperationState, PlanFile, PlanHeader, RestorePlan};
use crate::restore::plan_reader::PlanLines;

fn create(at: &str, text: &str) -> Operation {
    Operation::Create {
        path: path(at),
        data: PlannedData(text.as_bytes().into()),
        acl: open_list(),
        lifetime: Lifetime::PERSISTENT,
    }
}

fn set(at: &str, version: i32) -> Operation {
    Operation::Set {
        path: path(at),
        data: PlannedData(b"value".as_slice().into()),
        version,
        czxid: Zxid(7),
    }
}

fn delete(at: &str) -> Operation {
    Operation::Delete {
        path: path(at),
        version: 0,
        czxid: Zxid(7),
    }
}

fn plan(operations: Vec<Operation>) -> RestorePlan {
    let top = path("/t");
    let (at, made) = ("1842".to_owned(), "2026-11-30T08:00:00Z".to_owned());
    let accepted = vec!["gap".to_owned()];
    let header = PlanHeader::new(
        "main".to_owned(),
        (&top, &top),
        at,
        true,
        accepted,
        made,
        Vec::new(),
    );
    RestorePlan { header, operations }
}

fn saved(plan: &RestorePlan) -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.plan");
    plan.save(&file).unwrap();
    (home, file)
}

fn refused(file: &Path) -> String {
    PlanFile::open(file).map(|_| ()).unwrap_err().to_string()
}

fn good() -> RestorePlan {
    plan(vec![
        create("/t/a", "secret"),
        create("/t/a/x", ""),
        set("/t/b", 3),
        delete("/t/c"),
    ])
}

#[test]
fn a_plan_is_read_as_it_was_written_with_its_progress() {
    let (_home, file) = saved(&good());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let mut opened = PlanFile::open(&file).unwrap();
    assert_eq!(opened.plan, good());
    opened.note_done(&[0, 2]).unwrap();
    opened.note_skipped(3, "it was written").unwrap();
    drop(opened);
    let states = PlanFile::open(&file).unwrap().states;
    let skipped = OperationState::Skipped("it was written".to_owned());
    assert_eq!(
        states,
        [
            OperationState::Done,
            OperationState::Open,
            OperationState::Done,
            skipped
        ]
    );
}

#[test]
fn a_file_that_exists_is_never_overwritten_and_one_in_use_is_not_applied_twice() {
    let (_home, file) = saved(&good());
    let error = good().save(&file).unwrap_err().to_string();
    assert!(error.contains("it exists already"), "{error}");
    let _applied = PlanFile::open(&file).unwrap();
    assert!(refused(&file).contains("another process applies it"));
}

#[test]
fn a_plan_that_is_cut_anywhere_is_refused_and_progress_that_is_cut_is_done_again() {
    let (_home, file) = saved(&good());
    let whole = fs::read(&file).unwrap();
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let error = refused(&file);
        assert!(error.contains("help:"), "{length}: {error}");
    }
    let line = b"{\"done\":[0,1]}\n";
    for length in 0..=line.len() {
        fs::write(&file, [&whole, &line[..length]].concat()).unwrap();
        let mut opened = PlanFile::open(&file).unwrap();
        let is_done = opened.states[1] == OperationState::Done;
        assert_eq!(is_done, length == line.len());
        opened.note_done(&[2]).unwrap();
        drop(opened);
        let states = PlanFile::open(&file).unwrap().states;
        assert_eq!(
            (&states[2], states[1] == OperationState::Done),
            (&OperationState::Done, is_done)
        );
    }
}

#[test]
fn a_plan_of_which_any_byte_is_changed_is_refused_without_a_panic_or_a_value() {
    let (_home, file) = saved(&good());
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= [0x01, 0x10, 0x80][at % 3];
        fs::write(&file, &changed).unwrap();
        let error = refused(&file);
        // "secret" as base64.
        assert!(!error.contains("c2VjcmV0"), "{at}: {error}");
    }
}

#[test]
fn foreign_files_and_other_versions_are_refused_by_name() {
    let (_home, file) = saved(&good());
    let check = |content: &[u8], expected: &str| {
        fs::write(&file, content).unwrap();
        let error = refused(&file);
        assert!(error.contains(expected), "{error}");
    };
    check(b"", "its first line is not that of a plan");
    check(b"\x00\xff\n", "its first line is not that of a plan");
    check(
        b"{\"schema\":\"zkbridge.change/1\"}\n",
        "its first line is not that of a plan",
    );
    check(
        b"{\"zkbridge_plan\":2}\n",
        "it has format 2, and this version of zkbridge reads format 1",
    );
    check(b"{\"zkbridge_plan\":1}\n", "line 1 has a field that no plan");
    check(&vec![b'x'; 17 << 20], "line 1 is longer than");
    fs::remove_file(&file).unwrap();
    assert!(refused(&file).contains("cannot be opened"));
    fs::create_dir(&file).unwrap();
    assert!(refused(&file).contains("cannot be opened"));
}

/// A file with a right digest and operations that no plan has.
fn forged(home: &Path, plan: &RestorePlan, progress: &str) -> PathBuf {
    let file = home.join("forged.plan");
    let mut lines = serde_json::to_string(&plan.header).unwrap() + "\n";
    for operation in &plan.operations {
        lines.push_str(&(serde_json::to_string(operation).unwrap() + "\n"));
    }
    let digest = Sha256::digest(lines.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let count = plan.operations.len();
    lines.push_str(&format!(
        "{{\"end\":{{\"operations\":{count},\"sha256\":\"{digest}\"}}}}\n{progress}"
    ));
    fs::write(&file, lines).unwrap();
    file
}

#[test]
fn operations_that_no_plan_has_are_refused_even_with_a_right_digest() {
    let home = tempfile::tempdir().unwrap();
    let check = |plan: &RestorePlan, progress: &str, expected: &str| {
        let error = refused(&forged(home.path(), plan, progress));
        assert!(error.contains(expected), "{error}");
    };
    // The control.
    assert!(PlanFile::open(&forged(home.path(), &good(), "")).is_ok());
    let of = |operations| plan(operations);
    check(&of(vec![create("/other", "")]), "", "is not below '/t'");
    check(
        &of(vec![set("/t/a", 1), delete("/t/a")]),
        "",
        "are both of '/t/a'",
    );
    check(&of(vec![set("/t/a", -1)]), "", "version -1");
    check(
        &of(vec![create("/t/a/x", ""), create("/t/a", "")]),
        "",
        "cannot be carried out",
    );
    check(
        &of(vec![delete("/t/a"), delete("/t/a/x")]),
        "",
        "cannot be carried out",
    );
    check(
        &of(vec![delete("/t/a"), create("/t/a/x", "")]),
        "",
        "cannot be carried out",
    );
    let mut own = of(vec![]);
    own.header.to = path("/zookeeper/quota");
    check(&own, "", "is never written to");
    own.header.to = ZnodePath::slash();
    check(&own, "", "is never written to");
    let anchored = |paths: &[&str]| {
        let mut plan = of(vec![]);
        let anchor = |at: &&str| Anchor {
            path: path(at),
            czxid: Zxid(7),
        };
        plan.header.anchors = paths.iter().map(anchor).collect();
        plan
    };
    assert!(PlanFile::open(&forged(home.path(), &anchored(&["/t"]), "")).is_ok());
    // Each anchor is read, so that a list of any length would keep the servers busy.
    check(&anchored(&["/t", "/t"]), "", "is an anchor twice");
    check(&anchored(&["/t/a"]), "", "is not above '/t'");
    check(&anchored(&["/"]), "", "is not above '/t'");
    let mut long = of(vec![]);
    long.header.source = "x".repeat(2_000);
    check(&long, "", "has 2000 bytes");
    let mut masked = create("/t/a", "");
    if let Operation::Create { acl, .. } = &mut masked {
        (acl[0].scheme, acl[0].id) = ("digest".to_owned(), "user:x".to_owned());
    }
    check(&of(vec![masked]), "", "is masked");
    let mut empty = create("/t/a", "");
    if let Operation::Create { acl, .. } = &mut empty {
        acl.clear();
    }
    check(&of(vec![empty]), "", "0 entries");
    check(&good(), "{\"done\":[4]}\n", "operation 4, which it does not have");
    check(&good(), "{\"undone\":[0]}\n", "has a field that no plan");
    check(&good(), &"{\"done\":[0]}\n".repeat(200_001), "lines of progress");
}

#[test]
fn a_plan_with_more_bytes_or_values_than_memory_is_meant_for_is_refused_before_it_is_read() {
    let (_home, file) = saved(&good());
    let read = |plan_bytes, values_bytes| {
        let text = fs::read(&file).unwrap();
        PlanLines::within(text.as_slice(), plan_bytes, values_bytes).plan()
    };
    let values = "secret".len() + "value".len();
    assert_eq!(read(1 << 20, values), Ok(good()));
    for (plan_bytes, values_bytes) in [(1 << 20, values - 1), (100, values)] {
        let refused = read(plan_bytes, values_bytes).unwrap_err();
        assert!(refused.contains("of a smaller subtree"), "{refused}");
    }
}

#[test]
fn no_debug_output_has_a_value() {
    let shown = format!("{:?}", good());
    assert!(!shown.contains("secret") && shown.contains("6 bytes"), "{shown}");
}
