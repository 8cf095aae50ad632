//! The digest of the whole tree, which servers since 3.6 write with each transaction.
//!
//! It is the sum, modulo 2⁶⁴, over all znodes outside of `/zookeeper/` of the CRC-32 of path, data and stored Stat. A
//! transaction changes the terms of the znodes that it touches and of their parents. So the journal keeps, for each znode
//! of the server, the CRC state after path and data, and the Stat: not the data itself. A digest that matches proves that
//! the whole history up to there was taken: also the end of an epoch, which could be missing without a hole.
//!
//! A server encodes paths in the charset of its JVM, and here they are in UTF-8. Where a snapshot has shown that these
//! differ, the server's own digest is gone on from, and a transaction is proved if it touches paths of ASCII only.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::image_txn::ImageTxn;
use crate::journal::JournalError;
use crate::number::Zxid;
use crate::path::{Hasher, ZnodePath, covers};
use crate::record::LifetimeKind;

use super::net::NetFault;
use super::options::{CommittedOptions, ProofMode};
use super::txn::{CommittedTxn, HistoryPosition, NodeOperation, RawStat, StagedNode, TxnContent};

/// The version of the digest that is known here.
const DIGEST_VERSION: i32 = 2;

/// The znodes below this one are in no digest.
const RESERVED: &str = "/zookeeper";

/// The bytes of a stored Stat.
pub(crate) const RAW_STAT_BYTES: usize = 60;

/// Names a znode in the journal's table: the first half of the SHA-256 of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShadowKey(pub [u8; 16]);

impl ShadowKey {
    /// The key of a path of the server.
    pub fn of(path: &str) -> ShadowKey {
        let digest: [u8; 32] = Sha256::digest(path.as_bytes()).into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        ShadowKey(key)
    }
}

/// The parts of a znode that its digest needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShadowNode {
    /// The CRC-32 of path and data.
    pub crc: u32,
    /// The Stat as servers store it.
    pub stat: RawStat,
}

impl ShadowNode {
    /// Of a znode with this data.
    pub(super) fn of(path: &ZnodePath, data: &[u8], stat: RawStat) -> ShadowNode {
        // The name of the root is empty in the servers' tables.
        let name = if path.is_slash() { "" } else { path.as_str() };
        let mut crc = crc32fast::Hasher::new();
        crc.update(name.as_bytes());
        crc.update(data);
        ShadowNode {
            crc: crc.finalize(),
            stat,
        }
    }

    /// Its term of the sum.
    fn term(&self) -> u64 {
        let mut crc = crc32fast::Hasher::new_with_initial(self.crc);
        crc.update(&encode_raw_stat(&self.stat));
        crc.finalize().into()
    }
}

/// The bytes that the digest is computed of, which are those that servers store.
pub(crate) fn encode_raw_stat(stat: &RawStat) -> [u8; RAW_STAT_BYTES] {
    let mut bytes = [0; RAW_STAT_BYTES];
    let longs = [stat.czxid.0, stat.mzxid.0, stat.pzxid.0];
    let times = [stat.ctime, stat.mtime].map(i64::cast_unsigned);
    let counts = [stat.version, stat.cversion, stat.aversion];
    let (head, tail) = bytes.split_at_mut(40);
    for (place, number) in head.chunks_exact_mut(8).zip(longs.into_iter().chain(times)) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    for (place, number) in tail[..12].chunks_exact_mut(4).zip(counts) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    tail[12..].copy_from_slice(&stat.owner.to_be_bytes());
    bytes
}

/// The Stat of such bytes; `None` if there are not 60 of them.
pub(crate) fn decode_raw_stat(bytes: &[u8]) -> Option<RawStat> {
    let bytes: &[u8; RAW_STAT_BYTES] = bytes.try_into().ok()?;
    let long = |at: usize| Some(u64::from_be_bytes(bytes[at..at + 8].try_into().ok()?));
    let int = |at: usize| Some(i32::from_be_bytes(bytes[at..at + 4].try_into().ok()?));
    Some(RawStat {
        czxid: Zxid(long(0)?),
        mzxid: Zxid(long(8)?),
        pzxid: Zxid(long(16)?),
        ctime: long(24)?.cast_signed(),
        mtime: long(32)?.cast_signed(),
        version: int(40)?,
        cversion: int(44)?,
        aversion: int(48)?,
        owner: long(52)?.cast_signed(),
    })
}

