//! `zkbridge check --connect`: whether the data folder, every source and every sink can be used. No record is
//! read or delivered; what a sink makes when it opens (a file with its folders, a topic where `create_topics` asks for
//! it) stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bridge_config::{Config, SinkConfig, SourceConfig};
use bridge_console::Style;
use bridge_core::journal::Reader;
use bridge_core::path::ZnodePath;
use bridge_core::sink::Sink;
use bridge_zookeeper::config::{CaptureMode, ZookeeperConfig};
use bridge_zookeeper::observer::{QuorumExamination, examine_quorum};
use bridge_zookeeper::txnlog::{LogFolder, applied_by_servers, foreign_folders};
use bridge_zookeeper::{Checked, RootFound, remark_on_timeout, test_connection};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::paths::unmatched_paths;
use crate::bridge::{journal_file, sink};
use crate::command::serving::block_on;
use crate::exit::{Failure, joined};
use crate::secrets_in_tree::{OpenSecrets, open_secrets};
use crate::source_type::source_type;
use crate::terminal::{Tone, hanging};

/// A sink that neither opens nor fails within this is taken for unreachable.
const SINK_BOUND: Duration = Duration::from_secs(30);

/// Column of the texts, after the word for the result.
const TEXT_AT: usize = 11;

/// The result of one connection.
#[derive(Debug)]
pub struct Finding {
    what: String,
    /// A sentence for each thing that is fine, or why it is not.
    result: Result<String, String>,
    /// Possible, and perhaps a mistake.
    warnings: Vec<String>,
}

impl Finding {
    /// Whether it can be used.
    pub fn is_fine(&self) -> bool {
        self.result.is_ok()
    }

    /// The chroot does not exist, and the journal has znodes below it: a start would stop.
    fn lost_chroot(&mut self, chroot: &ZnodePath, source: &str) {
        self.warnings
            .retain(|warning| !warning.contains("does not exist yet"));
        self.result = Err(format!(
            "the chroot {chroot} does not exist, and the journal has znodes below it: the source would stop, as it may be \
             another ensemble\nhelp: correct 'connect'; if the znodes were deleted, accept that with 'zkbridge run \
             --accept-baseline {source}'"
        ));
    }

    /// For people, a line or more, none wider than the terminal where words can be parted.
    pub fn to_text(&self, style: &Style) -> String {
        let found = match &self.result {
            Ok(found) => ("ok", Tone::Good, found),
            Err(why) => ("failure", Tone::Bad, why),
        };
        let warned = self
            .warnings
            .iter()
            .map(|warning| ("warning", Tone::Warning, warning));
        let mut text = String::new();
        for (word, tone, message) in std::iter::once(found).chain(warned) {
            let whole = format!("{}: {message}", self.what);
            let label = format!("  {word}");
            text.push_str(&hanging((&label, tone), (&whole, Tone::Plain), TEXT_AT, style));
        }
        text
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let (ok, text) = match &self.result {
            Ok(found) => (true, found),
            Err(why) => (false, why),
        };
        json!({"what": self.what, "ok": ok, "message": text, "warnings": self.warnings})
    }
}

/// Checks everything that the configuration relies on.
pub fn look(config: &Config) -> Result<Vec<Finding>, Failure> {
    block_on(async {
        let mut findings = vec![data_folder(&config.data_dir)];
        for source in &config.sources {
            let what = format!("source '{}'", source.name);
            let mut finding = source_type(&source.kind).check(what).await;
            if finding.result.is_ok()
                && let Ok(tree) = source_type(&source.kind).survey().await
            {
                if let Ok(Some(open)) = open_secrets(&*tree, source).await {
                    let OpenSecrets { message, remedy } = open;
                    finding.warnings.push(format!("{message}\nhelp: {remedy}"));
                }
                if let Ok(Some(chroot)) = tree.missing_chroot().await
                    && has_znodes(config, source)
                {
                    finding.lost_chroot(&chroot, &source.name);
                }
            }
            findings.push(finding);
        }
        for sink in &config.sinks {
            findings.push(look_at_sink(sink, config).await);
        }
        Ok(findings)
    })
}

/// Whether the journal of a source exists, can be read and has znodes.
fn has_znodes(config: &Config, source: &SourceConfig) -> bool {
    let reader = Reader::open(&journal_file(config, source));
    reader
        .and_then(|mut reader| reader.count_living())
        .is_ok_and(|count| count > 0)
}

