//! Whether the image in the journal is the tree as ZooKeeper has it.
//!
//! Both move while they are compared. What differs at first is looked at again, and counts only when both sides have
//! stood still while the journal went past what ZooKeeper showed, or when patience is at its end.

mod difference;
mod walk;

use std::time::{Duration, Instant};

use bridge_core::capture::Outcome;
use bridge_core::journal::Reader;
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use bridge_zookeeper::Survey;
use tokio::time::sleep;

pub use difference::Difference;
pub use walk::Pace;
use walk::Walk;

use crate::exit::{Exit, Failure};
use crate::operator::unusable;
use difference::compare;

/// How long a change may take from ZooKeeper into the journal of a running bridge before it counts as missing there.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks at what differs.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Znodes that are looked at again at once.
const AT_ONCE: usize = 32;

/// Whether changes can be on their way into the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bridge {
    /// It runs: what is under way is waited for.
    Runs,
    /// It does not: the image stands still.
    Stopped,
}

/// What is said of one root.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Znodes of ZooKeeper that were compared.
    pub znodes: u64,
    /// Those among them that may not be read.
    pub unreadable: u64,
    /// What differs for certain, at most [`walk::SUSPECTS_MAX`].
    pub differences: Vec<Difference>,
    /// Whether there were more than could be looked at again.
    pub more: bool,
}

/// Compares one root.
pub async fn verify(
    survey: &Survey,
    reader: &mut Reader,
    root: &ZnodePath,
    bridge: Bridge,
    pace: &mut Pace,
) -> Result<Verdict, Failure> {
    let mut walk = Walk::new(root);
    while walk.step(survey, reader, pace).await? {}
    let mut verdict = Verdict {
        znodes: walk.znodes,
        unreadable: walk.unreadable,
        differences: Vec::new(),
        more: walk.more,
    };
    let suspects = walk.suspects.into_iter().map(|path| Suspect { path, seen: None });
    let mut suspects: Vec<Suspect> = suspects.collect();
    let deadline = Instant::now() + PATIENCE;
    while !suspects.is_empty() {
        let is_last = bridge == Bridge::Stopped || Instant::now() >= deadline;
        suspects = look_again(survey, reader, root, suspects, is_last, &mut verdict, pace).await?;
        if !suspects.is_empty() {
            sleep(LOOK_EVERY).await;
        }
    }
    verdict
        .differences
        .sort_by(|one, other| one.path.cmp(&other.path));
    Ok(verdict)
}

/// A path that differed.
struct Suspect {
    path: ZnodePath,
    /// How, at the last look.
    seen: Option<Difference>,
}

/// Looks at all of them once; returns those that may still be under way.
async fn look_again(
    survey: &Survey,
    reader: &mut Reader,
    root: &ZnodePath,
    suspects: Vec<Suspect>,
    is_last: bool,
    verdict: &mut Verdict,
    pace: &mut Pace,
) -> Result<Vec<Suspect>, Failure> {
    survey.sync().await.map_err(unreachable)?;
    let mut open = Vec::new();
    let mut rest = suspects.into_iter();
    loop {
        let some: Vec<Suspect> = rest.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            return Ok(open);
        }
        let paths: Vec<ZnodePath> = some.iter().map(|suspect| suspect.path.clone()).collect();
        pace.wait(paths.len()).await;
        let outcomes = survey.read(&paths).await.map_err(unreachable)?;
        // The journal first: what the image shows afterwards is no older than that.
        let reported = reported(reader, root)?;
        for (suspect, outcome) in some.into_iter().zip(outcomes) {
            let imaged = reader.imaged(&suspect.path).map_err(unusable)?;
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
                verdict.differences.push(difference);
            } else {
                open.push(Suspect {
                    seen: Some(difference),
                    ..suspect
                });
            }
        }
    }
}

/// What the journal must have passed to know the version that was read.
fn newest(outcome: &Outcome) -> Option<Zxid> {
    match outcome {
        Outcome::Found { stat, .. } => Some(stat.mzxid.max(stat.czxid)),
        Outcome::Missing | Outcome::Denied => None,
    }
}

/// Everything up to it is in the journal.
fn reported(reader: &mut Reader, root: &ZnodePath) -> Result<Option<Zxid>, Failure> {
    let roots = reader.overview().map_err(unusable)?.roots;
    Ok(roots
        .into_iter()
        .find(|known| known.path == *root)
        .map(|known| known.reported))
}

fn unreachable(error: bridge_core::source::SourceError) -> Failure {
    Failure::new(Exit::Environment, error.to_string())
}
