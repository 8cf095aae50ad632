//! Every answer of a leader, in and out of order.

use bridge_core::committed::{HistoryPosition, SyncKind};
use bridge_core::number::Zxid;
use bridge_core::source::SourceErrorKind;
use bridge_transactions::testing;
use bridge_transactions::transaction::{DIGEST_VERSION, Lifetime, Operation, Transaction, TreeDigest};
use bridge_transactions::tree::Tree;
use bridge_zookeeper::observer::ObserverOptions;

use crate::leader::{
    EPOCH, Leader, Sent, Step, begin, commit, diff, finish, inform, leader_info, new_leader, ping, proposal,
    snap, trunc, up_to_date,
};
use crate::player::Player;

/// Nobody listens there.
pub const NO_CLIENT_PORT: &str = "127.0.0.1:1";

pub fn at(zxid: i64) -> Option<HistoryPosition> {
    Some(HistoryPosition {
        zxid: Zxid(zxid.cast_unsigned()),
        epoch: 3,
        ..HistoryPosition::default()
    })
}

pub fn run(options: ObserverOptions, position: Option<HistoryPosition>) -> Player {
    Player::run(options, NO_CLIENT_PORT, position)
}

pub fn create(zxid: i64, path: &str) -> Transaction {
    let operation = Operation::Create {
        path: path.to_owned(),
        data: Some(path.as_bytes().to_vec()),
        acl: Vec::new(),
        lifetime: Lifetime::Persistent,
        parent_cversion: -1,
    };
    testing::transaction(zxid, operation, None)
}

/// Transactions with the digests of a new server's tree after each of them.
fn proved(mut transactions: Vec<Transaction>) -> Vec<Transaction> {
    let mut tree = Tree::of_new_server();
    for transaction in &mut transactions {
        tree.apply(transaction);
        transaction.digest = Some(TreeDigest {
            version: DIGEST_VERSION,
            value: tree.digest(),
        });
    }
    transactions
}

