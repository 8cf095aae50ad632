//! Trees, lists, values, paths and storms of every size: nothing is lost, and memory stays within a stated bound.
//!
//! The short form runs with all tests. `ZKBRIDGE_SIZES=full` takes the sizes that are promised, and `make size` runs
//! that with the release build, prints the table and fails when a bound is broken.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use bridge_servers::{ZooKeeper, eventually, is_at_rest, real_servers};
use serde_json::Value;

use crate::bridge::Bridge;
use crate::load::{Load, Write};
use crate::resident::Resident;

/// How long the largest of these may take on a machine busy with other things.
const LONG: Duration = Duration::from_secs(1_800);

/// The memory that the bridge may hold, whatever the size of the tree: the figure that is promised for the release
/// build. A debug build is larger by its own code.
const RESIDENT_MAX: u64 = 100_000_000;
/// The memory that it may hold in a storm, when events, values and records of many znodes wait.
const RESIDENT_IN_STORM_MAX: u64 = 200_000_000;
/// The same with values of 1 MB: several of them are in flight at every step.
const RESIDENT_OF_LARGE_VALUES_MAX: u64 = 300_000_000;

/// Small sizes for every run of the tests, or the published ones.
fn sized(short: usize, full: usize) -> usize {
    match std::env::var("ZKBRIDGE_SIZES") {
        Ok(form) if form == "full" => full,
        Ok(form) => panic!("ZKBRIDGE_SIZES is '{form}': give 'full', or nothing for the short form"),
        Err(_) => short,
    }
}

/// The sum of the records of a znode.
#[derive(Debug, PartialEq)]
struct Reported {
    value: String,
    version: i64,
    /// Versions that were reported, or counted as missed.
    accounted: i64,
}

/// A server, a bridge with a file sink, and the records so far.
struct Stage {
    _zookeeper: ZooKeeper,
    load: Load,
    bridge: Bridge,
    file: Option<BufReader<std::fs::File>>,
    /// The position of the last record; records that are repeated after a kill are before it.
    seq: u64,
    reported: HashMap<String, Reported>,
    gaps: Vec<String>,
}

impl Stage {
    /// A server with a tree of `nodes`; the bridge is not started.
    async fn with(nodes: impl Iterator<Item = Write>) -> Stage {
        let zookeeper = ZooKeeper::builder().heap("2g").start().await.unwrap();
        let load = Load::connect(&zookeeper.connect_string()).await;
        load.create(nodes).await;
        let source = format!(
            "[[source]]\nconnect = \"{}\"\nroots = [\"/\"]\nsession_timeout = \"60s\"\n",
            zookeeper.connect_string()
        );
        let sink = "[[sink]]\nname = \"file\"\ntype = \"file\"\npath = \"all.jsonl\"\nrotate = \"off\"\n";
        Stage {
            _zookeeper: zookeeper,
            load,
            bridge: Bridge::configured(&format!("{source}{sink}")),
            file: None,
            seq: 0,
            reported: HashMap::new(),
            gaps: Vec::new(),
        }
    }

    /// Waits until everything is captured and written, and takes it in.
    async fn settle(&mut self) {
        let bridge = &self.bridge;
        let rest = eventually("everything to be written", LONG, || async {
            is_at_rest(&bridge.status().await)
        });
        if let Err(error) = rest.await {
            panic!(
                "{error}: {:#}\n{}",
                bridge.status().await,
                bridge.log().join("\n")
            );
        }
        self.read_on();
    }

    /// Starts the bridge and waits until it is live with everything written. Returns the time.
    async fn start(&mut self) -> Duration {
        let began = Instant::now();
        self.bridge.start().await;
        self.settle().await;
        began.elapsed()
    }

