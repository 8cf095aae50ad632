//! The columns of the flat formats.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use bridge_core::number::{Epoch, SessionId};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataValue, Gap, Record, Run, Stat, State, Timestamp, Txn};
use bridge_query::AsOfValue;
use serde::Serialize;

use self::ColumnType::{Flag, Number, Text, Time, Value};

/// The content of a column in one row.
#[derive(Debug)]
pub(super) enum Cell<'a> {
    Null,
    Number(i64),
    Flag(bool),
    Text(Cow<'a, str>),
    Time(Timestamp),
    Value(&'a Data),
}

/// The type of the cells of a column that are not null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnType {
    Number,
    Flag,
    Text,
    Time,
    /// The data of a znode.
    Value,
}

/// A column of rows that are made from an `R`.
pub(super) struct Column<R> {
    pub(super) name: &'static str,
    pub(super) holds: ColumnType,
    pub(super) cell: for<'a> fn(&'a R) -> Cell<'a>,
}

/// A znode at the end of the range.
#[derive(Debug)]
pub struct ZnodeRow {
    /// The source.
    pub source: Arc<str>,
    /// Its path.
    pub path: ZnodePath,
    /// Its value at the moment.
    pub then: AsOfValue,
}

const fn column<R>(name: &'static str, holds: ColumnType, cell: for<'a> fn(&'a R) -> Cell<'a>) -> Column<R> {
    Column { name, holds, cell }
}

/// The columns of a record.
pub(super) const CHANGE: &[Column<Record>] = &[
    column("seq", Number, |record| number(record.seq.0)),
    column("id", Text, |record| shown(record.id)),
    column("source", Text, |record| borrowed(&record.cluster)),
    column("root", Text, |record| or_null(record.root.as_ref(), path)),
    column("path", Text, |record| or_null(record.path.as_ref(), path)),
    column("op", Text, |record| borrowed(record.op.as_str())),
    column("zxid", Text, |record| or_null(record.zxid, shown)),
    column("zxid_kind", Text, |record| word(&record.zxid_kind)),
    column("fidelity", Text, |record| word(&record.fidelity)),
    column("missed", Number, |record| or_null(record.missed, number)),
    column("superseded", Text, |record| {
        let zxids = Some(&record.superseded).filter(|zxids| !zxids.is_empty());
        or_null(zxids, json)
    }),
    column("ephemeral", Flag, |record| or_null(record.ephemeral, Cell::Flag)),
    column("changed", Time, |record| or_null(record.time.changed, Cell::Time)),
    column("captured", Time, |record| Cell::Time(record.time.captured)),
    column("encoding", Text, |record| encoding(data(&record.after))),
    column("value", Value, |record| or_null(data(&record.after), Cell::Value)),
    column("size", Number, |record| size(data(&record.after))),
    column("truncated", Flag, |record| truncated(data(&record.after))),
    column("masked", Flag, |record| masked(data(&record.after))),
    column("sha256", Text, |record| sha256(data(&record.after))),
    column("before_encoding", Text, |record| encoding(data(&record.before))),
    column("before_value", Value, |record| {
        or_null(data(&record.before), Cell::Value)
    }),
    column("before_size", Number, |record| size(data(&record.before))),
    column("before_truncated", Flag, |record| truncated(data(&record.before))),
    column("before_masked", Flag, |record| masked(data(&record.before))),
    column("before_sha256", Text, |record| sha256(data(&record.before))),
    column("before_version", Number, |record| {
        let stat = record.before.as_ref().and_then(|state| state.stat);
        or_null(stat, |stat| number(stat.version))
    }),
    column("before_mzxid", Text, |record| {
        let stat = record.before.as_ref().and_then(|state| state.stat);
        or_null(stat, |stat| shown(stat.mzxid))
    }),
    column("czxid", Text, |record| {
        or_null(stat(record), |stat| shown(stat.czxid))
    }),
    column("mzxid", Text, |record| {
        or_null(stat(record), |stat| shown(stat.mzxid))
    }),
    column("pzxid", Text, |record| {
        or_null(stat(record), |stat| shown(stat.pzxid))
    }),
    column("ctime", Time, |record| {
        or_null(stat(record), |stat| time(stat.ctime))
    }),
    column("mtime", Time, |record| {
        or_null(stat(record), |stat| time(stat.mtime))
    }),
    column("version", Number, |record| {
        or_null(stat(record), |stat| number(stat.version))
    }),
    column("cversion", Number, |record| {
        or_null(stat(record), |stat| number(stat.cversion))
    }),
    column("aversion", Number, |record| {
        or_null(stat(record), |stat| number(stat.aversion))
    }),
    column("owner", Text, |record| {
        or_null(stat(record).and_then(owner), shown)
    }),
    column("children", Number, |record| {
        or_null(stat(record), |stat| number(stat.num_children))
    }),
    column("session", Text, |record| {
        or_null(txn(record), |txn| shown(txn.session))
    }),
    column("cxid", Number, |record| {
        or_null(txn(record), |txn| number(txn.cxid))
    }),
    column("txn_index", Number, |record| {
        or_null(txn(record), |txn| number(txn.index))
    }),
    column("txn_count", Number, |record| {
        or_null(txn(record), |txn| number(txn.count))
    }),
    column("txn_rest", Number, |record| {
        or_null(txn(record), |txn| number(txn.rest))
    }),
    column("txn_type", Text, |record| {
        or_null(txn(record), |txn| word(&txn.kind))
    }),
    column("txn_time", Time, |record| {
        or_null(txn(record), |txn| time(txn.time))
    }),
    column("ended_by", Text, |record| {
        let ended_by = txn(record).and_then(|txn| txn.ended_by.as_ref());
        or_null(ended_by, word)
    }),
    column("client", Text, |record| {
        let client = txn(record).and_then(|txn| txn.client.as_deref());
        or_null(client, borrowed)
    }),
    column("user", Text, |record| {
        let user = txn(record).and_then(|txn| txn.user.as_deref());
        or_null(user, borrowed)
    }),
    column("acl", Text, |record| or_null(record.acl.as_ref(), json)),
    column("lifetime", Text, |record| {
        or_null(record.lifetime.as_ref(), |lifetime| word(&lifetime.kind))
    }),
    column("ttl", Number, |record| {
        let ttl = record.lifetime.and_then(|lifetime| lifetime.ttl);
        or_null(ttl, number)
    }),
    column("gap_reason", Text, |record| {
        or_null(gap(record), |gap| borrowed(gap.reason.as_str()))
    }),
    column("gap_epoch", Number, |record| {
        or_null(gap(record), |gap| epoch(gap.epoch))
    }),
    column("gap_from_zxid", Text, |record| {
        or_null(gap(record), |gap| shown(gap.from_zxid))
    }),
    column("gap_to_zxid", Text, |record| {
        or_null(gap(record).and_then(|gap| gap.to_zxid), shown)
    }),
    column("gap_differences", Number, |record| {
        or_null(gap(record).and_then(|gap| gap.differences), number)
    }),
    column("run_id", Text, |record| or_null(run(record), |run| shown(run.id))),
    column("run_index", Number, |record| {
        or_null(run(record), |run| number(run.index))
    }),
    column("run_nodes", Number, |record| {
        or_null(run(record).and_then(|run| run.nodes), number)
    }),
    column("run_unreadable", Number, |record| {
        or_null(run(record).and_then(|run| run.unreadable), number)
    }),
    column("event", Text, |record| or_null(record.event.as_deref(), json)),
    column("mode", Text, |record| word(&record.source.mode)),
    column("server", Text, |record| {
        or_null(record.source.server.as_deref(), borrowed)
    }),
];

/// The columns of a znode.
pub(super) const ZNODE: &[Column<ZnodeRow>] = &[
    column("source", Text, |znode| borrowed(&znode.source)),
    column("path", Text, |znode| path(&znode.path)),
    column("certain", Flag, |znode| Cell::Flag(znode.then.certain)),
    column("certainty", Text, |znode| word(&znode.then.certainty)),
    column("doubts", Text, |znode| {
        let doubts = Some(&znode.then.doubts).filter(|doubts| !doubts.is_empty());
        or_null(doubts, json)
    }),
    column("seq", Number, |znode| {
        or_null(znode.then.seq, |seq| number(seq.0))
    }),
    column("encoding", Text, |znode| encoding(znode.then.data.as_ref())),
    column("value", Value, |znode| {
        or_null(znode.then.data.as_ref(), Cell::Value)
    }),
    column("size", Number, |znode| size(znode.then.data.as_ref())),
    column("truncated", Flag, |znode| truncated(znode.then.data.as_ref())),
    column("masked", Flag, |znode| masked(znode.then.data.as_ref())),
    column("sha256", Text, |znode| sha256(znode.then.data.as_ref())),
    column("czxid", Text, |znode| {
        or_null(znode.then.stat, |stat| shown(stat.czxid))
    }),
    column("mzxid", Text, |znode| {
        or_null(znode.then.stat, |stat| shown(stat.mzxid))
    }),
    column("pzxid", Text, |znode| {
        or_null(znode.then.stat, |stat| shown(stat.pzxid))
    }),
    column("ctime", Time, |znode| {
        or_null(znode.then.stat, |stat| time(stat.ctime))
    }),
    column("mtime", Time, |znode| {
        or_null(znode.then.stat, |stat| time(stat.mtime))
    }),
    column("version", Number, |znode| {
        or_null(znode.then.stat, |stat| number(stat.version))
    }),
    column("cversion", Number, |znode| {
        or_null(znode.then.stat, |stat| number(stat.cversion))
    }),
    column("aversion", Number, |znode| {
        or_null(znode.then.stat, |stat| number(stat.aversion))
    }),
    column("owner", Text, |znode| {
        or_null(znode.then.stat.and_then(owner), shown)
    }),
    column("children", Number, |znode| {
        or_null(znode.then.stat, |stat| number(stat.num_children))
    }),
];

fn or_null<'a, T>(content: Option<T>, cell: impl FnOnce(T) -> Cell<'a>) -> Cell<'a> {
    content.map_or(Cell::Null, cell)
}

