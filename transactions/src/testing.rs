//! Writes ZooKeeper's formats, for tests of everything that reads them. No part of the product writes any.

use adler2::adler32_slice;

use crate::digest::PersistedStat;
use crate::log_file::{LOG_MAGIC, LOG_VERSION};
use crate::snapshot::{AclId, SNAPSHOT_MAGIC, SnapshotZnode};
use crate::transaction::{AclEntry, DIGEST_VERSION, Lifetime, Operation, Transaction, TreeDigest, checksum};
use crate::tree::Tree;

/// Bytes in ZooKeeper's encoding.
#[derive(Clone, Debug, Default)]
pub struct Encoder(pub Vec<u8>);

impl Encoder {
    /// Appends a number of 4 bytes.
    pub fn int(&mut self, value: i32) {
        self.0.extend(value.to_be_bytes());
    }

    /// Appends a number of 8 bytes.
    pub fn long(&mut self, value: i64) {
        self.0.extend(value.to_be_bytes());
    }

    /// Appends a boolean.
    pub fn boolean(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    /// Appends bytes after their length, or null.
    ///
    /// # Panics
    ///
    /// If they are too long for the format.
    pub fn buffer(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.int(-1),
            Some(bytes) => {
                self.count(bytes.len());
                self.0.extend(bytes);
            }
        }
    }

    /// Appends a text.
    ///
    /// # Panics
    ///
    /// If it is too long for the format.
    pub fn text(&mut self, text: &str) {
        self.buffer(Some(text.as_bytes()));
    }

    /// Appends the number of elements of a list.
    ///
    /// # Panics
    ///
    /// If there are too many for the format.
    pub fn count(&mut self, count: usize) {
        self.int(i32::try_from(count).expect("a test makes no list of 2^31 elements"));
    }

    /// Appends an access control list.
    pub fn acl(&mut self, list: &[AclEntry]) {
        self.count(list.len());
        for entry in list {
            self.int(entry.permissions);
            self.text(&entry.scheme);
            self.text(&entry.id);
        }
    }
}

/// The type that a server writes for an operation.
pub fn type_code(operation: &Operation) -> i32 {
    match operation {
        Operation::Create { lifetime, .. } => match lifetime {
            Lifetime::Persistent | Lifetime::Ephemeral => 1,
            Lifetime::Container => 19,
            Lifetime::Ttl { .. } => 21,
        },
        Operation::Delete { .. } => 2,
        Operation::DeleteContainer { .. } => 20,
        Operation::SetData { .. } => 5,
        Operation::SetAcl { .. } => 7,
        Operation::Check { .. } => 13,
        Operation::Multi(_) | Operation::FailedMulti { .. } => 14,
        Operation::CreateSession { .. } => -10,
        Operation::CloseSession { .. } => -11,
        Operation::Error { .. } => -1,
        Operation::Reconfigure { .. } => 16,
    }
}

/// The body that a server writes for an operation.
pub fn body(operation: &Operation) -> Vec<u8> {
    let mut body = Encoder::default();
    match operation {
        Operation::Create {
            path,
            data,
            acl,
            lifetime,
            parent_cversion,
        } => {
            body.text(path);
            body.buffer(data.as_deref());
            body.acl(acl);
            if matches!(lifetime, Lifetime::Persistent | Lifetime::Ephemeral) {
                body.boolean(*lifetime == Lifetime::Ephemeral);
            }
            body.int(*parent_cversion);
            if let Lifetime::Ttl { ms } = lifetime {
                body.long(*ms);
            }
        }
        Operation::Delete { path } | Operation::DeleteContainer { path } => body.text(path),
        Operation::SetData { path, data, version } | Operation::Reconfigure { path, data, version } => {
            body.text(path);
            body.buffer(data.as_deref());
            body.int(*version);
        }
        Operation::SetAcl { path, acl, version } => {
            body.text(path);
            body.acl(acl);
            body.int(*version);
        }
        Operation::Check { path, version } => {
            body.text(path);
            body.int(*version);
        }
        Operation::Multi(parts) => {
            body.count(parts.len());
            for part in parts {
                body.int(type_code(part));
                body.buffer(Some(&self::body(part)));
            }
        }
        // As on disk: parts that look as if they had succeeded, then the one that failed.
        Operation::FailedMulti { parts, code } => {
            body.count(*parts);
            for _ in 1..*parts {
                body.int(2);
                body.buffer(Some(b"\0\0\0\x02/a"));
            }
            body.int(-1);
            body.buffer(Some(&code.to_be_bytes()));
        }
        Operation::CreateSession { timeout } => body.int(*timeout),
        Operation::CloseSession { paths } => {
            if let Some(paths) = paths {
                body.count(paths.len());
                paths.iter().for_each(|path| body.text(path));
            }
        }
        Operation::Error { code } => body.int(*code),
    }
    body.0
}

