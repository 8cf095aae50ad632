//! A snapshot: the sessions, the access control lists and the znodes of a server.
//!
//! ```text
//! "ZKSN" int version=2 long database                                     16 bytes
//! int count, { long session, int timeout }
//! int count, { long id, list }                                           access control lists
//! { text path, buffer data, long id, Stat of 60 bytes }, text "/"        znodes, parents first, the root as ""
//! long Adler-32 of everything before, text "/"                           seal
//! long zxid, int version, long digest, and a seal                        from 3.6 on, with digests
//! long last zxid, and a seal                                             from 3.9 on
//! ```
//!
//! A snapshot is *fuzzy*: the server goes on while it writes it. So it can hold any part of the transactions after the zxid
//! in its name, and also parts of one after the zxid of the digest and after the last zxid, which are read when the znodes
//! are written. It is a tree only together with the log. The tree is exact once the digest of a transaction that was
//! replayed agrees; the digest of the snapshot itself need not. Its zxid can even be below the one in the name: the
//! beginning of an epoch raises the name and is no transaction.
//!
//! [`SnapshotReader`] reads one item at a time, with the memory of one znode, and also the form without header and seals
//! that a leader sends.

#[cfg(test)]
mod tests;

use std::io::{self, Read};

use adler2::Adler32;

use crate::compression::Compression;
use crate::digest::PersistedStat;
use crate::jute::{DecodeFault, text_of};
use crate::log_file::hex_zxid;
use crate::transaction::{AclEntry, TreeDigest};

/// The first bytes of a snapshot.
pub const SNAPSHOT_MAGIC: [u8; 4] = *b"ZKSN";
/// The version of the format in all releases.
const SNAPSHOT_VERSION: i32 = 2;

/// The largest value of a znode that is read.
pub const VALUE_BYTES_MAX: usize = 256 << 20;
/// The longest path or name that is read; a request of `jute.maxbuffer` (1 MiB) holds no longer one.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Entries of the longest access control list that is read; one of a request of 1 MiB has fewer.
const ACL_ENTRIES_MAX: usize = 1 << 17;
/// Bytes of all schemes and ids of one access control list.
const ACL_LIST_BYTES_MAX: usize = 16 << 20;
/// Bytes that may come after the znodes: three seals, and the oldest form of a digest, which is a text.
const TRAILER_BYTES_MAX: usize = 1024;

/// Bytes of a seal: its checksum and the path `/`.
const SEAL_BYTES: usize = 13;
/// Bytes of the last zxid and its seal.
const LAST_ZXID_BYTES: usize = 8 + SEAL_BYTES;

/// The identity of an access control list within a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclId(pub i64);

impl AclId {
    /// All permissions for anybody; it is in no table. Other ids that are not in the table are of znodes that were created,
    /// or whose list was changed, after the table was written. The transactions that did so follow in the log: the list of
    /// a replayed create or setACL is the one of the znode, even where the znode exists already.
    pub const OPEN: AclId = AclId(-1);
}

/// A znode of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotZnode {
    /// Its path; `/` for the root.
    pub path: String,
    /// Its value.
    pub data: Option<Vec<u8>>,
    /// Its access control list.
    pub acl: AclId,
    /// Its Stat.
    pub stat: PersistedStat,
}

/// A part of a snapshot, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotItem {
    /// A session.
    Session {
        /// Its id.
        id: i64,
        /// Its timeout in milliseconds.
        timeout: i32,
    },
    /// An access control list.
    AclList {
        /// Its identity.
        id: AclId,
        /// Its entries.
        list: Vec<AclEntry>,
    },
    /// A znode, after its parent.
    Znode(SnapshotZnode),
    /// The end: all seals are right.
    End(SnapshotEnd),
}

/// The parts after the znodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotEnd {
    /// The digest of a tree that the server had, and the zxid of that tree: the last transaction that it had applied when it
    /// had written the znodes. The znodes can differ from that tree, and the zxid can be below the one in the name.
    pub digest: Option<(i64, TreeDigest)>,
    /// The last transaction that the server had applied, from 3.9 on. The znodes can have parts of the next one.
    pub last_zxid: Option<i64>,
}

