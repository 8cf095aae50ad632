//! Reads the fields of a record. A field that breaks the schema reads as absent; the schema check reports it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

pub fn op(record: &Value) -> &str {
    record["op"].as_str().unwrap_or_default()
}

pub fn path(record: &Value) -> Option<&str> {
    record["path"].as_str()
}

pub fn root(record: &Value) -> Option<&str> {
    record["root"].as_str()
}

pub fn seq(record: &Value) -> u64 {
    record["seq"].as_u64().unwrap_or_default()
}

/// A number written as `0x` and hex digits.
pub fn hex(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

pub fn zxid(record: &Value) -> Option<u64> {
    hex(&record["zxid"])
}

pub fn has_exact_zxid(record: &Value) -> bool {
    record["zxid_kind"] == "exact"
}

pub fn is_exact(record: &Value) -> bool {
    record["fidelity"] == "exact"
}

/// Whether it is about a znode's data or existence.
pub fn is_change(record: &Value) -> bool {
    matches!(op(record), "create" | "update" | "delete" | "snapshot")
}

/// Its superseded zxids.
pub fn superseded(record: &Value) -> Vec<u64> {
    let listed = record["superseded"].as_array();
    listed.into_iter().flatten().filter_map(hex).collect()
}

/// The bytes of `before.data` or `after.data`; `None` where there are none.
pub fn bytes(data: &Value) -> Option<Vec<u8>> {
    let value = data["value"].as_str()?;
    match data["encoding"].as_str()? {
        "utf8" => Some(value.as_bytes().to_vec()),
        "base64" => BASE64_STANDARD.decode(value).ok(),
        _ => None,
    }
}

/// The name of a record in a complaint.
pub fn name(record: &Value) -> String {
    format!(
        "seq {} ({} {} at {})",
        seq(record),
        op(record),
        path(record).or(root(record)).unwrap_or("?"),
        record["zxid"].as_str().unwrap_or("no zxid")
    )
}
