//! Options of a sink for service events that let none through, or have no effect.

use bridge_core::delivery::Filter;
use bridge_core::issue::ConfigIssue;
use bridge_core::record::ServiceEventType;

use crate::model::{SinkConfig, SourceConfig};
use crate::nearest::nearest;

/// Everything about service events that cannot work beside the format and the sources of the sink.
pub(crate) fn objections_to_events(sink: &SinkConfig, sources: &[&SourceConfig]) -> Vec<ConfigIssue> {
    let mut found = vain_types(&sink.filter);
    match sink.kind.format() {
        Some(format) if format.is_of_services() => found.extend(no_services(sink, sources)),
        Some(_) => found.extend(without_effect(&sink.filter)),
        None => {}
    }
    found
}

/// The keys choose among service events, and the sink gets changes.
fn without_effect(filter: &Filter) -> Option<ConfigIssue> {
    let written = [
        ("services", !filter.services.is_empty()),
        ("instances", !filter.instances.is_empty()),
        ("events", !filter.events.is_empty()),
        ("zones", !filter.zones.is_empty()),
        ("summaries", filter.summaries),
    ];
    let (key, _) = written.into_iter().find(|(_, is_written)| *is_written)?;
    Some(ConfigIssue::warning(
        key,
        format!("'{key}' chooses among service events, and the sink delivers changes"),
        format!("give format = \"service\", or leave {key} out"),
    ))
}

/// Globs of types that fit no type of this version.
fn vain_types(filter: &Filter) -> Vec<ConfigIssue> {
    let known = ServiceEventType::ALL.iter().map(|kind| kind.as_str());
    let object = |at: usize| {
        let pattern = &filter.events[at];
        let remedy = match nearest(pattern, known.clone()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("the types are {}", known.clone().collect::<Vec<_>>().join(", ")),
        };
        let message = format!("'{pattern}' is the type of no service event");
        ConfigIssue::error(format!("events[{at}]"), message, remedy)
    };
    filter.vain_events().into_iter().map(object).collect()
}

/// The sink gets nothing until one of its sources has a section for services.
fn no_services(sink: &SinkConfig, sources: &[&SourceConfig]) -> Option<ConfigIssue> {
    let mut own = sources
        .iter()
        .filter(|source| sink.sources.contains(&source.name))
        .peekable();
    // A source with problems of its own, or a name that no source has: both are reported.
    own.peek()?;
    own.all(|source| source.services.is_empty()).then(|| {
        ConfigIssue::warning(
            "format",
            "the sink delivers service events, and none of its sources has a [[source.service]]",
            "add one for each convention of services; 'zkbridge doctor' proposes them",
        )
    })
}
