//! A run: one testbed after the other, each with other servers, round after round, until the time is over or a round fails.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bridge_judge::verdict::Census;

use crate::capture::Capture;
use crate::failure_files;
use crate::operation_counts::OperationCounts;
use crate::round::{self, Outcome};
use crate::testbed::{Testbed, TestbedOptions};
use crate::transaction_trials;
use crate::trials;

/// Children of the widest znode in a long run.
const WIDE: usize = 20_000;

/// The servers of a long run, one testbed after the other, repeated. The newest version is the most frequent.
const TESTBEDS: [TestbedOptions; 8] = [
    options("3.9.5", 3, 0),
    options("3.8.6", 3, WIDE),
    options("3.9.5", 1, WIDE),
    options("3.7.2", 3, 0),
    options("3.9.5", 3, WIDE),
    options("3.6.4", 1, 0),
    options("3.9.5", 3, 0),
    options("3.6.4", 3, 0),
];

/// Rounds of a testbed of a long run: everything is judged from its start, so that each round takes longer to judge.
const ROUNDS: usize = 6;

/// How long faults last in a round of a long run, and of a short one.
const LONG_ROUND: Duration = Duration::from_secs(20);
const SHORT_ROUND: Duration = Duration::from_secs(6);

/// Children of the widest znode in a short run.
const SHORT_WIDTH: usize = 500;

const fn options(version: &'static str, servers: usize, width: usize) -> TestbedOptions {
    TestbedOptions {
        version,
        servers,
        width,
        capture: Capture::Watch,
        reads_log: true,
    }
}

/// The length of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Acts on all lines, begun until this time is over.
    Time(Duration),
    /// One testbed of two quick rounds on three servers of this version.
    Short(&'static str),
}

/// A run of chaos.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// The `zkbridge` program.
    pub bridge: PathBuf,
    /// Chooses work and faults.
    pub seed: u64,
    /// Its length.
    pub length: Length,
    /// How the bridge captures.
    pub capture: Capture,
    /// The folder for the files of a failure.
    pub keep: PathBuf,
}

/// The result of a run.
#[derive(Default)]
pub struct Total {
    trials: usize,
    testbeds: usize,
    rounds: usize,
    transactions: usize,
    tried: u64,
    faults: OperationCounts,
    census: Census,
    /// Of sources that read transactions: exact records, and gaps that a server forced.
    exact: usize,
    forced: usize,
    /// The most packets that a leader had waiting for the bridge.
    queued: u64,
    /// Looks at which the bridge was connected to servers, always through a proxy.
    connected: u64,
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Total {
            trials,
            testbeds,
            rounds,
            transactions,
            tried,
            faults,
            census,
            exact,
            forced,
            queued,
            connected,
        } = self;
        writeln!(
            f,
            "{trials} trials, {testbeds} testbeds, {rounds} rounds, {tried} writes tried, {transactions} transactions committed"
        )?;
        writeln!(f, "{} faults: {faults}", faults.total())?;
        writeln!(
            f,
            "at {connected} looks the bridge was connected to servers, always through a proxy"
        )?;
        if *exact > 0 {
            writeln!(
                f,
                "{exact} exact records judged in every field, {forced} gaps, all of them forced; at most {queued} packets \
                 queued for the bridge"
            )?;
        }
        write!(f, "{census}")
    }
}

