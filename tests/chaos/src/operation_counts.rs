//! Counts operations and faults by their names.

use std::collections::BTreeMap;
use std::fmt;

/// How often each thing was done, by its name.
#[derive(Clone, Debug, Default)]
pub struct OperationCounts {
    counts: BTreeMap<&'static str, u64>,
}

impl OperationCounts {
    /// One more.
    pub fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// All of another.
    pub fn add(&mut self, other: &OperationCounts) {
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

impl fmt::Display for OperationCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self
            .counts
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_are_shown_by_name() {
        let mut counts = OperationCounts::default();
        assert_eq!(counts.to_string(), "none");
        counts.count("cut");
        counts.add(&counts.clone());
        counts.count("bridge killed");
        assert_eq!(
            (counts.to_string().as_str(), counts.total()),
            ("bridge killed 1, cut 2", 3)
        );
    }
}
