//! Checks that concern several sections: duplicate names, sinks without sources, addresses open to all.

use bridge_core::issue::ConfigIssue;
use bridge_core::outbound::NotJson;
use bridge_core::path::{ZnodePath, covers};
use bridge_core::secret::Secret;
use bridge_kafka::KeyBy;
use bridge_services::SECTIONS_MAX;

use crate::filter_paths::{objections_to_globs, objections_to_paths};
use crate::model::{
    ALL_SOURCES, Config, FileConfig, HttpConfig, Name, NatsConfig, RenderConfig, SinkConfig, SinkKind,
    SourceConfig,
};
use crate::nearest::nearest;
use crate::reading::{Reading, Sections, SinkDraft};
use crate::rendered::objections_to_tree;
use crate::service_filter::objections_to_events;
use crate::tree::KeyPath;

/// Completes the sections to a configuration. Problems are reported; the result is valid only if none is an error.
pub(crate) fn complete(sections: Sections, reading: &mut Reading<'_>) -> Config {
    let Sections { top, sources, sinks } = sections;
    let at_top = KeyPath::default();
    reading.object(&at_top, http_objections(&top.http));
    reading.object_to_contents(&at_top.key("data_dir"));
    if reading.is_absent("source") {
        reading.object(&at_top, vec![no_source()]);
    }
    if reading.is_absent("sink") {
        reading.object(&at_top, vec![no_sink()]);
    }
    check_sources(&sources, reading);
    let names: Vec<Name> = sources.iter().map(|(_, source)| source.name.clone()).collect();
    let sinks: Vec<(KeyPath, SinkConfig)> = sinks
        .into_iter()
        .map(|(path, draft)| {
            let sink = complete_sink(draft, &path, &names, reading);
            (path, sink)
        })
        .collect();
    check_sinks(&sinks, reading);
    let of_config: Vec<&SourceConfig> = sources.iter().map(|(_, source)| source).collect();
    for (path, sink) in &sinks {
        reading.object(path, objections_to_paths(sink, &of_config));
        reading.object(path, objections_to_not_json(sink, &of_config));
        reading.object(path, objections_to_tree(sink, &of_config));
        reading.object(path, objections_to_events(sink, &of_config));
    }
    Config {
        data_dir: top.data_dir,
        http: top.http,
        log: top.log,
        sources: sources.into_iter().map(|(_, source)| source).collect(),
        sinks: sinks.into_iter().map(|(_, sink)| sink).collect(),
    }
}

/// A source that writes no JSON gives a sink nothing but dead letters.
fn objections_to_not_json(sink: &SinkConfig, sources: &[&SourceConfig]) -> Vec<ConfigIssue> {
    if sink.not_json == NotJson::Deliver {
        return Vec::new();
    }
    let of_sink = sources
        .iter()
        .filter(|source| sink.sources.contains(&source.name));
    let without = of_sink.filter(|source| {
        let options = source.kind.options();
        options.keeps_data() && !options.writes_json()
    });
    let object = |source: &&&SourceConfig| {
        let message = format!(
            "the source '{}' does not write JSON, so every value would be rejected",
            source.name
        );
        ConfigIssue::error(
            "not_json",
            message,
            "give the source data = \"json\", or leave not_json out",
        )
    };
    without.map(|source| object(&source)).collect()
}

/// A shorter token can be guessed by trying.
const TOKEN_CHARS_MIN: usize = 16;

fn http_objections(http: &HttpConfig) -> Vec<ConfigIssue> {
    let mut found = default_token_objections(http);
    for (at, named) in http.tokens.iter().enumerate() {
        found.extend(token_objections("http.tokens", named.token.reveal()));
        let before = &http.tokens[..at];
        if *named.name == *"default" || before.iter().any(|other| other.name == named.name) {
            let message = format!("the name '{}' is that of another token already", named.name);
            found.push(ConfigIssue::error(
                "http.tokens",
                message,
                "give each token a name of its own; http.token has the name 'default'",
            ));
        }
        let is_same = |other: &Secret| other.reveal() == named.token.reveal();
        if before.iter().any(|other| is_same(&other.token)) || http.token.as_ref().is_some_and(is_same) {
            let message = format!("the token of '{}' is that of another one", named.name);
            found.push(ConfigIssue::error(
                "http.tokens",
                message,
                "give each name a token of its own, such as the output of 'openssl rand -hex 32'",
            ));
        }
    }
    found
}