/// A count beyond 63 bits is none that occurs; it is written as the greatest number.
fn number<'a>(number: impl TryInto<i64>) -> Cell<'a> {
    Cell::Number(number.try_into().unwrap_or(i64::MAX))
}

fn epoch<'a>(epoch: Epoch) -> Cell<'a> {
    number(epoch.0)
}

fn time<'a>(ms: i64) -> Cell<'a> {
    or_null(Timestamp::of_stat(ms), Cell::Time)
}

fn borrowed(text: &str) -> Cell<'_> {
    Cell::Text(Cow::Borrowed(text))
}

fn path(path: &ZnodePath) -> Cell<'_> {
    borrowed(path.as_str())
}

fn shown<'a>(of: impl Display) -> Cell<'a> {
    Cell::Text(Cow::Owned(of.to_string()))
}

/// The word of the record's JSON.
fn word<'a>(of: &impl Serialize) -> Cell<'a> {
    let json = serde_json::to_string(of).expect("a word is JSON");
    Cell::Text(Cow::Owned(json.trim_matches('"').to_owned()))
}

/// The JSON of the record.
fn json<'a>(of: &impl Serialize) -> Cell<'a> {
    Cell::Text(Cow::Owned(
        serde_json::to_string(of).expect("a part of a record is JSON"),
    ))
}

