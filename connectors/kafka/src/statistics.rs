//! librdkafka's own statistics, as metrics of the bridge.
//!
//! Only values that the metrics of every sink do not have. The counters of a producer begin at zero with
//! each new one; those of the bridge never go back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bridge_core::metrics as names;
use metrics::{Counter, Gauge, counter, gauge};
use rdkafka::Statistics;
use rdkafka::statistics::Broker;

/// How often librdkafka reports, in ms. One report takes well below a millisecond where there is one topic.
pub(crate) const INTERVAL_MS: &str = "10000";

/// Listens to the statistics of the producers of a sink, one after another.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    /// Until when brokers do not listen to us, and for how long in all.
    throttled: Arc<Mutex<Option<(Instant, Duration)>>>,
    instruments: Option<Arc<Instruments>>,
}

struct Instruments {
    messages: Gauge,
    bytes: Gauge,
    round_trip: Gauge,
    throttle: Gauge,
    sent: Counter,
    retries: Counter,
    errors: Counter,
    /// The counts of the present producer so far.
    counted: Mutex<Counted>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    /// The producer: each has another name.
    producer: String,
    sent: u64,
    retries: u64,
    errors: u64,
}

impl Meter {
    /// A meter that feeds the metrics of this sink.
    pub(crate) fn of(sink: &str, source: &str) -> Meter {
        let labels = [("sink", sink.to_owned()), ("source", source.to_owned())];
        Meter {
            throttled: Arc::default(),
            instruments: Some(Arc::new(Instruments {
                messages: gauge!(names::KAFKA_QUEUED_MESSAGES, &labels),
                bytes: gauge!(names::KAFKA_QUEUED_BYTES, &labels),
                round_trip: gauge!(names::KAFKA_ROUND_TRIP, &labels),
                throttle: gauge!(names::KAFKA_THROTTLE, &labels),
                sent: counter!(names::KAFKA_SENT_MESSAGES, &labels),
                retries: counter!(names::KAFKA_RETRIES, &labels),
                errors: counter!(names::KAFKA_ERRORS, &labels),
                counted: Mutex::default(),
            })),
        }
    }

    /// How long brokers do not listen, to slow the sink down; `None` where they do.
    pub(crate) fn throttle(&self) -> Option<Duration> {
        let throttled = self.throttled.lock().unwrap_or_else(PoisonError::into_inner);
        throttled
            .filter(|(until, _)| Instant::now() < *until)
            .map(|(_, pause)| pause)
    }

    /// Takes in a report of a producer.
    pub(crate) fn take(&self, report: &Statistics) {
        let throttle_ms = greatest(&report.brokers, |broker| {
            broker.throttle.as_ref().map(|window| window.max)
        });
        let throttle = Duration::from_millis(throttle_ms);
        // It is reported with one answer, and not again while the brokers are silent because of it.
        if !throttle.is_zero() {
            let until = Instant::now() + throttle;
            *self.throttled.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, throttle));
        }
        let Some(instruments) = &self.instruments else {
            return;
        };
        let round_trip_us = greatest(&report.brokers, |broker| {
            broker.rtt.as_ref().map(|window| window.p99)
        });
        instruments.messages.set(report.msg_cnt as f64);
        instruments.bytes.set(report.msg_size as f64);
        instruments
            .round_trip
            .set(Duration::from_micros(round_trip_us).as_secs_f64());
        instruments
            .throttle
            .set(self.throttle().unwrap_or_default().as_secs_f64());
        instruments.count(Counted::of(report));
    }
}

impl Instruments {
    fn count(&self, now: Counted) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.since(&counted);
        self.sent.increment(since.sent);
        self.retries.increment(since.retries);
        self.errors.increment(since.errors);
        *counted = now;
    }
}

impl Counted {
    fn of(report: &Statistics) -> Counted {
        let sum = |count: fn(&Broker) -> u64| report.brokers.values().map(count).sum();
        Counted {
            producer: report.name.clone(),
            sent: u64::try_from(report.txmsgs).unwrap_or_default(),
            retries: sum(|broker| broker.txretries),
            errors: sum(|broker| broker.txerrs + broker.req_timeouts),
        }
    }

    /// The increase.
    fn since(&self, before: &Counted) -> Counted {
        if self.producer != before.producer {
            return self.clone();
        }
        Counted {
            producer: self.producer.clone(),
            sent: self.sent.saturating_sub(before.sent),
            retries: self.retries.saturating_sub(before.retries),
            errors: self.errors.saturating_sub(before.errors),
        }
    }
}

fn greatest(brokers: &HashMap<String, Broker>, value: impl Fn(&Broker) -> Option<i64>) -> u64 {
    let greatest = brokers.values().filter_map(value).max();
    greatest
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_producer_counts_from_zero_and_the_bridge_goes_on() {
        let counted = |producer: &str, sent: u64| Counted {
            producer: producer.to_owned(),
            sent,
            retries: 2 * sent,
            errors: 0,
        };
        let check = |now: Counted, before: Counted, expected: u64| {
            let since = now.since(&before);
            assert_eq!((since.sent, since.retries), (expected, 2 * expected));
        };
        check(counted("p-1", 5), Counted::default(), 5);
        check(counted("p-1", 12), counted("p-1", 5), 7);
        check(counted("p-2", 3), counted("p-1", 12), 3);
        check(counted("p-2", 3), counted("p-2", 3), 0);
    }
}
