//! The engine at a real journal: what its reader gives is delivered, what its writer stores is where the next life goes
//! on.

use std::path::Path;

use super::*;
use crate::append::{Append, Change, ChangeKind, Read, RecordKind};
use crate::image_txn::ImageTxn;
use crate::journal::{Journal, JournalOptions, JournalWriter, Reader, SinkProgress, SinkState};
use crate::number::Zxid;
use crate::path::ZnodePath;
use crate::record::{Data, DataForm, Fidelity, Stat};
use crate::testing::{Arrived, Fault, assert_kept_contract};

/// Time is real here.
const BOUND: Duration = Duration::from_secs(60);

/// A create or a write of one of five znodes for each step.
fn entry(step: u64) -> Append {
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
    let kind = match version {
        0 => ChangeKind::Created { read },
        _ => ChangeKind::Updated { read },
    };
    Append {
        root: Some(ZnodePath::slash()),
        captured: Timestamp(0),
        kind: RecordKind::Change(Change {
            path: ZnodePath::slash().child(&format!("node-{node}")),
            kind,
            fidelity: Fidelity::Exact,
            missed: Some(0),
            superseded: Vec::new(),
            txn: None,
            facts: None,
        }),
    }
}

/// One life of the program: the writer, and one sink with its reader.
struct ProcessRun {
    journal: Journal,
    durable: watch::Sender<Seq>,
    progress: mpsc::Receiver<SinkProgress>,
    orders: mpsc::Sender<OperatorRequest>,
    status: watch::Receiver<SinkStatus>,
    worker: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl ProcessRun {
    fn begin(file: &Path, destination: &MemoryDestination, script: &FaultScript) -> ProcessRun {
        let mut journal = Journal::open(file, &JournalOptions::new("main")).unwrap();
        let oldest = journal.oldest().unwrap();
        let start = Start::Earliest.first_cursor(oldest, journal.tail()).cursor;
        let cursor = journal.register_sink("one", start).unwrap();
        journal.commit().unwrap();
        let (sender, progress) = mpsc::channel(4);
        let (orders, words) = mpsc::channel(1);
        let mut reader = journal.reader_for("one").unwrap();
        let backlog = SinkBacklog::load(&mut reader, "one", Timestamp(0)).unwrap();
        let durable = watch::Sender::new(journal.tail());
        let stop = CancellationToken::new();
        let (worker, status) = Worker::new(Setup {
            sink: "one".into(),
            source: "main".into(),
            destination: Box::new(script.in_front_of(Box::new(destination.sink()))),
            tail: Box::new(reader),
            durable: durable.subscribe(),
            progress: sender,
            refusals: Refusals::default(),
            cursor,
            backlog,
            orders: words,
            merge: None,
            filter: CompiledFilter::new(&Filter::default()).unwrap(),
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
        ProcessRun {
            journal,
            durable,
            progress,
            orders,
            status,
            worker: tokio::spawn(worker.run()),
            stop,
        }
    }

    /// Appends entries and stores progress, as the journal's writer does, until the sink has reached `cursor`.
    async fn write_until(&mut self, entries: std::ops::Range<u64>, cursor: u64) {
        for step in entries {
            self.journal.append(entry(step)).unwrap();
            if step % 7 == 0 {
                self.durable.send_replace(self.journal.commit().unwrap());
            }
        }
        self.durable.send_replace(self.journal.commit().unwrap());
        while self.journal.cursor("one").unwrap() < Some(Seq(cursor)) {
            self.store_note().await;
        }
    }

    async fn store_note(&mut self) {
        let progress = tokio::time::timeout(BOUND, self.progress.recv()).await;
        let progress = progress.expect("the sink moves").expect("the worker lives");
        self.journal.store_progress(&progress).unwrap();
        self.journal.commit().unwrap();
    }

    /// Stores progress until the status is so.
    async fn store_until(&mut self, is_so: impl Fn(&SinkStatus) -> bool) {
        while !is_so(&self.status.borrow()) {
            tokio::select! {
                progress = self.progress.recv() => {
                    self.journal.store_progress(&progress.expect("the worker lives")).unwrap();
                    self.journal.commit().unwrap();
                }
                changed = tokio::time::timeout(BOUND, self.status.changed()) => {
                    changed.expect("something moves").expect("the worker lives");
                }
            }
        }
        while let Ok(progress) = self.progress.try_recv() {
            self.journal.store_progress(&progress).unwrap();
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

    let mut process = ProcessRun::begin(&file, &destination, &script);
    process.write_until(0..150, 60).await;
    process.crash().await;
    let mut process = ProcessRun::begin(&file, &destination, &script);
    process.write_until(150..200, 200).await;
    let status = process.end().await;

    assert_eq!((status.cursor, status.lag_records), (Seq(200), 0));
    let mut reader = Reader::open(&file).unwrap();
    let letters = reader.rejected("one", Seq::ZERO, 10).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].letter.seq, letters[0].record.seq), (Seq(33), Seq(33)));
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
    let script = FaultScript::new().rejects([7, 8, 40, 41]);
    let mut process = ProcessRun::begin(&file, &destination, &script);
    process.write_until(0..50, 50).await;
    process.end().await;

    let still = FaultScript::new().rejects([8]);
    let mut process = ProcessRun::begin(&file, &destination, &still);
    let seqs = |seqs: &[u64]| seqs.iter().map(|seq| Seq(*seq)).collect::<Vec<_>>();
    process
        .orders
        .send(OperatorRequest::Drop(seqs(&[41])))
        .await
        .unwrap();
    process
        .orders
        .send(OperatorRequest::Retry(seqs(&[7, 8, 40])))
        .await
        .unwrap();
    process
        .store_until(|status| status.rejected == 1 && status.delivered == 2)
        .await;
    process.end().await;

    assert!(destination.seqs().ends_with(&[7, 40]), "{:?}", destination.seqs());
    let mut reader = Reader::open(&file).unwrap();
    let left = reader.letters("one", Seq::ZERO, 9).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].seq, left[0].attempts), (Seq(8), 2));
    assert_eq!(reader.parked("one", Seq::ZERO, 9).unwrap(), []);
}

