//! Rows of transaction logs, one for each operation, as text and as JSON.

use bridge_console::text::{columns, escaped, shortened};
use bridge_console::{Style, data_words};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::record::{Acl, Data, DataForm, Timestamp};
use bridge_transactions::transaction::{AclEntry, Lifetime, Operation, Transaction, error_name};
use bridge_zookeeper::acl;
use bridge_zookeeper::config::AclDigests;
use serde::Serialize;

use crate::terminal::{Tone, span};

/// An operation, with the transaction that it is of.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The transaction.
    pub transaction: &'a Transaction,
    /// The operation.
    pub operation: &'a Operation,
    /// Its place in the transaction, from 0.
    pub index: usize,
    /// The parts of a `multi`, also of one that failed; the znodes that the end of a session deletes, but at least 1; of
    /// all others 1.
    pub count: usize,
}

/// The rows of a transaction: the parts of a `multi`, otherwise one.
pub fn rows(transaction: &Transaction) -> Vec<Row<'_>> {
    let row = |index, count, operation| Row {
        transaction,
        operation,
        index,
        count,
    };
    match &transaction.operation {
        Operation::Multi(parts) if parts.is_empty() => vec![row(0, 0, &transaction.operation)],
        Operation::Multi(parts) => {
            let count = parts.len();
            parts
                .iter()
                .enumerate()
                .map(|(index, part)| row(index, count, part))
                .collect()
        }
        Operation::FailedMulti { parts, .. } => vec![row(0, *parts, &transaction.operation)],
        Operation::CloseSession { paths } => {
            let count = paths.as_ref().map_or(0, Vec::len).max(1);
            vec![row(0, count, &transaction.operation)]
        }
        other => vec![row(0, 1, other)],
    }
}

/// The value of an operation that has one.
fn value(operation: &Operation) -> Option<Data> {
    match operation {
        Operation::Create { data, .. }
        | Operation::SetData { data, .. }
        | Operation::Reconfigure { data, .. } => data.as_deref().map(whole),
        _ => None,
    }
}

/// All bytes of a value.
pub fn whole(bytes: &[u8]) -> Data {
    Data::limited(bytes, DataForm::Auto, usize::MAX)
}

/// An access control list as in a record, without digests of passwords.
pub fn shown_list(list: &[AclEntry]) -> Vec<Acl> {
    acl::recorded(list, AclDigests::Masked)
}

/// An access control list on a line: `world:anyone:r, digest:alice:x:cdrwa`.
pub fn list_words(list: &[AclEntry]) -> String {
    let shown = shown_list(list);
    let words: Vec<String> = shown
        .iter()
        .map(|entry| escaped(&format!("{}:{}:{}", entry.scheme, entry.id, entry.perms)).into_owned())
        .collect();
    words.join(", ")
}

/// Whether a list gives everybody everything, which is the default of most clients.
pub fn is_open(list: &[AclEntry]) -> bool {
    matches!(list, [entry] if entry.permissions == 31 && entry.scheme == "world" && entry.id == "anyone")
}

/// An id of a session, as ZooKeeper's own tools write it.
pub fn session_words(id: i64) -> String {
    format!("0x{id:016x}")
}

/// An error code with its name.
fn code_words(code: i32) -> String {
    error_name(code).map_or_else(|| code.to_string(), |name| format!("{name} ({code})"))
}

/// Columns of the longest name of a type.
const TYPE_WIDTH: usize = 15;
/// Paths of a session's end that a line shows; JSON has all.
const PATHS_SHOWN_MAX: usize = 20;

/// A row as a line without its end. It never holds a control character that is not of a colour.
pub fn text_row(row: &Row<'_>, style: &Style) -> String {
    let transaction = row.transaction;
    let time = Timestamp(transaction.time);
    let head = format!("{time} 0x{:016x}", transaction.zxid);
    let name = format!("{:TYPE_WIDTH$}", row.operation.type_name());
    let path = escaped(row.operation.path().unwrap_or_default());
    let mut notes = notes(row);
    notes.push(author(transaction));
    let notes = notes.join(", ");
    let taken = head.len() + TYPE_WIDTH + columns(&path) + columns(&notes) + 6;
    let space = style.room(taken);
    let words = match row.operation {
        Operation::SetAcl { acl, .. } => shortened(&list_words(acl), space).into_owned(),
        other => value(other).map_or_else(String::new, |data| data_words(&data, style.values, space)),
    };
    let tone = match row.operation {
        Operation::Error { .. } | Operation::FailedMulti { .. } => Tone::Warning,
        Operation::Delete { .. } | Operation::DeleteContainer { .. } => Tone::Bad,
        Operation::Create { .. } => Tone::Good,
        _ => Tone::Plain,
    };
    let mut line = format!("{} {}", Tone::Quiet.paint(&head, style), tone.paint(&name, style));
    if !path.is_empty() {
        line.push_str(&format!(" {path}"));
    }
    if !words.is_empty() {
        line.push_str(&format!("  {words}"));
    }
    line.push_str(&format!("  {}", Tone::Quiet.paint(&notes, style)));
    line
}

