//! The types of sources, as the bridge and its commands use them.
//!
//! A new type is a new crate, an implementation of [`SourceType`], and one arm in [`source_type`]; its options are one
//! arm in `SourceKind::options`.

mod zookeeper;

use std::path::{Path, PathBuf};

use bridge_config::{SourceConfig, SourceKind};
use bridge_core::capture::Outcome;
use bridge_core::machine::SourceMachine;
use bridge_core::path::ZnodePath;
use bridge_core::record::{Acl, Mode};
use bridge_core::scope::Scope;
use bridge_core::secret::Secret;
use bridge_core::source::{Source, SourceError};
use bridge_zookeeper::txnlog::{BackfillError, LogBackfill};
use bridge_zookeeper::{TreeWrite, WriteError};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::command::check::Finding;
use crate::doctor::Line;
use crate::exit::Failure;
use crate::operator::Journals;

/// One type of source with its options.
pub trait SourceType: Sync {
    /// The machine of a source of this name, and the subtrees that it watches. Connects to nothing. With masks, nothing
    /// may be stored that is computed of values.
    ///
    /// # Errors
    /// If the options cannot work.
    fn machine(
        &self,
        name: &str,
        accept_baseline: bool,
        has_masks: bool,
    ) -> Result<(Box<dyn SourceMachine>, Scope), Failure>;

    /// How records of it say that they were captured.
    fn mode(&self) -> Mode;

    /// The connection of a source of this name, before it connects. Its temporary files go into the folder.
    fn connection(&self, name: &str, folder: &Path) -> Box<dyn Source>;

    /// The folders of files of servers that the configuration names.
    fn log_directories(&self) -> &[PathBuf];

    /// Whether a source without a journal begins with the history in these folders.
    fn begins_with_history(&self) -> bool;

    /// The last transactions that serving servers have applied, at least one, or why none says it.
    fn applied(&self) -> BoxFuture<'_, Result<Vec<i64>, String>>;

    /// The machine that makes the records of a history from before. `is_history`: of a file that no bridge continues.
    ///
    /// # Errors
    /// If the options cannot work.
    fn past_machine(
        &self,
        name: &str,
        has_masks: bool,
        is_history: bool,
    ) -> Result<Box<dyn SourceMachine>, Failure>;

    /// Finds the oldest usable snapshot after a zxid in files of servers. Blocks on the disk.
    ///
    /// # Errors
    /// If there is none, or a file cannot be read.
    fn read_past(&self, files: &PastFiles<'_>, after: Option<i64>) -> Result<LogBackfill, BackfillError>;

    /// Connects for `zkbridge check --connect`. `what` names the source in the finding.
    fn check(&self, what: String) -> BoxFuture<'_, Finding>;

    /// Runs the checks of `zkbridge doctor`. Reads up to `znodes` znodes of each root.
    fn examine<'a>(
        &'a self,
        source: &'a SourceConfig,
        journals: &'a Journals,
        znodes: u64,
    ) -> BoxFuture<'a, Vec<Line>>;

    /// Opens a session that reads the tree for `zkbridge verify`.
    fn survey(&self) -> BoxFuture<'_, Result<Box<dyn TreeReader>, SourceError>>;

    /// Opens a session that reads and writes the tree for `zkbridge restore`, with these credentials, `user:password`, or
    /// with those of the source.
    fn editor(&self, credentials: Option<Secret>) -> BoxFuture<'_, Result<Box<dyn TreeEditor>, SourceError>>;
}

/// Files of servers, and how far they are read.
pub struct PastFiles<'a> {
    /// Their folders.
    pub directories: &'a [PathBuf],
    /// For temporary files.
    pub folder: &'a Path,
    /// Transactions that are known to be committed.
    pub applied: &'a [i64],
    /// Nothing after it is read.
    pub until: i64,
    /// Ends the reading with [`BackfillError::Stopped`].
    pub stop: &'a CancellationToken,
}

/// Reads the present tree in a session of its own.
pub trait TreeReader: Send + Sync {
    /// Waits until later reads are no older than what any other client has read.
    fn sync(&self) -> BoxFuture<'_, Result<(), SourceError>>;

    /// Reads these znodes with the names of their children; one outcome for each.
    fn read<'a>(&'a self, paths: &'a [ZnodePath]) -> BoxFuture<'a, Result<Vec<Outcome>, SourceError>>;

    /// The chroot of the connect string, if it does not exist: then nothing below it does.
    fn missing_chroot(&self) -> BoxFuture<'_, Result<Option<ZnodePath>, SourceError>>;

    /// Whether the source captures a path below one of its roots.
    fn is_captured(&self, path: &str) -> bool;
}

/// Reads and writes the present tree in a session of its own.
pub trait TreeEditor: TreeReader {
    /// The access control list of a znode; `None` if it does not exist or the list may not be read.
    fn acl<'a>(&'a self, path: &'a ZnodePath) -> BoxFuture<'a, Result<Option<Vec<Acl>>, SourceError>>;

    /// Carries out all of these writes, or none.
    fn write<'a>(&'a self, writes: Vec<TreeWrite<'a>>) -> BoxFuture<'a, Result<(), WriteError>>;
}

/// The type of a source. The only match on the kind.
pub fn source_type(kind: &SourceKind) -> &dyn SourceType {
    match kind {
        SourceKind::Zookeeper(options) => options,
    }
}
