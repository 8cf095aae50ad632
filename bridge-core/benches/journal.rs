//! How fast the journal is with a million znodes: loading, random updates, following, listing, and the memory for it.
//!
//! `cargo bench -p bridge-core --bench journal`. The number of znodes and of updates can be set with
//! `ZKBRIDGE_BENCH_PATHS` and `ZKBRIDGE_BENCH_UPDATES`. The journal is written below `target`, as a file system in
//! memory would make the disk's part vanish.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bridge_core::append::{Append, Change, ChangeKind, Read, RecordKind};
use bridge_core::image_txn::ImageTxn;
use bridge_core::journal::{Durability, Journal, JournalOptions, JournalWriter, ReadLimit, Reader};
use bridge_core::number::{Seq, Zxid};
use bridge_core::path::ZnodePath;
use bridge_core::record::{Data, DataForm, Fidelity, Stat, Timestamp};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// As the capture commits under load.
const BATCH: usize = 500;

/// Children of each parent.
const SIBLINGS: usize = 1000;

/// As most znodes that people watch.
const DATA_BYTES: usize = 60;

/// The size of a record in a bare file: data, path, Stat, numbers.
const BARE_RECORD_BYTES: usize = 200;

const SEED: u64 = 7;

fn main() -> Outcome<()> {
    // Cargo says this to what it measures; `cargo test --all-targets` runs the bench, too, and only asks that it works.
    let is_measured = std::env::args().any(|arg| arg == "--bench");
    let (znodes, updates) = if is_measured {
        (1_000_000, 500_000)
    } else {
        (2_000, 2_000)
    };
    let znodes = setting("ZKBRIDGE_BENCH_PATHS", znodes)?;
    let updates = setting("ZKBRIDGE_BENCH_UPDATES", updates)?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("journal-bench");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let file = folder.join("main.journal");
    println!(
        "{znodes} znodes, {updates} updates, batches of {BATCH}, {DATA_BYTES} bytes of data, seed {SEED}"
    );
    let mut world = World::new(znodes);
    let mut journal = Journal::open(&file, &JournalOptions::new("main"))?;
    load(&mut journal, &mut world)?;
    let of_znodes = report_bytes(&mut journal, 0, "znode with its record", znodes)?;
    let updating = update(&mut journal, &mut world, "random updates", updates)?;
    report_bytes(&mut journal, of_znodes, "update", updates)?;
    let bare = bare_appends(&folder.join("bare"), updates)?;
    println!(
        "  of bare appends           {:>9.0} records/s, ratio {:.2}",
        bare,
        updating / bare
    );
    drop(journal);
    let mut journal = open_without_sync(&file)?;
    update(&mut journal, &mut world, "  with process_crash", updates)?;
    list(&mut journal, &world)?;
    follow(&file)?;
    retain(&mut journal)?;
    let stats = journal.stats()?;
    println!(
        "file {} MB, in use {} MB, log {} MB, {} records",
        stats.file_bytes / 1_000_000,
        stats.used_bytes / 1_000_000,
        stats.log_bytes / 1_000_000,
        stats.records
    );
    println!(
        "peak memory of the whole run {} MB, of which the bench's own znodes {} MB",
        peak_mb()?,
        world.bytes() / 1_000_000
    );
    drop(journal);
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn setting(name: &str, default: usize) -> Outcome<usize> {
    match std::env::var(name) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(default),
    }
}

/// The znodes: paths are made when needed, so that their memory is not taken for the journal's.
struct World {
    versions: Vec<u32>,
    zxid: u64,
    random: SmallRng,
}

impl World {
    fn new(znodes: usize) -> World {
        World {
            versions: vec![0; znodes],
            zxid: 0x3_0000_0000,
            random: SmallRng::seed_from_u64(SEED),
        }
    }

    fn bytes(&self) -> usize {
        self.versions.len() * size_of::<u32>()
    }

    fn path(znode: usize) -> Outcome<ZnodePath> {
        let text = format!("/services/service-{:05}/instance-{:08}", znode / SIBLINGS, znode);
        Ok(ZnodePath::parse(&text)?)
    }

    fn czxid(znode: usize) -> u64 {
        0x2_0000_0000 + znode as u64
    }

    fn entry(&mut self, znode: usize, created: bool) -> Outcome<Append> {
        self.zxid += 1;
        let version = self.versions[znode];
        let czxid = Zxid(World::czxid(znode));
        let stat = Stat {
            czxid,
            mzxid: if created { czxid } else { Zxid(self.zxid) },
            pzxid: czxid,
            ctime: 1_795_355_000_120,
            mtime: 1_795_355_000_120 + i64::from(version),
            version: version.cast_signed(),
            data_length: DATA_BYTES as i32,
            ..Stat::default()
        };
        let mut bytes = [b'x'; DATA_BYTES];
        bytes[..4].copy_from_slice(&version.to_be_bytes());
        let read = Read {
            stat,
            data: Some(Data::limited(&bytes, DataForm::Auto, 1 << 20)),
        };
        let kind = if created {
            ChangeKind::Created { read }
        } else {
            ChangeKind::Updated { read }
        };
        Ok(Append {
            root: Some(ZnodePath::slash()),
            captured: Timestamp(1_795_355_000_125),
            kind: RecordKind::Change(Change {
                path: World::path(znode)?,
                kind,
                fidelity: Fidelity::Exact,
                missed: Some(0),
                superseded: Vec::new(),
                txn: None,
                facts: None,
            }),
        })
    }

