//! Prints a snapshot: its sessions and its znodes.

use std::collections::HashMap;
use std::fs::File;

use bridge_console::text::{columns, escaped};
use bridge_console::{Style, data_words};
use bridge_core::number::{SessionId, Zxid};
use bridge_core::record::{Acl, Data, Timestamp};
use bridge_transactions::compression::{Compression, Decompressed};
use bridge_transactions::snapshot::{AclId, SnapshotEnd, SnapshotItem, SnapshotReader, SnapshotZnode};
use bridge_transactions::transaction::{AclEntry, Lifetime, open_list};
use serde_json::json;

use super::input::Input;
use super::row::{is_open, list_words, session_words, shown_list, whole};
use super::{BATCH_BYTES, RowPrinter};
use crate::command::{json_text, print_on};
use crate::exit::Failure;
use crate::terminal::{Tone, count, notice, span};

/// The tables that printing the znodes of a snapshot needs.
#[derive(Default)]
struct Tables {
    sessions: HashMap<i64, i32>,
    lists: HashMap<AclId, Vec<AclEntry>>,
    znodes: u64,
}

/// Prints a snapshot; `false` once enough is printed.
pub fn print(input: &Input, compression: Compression, printer: &mut RowPrinter) -> Result<bool, Failure> {
    let file = File::open(&input.path).map_err(|cause| input.unreadable(&cause))?;
    let mut reader = match SnapshotReader::new(Decompressed::new(file, compression)) {
        Ok(reader) => reader,
        Err(error) => return printer.fail(input, &error.to_string()),
    };
    let mut tables = Tables::default();
    let mut batch = String::new();
    loop {
        match reader.next_item() {
            Ok(Some(item)) => {
                if let SnapshotItem::End(end) = item {
                    let goes_on = print_on(&batch)?;
                    notice(format_args!("{}", summary(input, &tables, &end)));
                    return Ok(goes_on);
                }
                if let Some(line) = line(item, &mut tables, printer)? {
                    printer.append(&line, &mut batch);
                }
            }
            Ok(None) => return print_on(&batch),
            Err(error) => return Ok(print_on(&batch)? && printer.fail(input, &error.to_string())?),
        }
        if printer.left == 0 {
            print_on(&batch)?;
            return Ok(false);
        }
        if batch.len() >= BATCH_BYTES && !print_on(&std::mem::take(&mut batch))? {
            return Ok(false);
        }
    }
}

/// The line of an item that is selected.
fn line(item: SnapshotItem, tables: &mut Tables, printer: &RowPrinter) -> Result<Option<String>, Failure> {
    match item {
        SnapshotItem::Session { id, timeout } => {
            tables.sessions.insert(id, timeout);
            if !printer.selection.selects_session(id) {
                return Ok(None);
            }
            let line = match printer.json {
                true => {
                    let session = SessionId(id.cast_unsigned());
                    let object = json!({"type": "session", "session": session, "timeout": timeout});
                    json_text(&object, serde_json::to_string)?
                }
                false => format!(
                    "session {}  timeout {}\n",
                    session_words(id),
                    span(i64::from(timeout))
                ),
            };
            Ok(Some(line))
        }
        SnapshotItem::AclList { id, list } => {
            tables.lists.insert(id, list);
            Ok(None)
        }
        SnapshotItem::Znode(znode) => {
            tables.znodes += 1;
            let stat = &znode.stat;
            let (zxid, time, owner) = (stat.mzxid, stat.mtime, stat.ephemeral_owner);
            if !printer.selection.selects_znode(&znode.path, zxid, time, owner) {
                return Ok(None);
            }
            match printer.json {
                true => json_text(&json_znode(&znode, tables), serde_json::to_string).map(Some),
                false => Ok(Some(text_znode(&znode, tables, &printer.style) + "\n")),
            }
        }
        SnapshotItem::End(_) => Ok(None),
    }
}