/// Writes a file there and removes it; of a folder that does not exist yet, in the nearest one above that does.
fn data_folder(folder: &Path) -> Finding {
    let what = format!("data_dir {}", folder.display());
    let nearest = nearest_existing(folder);
    let result = match tempfile::Builder::new()
        .prefix(".zkbridge-check-")
        .tempfile_in(&nearest)
    {
        Ok(_) if nearest == folder => Ok("can be written".to_owned()),
        Ok(_) => Ok("will be created".to_owned()),
        Err(error) => Err(format!(
            "{} cannot be written: {error}\nhelp: give another data_dir, or the permission to write there",
            nearest.display()
        )),
    };
    Finding {
        what,
        result,
        warnings: Vec::new(),
    }
}

/// The folder, or the nearest one above it that exists.
pub fn nearest_existing(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let found = absolute
        .ancestors()
        .find(|above| above.exists())
        .map(Path::to_owned);
    match found {
        Some(found) if found == absolute => folder.to_owned(),
        Some(found) => found,
        None => folder.to_owned(),
    }
}

/// Connects to an ensemble as a source would, and reads its roots.
pub async fn look_at_ensemble(what: String, options: &ZookeeperConfig) -> Finding {
    match test_connection(options).await {
        Ok(checked) => {
            let (left_out, is_all) = left_out(options).await;
            let other = match is_all && options.capture == CaptureMode::Txnlog {
                true => Err(left_out.join("; ")),
                false => other_input(options).await,
            };
            let mut finding = judge(what, options, &checked, other);
            if finding.result.is_ok() {
                finding.warnings.extend(left_out);
            }
            finding.warnings.extend(beside_observer(options));
            finding
        }
        Err(error) => Finding {
            what,
            result: Err(error.to_string()),
            warnings: Vec::new(),
        },
    }
}

fn describe(checked: &Checked) -> String {
    let version = checked
        .version
        .as_deref()
        .map_or("ZooKeeper".to_owned(), |version| format!("ZooKeeper {version}"));
    let roots: Vec<String> = checked
        .roots
        .iter()
        .filter_map(|(root, found)| match found {
            RootFound::Readable { children: 1 } => Some(format!("{root} has 1 child")),
            RootFound::Readable { children } => Some(format!("{root} has {children} children")),
            RootFound::Missing | RootFound::Denied => None,
        })
        .collect();
    let canary = checked.canary.iter();
    let canary = canary.map(|folder| format!("a canary may be written in {folder}"));
    [vec![version], roots, canary.collect()].concat().join("; ")
}

fn judge(
    what: String,
    options: &ZookeeperConfig,
    checked: &Checked,
    other: Result<Option<String>, String>,
) -> Finding {
    let of = |wanted: RootFound| {
        checked
            .roots
            .iter()
            .filter(move |(_, found)| *found == wanted)
            .map(|(root, _)| root)
    };
    // Without the chroot no root exists, and a path below it would name another znode.
    let missing = match &checked.missing_chroot {
        Some(chroot) => vec![format!("the chroot {chroot}")],
        None => of(RootFound::Missing).map(ToString::to_string).collect(),
    };
    let missing = missing
        .into_iter()
        .map(|path| format!("{path} does not exist yet: it is watched, and its create will be reported"));
    let timeout = remark_on_timeout(options, checked.session_timeout);
    let mut warnings: Vec<String> = missing.chain(timeout).collect();
    let denied: Vec<String> = of(RootFound::Denied).map(ToString::to_string).collect();
    let denied = (!denied.is_empty()).then(|| denied.join(", "));
    let result = match (options.capture, denied) {
        (CaptureMode::Watch, Some(denied)) => Err(format!(
            "{denied} may not be read, so that nothing of it would be seen\nhelp: give [source.auth] credentials that \
             have READ permission there"
        )),
        (_, denied) => {
            warnings.extend(denied.map(|denied| {
                format!(
                    "{denied} may not be read in a session: it is captured all the same, and verify cannot compare it\n\
                     help: give [source.auth] credentials that have READ permission there"
                )
            }));
            other.map(|input| {
                [Some(describe(checked)), input]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
            })
        }
    };
    let result = result.map(|found| found.join("; "));
    Finding {
        what,
        result,
        warnings,
    }
}

