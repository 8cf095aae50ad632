//! Takes over another configuration while the bridge runs: sources with their roots and excludes, and sinks with their
//! filters, are added, changed and removed.
//!
//! Invariants: every new source and sink is checked before anything changes, so a configuration that cannot work
//! changes nothing; what is the same in both configurations runs on undisturbed. A source that is changed or removed
//! stops as at the end of the bridge, and its journal stays. A sink that is changed or removed drains first and keeps
//! its cursor.

use std::collections::{BTreeMap, BTreeSet};

use bridge_config::{Config, Name, SinkConfig, SourceConfig};
use futures::future::join_all;
use serde::{Deserialize, Serialize};

use super::cursors::{CursorChange, apply_beside};
use super::opening::{self, OpeningSource, Openings, sinks_of};
use super::sink_task::PreparedSink;
use super::source::{PreparedSource, RunningSource};
use super::{Bridge, Decisions, configuration};
use crate::exit::{Failure, joined};

/// The result of a reload, by the names of the sinks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// New sinks.
    pub started: BTreeSet<String>,
    /// Sinks with other options; each continues at its cursor.
    pub changed: BTreeSet<String>,
    /// Sinks that are no longer configured; their cursors stay in the journals.
    pub stopped: BTreeSet<String>,
    /// Sinks with the same options.
    pub untouched: BTreeSet<String>,
    /// The sources, if any has changed.
    #[serde(default, skip_serializing_if = "ReloadedSources::is_empty")]
    pub sources: ReloadedSources,
}

/// The sources that a reload changed, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadedSources {
    /// New sources, and those whose journal could not be opened before.
    pub started: BTreeSet<String>,
    /// Sources with other options, such as roots; each continues with its journal.
    pub changed: BTreeSet<String>,
    /// Sources that are no longer configured; their journals stay.
    pub stopped: BTreeSet<String>,
    /// Sources whose journal could not be opened. Their status names the cause.
    pub failed: BTreeSet<String>,
    /// Sources whose journal is still being opened: they start when that is done.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub opening: BTreeSet<String>,
    /// Sources for which the configuration was taken over in part, by the cause: the cursor was not renamed, or new and
    /// changed sinks do not run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub incomplete: BTreeMap<String, String>,
}

impl Reloaded {
    /// A message on what was not taken over; `None` if all was.
    pub fn exception(&self) -> Option<String> {
        let incomplete = self.sources.incomplete.iter();
        let causes: Vec<String> = incomplete
            .map(|(name, cause)| format!("source '{name}': {cause}"))
            .collect();
        (!causes.is_empty())
            .then(|| format!("the configuration is taken over, except for {}", joined(&causes)))
    }
}

impl ReloadedSources {
    fn is_empty(&self) -> bool {
        *self == ReloadedSources::default()
    }
}

/// The changes of a reload, checked and not yet begun.
#[derive(Default)]
struct Plan {
    /// Sources that stop, by name, whether they start again or not.
    stopping: BTreeSet<String>,
    starting: Vec<PreparedSource>,
    staying: Vec<SinkPlan>,
}

/// The changes of the sinks of a source that keeps running.
struct SinkPlan {
    source: Name,
    /// Sinks that stop, by name.
    stopping: BTreeSet<String>,
    starting: Vec<PreparedSink>,
}

impl Bridge {
    /// Takes over another configuration. Not cancel safe.
    ///
    /// # Errors
    /// If `data_dir`, `http` or `log` differ, a source or sink cannot work as configured, or a source or sink changes
    /// whose journal is still being opened: nothing has changed then.
    pub async fn reload(&mut self, config: &Config) -> Result<Reloaded, Failure> {
        self.reload_with(config, None).await
    }

