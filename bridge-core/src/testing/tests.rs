//! The suite must catch sinks that break the contract.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::path::ZnodePath;
use crate::record::Record;
use crate::sink::{Deferred, DeliverError, Delivery, Extent, Sink, SinkError, SinkErrorKind};
use crate::subtree::{SubtreeLimit, SubtreeReader, SubtreeZnode};

/// How a sink breaks its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// It does not: the control of the controls.
    Nothing,
    /// It reports records that it only holds, and writes them with the next batch.
    ReportsEarly,
    /// It writes a batch in another order.
    Reorders,
    /// It writes other data than it got.
    Changes,
    /// It leaves out what it has seen before by path, as a cache would.
    DropsRepeatedPaths,
    /// It writes only so much of a batch.
    CutsLargeBatches,
    /// It cannot take some names.
    TrimsNames,
    /// It takes any answer for a success, also one that it cannot parse.
    TakesAnyAnswer,
    /// It says that the whole destination fails where it cannot know that.
    BlamesTheDestination,
}

type Destination = Arc<Mutex<Vec<Arc<Record>>>>;

/// The paths whose records are refused.
type Refused = Arc<Mutex<Vec<ZnodePath>>>;

struct WrongSink {
    wrong: Wrong,
    destination: Destination,
    refused: Refused,
    /// The destination takes nothing, and its answers cannot be parsed.
    is_garbled: Arc<AtomicBool>,
    held: Vec<Arc<Record>>,
}

impl WrongSink {
    fn write(&mut self, records: &[Arc<Record>]) {
        let mut destination = self.destination.lock().unwrap();
        let mut records = records.to_vec();
        match self.wrong {
            Wrong::Nothing | Wrong::TakesAnyAnswer | Wrong::BlamesTheDestination => {}
            Wrong::ReportsEarly => std::mem::swap(&mut records, &mut self.held),
            Wrong::Reorders => records.reverse(),
            Wrong::Changes => {
                for record in &mut records {
                    Arc::make_mut(record).missed = Some(77);
                }
            }
            Wrong::DropsRepeatedPaths => {
                records.retain(|record| !destination.iter().any(|seen| seen.path == record.path));
            }
            Wrong::CutsLargeBatches => records.truncate(24),
            Wrong::TrimsNames => records.retain(|record| {
                let path = record.path.as_deref().unwrap_or_default();
                path.trim() == path && !path.contains('\n')
            }),
        }
        destination.extend(records);
    }
}

impl Sink for WrongSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        let is_garbled = self.is_garbled.load(Ordering::Relaxed);
        let refused = self.refused.lock().unwrap().clone();
        let is_refused =
            |record: &Arc<Record>| record.path.as_ref().is_some_and(|path| refused.contains(path));
        let (held, taken): (Vec<_>, Vec<_>) = batch.records.iter().cloned().partition(is_refused);
        if !is_garbled {
            self.write(&taken);
        }
        let is_error = is_garbled && self.wrong != Wrong::TakesAnyAnswer;
        let extent = match self.wrong {
            Wrong::BlamesTheDestination => Extent::Destination,
            _ => Extent::Unknown,
        };
        async move {
            let error = || SinkError::new(SinkErrorKind::Unavailable, "this is no answer");
            if is_error {
                return Err(DeliverError::after(0, error()));
            }
            if held.is_empty() {
                return Ok(());
            }
            if taken.is_empty() {
                return Err(DeliverError {
                    extent,
                    ..DeliverError::after(0, error())
                });
            }
            let deferred = held.iter().map(|record| Deferred {
                seq: record.seq,
                error: error(),
            });
            Err(DeliverError {
                done: batch.records.len(),
                deferred: deferred.collect(),
                ..DeliverError::default()
            })
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}

struct WrongRig(Wrong, Destination, Arc<AtomicBool>, Refused);

impl Rig for WrongRig {
    async fn fresh(&mut self) {
        self.1 = Destination::default();
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        Box::new(WrongSink {
            wrong: self.0,
            destination: Arc::clone(&self.1),
            refused: Arc::clone(&self.3),
            is_garbled: Arc::clone(&self.2),
            held: Vec::new(),
        })
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        let records = self.1.lock().unwrap().clone();
        records.iter().map(|record| Arrived::of(record)).collect()
    }

    fn refuse(&mut self, paths: &[ZnodePath]) -> bool {
        *self.3.lock().unwrap() = paths.to_vec();
        true
    }

    async fn garble(&mut self, seed: Option<u64>) -> bool {
        self.2.store(seed.is_some(), Ordering::Relaxed);
        true
    }
}

