//! Faults at the edge of any sink, played from a script. The sink below stays real: what a fault claims was written,
//! was written.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::number::Seq;
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::{Deferred, DeliverError, Delivery, Extent, Rejected, Sink, SinkError, SinkErrorKind};
use crate::subtree::SubtreeReader;

/// The fault of one call of `deliver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails before anything is written.
    FailBeforeWrite(SinkErrorKind),
    /// It fails before anything is written, and requests this wait.
    AskToWait(Duration),
    /// Everything is written and the answer is lost: it reports a failure and no record as done.
    FailAfterWrite,
    /// Everything is written and no answer ever comes.
    HoldResponse,
    /// It takes this much longer.
    RespondSlowly(Duration),
    /// The connection drops in the middle: half is written, and the answer knows nothing of it.
    DropMidway,
    /// The connection drops in the middle: half is written and reported as done.
    DropMidwayReported,
    /// It panics.
    Panic,
}

/// The scripted faults, shared by all sinks that a test makes one after another.
#[derive(Clone, Default)]
pub struct FaultScript {
    plan: Arc<Mutex<Plan>>,
    held: Arc<Notify>,
}

#[derive(Default)]
struct Plan {
    deliveries: VecDeque<Fault>,
    opens: VecDeque<Option<SinkErrorKind>>,
    rejected: BTreeSet<Seq>,
    /// How often these records are still refused for now.
    deferred: BTreeMap<Seq, u32>,
    /// Every record of these paths fails.
    failing: BTreeSet<ZnodePath>,
    /// How many calls failed with nothing that shows how far the failure reaches.
    alone: u32,
    /// The failure of such a call; [`SinkErrorKind::Missing`] if no test says otherwise.
    of_alone: Option<(SinkErrorKind, Extent)>,
    /// Records that the engine does not deliver again.
    forgotten: BTreeSet<Seq>,
}

impl FaultScript {
    /// No faults.
    pub fn new() -> FaultScript {
        FaultScript::default()
    }

    /// One fault for each of the next calls of `deliver`; none afterwards.
    pub fn deliveries(self, faults: impl IntoIterator<Item = Fault>) -> FaultScript {
        self.with(|plan| plan.deliveries.extend(faults));
        self
    }

    /// One failure, or none, for each of the next calls of `open`.
    pub fn opens(self, failures: impl IntoIterator<Item = Option<SinkErrorKind>>) -> FaultScript {
        self.with(|plan| plan.opens.extend(failures));
        self
    }

    /// These records are never accepted.
    pub fn rejects(self, seqs: impl IntoIterator<Item = u64>) -> FaultScript {
        self.with(|plan| plan.rejected.extend(seqs.into_iter().map(Seq)));
        self
    }

    /// These records are refused for now, this number of times, together with later ones of their paths.
    pub fn defers(self, seqs: impl IntoIterator<Item = u64>, times: u32) -> FaultScript {
        self.with(|plan| {
            plan.deferred
                .extend(seqs.into_iter().map(|seq| (Seq(seq), times)))
        });
        self
    }

    /// Every record of these paths fails, until [`FaultScript::accept_all`]. As with a service that is called for each
    /// record, a call without a record of another path cannot show whether the destination failed.
    pub fn fail_paths(&self, paths: impl IntoIterator<Item = ZnodePath>) {
        self.with(|plan| plan.failing.extend(paths));
    }

    /// A call that has nothing but records of paths that fail, fails so. Without it with a kind that is retried slowly, and
    /// [`Extent::Unknown`].
    #[must_use]
    pub fn fails_alone_with(self, kind: SinkErrorKind, extent: Extent) -> FaultScript {
        self.with(|plan| plan.of_alone = Some((kind, extent)));
        self
    }

    /// How many calls had nothing but records of paths that fail.
    pub fn failed_alone(&self) -> u32 {
        self.with(|plan| plan.alone)
    }

    /// The records that the engine does not deliver again, as it said.
    pub fn forgotten(&self) -> Vec<u64> {
        self.with(|plan| plan.forgotten.iter().map(|seq| seq.0).collect())
    }

    /// From now on every record is accepted.
    pub fn accept_all(&self) {
        self.with(|plan| {
            plan.rejected.clear();
            plan.deferred.clear();
            plan.failing.clear();
        });
    }

    /// Whether every fault has been played.
    pub fn is_played(&self) -> bool {
        self.with(|plan| plan.deliveries.is_empty() && plan.opens.is_empty())
    }

    /// Waits until an answer is held: everything is written by then.
    pub async fn held(&self) {
        self.held.notified().await;
    }

