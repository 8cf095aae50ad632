//! Trials: one fault each, with a verdict that is known beforehand. The bridge goes on beside the fault, or stops and says
//! why; and when the fault is over, the judge has no complaint about the whole history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use bridge_servers::{ZOOKEEPER_NEWEST, ZooKeeper, eventually};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, block_in_place};

use crate::capture::Capture;
use crate::failure_files;
use crate::round;
use crate::testbed::{Testbed, TestbedOptions};
use crate::tree_admin::TreeAdmin;

/// How long a verdict may take: several session timeouts on a busy machine.
const BOUND: Duration = Duration::from_secs(90);

/// Children of the other ensemble's widest znode: it has committed more than the bridge's own.
const OTHER_WIDTH: usize = 300;

/// The path that the receiver refuses.
const REFUSED: &str = "/chaos/refused";

/// A fault with its verdict.
#[derive(Clone, Copy, Debug)]
enum Trial {
    SilentServer,
    VanishedData,
    WrongEnsemble,
    RefusedPath,
}

const TRIALS: [(Trial, &str); 4] = [
    (Trial::SilentServer, "silent-server"),
    (Trial::VanishedData, "vanished-data-directory"),
    (Trial::WrongEnsemble, "wrong-ensemble"),
    (Trial::RefusedPath, "receiver-that-refuses-a-path"),
];

/// Plays every trial on servers of its own, and prints a line for each. Returns how many there were.
///
/// # Errors
///
/// If the bridge does not do what is expected, with the folder of the files; or if something cannot be started.
pub async fn play(program: &Path, kept: &Path) -> Result<usize> {
    for (trial, name) in TRIALS {
        let receiver = Receiver::start().await?;
        let sink = match trial {
            Trial::RefusedPath => receiver.sink(),
            _ => String::new(),
        };
        let options = TestbedOptions {
            version: ZOOKEEPER_NEWEST,
            servers: 1,
            width: 0,
            capture: Capture::Watch,
            reads_log: true,
        };
        let mut testbed = Box::pin(Testbed::open(options, program, &sink)).await?;
        testbed.bridge.ready().await?;
        let complaints = match Box::pin(judged(trial, &mut testbed, &receiver)).await {
            Ok(complaints) => complaints,
            Err(error) => vec![format!("{error:#}")],
        };
        if !complaints.is_empty() {
            let folder = failure_files::keep(&testbed, kept, &format!("trial-{name}"), &complaints)?;
            anyhow::bail!(
                "trial {name}: {}\nall of it is kept in {}",
                complaints.join("\n"),
                folder.display()
            );
        }
        println!("trial {name}: the verdict is as expected");
    }
    Ok(TRIALS.len())
}

async fn judged(trial: Trial, testbed: &mut Testbed, receiver: &Receiver) -> Result<Vec<String>> {
    let mut complaints = round::judged(testbed).await?;
    complaints.extend(match trial {
        Trial::SilentServer => silent_server(testbed).await?,
        Trial::VanishedData => vanished_data(testbed).await?,
        Trial::WrongEnsemble => wrong_ensemble(testbed).await?,
        Trial::RefusedPath => refused_path(testbed, receiver).await?,
    });
    Ok(complaints)
}

/// The connection is given up in a gap, and nothing that was written meanwhile is lost.
async fn silent_server(testbed: &mut Testbed) -> Result<Vec<String>> {
    let before = testbed.topic.deliveries.len();
    testbed.proxies[0].silent().await?;
    let tree_admin = TreeAdmin::connect(&testbed.zookeeper.connect_string()).await?;
    for round in 100..110 {
        tree_admin.mark(&testbed.roots[0], round).await?;
    }
    until_logged(testbed, "answers pings").await?;
    testbed.proxies[0].restore().await?;
    let mut complaints = round::judged(testbed).await?;
    // Its reason is `liveness`, unless a busy machine lost the connection before that.
    let mut later = testbed.topic.deliveries[before..].iter();
    let has_gap = later.any(|delivery| delivery.record["op"] == "gap_begin");
    complaints.extend((!has_gap).then(|| "the silence left no gap".to_owned()));
    Ok(complaints)
}

/// The bridge ends instead of beginning anew in silence, and goes on where it was once the directory is back.
async fn vanished_data(testbed: &mut Testbed) -> Result<Vec<String>> {
    let (data, away) = (
        testbed.bridge.folder().join("data"),
        testbed.bridge.folder().join("away"),
    );
    std::fs::rename(&data, &away).context("move the data directory away")?;
    testbed.bridge.until_ended(BOUND).await?;
    until_logged(testbed, "removed or moved away").await?;
    ensure!(!data.join("main.journal").exists(), "a new journal was begun");
    if data.exists() {
        std::fs::remove_dir_all(&data).context("remove what is left in place of the data directory")?;
    }
    std::fs::rename(&away, &data).context("move the data directory back")?;
    testbed.bridge.launch()?;
    round::judged(testbed).await
}

