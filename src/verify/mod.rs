//! Compares the image in the journal with the tree in ZooKeeper.
//!
//! Both change during the comparison. A znode that differs at first is read again. It counts as a difference only if both
//! sides stayed the same while the journal passed the version in ZooKeeper, or when [`PATIENCE`] ends.

mod difference;
mod first_pass;

use std::time::{Duration, Instant};

use bridge_core::capture::Outcome;
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_query::JournalQuery;
use tokio::time::sleep;

pub use difference::Difference;
use first_pass::FirstPass;
pub use first_pass::RateLimit;

use crate::exit::{Exit, Failure};
use crate::source_type::TreeReader;
use difference::compare;

/// How long a running bridge may take to journal a change before the change counts as missing.
const PATIENCE: Duration = Duration::from_secs(15);

/// Time between two reads of a znode that differs.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Znodes that are read again in one request.
const AT_ONCE: usize = 32;

/// Whether changes can be on their way to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeState {
    /// It runs, so the comparison waits for changes under way.
    Runs,
    /// It does not run, so the image does not change.
    Stopped,
}

/// The result for one root.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Znodes of ZooKeeper that were compared.
    pub znodes: u64,
    /// Znodes without read permission.
    pub unreadable: u64,
    /// The differences, at most [`first_pass::SUSPECTS_MAX`].
    pub differences: Vec<Difference>,
    /// Whether there were more differences than that.
    pub more: bool,
}

/// Compares one root.
pub async fn verify(
    tree: &dyn TreeReader,
    journal: &JournalQuery,
    root: &ZnodePath,
    bridge: BridgeState,
    rate_limit: &mut RateLimit,
) -> Result<Comparison, Failure> {
    let mut pass = FirstPass::new(root);
    while pass.step(tree, journal, rate_limit).await? {}
    let mut comparison = Comparison {
        znodes: pass.znodes,
        unreadable: pass.unreadable,
        differences: Vec::new(),
        more: pass.more,
    };
    let suspects = pass.suspects.into_iter().map(|path| Suspect { path, seen: None });
    let mut suspects: Vec<Suspect> = suspects.collect();
    let deadline = Instant::now() + PATIENCE;
    while !suspects.is_empty() {
        let is_last = bridge == BridgeState::Stopped || Instant::now() >= deadline;
        suspects = look_again(
            tree,
            journal,
            root,
            suspects,
            is_last,
            &mut comparison,
            rate_limit,
        )
        .await?;
        if !suspects.is_empty() {
            sleep(LOOK_EVERY).await;
        }
    }
    comparison
        .differences
        .sort_by(|one, other| one.path.cmp(&other.path));
    Ok(comparison)
}

/// A path that differed.
struct Suspect {
    path: ZnodePath,
    /// The difference at the last read.
    seen: Option<Difference>,
}

/// Reads all of them once; returns those whose change may still be under way.
async fn look_again(
    tree: &dyn TreeReader,
    journal: &JournalQuery,
    root: &ZnodePath,
    suspects: Vec<Suspect>,
    is_last: bool,
    comparison: &mut Comparison,
    rate_limit: &mut RateLimit,
) -> Result<Vec<Suspect>, Failure> {
    tree.sync().await.map_err(unreachable)?;
    let mut open = Vec::new();
    let mut rest = suspects.into_iter();
    loop {
        let some: Vec<Suspect> = rest.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            return Ok(open);
        }
        let paths: Vec<ZnodePath> = some.iter().map(|suspect| suspect.path.clone()).collect();
        rate_limit.wait(paths.len()).await;
        let outcomes = tree.read(&paths).await.map_err(unreachable)?;
        // Read before the image, so that the image is at least that new.
        let reported = journal.reported(root)?;
        for (suspect, outcome) in some.into_iter().zip(outcomes) {
            let imaged = journal.znode(&suspect.path)?;
            let Some(difference) = compare(&suspect.path, &outcome, imaged.as_ref()) else {
                continue;
            };
            if suspect
                .seen
                .as_ref()
                .is_some_and(|seen| difference.has_followed(seen))
            {
                continue;
            }
            let stood_still = suspect.seen.as_ref() == Some(&difference);
            let is_past = newest(&outcome).is_some_and(|zxid| reported >= Some(zxid));
            if is_last || (stood_still && is_past) {
                comparison.differences.push(difference);
            } else {
                open.push(Suspect {
                    seen: Some(difference),
                    ..suspect
                });
            }
        }
    }
}

/// The zxid that the journal must pass to know the version that was read.
fn newest(outcome: &Outcome) -> Option<Zxid> {
    match outcome {
        Outcome::Found { stat, .. } => Some(stat.mzxid.max(stat.czxid)),
        Outcome::Missing | Outcome::Denied => None,
    }
}

fn unreachable(error: bridge_core::source::SourceError) -> Failure {
    Failure::new(Exit::Environment, error.to_string())
}
