//! The encoding of the compact columns: Stats, lists of zxids, positions in a run.
//!
//! Numbers are LEB128, and signed ones are in zigzag. The zxids and times of a Stat are stored as their distance from
//! its czxid and ctime, which are close to them: a Stat of 68 bytes takes about 25. Never change an encoding here
//! without a new format number.

use std::io::{Cursor, Write};
use std::sync::Arc;

use integer_encoding::{VarInt, VarIntWriter};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use uuid::Uuid;

use crate::append::NodeFacts;
use crate::number::{SessionId, Zxid};
use crate::record::{Acl, Lifetime, LifetimeKind, Run, SessionEnd, Stat, Txn, TxnKind};

/// Stored bytes that are no such code.
#[derive(Debug, thiserror::Error)]
#[error("{0} bytes are no {1} of a journal")]
struct BadCode(usize, &'static str);

/// A Stat as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatCode(pub(super) Stat);

/// The longest code of a Stat: 11 numbers.
const STAT_BYTES: usize = 11 * NUMBER_BYTES;

/// The most bytes of a number of 64 bits, with 7 bits in each byte.
const NUMBER_BYTES: usize = 10;

/// An encoded Stat, without an allocation.
pub(super) struct StatBytes(Cursor<[u8; STAT_BYTES]>);

impl StatBytes {
    /// The code of a Stat.
    pub(super) fn of(stat: Stat) -> StatBytes {
        let mut out = Cursor::new([0; STAT_BYTES]);
        put(&mut out, stat.czxid.0);
        put_distance(&mut out, stat.czxid.0, stat.mzxid.0);
        put_distance(&mut out, stat.czxid.0, stat.pzxid.0);
        put(&mut out, stat.ctime);
        put_distance(&mut out, stat.ctime.cast_unsigned(), stat.mtime.cast_unsigned());
        put(&mut out, stat.version);
        put(&mut out, stat.cversion);
        put(&mut out, stat.aversion);
        put(&mut out, stat.ephemeral_owner.0);
        put(&mut out, stat.data_length);
        put(&mut out, stat.num_children);
        StatBytes(out)
    }
}

impl ToSql for StatBytes {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let length = usize::try_from(self.0.position()).expect("it is within the bytes");
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0.get_ref()[..length])))
    }
}

impl FromSql for StatCode {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        decode_stat(bytes).map(StatCode).ok_or_else(|| bad(bytes, "Stat"))
    }
}

fn decode_stat(mut bytes: &[u8]) -> Option<Stat> {
    let from = &mut bytes;
    let czxid = take(from)?;
    let mzxid = take_distance(from, czxid)?;
    let pzxid = take_distance(from, czxid)?;
    let ctime = take::<i64>(from)?;
    let mtime = take_distance(from, ctime.cast_unsigned())?.cast_signed();
    let stat = Stat {
        czxid: Zxid(czxid),
        mzxid: Zxid(mzxid),
        pzxid: Zxid(pzxid),
        ctime,
        mtime,
        version: take(from)?,
        cversion: take(from)?,
        aversion: take(from)?,
        ephemeral_owner: SessionId(take(from)?),
        data_length: take(from)?,
        num_children: take(from)?,
    };
    bytes.is_empty().then_some(stat)
}

/// Ascending zxids as a column; no zxids are null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ZxidsCode(pub(super) Vec<Zxid>);

impl ToSql for ZxidsCode {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        if self.0.is_empty() {
            return Ok(ToSqlOutput::Owned(Value::Null));
        }
        let mut out = Vec::with_capacity(8 + 2 * self.0.len());
        let mut last = 0;
        for zxid in &self.0 {
            put_distance(&mut out, last, zxid.0);
            last = zxid.0;
        }
        Ok(ToSqlOutput::Owned(Value::Blob(out)))
    }
}

impl FromSql for ZxidsCode {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        if matches!(value, ValueRef::Null) {
            return Ok(ZxidsCode(Vec::new()));
        }
        let bytes = value.as_blob()?;
        decode_zxids(bytes)
            .map(ZxidsCode)
            .ok_or_else(|| bad(bytes, "list of zxids"))
    }
}

fn decode_zxids(mut bytes: &[u8]) -> Option<Vec<Zxid>> {
    let mut zxids = Vec::new();
    let mut last = 0;
    while !bytes.is_empty() {
        last = take_distance(&mut bytes, last)?;
        zxids.push(Zxid(last));
    }
    Some(zxids)
}

