//! The records of one transaction: its net effect on each captured path.
//!
//! | the operations of a transaction on a path | record | `missed` |
//! | --- | --- | --- |
//! | a create and k writes | `create` with the last value | k |
//! | k writes | `update` with the last value | k − 1 |
//! | k writes and a delete | `delete` | k |
//! | a delete and a create | `delete` and `create` | |
//! | a create and a delete | none | |
//! | a write of the access control list | `acl` | 0 |
//!
//! The Stat of each record is the one after the whole transaction. A parent whose children come and go has no record: its
//! Stat in the image is refreshed.
//!
//! Everything that a transaction says about the state before it is compared with the image. A difference means that one
//! of the two is wrong.

use std::collections::HashMap;

use crate::append::{Change, ChangeKind, DeletedAt, NodeFacts, Read};
use crate::capture::{AclMode, CaptureOptions, DataMode};
use crate::image_txn::ImageTxn;
use crate::journal::JournalError;
use crate::number::{SessionId, Zxid};
use crate::path::{Hasher, ZnodePath};
use crate::record::{
    Acl, Data, Fidelity, Lifetime, LifetimeKind, SUPERSEDED_MAX, SessionEnd, Stat, Txn, TxnKind,
};

use super::options::CommittedOptions;
use super::txn::{CommittedTxn, NodeOperation, TxnContent};

/// The effect of one transaction.
#[derive(Debug, Default)]
pub(super) struct NetEffect {
    /// The changes in their order, each with the index of its root.
    pub(super) changes: Vec<(usize, Change)>,
    /// Znodes without a record whose Stat moved.
    pub(super) refreshed: Vec<(ZnodePath, Stat)>,
}

/// Why a transaction has no effect that could be recorded.
#[derive(Debug)]
pub(super) enum NetFault {
    /// The image cannot be read.
    Journal(JournalError),
    /// It contradicts the image, or does not say enough.
    Contradiction(String),
    /// The digest of the tree after it is another one than the server's.
    OtherDigest(String),
}

impl From<JournalError> for NetFault {
    fn from(error: JournalError) -> NetFault {
        NetFault::Journal(error)
    }
}

type NetResult<T> = Result<T, NetFault>;

/// The effect of a transaction on the image.
pub(super) fn net_effect(
    txn: &CommittedTxn,
    options: &CommittedOptions,
    image: &mut dyn ImageTxn,
) -> NetResult<NetEffect> {
    let mut fold = Fold {
        txn,
        options,
        image,
        touched: HashMap::default(),
    };
    match &txn.content {
        TxnContent::Nothing => return Ok(NetEffect::default()),
        TxnContent::Single(operation) => fold.operation(0, operation)?,
        TxnContent::Multi(operations) => {
            for (index, operation) in (0..).zip(operations) {
                fold.operation(index, operation)?;
            }
        }
        TxnContent::CloseSession { paths: Some(paths) } => {
            for (index, path) in (0..).zip(paths) {
                fold.delete_of_session(index, path)?;
            }
        }
        TxnContent::CloseSession { paths: None } => unreachable!("the list was found in the image"),
    }
    Ok(fold.finish())
}

/// A captured path that the transaction touches.
struct Touched {
    root: usize,
    /// The Stat before the transaction; `None` if the znode did not exist.
    before: Option<Stat>,
    /// The delete of the incarnation before the transaction, and the writes before that.
    deleted: Option<(u32, u64)>,
    /// The state after the operations so far.
    now: Option<Living>,
}

/// A znode as the operations so far have made it.
struct Living {
    stat: Stat,
    /// Its create, if this transaction has it.
    created: Option<(u32, Box<NodeFacts>)>,
    /// Its writes in this transaction, with the index of the last one.
    writes: u64,
    last_write: u32,
    data: Option<Data>,
    /// The write of its access control list.
    acl: Option<(u32, Option<Vec<Acl>>)>,
}

impl Living {
    fn of(stat: Stat) -> Living {
        Living {
            stat,
            created: None,
            writes: 0,
            last_write: 0,
            data: None,
            acl: None,
        }
    }
}

struct Fold<'a> {
    txn: &'a CommittedTxn,
    options: &'a CommittedOptions,
    image: &'a mut dyn ImageTxn,
    touched: HashMap<ZnodePath, Touched, Hasher>,
}

