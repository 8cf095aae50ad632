//! Overrides and references: what the environment brings into a configuration, and that none of it is ever shown.

use std::path::Path;

use bridge_config::{
    Config, Environment, Format, Listen, Loaded, Place, Problem, Refused, SinkKind, SourceKind, read,
};

const TEXT: &str = "[[source]]\nconnect = \"a:2181\"\n[[sink]]\ntype = \"kafka\"\nbrokers = \"k\"\n";

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Refused> {
    let environment = Environment::of(variables.iter().copied());
    read(Path::new("zkbridge.toml"), text, Format::Toml, &environment)
}

#[track_caller]
fn config(variables: &[(&str, &str)]) -> Config {
    read_with(TEXT, variables)
        .unwrap_or_else(|refused| panic!("{refused}"))
        .config
}

#[test]
fn a_variable_overrides_a_key_also_in_lists() {
    let config = config(&[
        ("ZKBRIDGE_DATA_DIR", "/var/lib/zkbridge"),
        ("ZKBRIDGE_HTTP__LISTEN", "off"),
        ("ZKBRIDGE_SOURCE__0__CONNECT", "b:2182"),
        ("ZKBRIDGE_SOURCE__0__JOURNAL__RETENTION", "1d"),
        ("ZKBRIDGE_SOURCE__0__ROOTS", "/a, /b"),
        ("ZKBRIDGE_SOURCE__0__EXCLUDE", "[\"/a/x,y\"]"),
        ("ZKBRIDGE_SOURCE__1__NAME", "second"),
        ("ZKBRIDGE_SOURCE__1__CONNECT", "c"),
        ("ZKBRIDGE_SINK__0__TOMBSTONES", "true"),
        ("ZKBRIDGE_SINK__0__TOPIC", "5-{{ cluster }}"),
        ("ZKBRIDGE_SINK__0__CREATE_TOPICS", "{ partitions = 3 }"),
        ("ZKBRIDGE_SINK__0__PROPERTIES", "{ \"client.id\" = \"x\" }"),
        ("ZKBRIDGE_SINK__0__RETRY__MAX", "5s"),
    ]);
    assert_eq!(config.data_dir, Path::new("/var/lib/zkbridge"));
    assert_eq!(config.http.listen, Listen::Off);
    let SourceKind::Zookeeper(source) = &config.sources[0].kind;
    assert_eq!(source.connect.as_str(), "b:2182");
    assert_eq!(
        source.roots.iter().map(|root| root.as_str()).collect::<Vec<_>>(),
        ["/a", "/b"]
    );
    assert!(source.exclude[0].takes("/a/x,y"));
    assert_eq!(config.sources[0].journal.retention.to_string(), "1d");
    assert_eq!(&*config.sources[1].name, "second");
    let SinkKind::Kafka(sink) = &config.sinks[0].kind else {
        panic!("{:?}", config.sinks);
    };
    assert!(sink.tombstones);
    assert_eq!(sink.topic, "5-{{ cluster }}");
    assert_eq!(sink.properties.get("client.id"), Some("x"));
    assert_ne!(sink.create_topics, bridge_kafka::CreateTopics::No);
    assert_eq!(config.sinks[0].retry.max.to_string(), "5s");
}

#[test]
fn a_configuration_can_come_from_variables_alone() {
    let variables = [
        ("ZKBRIDGE_SOURCE__0__CONNECT", "a"),
        ("ZKBRIDGE_SINK__0__TYPE", "console"),
    ];
    let loaded = read_with("", &variables).unwrap();
    assert_eq!((loaded.config.sources.len(), loaded.config.sinks.len()), (1, 1));
}

#[test]
fn variables_of_others_are_no_overrides() {
    let config = config(&[
        ("ZKBRIDGE_TOKEN", "x"),
        ("ZKBRIDGE_CONFIG", "x"),
        ("ZKBRIDGE_SERVICE_HOST", "10.0.0.1"),
        ("ZKBRIDGE_PORT_9641_TCP", "tcp://10.0.0.1:9641"),
        ("OTHER_HTTP__LISTEN", "x"),
        ("ZKBRIDGEHTTP__LISTEN", "x"),
    ]);
    assert!(config == self::config(&[]));
    let others = [
        ("ZKBRIDGE_SERVICE_HOST", "x"),
        ("ZKBRIDGE_PORT_9641_TCP", "x"),
        ("ZKBRIDGE_TOKEN", "x"),
    ];
    assert_eq!(read_with(TEXT, &others).unwrap().warnings, []);
}

#[test]
fn a_variable_that_was_surely_meant_as_an_override_is_warned_about() {
    let warnings = |text: &str, name: &str| -> Vec<String> {
        let loaded = read_with(text, &[(name, "0123456789abcdef")]).unwrap();
        loaded
            .warnings
            .into_iter()
            .filter_map(|problem| problem.remedy)
            .collect()
    };
    for (name, meant) in [
        ("ZKBRIDGE_HTTP_LISTEN", "ZKBRIDGE_HTTP__LISTEN?"),
        ("ZKBRIDGE_DATADIR", "ZKBRIDGE_DATA_DIR?"),
    ] {
        let said = warnings(TEXT, name);
        assert!(said.len() == 1 && said[0].contains(meant), "{name}: {said:?}");
    }
    let text = format!("{TEXT}[http]\ntoken = \"${{ZKBRIDGE_HTTP_TOKEN}}\"\n");
    assert_eq!(warnings(&text, "ZKBRIDGE_HTTP_TOKEN"), [""; 0]);
}

