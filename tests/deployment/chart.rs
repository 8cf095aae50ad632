//! The Helm chart: rendered by Helm, parsed into the types of Kubernetes, and compared with the program.

use std::path::Path;

use bridge_config::{Config, Environment, Format, Listen};
use bridge_servers::{Tool, real_servers};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec, Probe, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::place;
use super::program::Program;

const ALL: &[&str] = &[
    "serviceMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "extraArgs[0]=--log-level",
    "extraArgs[1]=debug",
    "networkPolicy.enabled=true",
    "secretFiles=bridge-secrets",
    "secretEnv.ZK_PASSWORD.secret=bridge",
    "secretEnv.ZK_PASSWORD.key=zk-password",
];
const TOKEN: &str = "t0ken";
/// The newest version whose types are used here; older ones are the same for everything in the chart.
const KUBERNETES: &str = "1.33.0";

/// The rendered objects.
struct Rendered(Vec<Value>);

impl Rendered {
    async fn with(settings: &[&str]) -> Rendered {
        let chart = place("helm/zkbridge");
        let chart = chart.to_str().expect("the checkout's path is text");
        let mut words = vec!["template", "bridge", chart, "--kube-version", KUBERNETES];
        words.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
        let text = Tool::helm().run(&words, b"").await.unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        Rendered(documents)
    }

    fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self
            .0
            .iter()
            .map(|object| object["kind"].as_str().unwrap())
            .collect();
        kinds.sort_unstable();
        kinds
    }

    fn value(&self, kind: &str) -> &Value {
        let found = self.0.iter().find(|object| object["kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {:?}", self.kinds()))
    }

    fn read<T: DeserializeOwned>(&self, kind: &str) -> T {
        serde_json::from_value(self.value(kind).clone()).unwrap()
    }

    fn pod(&self) -> PodSpec {
        let set: StatefulSet = self.read("StatefulSet");
        set.spec.unwrap().template.spec.unwrap()
    }

    fn container(&self) -> Container {
        self.pod().containers.remove(0)
    }

    /// The text of the configuration in the ConfigMap, under the name that the program gets.
    fn configuration(&self) -> String {
        let file = self.container().args.unwrap().pop().unwrap();
        let name = Path::new(&file).file_name().unwrap().to_str().unwrap();
        let map: ConfigMap = self.read("ConfigMap");
        let mut data = map.data.unwrap();
        data.remove(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", data.keys()))
    }

    fn config(&self) -> Config {
        let environment = Environment::of([("ZKBRIDGE_HTTP_TOKEN", TOKEN)]);
        let file = Path::new("zkbridge.yaml");
        let loaded = bridge_config::read(file, &self.configuration(), Format::Yaml, &environment);
        loaded.unwrap_or_else(|refused| panic!("{refused}")).config
    }
}

fn mount(container: &Container, name: &str) -> String {
    let mounts = container.volume_mounts.as_ref().unwrap();
    let found = mounts.iter().find(|mount| mount.name == name);
    found
        .unwrap_or_else(|| panic!("no volume {name}"))
        .mount_path
        .clone()
}

fn page(probe: Option<&Probe>) -> String {
    let get = probe.unwrap().http_get.as_ref().unwrap();
    assert_eq!(get.port, IntOrString::String("http".to_owned()));
    get.path.clone().unwrap()
}

#[tokio::test]
async fn helm_finds_no_fault_with_the_chart() {
    real_servers!("helm judges the chart");
    let chart = place("helm/zkbridge");
    let words = ["lint".as_ref(), "--strict".as_ref(), chart.as_os_str()];
    let said = Tool::helm().run(&words, b"").await.unwrap();
    assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
}

#[tokio::test]
async fn every_rendered_object_is_one_that_kubernetes_knows() {
    real_servers!("the rendered objects are read into their types");
    let least = Rendered::with(&[]).await;
    assert_eq!(least.kinds(), ["ConfigMap", "Service", "StatefulSet"]);
    let whole = Rendered::with(ALL).await;
    assert_eq!(
        whole.kinds(),
        [
            "ConfigMap",
            "NetworkPolicy",
            "PrometheusRule",
            "Service",
            "ServiceMonitor",
            "StatefulSet"
        ]
    );
    for rendered in [&least, &whole] {
        // A field that is not one of the type's would be lost on the way.
        assert_kept::<ConfigMap>(rendered, "ConfigMap");
        assert_kept::<Service>(rendered, "Service");
        assert_kept::<StatefulSet>(rendered, "StatefulSet");
    }
    assert_kept::<NetworkPolicy>(&whole, "NetworkPolicy");
}

fn assert_kept<T: DeserializeOwned + serde::Serialize>(rendered: &Rendered, kind: &str) {
    let written = rendered.value(kind);
    let read = serde_json::to_value(rendered.read::<T>(kind)).unwrap();
    assert_eq!(lost(written, &read, kind), [""; 0]);
}

/// The places in `written` that are not in `read`.
fn lost(written: &Value, read: &Value, place: &str) -> Vec<String> {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => written
            .iter()
            .flat_map(|(key, value)| lost(value, &read[key], &format!("{place}.{key}")))
            .collect(),
        (Value::Array(written), Value::Array(read)) if written.len() == read.len() => written
            .iter()
            .zip(read)
            .flat_map(|(written, read)| lost(written, read, &format!("{place}[]")))
            .collect(),
        _ if written == read => Vec::new(),
        _ => vec![format!("{place}: {written} is read as {read}")],
    }
}