/// A file or stream that cannot be read as a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read or decompressed.
    #[error("cannot be read at byte {at}: {cause}")]
    Io {
        /// The position in the uncompressed bytes.
        at: u64,
        /// The cause.
        cause: io::Error,
    },
    /// It is something else.
    #[error("is not a snapshot: it begins with {found:02x?} and not with \"ZKSN\"")]
    Foreign {
        /// The first bytes.
        found: Vec<u8>,
    },
    /// It has a format that is not known.
    #[error("has the format {0}, and only {SNAPSHOT_VERSION} is known")]
    Version(i32),
    /// It ends too early.
    #[error("ends at byte {at} within the {field}: it was not written to its end, or the copy is not whole")]
    Cut {
        /// The position of its end.
        at: u64,
        /// The field that was read.
        field: &'static str,
    },
    /// A field is wrong.
    #[error("{field} at byte {at}: {fault}")]
    Field {
        /// The field.
        field: &'static str,
        /// The position of the field.
        at: u64,
        /// The fault.
        fault: DecodeFault,
    },
    /// A field is larger than any server writes.
    #[error("{field} at byte {at}: its length is {length}, the limit is {max}")]
    Large {
        /// The field.
        field: &'static str,
        /// The position of the field.
        at: u64,
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// The first znode is not the root, or a later one is.
    #[error("path at byte {at}: {found:?} {}", if *is_first { "is the first znode in place of the root" } else {
        "is the root a second time"
    })]
    Root {
        /// The position of the path.
        at: u64,
        /// The path, as it is written.
        found: String,
        /// Whether no znode came before.
        is_first: bool,
    },
    /// A seal does not fit the bytes before it.
    #[error("the seal at byte {at} has the checksum {expected:#x}, and the bytes before it have {found:#x}")]
    Seal {
        /// The position of the seal.
        at: u64,
        /// The checksum in the file.
        expected: i64,
        /// The checksum of the bytes.
        found: u32,
    },
}

/// The zxid and the compression in the name of a snapshot, `snapshot.<hex>[.gz|.snappy]`.
pub fn zxid_of_snapshot(name: &str) -> Option<(i64, Compression)> {
    let rest = name.strip_prefix("snapshot.")?;
    let (digits, compression) = match rest.split_once('.') {
        None => (rest, Compression::Plain),
        Some((digits, "gz")) => (digits, Compression::Gzip),
        Some((digits, "snappy")) => (digits, Compression::Snappy),
        Some(_) => return None,
    };
    Some((hex_zxid(digits)?, compression))
}

/// The part of a snapshot that comes next.
#[derive(Clone, Copy, Debug)]
enum Section {
    Sessions { left: i32 },
    AclLists { left: i32 },
    Znodes { is_first: bool },
    Ended,
}

/// Whether header and seals are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    File,
    Leader,
}

/// Reads a snapshot item by item. It reads small pieces, so the input should have a buffer.
#[derive(Debug)]
pub struct SnapshotReader<R> {
    input: Summed<R>,
    section: Section,
    origin: Origin,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads the header of a file, which is not compressed (see [`crate::compression::Decompressed`]).
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no snapshot.
    pub fn new(input: R) -> Result<SnapshotReader<R>, SnapshotError> {
        let mut input = Summed::new(input);
        let mut magic = Vec::new();
        input.up_to(SNAPSHOT_MAGIC.len(), &mut magic)?;
        if magic != SNAPSHOT_MAGIC {
            return Err(SnapshotError::Foreign { found: magic });
        }
        match input.int("version")? {
            SNAPSHOT_VERSION => {}
            other => return Err(SnapshotError::Version(other)),
        }
        input.long("database")?;
        SnapshotReader::begin(input, Origin::File)
    }