/// Whether the source can be read that is not a session; a sentence on it.
async fn other_input(options: &ZookeeperConfig) -> Result<Option<String>, String> {
    match (options.capture, &options.observer, &options.txnlog) {
        (CaptureMode::Txnlog, _, Some(txnlog)) => list_logs(&txnlog.directories).map(Some),
        (CaptureMode::Observer, Some(observer), _) => {
            judge_quorum(examine_quorum("check", options, observer, &std::env::temp_dir()).await).map(Some)
        }
        (CaptureMode::Watch | CaptureMode::Observer | CaptureMode::Txnlog, ..) => Ok(None),
    }
}

/// Whether a leader accepts the observer, and its configuration has no server of the observer's id.
fn judge_quorum(found: QuorumExamination) -> Result<String, String> {
    if found.ensemble.is_some_and(|ensemble| ensemble.has_id) {
        return Err(
            "a server of the ensemble has the id of the observer, so that the connection is ended at once\nhelp: give \
             another observer.id, greater than 4294967296"
                .to_owned(),
        );
    }
    let accepts = |(leader, epoch)| format!("the leader {leader} accepts an observer, in epoch {epoch}");
    let refused =
        |reason| format!("{reason}\nhelp: run 'zkbridge doctor' for more, and see docs/observer.md");
    found.leader.map(accepts).map_err(refused)
}

/// Why the logs beside an observer can fill nothing, if they cannot. It captures all the same.
fn beside_observer(options: &ZookeeperConfig) -> Option<String> {
    let txnlog = options
        .txnlog
        .as_ref()
        .filter(|_| options.capture == CaptureMode::Observer)?;
    let unusable = list_logs(&txnlog.directories).err()?;
    Some(format!("a long absence would be a gap: {unusable}"))
}

/// The folders of logs that are of another ensemble, with the reason, and whether all are. If no server says how far the
/// ensemble is, none is known to be.
async fn left_out(options: &ZookeeperConfig) -> (Vec<String>, bool) {
    let directories = options.txnlog.iter().flat_map(|txnlog| &txnlog.directories);
    let folders: Vec<LogFolder> = directories.map(|path| LogFolder::new(path)).collect();
    if folders.is_empty() {
        return (Vec::new(), false);
    }
    let applied = applied_by_servers(options).await.unwrap_or_default();
    let found = tokio::task::spawn_blocking(move || {
        // A folder that cannot be read is reported where it is listed.
        let foreign = foreign_folders(&folders, &applied).unwrap_or_default();
        let is_all = foreign.len() == folders.len();
        (foreign.iter().map(ToString::to_string).collect(), is_all)
    });
    // The runtime ends: nobody reads them.
    found.await.unwrap_or_default()
}

/// Lists the files of servers. Without a log nothing would be recorded.
fn list_logs(directories: &[PathBuf]) -> Result<String, String> {
    let (mut logs, mut snapshots) = (0, 0);
    for directory in directories {
        let folder = LogFolder::new(directory);
        let found_logs = folder.logs().map_err(|error| error.to_string())?;
        let found_snapshots = folder.snapshots().map_err(|error| error.to_string())?;
        let newest = [
            found_logs.last().map(|log| &log.path),
            found_snapshots.last().map(|snapshot| &snapshot.path),
        ];
        for path in newest.into_iter().flatten() {
            std::fs::File::open(path).map_err(|cause| {
                format!(
                    "{}: {cause}\nhelp: let this user read the files that the server writes",
                    path.display()
                )
            })?;
        }
        logs += found_logs.len();
        snapshots += found_snapshots.len();
    }
    let found = format!("snapshots: {snapshots}, transaction logs: {logs}");
    match logs {
        0 => Err(format!(
            "no folder of [source.txnlog] directories has a transaction log ({found})\nhelp: name the dataLogDir of a \
             server"
        )),
        _ => Ok(found),
    }
}

async fn look_at_sink(sink: &SinkConfig, config: &Config) -> Finding {
    let what = format!("sink '{}'", sink.name);
    let opened = open_sink(sink).await;
    let result = match &opened {
        Ok(_) => Ok(format!("{} can be used", sink.kind.type_name())),
        Err(why) => Err(why.clone()),
    };
    let mut warnings = opened.unwrap_or_default();
    let unmatched = unmatched_paths(sink, config).await;
    warnings.extend(
        unmatched
            .into_iter()
            .map(|remark| format!("{}\nhelp: {}", remark.message, remark.remedy)),
    );
    Finding {
        what,
        result,
        warnings,
    }
}

