//! A stage against the tree of another module that was checked against servers.

use std::io::Write;

use bridge_core::path::ZnodePath;
use bridge_transactions::digest::{PathCharset, PersistedStat};
use bridge_transactions::snapshot::{AclId, SnapshotZnode};
use bridge_transactions::testing;
use bridge_transactions::transaction::{AclEntry, Lifetime, TreeDigest};
use bridge_transactions::tree::Tree;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const SESSIONS: [i64; 3] = [7, 0xff00_0000_0000_0009_u64.cast_signed(), -3];

fn seed() -> u64 {
    let replayed = std::env::var("ZKBRIDGE_SEED").ok();
    replayed.map_or_else(rand::random, |text| {
        text.parse().expect("ZKBRIDGE_SEED is a number")
    })
}

fn path(random: &mut StdRng) -> String {
    let names = ["a", "b", "a-b", "ä"];
    let depth = random.random_range(1..=3);
    (0..depth)
        .map(|_| format!("/{}", names[random.random_range(0..names.len())]))
        .collect()
}

fn operation(random: &mut StdRng) -> Operation {
    let path = path(random);
    let acl = vec![AclEntry {
        permissions: random.random_range(1..32),
        scheme: "world".to_owned(),
        id: "anyone".to_owned(),
    }];
    let version = random.random_range(0..5);
    match random.random_range(0..10) {
        0..4 => Operation::Create {
            path,
            data: Some(vec![7; random.random_range(0..4)]),
            acl,
            lifetime: [
                Lifetime::Persistent,
                Lifetime::Ephemeral,
                Lifetime::Container,
                Lifetime::Ttl { ms: 500 },
            ][random.random_range(0..4)],
            parent_cversion: [-1, 1, 9][random.random_range(0..3)],
        },
        4..6 => Operation::Delete { path },
        6..8 => Operation::SetData {
            path,
            data: Some(vec![8; random.random_range(0..4)]),
            version,
        },
        8 => Operation::SetAcl { path, acl, version },
        _ => Operation::CloseSession {
            paths: random.random_bool(0.5).then(Vec::new),
        },
    }
}

/// Whether a server would commit this: parents exist, are not ephemeral, and are not deleted.
fn is_valid(operation: &Operation, tree: &Tree, paths: &[String]) -> bool {
    match operation {
        Operation::Create { path, .. } => {
            let above = path.rfind('/').map_or("", |at| &path[..at]);
            let owner = tree.get(above).map(|znode| znode.stat.ephemeral_owner);
            owner == Some(0) && tree.get(path).is_none()
        }
        Operation::Delete { path } => {
            let below = format!("{path}/");
            !paths
                .iter()
                .any(|other| other.starts_with(&below) && tree.get(other).is_some())
        }
        _ => true,
    }
}

fn transaction(zxid: i64, random: &mut StdRng, tree: &Tree, paths: &[String]) -> Transaction {
    let valid: Vec<Operation> = std::iter::repeat_with(|| operation(random))
        .filter(|operation| is_valid(operation, tree, paths))
        .take(3)
        .collect();
    let is_write = |operation: &Operation| matches!(operation, Operation::SetData { .. });
    let is_multi = random.random_bool(0.3) && valid[1..].iter().all(is_write);
    let operation = match (is_multi, &valid[0]) {
        (true, Operation::Create { .. } | Operation::SetData { .. } | Operation::Delete { .. }) => {
            Operation::Multi(valid)
        }
        (_, first) => first.clone(),
    };
    Transaction {
        session: SESSIONS[random.random_range(0..SESSIONS.len())],
        time: zxid * 10,
        ..testing::transaction(zxid, operation, None)
    }
}

fn folder() -> std::path::PathBuf {
    std::env::temp_dir()
}

/// The whole tree, in pages of any size.
fn pages(stage: &Stage, below: &str, random: &mut StdRng) -> Vec<bridge_core::committed::StagedNode> {
    let mut nodes: Vec<bridge_core::committed::StagedNode> = Vec::new();
    loop {
        let read = StageRead {
            below: ZnodePath::parse(below).unwrap(),
            after: nodes.last().map(|node| node.path.clone()),
            nodes: random.random_range(1..5),
            bytes: random.random_range(0..6),
        };
        let page = stage.page(&read, AclDigests::Full).unwrap();
        assert!(page.is_last || !page.nodes.is_empty(), "a page makes progress");
        nodes.extend(page.nodes);
        if page.is_last {
            return nodes;
        }
    }
}

