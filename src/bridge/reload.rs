//! Another configuration for a running bridge: sinks and their filters change, all else stays.
//!
//! Nothing is changed before every new sink has been checked, so a configuration that cannot work changes nothing. What
//! is the same in both goes on undisturbed. A sink that is changed or left out drains first and keeps its cursor.

use std::collections::BTreeSet;

use bridge_config::{Config, SinkConfig};
use serde::{Deserialize, Serialize};

use super::lanes::PreparedSink;
use super::{Bridge, configuration};
use crate::exit::Failure;

/// What a reload did, by the names of the sinks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Those that are new.
    pub started: BTreeSet<String>,
    /// Those that go on with other options, from where they were.
    pub changed: BTreeSet<String>,
    /// Those that are no longer configured; their place in the journal stays.
    pub stopped: BTreeSet<String>,
    /// Those that nothing happened to.
    pub untouched: BTreeSet<String>,
}

/// What becomes of the lanes of one source.
struct Plan {
    /// Names of those that end.
    ending: BTreeSet<String>,
    beginning: Vec<PreparedSink>,
}

impl Bridge {
    /// Takes over the sinks of another configuration.
    ///
    /// # Errors
    /// If anything but sinks differs, or a sink cannot work as configured: then nothing has changed. If a journal has
    /// failed: then the sinks that were to end have ended, and the source stops with what its log says.
    pub async fn reload(&mut self, config: &Config) -> Result<Reloaded, Failure> {
        self.refuse_what_needs_a_restart(config)?;
        let plans = self
            .sources
            .iter()
            .map(|source| {
                let running: Vec<&SinkConfig> = source.lanes.iter().map(|lane| &lane.config).collect();
                let name = &source.ground.source;
                let wanted = config.sinks.iter().filter(|sink| sink.sources.contains(name));
                let wanted: Vec<&SinkConfig> = wanted.collect();
                let ending = running.iter().filter(|sink| !wanted.contains(sink));
                let beginning = wanted.iter().filter(|sink| !running.contains(sink));
                Ok(Plan {
                    ending: ending.map(|sink| sink.name.to_string()).collect(),
                    beginning: beginning
                        .map(|sink| PreparedSink::new(sink, name, &source.ground.scope))
                        .collect::<Result<_, _>>()?,
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let reloaded = compare(&self.config, config);
        for (source, plan) in self.sources.iter_mut().zip(plans) {
            let lanes = std::mem::take(&mut source.lanes);
            let (ending, staying): (Vec<_>, Vec<_>) = lanes
                .into_iter()
                .partition(|lane| plan.ending.contains(&*lane.config.name));
            source.lanes = staying;
            futures::future::join_all(ending.into_iter().map(|lane| lane.end())).await;
            for blank in plan.beginning {
                let lane = blank.enter_beside(&source.ground).await?;
                source.lanes.push(lane.start(&source.ground, &mut self.workers));
            }
        }
        self.config = config.clone();
        self.show_lanes();
        Ok(reloaded)
    }

    fn refuse_what_needs_a_restart(&self, config: &Config) -> Result<(), Failure> {
        let (old, new) = (&self.config, config);
        let differing = [
            ("data_dir", old.data_dir != new.data_dir),
            ("http", old.http != new.http),
            ("log", old.log != new.log),
            ("source", old.sources != new.sources),
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
            "nothing was changed: {} differs from what the bridge was started with, and only sinks can change while it \
             runs; restart it, or take that change back",
            named.join(", ")
        )))
    }
}

fn compare(old: &Config, new: &Config) -> Reloaded {
    let find = |config: &Config, name: &str| config.sinks.iter().find(|sink| *sink.name == *name).cloned();
    let mut reloaded = Reloaded::default();
    for sink in &new.sinks {
        let place = match find(old, &sink.name) {
            None => &mut reloaded.started,
            Some(old) if old == *sink => &mut reloaded.untouched,
            Some(_) => &mut reloaded.changed,
        };
        place.insert(sink.name.to_string());
    }
    let gone = old.sinks.iter().filter(|sink| find(new, &sink.name).is_none());
    reloaded.stopped = gone.map(|sink| sink.name.to_string()).collect();
    reloaded
}
