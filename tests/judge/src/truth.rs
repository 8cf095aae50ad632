//! What really happened: every committed transaction, read from the transaction log that the server itself wrote.
//!
//! It knows nothing of zkbridge, and it misses nothing: not the ends of sessions, not what another client wrote, not a
//! write whose reply was lost. Never takes anything from the product's own reading of ZooKeeper.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::jute::Cursor;

/// One version of a znode's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The zxid of the write.
    pub mzxid: u64,
    /// The version, from 0.
    pub number: i64,
    /// When, by the leader's clock.
    pub time_ms: i64,
    /// What was written.
    pub data: Vec<u8>,
}

/// One incarnation of a path that was visible: it lived beyond the transaction that created it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The zxid of its create.
    pub czxid: u64,
    /// The session that owned it, or 0.
    pub owner: u64,
    /// Its values, oldest first.
    pub versions: Vec<Version>,
    /// The zxid of its delete.
    pub died: Option<u64>,
}

impl Life {
    /// The version with this zxid and number.
    pub fn version(&self, mzxid: u64, number: i64) -> Option<&Version> {
        self.versions
            .iter()
            .find(|version| version.mzxid == mzxid && version.number == number)
    }

    /// How many versions there were.
    pub fn last_number(&self) -> i64 {
        self.versions.last().map_or(0, |version| version.number)
    }
}

/// The lives of all paths, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// By path.
    pub lives: BTreeMap<String, Vec<Life>>,
    /// The last transaction.
    pub last: u64,
}

impl Truth {
    /// Reads all logs of one server, up to the last whole record.
    ///
    /// # Panics
    ///
    /// If a log cannot be read or is not as ZooKeeper documents it.
    pub fn of_server(data_dir: &Path) -> Truth {
        let mut truth = Builder::default();
        for log in logs(data_dir) {
            let bytes = std::fs::read(&log).expect("the server's log can be read");
            read_log(&bytes, &mut truth);
        }
        truth.truth
    }

    /// The incarnation of a path with this czxid.
    pub fn life(&self, path: &str, czxid: u64) -> Option<&Life> {
        self.lives.get(path)?.iter().find(|life| life.czxid == czxid)
    }

    /// Paths below the roots, with their lives.
    pub fn below<'a>(&'a self, roots: &'a [String]) -> impl Iterator<Item = (&'a String, &'a Vec<Life>)> {
        self.lives
            .iter()
            .filter(move |(path, _)| roots.iter().any(|root| covers(root, path)))
    }

    /// A truth written by hand, for controls.
    #[cfg(test)]
    pub(crate) fn of_lives(lives: impl IntoIterator<Item = (&'static str, Life)>) -> Truth {
        let mut truth = Truth::default();
        for (path, life) in lives {
            let last = life.died.or(life.versions.last().map(|version| version.mzxid));
            truth.last = truth.last.max(last.unwrap_or(life.czxid));
            truth.lives.entry(path.to_owned()).or_default().push(life);
        }
        truth
    }

    /// The same truth as a client below a chroot sees it.
    pub fn below_chroot(self, chroot: &str) -> Truth {
        let seen = |path: &str| {
            let rest = path.strip_prefix(chroot)?;
            match rest {
                "" => Some("/".to_owned()),
                rest if rest.starts_with('/') => Some(rest.to_owned()),
                _ => None,
            }
        };
        let lives = self.lives.into_iter();
        let lives = lives.filter_map(|(path, lives)| seen(&path).map(|path| (path, lives)));
        Truth {
            lives: lives.collect(),
            last: self.last,
        }
    }
}

