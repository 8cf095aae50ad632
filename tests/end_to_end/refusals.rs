//! Input that cannot work: one clear message with the value and what to do, the right exit code,
//! and nothing lost.

use std::net::TcpListener;

use bridge_servers::{Child, Kafka, Proxy, ZooKeeper, eventually, real_servers};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::block_in_place;
use zookeeper_client::{Acls, CreateMode};

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, Scene, shared, source};
use crate::topic;
use crate::verdict::each_once;

const ENVIRONMENT: i32 = 3;
const HALTED: i32 = 4;

/// Runs a command that must end with this code; all words must be in one message, and nothing on stdout.
async fn check_ends(bridge: &Bridge, args: &[&str], code: i32, words: &[&str]) {
    let mut child = Child::start(&bridge.command(args)).unwrap();
    let ended = child.exit_code(BOUND).await.unwrap();
    let said = child.stderr();
    assert_eq!(ended, code, "{args:?}: {said:#?}");
    assert_eq!(child.stdout(), [""; 0]);
    let is_message = |line: &&String| words.iter().all(|word| line.contains(word));
    assert!(
        said.iter().any(|line| is_message(&line)),
        "{words:?} are not in {said:#?}"
    );
}

/// A port without a listener.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn nowhere(connect: &str) -> Bridge {
    let place = format!("[[source]]\nconnect = \"{connect}\"\nroots = [\"/a\"]\nsession_timeout = \"1s\"\n");
    Bridge::configured(&place)
}

