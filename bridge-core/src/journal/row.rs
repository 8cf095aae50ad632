//! The columns of a record: how each field is stored, written once and changed only by a fold ([`super::folding`]).
//!
//! A field that follows from other columns is not stored: `changed` if a Stat has it, the cluster, whether there is an
//! `after`.

use std::sync::{Arc, LazyLock};

use rusqlite::types::FromSqlError;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::code::{
    FactsCode, StatBytes, StatCode, TxnCode, ZxidsCode, decode_run, encode_facts, encode_run, encode_txn,
};
use super::event_row::EventDetail;
use super::rows::{Columns, Writing};
use crate::append::NodeFacts;
use crate::fold::FoldInput;
use crate::number::{Seq, Zxid};
use crate::record::{
    Acl, Data, DataForm, Fidelity, Gap, Mode, Op, Run, ServiceEvent, Stat, Times, Timestamp, Txn, ZxidKind,
};

/// The `before` of a record, and where its data is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BeforeColumn {
    /// Null.
    Null,
    /// Only the Stat.
    Stat,
    /// With the value that the record retired.
    Retired,
    /// With the value of the record itself, which it did not change.
    Kept,
}

/// Something for each of the two states of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Values<T> {
    /// For `before`.
    pub(super) before: T,
    /// For `after`.
    pub(super) after: T,
}

/// A record as it is stored: numbers in place of paths, origin and values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) seq: Seq,
    pub(super) id: Uuid,
    pub(super) op: Op,
    pub(super) root: Option<i64>,
    pub(super) path: Option<i64>,
    /// The record of the path before this one.
    pub(super) previous: Option<Seq>,
    pub(super) zxid: Option<Zxid>,
    pub(super) zxid_kind: ZxidKind,
    pub(super) fidelity: Fidelity,
    pub(super) missed: Option<u64>,
    pub(super) superseded: Vec<Zxid>,
    pub(super) ephemeral: Option<bool>,
    pub(super) before: BeforeColumn,
    pub(super) before_stat: Option<Stat>,
    /// The value that is no longer needed once this record is removed.
    pub(super) retired: Option<i64>,
    pub(super) stat: Option<Stat>,
    pub(super) value: Option<i64>,
    /// Where `stat` does not tell it.
    pub(super) changed: Option<Timestamp>,
    pub(super) captured: Timestamp,
    pub(super) origin: i64,
    pub(super) detail: Detail,
    pub(super) txn: Option<Box<Txn>>,
    pub(super) facts: Option<Box<NodeFacts>>,
}

/// The objects that only few records have.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Detail {
    None,
    Run(Run),
    Gap(Gap),
    Acl(Vec<Acl>),
    Event(Box<EventDetail>),
}

#[derive(Deserialize)]
enum Written {
    Gap(Gap),
    Acl(Vec<Acl>),
    Event(Box<EventDetail>),
}

