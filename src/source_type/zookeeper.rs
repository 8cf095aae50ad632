//! ZooKeeper as a type of source.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bridge_config::SourceConfig;
use bridge_core::capture::{
    AclMode, CanaryOptions, Capture, CaptureOptions, DataMode, Outcome, SnapshotMode,
};
use bridge_core::committed::{Committed, CommittedOptions, ProofMode};
use bridge_core::machine::SourceMachine;
use bridge_core::path::ZnodePath;
use bridge_core::record::{self, Acl};
use bridge_core::scope::Scope;
use bridge_core::secret::Secret;
use bridge_core::source::{Source, SourceError};
use bridge_zookeeper::config::{Acls, CaptureMode, DataForm, Liveness, Snapshot, ZookeeperConfig};
use bridge_zookeeper::observer::ObserverSource;
use bridge_zookeeper::txnlog::{
    BackfillError, BackfillRequest, LogBackfill, TxnlogSource, applied_by_servers,
};
use bridge_zookeeper::{Survey, TreeWrite, TreeWriter, WriteError, ZookeeperSource, fresh_canary};
use futures::FutureExt;
use futures::future::BoxFuture;
use globset::GlobSetBuilder;

use super::{PastFiles, SourceType, TreeEditor, TreeReader};
use crate::bridge::rand_seed;
use crate::command::check::{Finding, look_at_ensemble};
use crate::doctor::{Line, examine_ensemble};
use crate::exit::{Exit, Failure};
use crate::operator::Journals;

/// Time between two searches for a watch that died silently.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// How often the canary is written: as often as samples are read, so that both find a dead watch as soon.
const CANARY_EVERY: Duration = SAMPLE_EVERY;

impl SourceType for ZookeeperConfig {
    fn machine(
        &self,
        name: &str,
        accept_baseline: bool,
        has_masks: bool,
    ) -> Result<(Box<dyn SourceMachine>, Scope), Failure> {
        let capture = capture_options(name, self, accept_baseline)?;
        let scope = Scope::new(self.roots.clone(), capture.exclude.clone());
        let machine: Box<dyn SourceMachine> = match self.capture {
            CaptureMode::Watch => Box::new(Capture::new(capture)),
            CaptureMode::Observer | CaptureMode::Txnlog => {
                Box::new(Committed::new(committed_options(self, capture, has_masks)))
            }
        };
        Ok((machine, scope))
    }

    fn mode(&self) -> record::Mode {
        self.capture.mode()
    }

    fn connection(&self, name: &str, folder: &Path) -> Box<dyn Source> {
        match (self.capture, &self.observer, &self.txnlog) {
            (CaptureMode::Observer, Some(observer), _) => {
                let (config, observer) = (self.clone(), observer.clone());
                Box::new(ObserverSource::new(name, config, observer, folder.to_owned()))
            }
            (CaptureMode::Txnlog, _, Some(txnlog)) => {
                let (config, txnlog) = (self.clone(), txnlog.clone());
                Box::new(TxnlogSource::new(config, txnlog, folder.to_owned()))
            }
            // The check of the options refuses a mode without its section.
            (CaptureMode::Watch | CaptureMode::Observer | CaptureMode::Txnlog, ..) => {
                Box::new(ZookeeperSource::new(self.clone()))
            }
        }
    }

    fn log_directories(&self) -> &[PathBuf] {
        self.txnlog.as_ref().map_or(&[], |txnlog| &txnlog.directories)
    }

    fn begins_with_history(&self) -> bool {
        let is_wanted = self.txnlog.as_ref().is_some_and(|txnlog| txnlog.backfill);
        is_wanted && self.capture != CaptureMode::Watch
    }

    fn applied(&self) -> BoxFuture<'_, Result<Vec<i64>, String>> {
        applied_by_servers(self).boxed()
    }

    fn past_machine(
        &self,
        name: &str,
        has_masks: bool,
        is_history: bool,
    ) -> Result<Box<dyn SourceMachine>, Failure> {
        let capture = capture_options(name, self, false)?;
        let mut options = committed_options(self, capture, has_masks);
        if is_history {
            // The reader of the logs has compared every digest.
            options.proof = ProofMode::Sequence;
        }
        Ok(Box::new(Committed::new(options)))
    }

    fn read_past(&self, files: &PastFiles<'_>, after: Option<i64>) -> Result<LogBackfill, BackfillError> {
        let request = BackfillRequest {
            directories: files.directories,
            folder: files.folder,
            acl_digests: self.acl_digests,
            applied: files.applied,
            until: files.until,
            is_stopped: &|| files.stop.is_cancelled(),
        };
        LogBackfill::begin(&request, after)
    }

    fn check(&self, what: String) -> BoxFuture<'_, Finding> {
        look_at_ensemble(what, self).boxed()
    }

    fn examine<'a>(
        &'a self,
        source: &'a SourceConfig,
        journals: &'a Journals,
        znodes: u64,
    ) -> BoxFuture<'a, Vec<Line>> {
        examine_ensemble(source, self, journals, znodes).boxed()
    }

    fn survey(&self) -> BoxFuture<'_, Result<Box<dyn TreeReader>, SourceError>> {
        let opened = Survey::open(self);
        opened
            .map(|survey| survey.map(|survey| Box::new(survey) as Box<dyn TreeReader>))
            .boxed()
    }

    fn editor(&self, credentials: Option<Secret>) -> BoxFuture<'_, Result<Box<dyn TreeEditor>, SourceError>> {
        async move {
            let options = match credentials {
                Some(credentials) => self.with_credentials(&credentials)?,
                None => self.clone(),
            };
            let writer = TreeWriter::open(&options).await?;
            Ok(Box::new(writer) as Box<dyn TreeEditor>)
        }
        .boxed()
    }
}

