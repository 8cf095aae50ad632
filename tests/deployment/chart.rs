//! The Helm chart: rendered by Helm, parsed into the types of Kubernetes, and compared with the program.

use std::path::Path;

use bridge_config::{Config, Environment, Format, Listen};
use bridge_servers::{Python, Tool, real_servers};
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
    "dashboard.enabled=true",
    "extraEnv[0].name=TZ",
    "extraEnv[0].value=Europe/Berlin",
    "extraVolumes[0].name=authorities",
    "extraVolumes[0].configMap.name=authorities",
    "extraVolumeMounts[0].name=authorities",
    "extraVolumeMounts[0].mountPath=/etc/authorities",
    "check.extraArgs[0]=--connect",
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

/// The oldest version that the chart accepts, and the newest with published schemas.
const JUDGED_BY: [&str; 2] = ["1.27", "1.37"];
/// Prints each fault of the objects in its input, but for kinds that are not of Kubernetes itself.
const JUDGE: &str = r#"
import json, sys
from kubernetes_validate import ValidationError, validate
given = json.load(sys.stdin)
for version in given["versions"]:
    for thing in given["objects"]:
        if "monitoring.coreos.com" in thing["apiVersion"]:
            continue
        try:
            validate(thing, version, strict=True)
        except ValidationError as fault:
            print(version, thing["kind"], list(fault.path), fault.message)
"#;

/// The rendered objects.
struct Rendered(Vec<Value>);

pub(super) async fn rendered_text(settings: &[&str]) -> bridge_servers::Result<String> {
    let chart = place("helm/zkbridge");
    let chart = chart.to_str().expect("the checkout's path is text");
    let mut words = vec!["template", "bridge", chart, "--kube-version", KUBERNETES];
    words.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
    Tool::helm().run(&words, b"").await
}

