//! Plays as many seeds as wanted, on all cores: `make sim SEEDS=100000`. Ends with 1 when a seed failed or when some
//! fault or state was never reached.

use std::process::ExitCode;
use std::time::Instant;

use bridge_simulator::run::{number_of, play, play_all};

/// Seeds, if nobody says how many.
const SEEDS: u64 = 10_000;
/// Progress is printed after so many.
const PROGRESS_EVERY: u64 = 1_000;
/// From so many seeds on every state must have been reached.
const COMPLETE_FROM: u64 = 2_000;

fn main() -> ExitCode {
    if let Some(seed) = number_of("ZKBRIDGE_SEED") {
        play(seed, None, true);
        return ExitCode::SUCCESS;
    }
    let first = number_of("ZKBRIDGE_FIRST_SEED").unwrap_or(0);
    let seeds = first..first + number_of("ZKBRIDGE_SEEDS").unwrap_or(SEEDS);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads =
        number_of("ZKBRIDGE_THREADS").map_or(cores, |threads| usize::try_from(threads).unwrap_or(cores));
    // The words of a failure are printed once, at the end.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let count = seeds.end - seeds.start;
    let summary = play_all(seeds, threads, |played, failed| {
        if played.is_multiple_of(PROGRESS_EVERY) {
            eprintln!(
                "{played} of {count} seeds, {failed} failed, {:.0?}",
                began.elapsed()
            );
        }
    });
    println!("{}", summary.coverage.table());
    println!(
        "{} seeds in {:.0?}, {} failed",
        summary.played,
        began.elapsed(),
        summary.failures.len()
    );
    for failure in &summary.failures {
        println!("ZKBRIDGE_SEED={}: {}", failure.seed, failure.message);
    }
    let missing = summary.coverage.missing();
    if count >= COMPLETE_FROM && !missing.is_empty() {
        println!("never reached: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    if summary.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