/// The payload that a server writes for a transaction.
pub fn payload(transaction: &Transaction) -> Vec<u8> {
    let mut payload = Encoder::default();
    payload.long(transaction.session);
    payload.int(transaction.cxid);
    payload.long(transaction.zxid);
    payload.long(transaction.time);
    payload.int(type_code(&transaction.operation));
    payload.0.extend(body(&transaction.operation));
    if let Some(digest) = transaction.digest {
        payload.int(digest.version);
        payload.long(digest.value.cast_signed());
    }
    payload.0
}

/// A record of a log with this payload.
///
/// # Panics
///
/// If it is too long for the format.
pub fn record(payload: &[u8]) -> Vec<u8> {
    let mut record = Encoder::default();
    record.long(i64::from(adler32_slice(payload)));
    record.buffer(Some(payload));
    record.0.push(b'B');
    record.0
}

/// The header of a log.
pub fn log_header() -> Vec<u8> {
    let mut header = Encoder(LOG_MAGIC.to_vec());
    header.int(LOG_VERSION);
    header.long(0);
    header.0
}

/// A log without zeros after its records.
pub fn log_file(transactions: &[Transaction]) -> Vec<u8> {
    let records = transactions
        .iter()
        .map(|transaction| record(&payload(transaction)));
    [log_header()].into_iter().chain(records).flatten().collect()
}

/// A transaction with the checksum of its payload.
pub fn transaction(zxid: i64, operation: Operation, digest: Option<TreeDigest>) -> Transaction {
    let mut transaction = Transaction {
        zxid,
        session: 0x1000_0abc_de12_0001,
        cxid: 7,
        time: 1_796_000_000_000 + (zxid & 0xffff),
        operation,
        digest,
        payload_crc: 0,
    };
    transaction.payload_crc = checksum_of(&transaction);
    transaction
}

/// The checksum that a transaction has once it is read.
pub fn checksum_of(transaction: &Transaction) -> u32 {
    checksum(&payload(transaction), &transaction.operation, transaction.digest)
}

/// The create of a persistent znode, with a digest that is none of any tree.
pub fn a_create(zxid: i64, path: &str) -> Transaction {
    let operation = Operation::Create {
        path: path.to_owned(),
        data: Some(format!("value of {path}").into_bytes()),
        acl: vec![anyone()],
        lifetime: Lifetime::Persistent,
        parent_cversion: -1,
    };
    let value = zxid.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let version = DIGEST_VERSION;
    transaction(zxid, operation, Some(TreeDigest { version, value }))
}

/// All permissions for anybody.
pub fn anyone() -> AclEntry {
    AclEntry {
        permissions: 31,
        scheme: "world".to_owned(),
        id: "anyone".to_owned(),
    }
}

/// The parts after the znodes of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    /// Up to 3.5, and without digests.
    Seal,
    /// From 3.6 on.
    Digest(i64, TreeDigest),
    /// From 3.9 on without digests.
    LastZxid(i64),
    /// From 3.9 on.
    Both(i64, TreeDigest),
}

/// The body of a snapshot, from the sessions to the path after the last znode: the form that a leader sends.
pub fn snapshot_body(
    sessions: &[(i64, i32)],
    lists: &[(AclId, Vec<AclEntry>)],
    znodes: &[SnapshotZnode],
) -> Vec<u8> {
    let mut body = Encoder::default();
    body.count(sessions.len());
    for (id, timeout) in sessions {
        body.long(*id);
        body.int(*timeout);
    }
    body.count(lists.len());
    for (id, list) in lists {
        body.long(id.0);
        body.acl(list);
    }
    for znode in znodes {
        body.text(if znode.path == "/" { "" } else { &znode.path });
        body.buffer(znode.data.as_deref());
        body.long(znode.acl.0);
        let stat = &znode.stat;
        for number in [stat.czxid, stat.mzxid, stat.ctime, stat.mtime] {
            body.long(number);
        }
        for number in [stat.version, stat.cversion, stat.aversion] {
            body.int(number);
        }
        body.long(stat.ephemeral_owner);
        body.long(stat.pzxid);
    }
    body.text("/");
    body.0
}

