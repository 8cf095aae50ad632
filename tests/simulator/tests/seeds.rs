//! A fixed number of seeds with every kind of fault. `ZKBRIDGE_SEED=n` replays one with a trace; `ZKBRIDGE_SEEDS=n`
//! plays another number of them.

use bridge_simulator::run::{number_of, play, play_all};

/// About half a minute of a busy machine.
const SEEDS: u64 = 3_000;

#[test]
fn no_seed_breaks_a_promise_and_together_they_reach_every_fault_and_state() {
    if let Some(seed) = number_of("ZKBRIDGE_SEED") {
        play(seed, None, true);
        return;
    }
    let count = number_of("ZKBRIDGE_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = play_all(0..count, threads, |seed| play(seed, None, false), |_, _| {});
    println!("{}", summary.coverage.table());
    for failure in &summary.failures {
        println!("replay with ZKBRIDGE_SEED={}: {}", failure.seed, failure.message);
    }
    assert!(
        summary.failures.is_empty(),
        "{} of {count} seeds failed",
        summary.failures.len()
    );
    if count >= SEEDS {
        assert_eq!(summary.coverage.missing(), Vec::<&str>::new(), "never reached");
    }
}

/// A seed that does not play the same twice could not be replayed.
#[test]
fn a_seed_plays_the_same_every_time() {
    for seed in [4, 27, 115] {
        let first = play(seed, None, false);
        assert_eq!(first.table(), play(seed, None, false).table(), "seed {seed}");
    }
}
