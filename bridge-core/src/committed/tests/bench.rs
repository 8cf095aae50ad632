//! A machine on a model of the journal, and a connection that answers its requests from a server.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::tree::*;
use crate::capture::{AclMode, CaptureOptions};
use crate::committed::*;
use crate::image_txn::ImageTxn;
use crate::journal::JournalWriter;
use crate::machine::{SourceMachine, StepError, StepOutcome};
use crate::number::{Seq, Zxid};
use crate::path::ZnodePath;
use crate::record::{Record, Timestamp};
use crate::source::{Input, SessionFate, SourceRequest};
use crate::testing::{ModelDisk, ModelJournal, records_after};

pub struct Bench {
    pub server: Server,
    pub machine: Committed,
    pub journal: ModelJournal,
    pub disk: Rc<RefCell<ModelDisk>>,
    pub options: CommittedOptions,
    /// The request to resume of the last connection.
    pub resumed: Option<HistoryPosition>,
    /// Whether the server encodes paths in another charset than UTF-8.
    pub is_of_other_charset: bool,
    pub now: i64,
    /// All inputs of this process that were taken, each with its time.
    pub inputs: Vec<(Timestamp, Input)>,
    seen: Seq,
}

pub fn options(roots: &[&str]) -> CommittedOptions {
    let mut capture = CaptureOptions::new("main", roots.iter().map(|root| path(root)).collect());
    capture.acls = AclMode::List;
    let mut options = CommittedOptions::new(capture, None, "");
    options.stage_nodes = 2;
    options
}

impl Bench {
    pub fn new(options: CommittedOptions) -> Bench {
        let disk = Rc::new(RefCell::new(ModelDisk::new(true, i64::MAX)));
        Bench {
            server: Server {
                epoch: 1,
                ..Server::default()
            },
            machine: Committed::new(options.clone()),
            journal: ModelJournal::open(Rc::clone(&disk)),
            disk,
            options,
            resumed: None,
            is_of_other_charset: false,
            now: 5_000_000,
            inputs: Vec::new(),
            seen: Seq::ZERO,
        }
    }

    /// The process ends without a commit, and another one starts.
    pub fn crash(&mut self) {
        let options = self.options.clone();
        self.start_with(options);
    }

    pub fn start_with(&mut self, options: CommittedOptions) {
        self.journal.rollback().unwrap();
        self.journal = ModelJournal::open(Rc::clone(&self.disk));
        self.machine = Committed::new(options.clone());
        self.options = options;
    }

    pub fn step(&mut self, input: Input) -> Result<StepOutcome, StepError> {
        self.now += 1;
        self.inputs.push((Timestamp(self.now), input.clone()));
        let result = self.machine.step(Timestamp(self.now), input, &mut self.journal);
        match &result {
            Ok(_) => self.commit(),
            Err(error) => self.roll_back(error),
        }
        result
    }

    pub fn commit(&mut self) {
        self.journal.commit().unwrap();
        self.machine.committed();
    }

    pub fn roll_back(&mut self, error: &StepError) {
        self.journal.rollback().unwrap();
        // A halt is looked at by its test.
        let _ = self.machine.reset(error);
    }

    /// A connection, up to the request to resume.
    pub fn connect(&mut self) {
        let session = SessionFate::New;
        let outcome = self.step(Input::Connected { session }).unwrap();
        let [SourceRequest::Resume { after }] = outcome.requests[..] else {
            panic!("{outcome:?}");
        };
        self.resumed = after;
    }

    pub fn synced(&mut self, kind: SyncKind) -> Result<StepOutcome, StepError> {
        let epoch = self.server.epoch;
        self.step(Input::Synced(SyncAnswer { epoch, kind }))
    }

    /// The position of the server's tree at a transaction.
    pub fn position(&self, zxid: Zxid) -> HistoryPosition {
        HistoryPosition {
            zxid,
            digest: Some(self.digest_of(&self.server.tree_at(zxid))),
            is_of_other_charset: self.is_of_other_charset,
            ..HistoryPosition::default()
        }
    }

