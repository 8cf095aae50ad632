//! A record as one flat row, for tables that hold the present state of each path.
//!
//! *Invariants.* A row has seven columns, always all of them and in this order. `value` is the data as the record has it
//! (text, base64 or a JSON document with its numbers as they are written), and null where there is none. A deleted znode
//! is a row with `deleted`, so that a table can be kept by inserting or replacing rows by `path`.

use serde::Serialize;
use serde_json::value::RawValue;

use super::Body;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{DataValue, Op, Record, Timestamp};

/// The names and the order of the columns.
#[derive(Serialize)]
struct FlatRow<'a> {
    path: &'a ZnodePath,
    value: Option<Cell>,
    op: Op,
    zxid: Option<Zxid>,
    version: Option<i32>,
    deleted: bool,
    changed: Option<Timestamp>,
}

/// A value in a column.
#[derive(Serialize)]
#[serde(untagged)]
enum Cell {
    Text(String),
    Document(Box<RawValue>),
}

impl From<DataValue<'_>> for Cell {
    fn from(value: DataValue<'_>) -> Cell {
        match value {
            DataValue::Json(document) => Cell::Document(document),
            DataValue::Text(text) => Cell::Text(text.to_owned()),
            DataValue::Base64(text) => Cell::Text(text),
        }
    }
}

/// The row of a record. Records about the stream and changes of an access control list have none.
pub(super) fn row(record: &Record) -> Body {
    let Some(path) = &record.path else {
        return Body::Nothing;
    };
    if record.op.is_control() || record.op == Op::Acl {
        return Body::Nothing;
    }
    let after = record.after.as_ref();
    let row = FlatRow {
        path,
        value: after
            .and_then(|state| state.data.as_ref())
            .map(|data| Cell::from(data.value())),
        op: record.op,
        zxid: record.zxid,
        version: after
            .and_then(|state| state.stat.as_ref())
            .map(|stat| stat.version),
        deleted: record.op == Op::Delete,
        changed: record.time.changed,
    };
    Body::Bytes(serde_json::to_vec(&row).expect("a row has only text keys and finite numbers"))
}
