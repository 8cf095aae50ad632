//! A leader that would send its tree after a long absence, and the logs that have what is missing.

use std::path::Path;

use bridge_core::committed::{HistoryPosition, SyncKind};
use bridge_core::number::Zxid;
use bridge_core::record::Mode;
use bridge_transactions::testing;
use bridge_transactions::transaction::Transaction;

use crate::leader::{EPOCH, Leader, Step, begin, diff, finish, inform, snap};
use crate::player::Player;
use crate::scripted::{NO_CLIENT_PORT, concat, create, new_tree};

/// The position in the journal: the first transaction of the epoch.
const AT: i64 = EPOCH + 1;

/// The last transaction that the leader has applied.
const LAST: i64 = EPOCH + 1_000;

/// A part of the history, as a server logs it.
fn history(zxids: std::ops::RangeInclusive<i64>) -> Vec<Transaction> {
    zxids
        .map(|zxid| {
            let bytes = testing::payload(&create(zxid, &format!("/n{zxid:x}")));
            Transaction::decode(&bytes).unwrap()
        })
        .collect()
}

fn write_log(folder: &Path, transactions: &[Transaction]) {
    let name = format!("log.{:x}", transactions[0].zxid);
    std::fs::write(folder.join(name), testing::log_file(transactions)).unwrap();
}

fn position() -> Option<HistoryPosition> {
    Some(HistoryPosition {
        zxid: Zxid(AT.cast_unsigned()),
        payload_crc: Some(history(AT..=AT)[0].payload_crc),
        epoch: 3,
        ..HistoryPosition::default()
    })
}

/// A connection that the observer closes before the tree.
fn refused(position: i64) -> Vec<Step> {
    concat(vec![begin(position), vec![snap(LAST), Step::ExpectClose]])
}

/// A connection in which the leader still has what follows a position, and one transaction more.
fn followed(position: i64) -> Vec<Step> {
    let next = create(LAST + 1, "/next");
    let rest = vec![inform(&next), Step::ExpectClose];
    concat(vec![begin(position), vec![diff(position)], finish(), rest])
}

/// A connection in which the tree is taken.
fn taken(position: i64) -> Vec<Step> {
    let sent = vec![snap(LAST), Step::Send(new_tree())];
    concat(vec![begin(position), sent, finish(), vec![Step::ExpectClose]])
}

fn run(leader: &Leader, folder: &Path) -> Player {
    Player::run_beside_logs(
        leader.options(),
        NO_CLIENT_PORT,
        position(),
        vec![folder.to_owned()],
    )
}

#[tokio::test]
async fn logs_fill_what_the_leader_no_longer_has_and_its_tree_is_never_sent() {
    let home = tempfile::tempdir().unwrap();
    write_log(home.path(), &history(AT..=EPOCH + 600));
    // The log may be ahead of the leader's word: nothing shows that the rest is committed.
    write_log(home.path(), &history(EPOCH + 601..=LAST + 5));
    let leader = Leader::start(vec![refused(AT), followed(LAST)]);
    let mut player = run(&leader, home.path());
    player
        .until("what follows the logs", |seen| {
            seen.zxid() == (LAST + 1).cast_unsigned()
        })
        .await;
    let seen = player.end().await;
    leader.has_played(2).await;
    assert_eq!(seen.kinds(), [SyncKind::Diff, SyncKind::Diff]);
    assert_eq!((seen.connections, seen.disconnections), (2, 1));
    assert_eq!(seen.transactions.len(), 1_000, "each once, in order");
    let ends = [AT, LAST].map(i64::cast_unsigned);
    assert_eq!(seen.modes, [(Some(Mode::Txnlog), ends[0]), (None, ends[1])]);
    assert!(
        seen.troubles.is_empty() && seen.staged.is_empty(),
        "{:?}",
        seen.troubles
    );
}

#[tokio::test]
async fn logs_that_lack_the_rest_are_read_twice_at_most_and_the_tree_is_taken_then() {
    let home = tempfile::tempdir().unwrap();
    write_log(home.path(), &history(AT..=EPOCH + 400));
    let half = EPOCH + 400;
    let leader = Leader::start(vec![refused(AT), refused(half), taken(half)]);
    let mut player = run(&leader, home.path());
    player.until("a stage", |seen| seen.ups == 2).await;
    let seen = player.end().await;
    leader.has_played(3).await;
    let diff = SyncKind::Diff;
    assert_eq!(seen.kinds(), [diff, diff, SyncKind::Snapshot]);
    assert_eq!(seen.transactions.len(), 399);
    assert_eq!(seen.staged.len(), 1);
}

#[tokio::test]
async fn logs_that_cannot_be_read_on_after_some_progress_are_tried_once_more() {
    let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_log(home.path(), &history(AT..=LAST));
    // Another transaction than the second one that follows the position: found once the first log has passed it.
    let bytes = testing::payload(&create(AT + 2, "/other"));
    write_log(other.path(), &[Transaction::decode(&bytes).unwrap()]);
    let leader = Leader::start(vec![refused(AT), refused(AT + 2), taken(AT + 2)]);
    let folders = [home.path(), other.path()].map(Path::to_owned).to_vec();
    let mut player = Player::run_beside_logs(leader.options(), NO_CLIENT_PORT, position(), folders);
    player.until("a stage", |seen| seen.ups == 2).await;
    let seen = player.end().await;
    leader.has_played(3).await;
    assert_eq!(seen.kinds(), [SyncKind::Diff, SyncKind::Snapshot]);
    assert_eq!((seen.transactions.len(), seen.staged.len()), (2, 1));
}

#[tokio::test]
async fn without_logs_with_the_position_or_with_damaged_ones_the_tree_is_taken_at_once() {
    let check = |home: tempfile::TempDir| async move {
        let leader = Leader::start(vec![refused(AT), taken(AT)]);
        let mut player = run(&leader, home.path());
        player.until("a stage", |seen| seen.ups == 1).await;
        let seen = player.end().await;
        leader.has_played(2).await;
        assert_eq!(seen.kinds(), [SyncKind::Snapshot]);
        assert_eq!((seen.transactions.len(), seen.staged.len()), (0, 1));
    };
    let of = |write: &dyn Fn(&Path)| {
        let home = tempfile::tempdir().unwrap();
        write(home.path());
        home
    };
    check(of(&|_| {})).await;
    check(of(&|home| std::fs::remove_dir(home).unwrap())).await;
    // The servers have purged the position.
    check(of(&|home| write_log(home, &history(AT + 1..=LAST)))).await;
    // Of another ensemble.
    check(of(&|home| {
        let mut other = history(AT..=LAST);
        let bytes = testing::payload(&create(AT, "/other"));
        other[0] = Transaction::decode(&bytes).unwrap();
        write_log(home, &other);
    }))
    .await;
    check(of(&|home| {
        let mut bytes = testing::log_file(&history(AT..=LAST));
        bytes[40] ^= 1;
        std::fs::write(home.join(format!("log.{AT:x}")), bytes).unwrap();
    }))
    .await;
}

#[tokio::test]
async fn an_observer_without_folders_of_logs_takes_the_tree_as_ever() {
    let leader = Leader::start(vec![taken(AT)]);
    let mut player = Player::run(leader.options(), NO_CLIENT_PORT, position());
    player.until("a stage", |seen| seen.ups == 1).await;
    let seen = player.end().await;
    leader.has_played(1).await;
    assert_eq!(seen.kinds(), [SyncKind::Snapshot]);
}
