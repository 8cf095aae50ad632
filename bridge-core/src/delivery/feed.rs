//! Reads ahead for one sink: at most one batch is ready while another is delivered.
//!
//! Records that the journal has in memory are taken at once ([`Tail::cached`]); other reads block, so they run on
//! threads for blocking work. No record after the durable tail is returned, and none is skipped: a missing record
//! before the tail is an error.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::filter::CompiledFilter;
use super::merge::MergeWindow;
use super::replay::NEWER_MAX;
use super::steps::{FetchedBatch, Parts};
use super::worker::WallClock;
use crate::journal::{JournalError, JournalErrorKind, ReadLimit, Reader, RunPage, SinkRun};
use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::{Record, Timestamp};

/// The default limit of one read and one delivery: 1,000 records are 200,000 a second at 5 ms for each delivery; 4 MB
/// bound the memory, as each worker holds two batches.
pub const READ_LIMIT: ReadLimit = ReadLimit {
    records: 1_000,
    bytes: 4 << 20,
};

/// The part of the journal that delivery reads. Each worker has a reader of its own.
pub trait Tail: Send + 'static {
    /// The records after `after`, ascending by `seq`, as many as there are within the limit. Blocks.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn read(&mut self, after: Seq, limit: ReadLimit) -> Result<Vec<Arc<Record>>, JournalError>;

    /// The same records if the journal has them in memory; `None` if they have to be read. Does not block.
    fn cached(&mut self, after: Seq, limit: ReadLimit) -> Option<Vec<Arc<Record>>> {
        let _ = (after, limit);
        None
    }

    /// Says, once, how long the worker lets a record wait for further ones: a writer that knows it may let the record wait
    /// instead.
    fn lingers(&mut self, span: Duration) {
        let _ = span;
    }

    /// When a durable record was captured, if the journal has it in memory. Does not block.
    fn captured(&self, seq: Seq) -> Option<Timestamp> {
        let _ = seq;
        None
    }

    /// These parked records, ascending by `seq`; those that the journal no longer has are left out. Blocks.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn recall(&mut self, seqs: &[Seq]) -> Result<Vec<Arc<Record>>, JournalError>;

    /// The next records of a run that has a position. Blocks.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read, or its content is not valid.
    fn snapshot_page(&mut self, run: &SinkRun, limit: ReadLimit) -> Result<RunPage, JournalError>;
}

impl Tail for Reader {
    fn read(&mut self, after: Seq, limit: ReadLimit) -> Result<Vec<Arc<Record>>, JournalError> {
        Reader::read(self, after, limit)
    }

    fn cached(&mut self, after: Seq, limit: ReadLimit) -> Option<Vec<Arc<Record>>> {
        Reader::cached(self, after, limit)
    }

    fn lingers(&mut self, span: Duration) {
        Reader::lingers(self, span);
    }

    fn captured(&self, seq: Seq) -> Option<Timestamp> {
        Reader::captured(self, seq)
    }

    fn recall(&mut self, seqs: &[Seq]) -> Result<Vec<Arc<Record>>, JournalError> {
        Reader::recall(self, seqs)
    }

    fn snapshot_page(&mut self, run: &SinkRun, limit: ReadLimit) -> Result<RunPage, JournalError> {
        Reader::snapshot_page(self, run, limit)
    }
}

/// Waits up to this length are slept through. Records of that time that fill a batch come at 200,000 a second, which no
/// destination takes; and to wake up for each commit costs as much processor time as the rest of a batch does.
const SHORT_LINGER: Duration = Duration::from_millis(5);

/// The batches for one sink, in order.
pub(super) struct Feed {
    read_state: ReadState,
    filter: Arc<CompiledFilter>,
    limit: ReadLimit,
    /// Everything up to it was read.
    position: Seq,
    durable: watch::Receiver<Seq>,
    ready: VecDeque<Result<ReadBatch, JournalError>>,
    merging: Option<Merging>,
    lingering: Lingering,
    recalled: Option<Result<Vec<Arc<Record>>, JournalError>>,
    newer: Option<Result<Newer, JournalError>>,
    /// Records read that did not pass the filter.
    filtered: u64,
    restated: Option<Result<RunPage, JournalError>>,
}

