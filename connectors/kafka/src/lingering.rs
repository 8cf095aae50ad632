//! Messages that no broker has acknowledged in time although the brokers answer: a partition without a leader, or with
//! too few replicas in sync.
//!
//! The producer keeps them and goes on trying, so that they neither arrive twice nor pass an earlier one. Their records
//! are deferred: when the engine delivers one again, its end is known here, or it is deferred once more. Meanwhile
//! nothing else is sent to their partitions. A record that the engine gave up, as a dead letter, is forgotten with the
//! end of its last message: the list holds nothing that neither a producer nor the engine has.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bridge_core::number::Seq;
use bridge_core::outbound::MessageTicket;
use bridge_core::record::Record;
use uuid::Uuid;

use crate::in_flight::SentMessage;
use crate::reports::End;

/// The most messages to remember; more are a failure of the whole destination. As many as the producer's queue holds.
pub(crate) const LINGERING_MAX: usize = 100_000;

type RecordKey = (Seq, Uuid);
/// A topic and a partition of it.
pub(crate) type PartitionKey = (Arc<str>, i32);

/// Messages that were sent long ago.
#[derive(Default)]
pub(crate) struct Lingering {
    records: HashMap<RecordKey, LateRecord>,
    /// The messages without an end, by the numbers of the present producer.
    messages: HashMap<usize, (RecordKey, PartitionKey)>,
    /// How many messages without an end a partition has.
    partitions: HashMap<PartitionKey, usize>,
}

struct LateRecord {
    partition: PartitionKey,
    /// Messages without an end.
    waiting: usize,
    /// Whether its last message was sent.
    is_whole: bool,
    has_failed: bool,
    is_shrunk: bool,
    /// Whether the engine does not deliver it again.
    is_given_up: bool,
}

/// The state of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LateState {
    /// Some broker may still take it, in this partition.
    Pending(PartitionKey),
    /// Every in-sync replica has it.
    Durable { is_shrunk: bool },
}

