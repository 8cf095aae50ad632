//! The file of a plan: JSON lines, a header, the operations, and an end with their digest; after it the progress.
//!
//! ```text
//! {"zkbridge_plan":1,"source":"main",…}
//! {"op":"create","path":"/config/a",…}
//! {"end":{"operations":1,"sha256":"…"}}
//! {"done":[0]}
//! ```
//!
//! Invariants:
//!
//! * A file that was cut, changed, made by another program or by a newer version is refused before anything is written to
//!   ZooKeeper.
//! * A line of progress is on disk before the next request is sent. One that a crash has cut is removed.
//! * Only one process applies a file at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bridge_core::folder::{folder_of, sync_folder};
use bridge_core::number::Zxid;
use bridge_core::path::ZnodePath;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::operation::Operation;
use super::plan_reader::PlanLines;

/// The version of the format.
pub(super) const FORMAT: u32 = 1;

/// The most operations of one plan.
pub const OPERATIONS_MAX: usize = 100_000;

/// Bytes of values of one plan, which are in memory at once.
pub const VALUES_BYTES_MAX: usize = 256 << 20;

/// A longer name of a source is none.
const SOURCE_BYTES_MAX: usize = 1_024;

/// Read and write for the owner only: the file has values.
const FILE_MODE: u32 = 0o600;

/// The first line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanHeader {
    /// The version of the format.
    zkbridge_plan: u32,
    /// The source of the journal, and of the servers to write to.
    pub source: String,
    /// The subtree in the journal.
    pub under: ZnodePath,
    /// The moment.
    pub at: String,
    /// The place to which it is put.
    pub to: ZnodePath,
    /// Whether znodes that did not exist are deleted.
    pub prune: bool,
    /// The kinds of uncertainty that were accepted.
    pub accepted: Vec<String>,
    /// When the plan was made.
    pub made: String,
    /// The place and the znodes above it, which must be the same incarnations when the plan is applied.
    pub anchors: Vec<Anchor>,
}

/// The place of a plan, or a znode above it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// Its path.
    pub path: ZnodePath,
    /// Names its incarnation.
    pub czxid: Zxid,
}

/// The content of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    /// Where and when.
    pub header: PlanHeader,
    /// In their order.
    pub operations: Vec<Operation>,
}

/// The state of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OperationState {
    /// It is to be done.
    #[default]
    Open,
    /// It is done.
    Done,
    /// It was left out for this conflict.
    Skipped(String),
}

/// The line after the operations.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndLine {
    pub(super) end: PlanEnd,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanEnd {
    pub(super) operations: usize,
    pub(super) sha256: String,
}

/// A line of progress.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ProgressLine {
    /// These operations are done.
    Done(Vec<usize>),
    /// This one was left out.
    Skipped { operation: usize, reason: String },
}

/// Why a file is no plan that can be applied.
#[derive(Debug)]
pub struct BadPlan {
    file: PathBuf,
    reason: String,
}

impl std::fmt::Display for BadPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "plan {}: {}", self.file.display(), self.reason)
    }
}

impl std::error::Error for BadPlan {}

/// An open plan.
#[derive(Debug)]
pub struct PlanFile {
    path: PathBuf,
    file: File,
    /// Its content.
    pub plan: RestorePlan,
    /// The state of each operation.
    pub states: Vec<OperationState>,
}

impl PlanHeader {
    /// A header of this version. `place`: the subtree in the journal, and the place to which it is put.
    pub fn new(
        source: String,
        place: (&ZnodePath, &ZnodePath),
        at: String,
        prune: bool,
        accepted: Vec<String>,
        made: String,
        anchors: Vec<Anchor>,
    ) -> PlanHeader {
        PlanHeader {
            zkbridge_plan: FORMAT,
            source,
            under: place.0.clone(),
            at,
            to: place.1.clone(),
            prune,
            accepted,
            made,
            anchors,
        }
    }
}

