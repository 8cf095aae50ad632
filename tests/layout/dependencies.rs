//! Dependencies point one way: the command uses the product's crates, the connectors and the configuration use the core,
//! and the core uses none of the workspace. No part of the product uses a crate that exists for tests.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::project::{File, ROOT, assert_none, assert_one, files_with};

/// The layer of a crate, by its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// `bridge-core`
    Core,
    /// `connectors/*`
    Connector,
    /// `config`
    Config,
    /// `query`: answers from journals
    Query,
    /// `services`: conventions of registries, elections and locks
    Services,
    /// `subprocess`: commands that sinks run
    Subprocess,
    /// `transactions`: ZooKeeper's own formats
    Transactions,
    /// `examples/*`: crates that documents show
    Example,
    /// `tests/servers`: starts real servers
    Servers,
    /// `tests/judge`: compares ZooKeeper's transaction log with the topic
    Judge,
    /// `tests/chaos`: random faults on real servers
    Chaos,
    /// `tests/demo`: a scenario on real servers
    Demo,
    /// `tests/fuzz`: mutated input
    Fuzz,
    /// `tests/simulator`: the core in virtual time
    Simulator,
    /// `benches`: measures the bridge beside its baselines
    Bench,
    /// The package of the command.
    Command,
}

impl Layer {
    fn of(folder: &Path) -> Option<Layer> {
        let text = folder.to_str()?;
        match text {
            "" => Some(Layer::Command),
            "bridge-core" => Some(Layer::Core),
            "config" => Some(Layer::Config),
            "query" => Some(Layer::Query),
            "services" => Some(Layer::Services),
            "subprocess" => Some(Layer::Subprocess),
            "transactions" => Some(Layer::Transactions),
            "benches" => Some(Layer::Bench),
            _ if text.starts_with("connectors/") => Some(Layer::Connector),
            _ if text.starts_with("examples/") => Some(Layer::Example),
            "tests/servers" => Some(Layer::Servers),
            "tests/judge" => Some(Layer::Judge),
            "tests/chaos" => Some(Layer::Chaos),
            "tests/demo" => Some(Layer::Demo),
            "tests/fuzz" => Some(Layer::Fuzz),
            "tests/simulator" => Some(Layer::Simulator),
            _ => None,
        }
    }

    /// Whether a crate of this layer may depend on one of the other layer.
    fn may_use(self, other: Layer, is_for_tests: bool) -> bool {
        match (self, other) {
            (_, Layer::Command) | (Layer::Core | Layer::Servers | Layer::Judge, _) => false,
            (Layer::Fuzz, other) => {
                is_for_tests
                    && matches!(
                        other,
                        Layer::Core
                            | Layer::Connector
                            | Layer::Config
                            | Layer::Query
                            | Layer::Services
                            | Layer::Transactions
                    )
            }
            // A crate that judges or measures the product from outside must not share its types.
            (Layer::Bench, other) => other == Layer::Servers,
            (Layer::Chaos, other) => matches!(other, Layer::Servers | Layer::Judge),
            // The demo reads the topic as a consumer in Rust does, with the product's record.
            (Layer::Demo, other) => matches!(other, Layer::Core | Layer::Connector | Layer::Servers),
            (
                Layer::Simulator | Layer::Example | Layer::Query | Layer::Services | Layer::Subprocess,
                other,
            ) => other == Layer::Core,
            (Layer::Connector, Layer::Servers) => is_for_tests,
            // Its integration tests use its own feature for tests.
            (Layer::Transactions, other) => {
                is_for_tests && matches!(other, Layer::Servers | Layer::Transactions)
            }
            (Layer::Connector, other) => {
                matches!(other, Layer::Core | Layer::Subprocess | Layer::Transactions)
            }
            (Layer::Config, other) => matches!(other, Layer::Core | Layer::Connector | Layer::Services),
            // Its tests judge the program from outside, on real servers.
            (Layer::Command, Layer::Servers | Layer::Judge | Layer::Chaos) => is_for_tests,
            (Layer::Command, other) => {
                matches!(
                    other,
                    Layer::Core
                        | Layer::Connector
                        | Layer::Config
                        | Layer::Query
                        | Layer::Services
                        | Layer::Transactions
                )
            }
        }
    }
}

/// The output of `cargo metadata` for the workspace, without a network and without resolving.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(ROOT)
        .output()
        .expect("cargo runs this test, so it can be run");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed: {words}");
    serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON")
}

fn layer_of(folder: &str, root: &str) -> Result<Layer, String> {
    let inside = Path::new(folder)
        .strip_prefix(root)
        .map_err(|_| format!("{folder} is outside"))?;
    Layer::of(inside).ok_or_else(|| format!("{folder} is in no folder of a layer"))
}

/// Every dependency inside the workspace that its layer must not have.
fn wrong_directions(metadata: &Value) -> Vec<String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let root = text(metadata, "workspace_root");
    let mut complaints = Vec::new();
    for package in list(metadata, "packages") {
        let name = text(&package, "name");
        let folder = text(&package, "manifest_path").replace("/Cargo.toml", "");
        let layer = match layer_of(&folder, &root) {
            Ok(layer) => layer,
            Err(reason) => {
                complaints.push(format!("{name}: {reason}"));
                continue;
            }
        };
        for dependency in list(&package, "dependencies") {
            let Some(path) = dependency["path"].as_str() else {
                continue;
            };
            let is_for_tests = dependency["kind"] == "dev";
            let allowed = layer_of(path, &root).map(|other| layer.may_use(other, is_for_tests));
            if allowed != Ok(true) {
                complaints.push(format!(
                    "{name} ({layer:?}) must not depend on {}",
                    text(&dependency, "name")
                ));
            }
        }
    }
    complaints
}

