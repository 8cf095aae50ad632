//! Keeps values that are not JSON from destinations that can parse nothing else.
//!
//! A source with `data = "json"` writes such a value as text. [`JsonOnly`] rejects its record before the sink sees it.
//!
//! *Invariants.* The sink gets the other records in their order. The report is that of the sink for the whole batch: a
//! record counts as rejected only if every record before it is settled.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::number::Seq;
use crate::record::Record;
use crate::sink::{DeliverError, Delivery, Rejected, Sink, SinkError};

/// The action for a record whose value is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotJson {
    /// It is delivered, with the value as text or base64.
    #[default]
    Deliver,
    /// It is rejected (`on_reject`), with the reason.
    Reject,
}

/// A sink that rejects records whose value is not JSON.
pub struct JsonOnly {
    sink: Box<dyn Sink>,
}

impl JsonOnly {
    /// The sink for all other records.
    pub fn new(sink: Box<dyn Sink>) -> JsonOnly {
        JsonOnly { sink }
    }

    async fn deliver_batch(&mut self, records: &[Arc<Record>]) -> Result<(), DeliverError> {
        let refusals: Vec<Option<Rejected>> = records.iter().map(|record| refusal(record)).collect();
        if refusals.iter().all(Option::is_none) {
            let records = records.to_vec();
            return self.sink.deliver(&Delivery { records }).await;
        }
        // The positions of the others.
        let passed: Vec<usize> = (0..records.len()).filter(|at| refusals[*at].is_none()).collect();
        let mut report = DeliverError {
            done: passed.len(),
            ..DeliverError::default()
        };
        if !passed.is_empty() {
            let records = passed.iter().map(|at| Arc::clone(&records[*at])).collect();
            if let Err(failed) = self.sink.deliver(&Delivery { records }).await {
                report = failed;
            }
        }
        report.done = passed.get(report.done).copied().unwrap_or(records.len());
        let refused = refusals.into_iter().take(report.done).flatten();
        report.rejected.extend(refused);
        report
            .rejected
            .sort_by_key(|rejected| position(records, rejected.seq));
        Err(report)
    }
}

fn position(records: &[Arc<Record>], seq: Seq) -> Option<usize> {
    records.iter().position(|record| record.seq == seq)
}

fn refusal(record: &Record) -> Option<Rejected> {
    let data = record.after.as_ref()?.data.as_ref()?;
    let reason = data.why_not_json()?;
    Some(Rejected::at_once(
        record.seq,
        format!(
            "the value is not JSON: {reason}: write JSON to the znode, or set not_json = \"deliver\" and retry"
        ),
    ))
}

impl Sink for JsonOnly {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.sink.open()
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.deliver_batch(&batch.records).boxed()
    }

    fn linger(&self) -> Duration {
        self.sink.linger()
    }

    fn take_shrunk(&mut self) -> u64 {
        self.sink.take_shrunk()
    }

    fn may_correct(&self, record: &Record) -> bool {
        self.sink.may_correct(record)
    }

    fn take_answer(&mut self) -> Option<String> {
        self.sink.take_answer()
    }

    fn forget_deferred(&mut self, records: &[Seq]) {
        self.sink.forget_deferred(records);
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.sink.close()
    }

    fn remarks(&self) -> Vec<String> {
        self.sink.remarks()
    }
}