#[test]
fn a_stage_has_the_digest_and_the_znodes_of_the_tree_after_any_transactions() {
    let seed = seed();
    println!("ZKBRIDGE_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..20 {
        let mut stage = Stage::of_new_ensemble(&folder(), 1).unwrap();
        let mut tree = Tree::of_new_server();
        let (mut lists, mut paths) = (0, Vec::new());
        for zxid in 1..=150 {
            let mut transaction = transaction((1 << 32) + zxid, &mut random, &tree, &paths);
            let first = match &transaction.operation {
                Operation::Multi(parts) => &parts[0],
                other => other,
            };
            paths.extend(first.path().map(str::to_owned));
            tree.apply(&transaction);
            transaction.digest = Some(TreeDigest {
                version: DIGEST_VERSION,
                value: tree.digest(),
            });
            stage.take(&transaction).unwrap();
            assert_eq!(stage.nodes.digest(), tree.digest(), "{transaction:?}");
            lists += usize::from(matches!(transaction.operation, Operation::SetAcl { .. }));
        }
        assert!(lists > 0);
        stage.up_to_date();
        assert_eq!(stage.exact_at().unwrap().digest, Some(tree.digest()));
        let nodes = pages(&stage, "/", &mut random);
        for (at, node) in nodes.iter().enumerate() {
            let parent = node.path.parent();
            assert!(parent.is_none_or(|parent| nodes[..at].iter().any(|other| other.path == parent)));
            let is_child = |other: &&bridge_core::committed::StagedNode| {
                other.path.parent().as_ref() == Some(&node.path)
            };
            let mut names: Vec<&str> = nodes
                .iter()
                .filter(is_child)
                .map(|other| other.path.name())
                .collect();
            names.sort_unstable();
            let listed: Vec<&str> = node.children.iter().map(|name| &**name).collect();
            assert_eq!(listed, names, "{}", node.path);
            let expected: Vec<_> = nodes
                .iter()
                .filter(|other| node.path.covers(&other.path))
                .map(|other| &other.path)
                .collect();
            let below = pages(&stage, &node.path, &mut random);
            assert_eq!(
                below.iter().map(|other| &other.path).collect::<Vec<_>>(),
                expected
            );
        }
    }
}

#[test]
fn a_subtree_that_is_not_there_has_the_zxid_of_its_nearest_ancestor() {
    let mut stage = Stage::of_new_ensemble(&folder(), 1).unwrap();
    let create = Operation::Create {
        path: "/a".to_owned(),
        data: None,
        acl: Vec::new(),
        lifetime: Lifetime::Persistent,
        parent_cversion: -1,
    };
    let mut tree = Tree::of_new_server();
    let mut transaction = testing::transaction((1 << 32) + 1, create, None);
    tree.apply(&transaction);
    transaction.digest = Some(TreeDigest {
        version: DIGEST_VERSION,
        value: tree.digest(),
    });
    stage.take(&transaction).unwrap();
    stage.up_to_date();
    for (below, above) in [
        ("/a/b/c", (1 << 32) + 1),
        ("/b", (1 << 32) + 1),
        ("/zookeeper/x", 0),
    ] {
        let read = StageRead {
            below: ZnodePath::parse(below).unwrap(),
            after: None,
            nodes: 10,
            bytes: 10,
        };
        let page = stage.page(&read, AclDigests::Full).unwrap();
        assert!(page.is_last && page.nodes.is_empty());
        assert_eq!(page.above, Some(Zxid(above)), "{below}");
    }
}

#[test]
fn owners_of_a_snapshot_are_sessions_where_the_table_has_them() {
    let mut acls = AclLists::default();
    let [plain, like_ttl, _] = SESSIONS;
    assert_eq!(acls.lifetime_of(like_ttl), Lifetime::Ttl { ms: 9 });
    acls.session(like_ttl).unwrap();
    assert_eq!(acls.lifetime_of(like_ttl), Lifetime::Ephemeral);
    assert_eq!(acls.lifetime_of(plain), Lifetime::Ephemeral);
    assert_eq!(acls.lifetime_of(0), Lifetime::Persistent);
    assert_eq!(acls.lifetime_of(i64::MIN), Lifetime::Container);
}