    /// A sink with these faults in front.
    pub fn in_front_of(&self, inner: Box<dyn Sink>) -> FaultySink {
        FaultySink {
            inner,
            script: self.clone(),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        change(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A sink with faults in front.
pub struct FaultySink {
    inner: Box<dyn Sink>,
    script: FaultScript,
}

impl Sink for FaultySink {
    fn reads_subtrees(&self) -> bool {
        self.inner.reads_subtrees()
    }

    fn attach(&mut self, image: Box<dyn SubtreeReader>) {
        self.inner.attach(image);
    }

    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        match self.script.with(|plan| plan.opens.pop_front()).flatten() {
            Some(kind) => async move { Err(scripted(kind)) }.boxed(),
            None => self.inner.open(),
        }
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        let fault = self.script.with(|plan| plan.deliveries.pop_front());
        self.play(fault.unwrap_or(Fault::None), batch).boxed()
    }

    fn may_correct(&self, record: &Record) -> bool {
        self.inner.may_correct(record)
    }

    fn take_shrunk(&mut self) -> u64 {
        self.inner.take_shrunk()
    }

    fn forget_deferred(&mut self, records: &[Seq]) {
        self.script.with(|plan| plan.forgotten.extend(records));
        self.inner.forget_deferred(records);
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.inner.close()
    }
}

impl FaultySink {
    async fn play(&mut self, fault: Fault, batch: &Delivery) -> Result<(), DeliverError> {
        let half = batch.records.len() / 2;
        match fault {
            Fault::None => self.write(batch).await,
            Fault::FailBeforeWrite(kind) => Err(failed(0, kind)),
            Fault::AskToWait(wait) => {
                let error = scripted(SinkErrorKind::Throttled).retry_after(wait);
                Err(DeliverError::after(0, error))
            }
            Fault::FailAfterWrite => {
                self.write_some(batch, batch.records.len()).await?;
                Err(failed(0, SinkErrorKind::Unavailable))
            }
            Fault::HoldResponse => {
                self.write_some(batch, batch.records.len()).await?;
                self.script.held.notify_one();
                std::future::pending().await
            }
            Fault::RespondSlowly(delay) => {
                tokio::time::sleep(delay).await;
                self.write(batch).await
            }
            Fault::DropMidway => {
                self.write_some(batch, half).await?;
                Err(failed(0, SinkErrorKind::Broken))
            }
            Fault::DropMidwayReported => {
                let refused = self.write_some(batch, half).await?;
                Err(DeliverError {
                    done: half,
                    error: Some(scripted(SinkErrorKind::Broken)),
                    ..refused
                })
            }
            Fault::Panic => panic!("a scripted panic"),
        }
    }

    async fn write(&mut self, batch: &Delivery) -> Result<(), DeliverError> {
        let refused = self.write_some(batch, batch.records.len()).await?;
        if refused.rejected.is_empty() && refused.deferred.is_empty() {
            return Ok(());
        }
        Err(DeliverError {
            done: batch.records.len(),
            ..refused
        })
    }

    /// Writes the front of a batch but for what is refused. Errors of the sink below keep their place in the batch.
    async fn write_some(&mut self, batch: &Delivery, count: usize) -> Result<DeliverError, DeliverError> {
        let (kept, refused) = self.script.with(|plan| plan.sort(&batch.records[..count]));
        if kept.is_empty() {
            let of_alone = self.script.with(|plan| plan.failure_of_alone(&refused));
            return match of_alone {
                Some((kind, extent)) => Err(DeliverError {
                    extent,
                    ..failed(0, kind)
                }),
                None => Ok(refused),
            };
        }
        let inner = Delivery { records: kept };
        let Err(error) = self.inner.deliver(&inner).await else {
            return Ok(refused);
        };
        // Nothing of a failed call is claimed: the sink below may have stopped before a rejected record.
        let unclaimed = error.error.unwrap_or_else(|| {
            SinkError::new(
                SinkErrorKind::Broken,
                format!("the sink itself rejected {:?}", error.rejected),
            )
        });
        Err(DeliverError::after(0, unclaimed))
    }
}

impl Plan {
    /// The failure of the call if nothing but paths that fail was refused.
    fn failure_of_alone(&mut self, refused: &DeliverError) -> Option<(SinkErrorKind, Extent)> {
        let is_of_script = |one: &Deferred| self.deferred.contains_key(&one.seq);
        let are_failing = refused.rejected.is_empty()
            && !refused.deferred.iter().all(is_of_script)
            && !self.failing.is_empty();
        self.alone += u32::from(are_failing);
        are_failing.then(|| self.of_alone.unwrap_or((SinkErrorKind::Missing, Extent::Unknown)))
    }

    /// Splits the records into those to write and those to refuse.
    fn sort(&mut self, records: &[Arc<Record>]) -> (Vec<Arc<Record>>, DeliverError) {
        let mut refused = DeliverError::default();
        let mut kept = Vec::new();
        let mut waiting = HashSet::new();
        for record in records {
            if self.rejected.contains(&record.seq) {
                refused.rejected.push(refusal(record.seq));
                continue;
            }
            let is_waiting = waiting.contains(&record.path);
            let times = self.deferred.get_mut(&record.seq).filter(|times| **times > 0);
            let is_failing = record
                .path
                .as_ref()
                .is_some_and(|path| self.failing.contains(path));
            if !is_waiting && !is_failing && times.is_none() {
                kept.push(Arc::clone(record));
                continue;
            }
            if let Some(times) = times.filter(|_| !is_waiting) {
                *times -= 1;
            }
            waiting.insert(record.path.clone());
            refused.deferred.push(Deferred {
                seq: record.seq,
                error: scripted(SinkErrorKind::Unavailable),
            });
        }
        (kept, refused)
    }
}

fn refusal(seq: Seq) -> Rejected {
    Rejected::at_once(seq, "scripted: never accepted")
}

fn scripted(kind: SinkErrorKind) -> SinkError {
    SinkError::new(kind, format!("scripted: {kind}"))
}

fn failed(done: usize, kind: SinkErrorKind) -> DeliverError {
    DeliverError::after(done, scripted(kind))
}