    /// Reads the form that a leader sends: it has no header, and ends after the last znode.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn of_leader(input: R) -> Result<SnapshotReader<R>, SnapshotError> {
        SnapshotReader::begin(Summed::new(input), Origin::Leader)
    }

    fn begin(mut input: Summed<R>, origin: Origin) -> Result<SnapshotReader<R>, SnapshotError> {
        let left = input.count("number of sessions")?;
        Ok(SnapshotReader {
            input,
            section: Section::Sessions { left },
            origin,
        })
    }

    /// The next item; the last one is [`SnapshotItem::End`], and then there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not as documented. There is no item after an error.
    pub fn next_item(&mut self) -> Result<Option<SnapshotItem>, SnapshotError> {
        let read = self.read_item();
        if read.is_err() {
            self.section = Section::Ended;
        }
        read
    }

    fn read_item(&mut self) -> Result<Option<SnapshotItem>, SnapshotError> {
        loop {
            match self.section {
                Section::Sessions { left: 0 } => {
                    let left = self.input.count("number of access control lists")?;
                    self.section = Section::AclLists { left };
                }
                Section::Sessions { left } => {
                    self.section = Section::Sessions { left: left - 1 };
                    let id = self.input.long("session")?;
                    let timeout = self.input.int("session timeout")?;
                    return Ok(Some(SnapshotItem::Session { id, timeout }));
                }
                Section::AclLists { left: 0 } => self.section = Section::Znodes { is_first: true },
                Section::AclLists { left } => {
                    self.section = Section::AclLists { left: left - 1 };
                    let id = AclId(self.input.long("ACL id")?);
                    let list = self.input.acl()?;
                    return Ok(Some(SnapshotItem::AclList { id, list }));
                }
                Section::Znodes { is_first } => return self.znode(is_first).map(Some),
                Section::Ended => return Ok(None),
            }
        }
    }

    /// Reads a znode, or the end. The root is the first one, in every tree; a snapshot without it is no tree.
    fn znode(&mut self, is_first: bool) -> Result<SnapshotItem, SnapshotError> {
        let at = self.input.at;
        let path = self.input.text("path", TEXT_BYTES_MAX)?;
        if is_first != path.is_empty() {
            let found = path;
            return Err(SnapshotError::Root { at, found, is_first });
        }
        self.section = Section::Znodes { is_first: false };
        let path = match path.as_str() {
            "/" => {
                self.section = Section::Ended;
                let end = match self.origin {
                    Origin::File => self.input.trailer()?,
                    Origin::Leader => SnapshotEnd::default(),
                };
                return Ok(SnapshotItem::End(end));
            }
            "" => "/".to_owned(),
            _ => path,
        };
        Ok(SnapshotItem::Znode(SnapshotZnode {
            path,
            data: self.input.buffer("data", VALUE_BYTES_MAX)?,
            acl: AclId(self.input.long("ACL id")?),
            stat: self.input.stat()?,
        }))
    }

    /// The input, after the last byte that was read.
    pub fn into_inner(self) -> R {
        self.input.input
    }
}

/// Reads fields and sums all bytes up.
#[derive(Debug)]
struct Summed<R> {
    input: R,
    sum: Adler32,
    at: u64,
}

impl<R: Read> Summed<R> {
    fn new(input: R) -> Summed<R> {
        Summed {
            input,
            sum: Adler32::new(),
            at: 0,
        }
    }

