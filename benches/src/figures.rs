//! The measurements: every round, and the median and range over the rounds.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::subject::Subject;

/// The results of one round of one subject, by measure.
pub type Measures = BTreeMap<&'static str, f64>;

/// One round of one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// The scenario, with its size if it has several.
    pub scenario: String,
    /// The number of the repetition; rounds of the same number ran next to each other.
    pub repetition: usize,
    /// The subject.
    pub subject: Subject,
    /// Its results.
    pub measures: Measures,
}

/// Median, minimum and maximum of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The median; of an even number, the mean of the two middle values.
    pub median: f64,
    /// The minimum.
    pub least: f64,
    /// The maximum.
    pub most: f64,
}

impl Summary {
    /// The summary of some values; `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Summary {
            median: f64::midpoint(low, high),
            least,
            most,
        })
    }
}

/// How two subjects are compared: within a round, because the speed of the machine changes between rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The ratio.
    Ratio,
    /// The difference.
    Difference,
}

/// All rounds of a run.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    rounds: Vec<Round>,
}

impl Figures {
    /// Adds a round.
    pub fn add(&mut self, scenario: &str, repetition: usize, subject: Subject, measures: Measures) {
        let shown: Vec<String> = measures
            .iter()
            .map(|(name, value)| format!("{name} {}", crate::report::number(*value)))
            .collect();
        eprintln!(
            "{scenario}, round {}, {subject}: {}",
            repetition + 1,
            shown.join("; ")
        );
        self.rounds.push(Round {
            scenario: scenario.to_owned(),
            repetition,
            subject,
            measures,
        });
    }

    /// All rounds.
    pub fn rounds(&self) -> &[Round] {
        &self.rounds
    }

    /// The scenarios, in the order in which they ran.
    pub fn scenarios(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for round in &self.rounds {
            if !names.contains(&round.scenario.as_str()) {
                names.push(&round.scenario);
            }
        }
        names
    }

    /// The subjects of a scenario.
    pub fn subjects(&self, scenario: &str) -> Vec<Subject> {
        let of = self.rounds.iter().filter(|round| round.scenario == scenario);
        let mut subjects: Vec<Subject> = of.map(|round| round.subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        subjects
    }

    /// The measures of a scenario.
    pub fn measures(&self, scenario: &str) -> Vec<&'static str> {
        let of = self.rounds.iter().filter(|round| round.scenario == scenario);
        let mut names: Vec<&str> = of.flat_map(|round| round.measures.keys().copied()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn value(&self, scenario: &str, repetition: usize, subject: Subject, measure: &str) -> Option<f64> {
        let mut of = self.rounds.iter();
        let round = of.find(|round| {
            (round.scenario.as_str(), round.repetition, round.subject) == (scenario, repetition, subject)
        })?;
        round.measures.get(measure).copied()
    }

    fn repetitions(&self) -> usize {
        let most = self.rounds.iter().map(|round| round.repetition).max();
        most.map_or(0, |most| most + 1)
    }

    /// The results of a subject.
    pub fn summary(&self, scenario: &str, subject: Subject, measure: &str) -> Option<Summary> {
        let values = (0..self.repetitions()).filter_map(|at| self.value(scenario, at, subject, measure));
        Summary::of(values)
    }

    /// The results of a subject relative to another one, round by round.
    pub fn beside(
        &self,
        scenario: &str,
        measure: &str,
        (subject, other): (Subject, Subject),
        comparison: Comparison,
    ) -> Option<Summary> {
        let of = |at| {
            let one = self.value(scenario, at, subject, measure)?;
            let two = self.value(scenario, at, other, measure)?;
            Some(match comparison {
                Comparison::Ratio => one / two,
                Comparison::Difference => one - two,
            })
        };
        Summary::of((0..self.repetitions()).filter_map(of))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a helper of a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_one_in_the_middle_and_of_two_their_mean() {
        let check = |values: &[f64], expected: Option<(f64, f64, f64)>| {
            let summary = Summary::of(values.iter().copied());
            assert_eq!(
                summary.map(|it| (it.median, it.least, it.most)),
                expected,
                "{values:?}"
            );
        };
        check(&[], None);
        check(&[2.0], Some((2.0, 2.0, 2.0)));
        check(&[9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0)));
        check(&[4.0, 1.0, 2.0, 9.0], Some((3.0, 1.0, 9.0)));
    }

    #[test]
    fn subjects_are_compared_within_a_round() {
        let mut figures = Figures::default();
        for (at, bridge, floor) in [(0, 10.0, 20.0), (1, 100.0, 100.0), (2, 4.0, 5.0)] {
            figures.add("s", at, Subject::Bridge, Measures::from([("m", bridge)]));
            figures.add("s", at, Subject::Pipeline, Measures::from([("m", floor)]));
        }
        let both = (Subject::Bridge, Subject::Pipeline);
        let ratio = figures.beside("s", "m", both, Comparison::Ratio).unwrap();
        assert_eq!((ratio.least, ratio.median, ratio.most), (0.5, 0.8, 1.0));
        let difference = figures.beside("s", "m", both, Comparison::Difference).unwrap();
        assert_eq!(
            (difference.least, difference.median, difference.most),
            (-10.0, -1.0, 0.0)
        );
        assert_eq!(
            figures.beside("s", "other", both, Comparison::Ratio),
            None,
            "an unmeasured value has no ratio"
        );
    }
}
