//! Path patterns of a sink whose beginning does not exist in the tree.

use bridge_config::{Config, SinkConfig, literal_prefix, nearest};
use bridge_core::capture::Outcome;
use bridge_core::path::ZnodePath;
use bridge_core::source::SourceError;

use crate::source_type::{TreeReader, source_type};

/// A pattern that matches nothing in the present tree.
pub struct PathRemark {
    /// The pattern, and the znode that does not exist.
    pub message: String,
    /// The remedy.
    pub remedy: String,
}

/// The patterns of a sink that match nothing in the trees of its sources. A source that cannot be read has no remark:
/// its own check names the cause.
pub async fn unmatched_paths(sink: &SinkConfig, config: &Config) -> Vec<PathRemark> {
    let mut remarks = Vec::new();
    if sink.filter.paths.is_empty() {
        return remarks;
    }
    let of_sink = |name: &_| sink.sources.contains(name);
    for source in config.sources.iter().filter(|source| of_sink(&source.name)) {
        let Ok(tree) = source_type(&source.kind).survey().await else {
            continue;
        };
        for pattern in &sink.filter.paths {
            let missing = first_missing(&*tree, &literal_prefix(pattern)).await;
            // The check of the source names a chroot that does not exist.
            let missing = missing.map(|found| found.filter(|(path, _)| !path.is_slash()));
            remarks.extend(missing.ok().flatten().map(|(path, near)| PathRemark {
                message: format!(
                    "paths: '{pattern}' matches nothing in source {}: {path} does not exist",
                    source.name
                ),
                remedy: match near {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => "correct the pattern; nothing is needed if the znode is created later".to_owned(),
                },
            }));
        }
    }
    remarks
}

/// The first znode on the way to a path that does not exist, and one beside it with a similar name.
async fn first_missing(
    tree: &dyn TreeReader,
    path: &ZnodePath,
) -> Result<Option<(ZnodePath, Option<ZnodePath>)>, SourceError> {
    let mut way = vec![ZnodePath::slash()];
    for name in path.names() {
        way.push(way[way.len() - 1].child(name));
    }
    let outcomes = tree.read(&way).await?;
    let Some(at) = outcomes.iter().position(|outcome| *outcome == Outcome::Missing) else {
        return Ok(None);
    };
    let near = at.checked_sub(1).and_then(|above| match &outcomes[above] {
        Outcome::Found { children, .. } => {
            let names = children.iter().flatten().map(|name| &**name);
            Some(way[above].child(nearest(way[at].name(), names)?))
        }
        Outcome::Missing | Outcome::Denied => None,
    });
    Ok(Some((way[at].clone(), near)))
}