/// A bridge that keeps retrying, and reports why it is not ready.
async fn check_not_ready(bridge: &mut Bridge, words: &[&str]) {
    let why = eventually("a reason for not being ready", BOUND, || async {
        let (code, which) = bridge.get("/readyz").await;
        let reasons = bridge.status().await["not_ready"].to_string();
        let is_said = which.contains("source 'main'") && words.iter().all(|word| reasons.contains(word));
        (code == 503 && is_said).then_some(())
    });
    if let Err(error) = why.await {
        panic!(
            "{error}: {words:?}\n{}\n{}",
            bridge.status().await,
            bridge.log().join("\n")
        );
    }
    assert!(bridge.child().ended().is_none(), "it goes on trying");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_said_and_tried_again_until_it_succeeds() {
    real_servers!("refused");
    let mut place = Place::shared().await;
    let proxy = Proxy::start(shared().await.zookeeper.client_addr(0))
        .await
        .unwrap();
    proxy.cut().await.unwrap();
    place.connect = proxy.addr().to_string();
    let mut scene = Scene::at("refused", place).await;
    scene.writer.create(scene.root(), "root").await;
    scene.bridge.start().await;
    let address = proxy.addr().to_string();
    check_not_ready(
        &mut scene.bridge,
        &["no session with ZooKeeper", &address, "check 'connect'"],
    )
    .await;
    let is_error = |line: &String| line.contains("\"ERROR\"") && line.contains(&address);
    assert!(
        scene.bridge.log().iter().any(is_error),
        "{:#?}",
        scene.bridge.log()
    );
    proxy.restore().await.unwrap();
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_without_an_answer_ends_with_3_and_names_the_address() {
    let port = closed_port();
    let address = format!("127.0.0.1:{port}");
    let bridge = nowhere(&address);
    check_ends(
        &bridge,
        &["watch", &address],
        ENVIRONMENT,
        &[&address, "refused", "check 'connect'"],
    )
    .await;
    let host = "no-such-host.invalid:2181";
    check_ends(&bridge, &["watch", host], ENVIRONMENT, &[host, "check 'connect'"]).await;
    check_ends(&bridge, &["watch", "127.0.0.1:port"], 2, &["127.0.0.1:port"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_never_answers_is_said() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut bridge = nowhere(&address);
    bridge.start().await;
    check_not_ready(
        &mut bridge,
        &["no session with ZooKeeper", &address, "no answer within 2 s"],
    )
    .await;
    bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_refused_end_the_source_and_are_never_shown() {
    real_servers!("refused credentials");
    let folder = tempfile::tempdir().unwrap();
    let jaas = folder.path().join("jaas.conf");
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required user_bridge=\"right-secret\";";
    std::fs::write(&jaas, format!("Server {{\n{module}\n}};\n")).unwrap();
    let provider = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider";
    let zookeeper = ZooKeeper::builder()
        .property("authProvider.sasl", provider)
        .system_property("java.security.auth.login.config", &jaas.to_string_lossy())
        .start()
        .await
        .unwrap();
    let source = |password: &str| {
        let auth =
            format!("[source.auth]\nsasl = \"digest-md5\"\nuser = \"bridge\"\npassword = \"{password}\"\n");
        format!("[[source]]\nconnect = \"{}\"\n{auth}", zookeeper.connect_string())
    };
    let mut bridge = Bridge::configured(&source("right-secret"));
    bridge.start_ready().await;
    bridge.terminate().await;
    bridge.configure(&source("wrong-secret"));
    let mut child = Child::start(&bridge.command(&["run"])).unwrap();
    assert_eq!(
        child.exit_code(BOUND).await.unwrap(),
        HALTED,
        "{:#?}",
        child.stderr()
    );
    let said = child.stderr().join("\n");
    assert!(
        said.contains("refused the credentials") && said.contains("[source.auth]"),
        "{said}"
    );
    assert!(!said.contains("wrong-secret"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn zookeeper_3_5_is_refused_with_what_to_do() {
    real_servers!("ZooKeeper 3.5");
    let zookeeper = ZooKeeper::builder().version("3.5.10").start().await.unwrap();
    let connect = zookeeper.connect_string();
    let bridge = nowhere(&connect);
    let words = ["3.5.10", "need ZooKeeper 3.6 or newer", "upgrade the ensemble"];
    check_ends(&bridge, &["run"], HALTED, &words).await;
    check_ends(&bridge, &["watch", &connect], ENVIRONMENT, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_root_is_counted_and_has_no_records() {
    real_servers!("an unreadable root");
    let mut scene = Scene::at("closed-root", Place::shared().await).await;
    scene.writer.client.auth("digest", b"owner:secret").await.unwrap();
    let closed = CreateMode::Persistent.with_acls(Acls::creator_all());
    let root = scene.root().to_owned();
    scene
        .writer
        .client
        .create(&root, b"hidden", &closed)
        .await
        .unwrap();
    scene.bridge.start_ready().await;
    let status = scene.bridge.status().await;
    assert_eq!(status["sources"][0]["unreadable"], 1, "{status:#}");
    assert_eq!(status["sources"][0]["unreadable_paths"][0], *root);
    scene.bridge.at_rest().await;
    block_in_place(|| scene.topic.read_on());
    let ops: Vec<_> = each_once(&scene.topic.deliveries);
    let ops: Vec<_> = ops.iter().map(|record| record["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["snapshot_begin", "snapshot_end"]);
    assert_eq!(
        scene.topic.deliveries.last().unwrap().record["run"]["unreadable"],
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_is_said_and_gets_everything_once_it_does() {
    real_servers!("an unknown topic");
    let mut scene = Scene::open("late-topic").await;
    let sink = crate::stage::kafka_sink(&scene.place, "later-topic");
    scene
        .bridge
        .configure(&format!("{}{sink}", source("main", &scene.place, &scene.roots)));
    scene.bridge.start_ready().await;
    scene
        .bridge
        .until("the sink to miss its topic", |status| {
            let error = &status["sinks"][0]["error"];
            error["kind"] == "missing" && error.to_string().contains("later-topic")
        })
        .await;
    scene.writer.create(&scene.path("a"), "kept").await;
    topic::create(&scene.place.brokers, "later-topic", false).await;
    scene.topic = topic::Topic::open(&scene.place.brokers, "later-topic");
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_arrives_cut_while_others_flow() {
    real_servers!("a record that is too large");
    let mut scene = Scene::live("too-large").await;
    let mut random = StdRng::seed_from_u64(3);
    let mut incompressible = || (0..900_000).map(|_| random.random()).collect::<Vec<u8>>();
    let [large, small] = ["large", "small"].map(|name| scene.path(name));
    scene.writer.create(&large, "").await;
    scene.settle().await;
    scene.writer.set(&large, incompressible()).await;
    scene.settle().await;
    // Before and after: no longer under the broker's limit of 1 MB, however well they are packed.
    scene.writer.set(&large, incompressible()).await;
    scene
        .bridge
        .until("a cut record", |status| status["sinks"][0]["shrunk"] == 1)
        .await;
    scene.settle().await;
    let cut = &scene.last(&large).record;
    assert_eq!(cut["before"]["data"]["value"], "");
    for state in ["before", "after"] {
        assert_eq!(cut[state]["data"]["truncated"], true, "{state}");
        assert_eq!(cut[state]["data"]["size"], 900_000, "{state}");
    }
    scene.writer.set(&large, "small again").await;
    scene.writer.create(&small, "flows").await;
    scene.settle().await;
    assert_eq!(scene.story(&small), ["create exact"]);
    assert_eq!(scene.last(&large).record["after"]["data"]["value"], "small again");
    let tail = scene.bridge.status().await["sinks"][0]["tail"].as_u64().unwrap();
    assert_eq!(
        each_once(&scene.topic.deliveries).len() as u64,
        tail,
        "none is missing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_one_ends_with_3_before_anything_begins() {
    let bridge = nowhere("127.0.0.1:2181");
    std::fs::write(bridge.folder().join("data"), "a file").unwrap();
    check_ends(
        &bridge,
        &["run"],
        ENVIRONMENT,
        &["its folder data", "choose another data_dir"],
    )
    .await;
    assert_eq!(std::fs::read(bridge.folder().join("data")).unwrap(), b"a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_ends_with_3_before_anything_begins() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let bridge = nowhere("127.0.0.1:2181");
    let file = bridge.folder().join("zkbridge.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("127.0.0.1:0", &address)).unwrap();
    check_ends(&bridge, &["run"], ENVIRONMENT, &["cannot listen on", &address]).await;
    assert!(!bridge.folder().join("data").exists(), "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_open_elsewhere_ends_with_3_and_names_its_owner() {
    let mut bridge = nowhere(&format!("127.0.0.1:{}", closed_port()));
    bridge.start().await;
    let holder = format!("process {}", bridge.child().id());
    check_ends(
        &bridge,
        &["run"],
        ENVIRONMENT,
        &["main.journal", &holder, "has it open"],
    )
    .await;
    assert!(bridge.child().ended().is_none(), "the first goes on");
    bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_not_there_hold_nothing_back_but_their_own_records() {
    real_servers!("no brokers");
    let kafka = Kafka::start().await.unwrap();
    let mut scene = Scene::at("no-brokers", Place::on(&shared().await.zookeeper, &kafka)).await;
    kafka.kill();
    scene.writer.create(scene.root(), "root").await;
    scene.bridge.start_ready().await;
    let brokers = kafka.bootstrap();
    scene
        .bridge
        .until("the sink to say what it cannot reach", |status| {
            status["sinks"][0]["error"].to_string().contains(&brokers)
        })
        .await;
    kafka.restart().await.unwrap();
    scene.judge().await;
}

/// The list of dead letters, as a program gets it.
pub async fn dead_letters(bridge: &Bridge) -> Vec<serde_json::Value> {
    let mut child = Child::start(&bridge.command(&["dlq", "list", "--json"])).unwrap();
    assert_eq!(child.exit_code(BOUND).await.unwrap(), 0, "{:#?}", child.stderr());
    let listed: serde_json::Value = serde_json::from_str(&child.stdout().join("\n")).unwrap();
    listed["dead_letters"].as_array().unwrap().clone()
}

/// Runs a command, which must succeed.
pub async fn order(bridge: &Bridge, args: &[&str]) {
    let mut child = Child::start(&bridge.command(args)).unwrap();
    assert_eq!(
        child.exit_code(BOUND).await.unwrap(),
        0,
        "{args:?} {:#?}",
        child.stderr()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_retried_and_dropped_beside_a_running_bridge() {
    real_servers!("dead letters beside a running bridge");
    let mut scene = Scene::open("letters").await;
    // No topic can have the name that the template makes for "b" and "c".
    let sink = crate::stage::kafka_sink(&scene.place, "letters");
    let by_name = sink.replace(
        "topic = \"letters\"",
        "topic = \"letters{{ ' ' if names | length > 1 and names[1] in ['b', 'c'] else '' }}\"",
    );
    assert_ne!(sink, by_name);
    let source = source("main", &scene.place, &scene.roots);
    scene.bridge.configure(&format!("{source}{by_name}"));
    scene.bridge.start_ready().await;
    for name in ["a", "b", "c"] {
        let path = scene.path(name);
        scene.writer.create(&path, "refused or not").await;
    }
    eventually("two dead letters in the journal", BOUND, || async {
        dead_letters(&scene.bridge).await.len() == 2
    })
    .await
    .unwrap();
    let listed = dead_letters(&scene.bridge).await;
    let paths: Vec<&str> = listed
        .iter()
        .filter_map(|letter| letter["path"].as_str())
        .collect();
    assert_eq!(paths, [scene.path("b"), scene.path("c")], "{listed:#?}");

    order(&scene.bridge, &["dlq", "retry", "--path", &scene.path("b")]).await;
    scene
        .bridge
        .until("it to be rejected again", |status| {
            status["sinks"][0]["rejected"] == 3
        })
        .await;
    eventually("its second attempt in the journal", BOUND, || async {
        dead_letters(&scene.bridge).await[0]["attempts"] == 2
    })
    .await
    .unwrap();
    order(&scene.bridge, &["dlq", "drop", "--path", &scene.path("c")]).await;
    assert_eq!(dead_letters(&scene.bridge).await.len(), 1);

    // With a template that takes every record, the one that is left arrives, and nothing else does again.
    scene.bridge.terminate().await;
    scene.bridge.configure(&format!("{source}{sink}"));
    scene.bridge.start_ready().await;
    order(&scene.bridge, &["dlq", "retry", "--all"]).await;
    scene
        .bridge
        .until("no dead letter and nothing parked", |status| {
            let sink = &status["sinks"][0];
            sink["dead_letters"] == 0 && sink["parked"]["records"] == 0
        })
        .await;
    scene.settle_without(&[&scene.path("c")]).await;
    assert_eq!(scene.story(&scene.path("b")), ["create exact"]);
    assert!(scene.story(&scene.path("c")).is_empty(), "it was dropped");
}