impl RestorePlan {
    /// Writes a new file.
    ///
    /// # Errors
    ///
    /// If the file exists already, or cannot be written. Nothing is left of a file that could not be written whole.
    pub fn save(&self, path: &Path) -> Result<(), BadPlan> {
        let bad = |error: std::io::Error| BadPlan {
            file: path.to_owned(),
            reason: match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    "it exists already\nhelp: give another name, or remove it if it is not needed any more"
                        .to_owned()
                }
                _ => format!(
                    "it cannot be written: {error}\nhelp: give a place with room that this user may write"
                ),
            },
        };
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path);
        let mut file = created.map_err(bad)?;
        let written = self.write(&mut file).and_then(|()| file.sync_all());
        let synced = written.and_then(|()| sync_folder(folder_of(path)));
        synced.map_err(|error| {
            // It would only be refused.
            let _ = std::fs::remove_file(path);
            bad(error)
        })
    }

    fn write(&self, file: &mut File) -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(file);
        let mut digest = Sha256::new();
        let header = line_of(&self.header);
        for line in std::iter::once(header).chain(self.operations.iter().map(line_of)) {
            digest.update(&line);
            out.write_all(&line)?;
        }
        let end = PlanEnd {
            operations: self.operations.len(),
            sha256: hex(&digest.finalize()),
        };
        out.write_all(&line_of(&EndLine { end }))?;
        out.flush()
    }

    /// The first rule of a plan that this one breaks.
    pub(super) fn objection(&self) -> Option<String> {
        let header = &self.header;
        if header.to.is_slash() || reserved(&header.to) {
            return Some(format!("'{}' is never written to", header.to.brief()));
        }
        if header.source.len() > SOURCE_BYTES_MAX {
            return Some(format!(
                "the name of its source has {} bytes, and {SOURCE_BYTES_MAX} are possible",
                header.source.len()
            ));
        }
        let mut anchors: BTreeSet<&ZnodePath> = BTreeSet::new();
        for Anchor { path, .. } in &header.anchors {
            if path.is_slash() || !path.covers(&header.to) || !anchors.insert(path) {
                return Some(format!(
                    "'{}' is an anchor twice, or is not above '{}'",
                    path.brief(),
                    header.to.brief()
                ));
            }
        }
        let mut places: BTreeMap<&ZnodePath, usize> = BTreeMap::new();
        for (at, operation) in self.operations.iter().enumerate() {
            let path = operation.path();
            if !header.to.covers(path) {
                return Some(format!(
                    "operation {at}: '{}' is not below '{}'",
                    path.brief(),
                    header.to.brief()
                ));
            }
            if let Some(reason) = operation.objection() {
                return Some(format!("operation {at} ({}): {reason}", path.brief()));
            }
            if let Some(first) = places.insert(path, at) {
                return Some(format!(
                    "operations {first} and {at} are both of '{}'",
                    path.brief()
                ));
            }
        }
        self.operations
            .iter()
            .enumerate()
            .find_map(|(at, operation)| self.disorder(at, operation, &places))
    }

    /// Whether an operation comes before one that it needs.
    fn disorder(
        &self,
        at: usize,
        operation: &Operation,
        places: &BTreeMap<&ZnodePath, usize>,
    ) -> Option<String> {
        let parent = operation.path().parent()?;
        let of_parent = *places.get(&parent)?;
        let is_right = match (operation, &self.operations[of_parent]) {
            (Operation::Create { .. }, Operation::Create { .. }) => of_parent < at,
            (Operation::Create { .. } | Operation::Set { .. }, Operation::Delete { .. })
            | (Operation::Set { .. } | Operation::Delete { .. }, Operation::Create { .. }) => false,
            (Operation::Delete { .. }, Operation::Delete { .. }) => at < of_parent,
            _ => true,
        };
        (!is_right).then(|| {
            format!(
                "operation {at} of '{}' cannot be carried out beside operation {of_parent} of its parent",
                operation.path().brief()
            )
        })
    }
}

impl PlanFile {
    /// Opens a plan to apply it, and keeps other processes from it.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written, is in use, or is no whole plan of this version.
    pub fn open(path: &Path) -> Result<PlanFile, BadPlan> {
        let bad = |reason: String| BadPlan {
            file: path.to_owned(),
            reason,
        };
        let unreadable = |error: std::io::Error| {
            bad(format!(
                "it cannot be opened: {error}\nhelp: give the file that 'zkbridge restore … --plan FILE' wrote, as a user \
                 who may read and write it"
            ))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(bad(
                "it is no regular file\nhelp: give the file that 'zkbridge restore … --plan FILE' wrote"
                    .to_owned(),
            ));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(bad(
                    "another process applies it\nhelp: wait for its end".to_owned()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(unreadable(error)),
        }
        let mut lines = PlanLines::new(BufReader::new(&mut file));
        let plan = lines.plan().map_err(bad)?;
        let mut states = vec![OperationState::Open; plan.operations.len()];
        let end = lines.progress(&mut states).map_err(bad)?;
        file.set_len(end)
            .and_then(|()| file.seek(SeekFrom::Start(end)))
            .map_err(unreadable)?;
        Ok(PlanFile {
            path: path.to_owned(),
            file,
            plan,
            states,
        })
    }

    /// Notes that operations are done, durably.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn note_done(&mut self, operations: &[usize]) -> Result<(), BadPlan> {
        if operations.is_empty() {
            return Ok(());
        }
        for at in operations {
            self.states[*at] = OperationState::Done;
        }
        self.append(&ProgressLine::Done(operations.to_vec()))
    }

    /// Notes that an operation is left out, durably.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn note_skipped(&mut self, operation: usize, reason: &str) -> Result<(), BadPlan> {
        self.states[operation] = OperationState::Skipped(reason.to_owned());
        self.append(&ProgressLine::Skipped {
            operation,
            reason: reason.to_owned(),
        })
    }

    fn append(&mut self, line: &ProgressLine) -> Result<(), BadPlan> {
        let written = self
            .file
            .write_all(&line_of(line))
            .and_then(|()| self.file.sync_data());
        written.map_err(|error| BadPlan {
            file: self.path.clone(),
            reason: format!(
                "the progress cannot be written: {error}\nhelp: make room, then run the command again: it finds out what is \
                 done"
            ),
        })
    }
}

fn line_of(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("a plan has only text keys");
    line.push(b'\n');
    line
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a path is ZooKeeper's own.
pub fn reserved(path: &ZnodePath) -> bool {
    bridge_core::path::covers("/zookeeper", path)
}
