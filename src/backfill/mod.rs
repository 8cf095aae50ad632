//! `zkbridge backfill`: the history from before a journal, from the files of servers.
//!
//! ```text
//! oldest usable snapshot ──transactions──▶ the journal begins ──▶ its position
//!        └──────────── <source>.history ────────────┴ ─ ─ ─ ─ ─ ─ ─ ┘
//! ```
//!
//! A source without a journal gets one: its listing is the snapshot, and the transactions follow as exact records. Beside a
//! journal a file of the same form is made, which only queries read ([`bridge_query::past_file`]). The machine for
//! transactions makes the records of both, so that they have the ids that the bridge would have given them.
//!
//! Invariants:
//!
//! * A file appears whole or not at all, under its name; a journal that exists is never changed.
//! * The memory does not depend on the length of the history.

mod ensemble;
mod work_folder;

use std::path::{Path, PathBuf};

use bridge_config::SourceConfig;
use bridge_core::amount::Horizon;
use bridge_core::committed::{SyncAnswer, SyncKind};
use bridge_core::journal::{Durability, Journal, JournalOptions, JournalWriter, check_not_lost};
use bridge_core::machine::{SourceMachine, StepError, StepOutcome};
use bridge_core::number::Zxid;
use bridge_core::record::Mode;
use bridge_core::source::{Input, SessionFate, SourceRequest};
use bridge_query::{JournalQuery, past_file};
use bridge_zookeeper::txnlog::{BackfillError, LogBackfill};
use tokio_util::sync::CancellationToken;

use crate::bridge::{journal_options, masking, wall_clock};
use crate::exit::{Exit, Failure};
use crate::source_type::{PastFiles, source_type};

use ensemble::check_ensemble;
use work_folder::WorkFolder;

/// The source to backfill, with its files.
pub struct BackfillPlan<'a> {
    /// The journal of the source, which need not exist.
    pub journal: PathBuf,
    /// The file of the key of masked values.
    pub key_file: PathBuf,
    pub source: &'a SourceConfig,
    pub directories: &'a [PathBuf],
    /// The last transactions that serving servers have applied. A source with a journal needs none.
    pub applied: Vec<i64>,
    /// Ends the work, of which nothing stays.
    pub stop: CancellationToken,
}

/// How far the work is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub zxid: Zxid,
    pub records: u64,
}

/// The file that was made.
#[derive(Debug)]
pub struct Backfilled {
    pub file: PathBuf,
    pub is_new_journal: bool,
    /// The zxid of the snapshot.
    pub from: Zxid,
    /// The last transaction.
    pub to: Zxid,
    pub records: u64,
    /// Why nothing more follows.
    pub reason: String,
    /// Older files that could not be used, because later ones are missing, and folders of other ensembles.
    pub passed_over: Vec<String>,
}

/// Whether the source has a journal.
enum Target {
    /// It gets one.
    New,
    /// The history is made beside it.
    Before {
        journal: Box<JournalQuery>,
        /// The zxid with which its kept records begin.
        begin: Zxid,
        /// Its newest zxid.
        end: Zxid,
    },
}

/// A file that was written.
struct Written {
    from: Zxid,
    to: Zxid,
    records: u64,
    reason: String,
    /// The logs go on after something that is missing or damaged.
    is_interrupted: bool,
    /// Folders of other ensembles.
    left_out: Vec<String>,
}

