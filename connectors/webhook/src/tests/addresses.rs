//! Which receivers are reached, whatever their names say.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Mutex;

use bridge_core::sink::SinkErrorKind as Kind;
use bridge_servers::BlackHole;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::receiver::Reply;
use super::*;
use crate::address;
use crate::resolve::{Guard, Lookup, Rule};

/// Names that are somewhere else each time, and stay at the last.
struct Moving(Mutex<VecDeque<Vec<IpAddr>>>);

impl Moving {
    fn through(places: &[&[&str]]) -> Arc<Moving> {
        let parsed = |place: &&[&str]| place.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Moving(Mutex::new(places.iter().map(parsed).collect())))
    }
}

impl Lookup for Moving {
    fn lookup(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut places = self.0.lock().unwrap();
        let place = match places.len() {
            1 => places[0].clone(),
            _ => places.pop_front().unwrap(),
        };
        async move { Ok(place) }.boxed()
    }
}

pub(super) fn guard(places: &[&[&str]], rule: Rule) -> Guard {
    Guard {
        lookup: Moving::through(places),
        rule,
    }
}

/// As if 127.0.0.1 were on the public internet, so that something can be there.
fn only_first_is_public(address: IpAddr) -> Option<&'static str> {
    match address.to_string().as_str() {
        "127.0.0.1" => None,
        _ => Some("a private network"),
    }
}

fn public(url: &str) -> WebhookConfig {
    let mut config = local(url);
    config.allow_private_addresses = false;
    config
}

#[tokio::test]
async fn only_addresses_that_may_be_reached_come_out_of_a_name() {
    let check = async |place: &[&str], expected: Result<&[&str], &str>| {
        let found = guard(&[place], address::refusal)
            .addresses("hooks.example.com")
            .await;
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                assert_eq!(found, expected);
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{place:?}: {found:?}, {expected:?}"),
        }
    };
    check(&["1.1.1.1"], Ok(&["1.1.1.1"])).await;
    check(&["10.0.0.1", "1.1.1.1", "::1"], Ok(&["1.1.1.1"])).await;
    check(&["10.0.0.1", "::1"], Err("'hooks.example.com' is at 10.0.0.1")).await;
    check(&["::ffff:169.254.169.254"], Err("metadata")).await;
    check(&["64:ff9b::7f00:1"], Err("this machine")).await;
    check(&[], Err("has no address")).await;
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_not_reached() {
    let receiver = Receiver::start().await;
    let mut sink = WebhookSink::new(&public(&receiver.url_at("localhost"))).unwrap();
    let error = sink.open().await.unwrap_err();
    assert_eq!(error.kind, Kind::Configuration);
    for part in ["'localhost' is at ", "this machine", "allow_private_addresses"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_that_is_moved_to_a_private_address_meets_the_check_with_the_next_connection() {
    let receiver = Receiver::start().await;
    let inside = SocketPair::beside(&receiver).await;
    // Each answer closes its connection, as a receiver that helps an attacker would.
    receiver.answer(|_| Reply::With(200, vec![("connection", "close".to_owned())]));
    let config = public(&receiver.url_at("hooks.example.com"));
    // The proof, the first request, and then elsewhere.
    let places: [&[&str]; 3] = [&["127.0.0.1"], &["127.0.0.1"], &["127.0.0.2"]];
    let mut sink = WebhookSink::new(&config)
        .unwrap()
        .in_network(guard(&places, only_first_is_public));
    sink.open().await.unwrap();

    let error = deliver(&mut sink, &of_paths(&["/a", "/a"])).await.unwrap_err();

    assert_eq!((error.done, taken(&receiver)), (1, vec![1]));
    let error = error.error.unwrap();
    assert_eq!(error.kind, Kind::Unavailable, "it may be moved back: {error}");
    assert!(error.message.contains("is at 127.0.0.2"), "{error}");
    assert_eq!(sink.open().await.unwrap_err().kind, Kind::Unavailable);
    assert_eq!(inside.0.connections(), 0);
}

#[tokio::test]
async fn an_address_that_does_not_answer_keeps_no_other_one_of_the_name_from_being_reached() {
    let receiver = Receiver::start().await;
    let hole = ([127, 0, 0, 2], receiver.address.port()).into();
    let _hole = BlackHole::at(hole).await.unwrap();
    let config = local(&receiver.url_at("hooks.example.com"));
    let places: [&[&str]; 1] = [&["127.0.0.2", "127.0.0.1"]];
    let mut sink = WebhookSink::new(&config)
        .unwrap()
        .in_network(guard(&places, |_| None));

    sink.open().await.unwrap();
    deliver(&mut sink, &of_paths(&["/a", "/b"])).await.unwrap();

    let mut arrived = taken(&receiver);
    arrived.sort_unstable();
    assert_eq!(arrived, [1, 2]);
}

/// Something on the same port at an address that must not be reached.
struct SocketPair(Receiver);

impl SocketPair {
    async fn beside(receiver: &Receiver) -> SocketPair {
        let address = ([127, 0, 0, 2], receiver.address.port()).into();
        SocketPair(Receiver::start_on(address, None).await)
    }
}

#[tokio::test]
async fn the_control_a_name_that_is_moved_and_may_be_is_followed() {
    let receiver = Receiver::start().await;
    let inside = SocketPair::beside(&receiver).await;
    receiver.answer(|_| Reply::With(200, vec![("connection", "close".to_owned())]));
    let config = public(&receiver.url_at("hooks.example.com"));
    let places: [&[&str]; 3] = [&["127.0.0.1"], &["127.0.0.1"], &["127.0.0.2"]];
    let mut sink = WebhookSink::new(&config)
        .unwrap()
        .in_network(guard(&places, |_| None));
    sink.open().await.unwrap();
    deliver(&mut sink, &of_paths(&["/a", "/a"])).await.unwrap();
    assert_eq!((taken(&receiver), taken(&inside.0)), (vec![1], vec![2]));
}

#[test]
fn an_address_in_place_of_a_name_is_refused_in_every_way_to_write_it() {
    for url in [
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fd00:ec2::254]/",
        "https://0/",
    ] {
        let objections = public(url).objections();
        let found = objections
            .iter()
            .any(|one| one.key == "url" && one.message.contains("public internet"));
        assert!(found, "{url}: {objections:?}");
        assert!(WebhookSink::new(&public(url)).is_err());
        assert!(WebhookSink::new(&local(url)).is_ok());
    }
}
