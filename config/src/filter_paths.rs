//! Path patterns of sources and sinks that match nothing: below the watched roots, beside what a source leaves out, or in
//! the present tree.

use bridge_core::issue::ConfigIssue;
use bridge_core::path::ZnodePath;
use bridge_zookeeper::config::PathGlob;

use crate::model::{SinkConfig, SourceConfig};
use crate::nearest::nearest;

/// Names that take the place of a wildcard: of several lengths, scripts and classes, so that a glob takes all of them
/// only if it takes practically any name.
const ANY_NAMES: [&str; 4] = ["x", "Zk-7.b_4", "0000000031", "\u{e9}\u{4e2d} name of a znode"];

/// The most paths that are made of one pattern; a pattern with more alternatives is not judged.
const SAMPLES_MAX: usize = 512;

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
    let patterns = sink.filter.paths.iter().enumerate();
    let objections = patterns.filter_map(|(at, pattern)| {
        matches_nothing(&format!("paths[{at}]"), pattern, &roots)
            .or_else(|| hidden(at, pattern, sink, sources))
    });
    objections.collect()
}

/// Patterns of a source that match nothing below its roots: its masks, and what it leaves out.
pub(crate) fn objections_to_globs(source: &SourceConfig) -> Vec<ConfigIssue> {
    let options = source.kind.options();
    let roots: Vec<&ZnodePath> = options.roots().iter().collect();
    let of = |key: &'static str, globs: &[PathGlob]| -> Vec<ConfigIssue> {
        let globs = globs.iter().enumerate();
        let objections = globs
            .filter_map(|(at, glob)| matches_nothing(&format!("{key}[{at}]"), &glob.to_string(), &roots));
        objections.collect()
    };
    [of("mask", &source.mask), of("exclude", options.exclude())].concat()
}

/// The warning about a pattern that matches nothing at or below these roots.
fn matches_nothing(key: &str, pattern: &str, roots: &[&ZnodePath]) -> Option<ConfigIssue> {
    let prefix = literal_prefix(pattern);
    let mut related = roots
        .iter()
        .map(|root| root.covers(&prefix) || prefix.covers(root));
    if roots.is_empty() || related.any(|is_related| is_related) {
        return None;
    }
    let near = roots.iter().find_map(|root| {
        let names = prefix.names().take(root.names().count());
        let written = names.fold(ZnodePath::slash(), |above, name| above.child(name));
        nearest(&written, [root.as_str()])?;
        Some(pattern.replacen(written.as_str(), root, 1))
    });
    let named: Vec<&str> = roots.iter().map(|root| root.as_str()).collect();
    Some(ConfigIssue::warning(
        key,
        format!("'{pattern}' matches nothing below the roots {}", named.join(", ")),
        match near {
            Some(near) => format!("did you mean '{near}'?"),
            None => "correct the pattern, or add a root to the source".to_owned(),
        },
    ))
}

/// The warning about a pattern of which no source of the sink captures anything, because each leaves out all of it.
fn hidden(at: usize, pattern: &str, sink: &SinkConfig, sources: &[&SourceConfig]) -> Option<ConfigIssue> {
    let prefix = literal_prefix(pattern);
    let of_sink = sources
        .iter()
        .filter(|source| sink.sources.contains(&source.name));
    // Below the roots of another source the pattern matches nothing anyway.
    let mut concerned = of_sink
        .filter(|source| {
            let mut roots = source.kind.options().roots().iter();
            roots.any(|root| root.covers(&prefix) || prefix.covers(root))
        })
        .peekable();
    concerned.peek()?;
    let samples = samples(pattern)?;
    let mut reasons = Vec::new();
    for source in concerned {
        let options = source.kind.options();
        let mut takes = samples.iter().map(|path| {
            let is_watched = options.roots().iter().any(|root| root.covers(path));
            // Whether a pattern that begins above the roots matches below them cannot be seen from samples.
            is_watched.then(|| options.left_out_by(path)).flatten()
        });
        let first = takes.next()??;
        if takes.any(|by| by.is_none()) {
            return None;
        }
        reasons.push(format!("source '{}' leaves it out by {first}", source.name));
    }
    Some(ConfigIssue::warning(
        format!("paths[{at}]"),
        format!(
            "'{pattern}' matches nothing that is captured: {}",
            reasons.join("; ")
        ),
        "correct the pattern, or make 'exclude' of the source narrower",
    ))
}

/// Paths that a pattern matches; `None` if it has too many alternatives or classes of letters.
fn samples(pattern: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for alternative in alternatives(pattern)? {
        for name in ANY_NAMES {
            // `**` is any number of names; at the end, one at least.
            for deep in [String::new(), name.to_owned(), format!("{name}/{name}")] {
                if !(deep.is_empty() && alternative.ends_with("**")) {
                    found.push(sample(&alternative, name, &deep)?);
                }
            }
        }
        if found.len() > SAMPLES_MAX {
            return None;
        }
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

/// The pattern with one choice in the place of each pair of braces; `None` if there are too many.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(next) = open.pop() {
        if open.len() + done.len() > SAMPLES_MAX || next.contains('\\') {
            return None;
        }
        // The first that closes, and the last that opens before it: an innermost pair.
        let Some(close) = next.find('}') else {
            done.push(next);
            continue;
        };
        let begin = next[..close].rfind('{')?;
        for choice in next[begin + 1..close].split(',') {
            open.push(format!("{}{choice}{}", &next[..begin], &next[close + 1..]));
        }
    }
    Some(done)
}

/// One path that a pattern without braces matches; `None` for a class of letters, which is rare in paths.
fn sample(pattern: &str, name: &str, deep: &str) -> Option<String> {
    if pattern.contains(['[', ']', '{', '}']) {
        return None;
    }
    // One byte.
    let letter: String = name.chars().filter(char::is_ascii_alphanumeric).take(1).collect();
    let parts: Vec<String> = pattern
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| match part {
            "**" => deep.to_owned(),
            part => part.replace('*', name).replace('?', &letter),
        })
        .filter(|part| !part.is_empty())
        .collect();
    (!parts.is_empty()).then(|| format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_of_a_pattern_is_matched_by_it_and_braces_give_each_of_their_choices() {
        for (pattern, count) in [
            ("/a/b", 1),
            ("/a/*/tmp", 4),
            ("/a/**", 8),
            ("/{a,b/{c,d}}/x?", 12),
            ("**/lock-*", 12),
        ] {
            let samples = samples(pattern).unwrap();
            assert_eq!(samples.len(), count, "{pattern}: {samples:?}");
            let glob = bridge_core::path_glob::path_glob(pattern)
                .unwrap()
                .compile_matcher();
            for path in samples {
                assert!(glob.is_match(&path), "{pattern}: {path}");
            }
        }
        for unknown in ["/[ab]/x", "/a\\*", &"/{a,b}".repeat(20)] {
            assert_eq!(samples(unknown), None, "{unknown}");
        }
    }

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