#[test]
fn an_override_that_cannot_be_is_reported_with_the_name_of_its_variable() {
    let check = |name: &str, value: &str, words: &[&str]| {
        let refused = read_with(TEXT, &[(name, value)]).unwrap_err();
        let [problem] = &refused.problems[..] else {
            panic!("{name}: {refused}");
        };
        assert_eq!(problem.place, Place::Variable(name.into()), "{problem:?}");
        let said =
            format!("{} {:?} {:?}", problem.message, problem.allowed, problem.remedy).replace('\\', "");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    };
    check("ZKBRIDGE_HTTP__LISTN", "off", &["did you mean 'listen'?"]);
    check("ZKBRIDGE_HTTTP__LISTEN", "off", &["did you mean 'http'?"]);
    check(
        "ZKBRIDGE_SOURCE__5__CONNECT",
        "a",
        &["'5' is not an index from 0 to 1"],
    );
    check(
        "ZKBRIDGE_SOURCE__0__CONNECT__X",
        "a",
        &["'x' below it does not exist"],
    );
    check("ZKBRIDGE_SINK__0__TOMBSTONES", "perhaps", &["true or false"]);
    check("ZKBRIDGE_SOURCE__0__SESSION_TIMEOUT", "soon", &["\"10s\""]);
}

/// Everything that a person or a log could see of a result.
fn seen(result: &Result<Loaded, Refused>) -> String {
    match result {
        Ok(loaded) => format!(
            "{loaded:?} {loaded:#?} {:?} {:?}",
            loaded.config.sources, loaded.config.sinks
        ),
        Err(refused) => {
            let json: Vec<_> = refused
                .problems
                .iter()
                .map(|problem| problem.to_json(&refused.file))
                .collect();
            format!("{refused} {refused:?} {refused:#?} {json:?}")
        }
    }
}

/// The variable decides: another value is another configuration, or a problem has its place. Its value is not shown.
fn check_taken_and_hidden(text: &str, (name, secret): (&str, &str), is_of: impl Fn(&Problem) -> bool) {
    let result = read_with(text, &[(name, secret)]);
    assert!(!seen(&result).contains("Hunter2"), "{text}\n{}", seen(&result));
    match &result {
        Ok(loaded) => {
            let other = read_with(text, &[(name, "Other/secret")]).map(|other| other.config);
            assert!(other.is_ok_and(|other| other != loaded.config), "{name} {text}");
        }
        Err(refused) => assert!(refused.problems.iter().any(is_of), "{name} {text}\n{refused}"),
    }
}

#[test]
fn a_brought_in_value_is_never_shown() {
    let secret = "Hunter2/Very secret";
    let keys = [
        ("", "data_dir"),
        ("[http]", "listen"),
        ("[http]", "token"),
        ("[log]", "level"),
        ("[[source]]\nconnect = \"b\"\nname = \"b\"", "type"),
        ("[[source]]\nname = \"b\"", "connect"),
        ("[[source]]\nconnect = \"b\"", "name"),
        ("[[source]]\nconnect = \"b\"\nname = \"b\"", "session_timeout"),
        ("[[source]]\nconnect = \"b\"\nname = \"b\"", "snapshot"),
        ("[[source]]\nconnect = \"b\"\nname = \"b\"", "max_data"),
        ("[[source]]\nconnect = \"b\"\nname = \"b\"", "swordfish"),
        (
            "[[source]]\nconnect = \"b\"\nname = \"b\"\n[source.auth]\nscheme = \"digest\"",
            "id",
        ),
        (
            "[[source]]\nconnect = \"b\"\nname = \"b\"\n[source.tls]\nca = \"x\"",
            "cert",
        ),
        ("[[sink]]\ntype = \"kafka\"\nname = \"b\"", "brokers"),
        (
            "[[sink]]\ntype = \"kafka\"\nname = \"b\"\nbrokers = \"b\"",
            "topic",
        ),
        (
            "[[sink]]\ntype = \"kafka\"\nname = \"b\"\nbrokers = \"b\"\n[sink.properties]",
            "\"sasl.password\"",
        ),
        (
            "[[sink]]\ntype = \"kafka\"\nname = \"b\"\nbrokers = \"b\"\n[sink.properties]",
            "acks",
        ),
        ("[[sink]]\ntype = \"file\"\nname = \"b\"", "path"),
        ("[[sink]]\ntype = \"file\"\nname = \"b\"\npath = \"x\"", "start"),
        (
            "[[sink]]\ntype = \"file\"\nname = \"b\"\npath = \"x\"",
            "retry.max",
        ),
    ];
    for (section, key) in keys {
        for value in [
            "\"${SECRET}\"",
            "\"x${SECRET}y\"",
            "[\"${SECRET}\"]",
            "{ a = \"${SECRET}\" }",
        ] {
            let line = format!("{key} = {value}\n");
            let text = match section {
                "" => format!("{line}{TEXT}"),
                _ => format!("{TEXT}{section}\n{line}"),
            };
            check_taken_and_hidden(&text, ("SECRET", secret), |problem| {
                problem.key.contains(key.trim_matches('"'))
            });
        }
    }
    for list in ["roots", "exclude"] {
        let text =
            format!("{TEXT}[[source]]\nname = \"b\"\nconnect = \"b\"\n{list} = [\"${{SECRET}}\", \"/a\"]\n");
        assert!(
            !seen(&read_with(&text, &[("SECRET", secret)])).contains("Hunter2"),
            "{text}"
        );
    }
}

