//! A destination in memory that keeps the contract exactly, for tests to inspect.

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::record::Record;
use crate::sink::{DeliverError, Delivery, Sink, SinkError, SinkErrorKind};

/// The state that outlives the sinks that write to it.
#[derive(Clone, Default)]
pub struct MemoryDestination {
    arrived: Arc<Mutex<Vec<Arc<Record>>>>,
}

impl MemoryDestination {
    /// A sink that writes here.
    pub fn sink(&self) -> MemorySink {
        MemorySink {
            destination: self.clone(),
            is_open: false,
        }
    }

    /// Everything that arrived, in the order of arrival.
    pub fn arrived(&self) -> Vec<Arc<Record>> {
        self.arrived
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The seqs of everything that arrived.
    pub fn seqs(&self) -> Vec<u64> {
        self.arrived().iter().map(|record| record.seq.0).collect()
    }

    fn add(&self, records: &[Arc<Record>]) {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.extend_from_slice(records);
    }
}

/// Writes to a [`MemoryDestination`].
pub struct MemorySink {
    destination: MemoryDestination,
    is_open: bool,
}

impl Sink for MemorySink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.is_open = true;
        async { Ok(()) }.boxed()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        async move {
            if !self.is_open {
                let error = SinkError::new(SinkErrorKind::Broken, "delivered before opened");
                return Err(DeliverError::after(0, error));
            }
            self.destination.add(&batch.records);
            Ok(())
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.is_open = false;
        async { Ok(()) }.boxed()
    }
}
