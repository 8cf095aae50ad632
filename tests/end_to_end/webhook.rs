//! Webhooks: the real binary between a real ZooKeeper and a service that is called for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bridge_core::journal::Reader;
use bridge_servers::{eventually, real_servers};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, source};
use crate::writer::Writer;

/// A request to the service, and its answer.
#[derive(Clone)]
struct Call {
    id: String,
    is_signed: bool,
    event: Value,
    status: u16,
}

#[derive(Default)]
struct PagerService {
    calls: Mutex<Vec<Call>>,
    /// The answers for a path, and for all others (`""`).
    answers: Mutex<BTreeMap<String, u16>>,
}

/// A service with configured answers.
pub struct Service {
    pub url: String,
    pager: Arc<PagerService>,
    server: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(pager): State<Arc<PagerService>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let status = {
        let answers = pager.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let path = event["data"]["path"].as_str().unwrap_or_default();
        *answers.get(path).or(answers.get("")).unwrap_or(&204)
    };
    pager
        .calls
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Call {
            id: header("webhook-id").to_owned(),
            is_signed: header("webhook-signature").starts_with("v1,"),
            event,
            status,
        });
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl Service {
    pub async fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let pager = Arc::new(PagerService::default());
        let router = Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&pager));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Service { url, pager, server }
    }

    /// From now on this path (`""`: all others) is answered so.
    pub fn answer(&self, path: &str, status: u16) {
        self.pager.answers.lock().unwrap().insert(path.to_owned(), status);
    }

    fn calls(&self) -> Vec<Call> {
        self.pager.calls.lock().unwrap().clone()
    }

    /// The accepted ops of a path, each once, in order.
    fn story(&self, path: &str) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let calls = self.calls().into_iter().filter(|call| call.status < 300);
        let of_path = calls.filter(|call| call.event["data"]["path"] == path);
        let fresh = of_path.filter(|call| seen.insert(call.id.clone()));
        fresh
            .map(|call| call.event["data"]["op"].as_str().unwrap_or("?").to_owned())
            .collect()
    }

    /// The texts of the accepted messages of a chat, each once, in order.
    pub fn texts(&self) -> Vec<String> {
        let calls = self.calls().into_iter().filter(|call| call.status < 300);
        let mut texts: Vec<String> = Vec::new();
        for call in calls {
            let text = call.event["text"].as_str().unwrap_or("?").to_owned();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }

    pub async fn has_ops(&self, bridge: &Bridge, path: &str, story: &[&str]) {
        let found = eventually(format!("{story:?} of {path}"), BOUND, || async {
            self.story(path) == story
        });
        if let Err(error) = found.await {
            let log = bridge.log().join("\n");
            panic!(
                "{error}; accepted: {:?}; {:#}\n{log}",
                self.story(path),
                bridge.status().await
            );
        }
    }

    /// Every call, taken or not, was signed, had the id of its record, and the same body under the same id.
    fn assert_signed_and_stable(&self) {
        let mut bodies: BTreeMap<String, Value> = BTreeMap::new();
        for call in self.calls() {
            assert!(call.is_signed, "{}", call.event);
            assert_eq!(call.event["data"]["id"], Value::from(call.id.as_str()));
            let first = bodies.entry(call.id).or_insert_with(|| call.event.clone());
            assert_eq!(*first, call.event);
        }
    }
}