#[test]
fn without_digests_a_tree_is_exact_when_the_observer_is_up_to_date_and_a_new_one_never_unproved() {
    let set = |zxid: i64| {
        let operation = Operation::SetData {
            path: "/".to_owned(),
            data: None,
            version: 1,
        };
        testing::transaction((1 << 32) + zxid, operation, None)
    };
    let mut tree = tempfile::tempfile().unwrap();
    tree.write_all(&testing::snapshot_body(&[], &[], &[testing::root()]))
        .unwrap();
    let mut stage = Stage::of_snapshot(&folder(), 1, 1 << 32, tree, &|| false).unwrap();
    assert_eq!(stage.exact_at(), None);
    stage.take(&set(1)).unwrap();
    stage.up_to_date();
    let at = stage.exact_at().unwrap();
    assert_eq!((at.zxid, at.digest), (Zxid((1 << 32) + 1), None));

    let mut stage = Stage::of_new_ensemble(&folder(), 1).unwrap();
    stage.up_to_date();
    assert_eq!(stage.exact_at(), None);
    stage.take(&set(1)).unwrap();
    assert_eq!(stage.exact_at(), None);
}

#[test]
fn a_digest_that_is_never_equal_gives_the_tree_up() {
    let mut stage = Stage::of_new_ensemble(&folder(), 1).unwrap();
    let digest = Some(TreeDigest {
        version: DIGEST_VERSION,
        value: 7,
    });
    stage.unproved = UNPROVED_MAX - 1;
    let session = || Operation::CreateSession { timeout: 1 };
    stage
        .take(&testing::transaction((1 << 32) + 1, session(), digest))
        .unwrap();
    stage.up_to_date();
    assert!(stage.is_contradicted() && stage.exact_at().is_none());
    let given_up = stage.take(&testing::transaction((1 << 32) + 2, session(), digest));
    assert!(matches!(given_up, Err(StageError::Unproved(_))));
}

#[test]
fn a_tree_of_servers_without_digests_is_not_given_up_however_many_transactions_follow() {
    let mut stage = Stage::new(&folder(), 1, 1 << 32, true).unwrap();
    for path in FIRST_PATHS {
        stage.nodes.insert(&Node::first(path)).unwrap();
    }
    stage.unproved = UNPROVED_MAX;
    let at = |number: i64, operation, digest| testing::transaction((1 << 32) + number, operation, digest);
    let write = || Operation::SetData {
        path: "/zookeeper/quota".to_owned(),
        data: Some(vec![1]),
        version: 1,
    };
    let session = || Operation::CreateSession { timeout: 1 };
    stage.take(&at(1, session(), None)).unwrap();
    stage.take(&at(2, write(), None)).unwrap();
    stage.up_to_date();
    assert_eq!(stage.exact_at().unwrap().zxid.0, (1 << 32) + 2);
    let digest = Some(TreeDigest {
        version: DIGEST_VERSION,
        value: 7,
    });
    let given_up = stage.take(&at(3, session(), digest)).unwrap_err();
    assert!(!given_up.to_string().contains("leader"), "{given_up}");
}

#[test]
fn a_replayed_create_gives_an_existing_znode_the_list_that_the_snapshot_lacks() {
    let at = |zxid: i64| (1 << 32) + zxid;
    let own = |id: &str| AclEntry {
        id: id.to_owned(),
        ..testing::anyone()
    };
    // It was created, and another one got another list, after the table of the lists had been written.
    let znode = |path: &str, acl, zxid| SnapshotZnode {
        path: path.to_owned(),
        acl: AclId(acl),
        stat: PersistedStat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ..PersistedStat::default()
        },
        ..testing::root()
    };
    let znodes = [testing::root(), znode("/a", 8, at(1)), znode("/b", 9, at(0))];
    let mut tree = tempfile::tempfile().unwrap();
    tree.write_all(&testing::snapshot_body(&[], &[], &znodes))
        .unwrap();
    let mut stage = Stage::of_snapshot(&folder(), 1, at(0), tree, &|| false).unwrap();
    let create = Operation::Create {
        path: "/a".to_owned(),
        data: None,
        acl: vec![own("alice")],
        lifetime: Lifetime::Persistent,
        parent_cversion: 1,
    };
    let set = Operation::SetAcl {
        path: "/b".to_owned(),
        acl: vec![own("bob")],
        version: 1,
    };
    stage.take(&testing::transaction(at(1), create, None)).unwrap();
    stage.take(&testing::transaction(at(2), set, None)).unwrap();
    stage.up_to_date();
    let read = StageRead {
        below: ZnodePath::slash(),
        after: None,
        nodes: 10,
        bytes: 1000,
    };
    let page = stage.page(&read, AclDigests::Full).unwrap();
    let list = |path: &str| {
        let node = page.nodes.iter().find(|node| *node.path == *path).unwrap();
        node.acl.as_ref().map(|list| list[0].id.clone())
    };
    assert_eq!(list("/"), Some("anyone".to_owned()));
    assert_eq!(list("/a"), Some("alice".to_owned()));
    assert_eq!(list("/b"), Some("bob".to_owned()));
    let node = page.nodes.iter().find(|node| *node.path == *"/a").unwrap();
    assert_eq!(
        (node.raw.aversion, node.raw.czxid),
        (0, Zxid(at(1).cast_unsigned()))
    );
}

