//! Service events of real registrations: Curator's discovery and leader latches, kazoo's locks and elections, with processes that leave in order, are
//! killed, and come back, and a bridge that is killed in between.

use std::time::Duration;

use bridge_servers::{Python, Registrar, eventually, real_servers};
use serde_json::Value;

use crate::bridge::{BOUND, Bridge};
use crate::stage::{Place, source};
use crate::webhook::Service;
use crate::writer::Writer;

/// As short as the servers allow.
pub const SESSION: Duration = Duration::from_secs(4);

pub const FILE: &str = "events.jsonl";

pub fn configuration(place: &Place, root: &str, sections: &str) -> String {
    let source = source("main", place, &[root.to_owned()]);
    format!(
        "{source}{sections}[[sink]]\nname = \"events\"\ntype = \"file\"\npath = \"{FILE}\"\nformat = \"service\"\n\
         [[sink]]\nname = \"changes\"\ntype = \"file\"\npath = \"changes.jsonl\"\n"
    )
}

pub fn lines(bridge: &Bridge, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(bridge.folder().join(file)).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// `type instance` of each event of a service or election.
pub fn brief(events: &[Value], subject: &str) -> Vec<String> {
    let of = |event: &&Value| event["service"] == subject;
    let words = |event: &Value| {
        let who = event["instance"]
            .as_str()
            .or(event["leader"].as_str())
            .or(event["holder"].as_str())
            .unwrap_or("-");
        format!("{} {who}", event["type"].as_str().unwrap())
    };
    events.iter().filter(of).map(words).collect()
}

/// Waits until the events of a subject are these.
async fn expect(bridge: &Bridge, subject: &str, expected: &[&str]) {
    let mut seen = Vec::new();
    let what = format!("the events of {subject}: {expected:?}");
    let waited = eventually(what, BOUND, || {
        seen = brief(&lines(bridge, FILE), subject);
        std::future::ready((seen == expected).then_some(()))
    });
    if let Err(error) = waited.await {
        panic!("{error}; they are {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_of_curator_come_go_restart_and_survive_a_kill_of_the_bridge() {
    real_servers!("service events of Curator");
    let place = Place::shared().await;
    let root = "/curator-events";
    let writer = Writer::connect(&place.direct).await;
    writer.create(root, "").await;
    let base = format!("{root}/services");
    let sections = format!("[[source.service]]\nformat = \"curator\"\nbase = \"{base}\"\n");
    let mut bridge = Bridge::configured(&configuration(&place, root, &sections));
    bridge.start_ready().await;

    let connect = place.direct.clone();
    let register = async |ports: &[&str]| {
        let process = Registrar::register(&connect, SESSION, (&base, "pay", "10.0.0.7"), ports);
        process.await.unwrap()
    };
    let mut first = register(&["8080", "8081"]).await;
    let expected = [
        "instance.up 10.0.0.7:8080",
        "service.available -",
        "instance.up 10.0.0.7:8081",
    ];
    expect(&bridge, "pay", &expected).await;

    // Killed: the session expires, and both go in one transaction.
    first.process.kill().await.unwrap();
    let gone = |events: &[Value]| {
        events
            .iter()
            .filter(|event| event["type"] == "instance.down")
            .count()
    };
    let both = || std::future::ready((gone(&lines(&bridge, FILE)) == 2).then_some(()));
    eventually("both instances are down", BOUND, both).await.unwrap();
    let events = lines(&bridge, FILE);
    let downs: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "instance.down")
        .collect();
    for down in &downs {
        assert_eq!(down["cause"], "session_ended", "{down}");
        assert_eq!(down["liveness"], "session");
        assert_eq!(down["zxid"], downs[0]["zxid"]);
    }

    // The new process is there before the session of the killed one has expired: no down, but a restart.
    let mut second = register(&["8080"]).await;
    bridge.kill().await;
    second.process.kill().await.unwrap();
    let mut third = register(&["8080"]).await;
    bridge.start_ready().await;
    bridge.at_rest().await;
    let listed = bridge.command(&["services", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["instances"][0]["instance"], "10.0.0.7:8080", "{listed}");
    assert_eq!(listed[0]["instances"][0]["status"], "up");
    // It leaves in order.
    third.process.terminate().unwrap();
    let is_last = |event: &Value| event["type"] == "service.unavailable";
    let twice = || {
        let count = lines(&bridge, FILE).iter().filter(|event| is_last(event)).count();
        std::future::ready((count == 2).then_some(()))
    };
    eventually("the service is unavailable again", BOUND, twice)
        .await
        .unwrap();
    bridge.at_rest().await;
    bridge.terminate().await;

    // At least once: after the kill the last ones may come again.
    let mut ids = std::collections::BTreeSet::new();
    let mut events = lines(&bridge, FILE);
    events.retain(|event| ids.insert(event["id"].as_str().unwrap().to_owned()));
    let seqs: Vec<u64> = events
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert!(seqs.is_sorted() && ids.len() >= 8, "{events:#?}");
    let all = brief(&events, "pay");
    assert_eq!(all.last().map(String::as_str), Some("service.unavailable -"));
    assert_eq!(
        events
            .iter()
            .filter(|event| event["type"] == "service.available")
            .count(),
        2,
        "{all:?}"
    );
    // Each sink has its own kind of line.
    assert!(
        lines(&bridge, "changes.jsonl")
            .iter()
            .all(|line| line["schema"] == "zkbridge.change/1")
    );
    assert!(events.iter().all(|line| line["schema"] == "zkbridge.service/1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_hears_of_the_instances_of_a_process_that_is_killed_and_of_nothing_twice() {
    real_servers!("messages about instances that die");
    let place = Place::shared().await;
    let slack = Service::start().await;
    slack.answer("", 200);
    let root = "/slack-events";
    let writer = Writer::connect(&place.direct).await;
    writer.create(root, "").await;
    let base = format!("{root}/services");
    let source = source("main", &place, &[root.to_owned()]);
    let url = &slack.url;
    let mut bridge = Bridge::configured(&format!(
        "{source}[[source.service]]\nformat = \"curator\"\nbase = \"{base}\"\n[[sink]]\ntype = \"webhook\"\n\
         url = \"{url}\"\nallow_private_addresses = true\npreset = \"slack\"\nformat = \"service\"\n\
         events = [\"instance.*\", \"service.*\"]\n"
    ));
    bridge.start_ready().await;
    let service = (base.as_str(), "payments", "10.0.0.7");
    let registered = Registrar::register(&place.direct, SESSION, service, &["8080", "8081"]).await;
    let mut process = registered.unwrap();
    let coming = [
        "🟢 payments 10.0.0.7:8080 is up",
        "🟢 payments is available: 1 instance",
        "🟢 payments 10.0.0.7:8081 is up",
    ];
    let hears = async |count: usize| {
        let is_whole = || std::future::ready(slack.texts().len() >= count);
        let heard = eventually(format!("{count} messages"), BOUND, is_whole).await;
        assert!(heard.is_ok(), "{:?}\n{:#}", slack.texts(), bridge.status().await);
    };
    hears(3).await;
    assert_eq!(slack.texts(), coming);
    process.process.kill().await.unwrap();
    // The instances of a session go in one transaction, in any order.
    let gone = ["8080", "8081"].map(|port| format!("🔴 payments 10.0.0.7:{port} is down: its session ended"));
    hears(6).await;
    let mut last = slack.texts().split_off(3);
    last[..2].sort();
    assert_eq!(last[..2], gone);
    assert_eq!(last[2], "🔴 payments has no available instance");
    bridge.at_rest().await;
    assert_eq!(slack.texts().len(), 6);
    bridge.terminate().await;
}

/// Two clients of kazoo: the second one gets lock and leadership when the first one gives them back.
const KAZOO: &str = r#"
import sys, threading, time
from kazoo.client import KazooClient

connect, root = sys.stdin.read().split()
first, second = KazooClient(connect), KazooClient(connect)
first.start()
second.start()

def both_queue(recipe):
    while len(recipe.contenders()) < 2:
        time.sleep(0.02)

# A watch sees no holder that comes and goes between two looks: each one stays until it was seen.
def seen(step):
    while not first.exists(root + "/seen/" + step):
        time.sleep(0.02)

locks = first.Lock(root + "/lock", "node-1"), second.Lock(root + "/lock", "node-2")
locks[0].acquire()
waiting = threading.Thread(target=locks[1].acquire)
waiting.start()
both_queue(locks[0])
seen("lock-1")
locks[0].release()
waiting.join()
seen("lock-2")
locks[1].release()

elections = first.Election(root + "/leader", "node-1"), second.Election(root + "/leader", "node-2")
leading = threading.Thread(target=elections[0].run, args=(seen, "leader-1"))
leading.start()
while not elections[0].contenders():
    time.sleep(0.02)
following = threading.Thread(target=elections[1].run, args=(seen, "leader-2"))
following.start()
leading.join()
following.join()
first.stop()
second.stop()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn locks_and_leaders_of_kazoo_follow_each_other_as_kazoo_lets_them() {
    real_servers!("service events of kazoo");
    let place = Place::shared().await;
    let root = "/kazoo-events";
    let writer = Writer::connect(&place.direct).await;
    writer.create(root, "").await;
    let sections = format!(
        "[[source.service]]\nformat = \"queue\"\nelections = [\"{root}/leader\"]\nlocks = [\"{root}/lock\"]\n"
    );
    let mut bridge = Bridge::configured(&configuration(&place, root, &sections));
    bridge.start_ready().await;
    let input = format!("{} {root}", place.direct);
    let (lock, election) = (format!("{root}/lock"), format!("{root}/leader"));
    let locks = [
        "lock.acquired node-1",
        "lock.released node-1",
        "lock.acquired node-2",
        "lock.released node-2",
    ];
    let leaders = ["leader.elected node-1", "leader.changed node-2", "leader.lost -"];
    let acting = async { Python::KAZOO.run(KAZOO, input.as_bytes()).await.unwrap() };
    let looking = async {
        writer.create(&format!("{root}/seen"), "").await;
        for (subject, events, step) in [
            (&lock, &locks[..1], "lock-1"),
            (&lock, &locks[..3], "lock-2"),
            (&election, &leaders[..1], "leader-1"),
            (&election, &leaders[..2], "leader-2"),
        ] {
            expect(&bridge, subject, events).await;
            writer.create(&format!("{root}/seen/{step}"), "").await;
        }
    };
    tokio::join!(acting, looking);
    expect(&bridge, &lock, &locks).await;
    expect(&bridge, &election, &leaders).await;
    bridge.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_of_a_latch_of_curator_are_elected_replaced_and_lost() {
    real_servers!("service events of leader latches");
    let place = Place::shared().await;
    let root = "/latch-events";
    let writer = Writer::connect(&place.direct).await;
    writer.create(root, "").await;
    let election = format!("{root}/leader");
    let sections = format!("[[source.service]]\nformat = \"queue\"\nelections = [\"{election}\"]\n");
    let mut bridge = Bridge::configured(&configuration(&place, root, &sections));
    bridge.start_ready().await;
    let mut first = Registrar::queue(&place.direct, SESSION, &election, "node-1")
        .await
        .unwrap();
    first.process.line("leads", BOUND).await.unwrap();
    expect(&bridge, &election, &["leader.elected node-1"]).await;
    let mut second = Registrar::queue(&place.direct, SESSION, &election, "node-2")
        .await
        .unwrap();
    first.process.kill().await.unwrap();
    second.process.line("leads", BOUND).await.unwrap();
    expect(
        &bridge,
        &election,
        &["leader.elected node-1", "leader.changed node-2"],
    )
    .await;
    second.process.terminate().unwrap();
    let all = ["leader.elected node-1", "leader.changed node-2", "leader.lost -"];
    expect(&bridge, &election, &all).await;
    let events = lines(&bridge, FILE);
    assert_eq!(events[1]["previous"], "node-1");
    assert_eq!(events[2]["previous"], "node-2");
    bridge.terminate().await;
}