#[test]
fn a_brought_in_value_is_not_shown_by_the_problem_of_another_key() {
    let text = format!(
        "{TEXT}[[source]]\nname = \"b\"\nconnect = \"b\"\nroots = [\"${{SECRET}}\", \"/Hunter2/x\"]\n"
    );
    let result = read_with(&text, &[("SECRET", "/Hunter2")]);
    let said = seen(&result);
    assert!(said.contains("overlap"), "{said}");
    assert!(!said.contains("Hunter2"), "{said}");
}

#[test]
fn overrides_are_as_secret_as_references() {
    for name in [
        "HTTP__TOKEN",
        "HTTP__LISTEN",
        "SOURCE__0__CONNECT",
        "SOURCE__0__AUTH__ID",
        "SINK__0__PROPERTIES",
    ] {
        let name = format!("ZKBRIDGE_{name}");
        check_taken_and_hidden(TEXT, (&name, "Hunter2 secret"), |problem| {
            problem.place == Place::Variable(name.clone().into())
        });
    }
}

#[test]
fn a_secret_in_the_file_is_not_shown_by_its_problems() {
    for line in [
        "token = [\"Hunter2\"]",
        "token = { a = \"Hunter2\" }",
        "tokn = \"Hunter2\"",
    ] {
        let result = read_with(&format!("{TEXT}[http]\n{line}\n"), &[]);
        assert!(
            result.is_err() && !seen(&result).contains("Hunter2"),
            "{}",
            seen(&result)
        );
    }
}

#[test]
fn a_reference_that_leads_nowhere_is_reported_at_its_place() {
    let refused = read_with(&TEXT.replace("a:2181", "${NOWHERE}"), &[]).unwrap_err();
    let [problem] = &refused.problems[..] else {
        panic!("{refused}");
    };
    assert_eq!(problem.key, "source[0].connect");
    assert_eq!(problem.place, Place::At { line: 2, column: 11 });
    assert!(problem.message.contains("NOWHERE is not set"), "{problem:?}");
}

#[test]
fn a_brought_in_value_cannot_change_the_structure() {
    let injected = "b\"\nroots = [\"/other";
    let result = read_with(&TEXT.replace("a:2181", "${X}"), &[("X", injected)]);
    assert!(result.is_err());
    let config = read_with(&TEXT.replace("\"k\"", "\"${X}\""), &[("X", "k1,k2")])
        .unwrap()
        .config;
    let SinkKind::Kafka(sink) = &config.sinks[0].kind else {
        panic!("{:?}", config.sinks);
    };
    assert_eq!(sink.brokers, "k1,k2");
}

#[test]
fn a_variable_that_is_not_set_is_the_only_problem_of_what_depends_on_it() {
    let check = |more: &str| {
        let refused = read_with(&format!("{more}\n{TEXT}"), &[]).unwrap_err();
        let [problem] = &refused.problems[..] else {
            panic!("{more}: {refused}");
        };
        assert!(problem.message.contains("NOWHERE is not set"), "{problem:?}");
    };
    check("[http]\nlisten = \"127.0.0.1:9641\"\ntokens = [{ name = \"a\", token = \"${NOWHERE}\" }]");
    let text = TEXT.replacen(
        "connect = ",
        "auth = { scheme = \"digest\", id = \"${NOWHERE}\" }\nconnect = ",
        1,
    );
    let refused = read_with(&text, &[]).unwrap_err();
    assert_eq!(refused.problems.len(), 1, "{refused}");
}

#[test]
fn a_variable_for_a_key_that_does_not_exist_is_said_to_be_that() {
    let refused = read_with(TEXT, &[("ZKBRIDGE_FOO__BAR", "1")]).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("there is no key 'foo' here"), "{said}");
    assert!(!said.contains("not as it should be"), "{said}");
}

#[test]
fn a_variable_with_very_many_levels_is_refused_at_once() {
    let deep = format!("ZKBRIDGE{}", "__A".repeat(20_000)).replacen("__", "_", 1);
    let began = std::time::Instant::now();
    let refused = read_with(TEXT, &[(&deep, "1")]).unwrap_err().to_string();
    assert!(refused.contains("more than 32 levels deep"), "{refused}");
    assert!(refused.len() < 1_000, "{} bytes", refused.len());
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}