    /// The same with a change of cursors, after the old sinks have stopped and before the new ones start.
    pub(super) async fn reload_with(
        &mut self,
        config: &Config,
        change: Option<&CursorChange>,
    ) -> Result<Reloaded, Failure> {
        self.refuse_what_needs_a_restart(config)?;
        self.refuse_changes_of_opening(config)?;
        let plan = self.plan(config)?;
        let mut reloaded = compare(&self.config, config);
        let (stopping, staying): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sources)
            .into_iter()
            .partition(|source| plan.stopping.contains(&*source.config.name));
        self.sources = staying;
        join_all(stopping.into_iter().map(RunningSource::stop)).await;
        let failed: BTreeSet<Name> = self.failed.drain(..).map(|source| source.config.name).collect();
        self.config = config.clone();
        reloaded.sources.incomplete = self.change_sinks(plan.staying, change).await;
        for source in &plan.starting {
            if failed.contains(&source.config().name) {
                reloaded.sources.started.insert(source.config().name.to_string());
            }
        }
        self.start_sources(plan.starting, change, &mut reloaded.sources)
            .await;
        self.show();
        Ok(reloaded)
    }

    /// Checks everything that the configuration adds or changes.
    fn plan(&self, config: &Config) -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        for source in &self.sources {
            match config
                .sources
                .iter()
                .find(|wanted| wanted.name == source.config.name)
            {
                Some(wanted) if *wanted == source.config => plan.staying.push(SinkPlan::new(source, config)?),
                _ => drop(plan.stopping.insert(source.config.name.to_string())),
            }
        }
        let is_opening = |source: &SourceConfig| {
            let mut opening = self.opening.iter();
            opening.any(|opening| opening.config.name == source.name)
        };
        let runs_on = |source: &SourceConfig| plan.staying.iter().any(|plan| plan.source == source.name);
        let mut starting: Vec<&SourceConfig> = config.sources.iter().collect();
        starting.retain(|source| !runs_on(source) && !is_opening(source));
        let starting = starting.into_iter();
        let prepare = |source| PreparedSource::new(config, source, &Decisions::default());
        plan.starting = starting.map(prepare).collect::<Result<_, _>>()?;
        Ok(plan)
    }

    /// Changes the sinks of the sources that run on. Returns those whose journal has failed, with the cause: the sinks
    /// that were to change have stopped there.
    async fn change_sinks(
        &mut self,
        plans: Vec<SinkPlan>,
        change: Option<&CursorChange>,
    ) -> BTreeMap<String, String> {
        let mut incomplete = BTreeMap::new();
        for (source, plan) in self.sources.iter_mut().zip(plans) {
            let change = change.filter(|change| change.concerns(&self.config, &source.config.name));
            if let Err(failure) = plan.carry_out(source, change).await {
                incomplete.insert(source.config.name.to_string(), failure.message);
            }
        }
        incomplete
    }

    /// Starts sources. One that cannot be started is logged and shown as halted. The journals are opened on threads of
    /// their own; a source whose journal takes long to open starts later.
    async fn start_sources(
        &mut self,
        sources: Vec<PreparedSource>,
        change: Option<&CursorChange>,
        reloaded: &mut ReloadedSources,
    ) {
        let mut opening = Vec::new();
        let mut renamed = BTreeSet::new();
        for source in sources {
            let name = source.config().name.clone();
            let change = change.filter(|change| change.concerns(&self.config, &name));
            if change.is_some() {
                renamed.insert(name.clone());
            }
            let sinks = sinks_of(&self.config, &name);
            let changes = change.cloned().into_iter().collect();
            opening.push(OpeningSource::begin(source, sinks, changes));
        }
        let Openings { ended, waiting } = opening::wait(opening, &self.ending).await;
        reloaded.opening = waiting
            .iter()
            .map(|source| source.config.name.to_string())
            .collect();
        self.opening.extend(waiting);
        for (config, opened) in ended {
            let name = config.name.clone();
            if let Err(failure) = self.start_source(config, opened) {
                let is_renamed = renamed.contains(&name);
                let name = name.to_string();
                reloaded.started.remove(&name);
                reloaded.changed.remove(&name);
                if is_renamed {
                    reloaded.incomplete.insert(name.clone(), failure.message);
                }
                reloaded.failed.insert(name);
            }
        }
    }

    fn refuse_what_needs_a_restart(&self, config: &Config) -> Result<(), Failure> {
        let (old, new) = (&self.config, config);
        let differing = [
            ("data_dir", old.data_dir != new.data_dir),
            ("http.listen", old.http.listen != new.http.listen),
            ("http.token", old.http.token != new.http.token),
            ("http.hosts", old.http.hosts != new.http.hosts),
            ("http.tokens", old.http.tokens != new.http.tokens),
            ("log.level", old.log.level != new.log.level),
            ("log.format", old.log.format != new.log.format),
        ];
        let named: Vec<&str> = differing
            .iter()
            .filter(|(_, differs)| *differs)
            .map(|(key, _)| *key)
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        Err(configuration(format!(
            "nothing was changed: {} differs from what the bridge was started with, and only sources and sinks can \
             change while it runs\nhelp: restart it, or take that change back",
            named.join(", ")
        )))
    }
}