/// The source stops before it records anything of the other ensemble, and goes on with its own.
async fn wrong_ensemble(testbed: &mut Testbed) -> Result<Vec<String>> {
    let other = ZooKeeper::builder()
        .version(testbed.options.version)
        .system_property("zookeeper.extendedTypesEnabled", "true")
        .start()
        .await?;
    let tree_admin = TreeAdmin::connect(&other.connect_string()).await?;
    // First, so that its roots have other zxids.
    tree_admin.create_root("/elsewhere", OTHER_WIDTH).await?;
    for root in &testbed.roots {
        tree_admin.create_root(root, 0).await?;
    }
    let before = testbed.topic.deliveries.len();
    testbed.proxies[0].retarget(other.client_addr(0)).await?;
    testbed.proxies[0].reset_connections().await?;
    testbed.bridge.until_ended(BOUND).await?;
    until_logged(testbed, "another ensemble").await?;
    block_in_place(|| testbed.topic.read_on());
    let strange = testbed.topic.deliveries[before..]
        .iter()
        .filter(|delivery| !delivery.record["path"].is_null());
    let complaints: Vec<String> = strange
        .map(|delivery| format!("of the other ensemble: {}", delivery.record))
        .collect();
    testbed.proxies[0]
        .retarget(testbed.zookeeper.client_addr(0))
        .await?;
    testbed.bridge.launch()?;
    Ok([complaints, round::judged(testbed).await?].concat())
}

/// Every record of another path is taken by the receiver, and none of the path that it refuses; those are named.
async fn refused_path(testbed: &mut Testbed, receiver: &Receiver) -> Result<Vec<String>> {
    let tree_admin = TreeAdmin::connect(&testbed.zookeeper.connect_string()).await?;
    tree_admin.create_root(REFUSED, 20).await?;
    for round in 100..130 {
        tree_admin.mark(&testbed.roots[0], round).await?;
    }
    let complaints = round::judged(testbed).await?;
    let records = records(testbed);
    let has_all = eventually("every other record at the receiver", BOUND, || async {
        refused_complaints(&records, &receiver.taken()).is_empty()
    });
    if has_all.await.is_err() {
        return Ok(refused_complaints(&records, &receiver.taken()));
    }
    let status = testbed.bridge.status().await;
    let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
    let hook = sinks.iter().find(|sink| sink["sink"] == "hook");
    let kept = hook.map_or(0, |hook| {
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        number(&hook["dead_letters"]) + number(&hook["parked"]["records"])
    });
    ensure!(
        kept > 0,
        "the refused record is neither parked nor a dead letter: {status:#}"
    );
    Ok(complaints)
}

/// Complaints about the records that the receiver has taken: `taken` has the path of each id.
fn refused_complaints(records: &[Value], taken: &BTreeMap<String, String>) -> Vec<String> {
    let mut complaints: Vec<String> = taken
        .iter()
        .filter(|(_, path)| *path == REFUSED)
        .map(|(id, _)| format!("record {id} of {REFUSED} counts as taken"))
        .collect();
    let expected: BTreeSet<(&str, &str)> = records
        .iter()
        .filter_map(|record| Some((record["id"].as_str()?, record["path"].as_str()?)))
        .filter(|(_, path)| *path != REFUSED)
        .collect();
    let missing = expected.iter().filter(|(id, _)| !taken.contains_key(*id));
    complaints.extend(missing.map(|(id, path)| format!("record {id} of {path} was not delivered")));
    complaints
}

/// The records in the topic so far.
fn records(testbed: &Testbed) -> Vec<Value> {
    let deliveries = testbed.topic.deliveries.iter();
    deliveries.map(|delivery| delivery.record.clone()).collect()
}

async fn until_logged(testbed: &Testbed, words: &str) -> Result<()> {
    let logged = eventually(format!("{words:?} in the log"), BOUND, || async {
        testbed.bridge.log().iter().any(|line| line.contains(words))
    });
    Ok(logged.await?)
}

/// A service that takes every record but those of one path.
struct Receiver {
    url: String,
    taken: Arc<Mutex<BTreeMap<String, String>>>,
    server: JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Result<Receiver> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("bind the receiver")?;
        let url = format!("http://{}/", listener.local_addr().context("its address")?);
        let taken = Arc::new(Mutex::new(BTreeMap::new()));
        let router = Router::new()
            .route("/", post(take))
            .with_state(Arc::clone(&taken));
        // It serves until it is dropped.
        let server = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Receiver { url, taken, server })
    }

    fn sink(&self) -> String {
        format!(
            "[[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\nallow_private_addresses = true\n\
             ops = [\"create\", \"update\", \"delete\", \"acl\", \"snapshot\"]\nformat = \"record\"\n\
             retry = {{ first = \"50ms\", max = \"500ms\" }}\n",
            self.url
        )
    }

    /// The path of each record that was taken, by its id.
    fn taken(&self) -> BTreeMap<String, String> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(taken): State<Arc<Mutex<BTreeMap<String, String>>>>, body: Bytes) -> StatusCode {
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    // Standard Webhooks has the record in `data`.
    let record = &event["data"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (id, path) = (text(&record["id"]), text(&record["path"]));
    if path == REFUSED {
        return StatusCode::NOT_FOUND;
    }
    taken
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(id, path);
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_that_is_missing_or_wrongly_taken_at_the_receiver_is_a_complaint() {
        let records = [
            json!({"id": "1", "path": "/chaos/a"}),
            json!({"id": "2", "path": REFUSED}),
            json!({"id": "3", "path": null}),
        ];
        let taken = |ids: &[(&str, &str)]| -> BTreeMap<String, String> {
            ids.iter()
                .map(|(id, path)| ((*id).to_owned(), (*path).to_owned()))
                .collect()
        };
        assert_eq!(
            refused_complaints(&records, &taken(&[("1", "/chaos/a")])),
            [""; 0]
        );
        assert_eq!(refused_complaints(&records, &taken(&[])).len(), 1);
        let both = taken(&[("1", "/chaos/a"), ("2", REFUSED)]);
        assert_eq!(refused_complaints(&records, &both).len(), 1);
    }
}