/// Whether a path is the root or below it.
pub fn covers(root: &str, path: &str) -> bool {
    root == "/" || path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

fn logs(data_dir: &Path) -> Vec<std::path::PathBuf> {
    let folder = data_dir.join("version-2");
    let listed = std::fs::read_dir(&folder).expect("the server has written its log");
    let mut logs: Vec<(u64, std::path::PathBuf)> = listed
        .filter_map(|entry| {
            let path = entry.expect("the folder can be listed").path();
            let zxid = path.file_name()?.to_str()?.strip_prefix("log.")?.to_owned();
            Some((u64::from_str_radix(&zxid, 16).ok()?, path))
        })
        .collect();
    logs.sort();
    logs.into_iter().map(|(_, path)| path).collect()
}

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const SET_DATA: i32 = 5;
const SET_ACL: i32 = 7;
const CHECK: i32 = 13;
const MULTI: i32 = 14;
const CREATE2: i32 = 15;
const CREATE_CONTAINER: i32 = 19;
const DELETE_CONTAINER: i32 = 20;
const CREATE_TTL: i32 = 21;
const CREATE_SESSION: i32 = -10;
const CLOSE_SESSION: i32 = -11;
const ERROR: i32 = -1;

/// The file's magic, version and database.
const FILE_HEADER_BYTES: usize = 16;
/// Checksum and length before each record.
const RECORD_HEADER_BYTES: usize = 12;

fn read_log(bytes: &[u8], builder: &mut Builder) {
    let mut rest = bytes.get(FILE_HEADER_BYTES..).unwrap_or_default();
    // A length of zero is the padding; a record that is not whole is being written.
    while let Some(header) = rest.get(..RECORD_HEADER_BYTES) {
        let length = Cursor::new(&header[8..]).int().expect("four bytes are there");
        let end = RECORD_HEADER_BYTES + usize::try_from(length).expect("a length is not negative");
        if length == 0 || rest.get(end) != Some(&b'B') {
            return;
        }
        builder.transaction(&rest[RECORD_HEADER_BYTES..end]);
        rest = &rest[end + 1..];
    }
}

/// What all operations of one transaction share.
#[derive(Clone, Copy)]
struct Header {
    session: u64,
    zxid: u64,
    time_ms: i64,
}

#[derive(Default)]
struct Builder {
    truth: Truth,
    ephemerals: BTreeMap<u64, BTreeSet<String>>,
}

impl Builder {
    fn transaction(&mut self, bytes: &[u8]) {
        let mut cursor = Cursor::new(bytes);
        let (session, _cxid) = (cursor.long(), cursor.int());
        let (zxid, time, kind) = (cursor.long(), cursor.long(), cursor.int());
        let header = Header {
            session: session.expect("a session") as u64,
            zxid: zxid.expect("a zxid") as u64,
            time_ms: time.expect("a time"),
        };
        // A malformed request is logged under the zxid before it.
        if header.zxid <= self.truth.last {
            return;
        }
        self.truth.last = header.zxid;
        self.operation(header, kind.expect("a kind"), &mut cursor)
            .expect("the log is as documented");
        self.forget_invisible(header.zxid);
    }

    fn operation(&mut self, header: Header, kind: i32, body: &mut Cursor<'_>) -> Option<()> {
        match kind {
            CREATE | CREATE2 | CREATE_TTL | CREATE_CONTAINER => self.create(header, kind, body)?,
            DELETE | DELETE_CONTAINER => self.delete(header, &body.text()?),
            SET_DATA => {
                let (path, data, number) = (body.text()?, body.buffer()?, body.int()?);
                self.set(header, &path, data, number);
            }
            MULTI => self.multi(header, body)?,
            CLOSE_SESSION => self.close(header),
            SET_ACL | CHECK | CREATE_SESSION | ERROR => {}
            other => panic!("the log has a transaction of kind {other}"),
        }
        Some(())
    }

    fn create(&mut self, header: Header, kind: i32, body: &mut Cursor<'_>) -> Option<()> {
        let (path, data) = (body.text()?, body.buffer()?);
        body.acls()?;
        let is_ephemeral = matches!(kind, CREATE | CREATE2) && body.byte()? != 0;
        let owner = if is_ephemeral { header.session } else { 0 };
        if is_ephemeral {
            self.ephemerals
                .entry(header.session)
                .or_default()
                .insert(path.clone());
        }
        let first = Version {
            mzxid: header.zxid,
            number: 0,
            time_ms: header.time_ms,
            data,
        };
        self.truth.lives.entry(path).or_default().push(Life {
            czxid: header.zxid,
            owner,
            versions: vec![first],
            died: None,
        });
        Some(())
    }

    fn living(&mut self, path: &str) -> Option<&mut Life> {
        let lives = self.truth.lives.get_mut(path)?;
        lives.last_mut().filter(|life| life.died.is_none())
    }

    fn delete(&mut self, header: Header, path: &str) {
        let Some(life) = self.living(path) else { return };
        life.died = Some(header.zxid);
        let owner = life.owner;
        if let Some(paths) = self.ephemerals.get_mut(&owner) {
            paths.remove(path);
        }
    }

    fn set(&mut self, header: Header, path: &str, data: Vec<u8>, number: i32) {
        // The log holds writes to ZooKeeper's own znodes, which nobody created.
        let Some(life) = self.living(path) else { return };
        life.versions.push(Version {
            mzxid: header.zxid,
            number: i64::from(number),
            time_ms: header.time_ms,
            data,
        });
    }

    fn multi(&mut self, header: Header, body: &mut Cursor<'_>) -> Option<()> {
        let count = body.int()?;
        let mut operations = Vec::new();
        for _ in 0..count {
            operations.push((body.int()?, body.buffer()?));
        }
        if operations.iter().any(|(kind, _)| *kind == ERROR) {
            return Some(());
        }
        for (kind, bytes) in operations {
            self.operation(header, kind, &mut Cursor::new(&bytes))?;
        }
        Some(())
    }

    fn close(&mut self, header: Header) {
        for path in self.ephemerals.remove(&header.session).unwrap_or_default() {
            self.delete(header, &path);
        }
    }

    /// Nobody could ever see what began and ended inside one transaction.
    fn forget_invisible(&mut self, zxid: u64) {
        self.truth.lives.retain(|_, lives| {
            lives.retain(|life| !(life.czxid == zxid && life.died == Some(zxid)));
            !lives.is_empty()
        });
    }
}
