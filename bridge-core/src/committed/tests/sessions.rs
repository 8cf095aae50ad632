//! The index of the owners of ephemeral znodes, which the first session end without a list makes.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::bench::{Bench, options};
use super::tree::*;
use crate::committed::closed::SessionIndex;
use crate::committed::*;
use crate::image_txn::ImageTxn;
use crate::machine::SourceMachine;
use crate::number::SessionId;
use crate::path::ZnodePath;
use crate::record::LifetimeKind::{Ephemeral, Persistent};
use crate::source::Input;

const SESSIONS: [u64; 3] = [7, 8, 9];

/// Two of them are not captured: one is excluded, and one is outside of the root.
const PATHS: [&str; 7] = ["/a/1", "/a/2", "/a/3", "/a/d/1", "/a/d/2", "/a/hidden", "/out"];

struct Sessions {
    bench: Bench,
    random: StdRng,
}

impl Sessions {
    fn new(seed: u64, indexed_max: usize) -> Sessions {
        let mut options = options(&["/a"]);
        let glob = globset::Glob::new("/a/hidden").unwrap();
        options.capture.exclude = globset::GlobSetBuilder::new().add(glob).build().unwrap();
        options.indexed_max = indexed_max;
        let proofs = [ProofMode::Tree, ProofMode::Roots, ProofMode::Sequence];
        options.proof = proofs[usize::try_from(seed % 3).unwrap()];
        let mut bench = Bench::new(options);
        for at in ["/a", "/a/d"] {
            bench.server.one(&Ask::Create(at, "", Persistent));
        }
        bench.list();
        Sessions {
            bench,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The next transaction, committed by the server. The end of a session has its list for the server alone.
    fn next(&mut self) -> CommittedTxn {
        let session = *SESSIONS.choose(&mut self.random).unwrap();
        let at = *PATHS.choose(&mut self.random).unwrap();
        let server = &mut self.bench.server;
        if self.random.random_bool(0.2) {
            let nodes = server.tree.nodes.iter().filter(|(_, node)| {
                node.lifetime.kind == Ephemeral && node.raw.owner.cast_unsigned() == session
            });
            let paths = Some(nodes.map(|(at, _)| at.clone()).collect());
            let end = server.txn(session, TxnContent::CloseSession { paths });
            let end = server.commit(end);
            return CommittedTxn {
                content: TxnContent::CloseSession { paths: None },
                ..end
            };
        }
        let kind = match self.random.random_bool(0.1) {
            true => Persistent,
            false => Ephemeral,
        };
        let ask = match server.tree.nodes.contains_key(&path(at)) {
            true => Ask::Delete(at),
            false => Ask::Create(at, "", kind),
        };
        let operation = server.tree.operation(&ask);
        let content = match self.random.random_bool(0.3) {
            true => TxnContent::Multi(vec![NodeOperation::Check, operation]),
            false => TxnContent::Single(operation),
        };
        let txn = server.txn(session, content);
        server.commit(txn)
    }

    /// The journal has the ephemeral znodes of each session that are not captured.
    fn check_uncaptured(&mut self, seed: u64) {
        let Bench {
            journal,
            server,
            options,
            ..
        } = &mut self.bench;
        for session in SESSIONS {
            let is_of = |(at, node): &(&ZnodePath, &ServerNode)| {
                node.lifetime.kind == Ephemeral
                    && node.raw.owner.cast_unsigned() == session
                    && options.capture.root_of(at).is_none()
            };
            let owned = server.tree.nodes.iter().filter(is_of);
            let expected = Some(owned.map(|(at, _)| at.clone()).collect());
            let found = journal.uncaptured_of(SessionId(session)).unwrap();
            assert_eq!(found, expected, "seed {seed}");
        }
    }

    /// Whether the machine has an index. It must be the one that the image gives.
    fn check(&mut self, seed: u64) -> bool {
        let Bench {
            machine,
            journal,
            options,
            ..
        } = &mut self.bench;
        let known = &machine.sessions;
        if *known == SessionIndex::default() {
            return false;
        }
        let read = SessionIndex::of_image(options, journal).unwrap();
        assert_eq!(*known, read, "seed {seed}");
        true
    }
}

#[test]
fn the_index_of_owners_is_the_one_that_the_image_gives_after_any_transactions() {
    let mut indexed = 0;
    for seed in 0..40 {
        let mut sessions = Sessions::new(seed, 100);
        for _ in 0..60 {
            let txn = sessions.next();
            sessions.bench.send(vec![txn]).unwrap();
            indexed += usize::from(sessions.check(seed));
            sessions.check_uncaptured(seed);
        }
        sessions.bench.check_image();
    }
    assert!(indexed > 1_000, "an index was compared {indexed} times");
}

#[test]
fn more_ephemeral_znodes_than_the_index_may_hold_are_looked_up_in_the_image() {
    for seed in 0..10 {
        let mut sessions = Sessions::new(seed, 1);
        for _ in 0..60 {
            let txn = sessions.next();
            sessions.bench.send(vec![txn]).unwrap();
            sessions.check(seed);
            sessions.check_uncaptured(seed);
        }
        sessions.bench.check_image();
    }
}

#[test]
fn znodes_with_children_that_are_not_captured_count_toward_the_limit_of_the_index() {
    let indexed = |indexed_max: usize| {
        let mut options = options(&["/a"]);
        let glob = globset::Glob::new("/a/*/hidden").unwrap();
        options.capture.exclude = globset::GlobSetBuilder::new().add(glob).build().unwrap();
        options.indexed_max = indexed_max;
        let mut bench = Bench::new(options);
        for at in ["/a", "/a/1", "/a/1/hidden", "/a/2", "/a/2/hidden", "/a/3"] {
            bench.server.one(&Ask::Create(at, "", Persistent));
        }
        bench.list();
        let operation = bench.server.tree.operation(&Ask::Create("/a/e", "", Ephemeral));
        let txn = bench.server.txn(7, TxnContent::Single(operation));
        let created = bench.server.commit(txn);
        let paths = Some(vec![path("/a/e")]);
        let end = bench.server.txn(7, TxnContent::CloseSession { paths });
        let end = bench.server.commit(end);
        let content = TxnContent::CloseSession { paths: None };
        bench
            .send(vec![created, CommittedTxn { content, ..end }])
            .unwrap();
        bench.check_image();
        let has_index = bench.machine.sessions != SessionIndex::default();
        let late = ["/a/3/hidden", "/a/4", "/a/4/hidden"];
        let late = late.map(|at| bench.server.one(&Ask::Create(at, "", Persistent)));
        bench.send(late.to_vec()).unwrap();
        (has_index, bench.machine.sessions != SessionIndex::default())
    };
    // The ephemeral znode, and two with children that are not captured; later four of these.
    assert_eq!(indexed(2), (false, false));
    assert_eq!(indexed(3), (true, false));
    assert_eq!(indexed(4), (true, true));
}

#[test]
fn an_index_does_not_outlive_the_connection_or_a_step_that_failed() {
    let mut sessions = Sessions::new(1, 100);
    let end = |sessions: &mut Sessions| {
        let paths = Some(Vec::new());
        let end = sessions.bench.server.txn(70, TxnContent::CloseSession { paths });
        let end = sessions.bench.server.commit(end);
        let content = TxnContent::CloseSession { paths: None };
        CommittedTxn { content, ..end }
    };
    let first = end(&mut sessions);
    sessions.bench.send(vec![first]).unwrap();
    assert!(sessions.check(1));
    sessions.bench.step(Input::Disconnected).unwrap();
    assert!(!sessions.check(1));
    sessions.bench.resume().unwrap();
    let second = end(&mut sessions);
    sessions.bench.send(vec![second]).unwrap();
    assert!(sessions.check(1));
    // A hole.
    let _lost = end(&mut sessions);
    let third = end(&mut sessions);
    assert_eq!(third.session, SessionId(70));
    sessions.bench.send(vec![third]).unwrap_err();
    assert!(!sessions.check(1));
    assert!(sessions.bench.machine.waiting() == 0);
}
