//! Capture at saturation: batches without a pause and without syncs, in turns alone and beside questions without a pause.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bridge_query::JournalQuery;
use rand::rngs::SmallRng;

use crate::Outcome;
use crate::questions::{Asking, PROMISES};
use crate::test_journal::{Sizes, TestHistory, TestWriter};

/// Turns of each kind.
const TURNS: usize = 5;

/// The length of a turn: some hundred batches.
const TURN: Duration = Duration::from_secs(3);

/// For a bench that is only tried.
const TURN_TRIED: Duration = Duration::from_millis(50);

/// The least rate beside questions, as a part of that alone.
const RATIO_MIN: f64 = 0.85;

/// The longest batch beside questions, in milliseconds.
const BATCH_MS_MAX: f64 = 100.0;

/// The measures of a turn.
struct Turn {
    /// Records a second.
    rate: f64,
    worst: Duration,
    questions: u64,
}

/// Measures, prints, and returns what is worse than promised.
pub fn beside_questions(
    file: &Path,
    history: TestHistory,
    mut random: SmallRng,
    is_measured: bool,
) -> Outcome<Vec<&'static str>> {
    let sizes = history.sizes;
    let length = if is_measured { TURN } else { TURN_TRIED };
    let mut writer = TestWriter::open(file, history)?;
    let query = JournalQuery::open(file)?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    // The first turn warms up.
    batches(&mut writer, &mut random, length)?;
    for _ in 0..TURNS {
        alone.push(batches(&mut writer, &mut random, length)?);
        beside.push(asked_meanwhile(&query, sizes, &mut writer, &mut random, length)?);
    }
    let ratio = median_rate(&beside) / median_rate(&alone);
    let worst = worst_ms(&beside);
    println!();
    println!("| capture at saturation | records/s | worst batch, ms | questions |");
    println!("| --- | --- | --- | --- |");
    for (name, turns) in [("alone", &alone), ("beside questions without a pause", &beside)] {
        let questions: u64 = turns.iter().map(|turn| turn.questions).sum();
        let (rate, worst) = (median_rate(turns), worst_ms(turns));
        println!("| {name} | {rate:.0} | {worst:.0} | {questions} |");
    }
    println!("\nratio of the medians of {TURNS} turns each: {ratio:.2}, promised {RATIO_MIN}");
    let mut broken = Vec::new();
    if ratio < RATIO_MIN {
        broken.push("rate of capture beside questions");
    }
    if worst > BATCH_MS_MAX {
        broken.push("worst batch beside questions");
    }
    Ok(broken)
}

fn batches(writer: &mut TestWriter, random: &mut SmallRng, length: Duration) -> Outcome<Turn> {
    let begun = Instant::now();
    let (mut records, mut worst) = (0, Duration::ZERO);
    while begun.elapsed() < length {
        let batch = Instant::now();
        records += writer.batch(random)?;
        worst = worst.max(batch.elapsed());
    }
    Ok(Turn {
        rate: records as f64 / begun.elapsed().as_secs_f64(),
        worst,
        questions: 0,
    })
}

/// A turn beside a thread that puts each kind of question after the other.
fn asked_meanwhile(
    query: &JournalQuery,
    sizes: Sizes,
    writer: &mut TestWriter,
    random: &mut SmallRng,
    length: Duration,
) -> Outcome<Turn> {
    let (is_over, questions) = (AtomicBool::new(false), AtomicU64::new(0));
    let asking_random = random.clone();
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asking = Asking {
                query,
                sizes,
                now: sizes.end(),
                random: asking_random,
            };
            for promise in PROMISES.iter().cycle() {
                if is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                (promise.ask)(&mut asking).map_err(|error| format!("{}: {error}", promise.question))?;
                questions.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), String>(())
        });
        let turn = batches(writer, random, length);
        is_over.store(true, Ordering::Relaxed);
        asking.join().map_err(|_| "the thread that asks has panicked")??;
        Ok(Turn {
            questions: questions.load(Ordering::Relaxed),
            ..turn?
        })
    })
}

fn median_rate(turns: &[Turn]) -> f64 {
    let mut rates: Vec<f64> = turns.iter().map(|turn| turn.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn worst_ms(turns: &[Turn]) -> f64 {
    let worst = turns.iter().map(|turn| turn.worst).max();
    worst.unwrap_or_default().as_secs_f64() * 1e3
}
