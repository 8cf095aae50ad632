//! Compares all records with the servers' logs.

use bridge_transactions::transaction::{Operation, Transaction};
use serde_json::{Value, json};

use crate::stage::number;

/// A record that a transaction must have: op, path, and the value of a write.
type Expected = (&'static str, String, Option<String>);

fn expected(operation: &Operation) -> Vec<Expected> {
    let one = |op, path: &str| vec![(op, path.to_owned(), None)];
    let write = |op, path: &str, data: &Option<Vec<u8>>| {
        let value = String::from_utf8(data.clone().unwrap_or_default()).unwrap();
        vec![(op, path.to_owned(), Some(value))]
    };
    match operation {
        Operation::Create { path, data, .. } => write("create", path, data),
        Operation::SetData { path, data, .. } => write("update", path, data),
        Operation::SetAcl { path, .. } => one("acl", path),
        Operation::Delete { path } | Operation::DeleteContainer { path } => one("delete", path),
        Operation::Multi(parts) => parts.iter().flat_map(expected).collect(),
        Operation::CloseSession { paths } => {
            let paths = paths.iter().flatten();
            paths.map(|path| ("delete", path.clone(), None)).collect()
        }
        _ => Vec::new(),
    }
}

fn is_captured(path: &str) -> bool {
    path == "/app" || path.starts_with("/app/")
}

/// Every operation of the log after the listing has its record, once, in order, with author and time, and there is no
/// other record.
pub fn judge(mode: &str, records: &[Value], log: &[Transaction]) {
    let listing = records
        .iter()
        .find(|record| record["op"] == "snapshot_end")
        .unwrap();
    let listed = number(listing["zxid"].as_str().unwrap()).unwrap();
    assert_eq!(listing["zxid_kind"], "exact");
    let exact: Vec<&Value> = records.iter().filter(|record| !record["txn"].is_null()).collect();
    let mut found = exact.iter();
    for transaction in log.iter().filter(|one| one.zxid.cast_unsigned() > listed) {
        let all = expected(&transaction.operation);
        let captured = all
            .iter()
            .enumerate()
            .filter(|(_, (_, path, _))| is_captured(path));
        for (index, (op, path, value)) in captured {
            let record = found
                .next()
                .unwrap_or_else(|| panic!("no record of {transaction:?}"));
            let context = format!("{record:#}\n{transaction:?}");
            assert_eq!(
                (record["op"].as_str(), record["path"].as_str()),
                (Some(*op), Some(path.as_str())),
                "{context}"
            );
            assert_eq!(
                number(record["zxid"].as_str().unwrap()),
                Some(transaction.zxid.cast_unsigned()),
                "{context}"
            );
            assert_eq!(record["fidelity"], "exact", "{context}");
            assert_eq!(record["zxid_kind"], "exact", "{context}");
            assert_eq!(record["source"]["mode"], mode, "{context}");
            if let Some(value) = value {
                let written = record["after"]["data"]["value"].as_str().unwrap_or_default();
                assert_eq!(written, value, "{context}");
            }
            let txn = &record["txn"];
            assert_eq!(
                txn["session"],
                format!("0x{:016x}", transaction.session),
                "{context}"
            );
            assert_eq!(txn["cxid"], json!(transaction.cxid), "{context}");
            assert_eq!(txn["time"], json!(transaction.time), "{context}");
            assert_eq!(
                (&txn["index"], &txn["count"]),
                (&json!(index), &json!(all.len())),
                "{context}"
            );
            assert_eq!(record["missed"], json!(0), "{context}");
        }
    }
    assert_eq!(found.next(), None, "a record of no transaction");
    let gaps = records.iter().filter(|record| record["op"] == "gap_begin");
    assert_eq!(gaps.count(), 0, "a gap where the history was at hand");
}
