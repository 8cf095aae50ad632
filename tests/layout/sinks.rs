//! All sink crates have the same files with the same roles, so that a reader of one can read all. The rule includes the
//! examples of documents.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::project::{File, assert_none, assert_one, files_with};

/// The connectors that are sources. Any other is a sink.
const SOURCES: [&str; 1] = ["connectors/zookeeper"];

/// The folders of connectors and of their examples.
const PLACES: [&str; 2] = ["connectors", "examples"];

/// The files or folders that every sink crate has in `src`.
const ROLES: [(&str, &str); 6] = [
    (
        "lib",
        "says what the sink promises and must never do, and names its options and its sink",
    ),
    (
        "config",
        "the options that users see: typed, documented, checked without a connection",
    ),
    ("encode", "a record as the destination wants it; pure"),
    ("sink", "one conversation with the destination"),
    ("error", "the destination's errors as kinds of the engine"),
    ("tests", "what can be known without the destination"),
];

/// The call that runs the contract suite of sinks.
const SUITE: &str = "every_promise(";

/// The same for sources.
const ROLES_OF_SOURCES: [(&str, &str); 4] = [
    ("lib", "says what the source hands on and must never decide"),
    (
        "config",
        "the options that users see: typed, documented, checked without a connection",
    ),
    ("source", "one conversation with the outside system after another"),
    ("error", "the outside system's errors as kinds of the pipeline"),
];

/// The folder of a connector's crate, with its Rust files.
fn connectors(files: Vec<File>) -> BTreeMap<String, Vec<File>> {
    let mut found: BTreeMap<String, Vec<File>> = BTreeMap::new();
    for file in files {
        let mut names = file.path.iter().map(|name| name.to_string_lossy().into_owned());
        if let (Some(place), Some(name), Some(_)) = (names.next(), names.next(), names.next())
            && PLACES.contains(&place.as_str())
        {
            found.entry(format!("{place}/{name}")).or_default().push(file);
        }
    }
    found
}

/// The file of a connector for this role.
fn find<'a>(folder: &str, files: &'a [File], role: &str) -> Option<&'a File> {
    let src = PathBuf::from(folder).join("src");
    let candidates = [src.join(format!("{role}.rs")), src.join(role).join("mod.rs")];
    files.iter().find(|file| candidates.contains(&file.path))
}

/// The roles without a file in a connector.
fn gaps_of_roles(folder: &str, files: &[File], roles: &[(&str, &str)]) -> Vec<String> {
    let missing = roles
        .iter()
        .filter(|(role, _)| find(folder, files, role).is_none());
    missing
        .map(|(role, meaning)| format!("{folder} has no src/{role}.rs: {meaning}"))
        .collect()
}

/// The missing parts of a sink crate.
fn gaps_of_sink(folder: &str, files: &[File]) -> Vec<String> {
    let mut complaints = gaps_of_roles(folder, files, &ROLES);
    let find = |role: &str| find(folder, files, role);
    let lib = find("lib").map_or("", |file| &file.text);
    for export in ["pub use config::", "pub use sink::"] {
        if !lib.contains(export) {
            complaints.push(format!("{folder}/src/lib.rs has no '{export}'"));
        }
    }
    let encode = find("encode").map_or("", |file| &file.text);
    if ["async ", ".await", "std::fs", "tokio"]
        .iter()
        .any(|word| encode.contains(word))
    {
        complaints.push(format!("{folder}/src/encode.rs is not pure"));
    }
    if !files.iter().any(|file| file.text.contains(SUITE)) {
        complaints.push(format!("no test of {folder} runs the contract suite: {SUITE}…)"));
    }
    complaints
}

#[test]
fn every_sink_crate_has_the_same_files_and_runs_the_contract_suite() {
    let connectors = connectors(files_with("rs"));
    let sinks = || {
        connectors
            .iter()
            .filter(|(folder, _)| !SOURCES.contains(&folder.as_str()))
    };
    assert!(sinks().count() >= 3, "{:?}", connectors.keys());
    assert!(
        connectors.contains_key("examples/spool"),
        "{:?}",
        connectors.keys()
    );
    let complaints: Vec<String> = sinks()
        .flat_map(|(folder, files)| gaps_of_sink(folder, files))
        .collect();
    assert_none(&complaints);
}

#[test]
fn every_source_crate_has_the_same_files() {
    let connectors = connectors(files_with("rs"));
    for folder in SOURCES {
        assert_none(&gaps_of_roles(folder, &connectors[folder], &ROLES_OF_SOURCES));
    }
}

#[test]
fn a_source_crate_that_lacks_a_file_is_found() {
    let file = |name: &str| File::imagined(&format!("connectors/etcd/src/{name}.rs"), "");
    let files = [file("lib"), file("config"), file("source/mod")];
    assert_one(
        &gaps_of_roles("connectors/etcd", &files, &ROLES_OF_SOURCES),
        "has no src/error.rs",
    );
}

#[test]
fn a_sink_crate_that_lacks_a_file_or_the_contract_suite_is_found() {
    let whole = || {
        let file = |name: &str, text: &str| File::imagined(&format!("connectors/bus/src/{name}.rs"), text);
        vec![
            file("lib", "pub use config::BusConfig;\npub use sink::BusSink;\n"),
            file("config", ""),
            file("encode", ""),
            file("sink", ""),
            file("error", ""),
            file("tests/mod", "every_promise(&mut rig).await;"),
        ]
    };
    let without = |path: &str| {
        let mut files = whole();
        files.retain(|file| !file.path.ends_with(path));
        gaps_of_sink("connectors/bus", &files)
    };
    let with = |path: &str, text: &str| {
        let mut files = whole();
        for file in files.iter_mut().filter(|file| file.path.ends_with(path)) {
            file.text = text.into();
        }
        gaps_of_sink("connectors/bus", &files)
    };
    assert_none(&gaps_of_sink("connectors/bus", &whole()));
    assert_one(&without("src/error.rs"), "connectors/bus has no src/error.rs");
    assert_one(
        &with("src/lib.rs", "pub use sink::BusSink;"),
        "has no 'pub use config::'",
    );
    assert_one(&with("src/encode.rs", "async fn send() {}"), "is not pure");
    assert_one(&with("tests/mod.rs", "no_promise()"), "runs the contract suite");
}

#[test]
fn a_crate_belongs_to_the_connector_of_its_folder() {
    let files = [
        "connectors/bus/src/lib.rs",
        "connectors/bus/tests/a.rs",
        "examples/bus/src/lib.rs",
        "src/main.rs",
        "connectors/readme.rs",
    ];
    let found = connectors(files.map(|path| File::imagined(path, "")).into());
    assert_eq!(found["connectors/bus"].len(), 2);
    assert_eq!(found["examples/bus"].len(), 1);
    assert_eq!(found.len(), 2, "{:?}", found.keys());
}