/// The lifetime that an owner field shows, with the TTL in milliseconds.
fn lifetime(owner: i64, sessions: &HashMap<i64, i32>) -> (&'static str, Option<i64>) {
    match Lifetime::of_owner(owner, |session| sessions.contains_key(&session)) {
        Lifetime::Persistent => ("persistent", None),
        Lifetime::Ephemeral => ("ephemeral", None),
        Lifetime::Container => ("container", None),
        Lifetime::Ttl { ms } => ("ttl", Some(ms)),
    }
}

/// The list of a znode, if the snapshot has it.
fn list_of<'a>(znode: &SnapshotZnode, tables: &'a Tables) -> Option<&'a [AclEntry]> {
    tables.lists.get(&znode.acl).map(Vec::as_slice)
}

fn text_znode(znode: &SnapshotZnode, tables: &Tables, style: &Style) -> String {
    let stat = &znode.stat;
    // The znodes that every server begins with have no time.
    let changed =
        Timestamp::of_stat(stat.mtime).map_or_else(|| "no time".to_owned(), |time| time.to_string());
    let head = format!("{changed} 0x{:016x}", stat.mzxid);
    let mut notes = vec![format!("version {}", stat.version)];
    match lifetime(stat.ephemeral_owner, &tables.sessions) {
        ("ephemeral", _) => notes.push(format!(
            "ephemeral of session {}",
            session_words(stat.ephemeral_owner)
        )),
        ("ttl", Some(ms)) => notes.push(format!("TTL {}", span(ms))),
        ("container", _) => notes.push("container".to_owned()),
        _ => {}
    }
    match list_of(znode, tables) {
        _ if znode.acl == AclId::OPEN => {}
        Some(list) if is_open(list) => {}
        Some(list) => notes.push(format!("acl {}", list_words(list))),
        None => notes.push("acl not in the snapshot".to_owned()),
    }
    let notes = notes.join(", ");
    let path = escaped(&znode.path);
    let taken = head.len() + columns(&path) + columns(&notes) + 5;
    let words = match &znode.data {
        None => "(null)".to_owned(),
        Some(bytes) => data_words(&whole(bytes), style.values, style.room(taken)),
    };
    format!(
        "{} {path}  {words}  {}",
        Tone::Quiet.paint(&head, style),
        Tone::Quiet.paint(&notes, style)
    )
}

fn json_znode(znode: &SnapshotZnode, tables: &Tables) -> serde_json::Value {
    let stat = &znode.stat;
    let zxid = |zxid: i64| Zxid(zxid.cast_unsigned());
    let (kind, ttl) = lifetime(stat.ephemeral_owner, &tables.sessions);
    let acl: Option<Vec<Acl>> = match znode.acl {
        AclId::OPEN => Some(shown_list(&open_list())),
        _ => list_of(znode, tables).map(shown_list),
    };
    let data: Option<Data> = znode.data.as_deref().map(whole);
    json!({
        "type": "znode",
        "path": znode.path,
        "data": data,
        "acl": acl,
        "lifetime": {"kind": kind, "ttl": ttl},
        "stat": {
            "czxid": zxid(stat.czxid),
            "mzxid": zxid(stat.mzxid),
            "pzxid": zxid(stat.pzxid),
            "ctime": Timestamp(stat.ctime),
            "mtime": Timestamp(stat.mtime),
            "version": stat.version,
            "aversion": stat.aversion,
            "created_children": stat.cversion,
            "owner": SessionId(stat.ephemeral_owner.cast_unsigned()),
        },
    })
}

/// A sentence for standard error.
fn summary(input: &Input, tables: &Tables, end: &SnapshotEnd) -> String {
    let sessions = count(tables.sessions.len() as u64, "session");
    let znodes = count(tables.znodes, "znode");
    let mut text = format!("{}: {sessions}, {znodes}", input.path.display());
    if let Some((zxid, digest)) = end.digest {
        text.push_str(&format!(", digest 0x{:016x} after 0x{zxid:016x}", digest.value));
    }
    text
}
