//! Commands on a journal that no bridge has open: `dlq`, `sink`, and those that read.

use std::path::Path;
use std::process::Command;

use bridge_core::append::{Append, Change, ChangeKind, Read, RecordKind};
use bridge_core::image_txn::ImageTxn;
use bridge_core::journal::{
    BacklogChange, Journal, JournalOptions, JournalWriter, Reader, SinkProgress, SinkState, Switch,
};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, Stat, Timestamp};
use serde_json::Value;

const CONFIGURATION: &str = "\
data_dir = \"data\"
[[source]]
connect = \"127.0.0.1:1\"
[[sink]]
name = \"audit\"
type = \"file\"
path = \"audit.jsonl\"
rejected_path = \"block\"
";

/// Runs the command in the folder. Returns the exit code, standard output and standard error.
fn zkbridge(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zkbridge"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ZKBRIDGE_") {
            command.env_remove(name);
        }
    }
    let output = command.current_dir(folder).args(args).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it ends by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

fn created(name: &str, zxid: u64) -> Append {
    let stat = Stat {
        czxid: Zxid(zxid),
        mzxid: Zxid(zxid),
        ..Stat::default()
    };
    let data = Data::limited(b"the value", DataForm::Auto, 99);
    Append {
        root: Some(ZnodePath::slash()),
        captured: Timestamp(0),
        kind: RecordKind::Change(Change {
            path: ZnodePath::slash().child(name),
            kind: ChangeKind::Created {
                read: Read {
                    stat,
                    data: Some(data),
                },
            },
            fidelity: Fidelity::Exact,
            missed: Some(0),
            superseded: Vec::new(),
            txn: None,
            facts: None,
        }),
    }
}

/// Four records, of which 2 and 4 are dead letters of `audit`, which is disabled.
fn a_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("zkbridge.toml"), CONFIGURATION).expect("it can be written");
    let file = folder.path().join("data/main.journal");
    let mut journal = Journal::open(&file, &JournalOptions::new("main")).expect("a new journal");
    for (at, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        journal.append(created(name, 5 + at as u64)).expect("room");
    }
    journal.register_sink("audit", Seq::ZERO).expect("a new sink");
    let reject = |seq, name| BacklogChange::Rejected {
        seq: Seq(seq),
        path: Some(ZnodePath::slash().child(name)),
        reason: format!("no room for {name}"),
        attempts: 1,
    };
    let progress = SinkProgress {
        sink: "audit".into(),
        at: Timestamp(1_795_355_000_123),
        to: Seq(4),
        changes: vec![reject(2, "b"), reject(4, "d")],
        switch: Some(Switch::Disabled {
            reason: "gone".into(),
        }),
        ..SinkProgress::default()
    };
    journal.store_progress(&progress).expect("a progress");
    journal.commit().expect("room");
    folder
}

fn reader(folder: &Path) -> Reader {
    Reader::open(&folder.join("data/main.journal")).expect("a journal")
}