impl Lingering {
    /// How many messages and records are remembered.
    pub(crate) fn len(&self) -> usize {
        self.records.len().max(self.messages.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.messages.is_empty()
    }

    /// Whether some message has no end.
    pub(crate) fn is_pending(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Whether a message to this partition has no end.
    pub(crate) fn holds(&self, topic: &Arc<str>, partition: i32) -> bool {
        !self.partitions.is_empty() && self.partitions.contains_key(&(Arc::clone(topic), partition))
    }

    /// The partition of a message without an end.
    pub(crate) fn partition_of(&self, number: usize) -> Option<&PartitionKey> {
        self.messages.get(&number).map(|(_, partition)| partition)
    }

    /// Adds a message that was sent.
    pub(crate) fn add(&mut self, ticket: &MessageTicket, sent: SentMessage, end: Option<End>) {
        let key = (ticket.record.seq, ticket.record.id);
        let partition = (Arc::clone(&ticket.target), sent.partition);
        let record = self.records.entry(key).or_insert_with(|| LateRecord {
            partition: partition.clone(),
            waiting: 0,
            is_whole: false,
            has_failed: false,
            is_shrunk: false,
            is_given_up: false,
        });
        record.is_whole |= ticket.place.is_last;
        record.is_shrunk |= ticket.is_shrunk;
        match end {
            Some(end) => record.has_failed |= end.is_err(),
            None => {
                record.waiting += 1;
                *self.partitions.entry(partition.clone()).or_default() += 1;
                self.messages.insert(sent.number, (key, partition));
            }
        }
    }

    /// A message has come to its end.
    pub(crate) fn ended(&mut self, number: usize, end: End) {
        let Some((key, partition)) = self.messages.remove(&number) else {
            return;
        };
        if let Some(record) = self.records.get_mut(&key) {
            record.waiting -= 1;
            record.has_failed |= end.is_err();
            if record.is_given_up && record.waiting == 0 {
                self.records.remove(&key);
            }
        }
        if let Some(count) = self.partitions.get_mut(&partition) {
            *count -= 1;
            if *count == 0 {
                self.partitions.remove(&partition);
            }
        }
    }

    /// The state of a record; `None` if it is to be sent.
    pub(crate) fn of(&mut self, record: &Record) -> Option<LateState> {
        let key = (record.seq, record.id);
        let late = self.records.get_mut(&key)?;
        // An operator may have put a dead letter back.
        late.is_given_up = false;
        if late.waiting > 0 {
            return Some(LateState::Pending(late.partition.clone()));
        }
        if late.is_whole && !late.has_failed {
            let is_shrunk = late.is_shrunk;
            return Some(LateState::Durable { is_shrunk });
        }
        self.records.remove(&key);
        None
    }

    /// Forgets records that the engine does not deliver again, as soon as their messages have ends.
    pub(crate) fn give_up(&mut self, records: &[Seq]) {
        if self.records.is_empty() {
            return;
        }
        let given_up: HashSet<&Seq> = records.iter().collect();
        self.records.retain(|(seq, _), record| {
            record.is_given_up |= given_up.contains(seq);
            !record.is_given_up || record.waiting > 0
        });
    }

    /// Forgets a record that is reported as durable.
    pub(crate) fn forget(&mut self, seq: Seq, id: Uuid) {
        self.records.remove(&(seq, id));
    }
}

#[cfg(test)]
mod tests {
    use bridge_core::outbound::MessagePlace;
    use bridge_core::testing::a_record;
    use rdkafka::error::RDKafkaErrorCode as Code;

    use super::*;

    fn ticket(record: &Arc<Record>, place: MessagePlace) -> MessageTicket {
        MessageTicket {
            place,
            target: "changes".into(),
            ..MessageTicket::of(0, record)
        }
    }

    fn sent(number: usize) -> SentMessage {
        SentMessage { number, partition: 1 }
    }

    #[test]
    fn a_record_is_durable_when_each_of_its_messages_is_and_sent_again_otherwise() {
        let (first, last) = (
            MessagePlace {
                index: 0,
                is_last: false,
            },
            MessagePlace {
                index: 1,
                is_last: true,
            },
        );
        let refused = Err(Code::PurgeQueue);
        let durable = Some(LateState::Durable { is_shrunk: false });
        for (places, ends, expected) in [
            (&[first, last][..], [Ok(()), Ok(())], durable),
            (&[first, last], [Ok(()), refused], None),
            (&[first, last], [refused, Ok(())], None),
            (&[first], [Ok(()), Ok(())], None),
        ] {
            let record = a_record().seq(7).arc();
            let mut lingering = Lingering::default();
            for (number, place) in places.iter().enumerate() {
                lingering.add(&ticket(&record, *place), sent(number), None);
            }
            for (number, end) in ends.into_iter().take(places.len()).enumerate() {
                assert_eq!(
                    lingering.of(&record),
                    Some(LateState::Pending(("changes".into(), 1)))
                );
                assert!(lingering.holds(&"changes".into(), 1));
                lingering.ended(number, end);
            }
            assert!(!lingering.holds(&"changes".into(), 1) && !lingering.is_pending());
            assert_eq!(lingering.of(&record), expected);
            lingering.forget(record.seq, record.id);
            assert_eq!(lingering.of(&record), None, "it is forgotten");
            assert!(lingering.is_empty());
        }
    }

    #[test]
    fn a_record_that_became_a_dead_letter_is_forgotten_with_the_end_of_its_last_message() {
        let mut lingering = Lingering::default();
        for seq in 1..=3 {
            let record = a_record().seq(seq).arc();
            let number = usize::try_from(seq).unwrap();
            lingering.add(&ticket(&record, MessagePlace::ONLY), sent(number), None);
        }
        lingering.ended(1, Ok(()));
        lingering.give_up(&[Seq(1), Seq(2), Seq(9)]);
        assert_eq!(lingering.records.len(), 2, "the first one has its end");
        assert!(lingering.holds(&"changes".into(), 1), "nothing passes the others");

        // An operator puts the second one back before its end is known.
        let second = a_record().seq(2).build();
        assert!(matches!(lingering.of(&second), Some(LateState::Pending(_))));
        lingering.ended(2, Ok(()));
        assert_eq!(
            lingering.of(&second),
            Some(LateState::Durable { is_shrunk: false })
        );
        lingering.give_up(&[Seq(2), Seq(3)]);
        assert_eq!(lingering.records.len(), 1);
        lingering.ended(3, Err(Code::PurgeQueue));
        assert!(lingering.is_empty());
    }

    #[test]
    fn another_record_of_the_same_number_is_another_one() {
        let mut lingering = Lingering::default();
        let record = a_record().seq(7).arc();
        lingering.add(&ticket(&record, MessagePlace::ONLY), sent(0), Some(Ok(())));
        assert_eq!(lingering.of(&a_record().seq(7).path("/other").build()), None);
        assert_eq!(
            lingering.of(&record),
            Some(LateState::Durable { is_shrunk: false })
        );
    }
}
