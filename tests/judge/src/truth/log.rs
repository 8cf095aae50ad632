//! A server's transaction log: files, records, and the changes of each transaction. A record with a wrong checksum ends
//! its file, and an unknown kind is a fault.

use std::path::{Path, PathBuf};

use super::checksum::adler;
use super::jute::Cursor;

/// Whether clients without credentials may read a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readable(pub bool);

/// An entry of an access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The bits of the permissions.
    pub permissions: i32,
    pub scheme: String,
    pub id: String,
}

/// The change of one znode, or of all ephemerals of a session. The place of a change in its transaction is that of its
/// operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Create {
        path: String,
        data: Vec<u8>,
        readable: Readable,
        acl: Vec<Access>,
        /// The stored owner: the session, or the mark of a container or a TTL.
        owner: u64,
        /// The parent's cversion after the create; -1 for one more than before.
        parent_cversion: i32,
    },
    Delete {
        path: String,
    },
    Set {
        path: String,
        data: Vec<u8>,
        version: i32,
    },
    SetAcl {
        path: String,
        readable: Readable,
        acl: Vec<Access>,
        version: i32,
    },
    /// Nothing: the check of a version, inside of a multi.
    Check,
    /// Deletes the session's ephemerals.
    Close {
        /// As the server lists them, from 3.6 on.
        listed: Option<Vec<String>>,
    },
}

/// The kind of a transaction that may change znodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Create,
    CreateContainer,
    CreateTtl,
    Delete,
    DeleteContainer,
    SetData,
    SetAcl,
    Multi,
    CloseSession,
    /// A session begins, a request failed, the ensemble is reconfigured, or a check.
    Other,
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub session: u64,
    /// The number that the session gave its request.
    pub cxid: i32,
    pub zxid: u64,
    pub time_ms: i64,
    pub kind: Kind,
    /// Its changes; none if it failed.
    pub changes: Vec<Change>,
    /// The digest of the whole tree after it, if the server wrote one.
    pub digest: Option<u64>,
}

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const SET_DATA: i32 = 5;
const SET_ACL: i32 = 7;
const CHECK: i32 = 13;
const MULTI: i32 = 14;
const CREATE2: i32 = 15;
const RECONFIG: i32 = 16;
const CREATE_CONTAINER: i32 = 19;
const DELETE_CONTAINER: i32 = 20;
const CREATE_TTL: i32 = 21;
const CREATE_SESSION: i32 = -10;
const CLOSE_SESSION: i32 = -11;
const ERROR: i32 = -1;

/// The owner field of a container, and the high bits of the owner field of a znode with a TTL.
pub const CONTAINER: u64 = 1 << 63;
pub const TTL: u64 = 0xff << 56;

/// The version of the digest that the judge computes; others are not compared.
const DIGEST_VERSION: i32 = 2;

/// The bit of the read permission.
const READ: i32 = 1;

/// Bytes of the file's magic, version and database id.
const FILE_HEADER_BYTES: usize = 16;
/// Bytes of the checksum and length before each record.
const RECORD_HEADER_BYTES: usize = 12;

/// All transactions of one server, in the order of its files.
///
/// # Errors
///
/// A description of the file or record that cannot be read.
pub fn read_all(data_dir: &Path) -> Result<Vec<Transaction>, String> {
    let mut transactions: Vec<Transaction> = Vec::new();
    for log in logs(data_dir)? {
        let bytes = std::fs::read(&log).map_err(|error| format!("read {}: {error}", log.display()))?;
        for transaction in records(&bytes) {
            let transaction = transaction.map_err(|fault| format!("{}: {fault}", log.display()))?;
            // A malformed request is logged under the zxid before it.
            if transactions
                .last()
                .is_none_or(|last| last.zxid < transaction.zxid)
            {
                transactions.push(transaction);
            }
        }
    }
    Ok(transactions)
}

fn logs(data_dir: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = data_dir.join("version-2");
    let listed = std::fs::read_dir(&folder).map_err(|error| format!("list {}: {error}", folder.display()))?;
    let mut logs: Vec<(u64, PathBuf)> = listed
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let zxid = path.file_name()?.to_str()?.strip_prefix("log.")?.to_owned();
            Some((u64::from_str_radix(&zxid, 16).ok()?, path))
        })
        .collect();
    logs.sort();
    Ok(logs.into_iter().map(|(_, path)| path).collect())
}