#[test]
fn a_tree_is_exact_if_its_digest_agrees_in_the_charset_of_the_leader() {
    let create = || Operation::Create {
        path: "/Zoë".to_owned(),
        data: None,
        acl: vec![testing::anyone()],
        lifetime: Lifetime::Persistent,
        parent_cversion: 1,
    };
    let mut tree = Tree::of_new_server();
    tree.apply(&testing::transaction((1 << 32) + 1, create(), None));
    for charset in PathCharset::ALL {
        let value = tree.digest_in(charset);
        let mut stage = Stage::of_new_ensemble(&folder(), 1).unwrap();
        let version = DIGEST_VERSION;
        let digest = |value| Some(TreeDigest { version, value });
        stage
            .take(&testing::transaction((1 << 32) + 1, create(), digest(value)))
            .unwrap();
        stage.up_to_date();
        let at = stage.exact_at().expect("it is exact");
        let is_of_other_charset = charset != PathCharset::Utf8;
        assert_eq!(
            (at.digest, at.is_of_other_charset),
            (Some(value), is_of_other_charset),
            "{charset:?}"
        );
        let session = Operation::CreateSession { timeout: 1 };
        stage
            .take(&testing::transaction((1 << 32) + 2, session, digest(value ^ 1)))
            .unwrap();
        assert!(stage.is_contradicted() && stage.exact_at().is_none());
    }
}

#[test]
fn the_error_of_a_malformed_request_has_no_place_in_the_history_of_a_stage() {
    let error = |zxid| testing::transaction(zxid, Operation::Error { code: -5 }, None);
    let session = |zxid| testing::transaction(zxid, Operation::CreateSession { timeout: 1 }, None);
    let mut tree = tempfile::tempfile().unwrap();
    tree.write_all(&testing::snapshot_body(&[], &[], &[testing::root()]))
        .unwrap();
    let mut stage = Stage::of_snapshot(&folder(), 1, 1 << 32, tree, &|| false).unwrap();
    stage.take(&session((1 << 32) + 1)).unwrap();
    stage.take(&error((1 << 32) + 1)).unwrap();
    // The leader of the next epoch has not given a zxid yet.
    stage.take(&error(2 << 32)).unwrap();
    stage.up_to_date();
    let at = stage.exact_at().unwrap();
    assert_eq!(at.zxid, Zxid((1 << 32) + 1));
    assert_eq!(at.payload_crc, Some(session((1 << 32) + 1).payload_crc));
    stage.take(&session((2 << 32) + 1)).unwrap();
    // Any other transaction under that number is one too many.
    let begin = session(3 << 32);
    assert!(matches!(stage.take(&begin), Err(StageError::Hole { .. })));
}

#[test]
fn different_lists_have_a_limit_and_the_same_list_counts_once() {
    let list = |user: &str| {
        vec![AclEntry {
            permissions: 31,
            scheme: "digest".to_owned(),
            id: user.to_owned(),
        }]
    };
    let mut acls = AclLists::limited(2_000);
    for _ in 0..100 {
        acls.id_of(&list("one:user")).unwrap();
    }
    let mut users = (0..100).map(|user| acls.id_of(&list(&format!("{user}:user"))));
    let refused = users.find_map(Result::err).unwrap();
    assert!(
        refused
            .to_string()
            .contains("bytes of memory, and the limit is 2000"),
        "{refused}"
    );
}
