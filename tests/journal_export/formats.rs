//! Every flat format has what the JSON lines have, as Python's own readers and DuckDB see it.

use std::collections::BTreeMap;

use bridge_core::record::Timestamp;
use bridge_servers::{Python, real_servers};
use serde_json::{Map, Value, json};

use crate::story::{TEXTS, a_story, append, created, json_lines, python, updated, zkbridge};

/// Prints the rows of a CSV file from standard input.
const READ_CSV: &str = "
import csv, io, json, sys
text = io.TextIOWrapper(sys.stdin.buffer, encoding='utf-8', newline='')
csv.field_size_limit(1 << 30)
print(json.dumps(list(csv.DictReader(text, strict=True))))
";

/// Prints the rows of a table of a SQLite database; a blob as an object.
const READ_SQLITE: &str = "
import base64, json, sqlite3, sys
connection = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)
connection.row_factory = sqlite3.Row
def plain(value):
    return {'bytes': base64.b64encode(value).decode()} if isinstance(value, bytes) else value
tables = {}
for table in ['change', 'znode']:
    rows = connection.execute('SELECT * FROM ' + table)
    tables[table] = [{name: plain(row[name]) for name in row.keys()} for row in rows]
print(json.dumps(tables))
";

/// Prints the rows of a Parquet file whose name is on standard input.
const READ_PARQUET: &str = "
import datetime, duckdb, json, sys
connection = duckdb.connect()
table = \"read_parquet('\" + sys.stdin.read().replace(\"'\", \"''\") + \"')\"
columns = [row[:2] for row in connection.execute('DESCRIBE SELECT * FROM ' + table).fetchall()]
times = {name for name, kind in columns if kind == 'TIMESTAMP WITH TIME ZONE'}
assert {'changed', 'captured', 'ctime'} <= times, columns
chosen = ['epoch_ms(\"' + name + '\")' if name in times else '\"' + name + '\"' for name, _ in columns]
rows = connection.execute('SELECT ' + ', '.join(chosen) + ' FROM ' + table).fetchall()
def time(ms):
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=ms)
    return moment.isoformat(timespec='milliseconds') + 'Z'
def plain(name, value):
    return time(value) if name in times and value is not None else value
names = [name for name, _ in columns]
print(json.dumps([{name: plain(name, value) for name, value in zip(names, row)} for row in rows]))
";

/// Columns that are fields of the record as they are.
const FIELDS: &[(&str, &str)] = &[
    ("seq", "/seq"),
    ("id", "/id"),
    ("source", "/cluster"),
    ("root", "/root"),
    ("path", "/path"),
    ("op", "/op"),
    ("zxid", "/zxid"),
    ("zxid_kind", "/zxid_kind"),
    ("fidelity", "/fidelity"),
    ("missed", "/missed"),
    ("ephemeral", "/ephemeral"),
    ("changed", "/time/changed"),
    ("captured", "/time/captured"),
    ("encoding", "/after/data/encoding"),
    ("value", "/after/data/value"),
    ("size", "/after/data/size"),
    ("sha256", "/after/data/sha256"),
    ("before_encoding", "/before/data/encoding"),
    ("before_value", "/before/data/value"),
    ("before_size", "/before/data/size"),
    ("before_sha256", "/before/data/sha256"),
    ("before_version", "/before/stat/version"),
    ("before_mzxid", "/before/stat/mzxid"),
    ("session", "/txn/session"),
    ("cxid", "/txn/cxid"),
    ("txn_index", "/txn/index"),
    ("txn_count", "/txn/count"),
    ("txn_rest", "/txn/rest"),
    ("txn_type", "/txn/type"),
    ("ended_by", "/txn/ended_by"),
    ("client", "/txn/client"),
    ("user", "/txn/user"),
    ("lifetime", "/lifetime/kind"),
    ("ttl", "/lifetime/ttl"),
    ("gap_reason", "/gap/reason"),
    ("gap_epoch", "/gap/epoch"),
    ("gap_from_zxid", "/gap/from_zxid"),
    ("gap_to_zxid", "/gap/to_zxid"),
    ("gap_differences", "/gap/differences"),
    ("run_id", "/run/id"),
    ("run_index", "/run/index"),
    ("run_nodes", "/run/nodes"),
    ("run_unreadable", "/run/unreadable"),
    ("mode", "/source/mode"),
    ("server", "/source/server"),
];

