//! The goals of the bridge, relative to the baselines of the same rounds.

use serde::Serialize;

use crate::figures::{Comparison, Figures, Summary};
use crate::scenario::{
    cut, idle, journal, large, latency, lossless, reconnect, services, start, sustained, viewers,
};
use crate::subject::Subject::{
    self, Bridge, BridgeObserver, BridgeServices, BridgeTxnlog, BridgeViewers, Curator, Pipeline, Walk,
};

/// The bound of a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// The reference of the bridge's value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    /// Nothing: the value itself.
    Itself,
    /// Nothing: the value of this subject.
    Of(Subject),
    /// The ratio to another subject's value.
    By(Subject),
    /// The difference from another subject's value.
    Less(Subject),
    /// The ratio of another subject's value to that of the bridge.
    OtherBy(Subject),
    /// The difference of another subject's value from that of the bridge.
    OtherLess(Subject),
}

struct Goal {
    title: &'static str,
    scenario: &'static str,
    measure: &'static str,
    beside: Beside,
    bound: Bound,
}

const fn goal(
    title: &'static str,
    scenario: &'static str,
    measure: &'static str,
    beside: Beside,
    bound: Bound,
) -> Goal {
    Goal {
        title,
        scenario,
        measure,
        beside,
        bound,
    }
}

use Beside::{By, Itself, Less, Of, OtherBy, OtherLess};
use Bound::{AtLeast, AtMost};

/// All goals, except those of single sinks, which have their own benchmark.
#[rustfmt::skip] // One row each.
const GOALS: [Goal; 44] = [
    goal("sustained rate by that of the bare pipeline", sustained::NAME, sustained::RATE, By(Pipeline), AtLeast(0.9)),
    goal("sustained rate by that of Curator", sustained::NAME, sustained::RATE, By(Curator), AtLeast(1.5)),
    goal("sustained: versions delivered, %", sustained::NAME, sustained::DELIVERED, Itself, AtLeast(99.0)),
    goal("sustained: versions neither delivered nor declared, %", sustained::NAME, sustained::SILENT, Itself, AtMost(0.0)),
    goal("sustained: last record acknowledged, ms after the last write", sustained::NAME, sustained::BEHIND, Itself, AtMost(100.0)),
    goal("sustained: p99 of a value's age by that of the bare pipeline", sustained::NAME, sustained::AGE_P99, By(Pipeline), AtMost(3.0)),
    goal("CPU for a change by that of the bare pipeline", sustained::NAME, sustained::CPU, By(Pipeline), AtMost(1.5)),
    goal("CPU for a change by that of Curator", sustained::NAME, sustained::CPU, By(Curator), AtMost(0.5)),
    goal("ZooKeeper's CPU for a change by that with the bare pipeline", sustained::NAME, sustained::ZOOKEEPER_CPU, By(Pipeline), AtMost(1.1)),
    goal("latency: p50 less that of the bare pipeline, ms", latency::SAME_LINGER, latency::P50, Less(Pipeline), AtMost(1.0)),
    goal("latency: p99 by that of the bare pipeline", latency::SAME_LINGER, latency::P99, By(Pipeline), AtMost(1.5)),
    goal("latency: CPU for a change by that of the bare pipeline", latency::SAME_LINGER, latency::CPU, By(Pipeline), AtMost(2.0)),
    goal("latency with the sink's own linger: p50, ms", latency::OWN_LINGER, latency::P50, Itself, AtMost(3.0)),
    goal("start, 100,000 znodes: time by that of the bare pipeline", start::HUNDRED_THOUSAND, start::SECONDS, By(Pipeline), AtMost(3.0)),
    goal("start, 100,000 znodes: time by that of Curator", start::HUNDRED_THOUSAND, start::SECONDS, By(Curator), AtMost(0.2)),
    goal("start, 100,000 znodes: peak memory, MB", start::HUNDRED_THOUSAND, start::MEMORY, Itself, AtMost(60.0)),
    goal("start, 1,000,000 znodes: time by that of the bare pipeline", start::MILLION, start::SECONDS, By(Pipeline), AtMost(3.0)),
    goal("start, 1,000,000 znodes: time by that of Curator", start::MILLION, start::SECONDS, By(Curator), AtMost(0.2)),
    goal("start, 1,000,000 znodes: peak memory, MB", start::MILLION, start::MEMORY, Itself, AtMost(100.0)),
    goal("reconnect, nothing changed: time by that of the raw walk", reconnect::NAME, reconnect::SECONDS, By(Walk), AtMost(2.0)),
    goal("reconnect, nothing changed: records other than the gap's two", reconnect::NAME, reconnect::RECORDS, Itself, AtMost(0.0)),
    goal("cut: paths that stay wrong", cut::NAME, cut::WRONG, Itself, AtMost(0.0)),
    goal("journal alone, random updates of 1,000,000 paths: records/s", journal::NAME, journal::RATE, Itself, AtLeast(50_000.0)),
    goal("journal alone: p99 of a batch of 500, ms", journal::NAME, journal::P99, Itself, AtMost(20.0)),
    goal("idle: CPU, % of one core", idle::NAME, idle::CPU, Itself, AtMost(0.2)),
    goal("idle: memory, MB", idle::NAME, idle::MEMORY, Itself, AtMost(60.0)),
    goal("sustained: paths whose last state is wrong", sustained::NAME, sustained::WRONG, Itself, AtMost(0.0)),
    goal("services: CPU for a delivered change by that without sections", services::NAME, sustained::CPU_DELIVERED, OtherBy(BridgeServices), AtMost(1.25)),
    goal("services: memory of 100,000 instances in 1,000 services, MB", services::REGISTRY, idle::MEMORY, OtherLess(BridgeServices), AtMost(30.0)),
    goal("32 viewers at 10,000 changes/s: CPU for them, % of one core", viewers::NAME, idle::CPU, OtherLess(BridgeViewers), AtMost(30.0)),
    goal("start, 100,000 znodes: paths missing in the topic", start::HUNDRED_THOUSAND, start::MISSING, Itself, AtMost(0.0)),
    goal("observer: versions delivered at the highest rate, %", lossless::SUSTAINED, sustained::DELIVERED, Of(BridgeObserver), AtLeast(100.0)),
    goal("txnlog: versions delivered at the highest rate, %", lossless::SUSTAINED, sustained::DELIVERED, Of(BridgeTxnlog), AtLeast(100.0)),
    goal("observer: CPU for a change at the highest rate by that of a watch", lossless::SUSTAINED, sustained::CPU, OtherBy(BridgeObserver), AtMost(1.0)),
    goal("observer: ZooKeeper's CPU for a change, beyond the writes, by that of a watch", lossless::LATENCY, latency::ZOOKEEPER_MORE, OtherBy(BridgeObserver), AtMost(0.5)),
    goal("observer: latency p50 by that of a watch", lossless::LATENCY, latency::P50, OtherBy(BridgeObserver), AtMost(1.0)),
    goal("observer: latency p99 by that of a watch", lossless::LATENCY, latency::P99, OtherBy(BridgeObserver), AtMost(1.0)),
    goal("observer: missed writes in the topic, s after the server's first answer", lossless::BACK, lossless::AFTER_ANSWER, Of(BridgeObserver), AtMost(0.5)),
    goal("observer: missed writes delivered, %", lossless::BACK, sustained::DELIVERED, Of(BridgeObserver), AtLeast(100.0)),
    goal("observer: gaps after missed writes", lossless::BACK, lossless::GAPS, Of(BridgeObserver), AtMost(0.0)),
    goal("observer, 1,000,000 znodes: start until all is in the topic, s", large::MILLION_START, start::SECONDS, Of(BridgeObserver), AtMost(20.0)),
    goal("observer, 1,000,000 znodes: peak memory, MB", large::MILLION_WRITES, sustained::MEMORY, Of(BridgeObserver), AtMost(100.0)),
    goal("observer, 1,000,000 znodes: versions delivered at the highest rate, %", large::MILLION_WRITES, sustained::DELIVERED, Of(BridgeObserver), AtLeast(100.0)),
    goal("observer, 1,000,000 znodes: missed transactions into the topic, a second", large::MILLION_WRITES, large::CATCH_UP, Of(BridgeObserver), AtLeast(30_000.0)),
];

