//! Cursors in the journals whose sinks are not configured: named, forgotten, or taken over under another name.
//!
//! Invariant: the cursor of a sink that runs is never removed or renamed.

use std::sync::Arc;

use bridge_config::{Config, Name, SinkConfig, SourceConfig};
use bridge_core::journal::{Journal, JournalError, JournalWriter, SinkCursor};
use bridge_core::metrics::UNCONFIGURED_CURSOR;
use bridge_core::pipeline::WriterTask;
use bridge_query::JournalQuery;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::source::{RunningSource, journal_failure};
use super::view::UnconfiguredSinks;
use super::{Bridge, Reloaded, configuration, environment, journal_file};
use crate::exit::{Exit, Failure, joined};

/// An order of an operator for a cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorChange {
    /// Removes it, with the dead letters and parked records of the sink.
    Forget(String),
    /// Gives it to a sink of another name, with the dead letters and parked records.
    Rename {
        /// The name in the journals.
        old: String,
        /// The name in the configuration.
        new: String,
    },
}

impl CursorChange {
    /// Changes one journal. True if it had the cursor.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub fn apply(&self, journal: &mut Journal) -> Result<bool, JournalError> {
        let changed = match self {
            CursorChange::Forget(name) => journal.remove_sink(name)?,
            CursorChange::Rename { old, new } => journal.rename_sink(old, new)?,
        };
        if changed {
            tracing::info!(change = %self, "a cursor in the journal was changed");
        }
        journal.commit()?;
        Ok(changed)
    }

    /// The name that the journals have now.
    fn old(&self) -> &str {
        let (CursorChange::Forget(old) | CursorChange::Rename { old, .. }) = self;
        old
    }

    /// Whether it may change the journal of a source: not where a configured sink has the cursor.
    pub fn concerns(&self, config: &Config, source: &Name) -> bool {
        !is_configured(config, self.old(), source)
    }

    /// Checks it against the configuration that holds from now on, and the cursors in the journals, each with its
    /// source.
    ///
    /// # Errors
    /// If it names a sink that it must not change, or no cursor.
    pub fn check(&self, config: &Config, cursors: &[(Name, SinkCursor)]) -> Result<(), Failure> {
        let is_sink = |name: &str| config.sinks.iter().any(|sink| *sink.name == *name);
        let old = self.old();
        let own = cursors.iter().filter(|(_, cursor)| *cursor.sink == *old);
        let sources: Vec<&Name> = own.map(|(source, _)| source).collect();
        if is_sink(old) && !sources.iter().any(|source| self.concerns(config, source)) {
            return Err(configuration(format!(
                "sink '{old}' is configured\nhelp: take its [[sink]] out of the configuration, or give it its new name \
                 there, first"
            )));
        }
        if sources.is_empty() {
            let mut known: Vec<&str> = cursors.iter().map(|(_, cursor)| &*cursor.sink).collect();
            known.sort_unstable();
            known.dedup();
            return Err(configuration(format!(
                "no journal has a cursor of sink '{old}'\nhelp: give one of: {}",
                known.join(", ")
            )));
        }
        if let CursorChange::Rename { new, .. } = self {
            if !is_sink(new) {
                return Err(configuration(format!(
                    "no sink has the name '{new}'\nhelp: give the [[sink]] this name in the configuration first"
                )));
            }
            let has_both = |source: &&Name| {
                let mut others = cursors.iter();
                others.any(|(other, cursor)| other == *source && *cursor.sink == **new)
            };
            let both: Vec<&str> = sources
                .into_iter()
                .filter(has_both)
                .map(|source| &**source)
                .collect();
            if !both.is_empty() {
                let both = both.join(", ");
                return Err(Failure::new(
                    Exit::Runtime,
                    format!(
                        "sink '{new}' has a cursor of its own already in the journal of {both}\nhelp: take {both} out \
                         of its 'sources', or the whole [[sink]] out if it has no other source; 'zkbridge sink forget \
                         {new}' then removes the cursor there and keeps those of its other sources; put back what was \
                         taken out, and repeat this command in place of a reload"
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl CursorChange {
    /// Refuses a change of a running bridge whose configuration gives a second sink another name: that one would begin anew
    /// with this reload, and its own change would come too late.
    fn check_alone(&self, config: &Config, cursors: &[(Name, SinkCursor)]) -> Result<(), Failure> {
        let CursorChange::Rename { old, new } = self else {
            return Ok(());
        };
        let has_cursor = |sink: &str, source: &Name| {
            let mut stored = cursors.iter();
            stored.any(|(other, cursor)| other == source && *cursor.sink == *sink)
        };
        for (source, cursor) in cursors {
            let other = &*cursor.sink;
            let is_fresh = |sink: &&SinkConfig| {
                *sink.name != **new && sink.sources.contains(source) && !has_cursor(&sink.name, source)
            };
            if other == old || is_configured(config, other, source) {
                continue;
            }
            if let Some(fresh) = config.sinks.iter().find(is_fresh) {
                return Err(configuration(format!(
                    "besides '{new}' the configuration has the new sink '{}', and the journal of '{source}' a cursor of \
                     '{other}' without a sink: if that is the same sink, it would begin anew\nhelp: if '{}' is the new name of \
                     '{other}', let it have its old name in the configuration until this command is done, and then rename \
                     it likewise; otherwise run 'zkbridge sink forget {other}' first",
                    fresh.name, fresh.name
                )));
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for CursorChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CursorChange::Forget(name) => write!(f, "forget {name}"),
            CursorChange::Rename { old, new } => write!(f, "rename {old} {new}"),
        }
    }
}

/// The cursors in the journal of a source whose sinks the configuration does not connect to it.
pub fn unconfigured(config: &Config, source: &SourceConfig, cursors: Vec<SinkCursor>) -> Vec<SinkCursor> {
    cursors
        .into_iter()
        .filter(|cursor| !is_configured(config, &cursor.sink, &source.name))
        .collect()
}

/// Whether a sink of this name takes from the source.
fn is_configured(config: &Config, name: &str, source: &Name) -> bool {
    let mut sinks = config.sinks.iter();
    sinks.any(|sink| *sink.name == *name && sink.sources.contains(source))
}

impl Bridge {
    /// The cursors without a configured sink, logged and counted in the metrics.
    pub(super) fn find_unconfigured(&self) -> Vec<Arc<UnconfiguredSinks>> {
        let mut found = Vec::new();
        for source in &self.sources {
            match self.unconfigured_of(source) {
                Ok(Some(sinks)) => found.push(Arc::new(sinks)),
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    source = &*source.config.name,
                    error = error.message,
                    "the cursors in the journal cannot be read"
                ),
            }
        }
        found
    }

    fn unconfigured_of(&self, source: &RunningSource) -> Result<Option<UnconfiguredSinks>, Failure> {
        let journal = JournalQuery::open(&journal_file(&self.config, &source.config))?;
        let cursors = journal.cursors()?;
        let is_known = |name: &str| source.sinks.iter().any(|task| *task.config.name == *name);
        for cursor in cursors.iter().filter(|cursor| is_known(&cursor.sink)) {
            count(source, &cursor.sink, false);
        }
        let mut sinks = Vec::new();
        for cursor in unconfigured(&self.config, &source.config, cursors) {
            tracing::warn!(
                source = &*source.config.name,
                sink = &*cursor.sink,
                cursor = %cursor.cursor,
                "no sink is configured for this cursor, and the journal keeps every record after it: give it to the \
                 sink of another name with 'zkbridge sink rename', or remove it with 'zkbridge sink forget'"
            );
            count(source, &cursor.sink, true);
            sinks.push(cursor.sink);
        }
        Ok((!sinks.is_empty()).then_some(UnconfiguredSinks { journal, sinks }))
    }

    /// The cursors in the journals of the sources that run, each with its source.
    fn stored_cursors(&self) -> Result<Vec<(Name, SinkCursor)>, Failure> {
        self.refuse_while_opening()?;
        let mut all = Vec::new();
        for source in &self.sources {
            let journal = JournalQuery::open(&journal_file(&self.config, &source.config))?;
            let cursors = journal.cursors()?.into_iter();
            all.extend(cursors.map(|cursor| (source.config.name.clone(), cursor)));
        }
        Ok(all)
    }

    /// Removes the cursor of a sink from the journals of the sources that it does not take from. Not cancel safe.
    ///
    /// # Errors
    /// If the sink takes from all of them, or no journal has such a cursor. If a journal has failed: the others are
    /// changed then.
    pub async fn forget_sink(&mut self, name: &str) -> Result<(), Failure> {
        let change = CursorChange::Forget(name.to_owned());
        change.check(&self.config, &self.stored_cursors()?)?;
        let sources = self.sources.iter();
        let concerned = sources.filter(|source| change.concerns(&self.config, &source.config.name));
        let concerned: Vec<&RunningSource> = concerned.collect();
        let runs = |source: &&&RunningSource| source.sinks.iter().any(|task| *task.config.name == *name);
        if let Some(source) = concerned.iter().find(runs) {
            return Err(Failure::new(
                Exit::Runtime,
                format!(
                    "sink '{name}' still runs for source '{}'\nhelp: let the bridge take over the configuration first, \
                     with 'zkbridge reload'",
                    source.config.name
                ),
            ));
        }
        let mut failures = Vec::new();
        for source in concerned {
            match apply_beside(&change, source).await {
                Ok(()) => count(source, name, false),
                Err(failure) => failures.push(failure.message),
            }
        }
        self.show();
        match failures.is_empty() {
            true => Ok(()),
            false => Err(environment(joined(&failures))),
        }
    }

    /// Takes over another configuration, in which a sink has another name than its cursor. Not cancel safe.
    ///
    /// # Errors
    /// As [`Bridge::reload`], or if the change is refused: nothing has changed then.
    pub async fn reload_renamed(
        &mut self,
        config: &Config,
        change: &CursorChange,
    ) -> Result<Reloaded, Failure> {
        let cursors = self.stored_cursors()?;
        change.check(config, &cursors)?;
        change.check_alone(config, &cursors)?;
        self.reload_with(config, Some(change)).await
    }
}

/// Changes the journal of a source that runs: its pipeline is the only writer.
pub(super) async fn apply_beside(change: &CursorChange, source: &RunningSource) -> Result<(), Failure> {
    let (answer, answered) = oneshot::channel();
    let change = change.clone();
    let task: WriterTask = Box::new(move |journal| {
        // The receiver is gone only with the bridge.
        let _ = answer.send(change.apply(journal).map(drop).map_err(journal_failure));
    });
    let gone = || {
        environment(format!(
            "the journal of source '{}' has failed; see the log",
            source.config.name
        ))
    };
    source.handles.writer_tasks.send(task).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

fn count(source: &RunningSource, sink: &str, is_unconfigured: bool) {
    let labels = [
        ("sink", sink.to_owned()),
        ("source", source.config.name.to_string()),
    ];
    metrics::gauge!(UNCONFIGURED_CURSOR, &labels).set(f64::from(u8::from(is_unconfigured)));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bridge_config::{Environment, Format};
    use bridge_core::number::Seq;

    use super::*;

    #[test]
    fn a_rename_in_a_running_bridge_is_refused_while_another_sink_waits_for_its_own() {
        let check = |sinks: &[&str], stored: &[&str], is_fine: bool| {
            let mut text = "[[source]]\nconnect = \"a:2181\"\n".to_owned();
            for name in sinks {
                text += &format!("[[sink]]\nname = \"{name}\"\ntype = \"console\"\n");
            }
            let environment = Environment::default();
            let loaded = bridge_config::read(Path::new("zkbridge.toml"), &text, Format::Toml, &environment);
            let config = loaded.unwrap().config;
            let source = config.sources[0].name.clone();
            let cursors: Vec<(Name, SinkCursor)> = stored
                .iter()
                .map(|sink| {
                    let cursor = SinkCursor {
                        sink: (*sink).into(),
                        cursor: Seq(1),
                    };
                    (source.clone(), cursor)
                })
                .collect();
            let rename = CursorChange::Rename {
                old: "f".into(),
                new: "f2".into(),
            };
            let checked = rename.check_alone(&config, &cursors);
            assert_eq!(checked.is_ok(), is_fine, "{sinks:?} {stored:?}: {checked:?}");
        };
        check(&["f2", "g2"], &["f", "g"], false);
        check(&["f2", "g"], &["f", "g"], true);
        check(&["f2", "h"], &["f"], true);
        check(&["f2"], &["f", "g"], true);
    }
}
