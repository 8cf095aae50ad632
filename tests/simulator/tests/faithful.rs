//! The model of the journal against the real one: every call of a seed goes to both, and both must answer alike.

use bridge_simulator::coverage::Seen;
use bridge_simulator::plan::Plan;
use bridge_simulator::run::sends_zxids;
use bridge_simulator::world::World;

/// Each with restarts, batches rolled back and retention, both kinds of server.
const SEEDS: u64 = 12;

#[test]
fn the_model_of_the_journal_answers_as_the_real_one() {
    let mut reached = [0; 4];
    for seed in 5_000..5_000 + SEEDS {
        let mut plan = Plan::new(seed, sends_zxids(seed));
        plan.with_real_journal = true;
        plan.syncs_commits = true;
        plan.faults.kills = true;
        plan.faults.full = true;
        plan.retention_ms = 200;
        let coverage = World::new(plan, None, false).play();
        let wanted = [Seen::Killed, Seen::Held, Seen::Retained, Seen::HandedOver];
        for (count, seen) in reached.iter_mut().zip(wanted) {
            *count += coverage.count(seen);
        }
    }
    assert!(
        reached.iter().all(|count| *count > 0),
        "restarts, batches rolled back, records removed, records from memory: {reached:?}"
    );
}