/// The same without a copy.
#[derive(Serialize)]
#[serde(rename = "Written")]
enum ToWrite<'a> {
    Gap(&'a Gap),
    Acl(&'a [Acl]),
    Event(&'a EventDetail),
}

static RECORDS: LazyLock<Writing> = LazyLock::new(|| {
    let into = "INSERT INTO record(
        seq, id, op, root, path, previous, zxid, zxid_kind, fidelity, missed, superseded, ephemeral, before,
        before_stat, retired, stat, value, changed, captured, origin, detail, txn, facts)";
    Writing::new(into, 23)
});

static VALUES: LazyLock<Writing> =
    LazyLock::new(|| Writing::new("INSERT INTO value(id, form, size, truncated, bytes, digest)", 6));

/// Records after ?1, at most ?2, each with the data of `value` and of `before`.
pub(super) const SELECT: &str = "SELECT
    r.seq, r.id, r.op, r.root, r.path, r.previous, r.zxid, r.zxid_kind, r.fidelity, r.missed, r.superseded,
    r.ephemeral, r.before, r.before_stat, r.retired, r.stat, r.value, r.changed, r.captured, r.origin, r.detail,
    r.txn, r.facts, a.form, a.size, a.truncated, a.bytes, a.digest, b.form, b.size, b.truncated, b.bytes, b.digest
    FROM record r
    LEFT JOIN value a ON a.id = r.value
    LEFT JOIN value b ON b.id = iif(r.before = 2, r.retired, NULL)
    WHERE r.seq > ?1 ORDER BY r.seq LIMIT ?2";

/// Records without data.
const BARE: &str = "SELECT
    seq, id, op, root, path, previous, zxid, zxid_kind, fidelity, missed, superseded, ephemeral, before, before_stat,
    retired, stat, value, changed, captured, origin, detail, txn, facts FROM record WHERE";

static SELECT_BARE: LazyLock<String> = LazyLock::new(|| format!("{BARE} seq = ?1"));

static SELECT_BARE_BETWEEN: LazyLock<String> =
    LazyLock::new(|| format!("{BARE} seq > ?1 AND seq <= ?2 ORDER BY seq"));

const UPDATE_FOLDED: &str = "UPDATE record SET
    previous = ?2, missed = ?3, superseded = ?4, before = ?5, before_stat = ?6, retired = ?7 WHERE seq = ?1";

/// More than a number, or the lengths of three texts, take in a column.
const NUMBERS_BYTES: usize = 16;

/// The initial capacity for a detail as JSON: enough for most service events.
const DETAIL_GUESS: usize = 1_024;

/// Where the data of `value` begins in [`SELECT`], and the data of `retired`.
const VALUE_AT: usize = 23;
const RETIRED_AT: usize = 28;

impl Stored {
    /// An empty record, of the root, path and origin 0.
    pub(super) fn blank(seq: Seq, op: Op, captured: Timestamp) -> Stored {
        Stored {
            seq,
            id: Uuid::nil(),
            op,
            root: None,
            path: None,
            previous: None,
            zxid: None,
            zxid_kind: ZxidKind::Unknown,
            fidelity: Fidelity::Exact,
            missed: None,
            superseded: Vec::new(),
            ephemeral: None,
            before: BeforeColumn::Null,
            before_stat: None,
            retired: None,
            stat: None,
            value: None,
            changed: None,
            captured,
            origin: 0,
            detail: Detail::None,
            txn: None,
            facts: None,
        }
    }

    /// `detail` is that of [`Detail::bytes`].
    fn bind(&self, detail: Option<&[u8]>, to: &mut Columns<'_, '_>) -> rusqlite::Result<()> {
        to.put(self.seq.0.cast_signed())?;
        to.put(self.id.as_bytes().as_slice())?;
        to.put(op_number(self.op))?;
        to.put(self.root)?;
        to.put(self.path)?;
        to.put(self.previous.map(|seq| seq.0.cast_signed()))?;
        to.put(self.zxid.map(|zxid| zxid.0.cast_signed()))?;
        to.put(kind_number(self.zxid_kind))?;
        to.put(self.fidelity == Fidelity::Reconciled)?;
        to.put(self.missed.map(u64::cast_signed))?;
        to.put(ZxidsCode(self.superseded.clone()))?;
        to.put(self.ephemeral)?;
        to.put(self.before.number())?;
        to.put(self.before_stat.map(StatBytes::of))?;
        to.put(self.retired)?;
        to.put(self.stat.map(StatBytes::of))?;
        to.put(self.value)?;
        to.put(self.changed.map(|time| time.0))?;
        to.put(self.captured.0)?;
        to.put(self.origin)?;
        to.put(detail)?;
        to.put(self.txn.as_deref().map(encode_txn))?;
        to.put(self.facts.as_deref().map(encode_facts))
    }

    /// Bytes of the columns that have no fixed size besides the detail, or more. Values are stored elsewhere.
    pub(super) fn long_columns_bytes(&self) -> u64 {
        let texts = self.txn.as_deref().map_or(0, |txn| {
            let texts = [&txn.client, &txn.user].into_iter().flatten();
            texts.map(|text| text.len()).sum::<usize>()
        });
        let acl = self.facts.as_deref().and_then(|facts| facts.acl.as_ref());
        let lists = acl.into_iter().flatten();
        let lists: usize = lists
            .map(|entry| entry.scheme.len() + entry.id.len() + entry.perms.len() + NUMBERS_BYTES)
            .sum();
        let zxids = self.superseded.len() * NUMBERS_BYTES;
        (texts + lists + zxids) as u64
    }

    /// The row of a position.
    pub(super) fn find(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<Stored>> {
        connection
            .prepare_cached(&SELECT_BARE)?
            .query_row([seq.0.cast_signed()], Stored::of_row)
            .optional()
    }

    /// Reads each record after `after`, up to and including `until`, in order, without data.
    pub(super) fn each_between(
        connection: &Connection,
        after: Seq,
        until: Seq,
        mut take: impl FnMut(&Stored),
    ) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(&SELECT_BARE_BETWEEN)?;
        let mut rows = statement.query((after.0.cast_signed(), until.0.cast_signed()))?;
        while let Some(row) = rows.next()? {
            take(&Stored::of_row(row)?);
        }
        Ok(())
    }

    /// The fields that decide about a fold.
    pub(super) fn fold_input(&self) -> FoldInput<'_> {
        FoldInput {
            op: self.op,
            zxid: self.zxid,
            before: self.before_stat.map(|stat| stat.czxid),
            after: self.stat.map(|stat| stat.czxid),
            missed: self.missed,
            superseded: &self.superseded,
        }
    }

    /// Writes again what a fold changes.
    pub(super) fn store_folded(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.prepare_cached(UPDATE_FOLDED)?.execute(params![
            self.seq.0.cast_signed(),
            self.previous.map(|seq| seq.0.cast_signed()),
            self.missed.map(u64::cast_signed),
            ZxidsCode(self.superseded.clone()),
            self.before.number(),
            self.before_stat.map(StatBytes::of),
            self.retired,
        ])?;
        Ok(())
    }

    /// Reads the row.
    pub(super) fn of_row(row: &Row<'_>) -> rusqlite::Result<Stored> {
        let seq: i64 = row.get(0)?;
        let op = op_of_number(row.get(2)?).ok_or_else(|| wrong(2))?;
        let fidelity = match row.get(8)? {
            true => Fidelity::Reconciled,
            false => Fidelity::Exact,
        };
        Ok(Stored {
            seq: Seq(seq.cast_unsigned()),
            id: Uuid::from_bytes(row.get(1)?),
            op,
            root: row.get(3)?,
            path: row.get(4)?,
            previous: row.get::<_, Option<i64>>(5)?.map(|seq| Seq(seq.cast_unsigned())),
            zxid: row
                .get::<_, Option<i64>>(6)?
                .map(|zxid| Zxid(zxid.cast_unsigned())),
            zxid_kind: kind_of_number(row.get(7)?).ok_or_else(|| wrong(7))?,
            fidelity,
            missed: row.get::<_, Option<i64>>(9)?.map(i64::cast_unsigned),
            superseded: row.get::<_, ZxidsCode>(10)?.0,
            ephemeral: row.get(11)?,
            before: BeforeColumn::of_number(row.get(12)?).ok_or_else(|| wrong(12))?,
            before_stat: row.get::<_, Option<StatCode>>(13)?.map(|StatCode(stat)| stat),
            retired: row.get(14)?,
            stat: row.get::<_, Option<StatCode>>(15)?.map(|StatCode(stat)| stat),
            value: row.get(16)?,
            changed: row.get::<_, Option<i64>>(17)?.map(Timestamp),
            captured: Timestamp(row.get(18)?),
            origin: row.get(19)?,
            detail: Detail::of_row(row, op)?,
            txn: row.get::<_, Option<TxnCode>>(21)?.map(|TxnCode(txn)| txn),
            facts: row.get::<_, Option<FactsCode>>(22)?.map(|FactsCode(facts)| facts),
        })
    }

    /// The values in its `before` and its `after`.
    pub(super) fn values(&self) -> Values<Option<i64>> {
        Values {
            before: match self.before {
                BeforeColumn::Null | BeforeColumn::Stat => None,
                BeforeColumn::Retired => self.retired,
                BeforeColumn::Kept => self.value,
            },
            after: self.value.filter(|_| self.has_after()),
        }
    }

    /// Whether its record has a state after the change.
    pub(super) fn has_after(&self) -> bool {
        !self.op.is_control() && self.op != Op::Delete
    }

    /// The data of [`Stored::values`], from the same row of [`SELECT`].
    pub(super) fn data(&self, row: &Row<'_>) -> rusqlite::Result<Values<Option<Data>>> {
        let Values { before, after } = self.values();
        let before_at = match self.before {
            BeforeColumn::Retired => RETIRED_AT,
            _ => VALUE_AT,
        };
        Ok(Values {
            before: data_at(row, before_at, before)?,
            after: data_at(row, VALUE_AT, after)?,
        })
    }

    /// When it happened and when it was captured.
    pub(super) fn times(&self) -> Times {
        Times {
            changed: changed_of(self.op, self.stat, self.changed),
            captured: self.captured,
        }
    }
}

