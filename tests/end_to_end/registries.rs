//! Service events of registrations that their own software writes: brokers of a Kafka on ZooKeeper, and providers of Dubbo by
//! interface and by application. Processes leave in order, are killed, change, and come back.

use std::net::SocketAddr;

use bridge_servers::{KafkaBroker, Provider, ZooKeeper, eventually, real_servers};
use serde_json::{Value, json};

use crate::bridge::{BOUND, Bridge};
use crate::services::{FILE, SESSION, brief, configuration, lines};
use crate::stage::Place;
use crate::writer::Writer;

/// The last event of this type.
fn last(bridge: &Bridge, subject: &str, kind: &str) -> Value {
    let mut events = lines(bridge, FILE).into_iter();
    let of = |event: &Value| event["service"] == subject && event["type"] == kind;
    events
        .rfind(of)
        .unwrap_or_else(|| panic!("no {kind} of {subject}"))
}

/// The events of one kind of a subject: those of its leaders, or of its instances and itself.
struct Story {
    subject: &'static str,
    is_of_leaders: bool,
    events: Vec<String>,
}

impl Story {
    fn of(subject: &'static str) -> Story {
        Story {
            subject,
            is_of_leaders: false,
            events: Vec::new(),
        }
    }

    fn of_leaders(subject: &'static str) -> Story {
        Story {
            is_of_leaders: true,
            ..Story::of(subject)
        }
    }

    /// Waits until these follow, and nothing else. Leaders and instances that go in one transaction go in any order.
    async fn goes_on(&mut self, bridge: &Bridge, next: &[&str]) {
        self.events.extend(next.iter().map(|&event| event.to_owned()));
        let what = format!("the events of {}: {:?}", self.subject, self.events);
        let mut seen = Vec::new();
        let waited = eventually(what, BOUND, || {
            seen = brief(&lines(bridge, FILE), self.subject);
            seen.retain(|event| event.starts_with("leader.") == self.is_of_leaders);
            std::future::ready((seen == self.events).then_some(()))
        });
        if let Err(error) = waited.await {
            panic!("{error}; they are {seen:?}\n{}", bridge.log().join("\n"));
        }
    }
}