impl Chaos {
    /// Plays, and prints a line for each round.
    ///
    /// # Errors
    ///
    /// If a promise is broken, with the folder of its files; or if something could not be started.
    pub async fn run(&self) -> Result<Total> {
        println!(
            "chaos with seed {}, capture = {:?}",
            self.seed,
            self.capture.name()
        );
        let mut total = Total {
            trials: match self.length {
                Length::Time(_) => self.trials().await?,
                Length::Short(_) => 0,
            },
            ..Total::default()
        };
        let started = Instant::now();
        for number in 0.. {
            let (options, rounds, lasting) = match self.length {
                Length::Time(_) => (TESTBEDS[number % TESTBEDS.len()], ROUNDS, LONG_ROUND),
                Length::Short(version) => (options(version, 3, SHORT_WIDTH), 2, SHORT_ROUND),
            };
            let options = TestbedOptions {
                capture: self.capture,
                ..options
            };
            total.testbeds += 1;
            let mut testbed = Box::pin(Testbed::open(options, &self.bridge, "")).await?;
            if self.capture.is_lossless() {
                // A first listing covers everything before it, so that little would be judged.
                testbed.bridge.ready().await?;
            }
            let mut last = None;
            for round in 0..rounds {
                if self.is_over(started) && round > 0 {
                    break;
                }
                let seed = self.seed ^ ((number as u64) << 32 | (round as u64) << 16);
                let outcome = Box::pin(self.play(&mut testbed, number, seed, lasting)).await?;
                total.rounds += 1;
                total.tried += outcome.tried;
                total.faults.add(&outcome.faults);
                total.queued = total.queued.max(outcome.queued);
                total.connected += outcome.connected;
                last = Some(outcome);
            }
            if let Some(last) = last {
                total.transactions += last.transactions;
                total.census.add(&last.census);
                let account = last.account.unwrap_or_default();
                total.exact += account.exact;
                total.forced += account.gaps;
            }
            if self.is_over(started) {
                break;
            }
        }
        Ok(total)
    }

    /// Plays the trials alone, and prints a line for each. Returns how many there were.
    ///
    /// # Errors
    ///
    /// If the bridge does not do what is expected, with the folder of the files; or if something could not be started.
    pub async fn trials(&self) -> Result<usize> {
        match self.capture {
            Capture::Watch => Box::pin(trials::play(&self.bridge, &self.keep)).await,
            capture => Box::pin(transaction_trials::play(capture, &self.bridge, &self.keep)).await,
        }
    }

    fn is_over(&self, started: Instant) -> bool {
        match self.length {
            Length::Time(time) => started.elapsed() >= time,
            Length::Short(_) => started.elapsed() >= SHORT_ROUND * 2,
        }
    }

    async fn play(
        &self,
        testbed: &mut Testbed,
        number: usize,
        seed: u64,
        lasting: Duration,
    ) -> Result<Outcome> {
        let complaints = match round::play(testbed, seed, lasting).await {
            Ok(outcome) if outcome.complaints.is_empty() => {
                say(testbed, number, &outcome);
                return Ok(outcome);
            }
            Ok(outcome) => outcome.complaints,
            Err(error) => vec![format!("{error:#}")],
        };
        let (round, options) = (testbed.rounds, testbed.options);
        let name = format!("seed-{}-testbed-{}-round-{round}", self.seed, number + 1);
        let folder = failure_files::keep(testbed, &self.keep, &name, &complaints)?;
        let shown: Vec<&str> = complaints.iter().take(20).map(String::as_str).collect();
        bail!(
            "seed {}, testbed {} ({}, {} servers), round {round}: {} complaints\n{}\nall of it is kept in {}: read \
             complaints.txt, topic.tsv and bridge.log there; SEED={} repeats the choices",
            self.seed,
            number + 1,
            options.version,
            options.servers,
            complaints.len(),
            shown.join("\n"),
            folder.display(),
            self.seed,
        )
    }
}

fn say(testbed: &Testbed, number: usize, outcome: &Outcome) {
    let queued = outcome.queued;
    let exact = outcome
        .account
        .map(|account| format!("; {account}; at most {queued} packets queued for it"));
    let exact = exact.unwrap_or_default();
    println!(
        "testbed {} ({}, {} servers) round {}: {} transactions, {} digests agree, {}{}; at rest after {:.1} s, judged in {:.1} s; \
         faults: {}",
        number + 1,
        testbed.options.version,
        testbed.options.servers,
        testbed.rounds,
        outcome.transactions,
        outcome.digests,
        outcome.census,
        exact,
        outcome.healed_in.as_secs_f64(),
        outcome.judged_in.as_secs_f64(),
        outcome.faults,
    );
}
