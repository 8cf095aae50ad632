//! Partitions that acknowledge nothing although brokers answer: too few replicas in sync, no leader, a broken disk.
//!
//! librdkafka tries such messages again without an end and reports nothing. To give them up would be wrong: a broker may
//! still take one, and it would then arrive after newer ones. So the producer keeps them, and the sink remembers their
//! records ([`crate::lingering`]).

use std::time::Duration;

use bridge_core::outbound::MessageTicket;
use bridge_core::sink::{SinkError, SinkErrorKind};
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::time::{Instant, timeout_at};

use super::{KafkaSink, PURGE_EVERY, SendOutcome, Stop};
use crate::lingering::{LINGERING_MAX, LateState};
use crate::producer::{Producer, in_words};
use crate::topics::ANSWER_BOUND;

/// The wait for each further partition in a call in which one has taken nothing for `timeout`. To hold a partition that
/// is only slow costs nothing but a retry.
const HURRY: Duration = Duration::from_secs(1);

impl KafkaSink {
    /// The wait for an acknowledgement. All further ones of a call together are no longer than the first.
    pub(super) fn patience(&self) -> Duration {
        match self.hurry_until {
            Some(until) => HURRY.min(until.saturating_duration_since(Instant::now())),
            None => self.timeout,
        }
    }

    /// Everything is sent. However little is left of the waits, the last messages have the time of an answer, or brokers
    /// that acknowledge would be held with those that do not.
    pub(super) fn leave_time_for_the_last(&mut self) {
        if let Some(until) = &mut self.hurry_until {
            *until = (*until).max(Instant::now() + HURRY);
        }
    }

    /// No acknowledgement arrived in time. If brokers answer, the cause are the partitions of the messages on their way.
    pub(super) async fn stalled(&mut self) -> Stop {
        let (Some(front), Some(producer)) = (self.in_flight.queue.front().cloned(), &self.producer) else {
            return Stop::Trouble(self.silence());
        };
        if producer.fatal().is_some() {
            return self.stopped(Code::Fatal, &front).await;
        }
        let too_many = self.lingering.len() + self.in_flight.queue.len() > LINGERING_MAX;
        if too_many || self.events.is_throttled() || !self.do_brokers_answer(producer, &front).await {
            return Stop::Trouble(self.silence());
        }
        tracing::debug!(
            topic = &*front.target,
            messages = self.in_flight.queue.len(),
            "partitions acknowledge nothing; the records of these partitions are held"
        );
        self.set_aside();
        self.hurry_until.get_or_insert(Instant::now() + self.timeout);
        Stop::Stalled
    }

    async fn do_brokers_answer(&self, producer: &Producer, front: &MessageTicket) -> bool {
        let answer = producer.look_up(&front.target, &self.events, ANSWER_BOUND);
        answer.await.is_ok()
    }

    /// Remembers all messages on their way, with their ends as far as they are known.
    fn set_aside(&mut self) {
        for (ticket, sent, end) in self.in_flight.set_aside() {
            if end == Some(Ok(())) {
                self.introduced
                    .acknowledged(&ticket.target, sent.partition, sent.number);
            }
            self.lingering.add(&ticket, sent, end);
        }
    }

    /// The end of a record that was sent in an earlier call; `None` if it is to be sent.
    pub(super) fn late_end(&mut self, ticket: &mut MessageTicket) -> Option<SendOutcome> {
        if self.lingering.is_empty() {
            return None;
        }
        self.take_late();
        match self.lingering.of(&ticket.record)? {
            LateState::Pending((topic, partition)) => {
                Some(SendOutcome::Held(Some(self.takes_nothing(&topic, partition))))
            }
            LateState::Durable { is_shrunk } => {
                ticket.is_shrunk = is_shrunk;
                Some(SendOutcome::Durable(()))
            }
        }
    }

    fn take_late(&mut self) {
        for (number, end) in self.in_flight.reports().take_late() {
            if let (Some((topic, partition)), Ok(())) = (self.lingering.partition_of(number), end) {
                self.introduced.acknowledged(topic, *partition, number);
            }
            self.lingering.ended(number, end);
        }
    }

    /// Before a new producer: gives up the messages that linger, and waits for the ends of those that are under way.
    pub(super) async fn give_up_lingering(&mut self) -> Result<(), SinkError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            self.take_late();
            let Some(producer) = self.producer.as_ref().filter(|_| self.lingering.is_pending()) else {
                return Ok(());
            };
            let now = Instant::now();
            if now >= deadline {
                return Err(self.silence());
            }
            producer.give_up_unsent();
            let slice = deadline.min(now + PURGE_EVERY);
            // However it ends: the late reports are taken.
            let _ = timeout_at(slice, self.in_flight.reports().until_late()).await;
        }
    }

    /// Why a record of a partition is held.
    pub(super) fn takes_nothing(&self, topic: &str, partition: i32) -> SinkError {
        SinkError::new(
            SinkErrorKind::Unavailable,
            format!(
                "brokers {}: partition {partition} of topic '{topic}' has acknowledged nothing for {}, although brokers \
                 answer; look whether it has a leader and enough replicas in sync (min.insync.replicas)",
                self.brokers,
                in_words(self.timeout)
            ),
        )
    }
}
