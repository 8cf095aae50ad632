//! Logs of several servers, with dead ends, holes and other histories.

use std::io::Write;

use bridge_transactions::digest::PathCharset;
use bridge_transactions::testing;
use bridge_transactions::transaction::Lifetime;

use super::*;

/// The first zxid of an epoch, less one.
const NEXT: i64 = 1 << 32;

/// The servers of an ensemble, each with a folder.
struct Servers {
    folders: Vec<tempfile::TempDir>,
}

impl Servers {
    /// One folder with one log for each list.
    fn with(logs: &[&[Transaction]]) -> Servers {
        let folders = logs.iter().map(|log| {
            let folder = tempfile::tempdir().unwrap();
            let first = log.first().map_or(1, |first| first.zxid);
            std::fs::write(
                folder.path().join(format!("log.{first:x}")),
                testing::log_file(log),
            )
            .unwrap();
            folder
        });
        Servers {
            folders: folders.collect(),
        }
    }

    fn append(&self, server: usize, first: i64, transactions: &[Transaction]) {
        let mut file = std::fs::File::options()
            .append(true)
            .open(self.path(server, first))
            .unwrap();
        for transaction in transactions {
            file.write_all(&testing::record(&testing::payload(transaction)))
                .unwrap();
        }
    }

    fn path(&self, server: usize, first: i64) -> PathBuf {
        self.folders[server].path().join(format!("log.{first:x}"))
    }

    /// Writes one more log.
    fn create(&self, server: usize, log: &[Transaction]) {
        std::fs::write(self.path(server, log[0].zxid), testing::log_file(log)).unwrap();
    }

    fn remove(&self, server: usize, first: i64) {
        std::fs::remove_file(self.path(server, first)).unwrap();
    }

    fn folders(&self) -> Vec<LogFolder> {
        self.folders
            .iter()
            .map(|folder| LogFolder::new(folder.path()))
            .collect()
    }

    /// From the first transaction on, with a tree.
    fn history(&self) -> LogHistory {
        LogHistory::new(self.folders(), BEGIN, Some(Box::new(Tree::of_new_server())))
    }
}

const BEGIN: LogPosition = LogPosition {
    zxid: 0,
    payload_crc: None,
    digest: None,
};

/// The number of creates of children of the root so far, with this one.
fn create(path: &str, parent_cversion: i32) -> Operation {
    Operation::Create {
        path: path.to_owned(),
        data: None,
        acl: vec![testing::anyone()],
        lifetime: Lifetime::Persistent,
        parent_cversion,
    }
}

/// Creates named by their zxids, as a server logs them after each other, with digests.
fn written(zxids: &[i64]) -> Vec<Transaction> {
    let mut tree = Tree::of_new_server();
    let one = |(zxid, count): (&i64, i32)| {
        let operation = create(&format!("/{zxid:x}"), count);
        tree.apply(&testing::transaction(*zxid, operation.clone(), None));
        let digest = TreeDigest {
            version: DIGEST_VERSION,
            value: tree.digest(),
        };
        testing::transaction(*zxid, operation, Some(digest))
    };
    zxids.iter().zip(1..).map(one).collect()
}

fn zxids(history: &mut LogHistory) -> Vec<i64> {
    let transactions = history.poll().unwrap();
    transactions.iter().map(|transaction| transaction.zxid).collect()
}

const NONE: [i64; 0] = [];

#[test]
fn nothing_is_returned_before_a_serving_server_has_applied_it() {
    let all = written(&[NEXT + 1, NEXT + 2, NEXT + 3]);
    let servers = Servers::with(&[&all]);
    let mut history = servers.history();
    assert_eq!(zxids(&mut history), NONE);
    history.applied(NEXT + 2);
    assert_eq!(zxids(&mut history), [NEXT + 1, NEXT + 2]);
    // Neither an older one nor one of another epoch shows more.
    history.applied(NEXT + 1);
    history.applied(2 * NEXT + 9);
    assert_eq!(zxids(&mut history), NONE);
    history.applied(NEXT + 3);
    assert_eq!(zxids(&mut history), [NEXT + 3]);
    assert_eq!((history.position().zxid, history.hole()), (NEXT + 3, None));
}