/// Columns that are fields of the Stat after the change, or before a delete.
const STAT_FIELDS: &[(&str, &str)] = &[
    ("czxid", "czxid"),
    ("mzxid", "mzxid"),
    ("pzxid", "pzxid"),
    ("version", "version"),
    ("cversion", "cversion"),
    ("aversion", "aversion"),
    ("children", "numChildren"),
];

/// Columns that hold JSON.
const DOCUMENTS: &[&str] = &["superseded", "acl", "event"];

/// A record as the row that a reader must see, written down here once more from the JSON.
fn expected(record: &Value) -> Map<String, Value> {
    let mut row = Map::new();
    let mut put = |name: &str, value: Value| {
        assert!(row.insert(name.to_owned(), value).is_none(), "{name} twice");
    };
    let at = |place: &str| record.pointer(place).cloned().unwrap_or_default();
    for (name, place) in FIELDS {
        put(name, at(place));
    }
    for (prefix, state) in [("", "/after/data"), ("before_", "/before/data")] {
        for mark in ["truncated", "masked"] {
            let is_there = !at(state).is_null();
            let is_marked = at(&format!("{state}/{mark}")) == true;
            put(
                &format!("{prefix}{mark}"),
                if is_there { is_marked.into() } else { Value::Null },
            );
        }
    }
    let stat = match at("/after") {
        Value::Null => at("/before/stat"),
        _ => at("/after/stat"),
    };
    let time = |ms: &Value| match ms.as_i64() {
        None | Some(0) => Value::Null,
        Some(ms) => Timestamp(ms).to_string().into(),
    };
    for (name, field) in STAT_FIELDS {
        put(name, stat[field].clone());
    }
    put("ctime", time(&stat["ctime"]));
    put("mtime", time(&stat["mtime"]));
    put("txn_time", time(&at("/txn/time")));
    let owner = Some(stat["ephemeralOwner"].clone()).filter(|owner| *owner != "0x0000000000000000");
    put("owner", owner.unwrap_or_default());
    put("superseded", at("/superseded"));
    put("acl", at("/acl"));
    put("event", at("/event"));
    if row["superseded"] == json!([]) {
        row["superseded"] = Value::Null;
    }
    row
}

/// The same of a row that was read: JSON in columns that hold it.
fn documents(mut row: Map<String, Value>) -> Map<String, Value> {
    for (value, encoding) in [("value", "encoding"), ("before_value", "before_encoding")] {
        if row[encoding] == "json" {
            parse(&mut row, value);
        }
    }
    for name in DOCUMENTS {
        parse(&mut row, name);
    }
    row
}

fn parse(row: &mut Map<String, Value>, name: &str) {
    if let Some(text) = row[name].as_str().filter(|text| !text.is_empty()) {
        row[name] = serde_json::from_str(text).expect("it holds JSON");
    }
}

fn rows_of(table: &Value) -> impl Iterator<Item = Map<String, Value>> {
    let rows = table.as_array().expect("a list of rows");
    rows.iter().map(|row| row.as_object().expect("a row").clone())
}

