//! The tree as a client reads it. The reads are not one snapshot, so all writers must have stopped.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use zookeeper_client::{Client, Error};

use crate::truth::is_left_out;

/// Parallel reads: enough to hide the round trips, few compared to the limit of a server.
const READS_MAX: usize = 64;

/// A znode as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its data.
    pub data: Vec<u8>,
    /// The zxid of its create.
    pub czxid: u64,
    /// The zxid of its last write.
    pub mzxid: u64,
}

/// All znodes below some roots.
pub type Tree = BTreeMap<String, Node>;

/// Reads everything at and below the roots that a bridge reports.
///
/// # Errors
///
/// The first that is not the absence of a znode.
pub async fn read(client: &Client, roots: &[String]) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    let mut level = roots.to_vec();
    while !level.is_empty() {
        let mut reads = stream::iter(level)
            .map(|path| read_one(client, path))
            .buffer_unordered(READS_MAX);
        let mut below = Vec::new();
        while let Some(read) = reads.next().await {
            let Some((path, node, children)) = read? else {
                continue;
            };
            below.extend(children);
            tree.insert(path, node);
        }
        level = below;
    }
    Ok(tree)
}

async fn read_one(client: &Client, path: String) -> Result<Option<(String, Node, Vec<String>)>, Error> {
    let (data, stat) = match client.get_data(&path).await {
        Err(Error::NoNode) => return Ok(None),
        read => read?,
    };
    let node = Node {
        data,
        czxid: stat.czxid as u64,
        mzxid: stat.mzxid as u64,
    };
    let children = match client.list_children(&path).await {
        Err(Error::NoNode) => Vec::new(),
        listed => listed?,
    };
    let above = path.trim_end_matches('/');
    let children = children.iter().map(|child| format!("{above}/{child}"));
    let children = children.filter(|path| !is_left_out(path)).collect();
    Ok(Some((path, node, children)))
}