/// How long records wait for a full batch, and the end of the present wait.
#[derive(Default)]
struct Lingering {
    span: Duration,
    /// For the age of the first record: the writer may have let it wait.
    clock: Option<WallClock>,
    until: Option<Instant>,
}

/// The window that is being filled, and the wall clock.
pub(super) struct Merging {
    window: MergeWindow,
    clock: WallClock,
    /// The first record of the window, and the end of the window.
    due: Option<(Seq, Instant)>,
}

/// A batch, and the capture time of the first record that was read for it, before filtering.
#[derive(Debug)]
pub(super) struct ReadBatch {
    pub batch: FetchedBatch,
    pub first_captured: Option<Timestamp>,
    /// Records that did not pass the filter.
    pub filtered: u64,
}

enum ReadState {
    Resting(Box<dyn Tail>),
    Reading(JoinHandle<Answer>),
    /// During a change of state, and after a panic of the reader.
    Gone,
}

type Answer = (Box<dyn Tail>, Given);

/// The paths that have a newer record; `None` if there are too many records to look at.
type Newer = Option<HashSet<ZnodePath>>;

/// The result of a read.
enum Given {
    Next(Result<ReadBatch, JournalError>),
    Recalled(Result<Vec<Arc<Record>>, JournalError>),
    Newer(Result<Newer, JournalError>),
    Restated(Result<RunPage, JournalError>),
}

impl Feed {
    pub fn new(
        tail: Box<dyn Tail>,
        filter: CompiledFilter,
        limit: ReadLimit,
        cursor: Seq,
        durable: watch::Receiver<Seq>,
        merging: Option<Merging>,
    ) -> Feed {
        Feed {
            read_state: ReadState::Resting(tail),
            filter: Arc::new(filter),
            limit,
            position: cursor,
            durable,
            ready: VecDeque::new(),
            merging,
            lingering: Lingering::default(),
            recalled: None,
            newer: None,
            filtered: 0,
            restated: None,
        }
    }

    /// The same feed, in which the first waiting record waits until `span` after its capture, or until there is a full
    /// batch.
    pub fn lingering(mut self, span: Duration, clock: WallClock) -> Feed {
        if let ReadState::Resting(tail) = &mut self.read_state {
            tail.lingers(span);
        }
        self.lingering.span = span;
        self.lingering.clock = Some(clock);
        self
    }

    /// Ends all waits for a full batch, for good.
    pub fn end_lingering(&mut self) {
        self.lingering = Lingering::default();
    }

    /// The journal's durable tail.
    pub fn tail(&self) -> Seq {
        *self.durable.borrow()
    }

    /// How many records that were read did not pass the filter.
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Whether everything durable was read and taken.
    pub fn is_drained(&self) -> bool {
        let is_merged = self
            .merging
            .as_ref()
            .is_none_or(|merging| merging.window.is_empty());
        self.ready.is_empty() && is_merged && self.is_read()
    }

    /// The capture time of the first record that was read and not taken.
    pub fn first_captured(&self) -> Option<Timestamp> {
        match self.ready.front() {
            Some(ready) => ready.as_ref().ok()?.first_captured,
            None => self.merging.as_ref()?.window.first_captured(),
        }
    }

    /// The next batch, if it is ready.
    pub fn take(&mut self) -> Option<Result<ReadBatch, JournalError>> {
        self.ready.pop_front()
    }

    /// The next batch, if it is ready and could be read; an error stays for [`Feed::take`].
    pub fn take_read(&mut self) -> Option<ReadBatch> {
        match self.ready.front()? {
            Ok(_) => self.ready.pop_front()?.ok(),
            Err(_) => None,
        }
    }

    /// The limit of one read.
    pub fn limit(&self) -> ReadLimit {
        self.limit
    }

    /// Ends the window early once everything durable was read.
    pub fn end_last_window(&mut self) {
        if self.is_read() {
            self.end_window();
        }
    }

