//! A watch and an observer beside each other on one ensemble: what both report is the same, and what only the observer has
//! is counted by the watch.

use std::collections::BTreeMap;

use bridge_servers::{ZooKeeper, real_servers};
use serde_json::Value;

use crate::judge::judge;
use crate::observer::observer;
use crate::stage::{Bridge, changes, create, last_zxid};

/// Rounds of changes; each has a burst of writes of one znode.
const ROUNDS: usize = 6;

/// The fields of a Stat that name a version.
const NAMING: [&str; 7] = [
    "czxid",
    "mzxid",
    "ctime",
    "mtime",
    "version",
    "dataLength",
    "ephemeralOwner",
];

/// The fields of a Stat that name a list.
const NAMING_LIST: [&str; 2] = ["czxid", "aversion"];

fn is_change(record: &Value) -> bool {
    matches!(
        record["op"].as_str(),
        Some("create" | "update" | "delete" | "acl")
    )
}

/// The records of changes by id.
fn by_id(records: &[Value]) -> BTreeMap<&str, &Value> {
    let changes = records.iter().filter(|record| is_change(record));
    changes
        .map(|record| (record["id"].as_str().unwrap(), record))
        .collect()
}

/// The difference of two records of one id.
fn difference(watch: &Value, observer: &Value) -> Option<String> {
    let differs = |pointer: &str| {
        let (one, other) = (watch.pointer(pointer), observer.pointer(pointer));
        let has_both = one.is_some_and(|one| !one.is_null()) && other.is_some_and(|other| !other.is_null());
        (has_both && one != other).then(|| format!("{pointer} is {one:?} and {other:?}"))
    };
    // A watch reads a list later than it was written, with the data of that moment.
    let is_list = watch["op"] == "acl";
    let naming: &[&str] = if is_list { &NAMING_LIST } else { &NAMING };
    let stat = naming.iter().map(|field| format!("/after/stat/{field}"));
    let data = (!is_list).then_some("/after/data");
    let pointers = ["/op", "/path", "/root", "/cluster"]
        .into_iter()
        .chain(data)
        .map(str::to_owned);
    let mut found = pointers.chain(stat).filter_map(|pointer| differs(&pointer));
    found.next()
}

/// How many versions the records of each incarnation account for, those that are only counted included. Incarnations of
/// the first listing are left out.
fn versions(records: &[Value]) -> BTreeMap<(String, String), u64> {
    let mut living: BTreeMap<&str, String> = BTreeMap::new();
    let mut versions = BTreeMap::new();
    for record in records
        .iter()
        .filter(|record| record["op"] != "acl" && is_change(record))
    {
        let path = record["path"].as_str().unwrap();
        let own = match record["op"].as_str() {
            Some("create") => {
                living.insert(path, record["zxid"].as_str().unwrap().to_owned());
                1
            }
            Some("update") => 1,
            _ => 0,
        };
        if let Some(czxid) = living.get(path) {
            let missed = record["missed"].as_u64().unwrap();
            *versions.entry((path.to_owned(), czxid.clone())).or_default() += own + missed;
        }
        if record["op"] == "delete" {
            living.remove(path);
        }
    }
    versions
}

/// The complaints about the records of both.
fn complaints(watch: &[Value], observer: &[Value]) -> Vec<String> {
    let (ids, others) = (by_id(watch), by_id(observer));
    let mut complaints = Vec::new();
    for (id, record) in &ids {
        match others.get(id) {
            None => complaints.push(format!("only the watch has {record}")),
            Some(other) => {
                complaints.extend(difference(record, other).map(|what| format!("{id}: {what}")));
            }
        }
    }
    let (counted, exact) = (versions(watch), versions(observer));
    for (incarnation, count) in &exact {
        let found = counted.get(incarnation).copied().unwrap_or_default();
        if found != *count {
            complaints.push(format!(
                "{incarnation:?} has {count} versions by the observer, and {found} by the watch"
            ));
        }
    }
    let unknown = counted
        .keys()
        .filter(|incarnation| !exact.contains_key(*incarnation));
    complaints.extend(unknown.map(|incarnation| format!("only the watch has {incarnation:?}")));
    complaints
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_and_an_observer_give_the_same_change_the_same_id_and_the_watch_counts_the_rest() {
    real_servers!("a watch and an observer");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    create(&zookeeper, "/app").await;
    let mut watching = Bridge::of(&zookeeper, "acls = \"list\"\n");
    let mut observing = Bridge::of(&zookeeper, &observer(&zookeeper));
    watching.start();
    observing.start();
    watching.is_ready().await;
    observing.delivers(last_zxid(&zookeeper)).await;
    for number in 0..ROUNDS {
        changes(&zookeeper, number).await;
    }
    create(&zookeeper, "/app/~end").await;
    observing.delivers(last_zxid(&zookeeper)).await;
    watching.has_record_of("/app/~end").await;
    watching.stop().await;
    observing.stop().await;
    let (watch, exact) = (watching.records(), observing.records());
    let account = judge(&["observer"], &exact, &zookeeper);
    assert_eq!(account.gaps, 0, "{account}");
    assert_eq!(complaints(&watch, &exact), [""; 0]);
    let count = |records: &[Value]| records.iter().filter(|record| is_change(record)).count();
    println!(
        "{} changes by the watch, {} by the observer",
        count(&watch),
        count(&exact)
    );
    // Negative controls, on these records.
    let updated = |records: &[Value]| {
        records
            .iter()
            .rposition(|record| record["op"] == "update")
            .unwrap()
    };
    let mut spoiled = watch.clone();
    spoiled[updated(&watch)]["after"]["data"]["value"] = "another".into();
    assert_eq!(complaints(&spoiled, &exact).len(), 1);
    let mut spoiled = watch.clone();
    let at = updated(&watch);
    spoiled[at]["missed"] = (spoiled[at]["missed"].as_u64().unwrap() + 1).into();
    assert_eq!(complaints(&spoiled, &exact).len(), 1);
    let mut spoiled = exact.clone();
    spoiled.remove(updated(&exact));
    assert!(!complaints(&watch, &spoiled).is_empty());
}
