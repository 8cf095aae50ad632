//! Where an export goes, and what it refuses.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::story::{a_folder, append, created, json_lines, zkbridge};

const FORMATS: [&str; 4] = ["jsonl", "csv", "parquet", "sqlite"];

/// The names in a folder, beside those that are always there.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("a name")
    });
    let mut names: Vec<String> = names
        .filter(|name| name != "data" && name != "zkbridge.toml")
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_for_its_owner_only_and_is_never_overwritten() {
    let (folder, mut journal) = a_folder();
    append(&mut journal, [created("/a", 1, "one")]);
    for format in FORMATS {
        let args = ["journal", "export", "--format", format, "--output", format];
        let (code, out, err) = zkbridge(folder.path(), &args);
        assert_eq!((code, &*err), (0, ""), "{format}");
        assert!(out.starts_with("1 record"), "{out}");
        let file = folder.path().join(format);
        let written = std::fs::read(&file).expect("a file");
        let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{format}");
        let (code, _, err) = zkbridge(folder.path(), &args);
        assert_eq!(code, 3);
        assert!(err.contains("exists already"), "{err}");
        assert_eq!(std::fs::read(&file).expect("a file"), written);
    }
    let mut expected = FORMATS.map(str::to_owned);
    expected.sort();
    assert_eq!(names(folder.path()), expected);
    let missing = ["journal", "export", "--output", "none/out.jsonl"];
    let (code, _, err) = zkbridge(folder.path(), &missing);
    assert_eq!(code, 3);
    assert!(
        err.contains("none/out.jsonl cannot be written") && err.contains("help:"),
        "{err}"
    );
}

#[test]
fn an_export_that_fails_in_the_middle_leaves_no_file() {
    let (folder, mut journal) = a_folder();
    let many = (1..=3_000).map(|zxid| created(&format!("/a{zxid}"), zxid, "text"));
    append(&mut journal, many);
    drop(journal);
    let file = folder.path().join("data/main.journal");
    let connection = rusqlite::Connection::open(file).expect("a journal");
    connection
        .execute_batch("DELETE FROM record WHERE seq = 2500")
        .expect("a record");
    drop(connection);
    for format in FORMATS {
        let args = ["journal", "export", "--format", format, "--output", "out"];
        let (code, out, err) = zkbridge(folder.path(), &args);
        assert!(code != 0 && out.is_empty(), "{format}: {out} {err}");
        assert!(err.contains("main.journal"), "{format}: {err}");
        assert_eq!(names(folder.path()), [""; 0], "{format}");
    }
}

#[test]
fn options_that_do_not_fit_together_are_refused_with_what_to_do() {
    let (folder, mut journal) = a_folder();
    append(&mut journal, [created("/a", 1, "one")]);
    for (args, words) in [
        (&["--format", "sqlite"][..], "standard output"),
        (&["--exact"], "--exact is for csv alone"),
        (
            &["--exact", "--format", "parquet", "--output", "out"],
            "--exact is for csv alone",
        ),
        (&["--format", "xlsx"], "jsonl"),
    ] {
        let (code, _, err) = zkbridge(folder.path(), &[&["journal", "export"], args].concat());
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_range_that_begins_before_the_journal_is_exported_and_printed_with_the_words_of_a_list_of_changes() {
    let (folder, mut journal) = a_folder();
    append(&mut journal, [created("/a", 3, "text")]);
    drop(journal);
    let check = |from: &str, is_said: bool| {
        let (_, changes, _) = zkbridge(folder.path(), &["changes", "--from", from, "--json"]);
        let list: serde_json::Value = serde_json::from_str(&changes).expect("a document");
        let doubts = list["doubts"].as_array().expect("doubts");
        let said = doubts.iter().filter_map(|doubt| doubt.as_str());
        let said: Vec<&str> = said.filter(|doubt| doubt.contains("has records since")).collect();
        assert_eq!(said.len(), usize::from(is_said), "{from}: {list}");
        for command in [&["journal", "export"][..], &["tail", "--json"]] {
            let (code, out, err) = zkbridge(folder.path(), &[command, &["--from", from]].concat());
            assert_eq!((code, out.lines().count()), (0, 1), "{command:?} {from}: {err}");
            assert!(
                said.iter().all(|said| err.contains(said)),
                "{command:?} {from}: {err}"
            );
            assert_eq!(err.is_empty(), !is_said, "{command:?} {from}: {err}");
        }
    };
    check("2020-01-01", true);
    check("1", false);
}

#[test]
fn an_export_from_before_the_oldest_record_says_that_some_are_removed() {
    let (folder, mut journal) = a_folder();
    append(
        &mut journal,
        (1..=9).map(|zxid| created(&format!("/a{zxid}"), zxid, "text")),
    );
    drop(journal);
    let file = folder.path().join("data/main.journal");
    let connection = rusqlite::Connection::open(file).expect("a journal");
    // As retention removes them.
    connection
        .execute_batch("DELETE FROM record WHERE seq <= 4")
        .expect("records");
    drop(connection);
    let check = |from: &str, expected: &[u64], is_said: bool| {
        let args = ["journal", "export", "--from", from, "--format", "jsonl"];
        let (code, _, err) = zkbridge(folder.path(), &args);
        assert_eq!(code, 0, "{err}");
        assert_eq!(
            err.contains("removed the records before 5"),
            is_said,
            "{from}: {err}"
        );
        let records = json_lines(folder.path(), &["--from", from]);
        let seqs: Vec<u64> = records
            .iter()
            .filter_map(|record| record["seq"].as_u64())
            .collect();
        assert_eq!(seqs, expected, "{from}");
    };
    check("2", &[5, 6, 7, 8, 9], true);
    check("5", &[5, 6, 7, 8, 9], false);
    check("7", &[7, 8, 9], false);
}