#[test]
fn the_first_transaction_of_the_next_epoch_shows_that_those_before_it_were_committed() {
    let all = written(&[NEXT + 1, NEXT + 2, 2 * NEXT + 1, 2 * NEXT + 2]);
    let servers = Servers::with(&[&all]);
    let mut history = servers.history();
    assert_eq!(zxids(&mut history), [NEXT + 1, NEXT + 2]);
    history.applied(2 * NEXT + 2);
    assert_eq!(zxids(&mut history), [2 * NEXT + 1, 2 * NEXT + 2]);
}

#[test]
fn what_a_deposed_leader_logged_and_nobody_committed_is_never_returned() {
    let right = written(&[NEXT + 1, NEXT + 2, 2 * NEXT + 1, 2 * NEXT + 2, 2 * NEXT + 3]);
    // It wrote two more, and was brought up to date by a snapshot.
    let mut dead = written(&[NEXT + 1, NEXT + 2, NEXT + 3, NEXT + 4]);
    dead.push(right[4].clone());
    for order in [[&dead, &right], [&right, &dead]] {
        let servers = Servers::with(&order.map(Vec::as_slice));
        let mut history = servers.history();
        history.applied(2 * NEXT + 3);
        let all: Vec<i64> = right.iter().map(|one| one.zxid).collect();
        assert_eq!(zxids(&mut history), all);
        assert_eq!(zxids(&mut history), NONE);
    }
    // Its own log alone has a hole, and nothing of the dead end.
    let servers = Servers::with(&[&dead]);
    let mut history = servers.history();
    history.applied(NEXT + 2);
    history.applied(2 * NEXT + 3);
    assert_eq!(zxids(&mut history), [NEXT + 1, NEXT + 2]);
    assert_eq!(zxids(&mut history), NONE);
}

#[test]
fn proposals_in_a_log_that_a_new_leader_removed_are_never_returned() {
    let dead = written(&[NEXT + 1, NEXT + 2, NEXT + 3, NEXT + 4]);
    let right = written(&[NEXT + 1, NEXT + 2, 2 * NEXT + 1]);
    let servers = Servers::with(&[&dead[..2]]);
    servers.create(0, &dead[2..]);
    let mut history = servers.history();
    history.applied(NEXT + 2);
    assert_eq!(zxids(&mut history), [NEXT + 1, NEXT + 2]);
    assert!(history.is_waiting());
    // TRUNC cuts after the second one. The new leader's first is logged before the next look.
    servers.remove(0, NEXT + 3);
    servers.create(0, &right[2..]);
    history.applied(2 * NEXT + 1);
    for _ in 0..2 {
        let error = history.poll().expect_err("a log was taken back").to_string();
        assert!(error.contains("the server took transactions back"), "{error}");
    }
    // Read again from the position on.
    let mut tree = Tree::of_new_server();
    right[..2].iter().for_each(|transaction| tree.apply(transaction));
    let mut history = LogHistory::new(servers.folders(), *history.position(), Some(Box::new(tree)));
    history.applied(2 * NEXT + 1);
    assert_eq!(zxids(&mut history), [2 * NEXT + 1]);
}

#[test]
fn a_hole_of_one_log_is_filled_from_another_and_one_that_all_have_is_reported() {
    let all = written(&[1, 2, 3, 4, 5]);
    let holed = [all[0].clone(), all[1].clone(), all[4].clone()];
    let servers = Servers::with(&[&holed, &all[..3]]);
    let mut history = servers.history();
    history.applied(5);
    assert_eq!(zxids(&mut history), [1, 2, 3]);
    assert_eq!(zxids(&mut history), NONE);
    assert_eq!(history.hole(), Some(LogHole { last: 3, next: 5 }));
    // The other server was only slower.
    servers.append(1, 1, &all[3..]);
    assert_eq!(zxids(&mut history), [4, 5]);
    assert_eq!(history.hole(), None);
}