/// The bytes of a place in a run.
pub(super) fn encode_run(run: &Run) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    out.extend_from_slice(run.id.as_bytes());
    put(&mut out, run.index);
    if let (Some(nodes), Some(unreadable)) = (run.nodes, run.unreadable) {
        put(&mut out, nodes);
        put(&mut out, unreadable);
    }
    out
}

/// The place in a run that such bytes name.
pub(super) fn decode_run(bytes: &[u8]) -> FromSqlResult<Run> {
    let decoded = bytes.split_first_chunk().and_then(|(id, mut rest)| {
        let index = take(&mut rest)?;
        let mut run = Run {
            id: Uuid::from_bytes(*id),
            index,
            nodes: None,
            unreadable: None,
        };
        if !rest.is_empty() {
            run.nodes = Some(take(&mut rest)?);
            run.unreadable = Some(take(&mut rest)?);
        }
        rest.is_empty().then_some(run)
    });
    decoded.ok_or_else(|| bad(bytes, "run"))
}

/// The kinds of transactions by their number in a code. Only append to it.
const TXN_KINDS: [TxnKind; 9] = [
    TxnKind::Create,
    TxnKind::CreateContainer,
    TxnKind::CreateTtl,
    TxnKind::SetData,
    TxnKind::SetAcl,
    TxnKind::Delete,
    TxnKind::DeleteContainer,
    TxnKind::CloseSession,
    TxnKind::Multi,
];

/// A transaction as it is read.
pub(super) struct TxnCode(pub(super) Box<Txn>);

/// The bytes of a transaction.
pub(super) fn encode_txn(txn: &Txn) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    put(&mut out, txn.session.0);
    put(&mut out, txn.cxid);
    put(&mut out, txn.index);
    put(&mut out, txn.count);
    let kind = TXN_KINDS.iter().position(|kind| *kind == txn.kind);
    put(&mut out, kind.expect("every kind has a number"));
    put(&mut out, txn.time);
    let ended_by: u8 = match txn.ended_by {
        None => 0,
        Some(SessionEnd::Client) => 1,
        Some(SessionEnd::Server) => 2,
    };
    put(&mut out, ended_by);
    put(&mut out, txn.rest);
    for text in [&txn.client, &txn.user] {
        // 0: none; otherwise the length and 1.
        put(&mut out, text.as_ref().map_or(0, |text| text.len() + 1));
        out.extend_from_slice(text.as_deref().unwrap_or_default().as_bytes());
    }
    out
}

impl FromSql for TxnCode {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        decode_txn(bytes)
            .map(|txn| TxnCode(Box::new(txn)))
            .ok_or_else(|| bad(bytes, "transaction"))
    }
}

fn decode_txn(mut bytes: &[u8]) -> Option<Txn> {
    let from = &mut bytes;
    let txn = Txn {
        session: SessionId(take(from)?),
        cxid: take(from)?,
        index: take(from)?,
        count: take(from)?,
        kind: *TXN_KINDS.get(take::<usize>(from)?)?,
        time: take(from)?,
        ended_by: match take::<u64>(from)? {
            0 => None,
            1 => Some(SessionEnd::Client),
            2 => Some(SessionEnd::Server),
            _ => return None,
        },
        rest: take(from)?,
        client: take_text(from)?,
        user: take_text(from)?,
    };
    bytes.is_empty().then_some(txn)
}

/// Kinds of znodes by their number in a code. Only append to it.
const LIFETIMES: [LifetimeKind; 4] = [
    LifetimeKind::Persistent,
    LifetimeKind::Ephemeral,
    LifetimeKind::Container,
    LifetimeKind::Ttl,
];

/// The number of a lifetime that is not known.
const UNKNOWN_LIFETIME: usize = 100;

/// Facts of a znode as they are read.
pub(super) struct FactsCode(pub(super) Box<NodeFacts>);