    fn next_update(&mut self) -> Outcome<Append> {
        let znode = self.random.random_range(0..self.versions.len());
        self.versions[znode] += 1;
        self.entry(znode, false)
    }
}

fn load(journal: &mut Journal, world: &mut World) -> Outcome<()> {
    let mut clock = Clock::start();
    for first in (0..world.versions.len()).step_by(BATCH) {
        let begun = Instant::now();
        for znode in first..(first + BATCH).min(world.versions.len()) {
            let entry = world.entry(znode, true)?;
            journal.append(entry)?;
        }
        journal.commit()?;
        clock.batch(begun);
    }
    clock.report("creates in order", world.versions.len());
    Ok(())
}

/// The journal with `durability = "process_crash"`.
fn open_without_sync(file: &Path) -> Outcome<Journal> {
    let mut options = JournalOptions::new("main");
    options.durability = Durability::ProcessCrash;
    Ok(Journal::open(file, &options)?)
}

/// Prints the increase of the used bytes for each of `count`.
fn report_bytes(journal: &mut Journal, before: u64, what: &str, count: usize) -> Outcome<u64> {
    let used = journal.stats()?.used_bytes;
    println!(
        "  bytes of the file for each {what}: {}",
        (used - before) / count as u64
    );
    Ok(used)
}

/// As the capture works: looks at the image, then appends.
fn update(journal: &mut Journal, world: &mut World, what: &str, updates: usize) -> Outcome<f64> {
    let mut clock = Clock::start();
    for _ in 0..updates / BATCH {
        let entries = (0..BATCH)
            .map(|_| world.next_update())
            .collect::<Outcome<Vec<_>>>()?;
        let begun = Instant::now();
        for entry in entries {
            if let RecordKind::Change(change) = &entry.kind {
                let node = journal.node(&change.path)?;
                assert!(node.is_some(), "{} was created", change.path);
            }
            journal.append(entry)?;
        }
        journal.commit()?;
        clock.batch(begun);
    }
    Ok(clock.report(what, updates))
}

/// The same amount of bytes, with the same promise, and nothing else.
fn bare_appends(file: &Path, updates: usize) -> Outcome<f64> {
    let batch = vec![b'x'; BATCH * BARE_RECORD_BYTES];
    let mut out = File::create(file)?;
    let mut clock = Clock::start();
    for _ in 0..updates / BATCH {
        let begun = Instant::now();
        out.write_all(&batch)?;
        out.sync_data()?;
        clock.batch(begun);
    }
    Ok(clock.report("bare appends", updates))
}

fn list(journal: &mut Journal, world: &World) -> Outcome<()> {
    let clock = Clock::start();
    let mut listed = 0;
    for service in 0..world.versions.len() / SIBLINGS {
        let path = ZnodePath::parse(&format!("/services/service-{service:05}"))?;
        listed += journal.children(&path, None, SIBLINGS)?.len();
    }
    clock.report("children listed", listed);
    Ok(())
}

fn follow(file: &Path) -> Outcome<()> {
    let mut reader = Reader::open(file)?;
    let clock = Clock::start();
    let limit = ReadLimit {
        records: 1000,
        bytes: 4 << 20,
    };
    let (mut after, mut count) = (Seq::ZERO, 0);
    loop {
        let records = reader.read(after, limit)?;
        let Some(last) = records.last() else { break };
        after = last.seq;
        count += records.len();
    }
    clock.report("records read", count);
    Ok(())
}

fn retain(journal: &mut Journal) -> Outcome<()> {
    let mut clock = Clock::start();
    let mut removed = 0;
    loop {
        let begun = Instant::now();
        let slice = journal.maintain(Timestamp(i64::MAX / 2), 1000)?;
        clock.batch(begun);
        removed += slice.removed;
        if !slice.more {
            break;
        }
    }
    clock.report("records removed", removed);
    Ok(())
}

/// Time on the wall, time on the processor, and the time of each batch.
struct Clock {
    begun: Instant,
    cpu: Duration,
    batches: Vec<Duration>,
}

impl Clock {
    fn start() -> Clock {
        Clock {
            begun: Instant::now(),
            cpu: cpu_time(),
            batches: Vec::new(),
        }
    }

    fn batch(&mut self, begun: Instant) {
        self.batches.push(begun.elapsed());
    }

    /// Prints and returns the rate; batches, where there are any, count without what is between them.
    fn report(mut self, what: &str, count: usize) -> f64 {
        let cpu = cpu_time() - self.cpu;
        let in_batches: Duration = self.batches.iter().sum();
        let wall = if self.batches.is_empty() {
            self.begun.elapsed()
        } else {
            in_batches
        };
        let rate = count as f64 / wall.as_secs_f64();
        let cpu_us = cpu.as_secs_f64() * 1e6 / count as f64;
        print!("{what:<28}{rate:>9.0} /s, {cpu_us:>5.1} us of processor each");
        self.batches.sort_unstable();
        let at = |share: f64| {
            let index = (self.batches.len() as f64 * share) as usize;
            self.batches[index.min(self.batches.len() - 1)].as_secs_f64() * 1e3
        };
        if !self.batches.is_empty() {
            print!(
                "; batch p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
        println!("; peak memory so far {} MB", peak_mb().unwrap_or_default());
        rate
    }
}

fn cpu_time() -> Duration {
    // utime and stime in hundredths of a second: fields 14 and 15, counted after the name in parentheses.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn peak_mb() -> Outcome<u64> {
    let status = fs::read_to_string(PathBuf::from("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or("0");
    Ok(kib.parse::<u64>()? / 1000)
}
