//! How fast questions about earlier moments are answered: a journal of seven days is written, then each kind of question
//! is put many times, and the table shows the median and the 99th percentile beside the promised time, and both without the
//! time in which the thread waited for a processor: on a busy machine these alone say something. At the end capture goes on,
//! beside questions that are put without a pause.
//!
//! `make bench-query`, with `RECORDS=n` for another size than ten million. Ends with an error if a promise is not kept.
//! The journal is written below `target` and removed at the end.

mod capture;
mod questions;
mod test_journal;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bridge_query::JournalQuery;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use questions::{Asking, PROMISES, Promise};
use test_journal::Sizes;

/// The result of a step that may fail.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

const SEED: u64 = 7;

const RECORDS: usize = 10_000_000;

/// Enough that everything has more than one version: `cargo test --all-targets` only asks that the bench works.
const RECORDS_TRIED: usize = 6_000;

/// Questions that are put before any is measured, so that the pages that they share are in memory.
const WARM_UP: usize = 3;

/// How often a question is put: until one of the limits is reached, but at least [`TIMES_MIN`].
const TIMES_MAX: usize = 400;
const TIMES_MIN: usize = 5;
const TIME_MAX: Duration = Duration::from_secs(5);

/// The time that the thread was on a processor.
fn processor_time() -> Outcome<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanos))
}

/// Times, ascending.
struct Times(Vec<Duration>);

/// The times of one kind of question.
struct Measured {
    whole: Times,
    /// Of the processor alone.
    processor: Times,
}

impl Measured {
    fn of(promise: &Promise, asking: &mut Asking<'_>) -> Outcome<Measured> {
        let mut items = 0;
        for _ in 0..WARM_UP {
            items += (promise.ask)(asking)?;
        }
        let begun = Instant::now();
        let (mut whole, mut processor) = (Vec::new(), Vec::new());
        while whole.len() < TIMES_MIN || (whole.len() < TIMES_MAX && begun.elapsed() < TIME_MAX) {
            let (used, asked) = (processor_time()?, Instant::now());
            items += (promise.ask)(asking)?;
            whole.push(asked.elapsed());
            processor.push(processor_time()?.saturating_sub(used));
        }
        if items == 0 {
            return Err(format!("{}: no answer has an item: it measures nothing", promise.question).into());
        }
        whole.sort_unstable();
        processor.sort_unstable();
        Ok(Measured {
            whole: Times(whole),
            processor: Times(processor),
        })
    }
}

impl Times {
    fn at_ms(&self, share: f64) -> f64 {
        let index = (self.0.len() as f64 * share) as usize;
        self.0[index.min(self.0.len() - 1)].as_secs_f64() * 1e3
    }
}

fn main() -> Outcome<()> {
    // Cargo says this to what it measures.
    let is_measured = std::env::args().any(|arg| arg == "--bench");
    let records = match std::env::var("ZKBRIDGE_BENCH_RECORDS") {
        Ok(text) => text
            .parse()
            .map_err(|error| format!("ZKBRIDGE_BENCH_RECORDS '{text}': {error}: give a number of records"))?,
        Err(_) if is_measured => RECORDS,
        Err(_) => RECORDS_TRIED,
    };
    let is_past = std::env::var_os("ZKBRIDGE_BENCH_PAST").is_some();
    let sizes = Sizes::of(records, is_past);
    let needed = sizes.services + sizes.siblings + sizes.keys;
    if records < needed * 2 {
        return Err(format!("{records} records are too few: give at least {}", needed * 2).into());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("query-bench");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let file = folder.join("main.journal");
    let mut random = SmallRng::seed_from_u64(SEED);
    let begun = Instant::now();
    let (bytes, history) = test_journal::write(&file, sizes, &mut random)?;
    println!(
        "{records} records, {} MB, written in {:.0} s; seed {SEED}",
        bytes / 1_000_000,
        begun.elapsed().as_secs_f64()
    );
    let mut broken = answer(&file, sizes, random.clone())?;
    broken.extend(capture::beside_questions(&file, history, random, is_measured)?);
    fs::remove_dir_all(&folder)?;
    match broken.is_empty() || !is_measured {
        true => Ok(()),
        false => Err(format!("slower than promised: {}", broken.join("; ")).into()),
    }
}

/// Puts all questions and prints the table. Returns the questions that took longer than promised.
fn answer(file: &Path, sizes: Sizes, random: SmallRng) -> Outcome<Vec<&'static str>> {
    let query = JournalQuery::open(file)?;
    let mut asking = Asking {
        query: &query,
        sizes,
        now: sizes.end(),
        random,
    };
    let begun = Instant::now();
    let first = asking.time();
    query.cut(first)?;
    println!(
        "the first question about a time: {:.1} ms\n",
        begun.elapsed().as_secs_f64() * 1e3
    );
    println!("| question | p50 ms | p99 ms | promised p99 | processor p50 | processor p99 | times |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut broken = Vec::new();
    for promise in PROMISES {
        let measured = Measured::of(promise, &mut asking)?;
        let (p50, p99) = (measured.whole.at_ms(0.5), measured.whole.at_ms(0.99));
        let mark = if p99 > promise.target_ms { " (slower)" } else { "" };
        println!(
            "| {} | {p50:.2} | {p99:.2}{mark} | {} | {:.2} | {:.2} | {} |",
            promise.question,
            promise.target_ms,
            measured.processor.at_ms(0.5),
            measured.processor.at_ms(0.99),
            measured.whole.0.len()
        );
        if p99 > promise.target_ms {
            broken.push(promise.question);
        }
    }
    Ok(broken)
}