fn configured(name: &str, place: &Place, service: &Service) -> Bridge {
    let sink = format!(
        "[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\nallow_private_addresses = true\n\
         secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\nreject_after = 2\n\
         retry = {{ first = \"50ms\", max = \"300ms\" }}\n",
        service.url
    );
    Bridge::configured(&(source("main", place, &[format!("/{name}")]) + &sink))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_fails_holds_only_itself_also_over_a_kill() {
    real_servers!("a webhook that fails for one path");
    let place = Place::shared().await;
    let service = Service::start().await;
    let writer = Writer::connect(&place.direct).await;
    writer.create("/hook", "root").await;
    let mut bridge = configured("hook", &place, &service);
    bridge.start_ready().await;
    service.answer("/hook/bad", 500);

    writer.create("/hook/bad", "1").await;
    writer.set("/hook/bad", "2").await;
    writer.create("/hook/good", "1").await;
    service.has_ops(&bridge, "/hook/good", &["create"]).await;
    bridge.kill().await;
    bridge.start_ready().await;
    writer.delete("/hook/bad").await;
    writer.set("/hook/good", "2").await;
    service
        .has_ops(&bridge, "/hook/good", &["create", "update"])
        .await;
    assert_eq!(service.story("/hook/bad"), [""; 0]);

    service.answer("/hook/bad", 200);
    service
        .has_ops(&bridge, "/hook/bad", &["create", "update", "delete"])
        .await;
    bridge.terminate().await;
    service.assert_signed_and_stable();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_refused_becomes_a_dead_letter_while_others_flow() {
    real_servers!("a webhook that refuses a record");
    let place = Place::shared().await;
    let service = Service::start().await;
    let writer = Writer::connect(&place.direct).await;
    writer.create("/refused-by-hook", "root").await;
    let mut bridge = configured("refused-by-hook", &place, &service);
    bridge.start_ready().await;
    service.answer("/refused-by-hook/bad", 422);

    writer.create("/refused-by-hook/bad", "1").await;
    writer.create("/refused-by-hook/good", "1").await;
    service
        .has_ops(&bridge, "/refused-by-hook/good", &["create"])
        .await;
    bridge
        .until("a dead letter", |status| status["sinks"][0]["rejected"] == 1)
        .await;
    let tries = service.calls().iter().filter(|call| call.status == 422).count();
    assert_eq!(tries, 2, "reject_after");
    bridge.terminate().await;
    service.assert_signed_and_stable();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_an_error_in_the_log_and_the_headline_of_the_status_with_every_request_counted() {
    real_servers!("a dead letter that an operator sees");
    let place = Place::shared().await;
    let service = Service::start().await;
    let writer = Writer::connect(&place.direct).await;
    writer.create("/letter-seen", "root").await;
    let mut bridge = configured("letter-seen", &place, &service);
    bridge.start_ready().await;
    let printed = |bridge: &Bridge, args: &[&str]| {
        let output = bridge.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?} {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(!printed(&bridge, &["status"]).contains("attention"));
    service.has_ops(&bridge, "/letter-seen", &["snapshot"]).await;
    service.answer("/letter-seen/bad", 404);

    writer.create("/letter-seen/bad", "1").await;
    writer.create("/letter-seen/good", "1").await;
    bridge
        .until("the dead letter", |status| {
            status["sinks"][0]["dead_letters"] == 1
        })
        .await;
    eventually("the line in the log", BOUND, || async {
        bridge.has_logged(&[
            "\"ERROR\"",
            "dead letters now",
            "/letter-seen/bad",
            "404 Not Found",
            "zkbridge dlq list --sink hook",
        ])
    })
    .await
    .unwrap();

    let status = bridge.status().await;
    assert_eq!(
        status["attention"],
        serde_json::json!(["sink hook from main: 1 dead letter, see 'zkbridge dlq list --sink hook'"])
    );
    let text = printed(&bridge, &["status"]);
    let headline = text.lines().next().unwrap_or_default();
    assert!(
        headline.ends_with("running, ready; 1 sink needs attention"),
        "{text}"
    );
    // The journal has the dead letter with the next stored progress.
    let list = || serde_json::from_str::<Value>(&printed(&bridge, &["dlq", "list", "--json"])).unwrap();
    let is_stored = || std::future::ready(list()["dead_letters"] != serde_json::json!([]));
    eventually("the dead letter to be stored", BOUND, is_stored)
        .await
        .unwrap();
    let listed = list();
    let requests = service.calls().iter().filter(|call| call.status == 404).count();
    assert_eq!(listed["dead_letters"][0]["attempts"], requests, "{listed:#}");
    bridge.terminate().await;
    let text = printed(&bridge, &["status"]);
    assert!(text.contains("1 sink needs attention"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_gone_is_left_alone_over_restarts_until_the_sink_is_enabled() {
    real_servers!("a webhook that is gone");
    let place = Place::shared().await;
    let service = Service::start().await;
    let writer = Writer::connect(&place.direct).await;
    writer.create("/gone", "root").await;
    let mut bridge = configured("gone", &place, &service);
    bridge.start_ready().await;
    service.has_ops(&bridge, "/gone", &["snapshot"]).await;
    service.answer("", 410);

    writer.create("/gone/a", "1").await;
    let is_halted = |status: &Value| status["sinks"][0]["state"] == "halted";
    bridge.until("the sink to halt", is_halted).await;
    // The end of the snapshot may have halted it.
    let is_journalled = |status: &Value| status["sources"][0]["journal"]["tail"].as_u64() >= Some(4);
    bridge
        .until("the create to be in the journal", is_journalled)
        .await;
    let calls = service.calls().len();
    let journal = bridge.folder().join("data/main.journal");
    let is_kept = async || {
        Reader::open(&journal)
            .unwrap()
            .disabled("hook")
            .unwrap()
            .is_some()
    };
    eventually("the journal to know it", BOUND, is_kept)
        .await
        .unwrap();
    bridge.kill().await;
    service.answer("", 200);
    bridge.start().await;
    bridge.until("the sink to stay halted", is_halted).await;
    writer.set("/gone/a", "2").await;
    bridge
        .until("records that wait", |status| {
            status["sinks"][0]["lag_records"].as_u64() >= Some(2)
        })
        .await;
    assert_eq!(service.calls().len(), calls, "nothing was sent");

    let enabled = bridge.command(&["sink", "enable", "hook"]).output().unwrap();
    assert!(enabled.status.success(), "{enabled:?}");
    service.has_ops(&bridge, "/gone/a", &["create", "update"]).await;
    bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_connects_finds_the_faults_of_a_run_and_sends_nothing() {
    real_servers!("a webhook under check");
    let place = Place::shared().await;
    let service = Service::start().await;
    let check = async |lines: &str, parts: &[&str]| {
        let sink = format!("[[sink]]\ntype = \"webhook\"\n{lines}\n");
        let bridge = Bridge::configured(&(source("main", &place, &["/".to_owned()]) + &sink));
        let output = bridge.command(&["check", "--connect"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(words.contains(part), "{part}: {text}");
        }
        assert!(!words.contains("t0ken"), "{text}");
        output.status.code()
    };
    let url = service.url.as_str();
    let allowed = "allow_private_addresses = true";
    let good = format!("url = \"{url}\"\n{allowed}");
    assert_eq!(
        check(&good, &["ok sink 'webhook'", "no request is signed"]).await,
        Some(0)
    );
    let private = format!("url = \"{url}?key=t0ken\"");
    assert_eq!(
        check(&private, &["not on the public internet (this machine)", allowed]).await,
        Some(2)
    );
    let by_name = "url = \"http://localhost:1/t0ken\"";
    assert_ne!(
        check(by_name, &["'localhost' is at", "this machine", allowed]).await,
        Some(0)
    );
    let closed = format!("url = \"http://127.0.0.1:1/t0ken\"\n{allowed}");
    assert_ne!(
        check(&closed, &["http://127.0.0.1:1 cannot be reached", "refused"]).await,
        Some(0)
    );
    let plain = format!("url = \"{}\"\n{allowed}", url.replace("http:", "https:"));
    assert_ne!(
        check(&plain, &["cannot be reached", "speaks TLS on that port"]).await,
        Some(0)
    );
    let secret = format!("{good}\nsecrets = [\"t0ken\"]");
    assert_eq!(
        check(&secret, &["no secret of Standard Webhooks", "openssl rand"]).await,
        Some(2)
    );
    assert_eq!(service.calls().len(), 0);
}
