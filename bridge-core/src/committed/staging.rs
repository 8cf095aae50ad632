//! The comparison of the image with a staged snapshot: the first listing of a root, and what happened in a gap.
//!
//! A stage is the whole tree at exactly one zxid, so a single pass over each root is enough: every znode is compared, and
//! its list of children shows which ones are gone. The comparison is the one of the watch machine. Walking the stage
//! with that machine's own walk would add requests, windows and samples that only a live tree needs.
//!
//! The digest of the stage is computed in a pass before the comparison: a tree that is not the server's is not recorded.
//! The same pass stores the ephemeral znodes that are not captured; it is left out where there is nothing to do for it.
//! The brackets of all roots end in one step, together with the position: a comparison that is cut ends none of them,
//! and the next one has the same bounds for every root.

use std::collections::VecDeque;

use uuid::Uuid;

use crate::append::{DeletedAt, NodeFacts};
use crate::capture::roots::{AtStage, StepContext};
use crate::capture::{SnapshotMode, StepResult, Ticket};
use crate::machine::StepError;
use crate::number::{Epoch, SessionId, Zxid};
use crate::path::ZnodePath;
use crate::record::{GapReason, LifetimeKind, NAMESPACE};
use crate::resnapshot::Resnapshot;

use super::closed::set_uncaptured;
use super::options::CommittedOptions;
use super::proof::{HeldNodes, StageDigest};
use super::txn::{HistoryPosition, StagePage, StageRead, StagedNode, SyncAnswer};

/// How far the comparison with a stage is.
#[derive(Debug)]
pub(super) struct Staging {
    /// The position of the stage.
    pub(super) at: HistoryPosition,
    /// The answer of the server that sent it.
    pub(super) answer: SyncAnswer,
    /// Everything up to it was reported for every root that was listed before.
    from: Zxid,
    epoch: Epoch,
    reason: GapReason,
    /// The root that is compared; as many as there are roots when all are.
    root: usize,
    /// Whether its bracket is open.
    is_open: bool,
    /// The last znode of it that was compared.
    after: Option<ZnodePath>,
    /// Whether the root itself was in the stage.
    is_found: bool,
    ticket: Ticket,
    /// The digest of the stage, during the pass before the comparison.
    digest: Option<StageDigest>,
    /// Whether that pass has ended.
    is_surveyed: bool,
    /// Whether a digest of the server has proved the stage.
    pub(super) proved_by_server: bool,
    held: HeldNodes,
    /// Znodes that were compared.
    pub(super) compared: u64,
    /// Whether the brackets of all roots have ended.
    is_closed: bool,
    /// Roots whose image is appended again after their gap.
    resnapshots: VecDeque<Resnapshot>,
}

/// The next step of the comparison.
#[derive(Debug)]
pub(super) enum StagingProgress {
    /// Read these znodes.
    Read(Ticket, StageRead),
    /// The image is the tree of the stage. Call [`Staging::go_on`] again, after a commit.
    More,
    /// The image is the tree of the stage, and nothing is left to append.
    Done,
}

impl Staging {
    pub(super) fn new(
        at: HistoryPosition,
        answer: SyncAnswer,
        from: Zxid,
        epoch: Epoch,
        reason: GapReason,
        held: HeldNodes,
    ) -> Staging {
        Staging {
            at,
            answer,
            from,
            epoch,
            reason,
            root: 0,
            is_open: false,
            after: None,
            is_found: false,
            ticket: Ticket(0),
            digest: None,
            is_surveyed: false,
            proved_by_server: false,
            held,
            compared: 0,
            is_closed: false,
            resnapshots: VecDeque::new(),
        }
    }

    /// Whether this is the answer to the last request.
    pub(super) fn is_awaited(&self, ticket: Ticket) -> bool {
        self.ticket == ticket
    }

    /// Whether it goes on without an answer.
    pub(super) fn is_restating(&self) -> bool {
        !self.resnapshots.is_empty()
    }

    /// Whether it may have left records in the journal, and their brackets have not ended.
    pub(super) fn is_open(&self) -> bool {
        (self.is_open || self.root > 0) && !self.is_closed
    }

    /// For the comparisons of the watch machine.
    pub(super) fn at_stage(&self) -> AtStage {
        AtStage {
            zxid: self.at.zxid,
            facts: None,
        }
    }

    /// Does the next thing that needs no answer.
    pub(super) fn go_on(
        &mut self,
        options: &CommittedOptions,
        context: &mut StepContext<'_>,
    ) -> StepResult<StagingProgress> {
        if !self.is_surveyed {
            if self.digest.is_none() {
                context.image.clear_uncaptured()?;
                if options.proof.compares_digests() {
                    context.image.clear_shadow()?;
                }
            }
            if options.proof.compares_digests() || !options.captures_all() {
                self.digest.get_or_insert_default();
                return Ok(self.read(ZnodePath::slash(), options));
            }
            self.is_surveyed = true;
        }
        if self.root < context.roots.len() {
            if !self.is_open {
                context.open_bracket(self.root, self.epoch, self.reason, Some(self.from))?;
                self.is_open = true;
            }
            let below = options.server_path(&context.roots[self.root].path);
            return Ok(self.read(below, options));
        }
        if !self.is_closed {
            self.close(options, context)?;
        } else if let Some(resnapshot) = self.resnapshots.front_mut() {
            resnapshot.step(context.image, options.capture.limits.resnapshot_batch)?;
            if resnapshot.is_done() {
                self.resnapshots.pop_front();
            }
        }
        Ok(match self.resnapshots.is_empty() {
            true => StagingProgress::Done,
            false => StagingProgress::More,
        })
    }