/// Whether a znode is part of the digest.
fn is_covered(path: &str) -> bool {
    path == RESERVED || !covers(RESERVED, path)
}

/// The parent of a znode, if it is part of the digest: `/zookeeper` is, and its children are not.
fn covered_parent(path: &ZnodePath) -> Option<ZnodePath> {
    path.parent().filter(|parent| is_covered(parent))
}

/// The znodes of the server whose part of the digest is kept.
#[derive(Clone, Debug)]
pub(super) enum HeldNodes {
    All,
    /// Those of these subtrees, excluded ones included, and their ancestors.
    Below(Vec<ZnodePath>),
}

impl HeldNodes {
    /// As the options say.
    pub(super) fn of(options: &CommittedOptions) -> HeldNodes {
        match options.proof {
            ProofMode::Tree | ProofMode::Sequence => HeldNodes::All,
            ProofMode::Roots => {
                let roots = options.capture.roots.iter();
                HeldNodes::Below(roots.map(|root| options.server_path(root)).collect())
            }
        }
    }

    fn has(&self, path: &ZnodePath) -> bool {
        match self {
            HeldNodes::All => true,
            HeldNodes::Below(roots) => roots.iter().any(|root| root.covers(path) || path.covers(root)),
        }
    }
}

/// The sum over the znodes of a stage, which are stored as they come.
#[derive(Debug, Default)]
pub(super) struct StageDigest(u64);

impl StageDigest {
    /// Adds a znode.
    pub(super) fn add(
        &mut self,
        node: &StagedNode,
        held: &HeldNodes,
        image: &mut dyn ImageTxn,
    ) -> Result<(), JournalError> {
        if !is_covered(&node.path) {
            return Ok(());
        }
        let shadow = ShadowNode::of(&node.path, &node.data, node.raw);
        self.0 = self.0.wrapping_add(shadow.term());
        match held.has(&node.path) {
            true => image.stage_shadow(&ShadowKey::of(&node.path), &shadow),
            false => Ok(()),
        }
    }

    /// The digest of the znodes so far.
    pub(super) fn value(&self) -> u64 {
        self.0
    }
}

/// Whether a digest has proved a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TxnProof {
    /// It was compared, and is equal.
    Checked,
    /// The transaction touches znodes that are not held.
    NotHeld,
    /// The server has written none.
    NoDigest,
    /// The transaction touches paths outside of ASCII, which the server encodes in another charset than UTF-8.
    OtherCharset,
}

/// The digest while the transactions of one input are applied.
#[derive(Debug)]
pub(super) struct TreeProof<'a> {
    /// The digest of the whole tree, where it is known.
    digest: Option<u64>,
    held: &'a HeldNodes,
    /// The znodes that were touched, and whether they exist.
    touched: HashMap<ShadowKey, Option<ShadowNode>, Hasher>,
    /// By how much the present transaction changes the terms of the znodes that are held.
    change: u64,
    /// Whether it touches no others.
    is_whole: bool,
    /// Whether the server encodes paths in another charset than UTF-8.
    is_of_other_charset: bool,
    /// Whether the present transaction touches paths of ASCII only, which have the same terms in any charset.
    is_ascii: bool,
}

