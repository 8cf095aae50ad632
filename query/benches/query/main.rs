//! How fast questions about earlier moments are answered: a journal of seven days is written, then each kind of question
//! is put many times, and the table shows the median and the 99th percentile beside the promised time, and both without the
//! time in which the thread waited for a processor: on a busy machine these alone say something.
//!
//! `make bench-query`, with `RECORDS=n` for another size than ten million. Ends with an error if a promise is not kept.
//! The journal is written below `target` and removed at the end.

mod test_journal;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bridge_core::journal::Position;
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::Timestamp;
use bridge_query::answer::{
    ActivityQuestion, ChangesOrder, ChangesQuestion, ChildrenQuestion, DiffQuestion, HistoryQuestion,
    RangeQuestion,
};
use bridge_query::{JournalQuery, PathPattern, Selection};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use test_journal::{BEGIN_MS, SIBLINGS, Sizes, group_path, service_path};

/// The result of a step that may fail.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

const SEED: u64 = 7;

const RECORDS: usize = 10_000_000;

/// Enough that everything has more than one version: `cargo test --all-targets` only asks that the bench works.
const RECORDS_TRIED: usize = 6_000;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Questions that are put before any is measured, so that the pages that they share are in memory.
const WARM_UP: usize = 3;

/// How often a question is put: until one of the limits is reached, but at least [`TIMES_MIN`].
const TIMES_MAX: usize = 400;
const TIMES_MIN: usize = 5;
const TIME_MAX: Duration = Duration::from_secs(5);

/// A kind of question, with the time in which 99 of 100 are to be answered.
struct Promise {
    question: &'static str,
    target_ms: f64,
    /// Puts the question with other random choices each time. Returns the number of items of the answer.
    ask: fn(&mut Asking<'_>) -> Outcome<usize>,
}

const PROMISES: &[Promise] = &[
    Promise {
        question: "value then, the path with most records",
        target_ms: 2.0,
        ask: |asking| asking.value(&ZnodePath::parse("/hot")?),
    },
    Promise {
        question: "value then, a path with a thousandth of the records",
        target_ms: 2.0,
        ask: |asking| asking.value(&ZnodePath::parse("/warm")?),
    },
    Promise {
        question: "value then, a random path",
        target_ms: 2.0,
        ask: |asking| {
            let service = asking.random.random_range(0..asking.sizes.services);
            asking.value(&service_path(service)?)
        },
    },
    Promise {
        question: "200 children then, of 1,000",
        target_ms: 10.0,
        ask: |asking| {
            let group = asking.group()?;
            asking.children(&group)
        },
    },
    Promise {
        question: "200 children then, of the most siblings",
        target_ms: 20.0,
        ask: |asking| asking.children(&ZnodePath::parse("/siblings")?),
    },
    Promise {
        question: "children then, of a queue with dead names",
        target_ms: 5.0,
        ask: |asking| asking.children(&ZnodePath::parse("/queue")?),
    },
    Promise {
        question: "100 versions before a moment, the path with most records",
        target_ms: 10.0,
        ask: |asking| asking.versions(),
    },
    Promise {
        question: "record of a time",
        target_ms: 1.0,
        ask: |asking| {
            let time = asking.time();
            Ok(usize::from(asking.query.cut(time)?.seq > Seq::ZERO))
        },
    },
    Promise {
        question: "record of a zxid",
        target_ms: 1.0,
        ask: |asking| {
            let zxid = asking.random.random_range(1..=asking.sizes.records as u64);
            Ok(usize::from(
                asking.query.cut(Position::Zxid(Zxid(zxid)))?.seq > Seq::ZERO,
            ))
        },
    },
    Promise {
        question: "100 changes of a day, 100 paths",
        target_ms: 25.0,
        ask: |asking| {
            let app = asking.random.random_range(0..asking.sizes.keys / 100);
            asking.changes(ZnodePath::parse(&format!("/config/app-{app:05}"))?)
        },
    },
    Promise {
        question: "100 changes of a day, 1,000 paths",
        target_ms: 50.0,
        ask: |asking| {
            let group = asking.group()?;
            asking.changes(group)
        },
    },
    Promise {
        question: "100 changes of a day, most paths",
        target_ms: 10.0,
        ask: |asking| asking.changes(ZnodePath::parse("/services")?),
    },
    Promise {
        question: "difference of 1,000 paths over 7 days, a page of 200",
        target_ms: 100.0,
        ask: |asking| asking.diff(),
    },
    Promise {
        question: "activity in 300 intervals",
        target_ms: 60.0,
        ask: |asking| asking.activity(),
    },
];

/// A journal that is asked.
struct Asking<'a> {
    query: &'a JournalQuery,
    sizes: Sizes,
    now: Timestamp,
    random: SmallRng,
}

