//! The compiled filter of a sink: decides from a record alone whether the sink gets it.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::options::{Ephemeral, Filter, OpClass};
use crate::issue::ConfigIssue;
use crate::path_glob::path_glob;
use crate::record::{Op, Record};

/// A [`Filter`] ready for use.
#[derive(Clone, Debug)]
pub struct CompiledFilter {
    paths: Option<GlobSet>,
    ops: Vec<OpClass>,
    ephemeral: Ephemeral,
}

/// A filter that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {remedy}")]
pub struct BadFilter {
    key: String,
    message: String,
    remedy: String,
}

impl From<BadFilter> for ConfigIssue {
    fn from(bad: BadFilter) -> ConfigIssue {
        ConfigIssue::error(bad.key, bad.message, bad.remedy)
    }
}

impl Filter {
    /// The problems of these options.
    pub fn objections(&self) -> Vec<ConfigIssue> {
        let paths = self.paths.iter().enumerate();
        let globs = paths.filter_map(|(at, pattern)| glob(at, pattern).err());
        globs.chain(no_ops(&self.ops)).map(ConfigIssue::from).collect()
    }
}

impl CompiledFilter {
    /// Checks and compiles a filter.
    ///
    /// # Errors
    ///
    /// If a pattern of the filter is not valid.
    pub fn new(filter: &Filter) -> Result<CompiledFilter, BadFilter> {
        if let Some(bad) = no_ops(&filter.ops) {
            return Err(bad);
        }
        Ok(CompiledFilter {
            paths: globs(&filter.paths)?,
            ops: filter.ops.clone(),
            ephemeral: filter.ephemeral,
        })
    }

    /// Whether the sink gets the record.
    pub fn passes(&self, record: &Record) -> bool {
        if !self.ops.contains(&class(record.op)) {
            return false;
        }
        let Some(path) = &record.path else {
            return true;
        };
        self.passes_kind(record.ephemeral) && self.passes_path(path)
    }

    /// Whether the paths of the filter include this one.
    pub fn passes_path(&self, path: &str) -> bool {
        self.paths.as_ref().is_none_or(|globs| globs.is_match(path))
    }

    /// An incarnation that was never read is not known to be ephemeral: all its records have null, so that they pass
    /// together.
    fn passes_kind(&self, ephemeral: Option<bool>) -> bool {
        match self.ephemeral {
            Ephemeral::Any => true,
            Ephemeral::Only => ephemeral == Some(true),
            Ephemeral::Never => ephemeral != Some(true),
        }
    }
}

fn no_ops(ops: &[OpClass]) -> Option<BadFilter> {
    ops.is_empty().then(|| BadFilter {
        key: "ops".into(),
        message: "ops is empty, so that no record could pass".into(),
        remedy: "name at least one, or leave ops out for all".into(),
    })
}

fn globs(patterns: &[String]) -> Result<Option<GlobSet>, BadFilter> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for (at, pattern) in patterns.iter().enumerate() {
        set.add(glob(at, pattern)?);
    }
    set.build()
        .map(Some)
        .map_err(|error| bad_glob(0, &patterns.join(", "), &error.to_string()))
}

fn glob(at: usize, pattern: &str) -> Result<Glob, BadFilter> {
    path_glob(pattern).map_err(|reason| bad_glob(at, pattern, &reason))
}

fn bad_glob(at: usize, pattern: &str, reason: &str) -> BadFilter {
    BadFilter {
        key: format!("paths[{at}]"),
        message: format!("'{pattern}' is not a glob of paths: {reason}"),
        remedy: "write for example \"/services/**\"; * is within one name, ** across names".into(),
    }
}

fn class(op: Op) -> OpClass {
    match op {
        Op::Create => OpClass::Create,
        Op::Update => OpClass::Update,
        Op::Delete => OpClass::Delete,
        Op::Acl => OpClass::Acl,
        Op::Snapshot => OpClass::Snapshot,
        Op::SnapshotBegin | Op::SnapshotEnd | Op::GapBegin | Op::GapEnd | Op::Heartbeat => OpClass::Control,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::a_record;

    fn passes_path(glob: &str, path: &str) -> bool {
        let filter = Filter {
            paths: vec![glob.to_owned()],
            ..Filter::default()
        };
        CompiledFilter::new(&filter)
            .unwrap()
            .passes(&a_record().path(path).build())
    }

    #[test]
    fn one_star_stays_within_a_name_and_two_go_across() {
        let check = |glob, path, expected| assert_eq!(passes_path(glob, path), expected, "{glob} {path}");
        check("/services/*", "/services/a", true);
        check("/services/*", "/services/a/b", false);
        check("/services/**", "/services/a/b", true);
        check("/services/**", "/services", false);
        check("/**/lock-*", "/a/b/lock-1", true);
        check("/**/lock-*", "/lock-1", true);
        check("**", "/", true);
        check("/{a,b}/?", "/b/x", true);
        check("/a\\*", "/a*", true);
        check("/a\\*", "/ab", false);
        check("/ü b/*", "/ü b/\"x\" %\n", true);
        check("/a", "/A", false);
    }

    #[test]
    fn a_filter_that_could_never_pass_anything_is_refused() {
        let refused = |paths: &[&str], ops: &[OpClass]| {
            let filter = Filter {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
                ops: ops.to_vec(),
                ephemeral: Ephemeral::Any,
            };
            CompiledFilter::new(&filter).unwrap_err().to_string()
        };
        assert!(refused(&["services/**"], OpClass::ALL).contains("paths begin with '/'"));
        assert!(refused(&["/a/["], OpClass::ALL).contains("'/a/['"));
        assert!(refused(&[], &[]).contains("ops is empty"));
        let all_wrong = Filter {
            paths: vec!["/a/**".into(), "a".into(), "/[".into()],
            ops: Vec::new(),
            ephemeral: Ephemeral::Any,
        };
        let keys: Vec<String> = all_wrong
            .objections()
            .into_iter()
            .map(|found| found.key)
            .collect();
        assert_eq!(keys, ["paths[1]", "paths[2]", "ops"]);
    }

    #[test]
    fn control_records_are_chosen_by_ops_alone() {
        let filter = |ops: &[OpClass]| {
            CompiledFilter::new(&Filter {
                paths: vec!["/a/**".into()],
                ops: ops.to_vec(),
                ephemeral: Ephemeral::Only,
            })
            .unwrap()
        };
        let control = a_record().control(Op::GapBegin).build();
        assert!(filter(&[OpClass::Control]).passes(&control));
        assert!(!filter(&[OpClass::Update]).passes(&control));
    }

    #[test]
    fn only_and_never_go_by_what_is_known_of_the_znode() {
        let check = |choice, ephemeral, expected| {
            let filter = Filter {
                ephemeral: choice,
                ..Filter::default()
            };
            let record = a_record().ephemeral(ephemeral).build();
            assert_eq!(
                CompiledFilter::new(&filter).unwrap().passes(&record),
                expected,
                "{choice:?} {ephemeral:?}"
            );
        };
        check(Ephemeral::Any, None, true);
        check(Ephemeral::Only, Some(true), true);
        check(Ephemeral::Only, Some(false), false);
        check(Ephemeral::Only, None, false);
        check(Ephemeral::Never, Some(true), false);
        check(Ephemeral::Never, Some(false), true);
        check(Ephemeral::Never, None, true);
    }
}
