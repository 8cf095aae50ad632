//! Counts the registered instances by service and status, for a metric.

use std::collections::{BTreeMap, BTreeSet};

use bridge_core::derive::InstanceCount;
use bridge_core::record::InstanceStatus;

/// Services with counts of their own; more would be more series than a server of metrics should keep.
const SERVICES_MAX: usize = 1_000;

/// The name of all other services.
const OTHER: &str = "(other)";

/// The counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Levels {
    counts: BTreeMap<(String, &'static str), u64>,
    /// The services that were ever shown.
    named: BTreeSet<String>,
    has_changed: bool,
}

impl Levels {
    /// Begins to count again. Each gauge is 0 until something is counted for it.
    pub(crate) fn clear(&mut self) {
        for count in self.counts.values_mut() {
            *count = 0;
        }
        self.has_changed = true;
    }

    /// An instance has changed its status; `None`: it is not registered.
    pub(crate) fn moved(&mut self, service: &str, from: Option<InstanceStatus>, to: Option<InstanceStatus>) {
        if from == to {
            return;
        }
        let name = self.name(service);
        if let Some(from) = from {
            let count = self.counts.entry((name.clone(), from.as_str())).or_default();
            *count = count.saturating_sub(1);
        }
        if let Some(to) = to {
            *self.counts.entry((name, to.as_str())).or_default() += 1;
        }
        self.has_changed = true;
    }

    fn name(&mut self, service: &str) -> String {
        if self.named.len() < SERVICES_MAX {
            self.named.insert(service.to_owned());
        }
        match self.named.contains(service) {
            true => service.to_owned(),
            false => OTHER.to_owned(),
        }
    }

    /// All counts, if one has changed since the last call.
    pub(crate) fn take(&mut self) -> Option<Vec<InstanceCount>> {
        if !std::mem::take(&mut self.has_changed) {
            return None;
        }
        let counts = self.counts.iter();
        let shown = counts.map(|((service, status), count)| InstanceCount {
            service: service.clone(),
            status,
            count: *count,
        });
        let shown = shown.collect();
        self.counts.retain(|_, count| *count > 0);
        Some(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_no_instance_has_any_more_is_shown_once_as_none() {
        let mut levels = Levels::default();
        assert_eq!(levels.take(), None);
        levels.moved("pay", None, Some(InstanceStatus::Up));
        levels.moved("pay", Some(InstanceStatus::Up), Some(InstanceStatus::Draining));
        let shown = |levels: &mut Levels| -> Vec<(&'static str, u64)> {
            let all = levels.take().unwrap_or_default();
            all.iter().map(|one| (one.status, one.count)).collect()
        };
        assert_eq!(shown(&mut levels), [("draining", 1), ("up", 0)]);
        assert_eq!(shown(&mut levels), []);
        levels.moved("pay", Some(InstanceStatus::Draining), None);
        assert_eq!(shown(&mut levels), [("draining", 0)]);
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let mut levels = Levels::default();
        for at in 0..SERVICES_MAX + 5 {
            levels.moved(&format!("s{at}"), None, Some(InstanceStatus::Up));
        }
        let all = levels.take().unwrap();
        assert_eq!(all.len(), SERVICES_MAX + 1);
        assert_eq!(all.iter().find(|one| one.service == OTHER).unwrap().count, 5);
    }
}