    /// Waits until the znode was reported with this value and everything is at rest.
    async fn until_reported(&mut self, path: &str, value: &str) {
        let began = Instant::now();
        while self.reported.get(path).is_none_or(|znode| znode.value != value) {
            assert!(began.elapsed() < LONG, "{path} was not reported with {value}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.settle().await;
        }
    }

    fn read_on(&mut self) {
        let file = self.file.get_or_insert_with(|| {
            let file = std::fs::File::open(self.bridge.folder().join("all.jsonl"));
            BufReader::with_capacity(1 << 20, file.unwrap())
        });
        let mut line = String::new();
        while file.read_line(&mut line).unwrap() > 0 {
            let record: Value = serde_json::from_str(&line).unwrap();
            let seq = record["seq"].as_u64().unwrap();
            if seq > self.seq {
                self.seq = seq;
                take(&mut self.reported, &mut self.gaps, &record);
            }
            line.clear();
        }
    }

    fn resident(&mut self) -> Resident {
        Resident::of(self.bridge.child().id())
    }

    async fn journal_bytes(&self) -> u64 {
        let status = self.bridge.status().await;
        status["sources"][0]["journal"]["file_bytes"].as_u64().unwrap()
    }

    /// Prints a row of the table, and fails when the bound is broken.
    async fn report(&mut self, what: &str, took: Duration, changes: usize, bound: u64) {
        let (resident, journal) = (self.resident(), self.journal_bytes().await);
        println!(
            "| {what} | {changes} | {:.1} s | {resident} | {} MB | {} |",
            took.as_secs_f64(),
            journal / 1_000_000,
            self.gaps.join(" ")
        );
        assert!(
            resident.peak <= bound,
            "{what}: {resident} resident, and {} MB is the bound",
            bound / 1_000_000
        );
        Resident::forget_peak(self.bridge.child().id());
    }
}

/// Adds a record to the sums.
fn take(reported: &mut HashMap<String, Reported>, gaps: &mut Vec<String>, record: &Value) {
    let Some(path) = record["path"].as_str() else {
        if record["op"] == "gap_end" {
            gaps.push(record["gap"]["reason"].as_str().unwrap_or("?").to_owned());
        }
        return;
    };
    match record["op"].as_str().unwrap_or_default() {
        "delete" => drop(reported.remove(path)),
        "create" | "snapshot" | "update" => {
            let before = reported.get(path).map_or(0, |znode| znode.accounted);
            let missed = record["missed"].as_i64();
            // A listing accounts for all earlier versions.
            let version = record["after"]["stat"]["version"].as_i64().unwrap_or_default();
            let now = Reported {
                value: record["after"]["data"]["value"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                version,
                accounted: before + 1 + missed.unwrap_or(version),
            };
            reported.insert(path.to_owned(), now);
        }
        _ => {}
    }
}

/// Fails unless exactly these znodes were reported, with these values, and every version is accounted for.
fn check_reported<'a>(
    reported: &HashMap<String, Reported>,
    expected: impl Iterator<Item = (String, &'a str, i64)>,
) {
    let mut count = 0;
    for (path, value, version) in expected {
        count += 1;
        let expected = Reported {
            value: value.to_owned(),
            version,
            accounted: version + 1,
        };
        let found = reported.get(&path);
        assert_eq!(found, Some(&expected), "{path}");
    }
    let below = reported.keys().filter(|path| path.as_str() != "/").count();
    assert_eq!(below, count, "reported and existing znodes");
}

/// The value of most znodes: 100 bytes.
const SMALL: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

/// A tree of three levels with so many leaves, parents first.
fn tree(leaves: usize) -> impl Iterator<Item = String> {
    (0..leaves).flat_map(|leaf| {
        let (top, middle) = (leaf / 10_000, leaf / 100 % 100);
        let top_path = format!("/top-{top:02}");
        let middle_path = format!("{top_path}/middle-{middle:02}");
        let path = format!("{middle_path}/leaf-{:02}", leaf % 100);
        let is_first = |size: usize| leaf % size == 0;
        let above = [(is_first(10_000), top_path), (is_first(100), middle_path)];
        let above = above
            .into_iter()
            .filter_map(|(is_new, path)| is_new.then_some(path));
        above.chain([path])
    })
}

fn small(paths: impl Iterator<Item = String>) -> impl Iterator<Item = Write> {
    paths.map(|path| (path, SMALL.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_any_size_is_walked_and_followed_within_100_mb() {
    real_servers!("a large tree");
    let (leaves, changes) = (sized(10_000, 1_000_000), sized(2_000, 100_000));
    let mut stage = Stage::with(small(tree(leaves))).await;
    let took = stage.start().await;
    stage
        .report("walked and journalled", took, leaves, RESIDENT_MAX)
        .await;
    let paths: Vec<String> = tree(leaves).collect();
    check_reported(&stage.reported, paths.iter().map(|path| (path.clone(), SMALL, 0)));

    // Spread over the whole tree.
    let changed = |at: usize| &paths[at * (paths.len() / changes)];
    let began = Instant::now();
    let writes = (0..changes).map(|at| (changed(at).clone(), b"changed".to_vec()));
    stage.load.set(writes).await;
    stage
        .load
        .create([("/last".to_owned(), b"last".to_vec())].into_iter())
        .await;
    stage.until_reported("/last", "last").await;
    stage
        .report("followed", began.elapsed(), changes, RESIDENT_MAX)
        .await;
    assert_eq!(stage.gaps, [""; 0]);

    stage.bridge.kill().await;
    let before = stage.seq;
    let took = stage.start().await;
    stage
        .report("compared after kill -9", took, leaves, RESIDENT_MAX)
        .await;
    assert_eq!(stage.seq - before, 2, "a gap without differences");
    assert_eq!(
        stage.reported.values().filter(|znode| znode.version == 1).count(),
        changes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_znode_with_more_names_below_it_than_fit_into_1_mb_is_listed_and_followed() {
    real_servers!("many children");
    // The names of the short form are longer, so that their list is of 1.2 MB, too.
    let children = sized(20_000, 100_000);
    let name = |at: usize| format!("/many/a-child-with-a-name-that-is-rather-long-{at:014}");
    let nodes = std::iter::once("/many".to_owned()).chain((0..children).map(name));
    let mut stage = Stage::with(small(nodes)).await;
    let took = stage.start().await;
    stage
        .report("children listed", took, children, RESIDENT_MAX)
        .await;
    // While it is down, and while it is live.
    stage.bridge.kill().await;
    stage.load.create(small([name(children)].into_iter())).await;
    stage.load.set([(name(7), b"changed".to_vec())].into_iter()).await;
    let took = stage.start().await;
    stage.load.create(small([name(children + 1)].into_iter())).await;
    stage.until_reported(&name(children + 1), SMALL).await;
    stage
        .report("children compared", took, children, RESIDENT_MAX)
        .await;
    let expected = (0..children + 2).map(|at| match at {
        7 => (name(at), "changed", 1),
        _ => (name(at), SMALL, 0),
    });
    check_reported(&stage.reported, expected.chain([("/many".to_owned(), SMALL, 0)]));
    assert_eq!(stage.gaps, ["started"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_1_mb_that_follow_many_small_ones_are_read_in_bounded_memory() {
    real_servers!("large values");
    let (small_ones, large_ones) = (2_000, sized(60, 200));
    let large = "x".repeat((1 << 20) - 1024);
    let path = |at: usize| format!("/n{at:04}");
    let value = |at: usize| if at < small_ones { SMALL } else { large.as_str() };
    let count = small_ones + large_ones;
    let mut stage = Stage::with((0..count).map(|at| (path(at), value(at).into()))).await;
    let took = stage.start().await;
    stage
        .report(
            "values of 1 MB listed",
            took,
            large_ones,
            RESIDENT_OF_LARGE_VALUES_MAX,
        )
        .await;
    check_reported(&stage.reported, (0..count).map(|at| (path(at), value(at), 0)));
    // Small ones become large, all at once.
    let began = Instant::now();
    let grown = (0..large_ones).map(|at| (path(at), large.clone().into_bytes()));
    stage.load.set(grown).await;
    stage.until_reported(&path(large_ones - 1), &large).await;
    stage
        .report(
            "values of 1 MB followed",
            began.elapsed(),
            large_ones,
            RESIDENT_OF_LARGE_VALUES_MAX,
        )
        .await;
    assert_eq!(stage.gaps, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_100_levels_is_listed_followed_and_recorded_when_it_is_deleted() {
    real_servers!("deep paths");
    let deep = |levels: usize| {
        (0..levels)
            .map(|level| format!("/level-{level:03}"))
            .collect::<String>()
    };
    let mut stage = Stage::with(small((1..=100).map(deep))).await;
    let took = stage.start().await;
    stage
        .load
        .set([(deep(100), b"changed".to_vec())].into_iter())
        .await;
    stage.until_reported(&deep(100), "changed").await;
    stage.report("100 levels", took, 100, RESIDENT_MAX).await;
    let below = format!("{}/below", deep(100));
    stage.bridge.kill().await;
    stage.load.create(small([below.clone()].into_iter())).await;
    stage.start().await;
    let expected = (1..=99).map(|levels| (deep(levels), SMALL, 0));
    let expected = expected.chain([(deep(100), "changed", 1), (below.clone(), SMALL, 0)]);
    check_reported(&stage.reported, expected);
    let levels = (1..=100).rev().map(deep);
    for path in std::iter::once(below).chain(levels) {
        stage.load.delete(&path).await;
    }
    stage.load.create(small(["/last".to_owned()].into_iter())).await;
    stage.until_reported("/last", SMALL).await;
    check_reported(&stage.reported, [("/last".to_owned(), SMALL, 0)].into_iter());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_on_one_znode_leaves_memory_bounded_and_no_version_uncounted() {
    real_servers!("a storm on one znode");
    let changes = sized(20_000, 500_000);
    let mut stage = Stage::with(small(["/hot".to_owned()].into_iter())).await;
    stage.start().await;
    let began = Instant::now();
    let writes = (1..=changes).map(|at| ("/hot".to_owned(), at.to_string().into_bytes()));
    stage.load.set(writes).await;
    stage.until_reported("/hot", &changes.to_string()).await;
    stage
        .report(
            "storm on one znode",
            began.elapsed(),
            changes,
            RESIDENT_IN_STORM_MAX,
        )
        .await;
    let last = changes.to_string();
    check_reported(
        &stage.reported,
        [("/hot".to_owned(), last.as_str(), changes as i64)].into_iter(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_on_many_znodes_leaves_memory_bounded_and_no_version_uncounted() {
    real_servers!("a storm on many znodes");
    let (nodes, rounds) = (sized(4_000, 100_000), 5);
    let path = |at: usize| format!("/storm/n{at:06}");
    let paths = || std::iter::once("/storm".to_owned()).chain((0..nodes).map(path));
    let mut stage = Stage::with(small(paths())).await;
    stage.start().await;
    let began = Instant::now();
    for round in 1..=rounds {
        let writes = (0..nodes).map(|at| (path(at), round.to_string().into_bytes()));
        stage.load.set_in_multis(writes).await;
    }
    let last = rounds.to_string();
    stage.until_reported(&path(nodes - 1), &last).await;
    stage
        .report(
            "storm on many znodes",
            began.elapsed(),
            nodes * rounds,
            RESIDENT_IN_STORM_MAX,
        )
        .await;
    let expected = (0..nodes).map(|at| (path(at), last.as_str(), rounds as i64));
    check_reported(&stage.reported, expected.chain([("/storm".to_owned(), SMALL, 0)]));
}