impl Rendered {
    async fn with(settings: &[&str]) -> Rendered {
        let text = rendered_text(settings).await.unwrap();
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

    /// The text of a file in one of the ConfigMaps.
    fn mapped(&self, name: &str) -> String {
        let maps = self.0.iter().filter(|object| object["kind"] == "ConfigMap");
        let maps = maps.map(|map| serde_json::from_value::<ConfigMap>(map.clone()).unwrap());
        let found = maps.filter_map(|map| map.data?.remove(name)).next();
        found.unwrap_or_else(|| panic!("no ConfigMap has {name}"))
    }

    /// The file that each command in the pod reads, as the environment names it.
    fn configuration_file(&self) -> String {
        let environment = self.container().env.unwrap();
        let named = environment
            .into_iter()
            .find(|variable| variable.name == "ZKBRIDGE_CONFIG");
        named.and_then(|variable| variable.value).unwrap()
    }

    /// The text of the configuration in the ConfigMap, under the name that the program gets.
    fn configuration(&self) -> String {
        let folder = mount(&self.container(), "config");
        let file = self.configuration_file();
        let key = file.strip_prefix(&format!("{folder}/"));
        self.mapped(key.unwrap_or_else(|| panic!("{file} is not in {folder}")))
    }

    /// The annotation that makes a new pod of a changed configuration.
    fn checksum(&self) -> String {
        let set: StatefulSet = self.read("StatefulSet");
        let annotations = set.spec.unwrap().template.metadata.unwrap().annotations;
        annotations.unwrap()["checksum/config"].clone()
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

async fn faults_by_the_schemas(objects: &[Value]) -> String {
    let given = serde_json::json!({ "versions": JUDGED_BY, "objects": objects });
    let given = given.to_string();
    Python::KUBERNETES.run(JUDGE, given.as_bytes()).await.unwrap()
}

#[tokio::test]
async fn the_published_schemas_of_kubernetes_find_no_fault_with_any_object() {
    real_servers!("the schemas are a package of Python");
    let mut objects = Rendered::with(&[]).await.0;
    objects.extend(Rendered::with(ALL).await.0);
    assert_eq!(faults_by_the_schemas(&objects).await, "");

    let set = objects.iter_mut().find(|object| object["kind"] == "StatefulSet");
    set.unwrap()["spec"]["podManagement"] = "Parallel".into();
    let faults = faults_by_the_schemas(&objects).await;
    assert_eq!(faults.lines().count(), JUDGED_BY.len(), "{faults}");
    assert!(faults.contains("'podManagement' was unexpected"), "{faults}");
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
    let file = rendered.configuration_file();
    assert!(
        Path::new(&file).starts_with(mount(&container, "config")),
        "{file}"
    );
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
    assert_eq!(*words, ["run", "--reload-on-change", "--log-level", "debug"]);
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
async fn the_dashboard_of_the_chart_is_the_one_of_the_project() {
    real_servers!("the dashboard of the chart");
    let rendered = Rendered::with(ALL).await;
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(
        parsed(&rendered.mapped("zkbridge.json")),
        parsed(&super::text("grafana/zkbridge.json"))
    );
}

#[tokio::test]
async fn the_configuration_is_checked_with_the_environment_and_the_files_of_the_bridge_before_it_starts() {
    real_servers!("the first container of the chart");
    let rendered = Rendered::with(ALL).await;
    let checking = rendered.pod().init_containers.unwrap().remove(0);
    let running = rendered.container();
    assert_eq!(checking.args.unwrap(), ["check", "--connect"]);
    assert_eq!(checking.env, running.env);
    assert_eq!(checking.volume_mounts, running.volume_mounts);
    assert_eq!(checking.security_context, running.security_context);
    let names: Vec<String> = running
        .env
        .unwrap()
        .into_iter()
        .map(|variable| variable.name)
        .collect();
    assert_eq!(
        names,
        ["ZKBRIDGE_CONFIG", "ZKBRIDGE_HTTP_TOKEN", "ZK_PASSWORD", "TZ"]
    );
    assert_eq!(mount(&rendered.container(), "authorities"), "/etc/authorities");
}

#[tokio::test]
async fn each_command_in_the_pod_reads_the_configuration_without_being_given_its_name() {
    real_servers!("the configuration of the chart's commands");
    let rendered = Rendered::with(ALL).await;
    assert!(
        rendered.configuration().contains("data_dir"),
        "{}",
        rendered.configuration()
    );
    let words = rendered.container().args.unwrap();
    assert!(!words.iter().any(|word| word == "--config"), "{words:?}");
}

#[tokio::test]
async fn changed_sinks_are_taken_over_by_the_running_pod_and_a_changed_log_starts_it_anew() {
    real_servers!("the reload of the chart");
    let sink = |brokers| format!("config.sink[0].type=kafka,config.sink[0].brokers={brokers}");
    let (one, other) = (sink("a:1"), sink("b:1"));
    let of = |settings: Vec<&str>| {
        let settings: Vec<String> = settings.into_iter().map(str::to_owned).collect();
        async move {
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            Rendered::with(&settings).await.checksum()
        }
    };
    assert_eq!(of(vec![&one]).await, of(vec![&other]).await);
    assert_ne!(
        of(vec![&one]).await,
        of(vec![&one, "config.log.level=debug"]).await
    );
    let without = "reload.enabled=false";
    assert_ne!(of(vec![&one, without]).await, of(vec![&other, without]).await);
    let rendered = Rendered::with(&[without]).await;
    assert!(
        !rendered
            .container()
            .args
            .unwrap()
            .contains(&"--reload-on-change".to_owned())
    );
}

#[tokio::test]
async fn the_journals_have_room_on_the_volume_unless_the_values_say_how_much() {
    real_servers!("the size of the journals of the chart");
    let sizes = |rendered: &Rendered| -> Vec<u64> {
        let sources = rendered.config().sources;
        sources
            .iter()
            .map(|source| source.journal.max_size.0 >> 20)
            .collect()
    };
    let check = async |settings: &[&str], expected: &[u64]| {
        assert_eq!(sizes(&Rendered::with(settings).await), expected, "{settings:?}");
    };
    check(&[], &[14_336]).await;
    check(&["persistence.size=1Ti"], &[734_003]).await;
    let two = "config.source[0].connect=a:1,config.source[0].name=a,config.source[1].connect=b:1,\
               config.source[1].name=b";
    check(&[two, "persistence.size=100Gi"], &[35_840, 35_840]).await;
    let own = "config.source[1].journal.max_size=1 GiB";
    check(&[two, own, "persistence.size=100Gi"], &[35_840, 1024]).await;
    // A unit that the chart does not read: the default of the program.
    check(&["persistence.size=500G"], &[10_240]).await;
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
    let words = container.args.clone().unwrap();
    let token = container
        .env
        .as_ref()
        .unwrap()
        .iter()
        .find(|variable| variable.name == "ZKBRIDGE_HTTP_TOKEN");
    let token = token.expect("the chart gives the token").name.as_str();

    let variables = [(token, TOKEN), ("ZKBRIDGE_CONFIG", file.to_str().unwrap())];
    let program = Program::start(&words, folder.path(), &variables).await;

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
