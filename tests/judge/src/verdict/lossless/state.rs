//! Compares one record with what its transaction must have led to, field by field.

use serde_json::{Value, json};

use super::net::{Expected, Parts};
use crate::truth::covers;
use crate::truth::log::{Access, Kind, TTL, Transaction};
use crate::truth::shadow::{Znode, is_session};
use crate::verdict::accounts::LISTED_MAX;
use crate::verdict::fields::{bytes, hex};

const DAY_MS: i64 = 86_400_000;

/// The fields that all records of a transaction share.
pub struct Shared<'a> {
    pub transaction: &'a Transaction,
    pub parts: &'a Parts,
    pub roots: &'a [String],
    /// The values that `source.mode` may have.
    pub modes: &'a [&'a str],
    /// Whether the source has `acls = "list"`.
    pub has_lists: bool,
}

/// Zxids and sessions as records write them.
pub fn text_of(number: u64) -> String {
    format!("{number:#018x}")
}

/// Whether the record says that it was read in one of these modes.
pub fn has_mode(record: &Value, modes: &[&str]) -> bool {
    let mode = record["source"]["mode"].as_str();
    mode.is_some_and(|mode| modes.contains(&mode))
}

/// The difference between a record and the one that must be there. `rest`: how many of the transaction follow it.
pub fn check(record: &Value, expected: &Expected, rest: usize, shared: &Shared<'_>) -> Option<String> {
    let Expected {
        op,
        path,
        index,
        missed,
        before,
        after,
    } = expected;
    let Shared {
        transaction,
        parts,
        roots,
        modes,
        has_lists,
    } = *shared;
    let zxid = text_of(transaction.zxid);
    let root = roots.iter().find(|root| covers(root, path));
    let node = after.as_ref().or(before.as_ref())?;
    let mut fields = vec![
        ("op", json!(op)),
        ("path", json!(path)),
        ("root", json!(root)),
        ("zxid", json!(zxid)),
        ("zxid_kind", json!("exact")),
        ("fidelity", json!("exact")),
        ("missed", json!(missed)),
        ("superseded", json!(vec![zxid; (*missed).min(LISTED_MAX)])),
        ("ephemeral", json!(is_session(node.owner))),
        ("txn", txn(transaction, *index, parts.count, rest)),
    ];
    let expected_lifetime = match *op {
        "create" => lifetime(node),
        _ => Value::Null,
    };
    fields.push(("lifetime", expected_lifetime));
    let expected_list = (has_lists && matches!(*op, "create" | "acl")).then(|| list(&node.acl));
    fields.push(("acl", expected_list.unwrap_or_default()));
    let mut differing = fields.iter().filter(|(field, value)| record[*field] != *value);
    if let Some((field, value)) = differing.next() {
        return Some(format!("its {field} is {}, expected {value}", record[*field]));
    }
    if !has_mode(record, modes) {
        return Some(format!(
            "its source.mode is {}, expected one of {modes:?}",
            record["source"]["mode"]
        ));
    }
    let changed = moment(transaction.time_ms);
    if record["time"]["changed"] != json!(changed) {
        return Some(format!(
            "its time.changed is {}, expected {changed}",
            record["time"]["changed"]
        ));
    }
    state("before", &record["before"], before.as_ref())
        .or_else(|| state("after", &record["after"], after.as_ref()))
}

fn txn(transaction: &Transaction, index: usize, count: usize, rest: usize) -> Value {
    let kind = match transaction.kind {
        Kind::Create => "create",
        Kind::CreateContainer => "createContainer",
        Kind::CreateTtl => "createTTL",
        Kind::Delete => "delete",
        Kind::DeleteContainer => "deleteContainer",
        Kind::SetData => "setData",
        Kind::SetAcl => "setACL",
        Kind::CloseSession => "closeSession",
        Kind::Multi | Kind::Other => "multi",
    };
    let ended_by = match (transaction.kind, transaction.cxid) {
        (Kind::CloseSession, 0) => Some("server"),
        (Kind::CloseSession, _) => Some("client"),
        _ => None,
    };
    json!({
        "session": text_of(transaction.session),
        "cxid": transaction.cxid,
        "index": index,
        "count": count,
        "type": kind,
        "time": transaction.time_ms,
        "ended_by": ended_by,
        "client": null,
        "user": null,
        "rest": rest,
    })
}

/// The lifetime of a znode, as its owner says.
pub fn lifetime(node: &Znode) -> Value {
    let (kind, ttl) = match node.owner {
        0 => ("persistent", None),
        owner if is_session(owner) => ("ephemeral", None),
        owner if owner & TTL == TTL => ("ttl", Some(owner & !TTL)),
        _ => ("container", None),
    };
    json!({"kind": kind, "ttl": ttl})
}

/// An access control list as records write it, digests masked.
pub fn list(acl: &[Access]) -> Value {
    // The order of the letters is the contract's, not that of the bits.
    let letters = [(4, 'c'), (8, 'd'), (1, 'r'), (2, 'w'), (16, 'a')];
    let entries = acl.iter().map(|access| {
        let granted = letters.iter().filter(|(bit, _)| access.permissions & bit != 0);
        let perms: String = granted.map(|(_, letter)| letter).collect();
        let id = match (access.scheme.as_str(), access.id.split_once(':')) {
            ("digest", Some((user, _))) => format!("{user}:x"),
            _ => access.id.clone(),
        };
        json!({"scheme": access.scheme, "id": id, "perms": perms})
    });
    entries.collect()
}

