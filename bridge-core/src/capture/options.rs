//! Options of the capture of a source.

use std::sync::Arc;
use std::time::Duration;

use globset::GlobSet;

use super::batch::Limits;
use crate::path::{ZnodePath, covers};
use crate::record::DataForm;
use crate::scope::is_excluded;

/// ZooKeeper's own znodes: each server writes them locally, without transactions, so they are never captured.
const RESERVED: &str = "/zookeeper";

/// The znode that a source writes to check its watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryOptions {
    /// Used by this source and this process only: the write of another process proves nothing.
    pub path: ZnodePath,
    /// The period of the writes.
    pub every: Duration,
}

/// The options of one source.
#[derive(Clone, Debug)]
pub struct CaptureOptions {
    /// The source's name, the records' `cluster`.
    pub cluster: Arc<str>,
    /// The watched subtrees; none covers another.
    pub roots: Vec<ZnodePath>,
    /// The chroot of the connection, as the servers name it: the znode that is `/` to the source.
    pub chroot: Option<ZnodePath>,
    /// Paths left out, with all below them.
    pub exclude: GlobSet,
    /// Whether walks record the existing znodes.
    pub snapshot: SnapshotMode,
    /// Whether records contain data.
    pub data: DataMode,
    /// The most bytes of a value in a record.
    pub max_data_bytes: usize,
    /// How changes of access control lists are recorded.
    pub acls: AclMode,
    /// The period in which a few znodes are read to check that the watch is active; `None`: never.
    pub sample_every: Option<Duration>,
    /// The znode that is written to check it, too.
    pub canary: Option<CanaryOptions>,
    /// The subtree of the bridges' own znodes, which is never captured, also without a canary.
    pub own: Option<ZnodePath>,
    /// The period of the full comparisons; `None`: never.
    pub reconcile_every: Option<Duration>,
    /// The time without a record after which a heartbeat is appended; `None`: no heartbeats.
    pub heartbeat_every: Option<Duration>,
    /// Whether an operator accepted a tree that is older than the journal: it is compared without proofs, once.
    pub accept_baseline: bool,
    /// The seed of the choice of samples.
    pub seed: u64,
    /// Limits of requests and waiting events.
    pub limits: Limits,
}

impl CaptureOptions {
    /// The defaults for a source of this name on these roots.
    pub fn new(cluster: impl Into<Arc<str>>, roots: Vec<ZnodePath>) -> CaptureOptions {
        CaptureOptions {
            cluster: cluster.into(),
            roots,
            chroot: None,
            exclude: GlobSet::empty(),
            snapshot: SnapshotMode::Initial,
            data: DataMode::Keep(DataForm::Auto),
            max_data_bytes: 1 << 20,
            acls: AclMode::Notice,
            sample_every: Some(Duration::from_secs(10)),
            canary: None,
            own: None,
            reconcile_every: Some(Duration::from_secs(3600)),
            heartbeat_every: None,
            accept_baseline: false,
            seed: 1,
            limits: Limits::default(),
        }
    }

    /// The index of the root that covers a path; `None` if no root covers it or it is excluded.
    pub(crate) fn root_of(&self, path: &str) -> Option<usize> {
        if self.is_left_out(path) {
            return None;
        }
        self.roots.iter().position(|root| root.covers(path))
    }

    /// The watched paths: the roots, and a canary that none of them covers.
    pub(crate) fn watched(&self) -> Vec<ZnodePath> {
        let canary = self.canary.iter().map(|canary| &canary.path);
        let apart = canary.filter(|path| !self.roots.iter().any(|root| root.covers(path)));
        self.roots.iter().chain(apart).cloned().collect()
    }

    /// Whether a path, or one above it, is excluded, ZooKeeper's own or the bridge's.
    pub(crate) fn is_left_out(&self, path: &str) -> bool {
        if covers(RESERVED, path) || self.own.as_ref().is_some_and(|own| own.covers(path)) {
            return true;
        }
        is_excluded(&self.exclude, path)
    }
}

impl AclMode {
    /// Whether records have lists.
    pub fn has_lists(self) -> bool {
        match self {
            AclMode::List | AclMode::All => true,
            AclMode::Notice | AclMode::Off => false,
        }
    }
}

/// When existing znodes are listed as `snapshot` records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMode {
    /// At the first start of a root only.
    Initial,
    /// At the first start, and again after each gap.
    Always,
}

/// Whether data is recorded, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataMode {
    /// Data in this form.
    Keep(DataForm),
    /// No data.
    Drop,
}

/// How changes of access control lists are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclMode {
    /// An `acl` record when `aversion` changed.
    Notice,
    /// The same, with the list.
    List,
    /// The same, and the list in `create` and `snapshot` records, too.
    All,
    /// Not recorded.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusion_takes_a_path_with_all_below_it_and_zookeepers_own_are_never_taken() {
        let path = |text| ZnodePath::parse(text).unwrap();
        let mut options = CaptureOptions::new("main", vec![path("/a"), path("/b")]);
        let glob = |text| {
            globset::GlobBuilder::new(text)
                .literal_separator(true)
                .build()
                .unwrap()
        };
        options.exclude = globset::GlobSetBuilder::new()
            .add(glob("/a/*/tmp"))
            .build()
            .unwrap();
        assert_eq!(options.root_of("/a"), Some(0));
        assert_eq!(options.root_of("/b/x"), Some(1));
        assert_eq!(options.root_of("/c"), None);
        assert_eq!(options.root_of("/a/x/tmp"), None);
        assert_eq!(options.root_of("/a/x/tmp/deep/er"), None);
        assert_eq!(options.root_of("/a/x/tmpfile"), Some(0));
        assert!(options.is_left_out("/zookeeper/quota"));
        assert!(!options.is_left_out("/zookeepers"));
    }
}