/// Makes the history of a source.
///
/// # Errors
///
/// If no snapshot can be used, the logs have a hole, or are of another ensemble, a file cannot be read or written, or
/// the plan was stopped.
pub fn backfill(plan: &BackfillPlan<'_>, mut progress: impl FnMut(Progress)) -> Result<Backfilled, Failure> {
    let journal = &plan.journal;
    let target = Target::of(journal)?;
    let work = WorkFolder::take(journal)?;
    let mut passed_over = Vec::new();
    let mut after = None;
    let (written, file) = loop {
        let file = work.fresh_file()?;
        let (written, file) = write(plan, &target, &work, file, after, &mut progress).map_err(|failure| {
            match passed_over.is_empty() {
                true => failure,
                false => Failure::new(failure.exit, format!("{}; {failure}", passed_over.join("; "))),
            }
        })?;
        match target.lacks(&written) {
            None => break (written, file),
            Some(reason) if written.is_interrupted => {
                passed_over.push(reason);
                after = Some(written.to.0.cast_signed());
            }
            Some(reason) => return Err(Failure::new(Exit::Runtime, reason)),
        }
    };
    passed_over.extend(written.left_out);
    let is_new_journal = matches!(target, Target::New);
    let to = match &target {
        Target::New => {
            work.publish_new(&file, journal)?;
            journal.clone()
        }
        Target::Before { journal: query, .. } => {
            check_ensemble(&file, query, plan.source, written.to)?;
            let past = past_file(journal);
            work.publish(&file, &past)?;
            past
        }
    };
    Ok(Backfilled {
        file: to,
        is_new_journal,
        from: written.from,
        to: written.to,
        records: written.records,
        reason: written.reason,
        passed_over,
    })
}

impl Target {
    fn of(file: &Path) -> Result<Target, Failure> {
        if !file.exists() {
            check_not_lost(file)?;
            return Ok(Target::New);
        }
        let journal = JournalQuery::open(file)?;
        let roots = journal.overview()?.roots;
        let end = roots.iter().map(|root| root.reported).max();
        match (journal.begins_at()?, end) {
            (Some(begin), Some(end)) => Ok(Target::Before {
                journal: Box::new(journal),
                begin,
                end,
            }),
            _ => Err(Failure::new(
                Exit::Environment,
                format!(
                    "the journal {} has no complete listing yet\nhelp: let the bridge run until its source is live, or \
                     move the journal, its log and its lock file away to backfill a new one",
                    file.display()
                ),
            )),
        }
    }

    /// Nothing later is read.
    fn until(&self) -> i64 {
        match self {
            Target::New => i64::MAX,
            Target::Before { end, .. } => end.0.cast_signed(),
        }
    }

    /// Why a file is not enough; `None` if it is.
    fn lacks(&self, written: &Written) -> Option<String> {
        match self {
            Target::New if written.is_interrupted => Some(written.reason.clone()),
            Target::Before { begin, .. } if written.to < *begin => Some(format!(
                "the history ends at {}, before the journal begins at {begin}: {}",
                written.to, written.reason
            )),
            Target::New | Target::Before { .. } => None,
        }
    }
}

/// Writes the history from the oldest usable snapshot after a zxid.
fn write(
    plan: &BackfillPlan<'_>,
    target: &Target,
    work: &WorkFolder,
    file: PathBuf,
    after: Option<i64>,
    progress: &mut impl FnMut(Progress),
) -> Result<(Written, PathBuf), Failure> {
    let kind = source_type(&plan.source.kind);
    // Every transaction of a journal was committed.
    let seen = [target.until()];
    let applied = match target {
        Target::New => plan.applied.as_slice(),
        Target::Before { .. } => &seen,
    };
    let files = PastFiles {
        directories: plan.directories,
        folder: work.path(),
        applied,
        until: target.until(),
        stop: &plan.stop,
    };
    let past = kind.read_past(&files, after).map_err(failure)?;
    let from = past.at().zxid;
    if let Target::Before { begin, .. } = target
        && from >= *begin
    {
        let message = format!(
            "the oldest usable snapshot is at {from}, and the journal begins at {begin}: there is nothing older in the \
             files\nhelp: name folders with older snapshots and logs"
        );
        return Err(Failure::new(Exit::Runtime, message));
    }
    let has_masks = !plan.source.mask.is_empty();
    let is_history = matches!(target, Target::Before { .. });
    let machine = kind.past_machine(&plan.source.name, has_masks, is_history)?;
    let mut journal = Journal::open(&file, &options(plan.source))?;
    let masks = masking(plan.source, &plan.key_file, false)?;
    journal.set_masking(masks)?;
    let stop = plan.stop.clone();
    let mut writer = HistoryWriter {
        machine,
        journal,
        stop,
    };
    let written = writer.write(past, progress)?;
    Ok((written, file))
}

