//! The JSON Schema that is checked in is the one that the types give, and it agrees with what the reader takes.

use std::path::{Path, PathBuf};

use bridge_config::{
    COMMENTED, Environment, Format, config_reference, config_schema, config_schema_text, read,
};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn errors(document: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(&config_schema()).expect("the schema is a schema");
    let errors = validator.iter_errors(document);
    errors
        .map(|error| format!("{} {error}", error.instance_path()))
        .collect()
}

#[test]
fn the_schema_that_is_checked_in_is_the_one_of_the_types() {
    let file = folder().join("schema/config.json");
    let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        checked_in == config_schema_text(),
        "{} is out of date; write it with: zkbridge schema config > {}",
        file.display(),
        file.display()
    );
}

#[test]
fn the_reference_that_is_checked_in_is_the_one_of_the_types() {
    let file = folder().join("../docs/configuration-reference.md");
    let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        checked_in == config_reference(),
        "{} is out of date; write it with: cargo run -- schema reference > docs/configuration-reference.md",
        file.display()
    );
}

#[test]
fn the_schema_takes_every_example() {
    let toml = |text: &str| -> Value { toml::from_str(text).expect("it is TOML") };
    for name in ["zkbridge.toml", "kafka.toml", "several.toml"] {
        let text = std::fs::read_to_string(folder().join("examples").join(name)).expect("it is there");
        assert_eq!(errors(&toml(&text)), [""; 0], "{name}");
    }
    assert_eq!(errors(&toml(COMMENTED)), [""; 0]);
}

#[test]
fn the_reader_refuses_everything_that_the_schema_refuses() {
    let sink = json!([{"type": "console"}]);
    let source = |options: Value| {
        let mut options = options;
        options["connect"] = json!("a");
        json!({"source": [options], "sink": sink})
    };
    for document in [
        json!({}),
        json!({"source": []}),
        json!({"source": [{}], "sink": sink}),
        source(json!({"sesion_timeout": "10s"})),
        source(json!({"session_timeout": 10})),
        source(json!({"snapshot": "sometimes"})),
        source(json!({"roots": "/"})),
        source(json!({"journal": {"durability": "none"}})),
        json!({"source": [{"connect": "a"}], "sink": [{"type": "nats"}]}),
        json!({"source": [{"connect": "a"}], "sink": [{"type": "file"}]}),
        json!({"source": [{"connect": "a"}], "sink": [{"type": "console", "brokers": "a"}]}),
    ] {
        assert_ne!(errors(&document), [""; 0], "{document}");
        let text = document.to_string();
        let result = read(Path::new("x"), &text, Format::Json, &Environment::default());
        assert!(result.is_err(), "{document}");
    }
    let fine = source(json!({"snapshot": "always", "journal": {"retention": "forever"}}));
    assert_eq!(errors(&fine), [""; 0]);
    assert!(
        read(
            Path::new("x"),
            &fine.to_string(),
            Format::Json,
            &Environment::default()
        )
        .is_ok()
    );
}