fn default_token_objections(http: &HttpConfig) -> Vec<ConfigIssue> {
    let Some(token) = http.token.as_ref().map(Secret::reveal) else {
        let open = http.listen.is_open().then(|| {
            ConfigIssue::error(
                "http.listen",
                format!(
                    "{} can be reached by others, and http.token is missing",
                    http.listen
                ),
                "give http.token = \"${ZKBRIDGE_TOKEN}\", or listen on 127.0.0.1",
            )
        });
        return open.into_iter().collect();
    };
    token_objections("http.token", token)
}

fn token_objections(key: &'static str, token: &str) -> Vec<ConfigIssue> {
    if token.is_empty() {
        let message = "the token is empty, so every client has it";
        let remedy = "give a long random text, or leave token out and listen on 127.0.0.1";
        return vec![ConfigIssue::error(key, message, remedy)];
    }
    // RFC 6750 allows fewer characters; these are what HTTP takes unchanged in a header.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "the token has a space or a character that is not ASCII, so no client can send it";
        let remedy = "give letters and digits only, such as the output of 'openssl rand -hex 32'";
        return vec![ConfigIssue::error(key, message, remedy)];
    }
    if token.chars().count() < TOKEN_CHARS_MIN {
        let message = "the token is shorter than 16 characters and can be guessed";
        let remedy = "give a longer random text, such as the output of 'openssl rand -hex 32'";
        return vec![ConfigIssue::warning(key, message, remedy)];
    }
    Vec::new()
}

/// Problems of the sections of services beside the other options of their source, for each section.
fn service_objections(source: &SourceConfig) -> Vec<Vec<ConfigIssue>> {
    let options = source.kind.options();
    let mut found: Vec<Vec<ConfigIssue>> = Vec::new();
    for (at, section) in source.services.iter().enumerate() {
        let mut issues = Vec::new();
        let name = section.name();
        if source.services[..at].iter().any(|other| other.name() == name) {
            issues.push(ConfigIssue::error(
                "name",
                format!("two sections of services are named '{name}'"),
                "give one of them another name",
            ));
        }
        if at == SECTIONS_MAX {
            issues.push(ConfigIssue::error(
                "format",
                format!("more than {SECTIONS_MAX} sections of services"),
                "use wider paths, or another source",
            ));
        }
        if !options.keeps_data() {
            issues.push(ConfigIssue::error(
                "format",
                "the source has data = \"none\", so that no registration can be decoded",
                "give the source data = \"auto\"",
            ));
        }
        let base = section.base();
        let is_watched = |root: &ZnodePath| root.covers(base) || covers(base, root);
        if !options.roots().iter().any(is_watched) {
            issues.push(ConfigIssue::error(
                "base",
                format!("'{base}' is in none of the source's roots, so that none of its changes is seen"),
                "add it to 'roots', or give the base with the chroot of its clients",
            ));
        }
        found.push(issues);
    }
    found
}

fn check_sources(sources: &[(KeyPath, SourceConfig)], reading: &mut Reading<'_>) {
    for (at, (path, source)) in sources.iter().enumerate() {
        let before = &sources[..at];
        if let Some(other) = before.iter().find(|(_, other)| *other.name == *source.name) {
            reading.object(path, vec![name_twice("source", &source.name, &other.0)]);
        } else if let Some((_, other)) = before
            .iter()
            .find(|(_, other)| other.name.eq_ignore_ascii_case(&source.name))
        {
            let message = format!(
                "the journals of the sources '{}' and '{}' are one file where file names have no case",
                other.name, source.name
            );
            reading.object(
                path,
                vec![ConfigIssue::warning(
                    "name",
                    message,
                    "give names that differ in more",
                )],
            );
        }
        if !source.mask.is_empty() && source.kind.options().is_proved_by_values() {
            let message = "with a mask the journal keeps no checksums of values, so that transactions are proved by \
                           their numbers alone";
            let remedy = "nothing, if that is enough; otherwise take the masks away, and encrypt the disk";
            reading.object(path, vec![ConfigIssue::warning("mask", message, remedy)]);
        }
        reading.object(path, objections_to_globs(source));
        for (at, issues) in service_objections(source).into_iter().enumerate() {
            reading.object(&path.key("service").index(at), issues);
        }
        let watched = |source: &SourceConfig| {
            let options = source.kind.options();
            (options.servers().to_owned(), options.roots().to_vec())
        };
        let same = |other: &SourceConfig| watched(other) == watched(source);
        if let Some((_, other)) = before.iter().find(|(_, other)| same(other)) {
            let message = format!(
                "the sources '{}' and '{}' watch the same roots of the same servers, so every change comes twice",
                other.name, source.name
            );
            reading.object(
                path,
                vec![ConfigIssue::warning("connect", message, "leave one of them out")],
            );
        }
    }
}