/// A goal and its result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The title of the goal.
    pub title: &'static str,
    /// `≥ 0.9`.
    pub goal: String,
    /// The result over the rounds; the median counts.
    pub reached: Option<Summary>,
    /// Whether the goal is met; `None` if it was not measured.
    pub is_met: Option<bool>,
}

/// All goals with their results.
pub fn outcomes(figures: &Figures) -> Vec<Outcome> {
    GOALS.iter().map(|goal| goal.outcome(figures)).collect()
}

impl Goal {
    fn outcome(&self, figures: &Figures) -> Outcome {
        let beside =
            |other, comparison| figures.beside(self.scenario, self.measure, (Bridge, other), comparison);
        let beside_bridge =
            |other, comparison| figures.beside(self.scenario, self.measure, (other, Bridge), comparison);
        let reached = match self.beside {
            Itself => figures.summary(self.scenario, Bridge, self.measure),
            Of(subject) => figures.summary(self.scenario, subject, self.measure),
            By(other) => beside(other, Comparison::Ratio),
            Less(other) => beside(other, Comparison::Difference),
            OtherBy(other) => beside_bridge(other, Comparison::Ratio),
            OtherLess(other) => beside_bridge(other, Comparison::Difference),
        };
        let (sign, bound) = match self.bound {
            AtLeast(bound) => ("≥", bound),
            AtMost(bound) => ("≤", bound),
        };
        Outcome {
            title: self.title,
            goal: format!("{sign} {bound}"),
            reached,
            is_met: reached.map(|reached| self.bound.holds(reached.median)),
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            AtLeast(bound) => value >= bound,
            AtMost(bound) => value <= bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Measures;

    fn outcome(figures: &Figures, title: &str) -> Outcome {
        let all = outcomes(figures);
        all.into_iter()
            .find(|outcome| outcome.title == title)
            .expect("there is such a goal")
    }

    #[test]
    fn a_goal_is_met_by_the_middle_round_and_unknown_without_one() {
        let title = "sustained rate by that of the bare pipeline";
        let mut figures = Figures::default();
        assert_eq!(outcome(&figures, title).is_met, None);
        for (at, rate) in [0.2, 0.95, 0.9].into_iter().enumerate() {
            figures.add(
                sustained::NAME,
                at,
                Bridge,
                Measures::from([(sustained::RATE, rate)]),
            );
            figures.add(
                sustained::NAME,
                at,
                Pipeline,
                Measures::from([(sustained::RATE, 1.0)]),
            );
        }
        assert_eq!(outcome(&figures, title).is_met, Some(true));
        assert_eq!(outcome(&figures, title).goal, "≥ 0.9");
        let by_curator = outcome(&figures, "sustained rate by that of Curator");
        assert_eq!(by_curator.is_met, None, "Curator was left out");
    }

    #[test]
    fn a_goal_that_is_missed_says_so() {
        let mut figures = Figures::default();
        figures.add(cut::NAME, 0, Bridge, Measures::from([(cut::WRONG, 1.0)]));
        let missed = outcome(&figures, "cut: paths that stay wrong");
        assert_eq!(missed.is_met, Some(false));
    }
}
