//! A journal with names and values that are hard to write down, and its records as they are in JSON lines.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use bridge_core::append::{Append, Change, ChangeKind, DeletedAt, NodeFacts, Read, RecordKind};
use bridge_core::image_txn::ImageTxn;
use bridge_core::journal::{Journal, JournalOptions, JournalWriter};
use bridge_core::number::{Epoch, SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{
    Acl, Data, DataForm, Fidelity, GapReason, Lifetime, SessionEnd, Stat, Timestamp, Txn, TxnKind,
};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

const CONFIGURATION: &str = "\
data_dir = \"data\"
[[source]]
connect = \"127.0.0.1:1\"
";

const NOON: i64 = 1_795_348_800_000;
const SESSION: SessionId = SessionId(0x0100_002f_037b_0000);

/// Texts that spreadsheets, separators, quotes, nulls and numbers are known to break.
pub const TEXTS: [&str; 30] = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+1",
    "-2.50",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "'",
    "''",
    "'=1",
    "a'b",
    "",
    " ",
    " around ",
    "a,b",
    "a;b",
    "a\tb",
    "\"",
    "\"quoted\"",
    "a\"\"b",
    "line\r\nfeed",
    "line\nfeed\n",
    "\\N",
    "NULL",
    "1e5",
    "0x10",
    "ä€😀\u{202e}x\u{feff}",
    "'); DROP TABLE change;--",
];

/// Data that is no text.
const BYTES: [&[u8]; 4] = [&[0], &[0xff, 0xfe, 0], b"text\0", &[0xfb, 0xff, 0xfe]];

/// Runs the command in the folder. Returns the exit code, standard output and standard error.
pub fn zkbridge(folder: &Path, args: &[&str]) -> (i32, String, String) {
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

/// The output of a script of Python, which needs its standard library alone, as JSON.
pub fn python(script: &str, arguments: &[&Path], input: &str) -> Value {
    let mut child = Command::new("python3")
        .args(["-I", "-c", script])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("make setup installs Python");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.as_bytes().to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the script failed");
    feed.join().expect("no panic").expect("it reads all");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// A folder with a configuration and an empty journal.
pub fn a_folder() -> (TempDir, Journal) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("zkbridge.toml"), CONFIGURATION).expect("it can be written");
    let file = folder.path().join("data/main.journal");
    let journal = Journal::open(&file, &JournalOptions::new("main")).expect("a new journal");
    (folder, journal)
}

pub fn append(journal: &mut Journal, entries: impl IntoIterator<Item = Append>) {
    for entry in entries {
        journal.append(entry).expect("room");
    }
    journal.commit().expect("room");
}

fn change(path: &str, zxid: u64, kind: ChangeKind) -> Append {
    control_record(
        zxid,
        RecordKind::Change(Change {
            path: ZnodePath::parse(path).expect("a path"),
            kind,
            fidelity: Fidelity::Exact,
            missed: Some(0),
            superseded: Vec::new(),
            txn: None,
            facts: None,
        }),
    )
}

fn control_record(zxid: u64, kind: RecordKind) -> Append {
    Append {
        root: Some(ZnodePath::slash()),
        captured: Timestamp(NOON + zxid.cast_signed()),
        kind,
    }
}

fn read(czxid: u64, mzxid: u64, data: Data) -> Read {
    Read {
        stat: Stat {
            czxid: Zxid(czxid),
            mzxid: Zxid(mzxid),
            pzxid: Zxid(czxid),
            ctime: NOON + czxid.cast_signed(),
            mtime: NOON + mzxid.cast_signed(),
            version: i32::from(czxid != mzxid),
            data_length: i32::try_from(data.size).expect("a small value"),
            ..Stat::default()
        },
        data: Some(data),
    }
}

pub fn created(path: &str, zxid: u64, text: &str) -> Append {
    let data = Data::limited(text.as_bytes(), DataForm::Auto, 1 << 20);
    change(
        path,
        zxid,
        ChangeKind::Created {
            read: read(zxid, zxid, data),
        },
    )
}

pub fn updated(path: &str, czxid: u64, zxid: u64, text: &str) -> Append {
    let data = Data::limited(text.as_bytes(), DataForm::Auto, 1 << 20);
    change(
        path,
        zxid,
        ChangeKind::Updated {
            read: read(czxid, zxid, data),
        },
    )
}

