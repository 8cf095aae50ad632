//! The options of the reader of logs: typed, documented, checked without opening a file.

use std::path::PathBuf;

use bridge_core::issue::ConfigIssue;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::HistoryProof;

/// Folders at most: more than the servers of any ensemble, each with a dataDir and a dataLogDir.
const DIRECTORIES_MAX: usize = 32;

/// The files that are read, for `capture = "txnlog"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TxnlogOptions {
    /// Must be true: the files have all znodes with their access control lists, and no access control list restricts who
    /// reads them.
    #[serde(default)]
    pub bypasses_acls: bool,
    /// The `dataLogDir` of one or several servers of the ensemble, and the `dataDir` where that is another one. One server
    /// is enough if it is never brought up to date by a snapshot; the logs of several fill each other's holes.
    pub directories: Vec<PathBuf>,
    /// How it is proved that no transaction is missing.
    #[serde(default)]
    pub proof: HistoryProof,
    /// Whether a source without a journal begins with the history in these files, as `zkbridge backfill` makes it, and not
    /// with the present tree. Without effect where there is a journal.
    #[serde(default)]
    pub backfill: bool,
}

impl TxnlogOptions {
    /// The options for these folders.
    pub fn new(directories: Vec<PathBuf>) -> TxnlogOptions {
        TxnlogOptions {
            bypasses_acls: true,
            directories,
            proof: HistoryProof::default(),
            backfill: false,
        }
    }

    /// The folders, as the status names them.
    pub(crate) fn named(&self) -> String {
        let folders = self.directories.iter().map(|folder| folder.display().to_string());
        folders.collect::<Vec<_>>().join(", ")
    }

    /// Everything that cannot work.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let mut found = Vec::new();
        if !self.bypasses_acls {
            found.push(ConfigIssue::error(
                "txnlog.bypasses_acls",
                "the files of a server have all znodes, and no access control list restricts who reads them",
                "write bypasses_acls = true if the readers of the destinations may see everything, or use capture = \
                 \"watch\"",
            ));
        }
        let folders =
            |problem: String, remedy: &str| ConfigIssue::error("txnlog.directories", problem, remedy);
        match self.directories.len() {
            0 => found.push(folders(
                "no folder is named".to_owned(),
                "name the dataLogDir of a server",
            )),
            count if count > DIRECTORIES_MAX => found.push(folders(
                format!("{count} folders are named, and {DIRECTORIES_MAX} are allowed"),
                "name the folders of the servers of one ensemble",
            )),
            _ => {}
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_read_only_by_one_who_has_typed_that_they_bypass_access_control_lists() {
        let keys = |options: &TxnlogOptions| {
            let issues = options.objections();
            issues.into_iter().map(|issue| issue.key).collect::<Vec<_>>()
        };
        let mut options: TxnlogOptions =
            serde_json::from_str(r#"{"directories": ["/var/lib/zookeeper"]}"#).unwrap();
        assert_eq!(keys(&options), ["txnlog.bypasses_acls"]);
        assert!(
            !options.backfill,
            "the history from before is asked for by typing it"
        );
        options.bypasses_acls = true;
        assert_eq!(keys(&options), [] as [&str; 0]);
        options.directories = vec!["/a".into(); DIRECTORIES_MAX + 1];
        assert_eq!(keys(&options), ["txnlog.directories"]);
        assert_eq!(keys(&TxnlogOptions::new(Vec::new())), ["txnlog.directories"]);
    }
}