impl Asking<'_> {
    /// A moment after the first day, when all znodes are created.
    fn time(&mut self) -> Position {
        let after = BEGIN_MS + DAY_MS + DAY_MS / 2;
        Position::Time(Timestamp(self.random.random_range(after..self.now.0)))
    }

    fn group(&mut self) -> Outcome<ZnodePath> {
        group_path(self.random.random_range(0..self.sizes.groups()))
    }

    fn value(&mut self, path: &ZnodePath) -> Outcome<usize> {
        let at = self.time();
        let value = self.query.as_of(path, at, self.now)?;
        Ok(value.map_or(0, |value| usize::from(value.exists == Some(true))))
    }

    /// The first 200 children, over as many pages as they take.
    fn children(&mut self, path: &ZnodePath) -> Outcome<usize> {
        const WANTED: usize = 200;
        let at = Some(self.time());
        let (mut found, mut cursor) = (0, None::<String>);
        loop {
            let question = ChildrenQuestion {
                path,
                at,
                prefix: "",
                after: None,
                cursor: cursor.as_deref(),
                limit: WANTED - found,
            };
            let page = self.query.children_at(&question, self.now)?;
            found += page.items.len();
            cursor = page.next;
            if cursor.is_none() || found >= WANTED {
                return Ok(found);
            }
        }
    }

    fn versions(&mut self) -> Outcome<usize> {
        let question = HistoryQuestion {
            path: &ZnodePath::parse("/hot")?,
            from: None,
            to: Some(self.time()),
            cursor: None,
            limit: 100,
        };
        let answer = self.query.versions(&question, self.now)?;
        Ok(answer.map_or(0, |answer| answer.items.len()))
    }

    /// The newest changes of a day.
    fn changes(&mut self, under: ZnodePath) -> Outcome<usize> {
        let from = self.random.random_range(BEGIN_MS + DAY_MS..self.now.0 - DAY_MS);
        let selection = Selection {
            paths: vec![PathPattern::Subtree(under.clone())],
            ..Selection::default()
        };
        let question = ChangesQuestion {
            from: Some(Position::Time(Timestamp(from))),
            to: Some(Position::Time(Timestamp(from + DAY_MS))),
            selection: &selection,
            filter: under.as_str(),
            order: ChangesOrder::Newest,
            cursor: None,
            limit: 100,
        };
        Ok(self.query.records_between(&question, self.now)?.items.len())
    }

    fn diff(&mut self) -> Outcome<usize> {
        let under = self.group()?;
        let question = DiffQuestion {
            under: &under,
            a: Position::Time(Timestamp(BEGIN_MS + DAY_MS + DAY_MS / 2)),
            b: None,
            cursor: None,
            limit: 200,
        };
        Ok(self.query.diff(&question, self.now)?.items.len())
    }

    /// All intervals, over as many pages as they take.
    fn activity(&mut self) -> Outcome<usize> {
        let selection = Selection::default();
        let (mut found, mut cursor) = (0, None::<String>);
        loop {
            let question = ActivityQuestion {
                range: RangeQuestion {
                    from: None,
                    to: None,
                    cursor: cursor.as_deref(),
                    limit: SIBLINGS,
                },
                selection: &selection,
                filter: "",
                buckets: 300,
            };
            let page = self.query.activity_between(&question, self.now)?;
            found += page.items.len();
            cursor = page.next;
            if cursor.is_none() {
                return Ok(found);
            }
        }
    }
}

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
    let sizes = Sizes::of(records);
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
    let bytes = test_journal::write(&file, sizes, &mut random)?;
    println!(
        "{records} records, {} MB, written in {:.0} s; seed {SEED}",
        bytes / 1_000_000,
        begun.elapsed().as_secs_f64()
    );
    let broken = answer(&file, sizes, random)?;
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