#[test]
fn an_epoch_of_which_the_end_is_missing_is_not_passed_over() {
    // The server was away for the last two of the epoch, and back before the first of the next one.
    let all = written(&[NEXT + 1, NEXT + 2, NEXT + 3, 2 * NEXT + 1]);
    let holed = [all[0].clone(), all[3].clone()];
    let servers = Servers::with(&[&holed]);
    let mut history = servers.history();
    history.applied(2 * NEXT + 1);
    assert_eq!(zxids(&mut history), [NEXT + 1]);
    for _ in 0..2 {
        let error = history.poll().expect_err("two are missing").to_string();
        assert!(
            error.contains("a transaction is missing or was never committed"),
            "{error}"
        );
    }
    assert_eq!(history.position().zxid, NEXT + 1);
    // With the log of another server it is whole.
    let servers = Servers::with(&[&holed, &all]);
    let mut history = servers.history();
    history.applied(2 * NEXT + 1);
    assert_eq!(zxids(&mut history).len(), 4);
    // Without digests nothing shows the end of an epoch.
    let bare: Vec<Transaction> = all
        .iter()
        .map(|one| testing::transaction(one.zxid, one.operation.clone(), None))
        .collect();
    let servers = Servers::with(&[&bare]);
    let mut history = servers.history();
    history.applied(2 * NEXT + 1);
    assert_eq!(zxids(&mut history), [NEXT + 1, NEXT + 2, NEXT + 3]);
    assert_eq!(zxids(&mut history), NONE);
    let hole = LogHole {
        last: NEXT + 3,
        next: 2 * NEXT + 1,
    };
    assert_eq!(history.hole(), Some(hole));
}

#[test]
fn without_digests_an_ensemble_that_had_znodes_before_its_first_transaction_does_not_begin_with_it() {
    let session = Operation::CreateSession { timeout: 4_000 };
    let begin = |count: i32| {
        let operations = [session.clone(), create("/a", count), create("/b", count + 1)];
        let transactions = operations.into_iter().zip(NEXT + 1..);
        let log: Vec<Transaction> = transactions
            .map(|(operation, zxid)| testing::transaction(zxid, operation, None))
            .collect();
        let servers = Servers::with(&[&log]);
        let mut history = servers.history();
        history.applied(NEXT + 3);
        (zxids(&mut history), history.hole())
    };
    assert_eq!(begin(1), (vec![NEXT + 1, NEXT + 2, NEXT + 3], None));
    // A standalone server had created four children of the root, and has purged those logs.
    let hole = LogHole {
        last: 0,
        next: NEXT + 1,
    };
    assert_eq!(begin(5), (vec![], Some(hole)));
}

/// A request that failed, which has no digest.
fn failed(zxid: i64) -> Transaction {
    testing::transaction(zxid, Operation::Error { code: -110 }, None)
}