#[tokio::test]
async fn records_are_delivered_once_more_in_order_as_far_as_they_were_dealt_with() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.journal");
    let destination = MemoryDestination::default();
    let script = FaultScript::new().rejects([7]);
    let mut process = ProcessRun::begin(&file, &destination, &script);
    process.write_until(0..50, 50).await;
    let mut reader = Reader::open(&file).unwrap();
    let all = ReadLimit {
        records: 99,
        bytes: usize::MAX,
    };
    let records = reader.read(Seq(4), all).unwrap();
    let named = records.iter().map(|record| (record.seq, record.path.clone()));
    let ahead = [(Seq(99), None)];
    let order = OperatorRequest::Replay(ReplayOrder {
        records: named.take(10).chain(ahead).collect(),
        current_to: None,
    });
    process.orders.send(order).await.unwrap();
    process
        .store_until(|status| status.replay.named == 11 && status.parked.replaying == 0)
        .await;
    let status = process.end().await;

    // 7 is a dead letter, and stays one; 99 was never dealt with.
    let again: Vec<u64> = (5..15).filter(|seq| *seq != 7).collect();
    let mut arrived = destination.seqs()[49..].to_vec();
    arrived.sort_unstable();
    assert_eq!(arrived, again);
    assert_eq!((status.cursor, status.delivered), (Seq(50), 49 + 9));
    assert_eq!(reader.parked("one", Seq::ZERO, 9).unwrap(), []);
    assert_eq!(reader.letters("one", Seq::ZERO, 9).unwrap().len(), 1);
}

#[tokio::test]
async fn records_that_a_destination_refuses_for_now_wait_in_the_journal_over_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("main.journal");
    let destination = MemoryDestination::default();
    let script = FaultScript::new().defers([3], u32::MAX);
    let mut process = ProcessRun::begin(&file, &destination, &script);
    process.write_until(0..50, 50).await;
    let rows = Reader::open(&file).unwrap().parked("one", Seq::ZERO, 99).unwrap();
    process.crash().await;

    let parked: Vec<u64> = rows.iter().map(|row| row.seq.0).collect();
    assert_eq!(
        parked,
        (0..10).map(|nth| 3 + 5 * nth).collect::<Vec<_>>(),
        "one of five paths"
    );
    assert_eq!(destination.seqs().len(), 40);
    let recovered = FaultScript::new();
    let mut process = ProcessRun::begin(&file, &destination, &recovered);
    process.store_until(|status| status.delivered == 10).await;
    process.end().await;

    assert_eq!(destination.seqs()[40..], parked);
    let left = Reader::open(&file).unwrap().parked("one", Seq::ZERO, 99).unwrap();
    assert_eq!(left, []);
}
