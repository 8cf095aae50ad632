//! The checks of `zkbridge doctor`; each finding has a remedy. They only read, except that one creates and removes a file
//! in the data directory, and that opening a sink may create its file or topic.

mod destinations;
mod ensemble;
mod folders;
mod machine;
mod text;
mod transactions;

use bridge_config::Loaded;
use bridge_query::status::BridgeStatus;
use serde::Serialize;

use crate::exit::cause_and_help;
use crate::operator::Journals;
use crate::source_type::source_type;

pub use ensemble::examine_ensemble;
pub use text::for_people;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// No problem.
    Ok,
    /// It works, but may be a mistake or may not last.
    Warning,
    /// The bridge cannot work like this.
    Failure,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The result of a check.
    pub level: Level,
    /// The subject: `configuration`, `bridge`, `machine`, `source main`, `sink changes`.
    pub subject: String,
    /// The name of the check, in a word or two.
    pub check: String,
    /// The finding.
    pub message: String,
    /// The remedy; null if all is well.
    pub remedy: Option<String>,
    /// Lines for the configuration, to be written after those of the source; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
}

impl Line {
    fn ok(subject: &str, check: &str, message: impl Into<String>) -> Line {
        Line {
            level: Level::Ok,
            subject: subject.to_owned(),
            check: check.to_owned(),
            message: message.into(),
            remedy: None,
            section: None,
        }
    }

    /// All is well, and the tree has more that could be used.
    fn proposal(subject: &str, check: &str, message: impl Into<String>, section: String) -> Line {
        Line {
            remedy: Some("add the section below, and a sink with format = \"service\"".to_owned()),
            section: Some(section),
            ..Line::ok(subject, check, message)
        }
    }

    /// An error that names its own remedy has that.
    fn warning(subject: &str, check: &str, message: impl Into<String>, remedy: impl Into<String>) -> Line {
        let message = message.into();
        let (cause, help) = cause_and_help(&message);
        let remedy = help.map_or_else(|| remedy.into(), str::to_owned);
        Line {
            level: Level::Warning,
            remedy: Some(remedy),
            ..Line::ok(subject, check, cause)
        }
    }

    fn failure(subject: &str, check: &str, message: impl Into<String>, remedy: impl Into<String>) -> Line {
        Line {
            level: Level::Failure,
            ..Line::warning(subject, check, message, remedy)
        }
    }
}

/// Runs all checks. `running`: the status of the bridge, if one runs. `znodes`: how many of each root are
/// read to find those that may not be, and to measure.
pub async fn examine(loaded: &Loaded, running: Option<&BridgeStatus>, znodes: u64) -> Vec<Line> {
    let config = &loaded.config;
    let mut lines = configuration(loaded);
    lines.push(bridge(running));
    lines.extend(machine::examine(config));
    let journals = Journals::new(config.clone());
    for source in &config.sources {
        lines.extend(source_type(&source.kind).examine(source, &journals, znodes).await);
    }
    // A journal that cannot be read has a line of its own.
    let unconfigured = journals.unconfigured().unwrap_or_default();
    lines.extend(unconfigured.iter().map(|(source, cursor)| {
        Line::warning(
            &format!("sink {}", cursor.sink),
            "cursor",
            format!("source '{source}' has a cursor of this sink, and no sink of this name is configured for it"),
            "give it to the sink of another name with 'zkbridge sink rename', or remove it with 'zkbridge sink forget'",
        )
    }));
    for sink in &config.sinks {
        lines.extend(destinations::examine(sink, config, running).await);
    }
    lines
}

fn configuration(loaded: &Loaded) -> Vec<Line> {
    const SUBJECT: &str = "configuration";
    if loaded.warnings.is_empty() {
        return vec![Line::ok(
            SUBJECT,
            "file",
            format!("{} is right", loaded.file.display()),
        )];
    }
    let warning = |problem: &bridge_config::Problem| {
        let remedy = problem
            .remedy
            .clone()
            .unwrap_or_else(|| "see 'zkbridge check'".to_owned());
        Line::warning(SUBJECT, &problem.key, &problem.message, remedy)
    };
    loaded.warnings.iter().map(warning).collect()
}

fn bridge(running: Option<&BridgeStatus>) -> Line {
    const SUBJECT: &str = "bridge";
    match running {
        None => Line::ok(SUBJECT, "process", "none runs on this data_dir"),
        Some(status) if status.ready => Line::ok(SUBJECT, "process", "it runs, and every source is live"),
        Some(status) => Line::warning(
            SUBJECT,
            "process",
            status.not_ready.join("; "),
            "look at 'zkbridge status'; what it waits for is below",
        ),
    }
}
