//! The journal alone: `make bench-journal` measures it, and its output is included in the table.

use std::path::Path;

use anyhow::{Context, Result};

use crate::figures::{Figures, Measures};
use crate::subject::Subject;

/// The scenario's name.
pub const NAME: &str = "journal alone, random updates in batches of 500 with fsync";
/// Records a second.
pub const RATE: &str = "records/s";
/// The 99th percentile of a batch.
pub const P99: &str = "p99 of a batch, ms";

/// The line with the figures.
const LINE: &str = "random updates";

/// Parses the figures of the output.
///
/// # Errors
///
/// If they are missing.
pub(crate) fn take(file: &Path, figures: &mut Figures) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let measures = parsed(&text).with_context(|| format!("{} has no figures of {LINE}", file.display()))?;
    figures.add(NAME, 0, Subject::Bridge, measures);
    Ok(())
}

fn parsed(text: &str) -> Option<Measures> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(LINE))?;
    let rate = line.split("/s").next()?.trim().parse().ok()?;
    let p99 = line.split("p99 ").nth(1)?.split(' ').next()?.parse().ok()?;
    Some(Measures::from([(RATE, rate), (P99, p99)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_the_journal_are_found_in_the_output_of_its_benchmark() {
        let text = "creates in order                68000 /s,   9.1 us of processor each\n\
                    random updates                  51234 /s,  15.0 us of processor each; batch p50 9.1 ms, \
                    p99 17.5 ms, max 30.0 ms; peak memory so far 90 MB\n";
        let expected = Measures::from([(RATE, 51_234.0), (P99, 17.5)]);
        assert_eq!(parsed(text), Some(expected));
        assert_eq!(parsed("random updates, but no figures"), None);
    }
}
