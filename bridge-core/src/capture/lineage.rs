//! Whether the ensemble is the one that the journal knows.
//!
//! An ensemble has no name of its own. One whose zxids are lower is found out by its older Stats; one whose zxids are
//! higher looks as if every znode had been deleted and created again. So before a new session compares a root, a sample of
//! persistent znodes is read. If not one of them is the incarnation that is journalled, and at least one path exists with
//! another incarnation, an operator has to decide.

use crate::image_txn::ImageTxn;
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{GapReason, Stat};

use super::batch::Request;
use super::{Outcome, ReadRequest, StepResult};

/// So many znodes have to agree. A small tree may well have been created anew by one script.
const WITNESSES_MIN: usize = 8;

/// How far the proof for the root that is to be walked has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Lineage {
    /// There is none to wait for.
    #[default]
    Settled,
    /// These are to be read.
    Wanted(Vec<ReadRequest>),
    /// They are being read.
    Asked,
}

impl Lineage {
    /// What to do before a root is compared in a gap with this reason.
    pub(crate) fn of(
        reason: GapReason,
        witnesses: impl FnOnce() -> StepResult<Vec<ReadRequest>>,
    ) -> StepResult<Lineage> {
        // Within a session the servers are the same.
        if !matches!(reason, GapReason::Started | GapReason::Expired) {
            return Ok(Lineage::Settled);
        }
        let reads = witnesses()?;
        Ok(if reads.len() < WITNESSES_MIN {
            Lineage::Settled
        } else {
            Lineage::Wanted(reads)
        })
    }

    /// The reads, once.
    pub(crate) fn take_wanted(&mut self) -> Option<Vec<ReadRequest>> {
        match std::mem::replace(self, Lineage::Asked) {
            Lineage::Wanted(reads) => Some(reads),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// The evidence that this is another ensemble.
pub(crate) fn evidence(
    image: &mut dyn ImageTxn,
    request: &Request,
    outcomes: &[Outcome],
) -> StepResult<Option<String>> {
    let mut gone = 0;
    let mut other: Option<(ZnodePath, Zxid, Zxid)> = None;
    for (read, outcome) in request.reads.iter().zip(outcomes) {
        let Some(known) = image.node(&read.path)? else {
            continue;
        };
        match outcome {
            // An older incarnation is for the walk to judge: the server may lag.
            Outcome::Found { stat, .. } if stat.czxid <= known.czxid => return Ok(None),
            Outcome::Found { stat, .. } => {
                gone += 1;
                other.get_or_insert((read.path.clone(), stat.czxid, known.czxid));
            }
            Outcome::Missing => gone += 1,
            Outcome::Denied => {}
        }
    }
    let Some((path, seen, known)) = other.filter(|_| gone >= WITNESSES_MIN) else {
        return Ok(None);
    };
    Ok(Some(format!(
        "none of {gone} znodes that the journal knows exists any more: {path} was created at {seen} where the journal \
         holds {known}"
    )))
}

/// Whether a znode is expected to outlive an absence.
pub(crate) fn is_witness(stat: Option<&Stat>) -> bool {
    stat.is_some_and(|stat| !stat.is_ephemeral() && stat.czxid > Zxid::ZERO)
}