impl TreeReader for Survey {
    fn sync(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Survey::sync(self).boxed()
    }

    fn read<'a>(&'a self, paths: &'a [ZnodePath]) -> BoxFuture<'a, Result<Vec<Outcome>, SourceError>> {
        Survey::read(self, paths).boxed()
    }

    fn missing_chroot(&self) -> BoxFuture<'_, Result<Option<ZnodePath>, SourceError>> {
        Survey::missing_chroot(self).boxed()
    }

    fn is_captured(&self, path: &str) -> bool {
        Survey::is_captured(self, path)
    }
}

impl TreeReader for TreeWriter {
    fn sync(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        self.survey().sync().boxed()
    }

    fn read<'a>(&'a self, paths: &'a [ZnodePath]) -> BoxFuture<'a, Result<Vec<Outcome>, SourceError>> {
        self.survey().read(paths).boxed()
    }

    fn missing_chroot(&self) -> BoxFuture<'_, Result<Option<ZnodePath>, SourceError>> {
        self.survey().missing_chroot().boxed()
    }

    fn is_captured(&self, path: &str) -> bool {
        self.survey().is_captured(path)
    }
}

impl TreeEditor for TreeWriter {
    fn acl<'a>(&'a self, path: &'a ZnodePath) -> BoxFuture<'a, Result<Option<Vec<Acl>>, SourceError>> {
        TreeWriter::acl(self, path).boxed()
    }

    fn write<'a>(&'a self, writes: Vec<TreeWrite<'a>>) -> BoxFuture<'a, Result<(), WriteError>> {
        async move { TreeWriter::write(self, &writes).await }.boxed()
    }
}

/// The options of the machine that takes transactions. Another choice of excluded paths needs a comparison.
fn committed_options(
    options: &ZookeeperConfig,
    capture: CaptureOptions,
    has_masks: bool,
) -> CommittedOptions {
    let exclude: Vec<String> = options.exclude.iter().map(ToString::to_string).collect();
    let own = options.own_area();
    let scope = format!("{}\n{own}", exclude.join("\n"));
    let mut committed = CommittedOptions::new(capture, options.connect.chroot().cloned(), scope);
    // The rows of a digest are computed of values.
    committed.proof = match has_masks {
        true => ProofMode::Sequence,
        false => options.proof().mode(),
    };
    committed
}

fn capture_options(
    name: &str,
    options: &ZookeeperConfig,
    accept_baseline: bool,
) -> Result<CaptureOptions, Failure> {
    let mut capture = CaptureOptions::new(name, options.roots.clone());
    capture.chroot = options.connect.chroot().cloned();
    let mut exclude = GlobSetBuilder::new();
    for glob in &options.exclude {
        exclude.add(glob.glob().clone());
    }
    capture.exclude = exclude
        .build()
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
    capture.snapshot = match options.snapshot {
        Snapshot::Initial => SnapshotMode::Initial,
        Snapshot::Always => SnapshotMode::Always,
    };
    capture.data = match options.data {
        DataForm::Auto => DataMode::Keep(record::DataForm::Auto),
        DataForm::Base64 => DataMode::Keep(record::DataForm::Base64),
        DataForm::Json => DataMode::Keep(record::DataForm::Json),
        DataForm::None => DataMode::Drop,
    };
    capture.max_data_bytes = usize::try_from(options.max_data.0).unwrap_or(usize::MAX);
    capture.acls = match options.acls {
        Acls::Notice => AclMode::Notice,
        Acls::List => AclMode::List,
        Acls::All => AclMode::All,
        Acls::Off => AclMode::Off,
    };
    capture.sample_every = match options.liveness {
        // The canary proves the watch that covers it; samples still prove that of another root.
        Liveness::Sample | Liveness::Canary => Some(SAMPLE_EVERY),
        Liveness::Off => None,
    };
    capture.canary = (options.liveness == Liveness::Canary).then(|| CanaryOptions {
        path: fresh_canary(options, name),
        every: CANARY_EVERY,
    });
    capture.own = Some(options.own_area());
    capture.reconcile_every = options.reconcile_every.period();
    capture.heartbeat_every = options.heartbeat.period();
    capture.accept_baseline = accept_baseline;
    capture.seed = rand_seed(name, "samples");
    Ok(capture)
}

#[cfg(test)]
mod tests {
    use bridge_zookeeper::txnlog::TxnlogOptions;

    use super::*;

    #[test]
    fn a_journal_begins_with_the_history_where_the_section_says_so_and_transactions_are_captured() {
        let mut options = ZookeeperConfig::new("a:2181".parse().unwrap());
        options.capture = CaptureMode::Observer;
        assert!(!options.begins_with_history());
        let mut txnlog = TxnlogOptions::new(vec!["/var/lib/zookeeper".into()]);
        options.txnlog = Some(txnlog.clone());
        assert!(!options.begins_with_history());
        txnlog.backfill = true;
        options.txnlog = Some(txnlog);
        for (capture, expected) in [
            (CaptureMode::Observer, true),
            (CaptureMode::Txnlog, true),
            (CaptureMode::Watch, false),
        ] {
            options.capture = capture;
            assert_eq!(options.begins_with_history(), expected, "{capture:?}");
        }
    }

    #[test]
    fn with_masks_the_history_is_proved_by_numbers_alone() {
        let options = ZookeeperConfig::new("a:2181".parse().unwrap());
        for (has_masks, expected) in [(false, ProofMode::Tree), (true, ProofMode::Sequence)] {
            let capture = CaptureOptions::new("main", options.roots.clone());
            assert_eq!(committed_options(&options, capture, has_masks).proof, expected);
        }
    }
}
