//! The example files: each can be loaded, and the one that `zkbridge init` prints shows the true defaults.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bridge_config::{Config, Environment, Format, Loaded, Refused, load_with, read};

fn environment() -> Environment {
    Environment::of([
        ("ZK_PASSWORD", "a-password"),
        ("KAFKA_PASSWORD", "another-password"),
        ("ZKBRIDGE_TOKEN", "0123456789abcdef"),
        ("DASHBOARD_TOKEN", "fedcba9876543210"),
        ("HOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ])
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let entries = std::fs::read_dir(folder).expect("the folder of examples is there");
    entries
        .map(|entry| entry.expect("it can be listed").path())
        .collect()
}

#[test]
fn every_example_can_be_loaded() {
    let mut loaded = 0;
    for file in examples() {
        // A secret's file is only there where the bridge runs.
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("${file:/run/secrets/zkbridge-token}", "${ZKBRIDGE_TOKEN}");
        let result = read(&file, &text, Format::of(&file).unwrap(), &environment());
        let found = result.unwrap_or_else(|refused| panic!("{refused}"));
        assert_ne!(found.config.sinks.len(), 0, "{}", file.display());
        loaded += 1;
    }
    assert!(loaded >= 5, "{loaded} examples");
}

#[test]
fn a_file_is_read_from_the_disk_and_one_that_is_not_there_is_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    assert!(load_with(&folder.join("minimal.json"), &environment()).is_ok());
    for (name, words) in [("nothing.toml", "zkbridge init"), ("kafka.ini", ".toml, .yaml")] {
        let refused = load_with(&folder.join(name), &environment()).unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
    }
}

fn parse(text: &str) -> Config {
    let result: Result<Loaded, Refused> = read(Path::new("init"), text, Format::Toml, &environment());
    result
        .unwrap_or_else(|refused| panic!("{text}\n{refused}"))
        .config
}

/// Takes the `#` from the lines that show defaults.
fn with_defaults(text: &str) -> String {
    let shown = |line: &str| {
        let rest = line.strip_prefix('#')?;
        rest.starts_with(|c: char| c.is_ascii_lowercase())
            .then(|| rest.to_owned())
    };
    let lines = text
        .lines()
        .map(|line| shown(line).unwrap_or_else(|| line.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}

/// Takes the `#   ` from the lines that are examples.
fn with_examples(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("#   ") {
        Some(rest) if !rest.starts_with(['*', ' ']) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_commented_configuration_shows_the_true_defaults() {
    let text = bridge_config::COMMENTED;
    let shown = with_defaults(text);
    assert!(
        shown.lines().filter(|line| line.contains(" = ")).count() > 30,
        "{shown}"
    );
    assert!(
        parse(text) == parse(&shown),
        "a default that is shown is not the built-in one"
    );
    let minimal = "[[source]]\nconnect = \"127.0.0.1:2181\"\n[[sink]]\ntype = \"console\"\n";
    assert!(
        parse(text) == parse(minimal),
        "the configuration sets more than must be set"
    );
}

#[test]
fn the_examples_in_the_commented_configuration_work_and_show_the_true_defaults() {
    let text = with_examples(bridge_config::COMMENTED);
    let config = parse(&text);
    assert_eq!(config.sinks.len(), 8, "{text}");
    assert!(
        config == parse(&with_defaults(&text)),
        "a default that is shown is not the built-in one"
    );
}

/// The names of all properties anywhere in the schema of the configuration.
fn keys(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(object) => {
            for (name, below) in object {
                match below.as_object().filter(|_| name == "properties") {
                    // Its keys are names of users' keys, one of which is `properties` too.
                    Some(properties) => {
                        found.extend(properties.keys().cloned());
                        properties.values().for_each(|schema| keys(schema, found));
                    }
                    None => keys(below, found),
                }
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|below| keys(below, found)),
        _ => {}
    }
}

#[test]
fn every_key_is_in_the_commented_configuration() {
    let mut found = BTreeSet::new();
    keys(&bridge_config::config_schema(), &mut found);
    assert!(found.len() > 50, "{found:?}");
    let text = bridge_config::COMMENTED;
    found.retain(|key| {
        let forms = [
            format!("{key} ="),
            format!("[{key}]"),
            format!("[[{key}]]"),
            format!(".{key}]"),
        ];
        !forms.iter().any(|form| text.contains(form))
    });
    assert_eq!(found, BTreeSet::new());
}
