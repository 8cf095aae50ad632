//! The delivery to the servers.
//!
//! **Order.** A stream keeps messages in the order in which it takes them: a message that was lost and is sent again
//! comes after the later ones, whose ids keep them from being stored again. So a path has one message in flight at a
//! time, and the next is sent when the stream has acknowledged it; with a fence a subject, too. Other paths do not wait. Control records of a
//! snapshot or a gap wait for all messages before them, and all later ones wait for them.
//!
//! **Repetition.** At the first acknowledgement that fails or does not arrive the delivery stops; the engine opens the
//! sink again and sends from there. Every message has the record's id, and within its duplicate window the stream does
//! not store it twice, even if the first one arrives late.
//!
//! **Buckets.** Before a record is sent that may have been sent before, its key is looked at: a newer entry stays
//! ([`crate::bucket`]).
//!
//! **Subjects.** A subject that the stream does not take, or to which the sink may not publish, holds its own records
//! only.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{HeaderMap, HeaderName};
use bridge_core::issue::{self, ConfigIssue};
use bridge_core::outbound::{MessageTicket, Misfit, NameTemplate, Tally, message_id};
use bridge_core::record::{Op, Record};
use bridge_core::sink::{DeliverError, Delivery, Extent, Sink, SinkError, SinkErrorKind};
use futures::future::BoxFuture;

use crate::bucket::{self, Mirror};
use crate::config::NatsConfig;
use crate::connection::Connection;
use crate::encode::{Encoded, Encoder, HEADER_LAST};
use crate::error::{self, Meaning};
use crate::fence::{Fence, Verdict};
use crate::in_flight::{InFlight, SendOutcome};
use crate::stream::{self, Fit, StreamSpec};
use crate::subjects::pattern_of;
use crate::template;

/// The bytes that the header of the fence adds to a message: its name, a separator, a number of 64 bits, the end of the
/// line.
const FENCE_BYTES: usize = HEADER_LAST.len() + 2 + 20 + 2;

/// A stream of JetStream as a destination, for the records of one source.
pub struct NatsSink {
    config: NatsConfig,
    encoder: Encoder,
    spec: StreamSpec,
    timeout: Duration,
    fence: Option<Fence>,
    /// Of a bucket.
    mirror: Option<Mirror>,
    connection: Option<Connection>,
    /// The largest message that the stream takes.
    largest: usize,
    /// Records that became durable with less data than they have.
    shrunk: u64,
    /// The last logged remark about the stream, so that it is logged once.
    remarks: Vec<String>,
}

/// Why a batch cannot continue as it is.
enum Stop {
    /// Nothing more can be delivered now.
    Trouble(SinkError),
    /// The rest can be sent again at once.
    Again,
}

impl From<SinkError> for Stop {
    fn from(error: SinkError) -> Stop {
        Stop::Trouble(error)
    }
}

impl NatsSink {
    /// A sink for the records of this cluster (the name of their source). Connects in `open`.
    ///
    /// # Errors
    ///
    /// The options' [`NatsConfig::objections`] that are errors.
    pub fn new(config: &NatsConfig, cluster: &str) -> Result<NatsSink, Vec<ConfigIssue>> {
        issue::no_error(config.objections())?;
        let subjects = config.subjects().map_err(|objection| vec![objection])?;
        let name: Arc<str> = config.stream_name().into();
        let bucket = config.bucket.as_deref();
        let spec = StreamSpec {
            name: Arc::clone(&name),
            create: config.create_stream.clone(),
            samples: template::samples(&subjects, cluster),
            default_subject: match bucket {
                Some(bucket) => bucket::subjects_of(bucket),
                None => subject_of_all_clusters(&subjects),
            },
            is_bucket: bucket.is_some(),
            timeout: config.timeout.0,
        };
        let encoder = Encoder::new(subjects.of_cluster(cluster), &name, config.form());
        Ok(NatsSink {
            encoder: encoder
                .of_bucket(bucket.is_some())
                .with_body(config.body_template()),
            mirror: bucket.map(|_| Mirror::new(Arc::clone(&name), cluster)),
            fence: config.fence.then(|| Fence::new(name)),
            timeout: config.timeout.0,
            config: config.clone(),
            spec,
            connection: None,
            largest: usize::MAX,
            shrunk: 0,
            remarks: Vec::new(),
        })
    }

