//! `zkbridge check --connect`: whether the data folder, every source and every sink can be used. No record is
//! read or delivered; what a sink makes when it opens (a file with its folders, a topic where `create_topics` asks for
//! it) stays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bridge_config::{Config, SinkConfig};
use bridge_console::Style;
use bridge_core::sink::Sink;
use bridge_zookeeper::config::ZookeeperConfig;
use bridge_zookeeper::{Checked, RootFound, remark_on_timeout, test_connection};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::paths::unmatched_paths;
use crate::bridge::sink;
use crate::command::serving::block_on;
use crate::exit::Failure;
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
                && let Ok(Some(open)) = open_secrets(&*tree, source).await
            {
                let OpenSecrets { message, remedy } = open;
                finding.warnings.push(format!("{message}\nhelp: {remedy}"));
            }
            findings.push(finding);
        }
        for sink in &config.sinks {
            findings.push(look_at_sink(sink, config).await);
        }
        Ok(findings)
    })
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
        Ok(checked) => judge(what, options, &checked),
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

fn judge(what: String, options: &ZookeeperConfig, checked: &Checked) -> Finding {
    let of = |wanted: RootFound| {
        checked
            .roots
            .iter()
            .filter(move |(_, found)| *found == wanted)
            .map(|(root, _)| root)
    };
    let missing = of(RootFound::Missing)
        .map(|root| format!("{root} does not exist yet: it is watched, and its create will be reported"));
    let timeout = remark_on_timeout(options, checked.session_timeout);
    let warnings = missing.chain(timeout).collect();
    let denied: Vec<String> = of(RootFound::Denied).map(ToString::to_string).collect();
    let result = if denied.is_empty() {
        Ok(describe(checked))
    } else {
        Err(format!(
            "{} may not be read, so that nothing of it would be seen\nhelp: give [source.auth] credentials that have \
             READ permission there",
            denied.join(", ")
        ))
    };
    Finding {
        what,
        result,
        warnings,
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
        false => Err(problems.join("; ")),
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