impl Fold<'_> {
    fn operation(&mut self, index: u32, operation: &NodeOperation) -> NetResult<()> {
        match operation {
            NodeOperation::Check => Ok(()),
            NodeOperation::Create {
                path,
                data,
                acl,
                lifetime,
                parent_cversion,
            } => {
                let Some(path) = self.options.record_path(path) else {
                    return Ok(());
                };
                self.child_came(&path, *parent_cversion)?;
                self.create(index, &path, data, acl, *lifetime)
            }
            NodeOperation::Delete { path, .. } => match self.options.record_path(path) {
                Some(path) => self.delete(index, &path),
                None => Ok(()),
            },
            NodeOperation::SetData { path, data, version } => match self.options.record_path(path) {
                Some(path) => self.set_data(index, &path, data, *version),
                None => Ok(()),
            },
            NodeOperation::SetAcl { path, acl, version } => match self.options.record_path(path) {
                Some(path) => self.set_acl(index, &path, acl, *version),
                None => Ok(()),
            },
        }
    }

    fn create(
        &mut self,
        index: u32,
        path: &ZnodePath,
        data: &[u8],
        acl: &[Acl],
        lifetime: Lifetime,
    ) -> NetResult<()> {
        let (zxid, time, session) = (self.txn.zxid, self.txn.time, self.txn.session);
        let capture = &self.options.capture;
        let list = list_of(capture, acl);
        let value = value_of(capture, data);
        let Some(touched) = self.touch(path)? else {
            return Ok(());
        };
        if let Some(living) = &touched.now {
            let czxid = living.stat.czxid;
            return Err(self.contradicts(path, &format!("is created, and the journal has it since {czxid}")));
        }
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            ephemeral_owner: match lifetime.kind {
                LifetimeKind::Ephemeral => session,
                LifetimeKind::Persistent | LifetimeKind::Container | LifetimeKind::Ttl => SessionId::NONE,
            },
            data_length: length_of(data),
            ..Stat::default()
        };
        touched.now = Some(Living {
            created: Some((
                index,
                Box::new(NodeFacts {
                    lifetime: Some(lifetime),
                    acl: list,
                }),
            )),
            data: value,
            ..Living::of(stat)
        });
        Ok(())
    }

    fn delete(&mut self, index: u32, path: &ZnodePath) -> NetResult<()> {
        let Some(touched) = self.touch(path)? else {
            return self.child_went(path);
        };
        let Some(living) = touched.now.take() else {
            return Err(self.contradicts(path, "is deleted, and the journal does not have it"));
        };
        if living.created.is_none() {
            touched.deleted = Some((index, living.writes));
        }
        if living.stat.num_children != 0 {
            let children = living.stat.num_children;
            let what = format!("is deleted, and has {children} children by the journal");
            return Err(self.contradicts(path, &what));
        }
        self.child_went(path)
    }

    /// A session's list may have a znode that was deleted before.
    fn delete_of_session(&mut self, index: u32, path: &ZnodePath) -> NetResult<()> {
        let Some(path) = self.options.record_path(path) else {
            return Ok(());
        };
        match self.touch(&path)? {
            Some(Touched { now: None, .. }) => Ok(()),
            _ => self.delete(index, &path),
        }
    }

    fn set_data(&mut self, index: u32, path: &ZnodePath, data: &[u8], version: i32) -> NetResult<()> {
        let (zxid, time) = (self.txn.zxid, self.txn.time);
        let value = value_of(&self.options.capture, data);
        let Some(living) = self.living(path, "written")? else {
            return Ok(());
        };
        if !is_next_version(living.stat.version, version) {
            let known = living.stat.version;
            let what = format!("is written as version {version}, and the journal has version {known}");
            return Err(self.contradicts(path, &what));
        }
        living.stat.version = version;
        living.stat.mzxid = zxid;
        living.stat.mtime = time;
        living.stat.data_length = length_of(data);
        living.data = value;
        living.writes += 1;
        living.last_write = index;
        Ok(())
    }

    fn set_acl(&mut self, index: u32, path: &ZnodePath, acl: &[Acl], version: i32) -> NetResult<()> {
        let list = list_of(&self.options.capture, acl);
        let Some(living) = self.living(path, "given a list")? else {
            return Ok(());
        };
        if !is_next_version(living.stat.aversion, version) {
            let known = living.stat.aversion;
            let what = format!("is given list {version}, and the journal has list {known}");
            return Err(self.contradicts(path, &what));
        }
        living.stat.aversion = version;
        living.acl = Some((index, list));
        Ok(())
    }

    /// Moves the Stat of the parent of a znode that is created.
    fn child_came(&mut self, path: &ZnodePath, parent_cversion: Option<i32>) -> NetResult<()> {
        let zxid = self.txn.zxid;
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        let Some(living) = self.living(&parent, "given a child")? else {
            return Ok(());
        };
        // A client reads twice the creates, less the children.
        let stat = &mut living.stat;
        let expected = stat.cversion.wrapping_add(stat.num_children).wrapping_add(2);
        if let Some(raw) = parent_cversion
            && raw.wrapping_mul(2) != expected
        {
            let what = format!(
                "has {raw} creates of children with that of {}, and {} by the journal",
                path.brief(),
                expected / 2
            );
            return Err(self.contradicts(&parent, &what));
        }
        stat.cversion = stat.cversion.wrapping_add(1);
        stat.num_children = stat.num_children.wrapping_add(1);
        stat.pzxid = stat.pzxid.max(zxid);
        Ok(())
    }

    /// Moves the Stat of the parent of a znode that is deleted.
    fn child_went(&mut self, path: &ZnodePath) -> NetResult<()> {
        let zxid = self.txn.zxid;
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        let Some(living) = self.living(&parent, "left by a child")? else {
            return Ok(());
        };
        let stat = &mut living.stat;
        stat.cversion = stat.cversion.wrapping_add(1);
        stat.num_children -= 1;
        stat.pzxid = stat.pzxid.max(zxid);
        if stat.num_children < 0 {
            return Err(self.contradicts(&parent, &format!("has no child {} by the journal", path.brief())));
        }
        Ok(())
    }

    /// A captured znode that has to exist; `None` if the path is not captured.
    fn living(&mut self, path: &ZnodePath, doing: &str) -> NetResult<Option<&mut Living>> {
        let is_missing = match self.touch(path)? {
            None => return Ok(None),
            Some(touched) => touched.now.is_none(),
        };
        if is_missing {
            return Err(self.contradicts(path, &format!("is {doing}, and the journal does not have it")));
        }
        Ok(self
            .touched
            .get_mut(path)
            .and_then(|touched| touched.now.as_mut()))
    }

    /// The state of a captured path, from the image at the first time.
    fn touch(&mut self, path: &ZnodePath) -> NetResult<Option<&mut Touched>> {
        if !self.touched.contains_key(path) {
            let Some(root) = self.options.capture.root_of(path) else {
                return Ok(None);
            };
            let before = match self.image.node(path)? {
                None => None,
                Some(node) => match node.stat {
                    Some(stat) if stat.newest_zxid() >= self.txn.zxid => {
                        let newest = stat.newest_zxid();
                        let what = format!("is touched, and the journal has it as of {newest} already");
                        return Err(self.contradicts(path, &what));
                    }
                    Some(stat) => Some(stat),
                    None => return Err(self.contradicts(path, "is in the journal without a Stat")),
                },
            };
            let touched = Touched {
                root,
                before,
                deleted: None,
                now: before.map(Living::of),
            };
            self.touched.insert(path.clone(), touched);
        }
        Ok(self.touched.get_mut(path))
    }

    fn contradicts(&self, path: &ZnodePath, what: &str) -> NetFault {
        NetFault::Contradiction(format!(
            "in transaction {} {} {what}",
            self.txn.zxid,
            path.brief()
        ))
    }

    fn finish(self) -> NetEffect {
        let zxid = self.txn.zxid;
        let mut effect = NetEffect::default();
        let mut indexed: Vec<(u32, usize, Change)> = Vec::new();
        for (path, touched) in self.touched {
            let Touched {
                root,
                before,
                deleted,
                now,
            } = touched;
            let mut add = |index, kind, missed, facts| {
                let change = change_of(&path, zxid, kind, missed, facts);
                indexed.push((index, root, change));
            };
            if let Some((index, writes)) = deleted {
                let at = DeletedAt::Exact(zxid);
                add(index, ChangeKind::Deleted { at }, writes, None);
            }
            let Some(living) = now else { continue };
            let Living {
                stat,
                created,
                writes,
                last_write,
                data,
                acl,
            } = living;
            let read = Read { stat, data };
            match (created, writes) {
                (Some((index, facts)), _) => add(index, ChangeKind::Created { read }, writes, Some(facts)),
                (None, 1..) => add(last_write, ChangeKind::Updated { read }, writes - 1, None),
                (None, 0) => {}
            }
            let is_recorded = self.options.capture.acls != AclMode::Off;
            match acl.filter(|_| is_recorded) {
                Some((index, acl)) => {
                    let zxid = Some(zxid);
                    add(index, ChangeKind::AclChanged { zxid, stat, acl }, 0, None);
                }
                // A write of data brings the whole Stat.
                None if writes == 0
                    && before.is_some_and(|before| before.czxid == stat.czxid && before != stat) =>
                {
                    effect.refreshed.push((path, stat));
                }
                None => {}
            }
        }
        indexed.sort_unstable_by_key(|(index, ..)| *index);
        let about = TxnAbout::of(self.txn);
        let mut rest = u32::try_from(indexed.len()).unwrap_or(u32::MAX);
        for (index, root, mut change) in indexed {
            rest -= 1;
            change.txn = Some(Box::new(about.at(self.txn, index, rest)));
            effect.changes.push((root, change));
        }
        effect
    }
}

