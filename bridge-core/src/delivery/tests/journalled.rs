//! The engine at a real journal: what its reader gives is delivered, what its writer stores is where the next life goes
//! on.

use std::path::Path;

use super::*;
use crate::book::Book;
use crate::entry::{Change, Entry, Read, What, Word};
use crate::journal::{Journal, JournalOptions, Note, Reader};
use crate::number::Zxid;
use crate::record::{Data, DataForm, Fidelity, Stat};
use crate::testing::{Arrived, Fault, assert_kept_contract};

/// Time is real here.
const BOUND: Duration = Duration::from_secs(60);

/// A create or a write of one of five znodes for each step.
fn entry(step: u64) -> Entry {
    let node = step % 5;
    let version = i32::try_from(step / 5).unwrap();
    let stat = Stat {
        czxid: Zxid(100 + node),
        mzxid: Zxid(100 + step),
        version,
        ..Stat::default()
    };
    let read = Read {
        stat,
        data: Some(Data::limited(
            format!("value {step}").as_bytes(),
            DataForm::Auto,
            99,
        )),
    };
    let what = match version {
        0 => What::Created { read },
        _ => What::Updated { read },
    };
    Entry {
        root: Some(ZnodePath::slash()),
        captured: Timestamp(0),
        word: Word::Change(Change {
            path: ZnodePath::slash().child(&format!("node-{node}")),
            what,
            fidelity: Fidelity::Exact,
            missed: Some(0),
            superseded: Vec::new(),
        }),
    }
}

/// One life of the program: the writer, and one sink with its reader.
struct Life {
    journal: Journal,
    durable: watch::Sender<Seq>,
    notes: mpsc::Receiver<Note>,
    status: watch::Receiver<SinkStatus>,
    worker: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Life {
    fn begin(file: &Path, destination: &MemoryDestination, script: &FaultScript) -> Life {
        let mut journal = Journal::open(file, &JournalOptions::new("main")).unwrap();
        let oldest = journal.oldest().unwrap();
        let start = Start::Snapshot.first_cursor(oldest, journal.tail()).unwrap();
        let cursor = journal.register_sink("one", start).unwrap();
        journal.commit().unwrap();
        let (sender, notes) = mpsc::channel(4);
        let durable = watch::Sender::new(journal.tail());
        let stop = CancellationToken::new();
        let (worker, status) = Worker::new(Setup {
            sink: "one".into(),
            source: "main".into(),
            destination: Box::new(script.in_front_of(Box::new(destination.sink()))),
            tail: Box::new(Reader::open(file).unwrap()),
            durable: durable.subscribe(),
            notes: sender,
            cursor,
            blocked: Blocked::default(),
            filter: Sieve::new(&Filter::default()).unwrap(),
            retry: Given::default().retry,
            rejects: RejectPolicy::default(),
            limit: ReadLimit {
                records: 20,
                bytes: 1 << 20,
            },
            clock: Arc::new(|| Timestamp(0)),
            seed: 1,
            stop: stop.clone(),
            drain: Duration::from_secs(1),
        });
        Life {
            journal,
            durable,
            notes,
            status,
            worker: tokio::spawn(worker.run()),
            stop,
        }
    }

    /// Appends entries and stores notes, as the journal's writer does, until the sink has reached `cursor`.
    async fn write_until(&mut self, entries: std::ops::Range<u64>, cursor: u64) {
        for step in entries {
            self.journal.append(entry(step)).unwrap();
            if step % 7 == 0 {
                self.durable.send_replace(self.journal.commit().unwrap());
            }
        }
        self.durable.send_replace(self.journal.commit().unwrap());
        while self.journal.cursor("one").unwrap() < Some(Seq(cursor)) {
            let note = tokio::time::timeout(BOUND, self.notes.recv()).await;
            let note = note.expect("the sink moves").expect("the worker lives");
            self.journal.note(&note).unwrap();
            self.journal.commit().unwrap();
        }
    }

    async fn crash(self) {
        self.worker.abort();
        assert!(self.worker.await.unwrap_err().is_cancelled());
    }

    async fn end(self) -> SinkStatus {
        self.stop.cancel();
        self.worker.await.unwrap();
        self.status.borrow().clone()
    }
}

#[tokio::test]
async fn a_sink_goes_on_in_a_real_journal_where_the_crash_left_its_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.journal");
    let destination = MemoryDestination::default();
    let script = FaultScript::new()
        .deliveries([Fault::None, Fault::DropMidway, Fault::FailAfterWrite])
        .rejects([33]);