#[test]
fn an_epoch_that_begins_with_failed_requests_follows_if_the_first_digest_after_them_agrees() {
    let all = written(&[NEXT + 1, NEXT + 2, 2 * NEXT + 3]);
    let begin = [failed(2 * NEXT + 1), failed(2 * NEXT + 2)];
    let log = [&all[..2], &begin, &all[2..]].concat();
    let servers = Servers::with(&[&log]);
    let mut history = servers.history();
    history.applied(2 * NEXT + 3);
    assert_eq!(zxids(&mut history).len(), 5);
    // The same after a snapshot of the end of the epoch.
    let mut tree = Tree::of_new_server();
    all[..2].iter().for_each(|transaction| tree.apply(transaction));
    let mut history = LogHistory::after_snapshot(servers.folders(), NEXT + 2, Box::new(tree));
    history.applied(2 * NEXT + 3);
    assert_eq!(zxids(&mut history), [2 * NEXT + 1, 2 * NEXT + 2, 2 * NEXT + 3]);
    assert!(history.is_proved());
    // Negative control: the log lacks the end of the epoch.
    let servers = Servers::with(&[&[&all[..1], &begin, &all[2..]].concat()]);
    let mut history = servers.history();
    history.applied(2 * NEXT + 3);
    assert_eq!(zxids(&mut history).last(), Some(&(2 * NEXT + 2)));
    assert!(matches!(history.poll(), Err(HistoryError::Digest { .. })));
}

#[test]
fn an_epoch_that_has_only_failed_requests_so_far_is_waited_for_and_is_no_hole() {
    let all = written(&[NEXT + 1, 2 * NEXT + 3]);
    let servers = Servers::with(&[&[all[0].clone(), failed(2 * NEXT + 1)]]);
    let mut history = servers.history();
    history.applied(2 * NEXT + 1);
    assert_eq!(zxids(&mut history), [NEXT + 1]);
    for _ in 0..2 {
        assert_eq!(zxids(&mut history), NONE);
        assert_eq!((history.hole(), history.awaits_digest()), (None, true));
    }
    servers.append(0, NEXT + 1, &[failed(2 * NEXT + 2), all[1].clone()]);
    history.applied(2 * NEXT + 3);
    assert_eq!(zxids(&mut history).len(), 3);
    assert!(!history.awaits_digest());
}

#[test]
fn without_a_tree_a_session_shows_that_nothing_is_missing_before_it() {
    let all = written(&[NEXT + 1, NEXT + 2]);
    let session = |value| {
        let version = DIGEST_VERSION;
        let operation = Operation::CreateSession { timeout: 4000 };
        testing::transaction(2 * NEXT + 1, operation, Some(TreeDigest { version, value }))
    };
    let right = all[1].digest.unwrap().value;
    let at_first = LogPosition {
        zxid: all[0].zxid,
        payload_crc: Some(all[0].payload_crc),
        digest: all[0].digest,
    };
    let check = |log: &[Transaction]| {
        let servers = Servers::with(&[log]);
        let mut history = LogHistory::new(servers.folders(), at_first, None);
        history.applied(2 * NEXT + 1);
        let first = zxids(&mut history);
        (first, history.poll())
    };
    let (first, rest) = check(&[all[0].clone(), all[1].clone(), session(right)]);
    assert_eq!((first.len(), rest.unwrap().len()), (2, 0));
    let (first, rest) = check(&[all[0].clone(), all[1].clone(), session(right ^ 1)]);
    assert_eq!(first.len(), 1);
    assert!(matches!(rest, Err(HistoryError::Digest { .. })), "{rest:?}");
}

#[test]
fn a_log_with_another_transaction_at_the_position_is_another_history() {
    let all = written(&[1, 2, 3]);
    let other = [all[0].clone(), testing::a_create(2, "/other"), all[2].clone()];
    let servers = Servers::with(&[&other]);
    let position = LogPosition {
        zxid: 2,
        payload_crc: Some(all[1].payload_crc),
        digest: all[1].digest,
    };
    let mut history = LogHistory::new(servers.folders(), position, None);
    history.applied(3);
    let error = history.poll().expect_err("it is another history").to_string();
    assert!(
        error.contains("0x0000000000000002 is another one than the one that was taken"),
        "{error}"
    );
    // A malformed request is logged under the zxid before it, here as the first of a new log.
    let malformed = testing::transaction(2, Operation::Error { code: -5 }, None);
    let servers = Servers::with(&[&all[..2]]);
    std::fs::write(
        servers.folders[0].path().join("log.2"),
        testing::log_file(&[malformed, all[2].clone()]),
    )
    .unwrap();
    let mut history = LogHistory::new(servers.folders(), position, None);
    history.applied(3);
    assert_eq!(zxids(&mut history), [3]);
    let same = Servers::with(&[&all]);
    let mut history = LogHistory::new(same.folders(), position, None);
    history.applied(3);
    assert_eq!(zxids(&mut history), [3]);
}

