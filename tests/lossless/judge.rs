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

/// The counts of the judge, and its complaints.
fn judged(modes: &[&str], records: &[Value], truth: &Truth, forced: &[u64]) -> (Account, Vec<String>) {
    let records: Vec<&Value> = records.iter().collect();
    let lossless = Lossless {
        records: &records,
        truth,
        roots: &["/app".to_owned()],
        modes,
        has_lists: true,
        forced,
    };
    lossless.judge()
}

/// The same by a history that was read before, from files that may be gone.
pub fn judge_by(modes: &[&str], records: &[Value], truth: &Truth, forced: &[u64]) -> Account {
    let (account, complaints) = judged(modes, records, truth, forced);
    let shown: Vec<&String> = complaints.iter().take(SHOWN_MAX).collect();
    assert!(
        complaints.is_empty(),
        "{} complaints: {shown:#?}",
        complaints.len()
    );
    println!("{modes:?}: {account}; {} digests agree", truth.digests);
    account
}

/// Negative controls, on records that the judge has found right: it notices each that is not as the servers wrote it.
pub fn notices_each_fault(modes: &[&str], records: &[Value], zookeeper: &ZooKeeper) {
    let (truth, forced) = (truth(zookeeper), forced(zookeeper));
    let is_update = |record: &&Value| record["op"] == "update" && !record["txn"].is_null();
    let of_one = records
        .iter()
        .filter(is_update)
        .map(|record| &record["path"])
        .next();
    let path = of_one.expect("a znode was written").clone();
    let updates: Vec<usize> = (0..records.len())
        .filter(|at| is_update(&&records[*at]) && records[*at]["path"] == path)
        .collect();
    let (first, second) = (updates[updates.len() / 2], updates[updates.len() / 2 + 1]);
    let notices = |fault: &str, spoil: &dyn Fn(&mut Vec<Value>)| {
        let mut spoiled = records.to_vec();
        spoil(&mut spoiled);
        let (_, complaints) = judged(modes, &spoiled, &truth, &forced);
        assert!(!complaints.is_empty(), "{fault}: no complaint");
    };
    notices("two values that are exchanged", &|records| {
        let value = records[first]["after"]["data"].take();
        records[first]["after"]["data"] = std::mem::replace(&mut records[second]["after"]["data"], value);
    });
    notices("two versions in the wrong order", &|records| {
        records.swap(first, second)
    });
    notices("a version that is lost", &|records| drop(records.remove(first)));
    notices("a version that comes twice", &|records| {
        let again = records[first].clone();
        records.insert(second, again);
    });
    notices("the session of another client", &|records| {
        records[first]["txn"]["session"] = "0x0000000000000001".into();
    });
    for field in [
        "/txn/time",
        "/txn/cxid",
        "/after/stat/mtime",
        "/after/stat/version",
    ] {
        notices(field, &|records| {
            let number = records[first].pointer_mut(field).expect("the record has it");
            *number = (number.as_i64().expect("it is a number") + 1).into();
        });
    }
    notices("the zxid of the version after it", &|records| {
        records[first]["zxid"] = records[second]["zxid"].clone();
    });
    notices("a gap that no server forced", &|records| {
        let at = records.iter().position(|record| record["op"] == "snapshot_end");
        let mut begin = records[at.expect("there was a listing")].clone();
        begin["op"] = "gap_begin".into();
        records.insert(first, begin);
    });
}