/// A snapshot with this body.
pub fn snapshot_file(body: &[u8], trailer: Trailer) -> Vec<u8> {
    let mut file = Encoder(SNAPSHOT_MAGIC.to_vec());
    file.int(2);
    file.long(-1);
    file.0.extend(body);
    seal(&mut file);
    if let Trailer::Digest(zxid, digest) | Trailer::Both(zxid, digest) = trailer {
        file.long(zxid);
        file.int(digest.version);
        file.long(digest.value.cast_signed());
        seal(&mut file);
    }
    if let Trailer::LastZxid(zxid) | Trailer::Both(zxid, _) = trailer {
        file.long(zxid);
        seal(&mut file);
    }
    file.0
}

fn seal(file: &mut Encoder) {
    let sum = adler32_slice(&file.0);
    file.long(i64::from(sum));
    file.text("/");
}

/// The root of an empty tree.
pub fn root() -> SnapshotZnode {
    SnapshotZnode {
        path: "/".to_owned(),
        data: None,
        acl: AclId::OPEN,
        stat: PersistedStat::default(),
    }
}

/// A small snapshot with a session, two lists, and a few znodes.
pub fn some_snapshot(trailer: Trailer) -> Vec<u8> {
    let stat = |czxid| PersistedStat {
        czxid,
        mzxid: czxid,
        pzxid: czxid,
        ctime: 1_796_000_000_000,
        mtime: 1_796_000_000_000,
        ..PersistedStat::default()
    };
    let znode = |path: &str, data: Option<&[u8]>, acl, czxid| SnapshotZnode {
        path: path.to_owned(),
        data: data.map(<[u8]>::to_vec),
        acl: AclId(acl),
        stat: stat(czxid),
    };
    let mut reader = anyone();
    reader.permissions = 1;
    let lists = [(AclId(1), vec![anyone()]), (AclId(2), vec![reader, anyone()])];
    let znodes = [
        znode("/", Some(b""), -1, 0),
        znode("/zookeeper", None, 1, 0),
        znode("/a", Some(b"value"), 2, 7),
        znode("/a/b", Some(&[0xff; 300]), -1, 8),
    ];
    snapshot_file(&snapshot_body(&[(0x1000, 30_000)], &lists, &znodes), trailer)
}

/// Creates below the root with these zxids, as they are read from the log of a new server, and the tree after them.
///
/// # Panics
///
/// Never: they are read as they were written.
pub fn some_creates(zxids: &[i64]) -> (Vec<Transaction>, Tree) {
    let mut tree = Tree::of_new_server();
    let one = |zxid: &i64| {
        let mut transaction = a_create(*zxid, &format!("/{zxid:x}"));
        tree.apply(&transaction);
        let (version, value) = (DIGEST_VERSION, tree.digest());
        transaction.digest = Some(TreeDigest { version, value });
        Transaction::decode(&payload(&transaction)).expect("it was encoded here")
    };
    let all = zxids.iter().map(one).collect();
    (all, tree)
}

/// The file of a snapshot after [`some_creates`].
///
/// # Panics
///
/// Never: the tree has each znode that was created.
pub fn snapshot_after_creates(zxids: &[i64]) -> Vec<u8> {
    let (all, tree) = some_creates(zxids);
    let first = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];
    let mut znodes: Vec<(String, Option<Vec<u8>>)> = first.map(|path| (path.to_owned(), None)).into();
    znodes.extend(all.into_iter().filter_map(|one| match one.operation {
        Operation::Create { path, data, .. } => Some((path, data)),
        _ => None,
    }));
    let znodes: Vec<SnapshotZnode> = znodes
        .into_iter()
        .map(|(path, data)| SnapshotZnode {
            stat: tree.get(&path).expect("the tree has it").stat,
            acl: AclId::OPEN,
            path,
            data,
        })
        .collect();
    snapshot_file(&snapshot_body(&[], &[], &znodes), Trailer::Seal)
}
