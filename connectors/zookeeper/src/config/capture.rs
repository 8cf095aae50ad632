//! How changes are captured, and which other options that excludes.

use bridge_core::committed::ProofMode;
use bridge_core::issue::ConfigIssue;
use bridge_core::record::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Liveness, ZookeeperConfig, default_reconcile_every};

/// How changes are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMode {
    /// With a watch, in a session like that of any client: the newest value of each znode. A value that was overwritten
    /// before it could be read is counted.
    #[default]
    Watch,
    /// From the transaction logs of servers whose disks this machine can read: every committed transaction, with its
    /// session and time. Needs `[source.txnlog]`.
    Txnlog,
    /// As an observer, from the quorum port of a leader: every committed transaction, with its session and time. Needs
    /// `[source.observer]`.
    Observer,
}

impl CaptureMode {
    /// The mode in records.
    pub fn mode(self) -> Mode {
        match self {
            CaptureMode::Watch => Mode::Watch,
            CaptureMode::Observer => Mode::Observer,
            CaptureMode::Txnlog => Mode::Txnlog,
        }
    }
}

/// How it is proved that no transaction is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HistoryProof {
    /// With the digest of the whole tree, which servers since 3.6 write with each transaction. The journal keeps about 110
    /// bytes for each znode of the ensemble.
    #[default]
    Tree,
    /// With the differences of that digest. The journal keeps about 110 bytes for each znode below the roots; transactions
    /// that touch other znodes are not proved, and counted.
    Roots,
    /// With the numbers of the transactions alone.
    Sequence,
}

impl HistoryProof {
    /// The mode of the machine.
    pub fn mode(self) -> ProofMode {
        match self {
            HistoryProof::Tree => ProofMode::Tree,
            HistoryProof::Roots => ProofMode::Roots,
            HistoryProof::Sequence => ProofMode::Sequence,
        }
    }
}

/// Checks the options of the mode, and that no others are given.
pub(super) fn objections(config: &ZookeeperConfig, found: &mut Vec<ConfigIssue>) {
    txnlog_objections(config, found);
    watch_objections(config, found);
    match (config.capture, &config.who) {
        (_, None) => {}
        (CaptureMode::Watch, Some(_)) => found.push(ConfigIssue::warning(
            "who",
            "the section [source.who] has no effect, because a watch does not see which session made a change",
            "use capture = \"observer\" or \"txnlog\", or leave the section out",
        )),
        (CaptureMode::Observer | CaptureMode::Txnlog, Some(who)) => found.extend(who.objections()),
    }
    match (config.capture, &config.observer) {
        (CaptureMode::Watch | CaptureMode::Txnlog, None) => {}
        (CaptureMode::Watch | CaptureMode::Txnlog, Some(_)) => found.push(ConfigIssue::warning(
            "observer",
            "the section [source.observer] has no effect, because capture is not \"observer\"",
            "write capture = \"observer\", or leave the section out",
        )),
        (CaptureMode::Observer, None) => found.push(ConfigIssue::error(
            "capture",
            "capture = \"observer\" has no section [source.observer]",
            "add [source.observer] with bypasses_acls = true, or use capture = \"watch\"",
        )),
        (CaptureMode::Observer, Some(observer)) => found.extend(observer.objections()),
    }
}

/// The same for transaction logs.
fn txnlog_objections(config: &ZookeeperConfig, found: &mut Vec<ConfigIssue>) {
    match (config.capture, &config.txnlog) {
        (CaptureMode::Watch | CaptureMode::Observer, None) => {}
        (CaptureMode::Watch, Some(_)) => found.push(ConfigIssue::warning(
            "txnlog",
            "the section [source.txnlog] has no effect on the capture, because capture is \"watch\"; only zkbridge \
             backfill reads it",
            "write capture = \"txnlog\" or \"observer\", or leave the section out",
        )),
        (CaptureMode::Txnlog, None) => found.push(ConfigIssue::error(
            "capture",
            "capture = \"txnlog\" has no section [source.txnlog]",
            "add [source.txnlog] with bypasses_acls = true and directories, or use capture = \"watch\"",
        )),
        // Beside an observer the files fill what a too long absence left out.
        (CaptureMode::Observer | CaptureMode::Txnlog, Some(txnlog)) => found.extend(txnlog.objections()),
    }
}

