//! A fixed number of seeds with every kind of fault. `ZKBRIDGE_SEED=n` replays one with a trace; `ZKBRIDGE_SEEDS=n`
//! plays another number of them.

use bridge_simulator::coverage::Reached;
use bridge_simulator::run::{check_seeds, play};

/// About half a minute of a busy machine.
const SEEDS: u64 = 3_000;

#[test]
fn no_seed_breaks_a_promise_and_together_they_reach_every_fault_and_state() {
    check_seeds(SEEDS, |seed, is_traced| play(seed, None, is_traced));
}

/// A seed that does not play the same twice could not be replayed.
#[test]
fn a_seed_plays_the_same_every_time() {
    for seed in [4, 27, 115] {
        let first = play(seed, None, false);
        assert_eq!(first.table(), play(seed, None, false).table(), "seed {seed}");
    }
}