/// The author of a transaction.
fn author(transaction: &Transaction) -> String {
    match (transaction.session, transaction.cxid) {
        (0, _) => "by the server".to_owned(),
        (session, 0) => format!("session {}", session_words(session)),
        (session, cxid) => format!("session {} cxid {cxid}", session_words(session)),
    }
}

fn notes(row: &Row<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    match row.operation {
        Operation::Create {
            data, acl, lifetime, ..
        } => {
            if data.is_none() {
                notes.push("null".to_owned());
            }
            match lifetime {
                Lifetime::Persistent => {}
                Lifetime::Ephemeral => notes.push("ephemeral".to_owned()),
                Lifetime::Container => notes.push("container".to_owned()),
                Lifetime::Ttl { ms } => notes.push(format!("TTL {}", span(*ms))),
            }
            if !is_open(acl) {
                notes.push(format!("acl {}", list_words(acl)));
            }
        }
        Operation::SetData { data, version, .. } => {
            if data.is_none() {
                notes.push("null".to_owned());
            }
            notes.push(format!("version {version}"));
        }
        Operation::SetAcl { version, .. } => notes.push(format!("ACL version {version}")),
        // The log has the next version, and the client asked for this one.
        Operation::Check { version, .. } => notes.push(format!("version {}", version.saturating_sub(1))),
        Operation::FailedMulti { parts, code } => {
            notes.push(format!("{parts} parts, failed: {}", code_words(*code)));
        }
        Operation::CreateSession { timeout } => notes.push(format!("timeout {}", span(i64::from(*timeout)))),
        Operation::CloseSession { paths } => notes.extend(close_words(row.transaction, paths.as_deref())),
        Operation::Error { code } => notes.push(code_words(*code)),
        Operation::Multi(_) => notes.push("no parts".to_owned()),
        Operation::Delete { .. } | Operation::DeleteContainer { .. } | Operation::Reconfigure { .. } => {}
    }
    if matches!(row.transaction.operation, Operation::Multi(_)) && row.count > 0 {
        notes.push(format!("{}/{} of a multi", row.index + 1, row.count));
    }
    notes
}

fn close_words(transaction: &Transaction, paths: Option<&[String]>) -> Vec<String> {
    let by = match ended_by(transaction) {
        "server" => "expired or killed",
        _ => "closed by the client",
    };
    let mut words = vec![by.to_owned()];
    if let Some(paths) = paths.filter(|paths| !paths.is_empty()) {
        let shown: Vec<String> = paths
            .iter()
            .take(PATHS_SHOWN_MAX)
            .map(|path| escaped(path).into_owned())
            .collect();
        let more = match paths.len().saturating_sub(PATHS_SHOWN_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        words.push(format!("deletes {}{more}", shown.join(" ")));
    }
    words
}

/// A server that ends a session gives its transaction no number of a request.
fn ended_by(transaction: &Transaction) -> &'static str {
    match transaction.cxid {
        0 => "server",
        _ => "client",
    }
}

/// A row as JSON: the fields of a transaction always, others where the type has them.
#[derive(Serialize)]
pub struct JsonRow<'a> {
    zxid: Zxid,
    time: Timestamp,
    session: SessionId,
    cxid: i32,
    #[serde(rename = "type")]
    type_name: &'static str,
    index: usize,
    count: usize,
    /// Whether it is of a `multi`.
    multi: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime: Option<JsonLifetime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acl: Option<Vec<Acl>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<JsonError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

#[derive(Serialize)]
struct JsonLifetime {
    kind: &'static str,
    ttl: Option<i64>,
}

#[derive(Serialize)]
struct JsonError {
    code: i32,
    name: Option<&'static str>,
}