fn data(state: &Option<State>) -> Option<&Data> {
    state.as_ref().and_then(|state| state.data.as_ref())
}

fn encoding(data: Option<&Data>) -> Cell<'_> {
    or_null(data, |data| {
        borrowed(match data.value() {
            DataValue::Json(_) => "json",
            DataValue::Text(_) => "utf8",
            DataValue::Base64(_) => "base64",
        })
    })
}

fn size(data: Option<&Data>) -> Cell<'_> {
    or_null(data, |data| number(data.size))
}

fn truncated(data: Option<&Data>) -> Cell<'_> {
    or_null(data, |data| Cell::Flag(data.truncated))
}

fn masked(data: Option<&Data>) -> Cell<'_> {
    or_null(data, |data| Cell::Flag(data.is_masked()))
}

fn sha256(data: Option<&Data>) -> Cell<'_> {
    let digest = data.and_then(|data| data.digest.as_ref());
    or_null(digest, |digest| {
        let digits = digest.iter().map(|byte| format!("{byte:02x}"));
        Cell::Text(Cow::Owned(digits.collect()))
    })
}

/// The Stat after the change; of a delete the last one before it.
fn stat(record: &Record) -> Option<Stat> {
    let state = record.after.as_ref().or(record.before.as_ref());
    state.and_then(|state| state.stat)
}

fn owner(stat: Stat) -> Option<SessionId> {
    stat.is_ephemeral().then_some(stat.ephemeral_owner)
}

fn txn(record: &Record) -> Option<&Txn> {
    record.txn.as_deref()
}

fn gap(record: &Record) -> Option<&Gap> {
    record.gap.as_ref()
}

fn run(record: &Record) -> Option<&Run> {
    record.run.as_ref()
}