/// As CSV has it, which knows texts alone and no null.
fn as_text(row: Map<String, Value>) -> Map<String, Value> {
    let text = |value: Value| match value {
        Value::Null => "".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string().into(),
        other => other,
    };
    row.into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn without_mark(row: Map<String, Value>) -> Map<String, Value> {
    let text = |value: Value| match value.as_str().and_then(|text| text.strip_prefix('\'')) {
        Some(text) => text.into(),
        None => value,
    };
    row.into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn assert_rows(found: Vec<Map<String, Value>>, expected: Vec<Map<String, Value>>) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.into_iter().zip(expected) {
        assert_eq!(found, expected);
    }
}

#[test]
fn python_reads_from_csv_what_the_records_have() {
    real_servers!("python reads csv");
    let (folder, _journal) = a_story();
    let records = json_lines(folder.path(), &[]);
    assert!(records.len() > 2 * TEXTS.len());
    let expected: Vec<_> = records.iter().map(|record| as_text(expected(record))).collect();

    let (code, guarded, err) = zkbridge(folder.path(), &["journal", "export", "--format", "csv"]);
    assert_eq!((code, &*err), (0, ""));
    let table = python(READ_CSV, &[], &guarded);
    let rows = rows_of(&table).map(|row| documents(without_mark(row)));
    assert_rows(rows.collect(), expected.clone());

    let args = ["journal", "export", "--format", "csv", "--exact"];
    let (code, exact, err) = zkbridge(folder.path(), &args);
    assert_eq!((code, &*err), (0, ""));
    let table = python(READ_CSV, &[], &exact);
    let rows = rows_of(&table).map(documents);
    assert_rows(rows.collect(), expected);
}

#[test]
fn no_text_in_csv_is_a_formula_for_a_spreadsheet_unless_that_is_asked_for() {
    real_servers!("formulas in csv");
    let (folder, _journal) = a_story();
    let formulas = |args: &[&str]| {
        let (code, text, err) = zkbridge(
            folder.path(),
            &[&["journal", "export", "--format", "csv"], args].concat(),
        );
        assert_eq!((code, &*err), (0, ""));
        let rows = python(READ_CSV, &[], &text);
        let is_formula = |value: &Value| {
            let text = value.as_str().expect("a text");
            text.parse::<f64>().is_err() && text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝'])
        };
        rows_of(&rows)
            .flat_map(|row| {
                row.into_iter()
                    .map(|(_, value)| value)
                    .filter(is_formula)
                    .collect::<Vec<_>>()
            })
            .count()
    };
    assert_eq!(formulas(&[]), 0);
    // The control: they are there.
    assert!(formulas(&["--exact"]) > 8);
}

#[test]
fn python_reads_from_sqlite_what_the_records_have_and_the_znodes_at_the_end() {
    real_servers!("python reads sqlite");
    let (folder, mut journal) = a_story();
    let records = json_lines(folder.path(), &[]);
    let last = records.last().expect("a record")["seq"]
        .as_u64()
        .expect("a number");
    // Not part of the export.
    append(&mut journal, [created("/later", 99_999, "later")]);
    let until = last.to_string();
    let args = [
        "journal", "export", "--format", "sqlite", "--to", &until, "--output", "out.db",
    ];
    let (code, out, err) = zkbridge(folder.path(), &args);
    assert_eq!((code, &*err), (0, ""));
    let file = folder.path().join("out.db");
    let tables = python(READ_SQLITE, &[file.as_path()], "");

    let mut expected: Vec<_> = records.iter().map(expected).collect();
    for row in &mut expected {
        for (value, encoding) in [("value", "encoding"), ("before_value", "before_encoding")] {
            if row[encoding] == "base64" {
                row[value] = json!({ "bytes": row[value] });
            }
        }
        for flag in [
            "ephemeral",
            "truncated",
            "masked",
            "before_truncated",
            "before_masked",
        ] {
            if let Some(is_set) = row[flag].as_bool() {
                row[flag] = u8::from(is_set).into();
            }
        }
    }
    assert_rows(rows_of(&tables["change"]).map(documents).collect(), expected);

    let znodes: Vec<Map<String, Value>> = rows_of(&tables["znode"]).collect();
    assert_eq!(
        out,
        format!(
            "{} records and {} znodes in out.db\n",
            records.len(),
            znodes.len()
        )
    );
    // Those that were deleted are gone, and all others have their last value.
    let mut living: BTreeMap<&str, &Value> = BTreeMap::new();
    for record in records.iter().filter(|record| record["path"].is_string()) {
        let path = record["path"].as_str().expect("a path");
        match record["op"] == "delete" {
            true => living.remove(path),
            false => living.insert(path, record),
        };
    }
    assert_eq!(znodes.len(), living.len());
    for znode in &znodes {
        let record = living[znode["path"].as_str().expect("a path")];
        let data = &record["after"]["data"];
        assert_eq!(znode["encoding"], data["encoding"], "{znode:?}");
        assert_eq!(znode["size"], data["size"], "{znode:?}");
        if !data.is_null() {
            assert_eq!(znode["seq"], record["seq"], "{znode:?}");
            assert_eq!(znode["mzxid"], record["after"]["stat"]["mzxid"], "{znode:?}");
        }
        if data["encoding"] == "utf8" {
            assert_eq!(znode["value"], data["value"], "{znode:?}");
        }
        assert_eq!(znode["source"], "main");
        let is_certain = znode["certainty"] == "exact";
        assert_eq!(znode["certain"], u8::from(is_certain), "{znode:?}");
        assert_eq!(znode["doubts"].is_null(), is_certain, "{znode:?}");
    }
}

#[test]
fn a_part_of_a_journal_becomes_the_part_of_a_database() {
    real_servers!("a part as sqlite");
    let (folder, mut journal) = crate::story::a_folder();
    append(
        &mut journal,
        [
            created("/a", 1, "one"),
            created("/a/x", 2, "two"),
            created("/b", 3, "three"),
            updated("/a/x", 2, 4, "four"),
            updated("/a", 1, 5, "five"),
        ],
    );
    let args = [
        "journal", "export", "--format", "sqlite", "--from", "2", "--to", "0x4", "--path", "/a", "--path",
        "/a/x", "--output", "out.db",
    ];
    let (code, out, err) = zkbridge(folder.path(), &args);
    assert_eq!(
        (code, &*out, &*err),
        (0, "2 records and 2 znodes in out.db\n", "")
    );
    let file = folder.path().join("out.db");
    let tables = python(READ_SQLITE, &[file.as_path()], "");
    let seqs: Vec<_> = rows_of(&tables["change"]).map(|row| row["seq"].clone()).collect();
    assert_eq!(seqs, [2, 4]);
    let znodes: Vec<_> = rows_of(&tables["znode"])
        .map(|row| (row["path"].clone(), row["value"].clone()))
        .collect();
    let pair = |path: &str, value: &str| (Value::from(path), Value::from(value));
    assert_eq!(znodes, [pair("/a", "one"), pair("/a/x", "four")]);
}

/// Runs a script on a journal that is open, then prints the rows of its view.
const READ_JOURNAL: &str = "
import json, sqlite3, sys
connection = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)
connection.executescript(sys.stdin.read())
# Bytes that are no text, and hold no zero.
connection.text_factory = lambda text: text.decode('utf-8', 'replace')
connection.row_factory = sqlite3.Row
rows = connection.execute('SELECT * FROM change ORDER BY seq').fetchall()
text = lambda value: value.hex() if isinstance(value, bytes) else value
print(json.dumps([{name: text(row[name]) for name in row.keys()} for row in rows]))
";

