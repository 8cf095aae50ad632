//! A tree in memory that answers as ZooKeeper does, and that crashes.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bridge_core::capture::Outcome;
use bridge_core::number::{SessionId, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Stat};
use bridge_core::source::{SourceError, SourceErrorKind};
use bridge_zookeeper::{TreeWrite, WriteError, WriteRefusal};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::state::{LiveState, LiveTree, LiveZnode};
use super::{open_list, path};
use crate::source_type::{TreeEditor, TreeReader};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub stat: Stat,
    pub data: Vec<u8>,
}

/// Where the next request is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    Before,
    After,
}

#[derive(Debug, Default)]
pub struct State {
    pub nodes: BTreeMap<ZnodePath, Node>,
    zxid: u64,
    /// Requests until one is lost.
    pub crash: Option<(usize, Crash)>,
    pub requests: usize,
    /// A write of another client right before the request of this number.
    pub intruder: Option<(usize, ZnodePath)>,
}

#[derive(Debug, Default)]
pub struct ModelTree(pub Mutex<State>);

impl State {
    pub fn put(&mut self, at: &str, text: &str, is_ephemeral: bool) {
        self.zxid += 1;
        let stat = Stat {
            czxid: Zxid(self.zxid),
            mzxid: Zxid(self.zxid),
            ephemeral_owner: SessionId(u64::from(is_ephemeral)),
            ..Stat::default()
        };
        let data = text.as_bytes().to_vec();
        self.nodes.insert(path(at), Node { stat, data });
    }

    pub fn write_by_another(&mut self, at: &ZnodePath) {
        self.zxid += 1;
        let zxid = Zxid(self.zxid);
        if let Some(node) = self.nodes.get_mut(at) {
            (node.stat.version, node.stat.mzxid) = (node.stat.version + 1, zxid);
            node.data = b"of another".to_vec();
        }
    }

    fn has_child(&self, at: &ZnodePath) -> bool {
        self.nodes.keys().any(|other| other.parent().as_ref() == Some(at))
    }

    fn carry_out(&mut self, write: &TreeWrite<'_>) -> Result<(), WriteRefusal> {
        let zxid = Zxid(self.zxid);
        match *write {
            TreeWrite::Create { path, data, acl, .. } => {
                assert!(!acl.is_empty(), "a create has a list");
                let parent = path.parent().unwrap();
                let is_top = parent.is_slash();
                match self.nodes.get(&parent) {
                    Some(parent) if parent.stat.is_ephemeral() => return Err(WriteRefusal::EphemeralParent),
                    None if !is_top => return Err(WriteRefusal::Missing),
                    _ if self.nodes.contains_key(path) => return Err(WriteRefusal::Exists),
                    _ => {}
                }
                let stat = Stat {
                    czxid: zxid,
                    mzxid: zxid,
                    ..Stat::default()
                };
                let data = data.to_vec();
                self.nodes.insert(path.clone(), Node { stat, data });
            }
            TreeWrite::Set { path, data, version } => {
                let node = self.nodes.get_mut(path).ok_or(WriteRefusal::Missing)?;
                if node.stat.version != version {
                    return Err(WriteRefusal::BadVersion);
                }
                (node.stat.version, node.stat.mzxid) = (version + 1, zxid);
                node.data = data.to_vec();
            }
            TreeWrite::Delete { path, version } => {
                let node = self.nodes.get(path).ok_or(WriteRefusal::Missing)?;
                if node.stat.version != version {
                    return Err(WriteRefusal::BadVersion);
                }
                if self.has_child(path) {
                    return Err(WriteRefusal::NotEmpty);
                }
                self.nodes.remove(path);
            }
        }
        Ok(())
    }

    fn multi(&mut self, writes: &[TreeWrite<'_>]) -> Result<(), WriteError> {
        let before = self.nodes.clone();
        self.zxid += 1;
        for (index, write) in writes.iter().enumerate() {
            if let Err(refusal) = self.carry_out(write) {
                self.nodes = before;
                return Err(WriteError::Refused { index, refusal });
            }
        }
        Ok(())
    }
}

impl ModelTree {
    /// The live subtree, all of it created after the moment.
    pub fn live(&self) -> LiveTree {
        let state = self.0.lock().unwrap();
        let nodes = state.nodes.iter();
        let live = nodes.map(|(path, node)| {
            let live = LiveState::new(&node.stat, &node.data, true);
            (path.clone(), LiveZnode::Found(live))
        });
        LiveTree(live.collect())
    }

    /// Path, text, and whether the znode is ephemeral.
    pub fn content(&self) -> BTreeMap<String, (String, bool)> {
        let state = self.0.lock().unwrap();
        let nodes = state.nodes.iter();
        nodes
            .map(|(path, node)| {
                let text = String::from_utf8(node.data.clone()).unwrap();
                (path.to_string(), (text, node.stat.is_ephemeral()))
            })
            .collect()
    }
}

fn lost() -> SourceError {
    SourceError {
        kind: SourceErrorKind::Unavailable,
        message: "the session was lost".to_owned(),
    }
}

impl TreeReader for ModelTree {
    fn sync(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        async { Ok(()) }.boxed()
    }

    fn read<'a>(&'a self, paths: &'a [ZnodePath]) -> BoxFuture<'a, Result<Vec<Outcome>, SourceError>> {
        async move {
            let state = self.0.lock().unwrap();
            let read = |path: &ZnodePath| match state.nodes.get(path) {
                None => Outcome::Missing,
                Some(node) => Outcome::Found {
                    stat: node.stat,
                    data: node.data.clone().into(),
                    children: None,
                },
            };
            Ok(paths.iter().map(read).collect())
        }
        .boxed()
    }

    fn missing_chroot(&self) -> BoxFuture<'_, Result<Option<ZnodePath>, SourceError>> {
        async { Ok(None) }.boxed()
    }

    fn is_captured(&self, _: &str) -> bool {
        true
    }
}

impl TreeEditor for ModelTree {
    fn acl<'a>(&'a self, _: &'a ZnodePath) -> BoxFuture<'a, Result<Option<Vec<Acl>>, SourceError>> {
        async { Ok(Some(open_list())) }.boxed()
    }

    fn write<'a>(&'a self, writes: Vec<TreeWrite<'a>>) -> BoxFuture<'a, Result<(), WriteError>> {
        async move {
            let mut state = self.0.lock().unwrap();
            state.requests += 1;
            if let Some((at, path)) = state.intruder.clone()
                && at == state.requests
            {
                state.write_by_another(&path);
            }
            let crash = state.crash.filter(|(at, _)| *at == state.requests);
            match crash {
                Some((_, Crash::Before)) => Err(WriteError::Failed(lost())),
                Some((_, Crash::After)) => {
                    state.multi(&writes)?;
                    Err(WriteError::Failed(lost()))
                }
                None => state.multi(&writes),
            }
        }
        .boxed()
    }
}