#[test]
fn a_long_history_comes_in_batches_and_whole() {
    let count = i64::try_from(BATCH_MAX).unwrap() * 2 + 7;
    let all: Vec<i64> = (1..=count).collect();
    let servers = Servers::with(&[&written(&all)]);
    let mut history = servers.history();
    history.applied(count);
    let mut found = Vec::new();
    let mut batches = 0;
    while found.len() < all.len() {
        let batch = zxids(&mut history);
        assert!(!batch.is_empty() && batch.len() <= BATCH_MAX);
        found.extend(batch);
        batches += 1;
    }
    assert_eq!((found, batches), (all, 3));
}

#[test]
fn a_leader_in_another_charset_has_another_digest_of_the_same_tree() {
    let mut tree = Tree::of_new_server();
    let mut all = Vec::new();
    let charsets = [PathCharset::Ascii, PathCharset::Utf8, PathCharset::Latin1];
    let zxids_of_all = [NEXT + 1, NEXT + 2, 2 * NEXT + 1];
    for ((zxid, charset), count) in zxids_of_all.into_iter().zip(charsets).zip(1..) {
        let operation = create(&format!("/ë{zxid:x}"), count);
        tree.apply(&testing::transaction(zxid, operation.clone(), None));
        let value = tree.digest_in(charset);
        let version = DIGEST_VERSION;
        all.push(testing::transaction(
            zxid,
            operation,
            Some(TreeDigest { version, value }),
        ));
    }
    let servers = Servers::with(&[&all]);
    let mut history = servers.history();
    history.applied(2 * NEXT + 1);
    assert_eq!(zxids(&mut history), [NEXT + 1, NEXT + 2, 2 * NEXT + 1]);

    // Negative control.
    all[1].digest = all[0].digest;
    let servers = Servers::with(&[&all]);
    let mut history = servers.history();
    history.applied(2 * NEXT + 1);
    assert_eq!(zxids(&mut history), [NEXT + 1]);
    assert!(matches!(history.poll(), Err(HistoryError::Digest { .. })));
}

#[test]
fn the_parts_of_a_multi_that_failed_may_differ_between_the_logs_of_servers() {
    let all = written(&[NEXT + 1, NEXT + 3]);
    let failed = |code| {
        let operation = Operation::FailedMulti { parts: 3, code };
        testing::transaction(NEXT + 2, operation, all[0].digest)
    };
    let log = |code| [all[0].clone(), failed(code), all[1].clone()];
    let servers = Servers::with(&[&log(-101), &log(-110)]);
    let mut history = servers.history();
    history.applied(NEXT + 2);
    assert_eq!(zxids(&mut history), [NEXT + 1, NEXT + 2]);
    history.applied(NEXT + 3);
    assert_eq!(zxids(&mut history), [NEXT + 3]);
}

#[test]
fn a_recorded_history_passes_no_end_of_an_epoch_with_a_tree_that_nothing_has_proved() {
    let all = written(&[NEXT + 1, NEXT + 2, NEXT + 3, 2 * NEXT + 1]);
    let servers = Servers::with(&[&[all[0].clone(), all[3].clone()]]);
    let history = || {
        // A snapshot that has a part of later transactions.
        let mut tree = Tree::of_new_server();
        tree.apply(&all[2]);
        let mut history = LogHistory::after_snapshot(servers.folders(), NEXT, Box::new(tree));
        history.applied(2 * NEXT + 1);
        history
    };
    assert_eq!(zxids(&mut history()), [NEXT + 1, 2 * NEXT + 1]);
    let mut recorded = history();
    recorded.end_at(NEXT + 1);
    assert_eq!(zxids(&mut recorded), [NEXT + 1]);
    recorded.record_from_here(None);
    recorded.end_at(i64::MAX);
    assert_eq!(zxids(&mut recorded), NONE);
    assert!(recorded.hole().is_some());
}