/// The bytes of facts.
pub(super) fn encode_facts(facts: &NodeFacts) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    let number = |lifetime: Lifetime| {
        let kind = LIFETIMES.iter().position(|kind| *kind == lifetime.kind);
        kind.expect("every kind has a number")
    };
    put(&mut out, facts.lifetime.map_or(UNKNOWN_LIFETIME, number));
    // 0: none; otherwise the number and 1.
    let ttl = facts.lifetime.and_then(|lifetime| lifetime.ttl);
    put(&mut out, u8::from(ttl.is_some()));
    put(&mut out, ttl.unwrap_or_default());
    put(&mut out, facts.acl.as_ref().map_or(0, |acl| acl.len() + 1));
    for entry in facts.acl.iter().flatten() {
        for text in [&entry.scheme, &entry.id, &entry.perms] {
            put(&mut out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

impl FromSql for FactsCode {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        decode_facts(bytes)
            .map(|facts| FactsCode(Box::new(facts)))
            .ok_or_else(|| bad(bytes, "facts of a znode"))
    }
}

fn decode_facts(mut bytes: &[u8]) -> Option<NodeFacts> {
    let from = &mut bytes;
    let kind = match take::<usize>(from)? {
        UNKNOWN_LIFETIME => None,
        number => Some(*LIFETIMES.get(number)?),
    };
    let has_ttl = match take::<u64>(from)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let ttl = take(from)?;
    let acl = match take::<u64>(from)? {
        0 => None,
        count => {
            let mut acl = Vec::new();
            for _ in 1..count {
                acl.push(Acl {
                    scheme: take_string(from)?,
                    id: take_string(from)?,
                    perms: take_string(from)?,
                });
            }
            Some(acl)
        }
    };
    let ttl = has_ttl.then_some(ttl);
    bytes.is_empty().then_some(NodeFacts {
        lifetime: kind.map(|kind| Lifetime { kind, ttl }),
        acl,
    })
}

fn take_string(bytes: &mut &[u8]) -> Option<String> {
    let length = take(bytes)?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

fn take_text(bytes: &mut &[u8]) -> Option<Option<Arc<str>>> {
    let Some(length) = take::<usize>(bytes)?.checked_sub(1) else {
        return Some(None);
    };
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Some(std::str::from_utf8(text).ok()?.into()))
}

fn bad(bytes: &[u8], what: &'static str) -> FromSqlError {
    FromSqlError::Other(Box::new(BadCode(bytes.len(), what)))
}

pub(super) fn put(out: &mut impl Write, number: impl VarInt) {
    out.write_varint(number).expect("there is room for every number");
}

fn put_distance(out: &mut impl Write, from: u64, to: u64) {
    put(out, to.wrapping_sub(from).cast_signed());
}

pub(super) fn take<T: VarInt>(bytes: &mut &[u8]) -> Option<T> {
    let (number, length) = T::decode_var(bytes)?;
    *bytes = &bytes[length..];
    Some(number)
}

fn take_distance(bytes: &mut &[u8], from: u64) -> Option<u64> {
    take::<i64>(bytes).map(|distance| from.wrapping_add(distance.cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored<T: ToSql>(value: &T) -> Value {
        match value.to_sql().unwrap() {
            ToSqlOutput::Owned(value) => value,
            ToSqlOutput::Borrowed(value) => value.try_into().unwrap(),
            other => panic!("{other:?} is no value"),
        }
    }

    fn read<T: FromSql>(value: &Value) -> FromSqlResult<T> {
        T::column_result(ValueRef::from(value))
    }

    #[test]
    fn facts_with_a_mark_of_a_ttl_other_than_0_or_1_are_refused() {
        let ttl = Some(5);
        let kind = LifetimeKind::Ttl;
        let facts = NodeFacts {
            lifetime: Some(Lifetime { kind, ttl }),
            acl: None,
        };
        let mut bytes = encode_facts(&facts);
        assert_eq!((bytes[1], decode_facts(&bytes)), (1, Some(facts)));
        for mark in 2..0x80 {
            bytes[1] = mark;
            assert_eq!(decode_facts(&bytes), None, "{mark}");
        }
    }

    prop_compose! {
        fn any_stat()(
            zxids in proptest::array::uniform3(any::<u64>()),
            times in proptest::array::uniform2(any::<i64>()),
            counts in proptest::array::uniform5(any::<i32>()),
            owner in any::<u64>(),
        ) -> Stat {
            Stat {
                czxid: Zxid(zxids[0]), mzxid: Zxid(zxids[1]), pzxid: Zxid(zxids[2]), ctime: times[0],
                mtime: times[1], version: counts[0], cversion: counts[1], aversion: counts[2],
                ephemeral_owner: SessionId(owner), data_length: counts[3], num_children: counts[4],
            }
        }
    }

    proptest! {
        #[test]
        fn every_stat_is_read_as_it_was_written_and_no_shorter_code_is_one(stat in any_stat()) {
            let written = stored(&StatBytes::of(stat));
            prop_assert_eq!(read::<StatCode>(&written).unwrap(), StatCode(stat));
            let Value::Blob(mut bytes) = written else { panic!("a Stat is a blob") };
            bytes.pop();
            prop_assert!(read::<StatCode>(&Value::Blob(bytes)).is_err());
        }

        #[test]
        fn every_list_of_zxids_is_read_as_it_was_written(zxids in proptest::collection::vec(any::<u64>(), 0..70)) {
            let list = ZxidsCode(zxids.into_iter().map(Zxid).collect());
            prop_assert_eq!(read::<ZxidsCode>(&stored(&list)).unwrap(), list);
        }

        #[test]
        fn every_place_in_a_run_is_read_as_it_was_written(
            id in any::<u128>(),
            index in any::<u64>(),
            counts in proptest::option::of(any::<(u64, u64)>()),
        ) {
            let run = Run {
                id: Uuid::from_u128(id),
                index,
                nodes: counts.map(|both| both.0),
                unreadable: counts.map(|both| both.1),
            };
            prop_assert_eq!(decode_run(&encode_run(&run)).unwrap(), run);
        }
    }

    proptest! {
        #[test]
        fn facts_of_a_znode_are_read_as_they_were_written_and_no_shorter_code_is_one(
            kind in proptest::option::of(0..LIFETIMES.len()),
            ttl in proptest::option::of(any::<i64>()),
            acl in proptest::option::of(proptest::collection::vec(any::<(String, String, String)>(), 0..4)),
        ) {
            let entry = |(scheme, id, perms)| Acl { scheme, id, perms };
            let facts = NodeFacts {
                lifetime: kind.map(|kind| Lifetime { kind: LIFETIMES[kind], ttl }),
                acl: acl.map(|acl| acl.into_iter().map(entry).collect()),
            };
            let mut bytes = encode_facts(&facts);
            prop_assert_eq!(decode_facts(&bytes), Some(facts));
            bytes.pop();
            prop_assert_eq!(decode_facts(&bytes), None);
        }
    }

    #[test]
    fn numbers_keep_the_bytes_of_the_file_format() {
        fn check<T: VarInt + PartialEq + std::fmt::Debug>(number: T, expected: &[u8]) {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            assert_eq!(bytes, expected, "{number:?}");
            let from = &mut bytes.as_slice();
            assert_eq!(take::<T>(from), Some(number));
            assert!(from.is_empty(), "{number:?}");
        }
        check(0_u64, &[0]);
        check(127_u32, &[0x7f]);
        check(128_usize, &[0x80, 0x01]);
        check(300_u64, &[0xac, 0x02]);
        check(
            u64::MAX,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        );
        check(-1_i32, &[1]);
        check(1_i32, &[2]);
        check(-64_i64, &[0x7f]);
        check(64_i64, &[0x80, 0x01]);
        check(i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
        check(
            i64::MIN,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        );
    }

    #[test]
    fn a_number_that_is_larger_than_its_type_is_refused() {
        let mut bytes = Vec::new();
        put(&mut bytes, i64::from(i32::MAX) + 1);
        assert_eq!(take::<i32>(&mut bytes.as_slice()), None);
        let mut bytes = Vec::new();
        put(&mut bytes, u64::from(u32::MAX) + 1);
        assert_eq!(take::<u32>(&mut bytes.as_slice()), None);
    }

    #[test]
    fn the_stat_of_an_ordinary_znode_takes_less_than_half_of_its_bytes() {
        let stat = Stat {
            czxid: Zxid(0x3_0000_1a01),
            mzxid: Zxid(0x3_0000_1a2f),
            pzxid: Zxid(0x3_0000_1a01),
            ctime: 1_795_355_000_120,
            mtime: 1_795_355_000_123,
            version: 2,
            data_length: 9,
            ..Stat::default()
        };
        let Value::Blob(bytes) = stored(&StatBytes::of(stat)) else {
            panic!("a Stat is a blob")
        };
        assert!(bytes.len() <= 25, "{} bytes", bytes.len());
    }

    #[test]
    fn bytes_that_are_no_code_are_refused() {
        for bytes in [vec![], vec![0x80; 12], vec![1; 30]] {
            assert!(
                read::<StatCode>(&Value::Blob(bytes.clone())).is_err(),
                "{bytes:?}"
            );
            assert!(decode_run(&bytes[..bytes.len().min(16)]).is_err(), "{bytes:?}");
        }
        assert!(read::<ZxidsCode>(&Value::Blob(vec![0x80])).is_err());
    }
}
