//! The alert rules and the dashboard of Grafana.

use std::collections::BTreeSet;

use bridge_core::metrics::{self, MetricKind};
use bridge_servers::{Tool, real_servers};
use serde_json::Value;

use super::{place, text};

const RULES: &str = "prometheus/zkbridge.rules.yml";
const RULES_TEST: &str = "prometheus/zkbridge.rules.test.yml";
const DASHBOARD: &str = "grafana/zkbridge.json";

/// The names of metrics in a text, as the bridge exports them.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_inside = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = text.split(|char| !is_inside(char));
    let named = words.filter(|word| word.starts_with("zkbridge_"));
    named.map(|word| base(word).to_owned()).collect()
}

/// A histogram is asked for by its parts.
fn base(name: &str) -> &str {
    let is_histogram = |base: &&str| {
        metrics::ALL
            .iter()
            .any(|(name, kind, ..)| name == base && *kind == MetricKind::Histogram)
    };
    let parts = ["_bucket", "_sum", "_count"];
    let base = parts.iter().find_map(|part| name.strip_suffix(part));
    base.filter(is_histogram).unwrap_or(name)
}

fn unknown(text: &str) -> Vec<String> {
    let is_known = |name: &str| metrics::ALL.iter().any(|(known, ..)| *known == name);
    let named = metrics_in(text);
    assert!(!named.is_empty(), "no metric is named");
    named.into_iter().filter(|name| !is_known(name)).collect()
}

/// Every expression of the dashboard, its variables replaced.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let plain = |expression: &str| {
        let replaced = expression.replace("$__rate_interval", "5m");
        replaced.replace("$source", ".*").replace("$sink", ".*")
    };
    targets
        .map(|target| plain(target["expr"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn prometheus_takes_the_rules_and_they_fire_when_they_should() {
    real_servers!("promtool judges the alert rules");
    let promtool = Tool::promtool();
    let rules = place(RULES);
    promtool
        .run(&["check".as_ref(), "rules".as_ref(), rules.as_os_str()], b"")
        .await
        .unwrap();
    let tests = place(RULES_TEST);
    promtool
        .run(&["test".as_ref(), "rules".as_ref(), tests.as_os_str()], b"")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_alert_that_does_not_fire_when_it_should_is_found() {
    real_servers!("promtool finds a rule that is wrong");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "zkbridge.rules.yml",
        &text(RULES).replace("zkbridge_sink_halted == 1", "zkbridge_sink_halted == 2"),
    );
    write("test.yml", &text(RULES_TEST));
    let tests = folder.path().join("test.yml");

    let verdict = Tool::promtool()
        .run(&["test".as_ref(), "rules".as_ref(), tests.as_os_str()], b"")
        .await;

    let error = verdict.unwrap_err().to_string();
    assert!(error.contains("ZkbridgeSinkHalted"), "{error}");
}

#[test]
fn every_alert_is_tested_and_explained_to_operators() {
    let rules = text(RULES);
    let tests = text(RULES_TEST);
    let guide = std::fs::read_to_string(place("../docs/operations.md")).unwrap();
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 8, "{alerts:?}");
    for alert in alerts {
        assert!(
            tests.contains(&format!("alertname: {alert}\n")),
            "{alert} is not tested"
        );
        assert!(guide.contains(&format!("`{alert}`")), "{alert} is not explained");
    }
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_there_are() {
    for file in [RULES, RULES_TEST, DASHBOARD] {
        assert_eq!(unknown(&text(file)), [""; 0], "{file}");
    }
    let wrong = "rate(zkbridge_sink_lag_records_bucket[5m]) + zkbridge_sink_deliver_duration_seconds_bucket";
    assert_eq!(unknown(wrong), ["zkbridge_sink_lag_records_bucket"]);
}

#[tokio::test]
async fn prometheus_understands_every_expression_of_the_dashboard() {
    real_servers!("promtool judges the dashboard");
    let expressions = expressions();
    assert!(expressions.len() > 20, "{} expressions", expressions.len());
    let rules: Vec<Value> = expressions
        .iter()
        .enumerate()
        .map(|(at, expression)| serde_json::json!({"record": format!("panel:{at}"), "expr": expression}))
        .collect();
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dashboard.yml");
    // JSON is valid YAML.
    std::fs::write(&file, rules.to_string()).unwrap();

    let checked = Tool::promtool()
        .run(&["check".as_ref(), "rules".as_ref(), file.as_os_str()], b"")
        .await;

    let said = checked.unwrap();
    assert!(
        said.contains(&format!("{} rules found", expressions.len())),
        "{said}"
    );
}