fn deleted(path: &str, zxid: u64) -> Append {
    let at = DeletedAt::Exact(Zxid(zxid));
    change(path, zxid, ChangeKind::Deleted { at })
}

/// With everything that only some records have.
fn of_transaction(path: &str, zxid: u64) -> Append {
    let data = Data::limited(b"{ \"n\": 1.10 }", DataForm::Json, 99);
    let mut read = read(zxid, zxid, data);
    read.stat.ephemeral_owner = SESSION;
    let mut entry = change(path, zxid, ChangeKind::Created { read });
    let RecordKind::Change(change) = &mut entry.kind else {
        unreachable!("it is a change");
    };
    change.missed = Some(2);
    change.superseded = vec![Zxid(zxid - 2), Zxid(zxid - 1)];
    change.txn = Some(Box::new(Txn {
        session: SESSION,
        cxid: -1,
        index: 1,
        count: 2,
        kind: TxnKind::CreateTtl,
        time: NOON,
        ended_by: Some(SessionEnd::Server),
        client: Some("10.0.0.1:4711".into()),
        user: Some("=HYPERLINK(\"x\")".into()),
        rest: 0,
    }));
    change.facts = Some(Box::new(NodeFacts {
        lifetime: Some(Lifetime {
            ttl: Some(7),
            kind: bridge_core::record::LifetimeKind::Ttl,
        }),
        acl: Some(vec![Acl {
            scheme: "sasl".to_owned(),
            id: "a,\"b\"".to_owned(),
            perms: "cdrwa".to_owned(),
        }]),
    }));
    entry
}

/// Every kind of record, and every text as a value and, where ZooKeeper allows it, as a name.
pub fn a_story() -> (TempDir, Journal) {
    let (folder, mut journal) = a_folder();
    let run = Uuid::from_u128(7);
    let mut zxid = 10;
    let mut next = || {
        zxid += 10;
        zxid
    };
    let mut entries = vec![control_record(1, RecordKind::RunBegin { run })];
    for (at, text) in TEXTS.iter().enumerate() {
        let path = format!("/value-{at}");
        let zxid = next();
        entries.push(created(&path, zxid, text));
        entries.push(updated(&path, zxid, next(), &format!("{text}{text}")));
        let is_name = !text.is_empty() && !text.contains('/');
        if is_name && ZnodePath::parse(&format!("/{text}")).is_ok() {
            entries.push(created(&format!("/{text}"), next(), "a name"));
        }
    }
    for (at, bytes) in BYTES.iter().enumerate() {
        let (path, zxid) = (format!("/bytes-{at}"), next());
        let data = Data::limited(bytes, DataForm::Auto, 99);
        let read = read(zxid, zxid, data);
        entries.push(change(&path, zxid, ChangeKind::Created { read }));
        entries.push(deleted(&path, next()));
    }
    let zxid = next();
    let read = read(zxid, zxid, Data::limited(b"cut after ten", DataForm::Auto, 10));
    entries.push(change("/cut", zxid, ChangeKind::Created { read }));
    let unread = ChangeKind::CreatedUnread {
        czxid: Zxid(next()),
        ephemeral: None,
        ctime: None,
    };
    entries.push(change("/unread", zxid, unread));
    entries.push(of_transaction("/transaction", next()));
    let zxid = next();
    entries.push(control_record(
        zxid,
        RecordKind::GapBegin {
            epoch: Epoch(2),
            from_zxid: Zxid(zxid),
            reason: GapReason::Disconnected,
        },
    ));
    entries.push(control_record(
        zxid,
        RecordKind::GapEnd {
            epoch: Epoch(2),
            from_zxid: Zxid(zxid),
            to_zxid: Zxid(zxid + 1),
            reason: GapReason::Disconnected,
            differences: 3,
        },
    ));
    append(&mut journal, entries);
    (folder, journal)
}

/// The records of the journal as the JSON lines have them.
pub fn json_lines(folder: &Path, args: &[&str]) -> Vec<Value> {
    let (code, out, err) = zkbridge(folder, &[&["journal", "export"], args].concat());
    assert_eq!(code, 0, "{err}");
    out.lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}