    /// Appends up to this many bytes; fewer only at the end of the input.
    fn up_to(&mut self, count: usize, into: &mut Vec<u8>) -> Result<(), SnapshotError> {
        let before = into.len();
        let read = self.input.by_ref().take(count as u64).read_to_end(into);
        let added = &into[before..];
        self.sum.write_slice(added);
        self.at += added.len() as u64;
        let at = self.at;
        read.map(|_| ()).map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => SnapshotError::Cut {
                at,
                field: "compressed bytes",
            },
            _ => SnapshotError::Io { at, cause },
        })
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        let read = self.input.read_exact(&mut bytes);
        let at = self.at;
        read.map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => SnapshotError::Cut { at, field },
            _ => SnapshotError::Io { at, cause },
        })?;
        self.sum.write_slice(&bytes);
        self.at += N as u64;
        Ok(bytes)
    }

    fn int(&mut self, field: &'static str) -> Result<i32, SnapshotError> {
        self.array(field).map(i32::from_be_bytes)
    }

    fn long(&mut self, field: &'static str) -> Result<i64, SnapshotError> {
        self.array(field).map(i64::from_be_bytes)
    }

    fn count(&mut self, field: &'static str) -> Result<i32, SnapshotError> {
        let at = self.at;
        match self.int(field)? {
            negative @ ..0 => Err(SnapshotError::Field {
                field,
                at,
                fault: DecodeFault::NegativeLength(negative),
            }),
            count => Ok(count),
        }
    }

    /// Reads bytes after their length, allocating for those that are there.
    fn buffer(&mut self, field: &'static str, max: usize) -> Result<Option<Vec<u8>>, SnapshotError> {
        let at = self.at;
        let announced = self.int(field)?;
        if announced == -1 {
            return Ok(None);
        }
        let length = usize::try_from(announced).map_err(|_| SnapshotError::Field {
            field,
            at,
            fault: DecodeFault::NegativeLength(announced),
        })?;
        if length > max {
            return Err(SnapshotError::Large {
                field,
                at,
                length,
                max,
            });
        }
        let mut bytes = Vec::new();
        self.up_to(length, &mut bytes)?;
        match bytes.len() == length {
            true => Ok(Some(bytes)),
            false => Err(SnapshotError::Cut { at: self.at, field }),
        }
    }

    fn text(&mut self, field: &'static str, max: usize) -> Result<String, SnapshotError> {
        let at = self.at;
        let bytes = self.buffer(field, max)?.unwrap_or_default();
        text_of(&bytes).ok_or(SnapshotError::Field {
            field,
            at,
            fault: DecodeFault::NotText,
        })
    }

    fn acl(&mut self) -> Result<Vec<AclEntry>, SnapshotError> {
        let at = self.at;
        let field = "access control list";
        let length = usize::try_from(self.count(field)?).unwrap_or_default();
        if length > ACL_ENTRIES_MAX {
            let max = ACL_ENTRIES_MAX;
            return Err(SnapshotError::Large {
                field,
                at,
                length,
                max,
            });
        }
        let mut list = Vec::new();
        let mut left = ACL_LIST_BYTES_MAX;
        for _ in 0..length {
            let permissions = self.int("permissions")?;
            let scheme = self.text("ACL scheme", left)?;
            left -= scheme.len();
            let id = self.text("ACL id", left)?;
            left -= id.len();
            list.push(AclEntry {
                permissions,
                scheme,
                id,
            });
        }
        Ok(list)
    }

    fn stat(&mut self) -> Result<PersistedStat, SnapshotError> {
        Ok(PersistedStat {
            czxid: self.long("czxid")?,
            mzxid: self.long("mzxid")?,
            ctime: self.long("ctime")?,
            mtime: self.long("mtime")?,
            version: self.int("version")?,
            cversion: self.int("cversion")?,
            aversion: self.int("aversion")?,
            ephemeral_owner: self.long("ephemeralOwner")?,
            pzxid: self.long("pzxid")?,
        })
    }

    /// Checks that the seal fits everything before it.
    fn seal(&mut self) -> Result<(), SnapshotError> {
        let (at, found) = (self.at, self.sum.checksum());
        let expected = self.long("seal")?;
        if expected != i64::from(found) {
            return Err(SnapshotError::Seal { at, expected, found });
        }
        let at = self.at;
        match self.text("end of a seal", 1)?.as_str() {
            "/" => Ok(()),
            _ => Err(SnapshotError::Field {
                field: "end of a seal",
                at,
                fault: DecodeFault::NotText,
            }),
        }
    }

    /// Reads everything after the znodes. Which parts are there depends on the version and on the server's properties,
    /// and shows in the number of bytes.
    fn trailer(&mut self) -> Result<SnapshotEnd, SnapshotError> {
        self.seal()?;
        let mut bytes = Vec::new();
        let sum = self.sum;
        let at = self.at;
        self.up_to(TRAILER_BYTES_MAX + 1, &mut bytes)?;
        if bytes.len() > TRAILER_BYTES_MAX {
            return Err(SnapshotError::Large {
                field: "bytes after the znodes",
                at,
                length: bytes.len(),
                max: TRAILER_BYTES_MAX,
            });
        }
        let mut rest = Summed {
            input: bytes.as_slice(),
            sum,
            at,
        };
        let mut end = SnapshotEnd::default();
        if !rest.input.is_empty() && rest.input.len() != LAST_ZXID_BYTES {
            end.digest = rest.digest()?;
            rest.seal()?;
        }
        if !rest.input.is_empty() {
            end.last_zxid = Some(rest.long("last zxid")?);
            rest.seal()?;
        }
        match rest.input.len() {
            0 => Ok(end),
            left => Err(SnapshotError::Field {
                field: "end",
                at: rest.at,
                fault: DecodeFault::Rest(left),
            }),
        }
    }

    /// Reads a digest; `None` if the server had none yet, or one of the oldest version, which nothing can compute any more.
    fn digest(&mut self) -> Result<Option<(i64, TreeDigest)>, SnapshotError> {
        let zxid = self.long("zxid of the digest")?;
        let version = self.int("version of the digest")?;
        if version < crate::transaction::DIGEST_VERSION {
            self.text("digest", TRAILER_BYTES_MAX)?;
            return Ok(None);
        }
        let value = self.long("digest")?.cast_unsigned();
        Ok((zxid > 0).then_some((zxid, TreeDigest { version, value })))
    }
}