fn change_of(
    path: &ZnodePath,
    zxid: Zxid,
    kind: ChangeKind,
    missed: u64,
    facts: Option<Box<NodeFacts>>,
) -> Change {
    let listed = usize::try_from(missed).map_or(SUPERSEDED_MAX, |missed| missed.min(SUPERSEDED_MAX));
    Change {
        path: path.clone(),
        kind,
        fidelity: Fidelity::Exact,
        missed: Some(missed),
        superseded: vec![zxid; listed],
        txn: None,
        facts,
    }
}

/// The fields that the records of a transaction share.
struct TxnAbout {
    kind: TxnKind,
    count: u32,
    ended_by: Option<SessionEnd>,
}

impl TxnAbout {
    fn of(txn: &CommittedTxn) -> TxnAbout {
        let about = |kind, count: usize| TxnAbout {
            kind,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            ended_by: None,
        };
        match &txn.content {
            TxnContent::Single(operation) => about(kind_of(operation), 1),
            TxnContent::Multi(operations) => about(TxnKind::Multi, operations.len()),
            TxnContent::CloseSession { paths } => TxnAbout {
                // Only a client gives its request a number.
                ended_by: Some(match txn.cxid {
                    0 => SessionEnd::Server,
                    _ => SessionEnd::Client,
                }),
                ..about(TxnKind::CloseSession, paths.as_ref().map_or(0, Vec::len))
            },
            TxnContent::Nothing => about(TxnKind::Multi, 0),
        }
    }

