//! Options of a source that reads transactions.

use strum::IntoStaticStr;
use uuid::Uuid;

use crate::capture::CaptureOptions;
use crate::path::ZnodePath;
use crate::record::NAMESPACE;

use super::txn::HistoryPosition;

/// Bytes of paths and data of held transactions that may wait in memory; with more, the tree is compared with a
/// snapshot. A leader sends at most 500 transactions from its memory by default, and more of them from its log.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Znodes of a stage in one request: a transaction of the journal holds the records of one answer.
const STAGE_NODES: usize = 1_000;
/// Bytes of data in the answer.
const STAGE_BYTES: usize = 4 << 20;

/// Znodes that the index holds, about 200 bytes each: ephemeral ones, and those with children that are not captured. With
/// more, each end reads the whole image.
const INDEXED_MAX: usize = 200_000;

/// The scope of a position whose image is not at it any more: a comparison has begun and not ended.
pub(super) const NO_SCOPE: u64 = 0;

/// The same, where the image before was that of another `capture`.
pub(super) const OTHER_MODE: u64 = 2;

impl HistoryPosition {
    /// The same position once a source of another `capture` moves the image: only the bound of the next gap.
    pub(crate) fn left_in_other_mode(self) -> HistoryPosition {
        HistoryPosition {
            scope: OTHER_MODE,
            ..self
        }
    }
}

/// How the history is proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ProofMode {
    /// By the digest of the whole tree, for which the journal keeps about 110 bytes for each znode of the ensemble.
    #[default]
    Tree,
    /// By the difference that each transaction makes to the digest, for which the journal keeps about 110 bytes for each
    /// znode below the roots. A transaction that touches other znodes is not proved.
    Roots,
    /// By the numbers of the transactions, and by what each says about the state before it.
    Sequence,
}

impl ProofMode {
    /// The word in options and in the status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether digests are compared.
    pub(super) fn compares_digests(self) -> bool {
        match self {
            ProofMode::Tree | ProofMode::Roots => true,
            ProofMode::Sequence => false,
        }
    }
}

/// The options of one source.
#[derive(Clone, Debug)]
pub struct CommittedOptions {
    /// Roots, excluded paths and the form of records, as in watch mode. Samples, the canary and periodic comparisons are
    /// not used.
    pub capture: CaptureOptions,
    /// The chroot of the connect string: roots and records are relative to it.
    pub chroot: Option<ZnodePath>,
    /// A text that is different for another choice of captured paths.
    pub scope: String,
    /// How the history is proved.
    pub proof: ProofMode,
    /// Bytes of held transactions.
    pub held_bytes: usize,
    /// Znodes of a stage in one request.
    pub stage_nodes: usize,
    /// Bytes of data in the answer.
    pub stage_bytes: usize,
    /// Ephemeral znodes, and znodes with children that are not captured, that are held in memory where sessions end without
    /// a list.
    pub indexed_max: usize,
}

impl CommittedOptions {
    /// The defaults. `scope` names the captured paths: it is another text if the roots or the excluded paths are others.
    pub fn new(
        capture: CaptureOptions,
        chroot: Option<ZnodePath>,
        scope: impl Into<String>,
    ) -> CommittedOptions {
        CommittedOptions {
            capture,
            chroot,
            scope: scope.into(),
            proof: ProofMode::default(),
            held_bytes: HELD_BYTES_MAX,
            stage_nodes: STAGE_NODES,
            stage_bytes: STAGE_BYTES,
            indexed_max: INDEXED_MAX,
        }
    }

    /// The fingerprint of the captured paths, and of those that are held below them; an odd number, unlike [`NO_SCOPE`] and [`OTHER_MODE`].
    pub(super) fn scope_number(&self) -> u64 {
        let chroot = self.chroot.as_deref().unwrap_or("/");
        // What is held below the roots is not what is held of the whole tree.
        let held = match self.proof {
            ProofMode::Tree | ProofMode::Sequence => "",
            ProofMode::Roots => "\nroots",
        };
        let name = format!("{chroot}\n{:?}\n{}{held}", self.capture.roots, self.scope);
        Uuid::new_v5(&NAMESPACE, name.as_bytes()).as_u64_pair().0 | 1
    }