/// A row as JSON.
pub fn json_row<'a>(row: &Row<'a>) -> JsonRow<'a> {
    let transaction = row.transaction;
    let mut json = JsonRow {
        zxid: Zxid(transaction.zxid.cast_unsigned()),
        time: Timestamp(transaction.time),
        session: SessionId(transaction.session.cast_unsigned()),
        cxid: transaction.cxid,
        type_name: row.operation.type_name(),
        index: row.index,
        count: row.count,
        multi: matches!(
            transaction.operation,
            Operation::Multi(_) | Operation::FailedMulti { .. }
        ),
        path: row.operation.path(),
        data: value(row.operation),
        version: None,
        lifetime: None,
        acl: None,
        timeout: None,
        ended_by: None,
        paths: None,
        error: None,
        digest: transaction
            .digest
            .map(|digest| format!("0x{:016x}", digest.value)),
    };
    let error = |code| JsonError {
        code,
        name: error_name(code),
    };
    match row.operation {
        Operation::Create { acl, lifetime, .. } => {
            json.acl = Some(shown_list(acl));
            let (kind, ttl) = match lifetime {
                Lifetime::Persistent => ("persistent", None),
                Lifetime::Ephemeral => ("ephemeral", None),
                Lifetime::Container => ("container", None),
                Lifetime::Ttl { ms } => ("ttl", Some(*ms)),
            };
            json.lifetime = Some(JsonLifetime { kind, ttl });
        }
        Operation::SetData { version, .. } | Operation::Reconfigure { version, .. } => {
            json.version = Some(*version)
        }
        Operation::Check { version, .. } => json.version = Some(version.saturating_sub(1)),
        Operation::SetAcl { acl, version, .. } => {
            (json.acl, json.version) = (Some(shown_list(acl)), Some(*version));
        }
        Operation::FailedMulti { code, .. } | Operation::Error { code } => json.error = Some(error(*code)),
        Operation::CreateSession { timeout } => json.timeout = Some(*timeout),
        Operation::CloseSession { paths } => {
            (json.ended_by, json.paths) = (Some(ended_by(transaction)), paths.as_deref());
        }
        Operation::Delete { .. } | Operation::DeleteContainer { .. } | Operation::Multi(_) => {}
    }
    json
}

#[cfg(test)]
mod tests {
    use bridge_transactions::testing;

    use super::*;

    #[test]
    fn each_part_of_a_multi_has_its_number_and_a_multi_without_parts_has_none() {
        let check = |operation: Operation, expected: &[(usize, &str)]| {
            let transaction = testing::transaction(7, operation, None);
            let found = rows(&transaction);
            assert_eq!(found.len(), expected.len());
            for ((index, row), (count, words)) in found.iter().enumerate().zip(expected) {
                assert_eq!((row.index, row.count), (index, *count));
                assert_eq!(json_row(row).count, *count);
                let line = text_row(row, &Style::PLAIN);
                assert!(line.contains(&format!("  {words}, session")), "{line}");
            }
        };
        let part = || Operation::SetData {
            path: "/a".to_owned(),
            data: Some(Vec::new()),
            version: 3,
        };
        let close = |paths: &[&str]| Operation::CloseSession {
            paths: Some(paths.iter().map(|path| (*path).to_owned()).collect()),
        };
        check(Operation::Multi(Vec::new()), &[(0, "no parts")]);
        let parts = [(2, "version 3, 1/2 of a multi"), (2, "version 3, 2/2 of a multi")];
        check(Operation::Multi(vec![part(), part()]), &parts);
        let failed = Operation::FailedMulti { parts: 2, code: -101 };
        check(failed, &[(2, "2 parts, failed: NoNode (-101)")]);
        check(close(&[]), &[(1, "closed by the client")]);
        check(
            close(&["/a", "/b"]),
            &[(2, "closed by the client, deletes /a /b")],
        );
        check(part(), &[(1, "version 3")]);
    }

    #[test]
    fn a_list_is_shown_as_in_a_record_and_without_digests_of_passwords() {
        let check = |scheme: &str, id: &str, expected: &str| {
            let entry = AclEntry {
                permissions: 31,
                scheme: scheme.to_owned(),
                id: id.to_owned(),
            };
            assert_eq!(list_words(&[entry]), expected);
        };
        check("world", "anyone", "world:anyone:cdrwa");
        check("digest", "alice:c2VjcmV0", "digest:alice:x:cdrwa");
        check("digest", "c2VjcmV0", "digest:x:cdrwa");
    }
}