#[test]
fn dead_letters_are_listed_without_values_and_shown_with_them() {
    let folder = a_folder();
    let (code, out, err) = zkbridge(folder.path(), &["dlq", "list"]);
    assert_eq!((code, &*err), (0, ""));
    for words in [
        "sink audit from source main",
        "2026-11-22T13:43:20Z  /b",
        "no room for d",
        "2 dead letters",
    ] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    assert!(!out.contains("the value"), "{out}");
    let (_, out, _) = zkbridge(folder.path(), &["dlq", "list", "--path", "/d", "--json"]);
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(listed["dead_letters"][0]["seq"], 4);
    assert_eq!(listed["dead_letters"][0]["attempts"], 1);
    assert_eq!(listed["dead_letters"].as_array().map(Vec::len), Some(1));
    let (code, out, _) = zkbridge(folder.path(), &["dlq", "show", "--seq", "2"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("record 2 of source main") && out.contains("\"the value\""),
        "{out}"
    );
}

#[test]
fn a_retry_is_for_the_next_start_and_a_drop_is_for_good() {
    let folder = a_folder();
    let (code, out, err) = zkbridge(folder.path(), &["dlq", "retry", "--sink", "audit", "--seq", "2"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("1 record of sink audit: no longer dead letters"),
        "{out}"
    );
    let parked = reader(folder.path()).parked("audit", Seq::ZERO, 9).expect("rows");
    assert_eq!(parked.iter().map(|row| row.seq).collect::<Vec<_>>(), [Seq(2)]);
    let (code, out, _) = zkbridge(folder.path(), &["dlq", "drop", "--all"]);
    assert_eq!(code, 0);
    assert_eq!(out, "1 record of sink audit: dropped\n");
    assert_eq!(
        reader(folder.path())
            .letters("audit", Seq::ZERO, 9)
            .expect("rows"),
        []
    );
    let (code, _, err) = zkbridge(folder.path(), &["dlq", "drop", "--all"]);
    assert_eq!(code, 1);
    assert!(err.contains("no dead letter matches"), "{err}");
    assert_eq!(zkbridge(folder.path(), &["dlq", "list"]).1, "no dead letters\n");
}

#[test]
fn only_the_named_dead_letters_change() {
    let folder = a_folder();
    let (code, _, err) = zkbridge(folder.path(), &["dlq", "drop"]);
    assert_eq!(code, 2);
    assert!(err.contains("--seq, or --all"), "{err}");
    assert_eq!(zkbridge(folder.path(), &["dlq", "retry", "--sink", "other"]).0, 1);
    assert_eq!(zkbridge(folder.path(), &["sink", "enable", "other"]).0, 2);
    assert_eq!(
        reader(folder.path())
            .letters("audit", Seq::ZERO, 9)
            .expect("rows")
            .len(),
        2
    );
    std::fs::remove_dir_all(folder.path().join("data")).expect("it is there");
    let (code, _, err) = zkbridge(folder.path(), &["dlq", "list"]);
    assert_eq!(code, 3);
    assert!(err.contains("there is no journal in data"), "{err}");
}

#[test]
fn a_disabled_sink_is_enabled_where_no_bridge_runs() {
    let folder = a_folder();
    assert!(reader(folder.path()).disabled("audit").expect("a row").is_some());
    let (code, out, err) = zkbridge(folder.path(), &["sink", "enable", "audit"]);
    assert_eq!((code, &*out), (0, "sink 'audit' is enabled\n"), "{err}");
    let (code, out, err) = zkbridge(folder.path(), &["sink", "enable", "audit", "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&out).expect("one document");
    let expected = serde_json::json!({"sink": "audit", "enabled": true, "sources": ["main"]});
    assert_eq!((code, printed), (0, expected), "{err}");
    assert!(reader(folder.path()).disabled("audit").expect("a row").is_none());
}

#[test]
fn a_journal_that_another_process_writes_is_left_alone() {
    let folder = a_folder();
    let file = folder.path().join("data/main.journal");
    let _held = Journal::open(&file, &JournalOptions::new("main")).expect("the journal");
    assert_eq!(
        zkbridge(folder.path(), &["dlq", "list"]).0,
        0,
        "reading does no harm"
    );
    let (code, _, err) = zkbridge(folder.path(), &["dlq", "drop", "--all"]);
    assert_eq!(code, 3);
    assert!(err.contains("has it open"), "{err}");
}

/// Seqs of JSON lines.
fn seqs(lines: &str) -> Vec<u64> {
    let record = |line: &str| serde_json::from_str::<Value>(line).expect("a record");
    lines
        .lines()
        .filter_map(|line| record(line)["seq"].as_u64())
        .collect()
}

#[test]
fn a_path_means_the_same_in_every_command_and_one_that_matches_nothing_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("zkbridge.toml"), CONFIGURATION).expect("it can be written");
    let file = folder.path().join("data/main.journal");
    let mut journal = Journal::open(&file, &JournalOptions::new("main")).expect("a new journal");
    for (at, name) in ["a", "a/x", "ab", "a/x/y"].into_iter().enumerate() {
        journal.append(created(name, 5 + at as u64)).expect("room");
    }
    journal.register_sink("audit", Seq::ZERO).expect("a new sink");
    let reject = |seq, name: &str| BacklogChange::Rejected {
        seq: Seq(seq),
        path: Some(ZnodePath::parse(&format!("/{name}")).expect("a path")),
        reason: "no room".into(),
        attempts: 1,
    };
    let progress = SinkProgress {
        sink: "audit".into(),
        at: Timestamp(1_795_355_000_123),
        to: Seq(4),
        changes: vec![
            reject(1, "a"),
            reject(2, "a/x"),
            reject(3, "ab"),
            reject(4, "a/x/y"),
        ],
        ..SinkProgress::default()
    };
    journal.store_progress(&progress).expect("room");
    journal.commit().expect("room");
    drop(journal);
    let letters = |path: &str| -> Vec<u64> {
        let (_, out, _) = zkbridge(folder.path(), &["dlq", "list", "--json", "--path", path]);
        let document: Value = serde_json::from_str(&out).expect("a document");
        let letters = document["dead_letters"].as_array().expect("a list").clone();
        letters
            .iter()
            .filter_map(|letter| letter["seq"].as_u64())
            .collect()
    };
    for (path, expected) in [
        ("/a", vec![1, 2, 4]),
        ("/a/", vec![1, 2, 4]),
        ("/a/*", vec![2]),
        ("/a/**", vec![2, 4]),
        ("/", vec![1, 2, 3, 4]),
        ("/none", vec![]),
    ] {
        let (code, out, err) = zkbridge(folder.path(), &["tail", "--json", "--path", path]);
        assert_eq!((code, seqs(&out)), (0, expected.clone()), "{path}");
        assert_eq!(
            err.contains("no record matches"),
            expected.is_empty(),
            "{path}: {err}"
        );
        let (code, out, err) = zkbridge(folder.path(), &["journal", "export", "--path", path]);
        assert_eq!((code, seqs(&out)), (0, expected.clone()), "{path}");
        assert_eq!(
            err.contains("no record matches"),
            expected.is_empty(),
            "{path}: {err}"
        );
        assert_eq!(letters(path), expected, "{path}");
        let replay = [
            "replay", "--sink", "audit", "--from", "1", "--path", path, "--json",
        ];
        let (code, _, err) = zkbridge(folder.path(), &replay);
        assert_eq!(code, i32::from(path == "/none"), "{path}: {err}");
        assert_eq!(
            err.contains("no record matches"),
            path == "/none",
            "{path}: {err}"
        );
    }
    let (_, out, _) = zkbridge(folder.path(), &["dlq", "list", "--path", "/none"]);
    assert_eq!(out, "no dead letter matches\n");
    let (code, out, err) = zkbridge(folder.path(), &["history", "/a/x/", "--json"]);
    assert_eq!((code, seqs(&out)), (0, vec![2]), "{err}");
    let (code, _, err) = zkbridge(folder.path(), &["tail", "--path", "a/x"]);
    assert_eq!(code, 2);
    assert!(err.contains("path pattern 'a/x'"), "{err}");
}

#[test]
fn no_command_prints_a_character_that_a_terminal_obeys_or_hides() {
    const EVIL: &str =
        "x\u{9b}31m\u{9d}0;t\u{90}\u{85}\u{7f}\u{202e}\u{2066}y\u{2069}\u{61c}\u{ad}\u{3164}\u{e0041}";
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("zkbridge.toml"), CONFIGURATION).expect("it can be written");
    let file = folder.path().join("data/main.journal");
    let mut journal = Journal::open(&file, &JournalOptions::new("main")).expect("a new journal");
    let mut entry = created(EVIL, 5);
    if let RecordKind::Change(change) = &mut entry.kind
        && let ChangeKind::Created { read } = &mut change.kind
    {
        read.data = Some(Data::limited(EVIL.as_bytes(), DataForm::Auto, 999));
    }
    journal.append(entry).expect("room");
    journal.register_sink("audit", Seq::ZERO).expect("a new sink");
    let path = ZnodePath::slash().child(EVIL);
    let progress = SinkProgress {
        sink: "audit".into(),
        at: Timestamp(1_795_355_000_123),
        to: Seq(1),
        changes: vec![BacklogChange::Rejected {
            seq: Seq(1),
            path: Some(path.clone()),
            reason: EVIL.into(),
            attempts: 1,
        }],
        ..SinkProgress::default()
    };
    journal.store_progress(&progress).expect("room");
    journal.commit().expect("room");
    drop(journal);
    for args in [
        &["tail"][..],
        &["tail", "--json"],
        &["history", &path],
        &["history", &path, "--json"],
        &["history", &path, "--at", "1", "--json"],
        &["history", "/none\u{202e}"],
        &["journal", "export"],
        &["journal", "check"],
        &["dlq", "list"],
        &["dlq", "list", "--json"],
        &["dlq", "show", "--all"],
        &["dlq", "show", "--all", "--json"],
        &["status"],
        &["status", "--json"],
    ] {
        let (_, out, err) = zkbridge(folder.path(), args);
        let is_bad = |letter: &char| {
            *letter != '\n' && (letter.is_control() || EVIL[1..].contains(*letter) && !letter.is_ascii())
        };
        let bad: Vec<char> = out.chars().chain(err.chars()).filter(is_bad).collect();
        assert!(bad.is_empty(), "{args:?} {bad:?}\n{out}{err}");
        assert!(!out.is_empty() || !err.is_empty(), "{args:?}");
    }
    let (_, out, _) = zkbridge(folder.path(), &["tail", "--json"]);
    let record: Value = serde_json::from_str(&out).expect("a record");
    assert_eq!(record["path"], *path, "as JSON it is the same");
}