#[test]
fn the_documented_view_shows_the_records_of_a_journal_that_is_open() {
    real_servers!("the view of a journal");
    let document = include_str!("../../docs/export.md");
    let (_, rest) = document.split_once("```sql\n").expect("a block of SQL");
    let (view, _) = rest.split_once("```").expect("its end");
    let (folder, _journal) = a_story();
    let records = json_lines(folder.path(), &[]);
    let journal = folder.path().join("data/main.journal");
    let rows: Vec<_> = rows_of(&python(READ_JOURNAL, &[journal.as_path()], view)).collect();
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(&records) {
        for name in ["seq", "op", "path"] {
            assert_eq!(row[name], record[name], "{name} of {record}");
        }
        assert_eq!(row["captured"], record["time"]["captured"]);
        assert_eq!(row["zxid"], record["zxid"]);
        if record["after"]["data"]["encoding"] == "utf8" {
            assert_eq!(row["value"], record["after"]["data"]["value"]);
        }
    }
}

#[tokio::test]
async fn duckdb_reads_from_parquet_what_the_records_have() {
    real_servers!("duckdb reads parquet");
    let (folder, _journal) = a_story();
    let records = json_lines(folder.path(), &[]);
    let args = [
        "journal",
        "export",
        "--format",
        "parquet",
        "--output",
        "out.parquet",
    ];
    let (code, out, err) = zkbridge(folder.path(), &args);
    assert_eq!((code, &*err), (0, ""));
    assert_eq!(out, format!("{} records in out.parquet\n", records.len()));
    let file = folder.path().join("out.parquet");
    let name = file.to_str().expect("a name");
    let rows = Python::DUCKDB
        .run(READ_PARQUET, name.as_bytes())
        .await
        .expect("it reads the file");
    let rows: Value = serde_json::from_str(&rows).expect("it prints JSON");
    let expected: Vec<_> = records.iter().map(expected).collect();
    assert_rows(rows_of(&rows).map(documents).collect(), expected);
}
