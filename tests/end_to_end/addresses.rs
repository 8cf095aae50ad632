//! Names with two addresses of which the first answers nothing: the real binary with a resolver of the test in front of
//! that of the system.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use bridge_servers::{BlackHole, Nats, real_servers};

use crate::bridge::Bridge;
use crate::nats::has_ops;
use crate::stage::{Place, kafka_sink, source};
use crate::topic::{self, Topic};
use crate::webhook::Service;
use crate::writer::Writer;

/// A name that only [`RESOLVER`] knows.
const NAME: &str = "two-addresses.test";

/// Gives the name two addresses, in this order, and leaves all others to the system.
const RESOLVER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

typedef int (*resolve)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    resolve next = (resolve)dlsym(RTLD_NEXT, "getaddrinfo");
    if (!node || strcmp(node, "two-addresses.test"))
        return next(node, service, hints, found);
    struct addrinfo *second = NULL;
    int failed = next("127.0.0.2", service, hints, found);
    if (!failed)
        failed = next("127.0.0.1", service, hints, &second);
    if (failed)
        return failed;
    struct addrinfo *last = *found;
    while (last->ai_next)
        last = last->ai_next;
    last->ai_next = second;
    return 0;
}
"#;

/// The resolver as a library, for LD_PRELOAD.
fn resolver(folder: &Path) -> PathBuf {
    let (text, library) = (folder.join("resolver.c"), folder.join("resolver.so"));
    std::fs::write(&text, RESOLVER).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &text])
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    library
}

/// The name with the port of a server on 127.0.0.1, and a black hole at the other address.
async fn named(server: SocketAddr) -> (String, BlackHole) {
    let hole = BlackHole::at(([127, 0, 0, 2], server.port()).into())
        .await
        .unwrap();
    (format!("{NAME}:{}", server.port()), hole)
}

fn address(text: &str) -> SocketAddr {
    let text = text.split("://").last().unwrap().split('/').next().unwrap();
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn source_and_sinks_reach_the_second_address_of_a_name_whose_first_one_answers_nothing() {
    real_servers!("names with two addresses");
    let mut place = Place::shared().await;
    let nats = Nats::start().await.unwrap();
    let service = Service::start().await;
    let writer = Writer::connect(&place.direct).await;
    let name = "two-addresses";
    topic::create(&place.brokers, name, false).await;
    let mut topic = Topic::open(&place.brokers, name);
    let root = format!("/{name}");
    writer.create(&root, "root").await;

    let (zookeeper, _hole) = named(address(&place.direct)).await;
    let (kafka, _kafka_hole) = named(address(&place.brokers)).await;
    let (stream, _nats_hole) = named(nats.addr(0)).await;
    let (hook, _hook_hole) = named(address(&service.url)).await;
    place.connect = zookeeper;
    place.brokers = kafka;
    let sinks = format!(
        "{}[[sink]]\nname = \"stream\"\ntype = \"nats\"\nservers = \"nats://{stream}\"\nstream = \"ZK\"\n\
         create_stream = true\n\
         [[sink]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://{hook}/hook\"\nformat = \"cloudevents\"\n\
         allow_private_addresses = true\n",
        kafka_sink(&place, name)
    );
    let mut bridge = Bridge::configured(&format!(
        "{}{sinks}",
        source("main", &place, std::slice::from_ref(&root))
    ));
    let library = resolver(bridge.folder());
    bridge.set_variable("LD_PRELOAD", library.to_str().unwrap());
    bridge.start_ready().await;
    let path = format!("{root}/a");
    writer.create(&path, "1").await;

    service.has_ops(&bridge, &path, &["create"]).await;
    has_ops(&bridge, &nats, &path, &["create"]).await;
    bridge.at_rest().await;
    tokio::task::block_in_place(|| topic.read_on());
    let mut arrived = topic.deliveries.iter();
    assert!(
        arrived.any(|delivery| delivery.record["path"] == path.as_str()),
        "{:#?}",
        topic.deliveries
    );
    bridge.terminate().await;
}