    fn read(&mut self, below: ZnodePath, options: &CommittedOptions) -> StagingProgress {
        self.ticket = Ticket(self.ticket.0 + 1);
        let read = StageRead {
            below,
            after: self.after.clone(),
            nodes: options.stage_nodes,
            bytes: options.stage_bytes,
        };
        StagingProgress::Read(self.ticket, read)
    }

    /// Compares the znodes of an answer.
    pub(super) fn compare(
        &mut self,
        page: StagePage,
        options: &CommittedOptions,
        context: &mut StepContext<'_>,
    ) -> StepResult<StagingProgress> {
        let root = self.root;
        if let Some(digest) = &mut self.digest {
            for node in &page.nodes {
                if options.proof.compares_digests() {
                    digest.add(node, &self.held, context.image)?;
                }
                if node.lifetime.kind == LifetimeKind::Ephemeral {
                    let session = SessionId(node.raw.owner.cast_unsigned());
                    set_uncaptured(&node.path, Some(session), options, context.image)?;
                }
            }
        }
        for node in page.nodes.iter().filter(|_| self.digest.is_none()) {
            let Some(path) = options.record_path(&node.path) else {
                continue;
            };
            if options.capture.root_of(&path) == Some(root) {
                self.compared += 1;
                self.is_found |= path == context.roots[root].path;
                compare_node(&path, node, root, options, context)?;
            }
        }
        if let Some(last) = page.nodes.last() {
            self.after = Some(last.path.clone());
        }
        if page.is_last && self.digest.is_some() {
            self.prove(options)?;
            context.image.load_shadow()?;
        } else if page.is_last {
            self.end_root(&page, context)?;
        } else if page.nodes.is_empty() {
            return Err(StepError::Unproved(
                "the stage has no znodes after a page that was not the last".to_owned(),
            ));
        }
        self.go_on(options, context)
    }

    /// All znodes of the stage were read: the digest has to be that of the server, if it says one. One of paths in another
    /// charset was compared by the connection, and is gone on from.
    fn prove(&mut self, options: &CommittedOptions) -> StepResult<()> {
        let digest = self.digest.take().map(|digest| digest.value());
        (self.is_surveyed, self.after) = (true, None);
        if self.at.is_of_other_charset || !options.proof.compares_digests() {
            return Ok(());
        }
        if let (Some(ours), Some(theirs)) = (digest, self.at.digest)
            && ours != theirs
        {
            return Err(StepError::Unproved(format!(
                "the staged tree at {} has the digest {ours:016x}, and the server's has {theirs:016x}",
                self.at.zxid
            )));
        }
        self.proved_by_server = self.at.digest.is_some();
        self.at.digest = digest;
        Ok(())
    }

    fn end_root(&mut self, page: &StagePage, context: &mut StepContext<'_>) -> StepResult<()> {
        let root = self.root;
        if !self.is_found {
            let path = context.roots[root].path.clone();
            let above = page.above.unwrap_or(self.at.zxid);
            match context.image.node(&path)? {
                Some(node) => {
                    let at = context.bound(above, &node);
                    context.drop_gone(root, &path, &node, at)?;
                }
                None => context.purge(root, &path, None, DeletedAt::Bound(above))?,
            }
        }
        self.root += 1;
        (self.is_open, self.is_found, self.after) = (false, false, None);
        Ok(())
    }

    /// Every root is compared: ends all brackets and stores the position.
    fn close(&mut self, options: &CommittedOptions, context: &mut StepContext<'_>) -> StepResult<()> {
        for root in 0..context.roots.len() {
            let is_gap = context.in_gap(root);
            context.close_bracket(root)?;
            if is_gap && options.capture.snapshot == SnapshotMode::Always {
                let path = context.roots[root].path.clone();
                let (cluster, epoch, now) = (&options.capture.cluster, self.epoch, context.now);
                let name = format!("{cluster}\n{path}\n{epoch}\n{now}\nrestated");
                let run = Uuid::new_v5(&NAMESPACE, name.as_bytes());
                self.resnapshots.push_back(Resnapshot::new(path, run, now));
            }
        }
        context.image.set_position(Some(&self.at))?;
        self.is_closed = true;
        Ok(())
    }
}

fn compare_node(
    path: &ZnodePath,
    node: &StagedNode,
    root: usize,
    options: &CommittedOptions,
    context: &mut StepContext<'_>,
) -> StepResult<()> {
    let stat = node
        .raw
        .read_as(node.lifetime, node.data.len(), node.children.len());
    if let Some(stage) = &context.stage
        && stat.newest_zxid() > stage.zxid
    {
        return Err(StepError::Unproved(format!(
            "{} in the stage at {} is as new as {}",
            path.brief(),
            stage.zxid,
            stat.newest_zxid()
        )));
    }
    let facts = NodeFacts {
        lifetime: Some(node.lifetime),
        acl: node.acl.clone().filter(|_| options.capture.acls.has_lists()),
    };
    if let Some(stage) = &mut context.stage {
        stage.facts = Some(Box::new(facts.clone()));
    }
    context.reconcile(root, path, &stat, &node.data)?;
    // A znode without a difference has no record, and another mode may have left it without facts.
    context.image.set_facts(path, &facts)?;
    context.drop_gone_children(root, path, &stat, &node.children)?;
    Ok(())
}