fn name_twice(what: &str, name: &Name, first: &KeyPath) -> ConfigIssue {
    ConfigIssue::error(
        "name",
        format!("the name '{name}' is that of {first} already"),
        format!("give each {what} a name of its own"),
    )
}

fn complete_sink(
    draft: SinkDraft,
    path: &KeyPath,
    sources: &[Name],
    reading: &mut Reading<'_>,
) -> SinkConfig {
    match &draft.kind {
        SinkKind::File(_) | SinkKind::Render(_) => reading.object_to_contents(&path.key("path")),
        SinkKind::Kafka(options) => {
            let names = options.properties.iter().map(|(key, _)| key);
            for key in names.filter(|key| key.ends_with(".location")) {
                reading.object_to_contents(&path.key("properties").key(key));
            }
        }
        SinkKind::Exec(_) => {
            reading.object_to_contents(&path.key("command").index(0));
            reading.object_to_contents(&path.key("directory"));
        }
        SinkKind::Nats(_) | SinkKind::Webhook(_) | SinkKind::Console(_) => {}
    }
    reading.object(path, draft.filter.objections());
    reading.object(path, draft.common.objections());
    let objections = objections_to_sources(&draft.common.sources, &reading.source_names());
    reading.object(path, objections);
    let wanted = |name: &&Name| {
        draft
            .common
            .sources
            .iter()
            .any(|text| text == ALL_SOURCES || **text == ***name)
    };
    SinkConfig {
        name: draft.name,
        sources: sources.iter().filter(wanted).cloned().collect(),
        start: draft.common.start,
        filter: draft.filter,
        reject: draft.reject,
        merge: draft.common.merge,
        not_json: draft.common.not_json,
        retry: draft.common.retry,
        kind: draft.kind,
    }
}

/// `known` also holds the names of sources that have problems of their own.
fn objections_to_sources(wanted: &[String], known: &[String]) -> Vec<ConfigIssue> {
    if wanted.is_empty() {
        let message = "no source is given, so that the sink would get nothing";
        return vec![ConfigIssue::error(
            "sources",
            message,
            "name a source, or leave sources out for all",
        )];
    }
    let mut found = Vec::new();
    for (index, name) in wanted.iter().enumerate() {
        if name == ALL_SOURCES || known.contains(name) {
            continue;
        }
        let message = format!("there is no source '{name}'; there is {}", quoted(known));
        let remedy = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean '{near}'?"),
            None => "give the name of a source, or \"*\" for all".to_owned(),
        };
        found.push(ConfigIssue::error(format!("sources[{index}]"), message, remedy));
    }
    found
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    match quoted.is_empty() {
        true => "none".to_owned(),
        false => quoted.join(", "),
    }
}

/// Records of equal paths from different sources would replace each other in a compacted topic, and share an order that
/// means nothing.
fn objections_to_shared_topic(sink: &SinkConfig) -> Option<ConfigIssue> {
    let options = match &sink.kind {
        SinkKind::Kafka(options) => options,
        SinkKind::Nats(options) => return objection_to_shared_subject(sink, options),
        SinkKind::Webhook(_)
        | SinkKind::File(_)
        | SinkKind::Exec(_)
        | SinkKind::Render(_)
        | SinkKind::Console(_) => return None,
    };
    let parted = options.key == KeyBy::ClusterPath || options.topic.contains("cluster");
    (sink.sources.len() > 1 && !parted).then(|| {
        ConfigIssue::warning(
            "key",
            format!(
                "{} sources write to one topic with the path alone as key",
                sink.sources.len()
            ),
            "give key = \"cluster_path\", or a topic with {{ cluster }}",
        )
    })
}