    /// The digest of a tree by the charset of the server. In another one than UTF-8 the terms of paths outside of ASCII are
    /// others.
    fn digest_of(&self, tree: &ServerTree) -> u64 {
        let others = tree.nodes.iter().filter(|(at, _)| !at.is_ascii());
        let others: u64 = others.map(|(_, node)| 7 + node.raw.mzxid.0).sum();
        tree.digest()
            .wrapping_add(if self.is_of_other_charset { others } else { 0 })
    }

    /// The server does one thing. The digest is by its charset.
    pub fn one_in_charset(&mut self, ask: &Ask) -> CommittedTxn {
        let txn = self.server.one(ask);
        let value = self.digest_of(&self.server.tree);
        let digest = txn.digest.map(|digest| TreeDigestValue { value, ..digest });
        CommittedTxn { digest, ..txn }
    }

    /// Sends a snapshot of the present tree, up to the request to follow. `pages`: at most that many, then it is cut.
    pub fn snapshot(&mut self, pages: usize) -> Result<(), StepError> {
        self.synced(SyncKind::Snapshot)?;
        let at = self.position(self.server.last());
        let mut outcome = self.step(Input::Staged(at))?;
        for _ in 0..pages {
            match &outcome.requests[..] {
                [SourceRequest::Follow] => return Ok(()),
                [SourceRequest::ReadStage { ticket, read }] => {
                    let page = self.server.tree.page(read);
                    let ticket = *ticket;
                    outcome = self.step(Input::StagePage { ticket, page })?;
                }
                [] if outcome.has_more => outcome = self.step(Input::Continue)?,
                other => panic!("{other:?}"),
            }
        }
        Ok(())
    }

    /// The pages of the pass that computes the digest of a stage.
    pub fn digest_pages(&self) -> usize {
        self.server.tree.nodes.len().div_ceil(self.options.stage_nodes)
    }

    /// Connects and takes a snapshot.
    pub fn list(&mut self) {
        self.connect();
        self.snapshot(usize::MAX).unwrap();
        self.new_records();
    }

    /// Connects and is sent the transactions after the position.
    pub fn resume(&mut self) -> Result<(), StepError> {
        self.connect();
        let after = self.resumed.expect("there is a position");
        self.synced(SyncKind::Diff)?;
        let missing: Vec<CommittedTxn> = self
            .server
            .history
            .iter()
            .filter(|txn| txn.zxid > after.zxid)
            .cloned()
            .collect();
        if !missing.is_empty() {
            self.send(missing)?;
        }
        self.step(Input::UpToDate).map(drop)
    }

    pub fn send(&mut self, txns: Vec<CommittedTxn>) -> Result<StepOutcome, StepError> {
        self.step(Input::Transactions(txns))
    }

    /// The records since the last call.
    pub fn new_records(&mut self) -> Vec<Arc<Record>> {
        let records = records_after(&self.disk.borrow(), self.seen, usize::MAX);
        self.seen = records.last().map_or(self.seen, |record| record.seq);
        records
    }

    pub fn stored_position(&mut self) -> HistoryPosition {
        self.journal.position().unwrap().expect("it was stored")
    }

    /// The image has exactly the captured znodes of the server's tree, in every field of each Stat.
    pub fn check_image(&mut self) {
        let at = self.stored_position().zxid;
        let tree = self.server.tree_at(at);
        let capture = &self.options.capture;
        let captured = |at: &&ZnodePath| capture.root_of(at).is_some();
        let expected: Vec<_> = tree
            .nodes
            .keys()
            .filter(captured)
            .map(|at| (at.clone(), tree.stat(at), Some(tree.nodes[at].data.clone())))
            .collect();
        let disk = self.disk.borrow();
        let image = disk.state.model.image.iter();
        let found: Vec<_> = image
            .filter(|(at, _)| capture.root_of(at).is_some())
            .map(|(at, znode)| {
                let data = znode.data.as_ref().map(|data| data.bytes.clone());
                (at.clone(), znode.stat, data)
            })
            .collect();
        assert_eq!(found, expected, "the image, and then the tree at {at}");
    }
}