    /// A path of the server as records name it; `None` outside of the chroot.
    pub(super) fn record_path(&self, path: &ZnodePath) -> Option<ZnodePath> {
        let Some(chroot) = self.chroot.as_ref().filter(|chroot| !chroot.is_slash()) else {
            return Some(path.clone());
        };
        match path.strip_prefix(chroot.as_str())? {
            "" => Some(ZnodePath::slash()),
            rest => ZnodePath::parse(rest).ok(),
        }
    }

    /// Whether a path of the server is captured.
    pub(super) fn is_captured(&self, path: &ZnodePath) -> bool {
        let path = self.record_path(path);
        path.is_some_and(|path| self.capture.root_of(&path).is_some())
    }

    /// Whether every znode of the server is captured, ZooKeeper's own left out.
    pub(super) fn captures_all(&self) -> bool {
        let capture = &self.capture;
        self.chroot.as_ref().is_none_or(ZnodePath::is_slash)
            && capture.roots.iter().any(ZnodePath::is_slash)
            && capture.exclude.is_empty()
            && capture.own.is_none()
    }

    /// The path at the server of one that records name.
    pub(super) fn server_path(&self, path: &ZnodePath) -> ZnodePath {
        match &self.chroot {
            Some(chroot) => path.names().fold(chroot.clone(), |above, name| above.child(name)),
            None => path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    fn options(chroot: Option<&str>) -> CommittedOptions {
        let capture = CaptureOptions::new("main", vec![path("/a")]);
        CommittedOptions::new(capture, chroot.map(path), "")
    }

    #[test]
    fn a_chroot_is_taken_off_the_paths_of_the_server_and_put_before_those_of_records() {
        let check = |chroot, server: &str, record: Option<&str>| {
            let options = options(chroot);
            let found = options.record_path(&path(server));
            assert_eq!(found.as_deref(), record, "{chroot:?} {server}");
            if let Some(record) = found {
                assert_eq!(options.server_path(&record), path(server));
            }
        };
        check(None, "/a/b", Some("/a/b"));
        check(Some("/"), "/a/b", Some("/a/b"));
        check(Some("/app"), "/app/a", Some("/a"));
        check(Some("/app"), "/app", Some("/"));
        check(Some("/app"), "/apple", None);
        check(Some("/app"), "/", None);
    }

    #[test]
    fn all_is_captured_where_the_root_is_and_nothing_is_excluded() {
        let check = |root: &str, chroot: Option<&str>, exclude: &[&str], expected: bool| {
            let capture = CaptureOptions::new("main", vec![path(root)]);
            let mut options = CommittedOptions::new(capture, chroot.map(path), "");
            let mut globs = globset::GlobSetBuilder::new();
            for glob in exclude {
                globs.add(globset::Glob::new(glob).unwrap());
            }
            options.capture.exclude = globs.build().unwrap();
            assert_eq!(options.captures_all(), expected, "{root} {chroot:?} {exclude:?}");
        };
        check("/", None, &[], true);
        check("/", Some("/"), &[], true);
        check("/", Some("/app"), &[], false);
        check("/a", None, &[], false);
        check("/", None, &["/a"], false);
        let options = options(Some("/app"));
        assert!(options.is_captured(&path("/app/a/b")));
        assert!(!options.is_captured(&path("/app/b")) && !options.is_captured(&path("/a")));
    }

    #[test]
    fn another_choice_of_paths_has_another_fingerprint() {
        let one = options(None);
        let mut other = options(None);
        assert_eq!(one.scope_number(), other.scope_number());
        other.scope = "/a/tmp/**".into();
        assert_ne!(one.scope_number(), other.scope_number());
        assert_ne!(one.scope_number(), options(Some("/app")).scope_number());
    }
}
