//! Problems of a sink that renders a tree beside the other options of itself and of its source.

use bridge_core::delivery::{Ephemeral, Filter};
use bridge_core::issue::ConfigIssue;
use bridge_core::path::covers;
use bridge_render::RenderConfig;

use crate::model::{SinkConfig, SinkKind, SourceConfig};

/// Everything that cannot work together; none of a sink of another type.
pub(crate) fn objections_to_tree(sink: &SinkConfig, sources: &[&SourceConfig]) -> Vec<ConfigIssue> {
    let SinkKind::Render(options) = &sink.kind else {
        return Vec::new();
    };
    let own: Vec<&SourceConfig> = sources
        .iter()
        .filter(|source| sink.sources.contains(&source.name))
        .copied()
        .collect();
    let mut found = objections_to_filter(&sink.filter);
    match own.as_slice() {
        // A source with problems of its own, or a name that no source has: both are reported.
        [] => {}
        [source] => found.extend(objection_to_source(options, source)),
        several => found.push(ConfigIssue::error(
            "sources",
            format!(
                "the file shows the tree of one source, and the sink has {}",
                several.len()
            ),
            "name the source, as in sources = [\"main\"]",
        )),
    }
    found
}

fn objection_to_source(options: &RenderConfig, source: &SourceConfig) -> Option<ConfigIssue> {
    let of_source = source.kind.options();
    let tree = &options.tree;
    if !of_source.roots().iter().any(|root| covers(root, tree)) {
        let roots: Vec<&str> = of_source.roots().iter().map(|root| root.as_str()).collect();
        return Some(ConfigIssue::error(
            "tree",
            format!(
                "'{tree}' is in none of the roots {}, so that none of it is known",
                roots.join(", ")
            ),
            "add it to 'roots' of the source, or give the path with the chroot of its clients",
        ));
    }
    (!of_source.keeps_data()).then(|| {
        ConfigIssue::error(
            "tree",
            "the source has data = \"none\", so that no znode has a value",
            "give the source data = \"auto\"",
        )
    })
}

/// The sink reads the whole tree itself. A record that is filtered out would only be a change that it never learns of.
fn objections_to_filter(filter: &Filter) -> Vec<ConfigIssue> {
    let default = Filter::default();
    let given = [
        ("paths", !filter.paths.is_empty()),
        ("ops", filter.ops != default.ops),
        ("ephemeral", filter.ephemeral != Ephemeral::Any),
    ];
    let given = given.into_iter().filter(|(_, is_given)| *is_given);
    given
        .map(|(key, _)| {
            ConfigIssue::error(
                key,
                "the file shows the whole tree, and a filter would hide changes of it from the sink",
                "leave it out, and choose the znodes in the template",
            )
        })
        .collect()
}