    fn end_window(&mut self) {
        let ended = self.merging.as_mut().and_then(|merging| merging.window.end());
        self.ready.extend(ended.map(Ok));
    }

    fn is_read(&self) -> bool {
        matches!(self.read_state, ReadState::Resting(_)) && self.position >= self.tail()
    }

    /// Prepares the next batch; pending while one is ready or the journal has no more. Cancel safe.
    pub async fn progress(&mut self) {
        if !self.ready.is_empty() {
            return std::future::pending().await;
        }
        if matches!(self.read_state, ReadState::Resting(_)) {
            let ends = self.merging.as_mut().and_then(Merging::ends_at);
            tokio::select! {
                biased;
                () = self.wait_for_a_batch() => if self.take_cached() { return } else { self.begin_read() },
                () = moment(ends) => return self.end_window(),
            }
        }
        self.end_read().await;
    }

    /// Ends a read that is under way, so that no thread outlives the worker.
    pub async fn finish(&mut self) {
        if matches!(self.read_state, ReadState::Reading(_)) {
            self.end_read().await;
        }
    }

    /// Reads parked records, after a read that is under way. Not cancel safe.
    pub async fn recall(&mut self, seqs: Arc<[Seq]>) -> Result<Vec<Arc<Record>>, JournalError> {
        self.finish().await;
        if let ReadState::Resting(mut tail) = std::mem::replace(&mut self.read_state, ReadState::Gone) {
            self.read_state = ReadState::Reading(tokio::task::spawn_blocking(move || {
                let recalled = tail.recall(&seqs);
                (tail, Given::Recalled(recalled))
            }));
        }
        self.end_read().await;
        self.recalled.take().expect("the read was for these records")
    }

    /// Finds the paths, among these, of records that pass the filter, after one record and up to another; `None` if there
    /// are more than [`NEWER_MAX`] records between them. Reads after a read that is under way. Not cancel safe.
    pub async fn newer(
        &mut self,
        paths: HashSet<ZnodePath>,
        after: Seq,
        through: Seq,
    ) -> Result<Newer, JournalError> {
        self.finish().await;
        let (limit, filter) = (self.limit, Arc::clone(&self.filter));
        if let ReadState::Resting(mut tail) = std::mem::replace(&mut self.read_state, ReadState::Gone) {
            self.read_state = ReadState::Reading(tokio::task::spawn_blocking(move || {
                let passes = |record: &Record| record.seq <= through && filter.passes(record);
                let newer = newer(tail.as_mut(), limit, (after, through), |record| {
                    let path = record.path.as_ref().filter(|path| paths.contains(*path));
                    path.filter(|_| passes(record)).cloned()
                });
                (tail, Given::Newer(newer))
            }));
        }
        self.end_read().await;
        self.newer.take().expect("the read was for these paths")
    }

    /// Reads the next records of a run that pass the filter, after a read that is under way. Not cancel safe.
    pub async fn snapshot_page(&mut self, run: Box<SinkRun>) -> Result<RunPage, JournalError> {
        self.finish().await;
        let (limit, filter) = (self.limit, Arc::clone(&self.filter));
        if let ReadState::Resting(mut tail) = std::mem::replace(&mut self.read_state, ReadState::Gone) {
            self.read_state = ReadState::Reading(tokio::task::spawn_blocking(move || {
                let mut restated = tail.snapshot_page(&run, limit);
                if let Ok(page) = &mut restated {
                    page.records.retain(|record| filter.passes(record));
                }
                (tail, Given::Restated(restated))
            }));
        }
        self.end_read().await;
        self.restated.take().expect("the read was for this run")
    }

