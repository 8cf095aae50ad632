//! Checks that the ensemble is the one of the journal.
//!
//! An ensemble has no identifier. Another one with lower zxids is noticed by its older Stats; one with higher zxids
//! looks as if every znode had been deleted and created again. So before a new session compares its first root, whatever
//! ended the last one, a sample of persistent znodes of all roots is read. One of them that is the journalled incarnation proves the
//! ensemble. If there is none, and the tree may belong to another ensemble, an operator has to decide. The same holds if
//! the chroot of the connection does not exist: a wrong address is likelier than the delete of all that is below it.

use crate::image_txn::ImageTxn;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::Stat;

use super::batch::Request;
use super::{Outcome, ReadRequest, SessionFate, StepResult};

/// This many znodes that are missing or other incarnations are evidence, whichever they are. One script may well have
/// created fewer again.
const GONE_MIN: usize = 8;

/// This many that exist as another incarnation are evidence if they are more than those that are missing. A program that
/// deletes a small tree and creates it again in part leaves no known znode, too; an operator then confirms the ensemble.
const OTHERS_MIN: usize = 2;

/// The most by which the clocks of the servers of one ensemble may differ, in milliseconds: a znode cannot have been
/// created before its predecessor was written.
const CLOCK_SKEW_MAX_MS: i64 = 600_000;

/// The state of the check. It outlives a connection: within a session the servers are the same.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Lineage {
    /// Not started.
    #[default]
    Open,
    /// These reads are to be sent.
    Pending(Vec<ReadRequest>),
    /// The reads are under way.
    Asked,
    /// No check is needed, or it has ended.
    Settled,
}

impl Lineage {
    /// The check to make before the first root is walked.
    pub(crate) fn of(mut witnesses: Vec<ReadRequest>, has_chroot: bool) -> Lineage {
        let slash = ReadRequest {
            path: ZnodePath::slash(),
            children: false,
        };
        match witnesses.is_empty() {
            true => Lineage::Settled,
            false => {
                // Without the chroot all witnesses are missing, as if they had been deleted.
                if has_chroot && !witnesses.contains(&slash) {
                    witnesses.push(slash);
                }
                Lineage::Pending(witnesses)
            }
        }
    }

    /// Begins again on a new session, and on a kept one whose check was cut.
    pub(crate) fn connected(&mut self, session: SessionFate) {
        if session == SessionFate::New || !self.is_settled() {
            *self = Lineage::Open;
        }
    }

    /// Whether a root may be walked.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, Lineage::Settled)
    }

    /// Takes the reads to send, once.
    pub(crate) fn take_pending(&mut self) -> Option<Vec<ReadRequest>> {
        match std::mem::replace(self, Lineage::Asked) {
            Lineage::Pending(reads) => Some(reads),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// A znode that exists as another incarnation than the journalled one.
struct Other {
    path: ZnodePath,
    seen: Zxid,
    known: Zxid,
}

/// Whether the znode that is `/` to the source was asked for and does not exist.
pub(crate) fn is_chroot_missing(request: &Request, outcomes: &[Outcome]) -> bool {
    let mut answers = request.reads.iter().zip(outcomes);
    answers.any(|(read, outcome)| read.path.is_slash() && matches!(outcome, Outcome::Missing))
}

/// Evidence that this is another ensemble, from the answers of all witnesses; `None` if there is none.
pub(crate) fn evidence(
    image: &mut dyn ImageTxn,
    roots: &[ZnodePath],
    request: &Request,
    outcomes: &[Outcome],
) -> StepResult<Option<String>> {
    let mut missing = 0;
    let mut others: Vec<Other> = Vec::new();
    let mut is_contradicted = false;
    for (read, outcome) in request.reads.iter().zip(outcomes) {
        let Some(node) = image.node(&read.path)? else {
            continue;
        };
        match outcome {
            // The walk decides on an older incarnation: the server may lag.
            Outcome::Found { stat, .. } if stat.czxid <= node.czxid => return Ok(None),
            Outcome::Found { stat, .. } => {
                let written = node.stat.map_or(0, |known| known.mtime);
                is_contradicted |= stat.ctime > 0 && stat.ctime.saturating_add(CLOCK_SKEW_MAX_MS) < written;
                others.push(Other {
                    path: read.path.clone(),
                    seen: stat.czxid,
                    known: node.czxid,
                });
            }
            Outcome::Missing => missing += 1,
            Outcome::Denied => {}
        }
    }
    let is_other = is_contradicted
        || others.iter().any(|other| roots.contains(&other.path))
        || others.len() + missing >= GONE_MIN
        || others.len() >= OTHERS_MIN && others.len() > missing;
    let gone = others.len() + missing;
    Ok(others.into_iter().next().filter(|_| is_other).map(|first| {
        let Other { path, seen, known } = first;
        let these = match gone {
            1 => "a sampled znode".to_owned(),
            _ => format!("none of {gone} sampled znodes"),
        };
        let is = if gone == 1 { "is not" } else { "is" };
        format!(
            "{these} {is} the one in the journal; {path} was created at {seen}, and the journal has {known}"
        )
    }))
}

/// Whether a znode is expected to exist after a time without a connection.
pub(crate) fn is_witness(stat: Option<&Stat>) -> bool {
    stat.is_some_and(|stat| !stat.is_ephemeral() && stat.czxid > Zxid::ZERO)
}