    fn at(&self, txn: &CommittedTxn, index: u32, rest: u32) -> Txn {
        Txn {
            session: txn.session,
            cxid: txn.cxid,
            index,
            count: self.count,
            kind: self.kind,
            time: txn.time,
            ended_by: self.ended_by,
            client: None,
            user: None,
            rest,
        }
    }
}

fn kind_of(operation: &NodeOperation) -> TxnKind {
    match operation {
        NodeOperation::Create { lifetime, .. } => match lifetime.kind {
            LifetimeKind::Persistent | LifetimeKind::Ephemeral => TxnKind::Create,
            LifetimeKind::Container => TxnKind::CreateContainer,
            LifetimeKind::Ttl => TxnKind::CreateTtl,
        },
        NodeOperation::Delete {
            is_of_container: true,
            ..
        } => TxnKind::DeleteContainer,
        NodeOperation::Delete { .. } => TxnKind::Delete,
        NodeOperation::SetData { .. } => TxnKind::SetData,
        NodeOperation::SetAcl { .. } => TxnKind::SetAcl,
        // Servers write it only inside of a multi.
        NodeOperation::Check => TxnKind::Multi,
    }
}

/// Whether a version is the one after a known one. Servers since 3.9 leave -1 out, which a client writes for "any"
/// (ZOOKEEPER-4743).
fn is_next_version(known: i32, next: i32) -> bool {
    next == known.wrapping_add(1) || (known == -2 && next == 0)
}

fn length_of(data: &[u8]) -> i32 {
    i32::try_from(data.len()).unwrap_or(i32::MAX)
}

fn value_of(options: &CaptureOptions, data: &[u8]) -> Option<Data> {
    match options.data {
        DataMode::Keep(form) => Some(Data::limited(data, form, options.max_data_bytes)),
        DataMode::Drop => None,
    }
}

fn list_of(options: &CaptureOptions, acl: &[Acl]) -> Option<Vec<Acl>> {
    options.acls.has_lists().then(|| acl.to_vec())
}
