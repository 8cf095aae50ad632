//! The table of znodes, and the access control lists beside it.
//!
//! The key of a znode is its path with a byte 0 in place of each slash, which no path contains: so a znode comes directly
//! before everything below it, and its subtree is a range.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bridge_core::committed::{RawStat, StagePage, StageRead, StagedNode};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_transactions::digest::{ContentCrc, DigestSum, PathCharset, PersistedStat};
use bridge_transactions::snapshot::{AclId, SnapshotZnode};
use bridge_transactions::transaction::{AclEntry, Lifetime, open_list};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::to_core::{core_lifetime, parsed};
use super::StageError;
use crate::acl::recorded;
use crate::config::AclDigests;

/// The memory of the table's pages, in KiB: with it the bridge stays below 100 MB while it stages a million znodes.
const CACHE_KIB: i64 = 16 << 10;

/// Bytes of a Stat in the table.
const STAT: usize = 60;

const SCHEMA: &str = "
    CREATE TABLE node (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        content BLOB NOT NULL,
        stat BLOB NOT NULL,
        acl INTEGER NOT NULL,
        session INTEGER,
        data BLOB NOT NULL
    ) STRICT;
    CREATE INDEX of_session ON node (session) WHERE session IS NOT NULL;
    BEGIN;
";

/// A znode of the stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) data: Vec<u8>,
    pub(super) acl: AclId,
    pub(super) stat: PersistedStat,
    pub(super) lifetime: Lifetime,
}

impl Node {
    /// A znode that a server makes for itself.
    pub(super) fn first(path: &str) -> Node {
        Node {
            path: path.to_owned(),
            data: Vec::new(),
            acl: AclId::OPEN,
            stat: PersistedStat::default(),
            lifetime: Lifetime::Persistent,
        }
    }

    pub(super) fn of_snapshot(znode: SnapshotZnode, lifetime: Lifetime) -> Node {
        Node {
            path: znode.path,
            data: znode.data.unwrap_or_default(),
            acl: znode.acl,
            stat: znode.stat,
            lifetime,
        }
    }
}

/// The most bytes of different access control lists and of sessions of a tree. They are in memory, in that of each server,
/// too: ensembles have tens of them, and those with one for each user some MB.
const LISTS_BYTES_MAX: usize = 256 << 20;

/// Counted for each entry besides its texts, in two tables, and for each list and session.
const ENTRY_OVERHEAD: usize = 128;