/// Opens a sink as a start would, for each of its sources, and closes it. Returns its remarks, or why it cannot be used.
pub async fn open_sink(config: &SinkConfig) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    let mut remarked: Vec<String> = Vec::new();
    for source in &config.sources {
        match open_and_close(config, source).await {
            // Several sources hear the same of one destination.
            Ok(remarks) => {
                for remark in remarks {
                    if !remarked.contains(&remark) {
                        remarked.push(remark);
                    }
                }
            }
            Err(why) => problems.push(why),
        }
    }
    problems.dedup();
    match problems.is_empty() {
        true => Ok(remarked),
        false => Err(joined(&problems)),
    }
}

/// The remarks of a sink on its destination, or why that cannot be used.
async fn open_and_close(config: &SinkConfig, source: &str) -> Result<Vec<String>, String> {
    let mut sink: Box<dyn Sink> =
        sink(&config.kind, &config.name, source).map_err(|failure| failure.message)?;
    let opened = timeout(SINK_BOUND, sink.open()).await;
    let remarks = sink.remarks();
    let closed = timeout(SINK_BOUND, sink.close()).await;
    match (opened, closed) {
        (Ok(Ok(())), Ok(Ok(()))) => Ok(remarks),
        (Ok(Err(error)), _) | (_, Ok(Err(error))) => {
            let remedy = bridge_core::delivery::policy::of_sink(error.kind).remedy;
            Err(format!("{error}\nhelp: {remedy}"))
        }
        (Err(_), _) | (_, Err(_)) => Err(format!("no answer within {} s", SINK_BOUND.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use bridge_zookeeper::observer::EnsembleMembers;
    use bridge_zookeeper::txnlog::TxnlogOptions;

    use super::*;

    #[test]
    fn a_root_that_may_not_be_read_is_a_failure_only_where_a_session_captures_it() {
        let mut options = ZookeeperConfig::new("a:2181".parse().unwrap());
        let checked = Checked {
            version: None,
            session_timeout: options.session_timeout.0,
            missing_chroot: None,
            roots: vec![(ZnodePath::parse("/app").unwrap(), RootFound::Denied)],
            canary: None,
        };
        let judged = |options: &ZookeeperConfig| {
            let led = Ok(Some("the leader accepts".to_owned()));
            judge("source".to_owned(), options, &checked, led)
        };
        let watch = judged(&options);
        assert!(watch.result.unwrap_err().contains("/app may not be read, so"));
        options.capture = CaptureMode::Observer;
        let observer = judged(&options);
        assert!(observer.result.unwrap().contains("the leader accepts"));
        assert!(observer.warnings[0].contains("/app may not be read in a session"));
    }

    #[test]
    fn an_observer_id_that_a_server_has_is_refused_whatever_the_leader_says() {
        let found = |has_id: bool| QuorumExamination {
            leader: Ok(("zk1:2888".parse().unwrap(), 4)),
            ensemble: Some(EnsembleMembers {
                not_named: Vec::new(),
                unknown: Vec::new(),
                has_id,
            }),
        };
        let accepted = judge_quorum(found(false)).unwrap();
        assert_eq!(accepted, "the leader zk1:2888 accepts an observer, in epoch 4");
        let refused = judge_quorum(found(true)).unwrap_err();
        assert!(refused.contains("give another observer.id"), "{refused}");
    }

    #[tokio::test]
    async fn the_folders_of_logs_are_listed_and_one_without_a_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = ZookeeperConfig::new("a:2181".parse().unwrap());
        options.capture = CaptureMode::Txnlog;
        options.txnlog = Some(TxnlogOptions::new(vec![folder.path().to_owned()]));
        std::fs::write(folder.path().join("snapshot.0"), "").unwrap();
        let refused = other_input(&options).await.unwrap_err();
        assert!(
            refused.contains("(snapshots: 1, transaction logs: 0)"),
            "{refused}"
        );
        std::fs::write(folder.path().join("log.1"), "").unwrap();
        let found = other_input(&options).await.unwrap();
        assert_eq!(found.as_deref(), Some("snapshots: 1, transaction logs: 1"));
        options.txnlog = Some(TxnlogOptions::new(vec![folder.path().join("missing")]));
        assert!(other_input(&options).await.unwrap_err().contains("missing"));
        // Beside an observer the folders only fill what it has missed.
        assert_eq!(beside_observer(&options), None);
        options.capture = CaptureMode::Observer;
        let warning = beside_observer(&options).unwrap();
        assert!(
            warning.starts_with("a long absence would be a gap: ") && warning.contains("missing"),
            "{warning}"
        );
    }
}
