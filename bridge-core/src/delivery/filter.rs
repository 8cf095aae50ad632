//! The compiled filter of a sink: decides from a record alone whether the sink gets it.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::options::{Ephemeral, Filter, OpClass};
use crate::format::Format;
use crate::issue::ConfigIssue;
use crate::path_glob::path_glob;
use crate::record::{Op, Record, ServiceEvent, ServiceEventType};

/// A [`Filter`] ready for use.
#[derive(Clone, Debug)]
pub struct CompiledFilter {
    paths: Option<GlobSet>,
    ops: Vec<OpClass>,
    ephemeral: Ephemeral,
    events: EventFilter,
    /// Whether the sink gets service events alone, or changes alone; `None`: both.
    of_services: Option<bool>,
}

/// The part of a filter that chooses service events.
#[derive(Clone, Debug)]
struct EventFilter {
    services: Option<GlobSet>,
    instances: Option<GlobSet>,
    events: Option<GlobSet>,
    zones: Option<GlobSet>,
    summaries: bool,
}

impl EventFilter {
    fn passes(&self, event: &ServiceEvent) -> bool {
        if event.kind == ServiceEventType::InstancesDown {
            return self.summaries && self.passes_summary(event);
        }
        if self.summaries && event.summary.is_some() {
            return false;
        }
        let passes = |globs: &Option<GlobSet>, text: Option<&str>, otherwise: bool| match (globs, text) {
            (None, _) => true,
            (Some(globs), Some(text)) => globs.is_match(text),
            (Some(_), None) => otherwise,
        };
        passes(&self.services, Some(&event.service), false)
            && passes(&self.instances, event.instance.as_deref(), true)
            && passes(&self.events, Some(event.kind.as_str()), false)
            && passes(&self.zones, event.zone.as_deref(), false)
    }

