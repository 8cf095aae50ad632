//! Cleans the tree at the end of a round, so that it no longer changes: opens closed znodes, and deletes those that would
//! expire.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use bridge_judge::tree::{self, Tree};
use bridge_servers::eventually;
use futures::{StreamExt, stream};
use zookeeper_client::{Acl, Acls, Client, CreateMode, Error};

use crate::work::{self, CLOSABLE, EXPIRING, WIDE};

/// How long the servers may take to let a client in after all that was done to them.
const BOUND: Duration = Duration::from_secs(60);
/// Creates under way at once.
const CREATES_MAX: usize = 200;

/// A client that may read everything.
pub struct TreeAdmin {
    client: Client,
}

impl TreeAdmin {
    /// Connects within a minute.
    pub async fn connect(connect: &str) -> Result<TreeAdmin> {
        let connecting = eventually("a session of the tests", BOUND, || async {
            work::connect(connect).await.ok()
        });
        Ok(TreeAdmin {
            client: connecting.await?,
        })
    }

    async fn create(&self, path: &str, data: &str) -> Result<(), Error> {
        let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
        match self.client.create(path, data.as_bytes(), &open).await {
            Ok(_) | Err(Error::NodeExists) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a root, and below it the znode with many children.
    pub async fn create_root(&self, root: &str, width: usize) -> Result<()> {
        self.create(root, "root").await?;
        for name in [EXPIRING, CLOSABLE] {
            self.create(&format!("{root}/{name}"), "").await?;
        }
        if width == 0 {
            return Ok(());
        }
        self.create(&format!("{root}/{WIDE}"), "").await?;
        let paths = (0..width).map(|child| format!("{root}/{WIDE}/c{child:05}"));
        let mut creates = stream::iter(paths)
            .map(|path| async move { self.create(&path, "planted").await })
            .buffer_unordered(CREATES_MAX);
        while let Some(created) = creates.next().await {
            created?;
        }
        Ok(())
    }

    /// Opens closed znodes.
    pub async fn open(&self, closed: &BTreeSet<String>) -> Result<()> {
        let open: Vec<Acl> = Acls::anyone_all().iter().cloned().collect();
        for path in closed {
            match self.client.set_acl(path, &open, None).await {
                Ok(_) | Err(Error::NoNode) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Deletes containers and znodes with a time to live, and waits until none is left.
    pub async fn delete_expiring(&self, root: &str) -> Result<()> {
        let passing = format!("{root}/{EXPIRING}");
        let deleted = eventually("the znodes that expire to be gone", BOUND, || async {
            let tree = tree::read(&self.client, std::slice::from_ref(&passing))
                .await
                .ok()?;
            let left: Vec<&String> = tree.keys().rev().filter(|path| **path != passing).collect();
            for path in &left {
                // Gone meanwhile, or no longer empty: the next check shows it.
                let _ = self.client.delete(path, None).await;
            }
            left.is_empty().then_some(())
        });
        Ok(deleted.await?)
    }

    /// Everything below the roots.
    pub async fn tree(&self, roots: &[String]) -> Result<Tree> {
        Ok(tree::read(&self.client, roots).await?)
    }

    /// A last write, so that there is one after all faults.
    pub async fn mark(&self, root: &str, round: usize) -> Result<()> {
        self.create(root, "again").await?;
        self.create(&format!("{root}/~end-{round}"), "end").await?;
        Ok(())
    }
}