/// When a change happened: the Stat says it, or the column for it. The Stat of a list has the time of another change.
pub(super) fn changed_of(op: Op, stat: Option<Stat>, changed: Option<Timestamp>) -> Option<Timestamp> {
    let noted = stat
        .filter(|_| op != Op::Acl)
        .and_then(|stat| Timestamp::of_stat(stat.mtime));
    noted.or(changed)
}

/// The data that begins in a column. A value that is named and not there is damage, not an absent value.
fn data_at(row: &Row<'_>, at: usize, value: Option<i64>) -> rusqlite::Result<Option<Data>> {
    if value.is_none() {
        return Ok(None);
    }
    let form = form_of_number(row.get(at)?).ok_or_else(|| wrong(at))?;
    Ok(Some(Data {
        bytes: row.get_ref(at + 3)?.as_blob()?.into(),
        size: row.get(at + 1)?,
        form,
        truncated: row.get(at + 2)?,
        digest: row.get(at + 4)?,
    }))
}

/// The data of a value that is named.
pub(super) fn data_of_value(connection: &Connection, id: i64) -> rusqlite::Result<Data> {
    connection
        .prepare_cached("SELECT form, size, truncated, bytes, digest FROM value WHERE id = ?1")?
        .query_row([id], |row| data_at(row, 0, Some(id)))?
        .ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// The same without its bytes.
pub(super) fn size_of_value(connection: &Connection, id: i64) -> rusqlite::Result<Data> {
    connection
        .prepare_cached("SELECT form, size, truncated FROM value WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(Data {
                bytes: Arc::default(),
                size: row.get(1)?,
                form: form_of_number(row.get(0)?).ok_or_else(|| wrong(0))?,
                truncated: row.get(2)?,
                digest: None,
            })
        })
}

