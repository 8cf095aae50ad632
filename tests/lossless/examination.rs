//! `doctor` and `check --connect` on sources that read transactions: whether the ensemble accepts the observer, and whether
//! folders are those of servers that run.

use bridge_servers::{Port, ZooKeeper, eventually, real_servers};
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Permission};

use crate::observer::observer;
use crate::stage::{BOUND, Bridge, changes, last_zxid};
use crate::txnlog::txnlog;

/// The output as one line, because it is wrapped.
async fn said(bridge: &Bridge, arguments: &[&str]) -> String {
    let text = bridge.run(arguments).await;
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has(text: &str, words: &[&str]) {
    for words in words {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_that_accepts_the_observer_is_named_and_the_running_bridge_keeps_its_place() {
    real_servers!("doctor beside an observer");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    changes(&zookeeper, 0).await;
    let mut bridge = Bridge::of(&zookeeper, &observer(&zookeeper));
    bridge.start();
    bridge.delivers(crate::stage::last_zxid(&zookeeper)).await;
    let leader = zookeeper.quorum_addr(0);
    let accepts = format!("the leader {leader} accepts an observer, in epoch 1");
    let doctor = said(&bridge, &["doctor"]).await;
    has(
        &doctor,
        &[&accepts, "neither encrypted nor authenticated", "absence: "],
    );
    has(&said(&bridge, &["check", "--connect"]).await, &[&accepts]);
    // The connection of the bridge was not replaced.
    let metrics = bridge.metrics().await;
    has(
        &metrics,
        &["zkbridge_source_connections_total{source=\"main\"} 1"],
    );
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_server_and_a_closed_port_are_distinguished_from_other_refusals() {
    real_servers!("doctor on ensembles that refuse an observer");
    let alone = ZooKeeper::start().await.unwrap();
    let closed = Port::reserve().unwrap();
    let section = format!(
        "capture = \"observer\"\n[source.observer]\nbypasses_acls = true\nservers = [\"{}\"]\n",
        closed.addr()
    );
    let bridge = Bridge::of(&alone, &section);
    let doctor = said(&bridge, &["doctor"]).await;
    has(
        &doctor,
        &["refuses the connection", "standaloneEnabled=false and server.1="],
    );
    let checked = said(&bridge, &["check", "--connect"]).await;
    has(
        &checked,
        &["refuses the connection", "run 'zkbridge doctor' for more"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_servers_of_another_ensemble_are_named_and_those_before_3_6_need_no_watch() {
    real_servers!("doctor on transaction logs of ZooKeeper 3.5 and of another ensemble");
    let old = ZooKeeper::builder().version("3.5.10").start().await.unwrap();
    changes(&old, 0).await;
    let bridge = Bridge::of(&old, &txnlog(&old, &[0]));
    let checked = said(&bridge, &["check", "--connect"]).await;
    has(&checked, &["ZooKeeper 3.5.10", "transaction logs: 1"]);
    assert!(!checked.contains("need ZooKeeper 3.6"), "{checked}");
    let doctor = said(&bridge, &["doctor"]).await;
    has(
        &doctor,
        &["as servers have applied", "nothing is needed for capture"],
    );
    assert!(!doctor.contains("nothing is captured until then"), "{doctor}");

    // An ensemble has the epoch 1 or a later one, and a server alone none.
    let other = ZooKeeper::builder().quorum().start().await.unwrap();
    changes(&other, 0).await;
    let bridge = Bridge::of(&old, &txnlog(&other, &[0]));
    let named = "no server of 'connect' has reached an epoch after 0";
    has(&said(&bridge, &["check", "--connect"]).await, &[named]);
    has(&said(&bridge, &["doctor"]).await, &[named]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_port_with_passwords_says_which_section_is_missing() {
    real_servers!("doctor on a quorum port with passwords");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jaas.conf");
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
    let text = format!(
        "QuorumServer {{ {module} user_bridge=\"pa55\"; }};\n\
         QuorumLearner {{ {module} username=\"bridge\" password=\"pa55\"; }};\n"
    );
    std::fs::write(&file, text).unwrap();
    let zookeeper = ZooKeeper::builder()
        .quorum()
        .system_property("java.security.auth.login.config", &file.display().to_string())
        .property("quorum.auth.enableSasl", "true")
        .property("quorum.auth.learnerRequireSasl", "true")
        .property("quorum.auth.serverRequireSasl", "true")
        .start()
        .await
        .unwrap();
    let without = Bridge::of(&zookeeper, &observer(&zookeeper));
    let doctor = said(&without, &["doctor"]).await;
    has(
        &doctor,
        &["serverRequireSasl", "[source.observer.sasl] is missing"],
    );
    let wrong = "[source.observer.sasl]\nuser = \"bridge\"\npassword = \"wrong\"\n";
    let wrong = Bridge::of(&zookeeper, &format!("{}{wrong}", observer(&zookeeper)));
    let doctor = said(&wrong, &["doctor"]).await;
    has(&doctor, &["refuses the user 'bridge'", "FIPS mode"]);
    let right = "[source.observer.sasl]\nuser = \"bridge\"\npassword = \"pa55\"\n";
    let right = Bridge::of(&zookeeper, &format!("{}{right}", observer(&zookeeper)));
    let doctor = said(&right, &["doctor"]).await;
    has(
        &doctor,
        &["accepts an observer", "authenticated, and not encrypted"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_the_ensemble_does_not_have_are_named() {
    real_servers!("doctor compares servers with /zookeeper/config");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    let other = Port::reserve().unwrap();
    let section = format!(
        "capture = \"observer\"\n[source.observer]\nbypasses_acls = true\nservers = [\"{}\"]\n",
        other.addr()
    );
    let bridge = Bridge::of(&zookeeper, &section);
    let doctor = said(&bridge, &["doctor"]).await;
    let unknown = format!("observer.servers names {}, which no server", other.addr());
    let missing = format!("/zookeeper/config has {}, which", zookeeper.quorum_addr(0));
    // The configuration has it all the same, so that the leader is found; and the bridge finds it, too.
    has(&doctor, &["accepts an observer", &unknown, &missing]);
    let mut bridge = bridge;
    bridge.start();
    changes(&zookeeper, 0).await;
    bridge.delivers(last_zxid(&zookeeper)).await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_port_or_a_port_of_elections_in_place_of_the_quorum_port_is_named_first() {
    real_servers!("doctor on wrong ports");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    changes(&zookeeper, 0).await;
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    let (config, _) = client.get_config().await.unwrap();
    let config = String::from_utf8(config).unwrap();
    let election = config.split([':', ';', '\n']).nth(2).unwrap();
    let election: std::net::SocketAddr = format!("127.0.0.1:{election}").parse().unwrap();
    let section = |wrong: std::net::SocketAddr, discover: bool| {
        format!(
            "capture = \"observer\"\n[source.observer]\nbypasses_acls = true\nservers = [\"{wrong}\"]\ndiscover = \
             {discover}\n"
        )
    };
    let port = zookeeper.connect_string();
    let wrong = port.parse().unwrap();
    let alone = Bridge::of(&zookeeper, &section(wrong, false));
    let named = format!("{wrong} is probably no quorum port");
    for arguments in [&["doctor"][..], &["check", "--connect"]] {
        let text = said(&alone, arguments).await;
        has(&text, &[&named, "is a client port of 'connect'"]);
        assert!(text.find(&named) < text.find("sslQuorum"), "{text}");
    }
    let mut alone = Bridge::of(&zookeeper, &section(election, false));
    let named = format!(
        "{election} is probably no quorum port: {} is a port of elections",
        election.port()
    );
    has(&said(&alone, &["doctor"]).await, &[&named]);
    alone.start();
    let log = || async { alone.log().join("\n").contains(&named) };
    eventually("the name of the port in the log", BOUND, log)
        .await
        .unwrap();
    alone.stop().await;
    // The configuration of the ensemble, which shows that the number is none, is read only after a failure.
    for (wrong, says) in [
        (wrong, "is probably no quorum port"),
        (election, "ended the connection"),
    ] {
        let mut bridge = Bridge::of(&zookeeper, &section(wrong, true));
        let text = said(&bridge, &["doctor"]).await;
        let unknown = format!("observer.servers names {wrong}, which no server");
        has(&text, &["accepts an observer", &unknown]);
        bridge.start();
        bridge.delivers(last_zxid(&zookeeper)).await;
        let log = bridge.log().join("\n");
        has(&log, &[&format!("{wrong} {says}")]);
        bridge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_a_server_that_runs_are_right_and_those_of_another_one_are_not() {
    real_servers!("doctor on the folders of servers");
    let zookeeper = ZooKeeper::start().await.unwrap();
    changes(&zookeeper, 0).await;
    let bridge = Bridge::of(&zookeeper, &txnlog(&zookeeper, &[0]));
    let doctor = said(&bridge, &["doctor"]).await;
    has(
        &doctor,
        &[
            "1 transaction log",
            "end of the logs: 0x",
            "as servers have applied",
        ],
    );
    // The folder of a server that has stopped long ago.
    let old = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(zookeeper.data_dir(0).join("version-2")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), old.path().join(file.file_name())).unwrap();
    }
    std::fs::write(old.path().join("log.1.gz"), "").unwrap();
    std::fs::write(old.path().join("log.2"), "rotated by another program").unwrap();
    changes(&zookeeper, 1).await;
    let section = format!(
        "capture = \"txnlog\"\n[source.txnlog]\nbypasses_acls = true\ndirectories = [\"{}\"]\n",
        old.path().display()
    );
    let bridge = Bridge::of(&zookeeper, &section);
    let doctor = said(&bridge, &["doctor"]).await;
    has(
        &doctor,
        &[
            "the logs end at 0x",
            "and a server has applied 0x",
            "log.2: is not a transaction log",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_znode_that_a_session_may_not_read_is_captured_all_the_same_and_never_to_be_excluded() {
    real_servers!("doctor on znodes that a session may not read");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    changes(&zookeeper, 0).await;
    let client = Client::connect(&zookeeper.connect_string()).await.unwrap();
    let closed = [Acl::new(Permission::WRITE, AuthId::anyone())];
    let options = CreateMode::Persistent.with_acls(Acls::new(&closed));
    client.create("/app/closed", b"", &options).await.unwrap();
    for mode in [observer(&zookeeper), txnlog(&zookeeper, &[0])] {
        let doctor = said(&Bridge::of(&zookeeper, &mode), &["doctor"]).await;
        has(
            &doctor,
            &[
                "may not be read in a session: /app/closed",
                "they are captured all the same",
            ],
        );
        assert!(!doctor.contains("'exclude'"), "{doctor}");
    }
    let doctor = said(&Bridge::of(&zookeeper, ""), &["doctor"]).await;
    has(
        &doctor,
        &[
            "may not be read: /app/closed",
            "or name them in 'exclude': their changes are not seen",
        ],
    );
}
