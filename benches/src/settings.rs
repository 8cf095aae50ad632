//! What a run measures, and how much of it.

use std::path::PathBuf;
use std::time::Duration;

/// The scenarios, by the names under which they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Scenario {
    /// As many writes as the server takes.
    Sustained,
    /// Some hundred writes a second, and how old a value is when it comes.
    Latency,
    /// The start beside a tree that is there.
    Start,
    /// A connection that is lost and comes back, and nothing has changed.
    Reconnect,
    /// A connection that is lost and comes back, and much has changed.
    Cut,
    /// A tree of which nothing changes.
    Idle,
    /// What goes over the network.
    Network,
}

/// All of them, in the order in which they run.
pub const SCENARIOS: [Scenario; 7] = [
    Scenario::Sustained,
    Scenario::Latency,
    Scenario::Start,
    Scenario::Reconnect,
    Scenario::Cut,
    Scenario::Idle,
    Scenario::Network,
];

/// The size of everything.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// How often each subject has its turn.
    pub repetitions: usize,
    /// Znodes that writers write to.
    pub written_znodes: usize,
    /// Writes of a sustained round.
    pub sustained_writes: usize,
    /// Writes before the first round, so that the servers have compiled what they run.
    pub warming_writes: usize,
    /// Writes a second where latency is measured.
    pub paced_rate: u32,
    /// Writes of a round of latency.
    pub paced_writes: usize,
    /// Trees beside which subjects start.
    pub start_trees: Vec<usize>,
    /// The tree that nothing has changed in after a connection was lost.
    pub reconnect_tree: usize,
    /// The tree that is watched and left alone.
    pub idle_tree: usize,
    /// For how long.
    pub idle: Duration,
    /// The tree whose listing and comparison are counted in bytes.
    pub network_tree: usize,
    /// Until a program has dealt with its start: freed memory, closed what it opened.
    pub settle: Duration,
    /// When nothing has come for so long, all has come.
    pub quiet: Duration,
    /// Bytes of each value.
    pub value_bytes: usize,
}

impl Sizes {
    /// What is promised.
    pub fn full() -> Sizes {
        Sizes {
            repetitions: 5,
            written_znodes: 1_000,
            sustained_writes: 150_000,
            warming_writes: 100_000,
            paced_rate: 500,
            paced_writes: 5_000,
            start_trees: vec![100_000, 1_000_000],
            reconnect_tree: 1_000_000,
            idle_tree: 100_000,
            idle: Duration::from_secs(60),
            network_tree: 10_000,
            settle: Duration::from_secs(5),
            quiet: Duration::from_millis(1_500),
            value_bytes: 100,
        }
    }

    /// What shows a change of the code within minutes.
    pub fn quick() -> Sizes {
        Sizes {
            repetitions: 3,
            sustained_writes: 60_000,
            warming_writes: 60_000,
            paced_writes: 2_000,
            start_trees: vec![100_000],
            reconnect_tree: 100_000,
            idle: Duration::from_secs(30),
            ..Sizes::full()
        }
    }
}

/// What is run, and with what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The zkbridge program.
    pub bridge: PathBuf,
    /// This harness's own program, which has the floors, too.
    pub harness: PathBuf,
    /// Where journals are: on the disk that is meant, as a file system in memory would make its part vanish.
    pub folder: PathBuf,
    /// What runs.
    pub scenarios: Vec<Scenario>,
    /// How much of it.
    pub sizes: Sizes,
    /// What `make bench-journal` printed; `None` leaves it out.
    pub journal: Option<PathBuf>,
    /// The class path of the program in Java; `None` leaves it out.
    pub peer: Option<String>,
}