#[tokio::test]
async fn the_objects_find_each_other() {
    real_servers!("selectors, names and ports of the chart");
    let rendered = Rendered::with(ALL).await;
    let set: StatefulSet = rendered.read("StatefulSet");
    let service: Service = rendered.read("Service");
    let (spec, service_spec) = (set.spec.unwrap(), service.spec.unwrap());
    let labels = spec.template.metadata.unwrap().labels.unwrap();
    let container = rendered.container();
    let port = container.ports.as_ref().unwrap()[0].clone();

    let selector = service_spec.selector.unwrap();
    assert!(
        selector
            .iter()
            .all(|(name, value)| labels.get(name) == Some(value))
    );
    assert_eq!(spec.selector.match_labels.unwrap(), selector);
    assert_eq!(spec.service_name, service.metadata.name);
    assert_eq!(port.name.as_deref(), Some("http"));
    let target = &service_spec.ports.unwrap()[0].target_port;
    assert_eq!(*target, Some(IntOrString::String("http".to_owned())));
    let monitor = rendered.value("ServiceMonitor");
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], "http");
    assert_eq!(monitor["spec"]["endpoints"][0]["path"], "/metrics");
    // Two writers would fight for the journal.
    assert_eq!(spec.replicas, Some(1));
}

#[tokio::test]
async fn the_configuration_agrees_with_the_ports_and_volumes_around_it() {
    real_servers!("the configuration of the chart");
    let rendered = Rendered::with(ALL).await;
    let container = rendered.container();
    let config = rendered.config();

    let Listen::At(listen) = config.http.listen else {
        panic!("the listener is off");
    };
    assert!(listen.ip().is_unspecified(), "{listen}");
    let port = container.ports.as_ref().unwrap()[0].container_port;
    assert_eq!(i32::from(listen.port()), port);
    assert_eq!(config.data_dir, Path::new(&mount(&container, "data")));
    let file = container.args.as_ref().unwrap().last().unwrap();
    assert!(Path::new(file).starts_with(mount(&container, "config")), "{file}");
}

#[tokio::test]
async fn a_corrected_configuration_is_rolled_out_over_a_pod_that_never_became_ready() {
    real_servers!("the roll-out of the chart");
    let rendered = Rendered::with(ALL).await;
    let set: StatefulSet = rendered.read("StatefulSet");
    // Kubernetes waits for the first pod without an end otherwise (its issue 67250).
    assert_eq!(
        set.spec.unwrap().pod_management_policy.as_deref(),
        Some("Parallel")
    );
    let service: Service = rendered.read("Service");
    assert_eq!(service.spec.unwrap().publish_not_ready_addresses, Some(true));
    let container = rendered.container();
    let words = container.args.as_ref().unwrap();
    assert_eq!(
        words[..words.len() - 1],
        ["run", "--log-level", "debug", "--config"]
    );
    let startup = container.startup_probe.as_ref();
    assert_eq!(page(startup), page(container.liveness_probe.as_ref()));
    assert!(startup.unwrap().failure_threshold >= Some(60), "{startup:?}");
}

#[tokio::test]
async fn the_rules_of_the_chart_are_those_that_are_tested() {
    real_servers!("the alert rules of the chart");
    let rendered = Rendered::with(ALL).await;
    let tested: Value = serde_saphyr::from_str(&super::text("prometheus/zkbridge.rules.yml")).unwrap();
    assert_eq!(rendered.value("PrometheusRule")["spec"], tested);
}

#[tokio::test]
async fn the_pod_has_no_privilege_that_it_does_not_need() {
    real_servers!("the security context of the chart");
    let rendered = Rendered::with(ALL).await;
    let (pod, container) = (rendered.pod(), rendered.container());
    let around = pod.security_context.unwrap();
    let inside = container.security_context.unwrap();

    assert_eq!(around.run_as_non_root, Some(true));
    assert_ne!(around.run_as_user, Some(0));
    assert_eq!(around.seccomp_profile.unwrap().type_, "RuntimeDefault");
    assert_eq!(inside.read_only_root_filesystem, Some(true));
    assert_eq!(inside.allow_privilege_escalation, Some(false));
    assert_eq!(inside.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    assert_eq!(pod.automount_service_account_token, Some(false));
    // The group of the volume may read the secrets, and no one may write them.
    let volumes = pod.volumes.unwrap();
    let secret = volumes.iter().find_map(|volume| volume.secret.as_ref()).unwrap();
    assert_eq!(secret.default_mode, Some(0o440));
}

#[tokio::test]
async fn the_program_answers_the_probes_of_the_chart_without_a_token_and_metrics_only_with_it() {
    real_servers!("the probes of the chart");
    let rendered = Rendered::with(ALL).await;
    let container = rendered.container();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("zkbridge.yaml");
    // Nobody listens there, so nothing is reached and nothing is ready.
    let configuration = rendered
        .configuration()
        .replace("zookeeper:2181", "127.0.0.1:1")
        .replace("kafka:9092", "127.0.0.1:1");
    std::fs::write(&file, configuration).unwrap();
    let mut words = container.args.clone().unwrap();
    *words.last_mut().unwrap() = file.to_str().unwrap().to_owned();
    let token = container
        .env
        .as_ref()
        .unwrap()
        .iter()
        .find(|variable| variable.name == "ZKBRIDGE_HTTP_TOKEN");
    let token = token.expect("the chart gives the token").name.as_str();

    let program = Program::start(&words, folder.path(), &[(token, TOKEN)]).await;

    let live = page(container.liveness_probe.as_ref());
    let ready = page(container.readiness_probe.as_ref());
    assert_eq!(program.code(&live, "").await, 200);
    assert_eq!(program.code(&ready, "").await, 503);
    let metrics = rendered.value("ServiceMonitor")["spec"]["endpoints"][0]["path"].clone();
    let metrics = metrics.as_str().unwrap();
    assert_eq!(program.code(metrics, "").await, 401);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(program.code(metrics, &bearer).await, 200);
}