/// Lines of the core that open a socket or name a library that does.
fn sockets(files: &[File]) -> Vec<String> {
    const WORDS: [&str; 7] = [
        "std::net",
        "tokio::net",
        "TcpStream",
        "UnixStream",
        "rdkafka",
        "zookeeper_client",
        "zookeeper-client",
    ];
    let lines = |file: &File| -> Vec<String> {
        let opens = |line: &&str| WORDS.iter().any(|word| line.contains(word));
        let shown = |line: &str| {
            format!(
                "{}: the core opens no socket: {}",
                file.path.display(),
                line.trim()
            )
        };
        file.text.lines().filter(opens).map(shown).collect()
    };
    files.iter().flat_map(lines).collect()
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    assert!(
        metadata["packages"].as_array().map_or(0, Vec::len) >= 8,
        "{metadata}"
    );
    assert_none(&wrong_directions(&metadata));
}

#[test]
fn a_dependency_that_points_the_wrong_way_is_found() {
    let check = |from: &str, to: &str, kind: Value, expected: Option<&str>| {
        let folder = |name: &str| {
            if name.is_empty() {
                "/p".to_owned()
            } else {
                format!("/p/{name}")
            }
        };
        let metadata = serde_json::json!({"workspace_root": "/p", "packages": [{
            "name": "one",
            "manifest_path": format!("{}/Cargo.toml", folder(from)),
            "dependencies": [{"name": "other", "path": folder(to), "kind": kind}, {"name": "serde", "kind": null}],
        }]});
        match expected {
            Some(expected) => assert_one(&wrong_directions(&metadata), expected),
            None => assert_none(&wrong_directions(&metadata)),
        }
    };
    let dev = || Value::from("dev");
    check("connectors/kafka", "bridge-core", Value::Null, None);
    check("connectors/kafka", "tests/servers", dev(), None);
    check("config", "connectors/file", Value::Null, None);
    check("examples/spool", "bridge-core", Value::Null, None);
    check("examples/spool", "config", dev(), Some("must not depend"));
    check("", "examples/spool", dev(), Some("must not depend"));
    check("", "config", Value::Null, None);
    check("query", "bridge-core", Value::Null, None);
    check("query", "config", Value::Null, Some("must not depend"));
    check("connectors/kafka", "query", Value::Null, Some("must not depend"));
    check("connectors/zookeeper", "transactions", Value::Null, None);
    check("connectors/exec", "subprocess", Value::Null, None);
    check("config", "subprocess", Value::Null, Some("must not depend"));
    check(
        "transactions",
        "bridge-core",
        Value::Null,
        Some("must not depend"),
    );
    check(
        "bridge-core",
        "transactions",
        Value::Null,
        Some("must not depend"),
    );
    check("transactions", "tests/servers", dev(), None);
    check(
        "transactions",
        "tests/servers",
        Value::Null,
        Some("must not depend"),
    );
    check("tests/judge", "transactions", dev(), Some("must not depend"));
    check("", "transactions", Value::Null, None);
    check("", "query", Value::Null, None);
    for other in ["tests/servers", "tests/judge", "tests/chaos"] {
        check("", other, dev(), None);
        check(
            "",
            other,
            Value::Null,
            Some("one (Command) must not depend on other"),
        );
    }
    for other in ["tests/simulator", "tests/fuzz", "tests/demo", "benches"] {
        check("", other, dev(), Some("must not depend"));
        check("", other, Value::Null, Some("must not depend"));
    }
    check("tests/demo", "connectors/console", Value::Null, None);
    check("tests/demo", "config", Value::Null, Some("must not depend"));
    check("query", "connectors/file", Value::Null, Some("must not depend"));
    check(
        "connectors/kafka",
        "tests/servers",
        Value::Null,
        Some("one (Connector) must not depend on other"),
    );
    check(
        "connectors/kafka",
        "connectors/file",
        dev(),
        Some("must not depend"),
    );
    check("connectors/kafka", "config", Value::Null, Some("must not depend"));
    check(
        "bridge-core",
        "connectors/kafka",
        dev(),
        Some("one (Core) must not depend"),
    );
    check("bridge-core", "tests/servers", dev(), Some("must not depend"));
    check(
        "tests/servers",
        "bridge-core",
        Value::Null,
        Some("must not depend"),
    );
    check("tests/judge", "bridge-core", dev(), Some("must not depend"));
    check("tests/chaos", "bridge-core", dev(), Some("must not depend"));
    check("tests/chaos", "tests/judge", Value::Null, None);
    check("config", "", Value::Null, Some("must not depend"));
    check(
        "tools/other",
        "bridge-core",
        Value::Null,
        Some("in no folder of a layer"),
    );
}

#[test]
fn the_core_opens_no_socket_and_names_no_client_library() {
    let mut files = files_with("rs");
    files.retain(|file| file.path.starts_with("bridge-core/src"));
    files.extend(
        files_with("toml")
            .into_iter()
            .filter(|file| file.path.starts_with("bridge-core")),
    );
    assert_none(&sockets(&files));
}

#[test]
fn a_socket_in_the_core_is_found() {
    let file = File::imagined(
        "bridge-core/src/peek.rs",
        "use tokio::sync::mpsc;\nuse tokio::net::lookup_host;\n",
    );
    assert_one(
        &sockets(&[file]),
        "peek.rs: the core opens no socket: use tokio::net::lookup_host;",
    );
}