/// Removes the partial record at the end of a killed server's log, as ZooKeeper's `TxnLogToolkit` does: a server refuses
/// to start on it ("CRC check failed"). The record was never acknowledged. The server must not run. Returns whether there
/// was one.
///
/// # Errors
///
/// A description of the file that cannot be read or written, or that has a sound record after the damaged one: acknowledged
/// transactions would be cut off with it.
pub fn cut_torn_record(data_dir: &Path) -> Result<bool, String> {
    let Some(log) = logs(data_dir)?.pop() else {
        return Ok(false);
    };
    let fault = |doing: &str, error: std::io::Error| format!("{doing} {}: {error}", log.display());
    let bytes = std::fs::read(&log).map_err(|error| fault("read", error))?;
    let whole = FILE_HEADER_BYTES + payloads(&bytes).map(record_bytes).sum::<usize>();
    // The last record is followed by nothing, or by padding.
    let is_torn = bytes
        .get(whole..)
        .is_some_and(|rest| rest.iter().any(|byte| *byte != 0));
    if is_torn {
        if let Some(sound) = next_sound_record(&bytes, whole + 1) {
            return Err(format!(
                "{}: the record at byte {whole} is damaged, and a sound one follows at byte {sound}: this is no end that a \
                 killed server tore, and nothing is cut off",
                log.display()
            ));
        }
        let file = std::fs::OpenOptions::new().write(true).open(&log);
        let cut = file.and_then(|file| file.set_len(whole as u64));
        cut.map_err(|error| fault("cut", error))?;
    }
    Ok(is_torn)
}

/// The place of the first whole record from a byte on.
fn next_sound_record(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).find(|at| whole_payload(&bytes[*at..]).is_some())
}

fn record_bytes(payload: &[u8]) -> usize {
    RECORD_HEADER_BYTES + payload.len() + 1
}

/// The transactions of the whole records of one file.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Transaction, String>> {
    payloads(bytes).map(|payload| {
        transaction(payload).ok_or_else(|| format!("a record is not as documented: {payload:02x?}"))
    })
}

/// The payloads of the whole records of one file.
fn payloads(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes.get(FILE_HEADER_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let payload = whole_payload(rest)?;
        rest = &rest[record_bytes(payload)..];
        Some(payload)
    })
}

/// The payload of the record at the beginning, if that is whole. A length of zero is padding; a partial record is being
/// written.
fn whole_payload(bytes: &[u8]) -> Option<&[u8]> {
    let mut header = Cursor::new(bytes.get(..RECORD_HEADER_BYTES)?);
    let (checksum, length) = (header.long()?, usize::try_from(header.int()?).ok()?);
    let end = RECORD_HEADER_BYTES.checked_add(length)?;
    let payload = bytes
        .get(RECORD_HEADER_BYTES..end)
        .filter(|payload| !payload.is_empty())?;
    let is_whole = bytes.get(end) == Some(&b'B') && i64::from(adler(payload)) == checksum;
    is_whole.then_some(payload)
}

fn transaction(payload: &[u8]) -> Option<Transaction> {
    let mut cursor = Cursor::new(payload);
    let session = cursor.long()? as u64;
    let cxid = cursor.int()?;
    let (zxid, time_ms, kind) = (cursor.long()? as u64, cursor.long()?, cursor.int()?);
    let changes = changes(session, kind, &mut cursor)?;
    let digest = match (cursor.int(), cursor.long()) {
        (Some(DIGEST_VERSION), Some(digest)) => Some(digest as u64),
        _ => None,
    };
    Some(Transaction {
        session,
        cxid,
        zxid,
        time_ms,
        kind: kind_of(kind),
        changes,
        digest,
    })
}

fn kind_of(kind: i32) -> Kind {
    match kind {
        CREATE | CREATE2 => Kind::Create,
        CREATE_CONTAINER => Kind::CreateContainer,
        CREATE_TTL => Kind::CreateTtl,
        DELETE => Kind::Delete,
        DELETE_CONTAINER => Kind::DeleteContainer,
        SET_DATA => Kind::SetData,
        SET_ACL => Kind::SetAcl,
        MULTI => Kind::Multi,
        CLOSE_SESSION => Kind::CloseSession,
        _ => Kind::Other,
    }
}

fn changes(session: u64, kind: i32, body: &mut Cursor<'_>) -> Option<Vec<Change>> {
    let change = match kind {
        CREATE | CREATE2 | CREATE_TTL | CREATE_CONTAINER => create(session, kind, body)?,
        DELETE | DELETE_CONTAINER => Change::Delete { path: body.text()? },
        SET_DATA | RECONFIG => Change::Set {
            path: body.text()?,
            data: body.buffer()?,
            version: body.int()?,
        },
        SET_ACL => {
            let (path, acl) = (body.text()?, list(body)?);
            Change::SetAcl {
                path,
                readable: readable(&acl),
                acl,
                version: body.int()?,
            }
        }
        MULTI => return multi(session, body),
        CLOSE_SESSION => close(body)?,
        CHECK => {
            let (_path, _version) = (body.text()?, body.int()?);
            Change::Check
        }
        CREATE_SESSION | ERROR => {
            let _timeout_or_error = body.int()?;
            return Some(Vec::new());
        }
        _ => return None,
    };
    Some(vec![change])
}

