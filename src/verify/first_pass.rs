//! Compares every znode of a root once, at a limited rate.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bridge_core::capture::Outcome;
use bridge_core::path::ZnodePath;
use bridge_query::JournalQuery;
use tokio::time::sleep;

use super::difference::compare;
use super::unreachable;
use crate::exit::Failure;
use crate::source_type::TreeReader;

/// Znodes that differ at first and are read again. A tree with more differences is another tree.
pub const SUSPECTS_MAX: usize = 10_000;

/// Znodes of one request: with values of 1 MB, the largest that servers take by default, an answer of 16 MB.
const AT_ONCE: usize = 16;

/// Children of the image read at once.
const CHILDREN_AT_ONCE: usize = 1_000;

/// Limits the rate of reads.
#[derive(Debug)]
pub struct RateLimit {
    per_second: u32,
    begun: Instant,
    done: u64,
}

impl RateLimit {
    /// A limit of `per_second` reads per second, from now on.
    pub fn new(per_second: u32) -> RateLimit {
        RateLimit {
            per_second: per_second.max(1),
            begun: Instant::now(),
            done: 0,
        }
    }

    /// Waits until `count` more znodes may be read. Cancel safe.
    pub async fn wait(&mut self, count: usize) {
        let due = Duration::from_secs(1).mul_f64(self.done as f64 / f64::from(self.per_second));
        self.done += count as u64;
        sleep(due.saturating_sub(self.begun.elapsed())).await;
    }
}

/// The walk of one root.
pub struct FirstPass {
    ahead: Vec<ZnodePath>,
    /// Znodes compared.
    pub znodes: u64,
    /// Znodes without read permission.
    pub unreadable: u64,
    /// Znodes that differ at first.
    pub suspects: Vec<ZnodePath>,
    /// Whether there were more of them.
    pub more: bool,
}

impl FirstPass {
    /// A walk from the root down.
    pub fn new(root: &ZnodePath) -> FirstPass {
        FirstPass {
            ahead: vec![root.clone()],
            znodes: 0,
            unreadable: 0,
            suspects: Vec::new(),
            more: false,
        }
    }

    /// Compares the next znodes; `false` at the end.
    pub async fn step(
        &mut self,
        tree: &dyn TreeReader,
        journal: &JournalQuery,
        rate_limit: &mut RateLimit,
    ) -> Result<bool, Failure> {
        let from = self.ahead.len().saturating_sub(AT_ONCE);
        let paths = self.ahead.split_off(from);
        if paths.is_empty() {
            return Ok(false);
        }
        rate_limit.wait(paths.len()).await;
        let outcomes = tree.read(&paths).await.map_err(unreachable)?;
        for (path, outcome) in paths.into_iter().zip(outcomes) {
            self.compare(tree, journal, &path, outcome)?;
        }
        Ok(true)
    }

    fn compare(
        &mut self,
        tree: &dyn TreeReader,
        journal: &JournalQuery,
        path: &ZnodePath,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let imaged = journal.znode(path)?;
        if compare(path, &outcome, imaged.as_ref()).is_some() {
            self.suspect(path);
        }
        let names = match outcome {
            Outcome::Missing => Vec::new(),
            Outcome::Denied => {
                self.unreadable += 1;
                // Znodes below it may be known from earlier, and cannot be compared now.
                return Ok(());
            }
            Outcome::Found { children, .. } => {
                self.znodes += 1;
                children.unwrap_or_default()
            }
        };
        let below = |name: &str| Some(path.child(name)).filter(|path| tree.is_captured(path));
        self.ahead.extend(names.iter().filter_map(|name| below(name)));
        let there: HashSet<&str> = names.iter().map(|name| &**name).collect();
        let mut after: Option<std::sync::Arc<str>> = None;
        loop {
            let page = journal.children(path, after.as_deref(), CHILDREN_AT_ONCE)?;
            // Missing in ZooKeeper: their read finds that out, and then the walk continues below them.
            let gone = page.names.iter().filter(|name| !there.contains(&***name));
            self.ahead.extend(gone.filter_map(|name| below(name)));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn suspect(&mut self, path: &ZnodePath) {
        match self.suspects.len() < SUSPECTS_MAX {
            true => self.suspects.push(path.clone()),
            false => self.more = true,
        }
    }
}