    let mut life = Life::begin(&file, &destination, &script);
    life.write_until(0..150, 60).await;
    life.crash().await;
    let mut life = Life::begin(&file, &destination, &script);
    life.write_until(150..200, 200).await;
    let status = life.end().await;

    assert_eq!((status.cursor, status.lag_records), (Seq(200), 0));
    let mut reader = Reader::open(&file).unwrap();
    let letters = reader.rejected("one", Seq::ZERO, 10).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].seq, letters[0].record.seq), (Seq(33), Seq(33)));
    let mut expected = reader
        .read(
            Seq::ZERO,
            ReadLimit {
                records: 1_000,
                bytes: usize::MAX,
            },
        )
        .unwrap();
    expected.retain(|record| record.seq != Seq(33));
    let arrived: Vec<Arrived> = destination
        .arrived()
        .iter()
        .map(|record| Arrived::from_json(&record.to_json()))
        .collect();
    assert_eq!(expected.len(), 199);
    assert_kept_contract(&expected, &arrived);
}

#[tokio::test]
async fn dead_letters_are_delivered_again_and_those_that_are_accepted_go() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.journal");
    let destination = MemoryDestination::default();
    let script = FaultScript::new().rejects([7, 8, 40]);
    let mut life = Life::begin(&file, &destination, &script);
    life.write_until(0..50, 50).await;
    life.end().await;

    let still = FaultScript::new().rejects([8]);
    let left = retry_letters(&file, &destination, &still).await;

    assert_eq!(left, [Seq(8)]);
    assert!(destination.seqs().ends_with(&[7, 40]), "{:?}", destination.seqs());
    let mut reader = Reader::open(&file).unwrap();
    let blocked = Blocked::load(&mut reader, "one").unwrap();
    let letter = reader.rejected("one", Seq(7), 1).unwrap().remove(0);
    let path = letter.record.path.clone().unwrap();
    assert!(blocked.why(&path, Seq(99)).is_some());
    assert!(blocked.why(&ZnodePath::slash(), Seq(99)).is_none());
}

/// As a command for dead letters does it; returns those that are left.
async fn retry_letters(file: &Path, destination: &MemoryDestination, script: &FaultScript) -> Vec<Seq> {
    let mut journal = Journal::open(file, &JournalOptions::new("main")).unwrap();
    let mut letters = DeadLetters::new(Reader::open(file).unwrap(), "one".into());
    let mut waiting = letters.seqs().unwrap();
    let last = *waiting.last().unwrap();
    let (notes, mut stored) = mpsc::channel(4);
    let stop = CancellationToken::new();
    let (worker, mut status) = Worker::new(Setup {
        sink: "one".into(),
        source: "main".into(),
        destination: Box::new(script.in_front_of(Box::new(destination.sink()))),
        tail: Box::new(letters),
        durable: watch::Sender::new(last).subscribe(),
        notes,
        cursor: Seq::ZERO,
        blocked: Blocked::default(),
        filter: Sieve::new(&Filter::default()).unwrap(),
        retry: Given::default().retry,
        rejects: RejectPolicy::default(),
        limit: READ_LIMIT,
        clock: Arc::new(|| Timestamp(0)),
        seed: 1,
        stop: stop.clone(),
        drain: Duration::ZERO,
    });
    let drop_accepted = async {
        while let Some(note) = stored.recv().await {
            let accepted = DeadLetters::accepted(&waiting, &note);
            journal.drop_rejected("one", &accepted).unwrap();
            journal.commit().unwrap();
            waiting.retain(|seq| *seq > note.cursor);
        }
    };
    let until_done = async {
        until(&mut status, "at the last letter", |status| status.cursor == last).await;
        stop.cancel();
    };
    tokio::join!(worker.run(), drop_accepted, until_done);
    let letters = Reader::open(file).unwrap().rejected("one", Seq::ZERO, 9).unwrap();
    letters.iter().map(|letter| letter.seq).collect()
}
