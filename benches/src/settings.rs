//! The scenarios and sizes of a run.

use std::path::PathBuf;
use std::time::Duration;

/// The scenarios, by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Scenario {
    /// Writes at the maximum rate of the server.
    Sustained,
    /// Writes at a steady rate, and the age of each value at its arrival.
    Latency,
    /// A start with an existing tree.
    Start,
    /// A lost and restored connection without changes.
    Reconnect,
    /// A lost and restored connection with many changes.
    Cut,
    /// A tree without changes.
    Idle,
    /// Bytes on the network.
    Network,
    /// Sources that read transactions beside one that watches: the next four.
    Lossless,
    /// Of these, writes at the maximum rate of the server.
    LosslessRate,
    /// Writes at a steady rate.
    LosslessLatency,
    /// A connection that is lost for some hundred writes.
    LosslessBack,
    /// Large trees: a start, writes at the maximum rate, and a connection that is lost for many writes.
    LosslessLarge,
    /// Service events beside a bridge without.
    Services,
    /// Viewers of the API's stream beside a bridge without.
    Viewers,
}

/// Those that are chosen by default, in the order in which they run: all, parts of others left out.
pub const SCENARIOS: [Scenario; 10] = [
    Scenario::Sustained,
    Scenario::Latency,
    Scenario::Start,
    Scenario::Reconnect,
    Scenario::Cut,
    Scenario::Idle,
    Scenario::Network,
    Scenario::Lossless,
    Scenario::Services,
    Scenario::Viewers,
];

/// The size of everything.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// The number of repetitions.
    pub repetitions: usize,
    /// Znodes that writers write to.
    pub written_znodes: usize,
    /// Writes of a sustained round.
    pub sustained_writes: usize,
    /// Unmeasured writes that warm up the servers before the first round, and each subject before its rounds count.
    pub warming_writes: usize,
    /// Writes a second for the latency.
    pub paced_rate: u32,
    /// Writes of a round of latency.
    pub paced_writes: usize,
    /// Writes a second while streams are viewed.
    pub viewed_rate: u32,
    /// Writes of a round of it.
    pub viewed_writes: usize,
    /// The sizes of the trees of a start.
    pub start_trees: Vec<usize>,
    /// The size of the tree of a reconnect.
    pub reconnect_tree: usize,
    /// Writes that a lost connection misses, fewer than a leader keeps in memory.
    pub missed_writes: usize,
    /// Writes to a large tree, and those that a connection misses of which a leader keeps all.
    pub large_writes: usize,
    /// The size of the idle tree.
    pub idle_tree: usize,
    /// The time of the idle scenario.
    pub idle: Duration,
    /// The size of the tree of the network scenario.
    pub network_tree: usize,
    /// How long a program needs after its start to free memory and close files.
    pub settle: Duration,
    /// The topic counts as complete after this time without a message.
    pub quiet: Duration,
    /// Bytes of each value.
    pub value_bytes: usize,
}

impl Sizes {
    /// The sizes of the published goals.
    pub fn full() -> Sizes {
        Sizes {
            repetitions: 5,
            written_znodes: 1_000,
            sustained_writes: 150_000,
            warming_writes: 100_000,
            paced_rate: 500,
            paced_writes: 5_000,
            viewed_rate: 10_000,
            viewed_writes: 200_000,
            start_trees: vec![100_000, 1_000_000],
            reconnect_tree: 1_000_000,
            missed_writes: 400,
            large_writes: 200_000,
            idle_tree: 100_000,
            idle: Duration::from_secs(60),
            network_tree: 10_000,
            settle: Duration::from_secs(5),
            quiet: Duration::from_millis(1_500),
            value_bytes: 100,
        }
    }

    /// Sizes for minutes instead of an hour.
    pub fn quick() -> Sizes {
        Sizes {
            repetitions: 3,
            sustained_writes: 60_000,
            warming_writes: 60_000,
            paced_writes: 2_000,
            viewed_writes: 100_000,
            start_trees: vec![100_000],
            reconnect_tree: 100_000,
            large_writes: 50_000,
            idle: Duration::from_secs(30),
            ..Sizes::full()
        }
    }
}

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The zkbridge program.
    pub bridge: PathBuf,
    /// The program of this harness, which includes the baselines.
    pub harness: PathBuf,
    /// The folder of the journals. It must be on a real disk: a file system in memory would hide the cost of fsync.
    pub folder: PathBuf,
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// The sizes.
    pub sizes: Sizes,
    /// The output of `make bench-journal`; `None` omits it.
    pub journal: Option<PathBuf>,
    /// The class path of the Java program; `None` omits it.
    pub peer: Option<String>,
}