fn create(session: u64, kind: i32, body: &mut Cursor<'_>) -> Option<Change> {
    let (path, data, acl) = (body.text()?, body.buffer()?, list(body)?);
    let is_ephemeral = matches!(kind, CREATE | CREATE2) && body.byte()? != 0;
    let parent_cversion = body.int()?;
    let owner = match kind {
        CREATE_TTL => TTL | body.long()? as u64,
        CREATE_CONTAINER => CONTAINER,
        _ if is_ephemeral => session,
        _ => 0,
    };
    Some(Change::Create {
        path,
        data,
        readable: readable(&acl),
        acl,
        owner,
        parent_cversion,
    })
}

fn list(body: &mut Cursor<'_>) -> Option<Vec<Access>> {
    let mut list = Vec::new();
    for _ in 0..body.int()? {
        list.push(Access {
            permissions: body.int()?,
            scheme: body.text()?,
            id: body.text()?,
        });
    }
    Some(list)
}

/// Whether a client on this machine without credentials may read.
fn readable(acl: &[Access]) -> Readable {
    let is_anyone = |access: &Access| {
        matches!(
            (access.scheme.as_str(), access.id.as_str()),
            ("world", "anyone") | ("ip", "127.0.0.1")
        )
    };
    let mut readers = acl.iter().filter(|access| access.permissions & READ != 0);
    Readable(readers.any(is_anyone))
}

fn multi(session: u64, body: &mut Cursor<'_>) -> Option<Vec<Change>> {
    let mut parts = Vec::new();
    for _ in 0..body.int()? {
        parts.push((body.int()?, body.buffer()?));
    }
    // The parts before the failed one are logged as if they had succeeded.
    if parts.iter().any(|(kind, _)| *kind == ERROR) {
        return Some(Vec::new());
    }
    let mut all = Vec::new();
    for (kind, bytes) in parts {
        all.extend(changes(session, kind, &mut Cursor::new(&bytes))?);
    }
    Some(all)
}

/// Servers from 3.6 list the paths, unless they are configured not to.
fn close(body: &mut Cursor<'_>) -> Option<Change> {
    let mut rest = body.clone();
    let count = rest.int();
    let listed: Option<Vec<String>> = count.and_then(|count| (0..count).map(|_| rest.text()).collect());
    if listed.is_some() {
        *body = rest;
    }
    Some(Change::Close { listed })
}

#[cfg(test)]
mod tests {
    use super::super::shadow::Shadow;
    use super::*;

    /// A file with one record, as ZooKeeper 3.9.6 wrote it.
    const FILE: &str = "5a4b4c47 00000002 0000000000000000 00000000baa00a72 00000030 0100002f037b0000 00000000 \
                        0000000000000001 000001a1ffc96c3c fffffff6 00004e20 00000002 0000000051c6d660 42";

    fn file() -> Vec<u8> {
        let digits: Vec<u8> = FILE.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn a_record_is_read_as_a_server_wrote_it_and_its_digest_is_that_of_an_empty_tree() {
        let read: Vec<Transaction> = records(&file()).map(Result::unwrap).collect();
        let [transaction] = read.as_slice() else {
            panic!("{read:?}")
        };
        assert_eq!(
            (transaction.zxid, transaction.session),
            (1, 0x0100_002f_037b_0000)
        );
        assert_eq!(transaction.changes, []);
        assert_eq!((transaction.cxid, transaction.kind), (0, Kind::Other));
        assert_eq!(transaction.digest, Some(Shadow::default().digest()));
    }

    #[test]
    fn a_record_that_a_killed_server_wrote_in_part_is_cut_off_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("version-2").join("log.1");
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        let whole = file();
        let record = &whole[FILE_HEADER_BYTES..];
        let padding = [0; 64];
        let check = |bytes: &[u8], left: usize| {
            std::fs::write(&log, bytes).unwrap();
            assert_eq!(cut_torn_record(folder.path()), Ok(left != bytes.len()));
            assert_eq!(std::fs::read(&log).unwrap(), bytes[..left]);
        };
        let padded = [&whole[..], &padding].concat();
        check(&padded, padded.len());
        check(&whole[..FILE_HEADER_BYTES], FILE_HEADER_BYTES);
        for written in 8..record.len() {
            let torn = [&whole[..], &record[..written], &padding].concat();
            check(&torn, whole.len());
        }
    }

    #[test]
    fn a_damaged_record_before_a_sound_one_is_no_torn_end_and_nothing_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("version-2").join("log.1");
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        let mut bytes = [&file()[..], &file()[FILE_HEADER_BYTES..]].concat();
        bytes[40] ^= 1;
        std::fs::write(&log, &bytes).unwrap();
        let refused = cut_torn_record(folder.path()).unwrap_err();
        assert!(refused.contains("a sound one follows"), "{refused}");
        assert_eq!(std::fs::read(&log).unwrap(), bytes);
    }

    #[test]
    fn a_record_with_a_wrong_checksum_or_cut_off_is_the_end() {
        let mut spoiled = file();
        spoiled[40] ^= 1;
        assert_eq!(records(&spoiled).count(), 0);
        let whole = file();
        for end in 0..whole.len() {
            assert_eq!(records(&whole[..end]).count(), 0, "cut at {end}");
        }
    }
}
