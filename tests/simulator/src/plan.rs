//! The plan of one seed: the servers, the faults, the limits. Each seed has a few kinds of faults only, because rare
//! combinations are found sooner if not everything happens at once.

use std::time::Duration;

use bridge_core::capture::{AclMode, CaptureOptions, Limits, SnapshotMode};
use bridge_core::path::ZnodePath;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::ensemble::Release;

/// Every so many seeds the real journal runs beside the model.
const REAL_JOURNAL_EVERY: u64 = 20;

/// Every so many seeds lists are read.
const LISTS_EVERY: u64 = 3;

/// Every so many seeds the bridge stands still at times. It takes no chance of the seed's own.
const SUSPENDS_EVERY: u64 = 9;

/// The plan of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Servers of the ensemble.
    pub servers: usize,
    /// Their version.
    pub release: Release,
    /// Steps with faults.
    pub steps: usize,
    /// Virtual time that a step takes at most.
    pub step_ms: u64,
    /// How the source captures.
    pub capture: CaptureOptions,
    /// Names at each level, so that trees are narrow or wide.
    pub names: usize,
    /// How deep the tree may grow.
    pub depth: usize,
    /// Znodes made before the first start.
    pub prepared: usize,
    /// The weight of writes among the steps.
    pub writes: u32,
    /// The weight of faults.
    pub fault_weight: u32,
    /// The weight of replication.
    pub replication: u32,
    /// Reports that the pipeline may have waiting.
    pub channel: usize,
    /// Events that the connection may have waiting.
    pub outbox: usize,
    /// After what time a session without a connection is over.
    pub session_ms: u64,
    /// Whether a session begins without a transaction of the quorum, as with `localSessionsEnabled`, and so on a server
    /// that has lost its leader, too. No ensemble has it by default.
    pub has_local_sessions: bool,
    /// The possible faults.
    pub faults: FaultPlan,
    /// Whether the real journal runs beside the model.
    pub with_real_journal: bool,
    /// Whether each commit survives a loss of power.
    pub syncs_commits: bool,
    /// How long delivered records stay.
    pub retention_ms: i64,
}

/// The possible faults of a seed.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct FaultPlan {
    /// Connections are cut.
    pub cuts: bool,
    /// Connections are half open, and losses last.
    pub losses: bool,
    /// Servers lag.
    pub lag: bool,
    /// Leaders change, servers are killed.
    pub elections: bool,
    /// Servers are cut off from the leader and go on answering.
    pub isolation: bool,
    /// Permission is withdrawn and granted.
    pub permissions: bool,
    /// Watches are gone in silence.
    pub lost_watches: bool,
    /// The ensemble is set back.
    pub rewinds: bool,
    /// Roots and subtrees are replaced.
    pub replacements: bool,
    /// More is written than can be read.
    pub floods: bool,
    /// The bridge is killed.
    pub kills: bool,
    /// The disk is full, or the journal.
    pub full: bool,
    /// The clock jumps.
    pub clock: bool,
    /// The bridge is stopped for minutes, as with its machine.
    pub suspends: bool,
    /// Sinks fail.
    pub sinks: bool,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, sends_zxids: bool) -> Plan {
        let mut random = StdRng::seed_from_u64(seed ^ 0x706c_616e);
        let faults = FaultPlan {
            suspends: seed % SUSPENDS_EVERY == 4,
            ..FaultPlan::draw(&mut random)
        };
        let servers = if faults.lag || faults.elections || faults.isolation {
            *[2, 3, 3, 5].choose(&mut random).unwrap_or(&3)
        } else {
            *[1, 1, 3].choose(&mut random).unwrap_or(&1)
        };
        let with_real_journal = seed % REAL_JOURNAL_EVERY == 7;
        Plan {
            seed,
            servers,
            release: Release {
                sends_zxids,
                filters_events: random.random_bool(0.7),
            },
            steps: random.random_range(150..700),
            step_ms: *[5, 20, 60].choose(&mut random).unwrap_or(&20),
            capture: capture_options(seed, &faults, &mut random),
            names: random.random_range(2..6),
            depth: random.random_range(2..6),
            prepared: *[0, 5, 30, 80].choose(&mut random).unwrap_or(&5),
            writes: *[5, 20, 60].choose(&mut random).unwrap_or(&20),
            fault_weight: *[1, 3, 8].choose(&mut random).unwrap_or(&3),
            replication: *[8, 30, 80].choose(&mut random).unwrap_or(&30),
            channel: random.random_range(1..40),
            outbox: if faults.floods {
                random.random_range(10..80)
            } else {
                100_000
            },
            session_ms: random.random_range(500..4_000),
            has_local_sessions: false,
            with_real_journal,
            syncs_commits: with_real_journal || random.random_bool(0.7),
            retention_ms: *[200, 3_000, 3_600_000].choose(&mut random).unwrap_or(&3_000),
            faults,
        }
    }
}