/// Replaces the data of a value.
pub(super) fn replace_value(connection: &Connection, id: i64, data: &Data) -> rusqlite::Result<()> {
    let digest = data.digest.as_ref().map(|digest| &digest[..]);
    connection
        .prepare_cached(
            "UPDATE value SET form = ?2, size = ?3, truncated = ?4, bytes = ?5, digest = ?6 WHERE id = ?1",
        )?
        .execute((
            id,
            form_number(data.form),
            data.size,
            data.truncated,
            &*data.bytes,
            digest,
        ))
        .map(drop)
}

/// Appends the rows of records, each with the bytes of its detail.
pub(super) fn insert_records<'a>(
    connection: &Connection,
    records: impl Iterator<Item = (&'a Stored, Option<&'a [u8]>)>,
) -> rusqlite::Result<()> {
    let records: Vec<_> = records.collect();
    RECORDS.write(connection, &records, |(record, detail), to| {
        record.bind(*detail, to)
    })
}

/// Stores data, each under the seq of the record that brought it.
pub(super) fn insert_values(connection: &Connection, values: &[(i64, &Data)]) -> rusqlite::Result<()> {
    VALUES.write(connection, values, |(id, data), to| {
        to.put(id)?;
        to.put(form_number(data.form))?;
        to.put(data.size)?;
        to.put(data.truncated)?;
        to.put(&*data.bytes)?;
        to.put(data.digest.as_ref().map(|digest| &digest[..]))
    })
}

/// The detail of a service event without its facts, if it is one that `wanted` selects.
pub(super) fn without_facts(detail: &[u8], wanted: impl Fn(&ServiceEvent) -> bool) -> Option<Vec<u8>> {
    let Ok(Written::Event(mut detail)) = serde_json::from_slice(detail) else {
        return None;
    };
    if !wanted(&detail.event) {
        return None;
    }
    detail.event = Arc::new(detail.event.without_facts());
    Detail::Event(detail).bytes()
}