    /// A summary passes where one of the events that it counts would.
    fn passes_summary(&self, event: &ServiceEvent) -> bool {
        let mut services = event.by_service.keys();
        let is_of_service = |globs: &GlobSet| services.any(|service| globs.is_match(service));
        let counted = [
            ServiceEventType::InstanceDown.as_str(),
            ServiceEventType::ServiceUnavailable.as_str(),
        ];
        let is_of_type = |globs: &GlobSet| counted.iter().any(|kind| globs.is_match(kind));
        self.services.as_ref().is_none_or(is_of_service) && self.events.as_ref().is_none_or(is_of_type)
    }
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
        let words = self.words().into_iter().flat_map(|(key, patterns)| {
            let patterns = patterns.iter().enumerate();
            patterns.filter_map(move |(at, pattern)| word_glob(key, at, pattern).err())
        });
        globs
            .chain(words)
            .chain(no_ops(&self.ops))
            .chain(self.vain_summaries())
            .map(ConfigIssue::from)
            .collect()
    }

    /// A summary has no instance and no zone, so that a filter by these would hide what it is about.
    fn vain_summaries(&self) -> Option<BadFilter> {
        let has_other = !self.instances.is_empty() || !self.zones.is_empty();
        (self.summaries && has_other).then(|| BadFilter {
            key: "summaries".to_owned(),
            message: "a summary has no instance and no zone, and the sink chooses by them".to_owned(),
            remedy: "leave summaries out, or choose by services alone".to_owned(),
        })
    }

    /// The positions of the valid globs of `events` that fit no type of service event.
    pub fn vain_events(&self) -> Vec<usize> {
        let fits = |pattern: &str| match word_glob("events", 0, pattern) {
            Ok(glob) => {
                let matcher = glob.compile_matcher();
                ServiceEventType::ALL
                    .iter()
                    .any(|kind| matcher.is_match(kind.as_str()))
            }
            Err(_) => true,
        };
        let patterns = self.events.iter().enumerate();
        patterns
            .filter_map(|(at, pattern)| (!fits(pattern)).then_some(at))
            .collect()
    }

    /// The globs that are none of paths, with their keys.
    fn words(&self) -> [(&'static str, &[String]); 4] {
        [
            ("services", &self.services),
            ("instances", &self.instances),
            ("events", &self.events),
            ("zones", &self.zones),
        ]
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
        if let Some(bad) = filter.vain_summaries() {
            return Err(bad);
        }
        Ok(CompiledFilter {
            paths: globs(&filter.paths)?,
            ops: filter.ops.clone(),
            ephemeral: filter.ephemeral,
            events: EventFilter {
                services: word_globs("services", &filter.services)?,
                instances: word_globs("instances", &filter.instances)?,
                events: word_globs("events", &filter.events)?,
                zones: word_globs("zones", &filter.zones)?,
                summaries: filter.summaries,
            },
            of_services: None,
        })
    }

    /// The same for a sink whose format, if it has one, makes messages of service events alone, or of changes alone.
    #[must_use]
    pub fn for_format(self, format: Option<Format>) -> CompiledFilter {
        CompiledFilter {
            of_services: format.map(Format::is_of_services),
            ..self
        }
    }

    /// Whether the sink gets the record.
    pub fn passes(&self, record: &Record) -> bool {
        if self
            .of_services
            .is_some_and(|wanted| wanted != record.event.is_some())
        {
            return false;
        }
        if let Some(event) = &record.event {
            return self.events.passes(event) && self.passes_path(&event.path);
        }
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

/// A longer glob is no word that a person writes.
const WORD_GLOB_BYTES_MAX: usize = 256;

fn word_globs(key: &str, patterns: &[String]) -> Result<Option<GlobSet>, BadFilter> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for (at, pattern) in patterns.iter().enumerate() {
        set.add(word_glob(key, at, pattern)?);
    }
    set.build()
        .map(Some)
        .map_err(|error| bad_word(key, 0, &patterns.join(", "), &error.to_string()))
}

fn word_glob(key: &str, at: usize, pattern: &str) -> Result<Glob, BadFilter> {
    if pattern.len() > WORD_GLOB_BYTES_MAX {
        let reason = format!(
            "it has {} bytes, and {WORD_GLOB_BYTES_MAX} are allowed",
            pattern.len()
        );
        return Err(bad_word(key, at, "…", &reason));
    }
    Glob::new(pattern).map_err(|error| bad_word(key, at, pattern, &error.kind().to_string()))
}

fn bad_word(key: &str, at: usize, pattern: &str, reason: &str) -> BadFilter {
    BadFilter {
        key: format!("{key}[{at}]"),
        message: format!("'{pattern}' is no glob: {reason}"),
        remedy: "write for example \"payments*\"; * is any text".into(),
    }
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
        // Chosen by the fields for events alone.
        Op::SnapshotBegin | Op::SnapshotEnd | Op::GapBegin | Op::GapEnd | Op::Heartbeat | Op::Service => {
            OpClass::Control
        }
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
                ..Filter::default()
            };
            CompiledFilter::new(&filter).unwrap_err().to_string()
        };
        assert!(refused(&["services/**"], OpClass::ALL).contains("paths begin with '/'"));
        assert!(refused(&["/a/["], OpClass::ALL).contains("'/a/['"));
        assert!(refused(&[], &[]).contains("ops is empty"));
        let all_wrong = Filter {
            paths: vec!["/a/**".into(), "a".into(), "/[".into()],
            ops: Vec::new(),
            ..Filter::default()
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
                ..Filter::default()
            })
            .unwrap()
        };
        let control = a_record().control(Op::GapBegin).build();
        assert!(filter(&[OpClass::Control]).passes(&control));
        assert!(!filter(&[OpClass::Update]).passes(&control));
    }

    #[test]
    fn service_events_are_chosen_by_service_instance_type_and_zone() {
        let event = a_record().control(Op::Service).build();
        let check = |filter: Filter, expected| {
            let compiled = CompiledFilter::new(&filter).unwrap();
            assert_eq!(compiled.passes(&event), expected, "{filter:?}");
        };
        let list = |word: &str| vec![word.to_owned()];
        let any = Filter::default;
        check(any(), true);
        check(
            Filter {
                services: list("a*"),
                events: list("instance.*"),
                ..any()
            },
            true,
        );
        check(
            Filter {
                services: list("b*"),
                ..any()
            },
            false,
        );
        check(
            Filter {
                instances: list("10.0.0.*"),
                zones: list("az-?"),
                ..any()
            },
            true,
        );
        check(
            Filter {
                instances: list("10.1.*"),
                ..any()
            },
            false,
        );
        check(
            Filter {
                events: list("leader.*"),
                ..any()
            },
            false,
        );
        check(
            Filter {
                zones: list("eu"),
                ..any()
            },
            false,
        );
        check(
            Filter {
                ops: vec![OpClass::Create],
                paths: list("/services/**"),
                ..any()
            },
            true,
        );
        check(
            Filter {
                paths: list("/other/**"),
                ..any()
            },
            false,
        );
        let bad = Filter {
            zones: list("["),
            ..any()
        };
        assert_eq!(CompiledFilter::new(&bad).unwrap_err().key, "zones[0]");
        assert_eq!(bad.objections()[0].key, "zones[0]");
    }

    #[test]
    fn a_summary_comes_in_the_place_of_the_events_that_it_counts_and_only_where_it_is_asked_for() {
        let record = |kind: ServiceEventType, change: fn(&mut ServiceEvent)| {
            let mut event = ServiceEvent::of_type(kind);
            event.service = "pay".to_owned();
            event.path = "/services/pay".to_owned();
            change(&mut event);
            crate::example::event_record(event)
        };
        let alone = record(ServiceEventType::InstanceDown, |_| {});
        let counted = record(ServiceEventType::InstanceDown, |event| {
            event.summary = Some(uuid::Uuid::from_u128(7));
        });
        let summary = record(ServiceEventType::InstancesDown, |event| {
            event.by_service = [("pay".to_owned(), 30)].into();
        });
        let check = |filter: Filter, expected: [bool; 3]| {
            let compiled = CompiledFilter::new(&filter).unwrap();
            let found = [&alone, &counted, &summary].map(|record| compiled.passes(record));
            assert_eq!(found, expected, "{filter:?}");
        };
        let list = |word: &str| vec![word.to_owned()];
        let asked = || Filter {
            summaries: true,
            ..Filter::default()
        };
        check(Filter::default(), [true, true, false]);
        check(asked(), [true, false, true]);
        let (events, services) = (list("instance.*"), list("p*"));
        check(
            Filter {
                events,
                services,
                ..asked()
            },
            [true, false, true],
        );
        let services = list("cart");
        check(Filter { services, ..asked() }, [false; 3]);
        let events = list("leader.*");
        check(Filter { events, ..asked() }, [false; 3]);
        let by_zone = Filter {
            zones: list("az-1"),
            ..asked()
        };
        assert!(CompiledFilter::new(&by_zone).is_err());
        assert_eq!(by_zone.objections()[0].key, "summaries");
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

    #[test]
    fn a_sink_gets_only_what_its_format_makes_messages_of() {
        let (change, control) = (
            a_record().after("x").build(),
            a_record().control(Op::GapEnd).build(),
        );
        let event = a_record().control(Op::Service).build();
        for (format, expected) in [
            (None, [true, true, true]),
            (Some(Format::Record), [true, true, false]),
            (Some(Format::Service), [false, false, true]),
        ] {
            let filter = CompiledFilter::new(&Filter::default())
                .unwrap()
                .for_format(format);
            let passed = [&change, &control, &event].map(|record| filter.passes(record));
            assert_eq!(passed, expected, "{format:?}");
        }
    }
}