/// As the journal of the source, but for what only concerns its deliveries.
fn options(source: &SourceConfig) -> JournalOptions {
    JournalOptions {
        mode: Mode::Txnlog,
        retention: Horizon::Forever,
        // The file is synchronised before it has its name.
        durability: Durability::ProcessCrash,
        ..journal_options(source)
    }
}

/// The machine with its journal, without a pipeline.
struct HistoryWriter {
    machine: Box<dyn SourceMachine>,
    journal: Journal,
    stop: CancellationToken,
}

impl HistoryWriter {
    fn write(
        &mut self,
        mut past: LogBackfill,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Written, Failure> {
        let at = past.at();
        let session = SessionFate::New;
        self.step(Input::Connected { session })?;
        let (epoch, kind) = (at.epoch, SyncKind::Snapshot);
        self.step(Input::Synced(SyncAnswer { epoch, kind }))?;
        let mut outcome = self.step(Input::Staged(at))?;
        loop {
            outcome = match outcome.requests.first() {
                Some(SourceRequest::ReadStage { ticket, read }) => {
                    let page = past.page(read).map_err(failure)?;
                    self.step(Input::StagePage {
                        ticket: *ticket,
                        page,
                    })?
                }
                Some(SourceRequest::Follow) => break,
                _ if outcome.has_more => self.step(Input::Continue)?,
                _ => return Err(Failure::new(Exit::Runtime, "the machine asks for nothing")),
            };
            progress(self.progress(at.zxid));
        }
        let mut written = Written {
            from: at.zxid,
            to: at.zxid,
            records: 0,
            reason: String::new(),
            is_interrupted: false,
            left_out: past.left_out().to_owned(),
        };
        loop {
            let transactions = match past.next_transactions() {
                Ok(transactions) => transactions,
                Err(BackfillError::Files(reason)) => {
                    (written.reason, written.is_interrupted) = (reason, true);
                    break;
                }
                Err(error) => return Err(failure(error)),
            };
            let Some(last) = transactions.last() else {
                (written.reason, written.is_interrupted) = (past.reason(), past.has_hole());
                break;
            };
            written.to = last.zxid;
            self.step(Input::Transactions(transactions))?;
            progress(self.progress(written.to));
        }
        written.records = self.journal.tail().0;
        Ok(written)
    }

    fn progress(&self, zxid: Zxid) -> Progress {
        let records = self.journal.tail().0;
        Progress { zxid, records }
    }

    /// One input, durable when it returns.
    fn step(&mut self, input: Input) -> Result<StepOutcome, Failure> {
        if self.stop.is_cancelled() {
            return Err(failure(BackfillError::Stopped));
        }
        let now = wall_clock()();
        let outcome = self.machine.step(now, input, &mut self.journal);
        let outcome = outcome.map_err(|error| match error {
            StepError::Journal(error) => error.into(),
            other => Failure::new(
                Exit::Runtime,
                format!(
                    "the files contradict themselves: {other}\nhelp: examine them with 'zkbridge log --check', and name \
                     only folders of servers of one ensemble"
                ),
            ),
        })?;
        self.journal.commit()?;
        Ok(outcome)
    }
}

fn failure(error: BackfillError) -> Failure {
    let exit = match error {
        BackfillError::NoSnapshot { .. } | BackfillError::Files(_) => Exit::Environment,
        BackfillError::Stopped | BackfillError::Unsupported(_) => Exit::Runtime,
    };
    Failure::new(exit, error.to_string())
}
