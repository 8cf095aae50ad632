//! The things in a status that a person has to do something about.

use std::collections::BTreeSet;

use super::document::{BridgeStatus, SinkSummary, SourceSummary};
use super::stopped::UNCONFIGURED;

impl BridgeStatus {
    /// Fills the list of things that need attention from the rest of the document.
    pub(super) fn find_attention(&mut self) {
        let sources = self.sources.iter().filter_map(of_source);
        let sinks = self.sinks.iter().filter_map(of_sink);
        self.attention = sources.chain(sinks).collect();
    }

    /// How many sources and sinks need attention, as `1 source and 2 sinks need attention`; `None` if none does.
    pub fn attention_headline(&self) -> Option<String> {
        let sources = self.sources.iter().filter(|source| of_source(source).is_some());
        let sinks = self.sinks.iter().filter(|sink| of_sink(sink).is_some());
        let sinks: BTreeSet<&str> = sinks.map(|sink| &*sink.sink).collect();
        let counted = |count: usize, noun: &str| match count {
            0 => None,
            1 => Some(format!("1 {noun}")),
            _ => Some(format!("{count} {noun}s")),
        };
        let (sources, sinks) = (sources.count(), sinks.len());
        let named: Vec<String> = [counted(sources, "source"), counted(sinks, "sink")]
            .into_iter()
            .flatten()
            .collect();
        let verb = if sources + sinks == 1 { "needs" } else { "need" };
        (!named.is_empty()).then(|| format!("{} {verb} attention", named.join(" and ")))
    }
}

fn of_source(source: &SourceSummary) -> Option<String> {
    source.halted.as_ref()?;
    Some(format!("source {} has halted", source.source))
}

fn of_sink(sink: &SinkSummary) -> Option<String> {
    let mut reasons = Vec::new();
    if sink.state == UNCONFIGURED {
        reasons.push("no sink is configured for this cursor".to_owned());
    }
    if let Some(error) = sink.error.as_ref().filter(|error| error.calls_operator) {
        reasons.push(format!("{} ({})", sink.state.replace('_', " "), error.kind));
    }
    match sink.dead_letters {
        0 => {}
        1 => reasons.push(format!(
            "1 dead letter, see 'zkbridge dlq list --sink {}'",
            sink.sink
        )),
        letters => reasons.push(format!(
            "{letters} dead letters, see 'zkbridge dlq list --sink {}'",
            sink.sink
        )),
    }
    (!reasons.is_empty()).then(|| format!("sink {} from {}: {}", sink.sink, sink.source, reasons.join("; ")))
}
