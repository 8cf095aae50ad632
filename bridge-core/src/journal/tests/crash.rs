//! kill -9: what was acknowledged is there, image and records agree, and the lock is free.
//!
//! The test runs itself as a child process that appends batches and says on its output how far it has come, kills it
//! at a random moment, and looks at what is left.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::scratch::*;
use crate::amount::{Horizon, Size, Span};
use crate::image_txn::ImageTxn;
use crate::journal::{
    Journal, JournalErrorKind, JournalOptions, JournalWriter, SinkProgress, SinkState, WhenFull,
};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Op, Record, SUPERSEDED_MAX, State, Timestamp};

const FILE: &str = "ZKBRIDGE_TEST_CRASH_FILE";
const SEED: &str = "ZKBRIDGE_TEST_SEED";
const KILLS: u64 = 10;
const PATHS: u64 = 300;

/// Longer than a child ever takes to its first batches on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn acknowledged_batches_survive_a_kill_at_any_moment() {
    survives(Kind::Kept);
}

#[test]
fn acknowledged_batches_survive_a_kill_of_a_journal_that_compacts() {
    survives(Kind::Compacted);
}

/// How the child treats undelivered records.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Kept,
    Compacted,
}

impl Kind {
    /// The test that runs itself.
    fn name(self) -> &'static str {
        match self {
            Kind::Kept => "journal::tests::crash::acknowledged_batches_survive_a_kill_at_any_moment",
            Kind::Compacted => {
                "journal::tests::crash::acknowledged_batches_survive_a_kill_of_a_journal_that_compacts"
            }
        }
    }

    fn options(self) -> JournalOptions {
        JournalOptions {
            retention: Horizon::For(Span::secs(60)),
            max_size: Size(64 << 20),
            when_full: match self {
                Kind::Kept => WhenFull::Hold,
                Kind::Compacted => WhenFull::Compact,
            },
            ..JournalOptions::new("main")
        }
    }
}