/// Options for a watch, which have no effect where there is none.
fn watch_objections(config: &ZookeeperConfig, found: &mut Vec<ConfigIssue>) {
    let mode = match config.capture {
        CaptureMode::Watch => return,
        CaptureMode::Txnlog => "txnlog",
        CaptureMode::Observer => "observer",
    };
    let mut unused = |key: &str, reason: &str| {
        found.push(ConfigIssue::warning(
            key,
            format!("{key} has no effect with capture = \"{mode}\": {reason}"),
            format!("leave {key} out"),
        ));
    };
    if config.liveness != Liveness::default() {
        unused("liveness", "there is no watch that could die");
    }
    if config.reconcile_every != default_reconcile_every() {
        unused(
            "reconcile_every",
            "every transaction is taken, and its digest is compared with that of the tree",
        );
    }
}

#[cfg(test)]
mod tests {
    use bridge_core::amount::Interval;

    use super::*;
    use crate::observer::ObserverOptions;
    use crate::txnlog::TxnlogOptions;

    #[test]
    fn the_section_of_the_logs_and_the_mode_belong_together() {
        let mut config = ZookeeperConfig::new("a:2181".parse().unwrap());
        let keys = |config: &ZookeeperConfig| {
            let issues = config.objections();
            issues.into_iter().map(|issue| issue.key).collect::<Vec<_>>()
        };
        let directories = vec!["/var/lib/zookeeper".into()];
        config.txnlog = Some(TxnlogOptions::new(directories));
        assert_eq!(keys(&config), ["txnlog"]);
        config.capture = CaptureMode::Observer;
        config.observer = Some(ObserverOptions::new(Vec::new()));
        assert_eq!(keys(&config), [] as [&str; 0]);
        config.observer = None;
        config.capture = CaptureMode::Txnlog;
        assert_eq!(keys(&config), [] as [&str; 0]);
        config.txnlog = Some(TxnlogOptions::new(Vec::new()));
        assert_eq!(keys(&config), ["txnlog.directories"]);
        config.txnlog = None;
        assert_eq!(keys(&config), ["capture"]);
    }

    #[test]
    fn the_section_of_the_observer_and_the_mode_belong_together() {
        let mut config = ZookeeperConfig::new("a:2181".parse().unwrap());
        let keys = |config: &ZookeeperConfig| {
            let issues = config.objections();
            issues.into_iter().map(|issue| issue.key).collect::<Vec<_>>()
        };
        config.observer = Some(ObserverOptions::new(Vec::new()));
        assert_eq!(keys(&config), ["observer"]);
        config.capture = CaptureMode::Observer;
        assert_eq!(keys(&config), [] as [&str; 0]);
        config.liveness = Liveness::Canary;
        assert_eq!(keys(&config), ["liveness"]);
        config.liveness = Liveness::Sample;
        config.observer = None;
        assert_eq!(keys(&config), ["capture"]);
    }

    #[test]
    fn an_option_for_a_watch_is_named_where_there_is_none() {
        let mut config = ZookeeperConfig::new("a:2181".parse().unwrap());
        config.observer = Some(ObserverOptions::new(Vec::new()));
        config.txnlog = Some(TxnlogOptions::new(vec!["/var/lib/zookeeper".into()]));
        let warned = |config: &ZookeeperConfig| {
            let issues = config.objections().into_iter();
            let of_watch = issues.filter(|issue| issue.key == "liveness" || issue.key == "reconcile_every");
            of_watch
                .map(|issue| format!("{}: {}", issue.key, issue.message))
                .collect::<Vec<_>>()
        };
        for (mode, word) in [
            (CaptureMode::Observer, "observer"),
            (CaptureMode::Txnlog, "txnlog"),
        ] {
            config.capture = mode;
            assert_eq!(warned(&config), [] as [&str; 0]);
            config.liveness = Liveness::Off;
            config.reconcile_every = Interval::Off;
            let found = warned(&config);
            assert!(found.len() == 2, "{found:?}");
            for issue in found {
                assert!(issue.contains(&format!("capture = \"{word}\"")), "{issue}");
            }
            config.liveness = Liveness::default();
            config.reconcile_every = default_reconcile_every();
        }
        config.capture = CaptureMode::Watch;
        config.liveness = Liveness::Off;
        config.reconcile_every = Interval::Off;
        assert_eq!(warned(&config), [] as [&str; 0]);
    }
}