    async fn prove(&mut self) -> Result<(), SinkError> {
        self.connection = None;
        let mut connection = Connection::open(&self.config).await?;
        let fit = stream::ensure(&mut connection, &self.spec).await?;
        self.largest = largest(&fit, &connection);
        if fit.remarks != self.remarks {
            for remark in &fit.remarks {
                tracing::warn!("{remark}");
            }
            self.remarks = fit.remarks;
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn deliver_batch(&mut self, records: &[Arc<Record>]) -> Result<(), DeliverError> {
        let mut tally = Tally::default();
        // A connection that was lost while there was nothing to deliver is no failure.
        if self.connection.as_ref().is_none_or(Connection::is_lost)
            && let Err(error) = self.prove().await
        {
            return tally.failed(error, Extent::Destination);
        }
        if let Some(connection) = &self.connection {
            // Permissions may have been granted since.
            connection.refused().forget();
        }
        let delivered = self.deliver_all(records, &mut tally).await;
        self.shrunk += tally.shrunk();
        tally.finish(delivered)
    }

    async fn deliver_all(&mut self, records: &[Arc<Record>], tally: &mut Tally) -> Result<(), SinkError> {
        while tally.done() < records.len() {
            match self.run(records, tally).await {
                Ok(()) | Err(Stop::Again) => {}
                Err(Stop::Trouble(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends all records and waits for the end of each.
    async fn run(&mut self, records: &[Arc<Record>], tally: &mut Tally) -> Result<(), Stop> {
        let mut in_flight = InFlight::default();
        for (at, record) in records.iter().enumerate().skip(tally.done()) {
            let is_mark = is_mark(record.op);
            if is_mark {
                self.await_all(&mut in_flight, tally).await?;
            }
            self.send(MessageTicket::of(at, record), &mut in_flight, tally)
                .await?;
            if is_mark {
                self.await_all(&mut in_flight, tally).await?;
            }
        }
        self.await_all(&mut in_flight, tally).await
    }

    /// Puts a record into the queue, when there is room and no other of its path is there.
    async fn send(
        &mut self,
        mut ticket: MessageTicket,
        in_flight: &mut InFlight,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        if tally.holds(&ticket.record.path).is_some() {
            in_flight.settled(ticket, SendOutcome::Held(None));
            return Ok(());
        }
        let fitted = match self.encoder.encode_within(&ticket.record, self.room()) {
            Ok(fitted) if fitted.messages.is_empty() => {
                in_flight.settled(ticket, SendOutcome::Passed);
                return Ok(());
            }
            Ok(fitted) => fitted,
            Err(misfit) => {
                let reason = self.reason(misfit);
                in_flight.settled(ticket, SendOutcome::Refused(reason));
                return Ok(());
            }
        };
        ticket.is_shrunk = fitted.is_shrunk;
        for (place, message) in fitted.messages.placed() {
            if place.index > 0 {
                self.await_all(in_flight, tally).await?;
                // The message before it was refused, and the record with it.
                if tally.done() > ticket.at {
                    return Ok(());
                }
            }
            ticket.place = place;
            ticket.target = Arc::clone(&message.subject);
            ticket.bytes = message.bytes();
            self.send_one(&ticket, message, in_flight, tally).await?;
        }
        Ok(())
    }

    /// Sends one message of a record, when there is room and no other of its path is in flight.
    async fn send_one(
        &mut self,
        ticket: &MessageTicket,
        message: Encoded,
        in_flight: &mut InFlight,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        let path = &ticket.record.path;
        while in_flight.holds(path, &message.subject) || in_flight.waiting() >= self.config.in_flight as usize
        {
            self.advance(in_flight, tally).await?;
        }
        // The one that it waited for may have been refused.
        if tally.holds(path).is_some() {
            in_flight.settled(ticket.clone(), SendOutcome::Held(None));
            return Ok(());
        }
        let refused = self
            .connection
            .as_ref()
            .and_then(|one| one.refused().reason(&message.subject));
        if let Some(error) = refused {
            in_flight.settled(ticket.clone(), SendOutcome::Held(Some(error)));
            return Ok(());
        }
        let sent = match self.is_outdated(&message, ticket).await {
            Ok(true) => {
                in_flight.settled(ticket.clone(), SendOutcome::Passed);
                Ok(())
            }
            Ok(false) => self.publish(message, ticket, in_flight).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            // Messages that were sent before are not affected.
            self.await_all(in_flight, tally).await?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Whether a bucket has a newer entry. No message of the path is in flight.
    async fn is_outdated(&mut self, message: &Encoded, ticket: &MessageTicket) -> Result<bool, SinkError> {
        let Some(mirror) = &mut self.mirror else {
            return Ok(false);
        };
        let connection = self.connection.as_mut().ok_or_else(SinkError::not_opened)?;
        mirror
            .is_outdated(connection, &message.subject, &ticket.record)
            .await
    }

    /// Why a record that can have no message can never be delivered.
    fn reason(&self, misfit: Misfit<Encoded>) -> String {
        match misfit {
            Misfit::Refused(reason) => reason,
            Misfit::TooLarge(message) => {
                let said = format!(
                    "it takes {} at most, and without data it is larger, too",
                    self.largest
                );
                error::refusal(&self.spec.name, &said, message.bytes())
            }
        }
    }

    /// How large a message may be before the fence adds to it.
    fn room(&self) -> usize {
        let fence = self.fence.as_ref().map_or(0, |_| FENCE_BYTES);
        self.largest.saturating_sub(fence)
    }

    async fn publish(
        &mut self,
        message: Encoded,
        ticket: &MessageTicket,
        in_flight: &mut InFlight,
    ) -> Result<(), SinkError> {
        let connection = self.connection.as_mut().ok_or_else(SinkError::not_opened)?;
        let mut headers = HeaderMap::new();
        for (name, value) in message.headers {
            match name {
                // Known names need not be checked and copied for each message.
                Cow::Borrowed(name) => headers.insert(HeaderName::from_static(name), value),
                Cow::Owned(name) => headers.insert(name, value),
            }
        }
        if let Some(fence) = &mut self.fence {
            let last = fence.last(connection, &message.subject).await?;
            headers.insert(HEADER_LAST, last.to_string());
        }
        let publish = PublishMessage::build()
            .headers(headers)
            .payload(message.payload.into());
        match connection.send(&message.subject, publish).await? {
            Ok(ack) => {
                // The fence knows one last message of a subject.
                let subject = self.fence.as_ref().map(|_| message.subject);
                in_flight.sent(ticket.clone(), subject, ack);
            }
            Err(failure) => in_flight.settled(ticket.clone(), SendOutcome::Failed(failure)),
        }
        Ok(())
    }

    /// Waits for the end of the oldest record; false when there is none.
    async fn advance(&mut self, in_flight: &mut InFlight, tally: &mut Tally) -> Result<bool, Stop> {
        let connection = self.connection.as_mut().ok_or_else(SinkError::not_opened)?;
        let refused = connection.refused();
        let Some((ticket, outcome)) = connection.while_there(in_flight.next(&refused)).await? else {
            return Ok(false);
        };
        if let (SendOutcome::Durable(ack), Some(fence)) = (&outcome, &mut self.fence) {
            fence.acknowledged(&ticket.target, ack.sequence);
        }
        if let (SendOutcome::Durable(_), Some(mirror)) = (&outcome, &mut self.mirror) {
            mirror.acknowledged(&ticket.record);
        }
        if let Some(failure) = tally.settle(&ticket, outcome) {
            let waiting = in_flight.waiting() + 1;
            self.failed(&ticket, failure, waiting, tally).await?;
        }
        Ok(true)
    }

    /// A message was refused, or not acknowledged in time.
    async fn failed(
        &mut self,
        ticket: &MessageTicket,
        failure: PublishError,
        waiting: usize,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        match error::of_publish(&failure) {
            // It was lowered since the sink was opened.
            Meaning::Record if self.takes_less_than(ticket.bytes).await? => Err(Stop::Again),
            Meaning::Record => {
                let reason = error::refusal(&self.spec.name, &failure.to_string(), ticket.bytes);
                tally.rejected(ticket.at, ticket.record.seq, reason);
                Ok(())
            }
            Meaning::Subject(kind) => {
                let error = error::about(kind, &self.spec.name, &ticket.target, &failure.to_string());
                tally.held(ticket.at, &ticket.record, error.because(failure));
                Ok(())
            }
            Meaning::Conflict => self.settle_conflict(ticket, tally).await,
            Meaning::Trouble(_) if failure.kind() == PublishErrorKind::TimedOut => {
                Err(self.silence(ticket, waiting).into())
            }
            Meaning::Trouble(kind) => {
                let said = failure.to_string();
                let error = error::about(kind, &self.spec.name, &ticket.target, &said);
                Err(error.because(failure).into())
            }
        }
    }

    /// Asks again how much the stream takes.
    async fn takes_less_than(&mut self, bytes: usize) -> Result<bool, SinkError> {
        let connection = self.connection.as_mut().ok_or_else(SinkError::not_opened)?;
        let fit = stream::ensure(connection, &self.spec).await?;
        self.largest = largest(&fit, connection);
        Ok(bytes > self.room())
    }

    async fn settle_conflict(&mut self, ticket: &MessageTicket, tally: &mut Tally) -> Result<(), Stop> {
        let (Some(fence), Some(connection)) = (&mut self.fence, &mut self.connection) else {
            return Err(SinkError::not_opened().into());
        };
        let id = message_id(&ticket.record, ticket.place.index).to_string();
        match fence.judge(connection, &ticket.target, &id).await? {
            Verdict::Durable => {
                tally.durable(ticket);
                Ok(())
            }
            Verdict::Again => Err(Stop::Again),
        }
    }

    async fn await_all(&mut self, in_flight: &mut InFlight, tally: &mut Tally) -> Result<(), Stop> {
        while self.advance(in_flight, tally).await? {}
        Ok(())
    }

    /// Nothing was acknowledged in time.
    fn silence(&self, ticket: &MessageTicket, waiting: usize) -> SinkError {
        SinkError::new(
            SinkErrorKind::Unavailable,
            format!(
                "stream '{}': no acknowledgement for {}, {waiting} messages wait, the first for subject '{}'; look whether the \
                 stream has a leader and its servers have room and time",
                self.spec.name,
                bridge_core::amount::Span(self.timeout),
                ticket.target,
            ),
        )
    }
}

/// The largest message that stream and server take.
fn largest(fit: &Fit, connection: &Connection) -> usize {
    let most = connection.max_payload();
    fit.largest.map_or(most, |of_stream| of_stream.min(most))
}

/// The subjects of a stream that is created for the template, for every cluster.
fn subject_of_all_clusters(subjects: &NameTemplate) -> String {
    let both = ["alpha", "omega"].map(|cluster| template::samples(subjects, cluster));
    let subjects: Vec<Arc<str>> = both.into_iter().flatten().map(|(_, subject)| subject).collect();
    pattern_of(&subjects)
}

/// Whether it brackets other records.
fn is_mark(op: Op) -> bool {
    matches!(
        op,
        Op::SnapshotBegin | Op::SnapshotEnd | Op::GapBegin | Op::GapEnd
    )
}

impl Sink for NatsSink {
    fn open(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(self.prove())
    }

    fn deliver<'a>(&'a mut self, batch: &'a Delivery) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.deliver_batch(&batch.records))
    }

    fn take_shrunk(&mut self) -> u64 {
        std::mem::take(&mut self.shrunk)
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            // All that was reported is acknowledged; what is not will be sent again.
            self.connection = None;
            Ok(())
        })
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }
}
