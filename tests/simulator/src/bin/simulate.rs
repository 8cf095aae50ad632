//! Plays as many seeds of both worlds as wanted, on all cores: `make sim SEEDS=100000`; `ZKBRIDGE_WORLD=transactions` plays
//! one of them. Ends with 1 when a seed failed or when some
//! fault or state was never reached.

use std::process::ExitCode;
use std::time::Instant;

use bridge_simulator::coverage::Reached;
use bridge_simulator::run::{number_of, play, play_all};
use bridge_simulator::transactions;

/// The worlds, as `ZKBRIDGE_WORLD` names them.
const WATCH: &str = "watch";
const TRANSACTIONS: &str = "transactions";

/// Seeds, if nobody says how many.
const SEEDS: u64 = 10_000;
/// Progress is printed after so many.
const PROGRESS_EVERY: u64 = 1_000;
/// From so many seeds on every state must have been reached.
const COMPLETE_FROM: u64 = 2_000;

fn main() -> ExitCode {
    let world = std::env::var("ZKBRIDGE_WORLD").ok();
    let is_wanted = |name: &str| world.as_deref().is_none_or(|world| world == name);
    if !is_wanted(WATCH) && !is_wanted(TRANSACTIONS) {
        eprintln!("ZKBRIDGE_WORLD is {world:?}: there are {WATCH} and {TRANSACTIONS}");
        return ExitCode::FAILURE;
    }
    if let Some(seed) = number_of("ZKBRIDGE_SEED") {
        match is_wanted(WATCH) {
            true => drop(play(seed, None, true)),
            false => drop(transactions::play(seed, None, true)),
        }
        return ExitCode::SUCCESS;
    }
    // The words of a failure are printed once, at the end.
    std::panic::set_hook(Box::new(|_| {}));
    let watch = !is_wanted(WATCH) || is_right(WATCH, |seed| play(seed, None, false));
    let transactions =
        !is_wanted(TRANSACTIONS) || is_right(TRANSACTIONS, |seed| transactions::play(seed, None, false));
    match watch && transactions {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Plays the seeds of one world and prints what they reached; whether nothing broke and nothing is missing.
fn is_right<C: Reached>(world: &str, play: impl Fn(u64) -> C + Sync) -> bool {
    let first = number_of("ZKBRIDGE_FIRST_SEED").unwrap_or(0);
    let seeds = first..first + number_of("ZKBRIDGE_SEEDS").unwrap_or(SEEDS);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads =
        number_of("ZKBRIDGE_THREADS").map_or(cores, |threads| usize::try_from(threads).unwrap_or(cores));
    let began = Instant::now();
    let count = seeds.end - seeds.start;
    let summary = play_all(seeds, threads, play, |played, failed| {
        if played.is_multiple_of(PROGRESS_EVERY) {
            eprintln!(
                "{world}: {played} of {count} seeds, {failed} failed, {:.0?}",
                began.elapsed()
            );
        }
    });
    println!("{}", summary.coverage.table());
    println!(
        "{world}: {} seeds in {:.0?}, {} failed",
        summary.played,
        began.elapsed(),
        summary.failures.len()
    );
    for failure in &summary.failures {
        println!(
            "ZKBRIDGE_WORLD={world} ZKBRIDGE_SEED={}: {}",
            failure.seed, failure.message
        );
    }
    let missing = summary.coverage.missing();
    let is_complete = count < COMPLETE_FROM || missing.is_empty();
    if !is_complete {
        println!("never reached: {}", missing.join(", "));
    }
    is_complete && summary.failures.is_empty()
}
