//! The plan of one seed: the leader's limits, the faults, the options of the source.

use bridge_core::capture::{AclMode, CaptureOptions};
use bridge_core::committed::{CommittedOptions, ProofMode};
use bridge_core::path::ZnodePath;
use bridge_core::scope::Scope;
use bridge_core::testing::transactions::path;
use globset::{Glob, GlobSetBuilder};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::habit::TransactionHabit;

/// Every so many seeds the real journal runs beside the model.
const REAL_JOURNAL_EVERY: u64 = 20;

/// Every so many seeds the bridge is away for minutes. It takes no chance of the seed's own.
const ABSENCES_EVERY: u64 = 5;

/// Paths that some plans exclude: children of captured znodes, and all below them.
const EXCLUDED: &str = "/*/2";

/// The plan of one seed.
#[derive(Clone, Debug)]
pub struct TransactionPlan {
    /// The seed.
    pub seed: u64,
    /// Steps with faults.
    pub steps: usize,
    /// The options of the source.
    pub options: CommittedOptions,
    /// Transactions that a leader has in memory for those who come back.
    pub window: usize,
    /// Whether it reads its log for those who were away for longer.
    pub reads_log: bool,
    /// Transactions that may wait in the driver.
    pub spool: usize,
    /// The weight of faults among the steps.
    pub fault_weight: u32,
    /// Leaders change.
    pub elections: bool,
    /// Histories with holes are sent.
    pub holes: bool,
    /// The bridge is killed.
    pub kills: bool,
    /// It stays away for minutes then.
    pub absences: bool,
    /// The disk is full.
    pub full: bool,
    /// The power is lost.
    pub power: bool,
    /// Whether each commit survives a loss of power.
    pub syncs_commits: bool,
    /// Whether the real journal runs beside the model.
    pub with_real_journal: bool,
    /// Whether the ends of sessions do not list their ephemeral znodes (`closeSessionTxn.enabled=false`).
    pub unlisted_ends: bool,
}

impl TransactionPlan {
    /// The plan of a seed.
    ///
    /// # Panics
    ///
    /// Never: its glob is valid.
    pub fn new(seed: u64, habit: Option<TransactionHabit>) -> TransactionPlan {
        let mut random = StdRng::seed_from_u64(seed ^ 0x7472_616e);
        let roots: &[&str] = [&["/a", "/b"][..], &["/a"], &["/"], &["/a/1", "/b"]]
            .choose(&mut random)
            .unwrap_or(&&["/a"][..]);
        let mut capture = CaptureOptions::new("main", roots.iter().map(|root| path(root)).collect());
        capture.acls = if random.random_bool(0.5) {
            AclMode::List
        } else {
            AclMode::Notice
        };
        let mut options = CommittedOptions::new(capture, None, "");
        options.stage_nodes = random.random_range(1..6);
        if random.random_bool(0.2) {
            options.held_bytes = random.random_range(200..2_000);
        }
        let has_digest = random.random_bool(0.6) && !habit.is_some_and(TransactionHabit::needs_no_digest);
        options.proof = if has_digest {
            ProofMode::Tree
        } else {
            ProofMode::Sequence
        };
        if random.random_bool(0.3) {
            let glob = Glob::new(EXCLUDED).and_then(|glob| GlobSetBuilder::new().add(glob).build());
            options.capture.exclude = glob.expect("the glob is valid");
        }
        // Ends of epochs that died are rare among all other faults.
        let is_about_tails = habit == Some(TransactionHabit::HoldsNothingBack);
        let with_real_journal = seed % REAL_JOURNAL_EVERY == 7;
        let mut often = |chance: f64| random.random_bool(chance);
        TransactionPlan {
            seed,
            options,
            reads_log: often(0.6) || is_about_tails,
            elections: often(0.6) || is_about_tails,
            holes: often(0.3) && !is_about_tails,
            kills: often(0.5) && !is_about_tails,
            absences: seed % ABSENCES_EVERY == 2,
            full: often(0.3),
            power: often(0.3) && !is_about_tails,
            syncs_commits: with_real_journal || often(0.6),
            with_real_journal,
            steps: random.random_range(100..500),
            window: *[3, 10, 40].choose(&mut random).unwrap_or(&10),
            spool: *[4, 20, 1_000].choose(&mut random).unwrap_or(&20),
            fault_weight: *[1, 3, 8].choose(&mut random).unwrap_or(&3),
            unlisted_ends: random.random_bool(0.4),
        }
    }

    /// The captured paths.
    pub(super) fn scope(&self) -> Scope {
        let capture = &self.options.capture;
        Scope::new(capture.roots.clone(), capture.exclude.clone())
    }
}

/// Whether a path is captured.
pub(super) fn is_captured(scope: &Scope, path: &ZnodePath) -> bool {
    !path.starts_with("/zookeeper")
        && scope.roots().iter().any(|root| root.covers(path))
        && !scope.is_excluded(path)
}