impl Detail {
    /// The column.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let written = match self {
            Detail::None => return None,
            Detail::Run(run) => return Some(encode_run(run)),
            Detail::Gap(gap) => ToWrite::Gap(gap),
            Detail::Acl(acl) => ToWrite::Acl(acl),
            Detail::Event(event) => ToWrite::Event(event),
        };
        let mut bytes = Vec::with_capacity(DETAIL_GUESS);
        serde_json::to_writer(&mut bytes, &written).expect("the objects of a record have only text keys");
        Some(bytes)
    }

    fn of_row(row: &Row<'_>, op: Op) -> rusqlite::Result<Detail> {
        const AT: usize = 20;
        let Some(bytes) = row.get_ref(AT)?.as_blob_or_null()? else {
            return Ok(Detail::None);
        };
        let failed = |error: FromSqlError| {
            rusqlite::Error::FromSqlConversionFailure(AT, rusqlite::types::Type::Blob, Box::new(error))
        };
        match op {
            Op::Snapshot | Op::SnapshotBegin | Op::SnapshotEnd => {
                decode_run(bytes).map(Detail::Run).map_err(failed)
            }
            _ => match serde_json::from_slice(bytes) {
                Ok(Written::Gap(gap)) => Ok(Detail::Gap(gap)),
                Ok(Written::Acl(acl)) => Ok(Detail::Acl(acl)),
                Ok(Written::Event(event)) => Ok(Detail::Event(event)),
                Err(error) => Err(failed(FromSqlError::Other(Box::new(error)))),
            },
        }
    }
}

impl BeforeColumn {
    fn number(self) -> i64 {
        match self {
            BeforeColumn::Null => 0,
            BeforeColumn::Stat => 1,
            BeforeColumn::Retired => 2,
            BeforeColumn::Kept => 3,
        }
    }

    fn of_number(number: i64) -> Option<BeforeColumn> {
        [
            BeforeColumn::Null,
            BeforeColumn::Stat,
            BeforeColumn::Retired,
            BeforeColumn::Kept,
        ]
        .into_iter()
        .find(|column| column.number() == number)
    }
}

fn wrong(column: usize) -> rusqlite::Error {
    rusqlite::Error::IntegralValueOutOfRange(column, 0)
}

/// The number of an op. Files contain these numbers: never change or reuse one.
pub(super) fn op_number(op: Op) -> i64 {
    match op {
        Op::Create => 0,
        Op::Update => 1,
        Op::Delete => 2,
        Op::Acl => 3,
        Op::Snapshot => 4,
        Op::SnapshotBegin => 5,
        Op::SnapshotEnd => 6,
        Op::GapBegin => 7,
        Op::GapEnd => 8,
        Op::Heartbeat => 9,
        Op::Service => 10,
    }
}

/// The op of a number.
pub(super) fn op_of_number(number: i64) -> Option<Op> {
    Op::ALL.iter().copied().find(|op| op_number(*op) == number)
}

pub(super) fn kind_number(kind: ZxidKind) -> i64 {
    match kind {
        ZxidKind::Exact => 0,
        ZxidKind::UpperBound => 1,
        ZxidKind::Unknown => 2,
    }
}

pub(super) fn kind_of_number(number: i64) -> Option<ZxidKind> {
    [ZxidKind::Exact, ZxidKind::UpperBound, ZxidKind::Unknown]
        .into_iter()
        .find(|kind| kind_number(*kind) == number)
}

fn form_number(form: DataForm) -> i64 {
    match form {
        DataForm::Auto => 0,
        DataForm::Base64 => 1,
        DataForm::Json => 2,
        DataForm::Masked => 3,
    }
}

fn form_of_number(number: i64) -> Option<DataForm> {
    [DataForm::Auto, DataForm::Base64, DataForm::Json, DataForm::Masked]
        .into_iter()
        .find(|form| form_number(*form) == number)
}

/// The number of a mode.
pub(super) fn mode_number(mode: Mode) -> i64 {
    match mode {
        Mode::Watch => 0,
        Mode::Observer => 1,
        Mode::Txnlog => 2,
    }
}

/// The mode of a number.
pub(super) fn mode_of_number(number: i64) -> rusqlite::Result<Mode> {
    [Mode::Watch, Mode::Observer, Mode::Txnlog]
        .into_iter()
        .find(|mode| mode_number(*mode) == number)
        .ok_or_else(|| wrong(0))
}