impl TreeProof<'_> {
    /// Of the tree at a position.
    pub(super) fn new<'a>(position: &HistoryPosition, held: &'a HeldNodes) -> TreeProof<'a> {
        TreeProof {
            digest: position.digest,
            held,
            touched: HashMap::default(),
            change: 0,
            is_whole: true,
            is_of_other_charset: position.is_of_other_charset,
            is_ascii: true,
        }
    }

    /// Applies a transaction, and compares the digest that it has. `is_listed`: all that it deletes is known.
    pub(super) fn apply(
        &mut self,
        txn: &CommittedTxn,
        is_listed: bool,
        image: &mut dyn ImageTxn,
    ) -> Result<TxnProof, NetFault> {
        let holds_all = matches!(self.held, HeldNodes::All);
        (self.change, self.is_whole, self.is_ascii) = (0, holds_all || is_listed, true);
        match &txn.content {
            TxnContent::Nothing => {}
            TxnContent::Single(operation) => self.operation(txn, operation, image)?,
            TxnContent::Multi(operations) => {
                for operation in operations {
                    self.operation(txn, operation, image)?;
                }
            }
            TxnContent::CloseSession { paths } => {
                for path in paths.iter().flatten() {
                    let is_held = is_covered(path) && self.held.has(path);
                    if !is_held || self.node(&ShadowKey::of(path), image)?.is_some() {
                        self.delete(txn, path, image)?;
                    }
                }
            }
        }
        let ours = self.digest.filter(|_| self.is_whole);
        let ours = ours.map(|digest| digest.wrapping_add(self.change));
        let Some(theirs) = txn.digest.filter(|digest| digest.version == DIGEST_VERSION) else {
            self.digest = ours;
            return Ok(TxnProof::NoDigest);
        };
        self.digest = Some(theirs.value);
        match ours {
            Some(ours) if ours == theirs.value => Ok(TxnProof::Checked),
            Some(_) if self.is_of_other_charset && !self.is_ascii => Ok(TxnProof::OtherCharset),
            Some(ours) => Err(NetFault::OtherDigest(format!(
                "the tree after transaction {} has the digest {ours:016x}, and the server's has {:016x}",
                txn.zxid, theirs.value
            ))),
            None => Ok(TxnProof::NotHeld),
        }
    }

    /// Writes the touched znodes. Returns the digest.
    pub(super) fn finish(self, image: &mut dyn ImageTxn) -> Result<Option<u64>, JournalError> {
        for (key, node) in &self.touched {
            image.set_shadow(key, node.as_ref())?;
        }
        Ok(self.digest)
    }

    fn operation(
        &mut self,
        txn: &CommittedTxn,
        operation: &NodeOperation,
        image: &mut dyn ImageTxn,
    ) -> Result<(), NetFault> {
        match operation {
            NodeOperation::Create {
                path,
                data,
                lifetime,
                parent_cversion,
                ..
            } => {
                if let Some(parent) = covered_parent(path) {
                    self.change(txn, &parent, image, |node| {
                        let next = parent_cversion.unwrap_or(node.stat.cversion.wrapping_add(1));
                        if next > node.stat.cversion {
                            node.stat.cversion = next;
                            node.stat.pzxid = txn.zxid;
                        }
                    })?;
                }
                if !is_covered(path) {
                    return Ok(());
                }
                let owner = match lifetime.kind {
                    LifetimeKind::Persistent => 0,
                    LifetimeKind::Ephemeral => txn.session.0.cast_signed(),
                    LifetimeKind::Container => i64::MIN,
                    LifetimeKind::Ttl => TTL_MARK | lifetime.ttl.unwrap_or_default(),
                };
                let stat = RawStat {
                    czxid: txn.zxid,
                    mzxid: txn.zxid,
                    pzxid: txn.zxid,
                    ctime: txn.time,
                    mtime: txn.time,
                    owner,
                    ..RawStat::default()
                };
                self.put(path, Some(ShadowNode::of(path, data, stat)), image)
            }
            NodeOperation::Delete { path, .. } => self.delete(txn, path, image),
            NodeOperation::SetData { path, data, version } if is_covered(path) => {
                self.change(txn, path, image, |node| {
                    let stat = RawStat {
                        mzxid: txn.zxid,
                        mtime: txn.time,
                        version: *version,
                        ..node.stat
                    };
                    *node = ShadowNode::of(path, data, stat);
                })
            }
            NodeOperation::SetAcl { path, version, .. } if is_covered(path) => {
                self.change(txn, path, image, |node| node.stat.aversion = *version)
            }
            _ => Ok(()),
        }
    }

    fn delete(
        &mut self,
        txn: &CommittedTxn,
        path: &ZnodePath,
        image: &mut dyn ImageTxn,
    ) -> Result<(), NetFault> {
        if is_covered(path) {
            self.put(path, None, image)?;
        }
        match covered_parent(path) {
            Some(parent) => self.change(txn, &parent, image, |node| {
                node.stat.pzxid = node.stat.pzxid.max(txn.zxid);
            }),
            None => Ok(()),
        }
    }

    fn change(
        &mut self,
        txn: &CommittedTxn,
        path: &ZnodePath,
        image: &mut dyn ImageTxn,
        change: impl FnOnce(&mut ShadowNode),
    ) -> Result<(), NetFault> {
        if !self.holds(path) {
            return Ok(());
        }
        let key = ShadowKey::of(path);
        let Some(before) = self.node(&key, image)? else {
            return Err(NetFault::Contradiction(format!(
                "transaction {} changes {}, which does not exist by the digest of the tree",
                txn.zxid,
                path.brief()
            )));
        };
        let mut after = before;
        change(&mut after);
        self.replace(key, Some(before), Some(after));
        Ok(())
    }

    fn put(
        &mut self,
        path: &ZnodePath,
        node: Option<ShadowNode>,
        image: &mut dyn ImageTxn,
    ) -> Result<(), NetFault> {
        let key = ShadowKey::of(path);
        if self.holds(path) {
            let before = self.node(&key, image)?;
            self.replace(key, before, node);
        }
        Ok(())
    }

    /// Whether the part of a znode that the present transaction touches is kept.
    fn holds(&mut self, path: &ZnodePath) -> bool {
        let is_held = self.held.has(path);
        self.is_whole &= is_held;
        self.is_ascii &= !is_held || path.is_ascii();
        is_held
    }

    fn replace(&mut self, key: ShadowKey, before: Option<ShadowNode>, after: Option<ShadowNode>) {
        let term = |node: Option<ShadowNode>| node.map_or(0, |node| node.term());
        self.change = self.change.wrapping_sub(term(before)).wrapping_add(term(after));
        self.touched.insert(key, after);
    }

    fn node(&self, key: &ShadowKey, image: &mut dyn ImageTxn) -> Result<Option<ShadowNode>, NetFault> {
        match self.touched.get(key) {
            Some(node) => Ok(*node),
            None => Ok(image.shadow(key)?),
        }
    }
}