    /// Waits for a record, then for a full batch or the end of the wait.
    async fn wait_for_a_batch(&mut self) {
        let first = self.position.next();
        self.wait_for_tail(first).await;
        let span = self.lingering.span;
        if span.is_zero() {
            return;
        }
        let until = match self.lingering.until {
            Some(until) => until,
            None => Instant::now() + span.saturating_sub(self.age(first)),
        };
        self.lingering.until = Some(until);
        let batch = Seq(self.position.0.saturating_add(self.limit.records as u64));
        if span <= SHORT_LINGER {
            if self.tail() < batch && until > Instant::now() {
                tokio::time::sleep_until(until).await;
            }
            return;
        }
        tokio::select! {
            biased;
            () = self.wait_for_tail(batch) => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// How long ago a record was captured, as far as it is known. Whatever the clock does, it is not negative.
    fn age(&self, seq: Seq) -> Duration {
        let (ReadState::Resting(tail), Some(clock)) = (&self.read_state, &self.lingering.clock) else {
            return Duration::ZERO;
        };
        let captured = tail.captured(seq);
        let millis = captured.map_or(0, |captured| clock().0.saturating_sub(captured.0));
        Duration::from_millis(u64::try_from(millis).unwrap_or_default())
    }

    async fn wait_for_tail(&mut self, least: Seq) {
        if self.durable.wait_for(|tail| *tail >= least).await.is_err() {
            // The journal's writer has ended: no further record comes.
            std::future::pending().await
        }
    }

    /// Takes the next records from the journal's memory, if it has them.
    fn take_cached(&mut self) -> bool {
        self.lingering.until = None;
        let (after, durable, limit) = (self.position, self.tail(), self.limit);
        let ReadState::Resting(tail) = &mut self.read_state else {
            return false;
        };
        let Some(records) = tail.cached(after, limit) else {
            return false;
        };
        let read = sift(records, after, durable, &self.filter);
        self.keep(Given::Next(read));
        true
    }

    fn begin_read(&mut self) {
        let ReadState::Resting(mut tail) = std::mem::replace(&mut self.read_state, ReadState::Gone) else {
            return;
        };
        let (after, durable, limit) = (self.position, self.tail(), self.limit);
        let filter = Arc::clone(&self.filter);
        self.read_state = ReadState::Reading(tokio::task::spawn_blocking(move || {
            let read = tail
                .read(after, limit)
                .and_then(|records| sift(records, after, durable, &filter));
            (tail, Given::Next(read))
        }));
    }

    async fn end_read(&mut self) {
        let ReadState::Reading(handle) = &mut self.read_state else {
            return std::future::pending().await;
        };
        match handle.await {
            Ok((tail, given)) => {
                self.read_state = ReadState::Resting(tail);
                self.keep(given);
            }
            Err(error) => {
                self.read_state = ReadState::Gone;
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

impl Feed {
    fn keep(&mut self, given: Given) {
        match given {
            Given::Next(read) => {
                if let Ok(read) = &read {
                    self.position = read.batch.through;
                    self.filtered += read.filtered;
                }
                match (read, &mut self.merging) {
                    (Ok(read), Some(merging)) => {
                        self.ready.extend(merging.window.take(read).into_iter().map(Ok))
                    }
                    (read, _) => self.ready.push_back(read),
                }
            }
            Given::Recalled(recalled) => self.recalled = Some(recalled),
            Given::Newer(newer) => self.newer = Some(newer),
            Given::Restated(restated) => self.restated = Some(restated),
        }
    }
}

impl Merging {
    pub fn new(span: Duration, clock: WallClock) -> Merging {
        Merging {
            window: MergeWindow::new(span),
            clock,
            due: None,
        }
    }

    /// The end of the window. Computed once for each window, so that a change of the clock does not move it.
    fn ends_at(&mut self) -> Option<Instant> {
        let first = self.window.first()?;
        match self.due {
            Some((of, due)) if of == first => Some(due),
            _ => {
                let due = Instant::now() + self.window.wait((self.clock)())?;
                self.due = Some((first, due));
                Some(due)
            }
        }
    }
}

fn newer(
    tail: &mut dyn Tail,
    limit: ReadLimit,
    (mut after, through): (Seq, Seq),
    path_of: impl Fn(&Record) -> Option<ZnodePath>,
) -> Result<Newer, JournalError> {
    let (mut found, mut left) = (HashSet::new(), NEWER_MAX);
    while after < through {
        let records = tail.read(after, limit)?;
        let Some(last) = records.last() else { break };
        after = last.seq;
        let Some(rest) = left.checked_sub(records.len()) else {
            return Ok(None);
        };
        left = rest;
        found.extend(records.iter().filter_map(|record| path_of(record)));
    }
    Ok(Some(found))
}

async fn moment(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn sift(
    mut records: Vec<Arc<Record>>,
    after: Seq,
    durable: Seq,
    filter: &CompiledFilter,
) -> Result<ReadBatch, JournalError> {
    if records.is_empty() {
        return Err(nothing_there(after, durable));
    }
    records.truncate(records.partition_point(|record| record.seq <= durable));
    // All records up to the tail may have been merged into one after it, which this worker does not know yet.
    let through = records.last().map_or(durable, |record| record.seq);
    let first_captured = records.first().map(|record| record.time.captured);
    let read = records.len();
    records.retain(|record| filter.passes(record));
    Ok(ReadBatch {
        filtered: (read - records.len()) as u64,
        batch: FetchedBatch {
            records,
            through,
            parts: Parts::default(),
        },
        first_captured,
    })
}

fn nothing_there(after: Seq, durable: Seq) -> JournalError {
    // The status of the source has the file's name; the worker only knows its reader.
    JournalError::new(
        JournalErrorKind::Storage,
        Path::new("of this sink"),
        format!(
            "holds no record after {after} although its tail is {durable}; check whether another program changed it"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Filter;
    use crate::testing::a_record;

    /// Keeps all records in memory.
    struct FixedTail(Vec<Arc<Record>>);

    impl Tail for FixedTail {
        fn read(&mut self, after: Seq, _: ReadLimit) -> Result<Vec<Arc<Record>>, JournalError> {
            panic!("the records after {after} are in memory")
        }

        fn cached(&mut self, after: Seq, limit: ReadLimit) -> Option<Vec<Arc<Record>>> {
            let later = self.0.iter().filter(|record| record.seq > after);
            Some(later.take(limit.records).cloned().collect())
        }

        fn recall(&mut self, _: &[Seq]) -> Result<Vec<Arc<Record>>, JournalError> {
            panic!("nothing is parked")
        }

        fn snapshot_page(&mut self, _: &SinkRun, _: ReadLimit) -> Result<RunPage, JournalError> {
            panic!("there is no run")
        }
    }

    #[tokio::test]
    async fn records_in_memory_are_taken_as_far_as_they_are_durable_and_the_file_is_not_read() {
        let records = (1..=5).map(|seq| a_record().seq(seq).arc()).collect();
        let durable = watch::Sender::new(Seq(3));
        let filter = CompiledFilter::new(&Filter::default()).unwrap();
        let tail = Box::new(FixedTail(records));
        let limit = ReadLimit {
            records: 2,
            ..READ_LIMIT
        };
        let mut feed = Feed::new(tail, filter, limit, Seq::ZERO, durable.subscribe(), None);
        let mut taken = Vec::new();
        for tail in [3, 3, 5] {
            durable.send_replace(Seq(tail));
            feed.progress().await;
            let batch = feed.take().unwrap().unwrap().batch;
            taken.push(
                batch
                    .records
                    .iter()
                    .map(|record| record.seq.0)
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(taken, [vec![1, 2], vec![3], vec![4, 5]]);
        assert!(feed.is_drained());
    }

    #[test]
    fn a_tail_that_was_merged_into_a_later_record_is_no_loss_and_is_not_read_again() {
        let filter = CompiledFilter::new(&Filter::default()).unwrap();
        let read = sift(vec![a_record().seq(9).arc()], Seq(1), Seq(4), &filter).unwrap();
        assert_eq!((read.batch.records.len(), read.batch.through), (0, Seq(4)));
        let lost = sift(Vec::new(), Seq(1), Seq(4), &filter).unwrap_err();
        assert!(lost.to_string().contains("no record after 1"), "{lost}");
    }
}