#[tokio::test(start_paused = true)]
async fn the_suite_catches_every_sink_that_breaks_the_contract() {
    let rows = [
        (Wrong::Nothing, true),
        (Wrong::ReportsEarly, false),
        (Wrong::Reorders, false),
        (Wrong::Changes, false),
        (Wrong::DropsRepeatedPaths, false),
        (Wrong::CutsLargeBatches, false),
        (Wrong::TrimsNames, false),
        (Wrong::TakesAnyAnswer, false),
        (Wrong::BlamesTheDestination, false),
    ];
    for (wrong, passes) in rows {
        let mut rig = WrongRig(wrong, Destination::default(), Arc::default(), Arc::default());
        let outcome = AssertUnwindSafe(every_promise(&mut rig)).catch_unwind().await;
        assert_eq!(outcome.is_ok(), passes, "{wrong:?}");
    }
}

/// How a sink that writes states breaks its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WrongState {
    /// It does not.
    Nothing,
    /// It writes the first state only.
    StaysAtTheFirst,
    /// It removes nothing that was deleted.
    KeepsDeleted,
    /// It writes each state with the next delivery.
    Lags,
    /// It writes no data.
    LosesData,
}

type Shown = Arc<Mutex<BTreeMap<ZnodePath, Vec<u8>>>>;

struct StateSink {
    wrong: WrongState,
    image: Option<Box<dyn SubtreeReader>>,
    shown: Shown,
    held: BTreeMap<ZnodePath, Vec<u8>>,
}

impl StateSink {
    fn write(&mut self) {
        let limit = SubtreeLimit {
            znodes: usize::MAX,
            bytes: usize::MAX,
        };
        let image = self.image.as_mut().expect("the suite attaches an image");
        let subtree = image.subtree(&ZnodePath::slash(), limit).unwrap();
        let data = |znode: &SubtreeZnode| znode.data.as_ref().map_or(Vec::new(), |data| data.bytes.to_vec());
        let znodes = subtree.znodes().iter();
        let mut present: BTreeMap<_, _> = znodes.map(|znode| (znode.path.clone(), data(znode))).collect();
        let mut shown = self.shown.lock().unwrap();
        match self.wrong {
            WrongState::Nothing => {}
            WrongState::StaysAtTheFirst if shown.is_empty() => {}
            WrongState::StaysAtTheFirst => return,
            WrongState::KeepsDeleted => return shown.extend(present),
            WrongState::Lags => std::mem::swap(&mut present, &mut self.held),
            WrongState::LosesData => present.values_mut().for_each(Vec::clear),
        }
        *shown = present;
    }
}

impl Sink for StateSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn deliver<'a>(&'a mut self, _: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.write();
        async { Ok(()) }.boxed()
    }

    fn reads_subtrees(&self) -> bool {
        true
    }

    fn attach(&mut self, image: Box<dyn SubtreeReader>) {
        self.image = Some(image);
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}

struct StateRig(WrongState, Shown);

impl Rig for StateRig {
    async fn fresh(&mut self) {
        self.1 = Shown::default();
    }

    fn sink(&mut self) -> Box<dyn Sink> {
        Box::new(StateSink {
            wrong: self.0,
            image: None,
            shown: Arc::clone(&self.1),
            held: BTreeMap::new(),
        })
    }

    async fn arrived(&mut self) -> Vec<Arrived> {
        Vec::new()
    }

    async fn state(&mut self) -> Option<BTreeMap<ZnodePath, Vec<u8>>> {
        Some(self.1.lock().unwrap().clone())
    }
}

#[tokio::test(start_paused = true)]
async fn the_suite_catches_every_sink_that_shows_another_state_than_the_present_one() {
    let rows = [
        (WrongState::Nothing, true),
        (WrongState::StaysAtTheFirst, false),
        (WrongState::KeepsDeleted, false),
        (WrongState::Lags, false),
        (WrongState::LosesData, false),
    ];
    for (wrong, passes) in rows {
        let mut rig = StateRig(wrong, Shown::default());
        let outcome = AssertUnwindSafe(every_promise(&mut rig)).catch_unwind().await;
        assert_eq!(outcome.is_ok(), passes, "{wrong:?}");
    }
}

#[test]
fn a_repetition_may_begin_anywhere_and_must_not_skip() {
    let records: Vec<_> = (1..=4).map(|seq| a_record().seq(seq).arc()).collect();
    let check = |seqs: &[u64], kept: bool| {
        let arrived: Vec<Arrived> = seqs
            .iter()
            .map(|seq| Arrived::from_json(&a_record().seq(*seq).build().to_json()))
            .collect();
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| assert_kept_contract(&records, &arrived)));
        assert_eq!(outcome.is_ok(), kept, "{seqs:?}");
    };
    check(&[1, 2, 3, 4], true);
    check(&[1, 2, 1, 2, 3, 3, 4], true);
    check(&[1, 2, 3, 4, 2, 3, 4], true);
    check(&[1, 2, 3, 4, 1], false);
    check(&[1, 2, 3, 4, 2, 3], false);
    check(&[1, 2, 3], false);
    check(&[1, 3, 2, 4], false);
    check(&[1, 2, 1, 3, 4], false);
    check(&[1, 2, 3, 4, 5], false);
    check(&[], false);
}