/// A place whose bridge keeps its session on a machine that starts Java programs meanwhile: a gap would hide causes.
fn calm(place: Place) -> Place {
    Place {
        source: "session_timeout = \"30s\"".to_owned(),
        ..place
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_and_controllers_of_a_kafka_on_zookeeper_come_change_die_and_are_replaced() {
    real_servers!("service events of a Kafka on ZooKeeper");
    let place = calm(Place::shared().await);
    let root = "/kafka-events";
    Writer::connect(&place.direct).await.create(root, "").await;
    let sections = format!("[[source.service]]\nformat = \"kafka\"\nbase = \"{root}\"\n");
    let mut bridge = Bridge::configured(&configuration(&place, root, &sections));
    bridge.start_ready().await;
    let connect = format!("{}{root}", place.direct);
    let (mut brokers, mut leaders) = (Story::of("kafka"), Story::of_leaders("kafka"));

    let first = KafkaBroker::start(&connect, SESSION, 1, "rack-a").await.unwrap();
    let up = ["instance.up 1", "service.available -"];
    brokers.goes_on(&bridge, &up).await;
    leaders.goes_on(&bridge, &["leader.elected 1"]).await;
    let listener = |name: &str, host: &str, port: u16| {
        let scheme = "PLAINTEXT";
        json!({"name": name, "scheme": scheme, "host": host, "port": port})
    };
    let local = |name: &str, address: SocketAddr| listener(name, "127.0.0.1", address.port());
    let up = last(&bridge, "kafka", "instance.up");
    let endpoints = [
        local("CLIENTS", first.clients()),
        local("BROKERS", first.brokers()),
    ];
    assert_eq!(up["endpoints"], json!(endpoints), "{up:#}");
    let facts = ["zone", "status", "liveness", "metadata"].map(|key| up[key].clone());
    assert_eq!(json!(facts), json!(["rack-a", "up", "session", {}]));
    assert_eq!(up["path"], format!("{root}/brokers/ids/1"));

    let second = KafkaBroker::start(&connect, SESSION, 2, "rack-b").await.unwrap();
    brokers.goes_on(&bridge, &["instance.up 2"]).await;
    second.announce("kafka.example.com:9092").await.unwrap();
    brokers.goes_on(&bridge, &["instance.changed 2"]).await;
    let changed = last(&bridge, "kafka", "instance.changed");
    let to_brokers = local("BROKERS", second.brokers());
    let before = [local("CLIENTS", second.clients()), to_brokers.clone()];
    let after = [listener("CLIENTS", "kafka.example.com", 9092), to_brokers];
    let changes = json!([{"field": "endpoints", "from": before, "to": after}]);
    assert_eq!(changed["changes"], changes, "{changed:#}");

    // The controller is killed: its session ends with both of its znodes, and the other broker is elected.
    first.kill();
    brokers.goes_on(&bridge, &["instance.down 1"]).await;
    let replaced = ["leader.lost -", "leader.elected 2"];
    leaders.goes_on(&bridge, &replaced).await;
    let of_first = last(&bridge, "kafka", "instance.down");
    let lost = last(&bridge, "kafka", "leader.lost");
    assert_eq!(of_first["cause"], "session_ended", "{of_first:#}");
    assert_eq!(lost["cause"], "session_ended", "{lost:#}");
    assert_eq!(
        (&lost["zxid"], &lost["previous"]),
        (&of_first["zxid"], &json!("1"))
    );
    assert_eq!(last(&bridge, "kafka", "leader.elected")["previous"], "1");

    first.restart().await.unwrap();
    brokers.goes_on(&bridge, &["instance.up 1"]).await;
    // A controlled shutdown ends the session, too.
    second.stop().await.unwrap();
    brokers.goes_on(&bridge, &["instance.down 2"]).await;
    leaders
        .goes_on(&bridge, &["leader.lost -", "leader.elected 1"])
        .await;
    assert_eq!(last(&bridge, "kafka", "instance.down")["cause"], "session_ended");
    first.stop().await.unwrap();
    let gone = ["instance.down 1", "service.unavailable -"];
    brokers.goes_on(&bridge, &gone).await;
    leaders.goes_on(&bridge, &["leader.lost -"]).await;
    bridge.terminate().await;
}

/// The value of a secret parameter of the provider.
const SECRET: &str = "only-for-providers";
const PAYMENTS: &str = "com.acme.Payments";
const REFUNDS: &str = "com.acme.Refunds";
const AVAILABLE: &str = "service.available -";
const UNAVAILABLE: &str = "service.unavailable -";

#[tokio::test(flavor = "multi_thread")]
async fn providers_of_dubbo_come_change_die_and_return_by_interface_and_by_application() {
    real_servers!("service events of Dubbo");
    // Dubbo writes below its own roots.
    let zookeeper = ZooKeeper::start().await.unwrap();
    let place = calm(Place {
        connect: zookeeper.connect_string(),
        direct: zookeeper.connect_string(),
        ..Place::shared().await
    });
    // A provider that a rule changes deletes its znode, and then creates another one.
    let section = |format: &str| format!("[[source.service]]\nformat = \"{format}\"\ngrace = \"3s\"\n");
    let sections = section("dubbo") + &section("curator") + "base = \"/services\"\n";
    let mut bridge = Bridge::configured(&configuration(&place, "/", &sections));
    bridge.start_ready().await;
    let provide = async || {
        let provider = Provider::start(&place.direct, SESSION, "shop", SECRET);
        provider.await.unwrap()
    };
    let (mut payments, mut refunds) = (Story::of(PAYMENTS), Story::of(REFUNDS));
    let mut shop = Story::of("shop");

    let mut provider = provide().await;
    let address = provider.address().to_string();
    let up = format!("instance.up {address}");
    payments.goes_on(&bridge, &[&up, AVAILABLE]).await;
    shop.goes_on(&bridge, &[&up, AVAILABLE]).await;
    let by_interface = last(&bridge, PAYMENTS, "instance.up");
    let keys = ["group", "version", "weight", "application", "liveness", "status"];
    let facts = keys.map(|key| by_interface[key].clone());
    let expected = json!(["blue", "1.0.0", 100, "shop", "session", "up"]);
    assert_eq!(json!(facts), expected, "{by_interface:#}");
    let host = provider.address().ip().to_string();
    let port = provider.address().port();
    let endpoints = json!([{"scheme": "dubbo", "host": host, "port": port}]);
    assert_eq!(by_interface["endpoints"], endpoints);
    assert_eq!(by_interface["metadata"]["methods"], "pay");
    assert_eq!(by_interface["metadata"]["accesskey"], "***");
    let by_application = last(&bridge, "shop", "instance.up");
    assert_eq!(by_application["endpoints"], endpoints, "{by_application:#}");
    assert_eq!(by_application["path"], format!("/services/shop/{address}"));

    // A second interface changes the application, and not the first interface.
    provider.provide_more().await.unwrap();
    refunds.goes_on(&bridge, &[&up, AVAILABLE]).await;
    let changed = format!("instance.changed {address}");
    shop.goes_on(&bridge, &[&changed]).await;
    let revision = &last(&bridge, "shop", "instance.changed")["changes"];
    assert_eq!(
        revision[0]["field"], "metadata.dubbo.metadata.revision",
        "{revision:#}"
    );
    assert_eq!(revision.as_array().unwrap().len(), 1, "{revision:#}");

    provider.override_with("weight=50").await.unwrap();
    payments.goes_on(&bridge, &[&changed]).await;
    let weight = json!([{"field": "weight", "from": 100, "to": 50}]);
    assert_eq!(last(&bridge, PAYMENTS, "instance.changed")["changes"], weight);
    provider.override_with("disabled=true").await.unwrap();
    payments.goes_on(&bridge, &[&changed, UNAVAILABLE]).await;
    let status = json!([{"field": "status", "from": "up", "to": "disabled"}]);
    assert_eq!(last(&bridge, PAYMENTS, "instance.changed")["changes"], status);

    // Killed: one session expires with the interfaces and another one with the application.
    provider.process.kill().await.unwrap();
    let down = format!("instance.down {address}");
    payments.goes_on(&bridge, &[&down]).await;
    refunds.goes_on(&bridge, &[&down, UNAVAILABLE]).await;
    shop.goes_on(&bridge, &[&down, UNAVAILABLE]).await;
    for (subject, cause) in [
        (PAYMENTS, "session_ended"),
        (REFUNDS, "session_ended"),
        ("shop", "unknown"),
    ] {
        let down = last(&bridge, subject, "instance.down");
        assert_eq!(down["cause"], cause, "{down:#}");
    }

    // The rules hold for the next process, too, which leaves in order.
    let mut provider = provide().await;
    let address = provider.address().to_string();
    let (up, down) = (
        format!("instance.up {address}"),
        format!("instance.down {address}"),
    );
    payments.goes_on(&bridge, &[&up]).await;
    let next = last(&bridge, PAYMENTS, "instance.up");
    assert_eq!(
        (&next["status"], &next["weight"]),
        (&json!("disabled"), &json!(50))
    );
    shop.goes_on(&bridge, &[&up, AVAILABLE]).await;
    provider.process.terminate().unwrap();
    payments.goes_on(&bridge, &[&down]).await;
    shop.goes_on(&bridge, &[&down, UNAVAILABLE]).await;

    bridge.at_rest().await;
    let of = |file: &str| std::fs::read_to_string(bridge.folder().join(file)).unwrap();
    assert!(!of(FILE).contains(SECRET), "an event shows a secret parameter");
    assert!(of("changes.jsonl").contains(SECRET), "Dubbo writes it into names");
    bridge.terminate().await;
}
