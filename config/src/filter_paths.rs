//! Path patterns of a sink that match nothing: below the watched roots, or in the present tree.

use bridge_core::issue::ConfigIssue;
use bridge_core::path::ZnodePath;

use crate::model::{SinkConfig, SourceConfig};
use crate::nearest::nearest;

/// Characters that have a meaning in a glob.
const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

/// The longest path that every match of a pattern is at or below.
pub fn literal_prefix(pattern: &str) -> ZnodePath {
    let names = pattern.split('/').filter(|name| !name.is_empty());
    let literal = names.take_while(|name| !name.contains(WILDCARDS));
    literal.fold(ZnodePath::slash(), |above, name| above.child(name))
}

/// Patterns of a sink that match nothing below the roots of its sources.
pub(crate) fn objections_to_paths(sink: &SinkConfig, sources: &[&SourceConfig]) -> Vec<ConfigIssue> {
    let own = sources
        .iter()
        .filter(|source| sink.sources.contains(&source.name));
    let roots: Vec<&ZnodePath> = own.flat_map(|source| source.kind.options().roots()).collect();
    let mut found = Vec::new();
    for (at, pattern) in sink.filter.paths.iter().enumerate() {
        let prefix = literal_prefix(pattern);
        if roots.is_empty()
            || roots
                .iter()
                .any(|root| root.covers(&prefix) || prefix.covers(root))
        {
            continue;
        }
        let near = roots.iter().find_map(|root| {
            let names = prefix.names().take(root.names().count());
            let written = names.fold(ZnodePath::slash(), |above, name| above.child(name));
            nearest(&written, [root.as_str()])?;
            Some(pattern.replacen(written.as_str(), root, 1))
        });
        let named: Vec<&str> = roots.iter().map(|root| root.as_str()).collect();
        found.push(ConfigIssue::warning(
            format!("paths[{at}]"),
            format!("'{pattern}' matches nothing below the roots {}", named.join(", ")),
            match near {
                Some(near) => format!("did you mean '{near}'?"),
                None => "correct the pattern, or add a root to the source".to_owned(),
            },
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_literal_prefix_ends_before_the_first_name_with_a_wildcard() {
        let check = |pattern, expected: &str| assert_eq!(literal_prefix(pattern).as_str(), expected);
        check("/services/**", "/services");
        check("/services/*/state", "/services");
        check("/services-?/a", "/");
        check("/a/b", "/a/b");
        check("**", "/");
        check("/", "/");
        check("{/a,/b}/**", "/");
    }
}