impl Plan {
    /// Nothing goes wrong but that servers are cut off from their leader, and give sessions all the same: the one fault
    /// that a proof of deletes is for is rare among all others.
    pub fn only_isolates(&mut self) {
        self.faults = FaultPlan {
            isolation: true,
            ..FaultPlan::default()
        };
        self.capture.acls = AclMode::Notice;
        self.servers = self.servers.max(3);
        self.has_local_sessions = true;
    }
}

impl FaultPlan {
    fn draw(random: &mut StdRng) -> FaultPlan {
        let mut often = |chance: f64| random.random_bool(chance);
        FaultPlan {
            cuts: often(0.6),
            losses: often(0.3),
            lag: often(0.4),
            elections: often(0.25),
            isolation: often(0.3),
            permissions: often(0.15),
            lost_watches: often(0.12),
            rewinds: often(0.08),
            replacements: often(0.3),
            floods: often(0.25),
            kills: often(0.4),
            full: often(0.2),
            clock: often(0.2),
            suspends: false,
            sinks: often(0.5),
        }
    }
}

fn capture_options(seed: u64, faults: &FaultPlan, random: &mut StdRng) -> CaptureOptions {
    let path = |text: &str| ZnodePath::parse(text).expect("it is one");
    let roots: &[&str] = [&["/a", "/b/c"][..], &["/a"], &["/"], &["/a", "/b/c", "/d"]]
        .choose(random)
        .unwrap_or(&&["/a"][..]);
    let mut options = CaptureOptions::new("main", roots.iter().map(|text| path(text)).collect());
    options.seed = seed;
    if seed % LISTS_EVERY == 1 {
        options.acls = AclMode::List;
    }
    options.sample_every = Some(Duration::from_secs(random.random_range(1..4)));
    // Changes that a sample of a few znodes misses have to be found in the time of a simulation.
    options.reconcile_every = Some(Duration::from_secs(random.random_range(2..5)));
    if random.random_bool(0.15) {
        options.snapshot = SnapshotMode::Always;
    }
    if random.random_bool(0.2) {
        options.heartbeat_every = Some(Duration::from_secs(2));
    }
    if random.random_bool(0.7) {
        options.limits = small_limits(faults, random);
    }
    options
}

/// Limits that a small tree meets.
fn small_limits(faults: &FaultPlan, random: &mut StdRng) -> Limits {
    let mut limits = Limits {
        follow_window: random.random_range(1..4),
        follow_batch: random.random_range(1..6),
        walk_window: random.random_range(1..4),
        walk_batch: random.random_range(1..6),
        page: random.random_range(1..5),
        resnapshot_batch: random.random_range(1..6),
        event_bytes: 1 << 20,
        held_bytes: *[0, 10, 1_000].choose(random).unwrap_or(&10),
        ..Limits::default()
    };
    // From another one, so that this takes no chance of its own.
    limits.follow_apart = limits.follow_window % 3;
    limits.unread_under_way = 1 + limits.walk_batch * (1 + limits.page % 3);
    if faults.floods {
        limits.fold_above = random.random_range(2..20);
        limits.events = random.random_range(60..400);
    }
    limits
}