/// The access control lists of a tree, and the sessions that need to be known.
#[derive(Debug)]
pub(super) struct AclLists {
    lists: HashMap<AclId, Vec<AclEntry>>,
    ids: HashMap<Vec<AclEntry>, AclId>,
    /// Sessions whose ids look like those of znodes with a time to live.
    sessions: HashSet<i64>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for AclLists {
    fn default() -> AclLists {
        AclLists::limited(LISTS_BYTES_MAX)
    }
}

impl AclLists {
    /// None yet, and at most these bytes of them.
    pub(super) fn limited(bytes_max: usize) -> AclLists {
        AclLists {
            lists: HashMap::new(),
            ids: HashMap::new(),
            sessions: HashSet::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn session(&mut self, id: i64) -> Result<(), StageError> {
        if let Lifetime::Ttl { .. } = Lifetime::of_owner(id, |_| false) {
            self.count(ENTRY_OVERHEAD)?;
            self.sessions.insert(id);
        }
        Ok(())
    }

    pub(super) fn add(&mut self, id: AclId, list: Vec<AclEntry>) -> Result<(), StageError> {
        let texts = list
            .iter()
            .map(|entry| entry.scheme.len() + entry.id.len() + ENTRY_OVERHEAD);
        self.count(2 * texts.sum::<usize>() + ENTRY_OVERHEAD)?;
        self.ids.insert(list.clone(), id);
        self.lists.insert(id, list);
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), StageError> {
        self.bytes = self.bytes.saturating_add(bytes);
        match self.bytes > self.bytes_max {
            true => Err(StageError::Lists {
                held: self.bytes,
                limit: self.bytes_max,
            }),
            false => Ok(()),
        }
    }

    /// The id of a list, a new one if it is not known. Servers count theirs upwards.
    pub(super) fn id_of(&mut self, list: &[AclEntry]) -> Result<AclId, StageError> {
        if let Some(id) = self.ids.get(list) {
            return Ok(*id);
        }
        let count = i64::try_from(self.lists.len()).expect("a count of lists in memory");
        let id = AclId(i64::MIN + count);
        self.add(id, list.to_vec())?;
        Ok(id)
    }

    /// The list of an id; `None` if the snapshot lacks it (ZOOKEEPER-4846).
    fn list(&self, id: AclId, digests: AclDigests) -> Option<Vec<bridge_core::record::Acl>> {
        if id == AclId::OPEN {
            return Some(recorded(&open_list(), digests));
        }
        self.lists.get(&id).map(|entries| recorded(entries, digests))
    }

    /// The lifetime of a znode with this owner. Ids of sessions of servers from 255 on look like a time to live.
    pub(super) fn lifetime_of(&self, owner: i64) -> Lifetime {
        Lifetime::of_owner(owner, |session| self.sessions.contains(&session))
    }
}

/// The table.
pub(super) struct Nodes {
    table: Connection,
    sum: DigestSum,
}

impl Nodes {
    /// An empty table in a file of this folder, which has no name any more: nothing is left over after a crash.
    pub(super) fn create(folder: &Path) -> Result<Nodes, StageError> {
        let file = tempfile::Builder::new()
            .prefix("zkbridge-stage-")
            .tempfile_in(folder)
            .map_err(StageError::NoFile)?;
        let table = Connection::open(file.path())?;
        table.pragma_update(None, "journal_mode", "OFF")?;
        table.pragma_update(None, "synchronous", "OFF")?;
        table.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        table.pragma_update(None, "cache_size", -CACHE_KIB)?;
        table.execute_batch(SCHEMA)?;
        file.close().map_err(StageError::NoFile)?;
        Ok(Nodes {
            table,
            sum: DigestSum::default(),
        })
    }

    /// How many there are.
    pub(super) fn count(&self) -> rusqlite::Result<u64> {
        let count: i64 = self
            .table
            .query_row("SELECT count(*) FROM node", [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// The digest of the tree where paths are encoded in UTF-8.
    pub(super) fn digest(&self) -> u64 {
        self.sum.value(PathCharset::Utf8)
    }

    /// Whether a leader that has this digest has this tree, in whatever charset it encodes the paths.
    pub(super) fn has_digest(&self, digest: u64) -> bool {
        self.sum.charset_of(digest).is_some()
    }

    /// Adds a znode that is not there.
    pub(super) fn insert(&mut self, node: &Node) -> Result<(), StageError> {
        let content = ContentCrc::new(&node.path, Some(&node.data));
        let session = (node.lifetime == Lifetime::Ephemeral).then_some(node.stat.ephemeral_owner);
        let mut insert = self.table.prepare_cached(
            "INSERT INTO node (key, content, stat, acl, session, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let stat = encode(&node.stat);
        insert.execute(params![
            key(&node.path),
            content.to_bytes(),
            stat,
            node.acl.0,
            session,
            node.data
        ])?;
        self.sum.add(&node.path, content, &node.stat);
        Ok(())
    }

    pub(super) fn contains(&self, path: &str) -> Result<bool, StageError> {
        let mut find = self.table.prepare_cached("SELECT 1 FROM node WHERE key = ?1")?;
        Ok(find.exists([key(path)])?)
    }

    /// Changes the Stat of a znode; `false` if it is not there.
    pub(super) fn change_stat(
        &mut self,
        path: &str,
        change: impl FnOnce(&mut PersistedStat),
    ) -> Result<bool, StageError> {
        let Some((content, mut stat)) = self.find(path)? else {
            return Ok(false);
        };
        self.sum.remove(path, content, &stat);
        change(&mut stat);
        self.sum.add(path, content, &stat);
        let mut update = self
            .table
            .prepare_cached("UPDATE node SET stat = ?2 WHERE key = ?1")?;
        update.execute(params![key(path), encode(&stat)])?;
        Ok(true)
    }

    /// Changes the data of a znode, and its Stat; nothing if it is not there.
    pub(super) fn set_data(
        &mut self,
        path: &str,
        data: &[u8],
        change: impl FnOnce(&mut PersistedStat),
    ) -> Result<(), StageError> {
        let Some((content, stat)) = self.find(path)? else {
            return Ok(());
        };
        self.sum.remove(path, content, &stat);
        let content = ContentCrc::new(path, Some(data));
        self.sum.add(path, content, &stat);
        let mut update = self
            .table
            .prepare_cached("UPDATE node SET data = ?2, content = ?3 WHERE key = ?1")?;
        update.execute(params![key(path), data, content.to_bytes()])?;
        drop(update);
        self.change_stat(path, change)?;
        Ok(())
    }

    pub(super) fn set_acl(&mut self, path: &str, acl: AclId, version: i32) -> Result<(), StageError> {
        self.replace_acl(path, acl)?;
        self.change_stat(path, |stat| stat.aversion = version)?;
        Ok(())
    }

    /// Gives a znode another list, and leaves its Stat; nothing if it is not there.
    pub(super) fn replace_acl(&mut self, path: &str, acl: AclId) -> Result<(), StageError> {
        let mut update = self
            .table
            .prepare_cached("UPDATE node SET acl = ?2 WHERE key = ?1")?;
        update.execute(params![key(path), acl.0])?;
        Ok(())
    }

    /// Removes a znode; nothing if it is not there.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), StageError> {
        let Some((content, stat)) = self.find(path)? else {
            return Ok(());
        };
        self.sum.remove(path, content, &stat);
        let mut delete = self.table.prepare_cached("DELETE FROM node WHERE key = ?1")?;
        delete.execute([key(path)])?;
        Ok(())
    }

    /// The ephemeral znodes of a session.
    pub(super) fn of_session(&self, session: i64) -> Result<Vec<String>, StageError> {
        let mut find = self
            .table
            .prepare_cached("SELECT key FROM node WHERE session = ?1")?;
        let keys = find.query_map([session], |row| row.get::<_, Vec<u8>>(0))?;
        keys.map(|key| path_of(&key?)).collect()
    }

    fn find(&self, path: &str) -> Result<Option<(ContentCrc, PersistedStat)>, StageError> {
        let mut find = self
            .table
            .prepare_cached("SELECT content, stat FROM node WHERE key = ?1")?;
        let found = find
            .query_row([key(path)], |row| {
                let stat = decode(&row.get::<_, [u8; STAT]>(1)?);
                Ok((ContentCrc::from_bytes(row.get(0)?), stat))
            })
            .optional()?;
        Ok(found)
    }

    /// Some znodes of a subtree, each before those below it.
    pub(super) fn page(
        &self,
        read: &StageRead,
        acls: &AclLists,
        digests: AclDigests,
    ) -> Result<StagePage, StageError> {
        let top = key(&read.below);
        let end = end_of(&top);
        let (from, is_first) = match &read.after {
            Some(after) => ([key(after).as_slice(), &[0]].concat(), false),
            None => (top, true),
        };
        let mut find = self.table.prepare_cached(
            "SELECT key, stat, acl, session, data FROM node WHERE key >= ?1 AND key < ?2 ORDER BY key",
        )?;
        let mut rows = find.query(params![from, end])?;
        let (mut page, mut bytes) = (StagePage::default(), 0);
        page.is_last = loop {
            let Some(row) = rows.next()? else {
                break true;
            };
            let data: Vec<u8> = row.get(4)?;
            let is_full = page.nodes.len() >= read.nodes || bytes + data.len() > read.bytes;
            if is_full && !page.nodes.is_empty() {
                break false;
            }
            bytes += data.len();
            page.nodes.push(self.staged(row, data, acls, digests)?);
        };
        if is_first && page.nodes.is_empty() {
            page.above = self.pzxid_above(&read.below)?;
        }
        Ok(page)
    }

    fn staged(
        &self,
        row: &Row<'_>,
        data: Vec<u8>,
        acls: &AclLists,
        digests: AclDigests,
    ) -> Result<StagedNode, StageError> {
        let key: Vec<u8> = row.get(0)?;
        let stat = decode(&row.get::<_, [u8; STAT]>(1)?);
        let session: Option<i64> = row.get(3)?;
        let lifetime = Lifetime::of_owner(stat.ephemeral_owner, |_| session.is_some());
        Ok(StagedNode {
            path: parsed(&path_of(&key)?).map_err(StageError::Znode)?,
            raw: raw(&stat),
            lifetime: core_lifetime(lifetime),
            data: data.into(),
            acl: acls.list(AclId(row.get(2)?), digests),
            children: self.children(&key)?,
        })
    }

    /// The names of the children in the order of their bytes. The subtree of each is skipped.
    fn children(&self, parent: &[u8]) -> Result<Vec<Box<str>>, StageError> {
        let mut find = self
            .table
            .prepare_cached("SELECT key FROM node WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1")?;
        let end = end_of(parent);
        let mut from = [parent, &[0]].concat();
        let mut names = Vec::new();
        loop {
            let next: Option<Vec<u8>> = find.query_row(params![from, end], |row| row.get(0)).optional()?;
            let Some(next) = next else {
                return Ok(names);
            };
            let name = next[parent.len() + 1..]
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default();
            from = end_of(&[parent, &[0], name].concat());
            let name = std::str::from_utf8(name).map_err(|error| StageError::Znode(error.to_string()))?;
            names.push(name.into());
        }
    }

    fn pzxid_above(&self, path: &ZnodePath) -> Result<Option<Zxid>, StageError> {
        for above in path.ancestors() {
            if let Some((_, stat)) = self.find(&above)? {
                return Ok(Some(zxid(stat.pzxid)));
            }
        }
        Ok(None)
    }
}

fn key(path: &str) -> Vec<u8> {
    if path == "/" {
        return Vec::new();
    }
    path.bytes()
        .map(|byte| if byte == b'/' { 0 } else { byte })
        .collect()
}

/// The first key after a subtree.
fn end_of(key: &[u8]) -> Vec<u8> {
    [key, &[1]].concat()
}

fn path_of(key: &[u8]) -> Result<String, StageError> {
    if key.is_empty() {
        return Ok("/".to_owned());
    }
    let bytes = key
        .iter()
        .map(|byte| if *byte == 0 { b'/' } else { *byte })
        .collect();
    String::from_utf8(bytes).map_err(|error| StageError::Znode(error.to_string()))
}

fn zxid(number: i64) -> Zxid {
    Zxid(number.cast_unsigned())
}

fn raw(stat: &PersistedStat) -> RawStat {
    RawStat {
        czxid: zxid(stat.czxid),
        mzxid: zxid(stat.mzxid),
        pzxid: zxid(stat.pzxid),
        ctime: stat.ctime,
        mtime: stat.mtime,
        version: stat.version,
        cversion: stat.cversion,
        aversion: stat.aversion,
        owner: stat.ephemeral_owner,
    }
}

fn encode(stat: &PersistedStat) -> [u8; STAT] {
    let mut bytes = [0; STAT];
    let longs = [
        stat.czxid,
        stat.mzxid,
        stat.ctime,
        stat.mtime,
        stat.ephemeral_owner,
        stat.pzxid,
    ];
    let ints = [stat.version, stat.cversion, stat.aversion];
    let numbers = longs.iter().flat_map(|number| number.to_le_bytes());
    let numbers = numbers.chain(ints.iter().flat_map(|number| number.to_le_bytes()));
    for (to, from) in bytes.iter_mut().zip(numbers) {
        *to = from;
    }
    bytes
}

fn decode(bytes: &[u8; STAT]) -> PersistedStat {
    let long = |at: usize| i64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("8 bytes"));
    let int = |at: usize| i32::from_le_bytes(bytes[48 + at * 4..52 + at * 4].try_into().expect("4 bytes"));
    PersistedStat {
        czxid: long(0),
        mzxid: long(1),
        ctime: long(2),
        mtime: long(3),
        ephemeral_owner: long(4),
        pzxid: long(5),
        version: int(0),
        cversion: int(1),
        aversion: int(2),
    }
}