/// The first byte of the owner of a znode with a time to live; the rest is that time.
const TTL_MARK: i64 = 0xff00_0000_0000_0000_u64.cast_signed();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_stat_is_read_as_it_was_written() {
        let stat = RawStat {
            czxid: Zxid(1),
            mzxid: Zxid(u64::MAX),
            pzxid: Zxid(3),
            ctime: -4,
            mtime: 5,
            version: i32::MIN,
            cversion: 7,
            aversion: -8,
            owner: TTL_MARK | 9,
        };
        let bytes = encode_raw_stat(&stat);
        assert_eq!(decode_raw_stat(&bytes), Some(stat));
        assert_eq!(decode_raw_stat(&bytes[1..]), None);
    }

    #[test]
    fn the_znodes_below_zookeepers_own_are_in_no_digest() {
        for (path, expected) in [
            ("/", true),
            ("/zookeeper", true),
            ("/zookeeper/config", false),
            ("/zookeepers/a", true),
            ("/a", true),
        ] {
            assert_eq!(is_covered(path), expected, "{path}");
        }
    }

    /// The digest that a server of 3.8.0 wrote with the first transaction on an empty tree: a session began.
    #[test]
    fn the_digest_of_an_empty_tree_is_that_of_a_real_server() {
        let root = RawStat::default();
        let paths = ["/", "/zookeeper"].map(|path| ZnodePath::parse(path).expect("it is a path"));
        let sum = paths
            .iter()
            .map(|path| ShadowNode::of(path, b"", root).term())
            .fold(0_u64, u64::wrapping_add);
        assert_eq!(sum, 0x51c6_d660, "{sum:016x}");
    }
}