#[test]
fn dead_records_before_a_snapshot_of_a_later_epoch_are_a_hole_and_hide_nothing_after_them() {
    // The leader was stopped, logged three more than its followers, and took the snapshot of the next one.
    let (last, dead) = (NEXT + 2, [NEXT + 3, NEXT + 4, NEXT + 5]);
    let all = written(&[NEXT + 1, last, 2 * NEXT + 1, 2 * NEXT + 2, 2 * NEXT + 3]);
    let deposed = [
        &written(&[NEXT + 1, last, dead[0], dead[1], dead[2]])[..],
        &all[4..],
    ]
    .concat();
    let servers = Servers::with(&[&deposed, &all[..2]]);
    let mut history = servers.history();
    history.applied(last);
    history.applied(2 * NEXT + 3);
    assert_eq!(zxids(&mut history), [NEXT + 1, last]);
    let hole = LogHole {
        last,
        next: 2 * NEXT + 3,
    };
    for _ in 0..2 {
        assert_eq!(zxids(&mut history), NONE);
        assert_eq!((history.hole(), history.is_waiting()), (Some(hole), false));
    }
    // The other server was only slower.
    servers.append(1, NEXT + 1, &all[2..]);
    assert_eq!(zxids(&mut history), [2 * NEXT + 1, 2 * NEXT + 2, 2 * NEXT + 3]);
    assert_eq!(history.hole(), None);
}

#[test]
fn records_that_seemed_dead_are_returned_once_another_log_shows_that_they_were_committed() {
    let all = written(&[NEXT + 1, NEXT + 2, NEXT + 3, 2 * NEXT + 1, 2 * NEXT + 2]);
    // It was away for the begin of the second epoch; the other one for the middle of the first.
    let servers = Servers::with(&[&[&all[..3], &all[4..]].concat(), &all[..1]]);
    let mut history = servers.history();
    history.applied(NEXT + 1);
    history.applied(2 * NEXT + 2);
    assert_eq!(zxids(&mut history), [NEXT + 1]);
    assert!(history.hole().is_some());
    servers.append(1, NEXT + 1, &all[2..]);
    assert_eq!(
        zxids(&mut history),
        [NEXT + 2, NEXT + 3, 2 * NEXT + 1, 2 * NEXT + 2]
    );
}

#[test]
fn dead_records_before_an_epoch_after_the_next_one_are_not_returned() {
    let right = written(&[NEXT + 1, NEXT + 2, 2 * NEXT + 1, 3 * NEXT + 1]);
    // It took the snapshot of the leader of the second epoch, and was there when the third began.
    let dead = [&written(&[NEXT + 1, NEXT + 2, NEXT + 3])[..], &right[3..]].concat();
    for order in [[&dead, &right], [&right, &dead]] {
        let servers = Servers::with(&order.map(Vec::as_slice));
        let mut history = servers.history();
        history.applied(3 * NEXT + 1);
        let all: Vec<i64> = right.iter().map(|one| one.zxid).collect();
        assert_eq!(zxids(&mut history), all);
    }
    let servers = Servers::with(&[&dead]);
    std::fs::write(servers.folders[0].path().join("snapshot.200000001"), b"").unwrap();
    let mut history = servers.history();
    history.applied(NEXT + 2);
    history.applied(3 * NEXT + 1);
    assert_eq!(zxids(&mut history), [NEXT + 1, NEXT + 2]);
    assert!(matches!(history.poll(), Err(HistoryError::Digest { .. })));
}
