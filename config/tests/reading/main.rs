//! Configuration files in all three formats, and the reports of all their mistakes.

use std::path::Path;

use bridge_config::{
    Environment, Format, Listen, Loaded, Place, Problem, Refused, SinkKind, SourceKind, read,
};
use bridge_core::issue::Severity;

mod pairs;

fn read_as(format: Format, text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Refused> {
    let environment = Environment::of(variables.iter().copied());
    read(Path::new("zkbridge"), text, format, &environment)
}

fn read_toml(text: &str) -> Result<Loaded, Refused> {
    read_as(Format::Toml, text, &[])
}

fn problems(text: &str) -> Vec<Problem> {
    match read_toml(text) {
        Ok(loaded) => loaded.warnings,
        Err(refused) => refused.problems,
    }
}

/// The one problem of a configuration: its key, and a part of its message, what is allowed, and remedy together.
#[track_caller]
fn check(text: &str, severity: Severity, key: &str, words: &[&str]) {
    let found = problems(text);
    let [problem] = &found[..] else {
        panic!("one problem expected in\n{text}\n{found:#?}");
    };
    assert_eq!(
        (problem.severity, problem.key.as_str()),
        (severity, key),
        "{problem:?}"
    );
    let or_nothing = |text: &Option<String>| text.clone().unwrap_or_default();
    let (allowed, remedy) = (or_nothing(&problem.allowed), or_nothing(&problem.remedy));
    let said = format!("{} {allowed} {remedy}", problem.message);
    for word in words {
        assert!(said.contains(word), "'{word}' is missing in {said}");
    }
}

/// A configuration without problems, to which `more` adds one.
fn with(more: &str) -> String {
    format!("[[sink]]\ntype = \"console\"\n[[source]]\nconnect = \"a:2181\"\n{more}")
}

fn with_sink(more: &str) -> String {
    format!("[[source]]\nconnect = \"a:2181\"\n[[sink]]\n{more}")
}

#[test]
fn a_source_needs_only_its_servers_and_a_sink_only_its_type_and_address() {
    let loaded = read_toml(&with_sink("type = \"file\"\npath = \"x.jsonl\"")).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.data_dir, Path::new("zkbridge-data"));
    assert_eq!(config.http.listen, Listen::default());
    assert_eq!(&*config.sources[0].name, "main");
    let SourceKind::Zookeeper(source) = &config.sources[0].kind;
    assert_eq!(source.connect.as_str(), "a:2181");
    assert_eq!(&*config.sinks[0].name, "file");
    assert_eq!(config.sinks[0].sources, [config.sources[0].name.clone()]);
    assert!(matches!(&config.sinks[0].kind, SinkKind::File(_)));
}

#[test]
fn the_three_formats_say_the_same() {
    let toml = read_toml(
        "data_dir = \"d\"\n[http]\nlisten = \"off\"\n[[source]]\nname = \"s\"\nconnect = \"a\"\nroots = [\"/x\"]\n\
         [source.journal]\nretention = \"forever\"\n[[sink]]\ntype = \"console\"\nretry = { max = \"1s\" }\n",
    );
    let yaml = "data_dir: d\nhttp:\n  listen: off\nsource:\n  - name: s\n    connect: a\n    roots: [/x]\n    journal:\n      \
                retention: forever\nsink:\n  - type: console\n    retry: {max: 1s}\n";
    let json = r#"{"data_dir": "d", "http": {"listen": "off"},
        "source": [{"name": "s", "connect": "a", "roots": ["/x"], "journal": {"retention": "forever"}}],
        "sink": [{"type": "console", "retry": {"max": "1s"}}]}"#;
    let toml = toml.unwrap().config;
    assert!(toml == read_as(Format::Yaml, yaml, &[]).unwrap().config);
    assert!(toml == read_as(Format::Json, json, &[]).unwrap().config);
}

