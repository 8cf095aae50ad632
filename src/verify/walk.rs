//! The first look at every znode of a root, on both sides, no faster than the pace allows.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bridge_core::capture::Outcome;
use bridge_core::journal::Reader;
use bridge_core::path::ZnodePath;
use bridge_zookeeper::Survey;
use tokio::time::sleep;

use super::difference::compare;
use super::unreachable;
use crate::exit::Failure;
use crate::operator::unusable;

/// What differs at first and is looked at again. More than that is another tree, and the first of them tell it.
pub const SUSPECTS_MAX: usize = 10_000;

/// Znodes of one request: with values of 1 MB, the largest that servers take by default, an answer of 16 MB.
const AT_ONCE: usize = 16;

/// Children of the image read at once.
const CHILDREN_AT_ONCE: usize = 1_000;

/// So many reads a second, and no more.
#[derive(Debug)]
pub struct Pace {
    per_second: u32,
    begun: Instant,
    done: u64,
}

impl Pace {
    /// Begins now.
    pub fn new(per_second: u32) -> Pace {
        Pace {
            per_second: per_second.max(1),
            begun: Instant::now(),
            done: 0,
        }
    }

    /// Waits until so many more may be read.
    pub async fn wait(&mut self, count: usize) {
        let due = Duration::from_secs(1).mul_f64(self.done as f64 / f64::from(self.per_second));
        self.done += count as u64;
        sleep(due.saturating_sub(self.begun.elapsed())).await;
    }
}

/// The walk of one root.
pub struct Walk {
    ahead: Vec<ZnodePath>,
    /// Znodes compared.
    pub znodes: u64,
    /// Those that may not be read.
    pub unreadable: u64,
    /// What differs at first.
    pub suspects: Vec<ZnodePath>,
    /// Whether there were more of them.
    pub more: bool,
}

impl Walk {
    /// From the root down.
    pub fn new(root: &ZnodePath) -> Walk {
        Walk {
            ahead: vec![root.clone()],
            znodes: 0,
            unreadable: 0,
            suspects: Vec::new(),
            more: false,
        }
    }

    /// Compares some more; `false` at the end.
    pub async fn step(
        &mut self,
        survey: &Survey,
        reader: &mut Reader,
        pace: &mut Pace,
    ) -> Result<bool, Failure> {
        let from = self.ahead.len().saturating_sub(AT_ONCE);
        let paths = self.ahead.split_off(from);
        if paths.is_empty() {
            return Ok(false);
        }
        pace.wait(paths.len()).await;
        let outcomes = survey.read(&paths).await.map_err(unreachable)?;
        for (path, outcome) in paths.into_iter().zip(outcomes) {
            self.compare(survey, reader, &path, outcome)?;
        }
        Ok(true)
    }

    fn compare(
        &mut self,
        survey: &Survey,
        reader: &mut Reader,
        path: &ZnodePath,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let imaged = reader.imaged(path).map_err(unusable)?;
        if compare(path, &outcome, imaged.as_ref()).is_some() {
            self.suspect(path);
        }
        let names = match outcome {
            Outcome::Missing => Vec::new(),
            Outcome::Denied => {
                self.unreadable += 1;
                // What is below it may be known from before, and nobody can see it now.
                return Ok(());
            }
            Outcome::Found { children, .. } => {
                self.znodes += 1;
                children.unwrap_or_default()
            }
        };
        let below = |name: &str| Some(path.child(name)).filter(|path| survey.is_captured(path));
        self.ahead.extend(names.iter().filter_map(|name| below(name)));
        let there: HashSet<&str> = names.iter().map(|name| &**name).collect();
        let mut after: Option<std::sync::Arc<str>> = None;
        loop {
            let known = reader.living_children(path, after.as_deref(), CHILDREN_AT_ONCE);
            let known = known.map_err(unusable)?;
            let Some(last) = known.last().cloned() else {
                return Ok(());
            };
            // Missing in ZooKeeper, so that they are found missing when they are read; and so on below them.
            let gone = known.iter().filter(|name| !there.contains(&***name));
            self.ahead.extend(gone.filter_map(|name| below(name)));
            after = Some(last);
        }
    }

    fn suspect(&mut self, path: &ZnodePath) {
        match self.suspects.len() < SUSPECTS_MAX {
            true => self.suspects.push(path.clone()),
            false => self.more = true,
        }
    }
}