fn survives(kind: Kind) {
    if let Ok(file) = std::env::var(FILE) {
        return write_until_killed(Path::new(&file), kind);
    }
    let seed = std::env::var(SEED).map_or(20_261_122, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let scratch = Scratch::new();
    let mut tail = Seq::ZERO;
    for kill in 0..KILLS {
        let acknowledged = run_and_kill(&scratch.file(), kind, &mut random);
        assert!(acknowledged > tail, "kill {kill}: nothing was written");
        tail = check_what_is_left(&scratch, kind, acknowledged);
    }
    let compacted = scratch.reader().overview().unwrap().compacted;
    assert_eq!(
        compacted > 100,
        kind == Kind::Compacted,
        "{compacted} were compacted"
    );
}

/// The child: batches of random sizes, a cursor that follows, retention between.
fn write_until_killed(file: &Path, kind: Kind) {
    let mut journal = Journal::open(file, &kind.options()).unwrap();
    let mut random = StdRng::seed_from_u64(journal.tail().0);
    journal.register_sink("one", Seq::ZERO).unwrap();
    let mut out = std::io::stdout();
    loop {
        for _ in 0..random.random_range(1..60) {
            append_one(&mut journal, random.random_range(0..PATHS));
        }
        let cursor = match kind {
            Kind::Kept => random.random_range(0..=journal.tail().0),
            Kind::Compacted => random.random_range(0..=journal.tail().0 / 4),
        };
        let cursor = Seq(cursor);
        let progress = SinkProgress {
            sink: "one".into(),
            to: cursor,
            ..SinkProgress::default()
        };
        journal.advance(&progress).unwrap();
        let tail = journal.commit().unwrap();
        writeln!(out, "acknowledged {tail}").unwrap();
        out.flush().unwrap();
        journal.maintain(Timestamp(NOON.0 + 60_001), 20).unwrap();
        journal.folding.press();
        journal.fold(200).unwrap();
    }
}

/// The zxid of each record is its seq, so that the next one needs nothing but the image.
fn append_one(journal: &mut Journal, znode: u64) {
    let at = format!("/top-{}/leaf-{znode}", znode % 7);
    let zxid = journal.log.head.0 + 1;
    let text = format!("{zxid}").repeat(50);
    let entry = match journal.node(&path(&at)).unwrap() {
        None => created(&at, zxid, &text),
        Some(_) if zxid.is_multiple_of(5) => deleted(&at, zxid),
        Some(node) => updated(&at, node.czxid.0, zxid, node.version() + 1, &text),
    };
    journal.append(entry).unwrap();
}

fn run_and_kill(file: &Path, kind: Kind, random: &mut StdRng) -> Seq {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", kind.name()])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (said, hears) = std::sync::mpsc::sync_channel(100_000);
    let out = BufReader::new(child.stdout.take().unwrap());
    let listener = std::thread::spawn(move || {
        let lines = out.lines().map_while(Result::ok);
        for seq in lines.filter_map(|line| {
            line.strip_prefix("acknowledged ")
                .and_then(|seq| seq.parse().ok())
        }) {
            said.send(Seq(seq)).unwrap();
        }
    });
    let mut last = hears.recv_timeout(PATIENCE).unwrap();
    check_in_use(file, kind, child.id());
    for _ in 0..random.random_range(0..12) {
        last = hears.recv_timeout(PATIENCE).unwrap();
    }
    // A moment inside the next batch.
    let moment = Duration::from_micros(random.random_range(0..4000));
    last = hears.recv_timeout(moment).unwrap_or(last);
    child.kill().unwrap();
    child.wait().unwrap();
    last = hears.iter().last().unwrap_or(last);
    listener.join().unwrap();
    last
}

fn check_in_use(file: &Path, kind: Kind, owner: u32) {
    let error = Journal::open(file, &kind.options()).err().unwrap();
    assert_eq!(error.kind, JournalErrorKind::InUse, "{error}");
    assert!(
        error.to_string().contains(&format!("process {owner} ")),
        "{error}"
    );
}

fn check_what_is_left(scratch: &Scratch, kind: Kind, acknowledged: Seq) -> Seq {
    let mut journal = Journal::open(&scratch.file(), &kind.options()).unwrap();
    let tail = journal.tail();
    assert!(
        tail >= acknowledged,
        "{acknowledged} was acknowledged, and the journal ends at {tail}"
    );
    let cursor = journal.cursor("one").unwrap().unwrap();
    assert!(cursor <= tail);
    let records = scratch.records();
    let oldest = records.first().map_or(tail.0 + 1, |record| record.seq.0);
    assert_eq!(records.len() as u64, journal.stats().unwrap().records);
    match kind {
        Kind::Kept => {
            assert!(oldest <= cursor.0 + 1, "{oldest} is kept, {cursor} delivered");
            assert_eq!(records.len() as u64, tail.0 + 1 - oldest);
        }
        // It knows which holes are none.
        Kind::Compacted => assert_eq!(scratch.reader().inspect(|_| {}).unwrap().findings, []),
    }
    for record in &records {
        check_value(record);
        check_count(record);
    }
    check_image(&mut journal, records.iter().map(|record| &**record));
    let verdict: String = journal
        .connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    tail
}

/// Each value says its zxid.
fn check_value(record: &Record) {
    for state in [&record.before, &record.after].into_iter().flatten() {
        let (data, stat) = (state.data.as_ref().unwrap(), state.stat.unwrap());
        assert_eq!(&*data.bytes, stat.mzxid.0.to_string().repeat(50).as_bytes());
    }
}

/// Each version between the states before and after is counted.
fn check_count(record: &Record) {
    let version = |state: &Option<State>| {
        state
            .as_ref()
            .and_then(|state| state.stat)
            .map(|stat| stat.version)
    };
    if let (Op::Update, Some(before), Some(after)) =
        (record.op, version(&record.before), version(&record.after))
    {
        let between = u64::try_from(after - before - 1).unwrap();
        assert_eq!(record.missed, Some(between), "{}", record.seq);
        assert_eq!(record.superseded.len() as u64, between.min(SUPERSEDED_MAX as u64));
    }
}

/// The last kept record of each path says what the image has. A path without one was not touched since, and lives.
fn check_image<'a>(journal: &mut Journal, records: impl Iterator<Item = &'a Record>) {
    let living: BTreeMap<ZnodePath, _> = journal
        .deepest_below(&ZnodePath::slash(), usize::MAX)
        .unwrap()
        .into_iter()
        .collect();
    let mut last = BTreeMap::new();
    for record in records {
        last.insert(record.path.clone().unwrap(), record);
    }
    for (path, record) in last {
        let expected = record.after.as_ref().and_then(|after| after.stat);
        assert_eq!(record.op == Op::Delete, !living.contains_key(&path), "{path}");
        assert_eq!(living.get(&path).and_then(|node| node.stat), expected, "{path}");
    }
}
