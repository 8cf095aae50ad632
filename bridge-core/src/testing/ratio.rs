//! Compares a sink with its bare client library: the row that every sink's throughput example prints.

use std::fmt;
use std::time::Duration;

/// Rounds of the same work, by a sink and by the bare client in turn, as a row of a table.
#[derive(Clone, Debug)]
pub struct Ratio {
    sink: String,
    client: String,
    records: u64,
    rounds: Vec<(Duration, Duration)>,
}

impl Ratio {
    /// Nothing measured yet; each round has this number of records.
    pub fn new(sink: &str, client: &str, records: u64) -> Ratio {
        Ratio {
            sink: sink.to_owned(),
            client: client.to_owned(),
            records,
            rounds: Vec::new(),
        }
    }

    /// Adds a round: how long the sink took, and the client.
    pub fn add(&mut self, by_the_sink: Duration, bare: Duration) {
        self.rounds.push((by_the_sink, bare));
    }

    /// The middle one of the ratios of the rounds: the sink's rate by the client's.
    pub fn median(&self) -> f64 {
        let ratio = |(sink, bare): &(Duration, Duration)| bare.as_secs_f64() / sink.as_secs_f64();
        middle(self.rounds.iter().map(ratio))
    }

    #[allow(clippy::cast_precision_loss, reason = "shown in thousands")]
    fn rate(&self, of: impl Fn(&(Duration, Duration)) -> Duration) -> f64 {
        let rate = |round| self.records as f64 / of(round).as_secs_f64() / 1_000.0;
        middle(self.rounds.iter().map(rate))
    }
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {:8} | {:24} | {:7.1} k/s | {:7.1} k/s | {:5.2} |",
            self.sink,
            self.client,
            self.rate(|round| round.0),
            self.rate(|round| round.1),
            self.median(),
        )
    }
}