/// The difference of `before` or `after` from a znode, in its data and every field of its Stat.
pub fn state(name: &str, found: &Value, node: Option<&Znode>) -> Option<String> {
    let Some(node) = node else {
        return (!found.is_null()).then(|| format!("its {name} is {found}, expected null"));
    };
    value(name, found, node).or_else(|| {
        let (stat, expected) = (&found["stat"], stat(node));
        let fields = expected.as_object().into_iter().flatten();
        let mut differing = fields.filter(|(field, value)| stat[field.as_str()] != **value);
        let (field, value) = differing.next()?;
        Some(format!(
            "its {name}.stat.{field} is {}, expected {value}",
            stat[field.as_str()]
        ))
    })
}

/// The difference in the data.
fn value(name: &str, found: &Value, node: &Znode) -> Option<String> {
    let is_right = bytes(&found["data"]).as_deref() == Some(&*node.data)
        && found["data"]["size"].as_u64() == Some(node.data.len() as u64);
    (!is_right).then(|| {
        let words = String::from_utf8_lossy(&node.data);
        let begin: String = words.chars().take(40).collect();
        format!("its {name}.data are not the {} bytes {begin:?}", node.data.len())
    })
}

/// The difference of the last record of a path from a znode at the end of a gap or listing: in all that a fold keeps
/// right. In a listing that was cut the numbers of children may be older.
pub fn folded(found: &Value, node: &Znode, is_listing: bool) -> Option<String> {
    let difference = state("after", found, Some(node))?;
    let stat = &found["stat"];
    let mut aged = node.clone();
    let is_older = hex(&stat["pzxid"]).is_some_and(|pzxid| pzxid < node.pzxid);
    if is_listing && is_older {
        aged.pzxid = hex(&stat["pzxid"])?;
        aged.children = i32::try_from(stat["numChildren"].as_i64()?).ok()?;
        let read = i32::try_from(stat["cversion"].as_i64()?).ok()?;
        aged.cversion = (read + aged.children) / 2;
        return match aged.cversion <= node.cversion {
            true => state("after", found, Some(&aged)),
            false => Some(difference),
        };
    }
    Some(difference)
}

/// The difference of a compared record from a znode, in what no Stat has: its lifetime and its list.
pub fn facts(record: &Value, node: &Znode, has_lists: bool) -> Option<String> {
    let op = record["op"].as_str().unwrap_or_default();
    let expected_lifetime = match op {
        "create" | "snapshot" => lifetime(node),
        _ => Value::Null,
    };
    let expected_list = match op {
        "create" | "snapshot" | "acl" if has_lists => list(&node.acl),
        _ => Value::Null,
    };
    let expected = [("lifetime", expected_lifetime), ("acl", expected_list)];
    let mut differing = expected.iter().filter(|(field, value)| record[*field] != *value);
    let (field, value) = differing.next()?;
    Some(format!(
        "the {field} of its {op} record is {}, expected {value}",
        record[*field]
    ))
}

/// The Stat that a client reads.
fn stat(node: &Znode) -> Value {
    let owner = if is_session(node.owner) { node.owner } else { 0 };
    json!({
        "czxid": text_of(node.czxid),
        "mzxid": text_of(node.mzxid),
        "pzxid": text_of(node.pzxid),
        "ctime": node.ctime,
        "mtime": node.mtime,
        "version": node.version,
        "cversion": node.cversion.wrapping_mul(2).wrapping_sub(node.children),
        "aversion": node.aversion,
        "ephemeralOwner": text_of(owner),
        "dataLength": node.data.len(),
        "numChildren": node.children,
    })
}

/// A moment as records write it: RFC 3339 in UTC with milliseconds.
pub fn moment(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = date(days);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The date of a day since 1970, counted in years that begin in March, so that the leap day is their last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_in_the_contract() {
        let check = |ms, text| assert_eq!(moment(ms), text);
        check(0, "1970-01-01T00:00:00.000Z");
        check(1_795_355_000_123, "2026-11-22T13:43:20.123Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_709_251_199_999, "2024-02-29T23:59:59.999Z");
        check(1_709_251_200_000, "2024-03-01T00:00:00.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn lists_have_masked_digests_and_the_letters_of_the_contract() {
        let access = |permissions, scheme: &str, id: &str| Access {
            permissions,
            scheme: scheme.to_owned(),
            id: id.to_owned(),
        };
        let acl = [
            access(31, "world", "anyone"),
            access(9, "digest", "ann:secret="),
            access(0, "ip", "10.0.0.1"),
        ];
        let expected = json!([
            {"scheme": "world", "id": "anyone", "perms": "cdrwa"},
            {"scheme": "digest", "id": "ann:x", "perms": "dr"},
            {"scheme": "ip", "id": "10.0.0.1", "perms": ""},
        ]);
        assert_eq!(list(&acl), expected);
    }
}
