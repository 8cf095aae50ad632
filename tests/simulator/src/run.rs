//! Seeds, one or many, on one or many threads.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::controls::Habit;
use crate::coverage::{Coverage, Reached};
use crate::plan::Plan;
use crate::world::World;

/// A seed on which something broke.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// The judge's complaint.
    pub message: String,
}

/// The results of many seeds.
#[derive(Debug, Default)]
pub struct Summary<C> {
    /// The faults and states that they reached together.
    pub coverage: C,
    /// Those that failed, ascending.
    pub failures: Vec<Failure>,
    /// How many were played.
    pub played: u64,
}

/// Even seeds play servers that send zxids with their events, odd ones servers before 3.9.
pub fn sends_zxids(seed: u64) -> bool {
    seed.is_multiple_of(2)
}

/// Plays one seed.
///
/// # Panics
///
/// When something broke.
pub fn play(seed: u64, habit: Option<Habit>, is_traced: bool) -> Coverage {
    let mut plan = Plan::new(seed, sends_zxids(seed));
    if habit == Some(Habit::DeleteWithoutProof) {
        plan.only_isolates();
    }
    if is_traced {
        println!("{plan:#?}");
    }
    World::new(plan, habit, is_traced).play()
}

/// Plays one seed and catches what breaks.
///
/// # Errors
/// The judge's complaint.
pub fn try_play(seed: u64, habit: Option<Habit>) -> Result<Coverage, Failure> {
    caught(seed, || play(seed, habit, false))
}

/// Catches what breaks while a seed is played.
///
/// # Errors
/// The judge's complaint.
pub fn caught<C>(seed: u64, play: impl FnOnce() -> C) -> Result<C, Failure> {
    catch_unwind(AssertUnwindSafe(play)).map_err(|panic| Failure {
        seed,
        message: words_of(panic.as_ref()),
    })
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
        .to_owned()
}

/// Plays seeds on so many threads; `progress` hears how many are done and how many have failed.
pub fn play_all<C: Reached>(
    seeds: std::ops::Range<u64>,
    threads: usize,
    play: impl Fn(u64) -> C + Sync,
    progress: impl Fn(u64, usize) + Sync,
) -> Summary<C> {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary {
        coverage: C::default(),
        failures: Vec::new(),
        played: 0,
    });
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let played = caught(seed, || play(seed));
                    let mut summary = summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    summary.played += 1;
                    match played {
                        Ok(coverage) => summary.coverage.take_in(&coverage),
                        Err(failure) => summary.failures.push(failure),
                    }
                    progress(summary.played, summary.failures.len());
                }
            });
        }
    });
    let mut summary = summary
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    summary.failures.sort_by_key(|failure| failure.seed);
    summary
}

/// Plays `usual` seeds, or as many as `ZKBRIDGE_SEEDS` says, or with a trace the one of `ZKBRIDGE_SEED`.
///
/// # Panics
///
/// When one failed, or the usual number never reached some fault or state.
pub fn check_seeds<C: Reached>(usual: u64, play: impl Fn(u64, bool) -> C + Sync) {
    if let Some(seed) = number_of("ZKBRIDGE_SEED") {
        play(seed, true);
        return;
    }
    let count = number_of("ZKBRIDGE_SEEDS").unwrap_or(usual);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = play_all(0..count, threads, |seed| play(seed, false), |_, _| {});
    println!("{}", summary.coverage.table());
    for failure in &summary.failures {
        println!("replay with ZKBRIDGE_SEED={}: {}", failure.seed, failure.message);
    }
    let failed = summary.failures.len();
    assert!(failed == 0, "{failed} of {count} seeds failed");
    if count >= usual {
        assert_eq!(summary.coverage.missing(), Vec::<&str>::new(), "never reached");
    }
}

/// The number in an environment variable.
///
/// # Panics
///
/// When it is no number.
pub fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is '{text}': give a number")),
    )
}