/// The tree of a new server, as a leader sends it.
pub fn new_tree() -> Vec<u8> {
    let text = |text: &str| [&i32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    let node = |path: &str| {
        let stat = [0; 60];
        [
            text(path),
            text(""),
            (-1_i64).to_be_bytes().to_vec(),
            stat.to_vec(),
        ]
        .concat()
    };
    [
        vec![0; 8],
        node(""),
        node("/zookeeper"),
        node("/zookeeper/quota"),
        node("/zookeeper/config"),
        text("/"),
        text("BenWasHere"),
    ]
    .concat()
}

pub fn concat(parts: Vec<Vec<Step>>) -> Vec<Step> {
    parts.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_history_is_reported_when_it_is_committed_and_pings_are_answered_in_their_place() {
    let script = concat(vec![
        begin(EPOCH + 1),
        vec![
            diff(EPOCH + 3),
            proposal(&create(EPOCH + 2, "/b")),
            // Before NEWLEADER the leader expects no answer.
            ping(EPOCH + 2),
            commit(EPOCH + 2),
            proposal(&create(EPOCH + 3, "/c")),
            commit(EPOCH + 3),
            new_leader("server.1=127.0.0.1:2888:3888:participant\n"),
            Step::Expect(Sent::Ack(EPOCH)),
            ping(EPOCH + 3),
            Step::Expect(Sent::Ping(EPOCH + 3)),
            up_to_date(),
            Step::Expect(Sent::Ack(EPOCH)),
            inform(&create(EPOCH + 4, "/d")),
            // It is never committed.
            proposal(&create(EPOCH + 5, "/never")),
            ping(EPOCH + 5),
            Step::Expect(Sent::Ping(EPOCH + 5)),
            // Another one has its number.
            inform(&create(EPOCH + 5, "/other")),
            Step::ExpectClose,
        ],
    ]);
    let leader = Leader::start(vec![script]);
    let mut player = run(leader.options(), at(EPOCH + 1));
    player
        .until("the transactions", |seen| seen.transactions.len() == 4)
        .await;
    let seen = player.end().await;
    leader.has_played(1).await;
    assert_eq!((seen.kinds(), seen.ups), (vec![SyncKind::Diff], 1));
    let other = testing::payload(&create(EPOCH + 5, "/other"));
    assert_eq!(
        seen.transactions[3].payload_crc,
        Transaction::decode(&other).unwrap().payload_crc
    );
}

#[tokio::test]
async fn a_truncation_is_reported_and_changes_nothing_by_itself() {
    let script = concat(vec![
        begin(EPOCH + 7),
        vec![trunc(EPOCH + 5)],
        finish(),
        vec![
            inform(&create(EPOCH + 6, "/a")),
            inform(&create(EPOCH + 7, "/b")),
            inform(&create(EPOCH + 8, "/c")),
            Step::ExpectClose,
        ],
    ]);
    let leader = Leader::start(vec![script]);
    let mut player = run(leader.options(), at(EPOCH + 7));
    player
        .until("the transaction", |seen| seen.transactions.len() == 1)
        .await;
    let kind = SyncKind::Truncate(Zxid((EPOCH + 5).cast_unsigned()));
    assert_eq!((player.seen.kinds(), player.seen.repeated), (vec![kind], 2));
    player.end().await;
    leader.has_played(1).await;
}

#[tokio::test]
async fn a_leader_of_a_lower_epoch_is_left_before_it_has_the_position() {
    let lower = vec![Step::ExpectObserver, leader_info(2 << 32), Step::ExpectClose];
    let script = concat(vec![
        begin(EPOCH + 1),
        vec![diff(EPOCH + 1)],
        finish(),
        vec![Step::ExpectClose],
    ]);
    let leader = Leader::start(vec![lower, script]);
    let mut player = run(leader.options(), at(EPOCH + 1));
    player.until("the next leader", |seen| seen.ups == 1).await;
    let (kind, message) = &player.seen.troubles[0];
    assert_eq!(*kind, SourceErrorKind::Unavailable);
    assert!(message.contains("of epoch 2, and epoch 3 was seen"), "{message}");
    assert_eq!((player.seen.connections, player.seen.disconnections), (2, 1));
    player.end().await;
    leader.has_played(2).await;
}

#[tokio::test]
async fn a_tree_is_staged_where_its_digest_is_equal_and_not_before() {
    let transactions = proved(vec![
        create(EPOCH + 1, "/a"),
        create(EPOCH + 2, "/b"),
        create(EPOCH + 3, "/c"),
    ]);
    let mut wrong = transactions[1].clone();
    wrong.digest = Some(TreeDigest {
        version: DIGEST_VERSION,
        value: 7,
    });
    let script = concat(vec![
        begin(0),
        vec![
            snap(EPOCH),
            Step::Send(new_tree()),
            inform(&transactions[0]),
            inform(&wrong),
        ],
        finish(),
        vec![
            inform(&transactions[2]),
            inform(&create(EPOCH + 4, "/d")),
            Step::ExpectClose,
        ],
    ]);
    let leader = Leader::start(vec![script]);
    let mut player = run(leader.options(), None);
    player
        .until("what follows the stage", |seen| seen.transactions.len() == 1)
        .await;
    let staged = player.seen.staged[0];
    assert_eq!(staged.zxid, Zxid((EPOCH + 3).cast_unsigned()));
    assert_eq!(staged.digest, transactions[2].digest.map(|digest| digest.value));
    assert_eq!((staged.epoch, player.seen.ups), (3, 1));
    let paths: Vec<&str> = player.seen.tree.keys().map(String::as_str).collect();
    let own = ["/zookeeper", "/zookeeper/config", "/zookeeper/quota"];
    assert_eq!(paths, [&["/", "/a", "/b", "/c"][..], &own].concat());
    player.end().await;
    leader.has_played(1).await;
}

#[tokio::test]
async fn an_ensemble_without_any_history_is_taken_for_empty_only_if_the_digest_says_so() {
    let transactions = proved(vec![create(EPOCH + 1, "/a")]);
    let script = |transaction: &Transaction| {
        concat(vec![
            begin(0),
            vec![diff(0)],
            finish(),
            vec![inform(transaction), Step::ExpectClose],
        ])
    };
    let leader = Leader::start(vec![script(&transactions[0])]);
    let mut player = run(leader.options(), None);
    player.until("a stage", |seen| seen.ups == 1).await;
    assert_eq!(player.seen.staged[0].zxid, Zxid((EPOCH + 1).cast_unsigned()));
    assert_eq!(player.seen.kinds(), [SyncKind::Snapshot]);
    player.end().await;

    // A leader that lost its tree: nothing is staged.
    let script = concat(vec![
        begin(0),
        vec![diff(0)],
        finish(),
        vec![
            inform(&create(EPOCH + 1, "/a")),
            ping(EPOCH + 1),
            Step::Expect(Sent::Ping(EPOCH + 1)),
        ],
    ]);
    let leader = Leader::start(vec![script]);
    let mut player = run(leader.options(), None);
    player
        .until("the end of the connection", |seen| seen.disconnections == 1)
        .await;
    let seen = player.end().await;
    assert!(seen.staged.is_empty(), "{:?}", seen.staged);
}

#[tokio::test]
async fn a_hole_while_a_tree_is_staged_brings_another_tree() {
    let script = concat(vec![
        begin(0),
        vec![
            snap(EPOCH),
            Step::Send(new_tree()),
            inform(&create(EPOCH + 1, "/a")),
            inform(&create(EPOCH + 3, "/b")),
            Step::ExpectClose,
        ],
    ]);
    let leader = Leader::start(vec![script]);
    let mut player = run(leader.options(), None);
    player
        .until("two connections", |seen| seen.connections == 2)
        .await;
    let seen = player.end().await;
    let message = &seen.troubles[0].1;
    assert!(
        message.contains("transaction 0x300000003 follows 0x300000001"),
        "{message}"
    );
    assert!(seen.staged.is_empty());
}

#[tokio::test]
async fn a_tree_that_is_cut_is_requested_again() {
    let tree = new_tree();
    let cut = concat(vec![
        begin(0),
        vec![snap(EPOCH), Step::Send(tree[..tree.len() - 20].to_vec())],
    ]);
    let whole = concat(vec![
        begin(0),
        vec![snap(EPOCH), Step::Send(tree)],
        finish(),
        vec![Step::ExpectClose],
    ]);
    let leader = Leader::start(vec![cut, whole]);
    let mut player = run(leader.options(), None);
    player.until("a stage", |seen| seen.ups == 1).await;
    assert_eq!((player.seen.staged.len(), player.seen.disconnections), (1, 1));
    let message = &player.seen.troubles[0].1;
    assert!(
        message.contains("before the observer was up to date"),
        "{message}"
    );
    player.end().await;
    leader.has_played(2).await;
}
