//! Real ZooKeepers: they start, answer, elect, pause, end and restart.

use std::time::{Duration, Instant};

use bridge_servers::{Error, Mode, ZOOKEEPER_LINES, ZooKeeper, eventually, real_servers};

const BOUND: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_standalone_server_answers_and_is_gone_after_the_drop() {
    real_servers!("a standalone server answers and is gone after the drop");
    let begun = Instant::now();
    let zookeeper = ZooKeeper::start().await.unwrap();
    println!("a standalone server served after {:?}", begun.elapsed());

    let answer = zookeeper.four_letter(0, "srvr").await.unwrap();
    assert!(answer.contains("Zookeeper version: 3.9.5"), "{answer}");
    assert!(answer.contains("Mode: standalone"), "{answer}");

    let (addr, home) = (zookeeper.client_addr(0), zookeeper.home().to_owned());
    assert!(zookeeper.data_dir(0).join("version-2").is_dir());
    drop(zookeeper);
    assert!(
        std::net::TcpStream::connect(addr).is_err(),
        "{addr} still listens"
    );
    assert!(!home.exists(), "{} is left over", home.display());
}

#[tokio::test]
async fn every_line_starts() {
    real_servers!("every line starts");
    for version in ZOOKEEPER_LINES {
        let begun = Instant::now();
        let zookeeper = ZooKeeper::builder().version(version).start().await.unwrap();
        println!("{version} served after {:?}", begun.elapsed());
        let answer = zookeeper.four_letter(0, "srvr").await.unwrap();
        assert!(answer.contains(version), "{answer}");
    }
}

#[tokio::test]
async fn an_ensemble_elects_another_leader_when_the_leader_is_killed() {
    real_servers!("an ensemble elects another leader when the leader is killed");
    for version in [ZOOKEEPER_LINES[0], ZOOKEEPER_LINES[5]] {
        let begun = Instant::now();
        let ensemble = ZooKeeper::builder()
            .version(version)
            .servers(3)
            .start()
            .await
            .unwrap();
        println!("an ensemble of {version} served after {:?}", begun.elapsed());
        assert_eq!(ensemble.connect_string().split(',').count(), 3);

        let old = ensemble.leader().await.unwrap();
        let begun = Instant::now();
        ensemble.kill(old);
        let new = ensemble.leader().await.unwrap();
        println!("another leader after {:?}", begun.elapsed());
        assert_ne!(old, new);

        ensemble.restart(old).await.unwrap();
        assert_eq!(ensemble.mode(old).await, Some(Mode::Follower));
    }
}

#[tokio::test]
async fn a_paused_server_keeps_its_connections_and_answers_when_resumed() {
    real_servers!("a paused server keeps its connections and answers when resumed");
    let zookeeper = ZooKeeper::start().await.unwrap();
    zookeeper.pause(0).unwrap();
    assert!(zookeeper.is_running(0));
    let unanswered = zookeeper.four_letter(0, "ruok").await;
    assert!(
        matches!(unanswered, Err(Error::TimedOut { .. })),
        "{unanswered:?}"
    );

    zookeeper.resume(0).unwrap();
    let answered = eventually("an answer", BOUND, || async {
        zookeeper.four_letter(0, "ruok").await.ok()
    });
    assert_eq!(answered.await.unwrap(), "imok");
}

#[tokio::test]
async fn a_killed_or_stopped_server_restarts_on_its_port_and_data() {
    real_servers!("a killed or stopped server restarts on its port and data");
    let zookeeper = ZooKeeper::start().await.unwrap();
    let port = zookeeper.client_port(0);
    let kept = zookeeper.data_dir(0).join("kept");
    std::fs::write(&kept, "").unwrap();

    zookeeper.kill(0);
    assert!(!zookeeper.is_running(0));
    assert!(zookeeper.four_letter(0, "ruok").await.is_err());
    zookeeper.restart(0).await.unwrap();

    zookeeper.stop(0).await.unwrap();
    assert!(!zookeeper.is_running(0));
    assert!(matches!(zookeeper.pause(0), Err(Error::NotRunning { .. })));
    zookeeper.restart(0).await.unwrap();
    assert_eq!(zookeeper.client_port(0), port);
    assert!(kept.exists());
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    real_servers!("a server that cannot start shows the end of its log");
    let failed = ZooKeeper::builder()
        .property("tickTime", "soon")
        .start()
        .await
        .unwrap_err();
    let said = failed.to_string();
    assert!(said.contains("did not start: its process ended"), "{said}");
    assert!(said.contains("soon"), "{said}");
}

#[tokio::test]
async fn properties_reach_the_server() {
    real_servers!("properties reach the server");
    let builder = ZooKeeper::builder()
        .property("tickTime", "123")
        .system_property("jute.maxbuffer", "4194304");
    let zookeeper = builder.start().await.unwrap();
    assert!(
        zookeeper
            .four_letter(0, "conf")
            .await
            .unwrap()
            .contains("tickTime=123")
    );
    assert!(
        zookeeper
            .four_letter(0, "envi")
            .await
            .unwrap()
            .contains("java.version")
    );
    assert!(
        zookeeper
            .four_letter(0, "conf")
            .await
            .unwrap()
            .contains("maxSessionTimeout=600000")
    );
}

#[tokio::test]
async fn an_ensemble_of_one_leads_and_listens_on_its_quorum_port() {
    real_servers!("an ensemble of one leads and listens on its quorum port");
    let zookeeper = ZooKeeper::builder().quorum().start().await.unwrap();
    assert_eq!(zookeeper.mode(0).await, Some(Mode::Leader));
    assert!(std::net::TcpStream::connect(zookeeper.quorum_addr(0)).is_ok());
}
