//! Finds the message for which brokers refuse a batch, because their answer does not name it.

use std::sync::Arc;

use bridge_core::record::Record;
use bridge_core::sink::SinkError;
use rdkafka::error::RDKafkaErrorCode as Code;

use bridge_core::outbound::Tally;

use super::{KafkaSink, Stop};
use crate::error;

/// librdkafka's own default of `batch.size`.
const BATCH_BYTES: usize = 1_000_000;

/// Batches are not made smaller than this, whatever a topic refuses.
const BATCH_BYTES_MIN: usize = 16 << 10;

impl KafkaSink {
    /// Sends records one by one with a new producer, and rejects those that are refused alone.
    pub(super) async fn question(
        &mut self,
        suspects: &[Arc<Record>],
        tally: &mut Tally,
        code: Code,
    ) -> Result<(), SinkError> {
        let mut is_one_at_fault = false;
        self.renew().await?;
        for (at, record) in suspects.iter().enumerate().skip(tally.done()) {
            if let Some(code) = self.send_alone(at, record, None, tally).await? {
                is_one_at_fault = true;
                self.convict(at, record, code, tally).await?;
            }
        }
        if error::is_about_size(code) && !is_one_at_fault {
            self.shrink_batches().await?;
        }
        Ok(())
    }

    /// Sends one record and waits for its end. Returns why it was refused.
    async fn send_alone(
        &mut self,
        at: usize,
        record: &Arc<Record>,
        most: Option<usize>,
        tally: &mut Tally,
    ) -> Result<Option<Code>, SinkError> {
        let sent = match self.send(at, record, most, tally).await {
            Ok(()) => self.await_all(tally).await,
            stopped => stopped,
        };
        match sent {
            Ok(()) => Ok(None),
            Err(Stop::Trouble(error)) => Err(error),
            // The topic is held from the next run on.
            Err(Stop::Topic { error, .. }) => Err(error),
            // Its partition is held from the next run on.
            Err(Stop::Stalled) => Err(self.silence()),
            Err(Stop::Suspects { code, .. }) => Ok(Some(code)),
        }
    }

    /// A record was refused alone. If that was for its size it is made smaller until it is taken.
    async fn convict(
        &mut self,
        at: usize,
        record: &Arc<Record>,
        code: Code,
        tally: &mut Tally,
    ) -> Result<(), SinkError> {
        let refused = self
            .encoder
            .encode_within(record, |message| self.room(&message.topic));
        let largest = refused
            .ok()
            .and_then(|fitted| fitted.messages.placed().max_by_key(|(_, one)| one.bytes()));
        let (_, message) = largest.expect("a record without a message is never sent");
        let (topic, mut bytes) = (Arc::clone(&message.topic), message.bytes());
        if !error::is_about_size(code) {
            tally.rejected(at, record.seq, error::refusal(code, &topic, bytes));
            return self.renew().await;
        }
        loop {
            self.renew().await?;
            let largest = self.topics.ask_largest(&topic, &self.events).await;
            let smaller = largest.filter(|most| *most < bytes).unwrap_or(bytes / 2);
            match self.send_alone(at, record, Some(smaller), tally).await? {
                None => return Ok(()),
                Some(code) if error::is_about_size(code) => bytes = smaller,
                Some(code) => {
                    tally.rejected(at, record.seq, error::refusal(code, &topic, smaller));
                    return self.renew().await;
                }
            }
        }
    }

    /// No record was too large, so their batch was.
    async fn shrink_batches(&mut self) -> Result<(), SinkError> {
        let bytes = self.client.get("batch.size").and_then(|bytes| bytes.parse().ok());
        let smaller = (bytes.unwrap_or(BATCH_BYTES) / 2).max(BATCH_BYTES_MIN);
        tracing::warn!(
            brokers = %self.brokers,
            batch_size = smaller,
            "a topic takes smaller batches than the sink makes; set properties.\"batch.size\" below its max.message.bytes"
        );
        self.client.set("batch.size", smaller.to_string());
        self.renew().await
    }
}