/// The same for subjects. With a fence each source would treat the others as foreign writers.
fn objection_to_shared_subject(sink: &SinkConfig, options: &NatsConfig) -> Option<ConfigIssue> {
    let parted = options.subject.contains("cluster");
    if sink.sources.len() < 2 || parted {
        return None;
    }
    let message = format!("{} sources write to the same subjects", sink.sources.len());
    let remedy = "give a subject with {{ cluster }}";
    Some(match options.fence {
        true => ConfigIssue::error(
            "subject",
            format!("{message}, and fence = true takes the others for strangers"),
            remedy,
        ),
        false => ConfigIssue::warning("subject", message, remedy),
    })
}

fn check_sinks(sinks: &[(KeyPath, SinkConfig)], reading: &mut Reading<'_>) {
    for (at, (path, sink)) in sinks.iter().enumerate() {
        let before = &sinks[..at];
        if let Some(other) = before.iter().find(|(_, other)| *other.name == *sink.name) {
            reading.object(path, vec![name_twice("sink", &sink.name, &other.0)]);
        }
        reading.object(path, objections_to_shared_topic(sink).into_iter().collect());
        let keys = ["topic", "brokers", "subject", "bucket", "servers", "path"];
        if keys.iter().any(|key| reading.is_touched(&path.key(key))) {
            continue;
        }
        if let Some((key, target)) = target(&sink.kind)
            && let Some((_, other)) = before.iter().find(|(_, other)| {
                self::target(&other.kind)
                    .is_some_and(|other| (other.0, other.1.same()) == (key, target.same()))
            })
        {
            let message = format!(
                "the sinks '{}' and '{}' write to the same {key} {}",
                other.name, sink.name, target.shown
            );
            let issue = match sink.kind {
                SinkKind::Render(_) => ConfigIssue::error(
                    key,
                    message,
                    "give one of them another file: each would replace the other's",
                ),
                _ => {
                    let remedy =
                        "give one of them another destination, unless their filters part the records";
                    ConfigIssue::warning(key, message, remedy)
                }
            };
            reading.object(path, vec![issue]);
        }
    }
}

/// The destination of a sink.
struct Target<'a> {
    shown: String,
    /// The topic, subject or file.
    name: &'a str,
    /// `a:1,b:2`; in which order is a matter of taste. None for a file.
    servers: &'a str,
}

impl<'a> Target<'a> {
    /// The part that is equal in two names of one destination.
    fn same(&self) -> (&'a str, Vec<&'a str>) {
        let name = self.name.strip_prefix("./").unwrap_or(self.name);
        let mut servers: Vec<&str> = self.servers.split(',').map(str::trim).collect();
        servers.sort_unstable();
        (name, servers)
    }
}

/// The key that names a sink's destination, and the destination.
fn target(kind: &SinkKind) -> Option<(&'static str, Target<'_>)> {
    let on = |name, servers| Target {
        shown: format!("{name} of {servers}"),
        name,
        servers,
    };
    match kind {
        SinkKind::Kafka(options) => Some(("topic", on(&options.topic, &options.brokers))),
        SinkKind::Nats(options) => Some(match &options.bucket {
            Some(bucket) => ("bucket", on(bucket, &options.servers)),
            None => ("subject", on(&options.subject, &options.servers)),
        }),
        SinkKind::File(FileConfig { path, .. }) | SinkKind::Render(RenderConfig { path, .. }) => {
            let name = path.to_str()?;
            let shown = name.to_owned();
            Some((
                "path",
                Target {
                    shown,
                    name,
                    servers: "",
                },
            ))
        }
        // The address of a webhook may be a secret, and nothing is wrong with two that call one service or run one command.
        SinkKind::Webhook(_) | SinkKind::Exec(_) | SinkKind::Console(_) => None,
    }
}

fn no_source() -> ConfigIssue {
    ConfigIssue::error(
        "source",
        "there is no [[source]], so that nothing would be watched",
        "add [[source]] with connect = \"127.0.0.1:2181\"; 'zkbridge init' prints an example",
    )
}

fn no_sink() -> ConfigIssue {
    ConfigIssue::warning(
        "sink",
        "there is no [[sink]]: changes are journalled and delivered nowhere",
        "add [[sink]] with a type; 'zkbridge init' prints an example",
    )
}
