//! The memory of a tree, as the operating system counts it. The only test of its process, so that nothing else allocates.

use std::collections::HashMap;
use std::hint::black_box;

use bridge_transactions::digest::PersistedStat;
use bridge_transactions::tree::{Tree, TreeZnode};

/// Bytes of memory for each znode.
const EACH_MAX: usize = 100;

/// The least memory of a plain map of paths; so the measurement sees allocations.
const PLAIN_MIN: usize = 150;

/// The memory that blocks that are not full and the allocator may take besides.
const SLACK: usize = 2 << 20;

/// The znodes: a million with `ZKBRIDGE_SIZES=full`.
fn count() -> usize {
    match std::env::var("ZKBRIDGE_SIZES").as_deref() {
        Ok("full") => 1_000_000,
        _ => 100_000,
    }
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let text = line.expect("it has the resident memory").trim();
    let kib: usize = text
        .trim_end_matches("kB")
        .trim()
        .parse()
        .expect("it is a number");
    kib << 10
}

fn path(number: usize) -> String {
    format!("/services/region-{}/instance-{number:012}/endpoint", number % 100)
}

fn stat(number: usize) -> PersistedStat {
    PersistedStat {
        czxid: i64::try_from(number).expect("it is small"),
        ..PersistedStat::default()
    }
}

/// By how much the resident memory grows while something is made.
fn growth<T>(make: impl FnOnce() -> T) -> (usize, T) {
    let before = resident();
    let made = black_box(make());
    (resident().saturating_sub(before), made)
}

#[test]
fn a_tree_takes_at_most_100_bytes_for_each_znode() {
    let count = count();
    let (tree_bytes, tree) = growth(|| {
        let mut tree = Tree::of_new_server();
        for number in 0..count {
            tree.insert(&path(number), Some(b"value"), stat(number));
        }
        tree
    });
    assert_eq!(tree.len(), count + 4);
    let (plain_bytes, plain) = growth(|| {
        let znodes = (0..count).map(|number| {
            let path = path(number);
            let znode = tree.get(&path).expect("it was inserted");
            (path, znode)
        });
        znodes.collect::<HashMap<String, TreeZnode>>()
    });
    assert_eq!(plain.len(), count);
    let each = |bytes: usize| bytes / count;
    println!(
        "a tree of {count} znodes: {} bytes each; a plain map of their paths: {} bytes each",
        each(tree_bytes),
        each(plain_bytes)
    );
    assert!(tree_bytes <= count * EACH_MAX + SLACK, "{tree_bytes} bytes");
    assert!(plain_bytes >= count * PLAIN_MIN, "{plain_bytes} bytes");
}
