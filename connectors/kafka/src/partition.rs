//! Chooses the partition of a key, and remembers the partitions whose broker has acknowledged a message of the
//! producer.
//!
//! A broker that knows nothing of a producer in a partition takes any sequence number from it. So if the first request
//! to a partition is refused, the next one, already under way, would be taken, and its records would pass those of the
//! first (seen at Apache Kafka 4.1). Once a message was acknowledged there, the broker refuses what comes out of
//! sequence. So the first message to a partition travels without others of that partition; to know which is the first,
//! the sink itself must choose the partition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Brokers forget a producer that is idle, after a day by default (`producer.id.expiration.ms`). Far below that; to
/// travel alone costs one round trip.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// The most partitions to remember; beyond that all are forgotten and a first message is sent alone again, which is
/// slower but never wrong.
const PARTITIONS_MAX: usize = 100_000;

/// The partition that Java producers choose for a key, so that a path is in the same one with every producer.
pub(crate) fn of_key(key: &[u8], partitions: i32) -> i32 {
    let hash = i32::try_from(murmur2(key) & 0x7fff_ffff).expect("31 bits fit in an i32");
    hash % partitions.max(1)
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // A key is a path, far below 4 GiB.
    let mut hash = 0x9747_b28c ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    for (at, byte) in tail.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partitions whose brokers know the present producer.
#[derive(Default)]
pub(crate) struct Introduced {
    last_used: HashMap<Arc<str>, HashMap<i32, Introduction>>,
    count: usize,
    /// Whether partitions were forgotten that may have messages in flight.
    is_incomplete: bool,
}

#[derive(Clone, Copy)]
enum Introduction {
    /// The first message, under this number, is in flight.
    OnItsWay(usize),
    /// A message was acknowledged; the time of the last use.
    Met(Instant),
}

/// When a message may be sent to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// At once, after others that are in flight.
    Now,
    /// At once; it is the first.
    First,
    /// As the first, when every other message has come to its end.
    FirstAlone,
    /// When the first one has come to its end.
    AfterFirst,
}

impl Introduced {
    /// When the next message to this partition may be sent. Counts as use.
    pub(crate) fn turn(&mut self, topic: &str, partition: i32) -> Turn {
        let topic = self.last_used.get_mut(topic);
        match topic.and_then(|topic| topic.get_mut(&partition)) {
            None if self.is_incomplete => Turn::FirstAlone,
            None => Turn::First,
            Some(Introduction::OnItsWay(_)) => Turn::AfterFirst,
            Some(Introduction::Met(last)) if last.elapsed() < KNOWN_FOR => {
                *last = Instant::now();
                Turn::Now
            }
            Some(Introduction::Met(_)) => Turn::FirstAlone,
        }
    }

    /// The first message was sent under this number.
    pub(crate) fn began(&mut self, topic: &Arc<str>, partition: i32, number: usize) {
        if self.count >= PARTITIONS_MAX {
            self.forget();
            self.is_incomplete = true;
        }
        let topic = self.last_used.entry(Arc::clone(topic)).or_default();
        if topic.insert(partition, Introduction::OnItsWay(number)).is_none() {
            self.count += 1;
        }
    }

    /// The message of this number was acknowledged.
    pub(crate) fn acknowledged(&mut self, topic: &str, partition: i32, number: usize) {
        let topic = self.last_used.get_mut(topic);
        if let Some(introduction) = topic.and_then(|topic| topic.get_mut(&partition))
            && matches!(introduction, Introduction::OnItsWay(first) if *first == number)
        {
            *introduction = Introduction::Met(Instant::now());
        }
    }

    /// Forgets all partitions, for a new producer.
    pub(crate) fn forget(&mut self) {
        *self = Introduced::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_partition_must_be_met_before_messages_follow_and_again_after_a_pause() {
        let mut introduced = Introduced::default();
        let topic: Arc<str> = "changes".into();
        assert_eq!(introduced.turn(&topic, 0), Turn::First);
        introduced.began(&topic, 0, 7);
        assert_eq!(introduced.turn(&topic, 0), Turn::AfterFirst);
        assert_eq!(introduced.turn(&topic, 1), Turn::First, "another partition");
        assert_eq!(introduced.turn("other", 0), Turn::First, "another topic");
        introduced.acknowledged(&topic, 0, 6);
        assert_eq!(introduced.turn(&topic, 0), Turn::AfterFirst);
        introduced.acknowledged(&topic, 0, 7);
        assert_eq!(introduced.turn(&topic, 0), Turn::Now);
        tokio::time::advance(KNOWN_FOR).await;
        assert_eq!(introduced.turn(&topic, 0), Turn::FirstAlone);
        introduced.began(&topic, 0, 9);
        introduced.acknowledged(&topic, 0, 9);
        assert_eq!(introduced.turn(&topic, 0), Turn::Now);
        introduced.forget();
        assert_eq!(introduced.turn(&topic, 0), Turn::First);
    }

    #[test]
    fn partitions_that_are_forgotten_are_met_again_when_nothing_else_is_on_its_way() {
        let mut introduced = Introduced::default();
        let topic: Arc<str> = "changes".into();
        for number in 0..=PARTITIONS_MAX {
            introduced.began(&topic, i32::try_from(number).unwrap(), number);
        }
        assert_eq!(introduced.turn(&topic, 0), Turn::FirstAlone);
        let last = i32::try_from(PARTITIONS_MAX).unwrap();
        assert_eq!(introduced.turn(&topic, last), Turn::AfterFirst);
    }

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn the_hash_is_kafkas() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }
}
