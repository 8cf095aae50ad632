//! The services of `compose.yaml`.

use std::path::Path;
use std::process::Command;

use bridge_config::{Environment, Format};
use bridge_servers::{Tool, real_servers};
use serde_json::Value;

use super::{place, text};

fn services() -> Value {
    serde_saphyr::from_str(&text("compose.yaml")).unwrap()
}

/// The mounts from the checkout: path here, path in the container.
fn mounted(services: &Value) -> Vec<(String, String)> {
    let services = services["services"].as_object().unwrap().values();
    let volumes = services
        .filter_map(|service| service["volumes"].as_array())
        .flatten();
    let parted = volumes.filter_map(|volume| volume.as_str()?.split_once(':'));
    let own = parted.filter(|(from, _)| from.starts_with('.'));
    own.map(|(from, to)| (from.to_owned(), to.trim_end_matches(":ro").to_owned()))
        .collect()
}

#[test]
fn all_that_is_mounted_is_in_the_project() {
    let mounted = mounted(&services());
    assert!(mounted.len() > 4, "{mounted:?}");
    for (from, _) in mounted {
        assert!(place(&from).exists(), "{from}");
    }
}

#[test]
fn every_image_has_an_exact_version_and_every_server_a_check_and_a_volume_that_exists() {
    let services = services();
    let volumes = services["volumes"].as_object().unwrap();
    for (name, service) in services["services"].as_object().unwrap() {
        let image = service["image"].as_str().unwrap();
        if name != "zkbridge" {
            let version = image.rsplit(':').next().unwrap();
            assert!(version.matches('.').count() >= 2, "{name}: {image}");
        }
        if name == "addresses" {
            continue;
        }
        // The image of the bridge has a check of its own.
        assert!(
            name == "zkbridge" || service["healthcheck"]["test"].is_array(),
            "{name} has no check"
        );
        let own = service["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str);
        let kept: Vec<&str> = own.filter(|volume| !volume.starts_with('.')).collect();
        assert!(!kept.is_empty(), "{name} keeps nothing");
        for volume in kept {
            assert!(
                volumes.contains_key(volume.split(':').next().unwrap()),
                "{name}: {volume}"
            );
        }
    }
}

#[test]
fn the_addresses_that_are_printed_are_those_of_the_ports() {
    let services = services();
    let services = services["services"].as_object().unwrap();
    let printed = services["addresses"]["entrypoint"][1].as_str().unwrap();
    for name in ["grafana", "prometheus", "zkbridge"] {
        let port = services[name]["ports"][0].as_str().unwrap();
        let (address, _) = port.rsplit_once(':').unwrap();
        assert!(
            printed.contains(&format!("http://{address}")),
            "{name}: {printed}"
        );
    }
}

#[test]
fn every_port_is_on_loopback() {
    for (name, service) in services()["services"].as_object().unwrap() {
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().unwrap();
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

#[test]
fn the_configuration_of_the_bridge_is_one_that_it_takes() {
    let services = services();
    let variables = services["services"]["zkbridge"]["environment"]
        .as_object()
        .unwrap();
    let variables = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    let environment = Environment::of(variables);

    let file = Path::new("zkbridge.toml");
    let loaded = bridge_config::read(file, &text("compose/zkbridge.toml"), Format::Toml, &environment);

    let loaded = loaded.unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
    let journal = "journal:/var/lib/zkbridge";
    let volumes = services["services"]["zkbridge"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume == journal), "{volumes:?}");
    assert_eq!(loaded.config.data_dir, Path::new("/var/lib/zkbridge"));
}

#[tokio::test]
async fn prometheus_takes_its_configuration() {
    real_servers!("promtool judges the configuration of Prometheus");
    // As they are mounted: side by side.
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("prometheus.yml", &text("compose/prometheus.yml"));
    write("zkbridge.rules.yml", &text("prometheus/zkbridge.rules.yml"));
    let file = folder.path().join("prometheus.yml");

    let checked = Tool::promtool()
        .run(&["check".as_ref(), "config".as_ref(), file.as_os_str()], b"")
        .await;

    let said = checked.unwrap();
    assert!(said.contains("1 rule files found"), "{said}");
}

#[test]
fn compose_takes_the_file_where_it_is_installed() {
    let is_there = Command::new("docker").args(["compose", "version"]).output();
    if !is_there.is_ok_and(|asked| asked.status.success()) {
        println!("docker compose is not installed: the file is only read as YAML");
        assert!(services()["services"]["zkbridge"].is_object());
        return;
    }
    let file = place("compose.yaml");
    let config = Command::new("docker")
        .args(["compose", "--file"])
        .arg(file)
        .args(["config", "--quiet"])
        .output()
        .unwrap();
    assert!(
        config.status.success(),
        "{}",
        String::from_utf8_lossy(&config.stderr)
    );
}