impl SinkPlan {
    fn new(source: &RunningSource, config: &Config) -> Result<SinkPlan, Failure> {
        let name = &source.config.name;
        let wanted = config.sinks.iter().filter(|sink| sink.sources.contains(name));
        let wanted: Vec<&SinkConfig> = wanted.collect();
        let running = || source.sinks.iter().map(|task| &task.config);
        let stopping = running().filter(|sink| !wanted.iter().any(|wanted| are_equal(wanted, sink)));
        let starting = wanted
            .iter()
            .filter(|wanted| !running().any(|sink| are_equal(wanted, sink)));
        let prepare = |sink: &&SinkConfig| PreparedSink::new(sink, name, &source.handles.scope);
        Ok(SinkPlan {
            source: name.clone(),
            stopping: stopping.map(|sink| sink.name.to_string()).collect(),
            starting: starting.map(prepare).collect::<Result<_, _>>()?,
        })
    }

    async fn carry_out(
        self,
        source: &mut RunningSource,
        change: Option<&CursorChange>,
    ) -> Result<(), Failure> {
        let (stopping, staying): (Vec<_>, Vec<_>) = std::mem::take(&mut source.sinks)
            .into_iter()
            .partition(|task| self.stopping.contains(&*task.config.name));
        source.sinks = staying;
        join_all(stopping.into_iter().map(|task| task.stop())).await;
        if let Some(change) = change {
            apply_beside(change, source).await?;
        }
        for prepared in self.starting {
            let entered = prepared.enter_beside(&source.handles).await?;
            let task = entered.start(&source.handles, &mut source.workers);
            source.sinks.push(task);
        }
        Ok(())
    }
}

/// Whether two sinks deliver in the same way. Their sources do not count: each source has a task of its own.
pub(super) fn are_equal(one: &SinkConfig, other: &SinkConfig) -> bool {
    let alone = |sink: &SinkConfig| SinkConfig {
        sources: Vec::new(),
        ..sink.clone()
    };
    alone(one) == alone(other)
}

fn compare(old: &Config, new: &Config) -> Reloaded {
    let mut reloaded = Reloaded {
        sources: compare_sources(old, new),
        ..Reloaded::default()
    };
    // A sink of all sources is not changed by a source that is added or removed.
    let in_both = |name: &&Name| [old, new].iter().all(|config| has_source(config, name));
    let sources =
        |sink: &SinkConfig| -> BTreeSet<Name> { sink.sources.iter().filter(in_both).cloned().collect() };
    for sink in &new.sinks {
        let place = match old.sinks.iter().find(|old| old.name == sink.name) {
            None => &mut reloaded.started,
            Some(old) if are_equal(old, sink) && sources(old) == sources(sink) => &mut reloaded.untouched,
            Some(_) => &mut reloaded.changed,
        };
        place.insert(sink.name.to_string());
    }
    let is_gone = |sink: &&SinkConfig| new.sinks.iter().all(|new| new.name != sink.name);
    let gone = old.sinks.iter().filter(is_gone);
    reloaded.stopped = gone.map(|sink| sink.name.to_string()).collect();
    reloaded
}

fn has_source(config: &Config, name: &Name) -> bool {
    config.sources.iter().any(|source| source.name == *name)
}

fn compare_sources(old: &Config, new: &Config) -> ReloadedSources {
    let mut reloaded = ReloadedSources::default();
    for source in &new.sources {
        match old.sources.iter().find(|old| old.name == source.name) {
            None => drop(reloaded.started.insert(source.name.to_string())),
            Some(old) if old != source => drop(reloaded.changed.insert(source.name.to_string())),
            Some(_) => {}
        }
    }
    let gone = old.sources.iter().filter(|source| !has_source(new, &source.name));
    reloaded.stopped = gone.map(|source| source.name.to_string()).collect();
    reloaded
}
