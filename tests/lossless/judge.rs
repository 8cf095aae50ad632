//! Compares all records with the servers' logs, by the judge that shares nothing with the product.

use std::path::PathBuf;

use bridge_judge::truth::Truth;
use bridge_judge::verdict::{Account, Lossless, snapshots_sent};
use bridge_servers::ZooKeeper;
use serde_json::Value;

/// Complaints that are printed: the first ones show the cause.
const SHOWN_MAX: usize = 20;

/// The true history, from the logs of all servers.
pub fn truth(zookeeper: &ZooKeeper) -> Truth {
    let servers = 0..zookeeper.count();
    let data_dirs: Vec<PathBuf> = servers.map(|server| zookeeper.data_dir(server)).collect();
    Truth::of_servers(&data_dirs)
}

/// The positions after which a server sent its whole tree instead of the history.
fn forced(zookeeper: &ZooKeeper) -> Vec<u64> {
    let logs = (0..zookeeper.count()).map(|server| std::fs::read_to_string(zookeeper.log(server)).unwrap());
    logs.flat_map(|log| snapshots_sent(&log))
        .map(|snapshot| snapshot.after)
        .collect()
}

/// Every committed transaction below `/app` is in the records once and exactly, and nothing else is; there is no gap that
/// the servers did not force. Each record says that it was read in one of these modes.
pub fn judge(modes: &[&str], records: &[Value], zookeeper: &ZooKeeper) -> Account {
    judge_by(modes, records, &truth(zookeeper), &forced(zookeeper))
}

/// The same by a history that was read before, from files that may be gone.
pub fn judge_by(modes: &[&str], records: &[Value], truth: &Truth, forced: &[u64]) -> Account {
    let records: Vec<&Value> = records.iter().collect();
    let lossless = Lossless {
        records: &records,
        truth,
        roots: &["/app".to_owned()],
        modes,
        has_lists: true,
        forced,
    };
    let (account, complaints) = lossless.judge();
    let shown: Vec<&String> = complaints.iter().take(SHOWN_MAX).collect();
    assert!(
        complaints.is_empty(),
        "{} complaints: {shown:#?}",
        complaints.len()
    );
    println!("{modes:?}: {account}; {} digests agree", truth.digests);
    account
}