#[test]
fn all_that_is_wrong_is_said_at_once_each_at_its_place() {
    let text = r#"datadir = "x"
[http]
listen = "0.0.0.0:9641"
[log]
level = 5
[[source]]
roots = ["/a", "b", "/a/b", 7]
sesion_timeout = "10s"
heartbeat = "often"
[source.journal]
max_size = "1 MiX"
[[sink]]
type = "fax"
[[sink]]
sources = ["man"]
type = "file"
merge = "2 sec onds"
paths = ["x"]
"#;
    let found: Vec<(usize, usize, String)> = problems(text)
        .into_iter()
        .map(|problem| match problem.place {
            Place::At { line, column } => (line, column, problem.key),
            place => panic!("{place:?} of {}", problem.key),
        })
        .collect();
    let expected = [
        (1, 1, "datadir"),
        (3, 1, "http.listen"),
        (5, 1, "log.level"),
        (6, 1, "source[0].connect"),
        (7, 16, "source[0].roots[1]"),
        (7, 21, "source[0].roots[2]"),
        (7, 29, "source[0].roots[3]"),
        (8, 1, "source[0].sesion_timeout"),
        (9, 1, "source[0].heartbeat"),
        (11, 1, "source[0].journal.max_size"),
        (13, 1, "sink[0].type"),
        (14, 1, "sink[1].path"),
        (15, 12, "sink[1].sources[0]"),
        (17, 1, "sink[1].merge"),
        (18, 10, "sink[1].paths[0]"),
    ];
    let expected = expected.map(|(line, column, key)| (line, column, key.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn yaml_and_json_problems_have_their_places_too() {
    let place = |format, text| {
        let refused = read_as(format, text, &[]).unwrap_err();
        let problem = refused
            .problems
            .into_iter()
            .find(|problem| problem.key == "source[0].roots[1]");
        problem.map(|problem| problem.place)
    };
    let yaml = "source:\n  - connect: a\n    roots:\n      - /a\n      - 5\n";
    assert_eq!(place(Format::Yaml, yaml), Some(Place::At { line: 5, column: 9 }));
    let json = "{\"source\": [\n\t{\"connect\": \"a\\u00fc:\\\"{[,\", \"roots\": [\"/ü\", 5]}\n]}";
    assert_eq!(place(Format::Json, json), Some(Place::At { line: 2, column: 47 }));
    let json = "{\"source\": [{\"connect\": \"a\\/b\\ud83d\\ude00\", \"roots\": [\"/a\", 5]}]}";
    assert_eq!(place(Format::Json, json), Some(Place::File));
}

#[test]
fn nothing_is_converted_from_one_type_to_another() {
    let error = Severity::Error;
    check(
        &with("name = 5"),
        error,
        "source[0].name",
        &["5 is given", "a text in quotes"],
    );
    check(
        &with("heartbeat = 30"),
        error,
        "source[0].heartbeat",
        &["a text in quotes"],
    );
    check(
        &with("roots = \"/a\""),
        error,
        "source[0].roots",
        &["\"/a\" is given", "a list"],
    );
    check(
        &with("tls = true"),
        error,
        "source[0].tls",
        &["true is given", "a table"],
    );
    check(
        &with("tls = [\"ca.pem\"]"),
        error,
        "source[0].tls",
        &["a list is given", "a table"],
    );
    check(
        &with("name = 1979-05-27"),
        error,
        "source[0].name",
        &["the date 1979-05-27"],
    );
    check(
        &with("tls = { ca = \"x\", verify_hostname = \"yes\" }"),
        error,
        "source[0].tls.verify_hostname",
        &["true or false"],
    );
    check(
        "source = 5\n[[sink]]\ntype = \"console\"",
        error,
        "source",
        &["5 is given", "[[source]]"],
    );
}

#[test]
fn a_misspelt_key_or_word_is_answered_with_the_one_that_was_meant() {
    let error = Severity::Error;
    check(
        &with("rots = [\"/\"]"),
        error,
        "source[0].rots",
        &["did you mean 'roots'?", "session_timeout"],
    );
    check(
        &with("[source.journal]\nmax-size = \"1 GiB\""),
        error,
        "source[0].journal.max-size",
        &["'max_size'"],
    );
    check(
        &with("snapshot = \"allways\""),
        error,
        "source[0].snapshot",
        &["write \"always\"", "\"initial\""],
    );
    check(
        &with_sink("type = \"kafak\""),
        error,
        "sink[0].type",
        &["write \"kafka\""],
    );
    check(
        &with_sink("type = \"slack\""),
        error,
        "sink[0].type",
        &["write type = \"webhook\" and preset = \"slack\""],
    );
    check(
        &with("swordfish = 1"),
        error,
        "source[0].swordfish",
        &["leave it out"],
    );
}

#[test]
fn planned_options_are_refused_as_not_there_yet() {
    let error = Severity::Error;
    let later = "does not exist yet";
    check(
        &with("type = \"observer\""),
        error,
        "source[0].type",
        &[later, "\"zookeeper\""],
    );
    check(
        &with("snapshot = \"never\""),
        error,
        "source[0].snapshot",
        &[later, "a sink whose `ops` lack \"snapshot\""],
    );
    check(
        &with_sink("type = \"console\"\nmerge = \"1ms\""),
        error,
        "sink[0].merge",
        &["10ms"],
    );
    check(
        &with("[source.auth]\nsasl = \"gssapi\""),
        error,
        "source[0].auth.sasl",
        &[
            later,
            "Kerberos is not built into zkbridge for ZooKeeper",
            "DIGEST-MD5",
        ],
    );
    check(
        &with("[[source.auth]]\nsasl = \"kerberos\""),
        error,
        "source[0].auth[0].sasl",
        &[later, "Kerberos is not built into zkbridge for ZooKeeper"],
    );
}

#[test]
fn a_format_that_a_sink_does_not_know_is_refused_with_what_it_allows() {
    let error = Severity::Error;
    check(
        &with_sink("type = \"console\"\nformat = \"cloudevents\""),
        error,
        "sink[0].format",
        &["not a value of this key", "\"pretty\", \"record\""],
    );
    check(
        &with_sink("type = \"file\"\npath = \"a\"\nformat = \"raw\""),
        error,
        "sink[0].format",
        &["line feeds", "\"record\", \"flat\" or \"cloudevents\""],
    );
    check(
        &with_sink("type = \"kafka\"\nbrokers = \"a\"\nformat = \"avro\""),
        error,
        "sink[0].format",
        &["\"record\", \"cloudevents\", \"cloudevents-binary\", \"raw\""],
    );
}

#[test]
fn a_text_that_is_not_of_its_format_is_shown_with_its_line() {
    let check = |format, text: &str, line, words: &[&str]| {
        let refused = read_as(format, text, &[]).unwrap_err();
        let [problem] = &refused.problems[..] else {
            panic!("{refused}");
        };
        assert!(
            matches!(problem.place, Place::At { line: at, .. } if at == line),
            "{problem:?}"
        );
        for word in words {
            assert!(refused.to_string().contains(word), "{word}: {refused}");
        }
    };
    check(
        Format::Toml,
        "[http]\nlisten = off\n",
        2,
        &["not TOML", "| listen = off"],
    );
    check(Format::Toml, "a = 1\na = 2\n", 2, &["duplicate key"]);
    check(Format::Yaml, "http:\n\tlisten: off\n", 2, &["not YAML", "tabs"]);
    check(Format::Json, "{\"http\": {},\n}", 2, &["not JSON", "| }"]);
    let refused = read_as(Format::Toml, "token = hunter2\n", &[]).unwrap_err();
    assert!(!refused.to_string().contains("hunter2"), "{refused}");
}

#[test]
fn a_number_that_is_too_large_is_named_with_its_key_and_line_in_every_format() {
    let check = |format, text: &str, key: &str, line| {
        let refused = read_as(format, text, &[]).unwrap_err();
        let [problem] = &refused.problems[..] else {
            panic!("{refused}");
        };
        assert_eq!(problem.key, key, "{refused}");
        let is_there = matches!(problem.place, Place::At { line: at, .. } if at == line);
        assert!(is_there, "{problem:?}");
        let said = refused.to_string();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("up to 9223372036854775807"), "{said}");
        assert!(
            !said.contains("not TOML") && !said.contains("quotes, and begin"),
            "{said}"
        );
    };
    let observer = |id: &str| {
        with(&format!(
            "capture = \"observer\"\n[source.observer]\nbypasses_acls = true\nid = {id}\n"
        ))
    };
    for id in [
        "9223372036854775808",
        "-9223372036854775809",
        "0xffff_ffff_ffff_ffff",
        "1e400",
    ] {
        check(Format::Toml, &observer(id), "source[0].observer.id", 8);
    }
    let batch = with_sink("type = \"console\"\nbatch = { records = 99999999999999999999 }\n");
    check(Format::Toml, &batch, "sink[0].batch.records", 5);
    let two = "[[a]]\nb = [1, 18446744073709551616]\nc = 1e999\n";
    let keys = problems(two)
        .into_iter()
        .map(|problem| problem.key)
        .collect::<Vec<_>>();
    assert_eq!(keys, ["a[0].b[1]", "a[0].c"]);
    // A secret that lacks its quotes is not shown.
    let secret = read_toml("password = 99999999999999999999\n").unwrap_err();
    assert!(!secret.to_string().contains("99999999999999999999"), "{secret}");
    let yaml = "sink: [{type: console}]\nsource:\n  - connect: a\n    capture: observer\n    observer:\n      \
                bypasses_acls: true\n      id: 9223372036854775808\n";
    check(Format::Yaml, yaml, "source[0].observer.id", 7);
    let json = "{\"sink\": [{\"type\": \"console\"}], \"source\": [{\"connect\": \"a\", \"capture\": \"observer\",\n\
                \"observer\": {\"bypasses_acls\": true, \"id\": 9223372036854775808}}]}";
    check(Format::Json, json, "source[0].observer.id", 2);
}

#[test]
fn a_repeated_key_is_an_error_in_json_too() {
    let refused = read_as(Format::Json, "{\"data_dir\": \"a\",\n \"data_dir\": \"b\"}", &[]).unwrap_err();
    let problem = &refused
        .problems
        .iter()
        .find(|problem| problem.key == "data_dir")
        .unwrap();
    assert_eq!(problem.place, Place::At { line: 2, column: 2 });
    assert!(problem.message.contains("twice"), "{problem:?}");
}
